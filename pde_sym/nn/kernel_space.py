"""Kernels split into their isotypic parts, one per irrep of the group.

A kernel maps offsets to matrices, ``K(o)`` of shape ``(size_out, size_in)``. The group
acts by ``(g.K)(o) = rho_out(g) K(g^-1 o) rho_in(g)^-1``, and part sigma is the image of

    P_sigma = d_sigma / (c_sigma |G|) sum_g chi_sigma(g) g,   c = 2 for complex type.

The trivial part holds the steerable kernels. A subgroup H that is to be kept takes the
image of its own mean from every part: the kernels of part sigma that are steerable
under H. All is built in float64 from small blocks: a pair of irreps out of rho_out and
rho_in times a set of offsets that the group maps to itself. For SO(2) and O(2) the
sums go over 32 turns, which are exact for the momenta that kernels hold.
"""

import functools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.nn import kernel_cache
from pde_sym.nn._escnn import GSpace, Irrep, Representation
from pde_sym.nn.field_types import (
    CONTINUOUS_ORDER,
    element_matrix,
    elements_of,
    group_name,
    irrep_blocks,
    is_continuous,
    is_exact_on_grid,
    subgroup_indices,
)
from pde_sym.nn.offsets import OffsetBlock, pixel_orbits, ring_harmonics
from pde_sym.nn.subspace import basis_of

Array = NDArray[np.float64]
Band = Literal["auto", "full", "rings"]
"""Which kernels: all of them, rings times harmonics, or the first where exact."""
_Resolved = Literal["full", "rings"]

TRIVIAL = "trivial"
COMPLEMENT = "complement"
"""Kernels outside the rings' band; a part of its own when ``band="rings"``."""

_MOMENTUM_NAMES = (TRIVIAL, "vector", "quadrupole")
_RANK_CUT = 1e-6


@dataclass(frozen=True)
class Part:
    """An irrep sigma with its angular momentum and its weights ``d / (c |G|) chi``."""

    name: str
    momentum: float
    weights: Array


@functools.cache
def isotypic_parts(space: GSpace) -> tuple[Part, ...]:
    """Return the irreps, the trivial one first, named as in pde_sym.groups."""
    elements = elements_of(space)
    matrices = [element_matrix(space, g) for g in elements]
    is_flip = [np.linalg.det(m) < 0 for m in matrices]
    num_turns = is_flip.count(False)
    parts = {}
    for irrep in _irreps(space):
        momentum = irrep.attributes["frequency"] % num_turns
        flips = [irrep(g) for g, f in zip(elements, is_flip, strict=True) if f]
        # escnn lists the flip y -> -y first among the flips.
        is_odd = bool(flips) and irrep.size == 1 and flips[0][0, 0] < 0
        name = (
            _MOMENTUM_NAMES[momentum] if momentum < 3 else f"momentum {momentum}"
        ) + ("'" if is_odd else "")
        name = "pseudoscalar" if name == f"{TRIVIAL}'" else name
        scale = irrep.size / (2 if irrep.type == "C" else 1) / len(matrices)
        characters = np.array([np.trace(irrep(g)) for g in elements])
        parts[momentum, is_odd] = Part(name, momentum, scale * characters)
    return tuple(parts[key] for key in sorted(parts))


def _irreps(space: GSpace) -> list[Irrep]:
    """Return the irreps of a finite group, or those that 32 turns tell apart."""
    group = space.fibergroup
    if not is_continuous(space):
        return list(group.irreps())
    momenta = range(CONTINUOUS_ORDER // 2)
    if not any(np.linalg.det(element_matrix(space, g)) < 0 for g in elements_of(space)):
        return [group.irrep(k) for k in momenta]
    return [group.irrep(0, 0), *(group.irrep(1, k) for k in momenta)]


def resolve_band(space: GSpace, band: Band) -> _Resolved:
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
            f"got {group_name(space)}; use band 'rings' or 'auto'"
        )
    if band not in ("auto", "full", "rings"):
        raise InputError(f"band {band!r}: expected 'auto', 'full' or 'rings'")
    return "full" if is_exact and band != "rings" else "rings"


def part_names(space: GSpace, band: Band = "auto") -> tuple[str, ...]:
    """Return the names of the parts, the trivial one first."""
    return tuple(part.name for part in available_parts(space, band))


