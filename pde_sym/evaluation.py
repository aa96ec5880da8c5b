"""What is measured on a model: its errors, and what it breaks beside the solver.

Solver and model are measured by the same functions on the same inputs.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pde_sym.config import Frozen
from pde_sym.dataset import TrajectoryDataset
from pde_sym.diagnostics import (
    breaking_spectrum,
    defects,
    invariant_drift,
    invariant_scale,
    strict_floor,
)
from pde_sym.errors import InputError, SimulationError
from pde_sym.learning import task_of
from pde_sym.maps import (
    BOOST,
    Maps,
    Model,
    Motion,
    boost_actions,
    make_maps,
    shifts_of,
    strict_groups,
    turns_of,
)
from pde_sym.metrics import relative_l2, vrmse
from pde_sym.nn import Surrogate, Task
from pde_sym.nn.certificate import step_certificate
from pde_sym.samples import Samples
from pde_sym.simulate import rollout
from pde_sym.simulation import Simulation
from pde_sym.symmetry import Group, GroupElement

FLOOR_INPUTS = 8
FLOOR_POINTS = 1 << 26
"""Numbers that the strict floor may hold at once."""


class Errors(Frozen):
    """Errors of a model, each a VRMSE unless its name says otherwise."""

    times: tuple[float, ...]
    """Of the frames of a rollout, the initial state included."""
    one_step_vrmse: float
    """Over every pair of consecutive frames."""
    vrmse: tuple[float, ...]
    """Of rollouts from frame 0, mean over trajectories, per step."""
    relative_l2: tuple[float, ...]
    persistence_vrmse: tuple[float, ...]
    """Of the prediction that nothing changes."""


class ElementDefect(Frozen):
    """Relative defect ``E ||f(g x) - g f(x)|| / ||f(x)||`` under one element.

    Of imported data there is no solver to measure.

    Parameters
    ----------
    element
        Name of the group element g.
    survives
        Whether the physics keeps g; None where that is not known.
    solver, model
        The defect of the solver, where there is one, and of the surrogate.
    certificate
        An upper bound on that of the surrogate from its weights and the same inputs,
        in exact arithmetic; None where its layers or its group have none.
    """

    element: str
    survives: bool | None
    solver: float | None
    model: float
    certificate: float | None = None


class IrrepShare(Frozen):
    """Share of a map in one irrep of a group; the trivial one is equivariant."""

    irrep: str
    solver: float | None
    model: float


class InvariantSeries(Frozen):
    """An invariant along rollouts, root mean square over trajectories per frame.

    Everything is relative to the root mean square of the invariant at the start. The
    residual is the drift less the closed-form budget, integrated over frames; that of
    the truth is the error of this quadrature.
    """

    name: str
    meaning: str
    truth_drift: tuple[float, ...]
    model_drift: tuple[float, ...]
    truth_residual: tuple[float, ...]
    model_residual: tuple[float, ...]


class Diagnosis(Frozen):
    """What solver and model break and keep, by the same quantities."""

    defects: tuple[ElementDefect, ...]
    strict_floors: dict[str, float]
    """Per group, the relative one-step error under which no model that is strictly
    equivariant under it can go, on the inputs and all their images."""
    point_spectrum: tuple[IrrepShare, ...]
    """Breaking spectrum under D4; none on lines and of bodies."""
    shift_spectrum: tuple[IrrepShare, ...]
    """Breaking spectrum under shifts by fractions of the box; none of bodies."""
    invariants: tuple[InvariantSeries, ...]


Data = Samples | Simulation | TrajectoryDataset | Path | str
"""Trajectories, or the folder of a data set, whose test trajectories are meant."""


def samples_of(data: Data) -> Samples:
    """Return the trajectories in memory, of a folder those of its test split."""
    match data:
        case Samples():
            return data
        case Simulation():
            return data.samples()
        case TrajectoryDataset():
            return Samples.of(data)
    return Samples.read(data)


def evaluate(model: Model, data: Data, steps: int | None = None) -> Errors:
    """Return the errors of one-frame steps and of rollouts from frame 0.

    Parameters
    ----------
    model
        A `Surrogate`, or any function of a state ``(batch, channels, *points)`` in
        float32, and of the given fields where there are any, that returns the state one
        frame later.
    data
        What it is compared with.
    steps
        Length of the rollouts; all frames when absent.

    Raises
    ------
    InputError
        When there are fewer frames.
    SimulationError
        When a rollout leaves the finite numbers.
    """
    samples = samples_of(data)
    with evaluating(model):
        return errors_of(model, samples, predict(model, samples, steps))


def diagnose(model: Model, data: Data, steps: int | None = None) -> Diagnosis:
    """Return defects, spectra, strict floors and the drift of invariants.

    Model and solver take one step from the same states; drift is along rollouts of
    `steps` steps, all frames when absent. Arguments and errors are those of `evaluate`.
    """
    samples = samples_of(data)
    with evaluating(model):
        predicted = predict(model, samples, steps)
        return diagnosis_of(model, samples, predicted, task_of(samples, samples.system))


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Run without gradients, and a network in its evaluation mode."""
    net = model if isinstance(model, nn.Module) else None
    was_training = net is not None and net.training
    with torch.no_grad():
        if net is not None:
            net.eval()
        try:
            yield
        finally:
            if net is not None:
                net.train(was_training)


