"""Flow with a tracer: what it shares with the plain flow, and the lift."""

import math

import numpy as np
import pytest
import torch
from helpers import observed_order, relative_defect, relative_difference
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import GroupElement, point_group
from pde_sym.initial_conditions import RandomField
from pde_sym.simulate import simulate
from pde_sym.symmetry import act
from pde_sym.systems.flow import Flow, FlowSystem, TracerFlow
from pde_sym.systems.flow_advance import Advance
from pde_sym.systems.flow_dynamics import Modes, medium_of, spectrum_of
from pde_sym.systems.flow_initial import RandomVorticity, RandomVorticityAndTracer
from pde_sym.systems.flow_solver import FlowSolver
from pde_sym.systems.flow_terms import (
    Buoyancy,
    Drag,
    FlowProperty,
    FlowTerm,
    Kolmogorov,
    MeanFlow,
    Obstacle,
)

GRID = PeriodicGrid.square(16)
DT = 0.02
LAW = RandomVorticityAndTracer(
    flow=RandomVorticity(modes=3, mean=0.6), tracer=RandomField(modes=3)
)
SPEC = TracerFlow.fields
ELEMENTS = [
    *point_group("D4"),
    GroupElement(shift=(0.25, 0.5)),
    GroupElement(shift=(0.1234, 0.777)),
]
LIFTS = {
    angle: Buoyancy(strength=5.0, angle=angle) for angle in (90.0, 0.0, 45.0, 30.0)
}


def states(count: int = 2, grid: PeriodicGrid = GRID) -> Tensor:
    rng = np.random.default_rng(3)
    return torch.from_numpy(np.stack([LAW.sample(grid, rng) for _ in range(count)]))


def environment_of(system: TracerFlow, grid: PeriodicGrid = GRID) -> Tensor:
    drawn = system.sample_environment(grid, np.random.default_rng(5))
    return torch.from_numpy(drawn)[None]


def flow(*terms: FlowTerm, steps: int | None = None, dt: float = DT) -> FlowSolver:
    system = TracerFlow(breaking=terms)  # type: ignore[arg-type]
    return FlowSolver(system, GRID, environment_of(system), dt, steps)


def test_a_passive_tracer_leaves_the_flow_alone() -> None:
    plain = FlowSolver(Flow(), GRID, torch.zeros(1, 0, *GRID.shape), DT)
    assert torch.equal(flow()(states())[:, :3], plain(states()[:, :3]))
    assert not torch.equal(flow(LIFTS[90.0])(states())[:, :3], flow()(states())[:, :3])


def test_completing_a_state_keeps_the_tracer() -> None:
    found = TracerFlow().complete(states()[:, SPEC.prognostic_channels], GRID)
    assert torch.equal(found[:, 3], states()[:, 3])
    assert relative_difference(found, states()) <= 1e-13


@pytest.mark.parametrize("system", [Flow, TracerFlow])
def test_every_law_gives_a_state_that_the_system_takes(
    system: type[FlowSystem],
) -> None:
    for law in system.initial_laws:
        grid = system.grid(32, system.default_length)
        drawn = law.model_validate({}).sample(grid, np.random.default_rng(0))
        assert drawn.shape == (system.fields.num_channels, 32, 32)


def test_a_uniform_tracer_stays_and_a_wave_is_carried_by_the_mean() -> None:
    x = torch.from_numpy(GRID.mesh()[0])
    mean, kappa, k, dt = 0.8, TracerFlow().diffusivity, 4 * math.pi, 0.3
    state = torch.zeros(1, 4, *GRID.shape, dtype=torch.float64)
    state[0, 0], state[0, 3] = mean, 2.0 + torch.cos(k * x)
    found = flow(dt=dt)(state)[0, 3]
    exact = 2.0 + math.exp(-kappa * k**2 * dt) * torch.cos(k * (x - mean * dt))
    assert (found - exact).abs().max() <= 1e-13


def test_a_uniform_tracer_lifts_the_mean_flow() -> None:
    state = torch.zeros(1, 4, *GRID.shape, dtype=torch.float64)
    state[0, 3] = 0.5
    found = flow(LIFTS[90.0])(state)[0].mean((-2, -1))
    exact = torch.tensor([0.0, 5.0 * 0.5 * DT, 0.0, 0.5], dtype=torch.float64)
    assert (found - exact).abs().max() <= 1e-15


def test_order_four() -> None:
    start, counts, errors = states(), [8, 12, 16, 24], []
    exact = flow(LIFTS[30.0], steps=192, dt=0.05)(start)
    for n in counts:
        found = flow(LIFTS[30.0], steps=n, dt=0.05)(start)
        errors.append(relative_difference(found[:, 3], exact[:, 3]))
    order = observed_order([1 / n for n in counts], errors)
    assert order == pytest.approx(4.0, abs=0.35)


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda g: g.name)
@pytest.mark.parametrize("angle", [None, *LIFTS])
def test_surviving_subgroup(angle: float | None, element: GroupElement) -> None:
    terms = () if angle is None else (LIFTS[angle],)
    defect = relative_defect(flow(*terms), states(), element, SPEC, GRID)
    if element in TracerFlow(breaking=terms).survivors:
        assert defect <= 1e-12
    else:
        assert defect >= 1e-5


