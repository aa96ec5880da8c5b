"""Functions of the offset in a kernel, in blocks that a group of the plane mixes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OffsetBlock:
    """Functions of the offset that the group mixes among themselves.

    Parameters
    ----------
    actions
        Their orthogonal matrices, shape ``(|G|, n, n)``.
    samples
        Their values on the offsets, shape ``(n, k, k)``.
    """

    actions: Array
    samples: Array


def pixel_orbits(matrices: list[Array], kernel_size: int) -> Iterator[OffsetBlock]:
    """Yield one block per orbit of offsets, permuted by the group."""
    half = kernel_size // 2
    left = {(a, b) for a in range(-half, half + 1) for b in range(-half, half + 1)}
    while left:
        start = np.array(min(left))
        moved = [tuple(np.rint(m @ start).astype(int).tolist()) for m in matrices]
        orbit = sorted(set(moved))
        left -= set(orbit)
        place = {offset: i for i, offset in enumerate(orbit)}
        actions = np.zeros((len(matrices), len(orbit), len(orbit)))
        samples = np.zeros((len(orbit), kernel_size, kernel_size))
        for (a, b), i in place.items():
            samples[i, a + half, b + half] = 1.0
            for action, matrix in zip(actions, matrices, strict=True):
                image = np.rint(matrix @ (a, b)).astype(int)
                action[place[tuple(image.tolist())], i] = 1.0
        yield OffsetBlock(actions, samples)


def ring_harmonics(matrices: list[Array], kernel_size: int) -> Iterator[OffsetBlock]:
    """Yield ``exp(-(|o| - r)^2 / 2 s^2) (cos m theta, sin m theta)`` per r and m.

    Widths and the highest m per ring are those of escnn: harmonics that the grid
    cannot tell apart stay out.
    """
    half = kernel_size // 2
    x, y = np.meshgrid(*2 * [np.arange(-half, half + 1.0)], indexing="ij")
    radius = np.hypot(x, y)
    # The centre has no angle: harmonics with m > 0 vanish there (and 0^0 = 1).
    unit = (x + 1j * y) / np.where(radius == 0, 1.0, radius)
    for ring in range(half + 1):
        width = 0.005 if ring == 0 else 0.4 if ring == half else 0.6
        profile = np.exp(-((radius - ring) ** 2) / (2 * width**2))
        for m in range(_highest_harmonic(ring, half) + 1):
            wave = profile * unit**m
            samples = np.stack([wave.real, wave.imag])[: 1 if m == 0 else 2]
            actions = np.stack([_turn_harmonic(matrix, m) for matrix in matrices])
            yield OffsetBlock(actions, samples)


def _highest_harmonic(ring: int, last: int) -> int:
    if ring == 0:
        return 0
    return 2 if ring == last else 2 * ring - (ring + 1) % 2


def _turn_harmonic(matrix: Array, m: int) -> Array:
    """Return how M acts on the coefficients of ``cos m theta, sin m theta``."""
    if m == 0:
        return np.eye(1)
    turn = complex(matrix[0, 0], matrix[1, 0]) ** m
    sign = np.sign(np.linalg.det(matrix))
    return np.array([[turn.real, -turn.imag * sign], [turn.imag, turn.real * sign]])
