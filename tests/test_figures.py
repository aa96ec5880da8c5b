import base64
import io
import json
import re
from contextlib import redirect_stdout
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from experiments.__main__ import main
from experiments.animation import animate
from experiments.drawing import encode, units
from experiments.evaluation import (
    ElementDefect,
    Evaluation,
    InvariantSeries,
    IrrepShare,
    Pictures,
    write_evaluation,
)
from experiments.figures import (
    by_wave_number,
    defect_chart,
    drift_curve,
    element_name,
    error_curve,
    spectrum_chart,
)
from experiments.report import captions, result, write_page
from experiments.series import group_by_seed, read_evaluations, run_labels
from experiments.strip import rollout_strip
from pde_sym.errors import DataError, InputError
from pde_sym.symmetry import point_group, shift_group

FRAMES, SIZE = 6, 8
ELEMENTS = ("turn 90", "flip y", "shift 0.125, 0")
HIDDEN = {"isotypic": 0.03, "modulated": 0.02, "cnn": 0.01, "strict": 1e-7}


def make_evaluation(model="strict", seed=0, size=1.0, **changes) -> Evaluation:
    defect = HIDDEN.get(model, 0.02)
    growth = tuple(size * 0.01 * (1 + seed) * t for t in range(1, FRAMES))
    quiet = (0.0, *(1e-9,) * (FRAMES - 1))
    shares = {
        name: tuple(
            IrrepShare(irrep=i.name, solver=1e-3, model=defect**2) for i in group.irreps
        )
        for name, group in (("point", point_group("D4")), ("shift", shift_group(4)))
    }
    values: dict[str, Any] = {
        "run": f"{model}-{seed}",
        "model": model,
        "group": None if model == "cnn" else "C4",
        "parameters": 12000,
        "seed": seed,
        "updates": 100,
        "recipe": "a" * 64,
        "system": "heat",
        "strengths": {"bubbles": 0.9},
        "subgroup": "C1",
        "trajectories": 8,
        "times": tuple(0.5 * t for t in range(FRAMES)),
        "one_step_vrmse": growth[0],
        "vrmse": growth,
        "relative_l2": growth,
        "persistence_vrmse": tuple(0.2 * t for t in range(1, FRAMES)),
        "defects": tuple(
            ElementDefect(element=e, survives=False, solver=0.04, model=defect)
            for e in ELEMENTS
        ),
        "strict_floors": {"shifts, C4": 0.03},
        "point_spectrum": shares["point"],
        "shift_spectrum": shares["shift"],
        "invariants": tuple(
            InvariantSeries(
                name=name,
                meaning=f"int {name}",
                truth_drift=quiet,
                model_drift=(0.0, *growth),
                truth_residual=quiet,
                model_residual=(0.0, *(scale * g for g in growth)),
            )
            for name, scale in (("heat", 1), ("weighted_heat", 1), ("energy", 2))
        ),
    }
    values |= changes
    chosen = (values[key] for key in ("model", "group", "parameters", "updates"))
    values.setdefault("settings", "-".join(map(str, chosen)))
    return Evaluation(**values)


def make_pictures(seed=0, lift=0.0) -> Pictures:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((2, FRAMES, 1, SIZE, SIZE)).astype(np.float32) + lift
    noise = np.random.default_rng(seed + 1).standard_normal(truth.shape)
    return Pictures(
        times=np.arange(FRAMES) * 0.5,
        truth=truth,
        prediction=(truth + 0.1 * noise).astype(np.float32),
        environment=rng.uniform(0.1, 1, (2, 1, SIZE, SIZE)).astype(np.float32),
        channels=("temperature",),
        environment_channels=("conductivity",),
        lengths=(1.0, 1.0),
    )


def write(folder: Path, evaluation: Evaluation, **settings) -> Path:
    folder.mkdir(parents=True)
    training = {"seed": evaluation.seed, **settings}
    run = {"data_folder": "../data", "training": training}
    (folder / "run.json").write_text(json.dumps(run))
    write_evaluation(folder, evaluation, make_pictures(evaluation.seed))
    return folder


MODELS = ("strict", "modulated", "cnn")
LABELS = ("strict (C4)", "relaxed (C4)", "free CNN")


