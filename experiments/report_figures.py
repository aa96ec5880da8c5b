"""The figures of a report: what each shows, the numbers in it, what makes it."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from experiments.animation import shots_of
from experiments.commands import near, spoken
from experiments.drawing import encode, units
from experiments.evaluation import Evaluation, Pictures, is_imported
from experiments.figures import (
    defect_chart,
    drift_curve,
    error_curve,
    spectrum_chart,
)
from experiments.page import Picture, Player
from experiments.plot import read_rollouts
from experiments.report_data import (
    defect_data,
    drift_data,
    error_data,
    rollout_data,
    spectrum_data,
)
from experiments.results import mean_defect
from experiments.series import Look, Series, run_looks
from experiments.strip import rollout_strip

FRAMES = 30
"""Of the rollouts that a slider goes through."""
ROLLOUT_CAPTIONS = {
    2: "Truth, prediction and prediction − truth. One colour scale for all states, one "
    "for all errors. Look for errors that stay at one place.",
    1: "Truth, prediction and prediction − truth, place to the right and time upwards. "
    "One colour scale for all states, one for all errors. Look for errors that stay at "
    "one place, upright streaks.",
    0: "Every component against time, truth and predictions.",
}
"""What the picture of rollouts shows, by the number of axes."""


def draw_all(
    folders: Sequence[Path],
    evaluations: Sequence[Evaluation],
    series: Sequence[Series],
    out: Path,
) -> list[Picture | Player]:
    """Draw every figure of a page; rollouts are those of the lowest seed of each model.

    `out` is the page, from whose folder the commands are told.
    """
    place = dict(zip(map(id, evaluations), folders, strict=True))
    shown = [one.first for one in series]
    rollouts = read_rollouts([place[id(e)] for e in shown], shown, 0)
    unit, looks = units(shown[0].system), run_looks(shown)
    texts, some = captions(series), [near(place[id(e)], out) for e in shown]
    every = [near(folder, out) for folder in folders]

    def command(name: str) -> list[str]:
        runs = some if name in {"rollout", "animation"} else every
        suffix = "gif" if name == "animation" else "png"
        file = f"figures/{name}.{suffix}"
        return [spoken(["plot", name, *runs, "--out", file])]

    arrays, pictures = rollout_data(rollouts), []
    if shown[0].num_axes:
        pictures.append(_player(rollouts, unit, looks, texts["animation"]))
    drawn = {
        "rollout": (rollout_strip(rollouts, unit, looks=looks), arrays),
        "error": (error_curve(series), error_data(series)),
        "defect": (defect_chart(series), defect_data(series)),
    }
    if shown[0].invariants:
        drawn["drift"] = (drift_curve(series), drift_data(series))
    if shown[0].num_axes:
        drawn["spectrum"] = (spectrum_chart(series), spectrum_data(series))
    pictures += [
        Picture(name, *texts[name], encode(drawn[name][0], ".png"), (), drawn[name][1:])
        for name in texts
        if name in drawn
    ]
    return [replace(one, commands=command(one.name)) for one in pictures]


def _player(
    rollouts: Mapping[str, Pictures],
    unit: Mapping[str, str],
    looks: Mapping[str, Look],
    text: tuple[str, str],
) -> Player:
    shots = shots_of(rollouts, unit, looks=looks, most=FRAMES)
    return Player(
        "animation",
        *text,
        frames=[as_png(shot) for shot in shots.pictures],
        size=shots.pictures[0].size,
        times=shots.times,
    )


def as_png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def captions(series: Sequence[Series]) -> dict[str, tuple[str, str]]:
    """Return title and caption of every figure."""
    first = series[0].first
    several = max(len(one.evaluations) for one in series) > 1
    band = " Line: mean over seeds; band: lowest to highest." if several else ""
    bar = " Marker: mean over seeds; bar: lowest to highest." if several else ""
    seeds = ", ".join(f"{one.label}: seed {one.first.seed}" for one in series)
    solver = mean_defect(first, "solver")
    broken = "" if solver is None else f" Solver, mean over broken ones: {solver:.2e}."
    return {
        "rollout": (
            "Rollouts of one test trajectory",
            f"{ROLLOUT_CAPTIONS[first.num_axes]} Every model starts from the first "
            f"frame and reads its own output. ({seeds})",
        ),
        "animation": (
            "Rollouts through time",
            f"Truth and predictions side by side. Above states, on one scale; below "
            f"{'the environment and ' if first.num_axes == 2 else ''}"
            "prediction − truth, on one scale around 0. The slider moves with the "
            f"arrow keys too. Frames are {first.times[1]:g} T apart or a multiple. "
            f"({seeds})",
        ),
        "error": (
            "Error along rollouts",
            "VRMSE = sqrt(⟨(u − v)²⟩ / ⟨(v − ⟨v⟩)²⟩) of prediction u and truth v, "
            f"⟨·⟩ the mean over space; mean over {first.trajectories} test "
            "trajectories. Grey: the prediction that nothing changes, which a useful "
            f"model stays below.{band}",
        ),
        "drift": (
            "Invariants along rollouts",
            "Left: |I(t) − I(0)|; right: |I(t) − I(0) − ∫ (dI/dt) dt|, with dI/dt in "
            "closed form from the states, integrated by the trapezoidal rule over "
            "frames. Both are root mean squares over trajectories, relative to that "
            "of I(0). Left, the truth shows what the physics does; right, it shows "
            "the error of the quadrature, and a model as low as it keeps the budget. "
            f"{invariants(first)}{band}",
        ),
        "defect": (
            "Defect of equivariance, element by element",
            "E ‖f(g x) − g f(x)‖ / ‖f(x)‖ of one step f, for the solver and for the "
            "models on the same test inputs; where something is broken, right: model "
            "over solver. At 1 a model breaks a symmetry as much as the data; left of "
            "it, less. Blue: no more than round-off. (kept): the physics keeps this."
            f"{broken}{bar}",
        ),
        "spectrum": (
            "Breaking spectrum",
            "E ‖f_σ‖² / Σ_τ E ‖f_τ‖² with f_σ(x) = d_σ / (c_σ |G|) Σ_g χ_σ(g) "
            "g⁻¹ f(g x), by irrep σ: which symmetry is broken, not only how much. "
            f"Not drawn: the trivial share, the equivariant part{trivial(series)}. "
            "Shifts: by fractions of the box; shares of modes of one |m| are added, "
            f"and modes count modulo the number of shifts per axis.{bar}",
        ),
    }


def invariants(first: Evaluation) -> str:
    return "; ".join(f"{i.name} = {i.meaning}" for i in first.invariants) + "."


def trivial(series: Sequence[Series]) -> str:
    """Return the trivial shares under D4 as text, where there is D4."""

    def share(e: Evaluation, which: str) -> float:
        shares = [s for s in e.point_spectrum if s.irrep == "trivial"]
        return sum(getattr(s, which) for s in shares)

    if not series[0].first.point_spectrum:
        return ""
    parts = []
    if not is_imported(series[0].first):
        parts.append(f"solver {share(series[0].first, 'solver'):.6f}")
    for one in series:
        parts.append(
            f"{one.label} {one.values(lambda e: share(e, 'model')).mean():.6f}"
        )
    return f" (turns and flips: {', '.join(parts)})"
