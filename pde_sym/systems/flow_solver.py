"""The step of two-dimensional flow over one frame, with its budgets."""

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from pde_sym.errors import SimulationError
from pde_sym.grid import PeriodicGrid
from pde_sym.systems.base import Budget
from pde_sym.systems.flow import FlowSystem
from pde_sym.systems.flow_budgets import BUDGETS, TRACER_BUDGETS, in_order
from pde_sym.systems.flow_dynamics import (
    Amplitudes,
    Medium,
    Spectrum,
    medium_of,
    spectrum_of,
)

COURANT = 2.5
"""``h k_max sum_k (|u_k| + |v_k|)`` is at most this; the explicit limit is 2.8."""
STRAIN = 0.15
"""``h sum_k |k| (|u_k| + |v_k|)`` is at most this: budgets then close to 1e-9."""
RATE = 0.1
"""h times the rate of any other explicit term, or of a Rossby wave, is at most this."""
MAX_STEPS = 100_000
"""Steps per frame above which a run is refused."""
MAX_CACHED = 32
"""Step sizes whose coefficients are remembered."""


class Dynamics(Protocol):
    """The dynamics of one trajectory, in torch or compiled."""

    def decompose(self, state: Tensor) -> tuple[Any, Amplitudes]:
        """Return the modes of a state ``(3 or 4, x, y)`` and their sums."""
        ...

    def coefficients(self, dt: float) -> Any:
        """Return the coefficients of a step."""
        ...

    def advance(
        self, modes: Any, coefficients: Any, number: int
    ) -> tuple[Tensor, Tensor]:
        """Return the state `number` steps later and the changes of the invariants."""
        ...


class FlowSolver:
    """Step function of a batch; each trajectory is integrated by itself.

    The number of steps of a frame follows from the state at its beginning, by bounds
    that shifts, turns and flips leave alone: sums over Fourier amplitudes. A maximum
    over grid points would change under shifts off the grid. The numbers are whole,
    so that few step sizes occur and their coefficients can be kept.

    Parameters
    ----------
    system, grid
        Equation and grid.
    environment
        ``(batch, channels, x, y)``; batch 1 serves every trajectory.
    dt
        Length of a frame, in units of time.
    steps
        Number of steps per frame, in place of the bound.
    compiled
        Whether the loops of `pde_sym.kernels.flow` run. By default they do on the CPU,
        unless a gradient is asked for; they agree with torch to round-off.
    """

    def __init__(
        self,
        system: FlowSystem,
        grid: PeriodicGrid,
        environment: Tensor,
        dt: float,
        steps: int | None = None,
        compiled: bool | None = None,
    ) -> None:
        if not (math.isfinite(dt) and dt > 0):
            raise SimulationError(f"dt must be a positive number, got {dt}")
        self._dt, self._steps, self._compiled = dt, steps, compiled
        self._system = system
        self._differentiable = environment.requires_grad
        self._media = [medium_of(system, grid, one) for one in environment]
        self._spectrum = spectrum_of(grid, environment.device)
        self._bounds = [StepBound(one, self._spectrum) for one in self._media]
        self._dynamics: dict[tuple[int, bool], Dynamics] = {}
        self._coefficients: dict[tuple[int, bool], Any] = {}
        self._frames = 0

    def __call__(self, state: Tensor) -> Tensor:
        return self._frame(state)[0]

    def step(self, state: Tensor) -> tuple[Tensor, Budget]:
        """Return state and budgets one frame later; see `Solver.step`.

        Raises
        ------
        SimulationError
            When a field is not finite or moves too fast. The time that it names is
            that of the steps before, as in `simulate`.
        """
        result = self._frame(state)
        self._frames += 1
        return result

    def _frame(self, state: Tensor) -> tuple[Tensor, Budget]:
        compiled = self._compiled
        if compiled is None:
            gradient = state.requires_grad or self._differentiable
            compiled = state.device.type == "cpu" and not gradient
        states, budgets = [], []
        for index, one in enumerate(state):
            following, change = self._advance(one.double(), index, compiled)
            states.append(following)
            budgets.append(change)
        changes = torch.stack(budgets, dim=1)
        names = (*BUDGETS, *TRACER_BUDGETS)[: len(changes)]
        named = dict(zip(names, changes, strict=True))
        return torch.stack(states), in_order(self._system, named)

    def _advance(
        self, state: Tensor, index: int, compiled: bool
    ) -> tuple[Tensor, Tensor]:
        which = index if len(self._media) > 1 else 0
        dynamics = self._dynamics_of(which, compiled)
        modes, amplitudes = dynamics.decompose(state)
        if not all(map(math.isfinite, amplitudes)):
            raise self._lost(state, index, self._time(0))
        number = self._steps
        if number is None:
            needed = self._dt * self._bounds[which](amplitudes, self._dt)
            if not needed <= MAX_STEPS:
                raise SimulationError(
                    f"trajectory {index} needs {needed:.3g} steps for the frame from "
                    f"t = {self._time(0):.4g}, at most {MAX_STEPS}: lower the speed, "
                    "a strength or dt"
                )
            # Round-off shall not decide over a step.
            number = max(1, math.ceil(needed * (1 - 1e-9)))
        coefficients = self._coefficients_of(dynamics, number, compiled)
        following, change = dynamics.advance(modes, coefficients, number)
        if not math.isfinite(following.detach().sum().item()):
            raise self._lost(following, index, self._time(1))
        return following, change

    def _time(self, frames: int) -> float:
        return (self._frames + frames) * self._dt

    def _lost(self, state: Tensor, index: int, time: float) -> SimulationError:
        lost = [
            field.name
            for field, part in zip(
                self._system.fields, self._system.fields.slices().values(), strict=True
            )
            if field.prognostic and not state[part].isfinite().all()
        ]
        what = lost[0] if lost else "the sum of a field"
        return SimulationError(
            f"trajectory {index}: {what} is not finite at t = {time:.4g}: lower the "
            "speed, a strength or dt"
        )

    def _dynamics_of(self, which: int, compiled: bool) -> "Dynamics":
        key = which, compiled
        if key not in self._dynamics:
            if compiled:
                from pde_sym.kernels.flow import CompiledFlow as Chosen
            else:
                from pde_sym.systems.flow_advance import Advance as Chosen
            self._dynamics[key] = Chosen(self._media[which], self._spectrum)
        return self._dynamics[key]

    def _coefficients_of(
        self, dynamics: "Dynamics", number: int, compiled: bool
    ) -> Any:
        # The linear part is the same for all: the environment is explicit.
        key = number, compiled
        if key not in self._coefficients:
            if len(self._coefficients) >= MAX_CACHED:
                del self._coefficients[next(iter(self._coefficients))]
            self._coefficients[key] = dynamics.coefficients(self._dt / number)
        return self._coefficients[key]


