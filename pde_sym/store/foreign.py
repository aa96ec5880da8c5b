"""Strangers' HDF5 files, read in a process of its own that `sandbox` starts.

The file comes open on standard input. Before the HDF5 library sees a byte of it, this
process gives up opening files, writing them, and memory and time beyond its limits.
What it then believes is a short list: hard links, names, shapes, float types and
filters that are named here, and no more bytes than it was told. On standard output go a
header in JSON and plain numbers in its order. This file imports nothing of pde_sym.
"""

import contextlib
import io
import json
import math
import os
import re
import resource
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import h5py
import numpy as np

MAX_MEMBERS = 20_000
MAX_TEXT = 1 << 16
MAX_CHUNK = 1 << 28
FLOATS = (np.dtype("<f4"), np.dtype("<f8"))
FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
MEMORY = 4 << 30
"""Of addresses of this process; a trajectory of a gigabyte is too large for it."""


class Refused(Exception):  # noqa: N818
    """The file is not one of those that are read here."""


class Array(NamedTuple):
    """A dataset that was looked at and not yet read."""

    dataset: Any
    name: str
    shape: tuple[int, ...]


class Series(NamedTuple):
    """A field: its channels stand last, before them points, frames, trajectories."""

    name: str
    order: int
    read: Callable[[int, int], Any]
    """Gives the values of the trajectories from one number up to another."""


class Content(NamedTuple):
    """What a file holds, in the terms of a shard."""

    num: int
    times: Any
    axes: list[Any]
    boundary: str
    states: list[Series]
    dtype: Any
    constants: tuple[Series, ...] = ()
    scalars: dict[str, float] | None = None
    strengths: dict[str, Any] | None = None
    left_out: tuple[str, ...] = ()


def need(holds: object, reason: str) -> None:
    """Refuse the file for a reason, unless that holds."""
    if not holds:
        raise Refused(reason)


