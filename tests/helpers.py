"""Measuring tools, which `test_helpers.py` shows to catch faults, and random draws."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pde_sym.fields import FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.initial_conditions import InitialLaw
from pde_sym.symmetry import GroupElement, act
from pde_sym.systems.base import System


def observed_order(sizes: Sequence[float], errors: Sequence[float]) -> float:
    """Return the slope of log error against log step size, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])


def relative_defect(
    step: Callable[[Tensor], Tensor],
    state: Tensor,
    element: GroupElement,
    spec_in: FieldSpec,
    grid: PeriodicGrid,
    spec_out: FieldSpec | None = None,
) -> float:
    """Return ``||f(g x) - g f(x)|| / ||f(x)||``."""
    turned_after = act(element, step(state), spec_out or spec_in, grid)
    turned_before = step(act(element, state, spec_in, grid))
    return relative_difference(turned_before, turned_after)


def relative_difference(a: Tensor, b: Tensor) -> float:
    """Return ``||a - b|| / ||b||``."""
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


def random_environment(
    shape: tuple[int, ...], rng: np.random.Generator, low: float, high: float
) -> NDArray[np.float64]:
    """Return independent uniform values: no symmetry, and jumps at every face."""
    return rng.uniform(low, high, shape)


def no_environment(grid: PeriodicGrid) -> Tensor:
    """Return the environment of a system that has none, for any number of states."""
    return torch.empty((1, 0, *grid.shape), dtype=torch.float64)


def drawn_environment(
    system: System, grid: PeriodicGrid, seed: int | np.random.Generator = 0
) -> Tensor:
    """Draw one environment, ``(1, channels, x, y)``."""
    drawn = system.sample_environment(grid, np.random.default_rng(seed))
    return torch.from_numpy(drawn)[None]


def drawn_states(
    law: InitialLaw,
    grid: PeriodicGrid,
    count: int = 2,
    seed: int = 0,
    system: System | None = None,
) -> Tensor:
    """Draw initial states from one stream, ``(count, channels, x, y)``.

    All that the law draws, or what a system takes of it.
    """
    rng = np.random.default_rng(seed)
    drawn = [
        system.sample_initial(law, grid, rng) if system else law.sample(grid, rng)
        for _ in range(count)
    ]
    return torch.from_numpy(np.stack(drawn))
