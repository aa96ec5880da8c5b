"""The space of k x k kernels, split by irreducible representation.

A kernel maps offsets o to matrices K(o). The group acts on it by

    (g . K)(o) = rho_out(g) K(M(g)^-1 o) rho_in(g)^-1,

and the space of all kernels is the orthogonal sum of its isotypic parts, one per
real irrep sigma, each the image of the projector

    P_sigma = d_sigma / (c_sigma |G|) sum_g chi_sigma(g) g,

c = 2 for irreps of complex type, else 1. The trivial part holds exactly the
steerable kernels. Bases come from small blocks: a pair of irreps out of rho_out and
rho_in times a set of offsets that the group maps to itself.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.nn._escnn import GSpace, Representation
from pde_sym.nn.field_types import element_matrix, is_exact_on_grid, iter_irreps

Array = NDArray[np.float64]
Band = Literal["auto", "full", "rings"]
"""Which kernels: all of them, rings times harmonics, or the first where exact."""

TRIVIAL = "trivial"
COMPLEMENT = "complement"
"""Kernels outside the rings' band; a part of its own when ``band="rings"``."""

_MOMENTUM_NAMES = (TRIVIAL, "vector", "quadrupole")
_RANK_CUT = 1e-6


@dataclass(frozen=True)
class _Part:
    """An irrep sigma with its weights ``d / (c |G|) chi(g)``."""

    name: str
    weights: Array


@functools.cache
def _parts(space: GSpace) -> tuple[_Part, ...]:
    """Return the irreps, the trivial one first, named as in pde_sym.symmetry."""
    group = space.fibergroup
    matrices = [element_matrix(space, g) for g in group.elements]
    is_flip = [np.linalg.det(m) < 0 for m in matrices]
    num_turns = is_flip.count(False)
    parts = {}
    for irrep in group.irreps():
        momentum = irrep.attributes["frequency"] % num_turns
        flips = [irrep(g) for g, f in zip(group.elements, is_flip, strict=True) if f]
        # escnn lists the flip y -> -y first among the flips.
        is_odd = bool(flips) and irrep.size == 1 and flips[0][0, 0] < 0
        name = (
            _MOMENTUM_NAMES[momentum] if momentum < 3 else f"momentum {momentum}"
        ) + ("'" if is_odd else "")
        name = "pseudoscalar" if name == f"{TRIVIAL}'" else name
        scale = irrep.size / (2 if irrep.type == "C" else 1) / len(matrices)
        characters = np.array([np.trace(irrep(g)) for g in group.elements])
        parts[momentum, is_odd] = _Part(name, scale * characters)
    return tuple(parts[key] for key in sorted(parts))


def resolve_band(space: GSpace, band: Band) -> Literal["full", "rings"]:
    """Return the band that ``auto`` stands for: full where the grid allows it.

    Raises
    ------
    InputError
        When ``full`` is asked of a group that does not map the grid onto itself.
    """
    is_exact = is_exact_on_grid(space)
    if band == "full" and not is_exact:
        raise InputError(
            f"band 'full' needs a group of the square grid (C1, C2, C4, D1, D2, D4), "
            f"got {space.name}; use band 'rings' or 'auto'"
        )
    if band not in ("auto", "full", "rings"):
        raise InputError(f"band {band!r}: expected 'auto', 'full' or 'rings'")
    return "full" if is_exact and band != "rings" else "rings"


def part_names(space: GSpace, band: Band = "auto") -> tuple[str, ...]:
    """Return the names of the parts, the trivial one first."""
    names = tuple(part.name for part in _parts(space))
    return names if resolve_band(space, band) == "full" else (*names, COMPLEMENT)


def kernel_basis(
    rho_in: Representation,
    rho_out: Representation,
    space: GSpace,
    kernel_size: int,
    band: Band = "auto",
    parts: tuple[str, ...] | None = None,
) -> dict[str, Tensor]:
    """Return an orthonormal float64 basis of each isotypic part.

    Parameters
    ----------
    rho_in, rho_out
        Representations of one input and one output field, of sizes i and o.
    space
        The plane with its group.
    kernel_size
        Odd number k of points per axis.
    band
        ``full`` spans all kernels; ``rings`` spans gaussian rings times angular
        harmonics, with the rest as the part ``complement``.
    parts
        Names to build, all by default; the trivial part is always among them.

    Returns
    -------
    dict
        Bases of shape ``(dim, o, i, k, k)``. Parts are mutually orthogonal: for
        ``rings``, where the grid aliases irreps, each gives way to those before it.

    Raises
    ------
    InputError
        For an even kernel, a band the group does not have or an unknown part.
    """
    resolved = resolve_band(space, band)
    check_kernel_size(kernel_size)
    known = part_names(space, band)
    wanted = known if parts is None else (TRIVIAL, *parts)
    for name in wanted:
        if name not in known:
            raise InputError(f"part {name!r}: {space.name} has {', '.join(known)}")
    return {
        name: _basis(rho_in, rho_out, space, kernel_size, resolved, name)
        for name in dict.fromkeys(wanted)
    }


