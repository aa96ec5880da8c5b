"""Arrays that a user brings as a configuration value."""

import hashlib
import math
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from pydantic import PrivateAttr, model_validator

from pde_sym.config import Frozen
from pde_sym.errors import InputError

MAX_BYTES = 1 << 30


class ArrayFile(Frozen):
    """A NumPy file, known to configurations by its content and not by its path.

    It is written in a configuration as a path ending in ``.npy``; the resolved
    configuration holds shape and hash, so that equal content means equal results.
    """

    sha256: str
    shape: tuple[int, ...]
    _path: Path | None = PrivateAttr(default=None)
    _values: NDArray[np.float64] | None = PrivateAttr(default=None)

    @model_validator(mode="wrap")
    @classmethod
    def _read_path(cls, value: Any, handler: Any) -> Self:
        if not isinstance(value, str | Path):
            return handler(value)
        path = Path(value).absolute()
        values = _load(path)
        result = handler({"sha256": _hash(values), "shape": values.shape})
        result._path, result._values = path, values
        return result

    def __getstate__(self) -> dict[Any, Any]:
        # Another process reads the file itself.
        state = super().__getstate__()
        private = {**state["__pydantic_private__"], "_values": None}
        return {**state, "__pydantic_private__": private}

    def __eq__(self, other: object) -> bool:
        # The content decides, whether it was read or only named.
        if not isinstance(other, ArrayFile):
            return NotImplemented
        return (self.sha256, self.shape) == (other.sha256, other.shape)

    def __hash__(self) -> int:
        return hash((self.sha256, self.shape))

    def values(self) -> NDArray[np.float64]:
        """Return the array; `InputError` when only its hash came with the config."""
        if self._values is not None:
            return self._values
        if self._path is None:
            raise InputError(
                f"the array {self.sha256[:12]} of shape {self.shape} is known by its "
                "hash only: give its file again"
            )
        values = _load(self._path)
        if (_hash(values), values.shape) != (self.sha256, self.shape):
            raise InputError(f"{self._path}: changed since the work began")
        # Read once; the value does not change by it.
        self._values = values
        return values


def _hash(values: NDArray[np.float64]) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()


def _load(path: Path) -> NDArray[np.float64]:
    if path.suffix != ".npy":
        raise InputError(f"{path}: expected the path of a .npy file")
    try:
        # A pipe has no end.
        if not path.is_file():
            raise InputError(f"{path}: not a plain file")
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES} bytes")
        with path.open("rb") as file:
            _check_header(file, path.stat().st_size)
        raw = np.load(path, allow_pickle=False)
    except InputError:
        raise
    except Exception as error:
        # Headers are parsed as Python, with the errors of that.
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not a readable .npy file ({reason})") from error
    if raw.dtype.kind not in "fiu":
        raise InputError(f"{path}: expected an array of real numbers")
    if 8 * raw.size > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES} bytes in float64")
    values = np.ascontiguousarray(raw, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: holds numbers that are not finite")
    values.setflags(write=False)
    return values


def _check_header(file: BinaryIO, size: int) -> None:
    """Raise `ValueError` when a file of `size` bytes cannot hold what it declares."""
    version = npy.read_magic(file)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version}")
    shape, _, dtype = readers[version](file)
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"the shape {shape} in {size} bytes")
