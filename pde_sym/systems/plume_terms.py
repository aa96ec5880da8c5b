"""The breaking terms of the smoke plume (`pde_sym.systems.plume`).

All but `BuoyancyImbalance` act through fields of the environment: the lift, the inflow
and the solid. Places are in box lengths, ``(x, y)`` from 0 to 1.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pde_sym.arrays import ArrayFile
from pde_sym.errors import InputError
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import GroupElement, Subgroup, point_group
from pde_sym.systems.base import BreakingTerm
from pde_sym.systems.patterns import direction_of, fixing, own_pattern

Array = NDArray[np.float64]
Place = Annotated[float, Field(ge=0.0, le=1.0)]

WALLS = Subgroup.of("", point_group("D4"))
"""What the square box leaves of the symmetries of the plane."""
_NOTHING = Subgroup.of("", point_group("C1"))


class PlumeProperty(StrEnum):
    """A property of the plume that is not a motion of the plane."""

    SMOKE = "total smoke"
    """int s is constant"""
    BOUNDS = "smoke within its bounds"
    """min s <= Phi(s) <= max s"""
    PASSIVE = "passive smoke"
    """the velocity does not depend on the smoke, and Phi(a s + c) = a Phi(s) + c"""
    ENERGY = "energy decay"
    """``int |u|^2`` never grows"""


class PlumeTerm(BreakingTerm):
    """A breaking term of the plume."""

    @property
    def breaks(self) -> frozenset[PlumeProperty]:  # type: ignore[override]
        return frozenset()


class BuoyancyDirection(PlumeTerm):
    """Smoke is lifted along a direction: the force ``strength s e``.

    With `turned`, each environment is turned as a whole, inflow and obstacle included,
    by a random multiple k of 90 degrees, and its lift is multiplied by
    ``1 + imbalance (2 k / 3 - 1)``: the rotation experiment of Wang, Walters, Yu 2022
    (arXiv 2201.11969), where plumes rise in four directions with unequal strengths.
    """

    equation: ClassVar[str] = "u_t + u.grad u = -grad p + nu Lap u + eps s e"

    kind: Literal["buoyancy_direction"] = "buoyancy_direction"
    strength: float = Field(default=0.0, ge=0.0, le=1e4)
    """Force per unit of smoke, in lengths per time squared."""
    angle: float = Field(default=90.0, ge=-360.0, le=360.0)
    """Direction e against the x axis, in degrees."""
    turned: bool = False
    """Whether each environment is turned by a random multiple of 90 degrees."""
    imbalance: float = Field(default=0.0, ge=0.0, le=1.0)
    """Relative spread of the lift over the four turns; only with `turned`."""

    @model_validator(mode="after")
    def _imbalance_needs_turns(self) -> Self:
        if self.imbalance and not self.turned:
            raise ValueError("imbalance is between turns: it needs turned = true")
        return self

    @property
    def survivors(self) -> Subgroup:
        if self.turned:
            return _NOTHING
        return Subgroup.of("", fixing(direction_of(self.angle)))

    @property
    def breaks(self) -> frozenset[PlumeProperty]:  # type: ignore[override]
        return frozenset({PlumeProperty.PASSIVE, PlumeProperty.ENERGY})

    def pattern(self, grid: PeriodicGrid) -> Array:
        """Return e at every point, ``(2, x, y)``."""
        return _vector(direction_of(self.angle), np.ones(grid.shape))


class BuoyancyGradient(PlumeTerm):
    """A lift that differs over the box: the force ``strength h(x) s e``.

    h has no mean: -1/2 and 1/2 in the two halves, or the place along the gradient from
    -1/2 to 1/2. Beside a uniform lift, this is the translation experiment of Wang,
    Walters, Yu 2022 (arXiv 2201.11969): 0.1 and 0.2 are ``buoyancy_direction=0.15``
    and ``buoyancy_gradient=0.1``.
    """

    equation: ClassVar[str] = "u_t + u.grad u = -grad p + nu Lap u + eps h(x) s e"

    kind: Literal["buoyancy_gradient"] = "buoyancy_gradient"
    strength: float = Field(default=0.0, ge=0.0, le=1e4)
    """Difference of the lift over the box, in lengths per time squared."""
    angle: float = Field(default=90.0, ge=-360.0, le=360.0)
    """Direction e of the lift against the x axis, in degrees."""
    along: float = Field(default=0.0, ge=-360.0, le=360.0)
    """Direction in which h grows against the x axis, in degrees."""
    profile: Literal["halves", "linear"] = "halves"
    """Whether h jumps in the middle or grows evenly."""
    field: ArrayFile | None = None
    """Own h (x, y)."""

    @property
    def survivors(self) -> Subgroup:
        """Both of e and the gradient are kept, or both are turned round."""
        if self.field is not None:
            return _NOTHING
        e, d = direction_of(self.angle), direction_of(self.along)
        kept = [g for g in point_group("D4") if _sign(g, e) * _sign(g, d) == 1]
        return Subgroup.of("", kept)

    @property
    def breaks(self) -> frozenset[PlumeProperty]:  # type: ignore[override]
        return frozenset({PlumeProperty.PASSIVE, PlumeProperty.ENERGY})

    def pattern(self, grid: PeriodicGrid) -> Array:
        """Return ``h e`` at every point, ``(2, x, y)``."""
        e = direction_of(self.angle)
        if self.field is not None:
            return _vector(e, own_pattern(self.kind, self.field, grid))
        dx, dy = direction_of(self.along)
        x, y = _from_centre(grid, (0.5, 0.5))
        height = (dx * x + dy * y) / (abs(dx) + abs(dy))
        if self.profile == "halves":
            # Points on the line, but for round-off, belong to neither half.
            height = np.where(abs(height) < 1e-9, 0.0, np.sign(height) / 2)
        return _vector(e, height)


class BuoyancyImbalance(PlumeTerm):
    """A lift that acts more strongly along one direction than along another.

    The environment holds the lift l as it is drawn; the force is ``s M(l)``. Each
    half-axis has a factor of its own: M multiplies the part of l that points k quarter
    turns from +y by ``1 + strength (2 k / 3 - 1)``,

        M_x = (1 + eps) max(l_x, 0) - (1 - eps / 3) max(-l_x, 0),
        M_y = (1 - eps) max(l_y, 0) - (1 + eps / 3) max(-l_y, 0).

    These are the factors of `BuoyancyDirection.imbalance`, there a part of the lift
    and here of the law: who is told l sees where a plume rises but not how strongly,
    and no turn or flip of state and lift together survives. It acts on the lift of a
    `BuoyancyDirection` with `turned`.
    """

    equation: ClassVar[str] = "u_t + u.grad u = -grad p + nu Lap u + s M_eps(l)"

    kind: Literal["buoyancy_imbalance"] = "buoyancy_imbalance"
    strength: float = Field(default=0.0, ge=0.0, le=1.0)
    """Relative spread of the factors."""

    @property
    def survivors(self) -> Subgroup:
        return _NOTHING

    def factors(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the factors along +x and -x, then those along +y and -y."""
        up, left, down, right = (1 + self.strength * (2 * k / 3 - 1) for k in range(4))
        return (right, left), (up, down)


