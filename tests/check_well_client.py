"""Open a data set of ours with ``the_well`` and compare every item (not for pytest).

    PYTHONPATH=. python tests/check_well_client.py DIR

Needs ``the-well==1.2.0``, which pins an old fsspec: give it its own environment, with
pydantic. The files are read again here with h5py alone, so that neither reader is
trusted to check itself. Exits with 1 on the first difference.
"""

import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml
from the_well.data import WellDataset  # pyright: ignore[reportMissingImports]
from the_well.data.normalization import (  # pyright: ignore[reportMissingImports]
    ZScoreNormalization,
)

STEPS = 3


def plain_read(path: Path) -> dict[str, np.ndarray]:
    """Return the fields of a file, components last, and its coordinates."""
    arrays = {}
    with h5py.File(path, "r") as opened:
        file: Any = opened
        for group in ("t0_fields", "t1_fields", "dimensions"):
            arrays |= {name: file[group][name][()] for name in file[group]}
    return arrays


def expected_states(arrays: dict[str, np.ndarray], names: list[str]) -> np.ndarray:
    """Return ``(trajectory, time, x, y, channel)`` of the fields named."""
    parts = []
    for name in names:
        field = arrays[name]
        parts.append(field if field.ndim == 5 else field[..., None])
    return np.concatenate(parts, axis=-1)


def differs(what: str, found: np.ndarray, expected: np.ndarray, rtol: float) -> bool:
    """Say so and return True when two arrays differ."""
    if found.shape == expected.shape and np.allclose(found, expected, rtol, rtol):
        return False
    print(f"{what}: differs, shapes {found.shape} and {expected.shape}")
    return True


def compare(folder: Path, split: str, normalise: bool) -> int:
    """Compare all windows of a split; return their number, -1 on a difference."""
    options = (
        {"use_normalization": True, "normalization_type": ZScoreNormalization}
        if normalise
        else {}
    )
    well = WellDataset(
        path=str(folder),
        well_split_name=split,
        n_steps_input=1,
        n_steps_output=STEPS - 1,
        **options,
    )
    stats = yaml.safe_load((folder / "stats.yaml").read_text())
    number = 0
    for path in sorted((folder / "data" / split).glob("*.hdf5")):
        arrays = plain_read(path)
        axes = ("time", "x", "y")
        fields = [name for name in arrays if name not in axes]
        varying = [name for name in fields if name in stats["mean_delta"]]
        constant = [name for name in fields if name not in varying]
        states = expected_states(arrays, varying).astype(np.float64)
        if normalise:
            mean = np.concatenate([np.atleast_1d(stats["mean"][n]) for n in varying])
            std = np.concatenate([np.atleast_1d(stats["std"][n]) for n in varying])
            states = (states - mean) / std
        grid = np.stack(np.meshgrid(arrays["x"], arrays["y"], indexing="ij"), axis=-1)
        for trajectory in range(len(states)):
            for start in range(states.shape[1] - STEPS + 1):
                item = well[number]
                found = np.concatenate([item["input_fields"], item["output_fields"]])
                window = states[trajectory, start : start + STEPS]
                where = f"{path.name} trajectory {trajectory} frame {start}"
                if differs(where, found, window, 1e-5):
                    return -1
                if differs(f"{where}: grid", item["space_grid"].numpy(), grid, 1e-6):
                    return -1
                if item["boundary_conditions"].tolist() != [[2.0, 2.0], [2.0, 2.0]]:
                    print(f"{where}: boundaries {item['boundary_conditions']}")
                    return -1
                if constant and not normalise:
                    values = [arrays[name] for name in constant]
                    given = [v if v.ndim == 2 else v[trajectory] for v in values]
                    both = item["constant_fields"].numpy(), np.stack(given, axis=-1)
                    if differs(f"{where}: constants", *both, 1e-6):
                        return -1
                number += 1
    if number != len(well):
        print(f"{split}: {len(well)} items there, {number} windows in the files")
        return -1
    return number


def compare_ours(folder: Path, split: str) -> int:
    """Compare our reader's items with the client's; return their number."""
    from pde_sym.dataset import TrajectoryDataset

    ours = TrajectoryDataset(folder, split, window=STEPS)
    well = WellDataset(
        path=str(folder),
        well_split_name=split,
        n_steps_input=1,
        n_steps_output=STEPS - 1,
    )
    if len(ours) != len(well):
        print(f"{split}: {len(ours)} items of ours, {len(well)} there")
        return -1
    for number in range(len(ours)):
        item = well[number]
        found = np.concatenate([item["input_fields"], item["output_fields"]])
        # Ours is float32 whatever the file holds.
        found = found.astype(np.float32)
        expected = ours[number]["states"].permute(0, 2, 3, 1).numpy()
        if differs(f"{split} item {number}", found, expected, 0.0):
            return -1
    return len(ours)


def main() -> int:
    """Compare every split of the folder named on the command line."""
    folder = Path(sys.argv[1])
    for split in ("train", "valid", "test"):
        if not any((folder / "data" / split).iterdir()):
            continue
        for normalise in (False, True):
            number = compare(folder, split, normalise)
            if number < 0:
                return 1
            print(f"{split}: {number} windows agree, normalised: {normalise}")
        number = compare_ours(folder, split)
        if number < 0:
            return 1
        print(f"{split}: {number} items agree with TrajectoryDataset, bit for bit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
