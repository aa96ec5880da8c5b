"""Strangers' HDF5 files as shards: what a limited process says of them.

The HDF5 library crashes and hangs on damaged files, and its files may name others. So
it meets them in `foreign`, a process that can open nothing and is ended when it takes
too long; a crash there is an error here. Nothing it sends is believed either: the
header is checked, and numbers are numbers.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field as Documented
from pydantic import PositiveFloat, PositiveInt

from pde_sym.config import Frozen
from pde_sym.errors import DataError, InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid, WalledGrid
from pde_sym.store import foreign
from pde_sym.store.shard import Floats, Shard

MAX_HEADER = 1 << 26
RANKS = (Rank.SCALAR, Rank.VECTOR, Rank.TENSOR)
_ORDER = Documented(ge=0, le=2)
_NAME = Documented(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")


class Limits(Frozen):
    """What reading a stranger's file may take.

    Parameters
    ----------
    bytes
        Of all arrays together, as they are in memory.
    seconds
        Of time, and of work of the processor.
    """

    bytes: int = Documented(default=4 << 30, gt=0, lt=2**62)
    seconds: int = Documented(default=600, gt=0, le=10**6)


DEFAULT = Limits()


class Named(Frozen):
    """A field by name and tensor order."""

    name: str = _NAME
    order: int = _ORDER


class Header(Frozen):
    """What `foreign` says first; see there."""

    layout: str
    num: PositiveInt
    times: tuple[float, ...] = Documented(min_length=2)
    shape: tuple[PositiveInt, ...]
    lengths: tuple[PositiveFloat, ...]
    boundary: Literal["PERIODIC", "WALL"]
    states: tuple[Named, ...]
    constants: tuple[Named, ...]
    scalars: dict[str, float]
    strengths: dict[str, tuple[float, ...]]
    left_out: tuple[str, ...]
    dtype: Literal["float32", "float64"]
    bytes: PositiveInt

    def spec(self, fields: tuple[Named, ...]) -> FieldSpec:
        """Return fields whose rank is what their tensor order tells of it."""
        dims = len(self.shape)
        return FieldSpec.of(
            *(
                Field(name=f.name, rank=RANKS[f.order], components=dims**f.order)
                for f in fields
            )
        )


class Import:
    """A file that is being read; made by `reading`."""

    def __init__(self, path: Path, child: subprocess.Popen[bytes], end: float) -> None:
        self.path = path
        self._child, self._end = child, end
        try:
            values = json.loads(self._part(MAX_HEADER))
        except ValueError as error:
            raise DataError(f"{path}: not readable ({error})") from error
        self.header: Header = _checked(values, path)

    def shards(self, config: dict[str, Any], block: int) -> Iterator[Shard]:
        """Yield shards of `block` trajectories."""
        header = self.header
        states, constants = header.spec(header.states), header.spec(header.constants)
        kind = WalledGrid if header.boundary == "WALL" else PeriodicGrid
        grid = kind(shape=header.shape, lengths=header.lengths)
        for start in range(0, header.num, block):
            count = min(block, header.num - start)
            rows = slice(start, start + count)
            yield Shard(
                states=self._fields(states, (count, len(header.times)), grid),
                fields=states,
                environment=self._fields(constants, (count,), grid),
                environment_fields=constants,
                environment_kind="given",
                times=np.array(header.times),
                grid=grid,
                scalars=header.scalars,
                strengths={n: np.array(v[rows]) for n, v in header.strengths.items()},
                invariants={},
                budgets={},
                system=SYSTEM,
                config=config,
            )

    def _fields(
        self, spec: FieldSpec, lead: tuple[int, ...], grid: PeriodicGrid
    ) -> Floats:
        """Read fields as ``(*lead, channels, x, y)``."""
        dtype = np.dtype(self.header.dtype)
        parts = [np.zeros((*lead, 0, *grid.shape), dtype)]
        for field in spec:
            shape = (*lead, *grid.shape, field.components)
            size = int(np.prod(shape)) * dtype.itemsize
            data = self._part(size)
            if len(data) != size:
                raise DataError(f"{self.path}: {field.name}: cut off")
            parts.append(
                np.moveaxis(np.frombuffer(data, dtype).reshape(shape), -1, len(lead))
            )
        values = np.concatenate(parts, axis=len(lead))
        if not np.isfinite(values).all():
            raise DataError(f"{self.path}: holds numbers that are not finite")
        return values

    def _part(self, most: int) -> bytes:
        """Return the next part of the answer; `DataError` when it is a refusal."""
        head = self._read(9)
        size = int.from_bytes(head[1:], "little")
        if head[:1] == b"-":
            raise DataError(
                f"{self.path}: {self._read(min(size, 4096)).decode('ascii', 'replace')}"
            )
        if head[:1] != b"+" or size > most:
            raise DataError(f"{self.path}: not readable (an answer of {size} bytes)")
        return self._read(size)

    def _read(self, size: int) -> bytes:
        assert self._child.stdout is not None
        pipe, parts = self._child.stdout.fileno(), []
        while size:
            left = self._end - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise DataError(
                    f"{self.path}: reading it takes too long; raise --max-seconds if "
                    "you know the file"
                )
            part = os.read(pipe, min(size, 1 << 20))
            if not part:
                code = self._child.wait()
                raise DataError(
                    f"{self.path}: damaged or hostile: the process that read it ended "
                    f"with code {code}"
                )
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


SYSTEM = "imported"


def _checked(values: object, path: Path) -> Header:
    if isinstance(values, dict):
        for key in ("states", "constants"):
            pairs = values.get(key)
            if isinstance(pairs, list):
                values[key] = [
                    dict(zip(("name", "order"), p, strict=True)) for p in pairs
                ]
    try:
        header = Header.parse(values, where=str(path))
    except InputError as error:
        raise DataError(str(error)) from error
    names = [f.name for f in (*header.states, *header.constants)]
    if len(set(names)) != len(names) or any(
        len(v) != header.num for v in header.strengths.values()
    ):
        raise DataError(f"{path}: names or numbers that contradict each other")
    return header


@contextmanager
def reading(
    path: Path, block: int, boundary: str = "", limits: Limits = DEFAULT
) -> Iterator[Import]:
    """Open a stranger's HDF5 file for one pass over its trajectories.

    Parameters
    ----------
    path
        The file, in the layout of The Well or in one of PDEBench's.
    block
        Trajectories that are held at a time.
    boundary
        ``PERIODIC`` or ``WALL`` for files that do not say.
    limits
        What it may take.

    Raises
    ------
    DataError
        When it is damaged, hostile, of another layout, or takes too much.
    """
    words = (boundary, block, limits.bytes, foreign.MEMORY, limits.seconds)
    try:
        source = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    with (
        source,
        subprocess.Popen(
            [sys.executable, "-I", str(foreign.__file__), *map(str, words)],
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Filters are not loaded from anywhere, and libraries start no threads.
            env={"HDF5_PLUGIN_PATH": "::", "OPENBLAS_NUM_THREADS": "1"},
            cwd="/",
        ) as child,
    ):
        try:
            yield Import(path, child, time.monotonic() + limits.seconds)
        finally:
            child.kill()
