"""The compiled loops of the rigid body: as torch, and over very many steps."""

import pytest
import torch
from rigid_bodies import (
    GRID,
    INERTIAS,
    NO_FIELDS,
    TERMS,
    attitude_of,
    body,
    flow,
    states,
    terms_of,
    unorthogonal,
)

from pde_sym.kernels.rigid_body import CompiledBody
from pde_sym.systems.rigid_body import RigidBody
from pde_sym.systems.rigid_body_initial import NearAxis
from pde_sym.systems.rigid_body_terms import (
    Asymmetry,
    Gravity,
    Gyrostat,
    InertiaModulation,
)


@pytest.mark.parametrize(
    ("inertia", "attitude"), [*((i, True) for i in INERTIAS), ("three moments", False)]
)
@pytest.mark.parametrize("name", [None, *TERMS, "all"])
def test_loops_agree_with_torch(name: str | None, inertia: str, attitude: bool) -> None:
    """In states and budgets, over one frame, to 1e-12."""
    system = body(*terms_of(name), inertia=INERTIAS[inertia], attitude=attitude)
    u = states(system, 3)
    u[0, :3] *= 3
    found, expected = (flow(system, 0.5, compiled=c).step(u) for c in (True, False))
    assert (found[0] - expected[0]).abs().max() <= 1e-12
    assert list(found[1]) == list(expected[1])
    for key, value in expected[1].items():
        assert (found[1][key] - value).abs().max() <= 1e-12, key
    if attitude:
        assert (found[0] - u).abs().max() >= 1e-2


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", [None, *TERMS, "all"])
def test_an_attitude_does_not_change_the_momentum(
    name: str | None, compiled: bool
) -> None:
    """Bit for bit, and the last of a batch reads nothing past its own fields."""
    after = []
    for attitude in (False, True):
        system = body(*terms_of(name), attitude=attitude)
        after.append(flow(system, compiled=compiled)(states(system, 3))[:, :3])
    assert torch.equal(*after)


@pytest.mark.parametrize("dt", [0.1, 10.0, 300.0])
@pytest.mark.parametrize("tilt", [0.0, 1e-10, 1e-4, 1.0, 60.0])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_the_closed_form_agrees_with_torch(axis: int, tilt: float, dt: float) -> None:
    """Near the axes and the separatrix too, and over many periods."""
    law = NearAxis(axis=axis, tilt=tilt)  # type: ignore[arg-type]
    for inertia in ((1.0, 1.5, 2.0), (2.0, 1.0, 1.0), (1.3, 2.0, 1.5)):
        terms = (Gravity(),) if dt <= 10 else ()
        system = body(*terms, inertia=inertia, attitude=dt <= 10)
        u = states(system, law=law)
        found, expected = (flow(system, dt, compiled=c)(u) for c in (True, False))
        assert (found - expected).abs().max() <= 1e-12


def test_rest_stays_rest() -> None:
    for terms in ((Gravity(),), (TERMS["double_bracket"], TERMS["friction"])):
        system = body(*terms)
        u = states(system)
        u[:, :3] = 0
        for compiled in (False, True):
            found = flow(system, compiled=compiled)(u)
            assert torch.equal(found[:, :3], u[:, :3])
            assert (found - u).abs().max() <= 1e-15


def test_loops_are_for_the_cpu_without_a_gradient() -> None:
    """And a gradient asked for does not get lost in them."""
    system = body(*terms_of("all"))
    u = states(system, 1).requires_grad_()
    assert flow(system)(u).requires_grad
    assert not flow(system)(u.detach()).requires_grad


@pytest.mark.parametrize(
    ("system", "names"),
    [
        (
            body(Gyrostat(strength=0.5), InertiaModulation(strength=0.3)),
            ("casimir", *(f"spatial_momentum_{axis}" for axis in "xyz")),
        ),
        (body(Gravity(strength=0.8)), ("vertical_norm", "vertical_momentum")),
    ],
    ids=["gyrostat that beats", "heavy top"],
)
def test_casimirs_over_a_hundred_thousand_steps(
    system: RigidBody, names: tuple[str, ...]
) -> None:
    """To round-off at steps so large that the motion itself is off."""
    u, steps = states(system), torch.full((4,), 100_000)
    end, _ = CompiledBody(system, dt=1e5).advance(u, steps)
    before, after = (system.measure(x, GRID, NO_FIELDS) for x in (u, end))
    drift = {name: float((after[name] - before[name]).abs().max()) for name in after}
    assert max(drift[name] for name in names) <= 1e-12
    assert drift["energy"] >= 1e-9
    assert unorthogonal(attitude_of(system, end)) <= 2e-15


@pytest.mark.slow
def test_invariants_of_the_free_body_over_a_hundred_thousand_frames() -> None:
    system = body(Asymmetry(strength=0.1))
    u, loops = states(system), CompiledBody(system, dt=1.0)
    end, parts = u, torch.ones(4, dtype=torch.int64)
    for _ in range(100_000):
        end, _ = loops.advance(end, parts)
    before, after = (system.measure(x, GRID, NO_FIELDS) for x in (u, end))
    for name, value in before.items():
        assert (after[name] - value).abs().max() <= 5e-12, name
