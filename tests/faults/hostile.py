"""Hostile HDF5 files, made by code: what each does, and the file that does it."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

NUM, FRAMES, POINTS = 3, 4, 8


def tensor_file(path: Path, **changes: Any) -> None:
    """Write PDEBench's single file; a change of None leaves an array out."""
    draw = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "tensor": draw.random((NUM, FRAMES, POINTS)).astype("<f4"),
        "x-coordinate": ((np.arange(POINTS) + 0.5) / POINTS).astype("<f4"),
        "t-coordinate": np.arange(FRAMES + 1.0),
    } | changes
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            if values is not None:
                file[name] = values


def seeds_file(path: Path) -> None:
    """Write PDEBench's file with a group for each trajectory."""
    draw = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for number in range(NUM):
            group = file.create_group(f"{number:04d}")
            data = draw.random((FRAMES, POINTS, POINTS, 2)).astype("<f4")
            group.create_dataset("data", data=data, compression="gzip", shuffle=True)
            for axis, n in (("x", POINTS), ("y", POINTS), ("t", FRAMES)):
                group[f"grid/{axis}"] = np.arange(float(n))


Change = Callable[[Any, Path], None]
"""What is done to the open file; the path is that of a secret beside it."""


def replaced(name: str, make: Callable[[Any, str, Path], object]) -> Change:
    def change(file: Any, secret: Path) -> None:
        del file[name]
        make(file, name, secret)

    return change


def virtual(file: Any, name: str, secret: Path) -> None:
    layout = h5py.VirtualLayout((NUM, FRAMES, POINTS), "<f4")
    layout[:] = h5py.VirtualSource(secret, "secret", (NUM, FRAMES, POINTS), "<f4")
    file.create_virtual_dataset(name, layout)


def external(file: Any, name: str, secret: Path) -> None:
    size = NUM * FRAMES * POINTS * 4
    file.create_dataset(
        name, (NUM, FRAMES, POINTS), "<f4", external=[(str(secret), 0, size)]
    )


def declared(shape: tuple[int, ...], **options: Any) -> Callable[..., object]:
    return lambda file, name, _: file.create_dataset(name, shape, "<f4", **options)


def stored(values: Any, **options: Any) -> Callable[..., object]:
    return lambda file, name, _: file.create_dataset(name, data=values, **options)


def linked(link: Callable[[Path], object]) -> Callable[..., object]:
    return lambda file, name, secret: file.__setitem__(name, link(secret))


GOOD = np.ones((NUM, FRAMES, POINTS), "<f4")
BIG = 1 << 20
FIELDS = ("tensor", "x-coordinate", "t-coordinate")
REPLACEMENTS: dict[str, Callable[..., object]] = {
    "external storage": external,
    "virtual": virtual,
    "external link": linked(lambda s: h5py.ExternalLink(str(s), "secret")),
    "soft link": linked(lambda _: h5py.SoftLink("/elsewhere")),
    "soft link to itself": linked(lambda _: h5py.SoftLink("/tensor")),
    "group": lambda file, name, _: file.create_group(name),
    "committed type": lambda file, name, _: file.__setitem__(name, np.dtype("<f4")),
    "shape bomb": declared((BIG, BIG, 1)),
    "chunked shape bomb": declared((BIG, BIG, 1), chunks=(1, 1, 1)),
    "huge chunk": declared((BIG, 1 << 11, 1), chunks=(1 << 18, 1 << 11, 1)),
    "never written": declared((NUM, FRAMES, POINTS)),
    "never written, in chunks": declared((NUM, FRAMES, POINTS), chunks=(1, 1, 1)),
    "resizable and empty": declared((0, FRAMES, POINTS), maxshape=(None,) * 3),
    "deflate bomb": stored(np.zeros((1 << 12, 1 << 11, 1), "<f4"), compression=1),
    "integers": stored(GOOD.astype("<i4")),
    "big endian": stored(GOOD.astype(">f4")),
    "half precision": stored(GOOD.astype("<f2")),
    "complex": stored(GOOD.astype("<c8")),
    "booleans": stored(GOOD > 0),
    "compound": stored(np.zeros(3, [("a", "<f4"), ("b", "<i4")])),
    "text": stored("tensor"),
    "variable length": lambda file, name, _: file.create_dataset(
        name, (3,), h5py.vlen_dtype("<f4")
    ),
    "references": lambda file, name, _: file.create_dataset(name, (3,), h5py.ref_dtype),
    "opaque": stored(np.zeros(3, "V8")),
    "null": stored(h5py.Empty("<f4")),
    "scalar": stored(np.float32(1)),
    "one axis": stored(np.ones(3, "<f4")),
    "eight axes": stored(np.ones((1,) * 8, "<f4")),
    "lzf": stored(GOOD, compression="lzf"),
    "scale-offset": stored(GOOD, scaleoffset=2),
    "no number": stored(GOOD * np.nan),
    "infinity": stored(GOOD * np.inf),
}


def cases() -> Iterator[tuple[str, Change]]:
    """Yield a name and a change of `tensor_file` for each case."""
    for kind, make in REPLACEMENTS.items():
        yield kind, replaced("tensor", make)
    # Of coordinates the same, but for what they may be.
    for name, kind in itertools.product(FIELDS[1:], REPLACEMENTS):
        if kind not in {"one axis", "soft link to itself", "deflate bomb"}:
            yield f"{name}: {kind}", replaced(name, REPLACEMENTS[kind])
    for name in FIELDS:
        yield f"{name} missing", lambda file, _, n=name: file.__delitem__(n)
    yield "20001 groups", _many_groups
    yield "a name with a slash above it", _deep
    yield "names that are no names", lambda f, _: f.__setitem__("a b\n;", GOOD)
    yield "hard links in a circle", _circle
    yield "fields of two shapes", lambda f, _: f.__setitem__("b", GOOD[:2])
    yield "many fields that add up", _cumulative
    yield "time runs back", replaced("t-coordinate", stored(-np.arange(5.0)))
    yield (
        "points are not uniform",
        replaced("x-coordinate", stored(np.arange(8.0) ** 2)),
    )
    yield "fewer points", replaced("x-coordinate", stored(np.arange(5.0)))
    yield "fewer times", replaced("t-coordinate", stored(np.arange(2.0)))


def _many_groups(file: Any, _: Path) -> None:
    for number in range(20_001):
        file.create_group(f"{number:05d}")


def _deep(file: Any, _: Path) -> None:
    del file["tensor"]
    file["/".join("a" * 500) + "/tensor"] = GOOD


def _circle(file: Any, _: Path) -> None:
    file["loop"] = file["/"]


def _cumulative(file: Any, _: Path) -> None:
    """Each is within the limit of bytes, and all together are not."""
    del file["tensor"]
    for number in range(12):
        file[f"field{number}"] = np.ones((NUM, FRAMES, 40_000), "<f4")
