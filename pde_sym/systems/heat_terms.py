"""The breaking terms of the heat equation (`pde_sym.systems.heat`)."""

import math
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pde_sym.arrays import ArrayFile
from pde_sym.errors import InputError
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import FULL, GroupElement, Subgroup, point_group
from pde_sym.systems.base import BreakingTerm, Property
from pde_sym.systems.patterns import bump, direction_of, exact_cosine, own_pattern

Array = NDArray[np.float64]

_NOTHING = Subgroup.of("", point_group("C1"))
_TURNS_AND_FLIPS = Subgroup.of("", point_group("D4"))


class Bubbles(BreakingTerm):
    """Disks of another conductivity: ``kappa = k0 (1 - strength g(x))``.

    g is the fraction of the cell that lies in a disk; strength 1 is a vacuum. Centres
    and radii are drawn with the environment.
    """

    equation: ClassVar[str] = "u_t = div(k0 (1 - eps g(x)) grad u), g = 1 in disks"

    kind: Literal["bubbles"] = "bubbles"
    strength: float = Field(default=0.0, ge=0.0, le=1.0)
    """Contrast: 0 is the bare conductor, 1 a perfect insulator in the disks."""
    count: int = Field(default=6, ge=2, le=1000)
    """Number of disks."""
    smallest: float = Field(default=0.05, gt=0.0, lt=0.5)
    """Smallest radius, in box lengths."""
    largest: float = Field(default=0.12, gt=0.0, lt=0.5)
    """Largest radius, in box lengths."""
    field: ArrayFile | None = None
    """Own pattern g (x, y) with strength * g < 1, in place of the disks."""

    @property
    def survivors(self) -> Subgroup:
        return _NOTHING

    @property
    def breaks(self) -> frozenset[Property]:
        return frozenset()

    def pattern(self, grid: PeriodicGrid, generator: np.random.Generator) -> Array:
        """Return g: the fraction of each cell that is covered by disks."""
        if self.field is not None:
            return own_pattern(self.kind, self.field, grid)
        if self.largest < self.smallest:
            raise InputError(
                f"bubbles: largest={self.largest} is below smallest={self.smallest}"
            )
        centres = generator.uniform(size=(self.count, 2))
        radii = generator.uniform(self.smallest, self.largest, size=self.count)
        return disk_fraction(grid, centres, radii)


class Anisotropy(BreakingTerm):
    """A conductivity tensor ``k0 R diag(1 + strength, 1 - strength) R^T``."""

    equation: ClassVar[str] = (
        "u_t = div(k0 R(angle) diag(1 + eps, 1 - eps) R(angle)^T grad u)"
    )

    kind: Literal["anisotropy"] = "anisotropy"
    strength: float = Field(default=0.0, ge=0.0, le=1.0)
    """Relative difference of the principal conductivities."""
    angle: float = Field(default=0.0, ge=-360.0, le=360.0)
    """Direction of the better conduction against the x axis, in degrees."""

    @property
    def survivors(self) -> Subgroup:
        if math.isclose(self.angle % 45.0, 0.0, abs_tol=1e-9):
            diagonal = round(self.angle / 45.0) % 2
            flips = [
                GroupElement(diagonal, flip=True),
                GroupElement(diagonal + 2, True),
            ]
        else:
            flips = []
        return Subgroup.of("xy", [*point_group("C2"), *flips])

    @property
    def breaks(self) -> frozenset[Property]:
        # Off the axes the nine-point stencil has weights of both signs.
        if abs(self.cross) < 1e-12:
            return frozenset()
        return frozenset({Property.MAXIMUM_PRINCIPLE})

    @property
    def along(self) -> float:
        """``cos(2 angle)``, exactly 0 and +-1 at multiples of 45 degrees."""
        return exact_cosine(2 * self.angle)

    @property
    def cross(self) -> float:
        """``sin(2 angle)``, likewise."""
        return exact_cosine(2 * self.angle - 90.0)


class Sink(BreakingTerm):
    """Heat is lost at the rate ``strength s(x) u``."""

    equation: ClassVar[str] = "u_t = k0 Lap u - eps s(x) u"

    kind: Literal["sink"] = "sink"
    strength: float = Field(default=0.0, ge=0.0, le=1e4)
    """Rate, per unit of time."""
    profile: Literal["uniform", "bump"] = "uniform"
    """s = 1, or a bump in the middle of the box."""
    field: ArrayFile | None = None
    """Own profile s (x, y) >= 0."""

    @property
    def survivors(self) -> Subgroup:
        if self.field is not None:
            return _NOTHING
        return FULL if self.profile == "uniform" else _TURNS_AND_FLIPS

    @property
    def breaks(self) -> frozenset[Property]:
        return frozenset(
            {
                Property.HEAT,
                Property.WEIGHTED_HEAT,
                Property.OFFSET,
                Property.MAXIMUM_PRINCIPLE,
            }
        )

    def pattern(self, grid: PeriodicGrid) -> Array:
        """Return s."""
        if self.field is not None:
            values = own_pattern(self.kind, self.field, grid)
            if values.min() < 0:
                raise InputError(f"sink.field: expected s >= 0, got {values.min():g}")
            return values
        return bump(grid) if self.profile == "bump" else np.ones(grid.shape)


