"""Statistics are those of all training values at once, however they lie in files."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from test_store import FIELDS, make_shard

from pde_sym.errors import DataError
from pde_sym.fields import FieldSpec
from pde_sym.seeds import Split
from pde_sym.store import (
    EnvironmentKind,
    Manifest,
    Shard,
    ShardReader,
    compute_statistics,
    encode,
    open_shard,
    read_statistics,
)
from pde_sym.store.folder import sha256

KINDS: list[EnvironmentKind] = ["hidden", "given"]


def cut(shard: Shard, part: slice) -> Shard:
    """Return some of the trajectories of a shard."""
    given = shard.environment_kind == "given"
    return replace(
        shard,
        states=shard.states[part],
        environment=shard.environment[part] if given else shard.environment,
        strengths={k: v[part] for k, v in shard.strengths.items()},
        invariants={k: v[part] for k, v in shard.invariants.items()},
        budgets={k: v[part] for k, v in shard.budgets.items()},
    )


@contextmanager
def opened(folder: Path, *shards: Shard) -> Iterator[list[ShardReader]]:
    with ExitStack() as stack:
        readers = []
        for number, shard in enumerate(shards):
            path, data = folder / f"{number}.hdf5", encode(shard)
            path.write_bytes(data)
            readers.append(stack.enter_context(open_shard(path, sha256(data))))
        yield readers


def moments(values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return mean, std and rms over all axes but the last."""
    flat = values.reshape(-1, values.shape[-1])
    rms = np.sqrt((flat**2).mean(0))
    return {"mean": flat.mean(0), "std": flat.std(0), "rms": rms}


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_those_of_all_values_at_once(
    tmp_path: Path, kind: EnvironmentKind
) -> None:
    shard = make_shard(kind, num=5)
    # A mean far from zero, and channels of different sizes.
    shard.states[:] = 7 + shard.states * np.arange(1, 5)[:, None, None]
    parts = (cut(shard, slice(0, 1)), cut(shard, slice(1, 5)))
    with opened(tmp_path, *parts) as readers:
        table = yaml.safe_load(compute_statistics(readers))
    assert sorted(table) == [
        *("mean", "mean_delta", "rms", "rms_delta", "std", "std_delta")
    ]
    states = np.moveaxis(shard.states.astype(np.float64), 2, -1)
    constants = np.moveaxis(shard.environment.astype(np.float64), 1, -1)
    expected = moments(states)
    expected |= {f"{k}_delta": v for k, v in moments(np.diff(states, axis=1)).items()}
    names = ["velocity", "temperature", "vorticity"]
    for key, values in expected.items():
        found = np.hstack([table[key][name] for name in names])
        np.testing.assert_allclose(found, values, rtol=1e-12, atol=1e-14)
        assert set(table[key]) == (
            {*names} if key.endswith("delta") else {*names, "conductivity", "wind"}
        )
    for key, values in moments(constants).items():
        found = np.hstack([table[key][name] for name in ("conductivity", "wind")])
        np.testing.assert_allclose(found, values, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_shards_does_not_show(
    tmp_path: Path, kind: EnvironmentKind
) -> None:
    shard = make_shard(kind, num=4)
    found = set()
    single = [slice(i, i + 1) for i in range(4)]
    for parts in ([slice(0, 4)], [slice(0, 1), slice(1, 4)], single):
        with opened(tmp_path, *(cut(shard, part) for part in parts)) as readers:
            found.add(compute_statistics(readers))
    assert len(found) == 1


def test_one_frame_has_no_changes(tmp_path: Path) -> None:
    shard = make_shard()
    one = replace(
        shard,
        states=shard.states[:, :1],
        times=shard.times[:1],
        invariants={},
        budgets={},
    )
    with opened(tmp_path, one) as readers:
        table = yaml.safe_load(compute_statistics(readers))
    for key in ("mean_delta", "std_delta", "rms_delta"):
        assert table[key]["velocity"] == [0.0, 0.0]


def test_shards_of_other_fields_are_refused(tmp_path: Path) -> None:
    shard = make_shard()
    first, second, third = FIELDS
    turned = replace(shard, fields=FieldSpec.of(first, third, second))
    alone = make_shard(constants=FieldSpec.of())
    for other in (turned, alone):
        with (
            opened(tmp_path, shard, other) as readers,
            pytest.raises(DataError, match=r"1\.hdf5: other fields"),
        ):
            compute_statistics(readers)


@pytest.mark.filterwarnings("error")
def test_values_that_overflow_are_refused_without_a_warning(tmp_path: Path) -> None:
    shard = make_shard(dtype=np.float64)
    shard.states[:] *= 1e200
    with (
        opened(tmp_path, shard) as readers,
        pytest.raises(DataError, match=r"statistics: .* too large"),
    ):
        compute_statistics(readers)


def test_no_shard_has_no_statistics() -> None:
    with pytest.raises(DataError, match="at least one training trajectory"):
        compute_statistics([])


# Reading ----------------------------------------------------------------------------


def listed(folder: Path, data: bytes) -> Manifest:
    (folder / "stats.yaml").write_bytes(data)
    return Manifest(
        config={}, counts=dict.fromkeys(Split, 0), stats_sha256=sha256(data)
    )


@pytest.fixture
def statistics(tmp_path: Path) -> bytes:
    with opened(tmp_path, make_shard()) as readers:
        return compute_statistics(readers)


def test_they_come_back_as_they_were(tmp_path: Path, statistics: bytes) -> None:
    found = read_statistics(tmp_path, listed(tmp_path, statistics))
    assert yaml.safe_dump(found, sort_keys=True).encode() == statistics
    assert isinstance(found["std"]["temperature"], float)
    assert np.shape(found["std"]["velocity"]) == (2,)


def rewritten(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    def rewrite(data: bytes) -> bytes:
        table = yaml.safe_load(data)
        change(table)
        return yaml.safe_dump(table).encode()

    return rewrite


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: b"{", r"stats\.yaml: not valid YAML"),
        (lambda _: b"[" * 2_000, r"stats\.yaml: not valid YAML"),
        (lambda _: b"[1.0]", "expected the keys mean, std, rms, mean_delta, std_delta"),
        (rewritten(lambda t: t.pop("std")), "expected the keys"),
        (rewritten(lambda t: t.update(more={})), "expected the keys"),
        (
            rewritten(lambda t: t["std"].update(temperature="1e-05")),
            r"stats\.yaml: std\.temperature is '1e-05', not a float",
        ),
        (
            rewritten(lambda t: t["rms_delta"]["velocity"].insert(1, 2)),
            r"rms_delta\.velocity is 2, not a float",
        ),
        (
            rewritten(lambda t: t["mean"].update(velocity=[[0.5, [None]], 0.5])),
            r"mean\.velocity is None, not a float",
        ),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(
    tmp_path: Path,
    statistics: bytes,
    damage: Callable[[bytes], bytes],
    message: str,
) -> None:
    manifest = listed(tmp_path, damage(statistics))
    with pytest.raises(DataError, match=message) as caught:
        read_statistics(tmp_path, manifest)
    assert "\n" not in str(caught.value)


def test_another_file_than_the_listed_one_is_refused(
    tmp_path: Path, statistics: bytes
) -> None:
    manifest = listed(tmp_path, statistics)
    (tmp_path / "stats.yaml").write_bytes(statistics + b" ")
    with pytest.raises(DataError, match=r"stats\.yaml: damaged or replaced"):
        read_statistics(tmp_path, manifest)
    (tmp_path / "stats.yaml").unlink()
    with pytest.raises(DataError, match=r"stats\.yaml: cannot be read"):
        read_statistics(tmp_path, manifest)
