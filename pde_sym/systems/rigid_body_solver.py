"""The step of the rigid body over one frame, with its budgets.

A free body moves by its closed form (`rigid_body_exact`), with breaking terms by a
splitting of order 8 (`rigid_body_splitting`). The attitude is a unit quaternion within
a frame and a matrix between frames, so that it stays a rotation to round-off.
"""

import functools
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pde_sym.errors import InputError, Lost, LostTrajectoryError, SimulationError
from pde_sym.grid import PeriodicGrid
from pde_sym.systems.base import Budget, check_finite
from pde_sym.systems.rigid_body import RigidBody
from pde_sym.systems.rigid_body_dynamics import Parts, joined, parts
from pde_sym.systems.rigid_body_exact import (
    free_attitude,
    free_motion,
    free_product,
)
from pde_sym.systems.rigid_body_rotations import (
    conjugate,
    matrix_of,
    multiply,
    quaternion_of,
    rotate,
)
from pde_sym.systems.rigid_body_splitting import split_step
from pde_sym.systems.rigid_body_terms import (
    DoubleBracket,
    Friction,
    Gravity,
    Gyrostat,
    InertiaModulation,
    Torque,
)

if TYPE_CHECKING:  # numba is slow to import
    from pde_sym.kernels.rigid_body import CompiledBody

LARGEST_TURN = 0.4
"""Radians per step of the splitting, bounded by size and not by direction."""
LARGEST_PART = 1.0
"""Radians per part of the attitude's quadrature."""
MOST_STEPS = 1 << 16
"""Steps per frame beyond which a frame is refused."""
ADVICE = "lower dt, the strengths or the angular momentum"


