"""Strangers' checkpoints under right hashes: refused in one line, nothing is run."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_checkpoints import HEADERS, STATES, named, pickles, tensor
from mutants import resealed
from test_checkpoint import example
from test_mutants import nothing_runs, outcome

from pde_sym.checkpoint import load_checkpoint, save_checkpoint
from pde_sym.errors import DataError
from pde_sym.training_state import load_best

FILES = ("tensors.safetensors", "state.json")
NAMES = [*pickles(Path("marker"))]


def refused(folder: Path, name: str, data: bytes) -> None:
    """Check that a checkpoint with `data` in its file `name` is refused."""
    save_checkpoint(folder, example())
    resealed(folder, name, data)
    with nothing_runs(), pytest.raises(DataError, match=name) as caught:
        load_checkpoint(folder)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", NAMES)
def test_pickles(tmp_path: Path, name: str, file: str) -> None:
    marker = tmp_path / "marker"
    refused(tmp_path / "step-1", file, pickles(marker)[name])
    assert not marker.exists()


def test_the_pickles_would_run(tmp_path: Path) -> None:
    """The control: what unpickles them leaves the marker."""
    for name, data in pickles(tmp_path / "marker").items():
        if "protocol" in name or name == "nested":
            pickle.loads(data)
            (tmp_path / "marker").unlink()


@pytest.mark.parametrize("name", HEADERS)
def test_headers(tmp_path: Path, name: str) -> None:
    refused(tmp_path / "step-1", FILES[0], HEADERS[name])


@pytest.mark.parametrize("name", STATES)
def test_states(tmp_path: Path, name: str) -> None:
    refused(tmp_path / "step-1", FILES[1], STATES[name])


def test_a_folder_of_torch_distributed(tmp_path: Path) -> None:
    """Its ``.metadata`` is a pickle; such a folder is no checkpoint here."""
    folder = tmp_path / "best/step-1"
    folder.mkdir(parents=True)
    marker = tmp_path / "marker"
    for name in (".metadata", "__0_0.distcp"):
        (folder / name).write_bytes(pickles(marker)["nested"])
    network: Any = torch.nn.Linear(1, 1)
    with nothing_runs():
        assert outcome(lambda: load_checkpoint(folder)) == "refused"
        assert outcome(lambda: load_best(network, tmp_path)) == "refused"
    assert not marker.exists()


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"model.weight": tensor(0, 4)},
        {"model.weight": tensor(0, 4, (1, 1), "I32")},
        {"model.weight": tensor(0, 4, ()), "model.bias": tensor(4, 8)},
        {"model.bias": tensor(0, 4), "model.other": tensor(4, 8, (1, 1))},
    ],
    ids=str,
)
def test_weights_of_another_network(tmp_path: Path, header: Any) -> None:
    folder = tmp_path / "best/step-1"
    folder.parent.mkdir()
    save_checkpoint(folder, example())
    resealed(folder, FILES[0], named(header, bytes(4 * len(header))))
    network: Any = torch.nn.Linear(1, 1)
    with pytest.raises(DataError, match="of another model"):
        load_best(network, tmp_path)
