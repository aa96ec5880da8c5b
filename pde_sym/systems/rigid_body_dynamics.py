"""Invariants of the rigid body and the closed forms of their rates."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pde_sym.systems.base import Budget
from pde_sym.systems.rigid_body import RigidBody
from pde_sym.systems.rigid_body_rotations import applied
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
    """The fields of a state, each ``(batch, components)``; None where it has none.

    The attitude is ``(batch, 3, 3)``.
    """

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

    attitude = of("attitude", 9)
    return Parts(
        columns[:, :3],
        of("gravity_direction", 3),
        None if attitude is None else attitude.unflatten(1, (3, 3)),
        of("phase_cos", 2),
    )


def joined(found: Parts) -> Tensor:
    """Return the state of the fields, the inverse of `parts`."""
    columns = (found.momentum, found.vertical, found.attitude, found.phase)
    flat = [c.flatten(1) for c in columns if c is not None]
    return torch.cat(flat, 1)[..., None, None, None]


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
    if system.is_symmetric:
        values["axial_momentum"] = pi[:, 2]
    if gamma is not None:
        weight = pi.new_tensor(system.vector(Gravity))
        values["energy"] = energy + _dot(gamma, weight.expand_as(gamma))
        values["vertical_norm"] = (gamma * gamma).sum(-1)
        values["vertical_momentum"] = (pi * gamma).sum(-1)
    if found.attitude is not None:
        values |= _by_axis(applied(found.attitude, pi))
    for name in system.integrals:
        values[name] = _INTEGRALS[name](system, found)
    return values


def _by_axis(vector: Tensor) -> Budget:
    names = (f"spatial_momentum_{axis}" for axis in "xyz")
    return dict(zip(names, vector.unbind(-1), strict=True))


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
    "kovalevskaya": _kovalevskaya,
    "goryachev_chaplygin": _goryachev_chaplygin,
}


def rates(system: RigidBody, found: Parts) -> Budget:
    """Return dI/dt of every invariant, from its closed form.

    With ``Omega = I^-1 (Pi - l)``, ``w = I^-1 Pi``, the pull ``g = mu Gamma x chi`` and
    the push ``p = b - f Pi + d (Pi . w Pi - |Pi|^2 w)``, which is what is no rotation:

        |Pi|^2              2 Pi . g + 2 Pi . b - 2 f |Pi|^2
        H                   Omega . p - Omega_1^2 I_1' / 2
        Pi_3                (Pi x Omega + g + p)_3
        |Gamma|^2           0
        Pi . Gamma          Gamma . p
        R Pi                R (g + p)
        Kovalevskaya        0
        Goryachev-Chaplygin -mu Pi_2 Pi . Gamma
    """
    pi, gamma, inertia = found.momentum, found.vertical, moments(system, found)
    rotor, weight, torque = (
        pi.new_tensor(system.vector(kind)).expand_as(pi)
        for kind in (Gyrostat, Gravity, Torque)
    )
    free, omega, square = pi / inertia, (pi - rotor) / inertia, _dot(pi, pi)
    bent = _dot(pi, free)[:, None] * pi - square[:, None] * free
    friction = system.strength(Friction)
    push = torque - friction * pi + system.strength(DoubleBracket) * bent
    pull = torch.zeros_like(pi) if gamma is None else torch.linalg.cross(gamma, weight)
    zero = torch.zeros_like(square)
    result = {
        "casimir": 2 * (_dot(pi, pull) + _dot(pi, torque) - friction * square),
        "energy": _dot(omega, push) + _beating(system, found, omega),
    }
    if system.is_symmetric:
        turned = torch.linalg.cross(pi, omega)
        result["axial_momentum"] = (turned + pull + push)[:, 2]
    if gamma is not None:
        result["vertical_norm"] = zero
        result["vertical_momentum"] = _dot(gamma, push)
    if found.attitude is not None:
        result |= _by_axis(applied(found.attitude, pull + push))
    result |= dict.fromkeys(system.integrals, zero)
    if gamma is not None and "goryachev_chaplygin" in result:
        along = system.strength(Gravity) * _dot(pi, gamma)
        result["goryachev_chaplygin"] = -along * pi[:, 1]
    return result


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the scalar products; a matrix product rounds by the size of the batch."""
    return (a * b).sum(-1)


def _beating(system: RigidBody, found: Parts, omega: Tensor) -> Tensor | float:
    """Return ``-Omega_1^2 I_1' / 2`` with ``I_1' = -I_1 eps w sin``."""
    term = system.term(InertiaModulation)
    if term is None or found.phase is None:
        return 0.0
    slope = term.strength * term.frequency * system.moments[0]
    return omega[:, 0].square() * slope * found.phase[:, 1] / 2
