"""Which rotations of body and space survive, on the solver and from both sides."""

import numpy as np
import pytest
import torch
from helpers import relative_difference
from rigid_bodies import (
    INERTIAS,
    OBLIQUE,
    TERMS,
    attitude_of,
    body,
    channels,
    flow,
    states,
    terms_of,
)
from scipy.linalg import expm
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.systems.rigid_body_symmetry import (
    PROBES,
    BodyAction,
    BodySymmetry,
    Rotation,
)

EXACT, BROKEN = 1e-13, 1e-3
TURNS = (
    *PROBES,
    Rotation("body", OBLIQUE, 40.0),
    Rotation("body", (-2.0, 1.0, 2.0), 40.0),
)


@pytest.mark.parametrize("inertia", INERTIAS)
@pytest.mark.parametrize("name", [None, *TERMS, "all"])
def test_surviving_rotations(name: str | None, inertia: str) -> None:
    """Phi(g u) = g Phi(u) to round-off if and only if g survives."""
    system = body(*terms_of(name), inertia=INERTIAS[inertia])
    phi, u, act = flow(system), states(system), BodyAction(system.fields)
    for g in TURNS:
        defect = relative_difference(phi(act(g, u)), act(g, phi(u)))
        if g in system.survivors:
            assert defect <= EXACT, g.name
        else:
            assert defect >= BROKEN, g.name


@pytest.mark.parametrize(
    ("terms", "inertia", "name"),
    [
        ((), "three moments", "SO(3) of space x D2 of the body"),
        ((), "alike 1 and 2", "SO(3) of space x O(2) about axis 3 of the body"),
        ((), "alike 2 and 3", "SO(3) of space x O(2) about axis 1 of the body"),
        ((), "sphere", "SO(3) of space x SO(3) of the body"),
        (("asymmetry",), "alike 1 and 2", "SO(3) of space x D2 of the body"),
        (("gravity",), "three moments", "SO(2) of space x C2 about axis 3 of the body"),
        (("gravity",), "alike 1 and 2", "SO(2) of space x SO(2) about axis 3 of the"),
        (("gravity oblique",), "three moments", "SO(2) of space x C1 of the body"),
        (("gyrostat oblique",), "sphere", "SO(2) about (0.333, 0.667, 0.667) of the"),
        (("gravity", "gyrostat"), "sphere", "SO(2) of space x C1 of the body"),
    ],
)
def test_names_of_subgroups(terms: tuple[str, ...], inertia: str, name: str) -> None:
    system = body(*(TERMS[t] for t in terms), inertia=INERTIAS[inertia])
    assert name in system.survivors.name
    assert system.joint_survivors == system.survivors


def test_subgroups_of_several_vectors() -> None:
    across = BodySymmetry(((1.0, 1.0, 2.0),), ((0.6, 0.8, 0.0),))
    assert across.body == "C2 about (0.6, 0.8, 0)"
    assert Rotation("body", (0.6, 0.8, 0.0), 180.0) in across
    assert Rotation("body", (0.8, 0.6, 0.0), 180.0) not in across
    assert (across & across).vectors == across.vectors
    assert (across & BodySymmetry((), ((0.0, 0.0, 1.0),))).body == "C1"


def test_turning_the_weight_round_with_the_vertical_is_a_symmetry_too() -> None:
    system = body(TERMS["gravity"], attitude=False)
    u, act, phi = states(system), BodyAction(system.fields), flow(system)
    half_turn = Rotation("body", (1.0, 0.0, 0.0), 180.0)
    at = channels(system, "gravity_direction", 3)

    def both(state: Tensor) -> Tensor:
        moved = act(half_turn, state)
        moved[:, at] *= -1
        return moved

    assert half_turn not in system.survivors
    assert relative_difference(phi(both(u)), both(phi(u))) <= EXACT
    assert relative_difference(phi(act(half_turn, u)), act(half_turn, phi(u))) >= BROKEN


def test_what_cannot_be_seen_without_the_attitude_is_refused() -> None:
    system = body(TERMS["gravity"], attitude=False)
    u, act = states(system), BodyAction(system.fields)
    assert torch.equal(act(Rotation("space", (0.0, 0.0, 1.0), 40.0), u), u)
    with pytest.raises(InputError, match="needs the attitude"):
        act(Rotation("space", (1.0, 0.0, 0.0), 40.0), u)


def test_the_attitude_goes_from_the_body_to_space() -> None:
    """``R -> R Q^T`` and ``R -> S R``, and not the other way round."""
    system = body()
    u, act = states(system), BodyAction(system.fields)
    before = attitude_of(system, u)
    for g in TURNS:
        after, turn = attitude_of(system, act(g, u)), torch.from_numpy(g.matrix)
        both = {"body": before @ turn.T, "space": turn @ before}
        wrong = both.pop("space" if g.of == "body" else "body")
        assert (after - both[g.of]).abs().max() <= 1e-15
        assert (after - wrong).abs().max() >= 1e-1


def test_the_vertical_stays_where_it_is() -> None:
    """``R Gamma = e_z`` in states of any precision; about it Gamma keeps every bit."""
    system = body(TERMS["gravity"])
    u, act = states(system).float().double(), BodyAction(system.fields)
    at = channels(system, "gravity_direction", 3)
    for g in TURNS:
        moved = act(g, u)
        up = (attitude_of(system, moved) @ moved[:, at, 0, 0])[..., 0]
        assert (up - up.new_tensor([0.0, 0.0, 1.0])).abs().max() <= 3e-7
        is_about = g.of == "space" and g.axis == (0.0, 0.0, 1.0)
        assert torch.equal(moved[:, at], u[:, at]) == is_about


def test_rotations_are_exact_and_counterclockwise() -> None:
    """``1 + sin hat(n) + (1 - cos) hat(n)^2`` is ``exp(angle hat(n))``."""
    for g in TURNS:
        x, y, z = np.array(g.axis) / np.linalg.norm(g.axis)
        hat = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
        assert np.abs(g.matrix - expm(np.radians(g.angle) * hat)).max() <= 2e-15
        assert np.abs(g.matrix - expm(-np.radians(g.angle + 9) * hat)).max() >= 1e-1
    about = Rotation("body", (0.0, 3.0, 0.0), 540.0)
    assert np.array_equal(about.matrix, np.diag([-1.0, 1.0, -1.0]))


def test_rotations_act_as_a_group_and_turn_the_spatial_momentum() -> None:
    system = body(TERMS["gravity"])
    u, act = states(system), BodyAction(system.fields)
    for g in TURNS:
        assert relative_difference(act(g.inverse(), act(g, u)), u) <= EXACT
        assert relative_difference(act(g, u), u) >= BROKEN
        spatial, expected = (
            (attitude_of(system, x) @ x[:, :3, 0, 0])[..., 0] for x in (act(g, u), u)
        )
        if g.of == "space":
            expected = expected @ torch.from_numpy(g.matrix).T
        assert relative_difference(spatial, expected) <= EXACT
