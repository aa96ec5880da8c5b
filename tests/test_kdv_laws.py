"""Laws of initial states of KdV, and the data that they give at default settings."""

import numpy as np
import pytest
import torch
from helpers import drawn_environment, drawn_states, no_environment

from pde_sym.arrays import ArrayFile
from pde_sym.errors import InputError
from pde_sym.simulate import rollout, simulate
from pde_sym.systems import kdv_dynamics
from pde_sym.systems.kdv import KdV
from pde_sym.systems.kdv_integrals import soliton_value
from pde_sym.systems.kdv_solutions import Cnoidal, RandomSolitons, RandomWaves

GRID = KdV.grid(128, 32.0)
USUAL = KdV.grid(KdV.default_resolution, KdV.default_length)
LAWS = (RandomWaves(), RandomSolitons(), Cnoidal())


# Laws of initial states -------------------------------------------------------------


@pytest.mark.parametrize(
    "law", [RandomWaves(), RandomSolitons(), Cnoidal()], ids=lambda x: x.kind
)
def test_one_draw_is_the_same_function_on_every_grid(law) -> None:
    fine, coarse = (
        law.sample(KdV.grid(n, 64.0), np.random.default_rng(4)) for n in (512, 256)
    )
    assert np.abs(fine[:, ::2] - coarse).max() <= 1e-13
    assert coarse.shape == (1, 256)
    other = law.sample(KdV.grid(256, 64.0), np.random.default_rng(5))
    assert np.abs(other - coarse).max() >= 0.01


def test_random_waves_have_their_amplitude(rng: np.random.Generator) -> None:
    u = RandomWaves(modes=3, amplitude=0.7, offset=0.1).sample(GRID, rng)[0]
    assert u.std() == pytest.approx(0.7, rel=1e-12)
    assert abs(u.mean()) <= 0.1
    assert np.abs(np.fft.rfft(u))[4:].max() <= 1e-12 * len(u)


