"""Kernel bases on disk, found by what they are bases of.

They may be deleted at any time. The folder is ``$PDE_SYM_CACHE``, or ``pde_sym`` in the
user's folder of caches; a folder that cannot be written costs nothing but time.
"""

import hashlib
import os
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes

from pde_sym.errors import PdeSymError
from pde_sym.store import files

Array = NDArray[np.float64]
Pairs: TypeAlias = dict[tuple[int, int], dict[str, Array]]
"""Bases by part, per pair of places of irreps."""
VERSION = 2
"""Of the method; another one makes every basis anew."""
_HASH_BYTES = 32
_MAX_BYTES = 1 << 28


def folder() -> Path:
    """Return where the bases are kept."""
    chosen = os.environ.get("PDE_SYM_CACHE")
    if chosen:
        return Path(chosen)
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "pde_sym"


def key(text: str, *arrays: Array) -> str:
    """Return a name for what the text and the arrays, up to round-off, determine."""
    digest = hashlib.sha256(f"{VERSION} {text}".encode())
    for array in arrays:
        # Adding zero turns -0 into 0.
        digest.update(f"{array.shape}".encode())
        digest.update((np.round(array, 9) + 0.0).tobytes())
    return digest.hexdigest()


def load(name: str) -> Pairs | None:
    """Return the bases of that name; None when they are not there or damaged."""
    try:
        data = files.read_file(folder() / f"{name}.bases", _MAX_BYTES)
        if hashlib.sha256(data[_HASH_BYTES:]).digest() != data[:_HASH_BYTES]:
            return None
        arrays = from_bytes(data[_HASH_BYTES:])
    except (OSError, PdeSymError, SafetensorError):
        return None
    pairs: Pairs = {}
    # safetensors orders by size: the label begins with the place.
    for label in sorted(arrays):
        _, out, into, part = label.split("|")
        pairs.setdefault((int(out), int(into)), {})[part] = arrays[label]
    return pairs


def save(name: str, pairs: Pairs) -> None:
    """Keep the bases, where the disk allows it."""
    labelled = [
        (f"{out}|{into}|{part}", basis)
        for (out, into), bases in pairs.items()
        for part, basis in bases.items()
    ]
    payload = to_bytes(
        {
            f"{place:06d}|{label}": np.ascontiguousarray(basis)
            for place, (label, basis) in enumerate(labelled)
        }
    )
    try:
        files.make_folder(folder())
        path = folder() / f"{name}.bases"
        files.write_file(path, hashlib.sha256(payload).digest() + payload)
    except (OSError, PdeSymError):
        return
