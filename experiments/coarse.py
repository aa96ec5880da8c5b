"""The coarse solver, a floor of its own: the same physics on half the points per axis.

A state is cut to the modes of the coarse grid, stepped there and interpolated back by
its Fourier series.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pde_sym.config import Frozen
from pde_sym.errors import InputError, SimulationError
from pde_sym.evaluation import finite_series
from pde_sym.grid import PeriodicGrid, WalledGrid
from pde_sym.metrics import vrmse
from pde_sym.samples import Samples
from pde_sym.simulate import rollout


class Errors(Frozen):
    """Errors of one-frame steps and of rollouts on a test set."""

    one_step: float
    """VRMSE of every frame predicted from the one before it."""
    rollout: tuple[float, ...]
    """VRMSE of rollouts from frame 0, mean over trajectories, per step."""


def measure_errors(
    states: Tensor, step: Callable[[Tensor, Tensor], Tensor], num_axes: int
) -> Errors:
    """Return the errors of a step on ``(trajectories, frames, channels, *points)``.

    Parameters
    ----------
    step
        Maps states ``(batch, channels, *points)`` and the trajectories that they belong
        to, ``(batch,)``, to the states one frame later.

    Raises
    ------
    SimulationError
        When a rollout leaves the finite numbers.
    """
    number, frames = states.shape[:2]
    every = torch.arange(number)
    predicted = rollout(lambda u: step(u, every), states[:, 0], frames - 1)
    one_step = [
        vrmse(step(u[:-1], index.expand(frames - 1)), u[1:], num_axes).mean()
        for u, index in zip(states, every, strict=True)
    ]
    along = vrmse(predicted, states, num_axes)[:, 1:].double().mean(0)
    return Errors(
        one_step=float(torch.stack(one_step).double().mean()),
        rollout=finite_series(along, "VRMSE"),
    )


def coarse_errors(test: Samples) -> Errors | None:
    """Return the errors of the solver on half the points per axis.

    None for a body, which has no grid, and where the coarse grid cannot hold the
    physics.
    """
    grid, dynamics = test.grid, test.dynamics
    if grid.num_points == 1 or isinstance(grid, WalledGrid):
        return None
    points = min(grid.shape) // 2
    if points < 8 or points % 2:
        return None
    coarse = test.system.grid(points, grid.lengths[0])
    every_second = (..., *(slice(None, None, 2) for _ in grid.shape))
    environment = test.environment[every_second]
    kept = dynamics.fields.prognostic_channels

    def step(states: Tensor, index: Tensor) -> Tensor:
        solver = dynamics.solver(coarse, environment[index], test.dt)
        small = resampled(states.double(), coarse)
        after = solver(dynamics.complete(small, coarse))[:, kept]
        return resampled(after, grid).to(states.dtype)

    try:
        return measure_errors(test.states, step, grid.num_axes)
    except (InputError, SimulationError):
        return None


def resampled(states: Tensor, grid: PeriodicGrid) -> Tensor:
    """Return the Fourier series of states on the points of another grid.

    The modes that both grids hold are kept, the highest of an even number left out.
    """
    axes = tuple(range(-grid.num_axes, 0))
    spectrum = torch.fft.fftn(states, dim=axes, norm="forward")
    for axis, points in zip(axes, grid.shape, strict=True):
        before = spectrum.shape[axis]
        highest = (min(before, points) - 1) // 2
        shape = list(spectrum.shape)
        shape[axis] = points
        result = spectrum.new_zeros(shape)
        low = torch.arange(highest + 1)
        high = torch.arange(1, highest + 1)
        result.index_copy_(spectrum.ndim + axis, low, spectrum.index_select(axis, low))
        result.index_copy_(
            spectrum.ndim + axis,
            points - high,
            spectrum.index_select(axis, before - high),
        )
        spectrum = result
    return torch.fft.ifftn(spectrum, dim=axes, norm="forward").real
