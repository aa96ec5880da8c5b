"""The breaking terms of the rigid body (`pde_sym.systems.rigid_body`)."""

import math
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from pde_sym.systems.base import BreakingTerm
from pde_sym.systems.rigid_body_symmetry import BodySymmetry, Vector

_SPHERE = (1.0, 1.0, 1.0)


class BodyProperty(StrEnum):
    """A property of the motion that is not a rotation of body or space."""

    CASIMIR = "|Pi|^2"
    """The size of the angular momentum is constant."""
    ENERGY = "energy"
    """H = sum (Pi_i - l_i)^2 / 2 I_i + mu Gamma . chi is constant."""
    SPATIAL_MOMENTUM = "spatial momentum"
    """R Pi is constant."""
    REVERSAL = "(Pi, t) -> (-Pi, -t)"
    """Phi(-Phi(Pi)) = -Pi, for the state without an attitude."""
    SCALING = "(Pi, t) -> (s Pi, t / s)"
    """Phi_{t / s}(s Pi) = s Phi_t(Pi)"""
    TIME = "translation of time"
    """The motion does not depend on when it starts."""


def _unit(vector: Vector) -> Vector:
    size = math.hypot(*vector)
    if not size > 0:
        raise ValueError("a direction needs a length above 0")
    if size == 1.0:
        return vector
    x, y, z = (component / size for component in vector)
    return (x, y, z)


Direction = Annotated[Vector, AfterValidator(_unit)]
"""A vector that is scaled to length 1."""


class BodyTerm(BreakingTerm):
    """A mechanism of the rigid body."""

    breaks: ClassVar[frozenset[BodyProperty]] = frozenset()  # type: ignore[assignment]

    @property
    def survivors(self) -> BodySymmetry:  # type: ignore[override]
        """The rotations that the term leaves of a sphere, whatever its strength > 0.

        Those of a body follow from all terms and its inertia: `RigidBody.survivors`.
        """
        return BodySymmetry((_SPHERE,))


class Asymmetry(BodyTerm):
    """A second moment of inertia that is larger by the factor 1 + strength.

    On a body with I_1 = I_2 the rotations about the axis 3 leave D2, and
    ``dPi_3/dt = (1 / I_2 - 1 / I_1) Pi_1 Pi_2``. The motion is exact at any strength.
    """

    kind: Literal["asymmetry"] = "asymmetry"
    strength: float = Field(default=0.0, ge=0.0, le=10.0)
    """Relative excess of I_2; breaks nothing unless I_1 = I_2, as inertia=[1,1,1.5]."""

    equation: ClassVar[str] = "dPi/dt = Pi x Omega, I_2 -> I_2 (1 + eps)"

    @property
    def survivors(self) -> BodySymmetry:
        return BodySymmetry(((1.0, 2.0, 1.0),))


class Gravity(BodyTerm):
    """The heavy top: a weight at a centre of mass chi off the fixed point.

    The vertical Gamma in the body frame joins the state. ``|Gamma|^2``, ``Pi . Gamma``
    and the energy are kept; so is a fourth integral for the tops of Lagrange,
    Kovalevskaya and Goryachev-Chaplygin (`rigid_body.RigidBody.integrals`).
    """

    kind: Literal["gravity"] = "gravity"
    strength: float = Field(default=0.0, ge=0.0, le=1e6)
    """Weight times distance of the centre of mass from the fixed point, an energy."""
    direction: Direction = (0.0, 0.0, 1.0)
    """Direction of the centre of mass in the body."""

    equation: ClassVar[str] = (
        "dPi/dt = Pi x Omega + eps Gamma x chi, dGamma/dt = Gamma x Omega"
    )
    breaks: ClassVar[frozenset[BodyProperty]] = frozenset(
        {BodyProperty.CASIMIR, BodyProperty.SPATIAL_MOMENTUM, BodyProperty.SCALING}
    )

    @property
    def survivors(self) -> BodySymmetry:
        return BodySymmetry((_SPHERE,), (self.direction,), vertical=True)


