"""Mutation testing: small defects are put into a module; do its tests see them?

    python tests/mutation.py                    # a sample of each module below
    python tests/mutation.py seeds --most 1000  # every mutant of one

A mutant changes one place: a comparison, a sum, a number, a truth, a text that is no
message, an argument that is left out, a statement that is not done. It lives in a fork
of a process that has loaded everything, so that it costs the time of its tests, and is
killed when one of them fails or takes too long.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import io
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    "seeds": ["test_seeds.py"],
    "checkpoint": ["test_checkpoint.py"],
    "training_state": [
        *("test_training_state.py", "test_training_resume.py"),
        *("-k", "not every_call_that"),
    ],
    "store.files": ["test_store_files.py", "test_store_folder.py"],
    "store.folder": ["test_store_folder.py", "test_store.py"],
    "store.shard": ["test_store.py"],
    "store.schema": ["test_store.py", "test_store_tensors.py"],
    "store.hdf5": ["test_store.py", "test_store_tensors.py"],
    "store.statistics": ["test_store.py", "test_dataset.py"],
}
"""Module of pde_sym -> its tests, the quickest to fail first."""
CPU_SECONDS, SECONDS = 120, 1200
"""A mutant that takes longer is killed."""
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt,
    ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A node of a module's tree, and what stands in its place."""

    old: ast.AST
    new: ast.AST
    line: int

    def __str__(self) -> str:
        texts = [
            " ".join(ast.unparse(node).split())[:70] for node in (self.old, self.new)
        ]
        return f"{self.line}: {texts[0]}  ->  {texts[1]}"

    def planted(self, tree: ast.Module) -> ast.Module:
        memo: dict[int, ast.AST] = {id(self.old): self.new}
        return ast.fix_missing_locations(copy.deepcopy(tree, memo))


def changed(node: ast.AST, **fields: object) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in the place of a node."""
    match node:
        case ast.Compare(ops=[op, *rest]) if type(op) in SWAPS:
            yield changed(node, ops=[SWAPS[type(op)](), *rest])
        case ast.BinOp(op=op) | ast.AugAssign(op=op) | ast.BoolOp(op=op):
            if type(op) in SWAPS:
                yield changed(node, op=SWAPS[type(op)]())
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.Constant(value=str(value)):
            yield ast.Constant(f"XX{value}")
        case ast.If() | ast.IfExp() | ast.While():
            yield changed(node, test=ast.Constant(False))
            if not isinstance(node, ast.While):
                yield changed(node, test=ast.Constant(True))
        case ast.comprehension(ifs=[_, *_]):
            yield changed(node, ifs=[])
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.AugAssign():
            yield ast.Pass()
        case ast.Return(value=ast.expr()):
            yield changed(node, value=ast.Constant(None))
        case ast.Assign():
            yield changed(node, value=ast.Constant(None))
        case ast.Break():
            yield ast.Continue()
        case ast.Call(keywords=[_, *_]):
            for keyword in node.keywords:
                kept = [other for other in node.keywords if other is not keyword]
                yield changed(node, keywords=kept)


def places(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that may change: no messages, documentation, types, imports."""
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            documentation = isinstance(child, ast.Expr) and isinstance(
                child.value, ast.Constant
            )
            if not isinstance(child, ast.AST) or documentation:
                continue
            yield child
            if not isinstance(child, ast.Raise | ast.JoinedStr | ast.ImportFrom):
                yield from places(child)


def mutants(tree: ast.Module) -> list[Mutant]:
    found, line = [], 0
    for node in places(tree):
        line = getattr(node, "lineno", line)
        found += [Mutant(node, new, line) for new in variants(node)]
    return found


class Planted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module, whose source is `tree`."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def create_module(self, spec: ModuleSpec) -> None:  # noqa: ARG002
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.tree, self.path, "exec"), vars(module))

    def load_afresh(self) -> None:
        """Have everything of ours imported again, and this module as it is here."""
        for name in list(sys.modules):
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(ROOT) and ".venv" not in file:
                del sys.modules[name]
        sys.meta_path.insert(0, self)

    def load_in_place(self) -> None:
        """Change the module that is loaded, and what others have imported from it.

        It spares an import of everything; what a test holds elsewhere stays as it was.
        """
        module = sys.modules[self.name]
        before = dict(vars(module))
        self.exec_module(module)
        new = {
            id(value): vars(module)[name]
            for name, value in before.items()
            if getattr(value, "__module__", None) == self.name
        }
        for other in list(sys.modules.values()):
            for name, value in list(getattr(other, "__dict__", {}).items()):
                if id(value) in new:
                    setattr(other, name, new[id(value)])


def survives(load: Callable[[], None], tests: list[str]) -> bool:
    """Run the tests on a module in a fork; return whether all of them pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    code = 1
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        signal.alarm(SECONDS)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        load()
        place = tempfile.mkdtemp(prefix="mutant-")
        code = run_tests("-x", f"--basetemp={place}/t", *tests)
        shutil.rmtree(place, ignore_errors=True)
    finally:
        os._exit(code)


def run_tests(*words: str) -> int:
    files = [str(ROOT / "tests" / w) if w.endswith(".py") else w for w in words]
    plain = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--rootdir={ROOT}"]
    return int(pytest.main([*plain, *files]))


def tried(module: str, most: int, seed: int) -> tuple[int, int]:
    """Try up to `most` mutants; return how many, and how many were killed."""
    path = ROOT / "pde_sym" / f"{module.replace('.', '/')}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name, tests, begin = f"pde_sym.{module}", MODULES[module], time.monotonic()
    whole = Planted(name, path, tree)
    assert survives(whole.load_in_place, tests), f"{module}: red without a mutant"
    everyone, alive = mutants(tree), 0
    few = random.Random(seed).sample(everyone, min(most, len(everyone)))
    for mutant in sorted(few, key=lambda one: one.line):
        planted = Planted(name, path, mutant.planted(tree))
        if not survives(planted.load_in_place, tests):
            continue
        if not alive:
            assert survives(whole.load_afresh, tests), f"{module}: red without a mutant"
        if survives(planted.load_afresh, tests):
            alive += 1
            print(f"{path.relative_to(ROOT)}:{mutant}", flush=True)
    killed, seconds = len(few) - alive, time.monotonic() - begin
    print(
        f"{module}: {killed} of {len(few)} killed ({killed / len(few):.1%}), "
        f"of {len(everyone)} mutants; {seconds:.0f} s",
        flush=True,
    )
    return len(few), killed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(MODULES))
    parser.add_argument("--most", type=int, default=60, help="mutants of a module")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    files = {w for name in arguments.modules for w in MODULES[name] if w[-3:] == ".py"}
    with redirect_stdout(io.StringIO()):
        # Loads what tests and modules need, once for all of them.
        assert run_tests("--collect-only", *sorted(files)) == 0
    counts = [tried(name, arguments.most, arguments.seed) for name in arguments.modules]
    total, killed = (sum(numbers) for numbers in zip(*counts, strict=True))
    print(f"all: {killed} of {total} killed ({killed / total:.1%})")


if __name__ == "__main__":
    main()
