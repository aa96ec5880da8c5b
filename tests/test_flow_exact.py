"""Breaking terms of the flow against solutions in closed form, and their limits."""

import itertools
import math

import numpy as np
import pytest
import torch
from flow_cases import (
    DT,
    EXACT,
    GRID,
    TERMS,
    environment_of,
    flow,
    states,
)
from helpers import relative_difference
from torch import Tensor

from pde_sym.grid import PeriodicGrid
from pde_sym.groups import GroupElement
from pde_sym.symmetry import act
from pde_sym.systems.flow import Flow
from pde_sym.systems.flow_terms import (
    Beta,
    Drag,
    Kolmogorov,
    MeanFlow,
    Obstacle,
    Viscosity,
)


def wave(mode: tuple[int, int], phase: float = 0.0) -> Tensor:
    x, y = GRID.mesh()
    k = 2 * np.pi * np.array(mode)
    angle = k[0] * x + k[1] * y + phase
    u, v = (part * np.sin(angle) / (k @ k) for part in (-k[1], k[0]))
    return torch.from_numpy(np.stack([u, v, np.cos(angle)]))[None]


@pytest.mark.parametrize("angle", [90.0, 30.0])
def test_rossby_wave_is_exact(angle: float) -> None:
    term, dt = Beta(strength=40.0, angle=angle), 0.5
    k = 2 * np.pi * np.array([2, 1])
    gx, gy = term.direction
    frequency = -term.strength * (gy * k[0] - gx * k[1]) / (k @ k)
    found = flow(term, dt=dt, viscosity=0.0)(wave((2, 1)))
    assert relative_difference(found, wave((2, 1), -frequency * dt)) <= 2e-12
    assert relative_difference(found, wave((2, 1), frequency * dt)) >= 0.1


def test_drag_of_one_wave_and_of_the_mean_is_exact() -> None:
    start = states(1)
    start = wave((2, 1)) + start.mean((-2, -1), keepdim=True)
    for mean in (True, False):
        found = flow(Drag(strength=2.0, mean=mean), viscosity=0.0)(start)
        decay = math.exp(-2.0 * DT)
        averages = start.mean((-2, -1)) * (decay if mean else 1.0)
        assert (found.mean((-2, -1)) - averages).abs().max() <= 1e-13
        assert float(found[:, 2].norm() / start[:, 2].norm()) == pytest.approx(
            decay, abs=1e-12
        )


def test_kolmogorov_flow_from_rest_is_exact() -> None:
    nu, dt, k = 0.02, 0.5, 2 * np.pi * 2
    rest = torch.zeros(1, 3, *GRID.shape, dtype=torch.float64)
    found = flow(Kolmogorov(strength=3.0), dt=dt, viscosity=nu)(rest)
    amplitude = 3.0 / (nu * k**2) * -math.expm1(-nu * k**2 * dt)
    y = torch.from_numpy(GRID.mesh()[1])
    assert (found[0, 0] - amplitude * torch.sin(k * y)).abs().max() <= 1e-12
    assert found[0, 1].abs().max() <= 1e-13


def test_topography_keeps_energy_and_the_square_of_q() -> None:
    term = TERMS["topography random"]
    system = Flow(breaking=(term,), viscosity=0.0)
    environment = environment_of(system)
    # Noise of few modes lies inside the modes that are kept, as the law needs.
    start = states()
    end = flow(term, viscosity=0.0, environment=environment, steps=40)(start)

    def casimirs(state: Tensor) -> Tensor:
        q = state[:, 2] + environment[:, 0]
        energy = state[:, :2].square().mean((-3, -2, -1))
        return torch.stack([energy, q.square().mean((-2, -1))])

    before, after = casimirs(start), casimirs(end)
    assert ((after - before) / before).abs().max() <= 1e-9
    w = [state[:, 2].square().mean((-2, -1)) for state in (start, end)]
    assert ((w[1] - w[0]) / w[0]).abs().max() >= 1e-4


@pytest.mark.parametrize("angle", [0.0, 30.0])
def test_mean_flow_is_an_exact_shift_of_the_intact_flow(angle: float) -> None:
    u, term = states(), MeanFlow(strength=0.8, angle=angle)
    moved = GroupElement(
        shift=(0.8 * term.direction[0] * DT, 0.8 * term.direction[1] * DT)
    )
    exact = act(moved, flow()(u), Flow().fields, GRID)
    assert relative_difference(flow(term)(u), exact) <= EXACT
    assert relative_difference(flow()(u), exact) >= 1e-3


def test_a_uniform_excess_of_viscosity_is_viscosity() -> None:
    """The explicit stress against the implicit Laplacian."""
    u = states()
    environment = torch.full((1, 1, *GRID.shape), 2.5e-3, dtype=torch.float64)
    found = flow(Viscosity(strength=1.0), environment=environment, steps=50)(u)
    exact = flow(viscosity=2.5e-3, steps=50)(u)
    assert relative_difference(found, exact) <= 1e-9
    assert relative_difference(found, flow(steps=50)(u)) >= 1e-3


def test_a_uniform_obstacle_is_drag() -> None:
    u = states()
    environment = torch.full((1, 1, *GRID.shape), 2.0, dtype=torch.float64)
    found = flow(Obstacle(strength=2.0), environment=environment, steps=50)(u)
    assert relative_difference(found, flow(Drag(strength=2.0), steps=50)(u)) <= 1e-9


def test_a_strong_obstacle_stops_the_flow_inside() -> None:
    speeds = []
    for strength in (1.0, 100.0, 1000.0):
        term = Obstacle(strength=strength, radius=0.25, width=0.05)
        phi, u = flow(term, dt=0.05), states(1)
        for _ in range(4):
            u = phi(u)
        middle = u[0, :2, 7:10, 7:10]
        speeds.append(float(middle.square().mean().sqrt()))
    assert speeds[0] > 10 * speeds[1] > 0
    assert speeds[1] > speeds[2]


def test_a_sharp_obstacle_tends_to_a_solid_with_the_root_of_its_strength() -> None:
    grid, dt = PeriodicGrid.square(64), 0.03
    x, y = (m - 0.5 for m in grid.mesh())
    disk = torch.from_numpy((np.hypot(x, y) < 0.25).astype(float))
    strengths = [100.0 * 2**i for i in range(5)]
    ends = []
    for strength in strengths:
        system = Flow(breaking=(Obstacle(strength=strength),), viscosity=0.1)
        phi = system.solver(grid, strength * disk[None, None], dt)
        ends.append(phi(states(1, grid=grid))[0, :2])
    steps = [float((a - b).norm()) for a, b in itertools.pairwise(ends)]
    slope = np.polyfit(np.log(strengths[:-1]), np.log(steps), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.12)


@pytest.mark.parametrize("name", ["viscosity", "obstacle", "topography", "beta 30"])
def test_a_great_strength_takes_more_steps_and_stays_finite(name: str) -> None:
    term = TERMS[name].model_copy(update={"strength": 30 * TERMS[name].strength})
    found = flow(term)(states())
    exact = flow(term, steps=200)(states())
    assert relative_difference(found, exact) <= 1e-5
