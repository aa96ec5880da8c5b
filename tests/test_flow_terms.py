"""What every breaking term of the flow keeps and breaks, from both sides."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers import relative_difference
from torch import Tensor

from pde_sym.grid import PeriodicGrid
from pde_sym.groups import FULL, GroupElement, point_group
from pde_sym.simulate import simulate
from pde_sym.symmetry import act
from pde_sym.systems.flow import Flow
from pde_sym.systems.flow_advance import Advance
from pde_sym.systems.flow_dynamics import Modes, medium_of, spectrum_of
from pde_sym.systems.flow_initial import RandomVorticity
from pde_sym.systems.flow_solver import FlowSolver
from pde_sym.systems.flow_terms import (
    Beta,
    Drag,
    FlowProperty,
    FlowTerm,
    Kolmogorov,
    MeanFlow,
    Obstacle,
    Topography,
    Viscosity,
)

GRID = PeriodicGrid.square(16)
DT = 0.02
EXACT, BROKEN = 1e-12, 1e-5

TERMS: dict[str, Any] = {
    "beta": Beta(strength=30.0),
    "beta 0": Beta(strength=30.0, angle=0),
    "beta 45": Beta(strength=30.0, angle=45),
    "beta 30": Beta(strength=30.0, angle=30),
    "drag": Drag(strength=2.0),
    "drag of eddies": Drag(strength=2.0, mean=False),
    "kolmogorov": Kolmogorov(strength=3.0),
    "kolmogorov 3": Kolmogorov(strength=3.0, mode=3),
    "topography": Topography(strength=10.0),
    "topography random": Topography(strength=10.0, profile="random"),
    "mean_flow": MeanFlow(strength=0.8),
    "mean_flow 45": MeanFlow(strength=0.8, angle=45),
    "mean_flow 30": MeanFlow(strength=0.8, angle=30),
    "viscosity": Viscosity(strength=3.0),
    "obstacle": Obstacle(strength=20.0, width=0.05),
}
ELEMENTS = [
    GroupElement(g.turns, g.flip, shift)
    for g, shift in itertools.product(
        point_group("D4"), ((0.0, 0.0), (0.25, 0.0), (0.0, 0.1877))
    )
    if shift == (0.0, 0.0) or g == GroupElement()
]


def environment_of(system: Flow, grid: PeriodicGrid = GRID, seed: int = 5) -> Tensor:
    drawn = system.sample_environment(grid, np.random.default_rng(seed))
    return torch.from_numpy(drawn)[None]


def states(count: int = 2, seed: int = 3, grid: PeriodicGrid = GRID) -> Tensor:
    rng = np.random.default_rng(seed)
    law = RandomVorticity(modes=3, mean=0.6)
    return torch.from_numpy(np.stack([law.sample(grid, rng) for _ in range(count)]))


def flow(
    *terms: FlowTerm,
    dt: float = DT,
    steps: int | None = None,
    viscosity: float = 1e-3,
    environment: Tensor | None = None,
) -> FlowSolver:
    system = Flow(breaking=terms, viscosity=viscosity)  # type: ignore[arg-type]
    if environment is None:
        environment = environment_of(system)
    return FlowSolver(system, GRID, environment, dt, steps)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("element", ELEMENTS, ids=lambda g: g.name)
def test_surviving_subgroup(name: str, element: GroupElement) -> None:
    """Phi(g u) = g Phi(u) to round-off if and only if g survives."""
    system, phi, u = Flow(breaking=(TERMS[name],)), flow(TERMS[name]), states()
    turned = act(element, u, Flow().fields, GRID)
    defect = relative_difference(phi(turned), act(element, phi(u), Flow().fields, GRID))
    if element in system.survivors:
        assert defect <= EXACT
    else:
        assert defect >= BROKEN


EVERY = ("beta 30", "drag", "kolmogorov", "topography random", "mean_flow 30")
ALL = tuple(TERMS[n] for n in (*EVERY, "viscosity", "obstacle"))

WITH_FIELDS = ["topography", "topography random", "mean_flow 30"]
WITH_FIELDS += ["viscosity", "obstacle"]


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda g: g.name)
@pytest.mark.parametrize("name", WITH_FIELDS)
def test_moving_the_environment_too_restores_the_symmetry(
    name: str, element: GroupElement
) -> None:
    """On grid points: off them a field that is not band-limited changes."""
    element = GroupElement(
        element.turns, element.flip, (element.shift[0], round(4 * element.shift[1]) / 4)
    )
    system = Flow(breaking=(TERMS[name],))
    assert system.joint_survivors == FULL
    environment, u = environment_of(system), states()
    turned = act(element, environment, system.environment_fields, GRID)
    left = flow(TERMS[name], environment=turned)(act(element, u, Flow().fields, GRID))
    right = flow(TERMS[name], environment=environment)(u)
    assert relative_difference(left, act(element, right, Flow().fields, GRID)) <= EXACT


def test_joint_survivors_of_a_term_without_a_field() -> None:
    assert Flow(breaking=(TERMS["beta"],)).joint_survivors == TERMS["beta"].survivors


@pytest.mark.parametrize("mode", [2, 3])
def test_kolmogorov_keeps_its_own_period_and_flips_about_its_crests(mode: int) -> None:
    phi, u = flow(Kolmogorov(strength=3.0, mode=mode)), states()
    for element in (
        GroupElement(shift=(0.0, 1 / mode)),
        GroupElement(0, True, (0.0, 1 / (2 * mode))),
    ):
        turned = phi(act(element, u, Flow().fields, GRID))
        assert (
            relative_difference(turned, act(element, phi(u), Flow().fields, GRID))
            <= EXACT
        )


@pytest.mark.parametrize("name", TERMS)
def test_strength_zero_is_the_intact_system_bit_for_bit(name: str) -> None:
    term = TERMS[name].model_copy(update={"strength": 0.0})
    broken, intact = Flow(breaking=(term,)), Flow()
    assert broken.survivors == intact.survivors
    assert broken.properties == intact.properties
    runs = [
        simulate(system, GRID, states(), environment_of(system), dt=DT, num_frames=3)
        for system in (broken, intact)
    ]
    assert torch.equal(runs[0].states, runs[1].states)
    for name in runs[0].invariants:
        assert torch.equal(runs[0].invariants[name], runs[1].invariants[name])
        assert torch.equal(runs[0].budgets[name], runs[1].budgets[name])


TOLERANCE = {"energy": 1e-9, "enstrophy": 1e-8, "momentum_x": 1e-9, "momentum_y": 1e-9}


@pytest.mark.parametrize("name", [*TERMS, "all"])
def test_budgets_close(name: str) -> None:
    """I(t) - I(0) is what the closed forms explain, integrated at the own steps."""
    terms = ALL if name == "all" else (TERMS[name],)
    grid = PeriodicGrid.square(24)
    system = Flow(breaking=terms)
    run = simulate(
        system,
        grid,
        states(grid=grid),
        environment_of(system, grid),
        dt=DT,
        num_frames=4,
    )
    for key, tolerance in TOLERANCE.items():
        value, budget = run.invariants[key], run.budgets[key]
        change = value - value[:, :1]
        assert (change - budget).abs().max() <= tolerance * value.abs().max(), key
        if key in ("energy", "enstrophy"):
            assert change.abs().max() >= 1e-4


@pytest.mark.parametrize("name", [None, *TERMS, "all"])
def test_rates_are_the_derivatives_of_the_invariants(name: str | None) -> None:
    """Without time stepping: the weak form against the solver's own right-hand side."""
    terms = () if name is None else (TERMS[name],) if name != "all" else ALL
    system = Flow(breaking=terms)
    environment, u = environment_of(system), states(1)
    spectrum = spectrum_of(GRID)
    medium = medium_of(system, GRID, environment[0])
    modes = spectrum.decompose(u[0])
    rate = Advance(medium, spectrum).rate(modes)
    omega = rate.omega + medium.linear(spectrum) * modes.omega
    mean = rate.mean - medium.mean_drag * modes.mean
    tangent = spectrum.compose(Modes(omega, mean))[None]
    # The invariants are quadratic, so that a central difference is exact.
    after, before = (
        system.measure(u + sign * tangent, GRID, environment) for sign in (1, -1)
    )
    found = system.rates(u, GRID, environment)
    for key, value in found.items():
        exact = (after[key] - before[key]) / 2
        size = after[key].abs() + before[key].abs() + 1
        assert (value - exact).abs().max() <= 1e-13 * size, key


