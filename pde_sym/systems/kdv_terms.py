"""The breaking terms of KdV (`pde_sym.systems.kdv`).

Profiles have their maximum 1 in the middle of the box, where they are even.
"""

from enum import StrEnum
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pde_sym.arrays import ArrayFile
from pde_sym.errors import InputError
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import Subgroup, point_group
from pde_sym.systems.base import BreakingTerm

Array = NDArray[np.float64]

SHIFTS = Subgroup.of("x", point_group("C1"))
"""Every shift of the line: what the intact equation has."""
NOTHING = Subgroup.of("", point_group("C1"))


BOOST_SPEED = 6.0
"""Speed, per unit of V, of the frame in which u + V is u: the 6 of 6 u u_x."""


class KdVProperty(StrEnum):
    """A property of KdV that is not a shift in space."""

    TIME = "shifts of time"
    """the flow from t to t + s does not depend on t"""
    GALILEI = "Galilei boosts"
    """Phi_t(u + V)(x) = Phi_t(u)(x - 6 V t) + V"""
    SCALING = "scaling"
    """u -> s^-2 u, x -> s x, t -> s^3 t"""
    REVERSAL = "reversal"
    """(x, t) -> (-x, -t) about some point and time"""
    MASS = "mass"
    """int P_1 is constant"""
    MOMENTUM = "momentum"
    """int P_3 is constant"""
    ENERGY = "energy of KdV"
    """int P_5 is constant"""
    HIERARCHY = "hierarchy of KdV"
    """int P_7, int P_9, .. are constant"""
    HAMILTONIAN = "Hamiltonian"
    """the energy that includes the term is constant, u_t = d_x dH/du"""
    INTEGRABILITY = "integrability"
    """infinitely many integrals are constant, those of KdV or others"""


_P = KdVProperty
_HIGHER = frozenset({_P.ENERGY, _P.HIERARCHY})
_ALL_OF_LOSS = _HIGHER | {
    _P.SCALING,
    _P.MOMENTUM,
    _P.HAMILTONIAN,
    _P.INTEGRABILITY,
}


class KdVTerm(BreakingTerm):
    """A breaking term of KdV."""

    @property
    def survivors(self) -> Subgroup:
        return SHIFTS


class _Pinned(KdVTerm):
    """A term that depends on position."""

    field: ArrayFile | None = None
    """Own profile (x,), in place of a bump in the middle of the box."""

    @property
    def survivors(self) -> Subgroup:
        return NOTHING

    def pattern(self, grid: PeriodicGrid) -> Array:
        """Return the profile on the grid."""
        return bump(grid) if self.field is None else own_profile(self, grid)


class Potential(_Pinned):
    """A current V that varies in space and carries u: ``(strength V u)_x``."""

    equation: ClassVar[str] = "u_t + 6 u u_x + u_xxx = -eps (V(x) u)_x"

    kind: Literal["potential"] = "potential"
    strength: float = Field(default=0.0, ge=0.0, le=1e3)
    """Speed of the current where V = 1, in lengths per unit of time."""

    @property
    def breaks(self) -> frozenset[KdVProperty]:  # type: ignore[override]
        return (_ALL_OF_LOSS - {_P.HAMILTONIAN}) | _of_position(self)


class Dispersion(_Pinned):
    """A dispersion ``1 + strength V`` that varies in space."""

    equation: ClassVar[str] = "u_t + 6 u u_x + ((1 + eps V(x)) u_x)_xx = 0"

    kind: Literal["dispersion"] = "dispersion"
    strength: float = Field(default=0.0, ge=0.0, le=10.0)
    """Relative excess of the dispersion where V = 1."""

    @property
    def breaks(self) -> frozenset[KdVProperty]:  # type: ignore[override]
        return (_ALL_OF_LOSS - {_P.HAMILTONIAN}) | _of_position(self)


