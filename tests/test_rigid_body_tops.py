"""The heavy top: its Casimirs and the integrals of the three tops that have one."""

import numpy as np
import pytest
import torch
from rigid_bodies import GRID, NO_FIELDS, body, channels, equation, flow, states
from torch import Tensor

from pde_sym.simulate import simulate
from pde_sym.systems.rigid_body import RigidBody
from pde_sym.systems.rigid_body_terms import Asymmetry, Friction, Gravity

MU = 0.7
ALONG_1, ALONG_3 = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def top(inertia: tuple[float, float, float], direction: tuple) -> RigidBody:
    gravity = Gravity(strength=MU, direction=direction)
    return body(gravity, inertia=inertia, attitude=False)


LAGRANGE = top((1.0, 1.0, 1.5), ALONG_3)
KOVALEVSKAYA = top((2.0, 2.0, 1.0), ALONG_1)
GORYACHEV = top((2.0, 2.0, 0.5), ALONG_1)
TOPS = {
    "axial_momentum": LAGRANGE,
    "kovalevskaya": KOVALEVSKAYA,
    "goryachev_chaplygin": GORYACHEV,
}


def starts(system: RigidBody) -> Tensor:
    """Return states with Pi . Gamma = 0, where all three integrals are constant."""
    u = states(system)
    pi, gamma = u[:, :3], u[:, channels(system, "gravity_direction", 3)]
    along = (pi * gamma).sum(1, keepdim=True)
    return torch.cat([pi - along * gamma, gamma], dim=1)


def trajectory(system: RigidBody, u: Tensor, frames: int = 51) -> Tensor:
    return simulate(system, GRID, u, NO_FIELDS, dt=0.2, num_frames=frames).states


def drift(values: Tensor) -> float:
    return float((values - values[:, :1]).abs().max())


def kovalevskaya(states: Tensor, sign: float = -1.0) -> Tensor:
    """|(Omega_1 + i Omega_2)^2 - (mu / I_3) (Gamma_1 + i Gamma_2)|^2."""
    pi, gamma = states.flatten(2)[..., :3], states.flatten(2)[..., 3:]
    omega = pi / pi.new_tensor(KOVALEVSKAYA.moments)
    z = torch.complex(omega[..., 0], omega[..., 1]) ** 2
    weight = MU / KOVALEVSKAYA.moments[2]
    return (z + sign * weight * torch.complex(gamma[..., 0], gamma[..., 1])).abs() ** 2


def goryachev(states: Tensor, sign: float = -1.0) -> Tensor:
    """Pi_3 (Pi_1^2 + Pi_2^2) - 4 mu I_3 Pi_1 Gamma_3."""
    p1, p2, p3, _, _, g3 = states.flatten(2).unbind(-1)
    weight = 4 * MU * GORYACHEV.moments[2]
    return p3 * (p1**2 + p2**2) + sign * weight * p1 * g3


def test_kovalevskaya() -> None:
    path = trajectory(KOVALEVSKAYA, starts(KOVALEVSKAYA))
    assert drift(kovalevskaya(path)) <= 1e-11
    assert drift(kovalevskaya(path, sign=1.0)) >= 0.1


def test_goryachev_chaplygin_on_its_level_and_off_it() -> None:
    path = trajectory(GORYACHEV, starts(GORYACHEV))
    assert drift(goryachev(path)) <= 1e-11
    assert drift(goryachev(path, sign=1.0)) >= 0.1
    off = trajectory(GORYACHEV, states(GORYACHEV))
    assert drift(goryachev(off)) >= 0.01


def test_lagrange() -> None:
    path = trajectory(LAGRANGE, states(LAGRANGE))
    assert drift(path[:, :, 2, 0, 0, 0]) <= 1e-12
    other = top((1.0, 1.1, 1.5), ALONG_3)
    assert drift(trajectory(other, states(other))[:, :, 2, 0, 0, 0]) >= 0.01
    tilted = top((1.0, 1.0, 1.5), (0.0, 1.0, 3.0))
    assert drift(trajectory(tilted, states(tilted))[:, :, 2, 0, 0, 0]) >= 0.01


