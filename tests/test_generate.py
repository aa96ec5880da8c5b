"""Recipes, their cost, the numbers they make, and the commands."""

import argparse
import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from test_store_folder import ROOT, counts, recipe, trajectories

from data_gen import describe, generate, verify
from data_gen.build import build
from data_gen.cost import Caps, check_cost, estimate
from data_gen.recipes import read_recipe, resolve, term_classes
from data_gen.shards import make_shard
from pde_sym.errors import InputError, SimulationError
from pde_sym.seeds import Split
from pde_sym.store import encode, read_manifest
from pde_sym.systems import Heat


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "heat"
    build(recipe(), counts(), folder)
    return folder


def command(module: Any, *words: str) -> int:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return module.run(parser.parse_args(words))


@pytest.mark.parametrize("environment", ["hidden", "given"])
def test_values_do_not_depend_on_shards(environment: str) -> None:
    whole = make_shard(recipe(environment=environment), Split.TRAIN, 0, 5)
    one = make_shard(recipe(environment=environment), Split.TRAIN, 3, 1)
    np.testing.assert_array_equal(whole.states[3:4], one.states)
    given = slice(3, 4) if environment == "given" else slice(0, 1)
    np.testing.assert_array_equal(whole.environment[given], one.environment)
    for name, values in whole.invariants.items():
        np.testing.assert_array_equal(values[3:4], one.invariants[name])
        np.testing.assert_array_equal(whole.budgets[name][3:4], one.budgets[name])


