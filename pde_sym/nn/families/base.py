"""What a model family is: a frozen value that builds a network for a task.

Every network maps ``(B, C_state + C_given, *points)`` to an increment of the state,
``(B, C_state, *points)``.
"""

from abc import abstractmethod
from typing import ClassVar, Literal, Self, TypeVar

import torch
from pydantic import Field, PositiveInt, field_validator, model_validator
from torch import nn

from pde_sym.config import Frozen
from pde_sym.errors import InputError
from pde_sym.fields import FieldSpec
from pde_sym.nn.families.size import WEIGHT_BYTES, check_weights, refuse_above_limit
from pde_sym.nn.heads import Head, check_head, network_fields, with_head
from pde_sym.nn.kernel_space import check_kernel_size
from pde_sym.nn.lines import GalileanFrame, LowPass1d, RelaxedGalileanFrame
from pde_sym.nn.walls import NORMAL, Unfolded, Walls, unfolded_points

MATCH_TOLERANCE = 0.1
"""Relative difference of parameter counts that still counts as matched."""


class Task(Frozen):
    """What a model predicts and what it may read.

    Parameters
    ----------
    state
        The fields it predicts.
    given
        Constant fields that it may read, for instance a topography.
    breaks_translation
        Whether the equation, given what the model reads, depends on the place.
    resolution
        Points per axis of the training data, where known: learned fields in position
        stay well above their spacing. A built model runs on every grid.
    num_axes
        Axes of the grid: 2, 1 for fields on a line, 0 for bodies, which are points.
    walls
        Whether the plane is a box with walls along which the flow slips or to which it
        sticks; None for a torus.
    kept_modes
        Part of the Fourier modes that states have; increments on lines keep to them.
    boost
        Part of the box by which a mean of 1 moves the state in one step, ``6 dt / L``
        for KdV; None for systems without Galilei boosts.
    breaks_boosts, breaks_scaling
        Whether the equation, unlike KdV's intact one, is not invariant under boosts, or
        under ``(x, t, u) -> (s x, s^3 t, u / s^2)``.
    """

    state: FieldSpec
    given: FieldSpec | None = None
    breaks_translation: bool = False
    resolution: PositiveInt | None = None
    num_axes: int = Field(default=2, ge=0, le=2)
    walls: Walls | None = None
    kept_modes: float = Field(default=1.0, gt=0.0, le=1.0)
    boost: float | None = None
    breaks_boosts: bool = False
    breaks_scaling: bool = False

    @model_validator(mode="after")
    def _has_state_and_distinct_names(self) -> Self:
        if not len(self.state):
            raise ValueError("a task predicts at least one field, got none")
        _ = self.inputs
        if self.walls is not None and self.num_axes != 2:
            raise ValueError(f"walls are around a plane, got {self.num_axes} axes")
        return self

    @property
    def inputs(self) -> FieldSpec:
        """State fields, then given fields."""
        return self.state if self.given is None else self.state + self.given

    @property
    def array_axes(self) -> int:
        """Axes of an array after its channels: a body lies on 1 x 1 x 1 points."""
        return self.num_axes or 3


Galilei = bool | Literal["relaxed"] | None
"""What a family asks of Galilei boosts."""


