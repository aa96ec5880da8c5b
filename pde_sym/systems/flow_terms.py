"""The breaking terms of two-dimensional flow (`pde_sym.systems.flow`).

Equations are those of the vorticity; ``w`` is short for omega.
"""

from enum import StrEnum
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pde_sym.arrays import ArrayFile
from pde_sym.errors import InputError
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import FULL, Subgroup, point_group
from pde_sym.initial_conditions import RandomField
from pde_sym.systems.base import BreakingTerm
from pde_sym.systems.patterns import bump, direction_of, fixing, own_pattern

Array = NDArray[np.float64]

_NOTHING = Subgroup.of("", point_group("C1"))
_TURNS_AND_FLIPS = Subgroup.of("", point_group("D4"))
_TURNS = Subgroup.of("", point_group("C4"))


class FlowProperty(StrEnum):
    """A property of the flow that is not a motion of the plane."""

    MOMENTUM = "momentum"
    """<u> is constant"""
    ENERGY = "energy lost by uniform viscosity alone"
    """``d<|u|^2 / 2>/dt = -nu <w^2>``"""
    ENSTROPHY = "enstrophy lost by uniform viscosity alone"
    """``d<w^2 / 2>/dt = -nu <|grad w|^2>``"""
    GALILEI = "Galilei boosts"
    """Phi_t(u + U)(x) = Phi_t(u)(x - U t) + U"""


_BUDGETS = frozenset({FlowProperty.ENERGY, FlowProperty.ENSTROPHY})


class FlowTerm(BreakingTerm):
    """A breaking term of the flow."""

    pinned: ClassVar[bool] = False
    """Whether the term depends on position, so that shifts break."""

    @property
    def breaks(self) -> frozenset[FlowProperty]:  # type: ignore[override]
        return frozenset()


class Beta(FlowTerm):
    """A Coriolis parameter that grows along a direction, felt by the eddies.

    ``w_t + u.grad w = nu Lap w - strength g.(u - <u>)`` with the unit vector g. The
    mean flow does not feel it: on a torus the parameter has a jump, its gradient none.
    """

    equation: ClassVar[str] = "w_t + u.grad w = nu Lap w - eps g.(u - <u>)"

    kind: Literal["beta"] = "beta"
    strength: float = Field(default=0.0, ge=0.0, le=1e4)
    """Gradient of the Coriolis parameter, per length and time."""
    angle: float = Field(default=90.0, ge=-360.0, le=360.0)
    """Direction g of the gradient against the x axis, in degrees."""

    @property
    def direction(self) -> tuple[float, float]:
        return direction_of(self.angle)

    @property
    def survivors(self) -> Subgroup:
        # The parameter is a pseudoscalar: a flip that turns g round keeps it.
        return Subgroup.of("xy", fixing(self.direction, pseudo=True))


class Drag(FlowTerm):
    """A uniform friction ``-strength u`` (Ekman, Rayleigh)."""

    equation: ClassVar[str] = "w_t + u.grad w = nu Lap w - eps w"

    kind: Literal["drag"] = "drag"
    strength: float = Field(default=0.0, ge=0.0, le=1e3)
    """Rate, per unit of time."""
    mean: bool = True
    """Whether the mean flow is dragged too."""

    @property
    def survivors(self) -> Subgroup:
        return FULL

    @property
    def breaks(self) -> frozenset[FlowProperty]:  # type: ignore[override]
        if self.mean:
            return _BUDGETS | {FlowProperty.MOMENTUM, FlowProperty.GALILEI}
        return _BUDGETS


