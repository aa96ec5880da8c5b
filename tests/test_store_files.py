"""Files are whole or absent, folders are locked, and nothing is left open."""

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from disk_faults import FailingDisk, disk_error

from pde_sym.errors import DataError, OutputError
from pde_sym.store import files, lock, make_folder, write_file


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    for at in range(1, 5):
        monkeypatch.setattr(files, "disk", FailingDisk(at, disk_error(code)))
        with pytest.raises(OutputError, match="cannot be written"):
            write_file(path, b"new")
        assert [p.name for p in tmp_path.iterdir()] == ["file"]
        assert path.read_bytes() == b"old"
    # After the rename the new file is whole; only its name may not be on disk yet.
    monkeypatch.setattr(files, "disk", FailingDisk(5, disk_error(code)))
    with pytest.raises(OutputError):
        write_file(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("at", range(1, 5))
def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(files, "disk", FailingDisk(at, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write_file(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


class Slow(files.Disk):
    """Writes a few bytes at a time."""

    def write(self, descriptor: int, data: memoryview) -> int:
        return super().write(descriptor, data[:7])


def test_short_writes_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "disk", Slow())
    write_file(tmp_path / "file", bytes(range(100)))
    assert (tmp_path / "file").read_bytes() == bytes(range(100))
    for line in ("a line of some length", "another"):
        files.append_line(tmp_path / "log", line)
    assert (tmp_path / "log").read_text() == "a line of some length\nanother\n"


class Recording(files.Disk):
    """Notes what is flushed to the disk, and what has got which name by then."""

    def __init__(self) -> None:
        self.done: list[tuple[str, Path]] = []

    def sync(self, descriptor: int) -> None:
        self.done.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink()))
        super().sync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        self.done.append(("rename", new))
        super().rename(old, new)


def test_what_has_a_name_survives_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes are flushed before they get their name, and names after they are given."""
    disk = Recording()
    monkeypatch.setattr(files, "disk", disk)
    folder = tmp_path / "a" / "b"
    make_folder(folder)
    assert disk.done == [("sync", tmp_path), ("sync", tmp_path / "a")]
    disk.done.clear()
    make_folder(folder)
    assert disk.done == []
    write_file(folder / "file", b"data")
    first, *rest = disk.done
    assert first[1].name.startswith(files.TEMPORARY)
    assert rest == [("rename", folder / "file"), ("sync", folder)]
    disk.done.clear()
    files.replace_folder(folder, tmp_path / "c")
    assert disk.done == [("rename", tmp_path / "c"), ("sync", tmp_path)]


def test_files_have_the_rights_that_the_user_leaves_them(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        write_file(tmp_path / "file", b"")
        files.append_line(tmp_path / "log", "")
        with lock(tmp_path):
            pass
    finally:
        os.umask(before)
    for name in ("file", "log", files.LOCK):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o664, name


@pytest.mark.parametrize("work", [files.disk.create, files.disk.append, None])
def test_links_are_not_followed(
    tmp_path: Path, work: Callable[[Path], int] | None
) -> None:
    outside, path = tmp_path / "outside", tmp_path / files.LOCK
    path.symlink_to(outside)
    if work is not None:
        with pytest.raises(OSError, match=r"symbolic|exists"):
            work(path)
    else:
        with pytest.raises(OutputError, match="cannot be opened"), lock(tmp_path):
            pass
    assert not outside.exists()


def test_a_temporary_file_is_never_another_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        files.disk.create(path)
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda p: write_file(p / "sub", b""), "sub: cannot be written"),
        (lambda p: files.append_line(p / "sub", "row"), "sub: cannot be written"),
        (lambda p: make_folder(p / "sub"), "sub: the folder cannot be made"),
        (lambda p: files.remove_folders([p]), "file: cannot be removed"),
        (lambda p: files.replace_folder(p / "new", p.parent / "x"), "x: cannot be"),
    ],
)
def test_what_the_disk_refuses_is_one_error(
    tmp_path: Path, work: Callable[[Path], None], message: str
) -> None:
    """A file stands where a folder is needed."""
    path = tmp_path / "file"
    path.write_bytes(b"")
    with pytest.raises(OutputError, match=message):
        work(path)
    assert path.read_bytes() == b""


def test_temporary_files_alone_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other versions have left them under this name.
    for name in (".tmp-1", ".tmp-2", "file"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr(files, "disk", FailingDisk(1, counted=("remove",)))
    with pytest.raises(OutputError, match=r"\.tmp-1: cannot be removed"):
        files.remove_temporaries(tmp_path)
    monkeypatch.undo()
    files.remove_temporaries(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def make_old_and_new(place: Path) -> None:
    """Make two folders, each with a file of its name."""
    for name in ("old", "new"):
        (place / name).mkdir()
        (place / name / name).write_bytes(b"")


def test_a_folder_is_replaced_or_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old_and_new(tmp_path)
    folder = tmp_path / "old"
    for at in (1, 2):
        monkeypatch.setattr(files, "disk", FailingDisk(at, counted=("rename",)))
        with pytest.raises(OutputError, match="old: cannot be written"):
            files.replace_folder(tmp_path / "new", folder)
        assert [p.name for p in folder.iterdir()] == ["old"]
        assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "old"]
    monkeypatch.undo()
    files.replace_folder(tmp_path / "new", folder)
    assert [p.name for p in folder.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_what_cannot_be_put_back_is_kept_under_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old_and_new(tmp_path)
    refusing = FailingDisk(2, for_good=True, counted=("rename",))
    monkeypatch.setattr(files, "disk", refusing)
    with pytest.raises(OutputError, match="old: cannot be written"):
        files.replace_folder(tmp_path / "new", tmp_path / "old")
    (kept,) = tmp_path.glob(f"{files.TEMPORARY}*")
    assert [p.name for p in kept.iterdir()] == ["old"]


# The lock ---------------------------------------------------------------------------


def test_the_lock_names_its_holder_and_no_one_else(tmp_path: Path) -> None:
    # A process of another version holds the file of this name.
    path = tmp_path / ".lock"
    path.write_text("process 1 on a host with a very long name that was killed")
    for _ in range(2):
        with lock(tmp_path):
            held = path.read_text()
            with pytest.raises(OutputError, match=f"in use by {held};"), lock(tmp_path):
                pass
        assert held == f"process {os.getpid()} on {os.uname().nodename}"
        assert path.read_text() == ""


def test_a_holder_without_a_name(tmp_path: Path) -> None:
    with (tmp_path / files.LOCK).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="by another process;"), lock(tmp_path):
            pass


def refusing(code: int) -> Callable[..., None]:
    def refuse(*_: Any) -> None:
        raise OSError(code, "injected")

    return refuse


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_folders_that_know_no_locks_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(code))
    with lock(tmp_path):
        assert (tmp_path / files.LOCK).exists()


def test_locks_that_fail_do_not_pass_for_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(errno.EIO))
    with pytest.raises(OSError, match="injected"), lock(tmp_path):
        pass


# Reading ----------------------------------------------------------------------------


def test_reading_has_a_limit_and_wants_a_file(tmp_path: Path) -> None:
    path, pipe = tmp_path / "file", tmp_path / "pipe"
    path.write_bytes(b"12345")
    os.mkfifo(pipe)
    assert files.read_file(path, 5) == b"12345"
    with pytest.raises(DataError, match="file: larger than 4 bytes"):
        files.read_file(path, 4)
    for read in (lambda p: files.read_file(p, 9), files.file_hash):
        with pytest.raises(DataError, match=r"none: cannot be read \(No such file"):
            read(tmp_path / "none")
        with pytest.raises(DataError, match=r"pipe: cannot be read \(not a plain file"):
            read(pipe)


def test_the_hash_of_a_file_is_read_once_for_each_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other, opened = tmp_path / "file", tmp_path / "other", []
    plain = files._open_plain

    def counted(path: Path) -> Any:
        opened.append(path)
        return plain(path)

    monkeypatch.setattr(files, "_open_plain", counted)
    contents = (bytes(files._BLOCK + 3), b"one", b"longer")
    for number, content in enumerate(contents, start=1):
        write_file(path, content)
        for _ in range(2):
            assert files.file_hash(path) == hashlib.sha256(content).hexdigest()
        assert len(opened) == number
    # As large, but changed in place later, and then another file of that time.
    seconds = path.stat().st_mtime_ns + 10**9
    path.write_bytes(b"x" * len(contents[-1]))
    os.utime(path, ns=(seconds, seconds))
    other.write_bytes(b"y" * len(contents[-1]))
    os.utime(other, ns=(seconds, seconds))
    changed = files.file_hash(path)
    assert changed == hashlib.sha256(path.read_bytes()).hexdigest()
    other.replace(path)
    assert files.file_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert files.file_hash(path) != changed


# Descriptors ------------------------------------------------------------------------


def test_nothing_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that writes ten thousand files would run out of descriptors."""

    def still_open() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = still_open()
    write_file(tmp_path / "file", b"")
    files.append_line(tmp_path / "log", "row")
    files.file_hash(tmp_path / "file")
    with lock(tmp_path), pytest.raises(OutputError), lock(tmp_path):
        pass
    for call in ("create", "write", "sync", "rename"):
        monkeypatch.setattr(files, "disk", FailingDisk(1, counted=(call,)))
        with pytest.raises(OutputError):
            write_file(tmp_path / "file", b"1")
    for call in ("append", "write"):
        monkeypatch.setattr(files, "disk", FailingDisk(1, counted=(call,)))
        with pytest.raises(OutputError):
            files.append_line(tmp_path / "log", "row")
    assert still_open() == before
