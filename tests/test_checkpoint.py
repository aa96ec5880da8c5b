"""Checkpoints: whole or absent, every damage found, and no code run on loading."""

import ast
import errno
import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from disk_faults import KILLED, FailingDisk, disk_error, exit_code_when_killed

from pde_sym import checkpoint as module
from pde_sym.checkpoint import (
    VERSION,
    Checkpoint,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from pde_sym.errors import DataError, OutputError
from pde_sym.store import files

FILES = ("tensors.safetensors", "state.json", "MANIFEST.json")


def example(number: int = 0) -> Checkpoint:
    generator = torch.Generator().manual_seed(number)
    single = torch.randn(3, 4, generator=generator)
    tensors = {
        "single": single,
        "double": single.double() / 3,
        "turned": single.T,
        "count": torch.tensor(2**60 + number),
        "mask": torch.tensor([True, False]),
        "none": torch.empty(0, 5),
        "odd": torch.tensor([-0.0, float("nan"), float("inf"), 5e-324]),
    }
    return Checkpoint(tensors, {"update": number, "best": (0.1).hex(), "parts": [1]})


def same(a: Checkpoint, b: Checkpoint) -> bool:
    """Return whether two checkpoints are equal bit for bit."""
    bits = [
        {
            name: (t.dtype, t.shape, t.contiguous().numpy().tobytes())
            for name, t in checkpoint.tensors.items()
        }
        for checkpoint in (a, b)
    ]
    return bits[0] == bits[1] and a.state == b.state


def test_same_sees_a_bit() -> None:
    one, other = example(), example()
    assert same(one, other)
    other.tensors["odd"][0] = 0.0
    assert not same(one, other)
    assert not same(one, example(1))


def test_round_trip_is_bitwise(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "step-1", example())
    assert same(load_checkpoint(tmp_path / "step-1"), example())
    assert sorted(p.name for p in (tmp_path / "step-1").iterdir()) == sorted(FILES)
    save_checkpoint(tmp_path / "again", load_checkpoint(tmp_path / "step-1"))
    for name in FILES:
        contents = [(tmp_path / f / name).read_bytes() for f in ("step-1", "again")]
        assert contents[0] == contents[1]


def test_parameters_are_saved_as_plain_values(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    save_checkpoint(tmp_path / "step-1", Checkpoint({"w": weight}, {}))
    loaded = load_checkpoint(tmp_path / "step-1").tensors["w"]
    assert torch.equal(loaded, torch.ones(2))
    assert not loaded.requires_grad


def test_saving_again_replaces(tmp_path: Path) -> None:
    for number in (0, 1):
        save_checkpoint(tmp_path / "step-1", example(number))
    assert same(load_checkpoint(tmp_path / "step-1"), example(1))
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]


def means_the_same(damaged: bytes, whole: bytes) -> bool:
    """Return whether only white space between the values of JSON has changed."""
    try:
        return json.loads(damaged) == json.loads(whole)
    except ValueError:
        return False


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    """At the start, in the header, in the middle and at the end of every file."""
    folder = tmp_path / "step-1"
    save_checkpoint(folder, example())
    for name in FILES:
        path = folder / name
        whole = path.read_bytes()
        places = {0, 1, 7, 8, 9, len(whole) // 2, len(whole) - 1}
        places |= set(range(0, len(whole), max(1, len(whole) // 40)))
        for place in places:
            for bit in (0, 6):
                damaged = bytearray(whole)
                damaged[place] ^= 1 << bit
                path.write_bytes(damaged)
                if name == "MANIFEST.json" and means_the_same(bytes(damaged), whole):
                    assert same(load_checkpoint(folder), example())
                    continue
                with pytest.raises(DataError, match=str(folder)) as caught:
                    load_checkpoint(folder)
                assert name == "MANIFEST.json" or name in str(caught.value)
        path.write_bytes(whole)
    assert same(load_checkpoint(folder), example())


@pytest.mark.parametrize("name", FILES)
def test_truncated_missing_and_exchanged_files(tmp_path: Path, name: str) -> None:
    for number in (0, 1):
        save_checkpoint(tmp_path / f"step-{number}", example(number))
    folder, path = tmp_path / "step-0", tmp_path / "step-0" / name
    whole = path.read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=str(path)):
            load_checkpoint(folder)
    path.write_bytes(whole + b"x")
    with pytest.raises(DataError, match=str(path)):
        load_checkpoint(folder)
    path.write_bytes((tmp_path / "step-1" / name).read_bytes())
    with pytest.raises(DataError, match="damaged"):
        load_checkpoint(folder)
    path.unlink()
    with pytest.raises(DataError, match=f"{path}: cannot be read"):
        load_checkpoint(folder)
    path.mkdir()
    with pytest.raises(DataError, match=f"{path}: cannot be read"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (
            {"version": 1, "sha256": {}},
            f"version 1, this pde_sym reads version {VERSION}",
        ),
        ({"sha256": {}}, "version None"),
        ({"version": VERSION}, "expected hashes"),
        ({"version": VERSION, "sha256": {}}, "damaged"),
        ({"version": VERSION, "sha256": []}, "expected hashes"),
        ({"version": VERSION, "sha256": None}, "expected hashes"),
        ([], "expected a JSON object"),
        ("text", "expected a JSON object"),
    ],
)
def test_foreign_manifests(tmp_path: Path, manifest: Any, message: str) -> None:
    folder = tmp_path / "step-1"
    save_checkpoint(folder, example())
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=message):
        load_checkpoint(folder)


def resealed(folder: Path, name: str, data: bytes) -> None:
    """Put `data` under a hash that fits it."""
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    manifest["sha256"][name] = module.hashlib.sha256(data).hexdigest()
    (folder / name).write_bytes(data)
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("tensors.safetensors", b""),
        ("tensors.safetensors", b"\xff" * 64),
        ("tensors.safetensors", b"\x02" + b"\0" * 7 + b"[]"),
        ("state.json", b"{"),
        ("state.json", b"\xff"),
        ("state.json", b"[1]"),
        ("state.json", b"[" * 100_000),
    ],
)
def test_wrong_content_under_a_right_hash(
    tmp_path: Path, name: str, data: bytes
) -> None:
    folder = tmp_path / "step-1"
    save_checkpoint(folder, example())
    resealed(folder, name, data)
    with pytest.raises(DataError, match=name):
        load_checkpoint(folder)