class Kolmogorov(FlowTerm):
    """A force ``(strength sin(2 pi mode y / L), 0)``.

    It also keeps the shifts of y by L / mode, and flips that come with half of one:
    ``(x, y) -> (x, -y + L / (2 mode))``.
    """

    equation: ClassVar[str] = "w_t + u.grad w = nu Lap w - eps k cos(k y)"
    pinned: ClassVar[bool] = True

    kind: Literal["kolmogorov"] = "kolmogorov"
    strength: float = Field(default=0.0, ge=0.0, le=1e4)
    """Amplitude of the force, in lengths per time squared."""
    mode: int = Field(default=2, ge=1, le=64)
    """Periods of the force per box, k = 2 pi mode / L."""

    @property
    def survivors(self) -> Subgroup:
        return Subgroup.of("x", point_group("C2"))

    @property
    def breaks(self) -> frozenset[FlowProperty]:  # type: ignore[override]
        return _BUDGETS | {FlowProperty.GALILEI}


class Topography(FlowTerm):
    """A Coriolis parameter ``strength h(x)`` of zero mean, as of a bottom with hills.

    ``q = w + strength h`` is carried by the flow, and the mean flow U feels the form
    drag ``U_t = strength <h (v, -u)>``. The force is at right angles to the velocity,
    so energy stays as it was; h is a pseudoscalar.
    """

    equation: ClassVar[str] = "w_t + u.grad(w + eps h(x)) = nu Lap w"
    pinned: ClassVar[bool] = True

    kind: Literal["topography"] = "topography"
    strength: float = Field(default=0.0, ge=0.0, le=1e4)
    """Coriolis parameter where h = 1, per unit of time."""
    profile: Literal["hill", "random"] = "hill"
    """One hill in the middle of the box, or band-limited noise of unit variance."""
    modes: int = Field(default=3, ge=1, le=64)
    """Largest wavenumber of the noise, in periods per box."""
    field: ArrayFile | None = None
    """Own h (x, y); its mean is removed."""

    @property
    def survivors(self) -> Subgroup:
        # The hill has all turns and flips, but a flip makes a hole of it.
        if self.field is not None or self.profile == "random":
            return _NOTHING
        return _TURNS

    @property
    def breaks(self) -> frozenset[FlowProperty]:  # type: ignore[override]
        return frozenset(
            {FlowProperty.MOMENTUM, FlowProperty.ENSTROPHY, FlowProperty.GALILEI}
        )

    def pattern(self, grid: PeriodicGrid, generator: np.random.Generator) -> Array:
        """Return h."""
        if self.field is not None:
            values = own_pattern(self.kind, self.field, grid)
        elif self.profile == "random":
            law = RandomField(modes=self.modes, offset=0.0)
            values = law.sample(grid, generator)[0]
        else:
            values = bump(grid, sharpness=2.0)
        return values - values.mean()


class MeanFlow(FlowTerm):
    """A wind that carries the vorticity: the null control.

    ``w_t + (u + W).grad w = nu Lap w``: the intact flow seen by an observer who moves
    with -W, shifted by exactly W t. Nothing breaks when the model may read W.
    """

    equation: ClassVar[str] = "w_t + (u + eps n).grad w = nu Lap w"

    kind: Literal["mean_flow"] = "mean_flow"
    strength: float = Field(default=0.0, ge=0.0, le=1e4)
    """Speed, in lengths per unit of time."""
    angle: float = Field(default=0.0, ge=-360.0, le=360.0)
    """Direction n against the x axis, in degrees."""

    @property
    def direction(self) -> tuple[float, float]:
        return direction_of(self.angle)

    @property
    def survivors(self) -> Subgroup:
        return Subgroup.of("xy", fixing(self.direction))


class Viscosity(FlowTerm):
    """A viscosity ``nu (1 + strength g(x))`` in the stress ``2 nu(x) S``."""

    equation: ClassVar[str] = (
        "w_t + u.grad w = curl div(2 nu (1 + eps g(x)) S), S = sym grad u"
    )
    pinned: ClassVar[bool] = True

    kind: Literal["viscosity"] = "viscosity"
    strength: float = Field(default=0.0, ge=0.0, le=1e3)
    """Relative excess of the viscosity where g = 1."""
    field: ArrayFile | None = None
    """Own g (x, y) with 1 + strength * g > 0, in place of a bump in the middle."""

    @property
    def survivors(self) -> Subgroup:
        return _NOTHING if self.field is not None else _TURNS_AND_FLIPS

    @property
    def breaks(self) -> frozenset[FlowProperty]:  # type: ignore[override]
        return _BUDGETS | {FlowProperty.GALILEI}

    def pattern(self, grid: PeriodicGrid) -> Array:
        """Return g."""
        if self.field is None:
            return bump(grid, sharpness=2.0)
        return own_pattern(self.kind, self.field, grid)


