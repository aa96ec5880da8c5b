"""The commands that made a run's data, its weights and what was measured on it.

They are meant for the folder of the page that shows them.
"""

import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from experiments.evaluation import RUN_FILE
from experiments.page import Download
from experiments.runs import MAX_RUN_BYTES
from pde_sym.errors import DataError
from pde_sym.nn import ModelConfig
from pde_sym.objective import TrainConfig
from pde_sym.store import files, read_manifest

RECIPE = "recipe.toml"
SWEEP_FILE = "sweep.json"


def spoken(words: Sequence[str | Path | int]) -> str:
    """Return a command as one types it."""
    return shlex.join(["pde-sym", *map(str, words)])


def near(path: Path, page: Path) -> str:
    """Return a path as it is seen from the folder of a page."""
    return os.path.relpath(path, page.parent)


def data_folder(run: Path) -> Path:
    """Return the folder of the data of a run, whether it is still there or not.

    Raises
    ------
    DataError
        When the description of the run is damaged.
    """
    path = run / RUN_FILE
    try:
        values = json.loads(files.read_file(path, MAX_RUN_BYTES))
        return Path(os.path.normpath(run / values["data_folder"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{path}: not the description of a run") from error


def made_data(folder: Path, page: Path) -> tuple[str, tuple[Download, ...]]:
    """Return the command that makes a data set, and the recipe that it reads.

    Nothing where the data are gone, or came from elsewhere.
    """
    try:
        manifest = read_manifest(folder)
    except DataError:
        return "", ()
    numbers = [
        word
        for split, count in manifest.counts.items()
        for word in (f"--{split.value}", str(count))
    ]
    if "imported" in manifest.config:
        words = ["import", "FILE", *numbers[2:], "--out", near(folder, page)]
        boundary = manifest.config["imported"].get("boundary")
        return spoken([*words, *(["--boundary", boundary] if boundary else [])]), ()
    recipe = Download(RECIPE, as_toml(manifest.config).encode(), "text/plain")
    words = ["generate", "--config", RECIPE, *numbers, "--out", near(folder, page)]
    return spoken(words), (recipe,)


def made_sweep(folder: Path, page: Path) -> tuple[str, tuple[Download, ...]]:
    """Return the command that makes a sweep, and the recipe that it reads.

    Nothing where the folder has none.
    """
    try:
        values = json.loads(files.read_file(folder / SWEEP_FILE, MAX_RUN_BYTES))
    except (DataError, ValueError, RecursionError):
        return "", ()
    recipe = Download("sweep.toml", as_toml(values).encode(), "text/plain")
    return spoken(["sweep", recipe.name, "--out", near(folder, page)]), (recipe,)


def as_toml(values: Mapping[str, Any]) -> str:
    """Return a configuration as ``--config`` and `pde-sym sweep` read it."""
    return "".join(
        f"{key} = {_toml(value)}\n"
        for key, value in values.items()
        if value is not None
    )


def _toml(value: Any) -> str:
    """Return a value of JSON as TOML, which has no null."""
    match value:
        case dict():
            known = {k: v for k, v in value.items() if v is not None}
            parts = (f"{json.dumps(k)} = {_toml(v)}" for k, v in known.items())
            return f"{{{', '.join(parts)}}}"
        case list():
            return f"[{', '.join(_toml(v) for v in value)}]"
        case _:
            return json.dumps(value, ensure_ascii=False)


def trained(run: Path, settings: Mapping[str, Any], page: Path) -> str:
    """Return the command that trains a run, from what ``run.json`` says.

    Settings that are those of the family are not named.
    """
    model, training = (dict(settings.get(k) or {}) for k in ("model", "training"))
    kind = model.pop("kind", None)
    if kind is None:
        return ""
    words = ["train", "--data", near(data_folder(run), page), "--model", str(kind)]
    usual = TypeAdapter(ModelConfig).validate_python({"kind": kind})
    for table, values, plain in (
        ("model", model, usual.model_dump(mode="json")),
        ("training", training, TrainConfig().model_dump(mode="json")),
    ):
        for key, value in _changed(values, plain):
            words += ["--set", f"{table}.{key}={value}"]
    return spoken([*words, "--out", near(run, page)])


def _changed(values: Mapping[str, Any], plain: Any) -> Iterator[tuple[str, str]]:
    """Yield what differs from plain values, with dotted keys."""
    known = plain if isinstance(plain, dict) else {}
    for key, value in values.items():
        if isinstance(value, dict):
            for inner, text in _changed(value, known.get(key)):
                yield f"{key}.{inner}", text
        elif key not in known or value != known[key]:
            yield key, value if isinstance(value, str) else json.dumps(value)
