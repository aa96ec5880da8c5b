"""Compiled frame of the rigid body with breaking terms, one trajectory at a time.

The splitting is that of `pde_sym.systems.rigid_body_splitting`. A trajectory is the
array of `rigid_body_state`: Pi is 0 to 2, Gamma 3 to 5, the attitude 6 to 9 as a
quaternion, the phase 10 and 11.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from pde_sym.kernels.rigid_body_exact import FreeBody, carry
from pde_sym.kernels.rigid_body_state import entering, leaving
from pde_sym.systems.base import Budget
from pde_sym.systems.rigid_body import RigidBody
from pde_sym.systems.rigid_body_splitting import COMPOSITION
from pde_sym.systems.rigid_body_symmetry import Vector
from pde_sym.systems.rigid_body_terms import (
    DoubleBracket,
    Friction,
    Gravity,
    Gyrostat,
    InertiaModulation,
    Torque,
)

Array = NDArray[np.float64]

BUDGETS = (
    "casimir",
    "energy",
    "vertical_momentum",
    "spatial_momentum_x",
    "spatial_momentum_y",
    "spatial_momentum_z",
    "goryachev_chaplygin",
    "axial_momentum",
)
"""Invariants with a rate; the others are constant."""


class Plan(NamedTuple):
    """What the loops need of a body: numbers alone, which calls pass in registers."""

    inverse: Vector
    """1 / I_i at rest."""
    middle: float
    """1 / I."""
    turns: tuple[bool, bool, bool]
    """Whether c_i != 0."""
    innermost: int
    """The last axis with c_i != 0, or -1."""
    rotor: Vector
    weight: Vector
    torque: Vector
    friction: float
    bracket: float
    beat: float
    frequency: float
    has_rotor: bool
    has_kick: bool
    has_vertical: bool
    has_attitude: bool
    has_phase: bool


def plan_of(system: RigidBody) -> Plan:
    """Return the plan of a body."""
    names, (first, second, third) = system.fields.names, system.moments
    modulation, middle = system.term(InertiaModulation), sorted(system.moments)[1]
    beat = 0.0 if modulation is None else modulation.strength
    turns = (first != middle or beat > 0, second != middle, third != middle)
    rotor, weight, torque = map(system.vector, (Gyrostat, Gravity, Torque))
    return Plan(
        inverse=(1 / first, 1 / second, 1 / third),
        middle=1 / middle,
        turns=turns,
        innermost=max((i for i, turned in enumerate(turns) if turned), default=-1),
        rotor=rotor,
        weight=weight,
        torque=torque,
        friction=system.strength(Friction),
        bracket=system.strength(DoubleBracket),
        beat=beat,
        frequency=0.0 if modulation is None else modulation.frequency,
        has_rotor=any(rotor),
        has_kick=any(weight) or any(torque),
        has_vertical="gravity_direction" in names,
        has_attitude="attitude" in names,
        has_phase="phase_cos" in names,
    )


class CompiledBody:
    """The frames of a body in compiled loops.

    Parameters
    ----------
    system, dt
        The body and the length of a frame.
    """

    def __init__(self, system: RigidBody, dt: float) -> None:
        self._system, self._dt, self._plan = system, dt, plan_of(system)
        self._closed = FreeBody(system.moments)
        self._fields = system.fields.slices()
        # Pi alone stands where it does in the loops, and they read no more.
        self._has_more = len(self._fields) > 1

    def advance(self, state: Tensor, counts: Tensor) -> tuple[Tensor, Budget]:
        """Return the state of a batch one frame later, and the budgets.

        Parameters
        ----------
        state
            ``(batch, channels, 1, 1, 1)`` in double precision on the CPU.
        counts
            Steps, or parts of the closed form, per trajectory.
        """
        full = np.ascontiguousarray(state.detach().flatten(1).numpy())
        if self._has_more:
            full = entering(self._fields, full)
        if self._system.is_free:
            after, budgets = self._free(full, counts.numpy())
        else:
            after, budgets = _frames(
                self._plan, full, self._dt, counts.numpy(), np.array(COMPOSITION)
            )
        rows = torch.from_numpy(budgets.T.copy())
        changes: Budget = dict(zip(BUDGETS, rows, strict=True))
        constant = torch.zeros(len(state), dtype=torch.float64)
        if self._has_more:
            after = leaving(self._fields, after)
        return (
            torch.from_numpy(after).reshape(state.shape),
            {i.name: changes.get(i.name, constant) for i in self._system.invariants},
        )

    def _free(self, full: Array, parts: NDArray[np.int64]) -> tuple[Array, Array]:
        plan, dt = self._plan, self._dt
        after, budgets = self._closed.motion(full, dt), np.zeros((len(full), 8))
        if plan.has_vertical or plan.has_attitude:
            turns = self._closed.turn(full, dt, parts)
            carry(turns, after, plan.has_vertical, plan.has_attitude)
        if plan.has_phase:
            angle, (cos, sin) = plan.frequency * dt, full[:, 10:].T
            c, s = math.cos(angle), math.sin(angle)
            after[:, 10:] = np.stack([c * cos - s * sin, c * sin + s * cos], axis=1)
        if self._system.is_symmetric and plan.inverse[0] != plan.inverse[1]:
            slope = plan.inverse[1] - plan.inverse[0]
            budgets[:, 7] = slope * self._closed.product(full, dt, parts)
        return after, budgets


@njit(cache=True, error_model="numpy")
def _frames(plan, states, dt, counts, composition):
    """Return the states ``(batch, 12)`` and the `BUDGETS` ``(batch, 8)`` of a frame."""
    following = states.copy()
    budgets = np.zeros((len(states), 8))
    for n in range(len(states)):
        x, budget = following[n], budgets[n]
        h, pending = dt / counts[n], 0.0
        for _ in range(counts[n]):
            for gamma in composition:
                _accumulate(plan, x, budget, pending + gamma * h / 2)
                _stage(plan, x, gamma * h)
                pending = gamma * h / 2
        _accumulate(plan, x, budget, pending)
    return following, budgets


@njit(cache=True, error_model="numpy")
def _stage(plan, x, h):
    """Advance by the symmetric product of the flows."""
    _outer(plan, x, h / 2)
    for n in range(3):
        if plan.turns[n]:
            _turn_about(plan, x, n, h if n == plan.innermost else h / 2)
    if plan.has_vertical or plan.has_attitude:
        # Of a sphere, which commutes with every turn about an axis.
        k = plan.middle
        _move(plan, x, _quaternion(k * x[0], k * x[1], k * x[2], h))
    for n in range(plan.innermost - 1, -1, -1):
        if plan.turns[n]:
            _turn_about(plan, x, n, h / 2)
    _outer_back(plan, x, h / 2)


@njit(cache=True, error_model="numpy")
def _outer(plan, x, h):
    if plan.has_phase:
        _clock(plan, x, h)
    if plan.has_kick:
        _kick(plan, x, h)
    if plan.friction > 0:
        _rub(plan, x, h)
    if plan.bracket > 0:
        _bend(plan, x, h)
    if plan.has_rotor:
        _turn_back(plan, x, h)


@njit(cache=True, error_model="numpy")
def _outer_back(plan, x, h):
    """Do as `_outer`, in the opposite order."""
    if plan.has_rotor:
        _turn_back(plan, x, h)
    if plan.bracket > 0:
        _bend(plan, x, h)
    if plan.friction > 0:
        _rub(plan, x, h)
    if plan.has_kick:
        _kick(plan, x, h)
    if plan.has_phase:
        _clock(plan, x, h)


@njit(cache=True, error_model="numpy")
def _inverse(plan, x, axis):
    """Return 1 / I_i."""
    if axis == 0 and plan.has_phase:
        return plan.inverse[0] / (1 + plan.beat * x[10])
    return plan.inverse[axis]


@njit(cache=True, error_model="numpy")
def _clock(plan, x, h):
    c, s = math.cos(plan.frequency * h), math.sin(plan.frequency * h)
    cos, sin = x[10], x[11]
    x[10], x[11] = c * cos - s * sin, c * sin + s * cos


@njit(cache=True, error_model="numpy")
def _kick(plan, x, h):
    w, b = plan.weight, plan.torque
    for i in range(3):
        x[i] += h * b[i]
    if plan.has_vertical:
        x[0] += h * (x[4] * w[2] - x[5] * w[1])
        x[1] += h * (x[5] * w[0] - x[3] * w[2])
        x[2] += h * (x[3] * w[1] - x[4] * w[0])


@njit(cache=True, error_model="numpy")
def _rub(plan, x, h):
    factor = math.exp(-plan.friction * h)
    for i in range(3):
        x[i] *= factor


@njit(cache=True, error_model="numpy")
def _bend(plan, x, h):
    square = x[0] * x[0] + x[1] * x[1] + x[2] * x[2]
    if square > 0:
        rate, after = -plan.bracket * h * square, 0.0
        for i in range(3):
            x[i] *= math.exp(rate * (_inverse(plan, x, i) - plan.middle))
            after += x[i] * x[i]
        scale = math.sqrt(square / after)
        for i in range(3):
            x[i] *= scale


@njit(cache=True, error_model="numpy")
def _turn_back(plan, x, h):
    turn = _quaternion(
        -plan.rotor[0] * _inverse(plan, x, 0),
        -plan.rotor[1] * _inverse(plan, x, 1),
        -plan.rotor[2] * _inverse(plan, x, 2),
        h,
    )
    _see(x, 0, turn)
    _move(plan, x, turn)


@njit(cache=True, error_model="numpy")
def _move(plan, x, turn):
    """Turn the frame of Gamma and the attitude."""
    if plan.has_vertical:
        _see(x, 3, turn)
    if plan.has_attitude:
        c, s1, s2, s3 = turn
        w, a, b, d = x[6], x[7], x[8], x[9]
        x[6] = w * c - a * s1 - b * s2 - d * s3
        x[7] = w * s1 + a * c + b * s3 - d * s2
        x[8] = w * s2 + b * c + d * s1 - a * s3
        x[9] = w * s3 + d * c + a * s2 - b * s1


@njit(cache=True, error_model="numpy")
def _see(x, at, turn):
    """Replace a vector by what it is in a frame that has turned."""
    c, s1, s2, s3 = turn
    v1, v2, v3 = x[at], x[at + 1], x[at + 2]
    t1, t2, t3 = (
        2 * (v2 * s3 - v3 * s2),
        2 * (v3 * s1 - v1 * s3),
        2 * (v1 * s2 - v2 * s1),
    )
    x[at] = v1 + c * t1 + (t2 * s3 - t3 * s2)
    x[at + 1] = v2 + c * t2 + (t3 * s1 - t1 * s3)
    x[at + 2] = v3 + c * t3 + (t1 * s2 - t2 * s1)


@njit(cache=True, error_model="numpy")
def _turn_about(plan, x, i, h):
    j, k = (i + 1) % 3, (i + 2) % 3
    c_i = _inverse(plan, x, i) - plan.middle
    c, s = _cos_sin((h / 2) * c_i * x[i])
    if plan.has_attitude:
        w, a, b, d = x[6], x[7 + i], x[7 + j], x[7 + k]
        x[6], x[7 + i] = w * c - a * s, a * c + w * s
        x[7 + j], x[7 + k] = b * c + d * s, d * c - b * s
    cos, sin = 1 - 2 * s * s, 2 * s * c
    x[j], x[k] = cos * x[j] + sin * x[k], cos * x[k] - sin * x[j]
    if plan.has_vertical:
        j, k = 3 + j, 3 + k
        x[j], x[k] = cos * x[j] + sin * x[k], cos * x[k] - sin * x[j]


@njit(cache=True, error_model="numpy")
def _quaternion(o1, o2, o3, h):
    """Return the turn by ``h omega``, scalar first."""
    half = abs(h / 2) * math.sqrt(o1 * o1 + o2 * o2 + o3 * o3)
    if half == 0.0:
        return 1.0, 0.0, 0.0, 0.0
    c, s = _cos_sin(half)
    scale = s / half * (h / 2)
    return c, scale * o1, scale * o2, scale * o3


@njit(cache=True, error_model="numpy")
def _cos_sin(x):
    """Return cosine and sine; of small angles by Taylor's series, to round-off."""
    if abs(x) > 0.25:
        return math.cos(x), math.sin(x)
    z = x * x
    zz = z * z
    c = 1 - z / 2 + zz * (1 / 24 - z * (1 / 720))
    s = 1 - z * (1 / 6) + zz * (1 / 120 - z * (1 / 5040))
    c += zz * zz * (1 / 40320 - z * (1 / 3628800) + zz * (1 / 479001600))
    s += zz * zz * (1 / 362880 - z * (1 / 39916800) + zz * (1 / 6227020800))
    c -= zz * zz * zz * z * (1 / 87178291200)
    return c, x * s