def check_kernel_size(kernel_size: int) -> None:
    """Raise `InputError` unless the kernel has a centre."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise InputError(f"kernel_size must be odd and positive, got {kernel_size}")


@functools.cache
def _basis(
    rho_in: Representation,
    rho_out: Representation,
    space: GSpace,
    kernel_size: int,
    band: Literal["full", "rings"],
    name: str,
) -> Tensor:
    pieces = []
    for psi_out, rows in iter_irreps(rho_out):
        for psi_in, columns in iter_irreps(rho_in):
            small = _pair_parts(space, psi_in, psi_out, kernel_size, band)[name]
            pieces.append(
                np.einsum("ao,bi,roixy->rabxy", rows, columns, small, optimize=True)
            )
    return torch.from_numpy(np.concatenate(pieces))


def part_energies(
    kernels: Tensor,
    rho_in: Representation,
    rho_out: Representation,
    space: GSpace,
    band: Band = "auto",
) -> dict[str, float]:
    """Return ``||K_sigma||^2`` of kernels ``(n, o, i, k, k)``, summed over n."""
    size = kernels.shape[-1]
    check_kernel_size(size)
    values = kernels.detach().to("cpu", torch.float64).numpy()
    energies = dict.fromkeys(part_names(space, band), 0.0)
    for psi_out, rows in iter_irreps(rho_out):
        for psi_in, columns in iter_irreps(rho_in):
            block = np.einsum(
                "ao,bi,nabxy->noixy", rows, columns, values, optimize=True
            ).reshape(len(values), -1)
            resolved = resolve_band(space, band)
            pair = _pair_parts(space, psi_in, psi_out, size, resolved)
            for name, basis in pair.items():
                shares = block @ basis.reshape(len(basis), block.shape[1]).T
                energies[name] += float(np.sum(shares**2))
    return energies


@functools.cache
def _pair_parts(
    space: GSpace,
    psi_in: Any,
    psi_out: Any,
    kernel_size: int,
    band: Literal["full", "rings"],
) -> dict[str, Array]:
    """Return bases ``(dim, d_out, d_in, k, k)`` for one pair of irreps."""
    elements = space.fibergroup.elements
    outer = np.array([psi_out(g) for g in elements])
    inner = np.array([psi_in(g) for g in elements])
    dims = (psi_out.size, psi_in.size)
    found: dict[str, list[Array]] = {part.name: [] for part in _parts(space)}
    for block in _blocks(space, kernel_size, band):
        n = block.actions.shape[1]
        matrices = np.einsum("gac,gbd,gmn->gabmcdn", outer, inner, block.actions)
        matrices = matrices.reshape(len(elements), -1, math.prod(dims) * n)
        for part in _parts(space):
            values, vectors = np.linalg.eigh(np.tensordot(part.weights, matrices, 1))
            image = vectors[:, values > 0.5].T.reshape(-1, *dims, n)
            found[part.name].append(np.einsum("roin,nxy->roixy", image, block.samples))
    bases = {name: np.concatenate(pieces) for name, pieces in found.items()}
    return bases if band == "full" else _orthogonalise(bases)


def _orthogonalise(bases: dict[str, Array]) -> dict[str, Array]:
    """Return orthonormal bases, each orthogonal to those before, and the rest."""
    shape = next(iter(bases.values())).shape[1:]
    size = math.prod(shape)
    taken = np.zeros((0, size))
    result = {}
    for name, basis in bases.items():
        rows = basis.reshape(len(basis), size)
        rows = rows - (rows @ taken.T) @ taken
        _, values, vectors = np.linalg.svd(rows, full_matrices=False)
        new = vectors[values > _RANK_CUT]
        result[name] = new.reshape(-1, *shape)
        taken = np.concatenate([taken, new])
    _, _, vectors = np.linalg.svd(taken, full_matrices=True)
    result[COMPLEMENT] = vectors[len(taken) :].reshape(-1, *shape)
    return result


@dataclass(frozen=True)
class _Block:
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


@functools.cache
def _blocks(
    space: GSpace, kernel_size: int, band: Literal["full", "rings"]
) -> tuple[_Block, ...]:
    matrices = [element_matrix(space, g) for g in space.fibergroup.elements]
    make = _pixel_orbits if band == "full" else _ring_harmonics
    return tuple(make(matrices, kernel_size))


def _pixel_orbits(matrices: list[Array], kernel_size: int) -> Iterator[_Block]:
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
        yield _Block(actions, samples)


def _ring_harmonics(matrices: list[Array], kernel_size: int) -> Iterator[_Block]:
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
            yield _Block(actions, samples)


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