def predict(model: Model, samples: Samples, steps: int | None = None) -> Tensor:
    """Return rollouts from frame 0, ``(trajectories, steps + 1, channels, *points)``.

    Raises
    ------
    InputError
        When there are fewer frames than that.
    SimulationError
        When a rollout leaves the finite numbers.
    """
    available = samples.states.shape[1] - 1
    steps = available if steps is None else steps
    if not 1 <= steps <= available:
        raise InputError(f"steps {steps}: expected 1 to {available}")
    given = samples.given
    extra = () if given is None else (given,)
    return rollout(lambda u: model(u, *extra), samples.states[:, 0], steps)


def errors_of(model: Model, samples: Samples, predicted: Tensor) -> Errors:
    """Return the errors of rollouts, as `predict` gives them, and of single steps.

    Raises
    ------
    SimulationError
        When a rollout grows past what its errors can hold.
    """
    axes, truth = samples.grid.num_axes, samples.states[:, : predicted.shape[1]]
    return Errors(
        times=tuple(samples.dt * frame for frame in range(predicted.shape[1])),
        one_step_vrmse=one_step_error(model, samples),
        vrmse=_mean(vrmse(predicted, truth, axes)[:, 1:], "VRMSE"),
        relative_l2=_mean(relative_l2(predicted, truth, axes)[:, 1:], "relative L2"),
        persistence_vrmse=_mean(
            vrmse(truth[:, :1], truth, axes)[:, 1:], "VRMSE of the first frame"
        ),
    )


def one_step_error(model: Model, samples: Samples) -> float:
    """Return the VRMSE of every frame predicted from the one before it."""
    total = 0.0
    for states, environment in zip(samples.states, samples.environment, strict=True):
        before, after = states[:-1], states[1:]
        extra = ()
        if samples.is_given:
            extra = (environment.float().expand(len(before), *environment.shape),)
        error = vrmse(model(before, *extra), after, samples.grid.num_axes)
        total += float(error.mean())
    return total / len(samples.states)


def diagnosis_of(
    model: Model,
    samples: Samples,
    predicted: Tensor,
    task: Task,
    finished: Callable[[int], object] = int,
) -> Diagnosis:
    """Return what solver and model break, given rollouts of the model.

    `finished` is called after each of four parts.
    """
    maps = make_maps(samples, model)
    truth = samples.states[:, : predicted.shape[1]]
    invariants = drift_series(samples, truth, predicted)
    finished(1)
    elements = element_defects(maps, samples, model, task)
    finished(1)
    spectra = [spectrum(maps, g) for g in (turns_of(samples), shifts_of(samples))]
    finished(1)
    floors = strict_floors(maps, strict_groups(samples))
    finished(1)
    return Diagnosis(
        defects=elements,
        strict_floors=floors,
        point_spectrum=spectra[0],
        shift_spectrum=spectra[1],
        invariants=invariants,
    )