def available_parts(space: GSpace, band: Band = "auto") -> tuple[Part, ...]:
    """Return the parts of kernels; what is outside the rings has no momentum."""
    parts = isotypic_parts(space)
    if resolve_band(space, band) == "full":
        return parts
    return (*parts, Part(COMPLEMENT, math.inf, np.zeros(0)))


def kernel_basis(
    rho_in: Representation,
    rho_out: Representation,
    space: GSpace,
    kernel_size: int,
    band: Band = "auto",
    parts: tuple[str, ...] | None = None,
    keep: str | None = None,
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
    keep
        A subgroup under which all parts stay steerable; see `subgroup_indices`.

    Returns
    -------
    dict
        Bases of shape ``(dim, o, i, k, k)``. Parts are mutually orthogonal: for
        ``rings``, where the grid aliases irreps, each gives way to those before it.

    Raises
    ------
    InputError
        For an even kernel, a band or subgroup the group does not have, or an unknown
        part.
    """
    known = part_names(space, band)
    wanted = known if parts is None else (TRIVIAL, *parts)
    for name in wanted:
        if name not in known:
            raise InputError(
                f"part {name!r}: {group_name(space)} has {', '.join(known)}"
            )
    pairs = irrep_bases(rho_in, rho_out, space, kernel_size, band, keep)
    outs, intos = irrep_blocks(rho_out), irrep_blocks(rho_in)
    shape = (-1, rho_out.size, rho_in.size, kernel_size, kernel_size)
    pieces: dict[str, list[Array]] = {name: [] for name in wanted}
    for (o, i), pair in pairs.items():
        columns = outs[o].columns, intos[i].columns
        for name, some in pieces.items():
            full = np.einsum("amo,bni,roixy->mnrabxy", *columns, pair[name])
            some.append(full.reshape(shape))
    return {n: torch.from_numpy(np.concatenate(p)) for n, p in pieces.items()}


def check_kernel_size(kernel_size: int) -> None:
    """Raise `InputError` unless the kernel has a centre."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise InputError(f"kernel_size must be odd and positive, got {kernel_size}")


def part_energies(
    kernels: Tensor,
    rho_in: Representation,
    rho_out: Representation,
    space: GSpace,
    band: Band = "auto",
) -> dict[str, float]:
    """Return ``||K_sigma||^2`` of kernels ``(n, o, i, k, k)``, summed over n."""
    size = kernels.shape[-1]
    values = kernels.detach().to("cpu", torch.float64).numpy()
    energies = dict.fromkeys(part_names(space, band), 0.0)
    outs, intos = irrep_blocks(rho_out), irrep_blocks(rho_in)
    for (o, i), pair in irrep_bases(rho_in, rho_out, space, size, band).items():
        columns = outs[o].columns, intos[i].columns
        block = np.einsum("amo,bni,zabxy->zmnoixy", *columns, values, optimize=True)
        rows = block.reshape(-1, math.prod(block.shape[3:]))
        for name, basis in pair.items():
            shares = rows @ basis.reshape(len(basis), rows.shape[1]).T
            energies[name] += float(np.sum(shares**2))
    return energies


@functools.cache
def irrep_bases(
    rho_in: Representation,
    rho_out: Representation,
    space: GSpace,
    kernel_size: int,
    band: Band = "auto",
    keep: str | None = None,
) -> kernel_cache.Pairs:
    """Return the bases ``(dim, d_out, d_in, k, k)`` by part, per pair of irreps.

    Pairs are named by the places of their irreps in `irrep_blocks`, out before in.
    They are kept on disk, so that a process need not build them again. See
    `kernel_basis` for arguments and errors.
    """
    check_kernel_size(kernel_size)
    resolved, elements = resolve_band(space, band), elements_of(space)
    matrices = np.array([element_matrix(space, g) for g in elements])
    kept = subgroup_indices(space, keep) if keep else [_identity(matrices)]
    outer, inner = (
        [np.array([block.irrep(g) for g in elements]) for block in irrep_blocks(rho)]
        for rho in (rho_out, rho_in)
    )
    names = [part.name for part in isotypic_parts(space)]
    question = kernel_cache.key(
        f"{resolved} {kernel_size} {kept} {names} {len(outer)}",
        matrices,
        *outer,
        *inner,
    )
    known = kernel_cache.load(question)
    if known is not None:
        return known
    pairs = {
        (o, i): _build(space, kernel_size, resolved, out, into, kept)
        for o, out in enumerate(outer)
        for i, into in enumerate(inner)
    }
    if resolved == "rings":
        for (o, i), bases in pairs.items():
            pairs[o, i] = _orthogonalise(bases)
            pairs[o, i][COMPLEMENT] = _complement(
                pairs[o, i], outer[o], inner[i], matrices, kept
            )
    kernel_cache.save(question, pairs)
    return pairs


def _identity(matrices: Array) -> int:
    return int(np.abs(matrices - np.eye(2)).sum((1, 2)).argmin())


def _build(
    space: GSpace,
    kernel_size: int,
    band: _Resolved,
    outer: Array,
    inner: Array,
    kept: list[int],
) -> dict[str, Array]:
    dims = (outer.shape[1], inner.shape[1])
    parts = isotypic_parts(space)
    found: dict[str, list[Array]] = {part.name: [] for part in parts}
    numbers = np.sum([k * part.weights for k, part in enumerate(parts, 1)], axis=0)
    for block in _blocks(space, kernel_size, band):
        n = block.actions.shape[1]
        actions = np.einsum("gac,gbd,gmn->gabmcdn", outer, inner, block.actions)
        actions = actions.reshape(len(outer), -1, math.prod(dims) * n)
        # The projectors are orthogonal, so that one matrix with another eigenvalue for
        # each tells them apart; the mean over a subgroup commutes with all of them.
        together = np.tensordot(numbers, actions, 1) @ actions[kept].mean(0)
        values, vectors = np.linalg.eigh((together + together.T) / 2)
        for number, part in enumerate(parts, 1):
            image = basis_of(vectors[:, np.rint(values) == number].T)
            image = image.reshape(-1, *dims, n)
            found[part.name].append(np.einsum("roin,nxy->roixy", image, block.samples))
    return {name: np.concatenate(pieces) for name, pieces in found.items()}


@functools.cache
def _blocks(
    space: GSpace, kernel_size: int, band: _Resolved
) -> tuple[OffsetBlock, ...]:
    matrices = [element_matrix(space, g) for g in elements_of(space)]
    make = pixel_orbits if band == "full" else ring_harmonics
    return tuple(make(matrices, kernel_size))


def _orthogonalise(bases: dict[str, Array]) -> dict[str, Array]:
    """Return orthonormal bases, each orthogonal to those before."""
    shape = next(iter(bases.values())).shape[1:]
    size = math.prod(shape)
    taken = np.zeros((0, size))
    result = {}
    for name, basis in bases.items():
        rows = basis.reshape(len(basis), size)
        rows = rows - (rows @ taken.T) @ taken
        _, values, vectors = np.linalg.svd(rows, full_matrices=False)
        new = basis_of(vectors[values > _RANK_CUT])
        result[name] = new.reshape(-1, *shape)
        taken = np.concatenate([taken, new])
    return result


def _complement(
    bases: dict[str, Array],
    outer: Array,
    inner: Array,
    matrices: Array,
    kept: list[int],
) -> Array:
    """Return the kernels outside the bands that the kept subgroup leaves alone.

    None are left when the subgroup does not map the grid onto itself.
    """
    shape = next(iter(bases.values())).shape[1:]
    size, kernel_size = math.prod(shape), shape[-1]
    moving = matrices[kept]
    if not np.array_equal(moving, np.rint(moving)):
        return np.zeros((0, *shape))
    projector = np.zeros((*shape, *shape))
    for block in pixel_orbits(list(moving), kernel_size):
        projector += np.einsum(
            "goc,gid,gmn,mxy,nzw->oixycdzw",
            outer[kept],
            inner[kept],
            block.actions,
            block.samples,
            block.samples,
            optimize=True,
        )
    taken = np.concatenate([b.reshape(len(b), size) for b in bases.values()])
    outside = np.eye(size) - taken.T @ taken
    mean = outside @ projector.reshape(size, size) @ outside / len(kept)
    values, vectors = np.linalg.eigh((mean + mean.T) / 2)
    return basis_of(vectors[:, values > 0.5].T).reshape(-1, *shape)
