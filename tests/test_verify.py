"""What ``pde-sym verify`` measures, and what it refuses."""

import hashlib
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from test_store_folder import counts, recipe

from data_gen import verify
from data_gen.build import build
from data_gen.recipes import resolve
from data_gen.shards import make_shard
from pde_sym.diagnostics import measured_sizes
from pde_sym.errors import DataError
from pde_sym.seeds import Split


def rewrite(folder: Path, name: str, change: Any) -> None:
    """Change a file and make the manifest agree with it."""
    path = folder / name
    with h5py.File(path, "r+") as file:
        change(file)
    data = path.read_bytes()
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    for entry in manifest["shards"]:
        if entry["file"] == name:
            entry["sha256"] = hashlib.sha256(data).hexdigest()
            entry["bytes"] = len(data)
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))


def scale(name: str, factor: float) -> Any:
    def change(file: Any) -> None:
        file[name][...] = file[name][()] * factor

    return change


def offset_budget(file: Any) -> None:
    file["scalars/heat_budget"][...] = file["scalars/heat_budget"][()] + 1e-3


def grow_peak(file: Any) -> None:
    u = file["t0_fields/temperature"][()]
    u[:, 1] *= 10
    file["t0_fields/temperature"][...] = u
    # Invariants that fit, so that only the maximum principle is broken.
    cell = 1 / u.shape[-1] ** 2
    wide = u.astype(np.float64)
    energy = cell * (wide**2).sum((-2, -1)) / 2
    for name, values in (
        ("heat", cell * wide.sum((-2, -1))),
        ("weighted_heat", cell * wide.sum((-2, -1))),
        ("energy", energy),
    ):
        file[f"scalars/{name}"][...] = values
        file[f"scalars/{name}_budget"][...] = values - values[:, :1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (scale("t0_fields/temperature", 1 + 1e-4), "differs from the stored fields"),
        (scale("scalars/energy", 1 + 1e-4), "differs from the stored fields"),
        (scale("scalars/energy_budget", 1 + 1e-4), "beyond its budget"),
        (offset_budget, "does not start at 0"),
        (grow_peak, "maximum principle"),
        (scale("t0_fields/temperature", float("nan")), "not finite"),
        (scale("dimensions/time", 2.0), "times is not what the recipe says"),
    ],
)
def test_verify_sees_wrong_physics_under_right_hashes(
    tmp_path: Path, change: Any, message: str
) -> None:
    folder = tmp_path / "heat"
    build(recipe(), counts(train=2, valid=0, test=0), folder)
    assert verify.verify(folder)["sound"]
    rewrite(folder, "data/train/heat-00000.hdf5", change)
    with pytest.raises(DataError, match=message) as caught:
        verify.verify(folder)
    assert "\n" not in str(caught.value)


def test_verify_sees_strangers_and_statistics(tmp_path: Path) -> None:
    folder = tmp_path / "heat"
    build(recipe(), counts(train=2, valid=0, test=0), folder)
    stranger = folder / "data/train/other.hdf5"
    stranger.write_bytes(b"")
    with pytest.raises(DataError, match=r"other\.hdf5: not listed"):
        verify.verify(folder)
    stranger.unlink()
    stats = folder / "stats.yaml"
    text = stats.read_text()
    wrong = text.replace("rms:", "rms: {temperature: 1e-05}\nrms2:")
    for changed in (text + " ", text.replace("std:", "sdt:"), wrong, "[", ""):
        stats.write_text(changed)
        with pytest.raises(DataError, match=r"stats\.yaml"):
            verify.verify(folder)
        manifest = json.loads((folder / "MANIFEST.json").read_text())
        digest = hashlib.sha256(changed.encode()).hexdigest()
        manifest["stats_sha256"] = digest
        (folder / "MANIFEST.json").write_text(json.dumps(manifest))
        if changed != text + " ":
            with pytest.raises(DataError, match=r"stats\.yaml"):
                verify.verify(folder)


@pytest.mark.parametrize("environment", ["hidden", "given"])
@pytest.mark.parametrize("at_once", [1, 5 * 144, 1 << 14])
def test_invariants_of_many_frames_are_those_of_each(
    environment: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks = ["capacity=0.2..0.5" if environment == "given" else "capacity=0.5"]
    options = {"resolution": 12, "frames": 4, "environment": environment}
    asked = resolve("heat", breaks, options=options)
    shard = make_shard(asked, Split.TRAIN, 0, 3)
    monkeypatch.setattr(verify, "VALUES_AT_ONCE", at_once)
    values, sizes = verify.measured(asked.dynamics, shard)
    rows = torch.from_numpy(shard.environment.astype(np.float64))
    states = torch.empty(0)
    for frame in range(4):
        states = torch.from_numpy(shard.states[:, frame].astype(np.float64))
        expected = measured_sizes(asked.dynamics, asked.grid, states, rows)
        for found, budget in zip((values, sizes), expected, strict=True):
            assert set(found) == {"heat", "weighted_heat", "energy"}
            for name, part in budget.items():
                np.testing.assert_allclose(found[name][:, frame], part, rtol=1e-13)
    # Had one trajectory met the environment of another, that would show.
    wrong, _ = measured_sizes(asked.dynamics, asked.grid, states, rows.roll(1, 0))
    error = np.abs(values["weighted_heat"][:, -1] - wrong["weighted_heat"].numpy())
    assert (error.max() > 1e-4) == (environment == "given")


def test_one_thread_does_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(recipe(), counts(train=1, valid=0, test=0), tmp_path / "heat")
    seen = []

    def spy(*arguments: Any) -> Any:
        seen.append(torch.get_num_threads())
        return measured_sizes(*arguments)

    monkeypatch.setattr(verify, "measured_sizes", spy)
    try:
        torch.set_num_threads(2)
        verify.verify(tmp_path / "heat")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert seen == [1]


def test_what_cancels_in_the_first_frame_only_is_measured_over_all(
    tmp_path: Path,
) -> None:
    """The divergence of a shear layer is a sum of zeros at first, of round-off then."""
    asked = resolve(
        "flow",
        sets=["initial.kind=double_shear_layer"],
        options={"frames": 4, "resolution": 32},
    )
    build(asked, {Split.TRAIN: 1, Split.VALID: 0, Split.TEST: 0}, tmp_path / "data")
    assert verify.verify(tmp_path / "data")["budget"] <= 1e-7
