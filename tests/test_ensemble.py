"""Strengths that differ between trajectories, from the recipe to what models read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import drawn_states
from torch import Tensor

from data_gen.build import build
from data_gen.cost import estimate
from data_gen.recipes import Recipe, resolve
from data_gen.shards import make_shard
from data_gen.verify import verify
from pde_sym.dataset import TrajectoryDataset
from pde_sym.diagnostics import Action, defects
from pde_sym.errors import InputError
from pde_sym.grid import PeriodicGrid
from pde_sym.initial_conditions import RandomField
from pde_sym.seeds import Split
from pde_sym.simulate import simulate
from pde_sym.store import open_entry
from pde_sym.symmetry import point_group
from pde_sym.systems import Heat, System
from pde_sym.systems.ensemble import Ensemble
from pde_sym.systems.heat_terms import Anisotropy, Bubbles, Sink

GRID = PeriodicGrid.square(12)
DT = 5e-4
HEAT = Heat(breaking=(Bubbles(strength=0.5), Sink(strength=30.0), Anisotropy()))
SINKS = (30.0, 0.0, 12.5, 30.0, 0.0)
"""Grouped by strength, they are in an order that is not its own inverse."""
COUNTS = {Split.TRAIN: 5, Split.VALID: 1, Split.TEST: 2}


def ensemble() -> Ensemble:
    return Ensemble(HEAT, ("sink",))


def states(count: int = len(SINKS)) -> Tensor:
    return drawn_states(RandomField(modes=3), GRID, count, seed=4)


def environments(group: Ensemble) -> Tensor:
    rows = [
        group.sample_environment(GRID, np.random.default_rng(i), (sink,))
        for i, sink in enumerate(SINKS)
    ]
    return torch.from_numpy(np.stack(rows))


def member(sink: float) -> System:
    terms = (Bubbles(strength=0.5), Sink(strength=sink), Anisotropy())
    return Heat(breaking=terms)


def test_each_trajectory_obeys_its_own_system_bit_for_bit() -> None:
    group, u = ensemble(), states()
    surroundings = environments(group)
    assert group.environment_fields.names == ("conductivity", "strength_sink")
    run = simulate(group, GRID, u, surroundings, dt=DT, num_frames=4)
    for i, sink in enumerate(SINKS):
        alone = simulate(
            member(sink), GRID, u[i : i + 1], surroundings[i : i + 1, :1],
            dt=DT, num_frames=4,
        )  # fmt: skip
        assert torch.equal(run.states[i], alone.states[0])
        for name in ("heat", "energy"):
            assert torch.equal(run.invariants[name][i], alone.invariants[name][0])
            assert torch.equal(run.budgets[name][i], alone.budgets[name][0])
        rates = group.rates(u, GRID, surroundings)["heat"][i]
        own = member(sink).rates(u[i : i + 1], GRID, surroundings[i : i + 1, :1])
        assert torch.equal(rates, own["heat"][0])
    # The strengths matter: heat is lost where there is a sink, and there only.
    lost = (run.invariants["heat"][:, 0] - run.invariants["heat"][:, -1]).abs()
    for sink, loss in zip(SINKS, lost.tolist(), strict=True):
        assert (loss < 1e-14) == (sink == 0)


def test_a_strength_moves_as_a_scalar() -> None:
    """State, conductivity and strength turned together: the solver does not mind."""
    group = Ensemble(
        Heat(breaking=(Bubbles(strength=0.5), Sink(strength=9.0))), ("sink",)
    )
    surroundings, u = environments(group), states()

    def phi(x: Tensor) -> Tensor:
        return group.solver(GRID, x[:, 1:], DT)(x[:, :1])

    after = Action(group.fields, GRID)
    before = Action(group.fields + group.environment_fields, GRID)
    inputs = torch.cat([u, surroundings], dim=1)
    for found in defects(phi, inputs, point_group("D4").elements, after, before):
        assert found.mean <= 1e-12


def recipe(**options: object) -> Recipe:
    values = {"resolution": 12, "frames": 3, "shard_size": 2, **options}
    return resolve("heat", ["sink=5..30", "anisotropy=0.2"], options=values)


def test_strengths_lie_in_their_range_and_belong_to_their_trajectory() -> None:
    whole = make_shard(recipe(), Split.TRAIN, 0, 40)
    drawn = whole.strengths["strength_sink"]
    assert drawn.shape == (40,)
    assert 5 <= drawn.min() < 8
    assert 27 < drawn.max() <= 30
    assert abs(drawn.mean() - 17.5) < 4
    one = make_shard(recipe(), Split.TRAIN, 7, 1)
    assert one.strengths["strength_sink"][0] == drawn[7]
    assert np.array_equal(one.states[0], whole.states[7])
    assert "strength_sink" not in whole.scalars
    assert whole.scalars["strength_anisotropy"] == 0.2
    test = make_shard(recipe(), Split.TEST, 7, 1)
    assert test.strengths["strength_sink"][0] != drawn[7]


def test_initial_states_are_those_of_a_fixed_strength() -> None:
    fixed = resolve(
        "heat", ["sink=30", "anisotropy=0.2"], options={"resolution": 12, "frames": 3}
    )
    one, other = (make_shard(r, Split.TRAIN, 0, 3) for r in (recipe(), fixed))
    assert np.array_equal(one.states[:, 0], other.states[:, 0])
    assert not np.array_equal(one.states[:, 1], other.states[:, 1])


def test_models_may_read_them(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    manifest = build(recipe(), COUNTS, folder)
    assert verify(folder)["trajectories"] == 8
    dataset = TrajectoryDataset(folder, "train", window=2)
    assert dataset.given_fields.names == ("strength_sink",)
    given = dataset.load_all()["given"]
    assert given.shape == (5, 1, 12, 12)
    stored = []
    for entry in manifest.of(Split.TRAIN):
        with open_entry(folder, entry) as reader:
            stored += reader.strengths()["strength_sink"].tolist()
    for strength, field in zip(stored, given, strict=True):
        assert (field == strength).all()
    mean = dataset.given_statistics().mean
    assert float(mean) == pytest.approx(np.mean(stored), rel=1e-6)
    withheld = TrajectoryDataset(folder, "train", window=2, with_environment=False)
    assert len(withheld.given_fields) == 0


def test_the_cost_counts_their_channels() -> None:
    fixed = resolve(
        "heat", ["sink=30", "anisotropy=0.2"], options={"resolution": 12, "frames": 3}
    )
    assert estimate(recipe(), COUNTS).disk_bytes == (
        estimate(fixed, COUNTS).disk_bytes + 8 * 4 * 144
    )


@pytest.mark.parametrize(
    ("breaks", "options", "message"),
    [
        ("sink=2..1", {}, "strengths.sink: expected LOW < HIGH"),
        ("sink=1..1", {}, "strengths.sink: expected LOW < HIGH"),
        ("sink=-1..1", {}, "expected a finite strength"),
        ("sink=1..", {}, "expected a finite strength"),
        ("sink=0..nan", {}, "expected a finite strength"),
        ("sinc=0..1", {}, "heat has bubbles"),
        ("bubbles=0..7", {}, "less than"),
        ("sink=0..1", {"environment": "hidden"}, "expected environment given"),
    ],
)
def test_bad_ranges_are_one_line(
    breaks: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        resolve("heat", [breaks], options=options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
