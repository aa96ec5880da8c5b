"""Time error and spectral tail of data at default settings, and of worse data."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data_gen.accuracy import accuracy
from data_gen.build import build
from data_gen.describe import describe
from data_gen.recipes import Recipe, read_recipe, resolve
from pde_sym.diagnostics import spectral_tail
from pde_sym.errors import InputError
from pde_sym.grid import PeriodicGrid
from pde_sym.seeds import Split
from pde_sym.systems import SYSTEMS, flow_solver

FRAMES = 50


NAMES = [system.model_fields["kind"].default for system in SYSTEMS]


def recipe(system: str, *sets: str, **options: object) -> Recipe:
    return resolve(system, sets=sets, options={"frames": FRAMES, **options})


CASES = [*((name,) for name in NAMES), ("flow", "tracer=true")]


@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_every_frame_at_default_settings(words: tuple[str, ...]) -> None:
    name, asked = words[0], recipe(*words)
    found = accuracy(asked, Split.TEST, range(2))
    assert list(found) == list(asked.system.fields.prognostic().names)
    assert ("tracer" in found) == (len(words) > 1)
    for row in found.values():
        assert row["error"] <= 1e-6
        if name in {"rigid_body", "plume"}:
            assert row["tail"] is None
        else:
            assert row["tail"] <= 1e-8


def test_long_steps_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = accuracy(recipe("flow"), Split.TEST, range(1))["velocity"]["error"]
    for name in ("STRAIN", "COURANT"):
        monkeypatch.setattr(flow_solver, name, 3 * getattr(flow_solver, name))
    long = accuracy(recipe("flow"), Split.TEST, range(1))["velocity"]["error"]
    # Order 4 makes it 81 times as large.
    assert 30 * usual < long < 200 * usual


def test_coarse_grids_are_seen() -> None:
    found = accuracy(recipe("flow", resolution=20), Split.TEST, range(1))
    assert found["velocity"]["tail"] > 1e-6


def test_splits_by_time_are_measured_where_they_are() -> None:
    early, late = (
        accuracy(recipe("kdv", split_by="time", frames=8, gap=60), split, range(1))["u"]
        for split in (Split.TRAIN, Split.TEST)
    )
    assert 2 * early["error"] < late["error"]


def test_the_tail_of_a_known_spectrum() -> None:
    """Of 64 points, 32 is the last mode and 28.8 nine tenths of it."""
    grid = PeriodicGrid(shape=(64,), lengths=(2 * torch.pi,))
    x = torch.from_numpy(grid.coordinates(0))

    def tail(wavenumber: int, kept: float = 1.0) -> float:
        u = 5 + torch.cos(2 * x) + 1e-3 * torch.cos(wavenumber * x)
        return float(spectral_tail(u[None], grid, kept))

    assert tail(29) == pytest.approx(1e-6, rel=1e-5)
    assert tail(28) < 1e-25
    # Of two thirds, 21 is the last, and 19.2 nine tenths of them.
    assert tail(20, 2 / 3) == pytest.approx(1e-6, rel=1e-5)
    assert tail(19, 2 / 3) < 1e-25
    flat = torch.ones(1, 64, dtype=torch.float64)
    assert float(spectral_tail(flat, grid, 1.0)) == 0


def test_the_tail_counts_both_axes_and_all_channels() -> None:
    grid = PeriodicGrid.square(32)
    x, y = (2 * torch.pi * torch.from_numpy(c) for c in grid.mesh())
    smooth, rough = torch.cos(x) + torch.cos(y), torch.cos(x + 15 * y)
    state = torch.stack([smooth, 1e-2 * rough])
    expected = 1e-4 * 0.5 / (1 + 1e-4 * 0.5)
    assert float(spectral_tail(state, grid, 1.0)) == pytest.approx(expected, rel=1e-9)
    both = spectral_tail(torch.stack([state, state.flip(0)]), grid, 1.0)
    assert both.shape == (2,)


def test_own_arrays_begin_at_the_stored_frame(tmp_path: Path) -> None:
    """The recipe in a folder knows them by their hash only."""
    grid = PeriodicGrid.square(16)
    field = np.random.default_rng(0).standard_normal((3, *grid.shape))
    np.save(tmp_path / "u.npy", smooth(field))
    sets = [f"initial.field={tmp_path / 'u.npy'}"]
    asked = resolve("heat", sets=sets, options={"frames": 3, "resolution": 16})
    counts = {Split.TRAIN: 2, Split.VALID: 0, Split.TEST: 1}
    build(asked, counts, tmp_path / "data")
    found = describe(tmp_path / "data")["accuracy"]["temperature"]
    usual = accuracy(asked, Split.TEST, range(1))["temperature"]
    assert 0 <= found["error"] <= 1e-6
    assert found["tail"] == pytest.approx(usual["tail"], rel=1e-4)
    with pytest.raises(InputError, match="hash"):
        accuracy(read_recipe(tmp_path / "data"), Split.TEST, range(1))


def smooth(field: np.ndarray) -> np.ndarray:
    """Return the lowest modes of fields ``(n, x, y)``."""
    modes = np.fft.rfft2(field)
    modes[:, 3:-2] = 0
    modes[:, :, 3:] = 0
    return np.fft.irfft2(modes, s=field.shape[-2:])
