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

from pde_sym.errors import InputError, SimulationError
from pde_sym.etdrk4 import Etdrk4Coefficients, etdrk4_coefficients, etdrk4_step
from pde_sym.grid import PeriodicGrid
from pde_sym.systems.base import Budget
from pde_sym.systems.kdv import KdV
from pde_sym.systems.kdv_dynamics import Coefficients, Modes, budget_rates
from pde_sym.systems.kdv_integrals import INTEGRALS

LARGEST_MISS = 9
"""Steps asked for may be this much fewer than those for accuracy: then stability ends."""
LEAST_STEPS, MOST_STEPS = 8, 200_000
"""Steps per frame; the quadrature of the budgets needs seven."""

_GREGORY = (1 / 12, 1 / 24, 19 / 720, 3 / 160, 863 / 60480, 275 / 24192)


def gregory_weights(steps: int) -> Tensor:
    """Return the weights of Gregory's rule of order 8 on ``steps + 1`` points.

    The trapezoidal rule corrected by six differences at each end, for unit spacing.
    """
    if steps < len(_GREGORY) + 1:
        raise InputError(f"at least {len(_GREGORY) + 1} steps per frame, got {steps}")
    weights = torch.ones(steps + 1, dtype=torch.float64)
    weights[0] = weights[-1] = 0.5
    for order, coefficient in enumerate(_GREGORY, start=1):
        for i in range(order + 1):
            change = coefficient * math.comb(order, i) * (-1) ** i
            weights[i] -= change
            weights[steps - i] -= change
    return weights


