"""A surrogate: a network with the scales of its data, used as a time step."""

from typing import Self

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from pde_sym.config import Frozen
from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import AXIS_NAMES
from pde_sym.nn.families.base import Task
from pde_sym.nn.layer import ScaledNetwork
from pde_sym.nn.lines import GalileanFrame


class FieldScale(Frozen):
    """Scales of one field.

    Parameters
    ----------
    name
        Name of the field.
    mean
        Mean over samples and points; 0 unless the field is a scalar.
    std
        Root mean square of the field less its mean, one for all components.
    increment_std
        Root mean square of its change over one step.
    """

    name: str
    mean: float = 0.0
    std: PositiveFloat = 1.0
    increment_std: PositiveFloat = 1.0


class Normalisation(Frozen):
    """Scales per field that commute with turns and flips.

    Parameters
    ----------
    fields
        One entry per state field, and one per given field.
    """

    fields: tuple[FieldScale, ...]

    @classmethod
    def identity(cls, task: Task) -> Self:
        """Return mean 0 and scale 1 for every field of `task`."""
        return cls(fields=tuple(FieldScale(name=name) for name in task.inputs.names))

    @classmethod
    def of(
        cls, task: Task, before: Tensor, after: Tensor, given: Tensor | None = None
    ) -> Self:
        """Measure the scales on pairs of states one step apart.

        A vector has mean 0 and one scale for its components and a pseudoscalar has
        mean 0, so that the normalisation commutes with the symmetry. A field that is
        constant (or steady) has scale 1.

        Parameters
        ----------
        task
            Names and ranks of the fields.
        before, after
            States, shape ``(..., C_state, *points)``.
        given
            Given fields, shape ``(..., C_given, *points)``, when the task has any.

        Raises
        ------
        InputError
            When an array has other channels than the task.
        """
        _check_channels("before", before, task.state, task.array_axes)
        _check_channels("after", after, task.state, task.array_axes)
        _check_given(task, given)
        axis = -task.array_axes - 1
        scales = [
            _scale(field, values, change)
            for field, values, change in zip(
                task.state,
                _fields(before, task.state, axis),
                _fields(after - before, task.state, axis),
                strict=True,
            )
        ]
        if task.given is not None and given is not None:
            parts = _fields(given, task.given, axis)
            scales += map(_scale, task.given, parts)
        return cls(fields=tuple(scales))

    def channels(
        self, spec: FieldSpec, num_axes: int = 2
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean, std and increment std per channel in float64.

        Each is ``(C, 1, ..)`` with a 1 per axis of an array of points.

        Raises
        ------
        InputError
            When a field is missing or a mean would break the symmetry.
        """
        known = {scale.name: scale for scale in self.fields}
        rows = []
        for field in spec:
            if field.name not in known:
                raise InputError(
                    f"normalisation lacks field {field.name!r}, got {tuple(known)}"
                )
            scale = known[field.name]
            if field.rank is not Rank.SCALAR and scale.mean != 0:
                raise InputError(
                    f"field {field.name!r}: a {field.rank.value} needs mean 0 to keep "
                    f"the symmetry, got {scale.mean}"
                )
            row = [scale.mean, scale.std, scale.increment_std]
            rows += field.components * [row]
        table = torch.tensor(rows, dtype=torch.float64)
        mean, std, increment_std = table.T.reshape(3, -1, *num_axes * [1]).unbind()
        return mean, std, increment_std


def _fields(values: Tensor, spec: FieldSpec, axis: int) -> list[Tensor]:
    """Return the channels of each field."""
    return list(values.split([field.components for field in spec], axis))


def _scale(field: Field, values: Tensor, change: Tensor | None = None) -> FieldScale:
    values = values.double()
    mean = values.mean().item() if field.rank is Rank.SCALAR else 0.0
    spread = _root_mean_square(values - mean)
    # Round-off around a constant is not a scale.
    std = spread if spread > 1e-12 * abs(mean) else 1.0
    step = 0.0 if change is None else _root_mean_square(change)
    return FieldScale(name=field.name, mean=mean, std=std, increment_std=step or 1.0)


def _root_mean_square(values: Tensor) -> float:
    return values.double().square().mean().sqrt().item()


def _check_channels(what: str, values: Tensor, spec: FieldSpec, num_axes: int) -> None:
    if values.ndim <= num_axes or values.shape[-num_axes - 1] != spec.num_channels:
        points = ", ".join(AXIS_NAMES[:num_axes])
        raise InputError(
            f"{what}: expected (..., {spec.num_channels}, {points}) for {spec.names}, "
            f"got shape {tuple(values.shape)}"
        )


def _check_given(task: Task, given: Tensor | None) -> None:
    if task.given is None:
        if given is not None:
            raise InputError("given: the task has no given fields, expected None")
    elif given is None:
        raise InputError(f"given: expected the fields {task.given.names}, got None")
    else:
        _check_channels("given", given, task.given, task.array_axes)


class Surrogate(nn.Module):
    """One time step, ``u + std_delta net((u - mean) / std, given)``.

    A network in a `GalileanFrame` takes that step in the frame of the state.

    Parameters
    ----------
    net
        Maps ``(B, C_state + C_given, *points)`` to ``(B, C_state, *points)``.
    task
        What it predicts and reads.
    normalisation
        Scales of the fields.

    Raises
    ------
    InputError
        When the normalisation lacks a field or would break the symmetry.
    """

    def __init__(
        self, net: nn.Module, task: Task, normalisation: Normalisation
    ) -> None:
        super().__init__()
        self.net = net
        self.task = task
        self.normalisation = normalisation
        mean, std, _ = normalisation.channels(task.inputs, task.array_axes)
        increment_std = normalisation.channels(task.state, task.array_axes)[2]
        if isinstance(net, ScaledNetwork):
            size = task.state.num_channels
            net.use_scales(std[:size].flatten(), increment_std.flatten())
        # The numbers live in the configuration; these are copies that follow .to().
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.register_buffer("increment_std", increment_std, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    def forward(self, state: Tensor, given: Tensor | None = None) -> Tensor:
        """Return the state one step later; both are ``(B, C, *points)``.

        `given` has shape ``(B, C_given, *points)``, or ``(C_given, *points)`` when it
        is the same for the whole batch.

        Raises
        ------
        InputError
            When the channels are not those of the task.
        """
        if isinstance(self.net, GalileanFrame):
            _check_channels("state", state, self.task.state, self.task.array_axes)
            return self.net.carry(lambda u: self._advance(u, given), state)
        return self._advance(state, given)

    def _advance(self, state: Tensor, given: Tensor | None) -> Tensor:
        scale = self.get_buffer("increment_std").to(state.dtype)
        return state + scale * self.normalised_increment(state, given)

    def normalised_increment(
        self, state: Tensor, given: Tensor | None = None
    ) -> Tensor:
        """Return what the network gives: the increment in units of its own scale."""
        return self.net(self.network_inputs(state, given))

    def network_inputs(self, state: Tensor, given: Tensor | None = None) -> Tensor:
        """Return what the network reads: all fields less their mean, in their scale."""
        _check_channels("state", state, self.task.state, self.task.array_axes)
        _check_given(self.task, given)
        inputs = state
        if given is not None:
            shape = given.shape[-self.task.array_axes - 1 :]
            inputs = torch.cat([state, given.expand(len(state), *shape)], dim=1)
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        return (inputs - mean.to(inputs.dtype)) / std.to(inputs.dtype)
