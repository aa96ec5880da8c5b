"""The documentation: it names what there is, and what it shows can be typed."""

import doctest
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.__main__ import COMMANDS, command_parser

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)
SOURCES = sorted(p for p in (ROOT / "pde_sym").rglob("*.py"))
BIBLIOGRAPHY = (DOCS / "references.bib").read_text(encoding="utf-8")
NOT_PUBLIC = {"pde_sym.nn._escnn"}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def commands_in(page: str) -> list[str]:
    """Return the calls of pde-sym in cells and in indented blocks, one line each."""
    whole = page.replace("\\\n", " ")
    lines = (line.strip().split(" | ")[0] for line in whole.splitlines())
    return [line for line in lines if line.startswith("pde-sym ")]


def parse(command: str) -> None:
    name, *words = shlex.split(command.replace("$model", "cnn"))[1:]
    module = importlib.import_module(COMMANDS[name][0])
    command_parser(name, module).parse_args(words)


def test_the_reference_has_every_module_and_no_other() -> None:
    pages = (p.read_text() for p in (DOCS / "reference").glob("*.md"))
    shown = re.findall(r"automodule:: (\S+)", "".join(pages))
    every = {module_of(p) for p in SOURCES if p.name != "__init__.py"}
    public = {m for m in every if not m.startswith("pde_sym.kernels.")} - NOT_PUBLIC
    assert sorted(shown) == sorted(public)


def test_the_commands_of_the_pages_are_understood() -> None:
    known = [c for page in PAGES for c in commands_in(page.read_text())]
    assert len(known) > 20
    for command in known:
        parse(command)


@pytest.mark.parametrize(
    "wrong",
    ["pde-sym paint data", "pde-sym train --dat a --out b", "pde-sym plot pie r"],
)
def test_the_check_sees_a_command_that_is_none(wrong: str) -> None:
    (found,) = commands_in(f"text\n\n    {wrong}\n")
    with pytest.raises((SystemExit, KeyError)):
        parse(found)


def test_every_paper_of_the_docstrings_is_in_the_bibliography() -> None:
    text = "".join(p.read_text() for p in SOURCES)
    papers = set(re.findall(r"arXiv (\d{4}\.\d{5})", text))
    assert len(papers) > 10
    assert papers - set(re.findall(r"arXiv (\d{4}\.\d{5})", BIBLIOGRAPHY)) == set()


def test_what_the_pages_cite_is_in_the_bibliography() -> None:
    cited = "".join(p.read_text() for p in PAGES)
    keys = {
        k for keys in re.findall(r"\{cite:p\}`([^`]+)`", cited) for k in keys.split(",")
    }
    assert keys
    assert keys - set(re.findall(r"^@\w+\{(\w+),", BIBLIOGRAPHY, re.M)) == set()


def test_the_examples_of_docstrings() -> None:
    count = 0
    for path in SOURCES:
        if ">>> " in path.read_text():
            result = doctest.testmod(importlib.import_module(module_of(path)))
            assert result.failed == 0
            count += result.attempted
    assert count >= 8


TEXTS = [*ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md"), *PAGES]


def targets_in(page: Path) -> list[str]:
    """Return the files that a page links to, without their anchors."""
    found = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    return [link for link in found if not re.match(r"\w+:", link)]


def missing_targets(page: Path) -> list[str]:
    return [link for link in targets_in(page) if not (page.parent / link).exists()]


def test_the_files_that_texts_link_to_are_there(tmp_path: Path) -> None:
    assert targets_in(ROOT / "README.md")
    assert {p.name: missing for p in TEXTS if (missing := missing_targets(p))} == {}
    wrong = tmp_path / "page.md"
    wrong.write_text("[a](page.md#there), [b](none.md) and [c](https://example.org/d)")
    assert missing_targets(wrong) == ["none.md"]


def broken_links(site: Path) -> str:
    """Return what the check of a built site says."""
    check = [sys.executable, DOCS / "links.py", site]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == bool(done.stderr)
    return done.stderr


def test_links_and_anchors_of_a_site_are_followed(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "more").mkdir(parents=True)
    (tmp_path / "outside.html").write_text("")
    (site / "index.html").write_text(
        '<h1 id="a">A</h1><a href="more/b.html#c%20d">B</a>'
    )
    other = site / "more" / "b.html"
    sound = '<p id="c d"><a href="../index.html#a">A</a><a href="https://x.org/y">'
    other.write_text(sound)
    assert broken_links(site) == ""
    wrong = ("../index.html#b", "none.html", "#e", "../../outside.html", "../more")
    for link in wrong:
        other.write_text(f'{sound}<img src="{link}">')
        assert broken_links(site) == f"more/b.html: {link}\n"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Every page is executed; minutes. `make docs` installs what it needs."""
    pytest.importorskip("myst_nb", reason="`make docs` installs it")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q"]
    done = subprocess.run(
        [*build, "-d", tmp_path / "doctrees", DOCS, tmp_path / "html"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert broken_links(tmp_path / "html") == ""
    pages = [p.read_text() for p in (tmp_path / "html").rglob("*.html")]
    assert len(pages) > 30
    # Nothing is fetched from elsewhere.
    fetched = (
        r'<(?:script|img|iframe)[^>]*\bsrc="(https?:|//)|<link[^>]*href="(https?:|//)'
    )
    assert [page for page in pages if re.search(fetched, page)] == []
