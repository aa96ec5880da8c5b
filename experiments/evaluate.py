"""``pde-sym evaluate``: measure surrogates beside the solver, on the same inputs."""

import argparse
import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.evaluation import (
    ElementDefect,
    Evaluation,
    InvariantSeries,
    IrrepShare,
    Pictures,
    write_evaluation,
)
from experiments.maps import (
    BOOST,
    Maps,
    Motion,
    Test,
    boost_actions,
    make_maps,
    shifts_of,
    strict_groups,
)
from experiments.runs import Run, identity_of, load_surrogate, read_run
from experiments.table import print_table
from pde_sym.diagnostics import (
    breaking_spectrum,
    defects,
    invariant_drift,
    invariant_scale,
    strict_floor,
)
from pde_sym.errors import InputError
from pde_sym.metrics import relative_l2, vrmse
from pde_sym.nn import Surrogate, count_parameters
from pde_sym.nn.certificate import step_certificate
from pde_sym.progress import progress
from pde_sym.simulate import rollout
from pde_sym.symmetry import Group, GroupElement, point_group

FLOOR_INPUTS = 8
FLOOR_POINTS = 1 << 26
"""Numbers that the strict floor may hold at once."""
KEPT_ROLLOUTS = 4
PARTS = 5
"""What one evaluation consists of, for the progress bar."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="the data, where they have moved"
    )
    parser.add_argument(
        "--steps", type=int, metavar="N", help="steps of the rollouts (all frames)"
    )
    parser.add_argument("--json", action="store_true", help="print the evaluations")


def run(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    runs = [read_run(folder, arguments.data) for folder in arguments.runs]
    evaluations = []
    with progress("evaluating", PARTS * len(runs), "parts") as advance:
        for one in runs:
            evaluation, pictures = evaluate(one, arguments.steps, advance)
            write_evaluation(one.folder, evaluation, pictures)
            evaluations.append(evaluation)
    if arguments.json:
        print(json.dumps([e.model_dump(mode="json") for e in evaluations]))
    else:
        show(evaluations)
    return 0


@torch.no_grad()
def evaluate(
    one: Run, steps: int | None, advance: Callable[[int], None]
) -> tuple[Evaluation, Pictures]:
    """Measure a run on its test data.

    Raises
    ------
    InputError
        When the data are not those of the run, or have too few frames.
    """
    if identity_of(one.data).recipe != one.config.data.recipe:
        raise InputError(
            f"{one.data}: made by another recipe than the training data of "
            f"{one.folder}; give its data with --data"
        )
    test, surrogate = Test.read(one.data), load_surrogate(one)
    available = test.states.shape[1] - 1
    steps = available if steps is None else steps
    if not 1 <= steps <= available:
        raise InputError(f"--steps {steps}: expected 1 to {available}")
    truth = test.states[:, : steps + 1]
    given = test.environment.float() if test.is_given else None
    predicted = rollout(lambda u: surrogate(u, given), truth[:, 0], steps)
    advance(1)
    maps = make_maps(test, surrogate)
    system, grid = test.recipe.system, test.recipe.grid
    axes, kept = grid.num_axes, slice(0, KEPT_ROLLOUTS)
    times = [test.dt * frame for frame in range(steps + 1)]
    measured = {
        "one_step_vrmse": one_step_error(test, surrogate),
        "vrmse": _mean(vrmse(predicted, truth, axes)[:, 1:]),
        "relative_l2": _mean(relative_l2(predicted, truth, axes)[:, 1:]),
        "persistence_vrmse": _mean(vrmse(truth[:, :1], truth, axes)[:, 1:]),
        "invariants": drift_series(test, truth, predicted),
    }
    advance(1)
    measured["defects"] = element_defects(maps, test, surrogate)
    advance(1)
    turns = point_group("D4") if grid.num_axes == 2 else None
    measured["point_spectrum"] = spectrum(maps, turns)
    measured["shift_spectrum"] = spectrum(maps, shifts_of(test))
    advance(1)
    measured["strict_floors"] = strict_floors(maps, strict_groups(test))
    advance(1)
    evaluation = Evaluation(
        run=one.name,
        model=one.config.model.kind,
        group=getattr(one.config.model, "group", None) if axes == 2 else None,
        parameters=count_parameters(surrogate),
        seed=one.config.training.seed,
        updates=one.config.training.updates,
        settings=one.config.settings,
        recipe=one.config.data.recipe,
        system=system.kind,
        strengths={term.kind: term.strength for term in system.breaking},
        num_axes=one.config.task.num_axes,
        subgroup=system.survivors.name,
        trajectories=len(test.states),
        times=tuple(times),
        **measured,
    )
    pictures = Pictures(
        times=torch.tensor(times, dtype=torch.float64).numpy(),
        truth=truth[kept].numpy(),
        prediction=predicted[kept].numpy(),
        environment=test.environment[kept].float().numpy(),
        channels=one.config.task.state.channel_names,
        environment_channels=test.recipe.dynamics.environment_fields.channel_names,
        lengths=grid.lengths,
    )
    return evaluation, pictures


def one_step_error(test: Test, surrogate: Surrogate) -> float:
    """Return the VRMSE of every frame predicted from the one before it."""
    total = 0.0
    for states, environment in zip(test.states, test.environment, strict=True):
        given = environment.float() if test.is_given else None
        predicted = surrogate(states[:-1], given)
        total += float(vrmse(predicted, states[1:], test.recipe.grid.num_axes).mean())
    return total / len(test.states)


def element_defects(
    maps: Maps, test: Test, surrogate: Surrogate
) -> tuple[ElementDefect, ...]:
    """Return the defects under the system's motions, and under a boost of KdV."""
    system, grid, task = test.recipe.system, test.recipe.grid, surrogate.task
    motions = list(system.probes(grid))
    rows = _defects(
        maps,
        [(g, system.keeps(g, joint=test.is_given)) for g in motions],
        maps.after,
        maps.before,
    )
    if task.num_axes == 2:
        bounds = certificates(surrogate, maps.inputs, motions)
        rows = tuple(
            row.model_copy(update={"certificate": bound})
            for row, bound in zip(rows, bounds, strict=True)
        )
    if task.boost is not None:
        actions = boost_actions(test, task.boost)
        rows += _defects(maps, [(BOOST, not task.breaks_boosts)], *actions)
    return rows


