"""Frames of the smoke plume: restarts, random set-ups, values, and bad input."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import (
    drawn_environment,
    drawn_states,
    no_environment,
    observed_order,
    relative_difference,
)

from pde_sym.errors import InputError, SimulationError
from pde_sym.grid import PeriodicGrid, WalledGrid
from pde_sym.kernels.plume import CompiledBox
from pde_sym.projection import centres_of, faces_of
from pde_sym.simulate import rollout
from pde_sym.systems.plume import Plume
from pde_sym.systems.plume_initial import Puffs, StillAir
from pde_sym.systems.plume_solver import PlumeSolver, boxes_of, divergence
from pde_sym.systems.plume_terms import BuoyancyDirection, Inflow, Obstacle

GRID = WalledGrid.square(24)
BUSY = (
    BuoyancyDirection(strength=8.0, angle=30.0),
    Inflow(strength=4.0, x=0.4, y=0.2),
    Obstacle(strength=0.15, x=0.6, y=0.6),
)
LAW = Puffs(modes=4)


# Frames -----------------------------------------------------------------------------


def test_frames_lose_nothing() -> None:
    """Twenty frames of one step are one frame of twenty: Phi^n is the trajectory."""
    system = Plume(breaking=BUSY, viscosity=1e-3)
    environment, states = drawn_environment(system, GRID), drawn_states(LAW, GRID)
    short = PlumeSolver(system, GRID, environment, 0.005, steps=1)
    at_once = PlumeSolver(system, GRID, environment, 0.1, steps=20)(states)
    assert relative_difference(rollout(short, states, 20)[:, -1], at_once) <= 1e-11
    # Stored in float32, a restart costs the rounding and no more.
    rounded = at_once.float().double()
    again = PlumeSolver(system, GRID, environment, 1e-9, steps=1)(rounded)
    assert relative_difference(again, at_once) <= 1e-6


def test_divergence_of_what_is_stored() -> None:
    sizes, central = [16, 32, 64], []
    for n in sizes:
        grid = WalledGrid.square(n)
        phi = Plume().solver(grid, no_environment(grid), 0.05)
        seen = divergence(phi(drawn_states(Puffs(modes=3), grid)), grid)
        assert seen["faces"].max() <= 1e-12
        central.append(float(seen["centres"].max()))
    assert observed_order([1 / n for n in sizes], central) == pytest.approx(2, abs=0.3)
    assert 1e-4 < central[-1] < 0.02
    noise = torch.randn(2, 3, *GRID.shape, dtype=torch.float64)
    assert divergence(noise, GRID)["faces"].min() > 0.5


def test_compiled_frames_are_those_of_the_reference() -> None:
    wide = WalledGrid(shape=(20, 12), lengths=(1.0, 0.7))
    for grid, walls, steps in itertools.product(
        (GRID, wide), ("slip", "stick"), (None, 3)
    ):
        system = Plume(breaking=BUSY, viscosity=2e-3, walls=walls)
        environment = drawn_environment(system, grid)
        states = drawn_states(LAW, grid)
        fast, slow = (
            PlumeSolver(system, grid, environment, 0.02, steps, compiled).step(states)
            for compiled in (True, False)
        )
        assert relative_difference(fast[0], slow[0]) <= 1e-12
        for name, change in slow[1].items():
            torch.testing.assert_close(fast[1][name], change, rtol=1e-11, atol=1e-15)


def test_a_trajectory_does_not_depend_on_its_batch() -> None:
    """Not by a bit in compiled loops; side by side, but for round-off."""
    system, rng = Plume(breaking=BUSY), np.random.default_rng(0)
    drawn = [system.sample_environment(GRID, rng) for _ in range(3)]
    drawn[1][-1] = 0.0  # without the obstacle
    environment, states = torch.from_numpy(np.stack(drawn)), drawn_states(LAW, GRID, 3)
    states[0, 1:] *= 7.0
    for compiled, tolerance in ((True, 0.0), (False, 1e-13)):
        together = PlumeSolver(system, GRID, environment, 0.03, None, compiled)(states)
        for i in range(3):
            own = environment[i : i + 1]
            alone = PlumeSolver(system, GRID, own, 0.03, None, compiled)(
                states[i : i + 1]
            )
            assert relative_difference(alone[0], together[i]) <= tolerance


def check_random_plume(seed: int, n: int) -> None:
    """Check divergence, solids, bounds and finiteness of one random set-up."""
    rng, grid = np.random.default_rng(seed), WalledGrid.square(n)
    terms = [
        BuoyancyDirection(strength=10 ** rng.uniform(-1, 3), angle=rng.uniform(0, 360)),
        Inflow(strength=10 ** rng.uniform(-1, 1), x=rng.uniform(0, 1), y=0.2),
        Obstacle(strength=rng.uniform(0.1, 0.4), x=rng.uniform(0, 1), y=0.8),
    ]
    chosen = tuple(t for t in terms if rng.uniform() < 0.6)
    walls = ("slip", "stick")[seed % 2]
    viscosity = float(rng.choice([0.0, 1e-3, 0.1]))
    system = Plume(breaking=chosen, viscosity=viscosity, walls=walls)
    box = boxes_of(system, grid, drawn_environment(system, grid, rng))[0]
    law = Puffs(modes=n - 1, slope=rng.uniform(0, 2), speed=10 ** rng.uniform(-2, 1))
    state = torch.from_numpy(law.sample(grid, rng))
    faces, dt = box.projection(faces_of(state[1:])), 0.02
    s, after, _, reached = CompiledBox(box).advance(state[0], faces, dt, 0, 100_000)
    assert reached == dt
    assert s.isfinite().all()
    speed = max(1.0, float(centres_of(after).abs().max()))
    assert box.projection.divergence(after).abs().max() <= 1e-12 * speed
    solid = box.projection.solid
    assert not centres_of(after)[:, solid].any()
    assert s.min() >= -1e-12
    assert s.max() <= state[0].max() + dt * float(box.inflow.max()) + 1e-12


@pytest.mark.parametrize("seed", range(100))
def test_random_plumes(seed: int) -> None:
    check_random_plume(seed, (8, 12, 16)[seed % 3])


@pytest.mark.slow
def test_a_thousand_random_plumes() -> None:
    for seed in range(100, 1100):
        check_random_plume(seed, (8, 16, 32, 64)[seed % 4])


# States and values ------------------------------------------------------------------


def test_puffs_are_the_same_functions_on_every_grid() -> None:
    law, sizes = Puffs(), [16, 32, 64]
    fine = law.sample(WalledGrid.square(384), np.random.default_rng(7))
    errors = []
    for n in sizes:
        means = fine.reshape(3, n, 384 // n, n, 384 // n).mean((2, 4))
        state = law.sample(WalledGrid.square(n), np.random.default_rng(7))
        errors.append(np.abs(state - means).max())
    assert observed_order([1 / n for n in sizes], errors) == pytest.approx(2, abs=0.2)
    assert np.mean(fine[1:] ** 2) * 2 == pytest.approx(1.0, rel=1e-12)
    assert fine[0].min() >= 0
    assert np.abs(StillAir().sample(GRID, np.random.default_rng(0))).max() == 0


def test_initial_states_go_around_the_obstacle() -> None:
    """Nothing is in the solid from the first frame on, and budgets start at once."""
    solid = Obstacle(strength=0.2, x=0.6)
    system, rng = Plume(breaking=(solid,)), np.random.default_rng(5)
    drawn = system.sample_initial(LAW, GRID, rng)
    cells = solid.pattern(GRID) != 0
    assert not drawn[:, cells].any()
    plain = Plume().sample_initial(LAW, GRID, np.random.default_rng(5))
    np.testing.assert_array_equal(plain, LAW.sample(GRID, np.random.default_rng(5)))
    np.testing.assert_array_equal(drawn[0, ~cells], plain[0, ~cells])
    jumps = {}
    for name, start in (("around", drawn), ("through", plain)):
        state = torch.from_numpy(start)[None]
        phi = system.solver(GRID, drawn_environment(system, GRID), 1e-4)
        change = (phi(state) - state)[:, 1:]
        jumps[name] = relative_difference(change + state[:, 1:], state[:, 1:])
    assert jumps["around"] < 1e-2 < 0.1 < jumps["through"]


def test_systems_survive_json() -> None:
    system = Plume(breaking=BUSY, viscosity=0.5, walls="stick")
    again = Plume.model_validate_json(system.model_dump_json())
    assert again == system
    assert hash(again) == hash(system)
    kinds = [t["kind"] for t in json.loads(system.model_dump_json())["breaking"]]
    assert kinds == ["buoyancy_direction", "inflow", "obstacle"]
    assert system.scalars() == {
        "buoyancy": 8.0,
        "viscosity": 0.5,
        "strength_buoyancy_direction": 8.0,
        "strength_inflow": 4.0,
        "strength_obstacle": 0.15,
    }
    assert Plume().scalars() == {"buoyancy": 0.0, "viscosity": 0.0}


# Bad input --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"viscosity": -1e-3}, "viscosity: .*greater than or equal to 0"),
        ({"viscosity": float("nan")}, "viscosity"),
        ({"walls": "open"}, "walls"),
        ({"breaking": [{"kind": "inflow", "x": 1.2}]}, r"x: .*less than or equal to 1"),
        ({"breaking": [{"kind": "inflow", "x": 0.1, "spread_x": 0.2}]}, "leaves the"),
        ({"breaking": [{"kind": "obstacle", "strength": 0.5}]}, "less than 0.5"),
        ({"breaking": [{"kind": "buoyancy_direction", "strength": -1}]}, "strength"),
        ({"breaking": [{"kind": "buoyancy_direction", "imbalance": 0.2}]}, "turned"),
        ({"breaking": [{"kind": "inflow"}, {"kind": "inflow"}]}, "at most once"),
        ({"breaking": [{"kind": "outflow"}]}, "outflow"),
    ],
)
def test_bad_parameters_are_named(values: dict, named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        Plume.parse(values, where="plume")
    assert "\n" not in str(caught.value)


def test_states_that_cannot_go_on_are_named() -> None:
    phi = Plume().solver(GRID, no_environment(GRID), 0.02)
    for channel, name in ((0, "smoke"), (2, "velocity")):
        state = drawn_states(LAW, GRID, 3)
        state[1, channel, 3, 4] = torch.nan
        with pytest.raises(
            SimulationError, match=f"^trajectory 1: {name} is not finite at time 0 "
        ):
            phi(state)
    state[1] = 1e9 * torch.nan_to_num(state[1])
    for compiled in (True, False):
        phi = PlumeSolver(Plume(), GRID, no_environment(GRID), 0.02, None, compiled)
        with pytest.raises(
            SimulationError, match=r"^trajectory 1: velocity .* than 100000 steps"
        ):
            phi(state)
    with pytest.raises(SimulationError, match="dt must be a positive number"):
        Plume().solver(GRID, no_environment(GRID), 0.0)


def test_impossible_boxes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a grid with walls"):
        Plume().solver(PeriodicGrid.square(24), no_environment(GRID), 0.1)
    with pytest.raises(InputError, match="expected an environment"):
        Plume(breaking=BUSY).solver(GRID, no_environment(GRID), 0.1)
    np.save(tmp_path / "all.npy", np.ones(GRID.shape))
    everything = {"strength": 0.1, "field": str(tmp_path / "all.npy")}
    for values, message in (
        (everything, "covers the domain"),
        ({"strength": 0.001}, "no cell"),
    ):
        term = Obstacle.parse(values, where="obstacle")
        with pytest.raises(InputError, match=message):
            drawn_environment(Plume(breaking=(term,)), GRID)
    inside = Plume(
        breaking=(Inflow(strength=1.0, y=0.5), Obstacle(strength=0.3)),
    )
    with pytest.raises(InputError, match="it lies in the obstacle"):
        inside.solver(GRID, drawn_environment(inside, GRID), 0.1)
    for law, message in ((Puffs(modes=24), "modes"), (Puffs(smallest=0.3), "largest")):
        with pytest.raises(InputError, match=message):
            law.sample(GRID, np.random.default_rng(0))
