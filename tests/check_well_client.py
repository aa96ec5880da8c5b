"""Open a data set of ours with ``the_well`` and compare every item (not for pytest).

    PYTHONPATH=. python tests/check_well_client.py DIR

Needs ``the-well==1.2.0``, which pins an old fsspec, in an environment of its own,
which `make peers` makes. The files are read again here with h5py alone, so that neither
reader is trusted to check itself. Exits with 1 on the first difference.
"""

import sys
from dataclasses import dataclass
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


CODES = {"WALL": 0.0, "OPEN": 1.0, "PERIODIC": 2.0}
"""How the client tells boundaries apart."""


@dataclass(frozen=True)
class Plain:
    """A file: fields with components last, in the order of the client."""

    states: dict[str, np.ndarray]
    """``(trajectory, time, *space, component)``"""
    constants: dict[str, np.ndarray]
    """``(trajectory, *space, component)``"""
    grid: np.ndarray
    boundaries: list[list[float]]


def plain_read(path: Path) -> Plain:
    """Read a file with h5py alone."""
    states, constants = {}, {}
    with h5py.File(path, "r") as opened:
        file: Any = opened
        number = int(file.attrs["n_trajectories"])
        for order, group in enumerate(("t0_fields", "t1_fields", "t2_fields")):
            for name in file[group].attrs["field_names"]:
                field = file[group][name]
                values = field[()]
                # The client's channels are the components, row after row.
                space = values.shape[: values.ndim - order]
                values = values.reshape(*space, -1)
                if not field.attrs["sample_varying"]:
                    values = np.stack([values] * number)
                varies = field.attrs["time_varying"]
                (states if varies else constants)[str(name)] = values
        axes = [str(a) for a in file["dimensions"].attrs["spatial_dims"]]
        mesh = np.meshgrid(*(file["dimensions"][a][()] for a in axes), indexing="ij")
        ends = {
            str(b.attrs["associated_dims"][0]): CODES[b.attrs["bc_type"]]
            for b in file["boundary_conditions"].values()
        }
    return Plain(states, constants, np.stack(mesh, -1), [[ends[a]] * 2 for a in axes])


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
        plain = plain_read(path)
        names = list(plain.states)
        states = np.concatenate(list(plain.states.values()), -1).astype(np.float64)
        if normalise:
            mean = np.concatenate([np.ravel(stats["mean"][n]) for n in names])
            std = np.concatenate([np.ravel(stats["std"][n]) for n in names])
            states = (states - mean) / std
        for trajectory in range(len(states)):
            for start in range(states.shape[1] - STEPS + 1):
                item = well[number]
                found = np.concatenate([item["input_fields"], item["output_fields"]])
                window = states[trajectory, start : start + STEPS]
                where = f"{path.name} trajectory {trajectory} frame {start}"
                # Only the normalised ones are rounded.
                if differs(where, found, window, 1e-5 if normalise else 0.0):
                    return -1
                space = item["space_grid"].numpy()
                if differs(f"{where}: grid", space, plain.grid, 1e-6):
                    return -1
                if item["boundary_conditions"].tolist() != plain.boundaries:
                    print(f"{where}: boundaries {item['boundary_conditions']}")
                    return -1
                if plain.constants and not normalise:
                    given = [v[trajectory] for v in plain.constants.values()]
                    both = item["constant_fields"].numpy(), np.concatenate(given, -1)
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
    # Theirs are scalars first; ours are in our order, without derived fields.
    spec, slices = ours.all_fields, ours.all_fields.slices()
    theirs = [
        channel
        for order in (0, 1, 2)
        for field in spec
        if field.rank.tensor_order == order
        for channel in range(slices[field.name].start, slices[field.name].stop)
    ]
    places = [theirs.index(channel) for channel in spec.prognostic_channels]
    for number in range(len(ours)):
        item = well[number]
        found = np.concatenate([item["input_fields"], item["output_fields"]])
        # Ours is float32 whatever the file holds.
        found = found.astype(np.float32)
        expected = ours[number]["states"].movedim(1, -1).numpy()
        if differs(f"{split} item {number}", found[..., places], expected, 0.0):
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
