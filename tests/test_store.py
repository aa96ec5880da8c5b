"""A shard is The Well's file, comes back as it was, and never reaches HDF5 damaged."""

import dataclasses
import fcntl
import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pde_sym.errors import DataError, InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid, WalledGrid
from pde_sym.store import (
    EnvironmentKind,
    Shard,
    encode,
    open_shard,
)

GRID = PeriodicGrid(shape=(8, 6), lengths=(1.0, 2.0))
FIELDS = FieldSpec.of(
    Field(name="velocity", rank=Rank.VECTOR, components=2),
    Field(name="temperature", unit="K"),
    Field(name="vorticity", rank=Rank.PSEUDOSCALAR, prognostic=False),
)
CONSTANTS = FieldSpec.of(
    Field(name="conductivity", prognostic=False),
    Field(name="wind", rank=Rank.VECTOR, components=2, prognostic=False),
)


def make_shard(
    kind: EnvironmentKind = "hidden",
    dtype: type = np.float32,
    num: int = 3,
    constants: FieldSpec = CONSTANTS,
) -> Shard:
    rng = np.random.default_rng(1)
    lead = 1 if kind == "hidden" else num
    return Shard(
        states=rng.normal(size=(num, 4, 4, *GRID.shape)).astype(dtype),
        fields=FIELDS,
        environment=rng.normal(size=(lead, constants.num_channels, *GRID.shape)).astype(
            dtype
        ),
        environment_fields=constants,
        environment_kind=kind,
        times=np.arange(4) * 0.25,
        grid=GRID,
        scalars={"viscosity": 0.5, "strength_drag": 0.0},
        strengths={"strength_beta": np.linspace(0.0, 2.0, num)},
        invariants={"energy": rng.normal(size=(num, 4))},
        budgets={"energy": rng.normal(size=(num, 4))},
        system="flow",
        config={"seed": 3, "system": {"kind": "flow"}},
    )


def save(folder: Path, data: bytes) -> tuple[Path, str]:
    path = folder / "shard.hdf5"
    path.write_bytes(data)
    return path, hashlib.sha256(data).hexdigest()


def flags(place: Any) -> tuple[bool, bool]:
    values = place.attrs["sample_varying"], place.attrs["time_varying"]
    assert all(isinstance(v, np.bool_) for v in values)
    return bool(values[0]), bool(values[1])


def check_by_the_book(path: Path, shard: Shard) -> None:
    """Check The Well's rules from its documentation, with h5py alone."""
    num, frames = shard.states.shape[:2]
    with h5py.File(path, "r") as opened:
        file: Any = opened
        attrs = file.attrs
        assert attrs["dataset_name"] == "flow"
        assert attrs["grid_type"] == "cartesian"
        assert (attrs["n_spatial_dims"], attrs["n_trajectories"]) == (2, num)
        assert attrs["n_spatial_dims"].dtype == np.int64
        assert list(attrs["simulation_parameters"]) == list(shard.scalars)
        assert list(file["dimensions"].attrs["spatial_dims"]) == ["x", "y"]
        assert flags(file["dimensions/time"]) == (False, True)
        assert file["dimensions/time"].dtype == np.float64
        for axis, name in enumerate("xy"):
            points = file["dimensions"][name]
            assert flags(points) == (False, False)
            n, length = GRID.shape[axis], GRID.lengths[axis]
            np.testing.assert_allclose(points[()], np.arange(n) * length / n)
            side = file[f"boundary_conditions/{name}_periodic"]
            assert side.attrs["bc_type"] == "PERIODIC"
            assert list(side.attrs["associated_dims"]) == [name]
            assert list(side.attrs["associated_fields"]) == []
            assert flags(side) == (False, False)
            mask = side["mask"][()]
            assert mask.dtype == np.bool_
            assert np.flatnonzero(mask).tolist() == [0, n - 1]
        scalars = file["scalars"]
        names = [*shard.scalars, "strength_beta", "energy", "energy_budget"]
        assert list(scalars.attrs["field_names"]) == names
        for name, value in shard.scalars.items():
            assert scalars[name][()] == attrs[name] == value
            assert flags(scalars[name]) == (False, False)
        for name, values in shard.strengths.items():
            assert scalars[name][()].tolist() == values.tolist()
            assert flags(scalars[name]) == (True, False)
            assert name not in attrs
        for name in ("energy", "energy_budget"):
            assert scalars[name].shape == (num, frames)
            assert scalars[name].dtype == np.float64
            assert flags(scalars[name]) == (True, True)
        order = {
            0: ["temperature", "vorticity", "conductivity"],
            1: ["velocity", "wind"],
        }
        for rank in range(3):
            group = file[f"t{rank}_fields"]
            assert list(group.attrs["field_names"]) == order.get(rank, [])
            for name in order.get(rank, []):
                field = group[name]
                constant = name in ("conductivity", "wind")
                each = not constant or shard.environment_kind == "given"
                lead = (num,) * each + (frames,) * (not constant)
                assert field.shape == (*lead, *GRID.shape, *(2,) * rank)
                assert flags(field) == (each, not constant)
                assert field.attrs["dim_varying"].tolist() == [True, True]
                assert field.attrs["dim_varying"].dtype == np.bool_
                assert field.dtype == shard.states.dtype
                assert field.fletcher32
                assert field.compression is None
                assert field.chunks[: len(lead)] == (1,) * len(lead)
        np.testing.assert_array_equal(
            file["t1_fields/velocity"][()], np.moveaxis(shard.states[:, :, :2], 2, -1)
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["hidden", "given"])
def test_file_follows_the_book_and_comes_back(
    tmp_path: Path, kind: EnvironmentKind, dtype: type
) -> None:
    shard = make_shard(kind, dtype)
    path, digest = save(tmp_path, encode(shard))
    check_by_the_book(path, shard)
    with open_shard(path, digest) as reader:
        reader.check_schema()
        back = reader.load()
        part = reader.states(slice(1, 3), slice(0, 2))
        constants = reader.environment(slice(1, 3))
    np.testing.assert_array_equal(part, shard.states[1:3, :2])
    rows = slice(0, 1) if kind == "hidden" else slice(1, 3)
    np.testing.assert_array_equal(constants, shard.environment[rows])
    for field in dataclasses.fields(Shard):
        want, got = getattr(shard, field.name), getattr(back, field.name)
        np.testing.assert_equal(got, want, err_msg=field.name)
    assert back.states.dtype == dtype


