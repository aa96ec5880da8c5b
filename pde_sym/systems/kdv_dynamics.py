"""The terms of KdV on the grid, their budgets and their energy."""

import copy
import math

import torch
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.grid import PeriodicGrid
from pde_sym.systems.base import Budget
from pde_sym.systems.kdv import KdV
from pde_sym.systems.kdv_integrals import (
    INTEGRALS,
    degree,
    derivatives,
    evaluate,
    fine_points,
    highest_order,
    variation,
)
from pde_sym.systems.kdv_terms import Modulation

ADVECTIVE_STEP = 0.25
"""Largest ``6 h k_max sum |w_k|``: accuracy."""
DISPERSIVE_STEP = 2.0
"""Largest step times the rate of the explicit stiff terms: accuracy."""
STABLE_STEP = 2.8
"""Largest step times all explicit rates: stability, as of Runge and Kutta's method."""
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


class Modes:
    """The modes that a state keeps, and the way between them and the grid."""

    def __init__(self, grid: PeriodicGrid, device: torch.device | None = None) -> None:
        if grid.num_axes != 1:
            raise InputError(f"KdV lives on 1 axis, got a grid of {grid.num_axes}")
        self.points: int = grid.shape[0]
        self.length: float = grid.lengths[0]
        self.highest: int = (self.points - 1) // 3
        if self.highest < 1:
            raise InputError(f"KdV needs 4 points or more, got {self.points}")
        modes = torch.arange(self.highest + 1, dtype=torch.float64, device=device)
        self.k: Tensor = 2 * math.pi / self.length * modes
        """``2 pi m / L`` of the modes 0 .. highest."""

    def spectrum(self, values: Tensor) -> Tensor:
        """Return the kept coefficients ``(.., modes)`` of values ``(.., N)``."""
        return torch.fft.rfft(values, norm="forward")[..., : self.highest + 1]

    def values(self, spectrum: Tensor, points: int) -> Tensor:
        return torch.fft.irfft(spectrum, n=points, norm="forward")


