"""The step of the smoke plume over one frame, with its budgets."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pde_sym.errors import InputError, Lost, LostTrajectoryError, SimulationError
from pde_sym.grid import PeriodicGrid, WalledGrid
from pde_sym.projection import Faces, Projection, centres_of, faces_of
from pde_sym.systems.base import Budget, check_finite
from pde_sym.systems.plume import Plume
from pde_sym.systems.plume_dynamics import (
    Box,
    budget_rates,
    energy,
    largest_step,
    scheme_rate,
    step,
)
from pde_sym.systems.plume_terms import BuoyancyImbalance

if TYPE_CHECKING:
    from pde_sym.kernels.plume import CompiledBox

Array = NDArray[np.float64]
Advanced: TypeAlias = tuple[Tensor, Faces, Tensor, Tensor]
"""Smoke, velocity, change of the budgets and time that was reached, of a batch."""

BUDGETS = ("smoke", "energy")
MAX_STEPS = 100_000
"""Steps per frame above which a run is refused."""
ADVICE = "lower dt, the strengths or the viscosity"


def boxes_of(system: Plume, grid: PeriodicGrid, environment: Tensor) -> list[Box]:
    """Return the box of each environment ``(batch, channels, x, y)``.

    Boxes with the same solid share their projection.

    Raises
    ------
    InputError
        When the grid has no walls, the environment is not the system's, or the inflow
        lies in the obstacle altogether.
    """
    if not isinstance(grid, WalledGrid):
        raise InputError(
            f"plume: expected a grid with walls, got {type(grid).__name__}"
        )
    spec = system.environment_fields
    if environment.shape[1:] != (spec.num_channels, *grid.shape):
        raise InputError(
            f"expected an environment (batch, {spec.num_channels}, {grid.shape[0]}, "
            f"{grid.shape[1]}) for {spec.names}, got {tuple(environment.shape)}"
        )
    environment = environment.double()
    projections: dict[bytes, Projection] = {}
    boxes = []
    for one in environment:
        fields = {name: one[part] for name, part in spec.slices().items()}
        zero = one.new_zeros(grid.shape)
        solid = fields.get("obstacle", zero[None])[0] != 0
        key = solid.cpu().numpy().tobytes()
        if key not in projections:
            projections[key] = Projection(grid, solid, one.device)
        inflow = fields.get("inflow", zero[None])[0]
        if bool((inflow != 0).any()) and not bool((inflow * ~solid != 0).any()):
            raise InputError("inflow: it lies in the obstacle, no smoke can come in")
        boxes.append(
            Box(
                projection=projections[key],
                lift=acting_lift(system, fields.get("lift", torch.stack([zero, zero]))),
                inflow=inflow * ~solid,
                viscosity=system.viscosity,
                wall=wall_of(system),
            )
        )
    return boxes


def acting_lift(system: Plume, lift: Tensor) -> Tensor:
    """Return the force per unit of smoke of a drawn lift, both ``(2, x, y)``."""
    imbalance = system.term(BuoyancyImbalance)
    if imbalance is None:
        return lift
    parts = zip(lift, imbalance.factors(), strict=True)
    return torch.stack([torch.where(p > 0, p * a, p * b) for p, (a, b) in parts])


def wall_of(system: Plume) -> float:
    """Return 1 where the flow slips along walls, -1 where it sticks."""
    return 1.0 if system.walls == "slip" else -1.0


class PlumeSolver:
    """Step function of a batch; each trajectory is integrated by itself.

    A stored velocity at the centres stands for one on the faces: the means over two
    faces determine the faces (`pde_sym.projection.face_weights`). A frame goes centres
    to faces, projection, steps, faces to centres; started from its own result it finds
    the very faces it ended with, so that frames lose nothing. The size of each step
    follows from the state at its beginning (`largest_step`).

    Parameters
    ----------
    system, grid
        Equation and grid.
    environment
        ``(batch, channels, x, y)``; batch 1 serves every trajectory.
    dt
        Length of a frame, in units of time.
    steps
        Number of steps per frame, in place of the bound.
    compiled
        Whether the compiled loops are used; by default on the CPU.
    refinement
        How many times finer the steps are than those that the bound asks for.
    """

    def __init__(
        self,
        system: Plume,
        grid: PeriodicGrid,
        environment: Tensor,
        dt: float,
        steps: int | None = None,
        compiled: bool | None = None,
        refinement: int = 1,
    ) -> None:
        if not (math.isfinite(dt) and dt > 0):
            raise SimulationError(f"dt must be a positive number, got {dt}")
        self._dt, self._steps = dt, steps or 0
        boxes = boxes_of(system, grid, environment)
        self._boxes = [replace(box, refinement=refinement) for box in boxes]
        self._fields = system.fields
        on_cpu = environment.device.type == "cpu"
        is_compiled = on_cpu if compiled is None else compiled
        self._compiled = _compiled(self._boxes) if is_compiled else []

    def __call__(self, state: Tensor) -> Tensor:
        return self.step(state)[0]

    def step(self, state: Tensor) -> tuple[Tensor, Budget]:
        """Return state and budgets one frame later; see `Solver.step`.

        Raises
        ------
        LostTrajectoryError
            When a field is not finite, or too many steps are needed.
        """
        state = state.double()
        check_finite(state, self._fields, 0.0, ADVICE)
        following, changes = torch.empty_like(state), state.new_empty(len(state), 2)
        reached = state.new_empty(len(state))
        for where, advance in self._groups(len(state)):
            smoke, faces, changes[where], reached[where] = advance(state[where])
            following[where] = torch.cat([smoke[:, None], centres_of(faces)], dim=1)
        times = reached.tolist()
        check_finite(following, self._fields, times, ADVICE)
        late = [i for i, time in enumerate(times) if time < self._dt]
        if late:
            reason = f"moves too fast (more than {MAX_STEPS} steps in a frame)"
            lost = (Lost(i, "velocity", reason, times[i]) for i in late)
            raise LostTrajectoryError(lost, ADVICE)
        return following, dict(zip(BUDGETS, changes.unbind(1), strict=True))

    def _groups(self, number: int) -> list[tuple[list[int], Callable[..., Advanced]]]:
        """Return who advances together, and how; see `Advanced`."""
        one_for_all = len(self._boxes) == 1
        which = [0 if one_for_all else index for index in range(number)]
        if self._compiled:
            # Each by itself, so that no result depends on the batch by a bit.
            return [([i], partial(self._alone, box)) for i, box in enumerate(which)]
        members: dict[int, list[int]] = {}
        for index, box in enumerate(which):
            members.setdefault(id(self._boxes[box].projection), []).append(index)
        return [
            (where, partial(self._together, [self._boxes[which[i]] for i in where]))
            for where in members.values()
        ]

    def _alone(self, which: int, state: Tensor) -> Advanced:
        """Advance one trajectory in compiled loops."""
        box, compiled = self._boxes[which], self._compiled[which]
        faces, lost = _begun(box, state[0, 1:])
        smoke, (u, v), change, reached = compiled.advance(
            state[0, 0], faces, self._dt, self._steps, MAX_STEPS
        )
        change[1] -= lost
        return smoke[None], Faces(u[None], v[None]), change, state.new_tensor(reached)

    def _together(self, boxes: list[Box], state: Tensor) -> Advanced:
        """Advance a batch; those that have arrived go on with steps of length 0."""
        box = _side_by_side(boxes)
        smoke = state[:, 0]
        faces, lost = _begun(box, state[:, 1:])
        change = torch.stack([torch.zeros_like(lost), -lost], dim=1)
        remaining, taken = state.new_full((len(state),), self._dt), 0
        while bool((remaining > 0).any()):
            if self._steps:
                left = torch.full_like(remaining, self._steps - taken)
            else:
                largest = largest_step(box, smoke, faces, remaining)
                enough = largest * (MAX_STEPS - taken) >= remaining
                if not bool(enough.all()):
                    remaining = torch.where(enough, 0.0, remaining)
                    break
                left = torch.where(remaining > 0, (remaining / largest).ceil(), 1.0)
            h = remaining / left
            smoke, faces, part = step(box, smoke, faces, h)
            change = change + part
            remaining = torch.where(left > 1, remaining - h, 0.0)
            taken += 1
        return smoke, faces, change, self._dt - remaining


def _begun(box: Box, velocity: Tensor) -> tuple[Faces, Tensor]:
    """Return the flow that a stored velocity stands for, and the energy it costs.

    What flows into walls and solids or has a divergence is stopped at once. By Kelvin's
    theorem of impulsive motion the energy lost is that of the velocity lost; states of
    the solver lose none.
    """
    given = faces_of(velocity)
    faces = box.projection(given)
    stopped = Faces(given.u - faces.u, given.v - faces.v)
    return faces, energy(stopped, box.projection.dx * box.projection.dy)


def _compiled(boxes: list[Box]) -> "list[CompiledBox]":
    from pde_sym.kernels.plume import CompiledBox

    return [CompiledBox(box) for box in boxes]


def _side_by_side(boxes: list[Box]) -> Box:
    """Return boxes with one projection as one, with lift and inflow in a batch."""
    return replace(
        boxes[0],
        lift=torch.stack([box.lift for box in boxes]),
        inflow=torch.stack([box.inflow for box in boxes]),
    )


def around(solid: Array, state: Array, grid: PeriodicGrid) -> Array:
    """Return a state ``(3, x, y)`` without smoke in solid cells or flow into them."""
    if not isinstance(grid, WalledGrid):
        raise InputError(
            f"plume: expected a grid with walls, got {type(grid).__name__}"
        )
    mask, given = torch.from_numpy(solid != 0), torch.from_numpy(state)
    projection = Projection(grid, mask)
    velocity = centres_of(projection(faces_of(given[1:])))
    return torch.cat([(given[0] * ~mask)[None], velocity]).numpy()


def measure(state: Tensor, grid: PeriodicGrid) -> Budget:
    """Return total smoke and energy of stored states ``(batch, 3, x, y)``.

    The energy is that of the velocity on the faces that the stored one stands for.
    """
    smoke, faces = state[:, 0], faces_of(state[:, 1:].double())
    return {
        "smoke": grid.cell_volume * smoke.sum((-2, -1)),
        "energy": energy(faces, grid.cell_volume),
    }


def divergence(state: Tensor, grid: WalledGrid) -> Budget:
    """Return the divergence of stored states ``(batch, 3, x, y)``, seen in two ways.

    Root mean squares over the box in units of that of the velocity gradient:
    ``faces``, of the velocity on the faces that the stored one stands for, is zero but
    for round-off on the solver's states; ``centres``, by central differences of the
    stored velocity, is of second order in the spacing.
    """
    (dx, dy), velocity = grid.spacing, state[:, 1:].double()
    by_x = (velocity[..., 2:, 1:-1] - velocity[..., :-2, 1:-1]) / (2 * dx)
    by_y = (velocity[..., 1:-1, 2:] - velocity[..., 1:-1, :-2]) / (2 * dy)
    size = (by_x.square() + by_y.square()).sum(1).mean((-2, -1)).sqrt()
    projection = Projection(grid, device=state.device)
    exact = projection.divergence(faces_of(velocity))
    central = by_x[:, 0] + by_y[:, 1]
    return {
        name: part.square().mean((-2, -1)).sqrt() / size
        for name, part in (("faces", exact), ("centres", central))
    }


def weak_rates(
    system: Plume, state: Tensor, grid: PeriodicGrid, environment: Tensor
) -> Budget:
    """Return the rates of stored states ``(batch, 3, x, y)``."""
    boxes = boxes_of(system, grid, environment)
    found = [
        budget_rates(boxes[i if len(boxes) > 1 else 0], one[0], faces_of(one[1:]))
        for i, one in enumerate(state.double())
    ]
    return dict(zip(BUDGETS, torch.stack(found, dim=1), strict=True))


def scheme_rates(system: Plume, state: Tensor, grid: PeriodicGrid) -> Budget:
    """Return the part of `weak_rates` that is the scheme's own."""
    faces, (dx, dy) = faces_of(state[:, 1:].double()), grid.spacing
    return {"energy": scheme_rate(faces, wall_of(system), (dx, dy))}