class Inflow(PlumeTerm):
    """Smoke comes in: ``s_t + div(u s) = strength q(x)``, q = 1 in a disk.

    The edge of the disk is one cell wide. With `spread`, each environment has its own
    place, uniform in ``x +- spread_x, y +- spread_y``.
    """

    equation: ClassVar[str] = "s_t + div(u s) = eps q(x), q = 1 in a disk"

    kind: Literal["inflow"] = "inflow"
    strength: float = Field(default=0.0, ge=0.0, le=1e4)
    """Rate in the disk, in units of smoke per time."""
    x: Place = 0.5
    """Centre of the disk, in box lengths."""
    y: Place = 0.15
    """Centre of the disk, in box lengths."""
    radius: float = Field(default=0.08, gt=0.0, lt=0.5)
    """Radius of the disk, in units of the first box length."""
    spread_x: float = Field(default=0.0, ge=0.0, le=0.5)
    """Half the range of the places along x, in box lengths."""
    spread_y: float = Field(default=0.0, ge=0.0, le=0.5)
    """Half the range of the places along y, in box lengths."""
    field: ArrayFile | None = None
    """Own q (x, y) >= 0, in place of the disk."""

    @model_validator(mode="after")
    def _inside(self) -> Self:
        for name, place, spread in (
            ("x", self.x, self.spread_x),
            ("y", self.y, self.spread_y),
        ):
            if not spread <= place <= 1 - spread:
                raise ValueError(
                    f"{name} = {place} with spread_{name} = {spread} leaves the box, "
                    "which is from 0 to 1"
                )
        return self

    @property
    def survivors(self) -> Subgroup:
        if self.field is not None or self.spread_x or self.spread_y:
            return _NOTHING
        return Subgroup.of("", fixing((self.x - 0.5, self.y - 0.5)))

    @property
    def breaks(self) -> frozenset[PlumeProperty]:  # type: ignore[override]
        return frozenset(PlumeProperty) - {PlumeProperty.ENERGY}

    def pattern(self, grid: PeriodicGrid, generator: np.random.Generator) -> Array:
        """Return q; `InputError` when an own q has negative values."""
        if self.field is not None:
            values = own_pattern(self.kind, self.field, grid)
            if values.min() < 0:
                raise InputError(f"inflow.field: expected q >= 0, got {values.min():g}")
            return values
        shift = generator.uniform(-1, 1, size=2)
        place = (self.x + self.spread_x * shift[0], self.y + self.spread_y * shift[1])
        return disk_cover(grid, place, self.radius)


