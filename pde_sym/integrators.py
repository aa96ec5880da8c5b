"""Time integration of stiff, mostly real spectra.

Chebyshev: ``exp(s A) u = sum_k c_k(s) T_k(Y) u`` with ``Y = 1 + 2 A / lam``, for A
with spectrum near ``[-lam, 0]``; ``c_0 = e^-z I_0(z)``, ``c_k = 2 e^-z I_k(z)``,
``z = s lam / 2`` (Tal-Ezer 1989, SIAM J. Numer. Anal. 26, eq. 2.9 after the shift).
The series ends where its tail is below a tolerance, so it is exact to that tolerance
at any s, and one recurrence serves many times s.

RKL2: the second-order Runge-Kutta-Legendre method (Meyer, Balsara, Aslam 2014,
J. Comput. Phys. 257, eqs. 15-17), stable for ``h lam <= (s^2 + s - 2) / 2`` with s
stages; extrapolated over halved steps until two orders agree to a tolerance.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.special import ive
from torch import Tensor

from pde_sym.errors import SimulationError

Array = NDArray[np.float64]

TOLERANCE = 1e-16
"""Tail of the Chebyshev series, relative to the state."""


def chebyshev_degree(z: float, growth: float = 1.0, tol: float = TOLERANCE) -> int:
    """Return the least degree whose tail ``sum_{k>K} |c_k| growth^k`` is below `tol`.

    `growth` bounds ``||T_k|| <= growth^k`` when the spectrum leaves the real axis.
    """
    most = 40 + int(4 * z + 12 * math.sqrt(z + 1) * max(1.0, math.log(1 / tol) / 20))
    k = np.arange(most)
    with np.errstate(over="ignore", invalid="ignore"):
        terms = 2 * ive(k, z) * growth ** k.astype(float)
    tails = np.cumsum(terms[::-1])[::-1]
    small = np.flatnonzero(tails < tol)
    if not np.isfinite(tails[0]) or not len(small):
        raise SimulationError(
            f"the propagator does not converge for z={z:.3g}, growth={growth:.3g}: "
            "the wind is too strong for the grid"
        )
    return max(int(small[0]), 1)


def exponential_coefficients(z: Array, degree: int) -> Array:
    """Return c_k of ``exp(z (Y - 1))``, shape ``(len(z), degree + 1)``."""
    coefficients = 2 * ive(np.arange(degree + 1)[None, :], np.asarray(z)[:, None])
    coefficients[:, 0] /= 2
    return coefficients


def integral_coefficients(z: Array, lam: float, degree: int) -> Array:
    """Return c_k of ``int_0^s exp(t A) dt = s phi_1(s A)``, with ``z = s lam / 2``.

    ``phi_1(x) = (e^x - 1) / x``; the coefficients come from a cosine transform of its
    values at the Chebyshev points.
    """
    n = 2 * (degree + 1)
    y = np.cos(np.pi * (np.arange(n) + 0.5) / n)
    x = np.asarray(z)[:, None] * (1 - y)[None, :]
    values = (2 / lam) * np.asarray(z)[:, None] * -np.expm1(-x) / x
    coefficients = np.asarray(dct(values, type=2, axis=1)) / n
    coefficients[:, 0] /= 2
    return coefficients[:, : degree + 1]


def ellipse_growth(real: float, imag: float) -> float:
    """Return rho with ``||T_k(Y)|| <= rho^k`` for a spectrum in a rectangle.

    The scaled rectangle ``[-1, 1] x [-w, w]``, ``w = 2 imag / real``, lies in the
    ellipse of semi-axes ``(rho +- 1 / rho) / 2`` through its corners.
    """
    w2 = (2 * imag / real) ** 2
    # a^2 - b^2 = 1 and 1 / a^2 + w^2 / b^2 = 1 give b^4 - w^2 b^2 - w^2 = 0.
    b2 = (w2 + math.sqrt(w2 * w2 + 4 * w2)) / 2
    return math.sqrt(b2) + math.sqrt(1 + b2)


def chebyshev_series(
    apply: Callable[[Tensor], Tensor], u: Tensor, lam: float, coefficients: Array
) -> Tensor:
    """Return ``sum_k c_k T_k(1 + 2 A / lam) u`` for each row of `coefficients`.

    Parameters
    ----------
    apply
        The operator A.
    u
        State of any shape.
    lam
        Bound of the spectrum.
    coefficients
        Shape ``(outputs, degree + 1)``.

    Returns
    -------
    Tensor
        Shape ``(outputs, *u.shape)``.
    """
    c = torch.as_tensor(coefficients, dtype=u.dtype, device=u.device)
    column = (-1,) + (1,) * u.ndim
    before, current = u, u + (2 / lam) * apply(u)
    total = c[:, 0].view(column) * before + c[:, 1].view(column) * current
    for k in range(2, c.shape[1]):
        before, current = current, 2 * (current + (2 / lam) * apply(current)) - before
        total = total + c[:, k].view(column) * current
    return total


def rkl2_stages(h_lam: float) -> int:
    """Return the odd number of stages that makes a step with ``h lam`` stable."""
    stages = math.ceil((math.sqrt(9 + 8 * h_lam) - 1) / 2)
    return max(3, stages + 1 - stages % 2)


def rkl2_step(
    rate: Callable[[Tensor], Tensor], y: Tensor, h: float, stages: int
) -> Tensor:
    """Return y after one RKL2 step of length h (Meyer et al. 2014, eq. 17)."""
    w = 4 / (stages**2 + stages - 2)

    def b(j: int) -> float:
        return 1 / 3 if j < 3 else (j * j + j - 2) / (2 * j * (j + 1))

    start = rate(y)
    before, current = y, y + (w / 3) * h * start
    for j in range(2, stages + 1):
        mu = (2 * j - 1) / j * b(j) / b(j - 1)
        nu = -(j - 1) / j * b(j) / b(j - 2)
        gamma = -(1 - b(j - 1)) * mu * w
        following = (
            mu * current
            + nu * before
            + (1 - mu - nu) * y
            + mu * w * h * rate(current)
            + gamma * h * start
        )
        before, current = current, following
    return current


def extrapolated_rkl2(
    rate: Callable[[Tensor], Tensor],
    y: Tensor,
    h: float,
    lam: float,
    tol: float,
    max_levels: int = 10,
) -> Tensor:
    """Return y after the time h, to the relative tolerance `tol` in the L2 norm.

    RKL2 with 1, 2, 4, .. steps and equal stages has an error series in h^2, h^3, ..;
    Neville's table removes one power per level and its last two entries bound what is
    left (Hairer, Norsett, Wanner I, section II.9).

    Raises
    ------
    SimulationError
        When the table does not converge.
    """
    stages = rkl2_stages(h * lam)
    row: list[Tensor] = []
    for level in range(max_levels):
        steps, z = 2**level, y
        for _ in range(steps):
            z = rkl2_step(rate, z, h / steps, stages)
        previous, row = row, [z]
        for k, older in enumerate(previous):
            row.append(row[k] + (row[k] - older) / (2 ** (k + 2) - 1))
        if level > 1:
            change = torch.linalg.vector_norm(row[-1] - row[-2])
            if change <= tol * torch.linalg.vector_norm(row[-1]):
                return row[-1]
    raise SimulationError(
        f"RKL2 did not reach the tolerance {tol:g} over a step of {h:g} with "
        f"{2 ** (max_levels - 1)} parts: the state may blow up"
    )
