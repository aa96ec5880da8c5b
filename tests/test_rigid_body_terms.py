"""What every breaking term of the rigid body keeps and breaks, from both sides."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import observed_order, relative_difference
from rigid_bodies import (
    DT,
    GRID,
    INERTIAS,
    NO_FIELDS,
    OBLIQUE,
    TERMS,
    attitude_of,
    body,
    channels,
    equation,
    flow,
    integrated,
    states,
    terms_of,
)
from torch import Tensor

from pde_sym.simulate import simulate
from pde_sym.systems.rigid_body import RigidBody
from pde_sym.systems.rigid_body_exact import free_motion
from pde_sym.systems.rigid_body_symmetry import (
    BodyAction,
    Rotation,
)
from pde_sym.systems.rigid_body_terms import (
    Asymmetry,
    BodyProperty,
    DoubleBracket,
    Friction,
    Gravity,
    Gyrostat,
    InertiaModulation,
    Torque,
)

BROKEN = 1e-3
STRENGTHS = (1e-4, 5e-4, 2e-3, 1e-2)
Defect = Callable[[RigidBody, Tensor], float]


def _change(names: tuple[str, ...]) -> Defect:
    def defect(system: RigidBody, u: Tensor) -> float:
        before, after = (
            system.measure(x, GRID, NO_FIELDS) for x in (u, flow(system)(u))
        )
        return max(float((after[n] - before[n]).abs().max()) for n in names)

    return defect


def _reversal(system: RigidBody, u: Tensor) -> float:
    def turned(state: Tensor) -> Tensor:
        state = state.clone()
        state[:, :3] *= -1
        if "phase_sin" in system.fields.names:
            state[:, system.fields.slices()["phase_sin"]] *= -1
        return state

    phi = flow(system)
    return relative_difference(turned(phi(turned(phi(u)))), u)


def _scaling(system: RigidBody, u: Tensor) -> float:
    s = 1.7
    scale = torch.ones_like(u)
    scale[:, :3] = s
    faster = flow(system, DT / s)(scale * u)
    return relative_difference(faster, scale * flow(system)(u))


def _time(system: RigidBody, u: Tensor) -> float:
    """Two frames, the clock set back between them, against one of twice the length."""
    phi, phase = flow(system), ("phase_cos", "phase_sin")
    halfway = phi(u)
    for name in phase:
        if name in system.fields.names:
            at = system.fields.slices()[name]
            halfway[:, at] = u[:, at]
    twice, once = phi(halfway)[:, :3], flow(system, 2 * DT)(u)[:, :3]
    return relative_difference(twice, once)


DEFECTS: dict[BodyProperty, Defect] = {
    BodyProperty.CASIMIR: _change(("casimir",)),
    BodyProperty.ENERGY: _change(("energy",)),
    BodyProperty.SPATIAL_MOMENTUM: _change(
        tuple(f"spatial_momentum_{axis}" for axis in "xyz")
    ),
    BodyProperty.REVERSAL: _reversal,
    BodyProperty.SCALING: _scaling,
    BodyProperty.TIME: _time,
}


@pytest.mark.parametrize("name", [None, *TERMS, "all"])
@pytest.mark.parametrize("prop", BodyProperty, ids=lambda p: p.name.lower())
def test_properties(name: str | None, prop: BodyProperty) -> None:
    """Each holds to the accuracy of the splitting if and only if it is not broken."""
    system = body(*terms_of(name))
    defect = DEFECTS[prop](system, states(system))
    if prop in system.properties:
        assert defect <= 1e-11
    else:
        assert defect >= BROKEN


@pytest.mark.parametrize("name", TERMS)
def test_strength_zero_is_the_intact_body_bit_for_bit(name: str) -> None:
    """In the fields and invariants that both have."""
    zero, intact = body(TERMS[name].model_copy(update={"strength": 0.0})), body()
    assert zero.survivors == intact.survivors
    assert zero.properties == intact.properties
    runs = [
        simulate(s, GRID, states(s), NO_FIELDS, dt=DT, num_frames=4)
        for s in (zero, intact)
    ]
    for field in intact.fields.names:
        one, other = (
            run.states[:, :, s.fields.slices()[field]]
            for run, s in zip(runs, (zero, intact), strict=True)
        )
        assert torch.equal(one, other)
    for invariant in (i.name for i in intact.invariants):
        assert torch.equal(runs[0].invariants[invariant], runs[1].invariants[invariant])
        assert torch.equal(runs[0].budgets[invariant], runs[1].budgets[invariant])


@pytest.mark.parametrize("name", [None, *TERMS, "all"])
def test_motion_follows_the_stated_equation(name: str | None) -> None:
    """Against DOP853 on the equation as written, and not on another one."""
    system = body(*terms_of(name))
    u = states(system)
    found, expected = flow(system, 5 * DT)(u), integrated(system, u, 5 * DT)
    assert (found - expected).abs().max() <= 2e-11
    if name is not None:
        other = body(inertia=(1.0, 1.5, 2.0))
        free = flow(other, 5 * DT)(states(other))
        apart = attitude_of(system, found) - attitude_of(other, free)
        assert apart.abs().max() >= 1e-2


@pytest.mark.parametrize("inertia", ["three moments", "alike 1 and 2"])
@pytest.mark.parametrize("name", [None, *TERMS, "all"])
def test_rates_are_the_derivatives_of_the_invariants(
    name: str | None, inertia: str
) -> None:
    """Without time stepping: the closed forms against the stated equation."""
    system = body(*terms_of(name), inertia=INERTIAS[inertia])
    columns = states(system).flatten(1)
    tangent, varied = equation(system, columns), columns.clone().requires_grad_()
    values = system.measure(varied[..., None, None, None], GRID, NO_FIELDS)
    rates = system.rates(columns[..., None, None, None], GRID, NO_FIELDS)
    assert list(rates) == list(values)
    assert set(rates) == {invariant.name for invariant in system.invariants}
    for key, rate in rates.items():
        (slope,) = torch.autograd.grad(values[key].sum(), varied, retain_graph=True)
        assert (rate - (slope * tangent).sum(1)).abs().max() <= 1e-14, key


@pytest.mark.parametrize("inertia", ["three moments", "alike 1 and 2"])
@pytest.mark.parametrize("name", [None, *TERMS, "all"])
def test_budgets_close(name: str | None, inertia: str) -> None:
    """I(t) - I(0) is what the closed forms explain, integrated at the own steps."""
    system = body(*terms_of(name), inertia=INERTIAS[inertia])
    run = simulate(system, GRID, states(system), NO_FIELDS, dt=DT, num_frames=21)
    for key, value in run.invariants.items():
        change = value - value[:, :1]
        assert (change - run.budgets[key]).abs().max() <= 1e-11, key
    largest = {key: float(b.abs().max()) for key, b in run.budgets.items()}
    axial = largest.pop("axial_momentum", None)
    constant = system.properties >= _CONSTANTS
    assert max(largest.values()) == 0.0 if constant else max(largest.values()) >= 1e-2
    if axial is not None:
        kept = name in (None, "gravity", "torque")
        assert axial <= 1e-14 if kept else axial >= 1e-2


_CONSTANTS = {
    BodyProperty.CASIMIR,
    BodyProperty.ENERGY,
    BodyProperty.SPATIAL_MOMENTUM,
}


@pytest.mark.parametrize(
    ("term", "names"),
    [
        (Friction, ("casimir", "energy")),
        (DoubleBracket, ("energy",)),
        (InertiaModulation, ("energy",)),
        (Torque, ("casimir", "energy")),
        (Gravity, ("casimir",)),
    ],
)
def test_drift_is_linear_in_a_small_strength(
    term: type[Friction], names: tuple[str, ...]
) -> None:
    drifts = []
    for strength in STRENGTHS:
        system = body(term(strength=strength))
        before, after = (
            system.measure(x, GRID, NO_FIELDS)
            for x in (states(system), flow(system)(states(system)))
        )
        drifts.append([float((after[n] - before[n]).abs().mean()) for n in names])
    for column in np.transpose(drifts):
        assert observed_order(STRENGTHS, column) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("term", "inertia", "turn"),
    [
        (Asymmetry, "alike 1 and 2", Rotation("body", (0.0, 0.0, 1.0), 40.0)),
        (Gravity, "three moments", Rotation("body", (1.0, 0.0, 0.0), 180.0)),
        (Gravity, "three moments", Rotation("space", (1.0, 0.0, 0.0), 40.0)),
        (Gyrostat, "three moments", Rotation("body", (1.0, 0.0, 0.0), 180.0)),
        (InertiaModulation, "sphere", Rotation("body", (0.0, 0.0, 1.0), 40.0)),
        (Torque, "three moments", Rotation("body", (1.0, 0.0, 0.0), 180.0)),
    ],
)
def test_defect_is_linear_in_a_small_strength(
    term: type[Friction], inertia: str, turn: Rotation
) -> None:
    found = []
    for strength in STRENGTHS:
        system = body(term(strength=strength), inertia=INERTIAS[inertia])
        phi, u, act = flow(system), states(system), BodyAction(system.fields)
        found.append(relative_difference(phi(act(turn, u)), act(turn, phi(u))))
    assert observed_order(STRENGTHS, found) == pytest.approx(1.0, abs=0.05)


def momentum_of(state: Tensor) -> Tensor:
    return state[:, :3, 0, 0, 0]


def test_friction_is_the_free_motion_slowed_down() -> None:
    """Pi(t) = e^{-eps t} Pi_free((1 - e^{-eps t}) / eps), the attitude likewise."""
    eps, time = 0.4, 3.0
    system, free = body(Friction(strength=eps)), body()
    u, slow = states(system), -math.expm1(-eps * time) / eps
    found, expected = flow(system, time)(u), flow(free, slow)(u)
    decayed = math.exp(-eps * time) * expected[:, :3]
    assert (found[:, :3] - decayed).abs().max() <= 1e-11
    assert (found[:, 3:] - expected[:, 3:]).abs().max() <= 1e-11
    assert (found[:, :3] - expected[:, :3]).abs().max() >= 1e-2


def test_double_bracket_loses_energy_and_nothing_else() -> None:
    """dE/dt = -eps |Pi x Omega|^2, |Pi| is kept, and the end is the axis 3."""
    eps = 0.5
    system = body(DoubleBracket(strength=eps))
    u = states(system)
    pi = momentum_of(u)
    crossed = torch.linalg.cross(pi, pi / pi.new_tensor(system.moments))
    rate = system.rates(u, GRID, NO_FIELDS)["energy"]
    assert (rate + eps * crossed.square().sum(1)).abs().max() <= 1e-15
    end = momentum_of(flow(system, 200.0)(u))
    size = torch.linalg.vector_norm(pi, dim=1)
    assert (torch.linalg.vector_norm(end, dim=1) - size).abs().max() <= 1e-13
    assert (end[:, 2].abs() - size).abs().max() <= 1e-9
    assert (pi[:, 2].abs() - size).abs().max() >= 1e-1


def test_gyrostat_keeps_the_energy_with_its_rotor_alone() -> None:
    """E' = sum (Pi_i - eps l_i)^2 / 2 I_i; a sphere turns about the rotor."""
    system = body(TERMS["gyrostat oblique"])
    u = states(system)
    pi, inertia = momentum_of(u), u.new_tensor(system.moments)
    rotor = u.new_tensor(system.vector(Gyrostat))
    energy = system.measure(u, GRID, NO_FIELDS)["energy"]
    assert (energy - ((pi - rotor) ** 2 / inertia).sum(1) / 2).abs().max() <= 1e-15
    bare = [(x**2 / inertia).sum(1) for x in (pi, momentum_of(flow(system)(u)))]
    assert (bare[1] - bare[0]).abs().max() >= BROKEN
    sphere = body(TERMS["gyrostat oblique"], inertia=(2.0, 2.0, 2.0))
    turn = Rotation("body", OBLIQUE, math.degrees(0.5 * 3.0 / 2.0))
    expected = pi @ torch.from_numpy(turn.matrix).T
    assert (momentum_of(flow(sphere, 3.0)(u)) - expected).abs().max() <= 1e-14


