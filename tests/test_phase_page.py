"""Figures and page of a sweep, from tables of imaginary runs."""

import base64
import csv
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from sweep_tables import STRENGTHS, make_row, make_table

from experiments import phase_figures as figures
from experiments import phase_spectrum as spectra
from experiments.__main__ import main
from experiments.drawing import encode
from experiments.overview import defect_panels, ratio_panels
from experiments.sweep_recipe import NAMED, read_sweep
from experiments.sweep_summary import Cell, Summary, summarise
from experiments.sweep_table import Measured, Table, write_table


@pytest.fixture(scope="module")
def table() -> Table:
    return make_table(seeds=3)


@pytest.fixture(scope="module")
def summary(table: Table) -> Summary:
    return summarise(table)


def curve(axes: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Return places and values of what has that label."""
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def test_the_phase_diagram_shows_medians_and_floors(summary: Summary) -> None:
    figure = figures.phase_diagram(summary)
    test, shifted, future = figure.axes
    expected = {
        c.strength: c.test.value
        for c in summary.cells
        if (c.family, c.size) == ("strict", 32)
    }
    places, values = curve(test, "strict")
    assert values.tolist() == [expected[s] for s in STRENGTHS]
    # Strengths stand side by side; families are moved apart a little.
    assert abs(places - np.arange(len(STRENGTHS))).max() < 0.2
    assert curve(test, "no change")[1][0] == pytest.approx(0.6)
    assert curve(shifted, "no change")[1][0] == pytest.approx(0.8)
    assert curve(future, "no change")[1][0] == pytest.approx(0.7)
    assert curve(future, "strict")[1] == pytest.approx(1.2 * values)
    # There is no coarse solver on the second test set.
    labels = [line.get_label() for line in shifted.lines]
    assert "solver on half the points" not in labels
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 9


def test_ratios_cross_one(summary: Summary) -> None:
    (axes,) = figures.ratio_chart(summary).axes
    _, values = curve(axes, "modulated")
    assert values[0] > 1 > values[2]
    assert "strict" not in {line.get_label() for line in axes.lines}


def test_defects_stand_against_those_of_the_solver(summary: Summary) -> None:
    figure = figures.defect_scatter(summary)
    assert figure is not None
    (axes,) = figure.axes
    solver, free = curve(axes, "free")
    assert solver.tolist() == pytest.approx([0.1 * s for s in STRENGTHS])
    assert free[-1] == pytest.approx(0.37, rel=0.02)
    assert curve(axes, "strict")[1].max() == 0
    across, up = curve(axes, "model = solver")
    assert across.tolist() == up.tolist()
    assert across[0] == 0
    assert across[-1] >= solver.max()


def test_spectra_stand_beside_that_of_the_solver(
    table: Table, summary: Summary
) -> None:
    figure = spectra.spectrum_panels(table, summary)
    assert figure is not None
    turns, shifts = figure.axes
    names = [text.get_text() for text in turns.get_yticklabels()]
    assert names == ["pseudoscalar", "quadrupole", "vector"]
    assert [t.get_text() for t in shifts.get_yticklabels()] == ["|m| = 1", "|m| = √2"]
    assert curve(turns, "strict")[0].max() == spectra.SHARE_FLOOR
    assert curve(turns, "free")[0][2] == pytest.approx(0.37**2, rel=0.05)


def test_a_group_that_nobody_breaks_is_not_drawn(table: Table) -> None:
    quiet = [
        row.model_copy(
            update={
                "spectrum": {
                    "|m| = √2": Measured(solver=1e-20, model=1e-20),
                    "|m| = 1": Measured(solver=1e-20, model=1e-20),
                    "vector": row.spectrum["vector"],
                }
            }
        )
        for row in table.rows
    ]
    changed = table.model_copy(update={"rows": tuple(quiet)})
    figure = spectra.spectrum_panels(changed, summarise(changed))
    assert figure is not None
    (turns,) = figure.axes
    assert [text.get_text() for text in turns.get_yticklabels()] == ["vector"]


def test_wave_numbers_stand_in_their_order() -> None:
    names = ["|m| = 1", "|m| = 2", "|m| = √2", "|m| = √5", "vector"]
    expected = ["vector", "|m| = 1", "|m| = √2", "|m| = 2", "|m| = √5"]
    assert sorted(names, key=spectra.rank) == expected


def test_invariants_sizes_and_cost(table: Table, summary: Summary) -> None:
    drift = figures.conservation_chart(table, summary)
    assert drift is not None
    assert len(drift.axes) == 4
    assert set(curve(drift.axes[0], "truth")[1]) == {1e-8}
    assert set(curve(drift.axes[1], "truth")[1]) == {1e-9}
    sizes = figures.size_chart(summary)
    assert sizes is not None
    low, high = curve(sizes.axes[0], "free")[1]
    assert low == pytest.approx(2 * high)
    cost = figures.cost_chart(summary)
    assert curve(cost.axes[0], "free")[0].tolist() == [12.0]
    assert encode(cost, ".png") == encode(figures.cost_chart(summary), ".png")


def test_what_was_not_measured_is_not_drawn() -> None:
    rows = [make_row("free", 0.0), make_row("strict", 0.0)]
    bare = [
        row.model_copy(
            update={"defects": {}, "spectrum": {}, "drift": {}, "residual": {}}
        )
        for row in rows
    ]
    table = make_table(rows=tuple(bare))
    summary = summarise(table)
    assert figures.defect_scatter(summary) is None
    assert spectra.spectrum_panels(table, summary) is None
    assert figures.conservation_chart(table, summary) is None
    assert figures.size_chart(summary) is None
    assert len(figures.phase_diagram(summary).axes) == 3


def test_a_failed_family_leaves_a_gap() -> None:
    """No line leads over it from one neighbour to the other."""
    table = make_table(("strict", "free"), seeds=1, sizes=(8,))
    lost = STRENGTHS[1]
    rows = [
        row.model_copy(update={"failed": "lost", "test": None, "shifted": None})
        if (row.family, row.strength) == ("strict", lost)
        else row
        for row in table.rows
    ]
    summary = summarise(table.model_copy(update={"rows": tuple(rows)}))
    _, values = curve(figures.phase_diagram(summary).axes[0], "strict")
    assert [math.isnan(value) for value in values] == [s == lost for s in STRENGTHS]


def test_the_page_holds_tables_and_figures(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path, table)
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    for title in (
        "VRMSE after 10 steps",
        "Over the best of strict and free",
        "Defect of the model against that of the solver",
        "Error against strength",
        "Cost",
    ):
        assert f">{title}</h2>" in text
    assert len(re.findall("<img ", text)) == 7
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert names == {
        "phase", "ratio", "defect", "spectrum", "conservation", "size", "cost"
    }  # fmt: skip
    assert not re.search("https?://", text)
    ids = re.findall('<h2 id="([^"]*)">', text)
    assert len(set(ids)) == len(ids) == 12
    (data,) = re.findall(
        'download="table.csv" href="data:text/csv;base64,([^"]*)"', text
    )
    inside = io.StringIO(base64.b64decode(data).decode())
    beside = io.StringIO((tmp_path / "table.csv").read_text())
    assert list(csv.DictReader(inside)) == list(csv.DictReader(beside))


def test_several_sweeps_have_an_overview(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_table(strengths=(0.0, 1.0, 3.0), title="Another", sizes=(8,))
    for name, one in (("first", table), ("second", other)):
        (tmp_path / name).mkdir()
        write_table(tmp_path / name, one)
    assert main(["report", str(tmp_path / "first")]) == 0
    folders = [str(tmp_path / name) for name in ("first", "second")]
    assert main(["report", *folders]) == 0
    out = tmp_path / "overview.html"
    assert capsys.readouterr().out.split()[-1] == str(out)
    text = out.read_text()
    assert "Sweeps: 2; systems: 1; ways of breaking a symmetry: 1" in text
    # A link to the page that is there, none to the other.
    assert 'href="first/report.html"' in text
    assert "second/report.html" not in text
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {
        "ratios",
        "defects",
    }
    assert not re.search("https?://", text)
    # The last ratio of the shorter sweep is that of its strength 3.
    (cell,) = [
        c
        for c in summarise(other).cells
        if (c.family, c.strength) == ("modulated", 3.0)
    ]
    found = figures.rollout_ratio(cell)
    assert found is not None
    assert f"<td>{found.value:.2f}<br><small>at 3: {found.low:.2f} to" in text
    assert main(["report", *folders, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["second"]["title"] == "Another"


def test_an_overview_draws_what_was_measured(table: Table) -> None:
    intact = make_table(families=("strict", "free"), sizes=(8,))
    both = {"one": summarise(table), "other": summarise(intact)}
    ratios, defects = ratio_panels(both), defect_panels(both)
    assert ratios is not None
    assert defects is not None
    # No family of the other is compared.
    assert [len(one.axes) for one in (ratios, defects)] == [1, 2]
    assert ratio_panels({"other": both["other"]}) is None
    drawn = {line.get_label(): line for line in defects.axes[1].get_lines()}
    solver = drawn["free"].get_xdata()
    assert solver == pytest.approx([c.solver_defect for c in largest_free(both)])


def largest_free(summaries: dict[str, Summary]) -> list[Cell]:
    return [c for c in summaries["other"].cells if c.family == "free"]


def test_bad_sweeps_are_one_line(
    table: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path, table)
    assert main(["report", str(tmp_path), str(tmp_path)]) == 2
    assert "folders of different names" in capsys.readouterr().err
    assert main(["report", str(tmp_path), str(tmp_path / "none")]) == 4
    assert "no table.json" in capsys.readouterr().err
    assert not (tmp_path.parent / "overview.html").exists()
    (tmp_path / "table.json").write_text("{")
    assert main(["report", str(tmp_path)]) == 4


@pytest.mark.parametrize("name", NAMED)
def test_no_two_families_of_a_recipe_look_alike(name: str) -> None:
    families = read_sweep(name).families
    cell = summarise(make_table()).cells[0]
    cells = [
        cell.model_copy(update={"family": f.name, "role": f.role}) for f in families
    ]
    found = figures.looks(cells)
    assert len(found) == len(set(found.values())) == len(families)
