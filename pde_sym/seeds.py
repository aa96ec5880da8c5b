"""Random streams: one per split, trajectory and purpose, from a single seed.

Trajectory i draws from ``Philox(SeedSequence(seed, spawn_key=(split, i, stream)))``, so
that it depends neither on the number of trajectories nor on their order, and so that
data sets of different strengths share initial states and environments.
"""

from enum import IntEnum, StrEnum

import numpy as np

HIDDEN_INDEX = 3
"""Spawn index, after the splits, of what all trajectories of a data set share."""


class Stream(IntEnum):
    """What the random numbers are for."""

    INITIAL = 0
    ENVIRONMENT = 1
    STRENGTH = 2


class Split(StrEnum):
    """Part of a data set."""

    TRAIN = "train"
    VALID = "valid"
    TEST = "test"

    @property
    def spawn_index(self) -> int:
        return list(Split).index(self)


def generator(
    root: int, split: Split, index: int, stream: Stream
) -> np.random.Generator:
    """Return the stream of trajectory `index` of `split`."""
    return _philox(root, (split.spawn_index, index, int(stream)))


def shared_generator(root: int, stream: Stream) -> np.random.Generator:
    """Return the stream of what is drawn once per data set: a hidden environment."""
    return _philox(root, (HIDDEN_INDEX, 0, int(stream)))


def _philox(root: int, spawn_key: tuple[int, ...]) -> np.random.Generator:
    sequence = np.random.SeedSequence(root, spawn_key=spawn_key)
    return np.random.Generator(np.random.Philox(sequence))
