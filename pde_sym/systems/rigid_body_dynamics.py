"""Invariants of the rigid body and the closed forms of their rates."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pde_sym.systems.base import Budget
from pde_sym.systems.rigid_body import RigidBody
from pde_sym.systems.rigid_body_exact import rotate
from pde_sym.systems.rigid_body_terms import (
    DoubleBracket,
    Friction,
    Gravity,
    Gyrostat,
    InertiaModulation,
    Torque,
)


@dataclass(frozen=True)
class Parts:
    """The fields of a state, each ``(batch, components)``; None where it has none."""

    momentum: Tensor
    vertical: Tensor | None
    attitude: Tensor | None
    phase: Tensor | None


def parts(system: RigidBody, state: Tensor) -> Parts:
    """Return the fields of a state ``(batch, channels, 1, 1, 1)``."""
    columns, where = state.flatten(1), system.fields.slices()

    def of(name: str, width: int) -> Tensor | None:
        if name not in where:
            return None
        return columns[:, where[name].start : where[name].start + width]

    return Parts(
        columns[:, :3],
        of("gravity_direction", 3),
        of("attitude_w", 4),
        of("phase_cos", 2),
    )


def joined(found: Parts) -> Tensor:
    """Return the state of the fields, the inverse of `parts`."""
    columns = (found.momentum, found.vertical, found.attitude, found.phase)
    return torch.cat([c for c in columns if c is not None], 1)[..., None, None, None]


def moments(system: RigidBody, found: Parts) -> Tensor:
    """Return the moments of inertia ``(batch, 3)``, or ``(3,)`` where they rest."""
    rest = found.momentum.new_tensor(system.moments)
    if found.phase is None:
        return rest
    beat = system.strength(InertiaModulation) * found.phase[:, :1]
    return rest * (1 + beat * rest.new_tensor([1.0, 0.0, 0.0]))


def measure(system: RigidBody, found: Parts) -> Budget:
    """Return the invariants of `RigidBody.invariants`."""
    pi, gamma = found.momentum, found.vertical
    spin = pi - pi.new_tensor(system.vector(Gyrostat))
    energy = (spin * spin / moments(system, found)).sum(-1) / 2
    values = {"casimir": (pi * pi).sum(-1), "energy": energy}
    if gamma is not None:
        weight = pi.new_tensor(system.vector(Gravity))
        values["energy"] = energy + gamma @ weight
        values["vertical_norm"] = (gamma * gamma).sum(-1)
        values["vertical_momentum"] = (pi * gamma).sum(-1)
    if found.attitude is not None:
        values |= _by_axis(rotate(found.attitude, pi))
    for name in system.integrals:
        values[name] = _INTEGRALS[name](system, found)
    return values


def _by_axis(vector: Tensor) -> Budget:
    names = (f"spatial_momentum_{axis}" for axis in "xyz")
    return dict(zip(names, vector.unbind(-1), strict=True))


def _lagrange(_: RigidBody, found: Parts) -> Tensor:
    return found.momentum[:, 2]


def _kovalevskaya(system: RigidBody, found: Parts) -> Tensor:
    assert found.vertical is not None, "a heavy top has a vertical"
    o1, o2, _ = (found.momentum / moments(system, found)).unbind(-1)
    g1, g2, _ = (system.strength(Gravity) / system.moments[2] * found.vertical).unbind(
        -1
    )
    return (o1 * o1 - o2 * o2 - g1).square() + (2 * o1 * o2 - g2).square()


def _goryachev_chaplygin(system: RigidBody, found: Parts) -> Tensor:
    assert found.vertical is not None, "a heavy top has a vertical"
    p1, p2, p3 = found.momentum.unbind(-1)
    weight = 4 * system.strength(Gravity) * system.moments[2]
    return p3 * (p1 * p1 + p2 * p2) - weight * p1 * found.vertical[:, 2]


_INTEGRALS = {
    "lagrange": _lagrange,
    "kovalevskaya": _kovalevskaya,
    "goryachev_chaplygin": _goryachev_chaplygin,
}


def rates(system: RigidBody, found: Parts) -> Budget:
    """Return dI/dt of every invariant, from the closed form per mechanism.

    With ``Omega = I^-1 (Pi - l)`` and ``w = I^-1 Pi``:

        |Pi|^2       2 mu Pi . (Gamma x chi) - 2 f |Pi|^2 + 2 Pi . b
        H            - f Pi . Omega - d (Pi x Omega) . (Pi x w) + Omega . b
                     - (Pi_1 - l_1)^2 I_1' / 2 I_1^2
        Pi . Gamma   - f Pi . Gamma + d Gamma . (2 E_0 Pi - |Pi|^2 w) + Gamma . b
        R Pi         R (mu Gamma x chi - f Pi + d (2 E_0 Pi - |Pi|^2 w) + b)

    where ``2 E_0 = Pi . w``; that of Goryachev and Chaplygin changes by
    ``-mu Pi_2 Pi . Gamma``.
    """
    pi, gamma, inertia = found.momentum, found.vertical, moments(system, found)
    friction, bracket = system.strength(Friction), system.strength(DoubleBracket)
    torque = pi.new_tensor(system.vector(Torque))
    free = pi / inertia
    omega = (pi - pi.new_tensor(system.vector(Gyrostat))) / inertia
    square, twice_energy = (pi * pi).sum(-1), (pi * free).sum(-1)
    pi_omega = (pi * omega).sum(-1)
    # Lagrange's identity for the product of two cross products.
    crossed = square * (omega * free).sum(-1) - twice_energy * pi_omega
    result = {
        "casimir": 2 * (pi @ torque - friction * square),
        "energy": omega @ torque - friction * pi_omega - bracket * crossed,
    }
    if found.phase is not None:
        result["energy"] = result["energy"] + _beating(system, found, omega)
    pull = torch.zeros_like(pi)
    if gamma is not None:
        weight = pi.new_tensor(system.vector(Gravity)).expand_as(gamma)
        pull = torch.linalg.cross(gamma, weight)
        result["casimir"] = result["casimir"] + 2 * (pi * pull).sum(-1)
        result["vertical_norm"] = torch.zeros_like(square)
        along = (pi * gamma).sum(-1)
        tilt = twice_energy * along - square * (free * gamma).sum(-1)
        result["vertical_momentum"] = gamma @ torque - friction * along + bracket * tilt
    if found.attitude is not None:
        bent = twice_energy[:, None] * pi - square[:, None] * free
        body = pull + torque - friction * pi + bracket * bent
        result |= _by_axis(rotate(found.attitude, body))
    result |= {name: torch.zeros_like(square) for name in system.integrals}
    if gamma is not None and "goryachev_chaplygin" in result:
        along = system.strength(Gravity) * (pi * gamma).sum(-1)
        result["goryachev_chaplygin"] = -along * pi[:, 1]
    return result


def _beating(system: RigidBody, found: Parts, omega: Tensor) -> Tensor:
    """Return ``-Omega_1^2 I_1' / 2`` with ``I_1' = -I_1 eps w sin``."""
    term = system.term(InertiaModulation)
    assert term is not None, "a phase comes with its term"
    assert found.phase is not None, "a modulation comes with its phase"
    slope = term.strength * term.frequency * system.moments[0]
    return omega[:, 0].square() * slope * found.phase[:, 1] / 2
