"""How much a map breaks a symmetry, and how far invariants drift.

Every function takes a step ``f``, the solver's or a surrogate's, and states
``(batch, channels, x, y)``; model and data are measured by the same quantity on the
same inputs.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from pde_sym.fields import FieldSpec
from pde_sym.grid import PeriodicGrid, WalledGrid
from pde_sym.simulate import Step
from pde_sym.symmetry import (
    Group,
    GroupElement,
    act,
    fourier_shift,
    point_group,
)
from pde_sym.systems.base import Budget
from pde_sym.systems.ensemble import Dynamics

CANCELLED = 1e-6
"""An invariant below this part of the size of its terms is zero but for the round-off
of float32 files."""


class Motion(Protocol):
    """An element of a symmetry group: of the plane's, or of another system's own."""

    @property
    def name(self) -> str: ...
    def inverse(self) -> Self: ...


G = TypeVar("G", bound=Motion)


@dataclass(frozen=True)
class Action:
    """The action of plane symmetries on states of one kind.

    A step may read more than it returns: a state beside given fields, which move
    with it. Then `before` is the action on what it reads.
    """

    spec: FieldSpec
    grid: PeriodicGrid

    def __call__(self, element: GroupElement, state: Tensor) -> Tensor:
        return act(element, state, self.spec, self.grid)


@dataclass(frozen=True)
class Defect(Generic[G]):
    """The relative equivariance defect of a map under one element.

    Parameters
    ----------
    element
        The group element g.
    mean
        ``E ||f(g x) - g f(x)|| / ||f(x)||`` over the inputs.
    largest
        The largest value over the inputs, a lower bound on the sup norm.
    """

    element: G
    mean: float
    largest: float


def turned_back(
    step: Step,
    states: Tensor,
    elements: Iterable[G],
    action: Callable[[G, Tensor], Tensor],
    before: Callable[[G, Tensor], Tensor] | None = None,
) -> Tensor:
    """Return ``g^-1 f(g x)`` per element, ``(elements, batch, channels, x, y)``."""
    move = before or action
    return torch.stack([action(g.inverse(), step(move(g, states))) for g in elements])


def defects(
    step: Step,
    states: Tensor,
    elements: Sequence[G],
    action: Callable[[G, Tensor], Tensor],
    before: Callable[[G, Tensor], Tensor] | None = None,
) -> list[Defect[G]]:
    """Return the defect of `step` under each element, which `action` leaves the norm.

    `before` is the action on what the step reads, where that is more than a state.
    """
    plain = step(states)
    scale = _norm(plain)
    result = []
    for g in elements:
        # g is orthogonal: ||f(g x) - g f(x)|| = ||g^-1 f(g x) - f(x)||.
        (back,) = turned_back(step, states, [g], action, before)
        relative = _norm(back - plain) / scale
        result.append(Defect(g, float(relative.mean()), float(relative.max())))
    return result


def breaking_spectrum(
    step: Step,
    states: Tensor,
    group: Group,
    action: Callable[[Any, Tensor], Tensor],
    before: Callable[[Any, Tensor], Tensor] | None = None,
) -> dict[str, float]:
    """Return ``E ||f_sigma||^2 / sum_tau E ||f_tau||^2`` by irrep of `group`.

    ``f_sigma(x) = d / (c |G|) sum_g chi_sigma(g) g^-1 f(g x)``; a map is equivariant
    if and only if all but the trivial share vanish.
    """
    parts = turned_back(step, states, group.elements, action, before)
    energy = {
        irrep.name: float(group.project(irrep, parts).square().sum())
        for irrep in group.irreps
    }
    total = sum(energy.values())
    return {name: value / total for name, value in energy.items()}


def strict_floor(
    step: Step,
    states: Tensor,
    elements: Sequence[GroupElement],
    action: Callable[[Any, Tensor], Tensor],
    before: Callable[[Any, Tensor], Tensor] | None = None,
) -> float:
    """Return the relative error that no equivariant map can go under.

    ``sqrt(E ||f(g x) - (P f)(g x)||^2 / E ||f(g x)||^2)`` over the inputs and all their
    images, with ``P f = mean_g g^-1 f(g .)``; `elements` must form a group.
    """
    parts = turned_back(step, states, elements, action, before)
    spread = (parts - parts.mean(0)).square().sum()
    return float((spread / parts.square().sum()).sqrt())


def probes(grid: PeriodicGrid) -> tuple[GroupElement, ...]:
    """Return what defects are measured under: D4 without e, and three shifts.

    The shifts are by one point along each axis, and by a quarter of the box, or the
    multiple of the spacing next below, along both. On a line they are by one point,
    by a quarter, and by a third of the spacing. Between walls there are none.
    """
    if grid.num_axes == 1:
        (n,) = grid.shape
        shifts = (1 / n, n // 4 / n, 1 / (3 * n))
        return tuple(GroupElement(shift=(shift, 0.0)) for shift in shifts)
    n_x, n_y = grid.shape
    shifts = ((1 / n_x, 0.0), (0.0, 1 / n_y), (n_x // 4 / n_x, n_y // 4 / n_y))
    turns_and_flips = point_group("D4").elements[1:]
    if isinstance(grid, WalledGrid):
        return turns_and_flips
    return (*turns_and_flips, *(GroupElement(shift=shift) for shift in shifts))


def semidirect(first: Group, second: Group) -> tuple[GroupElement, ...]:
    """Return all products ``h k``: a group when `first` normalises `second`."""
    return tuple(h @ k for h in first for k in second)


def translation_lie_derivative(
    step: Step, states: Tensor, fraction: float = 1e-3
) -> float:
    """Return ``E ||L f|| / ||f||`` for the generator of shifts, both axes together.

    ``L_i f(x) = d/ds g(-s e_i) f(g(s e_i) x)`` at s = 0 in box lengths, by a central
    difference of Fourier shifts.
    """

    def shifted(shift: tuple[float, float]) -> Tensor:
        back = (-shift[0], -shift[1])
        return fourier_shift(step(fourier_shift(states, shift)), back)

    square = states.new_zeros(len(states))
    for ahead in ((fraction, 0.0), (0.0, fraction)):
        behind = (-ahead[0], -ahead[1])
        slope = (shifted(ahead) - shifted(behind)) / (2 * fraction)
        square = square + _norm(slope).square()
    return float((square.sqrt() / _norm(step(states))).mean())


@dataclass(frozen=True)
class Drift:
    """An invariant along rollouts, relative to its mean size at the start.

    Parameters
    ----------
    change
        ``I(t) - I(0)``, ``(batch, frames)``.
    explained
        What the closed-form budget explains, integrated over frames.
    """

    change: Tensor
    explained: Tensor

    @property
    def residual(self) -> Tensor:
        return self.change - self.explained


def invariant_drift(
    system: Dynamics,
    grid: PeriodicGrid,
    states: Tensor,
    environment: Tensor,
    dt: float,
    scale: "Budget | None" = None,
) -> dict[str, Drift]:
    """Return drift and budget residual of each invariant along rollouts.

    The budget is integrated by the trapezoidal rule over frames, since a surrogate
    knows nothing between them; found on the truth, its residual is the error of that
    rule.

    Parameters
    ----------
    states
        ``(batch, frames, channels, x, y)``.
    scale
        What each invariant is divided by; by default `invariant_scale` of `states`.
    """
    frames = [u.to(torch.float64) for u in states.unbind(1)]
    if scale is None:
        scale = invariant_scale(system, grid, states[:, 0], environment)
    values = _stack([system.measure(u, grid, environment) for u in frames])
    rates = _stack([system.rates(u, grid, environment) for u in frames])
    result = {}
    for name, value in values.items():
        steps = dt * (rates[name][:, 1:] + rates[name][:, :-1]) / 2
        explained = torch.nn.functional.pad(steps.cumsum(1), (1, 0))
        change = value - value[:, :1]
        result[name] = Drift(change / scale[name], explained / scale[name])
    return result


def invariant_scale(
    system: Dynamics, grid: PeriodicGrid, states: Tensor, environment: Tensor
) -> Budget:
    """Return the root mean square of each invariant over initial states.

    Where that is zero but for round-off, as for a momentum at rest, the mean size of
    what cancels in it (`measured_sizes`) takes its place, and 1 if that is zero too.
    """
    values, sizes = measured_sizes(system, grid, states.to(torch.float64), environment)
    scale = {}
    for name, value in values.items():
        rms, size = value.square().mean().sqrt(), sizes[name].mean()
        chosen = rms if rms > CANCELLED * size else size
        scale[name] = chosen if chosen > 0 else chosen + 1
    return scale


def measured_sizes(
    system: Dynamics, grid: PeriodicGrid, states: Tensor, environment: Tensor
) -> tuple[Budget, Budget]:
    """Return each invariant I of states, and the size of the terms that cancel in it.

    The size is ``sum_i |u_i dI/du_i|`` over all values u_i of a trajectory: when each
    is rounded, to a relative epsilon, I changes by at most epsilon sizes.
    """
    with torch.enable_grad():
        u = states.detach().requires_grad_()
        values = system.measure(u, grid, environment)
        slopes = {
            name: torch.autograd.grad(value.sum(), u, retain_graph=True)[0]
            for name, value in values.items()
        }
    sizes = {n: (states * s).abs().flatten(1).sum(1) for n, s in slopes.items()}
    return {name: value.detach() for name, value in values.items()}, sizes


def _stack(budgets: list[Budget]) -> Budget:
    return {n: torch.stack([b[n] for b in budgets], dim=1) for n in budgets[0]}


def _norm(states: Tensor) -> Tensor:
    return torch.linalg.vector_norm(states.flatten(1), dim=1)


def spectral_tail(states: Tensor, grid: PeriodicGrid, kept: float) -> Tensor:
    """Return the part of the variance that is in the last tenth of the modes.

    ``sum_m |u_m|^2 / sum_n |u_n|^2`` over ``0.9 kept < 2 max_i |m_i| / N_i`` and over
    all n but 0, summed over channels.

    Parameters
    ----------
    states
        ``(.., channels, *grid.shape)`` on a torus.
    kept
        Part of the modes that the states may have, `System.kept_modes`.

    Returns
    -------
    Tensor
        ``(..)``; 0 for states that are uniform.
    """
    axes = tuple(range(-grid.num_axes, 0))
    power = torch.fft.fftn(states.double(), dim=axes).abs().square()
    ranks = [2 * torch.fft.fftfreq(n, dtype=torch.float64).abs() for n in grid.shape]
    rank = torch.stack(torch.meshgrid(*ranks, indexing="ij")).amax(0)
    over = (-grid.num_axes - 1, *axes)
    total = (power * (rank > 0)).sum(over)
    last = (power * (rank > 0.9 * kept)).sum(over)
    return torch.where(total > 0, last / total, 0.0)


def in_batches(step: Callable[[Tensor], Tensor], size: int) -> Step:
    """Return `step` applied to at most `size` states at a time."""

    def batched(states: Tensor) -> Tensor:
        return torch.cat([step(part) for part in states.split(size)])

    return batched