def violation(which: FlowProperty, term: FlowTerm | None) -> float:
    """Return how far a flow misses a property, relative to what it is about."""
    terms = () if term is None else (term,)
    phi, u = flow(*terms), states()
    intact, system = Flow(), Flow(breaking=terms)  # type: ignore[arg-type]
    match which:
        case FlowProperty.MOMENTUM:
            change = phi(u)[:, :2].mean((-2, -1)) - u[:, :2].mean((-2, -1))
            return float(change.abs().max())
        case FlowProperty.ENERGY | FlowProperty.ENSTROPHY:
            name = which.name.lower()
            kept = intact.rates(u, GRID, torch.zeros(1, 0, *GRID.shape))[name]
            found = system.rates(u, GRID, environment_of(system))[name]
            return float(((found - kept) / kept).abs().max())
        case FlowProperty.GALILEI:
            worst = 0.0
            for speed in ((0.9, 0.0), (0.0, -1.3)):
                boost = torch.tensor([*speed, 0.0], dtype=torch.float64)[:, None, None]
                moved = GroupElement(shift=(speed[0] * DT, speed[1] * DT))
                exact = act(moved, phi(u), Flow().fields, GRID) + boost
                worst = max(worst, relative_difference(phi(u + boost), exact))
            return worst


@pytest.mark.parametrize("name", [None, *TERMS])
@pytest.mark.parametrize("which", FlowProperty)
def test_properties(which: FlowProperty, name: str | None) -> None:
    """Each property holds to round-off, or is missed visibly, as the term says."""
    term = None if name is None else TERMS[name]
    missed = violation(which, term)
    system = Flow(breaking=() if term is None else (term,))
    if which in system.properties:
        assert missed <= EXACT
    else:
        assert missed >= 1e-4


