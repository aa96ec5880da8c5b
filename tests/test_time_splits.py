"""Splits by time: the same trajectories, one window after the other."""

from pathlib import Path

import numpy as np
import pytest

from data_gen.build import build
from data_gen.cost import estimate
from data_gen.recipes import Recipe, resolve
from data_gen.shards import make_shard
from data_gen.verify import verify
from pde_sym.dataset import TrajectoryDataset
from pde_sym.errors import InputError
from pde_sym.seeds import Split

FRAMES = 4


def recipe(frames: int = FRAMES, **options: object) -> Recipe:
    values = {"resolution": 12, "frames": frames, "dtype": "float64", **options}
    return resolve("heat", ["sink=5..30", "bubbles=0.5"], options=values)


@pytest.mark.parametrize("gap", [0, 2])
def test_windows_follow_each_other(gap: int) -> None:
    split = recipe(split_by="time", gap=gap)
    whole = make_shard(recipe(3 * FRAMES + 2 * gap), Split.TRAIN, 0, 3)
    for number, name in enumerate(Split):
        part = make_shard(split, name, 0, 3)
        where = slice(number * (FRAMES + gap), number * (FRAMES + gap) + FRAMES)
        assert np.array_equal(part.states, whole.states[:, where])
        assert np.array_equal(part.environment, whole.environment)
        assert part.times.tolist() == whole.times[where].tolist()
        for invariant, values in part.invariants.items():
            assert np.array_equal(values, whole.invariants[invariant][:, where])
            # Budgets count from the first frame that is stored.
            budget = part.budgets[invariant]
            assert (budget[:, 0] == 0).all()
            change = values - values[:, :1]
            np.testing.assert_allclose(budget, change, rtol=0, atol=1e-9)
            if invariant == "heat":
                assert np.abs(change[:, -1]).min() > 1e-5


def test_splits_by_trajectory_share_nothing() -> None:
    parts = [make_shard(recipe(), name, 0, 1).states[0, 0] for name in Split]
    for a in range(3):
        for b in range(a):
            assert not np.allclose(parts[a], parts[b])


def test_a_folder_of_windows_is_sound(tmp_path: Path) -> None:
    counts = {Split.TRAIN: 3, Split.VALID: 1, Split.TEST: 2}
    build(recipe(split_by="time"), counts, tmp_path / "data")
    assert verify(tmp_path / "data")["trajectories"] == 6
    times = [TrajectoryDataset(tmp_path / "data", s, window=2).times for s in Split]
    dt = recipe().frame_spacing
    assert [round(t[0] / dt) for t in times] == [0, FRAMES, 2 * FRAMES]


def test_the_cost_counts_what_is_simulated() -> None:
    counts = {Split.TRAIN: 1, Split.VALID: 1, Split.TEST: 1}
    plain = estimate(recipe(), counts)
    by_time = estimate(recipe(split_by="time", gap=1), counts)
    assert plain.point_steps == 3 * 144 * 3
    assert by_time.point_steps == 144 * (3 + 8 + 13)
    assert by_time.disk_bytes == plain.disk_bytes
    assert by_time.memory_bytes > plain.memory_bytes


def test_a_gap_needs_windows() -> None:
    with pytest.raises(InputError, match="gap=2: expected 0 unless split_by is time"):
        recipe(gap=2)
