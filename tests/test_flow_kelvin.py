"""Kelvin's theorem for loops that the flow carries, kept and broken."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers import drawn_environment, drawn_states, no_environment
from scipy.integrate import simpson
from torch import Tensor

from pde_sym.grid import PeriodicGrid
from pde_sym.symmetry import fourier_shift
from pde_sym.systems.flow import Flow
from pde_sym.systems.flow_initial import RandomVorticity
from pde_sym.systems.flow_kelvin import (
    carried,
    circle,
    circulation,
    velocity_at,
    viscous_rate,
)
from pde_sym.systems.flow_terms import (
    Beta,
    Buoyancy,
    Drag,
    Kolmogorov,
    Obstacle,
    Topography,
    Viscosity,
)

GRID = PeriodicGrid.square(96)
DT, STEPS = 0.005, 20
LOOP = circle((0.4, 0.55), 0.2, markers=128)


def start(grid: PeriodicGrid = GRID, mean: float = 0.0) -> Tensor:
    return drawn_states(RandomVorticity(mean=mean), grid, count=1)[0]


def end(system: Flow, steps: int = STEPS, mean: float = 0.0) -> tuple[Tensor, Tensor]:
    environment = drawn_environment(system, GRID)
    *_, last = carried(system, GRID, environment, start(mean=mean), LOOP, DT, steps)
    return last


def change(system: Flow, steps: int = STEPS, mean: float = 0.0) -> float:
    """Return the relative change of the circulation of the loop."""
    before = circulation(LOOP, start(mean=mean), GRID)
    state, points = end(system, steps, mean)
    return abs(circulation(points, state, GRID) - before) / abs(before)


@pytest.mark.parametrize("mean", [0.0, 0.8])
def test_euler_keeps_the_circulation_of_a_carried_loop(mean: float) -> None:
    assert change(Flow(viscosity=0.0), mean=mean) <= 1e-7
    # It has moved, and the loop that stays behind does not keep its own.
    state, points = end(Flow(viscosity=0.0), mean=mean)
    assert (points - LOOP).norm(dim=1).max() >= 0.05
    before = circulation(LOOP, start(mean=mean), GRID)
    assert abs(circulation(LOOP, state, GRID) - before) >= 1e-2 * abs(before)


def test_viscosity_changes_it_by_the_law() -> None:
    system, numbers, rates = Flow(viscosity=5e-3), [], []
    environment = no_environment(GRID)
    for state, points in carried(system, GRID, environment, start(), LOOP, DT, 40):
        numbers.append(circulation(points, state, GRID))
        rates.append(viscous_rate(points, state, GRID, system.viscosity))
    explained = float(simpson(rates, dx=DT))
    assert abs(numbers[-1] - numbers[0] - explained) <= 1e-7 * abs(numbers[0])
    assert abs(explained) >= 0.05 * abs(numbers[0])


BREAKING: dict[str, Any] = {
    "topography": Topography(strength=1.0),
    "obstacle": Obstacle(strength=1.0),
    "drag": Drag(strength=0.1),
    "kolmogorov": Kolmogorov(strength=1.0),
    "beta": Beta(strength=10.0),
}


@pytest.mark.parametrize("name", BREAKING)
def test_a_force_that_is_no_gradient_breaks_it(name: str) -> None:
    assert change(Flow(viscosity=0.0, breaking=(BREAKING[name],))) >= 1e-4


def test_a_variable_viscosity_breaks_the_law_of_the_uniform_one() -> None:
    kept, broken = (
        end(Flow(viscosity=1e-3, breaking=terms))
        for terms in ((), (Viscosity(strength=3.0),))
    )
    numbers = [circulation(points, state, GRID) for state, points in (kept, broken)]
    assert abs(numbers[0] - numbers[1]) >= 1e-3 * abs(numbers[0])


def test_lift_changes_it_by_the_tracer_around_the_loop() -> None:
    """``dGamma/dt = eps oint b dy``, from the change over a short time."""
    term = Buoyancy(strength=5.0, angle=90.0)
    carrying = Flow(tracer=True)
    state = drawn_states(RandomVorticity(), GRID, count=1, system=carrying)[0]
    ends = []
    for terms in ((term,), ()):
        system = Flow(viscosity=0.0, tracer=True, breaking=terms)
        *_, last = carried(system, GRID, no_environment(GRID), state, LOOP, 1e-4, 1)
        ends.append(circulation(last[1], last[0], GRID))
    # The tracer in the place of the vertical velocity: its circulation is oint b dy.
    lifted = torch.stack([torch.zeros_like(state[3]), state[3]])
    exact = term.strength * circulation(LOOP, lifted, GRID)
    assert (ends[0] - ends[1]) / 1e-4 == pytest.approx(exact, rel=1e-2)


def test_the_velocity_between_grid_points_is_the_shifted_field() -> None:
    state, shift = start(mean=0.8), (0.123, 0.0457)
    moved = fourier_shift(state, shift)
    x, y = (torch.from_numpy(m) for m in GRID.mesh())
    points = torch.stack([x - shift[0], y - shift[1]], dim=-1)[::7, ::11].flatten(0, 1)
    found = velocity_at(points, state, GRID)
    exact = moved[:2, ::7, ::11].flatten(1).T
    assert (found - exact).abs().max() <= 1e-13


def test_the_circulation_is_the_vorticity_inside() -> None:
    """Stokes, for ``u = (0, sin k x)``: ``2 pi r J_1(k r) cos k x_0``."""
    from scipy.special import j1

    k, radius = 4 * math.pi, 0.17
    x = GRID.mesh()[0]
    state = torch.from_numpy(np.stack([0 * x, np.sin(k * x), k * np.cos(k * x)]))
    for centre in (0.0, 0.1, 0.35):
        loop = circle((centre, 0.3), radius, markers=64)
        exact = 2 * math.pi * radius * j1(k * radius) * math.cos(k * centre)
        assert circulation(loop, state, GRID) == pytest.approx(exact, abs=1e-13)
        decay = viscous_rate(loop, state, GRID, 0.3)
        assert decay == pytest.approx(-0.3 * k**2 * exact, abs=1e-11)


def test_the_markers_move_to_order_four() -> None:
    """In a steady cell of Euler's flow."""
    x, y = (2 * np.pi * m for m in GRID.mesh())
    psi_like = np.cos(x) * np.cos(y)
    swirl = np.stack(
        [-np.cos(x) * np.sin(y), np.sin(x) * np.cos(y), 4 * np.pi * psi_like]
    )
    state, loop = torch.from_numpy(swirl), circle((0.1, 0.05), 0.1, markers=8)
    ends = []
    for steps in (4, 8, 16, 64):
        *_, last = carried(
            Flow(viscosity=0.0), GRID, no_environment(GRID), state, loop,
            0.4 / steps, steps,
        )  # fmt: skip
        ends.append(last[1])
    errors = [float((one - ends[-1]).norm()) for one in ends[:-1]]
    order = np.polyfit(np.log([4, 8, 16]), np.log(errors), 1)[0]
    assert -order == pytest.approx(4.0, abs=0.4)
