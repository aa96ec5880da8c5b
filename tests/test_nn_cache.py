"""Kernel bases on disk: the same as built anew, never worse than none."""

from pathlib import Path

import pytest
import torch

from pde_sym.nn import gspace, kernel_basis, kernel_cache
from pde_sym.nn.kernel_space import irrep_bases


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PDE_SYM_CACHE", str(tmp_path))
    return tmp_path


def basis(group: str = "D4", keep: str | None = None) -> dict[str, torch.Tensor]:
    """Return a basis as a fresh process would find it."""
    irrep_bases.cache_clear()
    regular = gspace(group).regular_repr
    return kernel_basis(regular, regular, gspace(group), 3, keep=keep)


def test_a_second_process_reads_the_same_bits(folder: Path) -> None:
    first = basis()
    (file,) = folder.glob("*.bases")
    written = file.stat().st_mtime_ns
    second = basis()
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert file.stat().st_mtime_ns == written


def test_another_question_has_another_file(folder: Path) -> None:
    basis()
    basis(keep="C4")
    basis("C4")
    assert len(list(folder.glob("*.bases"))) == 3


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "folder"])
def test_a_damaged_file_is_made_again(folder: Path, damage: str) -> None:
    first = basis()
    (file,) = folder.glob("*.bases")
    data = bytearray(file.read_bytes())
    if damage == "folder":
        file.unlink()
        file.mkdir()
    elif damage == "flip":
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    else:
        file.write_bytes(data[: len(data) // 3] if damage == "cut" else b"")
    again = basis()
    assert all(torch.equal(first[name], again[name]) for name in first)
    if damage != "folder":
        name = file.stem
        assert kernel_cache.load(name) is not None


def test_a_folder_that_cannot_be_made_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PDE_SYM_CACHE", str(tmp_path / "file" / "below"))
    assert basis()["trivial"].shape[1:] == (8, 8, 3, 3)
