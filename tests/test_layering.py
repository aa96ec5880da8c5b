"""Who may import what, read from the source; and what a quick command must not load."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "h5py": (
        "pde_sym/store/foreign.py",
        "pde_sym/store/hdf5.py",
        "pde_sym/store/pdebench.py",
        "pde_sym/store/schema.py",
    ),
    "dask": ("pde_sym/executor.py",),
    "distributed": ("pde_sym/executor.py",),
    "escnn": ("pde_sym/nn/_escnn.py",),
    "numba": (
        "pde_sym/kernels/flow.py",
        "pde_sym/kernels/flow_rate.py",
        "pde_sym/kernels/flux_form.py",
        "pde_sym/kernels/kdv.py",
        "pde_sym/kernels/kdv_budgets.py",
        "pde_sym/kernels/kdv_flux.py",
        "pde_sym/kernels/kdv_polynomials.py",
        "pde_sym/kernels/plume.py",
        "pde_sym/kernels/rigid_body.py",
        "pde_sym/kernels/rigid_body_exact.py",
        "pde_sym/kernels/rigid_body_state.py",
        "pde_sym/kernels/transforms.py",
    ),
}
"""Library -> the only modules that import it."""
FORBIDDEN = {
    "pde_sym/": {"data_gen", "experiments", "tests"},
    "data_gen/": {"experiments", "tests"},
    "experiments/": {"tests"},
}
"""Folder -> packages above it."""
MAY_PRINT = {"pde_sym/progress.py"}


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and top-level package of every import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.split(".")[0]
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).split(".")[-1]
            name = node.args[0]
            if called in {"import_module", "__import__"} and isinstance(
                name, ast.Constant
            ):
                yield node.lineno, str(name.value).split(".")[0]


def faults(path: str, source: str) -> list[str]:
    """Return one line for each breach of the layers in the file at `path`."""
    tree = ast.parse(source)
    found = []
    for line, package in imported(tree):
        if path not in ALLOWED.get(package, (path,)):
            homes = " and ".join(ALLOWED[package])
            found.append(f"{path}:{line}: only {homes} may import {package}")
        for folder, above in FORBIDDEN.items():
            if path.startswith(folder) and package in above:
                found.append(f"{path}:{line}: {folder} never imports {package}")
    if path.startswith("pde_sym/") and path not in MAY_PRINT:
        found += [
            f"{path}:{node.lineno}: the library does not print"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "print"
        ]
    return found


def sources() -> list[Path]:
    folders = [folder.rstrip("/") for folder in FORBIDDEN]
    return [path for f in folders for path in sorted((ROOT / f).rglob("*.py"))]


def test_layers() -> None:
    found = []
    for path in sources():
        relative = path.relative_to(ROOT).as_posix()
        found += faults(relative, path.read_text(encoding="utf-8"))
    assert found == []


def test_the_walk_meets_the_libraries_where_they_live() -> None:
    """The check would say nothing of an empty tree."""
    assert len(sources()) > 40
    for package, homes in ALLOWED.items():
        for home in homes:
            tree = ast.parse((ROOT / home).read_text(encoding="utf-8"))
            assert package in {name for _, name in imported(tree)}


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("pde_sym/nn/conv.py", "from escnn import nn", "only pde_sym/nn/_escnn.py"),
        (
            "pde_sym/grid.py",
            "import h5py",
            "hdf5.py and pde_sym/store/pdebench.py and pde_sym/store/schema.py may",
        ),
        ("data_gen/build.py", "import h5py._hl as h", "only pde_sym/store/foreign.py"),
        (
            "experiments/a.py",
            "from escnn.nn import R2Conv",
            "only pde_sym/nn/_escnn.py may",
        ),
        ("pde_sym/flux_form.py", "def f():\n    import numba", "only pde_sym/kernels/"),
        ("pde_sym/a.py", "import data_gen", "never imports data_gen"),
        ("pde_sym/nn/a.py", "from experiments.runs import Run", "never imports exper"),
        ("data_gen/a.py", "from experiments import runs", "never imports experiments"),
        ("experiments/a.py", "import tests.helpers", "never imports tests"),
        ("pde_sym/a.py", "importlib.import_module('data_gen.build')", "never imports"),
        ("pde_sym/a.py", "__import__('numba')", "only pde_sym/kernels/"),
        ("pde_sym/a.py", "if x:\n    print(1)", "pde_sym/a.py:2: the library does not"),
    ],
)
def test_breaches_are_seen(path: str, source: str, fault: str) -> None:
    (found,) = faults(path, source)
    assert fault in found
    assert found.startswith(f"{path}:")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("pde_sym/store/hdf5.py", "import h5py"),
        ("pde_sym/nn/_escnn.py", "from escnn import gspaces"),
        ("pde_sym/kernels/flux_form.py", "from numba import njit"),
        ("pde_sym/progress.py", "print('half', file=stream)"),
        ("pde_sym/a.py", "from pde_sym.store import files\nfingerprint(a)"),
        ("pde_sym/a.py", "from . import numba"),
        ("data_gen/a.py", "import pde_sym\nprint(1)"),
        ("experiments/a.py", "import data_gen.build"),
    ],
)
def test_what_is_allowed_passes(path: str, source: str) -> None:
    assert faults(path, source) == []


HEAVY = ("torch", "escnn", "h5py", "matplotlib", "numba", "scipy", "dask")


def loaded_by(words: list[str]) -> tuple[int, str, set[str]]:
    """Run a command in a new process; return its code, its text and what it loaded."""
    program = (
        "import sys; from experiments.__main__ import main\n"
        f"code = main({words!r})\n"
        "print('loaded', *(m for m in sys.modules if '.' not in m))\n"
        "raise SystemExit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    *lines, modules = done.stdout.splitlines()
    assert modules.startswith("loaded "), done.stderr
    return done.returncode, "\n".join(lines), set(modules.split())


@pytest.mark.parametrize(
    ("words", "code", "word"),
    [
        ([], 0, "usage: pde-sym"),
        (["--help"], 0, "usage: pde-sym"),
        (["--version"], 0, "pde-sym"),
        (["nonsense"], 2, ""),
        (["systems"], 0, "heat"),
        (["systems", "--json"], 0, '"equation"'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_quick_command_loads_nothing_slow(
    words: list[str], code: int, word: str
) -> None:
    returned, text, modules = loaded_by(words)
    assert returned == code
    assert word in text
    assert "experiments" in modules
    assert not modules & set(HEAVY)


def test_the_check_sees_what_a_command_loads() -> None:
    modules = subprocess.run(
        [sys.executable, "-c", "import pde_sym.symmetry, sys; print(*sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    ).stdout.split()  # fmt: skip
    assert "torch" in modules
