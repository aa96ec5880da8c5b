"""Exponential time differencing of order 4 for ``y' = L y + N(y)``, L diagonal.

Cox and Matthews (2002), J. Comput. Phys. 176, eqs. 26-29, with ``z = h L`` and

    phi_1 = (e^z - 1) / z,   phi_{j+1} = (phi_j - 1 / j!) / z,   phi_j(0) = 1 / j!.

The recursion loses digits as ``|z|`` falls, its inverse loses none: below ``|z| = 1``
phi_3 is summed from its series and the others follow upwards. L may be complex (KdV)
or real (viscosity), and each coefficient is right to a few units of round-off.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SERIES_TERMS = 18
"""Terms of phi_3 for ``|z| <= 1``: the next one is below 1 / 21! = 2e-20."""


@dataclass(frozen=True)
class Etdrk4Coefficients:
    """Coefficients of a step h, each of the shape of L.

    Parameters
    ----------
    full, half
        ``e^z`` and ``e^(z/2)``.
    inner
        ``h/2 phi_1(z/2)``, the weight of N inside the stages.
    first, middle, last
        ``h (phi_1 - 3 phi_2 + 4 phi_3)``, ``h (2 phi_2 - 4 phi_3)`` and
        ``h (4 phi_3 - phi_2)`` of z; the middle one serves both inner stages.
    """

    full: Tensor
    half: Tensor
    inner: Tensor
    first: Tensor
    middle: Tensor
    last: Tensor


def phi_functions(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return phi_1, phi_2, phi_3 of `z`, real or complex."""
    small = z.abs() <= 1
    near = torch.where(small, z, torch.zeros_like(z))
    phi3 = torch.full_like(z, 1 / math.factorial(SERIES_TERMS + 2))
    for n in range(SERIES_TERMS + 1, 2, -1):
        phi3 = phi3 * near + 1 / math.factorial(n)
    phi2 = near * phi3 + 1 / 2
    phi1 = near * phi2 + 1
    far = torch.where(small, torch.ones_like(z), z)
    far1 = (torch.exp(far) - 1) / far
    far2 = (far1 - 1) / far
    far3 = (far2 - 1 / 2) / far
    return (
        torch.where(small, phi1, far1),
        torch.where(small, phi2, far2),
        torch.where(small, phi3, far3),
    )


def etdrk4_coefficients(
    linear: Tensor | NDArray[np.complex128] | NDArray[np.float64], dt: float
) -> Etdrk4Coefficients:
    """Return the coefficients for the diagonal of L and the step `dt`.

    Parameters
    ----------
    linear
        Diagonal of L, of any shape, real or complex in double precision.
    dt
        Step.
    """
    z = torch.as_tensor(linear) * dt
    phi1, phi2, phi3 = phi_functions(z)
    return Etdrk4Coefficients(
        full=torch.exp(z),
        half=torch.exp(z / 2),
        inner=dt / 2 * phi_functions(z / 2)[0],
        first=dt * (phi1 - 3 * phi2 + 4 * phi3),
        middle=dt * (2 * phi2 - 4 * phi3),
        last=dt * (4 * phi3 - phi2),
    )


def etdrk4_step(
    nonlinear: Callable[[Tensor], Tensor], y: Tensor, c: Etdrk4Coefficients
) -> Tensor:
    """Return y one step later.

    The stages stand at 0, h/2, h/2 and h. A component with L = 0 is integrated by the
    classical Runge-Kutta method, which makes quadratures of order 4 of the others.
    """
    at_start = nonlinear(y)
    decayed = c.half * y
    a = decayed + c.inner * at_start
    at_a = nonlinear(a)
    at_b = nonlinear(decayed + c.inner * at_a)
    at_end = nonlinear(c.half * a + c.inner * (2 * at_b - at_start))
    return c.full * y + c.first * at_start + c.middle * (at_a + at_b) + c.last * at_end
