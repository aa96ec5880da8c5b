"""Hostile checkpoints, made by code: what stands in the place of tensors or state."""

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Touch:
    """Leaves a marker when it is unpickled, by one of several ways to run code."""

    def __init__(self, marker: Path, way: str) -> None:
        self.marker, self.way = marker, way

    def __reduce__(self) -> tuple[Any, ...]:
        import os
        import subprocess

        path = str(self.marker)
        return {
            "os.system": (os.system, (f"touch '{path}'",)),
            "subprocess": (subprocess.call, (["touch", path],)),
            "eval": (eval, (f"__import__('os').mknod({path!r})",)),
            "exec": (exec, (f"import os; os.mknod({path!r})",)),
            "mknod": (os.mknod, (path,)),
        }[self.way]


WAYS = ("os.system", "subprocess", "eval", "exec", "mknod")


def pickles(marker: Path) -> dict[str, bytes]:
    """Return pickles and what holds pickles; each touches `marker` when it is run."""
    found = {
        f"{way}, protocol {n}": pickle.dumps(Touch(marker, way), n)
        for way, n in zip(WAYS, (0, 2, 3, 4, 5), strict=True)
    }
    bomb = Touch(marker, "os.system")
    found["nested"] = pickle.dumps({"model": [{"w": (1, bomb)}]})
    found["torch.save"] = _saved(bomb)
    found["torch.save of a state"] = _saved({"w": torch.ones(3), "extra": bomb})
    old = io.BytesIO()
    torch.save({"w": bomb}, old, _use_new_zipfile_serialization=False)
    found["torch.save of old"] = old.getvalue()
    found["zip with two entries"] = _zipped({"data.pkl": 0, "archive/data.pkl": bomb})
    found["npz"] = _zipped({"weights.npy": bomb})
    found["npy of objects"] = _array(bomb)
    found["pickle behind a header"] = named({}) + pickle.dumps(bomb)
    found["pickle in a tensor"] = named({"__metadata__": {}}) + pickle.dumps(bomb)
    found["JSON around a pickle"] = json.dumps(
        {"state": pickle.dumps(bomb, 0).decode("latin1")}
    ).encode()[:-1]
    return found


def _saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def _zipped(entries: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, value in entries.items():
            archive.writestr(name, pickle.dumps(value))
    return file.getvalue()


def _array(value: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([value], dtype=object), allow_pickle=True)
    return file.getvalue()


def named(header: Any, data: bytes = b"") -> bytes:
    """Return safetensors bytes with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(start: int, end: int, shape: Any = (1,), dtype: Any = "F32") -> Any:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


F4 = bytes(4)
HEADERS: dict[str, bytes] = {
    "empty": b"",
    "seven bytes": bytes(7),
    "no header": struct.pack("<Q", 0),
    "a header beyond the file": struct.pack("<Q", 1000) + b"{}",
    "the longest header": struct.pack("<Q", 2**64 - 1) + b"{}",
    "a header above 100 MB": struct.pack("<Q", 100_000_001) + b"{}",
    "no JSON": named(b"{"),
    "a list": named([]),
    "text": named("weights"),
    "no UTF-8": named(b'{"\xff": 1}'),
    "deep JSON": named(b"[" * 100_000),
    "a number for a tensor": named({"w": 1}),
    "no offsets": named({"w": {"dtype": "F32", "shape": [1]}}, F4),
    "an unknown type": named({"w": tensor(0, 4, dtype="OBJECT")}, F4),
    "a type that is a number": named({"w": tensor(0, 4, dtype=7)}, F4),
    "offsets that overlap": named({"a": tensor(0, 4), "b": tensor(0, 4)}, F4),
    "a hole": named({"a": tensor(0, 4), "b": tensor(8, 12)}, F4 * 3),
    "bytes behind the last": named({"a": tensor(0, 4)}, F4 * 2),
    "offsets that run back": named({"a": tensor(4, 0)}, F4),
    "offsets beyond the file": named({"a": tensor(0, 4000, (1000,))}, F4),
    "a negative offset": named({"a": tensor(-4, 0)}, F4),
    "a shape that does not fit": named({"a": tensor(0, 4, (2,))}, F4),
    "a shape that overflows": named({"a": tensor(0, 4, (2**33, 2**33))}, F4),
    "a negative size": named({"a": tensor(0, 4, (-1,))}, F4),
    "a shape of 4000 digits": named(
        b'{"a":{"dtype":"F32","shape":[' + b"9" * 4000 + b'],"data_offsets":[0,4]}}', F4
    ),
    "metadata that are no texts": named({"__metadata__": {"a": 1}}),
}
"""What is no safetensors file."""
STATES: dict[str, bytes] = {
    "empty": b"",
    "cut off": b'{"update": 1',
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "no UTF-8": b'{"\xff": 1}',
    "deep": b'{"a":' * 50_000,
    "4000 and more digits": b'{"update": ' + b"9" * 5000 + b"}",
    "two values": b"{} {}",
    "YAML": b"!!python/object/apply:os.system ['true']",
}
"""What is no JSON object."""
