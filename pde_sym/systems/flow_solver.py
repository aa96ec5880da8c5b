"""The step of two-dimensional flow over one frame, with its budgets."""

import math
from typing import Any, Protocol

from torch import Tensor

from pde_sym.errors import Lost, LostTrajectoryError, SimulationError
from pde_sym.grid import PeriodicGrid
from pde_sym.systems.base import Budget, check_finite
from pde_sym.systems.flow import Flow
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
ADVICE = "lower the speed, a strength or dt"


class Frames(Protocol):
    """Frames of a batch, in torch or compiled."""

    def decompose(self, state: Tensor) -> tuple[Any, list[Amplitudes]]:
        """Return the modes of states ``(batch, 3 or 4, x, y)`` and their sums."""
        ...

    def advance(self, modes: Any, numbers: list[int]) -> tuple[Tensor, Tensor]:
        """Return the states after those numbers of steps, and each budget's change.

        The changes are ``(batch, budgets)``.
        """
        ...


class FlowSolver:
    """Step function of a batch; each trajectory takes its own number of steps.

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
        unless a gradient is asked for; they agree with torch to round-off, and of
        the arithmetic of a trajectory nothing depends on the others in its batch.
    refinement
        How many times finer the steps are than those that the bound asks for.
    """

    def __init__(
        self,
        system: Flow,
        grid: PeriodicGrid,
        environment: Tensor,
        dt: float,
        steps: int | None = None,
        compiled: bool | None = None,
        refinement: int = 1,
    ) -> None:
        if not (math.isfinite(dt) and dt > 0):
            raise SimulationError(f"dt must be a positive number, got {dt}")
        self._dt, self._steps, self._compiled = dt, steps, compiled
        self._refinement = refinement
        self._system = system
        self._differentiable = environment.requires_grad
        self._media = [medium_of(system, grid, one) for one in environment]
        self._spectrum = spectrum_of(grid, environment.device)
        self._bounds = [StepBound(one, self._spectrum) for one in self._media]
        self._dynamics: dict[bool, Frames] = {}

    def __call__(self, state: Tensor) -> Tensor:
        return self._frame(state)[0]

    def step(self, state: Tensor) -> tuple[Tensor, Budget]:
        """Return state and budgets one frame later; see `Solver.step`.

        Raises
        ------
        LostTrajectoryError
            When a field is not finite or moves too fast.
        """
        return self._frame(state)

    def _frame(self, state: Tensor) -> tuple[Tensor, Budget]:
        compiled = self._compiled
        if compiled is None:
            gradient = state.requires_grad or self._differentiable
            compiled = state.device.type == "cpu" and not gradient
        dynamics = self._dynamics_of(compiled)
        state = state.double()
        fields = self._system.fields
        check_finite(state, fields, 0.0, ADVICE)
        modes, amplitudes = dynamics.decompose(state)
        following, changes = dynamics.advance(modes, self._numbers(amplitudes))
        check_finite(following, fields, self._dt, ADVICE)
        names = (*BUDGETS, *TRACER_BUDGETS)[: changes.shape[1]]
        named = dict(zip(names, changes.unbind(1), strict=True))
        return following, in_order(self._system, named)

    def _numbers(self, amplitudes: list[Amplitudes]) -> list[int]:
        """Return the number of steps of each trajectory, whose sums are given."""
        if self._steps is not None:
            return [self._steps] * len(amplitudes)
        numbers, lost = [], []
        for index, sums in enumerate(amplitudes):
            bound = self._bounds[index if len(self._bounds) > 1 else 0]
            needed = self._dt * bound(sums, self._dt)
            if needed <= MAX_STEPS:
                # Round-off shall not decide over a step.
                number = max(1, math.ceil(needed * (1 - 1e-9)))
                numbers.append(self._refinement * number)
            else:
                steps = f"{needed:.3g} steps in a frame, at most {MAX_STEPS}"
                reason = f"moves too fast ({steps})"
                lost.append(Lost(index, "velocity", reason, 0.0))
        if lost:
            raise LostTrajectoryError(lost, ADVICE)
        return numbers

    def _dynamics_of(self, compiled: bool) -> Frames:
        if compiled not in self._dynamics:
            if compiled:
                from pde_sym.kernels.flow import CompiledFlow as Chosen
            else:
                from pde_sym.systems.flow_advance import TorchFlow as Chosen
            self._dynamics[compiled] = Chosen(self._media, self._spectrum, self._dt)
        return self._dynamics[compiled]


class StepBound:
    """The number of steps per unit of time that a state of one trajectory needs.

    Advection: ``k_max sum_k (|u_k| + |v_k|)`` bounds ``|k.u(x)|`` at every point, and
    with ``|k|`` inside the sum every velocity gradient.
    """

    def __init__(self, medium: Medium, spectrum: Spectrum) -> None:
        self._medium, self._largest = medium, spectrum.largest
        self._wind = float(medium.wind.detach().abs().sum())
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
            speed += mean + self._wind
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
