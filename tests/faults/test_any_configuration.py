"""Any configuration is a plan, or one line that says what is wrong with it."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as some
from test_store_folder import counts

from data_gen.cost import Caps, check_cost, estimate
from data_gen.recipes import Recipe, law_classes, resolve, term_classes
from experiments.models import families
from experiments.train import Choices
from pde_sym.config import canonical_json, read_toml
from pde_sym.errors import InputError, one_line
from pde_sym.objective import TrainConfig
from pde_sym.systems import SYSTEMS

MOST_SECONDS = 1.0
EVERY_DAY, ALL = 100, 1500
DIGITS = 10**4000
NUMBERS = some.one_of(
    some.sampled_from([0, 1, -1, 2, 8, 16, 63, 64, 2**31, 2**63, 2**64, DIGITS]),
    some.sampled_from([0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, float("nan")]),
    some.sampled_from([float("inf"), float("-inf")]),
    some.integers(-100, 100),
    some.floats(-10, 10),
)
VALUES = some.recursive(
    some.one_of(
        some.none(),
        some.booleans(),
        NUMBERS,
        some.text(max_size=8),
        some.sampled_from(["nan", "no.npy", "/dev/zero.npy", "D4", "C64", "given"]),
    ),
    lambda inner: (
        some.lists(inner, max_size=3)
        | some.dictionaries(some.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


def part(fields: list[str], **fixed: Any) -> some.SearchStrategy[dict[str, Any]]:
    """Return tables with some of the fields, and seldom one that is none."""
    names = some.sampled_from([*fields, *fields, "nothing", "", "a.b", "\n"])
    return some.dictionaries(names, VALUES, max_size=3).map(lambda t: {**fixed, **t})


@some.composite
def recipes(draw: some.DrawFn) -> Any:
    """Draw a recipe: near a good one, so that errors lie deep in it too."""
    kind = draw(some.sampled_from(SYSTEMS))
    name = kind.model_fields["kind"].default
    terms = [
        draw(part([*term.model_fields], kind=known))
        for known, term in draw(
            some.lists(some.sampled_from([*term_classes(kind).items()]), max_size=2)
        )
    ]
    own = [f for f in kind.model_fields if f not in ("kind", "breaking")]
    table = draw(part([f for f in Recipe.model_fields if f != "system"]))
    table["system"] = draw(part(own, kind=name)) | (
        {"breaking": terms} if terms else {}
    )
    if draw(some.booleans()):
        known, law = draw(some.sampled_from([*law_classes(kind).items()]))
        table["initial"] = draw(part([*law.model_fields], kind=known))
    return draw(some.sampled_from([table, table, table, draw(VALUES)]))


@some.composite
def trainings(draw: some.DrawFn) -> Any:
    """Draw the tables of a training."""
    family = draw(some.sampled_from(families()))
    kind = family.model_fields["kind"].default
    return {
        "model": draw(part([*family.model_fields], kind=kind) | VALUES),
        "training": draw(part([*TrainConfig.model_fields]) | VALUES),
    }


@some.composite
def words(draw: some.DrawFn) -> tuple[str, list[str], list[str]]:
    """Draw a system, and what follows ``--break`` and ``--set``."""
    kind = draw(some.sampled_from(SYSTEMS))
    keys = ["initial.kind", "initial.modes", *Recipe.model_fields, *kind.model_fields]
    keys += [f"{name}.strength" for name in term_classes(kind)]
    good = some.sampled_from(["0", "0.5", "1", "2", "8", "32", "0.1..0.5"])
    texts = VALUES.map(lambda v: json.dumps(v)[:5000]) | some.text(max_size=10) | good
    sets = draw(some.lists(some.tuples(some.sampled_from(keys), texts), max_size=2))
    breaks = some.tuples(some.sampled_from([*term_classes(kind), "", "x"]), texts)
    return (
        kind.model_fields["kind"].default,
        ["=".join(pair) for pair in draw(some.lists(breaks, max_size=2))],
        ["=".join(pair) for pair in sets],
    )


def plan(recipe: Recipe) -> None:
    """Go on to the cost, and see that the recipe comes back from its file."""
    check_cost(estimate(recipe, counts()), Caps())
    text = canonical_json(recipe)
    assert canonical_json(Recipe.parse(json.loads(text), where="file")) == text


def tried(seen: Counter[str], work: Any) -> None:
    start = time.process_time()
    try:
        work()
        seen["plan"] += 1
    except InputError as error:
        assert len(one_line(error)) < 700, error  # noqa: PT017
        seen["refused"] += 1
    assert time.process_time() - start < MOST_SECONDS


def everything(number: int) -> settings:
    return settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@pytest.mark.parametrize(
    "number", [EVERY_DAY, pytest.param(ALL, marks=pytest.mark.faults)], ids=str
)
@pytest.mark.parametrize("kind", ["recipes", "trainings", "words", "files"])
def test_a_plan_or_one_line(tmp_path: Path, kind: str, number: int) -> None:
    seen = Counter[str]()
    path = tmp_path / "any.toml"

    def try_one(drawn: Any) -> None:
        if kind == "recipes":
            tried(seen, lambda: plan(Recipe.parse(drawn, where="recipe")))
        elif kind == "trainings":
            tried(seen, lambda: Choices.parse(drawn, where="options"))
        elif kind == "words":
            tried(seen, lambda: plan(resolve(*drawn)))
        else:
            path.write_bytes(drawn)
            tried(seen, lambda: read_toml(path))

    sources = {
        "recipes": recipes(),
        "trainings": trainings(),
        "words": words(),
        "files": some.one_of(
            some.binary(max_size=200),
            some.text("ab.=[]{}'\"#\n 1-:T", max_size=200).map(str.encode),
        ),
    }
    everything(number)(seed(0)(given(sources[kind])(try_one)))()
    print(f"{sum(seen.values())} {kind}: {dict(seen)}")
    assert sum(seen.values()) >= 0.95 * number
    assert min(seen["plan"], seen["refused"]) > number // 100