def test_points_between_walls_come_back_as_such(tmp_path: Path) -> None:
    walled = WalledGrid(shape=GRID.shape, lengths=GRID.lengths)
    shard = dataclasses.replace(make_shard(), grid=walled)
    with open_shard(*save(tmp_path, encode(shard))) as reader:
        assert type(reader.grid) is WalledGrid
        assert reader.grid == walled


def test_readers_ask_for_no_lock(tmp_path: Path) -> None:
    """Some network folders have none."""
    path, digest = save(tmp_path, encode(make_shard()))
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with open_shard(path, digest) as reader:
            assert reader.num_trajectories == 3


@pytest.mark.parametrize("kind", ["hidden", "given"])
def test_no_environment_at_all(tmp_path: Path, kind: EnvironmentKind) -> None:
    shard = make_shard(kind, constants=FieldSpec.of())
    path, digest = save(tmp_path, encode(shard))
    with open_shard(path, digest) as reader:
        reader.check_schema()
        assert reader.environment().shape == (1 if kind == "hidden" else 3, 0, 8, 6)


def test_equal_shards_have_equal_bytes() -> None:
    assert encode(make_shard("given")) == encode(make_shard("given"))


def test_every_damage_is_found_before_hdf5_sees_a_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(make_shard())
    path, digest = save(tmp_path, data)
    damaged = [
        data[:i] + bytes([data[i] ^ 1 << i % 8]) + data[i + 1 :]
        for i in range(0, len(data), 97)
    ]
    damaged += [data[:n] for n in range(0, len(data), 251)]
    damaged += [data + b"\0", encode(make_shard("given"))]

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("HDF5 parsed a damaged file")

    monkeypatch.setattr(h5py, "File", never)
    for number, content in enumerate(damaged):
        path.unlink()
        path = tmp_path / f"{number}.hdf5"
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{number}.hdf5: damaged or replaced"):
            open_shard(path, digest)


def rewrite(path: Path, edit: Any) -> str:
    with h5py.File(path, "r+") as file:
        edit(file)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def set_nan(file: Any) -> None:
    file["t0_fields/temperature"][1, 2, 3, 4] = np.nan


def drop_field(file: Any) -> None:
    del file["t1_fields/velocity"]


def link_outside(file: Any) -> None:
    del file["t1_fields/velocity"]
    file["t1_fields/velocity"] = h5py.ExternalLink("/etc/passwd", "/")


def bomb(file: Any) -> None:
    del file["t0_fields/temperature"]
    file["t0_fields"].create_dataset(
        "temperature", shape=(3, 4, 2**20, 2**20), dtype="f4", chunks=(1, 1, 8, 8)
    )


def whole_numbers(file: Any) -> None:
    del file["t0_fields/temperature"]
    file["t0_fields/temperature"] = np.zeros((3, 4, 8, 6), dtype=int)


