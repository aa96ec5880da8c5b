"""Windows of stored trajectories as a torch data set."""

import bisect
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from pde_sym.errors import DataError, InputError
from pde_sym.fields import FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.seeds import Split
from pde_sym.store import (
    EnvironmentKind,
    Floats,
    ShardReader,
    open_entries,
    open_entry,
    read_manifest,
    read_statistics,
)

Item = dict[str, Tensor]


@dataclass(frozen=True)
class MemoryWindows:
    """All windows of trajectories that are held in memory.

    Parameters
    ----------
    states
        ``(trajectories, frames, channels, *points)``.
    given
        ``(trajectories, channels, *points)``, or None.
    window
        Frames per window.
    """

    states: Tensor
    given: Tensor | None
    window: int

    @property
    def _per_trajectory(self) -> int:
        return self.states.shape[1] - self.window + 1

    def __len__(self) -> int:
        return len(self.states) * self._per_trajectory

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return windows ``(batch, window, channels, *points)`` and given fields."""
        places = [divmod(index, self._per_trajectory) for index in indices]
        states = [self.states[i, j : j + self.window] for i, j in places]
        chosen = None if self.given is None else self.given[[i for i, _ in places]]
        return torch.stack(states), chosen


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation per channel, and of the change between frames.

    Each is a float32 tensor ``(channels,)``; `std_delta` is None for constant fields.
    """

    mean: Tensor
    std: Tensor
    std_delta: Tensor | None


