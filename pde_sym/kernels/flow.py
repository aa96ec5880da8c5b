"""Compiled frame of two-dimensional flow, one trajectory at a time.

The scheme is that of `pde_sym.etdrk4`; all steps of a frame run inside one call. See
`pde_sym.kernels.flow_rate` for the layout.
"""

import functools
import math
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from pde_sym.etdrk4 import etdrk4_coefficients
from pde_sym.kernels.flow_rate import (
    Plan,
    place,
    rate,
    row,
    to_grid,
    to_modes,
    velocity,
)
from pde_sym.systems.flow_dynamics import MAX_CACHED, Amplitudes, Medium, Spectrum

Real = NDArray[np.float64]
Complex = NDArray[np.complex128]

NUM_REST = 8
"""Mean flow (2), displacement of its frame (2), momentum (2), energy, enstrophy."""


class CompiledFlow:
    """Frames of a batch, of length dt, one trajectory after the other.

    Parameters
    ----------
    media
        One for each trajectory, or one for all.
    """

    def __init__(self, media: list[Medium], spectrum: Spectrum, dt: float) -> None:
        self._each, self._dt = [CompiledMedium(one, spectrum) for one in media], dt
        self._coefficients = functools.lru_cache(MAX_CACHED)(self._make_coefficients)

    def _make_coefficients(self, number: int) -> tuple[Any, Any]:
        # The linear part is the same for all: the environment is explicit.
        return self._each[0].coefficients(self._dt / number)

    def _medium(self, index: int) -> "CompiledMedium":
        return self._each[index if len(self._each) > 1 else 0]

    def decompose(
        self, state: Tensor
    ) -> tuple[list[tuple[Complex, Real]], list[Amplitudes]]:
        """Return the modes of states ``(batch, 3 or 4, x, y)`` and their sums."""
        every = [
            self._medium(i).decompose(one)
            for i, one in enumerate(state.contiguous().numpy())
        ]
        return [modes for modes, _ in every], [sums for _, sums in every]

    def advance(
        self, modes: list[tuple[Complex, Real]], numbers: list[int]
    ) -> tuple[Tensor, Tensor]:
        """Return the states after those numbers of steps, and each budget's change."""
        every = [
            self._medium(i).advance(one, self._coefficients(number), number)
            for i, (one, number) in enumerate(zip(modes, numbers, strict=True))
        ]
        states, changes = (np.stack(parts) for parts in zip(*every, strict=True))
        return torch.from_numpy(states), torch.from_numpy(changes)