class Reader:
    """Looks at a file step by step; `budget` is what all its arrays may hold."""

    def __init__(self, file: Any, budget: int) -> None:
        self.file = file
        self.budget: int = budget

    def members(self, group: Any) -> list[str]:
        need(
            len(group) <= MAX_MEMBERS, f"{group.name}: more than {MAX_MEMBERS} members"
        )
        return sorted(group)

    def child(self, place: Any, path: str) -> Any:
        """Return what lies at `path`, over hard links alone."""
        for name in path.split("/"):
            need(isinstance(place, h5py.Group), f"{path}: no group above it")
            link = place.get(name, getlink=True)
            need(link is not None, f"{path} is missing")
            need(isinstance(link, h5py.HardLink), f"{path}: a link to elsewhere")
            place = place[name]
        return place

    def array(self, place: Any, path: str) -> Array:
        """Check a dataset without reading it, and take its bytes off the budget."""
        found: Any = self.child(place, path)
        need(issubclass(type(found), h5py.Dataset), f"{path}: not an array")
        need(
            not found.is_virtual and not found.external, f"{path}: lies in other files"
        )
        need(found.dtype in FLOATS, f"{path}: expected little-endian floats")
        # A null dataset has no shape at all.
        shape = tuple(found.shape or (0,)) if found.shape != () else ()
        need(len(shape) <= 7, f"{path}: its shape")
        need(min(shape, default=1) >= 1, f"{path}: holds nothing")
        size = math.prod(shape) * found.dtype.itemsize
        need(
            size <= self.budget, f"{path}: {size} bytes are more than --max-gib allows"
        )
        self.budget -= size
        self.check_storage(found, path, size)
        return Array(found, path, shape)

    def check_storage(self, found: Any, path: str, size: int) -> None:
        """Check filters, and that every number was written."""
        creation = found.id.get_create_plist()
        for number in range(creation.get_nfilters()):
            code = creation.get_filter(number)[0]
            known = ", ".join(FILTERS.values())
            need(code in FILTERS, f"{path}: filter {code}; expected one of {known}")
        if found.chunks is None:
            need(found.id.get_storage_size() == size, f"{path}: not all was written")
            return
        chunk = math.prod(found.chunks) * found.dtype.itemsize
        need(chunk <= MAX_CHUNK, f"{path}: a chunk of {chunk} bytes")
        pairs = zip(found.shape, found.chunks, strict=True)
        expected = math.prod(-(-n // c) for n, c in pairs)
        need(found.id.get_num_chunks() == expected, f"{path}: not all was written")

    def values(self, place: Any, path: str) -> Any:
        """Return a small array as float64; all its numbers are finite."""
        array = self.array(place, path)
        need(math.prod(array.shape) <= 1 << 24, f"{path}: too long")
        return finite(array.dataset[()], path).astype(np.float64)

    def attribute(self, place: Any, name: str, *, default: Any = None) -> Any:
        """Return an attribute: text, a list of texts, a number or a truth value."""
        key = name.encode()
        if not h5py.h5a.exists(place.id, key):
            need(default is not None, f"{place.name}@{name} is missing")
            return default
        low = h5py.h5a.open(place.id, key)
        kinds = (h5py.h5t.STRING, h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM)
        need(low.get_type().get_class() in kinds, f"{place.name}@{name}: its type")
        size = math.prod(low.shape) * low.get_type().get_size()
        need(size <= MAX_TEXT, f"{place.name}@{name}: too long")
        return place.attrs[name]

    def texts(self, place: Any, name: str, default: Any = None) -> list[str]:
        """Return a list of names."""
        found = np.atleast_1d(self.attribute(place, name, default=default)).tolist()
        texts = [
            t.decode("ascii", "replace") if isinstance(t, bytes) else t for t in found
        ]
        for text in texts:
            need(
                isinstance(text, str) and NAME.fullmatch(text),
                f"{place.name}@{name}: {text!r:.40} is no plain name",
            )
        need(len(set(texts)) == len(texts), f"{place.name}@{name}: a name comes twice")
        return texts


def finite(values: Any, path: str) -> Any:
    """Return the values, none of which is infinite or no number."""
    need(bool(np.isfinite(values).all()), f"{path} holds numbers that are not finite")
    return values


def rows(array: Array, components: tuple[int, ...]) -> Callable[[int, int], Any]:
    """Return a reader of the trajectories of an array, its channels in one axis."""
    lead = array.shape[1 : len(array.shape) - len(components)]
    channels = math.prod(components)

    def read(start: int, stop: int) -> Any:
        values = finite(array.dataset[start:stop], array.name)
        return values.reshape(stop - start, *lead, channels)

    return read


def repeated(array: Array, components: tuple[int, ...]) -> Callable[[int, int], Any]:
    """Return a reader of what all trajectories share."""
    lead = array.shape[: len(array.shape) - len(components)]

    def read(start: int, stop: int) -> Any:
        values = finite(array.dataset[()], array.name)
        flat = values.reshape(*lead, math.prod(components))
        return np.broadcast_to(flat, (stop - start, *flat.shape))

    return read


def read_well(reader: Reader) -> Content:
    """Read the layout of The Well."""
    file = reader.file
    num = int(reader.attribute(file, "n_trajectories"))
    dimensions = reader.child(file, "dimensions")
    names = reader.texts(dimensions, "spatial_dims")
    need(1 <= len(names) <= 3 and num >= 1, "expected 1 to 3 axes and trajectories")
    times = reader.values(dimensions, "time")
    if times.ndim == 2:
        need((times == times[:1]).all(), "dimensions/time differs between trajectories")
        times = times[0]
    axes = [reader.values(dimensions, name) for name in names]
    conditions = reader.child(file, "boundary_conditions")
    kinds = {
        str(reader.attribute(reader.child(conditions, name), "bc_type"))
        for name in reader.members(conditions)
    }
    need(
        kinds in ({"PERIODIC"}, {"WALL"}),
        "expected axes that all are periodic or walls",
    )
    space = tuple(len(axis) for axis in axes)
    states, constants, types = [], [], []
    for order in range(3):
        group = reader.child(file, f"t{order}_fields")
        components = (len(axes),) * order
        for name in reader.texts(group, "field_names", default=np.zeros(0)):
            array = reader.array(group, name)
            sample = bool(reader.attribute(array.dataset, "sample_varying"))
            time = bool(reader.attribute(array.dataset, "time_varying"))
            want = (num,) * sample + (len(times),) * time + space + components
            need(
                array.shape == want, f"{name}: expected shape {want}, got {array.shape}"
            )
            need(sample or not time, f"{name}: the same for all trajectories")
            read = (rows if sample else repeated)(array, components)
            (states if time else constants).append(Series(name, order, read))
            types.append(array.dataset.dtype)
    dtype = max(types, key=lambda t: t.itemsize, default=FLOATS[0])
    more = (tuple(constants), *read_scalars(reader, num))
    return Content(num, times, axes, min(kinds), states, dtype, *more)


def read_scalars(
    reader: Reader, num: int
) -> tuple[dict[str, float], dict[str, Any], tuple[str, ...]]:
    """Return what is one number, what is one per trajectory, and the rest by name."""
    group = reader.child(reader.file, "scalars")
    scalars, strengths, left_out = {}, {}, []
    for name in reader.texts(group, "field_names", default=np.zeros(0)):
        found = reader.child(group, name)
        shape = getattr(found, "shape", None)
        if shape == ():
            scalars[name] = float(reader.values(group, name))
        elif shape == (num,):
            strengths[name] = reader.values(group, name)
        else:
            left_out.append(name)
    return scalars, strengths, tuple(left_out)


def read_tensors(reader: Reader, boundary: str) -> Content:
    """Read PDEBench's single files: one array for each field."""
    file = reader.file
    names = [n for n in reader.members(file) if not n.endswith("-coordinate")]
    arrays = {name: reader.array(file, name) for name in names}
    need(arrays, "no fields")
    need(all(NAME.fullmatch(n) for n in names), "a name that is none")
    shape = next(iter(arrays.values())).shape
    need(3 <= len(shape) <= 5, f"expected (trajectories, time, x, ..), got {shape}")
    for name, array in arrays.items():
        need(array.shape == shape, f"{name}: expected shape {shape}, got {array.shape}")
    letters = "xyz"[: len(shape) - 2]
    axes = [reader.values(file, f"{letter}-coordinate") for letter in letters]
    times = reader.values(file, "t-coordinate")[: shape[1]]
    velocity = [f"V{letter}" for letter in letters]
    states = [
        Series("u" if name == "tensor" else name, 0, rows(array, ()))
        for name, array in arrays.items()
        if not set(velocity) <= set(arrays) or name not in velocity
    ]
    if set(velocity) <= set(arrays):
        parts = [rows(arrays[name], ()) for name in velocity]

        def read(start: int, stop: int) -> Any:
            return np.concatenate([part(start, stop) for part in parts], axis=-1)

        states.append(Series("velocity", 1, read))
    dtype = next(iter(arrays.values())).dataset.dtype
    return Content(shape[0], times, axes, boundary, states, dtype)


def read_seeds(reader: Reader, boundary: str) -> Content:
    """Read PDEBench's files with a group for each trajectory."""
    file, names = reader.file, reader.members(reader.file)
    arrays = [reader.array(file, f"{name}/data") for name in names]
    shape = arrays[0].shape
    need(3 <= len(shape) <= 5, f"expected (time, x, .., channels), got {shape}")
    for array in arrays:
        need(array.shape == shape, f"{array.name}: another shape than the first")
    letters = "xyz"[: len(shape) - 2]
    axes = [reader.values(file, f"{names[0]}/grid/{letter}") for letter in letters]
    times = reader.values(file, f"{names[0]}/grid/t")[: shape[0]]

    def channel(number: int) -> Callable[[int, int], Any]:
        def read(start: int, stop: int) -> Any:
            return np.stack(
                [
                    finite(a.dataset[..., number : number + 1], a.name)
                    for a in arrays[start:stop]
                ]
            )

        return read

    states = [Series(f"u{number}", 0, channel(number)) for number in range(shape[-1])]
    dtype = arrays[0].dataset.dtype
    return Content(len(names), times, axes, boundary, states, dtype)


def look(reader: Reader, boundary: str) -> tuple[str, Content]:
    """Find out the layout and read all but the fields; return its name too."""
    names = reader.members(reader.file)
    if "t0_fields" in names:
        return "The Well", read_well(reader)
    if names and all(re.fullmatch("[0-9]{4,6}", name) for name in names):
        need(boundary, "PDEBench does not say: give --boundary periodic or wall")
        return "PDEBench, a group per trajectory", read_seeds(reader, boundary)
    if "t-coordinate" in names:
        need(boundary, "PDEBench does not say: give --boundary periodic or wall")
        return "PDEBench, an array per field", read_tensors(reader, boundary)
    raise Refused("neither the layout of The Well nor one of PDEBench's")


def lengths(content: Content) -> list[float]:
    """Return the length of each axis; its points must be uniform."""
    for what, values in (("time", content.times), *enumerate(content.axes)):
        steps = np.diff(values)
        need(
            values.ndim == 1 and len(values) >= 2 and bool((steps > 0).all()),
            f"the coordinates of {what} do not increase",
        )
        need(
            np.allclose(steps, steps.mean(), rtol=1e-3, atol=0),
            f"the coordinates of {what} are not uniform",
        )
    return [float(np.diff(axis).mean() * len(axis)) for axis in content.axes]


def check_room(content: Content) -> int:
    """Check that trajectories fit the axes; return the bytes of one."""
    need(content.states, "no field varies in time")
    space = tuple(len(axis) for axis in content.axes)
    points, size = math.prod(space), content.dtype.itemsize
    dims = len(space)
    channels = sum(dims**s.order for s in content.states) * len(content.times)
    channels += sum(dims**s.order for s in content.constants)
    return points * channels * size


def stream(reader: Reader, boundary: str, block: int) -> Iterator[bytes]:
    """Yield the header, then the numbers of `block` trajectories after each other."""
    layout, content = look(reader, boundary)
    space = [len(axis) for axis in content.axes]
    header = {
        "layout": layout,
        "num": content.num,
        "times": content.times.tolist(),
        "shape": space,
        "lengths": lengths(content),
        "boundary": content.boundary,
        "states": [[s.name, s.order] for s in content.states],
        "constants": [[s.name, s.order] for s in content.constants],
        "scalars": content.scalars or {},
        "strengths": {n: v.tolist() for n, v in (content.strengths or {}).items()},
        "left_out": content.left_out,
        "dtype": str(content.dtype),
        "bytes": check_room(content),
    }
    yield json.dumps(header, allow_nan=False).encode()
    dims = len(space)
    for start in range(0, content.num, block):
        stop = min(start + block, content.num)
        for series, lead in (
            *((s, (stop - start, len(content.times))) for s in content.states),
            *((s, (stop - start,)) for s in content.constants),
        ):
            want = (*lead, *space, dims**series.order)
            values = series.read(start, stop)
            need(
                values.shape == want, f"{series.name}: shape {values.shape}, not {want}"
            )
            yield np.ascontiguousarray(values, dtype=content.dtype).tobytes()


def give_up(memory: int, seconds: int) -> None:
    """Give up files, memory and time; what is imported stays."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    # No descriptor is left to open anything with: not a file, not a socket.
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def warm_up() -> None:
    """Use what loads its parts late, while files can still be opened."""
    with h5py.File.in_memory() as file:
        file.create_dataset("a", data=np.zeros((2, 2)), compression=1, fletcher32=True)
        file.attrs["text"] = np.array(["a"], dtype=object)
        reader = Reader(file, 1 << 20)
        reader.values(file, "a")
        reader.texts(file, "text")
        np.allclose([1.0], [1.0])
        b"a".decode("ascii", "replace")
        with contextlib.suppress(OSError):
            h5py.File(io.BytesIO(b"no file"), "r")


def serve(
    source: BinaryIO, target: BinaryIO, boundary: str, block: int, budget: int
) -> None:
    """Answer with the content of a file, or with one line that says why not."""
    try:
        with h5py.File(source, "r") as file:
            for part in stream(Reader(file, budget), boundary, block):
                _send(target, b"+", part)
    except Refused as error:
        _refuse(target, str(error))
    except Exception as error:  # noqa: BLE001
        # Damage shows up as OSError, RuntimeError, KeyError, ValueError, MemoryError..
        _refuse(target, f"not a readable HDF5 file ({type(error).__name__}: {error})")
    target.flush()


def _refuse(target: BinaryIO, reason: str) -> None:
    _send(target, b"-", reason[:300].encode("ascii", "backslashreplace"))


def _send(target: BinaryIO, kind: bytes, part: bytes) -> None:
    """Write a part: + or -, its length in eight bytes, itself."""
    target.write(kind + len(part).to_bytes(8, "little"))
    target.write(part)


if __name__ == "__main__":
    _block, _budget, _memory, _seconds = map(int, sys.argv[2:])
    warm_up()
    give_up(_memory, _seconds)
    serve(sys.stdin.buffer, sys.stdout.buffer, sys.argv[1], _block, _budget)
    os._exit(0)
