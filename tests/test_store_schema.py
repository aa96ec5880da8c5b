"""Each rule of The Well's format: files of ours keep it, and a broken one is named."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import test_store
import test_store_tensors

from pde_sym.errors import DataError
from pde_sym.grid import WalledGrid
from pde_sym.store import Shard, encode
from pde_sym.store.schema import check_well

FLOW = test_store.make_shard("given")
HIDDEN = test_store.make_shard("hidden")
BOX = replace(FLOW, grid=WalledGrid(shape=(8, 6), lengths=(1.0, 2.0)))
STRESS = test_store_tensors.make_shard()
Edit = Callable[[Any], None]


def check(content: bytes, *edits: Edit) -> None:
    with h5py.File(io.BytesIO(content), "r+") as file:
        for edit in edits:
            edit(file)
        check_well(file, Path("file.hdf5"))


@pytest.mark.parametrize("shard", [FLOW, HIDDEN, BOX, STRESS])
def test_files_of_ours_keep_every_rule(shard: Shard) -> None:
    check(encode(shard))


FILE, BOX_FILE, STRESS_FILE = encode(FLOW), encode(BOX), encode(STRESS)


def attribute(place: str, name: str, value: Any = None) -> Edit:
    """Set an attribute, or remove it."""

    def edit(file: Any) -> None:
        if value is None:
            del file[place].attrs[name]
        else:
            file[place].attrs[name] = value

    return edit


def data(place: str, change: Callable[[Any], Any], **options: Any) -> Edit:
    """Put other data in the place of a data set, under the same attributes."""

    def edit(file: Any) -> None:
        values, attrs = file[place][()], dict(file[place].attrs)
        del file[place]
        file.create_dataset(place, data=change(values), **options)
        file[place].attrs.update(attrs)

    return edit


def remove(place: str) -> Edit:
    def edit(file: Any) -> None:
        del file[place]

    return edit


def stranger(place: str) -> Edit:
    def edit(file: Any) -> None:
        file[place] = 0.0

    return edit


def at(index: Any, value: Any) -> Callable[[Any], Any]:
    def change(values: Any) -> Any:
        values[index] = value
        return values

    return change


NO, YES = np.bool_(False), np.bool_(True)
TIME, X, MASK = "dimensions/time", "dimensions/x", "boundary_conditions/x_periodic/mask"
SIDE, OTHER = "boundary_conditions/x_periodic", "boundary_conditions/y_periodic"
HEAT, WIND = "t0_fields/temperature", "t1_fields/wind"
ROOT = ("dataset_name", "grid_type", "n_spatial_dims", "n_trajectories")
GROUPS = ("dimensions", "boundary_conditions", "scalars", "t0_fields", "t1_fields")
BROKEN: list[tuple[Edit, str]] = [
    *[(attribute("/", n), f"root attribute {n} is missing") for n in ROOT],
    (
        attribute("/", "simulation_parameters"),
        "root attribute simulation_parameters is missing",
    ),
    *[(remove(name), f"group {name} is missing") for name in (*GROUPS, "t2_fields")],
    # Lists of text
    (attribute("scalars", "field_names"), "/scalars@field_names is missing"),
    (attribute("scalars", "field_names", "x"), "/scalars@field_names must be a list"),
    (attribute("scalars", "field_names", [1]), "/scalars@field_names must hold text"),
    # Dimensions
    (attribute("/", "n_spatial_dims", 3), "n_spatial_dims differs from"),
    (remove(TIME), "dimensions/time is missing"),
    (attribute(TIME, "sample_varying", YES), "time@sample_varying must be False"),
    (attribute(TIME, "time_varying", NO), "time@time_varying must be True"),
    (attribute(TIME, "time_varying", 1), "time@time_varying must be a boolean"),
    (attribute(TIME, "sample_varying"), "time@sample_varying must be a boolean"),
    (data(TIME, at(2, 0.25)), "dimensions/time must increase"),
    (data(TIME, np.negative), "dimensions/time must increase"),
    (data(TIME, lambda t: t[None]), "dimensions/time must increase"),
    (remove(X), "dimensions/x is missing"),
    (attribute(X, "sample_varying", YES), "/dimensions/x@sample_varying must be False"),
    (attribute(X, "time_varying", YES), "/dimensions/x@time_varying must be False"),
    (data(X, at(3, 0.4)), "dimensions/x must be uniform and start at 0"),
    (data(X, lambda x: x + 0.02), "dimensions/x must be uniform and start at 0"),
    (data(X, lambda x: x[None]), "dimensions/x must be uniform and start at 0"),
    # Boundaries
    (attribute(SIDE, "bc_type", "periodic"), "bc_type must be PERIODIC, WALL or OPEN"),
    (attribute(SIDE, "bc_type"), "bc_type must be PERIODIC, WALL or OPEN, got None"),
    (
        attribute(SIDE, "bc_type", "WALL"),
        "x_periodic: points are at cell centres between walls",
    ),
    (
        data(X, lambda x: x + 1 / 16),
        "x_periodic: points are at cell centres between walls only",
    ),
    (attribute(SIDE, "associated_dims"), "associated_dims is missing"),
    (
        attribute(SIDE, "associated_dims", ["x", "y"]),
        "associated_dims must be one axis",
    ),
    (attribute(SIDE, "associated_dims", ["z"]), "associated_dims must be one axis"),
    (attribute(SIDE, "associated_fields"), "associated_fields is missing"),
    (attribute(SIDE, "sample_varying", YES), "x_periodic@sample_varying must be False"),
    (attribute(SIDE, "time_varying", YES), "x_periodic@time_varying must be False"),
    (data(MASK, lambda m: m.astype(int)), "x_periodic/mask must hold 8 booleans"),
    (data(MASK, lambda m: m[1:]), "x_periodic/mask must hold 8 booleans"),
    (data(MASK, at(0, False)), "mask must be true at its two ends only"),
    (data(MASK, at(-1, False)), "mask must be true at its two ends only"),
    (data(MASK, at(1, True)), "mask must be true at its two ends only"),
    (data(MASK, at(-2, True)), "mask must be true at its two ends only"),
    (remove(OTHER), "every axis needs one boundary"),
    (lambda file: file.copy(SIDE, f"{SIDE}_again"), "every axis needs one boundary"),
    # Scalars
    (stranger("scalars/extra"), "scalars@field_names must list all"),
    (remove("scalars/energy"), "scalars@field_names must list all"),
    (attribute("/", "viscosity"), "parameter viscosity must be in scalars and a root"),
    (
        attribute("/", "simulation_parameters", ["viscosity", "grid_type"]),
        "parameter grid_type must be in scalars and a root attribute",
    ),
    (attribute("/", "viscosity", 0.25), "parameter viscosity differs between scalars"),
    (
        attribute("scalars/energy", "sample_varying", NO),
        r"scalars/energy must hold floats of shape \(4,\)",
    ),
    (
        attribute("scalars/energy", "time_varying", NO),
        r"scalars/energy must hold floats of shape \(3,\)",
    ),
    (attribute("scalars/energy", "time_varying", 1), "time_varying must be a boolean"),
    (
        data("scalars/energy", lambda e: e.astype(int)),
        r"scalars/energy must hold floats of shape \(3, 4\)",
    ),
    # Fields
    (attribute("t1_fields", "field_names"), "/t1_fields@field_names is missing"),
    (stranger("t0_fields/extra"), "/t0_fields@field_names must list all"),
    (attribute(HEAT, "dim_varying"), "temperature@dim_varying must be true for every"),
    (attribute(HEAT, "dim_varying", [1, 1]), "dim_varying must be true for every axis"),
    (attribute(HEAT, "dim_varying", [YES, NO]), "dim_varying must be true for every"),
    (attribute(HEAT, "dim_varying", [YES] * 3), "dim_varying must be true for every"),
    (
        attribute(HEAT, "time_varying", NO),
        r"temperature must hold floats of shape \(3, 8, 6\), got \(3, 4, 8, 6\)",
    ),
    (
        attribute(WIND, "sample_varying", NO),
        r"wind must hold floats of shape \(8, 6, 2\), got \(3, 8, 6, 2\)",
    ),
    (
        data(HEAT, lambda u: u.astype(int), fletcher32=True),
        r"temperature must hold floats of shape \(3, 4, 8, 6\), got \(3, 4, 8, 6\)",
    ),
    (data(HEAT, lambda u: u), "temperature must have a checksum and no compression"),
    (
        data(HEAT, lambda u: u, fletcher32=True, compression="gzip"),
        "temperature must have a checksum and no compression",
    ),
    (
        attribute(
            "t0_fields", "field_names", ["conductivity", "temperature", "vorticity"]
        ),
        "/t0_fields: fields that vary in time come first",
    ),
]


@pytest.mark.parametrize(("edit", "rule"), BROKEN)
def test_a_broken_rule_is_named(edit: Edit, rule: str) -> None:
    with pytest.raises(DataError, match=rf"^file\.hdf5: schema: (\S*[/@])?{rule}"):
        check(FILE, edit)


def flat(values: Any) -> Any:
    return values.reshape(*values.shape[:-2], 4)


T2 = "t2_fields/stress"


@pytest.mark.parametrize(
    ("edit", "rule"),
    [
        (attribute(T2, "symmetric"), "stress@symmetric must be a boolean"),
        (attribute(T2, "antisymmetric", 0), "stress@antisymmetric must be a boolean"),
        (
            data(T2, flat, fletcher32=True),
            r"stress must hold floats of shape \(3, 5, 4, 3, 2, 2\), got .*, 4\)",
        ),
    ],
)
def test_tensors_have_two_axes_and_two_flags(edit: Edit, rule: str) -> None:
    with pytest.raises(DataError, match=rf"^file\.hdf5: schema: (\S*[/@])?{rule}"):
        check(STRESS_FILE, edit)


def test_points_between_walls_are_centres() -> None:
    wall = "boundary_conditions/x_wall"
    with pytest.raises(DataError, match="x_wall: points are at cell centres"):
        check(BOX_FILE, attribute(wall, "bc_type", "PERIODIC"))
    with pytest.raises(DataError, match="x_wall: points are at cell centres"):
        check(BOX_FILE, data(X, lambda x: x - x[0]))
    # A line may end openly, its points then begin at its end.
    check(FILE, attribute(SIDE, "bc_type", "OPEN"))
