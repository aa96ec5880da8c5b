"""Nothing that was compiled from other sources is used."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from pde_sym.kernels import forget_others

KERNELS = Path(__file__).parents[1] / "pde_sym" / "kernels"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.py").write_text("a = 1\n")
    (tmp_path / "b.py").write_text("b = 1\n")
    forget_others(tmp_path)
    for name in ("a.f.nbi", "a.f.1.nbc", "b.cpython.pyc"):
        (tmp_path / "__pycache__" / name).write_bytes(b"compiled")
    return tmp_path


def cached(folder: Path) -> set[str]:
    return {path.name for path in (folder / "__pycache__").iterdir()}


def test_compiled_functions_stay_while_the_sources_do(folder: Path) -> None:
    before = cached(folder)
    forget_others(folder)
    assert cached(folder) == before
    assert {"a.f.nbi", "a.f.1.nbc"} <= before


def test_they_go_when_another_file_changes(folder: Path) -> None:
    (folder / "b.py").write_text("b = 2\n")
    forget_others(folder)
    assert cached(folder) == {"b.cpython.pyc", "sources.sha256"}
    forget_others(folder)
    (folder / "__pycache__" / "a.f.nbi").write_bytes(b"compiled anew")
    forget_others(folder)
    assert "a.f.nbi" in cached(folder)


def test_they_go_when_a_file_comes_or_goes(folder: Path) -> None:
    (folder / "c.py").write_text("")
    forget_others(folder)
    assert "a.f.nbi" not in cached(folder)


def frozen(source: str) -> Iterator[str]:
    """Yield constants of other folders that compiled functions read as globals."""
    tree = ast.parse(source)
    foreign = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("pde_sym.")
        and not (node.module or "").startswith("pde_sym.kernels")
        for alias in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and any(
            "njit" in ast.unparse(decorator) for decorator in node.decorator_list
        ):
            names = (n.id for n in ast.walk(node) if isinstance(n, ast.Name))
            yield from (f"{node.name}: {name}" for name in names if name in foreign)


@pytest.mark.parametrize("path", sorted(KERNELS.glob("*.py")), ids=lambda p: p.stem)
def test_no_kernel_reads_a_constant_from_elsewhere(path: Path) -> None:
    assert list(frozen(path.read_text(encoding="utf-8"))) == []


def test_a_constant_from_elsewhere_is_seen() -> None:
    source = (
        "from pde_sym.systems.a import LIMIT\nfrom pde_sym.kernels.b import OWN\n"
        "@njit(cache=True)\ndef f(x):\n    return LIMIT + OWN + x\n"
        "def g(x):\n    return LIMIT\n"
    )
    assert list(frozen(source)) == ["f: LIMIT"]