def _defects(
    maps: Maps, chosen: Sequence[tuple[Any, bool]], after: Motion, before: Motion
) -> tuple[ElementDefect, ...]:
    """Return a row per motion, of which is known whether it survives."""
    motions = [motion for motion, _ in chosen]
    solver, model = (
        defects(step, maps.inputs, motions, after, before)
        for step in (maps.solver, maps.model)
    )
    on_line = maps.inputs.ndim == 3
    return tuple(
        ElementDefect(
            # On a line a shift along y says nothing.
            element=m.name.removesuffix(", 0") if on_line else m.name,
            survives=survives,
            solver=s.mean,
            model=f.mean,
        )
        for (m, survives), s, f in zip(chosen, solver, model, strict=True)
    )


def certificates(
    surrogate: Surrogate, inputs: Tensor, elements: Sequence[Any]
) -> list[float | None]:
    """Return ``E bound / ||f(x)||`` per element, None where there is no bound.

    Parameters
    ----------
    inputs
        States, followed by the given fields where there are any.
    """
    step = copy.deepcopy(surrogate).double()
    wide, size = inputs.double(), surrogate.task.state.num_channels
    given = None if surrogate.task.given is None else wide[:, size:]
    try:
        bounds = step_certificate(step, wide[:, :size], given)
    except InputError:
        return [None for _ in elements]
    norms = step(wide[:, :size], given).flatten(1).norm(dim=1)
    result: list[float | None] = []
    for g in elements:
        try:
            result.append(float((bounds.bound(g) / norms).mean()))
        except InputError:
            result.append(None)
    return result


def spectrum(maps: Maps, group: Group | None) -> tuple[IrrepShare, ...]:
    """Return the shares by irrep, none where there is no such group."""
    if group is None:
        return ()
    solver, model = (
        breaking_spectrum(step, maps.inputs, group, maps.after, maps.before)
        for step in (maps.solver, maps.model)
    )
    return tuple(
        IrrepShare(irrep=name, solver=solver[name], model=model[name])
        for name in solver
    )


def strict_floors(
    maps: Maps, groups: dict[str, Sequence[GroupElement]]
) -> dict[str, float]:
    """Return the floor of models that are strict under each group."""
    largest = max((len(group) for group in groups.values()), default=1)
    number = FLOOR_POINTS // (maps.inputs[0].numel() * largest)
    few = maps.inputs[: max(1, min(FLOOR_INPUTS, number))]
    return {
        name: strict_floor(maps.solver, few, group, maps.after, maps.before)
        for name, group in groups.items()
    }


def drift_series(
    test: Test, truth: Tensor, predicted: Tensor
) -> tuple[InvariantSeries, ...]:
    system, grid = test.recipe.dynamics, test.recipe.grid
    full_truth, full_model = (
        system.complete(u.double().flatten(0, 1), grid).unflatten(0, u.shape[:2])
        for u in (truth, predicted)
    )
    scale = invariant_scale(system, grid, full_truth[:, 0], test.environment)
    exact, model = (
        invariant_drift(system, grid, states, test.environment, test.dt, scale)
        for states in (full_truth, full_model)
    )
    return tuple(
        InvariantSeries(
            name=invariant.name,
            meaning=invariant.meaning,
            truth_drift=_rms(exact[invariant.name].change),
            model_drift=_rms(model[invariant.name].change),
            truth_residual=_rms(exact[invariant.name].residual),
            model_residual=_rms(model[invariant.name].residual),
        )
        for invariant in system.invariants
    )


def show(evaluations: list[Evaluation]) -> None:
    """Print one table of errors and one of defects."""
    step = min(10, *(len(e.vrmse) for e in evaluations))
    print_table(
        "errors on test data (VRMSE) and drift of the first invariant",
        ["run", "model", "parameters", "1 step", f"{step} steps", "no change", "drift"],
        [
            [
                e.run,
                e.model,
                str(e.parameters),
                f"{e.one_step_vrmse:.4f}",
                f"{e.vrmse[step - 1]:.4f}",
                f"{e.persistence_vrmse[step - 1]:.4f}",
                f"{e.invariants[0].model_drift[-1]:.1e}",
            ]
            for e in evaluations
        ],
    )
    columns = ["element", "solver"]
    rows = [[d.element, f"{d.solver:.2e}"] for d in evaluations[0].defects]
    for e in evaluations:
        has_bounds = any(d.certificate is not None for d in e.defects)
        columns += [e.run, "at most"] if has_bounds else [e.run]
        for row, d in zip(rows, e.defects, strict=True):
            row.append(f"{d.model:.2e}")
            if has_bounds:
                row.append("" if d.certificate is None else f"{d.certificate:.2e}")
    print_table("defect per element, over one step", columns, rows)


def _mean(errors: Tensor) -> tuple[float, ...]:
    return tuple(errors.double().mean(0).tolist())


def _rms(values: Tensor) -> tuple[float, ...]:
    return tuple(values.square().mean(0).sqrt().tolist())
