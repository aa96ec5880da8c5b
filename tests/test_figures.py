"""Curves, charts, fields and animations show the numbers of the evaluations."""

import io

import numpy as np
import pytest
from evaluations import (
    FRAMES,
    LABELS,
    make_defects,
    make_evaluation,
    make_evaluations,
    make_pictures,
)
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from experiments.animation import animate
from experiments.drawing import encode, new_figure, units
from experiments.figures import (
    by_wave_number,
    defect_chart,
    drift_curve,
    element_name,
    error_curve,
    legend_above,
    spectrum_chart,
)
from experiments.series import Series, group_by_seed
from experiments.strip import rollout_strip
from pde_sym.errors import InputError
from pde_sym.evaluation import IrrepShare
from pde_sym.fields import with_unit
from pde_sym.symmetry import point_group, shift_group
from pde_sym.systems import SYSTEMS


@pytest.fixture
def series() -> tuple[Series, ...]:
    """Return two seeds of every model."""
    return group_by_seed(make_evaluations())


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


# Curves and charts


def test_error_curve_draws_mean_and_range_of_all_models(series):
    figure = error_curve(series)
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


def test_drift_skips_the_zero_at_the_start_and_merges_equal_invariants(series):
    figure = drift_curve(series)
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


def test_residual_is_not_the_drift(series):
    drift, residual = drift_curve(series, "energy").axes
    ratio = ys(residual.lines[1]) / ys(drift.lines[1])
    np.testing.assert_allclose(ratio[1:], 2.0)


def test_one_invariant_may_be_chosen(series):
    figure = drift_curve(series, "energy")
    assert figure.axes[0].get_title() == "energy: drift"
    with pytest.raises(InputError, match=r"'mass'.*heat, weighted_heat, energy"):
        drift_curve(series, "mass")


def test_defects_of_solver_and_models_stand_side_by_side(series):
    figure = defect_chart(series)
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
    zero = make_defects(solver=0.04, model=0.0)
    (left, _) = defect_chart(group_by_seed([make_evaluation(defects=zero)])).axes
    assert left.get_xticklabels()[0].get_text() == "< $10^{-9}$"
    marker = next(line for line in left.lines if xs(line).size)
    assert xs(marker)[0] == left.get_xticks()[0] > left.get_xlim()[0]


def test_kept_elements_are_marked_and_have_no_ratio():
    kept = make_defects(solver=1e-15, model=1e-7, survives=True)
    figure = defect_chart(group_by_seed([make_evaluation(defects=kept)]))
    (axes,) = figure.axes
    assert all("(kept)" in t.get_text() for t in axes.get_yticklabels())
    assert encode(figure, ".png")


def test_spectrum_leaves_out_the_trivial_share(series):
    figure = spectrum_chart(series)
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
    assert sum(s.solver or 0.0 for s in merged) == n * n - 1
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


@pytest.mark.parametrize("kind", SYSTEMS)
def test_every_channel_has_a_unit_to_be_labelled_with(kind):
    unit = units(kind.model_fields["kind"].default)
    for channel in kind.fields.channel_names:
        field = next(f for f in kind.fields if channel.startswith(f.name))
        assert unit[channel] == unit[field.name] == field.unit


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


def test_labels_are_words_with_units():
    assert with_unit("a_b", "L^2") == "a b [L²]"
    assert with_unit("momentum", "M L^12 / T") == "momentum [M L¹² / T]"
    assert with_unit("smoke", "") == "smoke"


@pytest.mark.parametrize("width", [5.5, 7.0, 11.0])
def test_a_legend_fits_the_width(width: float) -> None:
    figure = new_figure(width, 4.0)
    axes = figure.add_subplot()
    labels = [
        "strict",
        "strict boosts",
        "free",
        "free augmented",
        "modulated",
        "solver",
    ]
    drawn = [axes.plot([0, 1])[0] for _ in labels]
    legend_above(figure, drawn, labels)
    figure.canvas.draw()
    (found,) = figure.legends
    box = found.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