class Obstacle(PlumeTerm):
    """A solid disk of radius `strength` that the flow goes around.

    Cells whose centre lies in it are solid; the flow sticks to it when it is viscous.
    """

    equation: ClassVar[str] = "u = 0 in a disk of radius eps L"

    kind: Literal["obstacle"] = "obstacle"
    strength: float = Field(default=0.0, ge=0.0, lt=0.5)
    """Radius, in units of the first box length."""
    x: Place = 0.5
    """Centre, in box lengths."""
    y: Place = 0.5
    """Centre, in box lengths."""
    field: ArrayFile | None = None
    """Own mask (x, y), solid where it is not 0, in place of the disk."""

    @property
    def survivors(self) -> Subgroup:
        if self.field is not None:
            return _NOTHING
        return Subgroup.of("", fixing((self.x - 0.5, self.y - 0.5)))

    def pattern(self, grid: PeriodicGrid) -> Array:
        """Return 1 in solid cells and 0 in the fluid.

        Raises
        ------
        InputError
            When nothing is left to the fluid, or no cell is solid.
        """
        if self.strength == 0:
            return np.zeros(grid.shape)
        if self.field is not None:
            solid = own_pattern(self.kind, self.field, grid) != 0
        else:
            # Cells that turn into each other are at one distance but for round-off.
            reach = self.strength * grid.lengths[0] * (1 - 1e-9)
            solid = np.hypot(*_scaled(grid, (self.x, self.y))) < reach
        if solid.all():
            raise InputError(
                "obstacle: it covers the domain; leave some cells to the fluid"
            )
        if not solid.any():
            raise InputError(
                f"obstacle: no cell of {grid.shape} has its centre in the disk of "
                f"radius {self.strength}; raise it or the resolution"
            )
        return solid.astype(np.float64)


def disk_cover(grid: PeriodicGrid, centre: tuple[float, float], radius: float) -> Array:
    """Return 1 in a disk and 0 outside, linear over one cell across its edge.

    ``clip((R - r) / dx + 1/2, 0, 1)``: a continuous function of the place, so that
    turns and flips of the box leave it alone but for round-off.
    """
    distance = np.hypot(*_scaled(grid, centre))
    edge = (radius * grid.lengths[0] - distance) / max(grid.spacing)
    return np.clip(edge + 0.5, 0.0, 1.0)


def _from_centre(grid: PeriodicGrid, centre: tuple[float, float]) -> list[Array]:
    """Return the distance from a place along each axis, in box lengths."""
    points = zip(grid.mesh(), grid.lengths, centre, strict=True)
    return [x / length - place for x, length, place in points]


def _scaled(grid: PeriodicGrid, centre: tuple[float, float]) -> list[Array]:
    """Return the distance from a place along each axis, in units of length."""
    parts = zip(_from_centre(grid, centre), grid.lengths, strict=True)
    return [part * length for part, length in parts]


def _vector(direction: tuple[float, float], size: Array) -> Array:
    return np.stack([part * size for part in direction])


def _sign(element: GroupElement, vector: tuple[float, float]) -> int:
    """Return 1 or -1 when the element keeps or turns round the vector, 0 otherwise."""
    (a, b), (c, d) = element.matrix
    x, y = vector
    image = np.array([a * x + b * y, c * x + d * y])
    for sign in (1, -1):
        if np.abs(image - sign * np.array(vector)).sum() < 1e-9:
            return sign
    return 0
