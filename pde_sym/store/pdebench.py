"""Trajectories in the two HDF5 layouts of PDEBench that its loaders read.

Takamoto et al. (2022), arXiv 2210.07182. Family A, a scalar on a line, is one array of
all trajectories:

    tensor (B, T, X)    x-coordinate (X)    t-coordinate (T + 1)

Family B, several channels on a line or a plane, is a group per trajectory:

    0000/data (T, X[, Y], C)    0000/grid/x, y, t    0000@config, YAML

Everything is float32. Channels are the fields in order, with their components. What is
given to models stands beside as ``environment``, which the loaders leave alone.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import h5py
import numpy as np
import yaml

from pde_sym.errors import InputError
from pde_sym.store.shard import Floats, Shard

Family = Literal["A", "B"]
MAX_BYTES = 4 << 30
SUFFIX = {"A": ".hdf5", "B": ".h5"}
"""By which the loaders tell the families apart."""


def family_of(shard: Shard) -> Family:
    """Return the family that holds such trajectories.

    Raises
    ------
    InputError
        When there is none: a body has no place to lie on.
    """
    if shard.grid.num_points == 1:
        raise InputError(f"{shard.system} has no grid; PDEBench has no layout for that")
    return "A" if shard.grid.num_axes == 1 and shard.fields.num_channels == 1 else "B"


def encode_pdebench(shards: Sequence[Shard], family: Family) -> bytes:
    """Return one HDF5 file of all trajectories of the shards, in order.

    Raises
    ------
    InputError
        When the family does not hold them, or they are more than 4 GiB.
    """
    first = shards[0]
    if family_of(first) == "B" and family == "A":
        raise InputError(
            f"family A holds one scalar on a line, {first.system} has "
            f"{first.fields.num_channels} channels on {first.grid.num_axes} axes; "
            "expected family B"
        )
    size = 4 * sum(shard.states.size for shard in shards)
    if size > MAX_BYTES:
        raise InputError(
            f"{size / (1 << 30):.3g} GiB in one file, the limit is 4 GiB; export the "
            "splits one by one, or a smaller data set"
        )
    with h5py.File.in_memory() as file:
        (_write_a if family == "A" else _write_b)(file, shards)
        file.flush()
        return file.id.get_file_image()


def _write_a(file: Any, shards: Sequence[Shard]) -> None:
    first, times = shards[0], shards[0].times
    states = np.concatenate([shard.states[:, :, 0] for shard in shards])
    file["tensor"] = states.astype(np.float32)
    file["x-coordinate"] = first.grid.coordinates(0).astype(np.float32)
    # One more time than frames, as their generators write it.
    after = times[-1] + (times[-1] - times[-2])
    file["t-coordinate"] = np.append(times, after).astype(np.float32)
    if first.environment_kind == "given" and len(first.environment_fields):
        rows = np.concatenate([shard.environment for shard in shards])
        file["environment"] = np.moveaxis(rows, 1, -1).astype(np.float32)
    for name, value in first.scalars.items():
        file.attrs[name] = value
    file.attrs["config"] = _config(first)


def _write_b(file: Any, shards: Sequence[Shard]) -> None:
    for number, (shard, states, environment) in enumerate(_trajectories(shards)):
        group = file.create_group(f"{number:04d}")
        _write(group, "data", np.moveaxis(states, 1, -1))
        for axis, name in enumerate(shard.grid.axis_names):
            _write(group, f"grid/{name}", shard.grid.coordinates(axis))
        _write(group, "grid/t", shard.times)
        if environment is not None:
            _write(group, "environment", np.moveaxis(environment, 0, -1))
        group.attrs["config"] = _config(shard)


def _write(group: Any, name: str, values: Floats) -> None:
    group.create_dataset(name, data=values.astype(np.float32), compression="lzf")


def _trajectories(
    shards: Sequence[Shard],
) -> Iterator[tuple[Shard, Floats, Floats | None]]:
    for shard in shards:
        given = shard.environment_kind == "given" and len(shard.environment_fields) > 0
        for index, states in enumerate(shard.states):
            yield shard, states, shard.environment[index] if given else None


def _config(shard: Shard) -> str:
    return yaml.safe_dump(
        {
            "system": shard.system,
            "channels": list(shard.fields.channel_names),
            "environment": list(shard.environment_fields.channel_names),
            "recipe": shard.config,
        },
        sort_keys=True,
    )