@pytest.fixture
def trained() -> list[Evaluation]:
    return [make_evaluation(m, s) for m in reversed(MODELS) for s in (1, 0)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for model in MODELS:
        for seed in (0, 1):
            write(tmp_path / f"{model}-{seed}", make_evaluation(model, seed))
    return tmp_path


def legend(figure: Figure) -> list[str]:
    legends = [*figure.legends, *(a.get_legend() for a in figure.axes)]
    return [t.get_text() for one in legends if one for t in one.get_texts()]


def xs(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_xdata(), dtype=float)


def ys(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_ydata(), dtype=float)


def image_limits(figure: Figure) -> dict[str, set[tuple[float, float]]]:
    result: dict[str, set[tuple[float, float]]] = {}
    for axes in figure.axes:
        for image in axes.images:
            assert image.cmap is not None
            result.setdefault(image.cmap.name, set()).add(image.get_clim())
    return result


# Series


def test_runs_that_differ_by_seed_are_one_series(trained):
    series = group_by_seed(trained)
    assert tuple(s.label for s in series) == LABELS
    assert [[e.seed for e in s.evaluations] for s in series] == [[0, 1]] * 3
    assert len({s.look.colour for s in series}) == 3
    assert len({s.look.marker for s in series}) == 3
    assert len({s.look.line for s in series}) == 3


def test_a_family_looks_the_same_in_every_company():
    alone = group_by_seed([make_evaluation("cnn")])[0].look
    among = group_by_seed([make_evaluation(m) for m in MODELS])[2].look
    assert alone == among


def test_another_group_size_or_length_of_training_is_another_series():
    chosen = [
        make_evaluation(),
        make_evaluation(group="D4"),
        make_evaluation(parameters=99),
        make_evaluation(updates=7, parameters=99),
    ]
    series = group_by_seed(chosen)
    assert [len(s.evaluations) for s in series] == [1] * 4
    assert {s.label for s in series} == {
        "strict (C4), 12000 parameters, 100 updates",
        "strict (C4), 99 parameters, 100 updates",
        "strict (C4), 99 parameters, 7 updates",
        "strict (D4)",
    }
    assert len({(s.look.marker, s.look.filled) for s in series}) == 4


def test_a_seed_that_occurs_twice_is_refused():
    with pytest.raises(InputError, match="strict-0 and other"):
        group_by_seed([make_evaluation(), make_evaluation(run="other")])


def test_unknown_kinds_are_drawn_under_their_own_name():
    (series,) = group_by_seed([make_evaluation("newest", group="D4")])
    assert series.label == "newest (D4)"


def test_labels_name_the_seed_where_there_are_several():
    chosen = [make_evaluation(seed=3), make_evaluation(seed=1), make_evaluation("cnn")]
    assert run_labels(chosen) == [
        "strict (C4), seed 3",
        "strict (C4), seed 1",
        "free CNN",
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"recipe": "b" * 64}, "recipes"),
        ({"times": tuple(range(FRAMES))}, "--steps"),
        ({"trajectories": 3}, "trajectories"),
    ],
)
def test_runs_on_different_data_are_refused_by_name(tmp_path, change, reason):
    one = write(tmp_path / "one", make_evaluation())
    two = write(tmp_path / "two", make_evaluation("cnn", **change))
    with pytest.raises(InputError, match=f"{one} and {two}.*{reason}"):
        read_evaluations([one, two])


def test_runs_that_differ_in_more_than_the_seed_are_no_seeds():
    """The hash of the settings decides, and the label names the run."""
    twins = [
        make_evaluation(seed=seed, settings=settings)
        for seed, settings in ((0, "a"), (1, "a"), (2, "b"))
    ]
    series = group_by_seed(twins)
    assert [[e.seed for e in s.evaluations] for s in series] == [[0, 1], [2]]
    assert [s.label for s in series] == [
        "strict (C4), run strict-0",
        "strict (C4), run strict-2",
    ]


# Figures


def test_error_curve_draws_mean_and_range_of_all_models(trained):
    figure = error_curve(group_by_seed(trained))
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    assert "[T]" in axes.get_xlabel()
    assert "VRMSE" in axes.get_ylabel()
    assert legend(figure) == ["no change", *LABELS]
    curves = {str(line.get_label()): line for line in axes.lines}
    # Seeds 0 and 1 have errors 1 and 2 times 0.01 t.
    expected = 0.015 * np.arange(1, FRAMES)
    for label in LABELS:
        np.testing.assert_allclose(ys(curves[label]), expected)
    assert len(axes.collections) == 3
    band = axes.collections[0].get_datalim(axes.transData)
    np.testing.assert_allclose((band.y0, band.y1), (0.01, 0.1))


def test_one_seed_has_no_band():
    figure = error_curve(group_by_seed([make_evaluation()]))
    assert not figure.axes[0].collections


def test_drift_skips_the_zero_at_the_start_and_merges_equal_invariants(trained):
    figure = drift_curve(group_by_seed(trained))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "heat, weighted heat: drift"
    assert titles[2] == "energy: drift"
    assert legend(figure) == ["truth", *LABELS]
    for axes in figure.axes:
        assert axes.get_yscale() == "log"
        assert len(axes.lines) == 4
        for line in axes.lines:
            values = ys(line)
            assert np.isnan(values[0])
            assert (values[1:] > 0).all()
    assert "[T]" in figure.axes[-1].get_xlabel()


