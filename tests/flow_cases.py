"""Terms of the flow, states and solvers that its tests share."""

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pde_sym.grid import PeriodicGrid
from pde_sym.groups import GroupElement, point_group
from pde_sym.systems.flow import Flow
from pde_sym.systems.flow_initial import RandomVorticity
from pde_sym.systems.flow_solver import FlowSolver
from pde_sym.systems.flow_terms import (
    Beta,
    Drag,
    FlowTerm,
    Kolmogorov,
    MeanFlow,
    Obstacle,
    Topography,
    Viscosity,
)

GRID = PeriodicGrid.square(16)
DT = 0.02
EXACT, BROKEN = 1e-12, 1e-5

TERMS: dict[str, Any] = {
    "beta": Beta(strength=30.0),
    "beta 0": Beta(strength=30.0, angle=0),
    "beta 45": Beta(strength=30.0, angle=45),
    "beta 30": Beta(strength=30.0, angle=30),
    "drag": Drag(strength=2.0),
    "drag of eddies": Drag(strength=2.0, mean=False),
    "kolmogorov": Kolmogorov(strength=3.0),
    "kolmogorov 3": Kolmogorov(strength=3.0, mode=3),
    "topography": Topography(strength=10.0),
    "topography random": Topography(strength=10.0, profile="random"),
    "mean_flow": MeanFlow(strength=0.8),
    "mean_flow 45": MeanFlow(strength=0.8, angle=45),
    "mean_flow 30": MeanFlow(strength=0.8, angle=30),
    "viscosity": Viscosity(strength=3.0),
    "obstacle": Obstacle(strength=20.0, width=0.05),
}
ELEMENTS = [
    GroupElement(g.turns, g.flip, shift)
    for g, shift in itertools.product(
        point_group("D4"), ((0.0, 0.0), (0.25, 0.0), (0.0, 0.1877))
    )
    if shift == (0.0, 0.0) or g == GroupElement()
]


def environment_of(system: Flow, grid: PeriodicGrid = GRID, seed: int = 5) -> Tensor:
    drawn = system.sample_environment(grid, np.random.default_rng(seed))
    return torch.from_numpy(drawn)[None]


def states(count: int = 2, seed: int = 3, grid: PeriodicGrid = GRID) -> Tensor:
    rng = np.random.default_rng(seed)
    law = RandomVorticity(modes=3, mean=0.6)
    return torch.from_numpy(np.stack([law.sample(grid, rng) for _ in range(count)]))


def flow(
    *terms: FlowTerm,
    dt: float = DT,
    steps: int | None = None,
    viscosity: float = 1e-3,
    environment: Tensor | None = None,
) -> FlowSolver:
    system = Flow(breaking=terms, viscosity=viscosity)  # type: ignore[arg-type]
    if environment is None:
        environment = environment_of(system)
    return FlowSolver(system, GRID, environment, dt, steps)
