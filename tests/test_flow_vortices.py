"""Vortices with known speeds and published shear layers, on fine grids."""

import math

import numpy as np
import pytest
import torch
from helpers import no_environment
from scipy.special import j0, j1
from torch import Tensor

from pde_sym.grid import PeriodicGrid
from pde_sym.simulate import simulate
from pde_sym.systems.flow import Flow
from pde_sym.systems.flow_initial import DoubleShearLayer, state_of_vorticity
from pde_sym.systems.flow_kelvin import circle, circulation

FIRST_ZERO = 3.8317059702075125
"""Of J_1: the wavenumber of a Lamb-Chaplygin dipole of radius 1."""


def dipole(grid: PeriodicGrid) -> Tensor:
    """Return the dipole of radius and speed 1 that moves along x in free space.

    ``w = -2 k J_1(k r) / J_0(k) sin(theta)`` inside (Lamb, Hydrodynamics, art. 165).
    """
    x, y = (m - 4.0 for m in grid.mesh())
    r = np.hypot(x, y)
    inside = -2 * FIRST_ZERO * j1(FIRST_ZERO * r) / j0(FIRST_ZERO)
    omega = np.where(r < 1, inside * y / np.maximum(r, 1e-12), 0.0)
    return torch.from_numpy(state_of_vorticity(grid, omega, (0.0, 0.0)))[None]


def centroid(state: Tensor, grid: PeriodicGrid) -> float:
    """Return the mean x of the squared vorticity, away from the edge of the box."""
    weight = state[0, 2].square()
    return float((weight * torch.from_numpy(grid.mesh()[0])).sum() / weight.sum())


@pytest.mark.parametrize(("side", "resolution"), [(8.0, 192), (16.0, 256)])
def test_lamb_chaplygin_dipole(side: float, resolution: int) -> None:
    """Its speed is ``U (1 - pi R^2 / D^2)`` on a torus of side D without mean flow.

    The images of its impulse 2 pi R^2 U push back.
    """
    grid = PeriodicGrid.square(resolution, side)
    start = dipole(grid)
    end = Flow(viscosity=0.0).solver(grid, no_environment(grid), 1.0)(start)
    speed = centroid(end, grid) - centroid(start, grid)
    assert speed == pytest.approx(1 - math.pi / side**2, rel=3e-3)
    assert speed == pytest.approx(1 - math.pi / side**2, abs=0.1 * math.pi / side**2)
    # It keeps its shape: the largest vorticity and the enstrophy stay.
    for measure in (torch.Tensor.max, torch.Tensor.norm):
        before, after = (float(measure(state[0, 2])) for state in (start, end))
        assert after == pytest.approx(before, rel=0.02)


def test_numbers_of_the_dipole() -> None:
    grid = PeriodicGrid.square(256, 8.0)
    omega, y = dipole(grid)[0, 2], torch.from_numpy(grid.mesh()[1]) - 4.0
    cell = grid.cell_volume
    assert float(omega.max()) == pytest.approx(11.0713067, rel=1e-3)
    assert float(omega.square().sum()) * cell / 2 == pytest.approx(46.1247711, rel=1e-4)
    assert float(omega.clamp(min=0).sum()) * cell == pytest.approx(6.8308987, rel=5e-3)
    assert float((omega * y).sum()) * cell == pytest.approx(2 * math.pi, rel=1e-3)


def test_lamb_oseen_vortex() -> None:
    """``w = Gamma / (4 pi nu t) exp(-r^2 / 4 nu t) - Gamma / D^2``, images being far.

    The circulation inside a circle follows, ``Gamma (1 - exp(-r^2 / 4 nu t))``.
    """
    gamma, nu, side, begin, dt = 4.0, 0.02, 20.0, 6.0, 2.0
    grid = PeriodicGrid.square(128, side)
    x, y = (m - side / 2 for m in grid.mesh())
    square = x**2 + y**2

    def vortex(time: float) -> np.ndarray:
        core = gamma / (4 * math.pi * nu * time) * np.exp(-square / (4 * nu * time))
        return core - core.mean()

    start = torch.from_numpy(state_of_vorticity(grid, vortex(begin), (0.0, 0.0)))[None]
    end = Flow(viscosity=nu).solver(grid, no_environment(grid), dt)(start)
    error = np.abs(end[0, 2].numpy() - vortex(begin + dt)).max()
    assert error <= 1e-4 * vortex(begin + dt).max()
    assert np.abs(vortex(begin) - vortex(begin + dt)).max() >= 0.1 * vortex(begin).max()
    radius = 1.2
    inside = gamma * -math.expm1(-(radius**2) / (4 * nu * (begin + dt)))
    background = gamma * math.pi * radius**2 / side**2
    loop = circle((side / 2, side / 2), radius, markers=32)
    found = circulation(loop, end[0], grid)
    assert found == pytest.approx(inside - background, rel=1e-4)


TABLE = {
    30.0: {
        0.0: (0.43395837, 40.02467, 30.3142),
        0.8: (0.42789151, 35.76373, 28.3467),
        1.0: (0.42649076, 34.19095, 28.271),
        1.2: (0.42516213, 32.19232, 28.206),
    },
    80.0: {
        0.0: (0.47562500, 106.6913, 80.3142),
        0.8: (0.46258725, 62.4544, 59.018),
        1.0: (0.46028582, 52.9735, 58.565),
        1.2: (0.45831418, 46.0420, 58.102),
    },
}
"""Sharpness: time: energy, enstrophy, largest vorticity for a viscosity of 1e-4."""


@pytest.mark.slow
@pytest.mark.parametrize("sharpness", TABLE)
def test_double_shear_layer(sharpness: float) -> None:
    grid = PeriodicGrid.square(256)
    law = DoubleShearLayer(sharpness=sharpness, shifted=False)
    state = torch.from_numpy(law.sample(grid, np.random.default_rng(0)))[None]
    run = simulate(
        Flow(viscosity=1e-4), grid, state, no_environment(grid), dt=0.2, num_frames=7
    )
    for time, (energy, enstrophy, largest) in TABLE[sharpness].items():
        frame = round(time / 0.2)
        found = {name: float(value[0, frame]) for name, value in run.invariants.items()}
        assert found["energy"] == pytest.approx(energy, rel=1e-6)
        assert found["enstrophy"] == pytest.approx(enstrophy, rel=1e-6)
        top = float(run.states[0, frame, 2].abs().max())
        assert top == pytest.approx(largest, rel=5e-4)
