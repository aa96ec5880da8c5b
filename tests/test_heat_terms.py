"""What every breaking term keeps and breaks, from both sides, on the solver itself."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import drawn_environment, drawn_states, relative_difference
from torch import Tensor

from pde_sym.fields import FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import GroupElement, point_group
from pde_sym.initial_conditions import RandomField
from pde_sym.simulate import simulate
from pde_sym.symmetry import act
from pde_sym.systems import Heat, Property
from pde_sym.systems.heat import HeatTerm
from pde_sym.systems.heat_terms import (
    Anisotropy,
    Bubbles,
    Capacity,
    Drift,
    Nonlinear,
    Sink,
    Source,
)

GRID = PeriodicGrid.square(16)
DT = 1e-3
EXACT, BROKEN = 1e-12, 1e-5

TERMS: dict[str, HeatTerm] = {
    "bubbles": Bubbles(strength=0.6),
    "anisotropy 0": Anisotropy(strength=0.4),
    "anisotropy 45": Anisotropy(strength=0.4, angle=45),
    "anisotropy 135": Anisotropy(strength=0.4, angle=-45),
    "anisotropy 30": Anisotropy(strength=0.4, angle=30),
    "sink": Sink(strength=30.0),
    "sink bump": Sink(strength=30.0, profile="bump"),
    "drift 0": Drift(strength=5.0),
    "drift 90": Drift(strength=5.0, angle=90),
    "drift 45": Drift(strength=5.0, angle=45),
    "drift 30": Drift(strength=5.0, angle=30),
    "nonlinear": Nonlinear(strength=0.2),
    "source": Source(strength=200.0),
    "source balanced": Source(strength=200.0, balanced=True),
    "capacity": Capacity(strength=3.0),
}
ELEMENTS = [
    GroupElement(g.turns, g.flip, shift)
    for g, shift in itertools.product(
        point_group("D4"), ((0.0, 0.0), (0.25, 0.0), (0.0, 0.3125))
    )
    if shift == (0.0, 0.0) or g == GroupElement()
]


def environment_of(system: Heat, seed: int = 5) -> Tensor:
    return drawn_environment(system, GRID, seed)


def states(count: int = 2, seed: int = 3) -> Tensor:
    return drawn_states(RandomField(modes=4), GRID, count, seed)


def flow(system: Heat, environment: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    if environment is None:
        environment = environment_of(system)
    return system.solver(GRID, environment, DT)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("element", ELEMENTS, ids=lambda g: g.name)
def test_surviving_subgroup(name: str, element: GroupElement) -> None:
    """Phi(g u) = g Phi(u) to round-off if and only if g survives."""
    system = Heat(breaking=(TERMS[name],))
    phi, u = flow(system), states()
    turned = act(element, u, Heat.fields, GRID)
    defect = relative_difference(phi(turned), act(element, phi(u), Heat.fields, GRID))
    if element in system.survivors:
        assert defect <= EXACT
    else:
        assert defect >= BROKEN


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda g: g.name)
@pytest.mark.parametrize("name", ["bubbles", "sink bump", "source", "capacity"])
def test_moving_the_environment_too_restores_the_symmetry(
    name: str, element: GroupElement
) -> None:
    system = Heat(breaking=(TERMS[name],))
    environment, u = environment_of(system), states()
    spec: FieldSpec = system.environment_fields
    turned = act(element, environment, spec, GRID)
    left = flow(system, turned)(act(element, u, Heat.fields, GRID))
    right = act(element, flow(system, environment)(u), Heat.fields, GRID)
    assert relative_difference(left, right) <= EXACT


def test_intact_flow_commutes_with_shifts_off_the_grid() -> None:
    phi, u = flow(Heat()), states()
    shift = GroupElement(shift=(0.1234, 0.777))
    left = phi(act(shift, u, Heat.fields, GRID))
    right = act(shift, phi(u), Heat.fields, GRID)
    assert relative_difference(left, right) <= EXACT


def violation(which: Property, system: Heat) -> float:
    """Return how far the flow misses a property, relative to its result."""
    environment = environment_of(system)
    phi, (u, v) = flow(system, environment), states(2).split(1)
    a, b = phi(u), phi(v)
    scale = torch.linalg.vector_norm(a)

    def missed(x: Tensor) -> float:
        return float(torch.linalg.vector_norm(x) / scale)

    def measured(name: str, state: Tensor) -> Tensor:
        return system.measure(state, GRID, environment)[name]

    match which:
        case Property.SUPERPOSITION:
            return missed(phi(0.7 * u - 0.4 * v) - (0.7 * a - 0.4 * b))
        case Property.SIGN:
            return missed(phi(-u) + a)
        case Property.OFFSET:
            return missed(phi(u + 0.5) - a - 0.5)
        case Property.SELF_ADJOINT:
            return float(((v * a).sum() - (u * b).sum()).abs() / scale**2)
        case Property.MAXIMUM_PRINCIPLE:
            # A single hot point is the hardest start; a negated one tests the minimum.
            spike = torch.zeros_like(u)
            spike[..., 3, 5] = 1.0
            above, below = phi(spike), phi(-spike)
            warm = phi(spike + 1.0)
            return max(
                float(-above.min()),
                float(above.max() - 1),
                float(below.max()),
                float(1.0 - warm.min()),
            )
        case Property.HEAT | Property.WEIGHTED_HEAT:
            name = "heat" if which is Property.HEAT else "weighted_heat"
            return float((measured(name, a) - measured(name, u)).abs())
        case Property.ENERGY_DECAY:
            low = 0.01 * u
            grown = measured("energy", phi(low)) - measured("energy", low)
            return max(0.0, float(grown))


@pytest.mark.parametrize("name", [None, *TERMS])
@pytest.mark.parametrize("which", Property)
def test_properties(which: Property, name: str | None) -> None:
    """Each property holds to round-off, or is missed visibly, as the term says."""
    system = Heat(breaking=() if name is None else (TERMS[name],))
    missed = violation(which, system)
    if which in system.properties:
        # A nonlinear flow is solved to a tolerance, a linear one to round-off.
        assert missed <= (EXACT if system.is_linear else 1e-8)
    else:
        assert missed >= 1e-6


@pytest.mark.parametrize("name", TERMS)
def test_strength_zero_is_the_intact_system_bit_for_bit(name: str) -> None:
    term = TERMS[name].model_copy(update={"strength": 0.0})
    broken, intact = Heat(breaking=(term,)), Heat()
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


@pytest.mark.parametrize("name", [*TERMS, "all"])
def test_budgets_close(name: str) -> None:
    """I(t) - I(0) is what the weak form explains, integrated at the solver's steps."""
    linear = ("bubbles", "anisotropy 30", "sink bump", "drift 30", "source", "capacity")
    together = (*(TERMS[n] for n in linear), Nonlinear(strength=0.1))
    terms = together if name == "all" else (TERMS[name],)
    system = Heat(breaking=terms)
    run = simulate(system, GRID, states(), environment_of(system), dt=DT, num_frames=4)
    for invariant in Heat.invariants:
        value, budget = run.invariants[invariant.name], run.budgets[invariant.name]
        change = value - value[:, :1]
        assert (change - budget).abs().max() <= 1e-9, invariant.name
        if invariant.name == "energy":
            assert change.abs().max() >= 1e-3


@pytest.mark.parametrize(
    "name", ["bubbles", "anisotropy 0", "drift 30", "source", "sink bump", "capacity"]
)
def test_defect_is_linear_in_a_small_strength(name: str) -> None:
    u = states()
    element = GroupElement(1, True, (0.25, 0.0))
    strengths, measured = np.geomspace(1e-4, 1e-2, 4), []
    for strength in strengths * TERMS[name].strength:
        term = TERMS[name].model_copy(update={"strength": float(strength)})
        phi = flow(Heat(breaking=(term,)))
        turned = phi(act(element, u, Heat.fields, GRID))
        measured.append(
            relative_difference(turned, act(element, phi(u), Heat.fields, GRID))
        )
    slope = np.polyfit(np.log(strengths), np.log(measured), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.02)