def test_random_solitons_are_those_that_were_drawn(rng: np.random.Generator) -> None:
    """All integrals fit one set of k in the range: Newton's identities for two."""
    law = RandomSolitons(count=2, smallest=1.0, largest=1.6)
    grid = KdV.grid(256, 64.0)
    u = torch.from_numpy(law.sample(grid, rng))[None]
    p = {n: float(v) for n, v in KdV().measure(u, grid, no_environment(grid)).items()}
    # k1 + k2 = a and k1^3 + k2^3 = b give both.
    a, b = p["P1"] / 2, 3 * p["P3"] / 2
    product = (a**3 - b) / (3 * a)
    k = np.roots([1, -a, product])
    assert ((k > 1.0) & (k < 1.6)).all()
    for n in (5, 7, 9):
        assert p[f"P{n}"] == pytest.approx(soliton_value(n, tuple(k)), rel=1e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_the_box_holds_every_soliton(count: int, rng: np.random.Generator) -> None:
    """Also those of nearly equal k, which stand far from their starts."""
    law = RandomSolitons(count=count, smallest=0.8, largest=0.9)
    for _ in range(8):
        mass = 64.0 * law.sample(KdV.grid(256, 64.0), rng).mean()
        assert 1.6 * count - 1e-4 <= mass <= 1.8 * count + 1e-4
    narrow = RandomSolitons(count=1, smallest=9.0, largest=9.5)
    mass = 8.0 * narrow.sample(KdV.grid(512, 8.0), rng).mean()
    assert 18.0 - 1e-4 <= mass <= 19.0 + 1e-4


def test_own_states(tmp_path) -> None:
    np.save(tmp_path / "u.npy", np.arange(16.0).reshape(2, 8))
    file = ArrayFile.model_validate(tmp_path / "u.npy")
    law, grid = RandomWaves(field=file), KdV.grid(8, 1.0)
    rng = np.random.default_rng(0)
    assert law.sample(grid, rng, index=1).tolist() == [list(range(8, 16))]
    with pytest.raises(InputError, match="trajectory 2 asked for, the file has 2"):
        law.sample(grid, rng, index=2)
    with pytest.raises(InputError, match=r"expected shape \(16,\)"):
        law.sample(KdV.grid(16, 1.0), rng)


@pytest.mark.parametrize(
    ("law", "resolution", "length", "message"),
    [
        (RandomWaves(modes=43), 128, 32.0, "keeps fewer than 43 modes"),
        (RandomSolitons(smallest=0.3), 256, 64.0, "do not fit a box of 64"),
        (RandomSolitons(smallest=2.0, largest=2.5), 128, 64.0, "too narrow for 128"),
        (RandomSolitons(smallest=2.0), 128, 64.0, "must be above smallest"),
        (RandomSolitons(count=9), 256, 64.0, "so many solitons did not fit a box"),
        (Cnoidal(waves=20), 64, 64.0, "need .* points, the grid has 64"),
        (Cnoidal(largest=0.5), 64, 64.0, "below smallest"),
    ],
)
def test_laws_that_do_not_fit_are_refused(
    law, resolution: int, length: float, message: str, rng: np.random.Generator
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        law.sample(KdV.grid(resolution, length), rng)
    assert "\n" not in str(caught.value)


def test_laws_that_just_fit_are_drawn(rng: np.random.Generator) -> None:
    RandomWaves(modes=42).sample(GRID, rng)
    RandomSolitons(smallest=0.5, largest=1.8).sample(KdV.grid(256, 64.0), rng)


# Data at default settings -----------------------------------------------------------

FRAMES, TRAJECTORIES = 140, 16


def data(law, refinement: int = 1) -> torch.Tensor:
    """Return trajectories ``(batch, frames, N)``."""
    phi = KdV().solver(
        USUAL, no_environment(USUAL), KdV.default_dt, refinement=refinement
    )
    u = drawn_states(law, USUAL, TRAJECTORIES, seed=11)
    return rollout(phi, u, FRAMES - 1)[:, :, 0]


def largest_error(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest relative difference of a frame."""
    return float(((a - b).norm(dim=-1) / b.norm(dim=-1)).max())


def largest_tail(u: torch.Tensor) -> float:
    """Return the largest of the last sixth of the kept modes, relative to any."""
    kept = torch.fft.rfft(u).abs()[..., : (u.shape[-1] - 1) // 3 + 1]
    last = kept[..., -(kept.shape[-1] // 6) - 1 :]
    return float((last.amax(-1) / kept.amax(-1)).max())


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.kind)
def test_every_frame_is_right_and_resolved(
    law, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half the internal step, and as long a step that the check sees the error."""
    usual = data(law)
    assert largest_tail(usual) <= 1e-8
    fine = data(law, refinement=2)
    assert largest_error(usual, fine) <= 1e-6
    longer = 4 * kdv_dynamics.ADVECTIVE_STEP
    monkeypatch.setattr(kdv_dynamics, "ADVECTIVE_STEP", longer)
    assert largest_error(data(law), fine) >= 10 * largest_error(usual, fine)


def test_the_tail_of_what_is_not_resolved_is_seen() -> None:
    assert largest_tail(data(RandomWaves(amplitude=0.25))) >= 1e-6


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.kind)
def test_frames_differ_visibly(law) -> None:
    u = data(law)
    change = (u.diff(dim=1).norm(dim=-1) / u[:, 1:].norm(dim=-1)).mean(1)
    assert 0.02 <= float(change.median()) <= 0.2


STRENGTHS = {
    "potential": 0.05,
    "dispersion": 0.1,
    "damping": 0.02,
    "viscosity": 0.02,
    "forcing": 0.005,
    "kawahara": 0.02,
    "quartic": 1.0,
    "modulation": 0.2,
    "bathymetry": 0.1,
    "gardner": 1.0,
    "frame": 1.5,
}


@pytest.mark.parametrize("kind", STRENGTHS)
def test_budgets_close_over_a_trajectory(kind: str) -> None:
    """At the steps that the solver chooses, for every mechanism."""
    term = {"kind": kind, "strength": STRENGTHS[kind]}
    system = KdV.model_validate({"breaking": [term]})
    u = drawn_states(RandomWaves(), USUAL, 2, seed=11)
    environment = drawn_environment(system, USUAL)
    run = simulate(system, USUAL, u, environment, dt=KdV.default_dt, num_frames=FRAMES)
    mass = USUAL.lengths[0] * u.abs().mean(-1)[:, 0]
    for name, value in run.invariants.items():
        size = mass if name == "P1" else value.abs().amax(1)
        change = value - value[:, :1]
        residual = (change - run.budgets[name]).abs().amax(1)
        assert (residual <= 1e-8 * size).all(), name
    p9 = run.invariants["P9"]
    moved = float(((p9 - p9[:, :1]).abs().amax(1) / p9.abs().amax(1)).min())
    assert (moved >= 1e-4) == (kind != "frame")
