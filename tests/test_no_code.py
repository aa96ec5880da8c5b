"""Nothing that is loaded is run: by the source, and as the interpreter hears it."""

import ast
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pde_sym.checkpoint import VERSION

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "eval",
    "exec",
    "pickle",
    "dill",
    "cloudpickle",
    "shelve",
    "marshal",
    "joblib",
    "torch.load",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "os.system",
    "os.popen",
    "sympy.sympify",
}
"""Modules and functions that run what they are given."""


def dangers(source: str) -> Iterator[str]:
    """Yield what in `source` could run code that comes as data."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from FORBIDDEN & {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from FORBIDDEN & (names | {str(node.module)})
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in FORBIDDEN:
                yield called
            for keyword in node.keywords:
                value = ast.unparse(keyword.value)
                if (keyword.arg, value) in {
                    ("allow_pickle", "True"),
                    ("weights_only", "False"),
                    ("shell", "True"),
                }:
                    yield f"{called}({keyword.arg}={value})"


def test_no_module_runs_what_it_loads() -> None:
    sources = [
        path
        for folder in ("pde_sym", "data_gen", "experiments")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(sources) > 100
    found = {
        str(path.relative_to(ROOT)): seen
        for path in sources
        if (seen := [*dangers(path.read_text(encoding="utf-8"))])
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "x = eval('1')",
        "torch.load(f)",
        "from torch import load",
        "torch_load(f, weights_only=False)",
        "np.load(f, allow_pickle=True)",
        "yaml.load(f, Loader=yaml.Loader)",
        "subprocess.run('ls', shell=True)",
        "def f():\n    import joblib",
    ],
)
def test_dangers_are_seen(source: str) -> None:
    assert [*dangers(source)]


LISTEN = """
import sys
heard = []

def hook(event, arguments):
    if event in ("pickle.find_class", "os.system", "subprocess.Popen", "os.exec"):
        heard.append(event)

from pathlib import Path
from pde_sym.checkpoint import load_checkpoint
from pde_sym.errors import PdeSymError
from pde_sym.store import read_manifest
import numpy, pde_sym.arrays as arrays
sys.addaudithook(hook)
for load, path in ((load_checkpoint, "step-1"), (read_manifest, "."),
                   (arrays._load, "array.npy")):
    try:
        load(Path(sys.argv[1]) / path)
    except PdeSymError as error:
        print("refused", type(error).__name__)
if len(sys.argv) > 2:
    import pickle
    pickle.loads((Path(sys.argv[1]) / "step-1/tensors.safetensors").read_bytes())
print(*heard)
"""


@pytest.mark.parametrize("control", [False, True], ids=["loaded", "control"])
def test_a_pickle_in_any_place_is_not_run(tmp_path: Path, control: bool) -> None:
    """Where its hash is right too; the control shows that the hook would hear it."""
    marker = tmp_path / "marker"
    payload = f"cos\nsystem\n(S'touch {marker}'\ntR.".encode()
    folder = tmp_path / "step-1"
    folder.mkdir()
    contents = {"tensors.safetensors": payload, "state.json": b"{}"}
    hashes = {n: hashlib.sha256(data).hexdigest() for n, data in contents.items()}
    manifest = json.dumps({"version": VERSION, "sha256": hashes}).encode()
    for name, data in {**contents, "MANIFEST.json": manifest}.items():
        (folder / name).write_bytes(data)
    for name in ("MANIFEST.json", "array.npy"):
        (tmp_path / name).write_bytes(payload)
    words = [sys.executable, "-c", LISTEN, str(tmp_path), *["control"] * control]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert lines[:3] == ["refused DataError"] * 2 + ["refused InputError"], done.stderr
    assert ("pickle.find_class os.system" in done.stdout) == control
    assert marker.exists() == control