class Drift(BreakingTerm):
    """A constant wind b of speed `strength` that carries the heat."""

    equation: ClassVar[str] = "u_t = k0 Lap u - eps b.grad u, b = (cos, sin)(angle)"

    kind: Literal["drift"] = "drift"
    strength: float = Field(default=0.0, ge=0.0, le=1e4)
    """Speed, in lengths per unit of time."""
    angle: float = Field(default=0.0, ge=-360.0, le=360.0)
    """Direction against the x axis, in degrees."""

    @property
    def direction(self) -> tuple[float, float]:
        return direction_of(self.angle)

    @property
    def survivors(self) -> Subgroup:
        bx, by = self.direction
        kept = []
        for g in point_group("D4"):
            (a, b), (c, d) = g.matrix
            if abs(a * bx + b * by - bx) + abs(c * bx + d * by - by) < 1e-9:
                kept.append(g)
        return Subgroup.of("xy", kept)

    @property
    def breaks(self) -> frozenset[Property]:
        return frozenset({Property.SELF_ADJOINT})


class Nonlinear(BreakingTerm):
    """A conductivity that grows with temperature, ``k0 (1 + strength u)``."""

    equation: ClassVar[str] = "u_t = div(k0 (1 + eps u) grad u)"

    kind: Literal["nonlinear"] = "nonlinear"
    strength: float = Field(default=0.0, ge=0.0, le=1.0)
    """Relative change of the conductivity per degree; 1 + strength * u stays > 0."""

    @property
    def survivors(self) -> Subgroup:
        return FULL

    @property
    def breaks(self) -> frozenset[Property]:
        return frozenset(
            {
                Property.SUPERPOSITION,
                Property.SIGN,
                Property.OFFSET,
                Property.SELF_ADJOINT,
            }
        )


class Source(BreakingTerm):
    """A constant source ``strength q(x)``."""

    equation: ClassVar[str] = "u_t = k0 Lap u + eps q(x)"

    kind: Literal["source"] = "source"
    strength: float = Field(default=0.0, ge=0.0, le=1e6)
    """Amplitude, in degrees per unit of time."""
    balanced: bool = False
    """Whether the mean of q is removed, so that total heat is kept."""
    field: ArrayFile | None = None
    """Own pattern q (x, y), in place of a bump in the middle of the box."""

    @property
    def survivors(self) -> Subgroup:
        return _NOTHING if self.field is not None else _TURNS_AND_FLIPS

    @property
    def breaks(self) -> frozenset[Property]:
        broken = {
            Property.SUPERPOSITION,
            Property.SIGN,
            Property.SELF_ADJOINT,
            Property.MAXIMUM_PRINCIPLE,
            Property.ENERGY_DECAY,
        }
        if not self.balanced:
            broken |= {Property.HEAT, Property.WEIGHTED_HEAT}
        return frozenset(broken)

    def pattern(self, grid: PeriodicGrid) -> Array:
        """Return q."""
        values = (
            bump(grid)
            if self.field is None
            else own_pattern(self.kind, self.field, grid)
        )
        return values - values.mean() if self.balanced else values


class Capacity(BreakingTerm):
    """A heat capacity ``C = 1 + strength c(x)``."""

    equation: ClassVar[str] = "(1 + eps c(x)) u_t = k0 Lap u"

    kind: Literal["capacity"] = "capacity"
    strength: float = Field(default=0.0, ge=0.0, le=1e4)
    """Relative excess of the capacity where c = 1."""
    field: ArrayFile | None = None
    """Own pattern c (x, y) with 1 + strength * c > 0, in place of a bump."""

    @property
    def survivors(self) -> Subgroup:
        return _NOTHING if self.field is not None else _TURNS_AND_FLIPS

    @property
    def breaks(self) -> frozenset[Property]:
        return frozenset({Property.HEAT, Property.SELF_ADJOINT})

    def pattern(self, grid: PeriodicGrid) -> Array:
        """Return c."""
        if self.field is None:
            return bump(grid)
        return own_pattern(self.kind, self.field, grid)


def disk_fraction(
    grid: PeriodicGrid, centres: Array, radii: Array, samples: int = 8
) -> Array:
    """Return the fraction of each cell that lies in a disk, from samples x samples.

    Centres ``(n, 2)`` and radii ``(n,)`` are in units of the first box length; the
    cell of a point is centred on it, so that turns about a point map cells to cells.
    """
    offsets = (np.arange(samples) + 0.5) / samples - 0.5
    inside = np.zeros((grid.shape[0], samples, grid.shape[1], samples), dtype=bool)
    unit = grid.lengths[0]
    axes = []
    for axis, spacing in enumerate(grid.spacing):
        points = grid.coordinates(axis)[:, None] + offsets * spacing
        axes.append(points / unit)
    for (cx, cy), radius in zip(centres, radii, strict=True):
        dx = _periodic(axes[0] - cx, 1.0)
        dy = _periodic(axes[1] - cy, grid.lengths[1] / unit)
        inside |= dx[:, :, None, None] ** 2 + dy[None, None] ** 2 < radius**2
    return inside.mean(axis=(1, 3))


def _periodic(distance: Array, period: float) -> Array:
    return distance - period * np.round(distance / period)