TERMS: dict[str, FlowTerm] = {
    "buoyancy": LIFTS[30.0],
    "drag": Drag(strength=2.0),
    "kolmogorov": Kolmogorov(strength=3.0),
    "mean_flow": MeanFlow(strength=0.8, angle=30.0),
    "obstacle": Obstacle(strength=20.0, width=0.05),
}


@pytest.mark.parametrize("name", [None, *TERMS, "all"])
def test_budgets_close(name: str | None) -> None:
    terms = () if name is None else (TERMS[name],) if name in TERMS else TERMS.values()
    system = TracerFlow(breaking=tuple(terms))  # type: ignore[arg-type]
    grid = PeriodicGrid.square(24)
    environment = environment_of(system, grid)
    run = simulate(system, grid, states(2, grid), environment, dt=DT, num_frames=4)
    assert set(run.budgets) == {invariant.name for invariant in system.invariants}
    for key, value in run.invariants.items():
        change, size = value - value[:, :1], value.abs().max()
        if key == "divergence":
            assert size <= 1e-12
            continue
        tolerance = 1e-8 if key in ("enstrophy", "tracer_variance") else 1e-9
        assert (change - run.budgets[key]).abs().max() <= tolerance * size, key
        if key in ("energy", "enstrophy", "tracer_variance"):
            assert change.abs().max() >= 1e-4


@pytest.mark.parametrize("angle", LIFTS)
def test_rates_are_the_derivatives_of_the_invariants(angle: float) -> None:
    system = TracerFlow(breaking=(LIFTS[angle],))
    environment, u = environment_of(system), states(1)
    spectrum, medium = spectrum_of(GRID), medium_of(system, GRID, environment[0])
    modes = spectrum.decompose(u[0])
    advance = Advance(medium, spectrum)
    linear, _, _ = advance.unpack(advance.linear())
    rate = advance.rate(modes)
    assert modes.tracer is not None
    assert rate.tracer is not None
    assert linear.tracer is not None
    tangent = spectrum.compose(
        Modes(
            rate.omega + linear.omega * modes.omega,
            rate.mean + linear.mean * modes.mean,
            rate.tracer + linear.tracer * modes.tracer,
        )
    )[None]
    # The invariants are quadratic, so that a central difference is exact.
    after, before = (
        system.measure(u + sign * tangent, GRID, environment) for sign in (1, -1)
    )
    for key, value in system.rates(u, GRID, environment).items():
        size = after[key].abs() + before[key].abs() + 1
        assert (value - (after[key] - before[key]) / 2).abs().max() <= 1e-13 * size


def test_strength_zero_is_the_intact_system_bit_for_bit() -> None:
    zero, intact = TracerFlow(breaking=(Buoyancy(),)), TracerFlow()
    assert zero.survivors == intact.survivors
    assert zero.properties == intact.properties
    runs = [
        simulate(s, GRID, states(), environment_of(s), dt=DT, num_frames=3)
        for s in (zero, intact)
    ]
    assert torch.equal(runs[0].states, runs[1].states)
    for name, budget in runs[0].budgets.items():
        assert torch.equal(budget, runs[1].budgets[name])


@pytest.mark.parametrize("lifted", [False, True])
def test_galilei_boosts_survive(lifted: bool) -> None:
    phi, u = flow(*([LIFTS[30.0]] if lifted else [])), states()
    boost = torch.tensor([0.9, -1.3, 0, 0], dtype=torch.float64)[:, None, None]
    moved = GroupElement(shift=(0.9 * DT, -1.3 * DT))
    exact = act(moved, phi(u), SPEC, GRID) + boost
    assert relative_difference(phi(u + boost), exact) <= 1e-12


def test_the_lift_breaks_the_budgets_and_the_momentum() -> None:
    system = TracerFlow(breaking=(LIFTS[90.0],))
    assert system.properties == {FlowProperty.GALILEI}
    u, environment = states(), environment_of(system)
    rates = system.rates(u, GRID, environment)
    kept = TracerFlow().rates(u, GRID, environment)
    for name in ("momentum_y", "energy", "enstrophy"):
        assert (rates[name] - kept[name]).abs().min() >= 1e-2
    assert rates["momentum_x"].abs().max() == 0


def test_defect_is_linear_in_a_small_strength() -> None:
    u, strengths, measured = states(), np.geomspace(1e-3, 1e-1, 4), []
    for strength in strengths:
        phi = flow(Buoyancy(strength=float(strength)))
        measured.append(relative_defect(phi, u, GroupElement(1), SPEC, GRID))
    slope = np.polyfit(np.log(strengths), np.log(measured), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.02)


def test_only_a_flow_with_a_tracer_is_lifted() -> None:
    values = {"breaking": [{"kind": "buoyancy", "strength": 1.0}]}
    with pytest.raises(InputError, match="breaking"):
        Flow.parse(values, where="system")
    system = TracerFlow.parse(values, where="system")
    assert system.scalars() == {
        "viscosity": 5e-3,
        "diffusivity": 8e-3,
        "strength_buoyancy": 1.0,
    }


def test_a_draw_is_one_function_on_every_grid() -> None:
    fine, coarse = (
        LAW.sample(PeriodicGrid.square(n), np.random.default_rng(3)) for n in (64, 32)
    )
    assert np.abs(fine[:, ::2, ::2] - coarse).max() <= 1e-12 * np.abs(fine).max()
    law = LAW.model_copy(update={"tracer": RandomField(modes=6)})
    with pytest.raises(InputError, match=r"initial\.tracer\.modes=6"):
        law.sample(GRID, np.random.default_rng(0))
