"""A box with walls on disk: boundaries, cell centres, and nothing in between."""

import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import drawn_environment, drawn_states

from pde_sym.errors import DataError
from pde_sym.grid import PeriodicGrid, WalledGrid
from pde_sym.simulate import simulate
from pde_sym.store import Shard, encode, open_shard
from pde_sym.systems.plume import Plume
from pde_sym.systems.plume_initial import Puffs
from pde_sym.systems.plume_terms import BuoyancyDirection, Inflow

GRID = WalledGrid.square(8, 2.0)


def plume_shard(grid: PeriodicGrid = GRID) -> Shard:
    system = Plume(breaking=(BuoyancyDirection(strength=3.0), Inflow(strength=2.0)))
    states, environment = (
        drawn_states(Puffs(modes=3), GRID),
        drawn_environment(system, GRID),
    )
    done = simulate(system, GRID, states, environment, dt=0.1, num_frames=3)
    return Shard(
        states=done.states.numpy().astype(np.float32),
        fields=Plume.fields,
        environment=environment.numpy().astype(np.float32),
        environment_fields=system.environment_fields,
        environment_kind="hidden",
        times=np.arange(3) * 0.1,
        grid=grid,
        scalars=system.scalars(),
        invariants={name: value.numpy() for name, value in done.invariants.items()},
        budgets={name: value.numpy() for name, value in done.budgets.items()},
        system="plume",
        strengths={},
        config={"system": {"kind": "plume"}},
    )


def save(folder: Path, data: bytes) -> tuple[Path, str]:
    path = folder / "plume.hdf5"
    path.write_bytes(data)
    return path, hashlib.sha256(data).hexdigest()


def test_a_plume_comes_back_with_its_walls(tmp_path: Path) -> None:
    shard = plume_shard()
    path, digest = save(tmp_path, encode(shard))
    with open_shard(path, digest) as reader:
        reader.check_schema()
        back = reader.load()
    assert back.grid == GRID
    assert back.grid != PeriodicGrid.square(8, 2.0)
    np.testing.assert_array_equal(back.states, shard.states)
    np.testing.assert_array_equal(back.environment, shard.environment)
    with h5py.File(path, "r") as opened:
        file: Any = opened
        np.testing.assert_allclose(file["dimensions/x"][:2], [0.125, 0.375])
        kinds = [b.attrs["bc_type"] for b in file["boundary_conditions"].values()]
        assert kinds == ["WALL", "WALL"]
        assert file["t0_fields/smoke"].shape == (2, 3, 8, 8)
        assert file["t1_fields/velocity"].shape == (2, 3, 8, 8, 2)
        assert file["t1_fields/lift"].shape == (8, 8, 2)
        assert file["scalars/buoyancy"][()] == 3.0
        assert file["scalars/smoke_budget"].shape == (2, 3)


def periodic_ends(file: Any) -> None:
    for boundary in file["boundary_conditions"].values():
        boundary.attrs["bc_type"] = "PERIODIC"


def from_zero(file: Any) -> None:
    file["dimensions/y"][:] -= file["dimensions/y"][0]


def third_of_a_step(file: Any) -> None:
    file["dimensions/x"][:] -= 0.04


@pytest.mark.parametrize("edit", [periodic_ends, from_zero, third_of_a_step])
def test_walls_and_cell_centres_belong_together(tmp_path: Path, edit: Any) -> None:
    path, _ = save(tmp_path, encode(plume_shard()))
    with h5py.File(path, "r+") as file:
        edit(file)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with (
        open_shard(path, digest) as reader,
        pytest.raises(DataError, match=r"at cell centres between walls|half a step"),
    ):
        reader.check_schema()
