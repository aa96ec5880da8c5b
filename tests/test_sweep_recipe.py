"""Recipes of sweeps: those at hand, and what is refused."""

from pathlib import Path

import pytest
from small_sweep import RECIPE, write

from data_gen.build import build
from experiments.runs import build_surrogate
from experiments.sweep_recipe import NAMED, Sweep, merged, read_sweep
from experiments.train import check_fit, prepare, training_data
from pde_sym.errors import InputError
from pde_sym.nn import count_parameters
from pde_sym.seeds import Split


@pytest.mark.parametrize("name", NAMED)
def test_recipes_at_hand_are_whole(name: str) -> None:
    """Reading one builds every choice and every data recipe of it."""
    found = read_sweep(name)
    assert found.seeds >= 5
    # Few strengths where something else is varied: time, size, states or families.
    asks_else = found.future_gap or found.sizes[1:] or found.moved or found.families[9:]
    assert len(found.strengths) >= (2 if asks_else else 5)
    roles = {family.role for family in found.families}
    assert {"strict", "relaxed", "free"} <= roles
    largest = found.recipe(found.strengths[-1]).system
    assert largest.breaking[0].kind == found.term


@pytest.mark.parametrize("name", NAMED)
def test_recipes_at_hand_are_larger_for_a_gpu(name: str) -> None:
    plain, large = read_sweep(name), read_sweep(name, large=True)
    assert large.parameters >= 10 * plain.parameters
    assert large.trajectories.train >= 2 * plain.trajectories.train
    assert large.sizes[-1] == large.trajectories.train
    for family, same in zip(large.families, plain.families, strict=True):
        run = large.choices(family, 0, 0, large.sizes[-1])
        other = plain.choices(same, 0, 0, plain.sizes[-1])
        assert run.model == other.model
        assert run.training.updates >= 10 * other.training.updates
    # The physics, the strengths and the trials are those of the recipe.
    changed = {"parameters", "sizes", "trajectories", "data", "training", "families"}
    assert plain.model_dump(exclude=changed) == large.model_dump(exclude=changed)
    assert plain.data.system == large.data.system


def test_a_familys_own_number_grows_as_the_sweeps(tmp_path: Path) -> None:
    own = RECIPE.replace('role = "free"', 'role = "free"\nparameters = 900')
    text = own + "[large]\nparameters = 3000\ndata.resolution = 64\n"
    found = read_sweep(write(tmp_path, text), large=True)
    assert [family.parameters for family in found.families] == [9000, None]
    assert (found.parameters, found.data.resolution) == (3000, 64)
    assert found.data.frames == 4
    assert read_sweep(write(tmp_path, text)) == read_sweep(write(tmp_path, own))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("", "has no table .large."),
        ("large = 2", "has no table .large."),
        ("[large]\nsizes = [9]", r"\[large\].* at most 3 trajectories"),
        ("[large]\nsize = [9]", r"\[large\].* size"),
    ],
)
def test_bad_large_ones_are_one_line(table: str, words: str, tmp_path: Path) -> None:
    first, families = RECIPE.split("[trajectories]")
    path = write(tmp_path, first + table + "\n[trajectories]" + families)
    with pytest.raises(InputError, match=words) as error:
        read_sweep(path, large=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seeds = 2", "seed = 2", "seeds?: "),
        ('term = "bathymetry"', 'term = "beta"', "term: kdv has potential"),
        ("strengths = [0.0, 0.3]", "strengths = [0.1, 0.3]", "increasing .* from 0"),
        ("strengths = [0.0, 0.3]", "strengths = [0.0, 99.0]", "strength"),
        ("sizes = [3]", "sizes = [4]", "at most 3 trajectories"),
        ('kind = "cnn"', 'kind = "cnnn"', "families.free: model"),
        ("batch_size = 2", "batch = 2", "families.free: training.batch"),
        ("batch_size = 2", "seed = 2", "training.seed is set by the sweep"),
        ('"modulated",', '"modulated", width = 3,', "model.width is matched"),
        (
            "tune = [{ training.penalty = 0.0 }, ",
            "tune = [",
            "same number of tuning trials .* 2 of free, 1 of relaxed",
        ),
        ('name = "relaxed"', 'name = "free"', "each name once"),
        ('role = "relaxed"', 'role = "loose"', "families.1.role"),
        ('role = "relaxed"', 'role = "relaxed"\nstrengths = [0.2]', "0.2 is no"),
        ("future_gap = 3", "future_gap = 2", "at least 3 frames, a training window"),
        ("sizes = [3]", "sizes = [2]", "all 3 training trajectories; .* of that alone"),
        ("frames = 4", 'frames = 4\nsplit_by = "time"', "data.split_by = trajectory"),
        ("modes = 4", "mode = 4", "initial"),
        ("updates = 4", "updates = 4 =", "not valid TOML"),
    ],
)
def test_bad_recipes_are_one_line(
    old: str, new: str, words: str, tmp_path: Path
) -> None:
    assert old in RECIPE
    path = write(tmp_path, RECIPE.replace(old, new, 1))
    with pytest.raises(InputError, match=words) as error:
        read_sweep(path)
    assert "\n" not in str(error.value)


def test_unknown_sweeps_are_one_line() -> None:
    with pytest.raises(InputError, match="'nonsense': expected a FILE"):
        read_sweep("nonsense")


def test_tables_are_merged_key_by_key() -> None:
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}) == {"a": {"b": 1, "c": 3}}
    held = {"hold": {"kind": "prior", "width": 1}}
    assert merged(held, {"hold": {"kind": "free"}}) == {"hold": {"kind": "free"}}
    assert merged({"a": {"b": 1}}, {"a": None}) == {"a": None}


def test_strengths_are_paired(tmp_path: Path) -> None:
    found = read_sweep(write(tmp_path))
    assert isinstance(found, Sweep)
    weak, strong = found.recipe(0.0), found.recipe(0.3)
    assert weak.seed == strong.seed
    assert weak.law == strong.law
    assert [t.strength for r in (weak, strong) for t in r.system.breaking] == [0, 0.3]
    assert found.recipe(0.3, shifted=True).law != strong.law


@pytest.mark.slow
@pytest.mark.parametrize("large", [False, True], ids=["plain", "large"])
@pytest.mark.parametrize("name", NAMED)
def test_families_of_recipes_at_hand_are_matched(
    name: str, large: bool, tmp_path: Path
) -> None:
    """Every trial has a width within a tenth of the parameters, at both ends, and
    takes a step on the grid."""
    found = read_sweep(name, large=large)
    for strength in (found.strengths[0], found.strengths[-1]):
        folder = tmp_path / f"{strength:g}"
        build(found.recipe(strength), dict.fromkeys(Split, 1), folder)
        for family in found.families:
            trials = [
                found.choices(family, trial, 0, 1) for trial in range(len(family.tune))
            ]
            for choices in {trial.model: trial for trial in trials}.values():
                dataset = training_data(folder, choices.training)
                asked = family.parameters or found.parameters
                config = prepare(dataset, choices, asked)
                count = count_parameters(build_surrogate(config))
                assert count == pytest.approx(asked, rel=0.1)
                check_fit(config, dataset)
