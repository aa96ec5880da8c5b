"""Files that are whole or absent: the only code that changes the disk.

A file is written under a temporary name in its own folder, flushed to the disk and
renamed; a crash at any point leaves the old file or the new one. Every call that
changes the disk goes through `disk`, where tests put their faults.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import socket
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pde_sym.errors import DataError, OutputError

TEMPORARY = ".tmp-"
LOCK = ".lock"
_BLOCK = 1 << 22


class Disk:
    """The system calls that change the disk, one method each."""

    def create(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        return os.open(path, flags, 0o666)

    def append(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        return os.open(path, flags, 0o666)

    def write(self, descriptor: int, data: memoryview) -> int:
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)

    def remove(self, path: Path) -> None:
        path.unlink()

    def make_folder(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)


disk: Disk = Disk()


def make_folder(path: Path) -> None:
    """Make a folder and its parents, to stay; `OutputError` when that fails."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        disk.make_folder(path)
        for folder in reversed(missing):
            _sync_folder(folder.parent)
    except OSError as error:
        raise OutputError(
            f"{path}: the folder cannot be made ({error.strerror})"
        ) from error


def write_file(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds all of it or what it held before.

    Raises
    ------
    OutputError
        When the disk is full or refuses; the temporary file is gone then.
    """
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        _write_all(temporary, data)
        disk.rename(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        # Also on Ctrl-C; after a kill the next run removes the temporary file.
        with suppress(OSError):
            disk.remove(temporary)
        if isinstance(error, OSError):
            raise OutputError(
                f"{path}: cannot be written ({error.strerror}); "
                "make room or choose another folder, then repeat the command"
            ) from error
        raise


def append_line(path: Path, line: str) -> None:
    """Append a line to a log; a crash may leave a part of it.

    Raises
    ------
    OutputError
        When the disk is full or refuses.
    """
    try:
        descriptor = disk.append(path)
        try:
            rest = memoryview(f"{line}\n".encode())
            while rest:
                rest = rest[disk.write(descriptor, rest) :]
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); make room, then repeat "
            "the command"
        ) from error


def replace_folder(new: Path, folder: Path) -> None:
    """Give the finished folder `new` the name `folder`; what was there is removed.

    A kill between the two renames leaves no `folder`, and what it held under a
    temporary name.

    Raises
    ------
    OutputError
        When the disk refuses; `folder` then holds what it held.
    """
    old = folder.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        if folder.exists():
            disk.rename(folder, old)
        try:
            disk.rename(new, folder)
        except BaseException:
            if old.exists():
                disk.rename(old, folder)
            raise
        _sync_folder(folder.parent)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror})") from error
    finally:
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)


def remove_folders(folders: Iterable[Path]) -> None:
    """Remove whole folders; `OutputError` when the disk refuses."""
    for folder in folders:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be removed ({error.strerror})"
            ) from error


def _write_all(path: Path, data: bytes) -> None:
    descriptor = disk.create(path)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[disk.write(descriptor, rest) :]
        disk.sync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        disk.sync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed runs left in `folder`; call it under the lock."""
    for path in sorted(folder.glob(f"{TEMPORARY}*")):
        try:
            disk.remove(path)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be removed ({error.strerror})"
            ) from error


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; the lock dies with the process.

    Raises
    ------
    OutputError
        When another process holds it; it names process and host.
    """
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise OutputError(f"{path}: cannot be opened ({error.strerror})") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 256).decode(errors="replace").strip()
            raise OutputError(
                f"{folder}: in use by {holder or 'another process'}; wait for it "
                "or choose another folder"
            ) from error
        except OSError as error:
            # Some network folders have no locks; names never clash all the same.
            if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP}:
                raise
        # The holder's name is a courtesy: a full disk must not stop the work here.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(
                descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode()
            )
        yield
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def read_file(path: Path, max_bytes: int) -> bytes:
    """Read a small file; `DataError` when it is missing or too large."""
    try:
        with _open_plain(path) as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > max_bytes:
        raise DataError(f"{path}: larger than {max_bytes} bytes")
    return data


def _open_plain(path: Path) -> BinaryIO:
    """Open a file that has an end, which pipes and devices have not."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a plain file")
    return path.open("rb")


_hashes: dict[tuple[str, int, int, int], str] = {}


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file; a file that has not changed is read once."""
    try:
        status = path.stat()
        key = (str(path), status.st_size, status.st_mtime_ns, status.st_ino)
        if key not in _hashes:
            digest = hashlib.sha256()
            with _open_plain(path) as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
            _hashes[key] = digest.hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return _hashes[key]
