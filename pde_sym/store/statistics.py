"""Statistics of the training split, in The Well's ``stats.yaml``.

Per field and component over trajectories, frames and points: mean, std and rms of the
values, and of the change from frame to frame. Sums are float64 and merge trajectory by
trajectory, so that neither the size of a shard nor the number of workers shows.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pde_sym.errors import DataError
from pde_sym.fields import FieldSpec
from pde_sym.store.files import read_file
from pde_sym.store.folder import STATISTICS, Manifest, sha256
from pde_sym.store.hdf5 import ShardReader

KEYS = ("mean", "std", "rms", "mean_delta", "std_delta", "rms_delta")
_MAX_BYTES = 1 << 22


class _Moments:
    """Running mean, centred second moment and mean square per channel."""

    def __init__(self, num_channels: int) -> None:
        self.count = 0
        self.mean = np.zeros(num_channels)
        self.centred = np.zeros(num_channels)
        self.square = np.zeros(num_channels)

    def add(self, values: NDArray[np.floating[Any]], axis: int) -> None:
        """Merge values whose channels are on `axis` (Chan, Golub, LeVeque 1983)."""
        if not values.size:
            return
        flat = np.moveaxis(values.astype(np.float64), axis, 0)
        flat = flat.reshape(flat.shape[0], -1)
        # Overflow shows as a standard deviation that is not finite.
        with np.errstate(over="ignore", invalid="ignore"):
            mean, count = flat.mean(axis=1), flat.shape[1]
            total = self.count + count
            shift = mean - self.mean
            self.centred += ((flat - mean[:, None]) ** 2).sum(axis=1)
            self.centred += shift**2 * (self.count * count / total)
            self.mean += shift * (count / total)
            self.square += ((flat**2).mean(axis=1) - self.square) * (count / total)
            self.count = total

    def table(self, spec: FieldSpec) -> dict[str, dict[str, Any]]:
        """Return mean, std and rms by field: a number, or nested lists."""
        values = {
            "mean": self.mean,
            "std": np.sqrt(self.centred / max(self.count, 1)),
            "rms": np.sqrt(self.square),
        }
        return {
            key: {
                field.name: channels[part].reshape(field.component_shape).tolist()
                for field, part in zip(spec, spec.slices().values(), strict=True)
            }
            for key, channels in values.items()
        }


class _FieldMoments:
    """Moments of the states, their changes and the constant fields."""

    def __init__(self, first: ShardReader) -> None:
        self.spec, self.constant_spec = first.fields, first.environment_fields
        self.values = _Moments(self.spec.num_channels)
        self.changes = _Moments(self.spec.num_channels)
        self.constants = _Moments(self.constant_spec.num_channels)

    def add(self, reader: ShardReader) -> None:
        specs = (reader.fields, reader.environment_fields)
        if specs != (self.spec, self.constant_spec):
            raise DataError(f"{reader.path}: other fields than the shards before it")
        for index in range(reader.num_trajectories):
            states = reader.states(slice(index, index + 1)).astype(np.float64)
            self.values.add(states, axis=2)
            self.changes.add(np.diff(states, axis=1), axis=2)
        if reader.environment_kind == "given" or not self.constants.count:
            for environment in reader.environment():
                self.constants.add(environment, axis=0)

    def table(self) -> dict[str, dict[str, Any]]:
        table = self.values.table(self.spec)
        for key, fields in self.changes.table(self.spec).items():
            table[f"{key}_delta"] = fields
        for key, fields in self.constants.table(self.constant_spec).items():
            table[key].update(fields)
        return table


def compute_statistics(shards: Iterable[ShardReader]) -> bytes:
    """Return ``stats.yaml`` of the given shards.

    Raises
    ------
    DataError
        When there is no shard or a standard deviation is not finite.
    """
    moments: _FieldMoments | None = None
    for reader in shards:
        moments = moments or _FieldMoments(reader)
        moments.add(reader)
    if moments is None:
        raise DataError("statistics need at least one training trajectory")
    table = moments.table()
    _check_finite(table)
    return yaml.safe_dump({key: table[key] for key in KEYS}, sort_keys=True).encode()


def _check_finite(table: dict[str, dict[str, Any]]) -> None:
    for key, fields in table.items():
        for name, value in fields.items():
            if not np.isfinite(value).all():
                raise DataError(
                    f"statistics: {key} of {name} is {value}; the values are too large"
                )


def read_statistics(folder: Path, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Read ``stats.yaml``, whose hash the manifest holds.

    Raises
    ------
    DataError
        When it is missing, differs from the manifest or lacks a key or a number.
    """
    path = folder / STATISTICS
    data = read_file(path, _MAX_BYTES)
    if sha256(data) != manifest.stats_sha256:
        raise DataError(
            f"{path}: damaged or replaced: its SHA-256 is not the manifest's"
        )
    try:
        table = yaml.safe_load(data)
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: not valid YAML") from error
    if not isinstance(table, dict) or set(table) != set(KEYS):
        raise DataError(f"{path}: expected the keys {', '.join(KEYS)}")
    for key, fields in table.items():
        for name, value in fields.items():
            for number in _leaves(value):
                # YAML reads 1e-05 as text.
                if not isinstance(number, float):
                    raise DataError(f"{path}: {key}.{name} is {number!r}, not a float")
    return table


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the numbers of a scalar, a vector or a tensor."""
    if isinstance(value, list):
        for part in value:
            yield from _leaves(part)
    else:
        yield value
