"""Coarsening and refining that commute with the symmetries of the periodic grid.

A turn or flip maps index i of a periodic axis to -i mod N, so that index 0 stays in
place: windows must be centred on the points they keep. The plain mean over 2 x 2 cells
is centred between points, and fails every turn and flip.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from pde_sym.errors import InputError

Resampling = Literal["spectral", "local"]
"""Fourier modes cut off and put back, or neighbours weighted by 1/4, 1/2, 1/4."""


class Coarsen(nn.Module):
    """Keeps every second point of each axis, after smoothing.

    Parameters
    ----------
    resampling
        ``spectral`` drops all modes that the coarse grid cannot hold, its highest one
        included (it has no partner of the other sign), and commutes with every shift;
        ``local`` weights neighbours by 1/4, 1/2, 1/4 along each axis and commutes with
        shifts by even numbers of points. Both commute with turns and flips.

    Raises
    ------
    InputError
        On a grid with an odd number of points along an axis.
    """

    def __init__(self, resampling: Resampling = "spectral") -> None:
        super().__init__()
        self.resampling: Resampling = resampling

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, N_x, N_y)`` to ``(B, C, N_x / 2, N_y / 2)``."""
        nx, ny = x.shape[-2:]
        if nx % 2 or ny % 2:
            raise InputError(
                f"a grid of {nx} x {ny} points cannot be halved; use even numbers"
            )
        if self.resampling == "spectral":
            return resample(x, (nx // 2, ny // 2))
        for axis in (-2, -1):
            x = x / 2 + (x.roll(1, axis) + x.roll(-1, axis)) / 4
        return x[..., ::2, ::2]


class Refine(nn.Module):
    """Puts a point between any two, by interpolation.

    Parameters
    ----------
    resampling
        ``spectral`` interpolates by Fourier modes, without the coarse grid's highest
        one; ``local`` linearly. Both commute with turns, flips and shifts by coarse
        points, the first with every shift.
    """

    def __init__(self, resampling: Resampling = "spectral") -> None:
        super().__init__()
        self.resampling: Resampling = resampling

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, N_x, N_y)`` to ``(B, C, 2 N_x, 2 N_y)``."""
        if self.resampling == "spectral":
            return resample(x, (2 * x.shape[-2], 2 * x.shape[-1]))
        for axis in (-2, -1):
            between = (x + x.roll(-1, axis)) / 2
            x = torch.stack([x, between], axis).flatten(axis - 1, axis)
        return x


def resample(x: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the values at ``x_i = i L / N'`` of the modes that both grids hold."""
    kept = [(min(n, m) - 1) // 2 for n, m in zip(x.shape[-2:], shape, strict=True)]
    before = torch.fft.rfft2(x, norm="forward")
    after = before.new_zeros(*x.shape[:-2], shape[0], shape[1] // 2 + 1)
    along_x, along_y = kept
    # Modes 0 .. m and -m .. -1 along x; those along y are 0 .. m.
    for rows in (slice(0, along_x + 1), slice(-along_x, None) if along_x else None):
        if rows is not None:
            after[..., rows, : along_y + 1] = before[..., rows, : along_y + 1]
    return torch.fft.irfft2(after, s=shape, norm="forward")
