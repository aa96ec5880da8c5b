"""The smoke plume: exact solutions, orders, symmetries, and what is kept."""

import numpy as np
import pytest
import torch
from helpers import (
    drawn_environment,
    drawn_states,
    no_environment,
    observed_order,
    relative_defect,
    relative_difference,
)
from torch import Tensor

from pde_sym.fields import Field, FieldSpec
from pde_sym.grid import WalledGrid
from pde_sym.groups import GroupElement, point_group
from pde_sym.projection import Faces, Projection, faces_of
from pde_sym.simulate import rollout, simulate
from pde_sym.systems.plume import Plume
from pde_sym.systems.plume_dynamics import (
    COURANT,
    limited,
    momentum_rate,
    smoke_rate,
    upwind,
)
from pde_sym.systems.plume_initial import Puffs, velocity_of_stream
from pde_sym.systems.plume_solver import PlumeSolver
from pde_sym.systems.plume_terms import BuoyancyDirection, Inflow, Obstacle

GRID = WalledGrid.square(24)
BUSY = (
    BuoyancyDirection(strength=8.0, angle=30.0),
    Inflow(strength=4.0, x=0.4, y=0.2),
    Obstacle(strength=0.15, x=0.6, y=0.6),
)
LAW = Puffs(modes=4)


def rotating(n: int) -> tuple[Tensor, Tensor]:
    """Return Taylor and Green's vortex in a box of side 1, stored and exact.

    ``psi = sin(pi x) sin(pi y) / pi``: steady for Euler, with a smoke that is a
    function of psi; ``exp(-2 pi^2 nu t)`` with viscosity.
    """
    grid, nodes = WalledGrid.square(n), np.sin(np.pi * np.arange(n + 1) / n)
    x, y = grid.mesh()
    u = np.sin(np.pi * x) * np.cos(np.pi * y)
    exact = np.stack([u, -np.cos(np.pi * x) * np.sin(np.pi * y)])
    smoke = (np.sin(np.pi * x) * np.sin(np.pi * y)) ** 2
    stored = velocity_of_stream(grid, np.outer(nodes, nodes) / np.pi)
    return (
        torch.from_numpy(np.concatenate([smoke[None], stored]))[None],
        torch.from_numpy(np.concatenate([smoke[None], exact]))[None],
    )


# Exact solutions and orders ---------------------------------------------------------


@pytest.mark.parametrize("viscosity", [0.0, 0.02])
def test_taylor_green_vortex_at_second_order(viscosity: float) -> None:
    sizes, time, errors, smokes = [16, 32, 64], 0.4, [], []
    decay = np.exp(-2 * np.pi**2 * viscosity * time)
    for n in sizes:
        start, exact = rotating(n)
        grid = WalledGrid.square(n)
        phi = Plume(viscosity=viscosity).solver(grid, no_environment(grid), time)
        after = phi(start)
        errors.append(relative_difference(after[:, 1:], decay * exact[:, 1:]))
        smokes.append(relative_difference(after[:, :1], exact[:, :1]))
    spacing = [1 / n for n in sizes]
    assert observed_order(spacing, errors) == pytest.approx(2, abs=0.15)
    # The smoke's fluxes are of third order but where the limiter clips its maximum.
    assert 2 < observed_order(spacing, smokes) < 3
    assert errors[-1] < 1e-3
    assert smokes[-1] < 0.01


@pytest.mark.parametrize(("walls", "profile"), [("slip", np.cos), ("stick", np.sin)])
def test_viscosity_at_both_kinds_of_walls(walls: str, profile: np.ufunc) -> None:
    """``nu Lap u = -2 pi^2 nu u`` for ``sin(pi x) cos(pi y)`` and ``sin sin``."""
    wall, sizes, errors = (1.0 if walls == "slip" else -1.0), [16, 32, 64], []
    for n in sizes:
        x, y = np.arange(n + 1) / n, (np.arange(n) + 0.5) / n
        u = 1e-9 * torch.from_numpy(np.outer(np.sin(np.pi * x), profile(np.pi * y)))
        still = torch.zeros(n, n + 1, dtype=torch.float64)
        rate = momentum_rate(Faces(u, still), 0.7, wall, (1 / n, 1 / n))
        errors.append(relative_difference(rate[1:-1], -1.4 * np.pi**2 * u[1:-1]))
        wrong = momentum_rate(Faces(u, still), 0.7, -wall, (1 / n, 1 / n))
        assert relative_difference(wrong[1:-1], -1.4 * np.pi**2 * u[1:-1]) > 1
    # At a sticky wall the stencil is of order 0 in one row, the solution of order 2.
    order = observed_order([1 / n for n in sizes], errors)
    assert order == pytest.approx(2, abs=0.1)


