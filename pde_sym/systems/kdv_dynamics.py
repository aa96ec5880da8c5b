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

ADVECTIVE_STEP = 0.3
"""Largest ``6 h k_max sum |w_k|``: accuracy."""
DISPERSIVE_STEP = 1.0
"""Largest step times the rate of the explicit stiff terms: stability is lost at 2.8."""


class Modes:
    """The modes that a state keeps, and the way between them and the grid."""

    def __init__(self, grid: PeriodicGrid) -> None:
        if grid.num_axes != 1:
            raise InputError(f"KdV lives on 1 axis, got a grid of {grid.num_axes}")
        self.points, self.length = grid.shape[0], grid.lengths[0]
        self.highest = (self.points - 1) // 3
        if self.highest < 1:
            raise InputError(f"KdV needs 4 points or more, got {self.points}")
        modes = torch.arange(self.highest + 1, dtype=torch.float64)
        self.k = 2 * math.pi / self.length * modes
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
        self.strength = {term.kind: term.strength for term in terms}
        self.modulation = system.term(Modulation)
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

    def select(self, index: int) -> "Coefficients":
        """Return those of one trajectory, without a batch axis."""
        one = copy.copy(self)
        one.spectra = {name: s[index] for name, s in self.spectra.items()}
        return one

    def shifted(self, shift: Tensor) -> dict[str, Tensor]:
        """Return the spectra of the fields seen from a frame that moved by `shift`."""
        if not self.spectra:
            return {}
        angle = self.modes.k * shift
        phase = torch.polar(torch.ones_like(angle), angle)
        return {name: s * phase for name, s in self.spectra.items()}

    def clock(self, time: Tensor | float) -> Tensor | float:
        """Return ``strength cos(w t + p)`` of the modulated dispersion."""
        m = self.modulation
        assert m is not None, "no modulation"
        angle = m.frequency * time + math.radians(m.phase)
        cosine = torch.cos(angle) if isinstance(angle, Tensor) else math.cos(angle)
        return m.strength * cosine

    def linear(self) -> Tensor:
        """Return the symbol of the linear part of w, then that of mean, shift, time."""
        k, eps = self.modes.k[1:], self.strength.get
        damping = eps("damping", 0.0)
        decay = -damping - eps("viscosity", 0.0) * k**2
        turning = k**3 - eps("kawahara", 0.0) * k**5
        rest = torch.tensor([-damping, 0.0, 0.0], dtype=torch.complex128)
        return torch.cat([torch.complex(decay, turning), rest])

    def stiffness(self, w: Tensor, mean: float, dt: float) -> float:
        """Return the steps that a frame needs, as a real number.

        All bounds are sums of spectral amplitudes, which shifts leave alone.
        """

        def total(spectrum: Tensor) -> float:
            return 2 * float(spectrum.abs().sum())

        eps, s = self.strength.get, self.spectra
        top = float(self.modes.k[-1])
        size = total(w) + dt * (total(s["forcing"]) if "forcing" in s else 0.0)
        peak = size + abs(mean)
        speed = 6 * size + eps("gardner", 0.0) * peak**2 + eps("quartic", 0.0) * peak**3
        if "potential" in s:
            speed += total(s["potential"])
        third = eps("modulation", 0.0)
        if "dispersion" in s:
            third += total(s["dispersion"])
        if "speed" in s:
            speed += total(s["speed"]) + peak * total(s["slope"])
            third += total(s["width"])
        turns = self.modulation.frequency if "modulation" in self.strength else 0.0  # type: ignore[union-attr]
        accuracy = (top * speed + turns) / ADVECTIVE_STEP
        return dt * (accuracy + third * top**3 / DISPERSIVE_STEP)


_FACTORS = {"quartic": 4, "bathymetry": 3, "gardner": 3, "potential": 2}


def budget_rates(
    c: Coefficients, spectrum: Tensor, fields: dict[str, Tensor], time: float
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
    if not c.strength:
        zero = torch.zeros_like(spectrum[..., 0].real)
        return {f"P{n}": zero for n in INTEGRALS}
    variations = {n: variation(n) for n in INTEGRALS}
    factors = max(degree(p) for p in variations.values())
    factors += max(_FACTORS.get(kind, 2) for kind in c.strength)
    points = fine_points(c.modes.points, c.modes.highest, factors)
    highest = max(5, *(highest_order(p) for p in variations.values()))
    u = derivatives(spectrum, c.modes.k, points, highest)
    added = _added(c, u, fields, time)
    return {
        f"P{n}": c.modes.length * (evaluate(p, u) * added).mean(-1)
        for n, p in variations.items()
    }


def _added(
    c: Coefficients, u: list[Tensor], fields: dict[str, Tensor], time: float
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
        rate = rate - c.clock(time) * u[3]
    rate = rate - eps("damping", 0.0) * u[0] + eps("viscosity", 0.0) * u[2]
    rate = rate - eps("kawahara", 0.0) * u[5] + eps("frame", 0.0) * u[1]
    squared = u[0] * u[0] * u[1]
    return rate - squared * (eps("gardner", 0.0) + eps("quartic", 0.0) * u[0])


def hamiltonian(
    system: KdV, u: Tensor, grid: PeriodicGrid, environment: Tensor
) -> Tensor:
    """Return the energy of states ``(batch, N)``; see `KdV.hamiltonian`."""
    modes = Modes(grid)
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