class Coefficients:
    """The terms of one system with their spectra, for one or several trajectories.

    Parameters
    ----------
    system, modes
        Equation, and modes of the grid.
    environment
        ``(batch, channels, N)`` in float64.
    """

    def __init__(self, system: KdV, modes: Modes, environment: Tensor) -> None:
        names = system.environment_fields.names
        expected = (len(names), modes.points)
        if environment.ndim != 3 or environment.shape[1:] != expected:
            raise InputError(
                f"expected an environment (batch, {expected[0]}, {expected[1]}) for "
                f"{names}, got {tuple(environment.shape)}"
            )
        self.modes = modes
        terms = [term for term in system.breaking if term.strength > 0]
        self.strength: dict[str, float] = {term.kind: term.strength for term in terms}
        self.modulation: Modulation | None = system.term(Modulation)
        fields = dict(zip(names, environment.unbind(1), strict=True))
        self.spectra: dict[str, Tensor] = {}
        for kind in ("potential", "forcing"):
            if kind in self.strength:
                self.spectra[kind] = modes.spectrum(fields[kind])
        if "dispersion" in self.strength:
            self.spectra["dispersion"] = modes.spectrum(fields["dispersion"] - 1)
        if "bathymetry" in self.strength:
            depth = fields["depth"]
            if not depth.min() > 0:
                raise InputError(
                    f"bathymetry: the depth must be > 0, got {float(depth.min()):g}: "
                    "lower its strength"
                )
            self.spectra["speed"] = modes.spectrum(depth.sqrt() - 1)
            self.spectra["slope"] = modes.spectrum(6 * depth**-0.5 - 6)
            self.spectra["width"] = modes.spectrum(depth**2.5 - 1)

    def select(self, rows: Tensor) -> "Coefficients":
        """Return those of some trajectories; one environment serves them all."""
        some = copy.copy(self)
        some.spectra = {
            name: s if len(s) == 1 else s[rows] for name, s in self.spectra.items()
        }
        return some

    def numbers(self) -> dict[str, float]:
        """Return the strengths and, of a modulation, frequency and phase in radians."""
        m = self.modulation
        if "modulation" not in self.strength or m is None:
            return self.strength
        clock = {"frequency": m.frequency, "phase": math.radians(m.phase)}
        return self.strength | clock

    def shifted(self, shift: Tensor) -> dict[str, Tensor]:
        """Return the spectra of the fields seen from frames that moved by `shift`."""
        if not self.spectra:
            return {}
        angle = self.modes.k * shift[..., None]
        phase = torch.polar(torch.ones_like(angle), angle)
        return {name: s * phase for name, s in self.spectra.items()}

    def clock(self, time: Tensor) -> Tensor:
        """Return ``strength cos(w t + p)`` of the modulated dispersion."""
        eps = self.numbers()
        angle = eps["frequency"] * time + eps["phase"]
        return eps["modulation"] * torch.cos(angle)

    def linear(self) -> Tensor:
        """Return the symbol of the linear part of w, then that of mean, shift, time."""
        k, eps = self.modes.k[1:], self.strength.get
        damping = eps("damping", 0.0)
        decay = -damping - eps("viscosity", 0.0) * k**2
        turning = k**3 - eps("kawahara", 0.0) * k**5
        rest = torch.tensor([-damping, 0, 0], dtype=torch.complex128, device=k.device)
        return torch.cat([torch.complex(decay, turning), rest])

    def stiffness(self, size: Tensor, mean: Tensor, dt: float) -> tuple[Tensor, Tensor]:
        """Return the steps of a frame to be accurate and to be stable, ``(rows,)``.

        All bounds are sums of spectral amplitudes, which shifts leave alone.

        Parameters
        ----------
        size, mean
            ``sum |w_k|`` over all k of either sign, and the mean.
        dt
            Length of the frame.
        """

        def total(name: str) -> Tensor:
            return 2 * self.spectra[name].abs().sum(-1)

        eps, s = self.strength.get, self.spectra
        top = float(self.modes.k[-1])
        if "forcing" in s:
            size = size + dt * total("forcing")
        peak = size + mean.abs()
        steeper = eps("gardner", 0.0) + eps("quartic", 0.0) * peak
        speed = 6 * size + steeper * peak * peak
        third = torch.full_like(size, eps("modulation", 0.0))
        if "potential" in s:
            speed = speed + total("potential")
        if "dispersion" in s:
            third = third + total("dispersion")
        if "speed" in s:
            speed = speed + total("speed") + peak * total("slope")
            third = third + total("width")
        turns = self.numbers().get("frequency", 0.0)
        advective, dispersive = dt * (top * speed + turns), dt * third * top**3
        # Short waves of k^2 = 1 / kawahara keep up with long ones and feed on them.
        resonance = 1 + 3 * min(1.0, eps("kawahara", 0.0) * top**2)
        accurate = resonance * advective / ADVECTIVE_STEP
        accurate = accurate + dispersive / DISPERSIVE_STEP
        return accurate, (advective + dispersive) / STABLE_STEP

    def budget_points(self) -> int:
        """Return the points on which no rate has aliasing; 0 when all rates are zero.

        The flow of KdV itself changes no integral, and a moving frame none either.
        """
        kinds = set(self.strength) - {"frame"}
        if not kinds:
            return 0
        factors = max(degree(variation(n)) for n in INTEGRALS)
        factors += max(_FACTORS.get(kind, 2) for kind in kinds)
        return fine_points(self.modes.points, self.modes.highest, factors)


_FACTORS = {"quartic": 4, "bathymetry": 3, "gardner": 3, "potential": 2}


