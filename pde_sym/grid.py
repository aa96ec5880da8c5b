"""The grids: the one place that says where the points are.

A periodic axis of length L with N points has them at ``x_i = i L / N``, i = 0 .. N-1:
the left end included, the right end excluded; an axis between walls has them at the
centres of its cells. Arrays are indexed ``(..., x, y)``: axis
order is coordinate order, which is also the order of vector components.
"""

import math
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt, model_validator

from pde_sym.config import Frozen
from pde_sym.errors import InputError

AXIS_NAMES = ("x", "y", "z")


class PeriodicGrid(Frozen):
    """A uniform grid on a torus.

    Parameters
    ----------
    shape
        Points per axis, ``(N_x, N_y)``.
    lengths
        Length of each axis in the length unit of the system, ``(L_x, L_y)``.
    """

    boundary: ClassVar[str] = "PERIODIC"
    """What the axes end at, in The Well's words."""

    shape: tuple[PositiveInt, ...]
    lengths: tuple[PositiveFloat, ...]

    @model_validator(mode="after")
    def _one_length_per_axis(self) -> Self:
        if not 1 <= len(self.shape) <= len(AXIS_NAMES):
            raise ValueError(f"a grid has 1 to 3 axes, got {len(self.shape)}")
        if len(self.shape) != len(self.lengths):
            raise ValueError(
                f"{len(self.shape)} axes in shape but {len(self.lengths)} lengths"
            )
        return self

    @classmethod
    def square(cls, resolution: int, length: float = 1.0) -> Self:
        """Return the square torus of `resolution` x `resolution` points."""
        return cls(shape=(resolution, resolution), lengths=(length, length))

    @property
    def num_axes(self) -> int:
        return len(self.shape)

    @property
    def axis_names(self) -> tuple[str, ...]:
        return AXIS_NAMES[: self.num_axes]

    @property
    def num_points(self) -> int:
        return math.prod(self.shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance of neighbouring points per axis."""
        return tuple(
            length / n for length, n in zip(self.lengths, self.shape, strict=True)
        )

    @property
    def cell_volume(self) -> float:
        """Volume of one cell, the weight of the trapezoidal rule."""
        return math.prod(self.spacing)

    @property
    def volume(self) -> float:
        return math.prod(self.lengths)

    @property
    def is_square(self) -> bool:
        """Whether a quarter turn maps the grid onto itself."""
        return len(set(self.shape)) == 1 and len(set(self.lengths)) == 1

    def coordinates(self, axis: int) -> NDArray[np.float64]:
        """Return ``x_i = i L / N`` along `axis`, shape ``(N,)``.

        >>> PeriodicGrid.square(4, length=2.0).coordinates(0).tolist()
        [0.0, 0.5, 1.0, 1.5]
        """
        return np.arange(self.shape[axis]) * self.spacing[axis]

    def mesh(self) -> tuple[NDArray[np.float64], ...]:
        """Return one coordinate array per axis, each of shape `shape`."""
        axes = [self.coordinates(axis) for axis in range(self.num_axes)]
        return tuple(np.meshgrid(*axes, indexing="ij"))

    def wavenumbers(self, axis: int) -> NDArray[np.float64]:
        """Return ``2 pi m / L`` along `axis` in FFT order, in radians per length."""
        n, length = self.shape[axis], self.lengths[axis]
        return 2 * np.pi * np.fft.fftfreq(n, d=1 / n) / length


class WalledGrid(PeriodicGrid):
    """The same grid between walls: the points are the centres of its cells.

    An axis of length L with N cells has them at ``x_i = (i + 1/2) L / N``, so that a
    quarter turn about the middle of the box only permutes rows and columns. There are
    no shifts and no Fourier modes; what only counts points is inherited.
    """

    boundary: ClassVar[str] = "WALL"

    def coordinates(self, axis: int) -> NDArray[np.float64]:
        """Return ``x_i = (i + 1/2) L / N`` along `axis`, shape ``(N,)``."""
        return (np.arange(self.shape[axis]) + 0.5) * self.spacing[axis]

    def wavenumbers(self, axis: int) -> NDArray[np.float64]:
        """Raise `InputError`: functions between walls have no Fourier modes."""
        raise InputError(f"axis {axis} ends at walls: it has no Fourier modes")
