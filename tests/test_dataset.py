"""Windows are what the files hold, and a hidden environment stays hidden."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from test_store_folder import build, counts, recipe, trajectories
from torch.utils.data import DataLoader

from pde_sym.dataset import TrajectoryDataset
from pde_sym.errors import DataError, InputError
from pde_sym.fields import Field, FieldSpec
from pde_sym.seeds import Split
from pde_sym.store import (
    Manifest,
    ShardEntry,
    compute_statistics,
    encode,
    open_entries,
    write_manifest,
)
from pde_sym.store.folder import sha256


def made(folder: Path, **changes: Any) -> Path:
    build(recipe(frames=5, **changes), counts(train=5, valid=1, test=0), folder)
    return folder


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("sets") / "hidden")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(
        tmp_path_factory.mktemp("sets") / "given", environment="given", dtype="float64"
    )


def test_windows_are_slices_of_single_trajectories(hidden: Path) -> None:
    u = trajectories(hidden, "train")[:, :, None]
    dataset = TrajectoryDataset(hidden, "train", window=3)
    assert len(dataset) == 5 * 3
    for number, (trajectory, start) in enumerate(np.ndindex(5, 3)):
        item = dataset[number]
        assert item["states"].dtype == torch.float32
        np.testing.assert_array_equal(item["states"], u[trajectory, start : start + 3])
    np.testing.assert_array_equal(dataset[-1]["states"], dataset[14]["states"])
    np.testing.assert_array_equal(dataset.load_all()["states"], u)
    with pytest.raises(IndexError):
        dataset[15]


def test_stride_is_between_starts(hidden: Path) -> None:
    u = trajectories(hidden, "train")[:, :, None]
    dataset = TrajectoryDataset(hidden, "train", window=2, stride=2)
    assert len(dataset) == 5 * 2
    np.testing.assert_array_equal(dataset[3]["states"], u[1, 2:4])


def test_metadata(hidden: Path) -> None:
    dataset = TrajectoryDataset(hidden, Split.VALID, window=2)
    asked = recipe(frames=5)
    assert dataset.grid == asked.grid
    assert dataset.fields == asked.system.fields
    assert dataset.dt == pytest.approx(5e-4)
    assert dataset.config == asked.model_dump(mode="json")
    assert dataset.environment_kind == "hidden"
    assert dataset.num_trajectories == 1


def test_subsets_are_nested_and_seeded(hidden: Path) -> None:
    def subset(number: int, seed: int = 0) -> list[int]:
        return TrajectoryDataset(
            hidden, "train", window=2, num_trajectories=number, subset_seed=seed
        ).trajectories

    for number in range(1, 5):
        assert set(subset(number)) < set(subset(number + 1))
    assert len({tuple(subset(2, seed)) for seed in range(20)}) > 3
    few = TrajectoryDataset(hidden, "train", window=5, num_trajectories=3)
    u = trajectories(hidden, "train")[:, :, None]
    np.testing.assert_array_equal(few.load_all()["states"], u[few.trajectories])
    stacked = torch.stack([few[i]["states"] for i in range(len(few))])
    np.testing.assert_array_equal(stacked, u[few.trajectories])


def test_hidden_environment_is_not_served(hidden: Path) -> None:
    dataset = TrajectoryDataset(hidden, "train", window=2)
    assert set(dataset[0]) == {"states"}
    assert set(dataset.load_all()) == {"states"}
    assert len(dataset.given_fields) == 0
    with pytest.raises(InputError, match="the environment is hidden"):
        TrajectoryDataset(hidden, "train", window=2, with_environment=True)


def test_given_environment_is_served_per_trajectory(given: Path) -> None:
    dataset = TrajectoryDataset(given, "train", window=2, num_trajectories=4)
    stored = np.concatenate(
        [
            np.asarray(h5py.File(path)["t0_fields/conductivity"])
            for path in sorted((given / "data/train").iterdir())
        ]
    ).astype(np.float32)[:, None]
    assert dataset.given_fields.names == ("conductivity",)
    for number in range(len(dataset)):
        trajectory = dataset.trajectories[number // 4]
        np.testing.assert_array_equal(dataset[number]["given"], stored[trajectory])
    everything = dataset.load_all()
    np.testing.assert_array_equal(everything["given"], stored[dataset.trajectories])
    assert everything["states"].dtype == torch.float32
    assert dataset.given_statistics().mean.shape == (1,)
    without = TrajectoryDataset(given, "train", window=2, with_environment=False)
    assert set(without[0]) == {"states"}


def test_statistics_are_the_training_splits(hidden: Path) -> None:
    u = trajectories(hidden, "train").astype(np.float64)
    found = TrajectoryDataset(hidden, "valid", window=2).statistics()
    assert found.std_delta is not None
    for tensor, value in (
        (found.mean, u.mean()),
        (found.std, u.std()),
        (found.std_delta, np.diff(u, axis=1).std()),
    ):
        assert tensor.shape == (1,)
        assert tensor.item() == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_open_their_own_files(hidden: Path, context: str) -> None:
    dataset = TrajectoryDataset(hidden, "train", window=3)
    first = dataset[0]["states"]
    loader = DataLoader(
        dataset, batch_size=4, num_workers=2, multiprocessing_context=context
    )
    found = torch.cat([batch["states"] for batch in loader])
    expected = torch.stack([dataset[i]["states"] for i in range(len(dataset))])
    assert torch.equal(found, expected)
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[0]["states"], first)


@pytest.mark.parametrize(
    "arguments",
    [
        {"window": 0},
        {"window": 6},
        {"window": 2, "stride": 0},
        {"window": 2, "num_trajectories": 0},
        {"window": 2, "num_trajectories": 6},
        {"window": 2, "split": "tets"},
        {"window": 2, "split": "test"},
    ],
)
def test_wrong_arguments(hidden: Path, arguments: dict[str, Any]) -> None:
    arguments = {"split": "train", **arguments}
    with pytest.raises(InputError) as caught:
        TrajectoryDataset(hidden, **arguments)
    assert "\n" not in str(caught.value)


FIRST, SECOND = "data/train/heat-00000.hdf5", "data/train/heat-00001.hdf5"


def truncate(folder: Path) -> None:
    os.truncate(folder / SECOND, 1000)


def flip_bit(folder: Path) -> None:
    data = bytearray((folder / SECOND).read_bytes())
    data[len(data) // 2] ^= 4
    (folder / SECOND).write_bytes(data)


def swap(folder: Path) -> None:
    first, second = (folder / FIRST).read_bytes(), (folder / SECOND).read_bytes()
    (folder / FIRST).write_bytes(second)
    (folder / SECOND).write_bytes(first)


def remove(folder: Path) -> None:
    (folder / SECOND).unlink()


def foreign(folder: Path) -> None:
    with h5py.File(folder / SECOND, "w") as file:
        file["mine"] = np.zeros(3)


def relist(folder: Path, name: str) -> None:
    """Make the manifest agree with a changed file."""
    data = (folder / name).read_bytes()
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    for entry in manifest["shards"]:
        if entry["file"] == name:
            entry |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))


def foreign_and_listed(folder: Path) -> None:
    foreign(folder)
    relist(folder, SECOND)


def nan_and_listed(folder: Path) -> None:
    with h5py.File(folder / SECOND, "r+") as file:
        values: Any = file["t0_fields/temperature"]
        values[1, 2, 3, 4] = np.nan
    relist(folder, SECOND)


def swap_and_list(folder: Path) -> None:
    shutil.copy(folder / "data/valid/heat-00000.hdf5", folder / SECOND)
    relist(folder, SECOND)


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_bit,
        swap,
        remove,
        foreign,
        foreign_and_listed,
        nan_and_listed,
        swap_and_list,
    ],
)
def test_damage_is_one_error_that_names_the_file(
    hidden: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(hidden, folder)
    damage(folder)
    with pytest.raises(DataError, match=r"heat-0000[01]\.hdf5: ") as caught:
        TrajectoryDataset(folder, "train", window=2).load_all()
    assert "\n" not in str(caught.value)


def test_folders_that_are_no_data_sets(tmp_path: Path, hidden: Path) -> None:
    with pytest.raises(DataError, match="MANIFEST"):
        TrajectoryDataset(tmp_path, "train", window=2)
    manifest = json.loads((hidden / "MANIFEST.json").read_text())
    unfinished = manifest | {"complete": False, "stats_sha256": None}
    (tmp_path / "MANIFEST.json").write_text(json.dumps(unfinished))
    with pytest.raises(DataError, match="not finished"):
        TrajectoryDataset(tmp_path, "train", window=2)


def test_derived_fields_are_not_served(tmp_path: Path) -> None:
    from test_store import make_shard

    shard = make_shard("given")
    folder, file = tmp_path / "flow", "data/train/flow-00000.hdf5"
    path = folder / file
    path.parent.mkdir(parents=True)
    data = encode(shard)
    path.write_bytes(data)
    entry = ShardEntry(
        file=file,
        split=Split.TRAIN,
        start=0,
        count=3,
        sha256=sha256(data),
        bytes=len(data),
    )
    stats = compute_statistics(open_entries(folder, [entry]))
    (folder / "stats.yaml").write_bytes(stats)
    numbers = {Split.TRAIN: 3, Split.VALID: 0, Split.TEST: 0}
    manifest = Manifest(
        config=shard.config,
        counts=numbers,
        shards=(entry,),
        stats_sha256=sha256(stats),
        complete=True,
    )
    write_manifest(folder, manifest)
    dataset = TrajectoryDataset(folder, "train", window=2)
    assert dataset.fields.names == ("velocity", "temperature")
    assert dataset.fields == FieldSpec.of(*list(dataset.all_fields)[:2])
    assert isinstance(next(iter(dataset.fields)), Field)
    item = dataset[1]
    np.testing.assert_array_equal(item["states"], shard.states[0, 1:3, :3])
    np.testing.assert_array_equal(item["given"], shard.environment[0])
    found = dataset.statistics()
    expected = shard.states[:, :, :3].astype(np.float64).std(axis=(0, 1, 3, 4))
    np.testing.assert_allclose(found.std, expected, rtol=1e-6)
    assert dataset.given_statistics().std.shape == (3,)
