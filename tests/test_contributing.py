"""CONTRIBUTING.md: its templates run, are short, and its picture is of this tree."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S))
TEMPLATES = ("A layer", "A system", "A diagnostic")


def checks_of(source: str) -> dict[str, Callable[[], None]]:
    names: dict = {"__name__": "template"}
    exec(compile(source, "CONTRIBUTING.md", "exec"), names)
    return {name: f for name, f in names.items() if name.startswith("test_")}


def template(title: str) -> str:
    (source,) = re.findall(r"```python\n(.*?)```", SECTIONS[title], re.S)
    return source


@pytest.mark.parametrize("title", TEMPLATES)
def test_a_template_is_short_and_its_tests_pass(title: str) -> None:
    assert len(SECTIONS[title].splitlines()) <= 60
    tests = checks_of(template(title))
    assert tests
    for test in tests.values():
        test()


@pytest.mark.parametrize(
    ("title", "right", "wrong"),
    [
        ("A layer", "return state + self.rate", "return state.flip(-1) + self.rate"),
        ("A layer", "(1, -1)", "(1, 2)"),
        ("A system", "check(SYSTEM, SYSTEM)", "check(Heat(), SYSTEM)"),
        ("A diagnostic", "(after / states", "(after * states"),
    ],
)
def test_a_template_goes_red_when_its_code_is_broken(
    title: str, right: str, wrong: str
) -> None:
    source = template(title)
    assert right in source
    red = 0
    for test in checks_of(source.replace(right, wrong)).values():
        try:
            test()
        except AssertionError:
            red += 1
    assert red > 0


def test_the_picture_names_what_is_there() -> None:
    picture = SECTIONS["The architecture in one picture"].split("\nArrows")[0]
    for folder in re.findall(r"(\w+)/ ", picture):
        assert (ROOT / folder).is_dir() or (ROOT / "pde_sym" / folder).is_dir(), folder
    modules = re.findall(r"^ +\|  (\w+(?:, \w+)+) ", picture, re.M)
    named = {name for row in modules for name in row.split(", ")}
    assert {"evaluation", "grid", "config"} <= named
    for name in named:
        assert (ROOT / "pde_sym" / f"{name}.py").exists(), name


def test_type_information_is_shipped() -> None:
    assert (ROOT / "pde_sym" / "py.typed").read_bytes() == b""
