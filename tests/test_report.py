"""The commands `plot` and `report`: files, one-line refusals, and the page."""

import base64
import csv
import io
import json
import re
import shlex
from contextlib import redirect_stdout
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from evaluations import (
    FRAMES,
    LABELS,
    MODELS,
    make_defects,
    make_evaluation,
    write,
    write_all,
)
from PIL import Image

from experiments.__main__ import main
from experiments.evaluation import read_pictures
from experiments.report import write_page
from experiments.report_figures import captions
from experiments.results import result
from experiments.series import group_by_seed
from pde_sym.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_all(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", ["rollout", "error", "animation"])
def test_plot_writes_beside_the_first_run(folder, capsys, kind):
    runs = [str(folder / f"{m}-0") for m in MODELS]
    assert main(["plot", kind, *runs]) == 0
    out = folder / "strict-0" / f"{kind}.png"
    assert capsys.readouterr().out == f"{out}\n"
    with Image.open(out) as image:
        image.load()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["error", "--out", "a.jpg"], ".png, .svg, .pdf"),
        (["animation", "--out", "a.pdf"], ".png, .gif"),
        (["rollout", "--trajectory", "2"], "0 to 1"),
        (["rollout", "--trajectory", "-1"], "0 to 1"),
        (["drift", "--invariant", "mass"], "weighted_heat"),
    ],
)
def test_plot_explains_in_one_line_what_is_wrong(folder, capsys, words, reason):
    kind, *options = words
    assert main(["plot", kind, str(folder / "cnn-0"), *options]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


def test_a_folder_without_runs_is_refused(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "neither a run" in capsys.readouterr().err


def test_a_run_that_is_not_evaluated_is_named_with_its_command(folder, capsys):
    (folder / "cnn-1" / "evaluation.json").unlink()
    assert main(["report", str(folder)]) == 4
    error = capsys.readouterr().err
    assert f"pde-sym evaluate {folder / 'cnn-1'}" in error
    assert error.count("\n") == 1
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("name", ["evaluation.json", "rollouts.npz", "run.json"])
def test_damaged_files_are_data_errors(folder, capsys, name):
    path = folder / "strict-0" / name
    path.write_bytes(path.read_bytes()[:40])
    assert main(["report", str(folder)]) == DataError.exit_code
    assert name in capsys.readouterr().err


class Tags(HTMLParser):
    """Collects tags, attributes and whether they close as they opened."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.stack = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in {"meta", "img", "br", "input"}:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> tuple[Path, dict]:
    """Return a page on six runs, one of them in a folder `<b>`, and its JSON."""
    folder = tmp_path_factory.mktemp("runs")
    write_all(folder)
    (folder / "cnn-0").rename(folder / "<b>")
    with redirect_stdout(io.StringIO()) as out:
        assert main(["report", str(folder), "--json"]) == 0
    return folder / "report.html", json.loads(out.getvalue())


def test_report_is_one_page_that_needs_nothing_else(report):
    text = report[0].read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert not tags.stack
    assert not {"link", "b"} & set(tags.tags)
    assert "&lt;b&gt;" in text
    ids = {value for name, value in tags.attributes if name == "id"}
    for name, value in tags.attributes:
        if name == "href" and value.startswith("#"):
            assert value[1:] in ids
        elif name in {"src", "href"}:
            assert re.match(
                "data:(image/png|text/csv|application/octet-stream);", value
            )
        # A policy without exceptions runs no handler and sees no style.
        assert not name.startswith("on")
        assert name != "style"
    assert not re.search(r"https?://|@import|url\(", text)
    # Five figures, and as many frames as there are times.
    assert tags.tags.count("img") == 5 + FRAMES
    assert [name for name, _ in tags.attributes].count("alt") == 5 + FRAMES
    for name in (*LABELS, *(f"{m}-1" for m in MODELS), "a" * 64, "bubbles"):
        assert name in text


def test_the_policy_of_the_page_knows_its_own_script_and_style(report):
    text = report[0].read_text(encoding="utf-8")
    (policy,) = re.findall('Content-Security-Policy" content="([^"]*)"', text)
    assert "default-src 'none'" in policy
    for tag in ("script", "style"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def downloads(text: str) -> dict[str, bytes]:
    """Return the files inside a page by name."""
    found = re.findall('<a download="([^"]*)" href="data:[^,]*,([^"]*)"', text)
    return {name: base64.b64decode(data) for name, data in found}


def test_the_numbers_behind_the_figures_are_in_the_page(report):
    found = downloads(report[0].read_text(encoding="utf-8"))
    names = {f"{n}.csv" for n in ("results", "error", "drift", "defect", "spectrum")}
    assert found.keys() == names | {"rollout.npz"}
    rows = list(csv.DictReader(io.StringIO(found["error.csv"].decode())))
    assert len(rows) == len(MODELS) * 2 * (FRAMES - 1)
    of_cnn = [r for r in rows if (r["model"], r["seed"]) == ("free CNN", "1")]
    expected = make_evaluation("cnn", 1)
    assert [float(r["vrmse"]) for r in of_cnn] == list(expected.vrmse)
    assert [float(r["time"]) for r in of_cnn] == list(expected.times[1:])
    table = list(csv.DictReader(io.StringIO(found["results.csv"].decode())))
    assert [float(r["last_vrmse_mean"]) for r in table] == pytest.approx([0.075] * 3)
    with np.load(io.BytesIO(found["rollout.npz"])) as arrays:
        assert arrays["models"].tolist() == list(LABELS)
        kept = read_pictures(report[0].parent / "strict-0")
        np.testing.assert_array_equal(arrays["prediction_0"], kept.prediction[0])
    for name, data in found.items():
        if name != "results.csv":
            assert (report[0].parent / "figures" / name).read_bytes() == data


def test_every_figure_says_the_command_that_draws_it(report, capsys):
    text = unescape(report[0].read_text(encoding="utf-8"))
    (line,) = re.findall("^.*(pde-sym plot error .*)</pre>", text, re.MULTILINE)
    *words, out = shlex.split(line)[1:]
    folder = report[0].parent
    runs = [str(folder / run) for run in words[2:-1]]
    again = folder / "again.png"
    assert main([*words[:2], *runs, "--out", str(again)]) == 0
    assert again.read_bytes() == (folder / out).read_bytes()
    capsys.readouterr()


def test_pictures_of_the_report_are_also_files(report):
    text = report[0].read_text(encoding="utf-8")
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    inside = [base64.b64decode(data) for data in found]
    paths = sorted((report[0].parent / "figures").glob("*.png"))
    assert len(paths) == 5
    assert {p.read_bytes() for p in paths} < set(inside)
    for data in inside:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    # No two frames of the slider are the same picture.
    assert len(set(inside)) == 5 + FRAMES


def test_report_states_mean_range_and_ratio(report):
    assert report[1]["page"] == str(report[0])
    rows = {r["label"]: r for r in report[1]["results"]}
    strict, relaxed = rows["strict (C4)"], rows["relaxed (C4)"]
    assert strict["seeds"] == 2
    expected = {"mean": 0.075, "low": 0.05, "high": 0.1}
    assert strict["last_vrmse"] == pytest.approx(expected)
    assert relaxed["defect_ratio"]["mean"] == pytest.approx(0.5)
    assert strict["defect_ratio"]["mean"] < 1e-5
    assert relaxed["solver_defect"] == pytest.approx(0.04)
    text = report[0].read_text(encoding="utf-8")
    assert "0.0750<br><small>0.0500 to 0.1000</small>" in text


def test_report_of_one_run_on_intact_data(tmp_path):
    kept = make_defects(solver=1e-15, model=1e-7, survives=True)
    intact = make_evaluation(defects=kept, strengths={}, subgroup="T^2 x D4")
    run = write(tmp_path / "strict", intact)
    (series,) = group_by_seed([intact])
    text = write_page([run], [intact], [result(series)], [], tmp_path / "a.html")
    assert "heat, intact" in text
    assert "<small>" not in text
    assert "over seeds" not in text + captions([series])["error"][1]


def test_report_states_the_bounds_that_hold_for_all_elements(tmp_path):
    """One element without a bound, as flips of C4, and there is none for the mean."""
    whole = make_defects(solver=0.04, model=0.02, certificate=0.375)
    part = (*whole[:2], whole[2].model_copy(update={"certificate": None}))
    rows, results = {}, {}
    for name, some in {"whole": whole, "part": part}.items():
        evaluation = make_evaluation("modulated", defects=some)
        run = write(tmp_path / name, evaluation)
        results[name] = result(*group_by_seed([evaluation]))
        text = write_page([run], [evaluation], [results[name]], [], run / "a.html")
        assert "at most" in text
        rows[name] = "3.75e-01" in text
    assert rows == {"whole": True, "part": False}
    assert results["whole"].certificate.mean == pytest.approx(0.375)
    assert results["part"].certificate is None