class StepBound:
    """The number of steps per unit of time that a state of one trajectory needs.

    Advection: ``k_max sum_k (|u_k| + |v_k|)`` bounds ``|k.u(x)|`` at every point, and
    with |k| inside the sum every velocity gradient.
    """

    def __init__(self, medium: Medium, spectrum: Spectrum) -> None:
        self._medium, self._largest = medium, spectrum.largest
        self._force_wavenumber = float(spectrum.iky[0, medium.mode].imag)
        self._lift = math.hypot(*medium.lift)
        largest_wave = math.hypot(*medium.beta) * math.sqrt(
            float(spectrum.inverse_square.max())
        )
        self._explicit = largest_wave
        for field in (medium.coriolis, medium.brake):
            if field is not None:
                self._explicit += float(field.abs().max())
        if medium.excess is not None:
            stiffness = float((spectrum.kept * spectrum.square).max())
            # Real and negative: accuracy is not at stake where it is large.
            self._explicit += RATE * stiffness * float(medium.excess.abs().max())

    def __call__(self, amplitudes: Amplitudes, dt: float) -> float:
        """Return the number for a state with these sums, over a frame of length dt."""
        m, (speed, strain, mean, carried, gradient) = self._medium, amplitudes
        # In its own frame the flow does not feel its mean, nor the wind.
        if m.pinned:
            speed += mean + abs(m.wind[0]) + abs(m.wind[1])
        if m.force:
            speed += m.force * dt
            strain += m.force * dt * self._force_wavenumber
        if self._lift:
            speed += dt * self._lift * carried
            # Waves of a stable tracer turn at the root of its gradient.
            push = self._lift * gradient
            strain += dt * push + math.sqrt(push)
        advection = max(self._largest * speed / COURANT, strain / STRAIN)
        return advection + self._explicit / RATE
