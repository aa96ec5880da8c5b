"""Laws of initial states of the smoke plume, as values.

A state is smoke and velocity at the centres of the cells, ``(3, x, y)``. Velocities
are differences of a stream function between the nodes of the grid, so that no fluid
passes the walls and the solver finds no divergence.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pde_sym.arrays import ArrayFile
from pde_sym.errors import InputError
from pde_sym.grid import PeriodicGrid
from pde_sym.initial_conditions import InitialLaw, _own_state

Array = NDArray[np.float64]


class Puffs(InitialLaw):
    """Round puffs of smoke at random places in a random flow.

    The smoke is ``sum_k a_k exp(-|x - c_k|^2 / (2 w_k^2))``, and the stream function
    ``sum_mn A_mn sin(pi m x / L_x) sin(pi n y / L_y)`` over ``m^2 + n^2 <= modes^2``
    with normal A_mn of standard deviation ``(m^2 + n^2)^(-slope / 2)``, scaled to the
    rms speed. The law is invariant under turns and flips of the box.
    """

    kind: Literal["puffs"] = "puffs"
    count: int = Field(default=3, ge=0, le=1000)
    """Number of puffs."""
    smallest: float = Field(default=0.05, gt=0.0, le=1.0)
    """Smallest width w, in units of the first box length."""
    largest: float = Field(default=0.12, gt=0.0, le=1.0)
    """Largest width, in the same units."""
    speed: float = Field(default=1.0, ge=0.0, le=1e4)
    """Root mean square of the velocity, in lengths per time."""
    modes: int = Field(default=6, ge=2, le=64)
    """Largest wavenumber of the stream function, in half periods per box."""
    slope: float = Field(default=2.0, ge=0.0, le=10.0)
    """Decay exponent of its amplitudes."""
    field: ArrayFile | None = None
    """Own smoke, (x, y) for all or (n, x, y), in place of the puffs."""

    def sample(
        self, grid: PeriodicGrid, generator: np.random.Generator, index: int = 0
    ) -> Array:
        """Draw a state ``(3, x, y)``.

        Raises
        ------
        InputError
            When the grid cannot hold the modes, the widths are in the wrong order or
            an own array does not fit the grid.
        """
        if self.modes >= min(grid.shape):
            raise InputError(
                f"initial.modes={self.modes}: a box of {grid.shape} cells holds fewer "
                f"than {min(grid.shape)} modes; lower modes or raise the resolution"
            )
        if self.largest < self.smallest:
            raise InputError(
                f"initial.largest={self.largest} is below smallest={self.smallest}"
            )
        velocity = self._velocity(grid, generator)
        if self.field is not None:
            smoke = _own_state(self.field.values(), grid, index)
        else:
            smoke = self._smoke(grid, generator)[None]
        return np.concatenate([smoke, velocity])

    def _smoke(self, grid: PeriodicGrid, generator: np.random.Generator) -> Array:
        centres = generator.uniform(size=(self.count, 2)) * grid.lengths
        widths = generator.uniform(self.smallest, self.largest, size=self.count)
        heights = generator.uniform(0.5, 1.0, size=self.count)
        x, y = grid.mesh()
        smoke = np.zeros(grid.shape)
        for (cx, cy), width, height in zip(
            centres, widths * grid.lengths[0], heights, strict=True
        ):
            square = (x - cx) ** 2 + (y - cy) ** 2
            smoke += height * np.exp(-square / (2 * width**2))
        return smoke

    def _velocity(self, grid: PeriodicGrid, generator: np.random.Generator) -> Array:
        m = np.arange(1, self.modes + 1)
        square = m[:, None] ** 2 + m[None, :] ** 2
        amplitude = generator.standard_normal(square.shape)
        amplitude *= np.where(square <= self.modes**2, square ** (-self.slope / 2), 0.0)
        sines = [np.sin(np.pi * np.outer(np.arange(n + 1) / n, m)) for n in grid.shape]
        velocity = velocity_of_stream(grid, sines[0] @ amplitude @ sines[1].T)
        rms = np.sqrt(np.mean(velocity**2) * 2)
        return velocity * (self.speed / rms)


class StillAir(InitialLaw):
    """No smoke and no motion: all comes from an inflow, as in arXiv 2201.11969."""

    kind: Literal["still_air"] = "still_air"

    def sample(
        self, grid: PeriodicGrid, generator: np.random.Generator, index: int = 0
    ) -> Array:
        """Return zeros, ``(3, x, y)``."""
        del generator, index
        return np.zeros((3, *grid.shape))


def velocity_of_stream(grid: PeriodicGrid, psi: Array) -> Array:
    """Return ``(psi_y, -psi_x)`` at the centres of the cells, ``(2, x, y)``.

    psi is given at the nodes, ``(N_x + 1, N_y + 1)``, and is taken as 0 on the walls:
    its differences along the faces have no divergence at all, and their means over
    two faces are the velocities at the centres.
    """
    dx, dy = grid.spacing
    psi = psi.copy()
    psi[[0, -1]] = 0.0
    psi[:, [0, -1]] = 0.0
    u = np.diff(psi, axis=1) / dy
    v = -np.diff(psi, axis=0) / dx
    return np.stack([(u[1:] + u[:-1]) / 2, (v[:, 1:] + v[:, :-1]) / 2])
