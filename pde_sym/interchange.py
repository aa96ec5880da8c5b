"""Arrays in and out: NumPy, torch, and xarray where it is installed."""

from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.fields import FieldSpec
from pde_sym.grid import PeriodicGrid

INSTALL = "pip install 'xarray>=2024.1' 'numpy<2'"


def as_state(values: Any, fields: FieldSpec, num_axes: int) -> Tensor:
    """Return states ``(..., channels, *points)`` in float64, whatever they came as.

    Parameters
    ----------
    values
        A tensor, an array, or an ``xarray`` array, ``(..., channels, *points)``; or an
        ``xarray.Dataset`` with a variable per field, as `to_xarray` makes it, whose
        vectors have their components last.
    fields
        What the channels mean.
    num_axes
        Axes of points.

    Raises
    ------
    InputError
        When a field is missing, or there are other channels or numbers that are not
        finite.
    """
    if hasattr(values, "data_vars"):
        values = _stacked(values, fields)
    state = torch.as_tensor(
        values if isinstance(values, Tensor) else np.asarray(values)
    ).to(torch.float64)
    if state.ndim <= num_axes or state.shape[-num_axes - 1] != fields.num_channels:
        raise InputError(
            f"states: expected {fields.num_channels} channels, {fields.channel_names}, "
            f"before {num_axes} axes of points, got shape {tuple(state.shape)}"
        )
    if not state.isfinite().all():
        raise InputError("states: hold numbers that are not finite")
    return state


def _stacked(dataset: Any, fields: FieldSpec) -> NDArray[np.float64]:
    parts, lead = [], 0
    for field in fields:
        if field.name not in dataset:
            raise InputError(
                f"states: expected the variables {fields.names}, {field.name!r} is "
                "missing"
            )
        variable, order = dataset[field.name], field.rank.tensor_order
        values = np.asarray(variable, dtype=np.float64)
        flat = values.reshape(*values.shape[: values.ndim - order], field.components)
        # Channels stand before the places: after trajectory and time, where they are.
        lead = sum(name in variable.dims for name in ("trajectory", "time"))
        parts.append(np.moveaxis(flat, -1, lead))
    return np.concatenate(parts, axis=lead)


def to_xarray(
    states: Tensor | NDArray[Any],
    fields: FieldSpec,
    grid: PeriodicGrid,
    times: NDArray[Any],
) -> Any:
    """Return states as an ``xarray.Dataset``, a variable with its unit per field.

    Parameters
    ----------
    states
        ``(trajectories, frames, channels, *points)``.
    fields
        What the channels mean; vectors have their components last.
    grid
        Where the points are: the coordinates of the axes.
    times
        Of the frames.

    Raises
    ------
    InputError
        When xarray is not installed.
    """
    try:
        xarray = import_module("xarray")
    except ImportError as error:
        raise InputError(f"xarray is not installed: {INSTALL}") from error
    values = np.asarray(states)
    axes = grid.axis_names
    variables = {}
    for field, channels in zip(fields, fields.slices().values(), strict=True):
        part = np.moveaxis(values[:, :, channels], 2, -1)
        part = part.reshape(*part.shape[:-1], *field.component_shape)
        components = [f"component_{i}" for i in range(field.rank.tensor_order)]
        dims = ("trajectory", "time", *axes, *components)
        variables[field.name] = (dims, part, {"unit": field.unit})
    places = {name: grid.coordinates(axis) for axis, name in enumerate(axes)}
    return xarray.Dataset(variables, coords={"time": times, **places})