def test_residual_is_not_the_drift(trained):
    drift, residual = drift_curve(group_by_seed(trained), "energy").axes
    ratio = ys(residual.lines[1]) / ys(drift.lines[1])
    np.testing.assert_allclose(ratio[1:], 2.0)


def test_one_invariant_may_be_chosen(trained):
    figure = drift_curve(group_by_seed(trained), "energy")
    assert figure.axes[0].get_title() == "energy: drift"
    with pytest.raises(InputError, match=r"'mass'.*heat, weighted_heat, energy"):
        drift_curve(group_by_seed(trained), "mass")


def test_defects_of_solver_and_models_stand_side_by_side(trained):
    figure = defect_chart(group_by_seed(trained))
    left, right = figure.axes
    assert left.get_xscale() == "log"
    assert right.get_xscale() == "linear"
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == ["turn 90°", "flip y", "shift (1/8, 0)"]
    assert legend(figure) == ["solver", *LABELS]
    low, high = left.get_xlim()
    drawn = {xs(line)[0] for line in left.lines if xs(line).size}
    assert {1e-7, 0.02, 0.01} <= drawn
    assert low < 1e-7 < high
    ratios = [xs(line)[0] for line in right.lines]
    assert any(abs(r - 0.5) < 1e-12 for r in ratios)


def test_exact_zeros_have_a_place_on_the_logarithmic_axis():
    zero = tuple(
        ElementDefect(element=e, survives=False, solver=0.04, model=0.0)
        for e in ELEMENTS
    )
    (left, _) = defect_chart(group_by_seed([make_evaluation(defects=zero)])).axes
    assert left.get_xticklabels()[0].get_text() == "< $10^{-9}$"
    marker = next(line for line in left.lines if xs(line).size)
    assert xs(marker)[0] == left.get_xticks()[0] > left.get_xlim()[0]


def test_kept_elements_are_marked_and_have_no_ratio():
    kept = tuple(
        ElementDefect(element=e, survives=True, solver=1e-15, model=1e-7)
        for e in ELEMENTS
    )
    figure = defect_chart(group_by_seed([make_evaluation(defects=kept)]))
    (axes,) = figure.axes
    assert all("(kept)" in t.get_text() for t in axes.get_yticklabels())
    assert encode(figure, ".png")


def test_spectrum_leaves_out_the_trivial_share(trained):
    figure = spectrum_chart(group_by_seed(trained))
    point, shift = figure.axes
    names = [t.get_text() for t in point.get_yticklabels()]
    assert names == [i.name for i in point_group("D4").irreps[1:]]
    waves = [t.get_text() for t in shift.get_yticklabels()]
    assert waves == ["|m| = 1", "|m| = √2", "|m| = 2", "|m| = √5", "|m| = √8"]
    assert point.get_xscale() == shift.get_xscale() == "log"
    # The strict model's 1e-14 stands at the place of round-off.
    assert xs(point.lines[0])[0] == point.get_xticks()[0]
    assert legend(figure) == ["solver", *LABELS]


@pytest.mark.parametrize("n", [2, 4])
def test_wave_numbers_add_up_to_all_modes(n):
    modes = shift_group(n).irreps[1:]
    shares = [IrrepShare(irrep=m.name, solver=m.dimension, model=1) for m in modes]
    merged = by_wave_number(shares)
    assert sum(s.solver for s in merged) == n * n - 1
    assert sum(s.model for s in merged) == len(modes)
    # (1, 0) and (0, 1), each with its negative where that differs.
    assert merged[0].solver == (2 if n == 2 else 4)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("turn 90", "turn 90°"),
        ("flip, turn 270", "flip + turn 270°"),
        ("shift 0.03125, 0", "shift (1/32, 0)"),
        ("shift 0.333333, 0.25", "shift (1/3, 1/4)"),
    ],
)
def test_elements_have_readable_names(name, shown):
    assert element_name(name) == shown


# Fields


def test_strip_shows_signed_fields_with_symmetric_limits():
    rollouts = {"a": make_pictures(0), "b": make_pictures(1)}
    figure = rollout_strip(rollouts, units("heat"), 1)
    limits = image_limits(figure)
    assert set(limits) == {"RdBu_r", "PuOr_r", "cividis"}
    for name in ("RdBu_r", "PuOr_r"):
        ((low, high),) = limits[name]
        assert low == -high
    truth = rollouts["a"].truth[1]
    assert limits["RdBu_r"] == {(-np.abs(truth).max(), np.abs(truth).max())}
    titles = [axes.get_title() for axes in figure.axes]
    assert "truth, t = 0" in titles
    assert "conductivity [L² / T]" in titles
    texts = " ".join(t.get_text() for axes in figure.axes for t in axes.texts)
    assert texts.count("prediction") == 4
    bars = [bar for axes in figure.axes for bar in axes.child_axes]
    labels = {axes.get_ylabel() for axes in (*figure.axes, *bars)}  # type: ignore[attr-defined]
    assert {"y [L]", "temperature [K]", "prediction\n− truth [K]"} <= labels


