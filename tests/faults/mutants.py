"""Small random changes of bytes, as damage and as an attacker's first attempts."""

import hashlib
import json
from pathlib import Path

import numpy as np


def mutant(whole: bytes, draw: np.random.Generator) -> bytes:
    """Flip a bit, overwrite some bytes, cut off, blank a block, or move one."""
    data = bytearray(whole)
    kind, place = draw.integers(5), int(draw.integers(len(data)))
    if kind == 0:
        data[place] ^= 1 << int(draw.integers(8))
    elif kind == 1:
        for _ in range(draw.integers(1, 5)):
            data[draw.integers(len(data))] = int(draw.integers(256))
    elif kind == 2:
        del data[place:]
    elif kind == 3:
        data[place : place + 512] = bytes(len(data[place : place + 512]))
    else:
        size, to = int(draw.integers(1, 64)), int(draw.integers(len(data)))
        data[to : to + size] = data[place : place + size]
    return bytes(data)


def resealed(folder: Path, name: str, data: bytes) -> None:
    """Put `data` into a checkpoint, under a hash that fits it."""
    path = folder / "MANIFEST.json"
    manifest = json.loads(path.read_text())
    manifest["sha256"][name] = hashlib.sha256(data).hexdigest()
    (folder / name).write_bytes(data)
    path.write_text(json.dumps(manifest))
