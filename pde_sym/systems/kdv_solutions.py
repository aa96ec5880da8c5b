"""Exact solutions of KdV, ``u_t + 6 u u_x + u_xxx = 0``, and laws of initial states."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from pde_sym.arrays import ArrayFile
from pde_sym.errors import InputError
from pde_sym.grid import PeriodicGrid
from pde_sym.initial_conditions import InitialLaw

Array = NDArray[np.float64]

TAIL = 1e-6
"""Largest relative height of a soliton where its box ends, and largest relative
amplitude of a wave at the first mode that a state does not keep."""

MOST_DRAWS = 500
"""Draws of solitons before it is said that they do not fit."""


# Exact solutions --------------------------------------------------------------------


def soliton(x: ArrayLike, t: float, k: float, start: float = 0.0) -> Array:
    """Return ``(k^2/2) sech^2(k (x - k^2 t - start) / 2)``, of speed k^2."""
    phase = np.abs(k * (np.asarray(x) - k**2 * t - start))
    decay = np.exp(-phase)
    return 2 * k**2 * decay / (1 + decay) ** 2


def solitons(
    x: ArrayLike,
    t: float,
    amplitudes: Sequence[float] | Array,
    starts: Sequence[float] | Array,
) -> Array:
    """Return the N-soliton solution on the line.

    ``u = 2 (ln det(1 + A))_xx`` with ``A_ij = 2 sqrt(k_i k_j) / (k_i + k_j)
    e^((h_i + h_j) / 2)``, ``h_i = k_i (x - k_i^2 t - x_i)`` (Gardner, Greene, Kruskal,
    Miura 1974, Comm. Pure Appl. Math. 27). As ``2 A_x = K A + A K`` with K the diagonal
    of the k_i, ``u = 2 tr(K^2 B) - 2 tr(K B K B)`` with ``B = (1 + A)^-1``: no
    derivative is formed by differences and no exponential overflows.

    Parameters
    ----------
    x, t
        Positions of any shape, and the time.
    amplitudes
        k_i > 0, all different; soliton i alone has the height ``k_i^2 / 2``.
    starts
        x_i.
    """
    k, x0 = np.asarray(amplitudes, dtype=float), np.asarray(starts, dtype=float)
    if k.shape != x0.shape or k.ndim != 1 or len(set(k)) < len(k) or not (k > 0).all():
        raise InputError(
            f"solitons: expected different k > 0 and one start each, got k={k}, "
            f"starts={x0}"
        )
    h = k * (np.asarray(x, dtype=float)[..., None] - k**2 * t - x0)
    # B = S (S^2 + G C G)^-1 S with S = min(1, e^(-h/2)), G = S e^(h/2): all below 1.
    s, g = np.exp(-np.maximum(h, 0) / 2), np.exp(np.minimum(h, 0) / 2)
    cauchy = 2 * np.sqrt(k[:, None] * k) / (k[:, None] + k)
    inner = g[..., :, None] * cauchy * g[..., None, :]
    inner = inner + s[..., :, None] ** 2 * np.eye(len(k))
    b = s[..., :, None] * np.linalg.inv(inner) * s[..., None, :]
    diagonal = np.einsum("i,...ii->...", k**2, b)
    return 2 * (diagonal - np.einsum("i,...ij,j,...ji->...", k, b, k, b))


def phase_shifts(amplitudes: Sequence[float] | Array) -> Array:
    """Return how far each soliton is ahead, after all collisions, of a lone one.

    ``(2 / k_i) sum_j sign(k_i - k_j) ln((k_i + k_j) / |k_i - k_j|)``, against the one
    that goes on as before the collisions.

    >>> phase_shifts([1.4, 0.9]).round(4).tolist()
    [2.1801, -3.3912]
    """
    k = np.asarray(amplitudes, dtype=float)
    others = ~np.eye(len(k), dtype=bool)
    gap = np.where(others, np.abs(k[:, None] - k), 1.0)
    total = np.where(others, k[:, None] + k, 1.0)
    shifts = np.sign(k[:, None] - k) * np.log(total / gap)
    return 2 / k * shifts.sum(axis=1)


def cnoidal_wave(x: ArrayLike, t: float, roots: tuple[float, float, float]) -> Array:
    """Return ``u2 + (u3 - u2) cn^2(q (x - c t) | m)``, of any number of periods.

    ``q = sqrt((u3 - u1) / 2)``, ``m = (u3 - u2) / (u3 - u1)``,
    ``c = 2 (u1 + u2 + u3)`` for the roots u1 < u2 < u3.
    """
    from scipy.special import ellipj

    u1, u2, u3 = _ordered(roots)
    q, m = math.sqrt((u3 - u1) / 2), (u3 - u2) / (u3 - u1)
    cn = ellipj(q * (np.asarray(x) - 2 * (u1 + u2 + u3) * t), m)[1]
    return u2 + (u3 - u2) * cn**2


def cnoidal_wavelength(roots: tuple[float, float, float]) -> float:
    """Return the period ``2 K(m) / q`` of `cnoidal_wave`."""
    from scipy.special import ellipk

    u1, u2, u3 = _ordered(roots)
    return 2 * float(ellipk((u3 - u2) / (u3 - u1))) / math.sqrt((u3 - u1) / 2)


def cnoidal_roots(
    wavelength: float, m: float, mean: float = 0.0
) -> tuple[float, float, float]:
    """Return the roots of the wave of that period, parameter 0 < m < 1 and mean."""
    from scipy.special import ellipe, ellipk

    period = 2 * float(ellipk(m))
    spread = 2 * (period / wavelength) ** 2  # u3 - u1
    # <dn^2> = E / K, and u = u1 + spread dn^2.
    lowest = mean - spread * float(ellipe(m) / ellipk(m))
    return lowest, lowest + (1 - m) * spread, lowest + spread


def _ordered(roots: tuple[float, float, float]) -> tuple[float, float, float]:
    u1, u2, u3 = roots
    if not u1 < u2 < u3:
        raise InputError(f"cnoidal wave: expected roots u1 < u2 < u3, got {roots}")
    return roots


# Laws of initial states -------------------------------------------------------------


def _on_a_line(grid: PeriodicGrid) -> tuple[int, float]:
    if grid.num_axes != 1:
        raise InputError(f"KdV lives on 1 axis, got a grid of {grid.num_axes}")
    return grid.shape[0], grid.lengths[0]


class RandomWaves(InitialLaw):
    """A band-limited Gaussian field about a random mean.

    ``u(x) = a + (amplitude / n) sum_{m=1}^{modes} A_m cos(2 pi m x / L + theta_m)``
    with ``A_m = |z_m| / (1 + m^2)^(slope / 2)``, complex normal z_m, phase theta_m of
    z_m, and n such that the standard deviation over the box is `amplitude`. The law is
    invariant under shifts, and one draw is the same function on every grid.
    """

    kind: Literal["random_waves"] = "random_waves"
    modes: int = Field(default=5, ge=1, le=1000)
    """Largest wavenumber, in periods per box."""
    slope: float = Field(default=1.0, ge=0.0, le=10.0)
    """Decay exponent of the amplitudes."""
    amplitude: float = Field(default=0.07, gt=0.0, le=1e3)
    """Standard deviation over the box."""
    offset: float = Field(default=0.2, ge=0.0, le=1e3)
    """The mean is uniform in [-offset, offset]."""
    field: ArrayFile | None = None
    """Own initial states, (x,) for all or (n, x): trajectory i has number i."""

    def sample(
        self, grid: PeriodicGrid, generator: np.random.Generator, index: int = 0
    ) -> Array:
        num, _ = _on_a_line(grid)
        if self.field is not None:
            return _own_state(self.field.values(), grid, index)
        if 3 * self.modes >= num:
            raise InputError(
                f"initial.modes={self.modes}: a grid of {num} points keeps fewer than "
                f"{-(-num // 3)} modes; lower modes or raise the resolution"
            )
        m = np.arange(1, self.modes + 1)
        z = generator.standard_normal((self.modes, 2)) @ np.array([1.0, 1j])
        z = z * (1.0 + m**2) ** (-self.slope / 2)
        z *= self.amplitude / np.sqrt(np.sum(np.abs(z) ** 2) / 2)
        spectrum = np.zeros(num // 2 + 1, dtype=complex)
        spectrum[0] = generator.uniform(-self.offset, self.offset)
        spectrum[m] = z / 2
        return np.fft.irfft(spectrum, n=num, norm="forward")[None]


class RandomSolitons(InitialLaw):
    """Solitons of random heights at random places, as one exact solution.

    k is uniform in [smallest, largest], the starts in the part of the box where the
    tails of one soliton end within it. Solitons of nearly equal k stand far from their
    starts: draws of which the box does not hold the whole mass ``sum 2 k`` are drawn
    again. The N-soliton solution is then summed over the periods of the box, which
    makes it periodic and changes it by the size of the tails, and shifted by a uniform
    length.
    """

    kind: Literal["random_solitons"] = "random_solitons"
    count: int = Field(default=3, ge=1, le=16)
    """Number of solitons."""
    smallest: float = Field(default=0.7, gt=0.0, le=100.0)
    """Smallest k; a soliton has the height k^2 / 2, the width 2 / k, the speed k^2."""
    largest: float = Field(default=0.95, gt=0.0, le=100.0)
    """Largest k."""

    def sample(
        self,
        grid: PeriodicGrid,
        generator: np.random.Generator,
        index: int = 0,  # noqa: ARG002
    ) -> Array:
        num, length = _on_a_line(grid)
        k, starts = self._draw(self._margin(num, length), length, generator)
        shift = generator.uniform(0, length)
        x = (grid.coordinates(0) - shift) % length
        images = x[:, None] + length * np.arange(-2, 3)
        return solitons(images, 0.0, k, starts).sum(axis=1)[None]

    def _draw(
        self, margin: float, length: float, generator: np.random.Generator
    ) -> tuple[Array, Array]:
        """Return k and starts that the box holds, whatever the grid."""
        # The mean over points closer than 1 / k is that of the line to round-off.
        num = math.ceil(2 * self.largest * length)
        x = length / num * np.arange(num)
        for _ in range(MOST_DRAWS):
            k = generator.uniform(self.smallest, self.largest, size=self.count)
            starts = generator.uniform(margin, length - margin, size=self.count)
            outside = 2 * k.sum() - length * solitons(x, 0.0, k, starts).mean()
            if abs(outside) <= 10 * TAIL:
                return k, starts
        raise InputError(
            f"initial.count={self.count}: so many solitons did not fit a box of "
            f"{length:g} in {MOST_DRAWS} draws; lower count or raise the length"
        )

    def _margin(self, num: int, length: float) -> float:
        """Return how far from its ends the box holds the starts."""
        if self.largest <= self.smallest:
            raise InputError(
                f"initial: largest={self.largest} must be above "
                f"smallest={self.smallest}"
            )
        # sech^2(k d / 2) ~ 4 e^(-k d), and its transform at q is ~ e^(-pi q / k).
        margin = math.log(4 / TAIL) / self.smallest
        if 2 * margin > length:
            raise InputError(
                f"initial.smallest={self.smallest}: the tails of this soliton reach "
                f"{margin:.3g} to each side and do not fit a box of {length:g}; raise "
                f"smallest to {2 * math.log(4 / TAIL) / length:.3g} or the length"
            )
        highest = 2 * math.pi / length * ((num - 1) // 3 + 1)
        most = math.pi * highest / math.log(1 / TAIL)
        if self.largest > most:
            raise InputError(
                f"initial.largest={self.largest}: this soliton is too narrow for "
                f"{num} points on a box of {length:g}; lower largest to {most:.3g} or "
                "raise the resolution"
            )
        return margin


class Cnoidal(InitialLaw):
    """Exact periodic waves, at a random place and of a random parameter m."""

    kind: Literal["cnoidal"] = "cnoidal"
    waves: int = Field(default=5, ge=1, le=1000)
    """Periods per box."""
    smallest: float = Field(default=0.8, gt=0.0, lt=1.0)
    """Smallest m: towards 0 the waves are small and harmonic."""
    largest: float = Field(default=0.95, gt=0.0, lt=1.0)
    """Largest m: towards 1 they are solitons."""
    offset: float = Field(default=0.2, ge=0.0, le=1e3)
    """The mean is uniform in [-offset, offset]."""

    def sample(
        self,
        grid: PeriodicGrid,
        generator: np.random.Generator,
        index: int = 0,  # noqa: ARG002
    ) -> Array:
        num, length = _on_a_line(grid)
        self._check(num)
        m = generator.uniform(self.smallest, self.largest)
        mean = generator.uniform(-self.offset, self.offset)
        shift = generator.uniform(0, length)
        roots = cnoidal_roots(length / self.waves, m, mean)
        return cnoidal_wave(grid.coordinates(0) - shift, 0.0, roots)[None]

    def _check(self, num: int) -> None:
        from scipy.special import ellipk

        if self.largest < self.smallest:
            raise InputError(
                f"initial: largest={self.largest} is below smallest={self.smallest}"
            )
        # The harmonics of cn^2 fall as the nome e^(-pi K(1 - m) / K(m)).
        rate = math.pi * float(ellipk(1 - self.largest) / ellipk(self.largest))
        needed = 3 * self.waves * math.log(1 / TAIL) / rate
        if needed > num:
            raise InputError(
                f"initial.waves={self.waves}: waves of m={self.largest} need "
                f"{math.ceil(needed)} points, the grid has {num}; lower waves or "
                "largest, or raise the resolution"
            )


def _own_state(values: Array, grid: PeriodicGrid, index: int) -> Array:
    stack = values[None] if values.ndim == 1 else values
    if stack.ndim != 2 or stack.shape[1:] != grid.shape:
        raise InputError(
            f"initial.field: expected shape {grid.shape} or (n, {grid.shape[0]}), got "
            f"{values.shape}"
        )
    if values.ndim == 2 and index >= len(stack):
        raise InputError(
            f"initial.field: trajectory {index} asked for, the file has {len(stack)}"
        )
    return stack[min(index, len(stack) - 1)][None].copy()