class TrajectoryDataset(Dataset[Item]):
    """All windows of the trajectories of one split.

    An item is a dict of float32 tensors: ``states (window, channels, *points)``, the
    prognostic fields of consecutive frames, and ``given (channels, *points)`` when the
    environment is given. A hidden environment is never served. Windows do not cross
    trajectories. Files are verified once, here, and kept open in each process.

    Parameters
    ----------
    folder
        A finished data set.
    split
        ``train``, ``valid`` or ``test``.
    window
        Frames per item: one input and ``window - 1`` targets.
    stride
        Frames between the starts of neighbouring windows.
    num_trajectories
        Use that many trajectories, all by default. For one `subset_seed` a smaller
        subset lies in every larger one.
    subset_seed
        Chooses the subset.
    with_environment
        ``auto`` serves the environment when it is given; False withholds it too.

    Raises
    ------
    InputError
        When an argument does not fit the data set.
    DataError
        When a file is missing, damaged, foreign or holds numbers that are not finite.
    """

    grid: PeriodicGrid
    """Where the points are."""
    fields: FieldSpec
    """The channels of ``states``."""
    given_fields: FieldSpec
    """The channels of ``given``; none when nothing is served."""
    environment_fields: FieldSpec
    """The stored environment, whether models may see it or not."""
    all_fields: FieldSpec
    """The stored fields, derived ones included."""
    dt: float
    """Time between frames."""
    config: dict[str, Any]
    """The recipe of the data set; ``config["system"]`` is the system's."""
    environment_kind: EnvironmentKind
    folder: Path
    split: Split
    window: int
    stride: int
    subset_seed: int
    num_frames: int
    """Frames per trajectory."""
    times: NDArray[np.float64]
    """Of the frames."""

    def __init__(
        self,
        folder: Path | str,
        split: Split | str,
        *,
        window: int = 2,
        stride: int = 1,
        num_trajectories: int | None = None,
        subset_seed: int = 0,
        with_environment: Literal["auto"] | bool = "auto",
    ) -> None:
        self.folder = Path(folder)
        if split not in list(Split):
            raise InputError(f"split: expected train, valid or test, got {split!r}")
        self.split = Split(split)
        self.window, self.stride, self.subset_seed = window, stride, subset_seed
        self._manifest = read_manifest(self.folder)
        self._entries = self._manifest.of(self.split)
        self._starts = [entry.start for entry in self._entries]
        self._numbers = [entry.numbers for entry in self._entries]
        self._readers: tuple[int, dict[int, ShardReader]] = (os.getpid(), {})
        self._read_headers()
        self._choose_environment(with_environment)
        self._choose_windows(num_trajectories, subset_seed)

    def _read_headers(self) -> None:
        if not self._entries:
            raise InputError(f"{self.folder}: no {self.split} trajectories")
        first = None
        for reader in open_entries(self.folder, self._entries):
            header = (reader.fields, reader.environment_fields, reader.grid)
            frames = (reader.num_frames, reader.environment_kind, reader.config)
            first = first or (header, frames, reader.times)
            if first[:2] != (header, frames) or (first[2] != reader.times).any():
                raise DataError(f"{reader.path}: other fields, grid or times")
            if reader.config != self._manifest.config:
                raise DataError(f"{reader.path}: of another recipe than the manifest")
        assert first is not None
        (self.all_fields, self.environment_fields, self.grid), frames, times = first
        self.num_frames, self.environment_kind, self.config = frames
        self.fields = self.all_fields.prognostic()
        self.times = times.astype(np.float64)
        self.dt = float(times[1] - times[0])
        self._channels = self.all_fields.prognostic_channels

    def _choose_environment(self, wanted: Literal["auto"] | bool) -> None:
        is_given = self.environment_kind == "given"
        if wanted is True and not is_given:
            raise InputError(
                f"{self.folder}: the environment is hidden; expected "
                "with_environment='auto' or data made with --environment given"
            )
        serve = is_given and wanted is not False
        self.given_fields = self.environment_fields if serve else FieldSpec.of()

    def _choose_windows(self, number: int | None, seed: int) -> None:
        if not 1 <= self.window <= self.num_frames or self.stride < 1:
            raise InputError(
                f"window: expected 1 to {self.num_frames} frames and a stride >= 1, "
                f"got {self.window!s:.80} and {self.stride}"
            )
        there = self._manifest.numbers(self.split)
        number = len(there) if number is None else number
        if not 1 <= number <= len(there):
            raise InputError(
                f"num_trajectories: expected 1 to {len(there)} for {self.split}, "
                f"got {number!s:.80}"
            )
        total = self._manifest.done(self.split)
        order = np.random.Generator(np.random.Philox(seed)).permutation(total)
        # Lost ones drop out of the order, so that subsets stay nested.
        chosen = order[np.isin(order, there)][:number]
        self.trajectories: list[int] = sorted(chosen.tolist())
        """Numbers of the trajectories in use, in their split."""
        self._offsets = range(0, self.num_frames - self.window + 1, self.stride)

    def __len__(self) -> int:
        return len(self.trajectories) * len(self._offsets)

    def __getitem__(self, index: int) -> Item:
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        chosen, window = divmod(index % len(self), len(self._offsets))
        start = self._offsets[window]
        reader, local = self._locate(self.trajectories[chosen])
        states = reader.states(
            slice(local, local + 1), slice(start, start + self.window)
        )
        item = {"states": self._tensor(states[0][:, self._channels])}
        if len(self.given_fields):
            given = reader.environment(slice(local, local + 1))
            item["given"] = self._tensor(given[0])
        return item

    def load_all(self) -> Item:
        """Return every chosen trajectory at once, for data that fits in memory.

        ``states`` is ``(trajectories, frames, channels, *points)`` and ``given``, when
        there is one, ``(trajectories, channels, *points)``; both float32.
        """
        states, given = [], []
        for reader, local in self._chosen():
            states.append(self._tensor(reader.states()[local][:, :, self._channels]))
            if len(self.given_fields):
                given.append(self._tensor(reader.environment()[local]))
        items = {"states": torch.cat(states)}
        return items | ({"given": torch.cat(given)} if given else {})

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return ``states (batch, window, channels, *points)`` and given fields."""
        items = [self[index] for index in indices]
        given = [item["given"] for item in items if "given" in item]
        states = torch.stack([item["states"] for item in items])
        return states, torch.stack(given) if given else None

    def load_environment(self) -> Tensor:
        """Return the environment of every chosen trajectory, hidden or not, float64.

        For solvers, diagnostics and pictures; a hidden environment is no model's
        input. The shape is ``(trajectories, channels, *points)``.
        """
        rows = []
        for reader, local in self._chosen():
            stored = reader.environment().astype(np.float64)
            # A hidden environment is stored once per file.
            is_hidden = self.environment_kind == "hidden"
            rows.append(stored[[0] * len(local) if is_hidden else local])
        return torch.from_numpy(np.concatenate(rows))

    def statistics(self) -> Statistics:
        """Return the training split's statistics of the channels of ``states``."""
        return self._statistics(self.fields, with_change=True)

    def given_statistics(self) -> Statistics:
        """Return the training split's statistics of the channels of ``given``."""
        return self._statistics(self.given_fields, with_change=False)

    def _statistics(self, spec: FieldSpec, *, with_change: bool) -> Statistics:
        table = read_statistics(self.folder, self._manifest)

        def channels(key: str) -> Tensor:
            values = [np.ravel(table[key][name]) for name in spec.names]
            return torch.tensor(np.concatenate([[], *values]), dtype=torch.float32)

        try:
            change = channels("std_delta") if with_change else None
            return Statistics(channels("mean"), channels("std"), change)
        except KeyError as error:
            raise DataError(
                f"{self.folder}: stats.yaml lacks the field {error}"
            ) from error

    @property
    def num_trajectories(self) -> int:
        return len(self.trajectories)

    def _chosen(self) -> Iterator[tuple[ShardReader, list[int]]]:
        """Yield each file with the chosen trajectories' numbers in it."""
        for entry in self._entries:
            low = bisect.bisect_left(self.trajectories, entry.start)
            high = bisect.bisect_left(self.trajectories, entry.start + entry.count)
            places = [self._locate(number) for number in self.trajectories[low:high]]
            if places:
                yield places[0][0], [local for _, local in places]

    def _locate(self, trajectory: int) -> tuple[ShardReader, int]:
        """Return the open file of a trajectory and its number in that file."""
        owner, readers = self._readers
        if owner != os.getpid():
            # A worker that was forked opens its own files.
            readers = {}
            self._readers = (os.getpid(), readers)
        number = bisect.bisect_right(self._starts, trajectory) - 1
        if number not in readers:
            readers[number] = open_entry(self.folder, self._entries[number])
        return readers[number], bisect.bisect_left(self._numbers[number], trajectory)

    @staticmethod
    def _tensor(values: Floats) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind: a process opens its own."""
        return self.__dict__ | {"_readers": (os.getpid(), {})}