class Damping(KdVTerm):
    """A uniform loss ``-strength u``."""

    equation: ClassVar[str] = "u_t + 6 u u_x + u_xxx = -eps u"

    kind: Literal["damping"] = "damping"
    strength: float = Field(default=0.0, ge=0.0, le=1e3)
    """Rate, per unit of time."""

    @property
    def breaks(self) -> frozenset[KdVProperty]:  # type: ignore[override]
        return _ALL_OF_LOSS | {_P.GALILEI, _P.REVERSAL, _P.MASS}


class Viscosity(KdVTerm):
    """A diffusion ``strength u_xx``: the Korteweg-de Vries-Burgers equation."""

    equation: ClassVar[str] = "u_t + 6 u u_x + u_xxx = eps u_xx"

    kind: Literal["viscosity"] = "viscosity"
    strength: float = Field(default=0.0, ge=0.0, le=1e3)
    """Viscosity, in lengths squared per unit of time."""

    @property
    def breaks(self) -> frozenset[KdVProperty]:  # type: ignore[override]
        return _ALL_OF_LOSS | {_P.REVERSAL}


class Forcing(_Pinned):
    """A constant force ``strength f(x)``."""

    equation: ClassVar[str] = "u_t + 6 u u_x + u_xxx = eps f(x)"

    kind: Literal["forcing"] = "forcing"
    strength: float = Field(default=0.0, ge=0.0, le=1e3)
    """Force where f = 1, in units of u per unit of time."""
    profile: Literal["bump", "wave"] = "bump"
    """A bump in the middle of the box, or ``sin(2 pi x / L)``, which is odd."""
    balanced: bool = False
    """Whether the mean of f is removed, so that mass is kept."""

    @property
    def breaks(self) -> frozenset[KdVProperty]:  # type: ignore[override]
        odd = self.field is None and self.profile == "wave"
        broken = _ALL_OF_LOSS - {_P.HAMILTONIAN} | {_P.GALILEI}
        if not odd:
            broken |= {_P.REVERSAL}
        if not (odd or self.balanced):
            # H holds int F u with F_x = eps f, which is periodic for balanced f only.
            broken |= {_P.MASS, _P.HAMILTONIAN}
        return frozenset(broken)

    def pattern(self, grid: PeriodicGrid) -> Array:
        """Return f."""
        if self.field is None and self.profile == "wave":
            return np.sin(2 * np.pi * grid.coordinates(0) / grid.lengths[0])
        values = super().pattern(grid)
        return values - values.mean() if self.balanced else values


class Kawahara(KdVTerm):
    """A dispersion of fifth order."""

    equation: ClassVar[str] = "u_t + 6 u u_x + u_xxx = -eps u_xxxxx"

    kind: Literal["kawahara"] = "kawahara"
    strength: float = Field(default=0.0, ge=0.0, le=10.0)
    """In lengths to the fifth per unit of time."""

    @property
    def breaks(self) -> frozenset[KdVProperty]:  # type: ignore[override]
        return _HIGHER | {_P.SCALING, _P.INTEGRABILITY}


class Quartic(KdVTerm):
    """A steeper nonlinearity ``u^3 u_x``, with which solitons are not integrable."""

    equation: ClassVar[str] = "u_t + 6 u u_x + u_xxx = -eps u^3 u_x"

    kind: Literal["quartic"] = "quartic"
    strength: float = Field(default=0.0, ge=0.0, le=1e3)
    """In lengths per unit of time and u cubed."""

    @property
    def breaks(self) -> frozenset[KdVProperty]:  # type: ignore[override]
        return _HIGHER | {_P.GALILEI, _P.SCALING, _P.INTEGRABILITY}


class Modulation(KdVTerm):
    """A dispersion ``1 + strength cos(frequency t + phase)``, t = 0 at frame 0.

    The clock is no part of the state: the solver keeps it (`KdVSolver.at`).
    """

    equation: ClassVar[str] = "u_t + 6 u u_x + (1 + eps cos(w t + p)) u_xxx = 0"

    kind: Literal["modulation"] = "modulation"
    strength: float = Field(default=0.0, ge=0.0, le=10.0)
    """Relative amplitude."""
    frequency: float = Field(default=2.0, gt=0.0, le=1e4)
    """w, in radians per unit of time."""
    phase: float = Field(default=0.0, ge=-360.0, le=360.0)
    """p, in degrees."""

    @property
    def breaks(self) -> frozenset[KdVProperty]:  # type: ignore[override]
        return _HIGHER | {_P.TIME, _P.SCALING, _P.HAMILTONIAN, _P.INTEGRABILITY}


