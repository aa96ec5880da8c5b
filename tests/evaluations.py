"""Evaluations of imaginary runs, as numbers in memory and as folders on the disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from experiments.evaluation import Evaluation, Pictures, write_evaluation
from pde_sym.evaluation import ElementDefect, InvariantSeries, IrrepShare
from pde_sym.symmetry import point_group, shift_group

FRAMES, SIZE = 6, 8
ELEMENTS = ("turn 90", "flip y", "shift 0.125, 0")
MODELS = ("strict", "modulated", "cnn")
LABELS = ("strict (C4)", "relaxed (C4)", "free CNN")
HIDDEN = {"isotypic": 0.03, "modulated": 0.02, "cnn": 0.01, "strict": 1e-7}


def make_evaluation(model="strict", seed=0, **changes) -> Evaluation:
    """Return an evaluation whose error grows as ``0.01 (1 + seed) t``."""
    defect = HIDDEN.get(model, 0.02)
    growth = tuple(0.01 * (1 + seed) * t for t in range(1, FRAMES))
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
        "defects": make_defects(solver=0.04, model=defect),
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


def make_defects(
    solver: float,
    model: float,
    *,
    survives: bool = False,
    certificate: float | None = None,
) -> tuple[ElementDefect, ...]:
    """Return the same defects for a turn, a flip and a shift."""
    return tuple(
        ElementDefect(
            element=e,
            survives=survives,
            solver=solver,
            model=model,
            certificate=certificate,
        )
        for e in ELEMENTS
    )


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


def write(folder: Path, evaluation: Evaluation) -> Path:
    """Write the folder of an evaluated run."""
    folder.mkdir(parents=True)
    run = {"data_folder": "../data", "training": {"seed": evaluation.seed}}
    (folder / "run.json").write_text(json.dumps(run))
    write_evaluation(folder, evaluation, make_pictures(evaluation.seed))
    return folder


def make_evaluations() -> list[Evaluation]:
    """Return two seeds of every model, in an order that is not that of a figure."""
    return [make_evaluation(m, s) for m in reversed(MODELS) for s in (1, 0)]


def write_all(folder: Path) -> None:
    """Write two seeds of every model, each in its own folder below `folder`."""
    for evaluation in make_evaluations():
        write(folder / evaluation.run, evaluation)
