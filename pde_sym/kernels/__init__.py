"""Compiled CPU kernels; each agrees with a torch reference to round-off.

Numba keeps compiled functions on the disk and looks at their own file only: it does not
see that a function of another file which they call has changed, nor a constant that
they import. So what was compiled from other sources than those of this folder is
removed before any of it is loaded, and no kernel reads a constant from elsewhere.
"""

import contextlib
import hashlib
from pathlib import Path


def forget_others(folder: Path) -> None:
    """Remove what is compiled in a folder, unless it comes from its present sources."""
    sources = sorted(folder.glob("*.py"))
    digest = hashlib.sha256(b"\0".join(p.read_bytes() for p in sources)).hexdigest()
    cache = folder / "__pycache__"
    stamp = cache / "sources.sha256"
    # A folder that cannot be written holds nothing compiled.
    with contextlib.suppress(OSError):
        if stamp.is_file() and stamp.read_text(encoding="ascii") == digest:
            return
        for compiled in (*cache.glob("*.nbi"), *cache.glob("*.nbc")):
            compiled.unlink(missing_ok=True)
        cache.mkdir(exist_ok=True)
        stamp.write_text(digest, encoding="ascii")


forget_others(Path(__file__).parent)
