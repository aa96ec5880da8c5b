"""A data set folder: shards per split, their manifest, and the training statistics.

    DIR/MANIFEST.json  stats.yaml  .lock  data/{train,valid,test}/NAME-00000.hdf5

The manifest lists every finished shard with its hash; a shard that it does not list
does not exist. It is replaced as a whole after each shard and says ``complete`` last.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from pde_sym.config import Frozen, canonical_json
from pde_sym.errors import DataError, InputError, Lost
from pde_sym.seeds import Split
from pde_sym.store.files import read_file, write_file
from pde_sym.store.hdf5 import ShardReader, open_shard

FORMAT = 1
MANIFEST = "MANIFEST.json"
STATISTICS = "stats.yaml"
MAX_SHARD = 1 << 20
"""Trajectories in a file, whose numbers are listed in memory."""
_MAX_BYTES = 1 << 26
_HASH = r"^[0-9a-f]{64}$"
_FILE = re.compile(r"data/(train|valid|test)/[A-Za-z0-9_]+-([0-9]{5,9})\.hdf5")


class ShardEntry(Frozen):
    """A finished shard: trajectories ``start .. start + count - 1`` of a split.

    The file holds those that were not lost, in order.
    """

    file: str
    """Path inside the folder."""
    split: Split
    start: int = Field(ge=0)
    count: int = Field(ge=1, le=MAX_SHARD)
    sha256: str = Field(pattern=_HASH)
    bytes: int = Field(ge=1)
    lost: tuple[Lost, ...] = ()
    """Trajectories that did not reach their last frame, by number in the split."""

    @model_validator(mode="after")
    def _lost_are_some_of_its_own(self) -> Self:
        missing = [one.index for one in self.lost]
        if missing != sorted({*missing} & {*self._asked}) or not self.numbers:
            raise ValueError(
                f"lost: expected some of the trajectories {self.start} to "
                f"{self.start + self.count - 1}, in order, got {missing}"
            )
        if any(one.step is None for one in self.lost):
            raise ValueError("lost: expected a step for each")
        return self

    @property
    def _asked(self) -> range:
        return range(self.start, self.start + self.count)

    @property
    def numbers(self) -> list[int]:
        """Numbers in their split of the trajectories that the file holds."""
        missing = {one.index for one in self.lost}
        return [number for number in self._asked if number not in missing]

    @model_validator(mode="after")
    def _stays_inside(self) -> Self:
        match = _FILE.fullmatch(self.file)
        if match is None or match[1] != self.split:
            raise ValueError(
                f"expected a file data/{self.split}/NAME-00000.hdf5, got {self.file!r}"
            )
        return self

    def path(self, folder: Path) -> Path:
        """Return the path; `DataError` when a link leads out of the folder."""
        path = folder / self.file
        if path.resolve() != folder.resolve() / self.file:
            raise DataError(f"{path}: a link; a data set holds plain files only")
        return path


class Prediction(Frozen):
    """What a folder of predictions was made by, from the first frames of data."""

    run: str
    """Name of the run."""
    model: str
    """Kind of its model."""
    settings: str = Field(pattern=_HASH)
    """Hash of what was chosen for it, less the seed."""
    weights: str = Field(pattern=_HASH)
    """Hash of its weights."""
    data: str = Field(pattern=_HASH)
    """Hash of the recipe of the data."""


class Manifest(Frozen):
    """What a data set folder holds.

    Parameters
    ----------
    format
        Version of this format.
    config
        The recipe without the numbers of trajectories.
    counts
        Trajectories per split that were asked for.
    shards
        The finished shards, each split in order and without gaps.
    stats_sha256
        Hash of ``stats.yaml``.
    complete
        Whether every trajectory and the statistics are there.
    prediction
        By which run, where trajectories were predicted and not simulated.
    """

    format: int = FORMAT
    config: dict[str, Any]
    counts: dict[Split, int]
    shards: tuple[ShardEntry, ...] = ()
    stats_sha256: str | None = Field(default=None, pattern=_HASH)
    complete: bool = False
    prediction: Prediction | None = None

    @model_validator(mode="after")
    def _no_gaps(self) -> Self:
        if set(self.counts) != set(Split) or min(self.counts.values()) < 0:
            raise ValueError("counts: expected a number for train, valid and test")
        if len({entry.file for entry in self.shards}) != len(self.shards):
            raise ValueError("shards: a file is listed twice")
        for split in Split:
            done = 0
            for entry in self.of(split):
                if entry.start != done:
                    raise ValueError(
                        f"shards: {entry.file} starts at {entry.start}, not at {done}"
                    )
                done += entry.count
            if done > self.counts[split] or (
                self.complete and done < self.counts[split]
            ):
                raise ValueError(
                    f"shards: {done} {split} trajectories, counts say "
                    f"{self.counts[split]}"
                )
        if self.complete and self.stats_sha256 is None:
            raise ValueError("stats_sha256: missing in a complete data set")
        return self

    def of(self, split: Split) -> tuple[ShardEntry, ...]:
        """Return the shards of a split, in order."""
        return tuple(entry for entry in self.shards if entry.split is split)

    def done(self, split: Split) -> int:
        """Return how many trajectories of a split are finished, lost ones included."""
        return sum(entry.count for entry in self.of(split))

    def numbers(self, split: Split) -> list[int]:
        """Return the numbers of the trajectories of a split that files hold."""
        return [number for entry in self.of(split) for number in entry.numbers]

    def held(self) -> dict[str, int]:
        """Return how many trajectories of each split files hold."""
        return {split.value: len(self.numbers(split)) for split in Split}

    def lost(self) -> list[tuple[Split, Lost]]:
        """Return the trajectories that files do not hold, and their splits."""
        return [
            (split, one) for split in Split for e in self.of(split) for one in e.lost
        ]

    def shown(self) -> Split:
        """Return the split that is measured and drawn: test, where there is one."""
        return Split.TEST if self.of(Split.TEST) else Split.TRAIN

    def lost_rows(self) -> list[dict[str, Any]]:
        """Return `lost` as plain values, for reports."""
        return [{"split": split.value, **asdict(one)} for split, one in self.lost()]

    def with_shard(self, entry: ShardEntry) -> "Manifest":
        return self.model_copy(update={"shards": (*self.shards, entry)})


def read_manifest(folder: Path, *, complete: bool = True) -> Manifest:
    """Read the manifest of a data set folder.

    Parameters
    ----------
    folder
        The data set.
    complete
        Whether an unfinished data set is an error.

    Raises
    ------
    DataError
        When it is missing, damaged, of a newer format or, if so asked, unfinished.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise DataError(
            f"{folder}: no {MANIFEST}; expected a folder that `pde-sym generate` made"
        )
    try:
        values = json.loads(read_file(path, _MAX_BYTES))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged: not valid JSON ({error})") from error
    version = values.get("format") if isinstance(values, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise DataError(
            f"{path}: format {version} is newer than {FORMAT}: update pde_sym"
        )
    try:
        manifest = Manifest.parse(values, where=str(path))
    except InputError as error:
        raise DataError(str(error)) from error
    if complete and not manifest.complete:
        raise DataError(
            f"{folder}: not finished; repeat the command that makes it to go on"
        )
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest as a whole."""
    # What was simulated has no word of predictions.
    without = {"prediction"} if manifest.prediction is None else None
    values = manifest.model_dump(mode="json", exclude=without)
    write_file(folder / MANIFEST, (canonical_json(values) + "\n").encode())


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data`, in hex."""
    return hashlib.sha256(data).hexdigest()


def open_entry(folder: Path, entry: ShardEntry) -> ShardReader:
    """Open a listed shard; `DataError` when it is not the one that was listed."""
    reader = open_shard(entry.path(folder), entry.sha256)
    expected = len(entry.numbers)
    if reader.num_trajectories != expected:
        reader.close()
        raise DataError(
            f"{reader.path}: {reader.num_trajectories} trajectories, the manifest "
            f"says {expected}"
        )
    return reader


def open_entries(folder: Path, entries: Iterable[ShardEntry]) -> Iterator[ShardReader]:
    """Open listed shards one after the other, and close each before the next."""
    for entry in entries:
        with open_entry(folder, entry) as reader:
            yield reader