class Friction(BodyTerm):
    """A torque against the angular momentum; the direction of R Pi is kept.

    Exactly ``Pi(t) = e^{-eps t} Pi_free((1 - e^{-eps t}) / eps)`` where it is alone.
    """

    kind: Literal["friction"] = "friction"
    strength: float = Field(default=0.0, ge=0.0, le=1e4)
    """Rate, per unit of time."""

    equation: ClassVar[str] = "dPi/dt = Pi x Omega - eps Pi"
    breaks: ClassVar[frozenset[BodyProperty]] = frozenset(BodyProperty) - {
        BodyProperty.TIME
    }


class DoubleBracket(BodyTerm):
    """Dissipation that keeps ``|Pi|`` and ends on the axis of the largest inertia.

    The bracket is that of the body without rotor or weight, ``Omega_i = Pi_i / I_i``;
    ``dE/dt = -eps |Pi x Omega|^2`` (Bloch, Krishnaprasad, Marsden and Ratiu 1996,
    Commun. Math. Phys. 175).
    """

    kind: Literal["double_bracket"] = "double_bracket"
    strength: float = Field(default=0.0, ge=0.0, le=1e4)
    """Inverse of an angular momentum."""

    equation: ClassVar[str] = "dPi/dt = Pi x Omega + eps Pi x (Pi x Omega)"
    breaks: ClassVar[frozenset[BodyProperty]] = frozenset(
        {
            BodyProperty.ENERGY,
            BodyProperty.SPATIAL_MOMENTUM,
            BodyProperty.REVERSAL,
            BodyProperty.SCALING,
        }
    )


class Gyrostat(BodyTerm):
    """A rotor in the body: ``Omega = I^-1 (Pi - eps l)``.

    The energy with the rotor, ``sum (Pi_i - eps l_i)^2 / 2 I_i``, is kept; that of the
    body alone is not.
    """

    kind: Literal["gyrostat"] = "gyrostat"
    strength: float = Field(default=0.0, ge=0.0, le=1e6)
    """Angular momentum of the rotor."""
    direction: Direction = (0.0, 0.0, 1.0)
    """Its axis l in the body."""

    equation: ClassVar[str] = "dPi/dt = Pi x Omega, Omega = I^-1 (Pi - eps l)"
    breaks: ClassVar[frozenset[BodyProperty]] = frozenset(
        {BodyProperty.REVERSAL, BodyProperty.SCALING}
    )

    @property
    def survivors(self) -> BodySymmetry:
        return BodySymmetry((_SPHERE,), (self.direction,))


class InertiaModulation(BodyTerm):
    """A first moment of inertia that beats, ``I_1 (1 + eps cos(w t))``.

    The phase joins the state as ``phase_cos``, ``phase_sin``, so that a state says how
    it goes on.
    """

    kind: Literal["inertia_modulation"] = "inertia_modulation"
    strength: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Relative amplitude."""
    frequency: float = Field(default=1.0, gt=0.0, le=1e4)
    """w, in radians per unit of time."""

    equation: ClassVar[str] = "dPi/dt = Pi x Omega, I_1 -> I_1 (1 + eps cos w t)"
    breaks: ClassVar[frozenset[BodyProperty]] = frozenset(
        {BodyProperty.ENERGY, BodyProperty.SCALING, BodyProperty.TIME}
    )

    @property
    def survivors(self) -> BodySymmetry:
        return BodySymmetry(((2.0, 1.0, 1.0),))


class Torque(BodyTerm):
    """A constant torque in the body frame, as of a fixed jet."""

    kind: Literal["torque"] = "torque"
    strength: float = Field(default=0.0, ge=0.0, le=1e6)
    """Size of the torque."""
    direction: Direction = (0.0, 0.0, 1.0)
    """Its direction b in the body."""

    equation: ClassVar[str] = "dPi/dt = Pi x Omega + eps b"
    breaks: ClassVar[frozenset[BodyProperty]] = frozenset(
        {
            BodyProperty.CASIMIR,
            BodyProperty.ENERGY,
            BodyProperty.SPATIAL_MOMENTUM,
            BodyProperty.SCALING,
        }
    )

    @property
    def survivors(self) -> BodySymmetry:
        return BodySymmetry((_SPHERE,), (self.direction,))