def test_one_of_another_version_is_no_damage(tmp_path: Path) -> None:
    for number in (1, 2):
        save_checkpoint(tmp_path / f"step-{number}", example(number))
    manifest = tmp_path / "step-2" / "MANIFEST.json"
    other = {**json.loads(manifest.read_text()), "version": VERSION + 1}
    manifest.write_text(json.dumps(other))
    with pytest.raises(
        DataError, match=rf"version {VERSION + 1}.*use the one that wrote it"
    ):
        latest_checkpoint(tmp_path)
    manifest.write_text("{")
    found, faults = latest_checkpoint(tmp_path)
    assert found is not None
    assert same(found, example(1))
    assert len(faults) == 1


def test_the_latest_whole_one_is_found_and_damage_is_told(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) == (None, [])
    for number in (2, 9, 10):
        save_checkpoint(tmp_path / f"step-{number:08d}", example(number))
    found, faults = latest_checkpoint(tmp_path)
    assert found is not None
    assert same(found, example(10))
    assert faults == []
    newest = tmp_path / "step-00000010" / "state.json"
    newest.write_bytes(newest.read_bytes()[:-1])
    (tmp_path / "step-00000009" / "MANIFEST.json").unlink()
    found, faults = latest_checkpoint(tmp_path)
    assert found is not None
    assert same(found, example(2))
    assert len(faults) == 2
    assert str(newest) in faults[0]
    assert "step-00000009" in faults[1]
    (tmp_path / "step-00000002" / "tensors.safetensors").write_bytes(b"")
    found, faults = latest_checkpoint(tmp_path)
    assert found is None
    assert len(faults) == 3


