"""Mutation testing: small defects are put into a module; do its tests see them?

    python tests/mutation.py                    # a sample of each module below
    python tests/mutation.py pde_sym.seeds --most 1000  # every mutant of one

A mutant changes one place: a comparison, a sum, a number, a truth, a text that is no
message, an argument that is left out, a statement that is not done. It lives in a fork
of a process that has collected the tests, so that it costs the time of those up to the
one that fails, and is killed by that, or when it takes too long.
"""

import argparse
import ast
import copy
import importlib
import importlib.abc
import importlib.util
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
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    "pde_sym.store.files": ["test_store_files.py"],
    "pde_sym.store.folder": ["test_manifest.py"],
    "pde_sym.store.shard": ["test_store.py"],
    "pde_sym.store.schema": ["test_store_schema.py"],
    "pde_sym.store.hdf5": [
        *("test_store.py", "test_store_tensors.py", "-k", "not attitude"),
    ],
    "pde_sym.store.statistics": ["test_store_statistics.py"],
    "pde_sym.seeds": ["test_seeds.py"],
    "pde_sym.checkpoint": ["test_checkpoint.py"],
    "pde_sym.training_state": ["test_training_folder.py"],
    "data_gen.build": ["test_build.py"],
}
"""Module -> its own tests, which are quick; longer ones see more."""
CPU_SECONDS, SECONDS = 60, 180
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
            alias = isinstance(node, ast.Module) and (
                isinstance(child, ast.Assign) and isinstance(child.value, ast.Subscript)
            )
            if not isinstance(child, ast.AST) or documentation or alias:
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


def our_modules() -> dict[str, ModuleType]:
    """Return what is loaded of this repository, tests included."""
    files = {n: getattr(m, "__file__", None) or "" for n, m in sys.modules.items()}
    return {
        name: sys.modules[name]
        for name, file in files.items()
        if Path(file).is_relative_to(ROOT) and ".venv" not in file
    }


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
        for name in our_modules():
            del sys.modules[name]
        sys.meta_path.insert(0, self)

    def load_in_place(self) -> None:
        """Change the module that is loaded, and what others have imported from it.

        It spares an import of everything; what a test holds elsewhere stays as it was.
        """
        module = importlib.import_module(self.name)
        before = dict(vars(module))
        self.exec_module(module)
        for other in our_modules().values():
            for name in before.keys() & vars(other).keys():
                if vars(other)[name] is before[name]:
                    setattr(other, name, vars(module)[name])


class Suite:
    """Tests that are collected once and run in forks, the module loaded anew in each.

    A plugin of pytest: `work` is done where pytest would run the tests.
    """

    def __init__(self, work: Callable[["Suite"], None]) -> None:
        self.work = work
        self.recent: list[int] = []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.session, self.items = session, session.items
        self.work(self)
        return True

    def passes(self, load: Callable[[], None]) -> bool:
        """Return whether all tests pass; what failed of late comes first."""
        later = [n for n in range(len(self.items)) if n not in self.recent]
        order = [*self.recent, *later]
        code = exit_code(lambda: self.run(load, order))
        if 0 < code <= len(order):
            self.recent = [order[code - 1], *self.recent][:8]
            self.recent = list(dict.fromkeys(self.recent))
        return code == 0

    def run(self, load: Callable[[], None], order: list[int]) -> int:
        """Return 0, or at which place in the order a test failed."""
        load()
        items = [self.items[number] for number in order]
        for place, item in enumerate(items, start=1):
            following = items[place] if place < len(items) else None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.session.testsfailed:
                return place
        return 0


def exit_code(work: Callable[[], int]) -> int:
    """Do `work` in a fork, with limits, in silence; return what it returns."""
    place = tempfile.mkdtemp(prefix="mutant-")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        shutil.rmtree(place, ignore_errors=True)
        return os.waitstatus_to_exitcode(status)
    code = 255
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        signal.alarm(SECONDS)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        # Where pytest makes its temporary folders.
        os.environ["PYTEST_DEBUG_TEMPROOT"] = place
        code = work()
    finally:
        os._exit(code)


def run_tests(words: list[str], *plugins: object) -> int:
    files = [str(ROOT / "tests" / w) if w.endswith(".py") else w for w in words]
    without = ("cacheprovider", "xdist", "terminal")
    plain = ["-x", "-s", f"--rootdir={ROOT}", *(f"-pno:{name}" for name in without)]
    return int(pytest.main([*plain, *files], plugins))


def tried(module: str, most: int, seed: int) -> tuple[int, int]:
    """Try up to `most` mutants; return how many, and how many were killed."""
    path = ROOT / f"{module.replace('.', '/')}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    begin, red = time.monotonic(), f"{module}: red without a mutant"
    whole, everyone = Planted(module, path, tree), mutants(tree)
    few = random.Random(seed).sample(everyone, min(most, len(everyone)))
    few.sort(key=lambda one: one.line)

    def planted(mutant: Mutant) -> Planted:
        return Planted(module, path, mutant.planted(tree))

    def passes_afresh(one: Planted) -> bool:
        def work() -> int:
            one.load_afresh()
            return run_tests(MODULES[module])

        return exit_code(work) == 0

    alive: list[Mutant] = []

    def work(suite: Suite) -> None:
        assert suite.passes(whole.load_in_place), red
        alive.extend(one for one in few if suite.passes(planted(one).load_in_place))

    assert run_tests(MODULES[module], Suite(work)) == 0
    assert passes_afresh(whole), red
    alive = [one for one in alive if passes_afresh(planted(one))]
    for one in alive:
        print(f"{path.relative_to(ROOT)}:{one}")
    killed, seconds = len(few) - len(alive), time.monotonic() - begin
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
    counts = [tried(name, arguments.most, arguments.seed) for name in arguments.modules]
    total, killed = (sum(numbers) for numbers in zip(*counts, strict=True))
    print(f"all: {killed} of {total} killed ({killed / total:.1%})")


if __name__ == "__main__":
    main()
