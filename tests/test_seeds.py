"""Random streams are a function of seed, split, index and purpose alone."""

import itertools

import numpy as np
import pytest

from pde_sym.seeds import Split, Stream, generator, shared_generator


def test_stream_is_philox_of_the_spawned_sequence() -> None:
    sequence = np.random.SeedSequence(7, spawn_key=(2, 5, 1))
    expected = np.random.Generator(np.random.Philox(sequence)).uniform(size=4)
    found = generator(7, Split.TEST, 5, Stream.ENVIRONMENT).uniform(size=4)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("stream", "place"),
    [(Stream.INITIAL, 0), (Stream.ENVIRONMENT, 1), (Stream.STRENGTH, 2)],
)
def test_what_is_shared_has_its_place_behind_the_splits(
    stream: Stream, place: int
) -> None:
    """Bytes of data sets that are there depend on these numbers."""
    sequence = np.random.SeedSequence(7, spawn_key=(3, 0, place))
    expected = np.random.Generator(np.random.Philox(sequence)).uniform(size=4)
    found = shared_generator(7, stream).uniform(size=4)
    np.testing.assert_array_equal(found, expected)


def test_all_streams_differ() -> None:
    keys = itertools.product((0, 1), Split, range(4), Stream)
    first = {generator(*key).integers(2**63) for key in keys}
    shared = {shared_generator(0, stream).integers(2**63) for stream in Stream}
    assert len(first | shared) == 2 * 3 * 4 * 3 + 3


@pytest.mark.parametrize(("split", "index"), [("train", 0), ("valid", 1), ("test", 2)])
def test_splits_have_fixed_places(split: str, index: int) -> None:
    assert Split(split).spawn_index == index
