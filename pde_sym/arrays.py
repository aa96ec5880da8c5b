"""Arrays that a user brings as a configuration value."""

import hashlib
from pathlib import Path
from typing import Any, Self

import numpy as np
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
    _values: NDArray[np.float64] | None = PrivateAttr(default=None)

    @model_validator(mode="wrap")
    @classmethod
    def _read_path(cls, value: Any, handler: Any) -> Self:
        if not isinstance(value, str | Path):
            return handler(value)
        values = _load(Path(value))
        result = handler(
            {
                "sha256": hashlib.sha256(values.tobytes()).hexdigest(),
                "shape": values.shape,
            }
        )
        result._values = values
        return result

    def __eq__(self, other: object) -> bool:
        # The content decides, whether it was read or only named.
        if not isinstance(other, ArrayFile):
            return NotImplemented
        return (self.sha256, self.shape) == (other.sha256, other.shape)

    def __hash__(self) -> int:
        return hash((self.sha256, self.shape))

    def values(self) -> NDArray[np.float64]:
        """Return the array; `InputError` when only its hash came with the config."""
        if self._values is None:
            raise InputError(
                f"the array {self.sha256[:12]} of shape {self.shape} is known by its "
                "hash only: give its file again"
            )
        return self._values


def _load(path: Path) -> NDArray[np.float64]:
    if path.suffix != ".npy":
        raise InputError(f"{path}: expected the path of a .npy file")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES} bytes")
        raw = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a readable .npy file ({error})") from error
    if not isinstance(raw, np.ndarray) or raw.dtype.kind not in "fiu":
        raise InputError(f"{path}: expected an array of real numbers")
    values = np.ascontiguousarray(raw, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: holds numbers that are not finite")
    values.setflags(write=False)
    return values