def calls_of_a_save(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    counting = FailingDisk(0)
    folder.parent.mkdir(exist_ok=True)
    monkeypatch.setattr(files, "disk", counting)
    save_checkpoint(folder, example(1))
    return counting.calls


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_fault_at_every_call_of_a_first_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The new one is absent or whole, the older one stays, and nothing is left over."""
    save_checkpoint(tmp_path / "step-0", example(0))
    older, new = tmp_path / "step-0", tmp_path / "step-1"
    count = calls_of_a_save(tmp_path / "other" / "step-1", monkeypatch)
    outcomes = []
    for at in range(1, count + 1):
        monkeypatch.setattr(files, "disk", FailingDisk(at, disk_error(code)))
        with pytest.raises(OutputError, match=r"injected|cannot be"):
            save_checkpoint(new, example(1))
        monkeypatch.setattr(files, "disk", files.Disk())
        assert same(load_checkpoint(older), example(0))
        outcomes.append(new.exists())
        if new.exists():
            assert same(load_checkpoint(new), example(1))
            files.remove_folders([new])
        assert not list(tmp_path.glob(f"{files.TEMPORARY}*"))
    assert count > 15
    # Only when its name was given and could not be made sure of.
    assert outcomes == [False] * (count - 1) + [True]


def test_a_fault_at_every_call_of_a_replacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one or the new one, and nothing else."""
    before, folder = tmp_path / "step-0", tmp_path / "step-1"
    save_checkpoint(before, example(7))
    save_checkpoint(folder, example(0))
    count = calls_of_a_save(folder, monkeypatch)
    for at in range(1, count + 1):
        monkeypatch.setattr(files, "disk", files.Disk())
        save_checkpoint(folder, example(0))
        monkeypatch.setattr(files, "disk", FailingDisk(at))
        with pytest.raises(OutputError):
            save_checkpoint(folder, example(1))
        found, faults = latest_checkpoint(tmp_path)
        assert found is not None
        assert faults == []
        # At the last call the new one is there, and its folder could not be synced.
        assert same(found, example(1 if at == count else 0))


def test_killed_at_every_call_of_a_replacement(tmp_path: Path) -> None:
    """The old one, the new one or the one before: never half of one."""
    before, folder = tmp_path / "step-0", tmp_path / "step-1"
    save_checkpoint(before, example(7))
    at, outcomes = 0, []
    while True:
        at += 1
        save_checkpoint(folder, example(0))
        work = functools.partial(save_checkpoint, folder, example(1))
        code = exit_code_when_killed(at, work)
        found, faults = latest_checkpoint(tmp_path)
        assert found is not None
        assert faults == []
        outcomes.append([same(found, example(n)) for n in (0, 7, 1)].index(True))
        if code == 0:
            break
        assert code == KILLED
    assert outcomes == sorted(outcomes)
    # Gone only between the two renames.
    assert outcomes[-1] == 2
    assert outcomes.count(1) <= 1


def test_numbers_that_json_does_not_know_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(tmp_path / "step-1", Checkpoint({}, {"best": float("nan")}))
    assert list(tmp_path.iterdir()) == []


def unpickling(source: str) -> set[str]:
    """Return what in `source` could unpickle: modules, and loaders that use them."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{a.name}" for a in node.names} | {node.module}
        elif isinstance(node, ast.Attribute):
            found.add(ast.unparse(node))
    return found & {
        "pickle", "cPickle", "dill", "joblib", "shelve", "torch.load", "numpy.load"
    }  # fmt: skip


@pytest.mark.parametrize(
    "bad",
    ["import pickle", "from pickle import loads", "import torch\ntorch.load('a')"],
)
def test_loading_never_unpickles(bad: str) -> None:
    for name in ("checkpoint.py", "training.py", "training_state.py", "ranks.py"):
        source = Path(module.__file__).with_name(name).read_text(encoding="utf-8")
        assert unpickling(source) == set()
    assert unpickling(bad)
