"""Data sets made in torch on another device are those of the compiled loops."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pretended_device import Pretended, pretended_cuda

from data_gen import generate
from data_gen.build import build
from data_gen.recipes import Recipe, resolve
from data_gen.shards import make_shard, surviving_shard
from data_gen.verify import verify
from pde_sym.devices import chosen_device
from pde_sym.errors import InputError
from pde_sym.seeds import Split
from pde_sym.store import read_manifest


def recipe(name: str, *breaks: str, **options: object) -> Recipe:
    points = {"heat": 12, "kdv": 32, "flow": 16, "plume": 12, "rigid_body": None}
    values = {"resolution": points[name], "frames": 3, "dtype": "float64", **options}
    return resolve(name, breaks, options=values)


CASES = [
    ("heat", "bubbles=0.5", "source=1"),
    ("heat", "nonlinear=0.2"),
    ("heat", "sink=5..30", "bubbles=0.1..0.5"),
    ("kdv",),
    ("kdv", "potential=0.3", "modulation=0.2", "quartic=0.1"),
    ("rigid_body",),
    ("rigid_body", "gravity=1", "friction=0.1"),
    ("flow", "beta=5", "drag=0.1"),
    ("flow", "topography=0.5", "buoyancy=1", "viscosity=0.5"),
    ("plume", "obstacle=0.3", "buoyancy_direction=1", "inflow=0.5"),
]


@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_torch_on_a_device_agrees_with_the_loops(words: tuple[str, ...]) -> None:
    asked = recipe(*words)
    loops = make_shard(asked, Split.TRAIN, 0, 2)
    with pretended_cuda() as device:
        found = make_shard(asked, Split.TRAIN, 0, 2, device=device)
    assert found.states.dtype == np.float64
    scale = np.abs(loops.states).max()
    np.testing.assert_allclose(found.states, loops.states, rtol=0, atol=1e-10 * scale)
    assert np.abs(loops.states[:, -1] - loops.states[:, 0]).max() > 1e-4 * scale
    for name, values in loops.invariants.items():
        # Some vanish but for round-off.
        size = 1e-10 * max(1.0, np.abs(values).max())
        np.testing.assert_allclose(found.invariants[name], values, rtol=0, atol=size)
        budget = loops.budgets[name]
        np.testing.assert_allclose(found.budgets[name], budget, rtol=0, atol=size)


def test_a_data_set_made_on_a_device_is_sound(tmp_path: Path) -> None:
    counts = {Split.TRAIN: 3, Split.VALID: 1, Split.TEST: 1}
    asked = recipe("heat", "bubbles=0.5", environment="given", dtype="float32")
    with pretended_cuda() as device:
        build(asked, counts, tmp_path / "cuda", device=device)
    build(asked, counts, tmp_path / "cpu")
    assert verify(tmp_path / "cuda")["sound"]
    configs = [read_manifest(tmp_path / name).config for name in ("cuda", "cpu")]
    assert configs[0] == configs[1]
    assert "cuda" not in json.dumps(configs[0])


def test_what_is_lost_on_a_device_is_lost_in_the_loops() -> None:
    asked = recipe("heat", "nonlinear=0..1", frames=2)
    _, lost = surviving_shard(asked, Split.TRAIN, 0, 4)
    with pretended_cuda() as device:
        _, found = surviving_shard(asked, Split.TRAIN, 0, 4, device)
    assert lost
    assert [(one.index, one.step) for one in found] == [
        (one.index, one.step) for one in lost
    ]


def test_the_pretended_device_refuses_what_a_gpu_refuses() -> None:
    plain = torch.arange(3.0)
    with pretended_cuda() as device:
        there = plain.to(device)
        assert isinstance(there, Pretended)
        assert there.device.type == "cuda"
        assert torch.tensor([1.0], device=device).device.type == "cuda"
        assert torch.zeros(2, device=there.device).device.type == "cuda"
        for mixed in (
            lambda: there + plain,
            lambda: plain[there.long()],
            lambda: torch.cat([there, plain]),
        ):
            with pytest.raises(RuntimeError, match="one device"):
                mixed()
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert torch.equal((2 * there[plain.long()]).cpu(), 2 * plain)


def test_the_device_is_chosen_by_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert chosen_device("auto") == expected
        assert chosen_device("cpu") == "cpu"
    with pytest.raises(InputError, match="--device cuda: torch sees no GPU") as told:
        chosen_device("cuda")
    assert "\n" not in str(told.value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert chosen_device("cuda") == "cuda"


def test_the_device_goes_where_the_command_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def spy(*arguments: object) -> object:
        *_, device, _ = arguments
        seen.append(str(device))
        return build(*arguments[:-2])  # type: ignore[arg-type]

    monkeypatch.setattr(generate, "build", spy)
    parser = argparse.ArgumentParser()
    generate.add_arguments(parser)
    words = ["heat", "--resolution", "8", "--frames", "2", "--train", "1", "--valid"]
    words += ["0", "--test", "0", "--set", "initial.modes=3", "--json"]
    for number, (there, expected) in enumerate(((False, "cpu"), (True, "cuda"))):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        out = str(tmp_path / str(number))
        assert generate.run(parser.parse_args([*words, "--out", out])) == 0
        assert json.loads(capsys.readouterr().out)["device"] == expected
    assert seen == ["cpu", "cuda"]
