"""The rigid body with breaking terms, split into parts whose flows are exact.

With I the middle moment of inertia at rest, ``c_i = 1 / I_i - 1 / I`` and
``nu = I^-1 l``, the energy is

    H = |Pi|^2 / 2 I + sum_i c_i Pi_i^2 / 2 - nu . Pi + mu Gamma . chi + const

and its parts generate, in that order, a turn of the frame about Pi, which moves Gamma
and the attitude alone; a turn about each axis with c_i != 0, at most two unless the
moments beat; a turn about the rotor; and a kick by the weight, which the torque joins
(Touma and Wisdom 1994, Astron. J. 107; Fasso 2003, J. Comput. Phys. 189). Friction, the
double bracket and the clock of the modulation are parts of their own, and so are the
budgets, whose rates are integrated along. Each part commutes with every rotation that
the body has, so that the splitting does, to round-off; and each conservative part
keeps the Casimirs.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pde_sym.systems.base import Budget
from pde_sym.systems.rigid_body import RigidBody
from pde_sym.systems.rigid_body_dynamics import Parts, rates
from pde_sym.systems.rigid_body_rotations import matrix_of, quaternion_of
from pde_sym.systems.rigid_body_terms import (
    DoubleBracket,
    Friction,
    Gravity,
    Gyrostat,
    InertiaModulation,
    Torque,
)

_HALF = (
    0.13020248308889008087881763,
    0.56116298177510838456196441,
    -0.38947496264484728640807860,
    0.15884190655515560089621075,
    -0.39590389413323757733623154,
    0.18453964097831570709183254,
    0.25837438768632204729397911,
    0.29501172360931029887096624,
    -0.60550853383003451169892108,
)
COMPOSITION = (*_HALF, *_HALF[-2::-1])
"""Order 8 in 17 stages (Kahan and Li 1997, Math. Comput. 66; Hairer, Lubich and Wanner,
Geometric Numerical Integration, section V.3.2)."""

Flow = Callable[[float], None]
"""Advances by a time, in place."""
Components = list[Tensor]
"""A vector as separate contiguous ``(batch,)``: torch then treats each trajectory alike
whatever its place in the batch."""


def split_step(
    system: RigidBody, found: Parts, dt: float, count: int
) -> tuple[Parts, Budget]:
    """Return state and change of the invariants after `count` steps of ``dt / count``.

    Of order 8, in the budgets too.
    """
    h, flow = dt / count, _Flow(system, found)
    budget: Budget = {}
    pending = 0.0
    for _ in range(count):
        for gamma in COMPOSITION:
            # The budgets' half steps of neighbouring stages are one step.
            flow.accumulate(budget, pending + gamma * h / 2)
            flow.stage(gamma * h)
            pending = gamma * h / 2
    flow.accumulate(budget, pending)
    return flow.parts(), budget


class _Flow:
    """A batch on its way through the flows of the parts."""

    def __init__(self, system: RigidBody, found: Parts) -> None:
        self._system = system
        self._pi = _components(found.momentum)
        self._gamma = _components(found.vertical)
        attitude = found.attitude
        self._q = _components(None if attitude is None else quaternion_of(attitude))
        self._phase = _components(found.phase)
        self._rotor, self._torque = system.vector(Gyrostat), system.vector(Torque)
        self._weight = system.vector(Gravity)
        self._friction = system.strength(Friction)
        self._bracket = system.strength(DoubleBracket)
        self._middle = sorted(system.moments)[1]
        turns = self._turns()
        self._outer = self._others() + turns[:-1]
        self._inner = turns[-1:]
        if self._gamma or self._q:
            # Of a sphere, which commutes with every turn about an axis.
            self._inner.append(self._roll)

    def _others(self) -> list[Flow]:
        """Return the flows beside the turns that do anything, the outermost first."""
        flows: list[Flow] = []
        if self._phase:
            flows.append(self._clock)
        if any(self._torque) or any(self._weight):
            flows.append(self._kick)
        if self._friction:
            flows.append(self._rub)
        if self._bracket:
            flows.append(self._bend)
        if any(self._rotor):
            flows.append(self._turn_back)
        return flows

    def _turns(self) -> list[Flow]:
        beats = self._system.strength(InertiaModulation) > 0
        return [
            self._turn_about(axis)
            for axis, moment in enumerate(self._system.moments)
            if moment != self._middle or (axis == 0 and beats)
        ]

    def stage(self, h: float) -> None:
        """Advance by the symmetric product of the flows, of order 2."""
        for flow in self._outer:
            flow(h / 2)
        for flow in self._inner:
            flow(h)
        for flow in reversed(self._outer):
            flow(h / 2)

    def parts(self) -> Parts:
        """Return the state, whose attitude is a rotation."""
        pi, gamma, q, phase = (
            torch.stack(v, -1) if v else None
            for v in (self._pi, self._gamma, self._q, self._phase)
        )
        assert pi is not None, "a body has a momentum"
        return Parts(pi, gamma, None if q is None else matrix_of(q), phase)

    def accumulate(self, budget: Budget, h: float) -> None:
        """Add h times the rates of the present state."""
        for name, rate in rates(self._system, self.parts()).items():
            budget[name] = budget[name] + h * rate if name in budget else h * rate

    def _moment(self, axis: int) -> Tensor | float:
        moment = self._system.moments[axis]
        if axis == 0 and self._phase:
            beat = self._system.strength(InertiaModulation)
            return moment * (1 + beat * self._phase[0])
        return moment

    def _clock(self, h: float) -> None:
        """Advance the phase by w h."""
        term = self._system.term(InertiaModulation)
        assert term is not None, "a phase comes with its term"
        c, s = math.cos(term.frequency * h), math.sin(term.frequency * h)
        cos, sin = self._phase
        self._phase = [c * cos - s * sin, c * sin + s * cos]

    def _kick(self, h: float) -> None:
        """``Pi += h (mu Gamma x chi + b)``."""
        for i, b in enumerate(self._torque):
            j, k = (i + 1) % 3, (i + 2) % 3
            if b:
                self._pi[i] = self._pi[i] + h * b
            if self._weight[k]:
                self._pi[i] = self._pi[i] + (h * self._weight[k]) * self._gamma[j]
            if self._weight[j]:
                self._pi[i] = self._pi[i] - (h * self._weight[j]) * self._gamma[k]

    def _rub(self, h: float) -> None:
        """``Pi *= exp(-f h)``."""
        factor = math.exp(-self._friction * h)
        self._pi = [factor * x for x in self._pi]

    def _bend(self, h: float) -> None:
        """``Pi -> |Pi| y / |y|`` with ``y_i = exp(-d h |Pi|^2 c_i) Pi_i``."""
        square = _dot(self._pi, self._pi)
        bent = []
        for i, x in enumerate(self._pi):
            c = 1 / self._moment(i) - 1 / self._middle
            bent.append((-self._bracket * h * c * square).exp() * x)
        moving = square > 0
        ratio = torch.where(moving, square, 1.0) / torch.where(
            moving, _dot(bent, bent), 1.0
        )
        self._pi = [ratio.sqrt() * x for x in bent]

    def _turn_back(self, h: float) -> None:
        """Turn the frame by ``-h nu``: the rotor's part."""
        rest = torch.zeros_like(self._pi[0])
        back = [rest - self._rotor[i] / self._moment(i) for i in range(3)]
        turn = _quaternion(back, h)
        self._pi = _seen(turn, self._pi)
        self._move(turn)

    def _roll(self, h: float) -> None:
        """Turn the frame by ``h Pi / I``: the motion of a sphere, which keeps Pi."""
        self._move(_quaternion([x / self._middle for x in self._pi], h))

    def _move(self, turn: Components) -> None:
        """Turn the frame of Gamma and the attitude."""
        if self._gamma:
            self._gamma = _seen(turn, self._gamma)
        if self._q:
            w, *v = self._q
            c, *s = turn
            mixed = _cross(v, s)
            self._q = [
                w * c - _dot(v, s),
                *(w * s[i] + c * v[i] + mixed[i] for i in range(3)),
            ]

    def _turn_about(self, axis: int) -> Flow:
        """Return the turn of the frame about an axis by ``h c_i Pi_i``."""
        i, j, k = axis, (axis + 1) % 3, (axis + 2) % 3

        def turn(h: float) -> None:
            c_i = 1 / self._moment(i) - 1 / self._middle
            half = (h / 2) * c_i * self._pi[i]
            c, s = half.cos(), half.sin()
            if self._q:
                w, a, b, d = (self._q[n] for n in (0, i + 1, j + 1, k + 1))
                self._q[0], self._q[i + 1] = w * c - a * s, a * c + w * s
                self._q[j + 1], self._q[k + 1] = b * c + d * s, d * c - b * s
            cos, sin = 1 - 2 * s * s, 2 * s * c
            for v in (self._pi, self._gamma):
                if v:
                    v[j], v[k] = cos * v[j] + sin * v[k], cos * v[k] - sin * v[j]

        return turn


def _components(columns: Tensor | None) -> Components:
    """Return the components, none where the state has no such field."""
    return [] if columns is None else [c.contiguous() for c in columns.unbind(-1)]


def _dot(a: Components, b: Components) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: Components, b: Components) -> Components:
    (a1, a2, a3), (b1, b2, b3) = a, b
    return [a2 * b3 - a3 * b2, a3 * b1 - a1 * b3, a1 * b2 - a2 * b1]


def _quaternion(omega: Components, h: float) -> Components:
    """Return the turn by ``h omega``, scalar first; smooth at rest."""
    square = _dot(omega, omega) * (h / 2) ** 2
    moving = square > 0
    half = torch.where(moving, square, 1.0).sqrt()
    scale = torch.where(moving, half.sin() / half, 1.0) * (h / 2)
    return [torch.where(moving, half.cos(), 1.0), *(scale * x for x in omega)]


def _seen(turn: Components, v: Components) -> Components:
    """Return what a vector is in a frame that has turned."""
    w, *s = turn
    twice = [2 * x for x in _cross(v, s)]
    again = _cross(twice, s)
    return [x + w * y + z for x, y, z in zip(v, twice, again, strict=True)]
