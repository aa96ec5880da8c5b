"""What the README says is there, and runs."""

import fnmatch
import re
from pathlib import Path
from typing import Any

import pytest

from experiments.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_file_tree_names_every_module_and_no_other() -> None:
    listed = set(re.findall(r"(?:^|\s)(\w+\*?\.py)\b", section("Where things are")))
    folders = ("pde_sym", "data_gen", "experiments")
    present = {p.name for f in folders for p in (ROOT / f).rglob("*.py")}
    present -= {"__init__.py"}
    named = {pattern: fnmatch.filter(present, pattern) for pattern in listed}
    assert [pattern for pattern, found in named.items() if not found] == []
    assert present - {name for found in named.values() for name in found} == set()


def test_every_command_is_shown() -> None:
    shown = set(re.findall(r"^    pde-sym (\w+)", README, re.MULTILINE))
    assert shown == set(COMMANDS)


def test_the_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^    |`)make ([a-z]\w*)", README, re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_pictures_are_in_the_tree() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")


def test_the_python_examples_run(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library, layer = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    words = "heat --break bubbles=0.5 --resolution 16 --frames 6 --train 4 --valid 2"
    assert main(["generate", *words.split(), "--test", "2", "--out", "data/heat"]) == 0
    capsys.readouterr()
    names: dict[str, Any] = {}
    exec(compile(library, "README.md", "exec"), names)
    error, *rows = capsys.readouterr().out.splitlines()
    assert names["states"].shape == (2, 6, 1, 16, 16)
    assert names["before"].shape == names["after"].shape == (8, 1, 16, 16)
    assert 0 < float(error.split()[-1]) < 1
    # Bubbles break everything; a convolution keeps the shifts and, untied, no turn.
    assert len(rows) == 10
    for row in rows:
        solver, model = float(row.split()[-3]), float(row.split()[-1])
        assert solver > 1e-3
        assert (model < 1e-5) == row.startswith("shift")
    exec(compile(layer, "README.md", "exec"), {})
    (line,) = capsys.readouterr().out.splitlines()
    # Parts that C4 keeps, and nothing yet learned in them.
    assert "'pseudoscalar':" in line
    assert line.endswith(" 0.0")


def test_the_changelog_knows_this_version() -> None:
    version = re.findall(
        r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M
    )
    assert f"## {version[0]}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {version[0]}" in (ROOT / "CITATION.cff").read_text()
