"""The step of the heat equation over one frame, with its budgets."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pde_sym.errors import Lost, LostTrajectoryError, SimulationError
from pde_sym.flux_form import FluxForm
from pde_sym.grid import PeriodicGrid
from pde_sym.integrators import (
    chebyshev_degree,
    chebyshev_series,
    ellipse_growth,
    exponential_coefficients,
    extrapolated_rkl2,
    integral_coefficients,
)
from pde_sym.systems.base import Budget, check_finite
from pde_sym.systems.heat import Heat
from pde_sym.systems.heat_dynamics import weak_rates

MAX_PARTS = 100_000
"""Of a frame; more are a mistake in its length."""
LARGEST_PART = 8.0
"""A frame is cut into parts of ``lam h`` at most this, for the quadrature."""
NODES = 12
"""Gauss-Legendre nodes per part; with them the budgets of data close to 1e-9."""
RKL2_TOLERANCE = 1e-9
"""Relative tolerance per part for a nonlinear conductivity."""


@dataclass(frozen=True)
class _Propagator:
    """Everything about one trajectory's linear flow that its state does not change.

    One Chebyshev recurrence gives the state at the quadrature nodes and at the end of
    a part; `forced` is what the source has added by then.
    """

    operator: FluxForm
    parts: int
    lam: float
    coefficients: NDArray[np.float64]
    weights: NDArray[np.float64]
    forced: Tensor | None


class HeatSolver:
    """Step function of a batch; each trajectory is integrated by itself.

    Nothing of a trajectory's arithmetic depends on the others in its batch.

    Parameters
    ----------
    system, grid
        Equation and grid.
    environment
        ``(batch, channels, x, y)`` in float64; batch 1 serves every trajectory.
    dt
        Length of a frame, in units of time.
    refinement
        How many times more parts a frame is cut into.
    """

    def __init__(
        self,
        system: Heat,
        grid: PeriodicGrid,
        environment: Tensor,
        dt: float,
        refinement: int = 1,
    ) -> None:
        if not (math.isfinite(dt) and dt > 0):
            raise SimulationError(f"dt must be a positive number, got {dt}")
        self._grid, self._dt, self._refinement = grid, dt, refinement
        self._linear = system.is_linear
        whole = system.operator(grid, environment.to(torch.float64))
        self._operators = [whole.select(i) for i in range(len(environment))]
        self._propagators: dict[int, _Propagator] = {}

    def __call__(self, state: Tensor) -> Tensor:
        return self.step(state)[0]

    def step(self, state: Tensor) -> tuple[Tensor, Budget]:
        """Return state and budgets one frame later; see `Solver.step`."""
        check_finite(state, Heat.fields, 0.0)
        states, budgets, lost = [], [], []
        for index, u in enumerate(state[:, 0].to(torch.float64)):
            which = index if len(self._operators) > 1 else 0
            advance = self._linear_step if self._linear else self._nonlinear_step
            try:
                u, budget = advance(u, which)
            except SimulationError as error:
                lost.append(Lost(index, "temperature", f"is lost ({error})", 0.0))
                continue
            states.append(u)
            budgets.append(budget)
        if lost:
            raise LostTrajectoryError(lost)
        names = budgets[0].keys()
        return torch.stack(states)[:, None], {
            name: torch.stack([budget[name] for budget in budgets]) for name in names
        }

    def _linear_step(self, u: Tensor, which: int) -> tuple[Tensor, Budget]:
        if which not in self._propagators:
            self._propagators[which] = self._propagator(which)
        plan = self._propagators[which]
        weights = torch.as_tensor(plan.weights, device=u.device)
        total: Budget = {}
        for _ in range(plan.parts):
            states = _series(plan.operator, u, plan.lam, plan.coefficients)
            if plan.forced is not None:
                states = states + plan.forced
            rates = weak_rates(plan.operator, states[:-1], self._grid)
            for name, values in rates.items():
                total[name] = total.get(name, 0.0) + weights @ values
            u = states[-1]
        return u, total

    def _propagator(self, which: int) -> _Propagator:
        operator = self._operators[which]
        real, imag = (float(bound) for bound in operator.spectral_bounds())
        parts = self._parts(real)
        h = self._dt / parts
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        times = np.append(h * (nodes + 1) / 2, h)
        z = times * real / 2
        degree = chebyshev_degree(z[-1], ellipse_growth(real, imag))
        forcing = operator.forcing()
        forced = None
        if forcing is not None:
            integral = integral_coefficients(z, real, degree)
            forced = _series(operator, forcing[0], real, integral)
        return _Propagator(
            operator,
            parts,
            real,
            exponential_coefficients(z, degree),
            h * weights / 2,
            forced,
        )

    def _parts(self, lam: float) -> int:
        needed = lam * self._dt / LARGEST_PART
        if not needed <= MAX_PARTS:
            raise SimulationError(
                f"{needed:.3g} parts of a frame are needed, at most {MAX_PARTS}"
            )
        return self._refinement * max(1, math.ceil(needed))

    def _nonlinear_step(self, u: Tensor, which: int) -> tuple[Tensor, Budget]:
        operator, shape = self._operators[which], u.shape
        self._check_conductivity(operator, u)
        slope = 1 + operator.nonlinearity * u.max()
        lam = float(operator.spectral_bounds(slope)[0])
        parts = self._parts(lam)
        h = self._dt / parts
        names = list(weak_rates(operator, u[None], self._grid))
        rate_of = _rate(operator, u)

        def rate(y: Tensor) -> Tensor:
            v = y[: shape.numel()].view(shape)
            budget = weak_rates(operator, v[None], self._grid)
            return torch.cat([rate_of(v).flatten(), *budget.values()])

        y = torch.cat([u.flatten(), u.new_zeros(len(names))])
        for _ in range(parts):
            y = extrapolated_rkl2(rate, y, h, lam, RKL2_TOLERANCE)
        u = y[: shape.numel()].view(shape)
        self._check_conductivity(operator, u)
        return u, dict(zip(names, y[shape.numel() :], strict=True))

    @staticmethod
    def _check_conductivity(operator: FluxForm, u: Tensor) -> None:
        least = 1 + operator.nonlinearity * float(u.min())
        if not least > 0:
            raise SimulationError(
                f"nonlinear: 1 + strength * u fell to {least:.3g} where u is "
                f"{float(u.min()):.3g}"
            )


def _series(
    operator: FluxForm, u: Tensor, lam: float, coefficients: NDArray[np.float64]
) -> Tensor:
    """Return the Chebyshev series, compiled on the CPU and in torch elsewhere."""
    if u.device.type == "cpu":
        from pde_sym.kernels.flux_form import CompiledFluxForm

        compiled = CompiledFluxForm(operator)
        return torch.from_numpy(compiled.chebyshev_series(u.numpy(), lam, coefficients))

    def homogeneous(v: Tensor) -> Tensor:
        return operator.homogeneous(v[None])[0]

    return chebyshev_series(homogeneous, u, lam, coefficients)


def _rate(operator: FluxForm, u: Tensor):
    """Return the right-hand side as a function, compiled on the CPU."""
    forcing = operator.forcing()
    extra = 0.0 if forcing is None else forcing[0]
    if u.device.type == "cpu":
        from pde_sym.kernels.flux_form import CompiledFluxForm

        compiled = CompiledFluxForm(operator)
        return lambda v: torch.from_numpy(compiled.homogeneous(v.numpy())) + extra
    return lambda v: operator.rate(v[None])[0]