class RigidBodySolver:
    """Step function of a batch; see `Solver`.

    Trajectories are advanced together, but the arithmetic of each depends on its own
    state only: the number of steps is chosen per trajectory from ``|Pi|``, which the
    symmetries leave alone.

    Parameters
    ----------
    system, grid
        The body, and the grid of one point.
    environment
        ``(batch, 0, 1, 1, 1)``; it holds nothing.
    dt
        Length of a frame, in units of time.
    largest_turn
        Radians per step of the splitting; the error falls with its eighth power.
    compiled
        Whether the loops of `pde_sym.kernels.rigid_body` run. By default they do on the
        CPU, unless a gradient is asked for; they agree with torch to round-off.
    refinement
        How many times finer the steps are than that.
    """

    def __init__(
        self,
        system: RigidBody,
        grid: PeriodicGrid,
        environment: Tensor,  # noqa: ARG002
        dt: float,
        largest_turn: float = LARGEST_TURN,
        compiled: bool | None = None,
        refinement: int = 1,
    ) -> None:
        if not (math.isfinite(dt) and dt > 0):
            raise SimulationError(f"dt must be a positive number, got {dt}")
        if grid.shape != (1, 1, 1):
            raise InputError(
                f"a rigid body lives on a grid of shape (1, 1, 1), got {grid.shape}"
            )
        self._system, self._dt, self._largest_turn = system, dt, largest_turn
        self._refinement = refinement
        self._compiled = compiled

    def __call__(self, state: Tensor) -> Tensor:
        return self.step(state)[0]

    def step(self, state: Tensor) -> tuple[Tensor, Budget]:
        """Return state and budgets one frame later; see `Solver.step`.

        Raises
        ------
        LostTrajectoryError
            When a state is not finite, or turns too fast for the frame.
        """
        state = self._checked(state)
        counts = self._counts(parts(self._system, state))
        compiled = self._compiled
        if compiled is None:
            compiled = state.device.type == "cpu" and not state.requires_grad
        if compiled:
            return self._loops.advance(state, counts)
        following = torch.empty_like(state)
        budgets: Budget = {}
        for count in counts.unique().tolist():
            chosen = (counts == count).nonzero()[:, 0]
            found = parts(self._system, state[chosen])
            if self._system.is_free:
                end, change = self._free(found, count)
            else:
                end, change = split_step(self._system, found, self._dt, count)
            following = following.index_copy(0, chosen, joined(end))
            for name, values in change.items():
                empty = budgets.get(name, torch.zeros_like(state[:, 0, 0, 0, 0]))
                budgets[name] = empty.index_copy(0, chosen, values)
        return following, budgets

    @functools.cached_property
    def _loops(self) -> "CompiledBody":
        from pde_sym.kernels.rigid_body import CompiledBody

        return CompiledBody(self._system, self._dt)

    def _checked(self, state: Tensor) -> Tensor:
        fields = self._system.fields
        expected = (fields.num_channels, 1, 1, 1)
        if state.ndim != 5 or state.shape[1:] != expected:
            raise InputError(
                f"expected a state (batch, {fields.num_channels}, 1, 1, 1) of "
                f"{', '.join(fields.names)}, got {tuple(state.shape)}"
            )
        check_finite(state, fields, 0.0, ADVICE)
        return state.to(torch.float64)

    def _counts(self, found: Parts) -> Tensor:
        """Return the steps per trajectory: a power of two, to keep the groups few."""
        is_free = self._system.is_free
        fields = self._system.fields
        if is_free and len(fields) == 1 and not self._system.is_symmetric:
            # Nothing is integrated: Pi is exact in one part.
            one = torch.ones_like(found.momentum[:, 0], dtype=torch.int64)
            return self._refinement * one
        limit = LARGEST_PART if is_free else self._largest_turn
        turns = self._dt * (self._speed(found) if is_free else self._unrest(found))
        # A hair below, since round sizes would sit on a power of two.
        steps = (turns / (limit * (1 + 1e-9))).clamp(min=1.0)
        late = (steps <= MOST_STEPS).logical_not().nonzero()[:, 0].tolist()
        if late:
            name = self._system.fields.names[0]
            reasons = {i: f"turns by {float(turns[i]):.3g} radians" for i in late}
            lost = (Lost(i, name, reason, 0.0) for i, reason in reasons.items())
            raise LostTrajectoryError(lost, ADVICE)
        return self._refinement * torch.exp2(steps.log2().ceil()).to(torch.int64)

    def _speed(self, found: Parts) -> Tensor:
        """Return a bound of the angular velocity of a free body."""
        return _size(found.momentum) / min(self._system.moments)

    def _unrest(self, found: Parts) -> Tensor:
        """Return a rate, in radians per time, at which the parts disturb each other."""
        system = self._system
        extremes = [m for moments in system.extreme_moments for m in moments]
        most, least = 1 / min(extremes), 1 / max(extremes)
        pull = torch.as_tensor(system.strength(Gravity), dtype=torch.float64)
        if found.vertical is not None:
            pull = system.strength(Gravity) * _size(found.vertical)
        torque = system.strength(Torque)
        size = _size(found.momentum)
        # What weight adds is bounded by the energy too.
        fallen = ((most * size.square() + 4 * pull) / least).sqrt()
        size = torch.minimum(size + self._dt * pull, fallen) + self._dt * torque
        modulation = system.term(InertiaModulation)
        beats = modulation is not None and modulation.strength > 0
        return (
            size * (most if system.strength(Gravity) else most - least)
            + (pull * most).sqrt()
            + math.sqrt(torque * (most - least))
            + system.strength(Gyrostat) * most
            + system.strength(Friction)
            + system.strength(DoubleBracket) * size * size * (most - least)
            + (modulation.frequency if modulation and beats else 0.0)
        )

    def _free(self, found: Parts, count: int) -> tuple[Parts, Budget]:
        pi, inertia = found.momentum, found.momentum.new_tensor(self._system.moments)
        end = free_motion(pi, inertia, pi.new_tensor(self._dt))
        vertical, attitude, phase = found.vertical, found.attitude, found.phase
        if vertical is not None or attitude is not None:
            turn = free_attitude(pi, inertia, self._dt, count)
            if vertical is not None:
                vertical = rotate(conjugate(turn), vertical)
            if attitude is not None:
                attitude = matrix_of(multiply(quaternion_of(attitude), turn))
        if phase is not None:
            phase = self._later(phase)
        names = [invariant.name for invariant in self._system.invariants]
        budget = dict.fromkeys(names, torch.zeros_like(pi[:, 0]))
        if "axial_momentum" in budget:
            first, second, _ = self._system.moments
            products = free_product(pi, inertia, self._dt, count)
            budget["axial_momentum"] = (1 / second - 1 / first) * products
        return Parts(end, vertical, attitude, phase), budget

    def _later(self, phase: Tensor) -> Tensor:
        """Return the phase one frame later."""
        term = self._system.term(InertiaModulation)
        assert term is not None, "a phase comes with its term"
        angle = term.frequency * self._dt
        c, s = math.cos(angle), math.sin(angle)
        cos, sin = phase.unbind(-1)
        return torch.stack([c * cos - s * sin, c * sin + s * cos], dim=-1)


def _size(vectors: Tensor) -> Tensor:
    """Return the lengths; `torch.linalg.vector_norm` is slow on short axes."""
    return vectors.detach().square().sum(-1).sqrt()
