"""Evaluations belong together by seed, have unique labels, and refuse to be mixed."""

import pytest
from evaluations import (
    FRAMES,
    LABELS,
    MODELS,
    make_evaluation,
    make_evaluations,
    write,
)

from experiments.series import group_by_seed, read_evaluations, run_labels
from pde_sym.errors import InputError


def test_runs_that_differ_by_seed_are_one_series():
    series = group_by_seed(make_evaluations())
    assert tuple(s.label for s in series) == LABELS
    assert [[e.seed for e in s.evaluations] for s in series] == [[0, 1]] * 3
    assert len({s.look.colour for s in series}) == 3
    assert len({s.look.marker for s in series}) == 3
    assert len({s.look.line for s in series}) == 3


def test_a_family_looks_the_same_in_every_company():
    alone = group_by_seed([make_evaluation("cnn")])[0].look
    among = group_by_seed([make_evaluation(m) for m in MODELS])[2].look
    assert alone == among


def test_another_group_size_or_length_of_training_is_another_series():
    chosen = [
        make_evaluation(),
        make_evaluation(group="D4"),
        make_evaluation(parameters=99),
        make_evaluation(updates=7, parameters=99),
    ]
    series = group_by_seed(chosen)
    assert [len(s.evaluations) for s in series] == [1] * 4
    assert {s.label for s in series} == {
        "strict (C4), 12000 parameters, 100 updates",
        "strict (C4), 99 parameters, 100 updates",
        "strict (C4), 99 parameters, 7 updates",
        "strict (D4)",
    }
    assert len({(s.look.marker, s.look.filled) for s in series}) == 4


def test_a_seed_that_occurs_twice_is_refused():
    with pytest.raises(InputError, match="strict-0 and other"):
        group_by_seed([make_evaluation(), make_evaluation(run="other")])


def test_unknown_kinds_are_drawn_under_their_own_name():
    (series,) = group_by_seed([make_evaluation("newest", group="D4")])
    assert series.label == "newest (D4)"


def test_labels_name_the_seed_where_there_are_several():
    chosen = [make_evaluation(seed=3), make_evaluation(seed=1), make_evaluation("cnn")]
    assert run_labels(chosen) == [
        "strict (C4), seed 3",
        "strict (C4), seed 1",
        "free CNN",
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"recipe": "b" * 64}, "recipes"),
        ({"times": tuple(range(FRAMES))}, "--steps"),
        ({"trajectories": 3}, "trajectories"),
    ],
)
def test_runs_on_different_data_are_refused_by_name(tmp_path, change, reason):
    one = write(tmp_path / "one", make_evaluation())
    two = write(tmp_path / "two", make_evaluation("cnn", **change))
    with pytest.raises(InputError, match=f"{one} and {two}.*{reason}"):
        read_evaluations([one, two])


def test_runs_that_differ_in_more_than_the_seed_are_no_seeds():
    """The hash of the settings decides, and the label names the run."""
    twins = [
        make_evaluation(seed=seed, settings=settings)
        for seed, settings in ((0, "a"), (1, "a"), (2, "b"))
    ]
    series = group_by_seed(twins)
    assert [[e.seed for e in s.evaluations] for s in series] == [[0, 1], [2]]
    assert [s.label for s in series] == [
        "strict (C4), run strict-0",
        "strict (C4), run strict-2",
    ]
