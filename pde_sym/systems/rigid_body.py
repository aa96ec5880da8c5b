"""The rigid body with a fixed point, free or broken, and the heavy top.

    dPi/dt    = Pi x Omega + mu Gamma x chi - f Pi + d Pi x (Pi x I^-1 Pi) + b
    dGamma/dt = Gamma x Omega,    Omega = I^-1 (Pi - l),    R' = R hat(Omega)

with the angular momentum Pi and the vertical Gamma in the body frame, the attitude R
from the body to space, and ``mu = f = d = b = l = 0`` unless the breaking term of that
name says otherwise (`rigid_body_terms`). The moments of inertia are principal. Units
are the user's: M for mass, L for length, T for time.

Free, the symmetries are the rotations of space, which carry the spatial momentum R Pi
as conserved quantity, the shift of time with the energy, the scaling
``Pi -> s Pi, t -> t / s``, the reversal ``(Pi, t) -> (-Pi, -t)`` and the rotations of
the body that fix its inertia: the half turns D2, or more when moments are equal
(Arnold, Mathematical Methods of Classical Mechanics, sections 28 and 29).

A body is one point: its grid has the shape ``(1, 1, 1)`` and a state is
``(batch, channels, 1, 1, 1)``.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Documented
from pydantic import model_validator

from pde_sym.fields import FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.initial_conditions import InitialLaw
from pde_sym.systems.base import Budget, Invariant, PerInstance, Solver, System
from pde_sym.systems.rigid_body_initial import (
    ANGULAR_MOMENTUM,
    FIELDS,
    NearAxis,
    RandomSpin,
    own_state,
)
from pde_sym.systems.rigid_body_symmetry import (
    BODY_PROBES,
    SPACE_PROBES,
    BodyAction,
    BodySymmetry,
    Rotation,
    Vector,
)
from pde_sym.systems.rigid_body_terms import (
    Asymmetry,
    BodyProperty,
    BodyTerm,
    DoubleBracket,
    Friction,
    Gravity,
    Gyrostat,
    InertiaModulation,
    Torque,
)

if TYPE_CHECKING:  # see `pde_sym.systems.base`
    from torch import Tensor

RigidBodyTerm = Annotated[
    Asymmetry
    | Gravity
    | Friction
    | DoubleBracket
    | Gyrostat
    | InertiaModulation
    | Torque,
    Documented(discriminator="kind"),
]

_ALWAYS = (
    Invariant("casimir", "M^2 L^4 / T^2", "|Pi|^2"),
    Invariant("energy", "M L^2 / T^2", "sum (Pi_i - l_i)^2 / 2 I_i + mu Gamma . chi"),
)
_HEAVY = (
    Invariant("vertical_norm", "", "|Gamma|^2"),
    Invariant("vertical_momentum", ANGULAR_MOMENTUM, "Pi . Gamma"),
)
_SPATIAL = tuple(
    Invariant(f"spatial_momentum_{axis}", ANGULAR_MOMENTUM, f"(R Pi)_{axis}")
    for axis in "xyz"
)
_AXIAL = Invariant("axial_momentum", ANGULAR_MOMENTUM, "Pi_3")
_FOURTH = (
    Invariant(
        "kovalevskaya",
        "1 / T^4",
        "|(Omega_1 + i Omega_2)^2 - (mu / I_3) (Gamma_1 + i Gamma_2)|^2",
    ),
    Invariant(
        "goryachev_chaplygin",
        "M^3 L^6 / T^3",
        "Pi_3 (Pi_1^2 + Pi_2^2) - 4 mu I_3 Pi_1 Gamma_3",
    ),
)
_INVARIANTS = (*_ALWAYS, _AXIAL, *_HEAVY, *_SPATIAL, *_FOURTH)


@functools.cache
def _chosen(names: frozenset[str]) -> FieldSpec:
    """Return those fields, in their order."""
    return FieldSpec(fields=tuple(f for f in FIELDS if f.name in names))


class RigidBody(System):
    """A rigid body with a fixed point; see the module for the equations."""

    kind: Literal["rigid_body"] = "rigid_body"
    inertia: Vector = (1.0, 1.5, 2.0)
    """Principal moments of inertia; none exceeds the sum of the other two."""
    attitude: bool = False
    """Whether the attitude R joins the state, a matrix from the body to space."""
    breaking: tuple[RigidBodyTerm, ...] = ()
    """Breaking terms, each kind at most once."""

    equation: ClassVar[str] = "dPi/dt = Pi x I^-1 Pi"
    fields: ClassVar[FieldSpec] = PerInstance(  # type: ignore[assignment]
        FIELDS, lambda body: body._fields()
    )
    """Of the class, all that a body may have; of a body, what its terms need."""
    invariants: ClassVar[tuple[Invariant, ...]] = PerInstance(  # type: ignore[assignment]
        _INVARIANTS, lambda body: body._invariants()
    )
    """Likewise."""
    terms: ClassVar[tuple[type[BodyTerm], ...]] = (  # type: ignore[assignment]
        Asymmetry,
        Gravity,
        Friction,
        DoubleBracket,
        Gyrostat,
        InertiaModulation,
        Torque,
    )
    default_dt: ClassVar[float] = 0.4
    """Frame spacing: frames of the default law and inertia differ by 2 to 9 %."""
    default_resolution: ClassVar[int] = 1
    initial_laws: ClassVar[tuple[type[InitialLaw], ...]] = (RandomSpin, NearAxis)
    intact_properties: ClassVar[frozenset[BodyProperty]] = frozenset(  # type: ignore
        BodyProperty
    )
    symmetries: ClassVar[tuple[str, ...]] = (
        "R -> S R for every rotation S of space",
        "d_t",
        "Pi . d_Pi - t d_t",
        "(Pi, t) -> (-Pi, -t)",
        "half turns of the body about its axes",
        "rotations of the body about an axis of two equal moments",
    )

    @classmethod
    def grid(cls, resolution: int, length: float) -> PeriodicGrid:  # noqa: ARG003
        """Return the grid of one point, whatever is asked for."""
        return PeriodicGrid(shape=(1, 1, 1), lengths=(1.0, 1.0, 1.0))

    def probes(self, grid: PeriodicGrid) -> Sequence[Rotation]:  # noqa: ARG002
        """Return rotations of the body and of space that its states can follow."""
        return BODY_PROBES + (SPACE_PROBES if self.attitude else ())

    def action(
        self,
        grid: PeriodicGrid,  # noqa: ARG002
    ) -> "Callable[[Any, Tensor], Tensor]":
        return BodyAction(self.fields)

    def sample_initial(
        self,
        law: InitialLaw,
        grid: PeriodicGrid,
        generator: np.random.Generator,
        index: int = 0,
    ) -> NDArray[np.float64]:
        """Draw a state and pick this body's fields; own arrays hold no others."""
        if isinstance(law, RandomSpin) and law.field is not None:
            return own_state(law.field.values(), self.fields, grid, index)
        drawn, where = law.sample(grid, generator, index), FIELDS.slices()
        return np.concatenate([drawn[where[name]] for name in self.fields.names])

    @model_validator(mode="after")
    def _checked(self) -> Self:
        for moments in (self.inertia, *self.extreme_moments):
            if not min(moments) > 0:
                raise ValueError(f"moments of inertia must be > 0, got {moments}")
            # A flat body has equality, which round-off must not refuse.
            if 2 * max(moments) > sum(moments) * (1 + 1e-12):
                raise ValueError(
                    f"no body has the moments {moments}: the largest must not exceed "
                    "the sum of the other two"
                )
        return self

    def strength(self, kind: type[BodyTerm]) -> float:
        """Return the strength of the term of that class, 0 where there is none."""
        term = self.term(kind)
        return 0.0 if term is None else term.strength

    def vector(self, kind: type[Gravity | Gyrostat | Torque]) -> Vector:
        """Return strength times direction of a term: mu chi, l or b."""
        term = self.term(kind)
        if term is None:
            return (0.0, 0.0, 0.0)
        x, y, z = (term.strength * component for component in term.direction)
        return (x, y, z)

    @property
    def moments(self) -> Vector:
        """The moments of inertia with the asymmetry, at rest of the modulation."""
        first, second, third = self.inertia
        return (first, second * (1 + self.strength(Asymmetry)), third)

    @property
    def extreme_moments(self) -> tuple[Vector, Vector]:
        """The moments at the least and the largest I_1 of the modulation."""
        first, second, third = self.moments
        part = self.strength(InertiaModulation)
        return (
            (first * (1 - part), second, third),
            (first * (1 + part), second, third),
        )

    @property
    def is_free(self) -> bool:
        """Whether the closed form holds: no term but an asymmetry is active."""
        return not any(
            term.strength > 0 and not isinstance(term, Asymmetry)
            for term in self.breaking
        )

    @property
    def is_symmetric(self) -> bool:
        """Whether I_1 = I_2 but for an asymmetry: Pi_3 is listed as an invariant."""
        return self.inertia[0] == self.inertia[1]

    @property
    def integrals(self) -> tuple[str, ...]:
        """The fourth integrals that this heavy top has; Lagrange's is Pi_3.

        None where another term than gravity is there, at any strength. That of
        Goryachev and Chaplygin is constant only where Pi . Gamma = 0.
        """
        (first, _, third), gravity = self.inertia, self.term(Gravity)
        if gravity is None or len(self.breaking) > 1 or not self.is_symmetric:
            return ()
        if gravity.direction != (1.0, 0.0, 0.0):
            return ()
        known = {2 * third: "kovalevskaya", 4 * third: "goryachev_chaplygin"}
        return (known[first],) if first in known else ()

    def _fields(self) -> FieldSpec:
        names = {"angular_momentum"}
        if self.term(Gravity):
            names.add("gravity_direction")
        if self.attitude:
            names.add("attitude")
        if self.term(InertiaModulation):
            names |= {"phase_cos", "phase_sin"}
        return _chosen(frozenset(names))

    def _invariants(self) -> tuple[Invariant, ...]:
        heavy = _HEAVY if self.term(Gravity) else ()
        spatial = _SPATIAL if self.attitude else ()
        fourth = tuple(i for i in _FOURTH if i.name in self.integrals)
        axial = (_AXIAL,) if self.is_symmetric else ()
        return (*_ALWAYS, *axial, *heavy, *spatial, *fourth)

    @property
    def survivors(self) -> BodySymmetry:  # type: ignore[override]
        """The rotations of body and space that the terms of non-zero strength leave."""
        result = BodySymmetry(tuple(dict.fromkeys(self.extreme_moments)))
        for term in self.breaking:
            # What the inertia does is in the moments, where terms can cancel.
            if term.strength > 0 and not isinstance(term, Asymmetry):
                result = result & term.survivors
        return result

    @property
    def joint_survivors(self) -> BodySymmetry:  # type: ignore[override]
        """The same: no term acts through an environment."""
        return self.survivors

    @property
    def environment_fields(self) -> FieldSpec:
        return FieldSpec.of()

    def sample_environment(
        self,
        grid: PeriodicGrid,
        generator: np.random.Generator,  # noqa: ARG002
    ) -> NDArray[np.float64]:
        """Return no field: a body has no environment."""
        return np.empty((0, *grid.shape))

    def solver(
        self,
        grid: PeriodicGrid,
        environment: "Tensor",
        dt: float,
        refinement: int = 1,
    ) -> Solver:
        from pde_sym.systems.rigid_body_solver import RigidBodySolver

        return RigidBodySolver(self, grid, environment, dt, refinement=refinement)

    def measure(
        self,
        state: "Tensor",
        grid: PeriodicGrid,  # noqa: ARG002
        environment: "Tensor",  # noqa: ARG002
    ) -> Budget:
        from pde_sym.systems.rigid_body_dynamics import measure, parts

        return measure(self, parts(self, state))

    def rates(
        self,
        state: "Tensor",
        grid: PeriodicGrid,  # noqa: ARG002
        environment: "Tensor",  # noqa: ARG002
    ) -> Budget:
        from pde_sym.systems.rigid_body_dynamics import parts, rates

        return rates(self, parts(self, state))

    def scalars(self) -> dict[str, float]:
        moments = {f"I{i + 1}": moment for i, moment in enumerate(self.inertia)}
        return moments | super().scalars()
