"""Flow with a tracer: what it shares with the flow without one, and the lift."""

import math

import numpy as np
import pytest
import torch
from helpers import (
    drawn_environment,
    drawn_states,
    observed_order,
    relative_defect,
    relative_difference,
)
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import GroupElement, point_group
from pde_sym.initial_conditions import InitialLaw, RandomField
from pde_sym.simulate import simulate
from pde_sym.symmetry import act
from pde_sym.systems.flow import Flow
from pde_sym.systems.flow_advance import Advance
from pde_sym.systems.flow_dynamics import Modes, medium_of, spectrum_of
from pde_sym.systems.flow_initial import RandomVorticity
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
LAW = RandomVorticity(modes=3, mean=0.6, tracer=RandomField(modes=3))
CARRYING = Flow(tracer=True)
SPEC = CARRYING.fields
ELEMENTS = [
    *point_group("D4"),
    GroupElement(shift=(0.25, 0.5)),
    GroupElement(shift=(0.1234, 0.777)),
]
LIFTS = {
    angle: Buoyancy(strength=5.0, angle=angle) for angle in (90.0, 0.0, 45.0, 30.0)
}


def states(count: int = 2, grid: PeriodicGrid = GRID) -> Tensor:
    return drawn_states(LAW, grid, count, seed=3, system=CARRYING)


def flow(*terms: FlowTerm, steps: int | None = None, dt: float = DT) -> FlowSolver:
    system = Flow(tracer=True, breaking=terms)  # type: ignore[arg-type]
    return FlowSolver(system, GRID, drawn_environment(system, GRID), dt, steps)


def test_a_passive_tracer_leaves_the_flow_alone() -> None:
    plain = FlowSolver(Flow(), GRID, torch.zeros(1, 0, *GRID.shape), DT)
    assert torch.equal(flow()(states())[:, :3], plain(states()[:, :3]))
    assert not torch.equal(flow(LIFTS[90.0])(states())[:, :3], flow()(states())[:, :3])


def test_completing_a_state_keeps_the_tracer() -> None:
    found = CARRYING.complete(states()[:, SPEC.prognostic_channels], GRID)
    assert torch.equal(found[:, 3], states()[:, 3])
    assert relative_difference(found, states()) <= 1e-13


@pytest.mark.parametrize("kind", Flow.initial_laws)
def test_the_velocity_of_a_draw_is_the_same_with_and_without(
    kind: type[InitialLaw],
) -> None:
    law, grid = kind.model_validate({}), PeriodicGrid.square(32)
    alone, carrying = (
        system.sample_initial(law, grid, np.random.default_rng(1))
        for system in (Flow(), CARRYING)
    )
    assert np.array_equal(carrying[:3], alone)
    assert alone.shape == (Flow().fields.num_channels, 32, 32)
    assert carrying.shape == (CARRYING.fields.num_channels, 32, 32)
    other = CARRYING.sample_initial(law, grid, np.random.default_rng(2))
    for channels in (slice(0, 3), slice(3, 4)):
        assert np.abs(other[channels] - carrying[channels]).max() >= 0.1


def test_a_uniform_tracer_stays_and_a_wave_is_carried_by_the_mean() -> None:
    x = torch.from_numpy(GRID.mesh()[0])
    mean, kappa, k, dt = 0.8, CARRYING.diffusivity, 4 * math.pi, 0.3
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
    if element in Flow(breaking=terms).survivors:
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
    system = Flow(tracer=True, breaking=tuple(terms))  # type: ignore[arg-type]
    grid = PeriodicGrid.square(24)
    environment = drawn_environment(system, grid)
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
    system = Flow(breaking=(LIFTS[angle],))
    environment, u = drawn_environment(system, GRID), states(1)
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
    zero, intact = Flow(breaking=(Buoyancy(),)), CARRYING
    assert zero.survivors == intact.survivors
    assert zero.properties == intact.properties
    runs = [
        simulate(s, GRID, states(), drawn_environment(s, GRID), dt=DT, num_frames=3)
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
    system = Flow(breaking=(LIFTS[90.0],))
    assert system.properties == {FlowProperty.GALILEI}
    u, environment = states(), drawn_environment(system, GRID)
    rates = system.rates(u, GRID, environment)
    kept = CARRYING.rates(u, GRID, environment)
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


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_buoyancy_brings_the_tracer(strength: float) -> None:
    term = {"kind": "buoyancy", "strength": strength}
    system = Flow.parse({"breaking": [term]}, where="system")
    assert system.tracer
    assert system.fields == CARRYING.fields
    assert system.invariants == CARRYING.invariants
    assert Flow.parse(system.model_dump(mode="json"), where="again") == system
    own = {"viscosity": 5e-3, "diffusivity": 8e-3}
    assert CARRYING.scalars() == own
    assert system.scalars() == own | {"strength_buoyancy": strength}


def test_without_a_tracer_nothing_speaks_of_it() -> None:
    system = Flow(breaking=(Drag(strength=1.0),))
    assert not system.tracer
    assert system.fields.names == ("velocity", "vorticity")
    assert not any("tracer" in i.name for i in system.invariants)
    assert set(system.scalars()) == {"viscosity", "strength_drag"}
    # The class lists what a flow may have.
    assert Flow.fields == CARRYING.fields
    assert Flow.invariants == CARRYING.invariants
    assert Flow.parse(system.model_dump(mode="json"), where="again") == system


def test_what_is_of_the_tracer_is_refused_without_one() -> None:
    with pytest.raises(InputError, match="diffusivity is that of a tracer") as one:
        Flow.parse({"diffusivity": 0.01}, where="system")
    with pytest.raises(InputError, match=r"initial\.tracer: the flow carries") as other:
        Flow().sample_initial(LAW, GRID, np.random.default_rng(0))
    for told in (one, other):
        assert "expected tracer=true or the term buoyancy" in str(told.value)
        assert "\n" not in str(told.value)
    lifted = {"diffusivity": 0.01, "breaking": [{"kind": "buoyancy"}]}
    for values in ({"diffusivity": 0.01, "tracer": True}, lifted):
        assert Flow.parse(values, where="system").scalars()["diffusivity"] == 0.01


def test_a_draw_is_one_function_on_every_grid() -> None:
    fine, coarse = (states(1, PeriodicGrid.square(n))[0] for n in (64, 32))
    assert (fine[:, ::2, ::2] - coarse).abs().max() <= 1e-12 * fine.abs().max()
    law = LAW.model_copy(update={"tracer": RandomField(modes=6)})
    with pytest.raises(InputError, match=r"initial\.tracer\.modes=6"):
        CARRYING.sample_initial(law, GRID, np.random.default_rng(0))
