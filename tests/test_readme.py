"""What the README says is there, and runs."""

import fnmatch
import re
from pathlib import Path

import pytest

from experiments.__main__ import COMMANDS

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


def test_the_python_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    defects, layer = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(defects, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    for line in lines:
        defect = float(line.split("kept:")[0].split()[-1])
        assert (defect <= 1e-12) == line.endswith("True")
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
