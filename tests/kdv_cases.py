"""Breaking terms of KdV at one strength, and states, flows and motions to try them."""

import numpy as np
import torch
from torch import Tensor

from pde_sym.grid import PeriodicGrid
from pde_sym.systems.kdv import AnyKdVTerm, KdV
from pde_sym.systems.kdv_solutions import RandomWaves
from pde_sym.systems.kdv_solver import KdVSolver
from pde_sym.systems.kdv_terms import (
    Bathymetry,
    Damping,
    Dispersion,
    Forcing,
    Frame,
    Gardner,
    Kawahara,
    Modulation,
    Potential,
    Quartic,
    Viscosity,
)

LENGTH = 32.0
GRID, FINE = KdV.grid(128, LENGTH), KdV.grid(256, LENGTH)
DT, STEPS = 0.2, 60
EXACT, CLOSE, BROKEN = 1e-12, 2e-9, 1e-6
"""Relative size of round-off, of the error of the steps, and of what breaks."""

TERMS: dict[str, AnyKdVTerm] = {
    "potential": Potential(strength=0.3),
    "dispersion": Dispersion(strength=0.3),
    "damping": Damping(strength=0.2),
    "viscosity": Viscosity(strength=0.1),
    "forcing": Forcing(strength=0.2),
    "forcing balanced": Forcing(strength=0.2, balanced=True),
    "forcing wave": Forcing(strength=0.2, profile="wave"),
    "kawahara": Kawahara(strength=0.05),
    "quartic": Quartic(strength=1.0),
    "modulation": Modulation(strength=0.4, frequency=3.0),
    "bathymetry": Bathymetry(strength=0.3),
    "gardner": Gardner(strength=2.0),
    "frame": Frame(strength=1.5),
}
NAMES = [None, *TERMS]


def system_of(name: str | None) -> KdV:
    return KdV(breaking=() if name is None else (TERMS[name],))


def environment_of(system: KdV, grid: PeriodicGrid = GRID) -> Tensor:
    drawn = system.sample_environment(grid, np.random.default_rng(5))
    return torch.from_numpy(drawn)[None]


def states(count: int = 2, seed: int = 3, grid: PeriodicGrid = GRID) -> Tensor:
    """Draw states that the grid resolves to round-off over a few frames."""
    rng, law = np.random.default_rng(seed), RandomWaves(modes=3, amplitude=0.2)
    return torch.from_numpy(np.stack([law.sample(grid, rng) for _ in range(count)]))


def flow(
    system: KdV, dt: float = DT, environment: Tensor | None = None, steps: int = STEPS
) -> KdVSolver:
    if environment is None:
        environment = environment_of(system)
    return KdVSolver(system, GRID, environment, dt, steps=steps)


def shifted(u: Tensor, by: float) -> Tensor:
    """Return u(x - by L) of states below N/2, by Fourier."""
    m = torch.arange(u.shape[-1] // 2 + 1, dtype=torch.float64)
    phase = torch.exp(-2j * torch.pi * m * by)
    return torch.fft.irfft(torch.fft.rfft(u) * phase, n=u.shape[-1])


def reflected(u: Tensor) -> Tensor:
    """Return u(-x)."""
    return u.flip(-1).roll(1, -1)


def squeezed(u: Tensor) -> Tensor:
    """Return 4 u(2 x), which lives on the same box."""
    return 4 * u[..., 2 * torch.arange(u.shape[-1]) % u.shape[-1]]