def element_defects(
    maps: Maps, samples: Samples, model: Model, task: Task
) -> tuple[ElementDefect, ...]:
    """Return the defects under the system's motions, and under a boost of KdV."""
    system, grid = samples.system, samples.grid
    motions = list(system.probes(grid))

    def survives(g: Any) -> bool | None:
        return None if maps.solver is None else system.keeps(g, joint=samples.is_given)

    rows = _defects(
        maps,
        [(g, survives(g)) for g in motions],
        maps.after,
        maps.before,
    )
    if task.num_axes == 2 and isinstance(model, Surrogate):
        bounds = certificates(model, maps.inputs, motions)
        rows = tuple(
            row.model_copy(update={"certificate": bound})
            for row, bound in zip(rows, bounds, strict=True)
        )
    if task.boost is not None:
        actions = boost_actions(samples, task.boost)
        rows += _defects(maps, [(BOOST, not task.breaks_boosts)], *actions)
    return rows


def _defects(
    maps: Maps, chosen: Sequence[tuple[Any, bool | None]], after: Motion, before: Motion
) -> tuple[ElementDefect, ...]:
    """Return a row per motion, of which is known whether it survives."""
    motions = [motion for motion, _ in chosen]
    solver, model = (
        None if step is None else defects(step, maps.inputs, motions, after, before)
        for step in (maps.solver, maps.model)
    )
    assert model is not None
    on_line = maps.inputs.ndim == 3
    return tuple(
        ElementDefect(
            # On a line a shift along y says nothing.
            element=m.name.removesuffix(", 0") if on_line else m.name,
            survives=survives,
            solver=None if solver is None else solver[number].mean,
            model=model[number].mean,
        )
        for number, (m, survives) in enumerate(chosen)
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
        {}
        if step is None
        else breaking_spectrum(step, maps.inputs, group, maps.after, maps.before)
        for step in (maps.solver, maps.model)
    )
    return tuple(
        IrrepShare(irrep=name, solver=solver.get(name), model=share)
        for name, share in model.items()
    )


def strict_floors(
    maps: Maps, groups: dict[str, Sequence[GroupElement]]
) -> dict[str, float]:
    """Return the floor of models that are strict under each group."""
    solver = maps.solver
    if solver is None:
        return {}
    largest = max((len(group) for group in groups.values()), default=1)
    number = FLOOR_POINTS // (maps.inputs[0].numel() * largest)
    few = maps.inputs[: max(1, min(FLOOR_INPUTS, number))]
    return {
        name: strict_floor(solver, few, group, maps.after, maps.before)
        for name, group in groups.items()
    }


def drift_series(
    samples: Samples, truth: Tensor, predicted: Tensor
) -> tuple[InvariantSeries, ...]:
    """Return each invariant along rollouts of solver and model.

    Raises
    ------
    SimulationError
        When a rollout grows past what an invariant of it can hold.
    """
    system, grid = samples.dynamics, samples.grid
    full_truth, full_model = (
        system.complete(u.double().flatten(0, 1), grid).unflatten(0, u.shape[:2])
        for u in (truth, predicted)
    )
    scale = invariant_scale(system, grid, full_truth[:, 0], samples.environment)
    exact, model = (
        invariant_drift(system, grid, states, samples.environment, samples.dt, scale)
        for states in (full_truth, full_model)
    )
    meanings = {i.name: i.meaning for i in system.invariants}
    return tuple(
        InvariantSeries(
            name=name,
            meaning=meaning,
            truth_drift=_rms(exact[name].change, f"drift of {name}"),
            model_drift=_rms(model[name].change, f"drift of {name}"),
            truth_residual=_rms(exact[name].residual, f"residual of {name}"),
            model_residual=_rms(model[name].residual, f"residual of {name}"),
        )
        for name, meaning in meanings.items()
    )


def finite_series(series: Tensor, what: str) -> tuple[float, ...]:
    """Return numbers along a rollout, one per step.

    Raises
    ------
    SimulationError
        When one is not finite: a state that grows has finite values for longer than
        its square or its invariants have.
    """
    if not series.isfinite().all():
        raise SimulationError(f"a rollout grew until its {what} was not finite")
    return tuple(series.tolist())


def _mean(errors: Tensor, what: str) -> tuple[float, ...]:
    return finite_series(errors.double().mean(0), what)


def _rms(values: Tensor, what: str) -> tuple[float, ...]:
    return finite_series(values.square().mean(0).sqrt(), what)
