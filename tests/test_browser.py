"""The pages in a headless browser: `make browser`.

Screenshots stay in ``results/browser`` to be looked at.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from evaluations import FRAMES, write_all
from sweep_tables import make_table

from experiments.__main__ import main
from experiments.sweep_table import write_table

HERE = Path(__file__).parent / "browser"
SHOTS = HERE.parents[1] / "results" / "browser"
ABSENT = not (shutil.which("node") and (HERE / "node_modules").is_dir())
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(ABSENT, reason="no node or no browser; run `make browser`"),
]


def run(script: str, place: Path, name: str, *more: str) -> dict[str, Any]:
    """Run a script of the browser, with its screenshots; return what it found."""
    shots = SHOTS / name
    shots.mkdir(parents=True, exist_ok=True)
    words = ["node", str(HERE / script), str(place), str(shots), *more]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def use(page: Path, name: str) -> dict[str, Any]:
    """Open and use a page; return what happened."""
    return run("check_page.mjs", page, name)


@pytest.fixture(scope="module", params=["runs", "sweep"])
def used(request, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "runs":
        write_all(folder)
    else:
        write_table(folder, make_table(seeds=3))
    assert main(["report", str(folder)]) == 0
    page = folder / "report.html"
    return use(page, request.param) | {"page": page, "kind": request.param}


def test_nothing_is_asked_of_the_network_and_nothing_fails(used: dict) -> None:
    assert used["requests"] == [used["page"].as_uri()]
    assert used["errors"] == []


def test_light_and_dark_and_narrow(used: dict) -> None:
    assert used["schemes"]["light"][0] == "rgb(255, 255, 255)"
    check_schemes(used)


def check_schemes(found: dict[str, Any]) -> None:
    """Dark on light, then light on dark, and never wider than a telephone."""
    light, dark = found["schemes"]["light"], found["schemes"]["dark"]
    assert [sum(_rgb(c)) > 382 for c in (*light, *dark)] == [True, False, False, True]
    assert found["overflow"] == 0


def _rgb(colour: str) -> list[int]:
    return [int(part) for part in colour.removeprefix("rgb(")[:-1].split(",")]


def test_tab_comes_to_everything_in_its_order(used: dict) -> None:
    places, outlined = zip(*used["order"], strict=True)
    assert len(places) > 20
    assert list(places) == list(range(len(places)))
    assert all(outlined)


def test_tables_sort_by_click_and_key(used: dict) -> None:
    assert used["tables"]
    for table in used["tables"]:
        # Rows of reference stay where they are, and no row is lost.
        assert table["after"][1:] == table["before"][1:]
        assert sorted(table["after"][0]) == sorted(table["before"][0])
        assert table["sorted"] == 1
        for column in table["columns"]:
            assert column["up"]["sort"] == "ascending"
            assert column["down"]["sort"] == "descending"
            for order, sign in (("up", 1), ("down", -1)):
                known = _numbers(column[order]["values"])
                assert known == sorted(known, reverse=sign < 0)
    columns = [c["up"]["values"] for c in used["tables"][0]["columns"]]
    assert any(c != used["tables"][0]["before"][0] for c in columns)


def _numbers(texts: list[str]) -> list[float]:
    found = []
    for text in texts:
        try:
            found.append(float(text.split()[0]))
        except (ValueError, IndexError):
            continue
    return found


def test_the_slider_moves_the_pictures(used: dict) -> None:
    if used["kind"] == "sweep":
        assert used["players"] == []
        return
    (player,) = used["players"]
    assert player["frames"] == FRAMES
    steps = [player[k] for k in ("start", "right", "end", "playing")]
    assert [s["count"] for s in steps] == [1] * 4
    assert all(s["time"] == s["said"] for s in steps)
    assert [s["value"] for s in steps[:3]] == [0, 1, FRAMES - 1]
    assert len({s["picture"] for s in steps[:3]}) == 3
    assert steps[0]["time"] == "t = 0 T"
    assert steps[0]["label"] == "Play"
    assert steps[3]["value"] > 0
    assert sorted(player["toggled"]) == ["Pause", "Play"]


def test_a_page_that_asks_and_throws_is_caught(tmp_path: Path) -> None:
    """The check itself: it sees requests, errors, and keys that lead nowhere."""
    page = tmp_path / "bad.html"
    page.write_text(
        '<img src="https://example.invalid/a.png"><a href="#a">a</a>'
        '<button tabindex="-1">b</button><script>throw new Error("x")</script>'
    )
    found = use(page, "bad")
    assert "https://example.invalid/a.png" in found["requests"]
    assert any("x" in error for error in found["errors"])
    assert [place for place, _ in found["order"]] != [0, 1]


SITE = HERE.parents[1] / "docs" / "_build" / "html"


@pytest.mark.skipif(
    not (SITE / "search.html").is_file(), reason="no site; run `make docs`"
)
def test_the_site_in_light_and_dark() -> None:
    pages = {
        "index.html": {"pictures"},
        "tutorials/study.html": {"pictures", "formulas"},
        "theory.html": {"formulas"},
        "systems/kdv.html": {"formulas"},
        "gallery/index.html": {"pictures"},
        "gallery/flow.html": {"pictures"},
        "reference/layers.html": set(),
        "search.html": set(),
    }
    found = run("check_site.mjs", SITE, "site", *pages)
    assert set(found) == set(pages)
    for name, page in found.items():
        assert page["errors"] == [], name
        assert [u for u in page["requests"] if not u.startswith(SITE.as_uri())] == []
        check_schemes(page)
        for shown in pages[name]:
            assert page[shown], (name, shown)
            assert min(page[shown]) > 1, (name, shown)