@njit(cache=True, error_model="numpy")
def _accumulate(plan, x, budget, h):
    """Add h times the rates that `rigid_body_dynamics.rates` states."""
    p1, p2, p3 = x[0], x[1], x[2]
    i1, i2, i3 = _inverse(plan, x, 0), _inverse(plan, x, 1), _inverse(plan, x, 2)
    w1, w2, w3 = i1 * p1, i2 * p2, i3 * p3
    r, f, d, b = plan.rotor, plan.friction, plan.bracket, plan.torque
    o1, o2, o3 = i1 * (p1 - r[0]), i2 * (p2 - r[1]), i3 * (p3 - r[2])
    square, twice_energy = p1 * p1 + p2 * p2 + p3 * p3, p1 * w1 + p2 * w2 + p3 * w3
    push1, push2, push3 = b[0] - f * p1, b[1] - f * p2, b[2] - f * p3
    bent1 = d * (twice_energy * p1 - square * w1)
    bent2 = d * (twice_energy * p2 - square * w2)
    bent3 = d * (twice_energy * p3 - square * w3)
    casimir = p1 * push1 + p2 * push2 + p3 * push3
    energy = o1 * (push1 + bent1) + o2 * (push2 + bent2) + o3 * (push3 + bent3)
    if plan.has_phase:
        slope = plan.beat * plan.frequency / plan.inverse[0]
        energy += o1 * o1 * slope * x[11] / 2
    if plan.has_vertical:
        g1, g2, g3, m = x[3], x[4], x[5], plan.weight
        pull1, pull2, pull3 = (
            g2 * m[2] - g3 * m[1],
            g3 * m[0] - g1 * m[2],
            g1 * m[1] - g2 * m[0],
        )
        casimir += p1 * pull1 + p2 * pull2 + p3 * pull3
        budget[2] += h * (
            g1 * (push1 + bent1) + g2 * (push2 + bent2) + g3 * (push3 + bent3)
        )
        # Of the top whose centre of mass is on the axis 1.
        budget[6] -= h * m[0] * (p1 * g1 + p2 * g2 + p3 * g3) * p2
        push1, push2, push3 = push1 + pull1, push2 + pull2, push3 + pull3
    budget[7] += h * (p1 * o2 - p2 * o1 + push3 + bent3)
    budget[0] += 2 * h * casimir
    budget[1] += h * energy
    if plan.has_attitude:
        q, v1, v2, v3 = x[6:10], push1 + bent1, push2 + bent2, push3 + bent3
        t1 = 2 * (q[2] * v3 - q[3] * v2)
        t2 = 2 * (q[3] * v1 - q[1] * v3)
        t3 = 2 * (q[1] * v2 - q[2] * v1)
        h = h / (q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3])
        budget[3] += h * (v1 + q[0] * t1 + q[2] * t3 - q[3] * t2)
        budget[4] += h * (v2 + q[0] * t2 + q[3] * t1 - q[1] * t3)
        budget[5] += h * (v3 + q[0] * t3 + q[1] * t2 - q[2] * t1)
