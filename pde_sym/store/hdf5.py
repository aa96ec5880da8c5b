"""One shard: trajectories in an HDF5 file with The Well's schema.

On disk a field is ``(trajectory, time, x, y)`` with an axis of components more for a
vector and two for a tensor, in memory a state is
``(trajectory, time, channel, x, y)``. A file is built in memory, so that the HDF5
library never meets a full disk, and its hash is checked before the library parses a
byte, so that it never meets a damaged file. Equal shards have equal bytes.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from pde_sym.config import canonical_json
from pde_sym.errors import DataError
from pde_sym.fields import Field, FieldSpec
from pde_sym.grid import PeriodicGrid, WalledGrid
from pde_sym.store.files import file_hash
from pde_sym.store.shard import EnvironmentKind, Floats, Shard

_TEXT = h5py.string_dtype()
BUDGET_SUFFIX = "_budget"
GROUPS = ("t0_fields", "t1_fields", "t2_fields")
"""Where fields lie, by tensor order."""


def encode(shard: Shard) -> bytes:
    """Return the HDF5 file of a shard; `DataError` when a number is not finite."""
    for name, values in {
        "states": shard.states,
        "environment": shard.environment,
        **shard.strengths,
        **shard.invariants,
        **{name + BUDGET_SUFFIX: values for name, values in shard.budgets.items()},
    }.items():
        if not np.isfinite(values).all():
            raise DataError(f"{name} holds numbers that are not finite; not stored")
    with h5py.File.in_memory() as file:
        _write_root(file, shard)
        _write_dimensions(file, shard)
        _write_boundaries(file, shard.grid)
        _write_scalars(file, shard)
        _write_fields(file, shard)
        file.flush()
        return file.id.get_file_image()


def _set_text(place: Any, name: str, values: list[str]) -> None:
    place.attrs.create(name, np.array(values, dtype=object), dtype=_TEXT)


def _set_varying(place: Any, *, sample: bool, time: bool) -> None:
    place.attrs["sample_varying"] = np.bool_(sample)
    place.attrs["time_varying"] = np.bool_(time)


def _write_root(file: h5py.File, shard: Shard) -> None:
    file.attrs["dataset_name"] = shard.system
    file.attrs["grid_type"] = "cartesian"
    file.attrs["n_spatial_dims"] = np.int64(shard.grid.num_axes)
    file.attrs["n_trajectories"] = np.int64(shard.states.shape[0])
    _set_text(file, "simulation_parameters", list(shard.scalars))
    for name, value in shard.scalars.items():
        file.attrs[name] = np.float64(value)
    # What follows is ours; readers of The Well ignore it.
    file.attrs["system"] = shard.system
    file.attrs["environment"] = shard.environment_kind
    file.attrs["config"] = canonical_json(shard.config)
    file.attrs["fields"] = canonical_json(shard.fields)
    file.attrs["environment_fields"] = canonical_json(shard.environment_fields)
    file.attrs["lengths"] = np.array(shard.grid.lengths, dtype=np.float64)


def _write_dimensions(file: h5py.File, shard: Shard) -> None:
    group = file.create_group("dimensions")
    _set_text(group, "spatial_dims", list(shard.grid.axis_names))
    group["time"] = shard.times.astype(np.float64)
    _set_varying(group["time"], sample=False, time=True)
    for axis, name in enumerate(shard.grid.axis_names):
        group[name] = shard.grid.coordinates(axis)
        _set_varying(group[name], sample=False, time=False)


def _write_boundaries(file: h5py.File, grid: PeriodicGrid) -> None:
    group = file.create_group("boundary_conditions")
    for name, num_points in zip(grid.axis_names, grid.shape, strict=True):
        boundary = group.create_group(f"{name}_{grid.boundary.lower()}")
        boundary.attrs["bc_type"] = grid.boundary
        _set_text(boundary, "associated_dims", [name])
        _set_text(boundary, "associated_fields", [])
        _set_varying(boundary, sample=False, time=False)
        mask = np.zeros(num_points, dtype=bool)
        # A mask without its two ends reads as an open boundary.
        mask[[0, -1]] = True
        boundary["mask"] = mask


def _write_scalars(file: h5py.File, shard: Shard) -> None:
    group = file.create_group("scalars")
    names = list(shard.scalars)
    for name, value in shard.scalars.items():
        group[name] = np.float64(value)
        _set_varying(group[name], sample=False, time=False)
    for name, values in shard.strengths.items():
        group[name] = values.astype(np.float64)
        _set_varying(group[name], sample=True, time=False)
        names.append(name)
    for name in shard.invariants:
        series = {
            name: shard.invariants[name],
            name + BUDGET_SUFFIX: shard.budgets[name],
        }
        for key, values in series.items():
            group[key] = values.astype(np.float64)
            _set_varying(group[key], sample=True, time=True)
            names.append(key)
    _set_text(group, "field_names", names)


def _write_fields(file: Any, shard: Shard) -> None:
    names: dict[str, list[str]] = {group: [] for group in GROUPS}
    for group in GROUPS:
        file.create_group(group)
    hidden = shard.environment_kind == "hidden"
    constants = shard.environment[0] if hidden else shard.environment
    # Clients of The Well expect the fields that vary in time before the constant ones.
    for spec, values, lead, varies in (
        (shard.fields, shard.states, 2, True),
        (shard.environment_fields, constants, 0 if hidden else 1, False),
    ):
        for field, channels in zip(spec, spec.slices().values(), strict=True):
            order = field.rank.tensor_order
            part = np.moveaxis(
                values.take(range(values.shape[lead])[channels], lead), lead, -1
            )
            part = part.reshape(*part.shape[:-1], *field.component_shape)
            dataset = file[GROUPS[order]].create_dataset(
                field.name,
                data=np.ascontiguousarray(part, dtype=shard.states.dtype),
                chunks=(1,) * lead + part.shape[lead:],
                fletcher32=True,
            )
            dataset.attrs["dim_varying"] = np.ones(shard.grid.num_axes, dtype=bool)
            dataset.attrs["unit"] = field.unit
            if order == 2:
                # All components are stored, and nothing is promised of them.
                dataset.attrs["symmetric"] = np.bool_(False)
                dataset.attrs["antisymmetric"] = np.bool_(False)
            _set_varying(dataset, sample=varies or not hidden, time=varies)
            names[GROUPS[order]].append(field.name)
    for group in GROUPS:
        _set_text(file[group], "field_names", names[group])


def open_shard(path: Path, sha256: str) -> "ShardReader":
    """Open a shard whose hash is known.

    Raises
    ------
    DataError
        When the file is missing, differs from `sha256` or is no shard of ours. The
        hash is compared before the HDF5 library sees the file.
    """
    found = file_hash(path)
    if found != sha256:
        raise DataError(
            f"{path}: damaged or replaced: SHA-256 is {found[:12]}.., the manifest "
            f"says {sha256[:12]}..; delete it and repeat the command that made it"
        )
    return ShardReader(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever the HDF5 library raises into one `DataError`."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        # Damage shows up as OSError, RuntimeError, KeyError, ValueError, TypeError..
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not a readable shard ({reason})") from error


class ShardReader:
    """An open shard; arrays are read when they are asked for.

    Use `open_shard`, which checks the hash first. Every method raises `DataError`
    when the file is not what it claims or holds numbers that are not finite.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _reading(path):
            # h5py's types allow everything for everything; our checks are below.
            self._file: Any = h5py.File(path, "r", locking=False)
        try:
            with _reading(path):
                self._read_header()
        except BaseException:
            self.close()
            raise

    def _read_header(self) -> None:
        attrs = self._file.attrs
        self.system: str = str(attrs["system"])
        kind = attrs["environment"]
        if kind not in ("hidden", "given"):
            raise DataError(
                f"{self.path}: environment is {kind!r}, not hidden or given"
            )
        self.environment_kind: EnvironmentKind = kind
        self.config: dict[str, Any] = json.loads(attrs["config"])
        self.fields: FieldSpec = FieldSpec.model_validate_json(attrs["fields"])
        self.environment_fields: FieldSpec = FieldSpec.model_validate_json(
            attrs["environment_fields"]
        )
        axes = [str(name) for name in self._file["dimensions"].attrs["spatial_dims"]]
        walls = {b.attrs["bc_type"] for b in self._file["boundary_conditions"].values()}
        kind = WalledGrid if walls == {WalledGrid.boundary} else PeriodicGrid
        self.grid: PeriodicGrid | WalledGrid = kind(
            shape=tuple(self._file["dimensions"][name].shape[0] for name in axes),
            lengths=tuple(float(length) for length in attrs["lengths"]),
        )
        self.num_trajectories: int = int(attrs["n_trajectories"])
        self.times: Floats = self._read("dimensions/time", (None,), slice(None))
        self.num_frames: int = len(self.times)
        self.scalars: dict[str, float] = {
            str(name): float(attrs[name]) for name in attrs["simulation_parameters"]
        }
        names = [str(n) for n in self._file["scalars"].attrs["field_names"]]
        self._invariants = [name for name in names if name + BUDGET_SUFFIX in names]
        series = {n + s for n in self._invariants for s in ("", BUDGET_SUFFIX)}
        self._strengths = [n for n in names if n not in {*self.scalars, *series}]

    def _read(self, name: str, shape: tuple[int | None, ...], selection: Any) -> Floats:
        """Read a dataset of this file, of the expected shape, all numbers finite."""
        link = self._file.get(name, getlink=True)
        dataset = self._file[name] if isinstance(link, h5py.HardLink) else None
        # External and virtual data would come from other files than the hashed one.
        if (
            not isinstance(dataset, h5py.Dataset)
            or dataset.is_virtual
            or dataset.external
        ):
            raise DataError(f"{self.path}: {name} is missing or lies in another file")
        if len(dataset.shape) != len(shape) or any(
            want not in (None, got)
            for want, got in zip(shape, dataset.shape, strict=True)
        ):
            raise DataError(
                f"{self.path}: {name}: expected shape {shape}, got {dataset.shape}"
            )
        if dataset.dtype not in (np.float32, np.float64):
            raise DataError(
                f"{self.path}: {name}: expected floats, got {dataset.dtype}"
            )
        values = dataset[selection]
        if not np.isfinite(values).all():
            raise DataError(f"{self.path}: {name} holds numbers that are not finite")
        return values

    def _read_field(
        self, field: Field, lead: tuple[int, ...], selection: tuple[slice, ...]
    ) -> Floats:
        """Read one field as ``(*lead, components, x, y)``."""
        order = field.rank.tensor_order
        name = f"{GROUPS[order]}/{field.name}"
        shape = (*lead, *self.grid.shape, *field.component_shape)
        values = self._read(name, shape, selection)
        flat = values.reshape(*values.shape[: len(shape) - order], field.components)
        return np.moveaxis(flat, -1, len(lead))

    def states(
        self, trajectories: slice = slice(None), frames: slice = slice(None)
    ) -> Floats:
        """Return ``(trajectories, frames, channels, x, y)`` in the file's precision."""
        lead = (self.num_trajectories, self.num_frames)
        with _reading(self.path):
            parts = [
                self._read_field(field, lead, (trajectories, frames))
                for field in self.fields
            ]
            return np.concatenate(parts, axis=2)

    def environment(self, trajectories: slice = slice(None)) -> Floats:
        """Return ``(trajectories, channels, x, y)``; first axis 1 when hidden."""
        hidden = self.environment_kind == "hidden"
        lead = () if hidden else (self.num_trajectories,)
        selection = () if hidden else (trajectories,)
        num = 1 if hidden else len(range(*trajectories.indices(*lead)))
        with _reading(self.path):
            parts = [
                self._read_field(field, lead, selection).reshape(
                    num, field.components, *self.grid.shape
                )
                for field in self.environment_fields
            ]
            empty = np.zeros((num, 0, *self.grid.shape), dtype=np.float32)
            return np.concatenate([empty, *parts], axis=1)

    def strengths(self) -> dict[str, NDArray[np.float64]]:
        """Return the scalars that differ between trajectories, ``(trajectories,)``."""
        lead = (self.num_trajectories,)
        with _reading(self.path):
            return {
                name: self._read(f"scalars/{name}", lead, slice(None)).astype(float)
                for name in self._strengths
            }

    def invariants(self) -> dict[str, NDArray[np.float64]]:
        """Return each invariant, ``(trajectories, frames)``."""
        return {name: self._series(name) for name in self._invariants}

    def budgets(self) -> dict[str, NDArray[np.float64]]:
        """Return the explained change of each invariant, ``(trajectories, frames)``."""
        return {n: self._series(n + BUDGET_SUFFIX) for n in self._invariants}

    def _series(self, name: str) -> NDArray[np.float64]:
        shape = (self.num_trajectories, self.num_frames)
        with _reading(self.path):
            return self._read(f"scalars/{name}", shape, slice(None)).astype(np.float64)

    def load(self) -> Shard:
        """Return the whole shard."""
        return Shard(
            states=self.states(),
            fields=self.fields,
            environment=self.environment(),
            environment_fields=self.environment_fields,
            environment_kind=self.environment_kind,
            times=self.times.astype(np.float64),
            grid=self.grid,
            scalars=self.scalars,
            strengths=self.strengths(),
            invariants=self.invariants(),
            budgets=self.budgets(),
            system=self.system,
            config=self.config,
        )

    def check_schema(self) -> None:
        """Check every rule of The Well's schema; `DataError` names the first fault."""
        from pde_sym.store.schema import check_well

        with _reading(self.path):
            check_well(self._file, self.path)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
