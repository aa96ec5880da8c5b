"""Own initial states of bodies: what is taken as it is, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rigid_bodies import GRID, TERMS, attitude_of, body, flow, states, unorthogonal

from pde_sym.errors import InputError
from pde_sym.systems.rigid_body import RigidBody
from pde_sym.systems.rigid_body_initial import FIELDS, RandomSpin

TOP = body(TERMS["gravity"], TERMS["inertia_modulation"])
"""A body of every field."""


def law(folder: Path, values: Any) -> RandomSpin:
    np.save(folder / "own.npy", values)
    return RandomSpin.parse({"field": str(folder / "own.npy")}, where="initial")


def sample(system: RigidBody, spin: RandomSpin, index: int = 0) -> np.ndarray:
    drawn = system.sample_initial(spin, GRID, np.random.default_rng(0), index)
    assert drawn.shape == (system.fields.num_channels, *GRID.shape)
    return drawn.ravel()


def rows(system: RigidBody, count: int = 3) -> np.ndarray:
    """Return states ``(count, channels)``, as a user has them."""
    return states(system, count).flatten(1).numpy()


@pytest.mark.parametrize(
    "system",
    [TOP, body(), body(attitude=False), body(TERMS["gravity"], attitude=False)],
    ids=["all fields", "attitude", "momentum", "heavy top"],
)
def test_trajectory_i_starts_from_row_i(tmp_path: Path, system: RigidBody) -> None:
    own = rows(system)
    spin = law(tmp_path, own)
    for index in range(3):
        assert np.abs(sample(system, spin, index) - own[index]).max() <= 1e-15
    assert np.abs(sample(system, spin, 0) - own[1]).max() >= 1e-2
    one = law(tmp_path, own[1])
    assert np.abs(sample(system, one, 2) - own[1]).max() <= 1e-15


def test_a_law_alone_takes_all_fields(tmp_path: Path) -> None:
    own = rows(TOP)
    found = law(tmp_path, own).sample(GRID, np.random.default_rng(0), 1)
    assert TOP.fields == FIELDS
    assert np.abs(found.ravel() - own[1]).max() <= 1e-15


def test_single_precision_and_lengths_are_made_exact(tmp_path: Path) -> None:
    """So that a body of a file is as symmetric as one that is drawn."""
    own, where = rows(TOP), TOP.fields.slices()
    own[:, where["gravity_direction"]] *= 3.0
    own[0, where["phase_sin"]] = -1.0
    spin = law(tmp_path, own.astype(np.float32))
    found = torch.from_numpy(np.stack([sample(TOP, spin, i) for i in range(3)]))
    turns, vertical = attitude_of(TOP, found), found[:, where["gravity_direction"]]
    assert unorthogonal(turns) <= 2e-15
    assert torch.equal(vertical, turns[:, 2])
    assert (turns - attitude_of(TOP, states(TOP, 3))).abs().max() <= 1e-6
    cos, sin = (float(found[0, where[f"phase_{part}"]]) for part in ("cos", "sin"))
    assert (cos, sin) == pytest.approx((0.5**0.5, -(0.5**0.5)), abs=1e-15)
    momentum = found[:, where["angular_momentum"]].numpy()
    assert np.array_equal(momentum, own[:, :3].astype(np.float32))
    phi, u = flow(TOP), found[..., None, None, None]
    assert unorthogonal(attitude_of(TOP, phi(u))) <= 2e-15


def mirrored(own: np.ndarray, at: slice) -> None:
    own[1, at] *= -1


def nearly(own: np.ndarray, at: slice) -> None:
    own[1, at] += 1e-5


def stretched(own: np.ndarray, at: slice) -> None:
    own[1, at] *= 1e200


def zero(own: np.ndarray, at: slice) -> None:
    own[1, at] = 0.0


@pytest.mark.parametrize(
    ("field", "edit", "message"),
    [
        ("attitude", mirrored, "rows of a rotation matrix as attitude, got .* -1 and"),
        ("attitude", nearly, r"determinant 1 and R R\^T - 1 of up to .*e-05"),
        ("attitude", stretched, "rows of a rotation matrix as attitude"),
        ("attitude", zero, "rows of a rotation matrix as attitude, got .* 0 and"),
        ("gravity_direction", zero, "gravity_direction needs a length above 0"),
        ("gravity_direction", mirrored, "along the third row of the attitude"),
        ("phase_cos", zero, r"\(phase_cos, phase_sin\) needs a length above 0"),
    ],
)
def test_states_that_are_none_are_refused_in_one_line(
    tmp_path: Path, field: str, edit: Any, message: str
) -> None:
    own = rows(TOP)
    edit(own, TOP.fields.slices()[field])
    spin = law(tmp_path, own)
    sample(TOP, spin, 0)  # its neighbour is sound
    with pytest.raises(InputError, match=message) as told:
        sample(TOP, spin, 1)
    assert str(told.value).startswith("initial.field: trajectory 1: ")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3,), r"expected shape \(12,\) or \(n, 12\), the channels angular_momentum_x"),
        ((2, 11), r"attitude_zz, got \(2, 11\)"),
        ((2, 12, 1, 1, 1), r"got \(2, 12, 1, 1, 1\)"),
        ((0, 12), "trajectory 0 asked for, the file has 0"),
    ],
)
def test_other_shapes_are_refused(
    tmp_path: Path, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message) as told:
        sample(body(), law(tmp_path, np.ones(shape)))
    assert "\n" not in str(told.value)


def test_a_file_has_a_row_for_every_trajectory_and_finite_numbers(
    tmp_path: Path,
) -> None:
    own = rows(body())
    with pytest.raises(InputError, match="trajectory 3 asked for, the file has 3"):
        sample(body(), law(tmp_path, own), 3)
    own[2, 5] = np.nan
    with pytest.raises(InputError, match="numbers that are not finite"):
        law(tmp_path, own)
