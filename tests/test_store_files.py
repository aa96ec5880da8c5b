"""Files are whole or absent, and progress keeps quiet about quick work."""

import errno
import io
from pathlib import Path

import pytest
from disk_faults import FailingDisk, disk_error

from pde_sym import progress
from pde_sym.errors import OutputError
from pde_sym.store import files, write_file


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


def test_short_writes_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(files.Disk):
        def write(self, descriptor: int, data: memoryview) -> int:
            return super().write(descriptor, data[:7])

    monkeypatch.setattr(files, "disk", Slow())
    write_file(tmp_path / "file", bytes(range(100)))
    assert (tmp_path / "file").read_bytes() == bytes(range(100))


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_is_silent_when_quick_and_a_line_or_bar_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(stream: io.StringIO) -> str:
        with progress.progress("making", 4, "files", stream) as finished:
            for _ in range(4):
                finished(1)
        return stream.getvalue()

    assert work(io.StringIO()) == work(Terminal()) == ""
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    assert work(io.StringIO()) == "making: 1 of 4 files, 0 s left\n"
    assert "making" in work(Terminal())