def no_config(file: Any) -> None:
    del file.attrs["config"]


def huge_time(file: Any) -> None:
    del file["dimensions/time"]
    file["dimensions/time"] = np.zeros((2, 2))


def soft_link(file: Any) -> None:
    file.move("t1_fields/velocity", "t1_fields/moved")
    file["t1_fields/velocity"] = h5py.SoftLink("/t1_fields/moved")


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout(shape=(3, 4, 8, 6, 2), dtype="f4")
    del file["t1_fields/velocity"]
    file["t1_fields"].create_virtual_dataset("velocity", layout)


def external(file: Any) -> None:
    del file["t1_fields/velocity"]
    file["t1_fields"].create_dataset(
        "velocity", (3, 4, 8, 6, 2), "f4", external=[("raw", 0, 3 * 4 * 8 * 6 * 2 * 4)]
    )


def folder_for_data(file: Any) -> None:
    del file["t1_fields/velocity"]
    file["t1_fields"].create_group("velocity")


def open_environment(file: Any) -> None:
    file.attrs["environment"] = "open"


AWAY = "t1_fields/velocity is missing or lies in another file"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_nan, "t0_fields/temperature holds numbers that are not finite"),
        (drop_field, AWAY),
        (link_outside, AWAY),
        (soft_link, AWAY),
        (virtual, AWAY),
        (external, AWAY),
        (folder_for_data, AWAY),
        (bomb, r"t0_fields/temperature: expected shape \(3, 4, 8, 6\), got"),
        (whole_numbers, "t0_fields/temperature: expected floats, got int64"),
        (no_config, r"not a readable shard \("),
        (huge_time, r"dimensions/time: expected shape \(None,\), got \(2, 2\)"),
        (open_environment, "environment is 'open', not hidden or given"),
    ],
)
def test_wrong_content_under_a_right_hash_is_one_error(
    tmp_path: Path, edit: Any, message: str
) -> None:
    path, _ = save(tmp_path, encode(make_shard()))
    digest = rewrite(path, edit)
    with (
        pytest.raises(DataError, match=rf"shard\.hdf5: {message}"),
        open_shard(path, digest) as reader,
    ):
        reader.load()


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_numbers_that_are_not_finite_are_not_stored(value: float) -> None:
    shard = make_shard()
    for name, values in {
        "states": shard.states,
        "environment": shard.environment,
        "strength_beta": shard.strengths["strength_beta"],
        "energy": shard.invariants["energy"],
    }.items():
        before, values.flat[-1] = values.flat[-1], value
        with pytest.raises(DataError, match=rf"^{name} holds numbers that are not"):
            encode(shard)
        values.flat[-1] = before
    shard.budgets["energy"][0, 0] = value
    with pytest.raises(DataError, match=r"^energy_budget holds numbers that"):
        encode(shard)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"states": np.zeros((3, 4, 3, 8, 6))},
            r"states: expected shape \(3, 4, 4, 8, 6",
        ),
        (
            {"states": np.zeros((3, 4, 4, 6, 8))},
            r"states: expected shape \(3, 4, 4, 8, 6",
        ),
        ({"states": np.zeros((2, 4, 4, 8, 6))}, r"strength_beta: expected shape \(2,"),
        ({"environment_kind": "given"}, r"environment: expected shape \(3, 3, 8, 6\)"),
        (
            {"environment": np.zeros((3, 3, 8, 6))},
            r"environment: .* \(1, 3, 8, 6\), got",
        ),
        (
            {"environment": np.zeros((1, 2, 8, 6))},
            r"environment: .* \(1, 3, 8, 6\), got",
        ),
        ({"times": np.arange(5.0)}, r"times: expected shape \(4,\), got \(5,\)"),
        ({"strengths": {"a": np.zeros(2)}}, r"a: expected shape \(3,\), got \(2,\)"),
        ({"invariants": {"energy": np.zeros((3, 5))}}, r"energy: expected .* \(3, 4\)"),
        ({"budgets": {"energy": np.zeros((4, 4))}}, r"energy: expected .* \(3, 4\)"),
        (
            {"states": np.zeros((3, 4, 4, 8, 6), int)},
            "states are float32 or float64, got int64",
        ),
        ({"states": np.zeros((3, 4, 4, 8, 6), "f2")}, "states are .*, got float16"),
        ({"budgets": {}}, r"every invariant has a budget: got \['energy'\] and \[\]"),
        (
            {"invariants": {}},
            r"every invariant has a budget: got \[\] and \['energy'\]",
        ),
    ],
)
def test_shapes_and_numbers_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        dataclasses.replace(make_shard(), **changes)
