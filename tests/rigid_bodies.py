"""Rigid bodies, their states and their equation, for the tests."""

from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from pde_sym.initial_conditions import InitialLaw
from pde_sym.systems.rigid_body import RigidBody
from pde_sym.systems.rigid_body_initial import RandomSpin
from pde_sym.systems.rigid_body_solver import LARGEST_TURN, RigidBodySolver
from pde_sym.systems.rigid_body_terms import (
    Asymmetry,
    DoubleBracket,
    Friction,
    Gravity,
    Gyrostat,
    InertiaModulation,
    Torque,
)

GRID = RigidBody.grid(1, 1.0)
NO_FIELDS = torch.empty((1, 0, *GRID.shape), dtype=torch.float64)
DT = RigidBody.default_dt
OBLIQUE = (1.0, 2.0, 2.0)

TERMS: dict[str, Any] = {
    "asymmetry": Asymmetry(strength=0.2),
    "gravity": Gravity(strength=0.8),
    "gravity oblique": Gravity(strength=0.8, direction=OBLIQUE),
    "friction": Friction(strength=0.4),
    "double_bracket": DoubleBracket(strength=0.5),
    "gyrostat": Gyrostat(strength=0.5, direction=(1.0, 0.0, 0.0)),
    "gyrostat oblique": Gyrostat(strength=0.5, direction=OBLIQUE),
    "inertia_modulation": InertiaModulation(strength=0.3),
    "torque": Torque(strength=0.4, direction=(0.0, 1.0, 0.0)),
    "torque oblique": Torque(strength=0.4, direction=(-2.0, 1.0, 2.0)),
}
INERTIAS = {
    "three moments": (1.0, 1.5, 2.0),
    "alike 1 and 2": (1.0, 1.0, 1.5),
    "alike 2 and 3": (1.5, 1.0, 1.0),
    "sphere": (1.0, 1.0, 1.0),
}
ALL = tuple(TERMS[n] for n in TERMS if n not in ("gravity", "gyrostat", "torque"))


def terms_of(name: str | None) -> tuple[Any, ...]:
    """Return the terms that a test names: one, ``all``, or none."""
    return () if name is None else ALL if name == "all" else (TERMS[name],)


def body(*terms: Any, **settings: Any) -> RigidBody:
    """Return a body with an attitude, unless told otherwise."""
    values: dict[str, Any] = {"attitude": True, **settings}
    return RigidBody(breaking=terms, **values)


def states(
    system: RigidBody, count: int = 4, seed: int = 3, law: InitialLaw | None = None
) -> Tensor:
    """Draw initial states ``(count, channels, 1, 1, 1)`` from one stream."""
    rng, law = np.random.default_rng(seed), law or RandomSpin()
    drawn = [system.sample_initial(law, GRID, rng) for _ in range(count)]
    return torch.from_numpy(np.stack(drawn))


def flow(
    system: RigidBody,
    dt: float = DT,
    largest_turn: float = LARGEST_TURN,
    compiled: bool | None = None,
) -> RigidBodySolver:
    return RigidBodySolver(system, GRID, NO_FIELDS, dt, largest_turn, compiled=compiled)


def channels(system: RigidBody, name: str, width: int) -> slice:
    """Return the channels of a field and of those that follow it."""
    start = system.fields.slices()[name].start
    return slice(start, start + width)


def attitude_of(system: RigidBody, state: Tensor) -> Tensor:
    """Return the rotation matrices ``(batch, 3, 3)`` of states."""
    return state.flatten(1)[:, channels(system, "attitude", 9)].unflatten(1, (3, 3))


def unorthogonal(turns: Tensor) -> float:
    """Return the largest element of ``R R^T - 1``."""
    unit = torch.eye(3, dtype=turns.dtype)
    return float((turns @ turns.mT - unit).abs().max())


def equation(system: RigidBody, state: Tensor) -> Tensor:
    """Return the rate of a state ``(batch, channels)``, as the docstrings state it."""
    names, rate = system.fields.names, torch.zeros_like(state)
    inertia, pi = state.new_tensor(system.moments).expand(len(state), 3), state[:, :3]
    if "phase_cos" in names:
        at, term = channels(system, "phase_cos", 2), system.term(InertiaModulation)
        assert term is not None
        cos, sin = state[:, at].unbind(1)
        rate[:, at] = term.frequency * torch.stack([-sin, cos], dim=1)
        beat = 1 + term.strength * cos[:, None]
        inertia = torch.cat([inertia[:, :1] * beat, inertia[:, 1:]], dim=1)
    cross = torch.linalg.cross
    rotor, torque = (state.new_tensor(system.vector(t)) for t in (Gyrostat, Torque))
    omega = (pi - rotor) / inertia
    bracket = cross(pi, cross(pi, pi / inertia))
    rate[:, :3] = cross(pi, omega) - system.strength(Friction) * pi + torque
    rate[:, :3] += system.strength(DoubleBracket) * bracket
    if "gravity_direction" in names:
        at = channels(system, "gravity_direction", 3)
        weight = state.new_tensor(system.vector(Gravity)).expand_as(pi)
        rate[:, :3] += cross(state[:, at], weight)
        rate[:, at] = cross(state[:, at], omega)
    if "attitude" in names:
        rows = attitude_of(system, state)
        turning = cross(rows, omega[:, None].expand_as(rows))
        rate[:, channels(system, "attitude", 9)] = turning.flatten(1)
    return rate


def integrated(system: RigidBody, state: Tensor, time: float) -> Tensor:
    """Return the states at `time` by DOP853 at its tightest tolerance."""
    shape = (len(state), state.shape[1])

    def rate(_: float, flat: np.ndarray) -> np.ndarray:
        return equation(system, torch.from_numpy(flat).reshape(shape)).numpy().ravel()

    done = solve_ivp(
        rate, (0.0, time), state.numpy().ravel(), method="DOP853",
        rtol=2.3e-14, atol=1e-15, max_step=0.02,
    )  # fmt: skip
    return torch.from_numpy(done.y[:, -1].copy()).reshape(state.shape)