class Obstacle(FlowTerm):
    """A porous disk that brakes the flow: the force ``-strength chi(x) u`` (Brinkman).

    chi falls from 1 to 0 over `width`. The flow about a solid is the limit of great
    strength: a sharp mask misses it by about ``strength^(-1/2)`` (Angot, Bruneau,
    Fabrie 1999, Numer. Math. 81), while a soft edge moves outwards with the strength.
    """

    equation: ClassVar[str] = "w_t + u.grad w = nu Lap w - eps curl(chi(x) u)"
    pinned: ClassVar[bool] = True

    kind: Literal["obstacle"] = "obstacle"
    strength: float = Field(default=0.0, ge=0.0, le=1e4)
    """Rate of the friction inside, per unit of time."""
    radius: float = Field(default=0.15, gt=0.0, lt=0.5)
    """Radius of the disk in the middle, in units of the first box length."""
    width: float = Field(default=0.02, gt=0.0, lt=0.1)
    """Half the thickness of its edge, in the same units."""
    field: ArrayFile | None = None
    """Own mask chi (x, y) in [0, 1], in place of the disk."""

    @property
    def survivors(self) -> Subgroup:
        return _NOTHING if self.field is not None else _TURNS_AND_FLIPS

    @property
    def breaks(self) -> frozenset[FlowProperty]:  # type: ignore[override]
        return frozenset(FlowProperty)

    def pattern(self, grid: PeriodicGrid) -> Array:
        """Return chi.

        Raises
        ------
        InputError
            When the mask leaves [0, 1] or no free fluid.
        """
        if self.field is not None:
            mask = own_pattern(self.kind, self.field, grid)
            if mask.min() < 0 or mask.max() > 1:
                raise InputError(
                    f"obstacle.field: expected 0 <= chi <= 1, got {mask.min():g} to "
                    f"{mask.max():g}"
                )
        else:
            unit = grid.lengths[0]
            dx, dy = (
                x - length / 2
                for x, length in zip(grid.mesh(), grid.lengths, strict=True)
            )
            distance = np.sqrt(dx**2 + dy**2) / unit
            mask = (1 - np.tanh((distance - self.radius) / self.width)) / 2
        if mask.min() > 0.01:
            raise InputError(
                f"obstacle: it covers the domain, its mask is nowhere below "
                f"{mask.min():.2g}: leave some free fluid"
            )
        return mask


class Buoyancy(FlowTerm):
    """A tracer b that lifts the fluid: the force ``strength b e`` along a direction e.

    The mean of b lifts all of it: the mean flow accelerates by ``strength <b> e``.
    """

    equation: ClassVar[str] = "w_t + u.grad w = nu Lap w + eps curl(b e)"

    kind: Literal["buoyancy"] = "buoyancy"
    strength: float = Field(default=0.0, ge=0.0, le=1e4)
    """Force per unit of the tracer, in lengths per time squared."""
    angle: float = Field(default=90.0, ge=-360.0, le=360.0)
    """Direction e of the lift against the x axis, in degrees."""

    @property
    def direction(self) -> tuple[float, float]:
        return direction_of(self.angle)

    @property
    def survivors(self) -> Subgroup:
        return Subgroup.of("xy", fixing(self.direction))

    @property
    def breaks(self) -> frozenset[FlowProperty]:  # type: ignore[override]
        return _BUDGETS | {FlowProperty.MOMENTUM}
