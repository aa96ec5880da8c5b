"""The step of two-dimensional flow over one frame, with its budgets."""

import math

import torch
from torch import Tensor

from pde_sym.errors import SimulationError
from pde_sym.etdrk4 import Etdrk4Coefficients, etdrk4_coefficients, etdrk4_step
from pde_sym.grid import PeriodicGrid
from pde_sym.systems.base import Budget
from pde_sym.systems.flow import FlowSystem
from pde_sym.systems.flow_budgets import BUDGETS, TRACER_BUDGETS, rates
from pde_sym.systems.flow_dynamics import (
    Medium,
    Modes,
    Spectrum,
    medium_of,
    spectrum_of,
)

COURANT = 2.5
"""``h k_max sum_k (|u_k| + |v_k|)`` is at most this; the explicit limit is 2.8."""
STRAIN = 0.2
"""``h sum_k |k| (|u_k| + |v_k|)`` is at most this: budgets then close to 1e-9."""
RATE = 0.1
"""h times the rate of any other explicit term, or of a Rossby wave, is at most this."""
MAX_STEPS = 100_000
"""Steps per frame above which a run is refused."""
MAX_CACHED = 32
"""Step sizes whose coefficients are remembered."""


class Advance:
    """The nonlinear part, and the budgets beside it, for one trajectory.

    A packed state is one complex vector: vorticity, tracer if any, mean flow (2),
    displacement of the frame (2) and the budgets, in the order of `names`.
    """

    def __init__(self, medium: Medium, spectrum: Spectrum) -> None:
        self.medium, self.spectrum = medium, spectrum
        has_tracer = medium.diffusivity is not None
        self.names = BUDGETS + (TRACER_BUDGETS if has_tracer else ())
        self._fields = 2 if has_tracer else 1
        self._forcing = medium.force_of_vorticity(spectrum)
        self._wind = torch.tensor(medium.wind, dtype=torch.float64)

    def pack(self, modes: Modes) -> Tensor:
        """Return a packed state whose frame has not moved."""
        rest = torch.zeros(2 + len(self.names), dtype=torch.float64)
        return self._packed(modes, rest)

    def unpack(self, y: Tensor) -> tuple[Modes, Tensor, Tensor]:
        """Return modes, displacement and budgets."""
        size = self._fields * self.spectrum.square.numel()
        omega, *tracer = y[:size].view(self._fields, *self.spectrum.square.shape)
        rest = y[size:].real
        modes = Modes(omega, rest[:2], tracer[0] if tracer else None)
        return modes, rest[2:4], rest[4:]

    @staticmethod
    def _packed(modes: Modes, rest: Tensor) -> Tensor:
        fields = [modes.omega.flatten()]
        if modes.tracer is not None:
            fields.append(modes.tracer.flatten())
        return torch.cat([*fields, torch.cat([modes.mean, rest]).to(fields[0].dtype)])

    def linear(self) -> Tensor:
        """Return the diagonal of the linear part of a packed state."""
        m, s = self.medium, self.spectrum
        mean = torch.full((2,), -m.mean_drag, dtype=torch.float64)
        spread = None if m.diffusivity is None else -m.diffusivity * s.square + 0j
        return self.pack(Modes(m.linear(s), mean, spread))

    def __call__(self, y: Tensor) -> Tensor:
        modes, _, _ = self.unpack(y)
        budgets = list(rates(self.medium, self.spectrum, modes).values())
        rest = torch.cat([modes.mean + self._wind, torch.stack(budgets)])
        return self._packed(self.rate(modes), rest)

    def rate(self, modes: Modes) -> Modes:
        """Return the rates that the linear part leaves over.

        ``w_t = (d_yy - d_xx)(u v - tau_xy) + d_xy (u^2 - v^2 - 2 tau_xx) + curl F``
        (Basdevant 1983, J. Comput. Phys. 50), with the stress tau of nu(x) - nu and
        the force ``F = f (v, -u) - chi u + eps b e``.
        """
        omega, mean, tracer = modes
        m, s = self.medium, self.spectrum
        velocity = s.velocity_of(omega, mean if m.pinned else torch.zeros_like(mean))
        u, v = s.inverse(velocity)
        cu, cv = (u + m.wind[0], v + m.wind[1]) if m.pinned else (u, v)
        products = [cu * cv, (cu - cv) * (cu + cv)]
        if m.excess is not None:
            strain = [s.ikx * velocity[0], s.iky * velocity[0] + s.ikx * velocity[1]]
            stretch, shear = m.excess * s.inverse(torch.stack(strain))
            products = [products[0] - shear, products[1] - 4 * stretch]
        forces = self._forces(u, v)
        fluxes = []
        if tracer is not None:
            b = s.inverse(tracer)
            fluxes = [cu * b, cv * b]
        transformed = s.forward(torch.stack([*products, *forces, *fluxes]))
        rate = (s.flux * transformed[:2]).sum(0)
        mean_rate = torch.zeros_like(mean)
        if forces:
            fx, fy = transformed[2:4]
            rate = rate + s.kept * (s.ikx * fy - s.iky * fx)
            mean_rate = transformed[2:4, 0, 0].real
        if self._forcing is not None:
            rate = rate + self._forcing
        if tracer is None:
            return Modes(rate, mean_rate)
        ex, ey = m.lift
        if ex or ey:
            rate = rate + (ey * s.ikx - ex * s.iky) * tracer
            mean_rate = mean_rate + tracer[0, 0].real * torch.tensor(
                [ex, ey], dtype=mean.dtype
            )
        spread = -s.kept * (s.ikx * transformed[-2] + s.iky * transformed[-1])
        return Modes(rate, mean_rate, spread)

    def _forces(self, u: Tensor, v: Tensor) -> list[Tensor]:
        f, chi = self.medium.coriolis, self.medium.brake
        if f is None and chi is None:
            return []
        fx, fy = torch.zeros_like(u), torch.zeros_like(v)
        if f is not None:
            fx, fy = fx + f * v, fy - f * u
        if chi is not None:
            fx, fy = fx - chi * u, fy - chi * v
        return [fx, fy]


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
    """

    def __init__(
        self,
        system: FlowSystem,
        grid: PeriodicGrid,
        environment: Tensor,
        dt: float,
        steps: int | None = None,
    ) -> None:
        if not (math.isfinite(dt) and dt > 0):
            raise SimulationError(f"dt must be a positive number, got {dt}")
        self._dt, self._steps = dt, steps
        media = [medium_of(system, grid, one) for one in environment]
        self._spectrum = spectrum_of(grid)
        self._advances = [Advance(one, self._spectrum) for one in media]
        # The linear part is the same for all: the environment is explicit.
        self._linear = self._advances[0].linear()
        self._coefficients: dict[int, Etdrk4Coefficients] = {}

    def __call__(self, state: Tensor) -> Tensor:
        return self.step(state)[0]

    def step(self, state: Tensor) -> tuple[Tensor, Budget]:
        """Return state and budgets one frame later; see `Solver.step`."""
        states, budgets = [], []
        for index, one in enumerate(state):
            which = index if len(self._advances) > 1 else 0
            following, change = self._advance(self._advances[which], one, index)
            states.append(following)
            budgets.append(change)
        changes = torch.stack(budgets, dim=1)
        return torch.stack(states), dict(
            zip(self._advances[0].names, changes, strict=True)
        )

    def _advance(
        self, advance: Advance, state: Tensor, index: int
    ) -> tuple[Tensor, Tensor]:
        spectrum = self._spectrum
        modes = spectrum.decompose(state)
        number = self._steps
        if number is None:
            needed = self._dt * fastest_rate(advance.medium, spectrum, modes, self._dt)
            if not needed <= MAX_STEPS:
                raise SimulationError(
                    f"trajectory {index} needs {needed:.3g} steps per frame, at most "
                    f"{MAX_STEPS}: its state is not finite, or lower dt or strength"
                )
            number = max(1, math.ceil(needed))
        coefficients = self._coefficients_of(number)
        y = advance.pack(modes)
        for _ in range(number):
            y = etdrk4_step(advance, y, coefficients)
        modes, displacement, change = advance.unpack(y)
        if not advance.medium.pinned:
            # The frame of the mean flow has moved by the displacement.
            angle = spectrum.ikx * displacement[0] + spectrum.iky * displacement[1]
            phase = torch.exp(-angle)
            tracer = None if modes.tracer is None else phase * modes.tracer
            modes = Modes(phase * modes.omega, modes.mean, tracer)
        return spectrum.compose(modes), change

    def _coefficients_of(self, number: int) -> Etdrk4Coefficients:
        if number not in self._coefficients:
            if len(self._coefficients) >= MAX_CACHED:
                del self._coefficients[next(iter(self._coefficients))]
            self._coefficients[number] = etdrk4_coefficients(
                self._linear, self._dt / number
            )
        return self._coefficients[number]


def fastest_rate(medium: Medium, spectrum: Spectrum, modes: Modes, dt: float) -> float:
    """Return the number of steps per unit of time that a state needs.

    Advection: ``k_max sum_k (|u_k| + |v_k|)`` bounds ``|k.u(x)|`` at every point, and
    with |k| inside the sum every velocity gradient.
    """
    amplitudes = spectrum.weights * (spectrum.velocity.abs() * modes.omega.abs()).sum(0)
    speed = float(amplitudes.sum())
    strain = float((amplitudes * spectrum.square.sqrt()).sum())
    # In its own frame the flow does not feel its mean, nor the wind.
    if medium.pinned:
        speed += (
            float(modes.mean.abs().sum()) + abs(medium.wind[0]) + abs(medium.wind[1])
        )
    if medium.force:
        speed += medium.force * dt
        strain += medium.force * dt * float(spectrum.iky[0, medium.mode].imag)
    if modes.tracer is not None and any(medium.lift):
        pushes = math.hypot(*medium.lift) * spectrum.weights * modes.tracer.abs()
        pushes = torch.where(spectrum.square > 0, pushes, 0.0)
        speed += dt * float(pushes.sum())
        # Waves of a stable tracer turn at the root of its gradient.
        gradient = float((pushes * spectrum.square.sqrt()).sum())
        strain += dt * gradient + math.sqrt(gradient)
    advection = max(spectrum.largest * speed / COURANT, strain / STRAIN)
    largest_wave = math.hypot(*medium.beta) * math.sqrt(
        float(spectrum.inverse_square.max())
    )
    explicit = largest_wave
    for field in (medium.coriolis, medium.brake):
        if field is not None:
            explicit += float(field.abs().max())
    if medium.excess is not None:
        stiffness = float((spectrum.kept * spectrum.square).max())
        # Real and negative: accuracy is not at stake where it is large.
        explicit += RATE * stiffness * float(medium.excess.abs().max())
    return advection + explicit / RATE