class CompiledMedium:
    """The dynamics of one trajectory in compiled form.

    Parameters
    ----------
    medium, spectrum
        What `Advance` is made of.
    """

    def __init__(self, medium: Medium, spectrum: Spectrum) -> None:
        def plain(values: object) -> Real:
            if values is None:
                return np.empty((0, 0))
            return np.ascontiguousarray(np.asarray(values, dtype=np.float64))

        def kept(values: Tensor) -> NDArray[Any]:
            return np.ascontiguousarray(values[rows][:, columns].numpy())

        rows, columns = spectrum.kept[:, 0] > 0, spectrum.kept[0] > 0
        has_tracer = medium.diffusivity is not None
        linear = [kept(medium.linear(spectrum))]
        if medium.diffusivity is not None:
            linear.append(-medium.diffusivity * kept(spectrum.square))
        self._linear = np.stack(linear).reshape(-1)
        self._rest_linear = np.zeros(NUM_REST + 2 * has_tracer)
        self._rest_linear[:2] = -medium.mean_drag
        self._plan = Plan(
            kx=plain(spectrum.ikx[rows, 0].imag),
            ky=plain(spectrum.iky[0, columns].imag),
            inverse_square=kept(spectrum.inverse_square),
            x_axis=np.array([1]),
            y_axis=np.array([2]),
            coriolis=plain(medium.coriolis),
            brake=plain(medium.brake),
            excess=plain(medium.excess),
            viscosity=medium.viscosity,
            drag=medium.drag,
            mean_drag=medium.mean_drag,
            wind_x=float(medium.wind[0]),
            wind_y=float(medium.wind[1]),
            lift_x=medium.lift[0],
            lift_y=medium.lift[1],
            diffusivity=medium.diffusivity or 0.0,
            force=medium.force,
            mode=medium.mode if medium.force else 0,
            pinned=medium.pinned,
            has_tracer=has_tracer,
        )
        nx, ny = spectrum.shape
        forced = self._plan.coriolis.size + self._plan.brake.size > 0
        widest = 2 * (1 + has_tracer + (self._plan.excess.size > 0) + forced)
        widest = max(widest, 3 + has_tracer)
        self._grid = np.empty((widest, nx, ny))
        self._hat = np.empty((widest, nx, ny // 2 + 1), dtype=np.complex128)

    def decompose(self, state: Real) -> tuple[tuple[Complex, Real], Amplitudes]:
        """Return modes and mean flow of a state ``(3 or 4, x, y)``, and their sums."""
        fields, mean, sums = _decompose(state, self._plan, self._grid, self._hat)
        return (fields, mean), Amplitudes(*sums)

    def coefficients(self, dt: float) -> tuple[Any, Any]:
        """Return the coefficients of a step for modes and rest, ``(6, size)``.

        Those of the modes are real unless a Rossby wave turns them.
        """
        linear = self._linear if self._linear.imag.any() else self._linear.real
        return _stacked(linear, dt), _stacked(self._rest_linear, dt)

    def advance(
        self,
        modes: tuple[Complex, Real],
        coefficients: tuple[Any, Any],
        number: int,
    ) -> tuple[Real, Real]:
        """Return the state `number` steps later and the changes of the invariants.

        The modes are overwritten.
        """
        fields, mean = modes
        rest = np.zeros(len(self._rest_linear))
        rest[:2] = mean
        state = np.empty((2 + len(fields), *self._grid.shape[1:]))
        _advance(
            fields, rest, *coefficients, number,
            self._plan, self._grid, self._hat, state,
        )  # fmt: skip
        return state, rest[4:]


def _stacked(linear: NDArray[Any], dt: float) -> NDArray[Any]:
    c = etdrk4_coefficients(linear, dt)
    parts = (c.full, c.half, c.inner, c.first, c.middle, c.last)
    return torch.stack(parts).numpy()


@njit(cache=True)
def _copy(source, target) -> None:
    """Copy a field; the loop compiles faster than an assignment of slices."""
    for x in range(source.shape[0]):
        for y in range(source.shape[1]):
            target[x, y] = source[x, y]


@njit(cache=True)
def _decompose(state, plan, grid, hat):
    rows, columns = plan.inverse_square.shape
    nx = grid.shape[1]
    count = 3 if plan.has_tracer else 2
    for f in range(count):
        _copy(state[f + f // 2], grid[f])
    to_modes(count, plan, grid, hat)
    fields = np.empty((count - 1, rows, columns), dtype=np.complex128)
    mean = np.empty(2)
    mean[0], mean[1] = hat[0, 0, 0].real, hat[1, 0, 0].real
    speed = strain = carried = gradient = 0.0
    for i in range(rows):
        r, kx = row(i, rows, nx), plan.kx[i]
        for j in range(columns):
            ky, weight = plan.ky[j], 2.0 if j > 0 else 1.0
            w = 1j * (kx * hat[1, r, j] - ky * hat[0, r, j])
            fields[0, i, j] = w
            k = math.sqrt(kx * kx + ky * ky)
            part = weight * (abs(kx) + abs(ky)) * plan.inverse_square[i, j] * abs(w)
            speed += part
            strain += k * part
            if plan.has_tracer:
                b = hat[2, r, j]
                fields[1, i, j] = b
                if k > 0.0:
                    carried += weight * abs(b)
                    gradient += weight * k * abs(b)
    moving = abs(mean[0]) + abs(mean[1])
    return fields, mean, (speed, strain, moving, carried, gradient)


@njit(cache=True)
def _inner(y, n, c, out) -> None:
    """Set ``out = half y + inner n``, the first two stages."""
    for k in range(y.size):
        out[k] = c[1, k] * y[k] + c[2, k] * n[k]


@njit(cache=True)
def _last_stage(a, n, start, c, out) -> None:
    for k in range(a.size):
        out[k] = c[1, k] * a[k] + c[2, k] * (2 * n[k] - start[k])


@njit(cache=True)
def _step_end(y, start, at_a, at_b, end, c) -> None:
    for k in range(y.size):
        y[k] = (
            c[0, k] * y[k]
            + c[3, k] * start[k]
            + c[4, k] * (at_a[k] + at_b[k])
            + c[5, k] * end[k]
        )


@njit(cache=True)
def _advance(y, q, c, cq, number, plan, grid, hat, state) -> None:
    """Take `number` steps of modes y and rest q and set the state."""
    a, stage = np.empty_like(y), np.empty_like(y)
    n = np.empty((4, *y.shape), dtype=np.complex128)
    qa, qs, m = np.empty_like(q), np.empty_like(q), np.empty((4, q.size))
    yf, af, sf = y.reshape(-1), a.reshape(-1), stage.reshape(-1)
    nf = n.reshape((4, y.size))
    for _ in range(number):
        rate(y, q, plan, grid, hat, n[0], m[0])
        _inner(yf, nf[0], c, af)
        _inner(q, m[0], cq, qa)
        rate(a, qa, plan, grid, hat, n[1], m[1])
        _inner(yf, nf[1], c, sf)
        _inner(q, m[1], cq, qs)
        rate(stage, qs, plan, grid, hat, n[2], m[2])
        _last_stage(af, nf[2], nf[0], c, sf)
        _last_stage(qa, m[2], m[0], cq, qs)
        rate(stage, qs, plan, grid, hat, n[3], m[3])
        _step_end(yf, nf[0], nf[1], nf[2], nf[3], c)
        _step_end(q, m[0], m[1], m[2], m[3], cq)
    _compose(y, q, plan, grid, hat, state)


@njit(cache=True)
def _compose(y, q, plan, grid, hat, state) -> None:
    """Set the fields of a state; the frame of the mean flow has moved by q[2:4]."""
    rows, columns = plan.inverse_square.shape
    if not plan.pinned:
        for i in range(rows):
            for j in range(columns):
                angle = -(plan.kx[i] * q[2] + plan.ky[j] * q[3])
                phase = complex(math.cos(angle), math.sin(angle))
                for f in range(len(y)):
                    y[f, i, j] *= phase
    velocity(y, q, plan, hat)
    hat[0, 0, 0], hat[1, 0, 0] = q[0], q[1]
    for f in range(len(y)):
        place(y[f], hat[2 + f])
    to_grid(2 + len(y), plan, grid, hat)
    for f in range(2 + len(y)):
        _copy(grid[f], state[f])
