"""What every breaking term of the flow keeps and breaks, from both sides."""

import numpy as np
import pytest
import torch
from flow_cases import (
    BROKEN,
    DT,
    ELEMENTS,
    EXACT,
    GRID,
    TERMS,
    environment_of,
    flow,
    states,
)
from helpers import relative_difference

from pde_sym.grid import PeriodicGrid
from pde_sym.groups import FULL, GroupElement
from pde_sym.simulate import simulate
from pde_sym.symmetry import act
from pde_sym.systems.flow import Flow
from pde_sym.systems.flow_advance import Advance
from pde_sym.systems.flow_dynamics import Modes, medium_of, spectrum_of
from pde_sym.systems.flow_terms import (
    FlowProperty,
    FlowTerm,
    Kolmogorov,
)


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
