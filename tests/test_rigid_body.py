"""The rigid body as a system: states, laws, the solver's accuracy and bad input."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers import observed_order, relative_difference
from pydantic import ValidationError
from rigid_bodies import (
    ALL,
    DT,
    GRID,
    NO_FIELDS,
    TERMS,
    attitude_of,
    body,
    channels,
    flow,
    integrated,
    states,
    terms_of,
)

from pde_sym.config import explain
from pde_sym.errors import InputError, SimulationError
from pde_sym.grid import PeriodicGrid
from pde_sym.simulate import rollout, simulate
from pde_sym.systems.ensemble import Ensemble
from pde_sym.systems.rigid_body import RigidBody
from pde_sym.systems.rigid_body_dynamics import joined, parts
from pde_sym.systems.rigid_body_exact import free_motion
from pde_sym.systems.rigid_body_initial import FIELDS, NearAxis, RandomSpin
from pde_sym.systems.rigid_body_rotations import applied
from pde_sym.systems.rigid_body_solver import LARGEST_TURN
from pde_sym.systems.rigid_body_splitting import COMPOSITION, split_step
from pde_sym.systems.rigid_body_terms import (
    Asymmetry,
    BodyProperty,
    DoubleBracket,
    Friction,
    Gravity,
    InertiaModulation,
    Torque,
)


def test_a_body_lists_its_own_fields_and_the_class_all_of_them() -> None:
    assert RigidBody.fields == FIELDS
    assert body(*ALL).fields == FIELDS
    plain = body(attitude=False)
    assert plain.fields.names == ("angular_momentum",)
    top = body(Gravity(), attitude=False)
    assert top.fields.names == ("angular_momentum", "gravity_direction")
    assert {i.name for i in top.invariants} <= {i.name for i in RigidBody.invariants}
    assert {i.name for i in plain.invariants} == {"casimir", "energy"}
    assert len(plain.environment_fields) == 0
    names = {f"strength_{term.kind}" for term in ALL}
    assert set(body(*ALL).scalars()) == {"I1", "I2", "I3", *names}


def test_the_body_survives_its_own_json() -> None:
    system = body(*ALL, inertia=(1.0, 1.3, 1.6))
    assert RigidBody.model_validate_json(system.model_dump_json()) == system
    assert hash(system) == hash(RigidBody.model_validate(system.model_dump()))


def test_the_grid_is_one_point_whatever_is_asked_for() -> None:
    for grid in (RigidBody.grid(64, 2.0), RigidBody.grid(1, 1.0)):
        assert grid == PeriodicGrid(shape=(1, 1, 1), lengths=(1.0, 1.0, 1.0))
    assert RigidBody.default_resolution == 1
    assert RigidBody().sample_environment(GRID, np.random.default_rng()).size == 0


@pytest.mark.parametrize("law", [RandomSpin(), NearAxis(tilt=20.0)])
def test_bodies_with_and_without_a_term_start_alike(law: RandomSpin | NearAxis) -> None:
    full, plain = body(*ALL), body(attitude=False)
    all_of_it, momentum = (states(s, 5, law=law) for s in (full, plain))
    assert torch.equal(all_of_it[:, :3], momentum)
    attitude = attitude_of(full, all_of_it)
    vertical = all_of_it[:, channels(full, "gravity_direction", 3), 0, 0, 0]
    up = applied(attitude, vertical)
    assert (up - up.new_tensor([0.0, 0.0, 1.0])).abs().max() <= 1e-15
    assert (applied(attitude.mT, vertical) - up).abs().max() >= 0.1
    phase = all_of_it[:, channels(full, "phase_cos", 2), 0, 0, 0]
    assert torch.equal(phase, phase.new_tensor([[1.0, 0.0]]).expand(5, 2))


def test_laws_draw_what_they_say() -> None:
    plain = body()
    u = states(plain, 400, law=RandomSpin(smallest=0.5, largest=0.7))[:, :, 0, 0, 0]
    size = torch.linalg.vector_norm(u[:, :3], dim=1)
    assert 0.5 <= float(size.min()) <= 0.51
    assert 0.69 <= float(size.max()) <= 0.7
    # 400 draws of variance 1/3: five standard deviations.
    direction, turns = u[:, :3] / size[:, None], attitude_of(plain, u)
    assert direction.mean(0).abs().max() <= 5 * (1 / 3 / 400) ** 0.5
    assert turns.mean(0).abs().max() <= 5 * (1 / 3 / 400) ** 0.5
    assert (turns.square().mean(0) - 1 / 3).abs().max() <= 5 * (4 / 45 / 400) ** 0.5
    for axis in (1, 2, 3):
        law = NearAxis(axis=axis, size=2.0, tilt=5.0)  # type: ignore[arg-type]
        pi = states(plain, 50, law=law)[:, :3, 0, 0, 0]
        assert (torch.linalg.vector_norm(pi, dim=1) - 2.0).abs().max() <= 1e-15
        along = 2.0 * math.cos(math.radians(5.0))
        assert (pi[:, axis - 1] - along).abs().max() <= 1e-15
        assert pi.std(0).max() >= 0.05


def test_frames_of_the_default_data_differ_as_stated() -> None:
    system = RigidBody()
    path = simulate(
        system, GRID, states(system, 64), NO_FIELDS, dt=DT, num_frames=21
    ).states.flatten(2)
    moved = torch.linalg.vector_norm(path.diff(dim=1), dim=2)
    change = moved / torch.linalg.vector_norm(path[:, 1:], dim=2)
    most = change.quantile(torch.tensor([0.1, 0.9]).double())
    assert 0.015 <= float(most[0]) <= 0.025
    assert 0.085 <= float(most[1]) <= 0.095


def test_names_do_not_depend_on_strengths() -> None:
    """So that trajectories of one data set may differ in strength."""
    for inertia in ((1.0, 1.0, 1.5), (2.0, 2.0, 1.0)):
        system = body(Asymmetry(strength=0.4), Gravity(strength=1.0), inertia=inertia)
        ensemble = Ensemble(system, ("asymmetry", "gravity"))
        u = states(system, 3)
        strengths = torch.tensor([[0.0, 0.0], [0.4, 0.0], [0.2, 0.7]]).double()
        environment = strengths[..., None, None, None]
        found, change = ensemble.solver(GRID, environment, DT).step(u)
        assert set(change) == {invariant.name for invariant in system.invariants}
        for i, row in enumerate(strengths.tolist()):
            alone, own = flow(ensemble.member((row[0], row[1]))).step(u[i : i + 1])  # type: ignore[arg-type]
            assert torch.equal(found[i], alone[0])
            assert all(torch.equal(change[k][i], v[0]) for k, v in own.items())


def test_a_racket_flips_as_the_law_of_the_middle_axis_promises() -> None:
    system = body()
    u = states(system, law=NearAxis())
    path = simulate(system, GRID, u, NO_FIELDS, dt=DT, num_frames=400).states
    assert (path[:, :, 1].amin(1) <= -0.99).all()
    stable = states(system, law=NearAxis(axis=3))
    path = simulate(system, GRID, stable, NO_FIELDS, dt=DT, num_frames=400).states
    assert (path[:, :, 2].amin(1) >= 0.99).all()


def test_free_bodies_move_exactly() -> None:
    system = body(Asymmetry(strength=0.1))
    u = states(system)
    inertia = u.new_tensor(system.moments)
    one = flow(system, 7.0)(u)
    exact = free_motion(u[:, :3, 0, 0, 0], inertia, torch.tensor(7.0))
    assert (one[:, :3, 0, 0, 0] - exact).abs().max() <= 1e-14
    many = u
    for _ in range(70):
        many = flow(system, 0.1)(many)
    assert (many - one).abs().max() <= 1e-12
    assert (one - integrated(system, u, 7.0)).abs().max() <= 1e-11


def test_composition_is_symmetric_and_consistent() -> None:
    assert COMPOSITION[::-1] == COMPOSITION
    assert math.fsum(COMPOSITION) == pytest.approx(1.0, abs=1e-15)
    for power in (3, 5, 7):
        # Necessary for order 8: one condition of each odd order.
        assert abs(math.fsum(g**power for g in COMPOSITION)) <= 1e-14


ORDERS = {
    "gravity oblique": 2.0,
    "friction": 4.0,
    "double_bracket": 4.0,
    "gyrostat oblique": 4.0,
    "inertia_modulation": 2.0,
    "torque oblique": 4.0,
    "all": 1.0,
}
"""Time over which 3 to 8 steps lie between round-off and the first error terms."""


@pytest.mark.parametrize("name", ORDERS)
def test_the_splitting_is_of_order_eight(name: str) -> None:
    """In the state and in the budgets, by regression over the step."""
    system, time = body(*terms_of(name)), ORDERS[name]
    start = parts(system, states(system))
    exact, budget = split_step(system, start, time, 24)
    counts, errors, missed = (3, 4, 6, 8), [], []
    for count in counts:
        found, change = split_step(system, start, time, count)
        errors.append(relative_difference(joined(found), joined(exact)))
        missed.append(float((change["energy"] - budget["energy"]).abs().max()))
    sizes = [1 / count for count in counts]
    assert observed_order(sizes, errors) == pytest.approx(8.0, abs=0.7)
    if BodyProperty.ENERGY not in system.properties:
        assert observed_order(sizes, missed) == pytest.approx(8.0, abs=0.7)


@pytest.mark.parametrize("name", [None, *TERMS, "all"])
def test_the_error_in_time_of_stored_data(name: str | None) -> None:
    """At default settings over 20 frames, against steps a sixteenth as long."""
    system = body(*terms_of(name))
    u = states(system)
    coarse, fine = (
        rollout(flow(system, largest_turn=turn), u, 20)
        for turn in (LARGEST_TURN, LARGEST_TURN / 16)
    )
    assert (coarse - fine).abs().max() <= 1e-10
    if not system.is_free:
        rough = rollout(flow(system, 20 * DT, largest_turn=1e3), u, 1)
        assert (rough[:, 1] - fine[:, 20]).abs().max() >= 1e-7


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", [None, "all"])
def test_a_trajectory_does_not_depend_on_its_batch(
    name: str | None, compiled: bool
) -> None:
    system = body(*terms_of(name))
    u = states(system, 11)
    u[3, :3] *= 5  # another number of steps than its neighbours
    phi = flow(system, compiled=compiled)
    together, change = phi.step(u)
    for i in range(len(u)):
        alone, own = phi.step(u[i : i + 1])
        assert torch.equal(alone[0], together[i])
        for key, value in own.items():
            assert torch.equal(value[0], change[key][i])


def test_round_sizes_take_as_many_steps_as_their_turned_copies() -> None:
    """One step is just enough at |Pi| = 1 here; round-off must not double it."""
    system = body(DoubleBracket(strength=1.0), inertia=(1.0, 1.5, 2.0))
    u = states(system, law=RandomSpin(smallest=1.0, largest=1.0))
    phi = flow(system, dt=4.0, largest_turn=4.0)
    longer, longest = u.clone(), u.clone()
    longer[:, :3] *= 1 + 2**-50
    longest[:, :3] *= 1 + 1e-8
    assert relative_difference(phi(longer), phi(u)) <= 1e-13
    assert relative_difference(phi(longest), phi(u)) >= 1e-7


@pytest.mark.parametrize("name", [None, *TERMS, "all"])
def test_gradients_agree_with_differences(name: str | None) -> None:
    """Through a frame, in every component of the state."""
    system = body(*terms_of(name))
    u = states(system, 1).requires_grad_()
    assert torch.autograd.gradcheck(
        flow(system), (u,), atol=1e-6, rtol=1e-6, fast_mode=True
    )


def test_gradients_at_rest_are_finite() -> None:
    system = body(*ALL)
    u = states(system, 1)
    u[:, :3] = 0
    u.requires_grad_()
    (slope,) = torch.autograd.grad(flow(system)(u).square().sum(), u)
    assert slope.isfinite().all()


def test_states_of_less_precision_are_raised() -> None:
    system = body(*ALL)
    u = states(system).float()
    assert torch.equal(flow(system)(u), flow(system)(u.double()))


@pytest.mark.parametrize("dt", [0.0, -0.1, math.nan, math.inf])
def test_bad_frames_are_refused(dt: float) -> None:
    with pytest.raises(SimulationError, match="dt must be a positive number"):
        flow(body(), dt)


def test_bad_states_are_named() -> None:
    system = body(Gravity())
    u, phi = states(system), flow(system)
    for channel, name in ((1, "angular_momentum"), (4, "gravity_direction")):
        lost = u.clone()
        lost[2, channel] = math.nan
        with pytest.raises(SimulationError, match=f"^trajectory 2: {name} is not"):
            phi(lost)
    fast = u.clone()
    fast[1, :3] *= 1e9
    with pytest.raises(SimulationError, match=r"trajectory 1: .* turns by .* lower dt"):
        phi(fast)
    with pytest.raises(InputError, match="angular_momentum, gravity_direction, att"):
        phi(u[:, :3])
    with pytest.raises(InputError, match=r"shape \(1, 1, 1\), got \(8, 8\)"):
        system.solver(PeriodicGrid.square(8), NO_FIELDS, DT)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inertia": (1.0, 1.0, 3.0)}, "no body has the moments (1.0, 1.0, 3.0)"),
        ({"inertia": (0.0, 1.0, 1.0)}, "moments of inertia must be > 0"),
        ({"inertia": (1.0, 1.0)}, "inertia.2: Field required"),
        ({"breaking": (Asymmetry(strength=1.5),)}, "no body has the moments (1.0, 3.7"),
        (
            {"breaking": (InertiaModulation(strength=0.6),)},
            "no body has the moments (0.4, 1.5, 2.0)",
        ),
        ({"breaking": (Friction(), Friction())}, "each breaking term at most once"),
        ({"breaking": ({"kind": "friction", "strength": -1.0},)}, "greater than or"),
        ({"breaking": ({"kind": "friction", "strength": 1e9},)}, "less than or equal"),
        ({"breaking": ({"kind": "inertia_modulation", "strength": 1.0},)}, "less than"),
        (
            {"breaking": ({"kind": "torque", "direction": (0.0, 0.0, 0.0)},)},
            "a direction needs a length above 0",
        ),
        ({"breaking": ({"kind": "wind"},)}, "'wind'"),
    ],
)
def test_bad_bodies_are_refused_in_one_line(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        RigidBody.model_validate(settings)
    text = explain(caught.value)
    assert message in text
    assert "\n" not in text


def test_flat_bodies_and_the_limits_of_strength_are_allowed() -> None:
    for inertia in ((1.0, 1.0, 2.0), (0.1, 0.2, 0.1 + 0.2)):
        assert RigidBody(inertia=inertia).moments == inertia
    assert body(InertiaModulation(strength=0.5)).extreme_moments[0][0] == 0.5
    assert Torque(direction=(3.0, 0.0, 4.0)).direction == (0.6, 0.0, 0.8)


def test_laws_refuse_crossed_limits() -> None:
    with pytest.raises(ValidationError, match=r"largest=0.5 is below smallest=0.8"):
        RandomSpin(largest=0.5)


def test_strong_terms_need_more_steps_and_stay_accurate() -> None:
    system = body(
        Gravity(strength=20.0), DoubleBracket(strength=5.0), Torque(strength=5.0)
    )
    u = states(system)
    found = flow(system)(u)
    assert (found - integrated(system, u, DT)).abs().max() <= 1e-10