class Family(Frozen):
    """What all families share.

    Parameters
    ----------
    width
        Hidden channels, or hidden fields.
    galilei
        Whether the step commutes with Galilei boosts exactly, see `GalileanFrame`;
        ``relaxed`` up to a learned number, see `RelaxedGalileanFrame`. None is true
        where the task has boosts and does not break them; where it does, relaxed for
        relaxed families.
    head
        What the increment conserves by construction: ``none``, ``mean`` (the total of
        every field), ``leray`` or ``streamfunction`` (a velocity without divergence),
        or one of these with ``+mean``.
    """

    axes: ClassVar[tuple[int, ...]] = (2,)
    """Numbers of axes that a network of the family can have."""
    where_boosts_break: ClassVar[bool | Literal["relaxed"]] = False
    """What None is for `galilei` there."""
    kind: str
    width: PositiveInt
    galilei: Galilei = False
    head: Head = "none"

    def build(self, task: Task) -> nn.Module:
        """Return a freshly initialised network for `task`.

        Raises
        ------
        InputError
            When the family has no networks for grids of so many axes, the kernel is
            larger than the grid or all of them than memory, boosts are asked for where
            there are none, or the head has nothing to conserve.
        """
        if task.num_axes not in self.axes:
            able = " or ".join(map(str, self.axes))
            raise InputError(
                f"{self.kind}: its networks are for grids of {able} axes, the data "
                f"have {task.num_axes}; `pde-sym models` lists what fits"
            )
        # Before its bases are built, which may not fit into memory.
        size, points = getattr(self, "kernel_size", 1), task.resolution
        if points is not None and size > points:
            raise InputError(
                f"{self.kind}: a kernel of {size!s:.80} points needs a grid at least "
                f"as large, the data have {points} points; lower model.kernel_size"
            )
        check_weights(self, task)
        if self.galilei and task.boost is None:
            raise InputError(
                "galilei: expected false, the system has no Galilei boosts (KdV has)"
            )
        check_head(self.head, task.state, task.num_axes, task.walls is not None)
        state, given = network_fields(self.head, task.state, task.given)
        inner = Task(**{**dict(task), "state": state, "given": given})
        net = self._build(inner) if task.walls is None else self._between_walls(inner)
        net = with_head(self.head, net, task.state)
        if task.num_axes == 1 and task.kept_modes < 1:
            net = nn.Sequential(net, LowPass1d(task.kept_modes))
        return self._framed(net, task)

    def boosts(self, task: Task) -> bool | Literal["relaxed"]:
        """Return what `galilei` is for a task."""
        if task.boost is None:
            return False
        if self.galilei is None:
            return self.where_boosts_break if task.breaks_boosts else True
        return self.galilei

    def _framed(self, net: nn.Module, task: Task) -> nn.Module:
        """Return the network in the frame of the mean, where it is to be in one."""
        boosts = self.boosts(task)
        if not boosts or task.boost is None:
            return net
        if boosts == "relaxed":
            return RelaxedGalileanFrame(net, task.boost, task.state.num_channels)
        return GalileanFrame(net, task.boost)

    @abstractmethod
    def _build(self, task: Task) -> nn.Module:
        """Return the network without its head; the axes fit, and there are no walls."""

    @property
    def reach(self) -> int | None:
        """How many points away a network sees; None for the whole plane."""
        return None

    def _between_walls(self, task: Task) -> nn.Module:
        """Return the network without its head, on the plane that walls unfold to."""
        assert task.walls is not None, "the task has no walls"
        normal, points = FieldSpec.of(NORMAL), task.resolution
        changes = {
            "walls": None,
            "given": normal if task.given is None else task.given + normal,
            "resolution": points and unfolded_points(points, self.reach),
        }
        net = self._build(Task(**{**dict(task), **changes}))
        return Unfolded(net, task.inputs, task.walls, self.reach)


class ConvolutionalFamily(Family):
    """Families whose body is convolutions with nonlinearities between them.

    Parameters
    ----------
    width
        Hidden channels, or hidden regular fields.
    depth
        Number of convolutions.
    kernel_size
        Points per axis of each kernel, odd.
    """

    width: PositiveInt = 16
    depth: int = Field(default=4, ge=2)
    kernel_size: PositiveInt = 5

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, kernel_size: int) -> int:
        check_kernel_size(kernel_size)
        return kernel_size

    @property
    def reach(self) -> int | None:
        return self.depth * (self.kernel_size // 2)


def count_parameters(model: nn.Module) -> int:
    """Return the number of learned values."""
    return sum(p.numel() for p in model.parameters())


_Config = TypeVar("_Config", bound=Family)


def match_width(config: _Config, task: Task, num_parameters: int) -> _Config:
    """Return `config` with the width whose parameter count is nearest.

    A width step changes the count by about ``2 / width``: small budgets of wide
    representations may have no match.

    Raises
    ------
    InputError
        When no width comes within 10 % of `num_parameters`; it lists the nearest.
    """
    what = f"{config.kind}: {num_parameters} parameters"
    refuse_above_limit(WEIGHT_BYTES * num_parameters, f"{what:.80}", "ask for fewer")

    def at(width: int) -> tuple[_Config, int]:
        candidate = config.model_copy(update={"width": width})
        # Counting must not change the weights that are drawn afterwards.
        with torch.random.fork_rng(devices=[]):
            return candidate, count_parameters(candidate.build(task))

    upper = 1
    while at(upper)[1] < num_parameters:
        upper *= 2
    # The count grows with the width: halve (lower, upper] until one is left.
    lower = upper // 2
    while upper - lower > 1:
        middle = (lower + upper) // 2
        if at(middle)[1] < num_parameters:
            lower = middle
        else:
            upper = middle
    found = [at(width) for width in range(max(lower, 1), upper + 1)]
    best, count = min(found, key=lambda pair: abs(pair[1] - num_parameters))
    if abs(count - num_parameters) > MATCH_TOLERANCE * num_parameters:
        raise InputError(
            f"no width brings {type(config).__name__} within 10 % of "
            f"{num_parameters} parameters: "
            + ", ".join(f"width {c.width} has {n}" for c, n in found)
            + "; ask for one of these numbers, or change the depth or the kernel size"
        )
    return best