SLOPES = [
    "beta 30",
    "kolmogorov",
    "topography",
    "mean_flow 30",
    "viscosity",
    "obstacle",
]


@pytest.mark.parametrize("name", SLOPES)
def test_defect_is_linear_in_a_small_strength(name: str) -> None:
    u, element = states(), GroupElement(1, True, (0.25, 0.125))
    strengths, measured = np.geomspace(1e-4, 1e-2, 4), []
    for strength in strengths * TERMS[name].strength:
        phi = flow(TERMS[name].model_copy(update={"strength": float(strength)}))
        turned = phi(act(element, u, Flow().fields, GRID))
        measured.append(
            relative_difference(turned, act(element, phi(u), Flow().fields, GRID))
        )
    slope = np.polyfit(np.log(strengths), np.log(measured), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("name", ["drag", "drag of eddies", *SLOPES])
def test_a_small_strength_changes_the_flow_in_proportion(name: str) -> None:
    u, strengths, measured = states(), np.geomspace(1e-4, 1e-2, 4), []
    steps = 6
    # Terms of position are solved at rest, the others in the frame of the mean.
    u[:, :2] -= u[:, :2].mean((-2, -1), keepdim=True)
    intact = flow(steps=steps)(u)
    for strength in strengths * TERMS[name].strength:
        term = TERMS[name].model_copy(update={"strength": float(strength)})
        measured.append(relative_difference(flow(term, steps=steps)(u), intact))
    slope = np.polyfit(np.log(strengths), np.log(measured), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.02)


def wave(mode: tuple[int, int], phase: float = 0.0) -> Tensor:
    x, y = GRID.mesh()
    k = 2 * np.pi * np.array(mode)
    angle = k[0] * x + k[1] * y + phase
    u, v = (part * np.sin(angle) / (k @ k) for part in (-k[1], k[0]))
    return torch.from_numpy(np.stack([u, v, np.cos(angle)]))[None]


@pytest.mark.parametrize("angle", [90.0, 30.0])
def test_rossby_wave_is_exact(angle: float) -> None:
    term, dt = Beta(strength=40.0, angle=angle), 0.5
    k = 2 * np.pi * np.array([2, 1])
    gx, gy = term.direction
    frequency = -term.strength * (gy * k[0] - gx * k[1]) / (k @ k)
    found = flow(term, dt=dt, viscosity=0.0)(wave((2, 1)))
    assert relative_difference(found, wave((2, 1), -frequency * dt)) <= 2e-12
    assert relative_difference(found, wave((2, 1), frequency * dt)) >= 0.1


def test_drag_of_one_wave_and_of_the_mean_is_exact() -> None:
    start = states(1)
    start = wave((2, 1)) + start.mean((-2, -1), keepdim=True)
    for mean in (True, False):
        found = flow(Drag(strength=2.0, mean=mean), viscosity=0.0)(start)
        decay = math.exp(-2.0 * DT)
        averages = start.mean((-2, -1)) * (decay if mean else 1.0)
        assert (found.mean((-2, -1)) - averages).abs().max() <= 1e-13
        assert float(found[:, 2].norm() / start[:, 2].norm()) == pytest.approx(
            decay, abs=1e-12
        )


def test_kolmogorov_flow_from_rest_is_exact() -> None:
    nu, dt, k = 0.02, 0.5, 2 * np.pi * 2
    rest = torch.zeros(1, 3, *GRID.shape, dtype=torch.float64)
    found = flow(Kolmogorov(strength=3.0), dt=dt, viscosity=nu)(rest)
    amplitude = 3.0 / (nu * k**2) * -math.expm1(-nu * k**2 * dt)
    y = torch.from_numpy(GRID.mesh()[1])
    assert (found[0, 0] - amplitude * torch.sin(k * y)).abs().max() <= 1e-12
    assert found[0, 1].abs().max() <= 1e-13


def test_topography_keeps_energy_and_the_square_of_q() -> None:
    term = TERMS["topography random"]
    system = Flow(breaking=(term,), viscosity=0.0)
    environment = environment_of(system)
    # Noise of few modes lies inside the modes that are kept, as the law needs.
    start = states()
    end = flow(term, viscosity=0.0, environment=environment, steps=40)(start)

    def casimirs(state: Tensor) -> Tensor:
        q = state[:, 2] + environment[:, 0]
        energy = state[:, :2].square().mean((-3, -2, -1))
        return torch.stack([energy, q.square().mean((-2, -1))])

    before, after = casimirs(start), casimirs(end)
    assert ((after - before) / before).abs().max() <= 1e-9
    w = [state[:, 2].square().mean((-2, -1)) for state in (start, end)]
    assert ((w[1] - w[0]) / w[0]).abs().max() >= 1e-4


@pytest.mark.parametrize("angle", [0.0, 30.0])
def test_mean_flow_is_an_exact_shift_of_the_intact_flow(angle: float) -> None:
    u, term = states(), MeanFlow(strength=0.8, angle=angle)
    moved = GroupElement(
        shift=(0.8 * term.direction[0] * DT, 0.8 * term.direction[1] * DT)
    )
    exact = act(moved, flow()(u), Flow().fields, GRID)
    assert relative_difference(flow(term)(u), exact) <= EXACT
    assert relative_difference(flow()(u), exact) >= 1e-3


def test_a_uniform_excess_of_viscosity_is_viscosity() -> None:
    """The explicit stress against the implicit Laplacian."""
    u = states()
    environment = torch.full((1, 1, *GRID.shape), 2.5e-3, dtype=torch.float64)
    found = flow(Viscosity(strength=1.0), environment=environment, steps=50)(u)
    exact = flow(viscosity=2.5e-3, steps=50)(u)
    assert relative_difference(found, exact) <= 1e-9
    assert relative_difference(found, flow(steps=50)(u)) >= 1e-3


def test_a_uniform_obstacle_is_drag() -> None:
    u = states()
    environment = torch.full((1, 1, *GRID.shape), 2.0, dtype=torch.float64)
    found = flow(Obstacle(strength=2.0), environment=environment, steps=50)(u)
    assert relative_difference(found, flow(Drag(strength=2.0), steps=50)(u)) <= 1e-9


def test_a_strong_obstacle_stops_the_flow_inside() -> None:
    speeds = []
    for strength in (1.0, 100.0, 1000.0):
        term = Obstacle(strength=strength, radius=0.25, width=0.05)
        phi, u = flow(term, dt=0.05), states(1)
        for _ in range(4):
            u = phi(u)
        middle = u[0, :2, 7:10, 7:10]
        speeds.append(float(middle.square().mean().sqrt()))
    assert speeds[0] > 10 * speeds[1] > 0
    assert speeds[1] > speeds[2]


def test_a_sharp_obstacle_tends_to_a_solid_with_the_root_of_its_strength() -> None:
    grid, dt = PeriodicGrid.square(64), 0.03
    x, y = (m - 0.5 for m in grid.mesh())
    disk = torch.from_numpy((np.hypot(x, y) < 0.25).astype(float))
    strengths = [100.0 * 2**i for i in range(5)]
    ends = []
    for strength in strengths:
        system = Flow(breaking=(Obstacle(strength=strength),), viscosity=0.1)
        phi = system.solver(grid, strength * disk[None, None], dt)
        ends.append(phi(states(1, grid=grid))[0, :2])
    steps = [float((a - b).norm()) for a, b in itertools.pairwise(ends)]
    slope = np.polyfit(np.log(strengths[:-1]), np.log(steps), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.12)


@pytest.mark.parametrize("name", ["viscosity", "obstacle", "topography", "beta 30"])
def test_a_great_strength_takes_more_steps_and_stays_finite(name: str) -> None:
    term = TERMS[name].model_copy(update={"strength": 30 * TERMS[name].strength})
    found = flow(term)(states())
    exact = flow(term, steps=200)(states())
    assert relative_difference(found, exact) <= 1e-5


def test_scalars_and_fields_say_what_is_there() -> None:
    assert Flow().scalars() == {"viscosity": 5e-3}
    assert Flow(breaking=ALL).scalars() == {
        f"strength_{t.kind}": t.strength for t in ALL
    }
    assert Flow(breaking=ALL).environment_fields.channel_names == (
        "topography",
        "mean_flow_x",
        "mean_flow_y",
        "viscosity",
        "obstacle",
    )
    assert {t.model_fields["kind"].default for t in Flow.terms} == {
        t.kind for t in TERMS.values()
    } | {"buoyancy"}