def test_fluxes_are_third_order_upwind() -> None:
    """``(-q_0 + 5 q_1 + 2 q_2) / 6`` with the wind, its mirror image against it."""
    q = tuple(torch.tensor([value], dtype=torch.float64) for value in (1, 3, 7, 2))
    for speed, expected in ((2.0, 2 * 28 / 6), (-2.0, -2 * (-2 + 35 + 6) / 6)):
        flux = upwind(torch.tensor([speed], dtype=torch.float64), q)  # type: ignore
        assert float(flux) == pytest.approx(expected, rel=1e-15)


def test_limiter_of_koren() -> None:
    """``max(0, min(2 r, (1 + 2 r) / 3, 2)) / 2`` times the slope upstream."""
    r = torch.linspace(-3, 8, 200, dtype=torch.float64)
    for upstream in (1.0, -0.4):
        expected = upstream * ((1 + 2 * r) / 3).minimum(2 * r).clamp(0, 2) / 2
        got = limited(torch.full_like(r, upstream), r * upstream)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("lift", [0.0, 5.0])
def test_steps_are_of_third_order_in_time(lift: float) -> None:
    """Cleanly so while no limiter, which has kinks, acts on the velocity."""
    state = drawn_states(Puffs(modes=2, smallest=0.3, largest=0.4), GRID, count=1)
    terms = (BuoyancyDirection(strength=lift, angle=30.0), Inflow(strength=3.0))
    system = Plume(breaking=terms, viscosity=2e-3)
    environment = drawn_environment(system, GRID)

    def after(steps: int) -> Tensor:
        return PlumeSolver(system, GRID, environment, 0.3, steps)(state)[:, 1:]

    fine, numbers = after(480), [8, 12, 16, 24, 32, 48]
    errors = [relative_difference(after(number), fine) for number in numbers]
    slope = observed_order([1 / number for number in numbers], errors)
    assert slope == pytest.approx(3, abs=0.35 if lift else 0.05)


def test_a_slippery_wall_is_a_mirror() -> None:
    """Between two boxes side by side with mirrored contents no wall is needed."""
    n = GRID.shape[0]
    wide = WalledGrid(shape=(2 * n, n), lengths=(2.0, 1.0))
    state = drawn_states(LAW, GRID)
    mirrored = state.flip(-2) * torch.tensor([1.0, -1.0, 1.0])[:, None, None]
    both = torch.cat([state, mirrored], dim=-2)
    defects = {}
    for walls in ("slip", "stick"):
        system = Plume(walls=walls, viscosity=1e-2)
        alone = system.solver(GRID, no_environment(GRID), 0.05)(state)
        together = system.solver(wide, no_environment(wide), 0.05)(both)
        defects[walls] = relative_difference(together[..., :n, :], alone)
    assert defects["slip"] <= 1e-12
    assert defects["stick"] > 1e-3


# Symmetries -------------------------------------------------------------------------


@pytest.mark.parametrize("walls", ["slip", "stick"])
@pytest.mark.parametrize("element", point_group("D4").elements, ids=lambda g: g.name)
def test_turns_and_flips_commute_with_the_solver(
    element: GroupElement, walls: str
) -> None:
    system = Plume(walls=walls, viscosity=1e-3)  # type: ignore[arg-type]
    phi = system.solver(GRID, no_environment(GRID), 0.1)
    state = drawn_states(LAW, GRID)
    assert relative_defect(phi, state, element, Plume.fields, GRID) <= 1e-12
    assert element in system.survivors
    if element != GroupElement():
        # Points that move without their components, or components without walls.
        scalars = FieldSpec.of(*(Field(name=name) for name in "suv"))
        assert relative_defect(phi, state, element, scalars, GRID) > 1e-2
        sideways = state.roll(1, dims=-1)
        assert relative_difference(phi(sideways).roll(-1, -1), phi(state)) > 1e-2


def test_shifts_are_no_symmetry_of_the_box() -> None:
    system = Plume()
    assert not system.survivors.translations
    assert GroupElement(shift=(0.5, 0)) not in system.survivors
    assert len(system.survivors.point) == len(system.joint_survivors.point) == 8


def test_smoke_is_passive() -> None:
    """The velocity does not see it, and ``Phi(a s + c) = a Phi(s) + c``."""
    state = drawn_states(LAW, GRID)
    other = state.clone()
    other[:, 0] = -3.0 * state[:, 0] + 0.7
    phi = Plume().solver(GRID, no_environment(GRID), 0.1)
    after, changed = phi(state), phi(other)
    assert torch.equal(after[:, 1:], changed[:, 1:])
    expected = -3.0 * after[:, 0] + 0.7
    torch.testing.assert_close(changed[:, 0], expected, rtol=0, atol=1e-13)
    assert (after[:, 0] - state[:, 0]).abs().max() > 0.1


