"""Checkpoints: a folder with tensors, state and hashes, whole or absent.

    NAME/tensors.safetensors    weights and moments
    NAME/state.json             everything else, plain JSON
    NAME/MANIFEST.json          SHA-256 of both

There is no pickle, so that loading a checkpoint runs no code.
"""

import hashlib
import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from pde_sym.errors import DataError
from pde_sym.store import files

VERSION = 2
"""Of the format, and of the bases that weights belong to; those are not saved."""
_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "MANIFEST.json"


class OtherVersionError(DataError):
    """A checkpoint that another pde_sym wrote: whole, and not to be passed over."""


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and the rest as JSON."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write `folder` so that it is whole or what it was before.

    Raises
    ------
    OutputError
        When the disk is full or refuses.
    """
    contents = {
        _TENSORS: safetensors.torch.save(
            {
                name: t.detach().cpu().contiguous()
                for name, t in checkpoint.tensors.items()
            }
        ),
        _STATE: _json(checkpoint.state),
    }
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    contents[_MANIFEST] = _json({"version": VERSION, "sha256": hashes})
    temporary = folder.parent / f"{files.TEMPORARY}{uuid.uuid4().hex}"
    try:
        files.make_folder(temporary)
        for name, data in contents.items():
            files.write_file(temporary / name, data)
        files.replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint; every byte is hashed before it is parsed.

    Raises
    ------
    DataError
        When a file is missing or damaged.
    OtherVersionError
        When another version of pde_sym wrote it.
    """
    manifest = _parse(folder / _MANIFEST, files.read_file(folder / _MANIFEST, 1 << 16))
    if manifest.get("version") != VERSION:
        raise OtherVersionError(
            f"{folder}: checkpoint version {manifest.get('version')!r:.80}, this "
            f"pde_sym reads version {VERSION}; use the one that wrote it, or train "
            "into another folder"
        )
    hashes = manifest.get("sha256")
    if not isinstance(hashes, dict):
        raise DataError(f"{folder / _MANIFEST}: expected hashes, got {hashes!r:.80}")
    contents = {}
    for name in (_TENSORS, _STATE):
        contents[name] = files.read_file(folder / name, 1 << 34)
        if hashlib.sha256(contents[name]).hexdigest() != hashes.get(name):
            raise DataError(
                f"{folder / name}: damaged, its hash is not the recorded one"
            )
    try:
        tensors = safetensors.torch.load(contents[_TENSORS])
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"{folder / _TENSORS}: not readable ({error})") from error
    return Checkpoint(tensors, _parse(folder / _STATE, contents[_STATE]))


def latest_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the last valid checkpoint among ``step-*`` and why later ones were not.

    The second item holds one line for each checkpoint that had to be passed over.

    Raises
    ------
    OtherVersionError
        When a checkpoint is of another version: it is not lost, and older ones are no
        replacement for it.
    """
    faults = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            return load_checkpoint(path), faults
        except OtherVersionError:
            raise
        except DataError as error:
            faults.append(str(error))
    return None, faults


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False).encode()


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object")
    return value
