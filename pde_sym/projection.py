"""The exact projection onto flows that stay in a closed box and out of its solids.

Velocities lie on the faces of the cells (Harlow, Welch 1965, Phys. Fluids 8): u is
``(.., N_x + 1, N_y)`` with zeros on the walls x = 0 and x = L_x, v is
``(.., N_x, N_y + 1)`` likewise, and the divergence lies at the cell centres,

    (D w)_ij = (u_{i+1,j} - u_ij) / dx + (v_{i,j+1} - v_ij) / dy.

With the gradient ``G = -D^T`` between cells, ``D G`` is the Laplacian with Neumann
conditions, which the cosines ``cos(pi m (i + 1/2) / N)`` make diagonal with
eigenvalues ``-(2 - 2 cos(pi m / N)) / dx^2``, so that

    P = 1 - G (D G)^+ D

takes four products with dense N x N matrices. A solid closes the faces on its
surface. With E the embedding of those faces, ``S = E^T P E`` their capacitance matrix
and ``S^+`` its pseudo-inverse (the potential of a solid's inside is free),

    Q = P - P E S^+ E^T P

is the orthogonal projection onto the fields without divergence and without flow
through walls or solids. Nothing is iterated. Everything is built in float64.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.grid import WalledGrid

Array = NDArray[np.float64]

KERNEL = 1e-10
"""Eigenvalues of S below this are its kernel; the least others fall like 1 / N^2."""


class Faces(NamedTuple):
    """Velocities on the faces: ``(.., N_x + 1, N_y)`` and ``(.., N_x, N_y + 1)``."""

    u: Tensor
    v: Tensor

    @property
    def mirrored(self) -> "Faces":
        """The same flow with the two axes exchanged."""
        return Faces(self.v.transpose(-1, -2), self.u.transpose(-1, -2))


def cosines(n: int) -> Array:
    """Return the orthonormal ``C_mi ~ cos(pi m (i + 1/2) / N)``, shape ``(N, N)``."""
    places = (np.arange(n) + 0.5) / n
    matrix = np.sqrt(2 / n) * np.cos(np.pi * np.outer(np.arange(n), places))
    matrix[0] = np.sqrt(1 / n)
    return matrix


@cache
def face_weights(n: int) -> Array:
    """Return W with ``faces = W centres``: the inverse of the mean over two faces.

    Between walls the means over two neighbouring faces determine the N - 1 inner
    faces. The mean maps ``sin(pi m i / N)`` at the faces to ``cos(pi m / (2 N))
    sin(pi m (i + 1/2) / N)`` at the centres, m < N, so that

        W_ij = (2 / N) sum_m sin(pi m i / N) sin(pi m (j + 1/2) / N) / cos(pi m / (2 N))

    is the pseudo-inverse: it drops the one alternating row of centres that no faces
    have, and its norm is ``1 / sin(pi / (2 N))``, about ``2 N / pi``. Shape
    ``(N + 1, N)`` with zeros for the walls.
    """
    m, i, j = np.arange(1, n), np.arange(n + 1), np.arange(n) + 0.5
    at_faces = np.sin(np.pi * np.outer(i, m) / n) / np.cos(np.pi * m / (2 * n))
    at_faces[[0, n]] = 0.0
    return 2 / n * at_faces @ np.sin(np.pi * np.outer(m, j) / n)


def centres_of(faces: Faces) -> Tensor:
    """Return the velocities at the centres, ``(.., 2, N_x, N_y)``: means over faces."""
    u, v = faces
    u = (u[..., 1:, :] + u[..., :-1, :]) / 2
    return torch.stack([u, (v[..., 1:] + v[..., :-1]) / 2], dim=-3)


def faces_of(centres: Tensor) -> Faces:
    """Return the field on the faces that velocities at centres stand for.

    ``(.., 2, N_x, N_y)`` in float64; exact for means over the faces of a field that a
    projection leaves alone, the nearest such field after `Projection` otherwise.
    """
    nx, ny = centres.shape[-2:]
    wx, wy = (torch.from_numpy(face_weights(n)).to(centres.device) for n in (nx, ny))
    return Faces(wx @ centres[..., 0, :, :], centres[..., 1, :, :] @ wy.T)


class Projection:
    """The projection Q of one box with its solids.

    Parameters
    ----------
    grid
        The box.
    solid
        Which cells are solid, ``(N_x, N_y)`` booleans; none by default.
    device
        Where the matrices lie.

    Raises
    ------
    InputError
        When the solid leaves no cell to the fluid.
    """

    def __init__(
        self,
        grid: WalledGrid,
        solid: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.dx: float
        self.dy: float
        (nx, ny), (self.dx, self.dy) = grid.shape, grid.spacing

        def constant(values: Array) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device)

        self.cosines: tuple[Tensor, Tensor] = (
            constant(cosines(nx)),
            constant(cosines(ny)),
        )
        square = [
            (2 - 2 * np.cos(np.pi * np.arange(n) / n)) / d**2
            for n, d in zip(grid.shape, grid.spacing, strict=True)
        ]
        eigenvalues = -(square[0][:, None] + square[1][None, :])
        eigenvalues[0, 0] = np.inf
        self.inverse: Tensor = constant(1 / eigenvalues)
        if solid is None:
            solid = torch.zeros(grid.shape, dtype=torch.bool)
        if solid.shape != grid.shape or bool(solid.all()):
            raise InputError(
                f"obstacle: expected solid cells (x, y) of shape {grid.shape} that "
                f"leave some fluid, got shape {tuple(solid.shape)} with "
                f"{int(solid.sum())} of {solid.numel()} solid"
            )
        self.solid: Tensor = solid.to(device)
        self.open: Faces
        self.surface: list[tuple[Tensor, Tensor]]
        self.open, self.surface = _faces_of_solid(self.solid)
        self.capacitance: Tensor = self._capacitance_inverse()

    def divergence(self, faces: Faces) -> Tensor:
        """Return D w at the centres, ``(.., N_x, N_y)``."""
        along_x = (faces.u[..., 1:, :] - faces.u[..., :-1, :]) / self.dx
        return along_x + (faces.v[..., 1:] - faces.v[..., :-1]) / self.dy

    def gradient(self, potential: Tensor) -> Faces:
        """Return G p on the faces, zero on the walls."""
        u = (potential[..., 1:, :] - potential[..., :-1, :]) / self.dx
        v = (potential[..., 1:] - potential[..., :-1]) / self.dy
        pad = torch.nn.functional.pad
        return Faces(pad(u, (0, 0, 1, 1)), pad(v, (1, 1)))

    def potential(self, divergence: Tensor) -> Tensor:
        """Return ``(D G)^+ d``, the solution of zero mean."""
        cx, cy = self.cosines
        return cx.T @ (self.inverse * (cx @ divergence @ cy.T)) @ cy

    def closed(self, faces: Faces) -> Faces:
        """Return the field with zeros on walls and in solids."""
        return Faces(faces.u * self.open.u, faces.v * self.open.v)

    def __call__(self, faces: Faces) -> Faces:
        """Return Q w for any field on the faces; float64 in, float64 out."""
        faces = self.closed(faces)
        divergence = self.divergence(faces)
        potential = self.potential(divergence)
        if len(self.capacitance):
            # The force of the solid: what the plain projection leaves on its surface.
            through = -self._on_surface(self.gradient(potential))
            force = self._from_surface(through @ self.capacitance)
            potential = self.potential(divergence - self.divergence(force))
            faces = Faces(faces.u - force.u, faces.v - force.v)
        gradient = self.gradient(potential)
        return self.closed(Faces(faces.u - gradient.u, faces.v - gradient.v))

    def _on_surface(self, faces: Faces) -> Tensor:
        """Return E^T w, ``(.., surface faces)``."""
        both = [faces.u[..., *self.surface[0]], faces.v[..., *self.surface[1]]]
        return torch.cat(both, dim=-1)

    def _from_surface(self, values: Tensor) -> Faces:
        """Return E f for ``(.., surface faces)``."""
        lead, split = values.shape[:-1], len(self.surface[0][0])
        u = values.new_zeros((*lead, *self.open.u.shape))
        v = values.new_zeros((*lead, *self.open.v.shape))
        u[..., *self.surface[0]] = values[..., :split]
        v[..., *self.surface[1]] = values[..., split:]
        return Faces(u, v)

    def _capacitance_inverse(self, at_once: int = 64) -> Tensor:
        """Return S^+, symmetric, ``(surface faces, surface faces)``."""
        number = sum(len(index[0]) for index in self.surface)
        unit = torch.eye(number, dtype=torch.float64, device=self.inverse.device)
        rows = [unit.new_zeros((0, number))]
        for part in unit.split(at_once):
            faces = self._from_surface(part)
            gradient = self.gradient(self.potential(self.divergence(faces)))
            rows.append(part - self._on_surface(gradient))
        matrix = torch.cat(rows)
        values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
        kept = values > KERNEL
        return (vectors[:, kept] / values[kept]) @ vectors[:, kept].T


def _faces_of_solid(solid: Tensor) -> tuple[Faces, list[tuple[Tensor, Tensor]]]:
    """Return 1 on open and 0 on closed faces, and the indices of the solid's surface.

    The surface is between a solid cell and a fluid one; walls are no part of it.
    """
    opened, surface = [], []
    for axis in (0, 1):
        size = solid.shape[axis]
        behind, ahead = solid.narrow(axis, 0, size - 1), solid.narrow(axis, 1, size - 1)
        pad = (0, 0, 1, 1) if axis == 0 else (1, 1)
        free = torch.nn.functional.pad((~behind & ~ahead).double(), pad)
        opened.append(free)
        faces = torch.nn.functional.pad((behind != ahead).double(), pad).nonzero()
        surface.append((faces[:, 0], faces[:, 1]))
    return Faces(*opened), surface