class Bathymetry(_Pinned):
    """Water of the depth ``h = 1 + strength g(x)``.

    ``u_t + (c - 1) u_x + c_x u / 2 + 6 h^{-1/2} u u_x + h^{5/2} u_xxx = 0`` with the
    long-wave speed ``c = h^{1/2}``; the coefficients of the water-wave problem (Johnson
    1973, Proc. Camb. Phil. Soc. 73) over their values at h = 1. The uniform speed of
    h = 1 is left out, so that strength 0 is KdV: a model and not a derivation. The
    part ``c u_x + c_x u / 2`` keeps int u^2.
    """

    equation: ClassVar[str] = (
        "u_t + (c - 1) u_x + c_x u/2 + 6 h^(-1/2) u u_x + h^(5/2) u_xxx = 0, "
        "c = h^(1/2), h = 1 + eps g(x)"
    )

    kind: Literal["bathymetry"] = "bathymetry"
    strength: float = Field(default=0.0, ge=0.0, le=10.0)
    """Relative excess of the depth where g = 1."""

    @property
    def breaks(self) -> frozenset[KdVProperty]:  # type: ignore[override]
        return _ALL_OF_LOSS | {_P.MASS} | _of_position(self)


class Gardner(KdVTerm):
    """A cubic nonlinearity: a null control, for the equation stays integrable.

    With ``s^2 = strength / 6`` the complex ``v = u + i s u_x + s^2 u^2`` solves KdV
    (Miura, Gardner, Kruskal 1968), so that every int P_n(v) is constant.
    """

    equation: ClassVar[str] = "u_t + 6 u u_x + u_xxx = -eps u^2 u_x"

    kind: Literal["gardner"] = "gardner"
    strength: float = Field(default=0.0, ge=0.0, le=1e3)
    """In lengths per unit of time and u squared."""

    @property
    def breaks(self) -> frozenset[KdVProperty]:  # type: ignore[override]
        return _HIGHER | {_P.GALILEI, _P.SCALING}


class Frame(KdVTerm):
    """The equation seen from a moving frame: a null control, every integral is kept.

    Only the speed of the frame sets a scale.
    """

    equation: ClassVar[str] = "u_t + 6 u u_x + u_xxx = eps u_x"

    kind: Literal["frame"] = "frame"
    strength: float = Field(default=0.0, ge=0.0, le=1e3)
    """Speed of the frame, in lengths per unit of time."""

    @property
    def breaks(self) -> frozenset[KdVProperty]:  # type: ignore[override]
        return frozenset({_P.SCALING})


def _of_position(term: _Pinned) -> frozenset[KdVProperty]:
    # Nothing is known of the parity of an own profile.
    return frozenset({_P.GALILEI} | ({_P.REVERSAL} if term.field else set()))


def bump(grid: PeriodicGrid, sharpness: float = 8.0) -> Array:
    """Return ``exp(sharpness (cos(2 pi (x / L - 1/2)) - 1))``, 1 in the middle."""
    x = grid.coordinates(0) / grid.lengths[0]
    return np.exp(sharpness * (np.cos(2 * np.pi * (x - 0.5)) - 1))


def own_profile(term: _Pinned, grid: PeriodicGrid) -> Array:
    """Return the user's profile; `InputError` when it does not lie on the grid."""
    assert term.field is not None, "no own profile"
    values = term.field.values()
    if values.shape != grid.shape:
        raise InputError(
            f"{term.kind}.field: expected shape {grid.shape}, got {values.shape}; "
            "the array must lie on the grid of the data"
        )
    return values
