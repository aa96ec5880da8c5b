"""Windows in a turned frame are motions of a body that has the turn as a symmetry."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import relative_difference
from rigid_bodies import INERTIAS, body, flow, states, terms_of
from torch import Tensor

from experiments.__main__ import main
from pde_sym.errors import InputError
from pde_sym.nn import Task
from pde_sym.simulate import rollout
from pde_sym.systems.heat import Heat
from pde_sym.systems.rigid_body import RigidBody
from pde_sym.turned_bodies import FrameAugmentation

D2, O2 = FrameAugmentation(), FrameAugmentation(group="O(2)")
EXACT, BROKEN = 1e-12, 1e-3


def windows(system: RigidBody, count: int = 8) -> Tensor:
    return rollout(flow(system), states(system, count), 3)


def apply(augmentation: FrameAugmentation, system: RigidBody, seed: int = 0) -> Tensor:
    task = Task(state=system.fields, num_axes=0)
    rng = np.random.default_rng(seed)
    return augmentation(windows(system), None, task, rng)[0]


def residual(system: RigidBody, moved: Tensor) -> float:
    """Return how far later frames are from those solved from the first."""
    solved = rollout(flow(system), moved[:, 0], moved.shape[1] - 1)
    return relative_difference(moved, solved)


@pytest.mark.parametrize(
    ("augmentation", "inertia", "term", "is_kept"),
    [
        (D2, "three moments", None, True),
        (D2, "alike 1 and 2", "asymmetry", True),
        (O2, "alike 1 and 2", None, True),
        (O2, "sphere", None, True),
        (O2, "three moments", None, False),
        (O2, "alike 2 and 3", None, False),
        (O2, "alike 1 and 2", "asymmetry", False),
        (D2, "three moments", "gravity", False),
        (D2, "three moments", "gravity oblique", False),
    ],
)
def test_windows_are_motions_where_the_turn_is_a_symmetry(
    augmentation: FrameAugmentation, inertia: str, term: str | None, is_kept: bool
) -> None:
    system = body(*terms_of(term), inertia=INERTIAS[inertia])
    moved = apply(augmentation, system)
    error = residual(system, moved)
    assert error <= EXACT if is_kept else error >= BROKEN
    assert relative_difference(moved, windows(system)) > 0.1


@pytest.mark.parametrize("augmentation", [D2, O2])
def test_rotations_fill_the_group(augmentation: FrameAugmentation) -> None:
    drawn = augmentation.draw(np.random.default_rng(0), 4000)
    turns = np.stack([rotation.matrix for rotation in drawn])
    keeps = np.abs(turns[:, 2, 2] - 1) < 1e-12
    assert np.allclose(np.abs(turns[:, 2, 2]), 1)
    assert keeps.mean() == pytest.approx(0.5, abs=0.03)
    kinds = np.unique(turns.round(6), axis=0)
    if augmentation.group == "D2":
        assert len(kinds) == 4
        assert all(np.allclose(abs(turn), np.eye(3)) for turn in kinds)
        # All as often as the others: their mean is the projection onto what they keep.
        assert np.allclose(turns.mean(0), 0, atol=0.05)
    else:
        assert len(kinds) > 3900
        angles = np.arctan2(turns[keeps, 1, 0], turns[keeps, 0, 0])
        counts, _ = np.histogram(angles, 8, (-np.pi, np.pi))
        assert counts.min() > 180
        assert np.allclose(turns.mean(0), 0, atol=0.05)


def test_a_window_is_turned_as_a_whole_and_drawn_again_by_the_same_numbers() -> None:
    system = body(inertia=INERTIAS["sphere"])
    first, again, other = (apply(O2, system, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    norms = [u[:, :, :3].square().sum(2) for u in (first, windows(system))]
    assert relative_difference(*norms) <= EXACT


def test_what_has_no_frame_is_refused() -> None:
    with pytest.raises(InputError, match=r"the frame of a body, .* got temp"):
        D2.check(Task(state=Heat.fields))
    fields = RigidBody(attitude=True).fields
    with pytest.raises(InputError, match=r"given fields .* got temp"):
        D2.check(Task(state=fields, given=Heat.fields, num_axes=0))
    D2.check(Task(state=fields, num_axes=0))


def test_a_network_is_trained_with_it(tmp_path: Path) -> None:
    made = ["generate", "rigid_body", "--frames", "4", "--train", "4", "--valid", "2"]
    assert main([*made, "--test", "2", "--out", str(tmp_path / "data")]) == 0
    run = [
        "train",
        "--data",
        str(tmp_path / "data"),
        "--model",
        "mlp",
        "--updates",
        "2",
    ]
    assert main([*run, "--augment", "frame", "--out", str(tmp_path / "run")]) == 0
    text = (tmp_path / "run" / "run.json").read_text()
    assert '"kind": "frame"' in text