@pytest.mark.parametrize("number", [1, 3])
def test_pictures_of_the_strip_use_the_space(number):
    figure = rollout_strip({str(n): make_pictures(n) for n in range(number)}, {})
    encode(figure, ".svg")
    width, height = figure.get_size_inches()
    used = sum(a.get_position().width * a.get_position().height for a in figure.axes)
    assert used * width * height > 0.5 * width * height


def test_fields_are_drawn_with_x_to_the_right():
    pictures = make_pictures()
    figure = rollout_strip({"a": pictures}, {})
    (image,) = figure.axes[0].images
    np.testing.assert_array_equal(
        np.asarray(image.get_array()), pictures.truth[0, 0, 0].T
    )
    assert image.origin == "lower"


def test_positive_fields_are_not_drawn_with_a_diverging_map():
    figure = rollout_strip({"a": make_pictures(lift=100.0)}, {})
    assert "RdBu_r" not in image_limits(figure)


def test_states_that_left_the_finite_numbers_do_not_spoil_the_scales():
    pictures = make_pictures()
    pictures.prediction[0, -1, 0, 0, 0] = np.inf
    figure = rollout_strip({"a": pictures}, {})
    ((low, high),) = image_limits(figure)["PuOr_r"]
    assert 0 < high < 1
    assert low == -high


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".gif", "GIF")])
def test_animation_has_every_frame(suffix, kind):
    data = animate({"a": make_pictures()}, units("heat"), suffix=suffix)
    assert len(data) < 2_000_000
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == kind
        assert getattr(image, "n_frames", 1) == FRAMES
        first = np.asarray(image.convert("RGB"))
        image.seek(FRAMES - 1)
        last = np.asarray(image.convert("RGB"))
    assert (first != last).any()


def test_equal_figures_are_equal_files():
    for suffix, start in ((".svg", b"<?xml"), (".pdf", b"%PDF")):
        one, two = (
            encode(error_curve(group_by_seed([make_evaluation()])), suffix)
            for _ in range(2)
        )
        assert one == two
        assert one.startswith(start)


# Commands


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
        if tag not in {"meta", "img", "br"}:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> tuple[Path, dict]:
    """Return a page on six runs, one of them in a folder `<b>`, and its JSON."""
    folder = tmp_path_factory.mktemp("runs")
    for model in MODELS:
        for seed in (0, 1):
            write(folder / f"{model}-{seed}", make_evaluation(model, seed))
    (folder / "cnn-0").rename(folder / "<b>")
    with redirect_stdout(io.StringIO()) as out:
        assert main(["report", str(folder), "--json"]) == 0
    return folder / "report.html", json.loads(out.getvalue())


def test_report_is_one_page_that_needs_nothing_else(report):
    text = report[0].read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert not tags.stack
    assert not {"script", "link", "b"} & set(tags.tags)
    assert "&lt;b&gt;" in text
    for name, value in tags.attributes:
        if name in {"src", "href"}:
            assert value.startswith("data:image/png;base64,")
    assert not re.search(r"https?://|@import|url\(", text)
    assert tags.tags.count("img") == 6
    assert [name for name, _ in tags.attributes].count("alt") == 6
    for name in (*LABELS, *(f"{m}-1" for m in MODELS), "a" * 64, "bubbles"):
        assert name in text


def test_pictures_of_the_report_are_also_files(report):
    text = report[0].read_text(encoding="utf-8")
    inside = [base64.b64decode(d) for d in re.findall(r'base64,([^"]+)"', text)]
    paths = sorted((report[0].parent / "figures").glob("*.png"))
    assert len(paths) == 6
    assert {p.read_bytes() for p in paths} == set(inside)
    for data in inside:
        with Image.open(io.BytesIO(data)) as image:
            image.load()


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
    kept = tuple(
        ElementDefect(element=e, survives=True, solver=1e-15, model=1e-7)
        for e in ELEMENTS
    )
    intact = make_evaluation(defects=kept, strengths={}, subgroup="T^2 x D4")
    run = write(tmp_path / "strict", intact)
    (series,) = group_by_seed([intact])
    text = write_page([run], [intact], [result(series)], [])
    assert "heat, intact" in text
    assert "<small>" not in text
    assert "over seeds" not in text + captions([series])["error"][1]
