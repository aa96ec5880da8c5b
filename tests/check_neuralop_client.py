"""Open a data set of ours with neuraloperator and compare every item (not for pytest).

    PYTHONPATH=. python tests/check_neuralop_client.py DIR ROOT

ROOT is where `pde-sym export DIR --to well --out ROOT` put the data set in DIR.
Needs ``neuraloperator==2.0.0`` and ``the-well==1.2.0`` in an environment of their own;
`make peers` makes it. Exits with 1 on the first difference.
"""

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
from neuralop.data.datasets.the_well_dataset import (  # pyright: ignore[reportMissingImports]
    TheWellDataset,
)

from pde_sym.dataset import TrajectoryDataset


def places(dataset: TrajectoryDataset) -> list[int]:
    """Return where our channels are among theirs: scalars, vectors, tensors."""
    spec, slices = dataset.all_fields, dataset.all_fields.slices()
    theirs = [
        channel
        for order in (0, 1, 2)
        for field in spec
        if field.rank.tensor_order == order
        for channel in range(slices[field.name].start, slices[field.name].stop)
    ]
    return [theirs.index(channel) for channel in spec.prognostic_channels]


def compare(theirs: Any, ours: TrajectoryDataset, what: str) -> bool:
    """Print and return whether both have the same items, bit for bit."""
    if len(theirs) != len(ours):
        print(f"{what}: {len(ours)} items of ours, {len(theirs)} there")
        return False
    channels = places(ours)
    for number in range(len(ours)):
        item = theirs[number]
        found = np.concatenate([item["input_fields"], item["output_fields"]])
        expected = ours[number]["states"].movedim(1, -1).numpy()
        if not np.array_equal(found[..., channels], expected):
            print(f"{what}: item {number} differs")
            return False
    print(f"{what}: {len(ours)} items agree, bit for bit")
    return True


def main() -> int:
    """Compare the training windows, the test windows and whole test trajectories."""
    folder, root = Path(sys.argv[1]), Path(sys.argv[2])
    tasks: Any = ["next_step", "autoregression"]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its statistics
        well = TheWellDataset(root, folder.name, eval_tasks=tasks, download=False)
    frames = TrajectoryDataset(folder, "test").num_frames
    pairs = (
        (well.train_db, TrajectoryDataset(folder, "train"), "train"),
        (well.test_dbs["next_step"], TrajectoryDataset(folder, "test"), "test"),
        (
            well.test_dbs["autoregression"],
            TrajectoryDataset(folder, "test", window=frames),
            "test, whole",
        ),
    )
    agree = [compare(*pair) for pair in pairs]  # all are told
    return 0 if all(agree) else 1


if __name__ == "__main__":
    sys.exit(main())
