"""Compiled frame of the free rigid body: `pde_sym.systems.rigid_body_exact` in loops.

The formulas and their names are those of that module. A trajectory is the array of
`pde_sym.kernels.rigid_body_state`.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pde_sym.systems.rigid_body_exact import NODES, WEIGHTS
from pde_sym.systems.rigid_body_symmetry import Vector

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

SERIES = 1e-9
"""Below this ``p t^2`` the Taylor series of S, C and D is exact to round-off."""


class FreeBody:
    """The closed form of a body.

    Parameters
    ----------
    moments
        Principal moments of inertia.
    """

    def __init__(self, moments: Vector) -> None:
        middle = int(np.argsort(moments)[1])
        first, third = (middle - 1) % 3, (middle + 1) % 3
        self._cyclic = (first, middle, third)
        self._inertia = (moments[first], moments[middle], moments[third])

    def motion(self, states: Array, dt: float) -> Array:
        """Return the states ``(batch, 12)`` with Pi after a time `dt`."""
        following = states.copy()
        _frames(self._inertia, self._cyclic, states, dt, following)
        return following

    def turn(self, states: Array, dt: float, parts: Counts) -> Array:
        """Return the turns over `dt` as quaternions ``(batch, 4)``.

        `parts` says into how many pieces the quadrature is cut.
        """
        return _turns(self._inertia, self._cyclic, states, dt, parts, NODES, WEIGHTS)

    def product(self, states: Array, dt: float, parts: Counts) -> Array:
        """Return ``int Pi_1 Pi_2 dt`` over `dt`, ``(batch,)``."""
        one, two = self._cyclic.index(0), self._cyclic.index(1)
        return _products(
            self._inertia, self._cyclic, one, two, states, dt, parts, NODES, WEIGHTS
        )


@njit(cache=True, error_model="numpy")
def _frames(inertia, cyclic, states, dt, following):
    i, j, k = cyclic
    for n in range(len(states)):
        pi = (states[n, i], states[n, j], states[n, k])
        following[n, i], following[n, j], following[n, k] = _motion(pi, inertia, dt)


@njit(cache=True, error_model="numpy")
def _motion(pi, inertia, t):
    """Return Pi after a time t; the second inertia is the middle one."""
    i1, i2, i3 = inertia
    o1, o2, o3 = pi[0] / i1, pi[1] / i2, pi[2] / i3
    a1, a2, a3 = (i3 - i2) / i1, (i3 - i1) / i2, (i2 - i1) / i3
    both, third, first = a1 * a3 * o2 * o2, a1 * a2 * o3 * o3, a2 * a3 * o1 * o1
    s, c, d = _scaled_jacobi(both + third, both + first, third - first, t)
    below = 1 / (c * c + third * s * s)
    return (
        i1 * (o1 * c - a1 * o2 * o3 * s * d) * below,
        i2 * (o2 * c * d + a2 * o3 * o1 * s) * below,
        i3 * (o3 * d - a3 * o1 * o2 * s * c) * below,
    )


@njit(cache=True, error_model="numpy")
def _scaled_jacobi(p, q, gap, t):
    larger = q if gap < 0 else p
    if larger * t * t < SERIES:
        half = t * t / 2
        return t * (1 - (p + q) * half / 3), 1 - p * half, 1 - q * half
    tau = math.sqrt(larger)
    m = min((p if gap < 0 else q) / larger, 1.0)
    sn, cn, dn = _jacobi(tau * t, m, min(abs(gap) / larger, 1.0))
    if gap < 0:
        return sn / tau, dn, cn
    return sn / tau, cn, dn


@njit(cache=True, error_model="numpy")
def _jacobi(u, m, complement):
    # The period is at least 2 pi: shorter arguments are in their range.
    if complement > 0 and abs(u) > math.pi:
        period = 4 * _elliptic_k(complement)
        u -= np.rint(u / period) * period
    if m <= 0.5:
        return _landen_down(u, m)
    return _landen_up(u, complement)


@njit(cache=True, error_model="numpy")
def _elliptic_k(complement):
    a, b = 1.0, math.sqrt(complement)
    while abs(a - b) > 1e-16 * a:
        a, b = (a + b) / 2, math.sqrt(a * b)
        if abs(a - b) < 1e-8 * a:
            # Convergence is quadratic: one more step is exact.
            a = b = (a + b) / 2
    return math.pi / (2 * a)


@njit(cache=True, error_model="numpy")
def _landen_down(u, m):
    r1 = m / (1 + math.sqrt(1 - m)) ** 2
    m = r1 * r1
    r2 = m / (1 + math.sqrt(1 - m)) ** 2
    m = r2 * r2
    r3 = m / (1 + math.sqrt(1 - m)) ** 2
    m = r3 * r3
    r4 = m / (1 + math.sqrt(1 - m)) ** 2
    u /= (1 + r1) * (1 + r2) * (1 + r3) * (1 + r4)
    sn, cn, dn = math.sin(u), math.cos(u), 1.0
    for r in (r4, r3, r2, r1):
        square = r * sn * sn
        below = 1 / (1 + square)
        sn, cn, dn = (1 + r) * sn * below, cn * dn * below, (1 - square) * below
    return sn, cn, dn


@njit(cache=True, error_model="numpy")
def _landen_up(u, complement):
    r1 = complement / (1 + math.sqrt(1 - complement)) ** 2
    complement = r1 * r1
    r2 = complement / (1 + math.sqrt(1 - complement)) ** 2
    complement = r2 * r2
    r3 = complement / (1 + math.sqrt(1 - complement)) ** 2
    complement = r3 * r3
    r4 = complement / (1 + math.sqrt(1 - complement)) ** 2
    u /= (1 + r1) * (1 + r2) * (1 + r3) * (1 + r4)
    # Beyond 300 the hyperbolic secant is 1e-130: clamped so that its square is not 0.
    cn = 1 / math.cosh(min(max(u, -300.0), 300.0))
    sn, dn = math.tanh(u), cn
    for r in (r4, r3, r2, r1):
        square = dn * dn
        sn, cn, dn = (
            (1 + r) * sn * cn / dn,
            (square - r) / ((1 - r) * dn),
            (square + r) / ((1 + r) * dn),
        )
    return sn, cn, dn


@njit(cache=True, error_model="numpy")
def _turns(inertia, cyclic, states, dt, parts, nodes, weights):
    """Return the turn of each body as a quaternion, ``(batch, 4)``."""
    i, j, k = cyclic
    turns = np.empty((len(states), 4))
    for n in range(len(states)):
        pi = (states[n, i], states[n, j], states[n, k])
        w, a, b, c = _turn(pi, inertia, dt, parts[n], nodes, weights)
        turns[n, 0] = w
        turns[n, 1 + i], turns[n, 1 + j], turns[n, 1 + k] = a, b, c
    return turns


@njit(cache=True, error_model="numpy")
def _turn(initial, inertia, dt, parts, nodes, weights):
    total, h = (1.0, 0.0, 0.0, 0.0), dt / parts
    size = math.sqrt(initial[0] ** 2 + initial[1] ** 2 + initial[2] ** 2)
    if size == 0.0:
        return total
    start = (initial[0] / size, initial[1] / size, initial[2] / size)
    for part in range(parts):
        psi, closeness, end = 0.0, 2.0, start
        for n in range(len(nodes)):
            pi = _motion(initial, inertia, (part + nodes[n]) * h)
            end = (pi[0] / size, pi[1] / size, pi[2] / size)
            closeness = 1 + end[0] * start[0] + end[1] * start[1] + end[2] * start[2]
            if n < len(weights):
                rate = 0.0
                for i in range(3):
                    rate += (end[i] + start[i]) * pi[i] / inertia[i]
                psi += h * weights[n] * rate / closeness
        least = (
            closeness,
            end[1] * start[2] - end[2] * start[1],
            end[2] * start[0] - end[0] * start[2],
            end[0] * start[1] - end[1] * start[0],
        )
        s = math.sin(psi / 2)
        about = (math.cos(psi / 2), s * start[0], s * start[1], s * start[2])
        total = _normalised(_multiply(total, _multiply(about, least)))
        start = end
    return total


@njit(cache=True, error_model="numpy")
def _products(inertia, cyclic, one, two, states, dt, parts, nodes, weights):
    i, j, k = cyclic
    total = np.zeros(len(states))
    for n in range(len(states)):
        h, initial = dt / parts[n], (states[n, i], states[n, j], states[n, k])
        for part in range(parts[n]):
            for m in range(len(weights)):
                pi = _motion(initial, inertia, (part + nodes[m]) * h)
                total[n] += h * weights[m] * pi[one] * pi[two]
    return total


@njit(cache=True, error_model="numpy")
def _multiply(a, b):
    return (
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
        a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
        a[0] * b[2] + a[2] * b[0] + a[3] * b[1] - a[1] * b[3],
        a[0] * b[3] + a[3] * b[0] + a[1] * b[2] - a[2] * b[1],
    )


@njit(cache=True, error_model="numpy")
def _normalised(q):
    size = math.sqrt(q[0] ** 2 + q[1] ** 2 + q[2] ** 2 + q[3] ** 2)
    return q[0] / size, q[1] / size, q[2] / size, q[3] / size


@njit(cache=True, error_model="numpy")
def carry(
    turns: NDArray[np.float64],
    states: NDArray[np.float64],
    has_vertical: bool,
    has_attitude: bool,
) -> None:
    """Turn the frames of Gamma and the attitude."""
    for n in range(len(states)):
        turn = (turns[n, 0], turns[n, 1], turns[n, 2], turns[n, 3])
        if has_vertical:
            x = (0.0, states[n, 3], states[n, 4], states[n, 5])
            back = (turn[0], -turn[1], -turn[2], -turn[3])
            seen = _multiply(_multiply(back, x), turn)
            states[n, 3], states[n, 4], states[n, 5] = seen[1], seen[2], seen[3]
        if has_attitude:
            q = (states[n, 6], states[n, 7], states[n, 8], states[n, 9])
            q = _normalised(_multiply(q, turn))
            for i in range(4):
                states[n, 6 + i] = q[i]