def test_modulation_keeps_the_casimir_and_beats_at_its_frequency() -> None:
    """dE/dt = -Omega_1^2 I_1' / 2."""
    system = body(TERMS["inertia_modulation"])
    term, u = TERMS["inertia_modulation"], states(system)
    u = flow(system)(u)
    at = channels(system, "phase_cos", 2)
    cos, sin = u[:, at, 0, 0, 0].unbind(1)
    angle = term.frequency * DT
    assert (cos - math.cos(angle)).abs().max() <= 1e-14
    first = 1 + term.strength * cos
    slope = -term.strength * term.frequency * sin
    expected = -((momentum_of(u)[:, 0] / first) ** 2) * slope / 2
    rates = system.rates(u, GRID, NO_FIELDS)
    assert (rates["energy"] - expected).abs().max() <= 1e-15
    assert not rates["casimir"].any()
    assert rates["energy"].abs().max() >= BROKEN


def test_torque_feeds_energy_and_momentum() -> None:
    """d|Pi|^2/dt = 2 eps Pi . b, dE/dt = eps Omega . b; a sphere gains eps b t."""
    system = body(TERMS["torque oblique"])
    u = states(system)
    pi, b = momentum_of(u), u.new_tensor(system.vector(Torque))
    rates = system.rates(u, GRID, NO_FIELDS)
    omega = pi / pi.new_tensor(system.moments)
    assert (rates["casimir"] - 2 * pi @ b).abs().max() <= 1e-15
    assert (rates["energy"] - omega @ b).abs().max() <= 1e-15
    sphere = body(TERMS["torque oblique"], inertia=(2.0, 2.0, 2.0))
    found = momentum_of(flow(sphere, 3.0)(u))
    assert (found - (pi + 3.0 * b)).abs().max() <= 1e-14


def test_asymmetry_moves_the_third_component() -> None:
    """dPi_3/dt = (1 / I_2 - 1 / I_1) Pi_1 Pi_2, and 0 without it."""
    for strength, least in ((0.3, BROKEN), (0.0, 0.0)):
        system = body(Asymmetry(strength=strength), inertia=INERTIAS["alike 1 and 2"])
        pi = momentum_of(states(system))
        inertia = pi.new_tensor(system.moments)
        time = torch.zeros(len(pi), dtype=torch.float64, requires_grad=True)
        third = free_motion(pi, inertia, time)[:, 2]
        (slope,) = torch.autograd.grad(third.sum(), time)
        expected = (1 / inertia[1] - 1 / inertia[0]) * pi[:, 0] * pi[:, 1]
        assert (slope - expected).abs().max() <= 1e-15
        assert expected.abs().max() >= least