@pytest.mark.parametrize("name", TOPS)
def test_a_top_measures_its_own_integral(name: str) -> None:
    system = TOPS[name]
    assert name in {invariant.name for invariant in system.invariants}
    assert system.integrals == ((name,) if name != "axial_momentum" else ())
    u = starts(system)
    run = simulate(system, GRID, u, NO_FIELDS, dt=0.2, num_frames=51)
    assert drift(run.invariants[name]) <= 1e-11
    own = {"kovalevskaya": kovalevskaya, "goryachev_chaplygin": goryachev}
    expected = own.get(name, lambda s: s[:, :, 2, 0, 0, 0])(run.states)
    assert (run.invariants[name] - expected).abs().max() <= 1e-14


@pytest.mark.parametrize("name", TOPS)
def test_rates_of_the_integrals(name: str) -> None:
    """Also off the level Pi . Gamma = 0: d/dt G = -mu Pi_2 Pi . Gamma."""
    system = TOPS[name]
    u = states(system)
    columns = u.flatten(1).requires_grad_()
    value = system.measure(columns[..., None, None, None], GRID, NO_FIELDS)[name]
    (slope,) = torch.autograd.grad(value.sum(), columns)
    expected = (slope * equation(system, columns.detach())).sum(1)
    rate = system.rates(u, GRID, NO_FIELDS)[name]
    assert (rate - expected).abs().max() <= 1e-14
    assert bool(rate.abs().max() >= 1e-3) == (name == "goryachev_chaplygin")
    run = simulate(system, GRID, u, NO_FIELDS, dt=0.2, num_frames=11)
    change = run.invariants[name] - run.invariants[name][:, :1]
    assert (change - run.budgets[name]).abs().max() <= 1e-11


@pytest.mark.parametrize(
    "system",
    [
        top((2.0, 2.0, 1.0), (0.0, 1.0, 0.0)),
        top((1.9, 2.0, 1.0), ALONG_1),
        body(Gravity(direction=ALONG_1), Friction(), inertia=(2.0, 2.0, 1.0)),
        body(Gravity(direction=ALONG_1), Asymmetry(), inertia=(2.0, 2.0, 1.0)),
        body(inertia=(2.0, 2.0, 1.0)),
    ],
    ids=["another axis", "three moments", "friction", "asymmetry", "no gravity"],
)
def test_other_bodies_have_no_fourth_integral(system: RigidBody) -> None:
    names = {invariant.name for invariant in system.invariants}
    assert system.integrals == ()
    assert ("axial_momentum" in names) == (system.inertia[0] == system.inertia[1])
    assert names.isdisjoint({"kovalevskaya", "goryachev_chaplygin"})


@pytest.mark.parametrize("name", TOPS)
def test_casimirs_of_the_heavy_top(name: str) -> None:
    """|Gamma|^2 and Pi . Gamma to round-off, whatever the step; |Pi|^2 is none."""
    system = TOPS[name]
    u = states(system)
    rough = flow(system, dt=0.2, largest_turn=4.0)
    values = [system.measure(u, GRID, NO_FIELDS)]
    for _ in range(100):
        u = rough(u)
        values.append(system.measure(u, GRID, NO_FIELDS))
    series = {k: torch.stack([v[k] for v in values], dim=1) for k in values[0]}
    assert drift(series["vertical_norm"]) <= 1e-13
    assert drift(series["vertical_momentum"]) <= 1e-13
    assert drift(series["casimir"]) >= 0.1


def test_a_sleeping_top_precesses_at_the_known_rate() -> None:
    """Steadily at Omega_p where I_1 Omega_p^2 cos(a) - Pi_3 Omega_p + mu = 0.

    A Lagrange top whose axis keeps the angle a to the vertical (Goldstein, Classical
    Mechanics, eq. 5.76).
    """
    system, angle, spin = LAGRANGE, 0.5, 4.0
    first, _, _ = system.moments
    roots = np.roots([first * np.cos(angle), -spin, MU])
    for rate in roots:
        gamma = np.array([np.sin(angle), 0.0, np.cos(angle)])
        pi = np.array([first * rate * gamma[0], 0.0, spin])
        u = torch.from_numpy(np.concatenate([pi, gamma])).reshape(1, 6, 1, 1, 1)
        path = trajectory(system, u)
        assert drift(path[:, :, 5, 0, 0, 0]) <= 1e-12
        other = u.clone()
        other[:, 0] *= 1.2
        assert drift(trajectory(system, other)[:, :, 5, 0, 0, 0]) >= 1e-3
