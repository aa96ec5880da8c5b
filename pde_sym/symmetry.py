"""How the symmetries of the periodic plane, or of a box with walls, act on states.

``(g u)(x) = rho(M) u(g^-1 x)`` for ``g x = M x + s``; rho is 1 for a scalar, det M for
a pseudoscalar, M for a vector and T -> M T M^T for a tensor. Turns, flips and shifts by
whole grid steps permute the grid points and are exact; any other shift is exact for
band-limited states.
"""

import math

import torch
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.fields import FieldSpec, Rank
from pde_sym.grid import PeriodicGrid, WalledGrid
from pde_sym.groups import (
    FULL,
    IDENTITY,
    Group,
    GroupElement,
    Irrep,
    Subgroup,
    point_group,
    shift_group,
)

__all__ = [
    "FULL",
    "IDENTITY",
    "Group",
    "GroupElement",
    "Irrep",
    "Subgroup",
    "act",
    "fourier_shift",
    "point_group",
    "shift_group",
]


def act(
    element: GroupElement, state: Tensor, spec: FieldSpec, grid: PeriodicGrid
) -> Tensor:
    """Return ``(g u)(x) = rho(M) u(g^-1 x)`` for a state ``(..., channels, x, y)``.

    A state on a line is ``(..., channels, x)``; shifts along x act on it. Between
    walls turns and flips are about the middle of the box, and there are no shifts.

    Raises
    ------
    InputError
        When the grid is not two-dimensional, when a quarter turn meets a grid that is
        not square, when anything but a shift meets a line, when a shift meets walls,
        or when the state has another number of channels than `spec`.
    """
    if grid.num_axes == 1:
        if element.turns or element.flip or element.shift[1]:
            raise InputError(f"a line has shifts along x, got {element.name}")
        plane = PeriodicGrid(shape=(*grid.shape, 1), lengths=(*grid.lengths, 1.0))
        return act(element, state[..., None], spec, plane)[..., 0]
    if grid.num_axes != 2:
        raise InputError(f"the plane's symmetries need 2 axes, got {grid.num_axes}")
    if element.turns % 2 and not grid.is_square:
        raise InputError(f"a quarter turn needs a square grid, got {grid.shape}")
    if state.shape[-3:] != (spec.num_channels, *grid.shape):
        raise InputError(
            f"expected a state (..., {spec.num_channels}, {grid.shape[0]}, "
            f"{grid.shape[1]}) for {spec.names}, got {tuple(state.shape)}"
        )
    walled = isinstance(grid, WalledGrid)
    if walled and any(element.shift):
        raise InputError(f"there are no shifts between walls, got {element.name}")
    moved = _move_points(element, state, walled)
    is_shift = not (element.turns or element.flip)
    if is_shift or all(field.rank is Rank.SCALAR for field in spec):
        return moved
    parts = []
    for field, channels in zip(spec, spec.slices().values(), strict=True):
        parts.append(_turn_components(element, moved[..., channels, :, :], field.rank))
    return torch.cat(parts, dim=-3)


def _move_points(element: GroupElement, state: Tensor, walled: bool) -> Tensor:
    """Return ``u(g^-1 x)``; between walls x is counted from the middle of the box."""
    negate = _mirror_axis if walled else _negate_axis
    if element.flip:
        state = negate(state, -1)
    for _ in range(element.turns):
        # (g u)(x, y) = u(y, -x): the index of y is negated, then the axes change.
        state = negate(state, -1).transpose(-1, -2)
    return _shift(state, element.shift) if any(element.shift) else state


def _negate_axis(state: Tensor, axis: int) -> Tensor:
    """Return the state with index i replaced by -i mod N: the point 0 stays."""
    return state.flip(axis).roll(1, axis)


def _mirror_axis(state: Tensor, axis: int) -> Tensor:
    """Return the state with index i replaced by N - 1 - i: the middle stays."""
    return state.flip(axis)


def _shift(state: Tensor, shift: tuple[float, float]) -> Tensor:
    """Return ``u(x - s)``: by a roll on grid steps, by Fourier's shift otherwise."""
    steps = [s * n for s, n in zip(shift, state.shape[-2:], strict=True)]
    if all(abs(step - round(step)) < 1e-9 for step in steps):
        return state.roll([round(step) for step in steps], (-2, -1))
    return fourier_shift(state, shift)


def fourier_shift(state: Tensor, shift: tuple[float, float]) -> Tensor:
    """Return ``u(x - s)`` for a band-limited real state; `s` in box lengths."""
    nx, ny = state.shape[-2:]
    device, dtype = state.device, torch.float64
    mx = torch.fft.fftfreq(nx, d=1 / nx, device=device, dtype=dtype)[:, None]
    my = torch.fft.rfftfreq(ny, d=1 / ny, device=device, dtype=dtype)[None, :]
    angle = -2 * math.pi * (mx * shift[0] + my * shift[1])
    phase = torch.polar(torch.ones_like(angle), angle)
    shifted = torch.fft.rfft2(state.to(dtype)) * phase
    return torch.fft.irfft2(shifted, s=(nx, ny)).to(state.dtype)


def _turn_components(element: GroupElement, state: Tensor, rank: Rank) -> Tensor:
    if rank is Rank.SCALAR:
        return state
    if rank is Rank.PSEUDOSCALAR:
        return state * element.determinant
    if rank is Rank.VECTOR:
        return _turn_index(element, state, -3)
    rows = state.unflatten(-3, (2, 2))
    return _turn_index(element, _turn_index(element, rows, -4), -3).flatten(-4, -3)


def _turn_index(element: GroupElement, state: Tensor, axis: int) -> Tensor:
    """Return ``v_i -> M_ij v_j`` for the index on `axis`."""
    (a, b), (c, d) = element.matrix
    vx, vy = state.unbind(axis)
    return torch.stack([a * vx + b * vy, c * vx + d * vy], axis)
