"""Rotation matrices and quaternions: the way there and back, and over many frames."""

import numpy as np
import pytest
import torch
from rigid_bodies import (
    GRID,
    NO_FIELDS,
    attitude_of,
    body,
    flow,
    states,
    terms_of,
    unorthogonal,
)
from torch import Tensor

from pde_sym.kernels.rigid_body_state import PLACES, entering, leaving
from pde_sym.systems.rigid_body_rotations import (
    applied,
    conjugate,
    matrix_of,
    multiply,
    product,
    quaternion_of,
    rotate,
)


def quaternions() -> dict[str, Tensor]:
    """Return unit quaternions, of rotations that a formula may find special too."""
    rng = np.random.default_rng(3)
    drawn = rng.normal(size=(5, 2000, 4))
    drawn[1, :, 1:] *= 1e-9
    drawn[2, :, 0] *= 1e-9
    drawn[3, :, 0] = 0.0
    drawn[4] = np.eye(4)[rng.integers(4, size=2000)]
    drawn /= np.linalg.norm(drawn, axis=-1, keepdims=True)
    names = ("any", "small", "nearly half turns", "half turns", "of one component")
    return dict(zip(names, torch.from_numpy(drawn), strict=True))


def test_quaternions_multiply_as_rotations_do() -> None:
    a, b = quaternions()["any"][:2]
    v = torch.tensor([0.3, -1.0, 0.7], dtype=torch.float64)
    both = rotate(multiply(a, b), v)
    assert (both - rotate(a, rotate(b, v))).abs().max() <= 1e-15
    assert (both - rotate(b, rotate(a, v))).abs().max() >= 1e-2
    assert (rotate(conjugate(a), rotate(a, v)) - v).abs().max() <= 1e-15
    turns = matrix_of(a), matrix_of(b)
    assert (product(*turns) - matrix_of(multiply(a, b))).abs().max() <= 1e-15
    assert (product(*turns) - turns[0] @ turns[1]).abs().max() <= 1e-15
    assert (applied(turns[0], v) - turns[0] @ v).abs().max() <= 1e-15


@pytest.mark.parametrize("kind", quaternions())
def test_there_and_back_to_round_off(kind: str) -> None:
    q = quaternions()[kind]
    turns = matrix_of(q)
    columns = [rotate(q, e.expand(len(q), 3)) for e in torch.eye(3).double()]
    # Where the length of q rounds, `rotate` does not take it out.
    assert (turns - torch.stack(columns, dim=-1)).abs().max() <= 2e-15
    assert unorthogonal(turns) <= 2e-15
    back = quaternion_of(turns)
    assert (torch.linalg.vector_norm(back, dim=1) - 1).abs().max() <= 5e-16
    assert torch.minimum((back - q).norm(dim=1), (back + q).norm(dim=1)).max() <= 1e-15
    assert (matrix_of(back) - turns).abs().max() <= 1e-15
    # A matrix does not know the sign.
    assert torch.equal(matrix_of(-q), turns)


def test_the_way_back_uses_the_outer_product() -> None:
    """1 + tr R = 4 w^2, and the transposed matrix is the inverse rotation."""
    q = quaternions()["any"]
    turns = matrix_of(q)
    trace = turns.diagonal(dim1=-2, dim2=-1).sum(-1)
    assert (1 + trace - 4 * q[:, 0] ** 2).abs().max() <= 2e-15
    inverse = multiply(quaternion_of(turns.mT), quaternion_of(turns))
    assert (inverse[:, 0].abs() - 1).abs().max() <= 1e-15
    twice = multiply(quaternion_of(turns), quaternion_of(turns))
    assert (twice[:, 0].abs() - 1).abs().max() >= 1e-2


def test_a_matrix_of_single_precision_becomes_the_nearest_rotation() -> None:
    """As the polar decomposition finds it."""
    rounded = matrix_of(quaternions()["any"]).float().double()
    assert unorthogonal(rounded) >= 1e-8
    found = matrix_of(quaternion_of(rounded))
    u, _, vt = torch.linalg.svd(rounded)
    assert (found - u @ vt).abs().max() <= 1e-14
    assert unorthogonal(found) <= 2e-15
    # Rotations before or after do not disturb it.
    turn = found[:1]
    for moved, expected in (
        (product(turn, rounded), product(turn, found)),
        (product(rounded, turn), product(found, turn)),
    ):
        assert (matrix_of(quaternion_of(moved)) - expected).abs().max() <= 5e-15


@pytest.mark.parametrize("kind", quaternions())
def test_the_loops_convert_as_torch_does(kind: str) -> None:
    fields = {"angular_momentum": slice(0, 3), "attitude": slice(3, 12)}
    q = quaternions()[kind]
    columns = torch.cat([q[:, 1:], matrix_of(q).flatten(1)], dim=1).numpy()
    full = entering(fields, columns)
    expected = quaternion_of(matrix_of(q)).numpy()
    assert np.abs(full[:, PLACES["attitude"]] - expected).max() <= 1e-15
    assert np.array_equal(full[:, :3], columns[:, :3])
    assert not full[:, [3, 4, 5, 10, 11]].any()
    assert np.abs(leaving(fields, full) - columns).max() <= 1e-15


@pytest.mark.parametrize("name", [None, pytest.param("all", marks=pytest.mark.slow)])
def test_an_attitude_stays_a_rotation_over_ten_thousand_frames(
    name: str | None,
) -> None:
    """The error does not grow with the frames; R Pi is kept where it should be."""
    system = body(*terms_of(name))
    start, phi = states(system), flow(system)
    end = start
    for _ in range(10_000):
        end = phi(end)
    assert unorthogonal(attitude_of(system, start)) <= 2e-15
    assert unorthogonal(attitude_of(system, end)) <= 2e-15
    before, after = (system.measure(u, GRID, NO_FIELDS) for u in (start, end))
    drift = max(
        float((after[key] - before[key]).abs().max())
        for key in (f"spatial_momentum_{axis}" for axis in "xyz")
    )
    assert drift <= 2e-12 if name is None else drift >= 1e-2
