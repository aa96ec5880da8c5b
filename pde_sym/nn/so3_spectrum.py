"""How a map on bodies breaks the rotations of their frame: by irrep, and whereto.

The rotations act on maps, ``(Q f)(x) = Q f(Q^-1 x)``, and f is the sum of its parts

    f_L(x) = (2 L + 1) int chi_L(Q) (Q f)(x) dQ,    L = 0, 1, 2, ...

of which f_0 is equivariant. What is fixed in the body and hidden from f shows as
``f_1(x) = g(x, chi)``, linear in a vector chi, or ``f_2(x) = g(x, S)``, linear in a
symmetric traceless S, with g equivariant in both. Then

    F_Mk(x) = (2 L + 1) int D_L(Q)_Mk (Q f)(x) dQ = g(x, e_M) chi_k

(Schur's orthogonality), so that chi and S can be read off, whatever the weights are.
The same functions measure a solver and a network.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pde_sym.fields import FieldSpec
from pde_sym.nn.so3 import HIGHEST, irrep_matrix, part_name
from pde_sym.nn.so3_fields import BodyFields
from pde_sym.nn.so3_linear import leading_direction

Map = Callable[[Tensor], Tensor]
"""From states ``(B, C_in)`` to values ``(B, C_out)``."""


def quadrature(degree: int) -> tuple[Tensor, Tensor]:
    """Return rotations ``(n, 3, 3)`` and weights ``(n,)`` with the sum 1, in float64.

    Exact for the mean over SO(3) of every product of matrix elements whose l add up to
    no more than `degree`: Euler angles zyz, evenly spaced in the first and the last,
    Gauss and Legendre's nodes in the cosine of the middle one.
    """
    angles = 2 * np.pi * np.arange(degree + 1) / (degree + 1)
    cosines, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    first, middle, last = np.meshgrid(angles, np.arccos(cosines), angles, indexing="ij")
    turns = _about_z(first) @ _about_y(middle) @ _about_z(last)
    shares = np.broadcast_to(weights[None, :, None], first.shape)
    return (
        torch.from_numpy(turns.reshape(-1, 3, 3)),
        torch.from_numpy(shares.ravel() / shares.sum()),
    )


def moved(
    f: Map, x: Tensor, inputs: BodyFields, outputs: BodyFields, rotations: Tensor
) -> Tensor:
    """Return ``(Q f)(x) = Q f(Q^-1 x)``, ``(n, B, C_out)``, for each rotation."""
    turns = rotations[:, None]
    before = inputs.turn(turns.mT, x)
    after = f(before.flatten(0, 1)).unflatten(0, before.shape[:2])
    return outputs.turn(turns, after)


@torch.no_grad()
def body_spectrum(
    f: Map, x: Tensor, inputs: FieldSpec, outputs: FieldSpec, degree: int = 8
) -> dict[str, float]:
    """Return ``||f_L||^2 / ||f||^2`` by part, L = 0 to 4, over all turned copies of x.

    Parameters
    ----------
    f
        The map.
    x
        States, shape ``(B, C_in)``.
    inputs, outputs
        Fields before and after.
    degree
        Of the quadrature. It is exact for the L given when f is a polynomial of the
        state, l = 1, of a degree d with ``2 (d + 1) <= degree`` and ``d + 1 + L <=
        degree``; for smooth maps the error falls faster than any power.

    Returns
    -------
    dict
        The rest to 1 is in higher irreps.
    """
    rotations, weights = quadrature(degree)
    values = moved(f, x, BodyFields(inputs), BodyFields(outputs), rotations)
    total = float(torch.einsum("q,qbc->", weights, values.double().square()))
    shares = {}
    for part in range(2 * HIGHEST + 1):
        rows = _coefficients(values, rotations, weights, part)
        # Parseval: the mean of |f_L(Q x)|^2 over Q.
        energy = float(rows.square().sum()) / (2 * part + 1)
        shares[part_name(part)] = energy / total
    return shares


@torch.no_grad()
def body_direction(
    f: Map, x: Tensor, inputs: FieldSpec, outputs: FieldSpec, part: str, degree: int = 8
) -> tuple[Tensor, float]:
    """Return what a part of f is linear in, and the share of the part that this is.

    For ``l1`` a unit vector ``(3,)`` along chi, for ``l2`` a matrix ``(3, 3)`` of norm
    1 along S; either up to its sign. The share is 1 where all of the part comes from
    one vector or matrix. Parameters as for `body_spectrum`.

    Raises
    ------
    InputError
        For another part.
    """
    rotations, weights = quadrature(degree)
    values = moved(f, x, BodyFields(inputs), BodyFields(outputs), rotations)
    ell = 1 if part == part_name(1) else 2
    rows = _coefficients(values, rotations, weights, ell).flatten(0, -2)
    direction = leading_direction(part, rows)
    energies = torch.linalg.svdvals(rows).square()
    return direction, float(energies[0] / energies.sum())


def _coefficients(
    values: Tensor, rotations: Tensor, weights: Tensor, ell: int
) -> Tensor:
    """Return F, ``(B, C_out, 2 L + 1, 2 L + 1)``, with M before k."""
    matrices = (2 * ell + 1) * weights[:, None, None] * irrep_matrix(ell, rotations)
    return torch.einsum("qMk,qbc->bcMk", matrices, values.double())


def _about_z(angle: np.ndarray) -> np.ndarray:
    cos, sin, zero = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    rows = [[cos, -sin, zero], [sin, cos, zero], [zero, zero, zero + 1]]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def _about_y(angle: np.ndarray) -> np.ndarray:
    cos, sin, zero = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    rows = [[cos, zero, sin], [zero, zero + 1, zero], [-sin, zero, cos]]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))
