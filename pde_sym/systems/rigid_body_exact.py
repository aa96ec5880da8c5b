"""The free rigid body in closed form, for every state and every inertia.

Euler's equations ``dPi/dt = Pi x Omega``, ``Omega_i = Pi_i / I_i``, read

    Omega_1' = -a_1 Omega_2 Omega_3,    a_1 = (I_3 - I_2) / I_1
    Omega_2' =  a_2 Omega_3 Omega_1,    a_2 = (I_3 - I_1) / I_2
    Omega_3' = -a_3 Omega_1 Omega_2,    a_3 = (I_2 - I_1) / I_3

where a cyclic renaming of the axes has made I_2 the middle inertia, so that the three
a_i have one sign. With ``p = a_1 a_3 Omega_2^2 + a_1 a_2 Omega_3^2``,
``q = a_1 a_3 Omega_2^2 + a_2 a_3 Omega_1^2`` of the initial state, and the odd function
``S' = C D``, ``C^2 = 1 - p S^2``, ``D^2 = 1 - q S^2``, the addition theorem of the
Jacobi functions gives

    Omega_1(t) = (Omega_1 C - a_1 Omega_2 Omega_3 S D) / N
    Omega_2(t) = (Omega_2 C D + a_2 Omega_3 Omega_1 S) / N
    Omega_3(t) = (Omega_3 D - a_3 Omega_1 Omega_2 S C) / N
    N = 1 - a_1 a_3 Omega_2^2 S^2 = C^2 + a_1 a_2 Omega_3^2 S^2.

For p > q, ``S = sn / sqrt(p)``, C = cn, D = dn of argument ``sqrt(p) t`` and parameter
``m = q / p``; for q > p the two change places, and p = q is the separatrix. There is no
initial phase, no root of a difference and no division by an amplitude, so symmetric
bodies, rest and the neighbourhood of the separatrix are no special cases. The first two
appear in Landau and Lifshitz, Mechanics, section 37; the theorem is Abramowitz and
Stegun 16.17.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pde_sym.systems.rigid_body_rotations import multiply

LANDEN_STEPS = 4
"""From a parameter of at most 1/2, four steps leave one below 1e-20."""
AGM_STEPS = 16
"""Enough for complementary parameters down to the least float64."""
SERIES_BELOW = 1e-9
"""Below this ``p t^2`` the Taylor series of S, C and D is exact to round-off."""
_GAUSS = np.polynomial.legendre.leggauss(6)
NODES: NDArray[np.float64] = np.append((_GAUSS[0] + 1) / 2, 1.0)
WEIGHTS: NDArray[np.float64] = _GAUSS[1] / 2
"""Gauss-Legendre quadrature of the attitude's angle on [0, 1], whose end comes as a
node without a weight; exact to round-off for turns of up to a radian."""


def jacobi(u: Tensor, m: Tensor, complement: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return sn, cn and dn of `u` with parameter m in [0, 1].

    cn and dn keep their relative accuracy near m = 1, where both are small over most
    of a period. Differentiable in u and m, also at m = 0; in `complement` at m = 1.

    Parameters
    ----------
    u, m, complement
        Argument, parameter and ``1 - m``, of one shape; both m and ``1 - m`` are given
        because a caller may know the smaller one to more digits.
    """
    periodic = complement > 0
    safe = torch.where(periodic, complement, 1.0)
    period = 4 * elliptic_k(safe)
    turns = torch.where(periodic, torch.round(u / period), 0.0).detach()
    u = u - turns * period
    low = m <= 0.5
    down = _landen_down(u, torch.where(low, m, 0.5))
    up = _landen_up(u, torch.where(low, 0.5, complement))
    sn, cn, dn = (torch.where(low, a, b) for a, b in zip(down, up, strict=True))
    return sn, cn, dn


def elliptic_k(complement: Tensor) -> Tensor:
    """Return ``K = int_0^1 dx / sqrt((1 - x^2) (1 - m x^2))``, with `complement` 1 - m.

    By the arithmetic-geometric mean (Abramowitz and Stegun 17.6.3); infinite at 0.
    """
    a, b = torch.ones_like(complement), complement.sqrt()
    for _ in range(AGM_STEPS):
        a, b = (a + b) / 2, (a * b).sqrt()
    return torch.where(complement > 0, math.pi / (2 * a), math.inf)


