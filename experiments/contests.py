"""The problems that solvers are compared on, with their exact or refined solutions."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.peers import pde_sym_plume
from pde_sym.systems.flow import Flow
from pde_sym.systems.flow_initial import RandomVorticity
from pde_sym.systems.flow_solver import FlowSolver
from pde_sym.systems.heat import Heat
from pde_sym.systems.heat_terms import Bubbles
from pde_sym.systems.kdv import KdV
from pde_sym.systems.kdv_solutions import cnoidal_roots, cnoidal_wave
from pde_sym.systems.rigid_body_exact import free_motion

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Contest:
    """A problem for `experiments.peers`.

    Parameters
    ----------
    name
        Shown in the table.
    arrays
        The contents of the problem's file, less the settings.
    settings
        Time steps by solver; ``""`` is any solver that has none of its own.
    target
        Relative maximum error at which times are compared.
    floor
        Runs nothing but the transforms of that many steps of one trajectory, where a
        step is made of transforms.
    """

    name: str
    arrays: dict[str, Any]
    settings: dict[str, tuple[float, ...]]
    target: float = 1e-6
    floor: Callable[[int], object] | None = field(default=None, repr=False)

    def settings_of(self, solver: str) -> tuple[float, ...]:
        return self.settings.get(solver, self.settings[""])


def kdv(batch: int = 64) -> Contest:
    """Cnoidal waves, one place each, which KdV only carries along."""
    from pde_sym.kernels.transforms import row_transforms

    grid, end = KdV.grid(256, 64.0), 4.0
    roots = cnoidal_roots(16.0, 0.9, 0.1)
    shifts = np.random.default_rng(0).uniform(0, 64.0, size=(batch, 1))
    points = grid.coordinates(0)[None] - shifts
    block = np.random.default_rng(1).normal(size=(32, 256))
    return Contest(
        "kdv, 256 points",
        {
            "system": "kdv",
            "initial": cnoidal_wave(points, 0.0, roots),
            "reference": cnoidal_wave(points, end, roots),
            "length": 64.0,
            "end": end,
        },
        {
            "": (0.04, 0.02, 0.01, 0.005),
            "exponax": (0.02, 0.01, 0.005, 0.0025),
            "py-pde": (0.0025,),
        },
        # A step has four right-hand sides of two transforms.
        floor=lambda steps: row_transforms(block, steps * 4 // 32 + 1),
    )


def flow(resolution: int, batch: int = 16) -> Contest:
    """Decaying flow, against the same equation at an eighth of the smallest step."""
    from pde_sym.kernels.transforms import plane_transforms

    # So smooth that codes which truncate their modes differently agree.
    length, viscosity, end = 2 * np.pi, 2e-2, 0.32
    grid = Flow.grid(resolution, length)
    law, rng = RandomVorticity(modes=3, slope=3.0), np.random.default_rng(0)
    state = np.stack([law.sample(grid, rng) for _ in range(batch)])
    steps = (0.04, 0.02, 0.01) if resolution <= 64 else (0.02, 0.01, 0.005)
    none = torch.empty(1, 0, *grid.shape, dtype=torch.float64)
    fine = FlowSolver(
        Flow(viscosity=viscosity), grid, none, end, steps=round(8 * end / steps[-1])
    )
    plane = state[0, 2].copy()
    return Contest(
        f"flow, {resolution} x {resolution} points",
        {
            "system": "flow",
            "state": state,
            "initial": state[:, 2],
            "reference": fine(torch.from_numpy(state))[:, 2].numpy(),
            "length": length,
            "viscosity": viscosity,
            "end": end,
        },
        {"": steps},
        # A step has four right-hand sides of four transforms.
        floor=lambda steps: plane_transforms(plane, 8 * steps),
    )


def heat(batch: int = 16) -> Contest:
    """Bubbles in a conductor, against the propagator in a hundred parts."""
    system, end = Heat(breaking=(Bubbles(strength=0.9),)), 0.01
    grid, rng = Heat.grid(64, 1.0), np.random.default_rng(0)
    law = system.initial_laws[0].model_validate({})
    initial = np.stack([law.sample(grid, rng) for _ in range(batch)])
    medium = np.stack([system.sample_environment(grid, rng) for _ in range(batch)])
    fine = system.solver(grid, torch.from_numpy(medium), end / 100)
    state = torch.from_numpy(initial)
    for _ in range(100):
        state = fine(state)
    explicit = end / 640
    return Contest(
        "heat with bubbles, 64 x 64 points",
        {
            "system": "heat",
            "initial": initial[:, 0],
            "conductivity": medium[:, 0],
            "reference": state[:, 0].numpy(),
            "length": 1.0,
            "end": end,
        },
        {"": (end / 10, end / 20), "py-pde": (explicit, explicit / 2)},
    )


def rigid_body(batch: int = 1000) -> Contest:
    """Free bodies over ten units of time, in 100 frames, against one exact step."""
    end, inertia = 10.0, np.array([1.0, 1.5, 2.0])
    momentum = np.random.default_rng(0).normal(size=(batch, 3))
    exact = free_motion(
        torch.from_numpy(momentum),
        torch.from_numpy(inertia),
        torch.tensor(end, dtype=torch.float64),
    )
    return Contest(
        "free rigid body, 100 frames",
        {
            "system": "rigid_body",
            "initial": momentum,
            "inertia": inertia,
            "reference": exact.numpy(),
            "frames": 101,
            "end": end,
        },
        {"": (1e-5, 1e-7, 1e-9), "pde_sym": (0.1,)},
    )


def plume(batch: int = 4) -> Contest:
    """Smoke that rises from an inflow in a closed box, 20 frames from rest.

    Codes discretise it differently: their errors are no errors, steps per second are
    what is compared. Ours takes as many steps within a frame as it needs.
    """
    inflow = {"kind": "inflow", "strength": 0.2, "y": 0.125, "radius": 0.0625}
    terms = [inflow, {"kind": "buoyancy_direction", "strength": 0.1}]
    initial = np.zeros((batch, 3, 64, 64))
    arrays = {
        "system": "plume",
        "plume": json.dumps({"breaking": terms}),
        "initial": initial,
        "length": 64.0,
        "end": 20.0,
        "reference": np.zeros((batch, 64, 64)),
    }
    problem = {key: np.asarray(value) for key, value in arrays.items()}
    advance, _ = pde_sym_plume(problem, 1.0)
    return Contest(
        "plume in a box, 64 x 64 cells",
        {**arrays, "reference": advance()},
        {"": (1.0,)},
    )


CONTESTS: dict[str, Callable[[], Contest]] = {
    "kdv": kdv,
    "flow-64": lambda: flow(64),
    "flow-128": lambda: flow(128),
    "heat": heat,
    "rigid-body": rigid_body,
    "plume": plume,
}
