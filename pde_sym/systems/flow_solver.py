"""The step of two-dimensional flow over one frame, with its budgets."""

import math

import torch
from torch import Tensor

from pde_sym.errors import SimulationError
from pde_sym.etdrk4 import Etdrk4Coefficients, etdrk4_coefficients, etdrk4_step
from pde_sym.grid import PeriodicGrid
from pde_sym.systems.base import Budget
from pde_sym.systems.flow import Flow
from pde_sym.systems.flow_budgets import BUDGETS, rates
from pde_sym.systems.flow_dynamics import Medium, Spectrum, medium_of, spectrum_of

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

    A packed state is one complex vector: the vorticity, then mean flow (2),
    displacement of the frame (2) and the budgets, in the order of `BUDGETS`.
    """

    def __init__(self, medium: Medium, spectrum: Spectrum) -> None:
        self.medium, self.spectrum = medium, spectrum
        self._size = spectrum.square.numel()
        self._forcing = medium.force_of_vorticity(spectrum)
        self._wind = torch.tensor(medium.wind, dtype=torch.float64)

    def pack(self, omega: Tensor, mean: Tensor) -> Tensor:
        rest = torch.zeros(2 + len(BUDGETS), dtype=omega.dtype)
        return torch.cat([omega.flatten(), mean.to(omega.dtype), rest])

    def linear(self) -> Tensor:
        """Return the diagonal of the linear part of a packed state."""
        rest = self.pack(self.medium.linear(self.spectrum), torch.zeros(2))
        rest[self._size : self._size + 2] = -self.medium.mean_drag
        return rest

    def unpack(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return vorticity, mean flow, displacement and budgets."""
        n = self._size
        rest = y[n:].real
        omega = y[:n].view(self.spectrum.square.shape)
        return omega, rest[:2], rest[2:4], rest[4:]

    def __call__(self, y: Tensor) -> Tensor:
        omega, mean, _, _ = self.unpack(y)
        rate, mean_rate = self.rate(omega, mean)
        budgets = list(rates(self.medium, self.spectrum, omega, mean).values())
        rest = torch.cat([mean_rate, mean + self._wind, torch.stack(budgets)])
        return torch.cat([rate.flatten(), rest.to(rate.dtype)])

    def rate(self, omega: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the linear part leaves of ``w_t`` and of the mean's rate.

        ``w_t = (d_yy - d_xx)(u v - tau_xy) + d_xy (u^2 - v^2 - 2 tau_xx) + curl F``
        (Basdevant 1983, J. Comput. Phys. 50), with the stress tau of nu(x) - nu and
        the force ``F = f (v, -u) - chi u``.
        """
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
        transformed = s.forward(torch.stack([*products, *forces]))
        rate = (s.flux * transformed[:2]).sum(0)
        mean_rate = torch.zeros_like(mean)
        if forces:
            fx, fy = transformed[2:]
            rate = rate + s.kept * (s.ikx * fy - s.iky * fx)
            mean_rate = transformed[2:, 0, 0].real
        if self._forcing is not None:
            rate = rate + self._forcing
        return rate, mean_rate

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
        system: Flow,
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
        return torch.stack(states), dict(zip(BUDGETS, changes, strict=True))

    def _advance(
        self, advance: Advance, state: Tensor, index: int
    ) -> tuple[Tensor, Tensor]:
        spectrum = self._spectrum
        omega, mean = spectrum.decompose(state)
        number = self._steps
        if number is None:
            needed = self._dt * fastest_rate(
                advance.medium, spectrum, omega, mean, self._dt
            )
            if not needed <= MAX_STEPS:
                raise SimulationError(
                    f"trajectory {index} needs {needed:.3g} steps per frame, at most "
                    f"{MAX_STEPS}: its state is not finite, or lower dt or strength"
                )
            number = max(1, math.ceil(needed))
        coefficients = self._coefficients_of(number)
        y = advance.pack(omega, mean)
        for _ in range(number):
            y = etdrk4_step(advance, y, coefficients)
        omega, mean, displacement, change = advance.unpack(y)
        if not advance.medium.pinned:
            # The frame of the mean flow has moved by the displacement.
            phase = spectrum.ikx * displacement[0] + spectrum.iky * displacement[1]
            omega = omega * torch.exp(-phase)
        return spectrum.compose(omega, mean), change

    def _coefficients_of(self, number: int) -> Etdrk4Coefficients:
        if number not in self._coefficients:
            if len(self._coefficients) >= MAX_CACHED:
                del self._coefficients[next(iter(self._coefficients))]
            self._coefficients[number] = etdrk4_coefficients(
                self._linear, self._dt / number
            )
        return self._coefficients[number]


def fastest_rate(
    medium: Medium, spectrum: Spectrum, omega: Tensor, mean: Tensor, dt: float
) -> float:
    """Return the number of steps per unit of time that a state needs.

    Advection: ``k_max sum_k (|u_k| + |v_k|)`` bounds ``|k.u(x)|`` at every point, and
    with |k| inside the sum every velocity gradient.
    """
    amplitudes = spectrum.weights * (spectrum.velocity.abs() * omega.abs()).sum(0)
    speed = float(amplitudes.sum())
    strain = float((amplitudes * spectrum.square.sqrt()).sum())
    # In its own frame the flow does not feel its mean, nor the wind.
    if medium.pinned:
        speed += float(mean.abs().sum()) + abs(medium.wind[0]) + abs(medium.wind[1])
    if medium.force:
        speed += medium.force * dt
        strain += medium.force * dt * float(spectrum.iky[0, medium.mode].imag)
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
