"""Compiled loops for the flux Phi of KdV with its terms; see `pde_sym.kernels.kdv`."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from rocket_fft.lowlevel import c2r, r2c

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Complexes = NDArray[np.complex128]

AXIS = np.array([1])


class Numbers(NamedTuple):
    """Strengths of the terms, with frequency and phase of a modulation in radians."""

    gardner: float = 0.0
    quartic: float = 0.0
    modulation: float = 0.0
    frequency: float = 0.0
    phase: float = 0.0
    frame: float = 0.0
    damping: float = 0.0
    viscosity: float = 0.0
    kawahara: float = 0.0


class Places(NamedTuple):
    """First of the rows of each field, its derivatives following; -1 for none."""

    potential: int = -1
    dispersion: int = -1
    forcing: int = -1
    speed: int = -1
    slope: int = -1
    width: int = -1


class Terms(NamedTuple):
    """The terms of one system.

    Parameters
    ----------
    points
        Points of the grid on which Phi is formed.
    plain
        Whether ``Phi = 3 w^2``, that of the intact equation.
    k
        Wavenumbers ``2 pi m / L`` of the kept modes from 0.
    fields, at
        Spectra ``(fields, batch or 1, modes)`` that are needed on the grid.
    forcing
        Spectra ``(batch or 1, modes)``, or no rows.
    """

    points: int
    plain: bool
    k: Floats
    numbers: Numbers
    fields: Complexes
    at: Places
    forcing: Complexes


class Room(NamedTuple):
    """Where to work: one line per row of a block, and per field and row.

    The fields stand on the grid as they were seen from the frames at `shift`.
    """

    values: Floats
    product: Floats
    spectrum: Complexes
    field_values: Floats
    field_spectra: Complexes
    shift: Floats


@njit(cache=True)
def to_values(spectra: Complexes, values: Floats) -> None:
    """Transform coefficients ``(rows, points / 2 + 1)``, row by row."""
    c2r(spectra, values, AXIS, False, 1.0, 1)  # type: ignore


@njit(cache=True)
def to_spectra(values: Floats, spectra: Complexes) -> None:
    """Transform values ``(rows, points)``, row by row."""
    r2c(values, spectra, AXIS, True, 1.0 / values.shape[1], 1)  # type: ignore


@njit(cache=True)
def flux(
    w: Complexes,
    mean: Floats,
    shift: Floats,
    time: Floats,
    env: Integers,
    rows: int,
    terms: Terms,
    room: Room,
    phi: Complexes,
    drift: Floats,
) -> None:
    """Write the spectrum of Phi and the rate of the mean, less its linear part.

    Parameters
    ----------
    w
        Coefficients ``(block, points / 2 + 1)``, padded with zeros.
    mean, shift, time, env
        Mean, shift of the frame, time and number of the environment of each row.
    rows
        Rows that are wanted, a multiple of the lanes.
    terms, room
        The terms and where to work.
    phi, drift
        Where to write: coefficients like w, of which mode 0 means nothing, and one
        number per row.
    """
    values, product = room.values, room.product
    to_values(w[:rows], values[:rows])
    if terms.plain:
        for r in range(rows):
            for i in range(values.shape[1]):
                values[r, i] = 3 * values[r, i] * values[r, i]
        to_spectra(values[:rows], phi[:rows])
        return
    drift[:rows] = 0.0
    _shift_fields(shift, env, rows, terms, room)
    _multiply(mean, rows, terms, room)
    to_spectra(product[:rows], phi[:rows])
    if terms.at.dispersion >= 0:
        _add_dispersion(w, rows, terms, room, phi)
    if terms.at.width >= 0:
        _add_bottom(w, mean, rows, terms, room, phi, drift)
    if len(terms.forcing) > 0:
        _add_forcing(shift, env, rows, terms, phi, drift)
    if terms.numbers.modulation > 0:
        k = terms.k
        for r in range(rows):
            excess = swing(terms.numbers, time[r])
            for m in range(1, len(k)):
                phi[r, m] -= excess * k[m] ** 2 * w[r, m]


@njit(cache=True)
def swing(numbers: Numbers, time: float) -> float:
    """Return ``strength cos(w t + p)`` of the modulated dispersion."""
    return numbers.modulation * np.cos(numbers.frequency * time + numbers.phase)


@njit(cache=True)
def _shift_fields(shift, env, rows, terms, room) -> None:
    """Put the fields, seen from the frame of each row, on the grid if they moved."""
    block = len(room.values)
    moved = False
    for r in range(rows):
        moved |= shift[r] != room.shift[r]
        room.shift[r] = shift[r]
    if not moved:
        return
    for f in range(len(terms.fields)):
        own = slice(f * block, f * block + rows)
        for r in range(rows):
            turn(
                terms.fields[f, env[r]],
                shift[r],
                terms.k,
                room.field_spectra[f * block + r],
            )
        to_values(room.field_spectra[own], room.field_values[own])


@njit(cache=True)
def turn(spectrum: Complexes, shift: float, k: Floats, turned: Complexes) -> None:
    """Write the spectrum of the field seen from a frame that moved by `shift`."""
    step, phase = np.exp(1j * k[1] * shift), 1.0 + 0.0j
    for m in range(len(k)):
        turned[m] = spectrum[m] * phase
        phase *= step


@njit(cache=True)
def _multiply(mean, rows, terms, room) -> None:
    """Form ``3 w^2 + V u + gardner u^3 / 3 + quartic u^4 / 4 + c u + a u^2 / 2``."""
    block, points = room.values.shape
    at, fields = terms.at, room.field_values
    cubic, quartic = terms.numbers.gardner / 3, terms.numbers.quartic / 4
    for r in range(rows):
        w, product = room.values[r], room.product[r]
        for i in range(points):
            product[i] = 3 * w[i] * w[i]
        if cubic != 0 or quartic != 0:
            for i in range(points):
                u = mean[r] + w[i]
                product[i] += u * u * u * (cubic + quartic * u)
        if at.potential >= 0:
            current = fields[at.potential * block + r]
            for i in range(points):
                product[i] += current[i] * (mean[r] + w[i])
        if at.speed >= 0:
            speed, slope = fields[at.speed * block + r], fields[at.slope * block + r]
            for i in range(points):
                u = mean[r] + w[i]
                product[i] += speed[i] * u + slope[i] * u * u / 2


@njit(cache=True)
def _differentiate(w, rows, factors, room) -> None:
    """Form the sum of ``i factor w`` on the grid, in `room.product`."""
    room.spectrum[:rows] = 0.0
    for r in range(rows):
        for m in range(1, len(factors)):
            room.spectrum[r, m] = 1j * factors[m] * w[r, m]
    to_values(room.spectrum[:rows], room.product[:rows])


@njit(cache=True)
def _add_dispersion(w, rows, terms, room, phi) -> None:
    """Add ``(V w_x)_x``."""
    block, points = room.values.shape
    _differentiate(w, rows, terms.k, room)
    for r in range(rows):
        excess = room.field_values[terms.at.dispersion * block + r]
        for i in range(points):
            room.product[r, i] *= excess[i]
    to_spectra(room.product[:rows], room.spectrum[:rows])
    for r in range(rows):
        for m in range(1, len(terms.k)):
            phi[r, m] += 1j * terms.k[m] * room.spectrum[r, m]


@njit(cache=True)
def _add_bottom(w, mean, rows, terms, room, phi, drift) -> None:
    """Add what has the x-derivative ``b u_xxx - c_x u / 2 - a_x u^2 / 2``."""
    block, points = room.values.shape
    fields, at = room.field_values, terms.at
    _differentiate(w, rows, -(terms.k**3), room)
    for r in range(rows):
        speed_x = fields[(at.speed + 1) * block + r]
        slope_x = fields[(at.slope + 1) * block + r]
        width = fields[at.width * block + r]
        for i in range(points):
            u = mean[r] + room.values[r, i]
            local = (speed_x[i] + slope_x[i] * u) * u / 2
            room.product[r, i] = local - width[i] * room.product[r, i]
    to_spectra(room.product[:rows], room.spectrum[:rows])
    for r in range(rows):
        drift[r] += room.spectrum[r, 0].real
        for m in range(1, len(terms.k)):
            phi[r, m] += 1j / terms.k[m] * room.spectrum[r, m]


@njit(cache=True)
def _add_forcing(shift, env, rows, terms, phi, drift) -> None:
    """Add what has the x-derivative ``-f``."""
    k, force = terms.k, np.empty(len(terms.k), dtype=np.complex128)
    for r in range(rows):
        turn(terms.forcing[env[r]], shift[r], k, force)
        drift[r] += force[0].real
        for m in range(1, len(k)):
            phi[r, m] += 1j / k[m] * force[m]