# Laws -------------------------------------------------------------------------------


def test_smoke_keeps_its_total_and_its_bounds() -> None:
    frames = rollout(
        Plume().solver(GRID, no_environment(GRID), 0.05), drawn_states(LAW, GRID), 20
    )
    smoke = frames[:, :, 0]
    total = smoke.sum((-2, -1))
    assert (total / total[:, :1] - 1).abs().max() <= 1e-13
    assert (smoke.amax((-2, -1)).diff(dim=1) <= 1e-13).all()
    assert (smoke.amin((-2, -1)).diff(dim=1) >= -1e-13).all()
    assert (smoke.amax((-2, -1))[:, -1] < 0.99 * smoke.amax((-2, -1))[:, 0]).all()


def test_too_long_a_step_leaves_the_bounds() -> None:
    """The bound on the step is what keeps them: four times it does not."""
    velocity = drawn_states(LAW, GRID)[:, 1:]
    projection = Projection(GRID)
    w = projection(faces_of(velocity[0]))
    out = (w.u[1:].abs() + w.u[:-1].abs() + w.v[:, 1:].abs() + w.v[:, :-1].abs()) / 2
    s = (torch.rand(GRID.shape, dtype=torch.float64) < 0.5).double()
    turned, d = w.mirrored, GRID.spacing[0]
    rate = smoke_rate(s, w.u, d) + smoke_rate(s.T, turned.u, d).T
    longest = COURANT * d / float(out.max())
    for factor, kept in ((1.0, True), (40.0, False)):
        after = s + factor * longest * rate
        assert bool(((after >= -1e-13) & (after <= 1 + 1e-13)).all()) is kept


def test_inflow_is_budgeted_to_round_off() -> None:
    system = Plume(breaking=BUSY, viscosity=1e-3)
    environment = drawn_environment(system, GRID)
    done = simulate(
        system, GRID, drawn_states(LAW, GRID), environment, dt=0.05, num_frames=11
    )
    change = done.invariants["smoke"] - done.invariants["smoke"][:, :1]
    assert (change - done.budgets["smoke"]).abs().max() <= 1e-13
    inflow = environment[0, system.environment_fields.slices()["inflow"]][0]
    assert float(change[0, -1]) == pytest.approx(
        0.5 * float(inflow.sum()) * GRID.cell_volume, rel=1e-12
    )


def test_an_inflow_leaves_the_obstacle_clear() -> None:
    """Where they overlap no smoke comes in, and the budget knows it."""
    terms = (Inflow(strength=4.0, x=0.4, radius=0.2), Obstacle(strength=0.2, y=0.3))
    system = Plume(breaking=terms)
    environment = drawn_environment(system, GRID)
    inflow, solid = environment[0, 0], environment[0, 1] != 0
    assert inflow[solid].sum() > 0.1 * inflow.sum()
    still = torch.zeros(1, 3, *GRID.shape, dtype=torch.float64)
    after, budget = system.solver(GRID, environment, 0.1).step(still)
    assert not after[0, 0][solid].any()
    torch.testing.assert_close(after[0, 0], 0.1 * inflow * ~solid, rtol=0, atol=1e-15)
    change = after[:, 0].sum((-2, -1)) * GRID.cell_volume
    torch.testing.assert_close(budget["smoke"], change, rtol=1e-13, atol=0)


def test_energy_never_grows_by_itself() -> None:
    rough = drawn_states(Puffs(modes=23, slope=0.0), GRID, count=3)
    for viscosity in (0.0, 1e-3, 0.3):
        system, none = Plume(viscosity=viscosity), no_environment(GRID)
        frames = rollout(system.solver(GRID, none, 0.02), rough, 20)
        energy = system.measure(frames.flatten(0, 1), GRID, none)["energy"]
        assert (energy.unflatten(0, (3, 21)).diff(dim=1) < 0).all()


def test_rates_are_what_the_solver_integrates() -> None:
    system = Plume(breaking=BUSY, viscosity=1e-2, walls="stick")
    environment, states = drawn_environment(system, GRID), drawn_states(LAW, GRID)
    phi = system.solver(GRID, environment, 0.02)
    states = phi(states)
    rates = system.rates(states, GRID, environment)
    _, change = system.solver(GRID, environment, 1e-6).step(states)
    for name, rate in rates.items():
        torch.testing.assert_close(change[name] / 1e-6, rate, rtol=1e-4, atol=1e-9)
        assert rate.abs().min() > 1e-3
