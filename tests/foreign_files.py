"""Files as The Well and PDEBench document them, written here with h5py alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

FRAMES, NUM = 7, 6
NO_NAMES: Any = np.array([], dtype=h5py.string_dtype())


def waves(shape: Sequence[int]) -> NDArray[np.float64]:
    """Return waves along the diagonal, ``(trajectories, frames, *points)``."""
    axes = [np.arange(n) / n for n in shape]
    place = sum(np.meshgrid(*axes, indexing="ij"))
    phase = np.random.default_rng(3).uniform(0, 6, (NUM, 1, *[1] * len(shape)))
    time = np.arange(FRAMES).reshape(1, -1, *[1] * len(shape))
    return np.sin(2 * np.pi * place - 0.3 * time + phase) + 0.2 * np.cos(phase)


def _varying(item: Any, *, sample: bool, time: bool) -> None:
    item.attrs["sample_varying"], item.attrs["time_varying"] = sample, time


def well_file(path: Path, shape: Sequence[int], boundary: str = "PERIODIC") -> None:
    """Write a density, a velocity and a constant coefficient in The Well's layout."""
    names, density = list("xyz"[: len(shape)]), waves(shape).astype("f4")
    coefficient = np.cos(2 * np.pi * np.arange(shape[0]) / shape[0]).astype("f4")
    coefficient = np.broadcast_to(
        coefficient.reshape(-1, *[1] * (len(shape) - 1)), tuple(shape)
    )
    velocity = np.stack([0.5 * density, *[0.1 * density] * (len(shape) - 1)], -1)
    with h5py.File(path, "w") as file:
        for key, value in {
            "dataset_name": "theirs",
            "grid_type": "cartesian",
            "n_spatial_dims": len(shape),
            "n_trajectories": NUM,
            "simulation_parameters": ["viscosity"],
            "viscosity": 0.1,
        }.items():
            file.attrs[key] = value
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = names
        dimensions["time"] = np.arange(FRAMES, dtype="f4") * 0.25
        _varying(dimensions["time"], sample=False, time=True)
        conditions = file.create_group("boundary_conditions")
        for name, n in zip(names, shape, strict=True):
            dimensions[name] = (np.arange(n) / n).astype("f4")
            _varying(dimensions[name], sample=False, time=False)
            end = conditions.create_group(f"{name}_{boundary.lower()}")
            end.attrs["bc_type"], end.attrs["associated_dims"] = boundary, [name]
            end.attrs["associated_fields"] = NO_NAMES
            _varying(end, sample=False, time=False)
            end["mask"] = np.isin(np.arange(n), (0, n - 1))
        scalars = file.create_group("scalars")
        scalars.attrs["field_names"] = ["viscosity"]
        scalars["viscosity"] = np.float32(0.1)
        _varying(scalars["viscosity"], sample=False, time=False)
        groups = [file.create_group(f"t{order}_fields") for order in range(3)]
        for group, listed in zip(
            groups, (["density", "coefficient"], ["velocity"], NO_NAMES), strict=True
        ):
            group.attrs["field_names"] = listed
        groups[0]["density"], groups[0]["coefficient"] = density, coefficient
        groups[1]["velocity"] = velocity
        for item, varies in (
            (groups[0]["density"], True),
            (groups[0]["coefficient"], False),
            (groups[1]["velocity"], True),
        ):
            item.attrs["dim_varying"] = np.ones(len(shape), bool)
            _varying(item, sample=varies, time=varies)


def tensor_file(path: Path, points: int) -> None:
    """Write one scalar on a line: ``tensor`` and its coordinates, cell-centred."""
    with h5py.File(path, "w") as file:
        file["tensor"] = waves([points]).astype("f4")
        file["x-coordinate"] = ((np.arange(points) + 0.5) / points).astype("f4")
        # PDEBench stores the edges of the frames: one more than there are.
        file["t-coordinate"] = np.arange(FRAMES + 1, dtype="f4") * 0.25


def seeds_file(path: Path, points: int) -> None:
    """Write a group for each trajectory, ``data (time, x, y, channels)``."""
    centres = ((np.arange(points) + 0.5) / points).astype("f4")
    with h5py.File(path, "w") as file:
        for number, one in enumerate(waves([points, points]).astype("f4")):
            group = file.create_group(f"{number:04d}")
            group["data"] = np.stack([one, 0.5 * one**2], -1)
            group["grid/x"], group["grid/y"] = centres, centres
            group["grid/t"] = np.arange(FRAMES, dtype="f4") * 0.25
            group.attrs["config"] = "sim: waves\n"