def _landen_down(u: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Descending Landen steps to m = 0 (Abramowitz and Stegun 16.12), m <= 1/2."""
    roots = []
    for _ in range(LANDEN_STEPS):
        r = m / (1 + (1 - m).sqrt()) ** 2
        roots.append(r)
        u, m = u / (1 + r), r * r
    sn, cn, dn = u.sin(), u.cos(), torch.ones_like(u)
    for r in reversed(roots):
        square = r * sn * sn
        below = 1 + square
        sn, cn, dn = (1 + r) * sn / below, cn * dn / below, (1 - square) / below
    return sn, cn, dn


def _landen_up(u: Tensor, complement: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ascending Landen steps to m = 1 (Abramowitz and Stegun 16.14), m >= 1/2."""
    roots = []
    for _ in range(LANDEN_STEPS):
        r = complement / (1 + (1 - complement).sqrt()) ** 2
        roots.append(r)
        u, complement = u / (1 + r), r * r
    # Beyond 300 the hyperbolic secant is 1e-130: clamped so that its square is not 0.
    cn = dn = 1 / u.clamp(-300.0, 300.0).cosh()
    sn = u.tanh()
    for r in reversed(roots):
        square = dn * dn
        sn, cn, dn = (
            (1 + r) * sn * cn / dn,
            (square - r) / ((1 - r) * dn),
            (square + r) / ((1 + r) * dn),
        )
    return sn, cn, dn


def _scaled_jacobi(
    p: Tensor, q: Tensor, gap: Tensor, t: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return S, C and D of the module, with ``gap = p - q`` free of cancellation."""
    exchanged = gap < 0
    larger, smaller = torch.where(exchanged, q, p), torch.where(exchanged, p, q)
    small = larger * t * t < SERIES_BELOW
    square = torch.where(small, 1.0, larger)
    tau = square.sqrt()
    m = torch.where(small, 0.5, smaller / square).clamp(0.0, 1.0)
    complement = torch.where(small, 0.5, gap.abs() / square).clamp(0.0, 1.0)
    sn, cn, dn = jacobi(tau * torch.where(small, 1.0, t), m, complement)
    half = t * t / 2
    return (
        torch.where(small, t * (1 - (p + q) * half / 3), sn / tau),
        torch.where(small, 1 - p * half, torch.where(exchanged, dn, cn)),
        torch.where(small, 1 - q * half, torch.where(exchanged, cn, dn)),
    )


def free_motion(momentum: Tensor, inertia: Tensor, time: Tensor) -> Tensor:
    """Return the angular momentum of a free body after `time`.

    The error is round-off times the angle turned; differentiable in all arguments
    where the order of the inertias does not change.

    Parameters
    ----------
    momentum
        Pi in the body frame, ``(..., 3)``.
    inertia
        Principal moments > 0, ``(..., 3)``, in any order, any of them equal.
    time
        ``(...)``, of any sign.
    """
    momentum, inertia, time = torch.broadcast_tensors(
        momentum, inertia, torch.as_tensor(time).to(momentum)[..., None]
    )
    middle = inertia.argsort(-1)[..., 1:2]
    cyclic = (middle + torch.tensor([-1, 0, 1], device=middle.device)) % 3
    i1, i2, i3 = inertia.gather(-1, cyclic).unbind(-1)
    o1, o2, o3 = (momentum / inertia).gather(-1, cyclic).unbind(-1)
    a1, a2, a3 = (i3 - i2) / i1, (i3 - i1) / i2, (i2 - i1) / i3
    both, third, first = a1 * a3 * o2 * o2, a1 * a2 * o3 * o3, a2 * a3 * o1 * o1
    s, c, d = _scaled_jacobi(both + third, both + first, third - first, time[..., 0])
    below = c * c + third * s * s
    turned = torch.stack(
        [
            i1 * (o1 * c - a1 * o2 * o3 * s * d) / below,
            i2 * (o2 * c * d + a2 * o3 * o1 * s) / below,
            i3 * (o3 * d - a3 * o1 * o2 * s * c) / below,
        ],
        dim=-1,
    )
    return turned.gather(-1, cyclic.argsort(-1))


def flip_period(momentum: Tensor, inertia: Tensor) -> Tensor:
    """Return the time between two crossings of zero by the middle component of Pi.

    ``2 K(m) / sqrt(max(p, q))``: the flips of a tennis racket. Infinite on the
    separatrix; ``(..., 3)`` and ``(..., 3)`` to ``(...)``.
    """
    momentum, inertia = torch.broadcast_tensors(momentum, inertia)
    middle = inertia.argsort(-1)[..., 1:2]
    cyclic = (middle + torch.tensor([-1, 0, 1], device=middle.device)) % 3
    i1, i2, i3 = inertia.gather(-1, cyclic).unbind(-1)
    o1, o2, o3 = (momentum / inertia).gather(-1, cyclic).unbind(-1)
    a1, a2, a3 = (i3 - i2) / i1, (i3 - i1) / i2, (i2 - i1) / i3
    gap = a2 * (a1 * o3 * o3 - a3 * o1 * o1)
    larger = a1 * a3 * o2 * o2 + a2 * torch.maximum(a1 * o3 * o3, a3 * o1 * o1)
    return 2 * elliptic_k(gap.abs() / larger) / larger.sqrt()


def free_attitude(momentum: Tensor, inertia: Tensor, dt: float, parts: int) -> Tensor:
    """Return the turn of a free body over a time `dt`, as unit quaternions.

    The attitude obeys ``R' = R hat(Omega)``, hence ``R(t) = R(0) Q`` with
    ``Q Pi(t) = Pi(0)``. Over each part, ``Q = exp(psi hat(m_0)) P`` with P the least
    rotation that takes ``m = Pi / |Pi|`` to its value m_0 at the start, and

        psi' = (m + m_0) . Omega / (1 + m . m_0),

    integrated by Gauss-Legendre over the exact Pi (the splitting of Celledoni, Fasso,
    Saefstroem and Zanna 2008, SIAM J. Sci. Comput. 30). ``R Pi`` is kept to round-off
    whatever the quadrature does.

    Parameters
    ----------
    momentum, inertia
        ``(batch, 3)`` and ``(3,)`` or ``(batch, 3)``.
    dt, parts
        Time, and into how many parts it is cut; a part should turn by a radian at most.

    Returns
    -------
    Tensor
        Q as ``(batch, 4)``, scalar first.
    """
    h = dt / parts
    inner, psi_weights = (momentum.new_tensor(h * x) for x in (NODES, WEIGHTS))
    total = torch.zeros_like(momentum[:, :1]).expand(-1, 4) + momentum.new_tensor(
        [1.0, 0.0, 0.0, 0.0]
    )
    # One axis more for the nodes of the quadrature.
    initial, inertia = momentum[:, None], inertia.expand_as(momentum)[:, None]
    size = torch.linalg.vector_norm(initial, dim=-1, keepdim=True)
    size = torch.where(size > 0, size, 1.0)
    start = (initial / size)[:, 0]
    for part in range(parts):
        pi = free_motion(initial, inertia, part * h + inner)
        m, m0 = pi / size, start[:, None]
        closeness = 1 + (m * m0).sum(-1)
        rate = ((m + m0) * (pi / inertia)).sum(-1) / closeness
        # Not a matrix product, which rounds by the size of the batch.
        psi = (rate[:, :-1] * psi_weights).sum(-1)
        end = m[:, -1]
        least = torch.cat(
            [closeness[:, -1:], torch.linalg.cross(end, start, dim=-1)], dim=-1
        )
        about = torch.cat(
            [(psi / 2).cos()[:, None], (psi / 2).sin()[:, None] * start], dim=-1
        )
        total = multiply(total, multiply(about, least))
        total = total / torch.linalg.vector_norm(total, dim=-1, keepdim=True)
        start = end
    return total


def free_product(momentum: Tensor, inertia: Tensor, dt: float, parts: int) -> Tensor:
    """Return ``int_0^dt Pi_1 Pi_2 dt`` of a free body, by quadrature over each part.

    Shapes and parts are those of `free_attitude`; the result is ``(batch,)``.
    """
    h = dt / parts
    inner, weights = (momentum.new_tensor(h * x) for x in (NODES[:-1], WEIGHTS))
    total = torch.zeros_like(momentum[:, 0])
    initial, inertia = momentum[:, None], inertia.expand_as(momentum)[:, None]
    for part in range(parts):
        pi = free_motion(initial, inertia, part * h + inner)
        total = total + (pi[..., 0] * pi[..., 1] * weights).sum(-1)
    return total
