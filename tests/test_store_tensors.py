"""Tensor fields on disk: The Well's group of order two, its rules and statistics."""

import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from data_gen.pictures import _curves
from experiments.__main__ import main
from pde_sym.dataset import TrajectoryDataset
from pde_sym.errors import DataError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid
from pde_sym.store import Shard, compute_statistics, encode, open_shard

GRID = PeriodicGrid(shape=(4, 3), lengths=(1.0, 1.0))
FIELDS = FieldSpec.of(
    Field(name="stress", rank=Rank.TENSOR, components=4),
    Field(name="pressure"),
)
CONSTANTS = FieldSpec.of(
    Field(name="diffusivity", rank=Rank.TENSOR, components=4, prognostic=False)
)


def make_shard() -> Shard:
    rng = np.random.default_rng(2)
    return Shard(
        states=rng.normal(size=(3, 5, 5, *GRID.shape)).astype(np.float32),
        fields=FIELDS,
        environment=rng.normal(size=(3, 4, *GRID.shape)).astype(np.float32),
        environment_fields=CONSTANTS,
        environment_kind="given",
        times=np.linspace(0.0, 2.0, 5),
        grid=GRID,
        scalars={},
        strengths={},
        invariants={},
        budgets={},
        system="flow",
        config={},
    )


def saved(folder: Path, edit: Any = None) -> tuple[Path, str]:
    path = folder / "shard.hdf5"
    path.write_bytes(encode(make_shard()))
    if edit is not None:
        with h5py.File(path, "r+") as file:
            edit(file)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_components_lie_row_after_row_on_the_last_two_axes(tmp_path: Path) -> None:
    shard = make_shard()
    path, digest = saved(tmp_path)
    with h5py.File(path, "r") as opened:
        file: Any = opened
        assert list(file["t2_fields"].attrs["field_names"]) == ["stress", "diffusivity"]
        assert list(file["t1_fields"].attrs["field_names"]) == []
        stress = file["t2_fields/stress"]
        assert stress.shape == (3, 5, *GRID.shape, 2, 2)
        assert file["t2_fields/diffusivity"].shape == (3, *GRID.shape, 2, 2)
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            channel = shard.states[:, :, 2 * i + j]
            np.testing.assert_array_equal(stress[..., i, j], channel)
        for flag in ("symmetric", "antisymmetric"):
            assert isinstance(stress.attrs[flag], np.bool_)
            assert not stress.attrs[flag]
    with open_shard(path, digest) as reader:
        reader.check_schema()
        back, part = reader.load(), reader.states(slice(1, 2), slice(2, 4))
    np.testing.assert_array_equal(back.states, shard.states)
    np.testing.assert_array_equal(back.environment, shard.environment)
    np.testing.assert_array_equal(part, shard.states[1:2, 2:4])
    assert back.fields == FIELDS


def no_flag(file: Any) -> None:
    del file["t2_fields/stress"].attrs["symmetric"]


def number_for_flag(file: Any) -> None:
    file["t2_fields/stress"].attrs["antisymmetric"] = 0


def flat(file: Any) -> None:
    """Store D^2 components on one axis, which clients of The Well refuse."""
    group = file["t2_fields"]
    values, attrs = group["stress"][()], dict(group["stress"].attrs)
    del group["stress"]
    group.create_dataset(
        "stress", data=values.reshape(*values.shape[:-2], 4), fletcher32=True
    )
    group["stress"].attrs.update(attrs)


@pytest.mark.parametrize("edit", [no_flag, number_for_flag, flat])
def test_the_schema_of_tensors_is_checked(tmp_path: Path, edit: Any) -> None:
    path, digest = saved(tmp_path, edit)
    with (
        open_shard(path, digest) as reader,
        pytest.raises(DataError, match=r"schema: /t2_fields/stress.* must"),
    ):
        reader.check_schema()


def test_statistics_are_lists_of_rows(tmp_path: Path) -> None:
    path, digest = saved(tmp_path)
    with open_shard(path, digest) as reader:
        table = yaml.safe_load(compute_statistics([reader]))
    states = make_shard().states.astype(np.float64)
    stress = np.moveaxis(states[:, :, :4], 2, -1).reshape(-1, 2, 2)
    np.testing.assert_allclose(table["mean"]["stress"], stress.mean(0), rtol=1e-12)
    np.testing.assert_allclose(table["std"]["stress"], stress.std(0), rtol=1e-12)
    steps = np.moveaxis(np.diff(states[:, :, :4], axis=1), 2, -1).reshape(-1, 2, 2)
    np.testing.assert_allclose(table["std_delta"]["stress"], steps.std(0), rtol=1e-12)
    assert isinstance(table["mean"]["pressure"], float)
    assert np.shape(table["rms"]["diffusivity"]) == (2, 2)


def test_the_attitude_of_a_body_from_recipe_to_items(tmp_path: Path) -> None:
    folder = tmp_path / "top"
    words = ["--set", "attitude=true", "--break", "gravity=0.5", "--frames", "4"]
    counts = ["--train", "2", "--valid", "0", "--test", "0", "--out", str(folder)]
    assert main(["generate", "rigid_body", *words, *counts]) == 0
    assert main(["verify", str(folder)]) == 0
    (path,) = folder.glob("data/train/*.hdf5")
    with h5py.File(path, "r") as opened:
        file: Any = opened
        stored = file["t2_fields/attitude"][()]
        assert list(file["t2_fields"].attrs["field_names"]) == ["attitude"]
        vertical = file["t1_fields/gravity_direction"][()]
    assert stored.shape == (2, 4, 1, 1, 1, 3, 3)
    np.testing.assert_allclose(
        stored @ np.swapaxes(stored, -1, -2), np.broadcast_to(np.eye(3), stored.shape),
        atol=1e-6,
    )  # fmt: skip
    np.testing.assert_allclose(stored[..., 2, :], vertical, atol=1e-6)
    assert np.abs(stored[..., 2] - vertical).max() >= 1e-2
    data = TrajectoryDataset(folder, "train", window=4)
    at = data.fields.slices()["attitude"]
    np.testing.assert_array_equal(
        data[1]["states"][:, at, 0, 0, 0].numpy(), stored[1].reshape(4, 9)
    )
    statistics = data.statistics()
    mean = stored.astype(np.float64).reshape(-1, 9).mean(0)
    np.testing.assert_allclose(statistics.mean[at].numpy(), mean, atol=1e-6)
    assert statistics.std.shape == (data.fields.num_channels,)


def test_every_component_is_drawn() -> None:
    """The rows of a tensor on panels of their own, the other fields on one."""
    spec = FieldSpec.of(
        Field(name="spin", rank=Rank.VECTOR, components=3),
        Field(name="attitude", rank=Rank.TENSOR, components=9),
    )
    values = np.random.default_rng(0).normal(size=(5, 12))
    figures = _curves(values, np.arange(5.0), spec)
    drawn = {
        name: [[line.get_ydata() for line in axes.lines] for axes in figure.axes]
        for name, figure in figures.items()
    }
    np.testing.assert_array_equal(np.array(drawn["spin"]), [values[:, :3].T])
    rows = values[:, 3:].T.reshape(3, 3, 5)
    np.testing.assert_array_equal(np.array(drawn["attitude"]), rows)