class _Flow:
    """The right-hand side of one trajectory, less its exact linear part.

    The unknown is ``y = (w_1 .. w_M, mean, shift, time since the frame began)``.
    """

    def __init__(self, coefficients: Coefficients, start: float) -> None:
        self.c, self.start = coefficients, start
        self.modes = coefficients.modes
        k = self.modes.k[1:]
        self.ik, self.minus_3ik, self.k2 = 1j * k, -3j * k, k**2
        self.ik3 = 1j * k**3
        self.zero = torch.zeros(1, dtype=torch.complex128)
        self.one = torch.ones((), dtype=torch.float64)

    def __call__(self, y: Tensor) -> Tensor:
        mean, shift, time = y[-3:].real.unbind()
        w, top = y[:-3], self.modes.highest + 1
        values = self.modes.values(torch.cat([self.zero, w]), self.modes.points)
        square = torch.fft.rfft(values * values, norm="forward")
        rate = self.minus_3ik * square[1:top]
        drift = torch.zeros_like(mean)
        if self.c.strength:
            more, drift = self._terms(w, values, mean, shift, self.start + time)
            rate = rate + more
        speed = 6 * mean - self.c.strength.get("frame", 0.0)
        return torch.cat([rate, torch.stack([drift, speed, self.one])])

    def _terms(
        self, w: Tensor, values: Tensor, mean: Tensor, shift: Tensor, time: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the terms of the breaking, less the linear ones, and their mean."""
        eps, fields = self.c.strength, self.c.shifted(shift)
        rate, drift = torch.zeros_like(w), torch.zeros_like(mean)
        n, modes = self.modes.points, self.modes
        if "potential" in fields:
            current = modes.values(fields["potential"], n)
            flux = modes.spectrum(current * (mean + values))
            rate = rate - self.ik * flux[1:]
        if "dispersion" in fields:
            slope = modes.values(torch.cat([self.zero, self.ik * w]), n)
            flux = modes.spectrum(modes.values(fields["dispersion"], n) * slope)
            rate = rate + self.k2 * flux[1:]
        if "forcing" in fields:
            rate = rate + fields["forcing"][1:]
            drift = drift + fields["forcing"][0].real
        if "modulation" in eps:
            rate = rate + self.c.clock(time) * self.ik3 * w
        if "quartic" in eps or "gardner" in eps:
            fine = modes.values(torch.cat([self.zero, w]), 2 * n) + mean
            quartic, gardner = eps.get("quartic", 0.0), eps.get("gardner", 0.0)
            flux = fine**3 * (gardner / 3 + quartic / 4 * fine)
            rate = rate - self.ik * modes.spectrum(flux)[1:]
        if "speed" in fields:
            more, drift_more = self._bathymetry(w, mean, fields)
            rate, drift = rate + more, drift + drift_more
        return rate, drift

    def _bathymetry(
        self, w: Tensor, mean: Tensor, fields: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        modes, ik = self.modes, 1j * self.modes.k
        stack = [
            torch.cat([mean[None] + 0j, w]),
            torch.cat([self.zero, -self.ik3 * w]),
            fields["speed"],
            ik * fields["speed"],
            fields["slope"],
            ik * fields["slope"],
            fields["width"],
        ]
        u, u3, c, cx, a, ax, b = modes.values(torch.stack(stack), 2 * modes.points)
        flux = modes.spectrum(c * u + a * u * u / 2)
        local = modes.spectrum(cx * u / 2 + ax * u * u / 2 - b * u3)
        return local[1:] - self.ik * flux[1:], local[0].real


class KdVSolver:
    """Step function of a batch; each trajectory is integrated by itself.

    Nothing of a trajectory's arithmetic depends on the others in its batch. The modes
    of a state above N / 3 are dropped at its first step.

    Parameters
    ----------
    system, grid
        Equation and grid of one axis.
    environment
        ``(batch, channels, N)``; batch 1 serves every trajectory.
    dt
        Length of a frame, in units of time.
    steps
        Steps per frame, in place of those from the bound.

    Attributes
    ----------
    frame
        Number of the frame that the solver starts from: the clock of a modulated
        dispersion, which is no part of the state. A call is a pure function of the
        state; `step` also goes on to the next frame, and `at` to any.
    """

    def __init__(
        self,
        system: KdV,
        grid: PeriodicGrid,
        environment: Tensor,
        dt: float,
        steps: int | None = None,
    ) -> None:
        if not (math.isfinite(dt) and dt > 0):
            raise SimulationError(f"dt must be a positive number, got {dt}")
        self._modes = Modes(grid)
        whole = Coefficients(system, self._modes, environment.to(torch.float64))
        self._trajectories = [whole.select(i) for i in range(len(environment))]
        self._linear = whole.linear()
        self._dt, self._steps = dt, steps
        self._etdrk4: dict[int, Etdrk4Coefficients] = {}
        self.frame = 0

    def at(self, frame: int) -> "KdVSolver":
        """Return the solver whose next step starts from that frame."""
        other = copy.copy(self)
        other.frame = frame
        return other

    def __call__(self, state: Tensor) -> Tensor:
        return self.at(self.frame).step(state)[0]

    def step(self, state: Tensor) -> tuple[Tensor, Budget]:
        """Return state and budgets one frame later; see `Solver.step`."""
        states, budgets = [], []
        for index, u in enumerate(state[:, 0].to(torch.float64)):
            which = index if len(self._trajectories) > 1 else 0
            u, budget = self._advance(u, self._trajectories[which], index)
            states.append(u)
            budgets.append(budget)
        self.frame += 1
        return torch.stack(states)[:, None], {
            f"P{n}": torch.stack([budget[f"P{n}"] for budget in budgets])
            for n in INTEGRALS
        }

    def _advance(self, u: Tensor, c: Coefficients, index: int) -> tuple[Tensor, Budget]:
        spectrum = self._modes.spectrum(u)
        if not spectrum.abs().sum().isfinite():
            raise SimulationError(f"trajectory {index} is not finite before the step")
        start = self.frame * self._dt
        rest = torch.zeros(2, dtype=torch.complex128)
        y = torch.cat([spectrum[1:], spectrum[:1].real + 0j, rest])
        steps = self._number_of_steps(c, y, index)
        plan, flow = self._plan(steps), _Flow(c, start)
        rates = [self._rates(y, c, start)]
        for _ in range(steps):
            y = etdrk4_step(flow, y, plan)
            rates.append(self._rates(y, c, start))
        mean, shift = y[-3].real, y[-2].real
        angle = -self._modes.k * shift
        seen = torch.cat([mean[None] + 0j, y[:-3]])
        seen = seen * torch.polar(torch.ones_like(angle), angle)
        u = self._modes.values(seen, self._modes.points)
        if not u.isfinite().all():
            raise SimulationError(
                f"trajectory {index} left the finite numbers within a frame of "
                f"{steps} steps: lower the strength or the amplitude"
            )
        weights = self._dt / steps * gregory_weights(steps)
        return u, {
            name: (weights * torch.stack([r[name] for r in rates])).sum()
            for name in rates[0]
        }

    def _rates(self, y: Tensor, c: Coefficients, start: float) -> Budget:
        spectrum = torch.cat([y[-3:-2].real + 0j, y[:-3]])
        return budget_rates(
            c, spectrum, c.shifted(y[-2].real), start + float(y[-1].real)
        )

    def _number_of_steps(self, c: Coefficients, y: Tensor, index: int) -> int:
        needed = c.stiffness(y[:-3], float(y[-3].real), self._dt)
        if self._steps is not None:
            if needed > LARGEST_MISS * self._steps:
                raise InputError(
                    f"steps={self._steps} per frame is unstable: trajectory {index} "
                    f"needs {math.ceil(needed)} to be accurate; raise steps or lower dt"
                )
            return self._steps
        if not needed <= MOST_STEPS:
            raise InputError(
                f"trajectory {index} needs {needed:.3g} steps in a frame of dt="
                f"{self._dt:g}, at most {MOST_STEPS}: lower dt, a strength, the "
                "resolution or the initial amplitude"
            )
        return max(LEAST_STEPS, math.ceil(needed))

    def _plan(self, steps: int) -> Etdrk4Coefficients:
        if steps not in self._etdrk4:
            self._etdrk4[steps] = etdrk4_coefficients(self._linear, self._dt / steps)
        return self._etdrk4[steps]
