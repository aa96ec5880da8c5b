"""The rules of The Well's file format, and the ones that its own checker misses."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pde_sym.errors import DataError

_ROOT = (
    "dataset_name",
    "grid_type",
    "n_spatial_dims",
    "n_trajectories",
    "simulation_parameters",
)
_GROUPS = (
    "dimensions",
    "boundary_conditions",
    "scalars",
    "t0_fields",
    "t1_fields",
    "t2_fields",
)


def check_well(file: h5py.File, path: Path) -> None:
    """Raise `DataError` naming the first rule of the format that `file` breaks."""
    _Checker(file, path).check()


class _Checker:
    def __init__(self, file: h5py.File, path: Path) -> None:
        self.file: Any = file
        self.path = path

    def need(self, holds: bool, rule: str) -> None:
        if not holds:
            raise DataError(f"{self.path}: schema: {rule}")

    def check(self) -> None:
        for name in _ROOT:
            self.need(name in self.file.attrs, f"root attribute {name} is missing")
        for name in _GROUPS:
            self.need(name in self.file, f"group {name} is missing")
        self.num = int(self.file.attrs["n_trajectories"])
        self.check_dimensions()
        self.check_boundaries()
        self.check_scalars()
        for order in range(3):
            self.check_fields(order)

    def texts(self, place: Any, name: str) -> list[str]:
        """Return a list attribute; its items must be variable-length text."""
        self.need(name in place.attrs, f"{place.name}@{name} is missing")
        values = np.asarray(place.attrs[name])
        self.need(values.ndim == 1, f"{place.name}@{name} must be a list")
        self.need(
            all(isinstance(value, str) for value in values.tolist()),
            f"{place.name}@{name} must hold text",
        )
        return [str(value) for value in values]

    def varying(self, place: Any, sample: bool | None, time: bool | None) -> bool:
        """Check the two flags; return whether samples vary."""
        for name, want in (("sample_varying", sample), ("time_varying", time)):
            value = place.attrs.get(name)
            self.need(
                isinstance(value, np.bool_), f"{place.name}@{name} must be a boolean"
            )
            self.need(
                want is None or bool(value) == want,
                f"{place.name}@{name} must be {want}",
            )
        return bool(place.attrs["sample_varying"])

    def check_dimensions(self) -> None:
        group = self.file["dimensions"]
        self.axes = self.texts(group, "spatial_dims")
        self.need(
            int(self.file.attrs["n_spatial_dims"]) == len(self.axes),
            "n_spatial_dims differs from dimensions@spatial_dims",
        )
        self.need("time" in group, "dimensions/time is missing")
        self.varying(group["time"], False, True)
        times = group["time"][()]
        self.need(
            times.ndim == 1 and bool((np.diff(times) > 0).all()),
            "dimensions/time must increase",
        )
        self.num_frames = len(times)
        self.centred: dict[str, bool] = {}
        for name in self.axes:
            self.need(name in group, f"dimensions/{name} is missing")
            self.varying(group[name], False, False)
            points = group[name][()]
            steps = np.diff(points)
            self.centred[name] = bool(
                points.flat[0] != 0 and np.allclose(2 * points[:1], steps[:1])
            )
            self.need(
                points.ndim == 1
                and np.allclose(steps, steps[:1])
                and (points[0] == 0 or self.centred[name]),
                f"dimensions/{name} must be uniform and start at 0 or half a step",
            )
        self.space = tuple(group[name].shape[0] for name in self.axes)

    def check_boundaries(self) -> None:
        seen: list[str] = []
        for boundary in self.file["boundary_conditions"].values():
            kind = boundary.attrs.get("bc_type")
            self.need(
                kind in ("PERIODIC", "WALL", "OPEN"),
                f"{boundary.name}@bc_type must be PERIODIC, WALL or OPEN, got {kind!r}",
            )
            axes = self.texts(boundary, "associated_dims")
            # h5py stores an empty list without a text type.
            self.need(
                "associated_fields" in boundary.attrs,
                f"{boundary.name}@associated_fields is missing",
            )
            self.varying(boundary, False, False)
            self.need(
                len(axes) == 1 and axes[0] in self.axes,
                f"{boundary.name}@associated_dims must be one axis",
            )
            self.need(
                (kind == "WALL") == self.centred[axes[0]],
                f"{boundary.name}: points are at cell centres between walls only",
            )
            mask = boundary["mask"][()]
            size = self.space[self.axes.index(axes[0])]
            self.need(
                mask.dtype == bool and mask.shape == (size,),
                f"{boundary.name}/mask must hold {size} booleans",
            )
            self.need(
                bool(mask[0] and mask[-1] and not mask[1:-1].any()),
                f"{boundary.name}/mask must be true at its two ends only",
            )
            seen += axes
        self.need(sorted(seen) == sorted(self.axes), "every axis needs one boundary")

    def check_scalars(self) -> None:
        group = self.file["scalars"]
        names = self.texts(group, "field_names")
        self.need(sorted(names) == sorted(group), "scalars@field_names must list all")
        for name in self.texts(self.file, "simulation_parameters"):
            self.need(
                name in names and name in self.file.attrs,
                f"parameter {name} must be in scalars and a root attribute",
            )
            self.need(
                float(self.file.attrs[name]) == float(group[name][()]),
                f"parameter {name} differs between scalars and root",
            )
        for name in names:
            sample = self.varying(group[name], None, None)
            time = bool(group[name].attrs["time_varying"])
            want = (self.num,) * sample + (self.num_frames,) * time
            self.need(
                group[name].shape == want and group[name].dtype.kind == "f",
                f"scalars/{name} must hold floats of shape {want}",
            )

    def check_fields(self, order: int) -> None:
        group = self.file[f"t{order}_fields"]
        names = self.texts(group, "field_names")
        self.need(
            sorted(names) == sorted(group), f"{group.name}@field_names must list all"
        )
        components = (len(self.axes),) * order
        varies = []
        for name in names:
            dataset = group[name]
            sample = self.varying(dataset, None, None)
            time = bool(dataset.attrs["time_varying"])
            varies.append(time)
            flags = np.asarray(dataset.attrs.get("dim_varying"))
            self.need(
                flags.dtype == bool and flags.tolist() == [True] * len(self.axes),
                f"{dataset.name}@dim_varying must be true for every axis",
            )
            lead = (self.num,) * sample + (self.num_frames,) * time
            want = (*lead, *self.space, *components)
            self.need(
                dataset.shape == want and dataset.dtype in (np.float32, np.float64),
                f"{dataset.name} must hold floats of shape {want}, got {dataset.shape}",
            )
            self.need(
                bool(dataset.fletcher32) and dataset.compression is None,
                f"{dataset.name} must have a checksum and no compression",
            )
            for name in ("symmetric", "antisymmetric") if order == 2 else ():
                self.need(
                    isinstance(dataset.attrs.get(name), np.bool_),
                    f"{dataset.name}@{name} must be a boolean",
                )
        self.need(
            varies == sorted(varies, reverse=True),
            f"{group.name}: fields that vary in time come first",
        )