def budget_rates(
    c: Coefficients, spectrum: Tensor, fields: dict[str, Tensor], time: Tensor
) -> Budget:
    """Return ``d int P_n / dt = int (dP_n/du) R``, R written out point by point.

    The flow of KdV itself adds nothing to it. The fluxes of the solver do not appear.

    Parameters
    ----------
    c
        Terms and their strengths.
    spectrum
        Kept coefficients of the state, ``(.., modes)``.
    fields
        Spectra of the fields that the terms need, in the frame of the state.
    time
        Time since frame 0.
    """
    points = c.budget_points()
    if not points:
        zero = torch.zeros_like(spectrum[..., 0].real)
        return {f"P{n}": zero for n in INTEGRALS}
    variations = {n: variation(n) for n in INTEGRALS}
    highest = max(5, *(highest_order(p) for p in variations.values()))
    u = derivatives(spectrum, c.modes.k, points, highest)
    added = _added(c, u, fields, time)
    return {
        f"P{n}": c.modes.length * (evaluate(p, u) * added).mean(-1)
        for n, p in variations.items()
    }


def _added(
    c: Coefficients, u: list[Tensor], fields: dict[str, Tensor], time: Tensor
) -> Tensor:
    """Return R, the right-hand side less that of KdV, by the rules of products."""
    eps, k, points = c.strength.get, c.modes.k, u[0].shape[-1]
    rate = torch.zeros_like(u[0])
    if "potential" in fields:
        v, vx = derivatives(fields["potential"], k, points, 1)
        rate = rate - vx * u[0] - v * u[1]
    if "dispersion" in fields:
        v, vx, vxx = derivatives(fields["dispersion"], k, points, 2)
        rate = rate - vxx * u[1] - 2 * vx * u[2] - v * u[3]
    if "forcing" in fields:
        rate = rate + derivatives(fields["forcing"], k, points, 0)[0]
    if "speed" in fields:
        speed, speed_x = derivatives(fields["speed"], k, points, 1)
        slope = derivatives(fields["slope"], k, points, 0)[0]
        width = derivatives(fields["width"], k, points, 0)[0]
        rate = rate - speed * u[1] - speed_x * u[0] / 2
        rate = rate - slope * u[0] * u[1] - width * u[3]
    if "modulation" in c.strength:
        rate = rate - c.clock(time)[..., None] * u[3]
    rate = rate - eps("damping", 0.0) * u[0] + eps("viscosity", 0.0) * u[2]
    rate = rate - eps("kawahara", 0.0) * u[5] + eps("frame", 0.0) * u[1]
    squared = u[0] * u[0] * u[1]
    return rate - squared * (eps("gardner", 0.0) + eps("quartic", 0.0) * u[0])


def hamiltonian(
    system: KdV, u: Tensor, grid: PeriodicGrid, environment: Tensor
) -> Tensor:
    """Return the energy of states ``(batch, N)``; see `KdV.hamiltonian`."""
    modes = Modes(grid, u.device)
    c = Coefficients(system, modes, environment)
    points, k, eps = 2 * modes.points, modes.k, c.strength.get
    v, vx, vxx = derivatives(modes.spectrum(u), k, points, 2)
    density = vx**2 / 2 - v**3 - eps("kawahara", 0.0) * vxx**2 / 2
    density = density - v**4 * (eps("gardner", 0.0) / 12 + eps("quartic", 0.0) * v / 20)
    density = density + eps("frame", 0.0) * v**2 / 2
    if "potential" in c.spectra:
        density = density - modes.values(c.spectra["potential"], points) * v**2 / 2
    if "dispersion" in c.spectra:
        density = density + modes.values(c.spectra["dispersion"], points) * vx**2 / 2
    if "forcing" in c.spectra:
        primitive = torch.zeros_like(c.spectra["forcing"])
        primitive[..., 1:] = c.spectra["forcing"][..., 1:] / (1j * k[1:])
        density = density + modes.values(primitive, points) * v
    return modes.length * density.mean(-1)
