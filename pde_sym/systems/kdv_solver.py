"""The step of KdV over one frame, in the zero-mean frame, with its budgets.

With the mean m and ``xi' = 6 m`` the state is ``u(x, t) = m + w(x - xi, t)``, and

    w_t + 6 w w_y + w_yyy = R - <R>,   m' = <R>

holds no trace of the mean: Galilei boosts and shifts commute with the step to
round-off, which they do not with a step of u itself. Coefficients that depend on x are
shifted by -xi in Fourier space at every stage. The third derivative is in the exact
part of ETDRK4, with complex coefficients; their real parts give order 1.

Products are formed without aliasing onto the modes ``|m| < N / 3`` that a state keeps:
quadratic ones on the grid itself, of which these are 2/3, cubic and quartic ones on
twice as many points, of which 1/2 and 2/5 would do.
"""

import copy
import math

import torch
from torch import Tensor

from pde_sym.errors import InputError, Lost, LostTrajectoryError, SimulationError
from pde_sym.etdrk4 import Etdrk4Coefficients, etdrk4_coefficients, etdrk4_step
from pde_sym.grid import PeriodicGrid
from pde_sym.systems.base import Budget, check_finite
from pde_sym.systems.kdv import KdV
from pde_sym.systems.kdv_dynamics import (
    Coefficients,
    Modes,
    budget_rates,
    gregory_weights,
)
from pde_sym.systems.kdv_integrals import INTEGRALS

LEAST_STEPS, MOST_STEPS = 8, 200_000
"""Steps per frame; the quadrature of the budgets needs seven."""