def test_values_do_not_depend_on_threads() -> None:
    asked = recipe(resolution=128, frames=2)
    try:
        torch.set_num_threads(2)
        two = encode(make_shard(asked, Split.TRAIN, 0, 1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert two == encode(make_shard(asked, Split.TRAIN, 0, 1))


def test_strengths_are_paired() -> None:
    weak = {"kind": "heat", "breaking": [{"kind": "bubbles", "strength": 0.1}]}
    one = make_shard(recipe(), Split.TEST, 0, 1)
    two = make_shard(recipe(system=weak), Split.TEST, 0, 1)
    np.testing.assert_array_equal(one.states[:, 0], two.states[:, 0])
    lost = (1 - one.environment) / 0.5 - (1 - two.environment) / 0.1
    assert np.abs(lost).max() < 1e-5


@pytest.mark.parametrize(
    "options",
    [
        {"resolution": 10**9 * 2},
        {"resolution": 2 * 10**3999},
        {"frames": 10**4000},
        {"shard_size": 10**12, "frames": 10**6},
        {"resolution": 63},
        {"resolution": 0},
        {"resolution": -64},
        {"frames": 1},
        {"length": -1.0},
        {"length": float("nan")},
        {"dt": 0.0},
        {"seed": -1},
        {"seed": 10**4000},
        {"dtype": "float16"},
    ],
)
def test_bombs_and_nonsense_are_refused_at_once(options: dict[str, Any]) -> None:
    start = time.monotonic()

    def plan() -> None:
        asked = resolve("heat", options=options)
        check_cost(estimate(asked, counts(train=10**6)), Caps())

    with pytest.raises(InputError) as caught:
        plan()
    assert time.monotonic() - start < 1
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_cost_is_what_the_disk_holds() -> None:
    asked = recipe(resolution=64, frames=9)
    size = len(encode(make_shard(asked, Split.TRAIN, 0, 2)))
    cost = estimate(asked, counts(train=2, valid=0, test=0))
    assert 0.8 * size < cost.disk_bytes < size
    tight = Caps.of(1e-9, None)
    with pytest.raises(InputError, match=r"disk: .* raise it with --max-gib"):
        check_cost(cost, tight)
    with pytest.raises(InputError, match="--max-point-steps"):
        check_cost(cost, Caps.of(None, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"system": None}, "system: expected one of heat, kdv, "),
        ({"system": "heet"}, ", got 'heet'"),
        ({"breaks": ["bubles=1"]}, "'bubles': heat has bubbles"),
        ({"breaks": ["bubbles"]}, "expected NAME=STRENGTH"),
        ({"breaks": ["bubbles=abc"]}, "expected a finite strength"),
        ({"breaks": ["bubbles=nan"]}, "expected a finite strength"),
        ({"breaks": ["bubbles=-1"]}, "expected a finite strength"),
        ({"breaks": ["bubbles=1e999"]}, "expected a finite strength"),
        ({"sets": ["nothing=1"]}, "--set nothing: unknown; expected one of resolution"),
        ({"sets": ["bubbles.x=1"]}, "--set bubbles.x: expected one of strength, count"),
        ({"sets": ["initial.x=1"]}, "expected one of modes"),
        ({"sets": ["bubbles.field=no.npy"]}, "no.npy"),
        ({"sets": ["conductivity=cold"]}, "conductivity"),
        ({"sets": ["=1"]}, "expected KEY=VALUE"),
    ],
)
def test_wrong_words_are_one_line(arguments: dict[str, Any], message: str) -> None:
    words: dict[str, Any] = {"system": "heat", **arguments}
    with pytest.raises(InputError) as caught:
        resolve(**words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sources_of_a_recipe(tmp_path: Path) -> None:
    config = tmp_path / "recipe.toml"
    config.write_text(
        'seed = 5\nframes = 7\n[system]\nkind = "heat"\nconductivity = 2.0\n'
        '[[system.breaking]]\nkind = "bubbles"\nstrength = 0.25\ncount = 3\n'
    )
    pattern = tmp_path / "pattern.npy"
    np.save(pattern, np.full((16, 16), 0.5))
    asked = resolve(
        None,
        ["sink=1", "bubbles=0.5"],
        ["initial.modes=2", f"bubbles.field={pattern}", "length=2"],
        config,
        {"frames": 9, "dt": None, "resolution": 16},
    )
    assert (asked.seed, asked.frames, asked.length) == (5, 9, 2.0)
    assert isinstance(asked.system, Heat)
    assert asked.system.conductivity == 2.0
    assert [t.kind for t in asked.system.breaking] == ["bubbles", "sink"]
    assert asked.system.breaking[0].model_dump(include={"strength", "count"}) == {
        "strength": 0.5,
        "count": 3,
    }
    environment = make_shard(asked, Split.TRAIN, 0, 1).environment
    np.testing.assert_allclose(environment, 2.0 * (1 - 0.25))
    config.write_text("sedd = 5")
    with pytest.raises(InputError, match="sedd"):
        resolve("heat", config=config)


def test_recipe_comes_back_from_the_folder(reference: Path) -> None:
    assert read_recipe(reference) == recipe()
    assert recipe().frame_spacing == 5e-4


def test_statistics_are_numpys(reference: Path) -> None:
    u = trajectories(reference, "train").astype(np.float64)
    table = yaml.safe_load((reference / "stats.yaml").read_text())
    change = np.diff(u, axis=1)
    expected = {
        "mean": u.mean(),
        "std": u.std(),
        "rms": np.sqrt((u**2).mean()),
        "mean_delta": change.mean(),
        "std_delta": change.std(),
        "rms_delta": np.sqrt((change**2).mean()),
    }
    assert set(table) == set(expected)
    for key, value in expected.items():
        assert table[key]["temperature"] == pytest.approx(value, rel=1e-12, abs=1e-15)
    file = next((reference / "data/train").iterdir())
    kappa = np.asarray(h5py.File(file)["t0_fields/conductivity"], dtype=np.float64)
    assert table["std"]["conductivity"] == pytest.approx(kappa.std(), rel=1e-12)
    assert "conductivity" not in table["std_delta"]


def test_failure_names_the_trajectories(tmp_path: Path) -> None:
    nonlinear = {"kind": "heat", "breaking": [{"kind": "nonlinear", "strength": 50}]}
    with pytest.raises((SimulationError, InputError)) as caught:
        build(recipe(system=nonlinear), counts(), tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "heat")
    words = ["heat", "--break", "bubbles=0.5", "--resolution", "16", "--frames", "3"]
    words += ["--train", "2", "--valid", "1", "--test", "1", "--out", out]
    assert command(generate, *words, "--dry-run") == 0
    assert "GiB on disk" in capsys.readouterr().out
    assert not Path(out).exists()
    assert command(generate, *words) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 2 train, 1 valid, 1 test")
    assert command(generate, *words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["trajectories"]["train"] == 2
    assert command(verify, out) == 0
    assert "sound" in capsys.readouterr().out
    pictures = str(tmp_path / "pictures")
    assert command(describe, out, "--json", "--pictures", pictures) == 0
    report = json.loads(capsys.readouterr().out)
    assert Path(report["pictures"][0]).stat().st_size > 1000
    assert report["subgroup"] == "C1"
    assert command(describe, out) == 0
    assert "turn 90" in capsys.readouterr().out


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_data_defect_is_zero_for_the_intact_solver(
    tmp_path: Path, strength: float
) -> None:
    folder = tmp_path / "heat"
    broken = {"kind": "heat", "breaking": [{"kind": "bubbles", "strength": strength}]}
    asked = recipe(system=broken, resolution=16, environment="given")
    build(asked, counts(train=1, valid=0, test=2), folder)
    rows = describe.describe(folder)["defect"]
    assert len(rows) == 10
    for row in rows:
        assert row["joint"] < 1e-6
        assert row["survives"] == (strength == 0)
        assert row["defect"] < 1e-12 if strength == 0 else row["defect"] > 1e-4


BREAKS = [[], *([f"{term}=0.1"] for term in term_classes(Heat))]


@pytest.mark.parametrize("environment", ["hidden", "given"])
@pytest.mark.parametrize("breaks", BREAKS, ids=str)
def test_every_term_makes_a_sound_data_set(
    tmp_path: Path, breaks: list[str], environment: str
) -> None:
    options = {"resolution": 12, "frames": 3, "environment": environment}
    asked = resolve("heat", breaks, options=options)
    build(asked, counts(train=2, valid=0, test=0), tmp_path / "heat")
    assert verify.verify(tmp_path / "heat")["budget"] < 1e-9


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_signals_leave_a_folder_that_goes_on(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    folder = tmp_path / "heat"
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        # A shell that starts the suite in the background has Ctrl-C ignored.
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import argparse\nfrom data_gen import generate\n"
        "parser = argparse.ArgumentParser()\ngenerate.add_arguments(parser)\n"
        "sys.exit(generate.run(parser.parse_args(sys.argv[1:])))\n"
    )
    words = ["heat", "--resolution", "32", "--frames", "40", "--train", "4000"]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words, "--out", str(folder)],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(folder.glob("data/train/*.hdf5")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    assert "goes on" in process.communicate(timeout=10)[1]
    assert process.returncode == code
    assert not list(folder.rglob(".tmp-*"))
    manifest = read_manifest(folder, complete=False)
    for entry in manifest.shards:
        data = (folder / entry.file).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry.sha256
