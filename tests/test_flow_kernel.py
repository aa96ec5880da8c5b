"""The compiled flow against the one in torch, and what it refuses."""

import itertools
import math

import numpy as np
import pytest
import torch
from helpers import drawn_environment, drawn_states, no_environment, relative_difference
from torch import Tensor

from pde_sym.errors import SimulationError
from pde_sym.grid import PeriodicGrid
from pde_sym.simulate import simulate
from pde_sym.systems.flow import Flow
from pde_sym.systems.flow_initial import RandomVorticity
from pde_sym.systems.flow_solver import STRAIN, FlowSolver
from pde_sym.systems.flow_terms import (
    Beta,
    Buoyancy,
    Drag,
    FlowTerm,
    Kolmogorov,
    MeanFlow,
    Obstacle,
    Topography,
    Viscosity,
)

GRID = PeriodicGrid.square(24)
DT = 0.02
TERMS: dict[str, FlowTerm] = {
    "beta": Beta(strength=30.0, angle=30),
    "drag": Drag(strength=2.0),
    "drag of eddies": Drag(strength=2.0, mean=False),
    "kolmogorov": Kolmogorov(strength=3.0),
    "topography": Topography(strength=10.0, profile="random"),
    "mean_flow": MeanFlow(strength=0.8, angle=30),
    "viscosity": Viscosity(strength=3.0),
    "obstacle": Obstacle(strength=20.0, width=0.05),
    "buoyancy": Buoyancy(strength=5.0, angle=30),
}
PAIRS = list(itertools.combinations([n for n in TERMS if n != "drag of eddies"], 2))
ALL = tuple(term for name, term in TERMS.items() if name != "drag of eddies")
LAW = RandomVorticity(modes=3, mean=0.6)


def system_with(tracer: bool, *terms: FlowTerm, viscosity: float = 1e-3) -> Flow:
    return Flow(tracer=tracer, breaking=terms, viscosity=viscosity)  # type: ignore


def start_of(system: Flow, grid: PeriodicGrid = GRID, count: int = 2) -> Tensor:
    return drawn_states(LAW, grid, count, seed=3, system=system)