class _Flow:
    """The right-hand side of some trajectories, less its exact linear part.

    The unknown is ``y = (w_1 .. w_M, mean, shift, time since frame 0)`` of each.
    """

    def __init__(self, coefficients: Coefficients) -> None:
        self.c, self.modes = coefficients, coefficients.modes
        k = self.modes.k[1:]
        self.ik, self.minus_3ik, self.k2 = 1j * k, -3j * k, k**2
        self.ik3 = 1j * k**3

    def __call__(self, y: Tensor) -> Tensor:
        mean, shift, time = y[:, -3:].real.unbind(-1)
        w, n = y[:, :-3], self.modes.points
        values = self.modes.values(_with_mean(w), n)
        rate = self.minus_3ik * self.modes.spectrum(values * values)[:, 1:]
        drift = torch.zeros_like(mean)
        if self.c.strength:
            more, drift = self._terms(w, values, mean, shift, time)
            rate = rate + more
        speed = 6 * mean - self.c.strength.get("frame", 0.0)
        rest = torch.stack([drift, speed, torch.ones_like(time)], dim=-1)
        return torch.cat([rate, rest.to(rate.dtype)], dim=-1)

    def _terms(
        self, w: Tensor, values: Tensor, mean: Tensor, shift: Tensor, time: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the terms of the breaking, less the linear ones, and their mean."""
        eps, fields = self.c.strength, self.c.shifted(shift)
        rate, drift = torch.zeros_like(w), torch.zeros_like(mean)
        n, modes = self.modes.points, self.modes
        if "potential" in fields:
            current = modes.values(fields["potential"], n)
            flux = modes.spectrum(current * (mean[:, None] + values))
            rate = rate - self.ik * flux[:, 1:]
        if "dispersion" in fields:
            slope = modes.values(_with_mean(self.ik * w), n)
            flux = modes.spectrum(modes.values(fields["dispersion"], n) * slope)
            rate = rate + self.k2 * flux[:, 1:]
        if "forcing" in fields:
            rate = rate + fields["forcing"][:, 1:]
            drift = drift + fields["forcing"][:, 0].real
        if "modulation" in eps:
            rate = rate + self.c.clock(time)[:, None] * self.ik3 * w
        if "quartic" in eps or "gardner" in eps:
            fine = modes.values(_with_mean(w, mean), 2 * n)
            quartic, gardner = eps.get("quartic", 0.0), eps.get("gardner", 0.0)
            flux = fine**3 * (gardner / 3 + quartic / 4 * fine)
            rate = rate - self.ik * modes.spectrum(flux)[:, 1:]
        if "speed" in fields:
            more, drift_more = self._bathymetry(w, mean, fields)
            rate, drift = rate + more, drift + drift_more
        return rate, drift

    def _bathymetry(
        self, w: Tensor, mean: Tensor, fields: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        modes, ik = self.modes, 1j * self.modes.k
        stack = [
            _with_mean(w, mean),
            _with_mean(-self.ik3 * w),
            fields["speed"],
            ik * fields["speed"],
            fields["slope"],
            ik * fields["slope"],
            fields["width"],
        ]
        u, u3, c, cx, a, ax, b = modes.values(torch.stack(stack), 2 * modes.points)
        flux = modes.spectrum(c * u + a * u * u / 2)
        local = modes.spectrum(cx * u / 2 + ax * u * u / 2 - b * u3)
        return local[:, 1:] - self.ik * flux[:, 1:], local[:, 0].real


def _with_mean(w: Tensor, mean: Tensor | None = None) -> Tensor:
    """Return the spectrum from mode 0 up."""
    first = torch.zeros_like(w[:, :1])
    if mean is not None:
        first = first + mean[:, None]
    return torch.cat([first, w], dim=-1)


class KdVSolver:
    """Step function of a batch; each trajectory has its own number of steps.

    On the CPU, and where no gradient is asked for, compiled loops take the steps; the
    result of a trajectory then does not depend on the others in its batch. Elsewhere
    trajectories of as many steps are advanced together in torch.

    Parameters
    ----------
    system, grid
        Equation and grid.
    environment
        ``(batch, channels, N)`` in float64; batch 1 serves every trajectory.
    dt
        Length of a frame, in units of time.
    steps
        Steps per frame, in place of those from the bound.
    compiled
        Whether compiled loops are used where they can be.
    refinement
        How many times finer the steps are than those that the bound asks for.

    Attributes
    ----------
    frame
        Number of the frame that the solver starts from: the clock of a modulated
        dispersion, which is no part of the state. A call is a pure function of the
        state; `step` also goes on to the next frame, and `at` to any.

    Raises
    ------
    InputError
        When the steps are too few for stability.
    LostTrajectoryError
        When a state is not finite before or after a frame, or needs more than
        `MOST_STEPS` for it.
    """

    def __init__(
        self,
        system: KdV,
        grid: PeriodicGrid,
        environment: Tensor,
        dt: float,
        *,
        steps: int | None = None,
        compiled: bool = True,
        refinement: int = 1,
    ) -> None:
        if not (math.isfinite(dt) and dt > 0):
            raise SimulationError(f"dt must be a positive number, got {dt}")
        environment = environment.to(torch.float64)
        if steps is not None:
            gregory_weights(steps)
        self._modes = Modes(grid, environment.device)
        self._c = Coefficients(system, self._modes, environment)
        self._dt, self._steps, self._refinement = dt, steps, refinement
        self._etdrk4: dict[int, Etdrk4Coefficients] = {}
        self._compiled = None
        if compiled and environment.device.type == "cpu":
            from pde_sym.kernels.kdv import CompiledKdV

            self._compiled = CompiledKdV(self._c, self._plan, dt)
        self.frame: int = 0

    def at(self, frame: int) -> "KdVSolver":
        """Return the solver whose next step starts from that frame."""
        other = copy.copy(self)
        other.frame = frame
        return other

    def __call__(self, state: Tensor) -> Tensor:
        return self.at(self.frame).step(state)[0]

    def step(self, state: Tensor) -> tuple[Tensor, Budget]:
        """Return state and budgets one frame later; see `Solver.step`."""
        u = state[:, 0].to(torch.float64)
        if self._compiled is None or u.requires_grad:
            following, budgets = self._advance(u)
        else:
            spectrum, sizes = self._compiled.spectra(u.numpy())
            size, mean = torch.from_numpy(sizes), torch.from_numpy(spectrum[:, 0].real)
            steps = self._numbers_of_steps(size, mean)
            advanced = self._compiled.advance(
                spectrum, steps.numpy(), self.frame * self._dt
            )
            following, budgets = (torch.from_numpy(a) for a in advanced)
        check_finite(following[:, None], KdV.fields, self._dt)
        self.frame += 1
        named = zip(INTEGRALS, budgets.unbind(-1), strict=True)
        return following[:, None], {f"P{n}": budget for n, budget in named}

    def _advance(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return states ``(batch, N)`` and budgets ``(batch, 5)``, in torch."""
        spectrum = self._modes.spectrum(u)
        mean = spectrum[:, 0].real
        size = 2 * spectrum[:, 1:].abs().sum(-1)
        steps = self._numbers_of_steps(size.detach(), mean.detach())
        following = torch.empty_like(u)
        budgets = u.new_zeros((len(u), len(INTEGRALS)))
        for count in steps.unique().tolist():
            rows = (steps == count).nonzero()[:, 0]
            some, budget = self._take(spectrum[rows], self._c.select(rows), count)
            following = following.index_copy(0, rows, some)
            budgets = budgets.index_copy(0, rows, budget)
        return following, budgets

    def _take(
        self, spectrum: Tensor, c: Coefficients, steps: int
    ) -> tuple[Tensor, Tensor]:
        """Return states and budgets after so many steps of some trajectories."""
        mean, rest = spectrum[:, :1].real, torch.zeros_like(spectrum[:, :2])
        rest[:, 1] = self.frame * self._dt
        y = torch.cat([spectrum[:, 1:], mean.to(spectrum.dtype), rest], dim=-1)
        plan, flow, h = self._plan(steps), _Flow(c), self._dt / steps
        total = h * gregory_weights(steps)
        budgets = total[0] * self._rates(y, c)
        for weight in total[1:]:
            y = etdrk4_step(flow, y, plan)
            budgets = budgets + weight * self._rates(y, c)
        angle = -self._modes.k * y[:, -2:-1].real
        seen = _with_mean(y[:, :-3], y[:, -3].real)
        seen = seen * torch.polar(torch.ones_like(angle), angle)
        return self._modes.values(seen, self._modes.points), budgets

    @staticmethod
    def _rates(y: Tensor, c: Coefficients) -> Tensor:
        mean, shift, time = y[:, -3:].real.unbind(-1)
        spectrum = _with_mean(y[:, :-3], mean)
        rates = budget_rates(c, spectrum, c.shifted(shift), time)
        return torch.stack([rates[f"P{n}"] for n in INTEGRALS], dim=-1)

    def _numbers_of_steps(self, size: Tensor, mean: Tensor) -> Tensor:
        self._require((size + mean).isfinite(), "is not finite")
        accurate, stable = self._c.stiffness(size, mean, self._dt)
        if self._steps is not None:
            least = self._steps
            if not (stable <= least).all():
                worst = int(stable.argmax())
                raise InputError(
                    f"steps={least} per frame is unstable: trajectory {worst} needs "
                    f"{math.ceil(accurate[worst])} to be accurate; raise steps or "
                    "lower dt"
                )
            return torch.full_like(size, least, dtype=torch.int64)
        if not (accurate <= MOST_STEPS).all():
            self._require(
                accurate <= MOST_STEPS,
                f"moves too fast ({float(accurate.max()):.3g} steps in a frame of "
                f"dt={self._dt:g}, at most {MOST_STEPS})",
            )
        number = accurate.ceil().clamp(min=LEAST_STEPS).to(torch.int64)
        return self._refinement * number

    @staticmethod
    def _require(fine: Tensor, otherwise: str) -> None:
        """Raise `LostTrajectoryError` for those that are not fine as a frame begins."""
        if not fine.all():
            lost = fine.logical_not().nonzero()[:, 0].tolist()
            raise LostTrajectoryError(Lost(i, "u", otherwise, 0.0) for i in lost)

    def _plan(self, steps: int) -> Etdrk4Coefficients:
        if steps not in self._etdrk4:
            self._etdrk4[steps] = etdrk4_coefficients(
                self._c.linear(), self._dt / steps
            )
        return self._etdrk4[steps]