def frames(
    system: Flow, grid: PeriodicGrid = GRID, compiled: bool | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return a state three frames later and the budgets of all three."""
    environment = drawn_environment(system, grid, seed=5)
    phi = FlowSolver(system, grid, environment, DT, compiled=compiled)
    state, total = start_of(system, grid), None
    for _ in range(3):
        state, budget = phi.step(state)
        total = budget if total is None else {n: total[n] + budget[n] for n in total}
    assert total is not None
    return state, total


def disagreement(system: Flow, grid: PeriodicGrid = GRID) -> float:
    """Return the largest relative difference of any field or budget."""
    (found, budgets), (exact, expected) = (
        frames(system, grid, c) for c in (True, False)
    )
    worst = relative_difference(found, exact)
    size = max(float(value.abs().max()) for value in expected.values()) or 1.0
    for name, value in expected.items():
        worst = max(worst, float((budgets[name] - value).abs().max()) / size)
    assert budgets.keys() == expected.keys()
    return worst


@pytest.mark.parametrize("name", [None, *TERMS, "all"])
@pytest.mark.parametrize("tracer", [False, True])
def test_each_term_agrees_with_torch(tracer: bool, name: str | None) -> None:
    terms = () if name is None else (TERMS[name],) if name in TERMS else ALL
    if not tracer:
        terms = tuple(term for term in terms if term.kind != "buoyancy")
    assert disagreement(system_with(tracer, *terms)) <= 1e-12


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_two_terms_agree_with_torch(pair: tuple[str, str]) -> None:
    system = system_with("buoyancy" in pair, *(TERMS[name] for name in pair))
    assert disagreement(system) <= 1e-12


def test_without_viscosity() -> None:
    assert disagreement(Flow(viscosity=0.0)) <= 1e-12
    assert disagreement(Flow(tracer=True, viscosity=0.0, diffusivity=0.0)) <= 1e-12


@pytest.mark.parametrize("shape", [(24, 24), (27, 27), (25, 32), (32, 20), (36, 15)])
def test_every_shape_of_the_grid_agrees(shape: tuple[int, int]) -> None:
    lengths = (1.0, 1.0) if shape[0] == shape[1] else (1.0, 0.8)
    grid = PeriodicGrid(shape=shape, lengths=lengths)
    assert disagreement(Flow(tracer=True), grid) <= 1e-12
    assert disagreement(system_with(True, *ALL), grid) <= 1e-12


def test_another_equation_disagrees() -> None:
    """The measure sees a difference of a part in a million of one coefficient."""
    one, other = (
        frames(Flow(viscosity=nu), compiled=compiled)[0]
        for nu, compiled in ((1e-3, True), (1.000001e-3, False))
    )
    assert relative_difference(one, other) >= 1e-9


@pytest.mark.parametrize("tracer", [False, True])
def test_a_trajectory_does_not_depend_on_its_batch(tracer: bool) -> None:
    system = system_with(tracer, *ALL[: 4 + tracer])
    environments = torch.cat(
        [drawn_environment(system, GRID, seed=i) for i in range(3)]
    )
    start = start_of(system, count=3)
    # The others are faster, so that they take other numbers of steps.
    start[1] *= 5.0

    def run(which: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
        run = simulate(
            system, GRID, start[which], environments[which], dt=DT, num_frames=3
        )
        return run.states, run.budgets

    together, budgets = run([2, 1, 0])
    for i in range(3):
        alone, budget = run([i])
        assert torch.equal(together[2 - i], alone[0])
        for name in budget:
            assert torch.equal(budgets[name][2 - i], budget[name][0])


@pytest.mark.parametrize("tracer", [False, True])
def test_batches_in_torch_agree_with_trajectories_one_by_one(tracer: bool) -> None:
    """With other environments and other numbers of steps."""
    system = system_with(tracer, *ALL[: 7 + tracer])
    environments = torch.cat(
        [drawn_environment(system, GRID, seed=i) for i in range(4)]
    )
    wind = system.environment_fields.slices()["mean_flow"]
    environments[:, wind] *= torch.arange(4.0)[:, None, None, None]
    start = start_of(system, count=4)
    start[1:3] *= 3.0
    found, exact = (
        FlowSolver(system, GRID, environments, DT, compiled=c).step(start)
        for c in (False, True)
    )
    assert relative_difference(found[0], exact[0]) <= 1e-12
    for name, change in exact[1].items():
        assert (found[1][name] - change).abs().max() <= 1e-12 * max(
            1.0, float(change.abs().max())
        )
    rates, alone = (
        system.rates(start[rows], GRID, environments[rows]) for rows in (range(4), [2])
    )
    for name, rate in alone.items():
        assert (rates[name][2] - rate[0]).abs() <= 1e-12 * max(1.0, float(rate.abs()))


def test_the_device_and_the_gradient_choose() -> None:
    system, start = Flow(), drawn_states(LAW, GRID, count=1)
    plain = FlowSolver(system, GRID, no_environment(GRID), DT)(start)
    torch_only, compiled = (
        FlowSolver(system, GRID, no_environment(GRID), DT, compiled=c)(start)
        for c in (False, True)
    )
    assert torch.equal(plain, compiled)
    assert not torch.equal(plain, torch_only)
    wanted = start.clone().requires_grad_()
    found = FlowSolver(system, GRID, no_environment(GRID), DT)(wanted)
    assert torch.equal(found.detach(), torch_only)


def test_the_gradient_is_the_difference_quotient() -> None:
    phi = FlowSolver(Flow(), GRID, no_environment(GRID), DT)
    start = drawn_states(LAW, GRID, count=2)
    u, tangent = start[:1].clone().requires_grad_(), start[1:]
    phi(u)[:, 2].square().sum().backward()
    assert u.grad is not None
    exact = float((u.grad * tangent).sum())
    ahead, behind = (phi(start[:1] + h * tangent) for h in (1e-5, -1e-5))
    change = ahead[:, 2].square().sum() - behind[:, 2].square().sum()
    assert float(change) / 2e-5 == pytest.approx(exact, rel=1e-8)


def test_single_precision_is_computed_in_double() -> None:
    phi, start = (
        FlowSolver(Flow(), GRID, no_environment(GRID), DT),
        drawn_states(LAW, GRID),
    )
    assert torch.equal(phi(start.float()), phi(start.float().double()))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("channel", "field"), [(1, "velocity"), (3, "tracer")])
def test_a_lost_state_is_named(
    channel: int, field: str, value: float, compiled: bool
) -> None:
    phi = FlowSolver(
        Flow(tracer=True), GRID, no_environment(GRID), DT, compiled=compiled
    )
    state = start_of(Flow(tracer=True))
    for _ in range(2):
        state, _ = phi.step(state)
    state[1, channel, 3, 4] = value
    with pytest.raises(SimulationError) as told:
        phi(state)
    assert str(told.value).startswith(
        f"trajectory 1: {field} is not finite at time 0 of the frame: "
    )
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("compiled", [False, True])
def test_too_large_steps_end_in_a_named_loss(compiled: bool) -> None:
    phi = FlowSolver(
        Flow(), GRID, no_environment(GRID), 1.0, steps=5, compiled=compiled
    )
    start = 30 * drawn_states(LAW, GRID)
    message = "^trajectory 0: velocity is not finite at time 1 of the frame, and 1 more"
    with pytest.raises(SimulationError, match=message):
        phi.step(start)
    own = FlowSolver(Flow(), GRID, no_environment(GRID), 0.1, compiled=compiled)
    assert own(start).isfinite().all()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_flow_that_needs_too_many_steps_is_refused(compiled: bool) -> None:
    phi = FlowSolver(Flow(), GRID, no_environment(GRID), DT, compiled=compiled)
    start = drawn_states(LAW, GRID)
    start[1] *= 1e9
    with pytest.raises(SimulationError) as told:
        phi(start)
    message = str(told.value)
    assert message.startswith("trajectory 1: velocity moves too fast (")
    assert "at most 100000) at time 0 of the frame: lower the speed" in message
    assert "\n" not in message


def test_one_wave_takes_as_many_steps_wherever_it_stands() -> None:
    """Round-off does not decide where the bound meets a whole number."""
    x = GRID.mesh()[0]
    # Strain limits, at 2 pi / STRAIN steps per unit of time.
    dt = 5 * STRAIN / (2 * math.pi)
    for shift in np.linspace(0, 1, 50, endpoint=False):
        angle = 2 * np.pi * (x - shift)
        wave = np.stack([0 * x, np.sin(angle), 2 * np.pi * np.cos(angle)])
        ends = [
            FlowSolver(Flow(), GRID, no_environment(GRID), dt, steps)(
                torch.from_numpy(wave)[None]
            )
            for steps in (None, 5)
        ]
        assert torch.equal(*ends)
