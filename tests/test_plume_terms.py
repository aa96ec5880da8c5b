"""What every breaking term of the smoke plume keeps and breaks, from both sides."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import (
    drawn_environment,
    drawn_states,
    no_environment,
    observed_order,
    relative_difference,
)
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.grid import WalledGrid
from pde_sym.groups import GroupElement, point_group
from pde_sym.simulate import simulate
from pde_sym.symmetry import act
from pde_sym.systems.plume import Plume
from pde_sym.systems.plume_initial import Puffs, StillAir
from pde_sym.systems.plume_solver import PlumeSolver
from pde_sym.systems.plume_terms import (
    BuoyancyDirection,
    BuoyancyGradient,
    Inflow,
    Obstacle,
    PlumeProperty,
    PlumeTerm,
    disk_cover,
)

GRID = WalledGrid.square(20)
DT = 0.05
EXACT, BROKEN = 1e-12, 1e-4

TERMS: dict[str, Any] = {
    "up": BuoyancyDirection(strength=5.0),
    "right": BuoyancyDirection(strength=5.0, angle=0),
    "left": BuoyancyDirection(strength=5.0, angle=180),
    "diagonal": BuoyancyDirection(strength=5.0, angle=-135),
    "askew": BuoyancyDirection(strength=5.0, angle=20),
    "gradient": BuoyancyGradient(strength=8.0),
    "gradient linear": BuoyancyGradient(strength=8.0, profile="linear"),
    "gradient along lift": BuoyancyGradient(strength=8.0, along=90),
    "gradient diagonal": BuoyancyGradient(strength=8.0, angle=45, along=-45),
    "gradient askew": BuoyancyGradient(strength=8.0, along=45, profile="linear"),
    "inflow below": Inflow(strength=5.0),
    "inflow right": Inflow(strength=5.0, x=0.8, y=0.5),
    "inflow middle": Inflow(strength=5.0, y=0.5),
    "inflow diagonal": Inflow(strength=5.0, x=0.7, y=0.3),
    "inflow aside": Inflow(strength=5.0, x=0.7, y=0.2),
    "obstacle": Obstacle(strength=0.2),
    "obstacle left": Obstacle(strength=0.2, x=0.3),
    "obstacle aside": Obstacle(strength=0.2, x=0.3, y=0.6),
}
KEPT = {
    "up": {"e", "flip, turn 180"},
    "right": {"e", "flip y"},
    "left": {"e", "flip y"},
    "diagonal": {"e", "flip, turn 90"},
    "askew": {"e"},
    "gradient": {"e", "turn 180"},
    "gradient linear": {"e", "turn 180"},
    "gradient along lift": {"e", "turn 180", "flip y", "flip, turn 180"},
    "gradient diagonal": {"e", "turn 180"},
    "gradient askew": {"e", "turn 180"},
    "inflow below": {"e", "flip, turn 180"},
    "inflow right": {"e", "flip y"},
    "inflow middle": {g.name for g in point_group("D4")},
    "inflow diagonal": {"e", "flip, turn 270"},
    "inflow aside": {"e"},
    "obstacle": {g.name for g in point_group("D4")},
    "obstacle left": {"e", "flip y"},
    "obstacle aside": {"e"},
}
ELEMENTS = point_group("D4").elements
LAW = Puffs(modes=3, count=4, largest=0.2)


def plume(*terms: PlumeTerm, viscosity: float = 0.0) -> Plume:
    return Plume(breaking=terms, viscosity=viscosity)  # type: ignore[arg-type]


def solver(system: Plume, steps: int | None = None, dt: float = DT) -> PlumeSolver:
    return PlumeSolver(system, GRID, drawn_environment(system, GRID), dt, steps)


def defect(phi: PlumeSolver, state: Tensor, element: GroupElement) -> float:
    turned = act(element, state, Plume.fields, GRID)
    return relative_difference(
        phi(turned), act(element, phi(state), Plume.fields, GRID)
    )


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("element", ELEMENTS, ids=lambda g: g.name)
def test_surviving_subgroup(name: str, element: GroupElement) -> None:
    """Phi(g u) = g Phi(u) to round-off if and only if g survives."""
    system = plume(TERMS[name])
    found = defect(solver(system), drawn_states(LAW, GRID), element)
    survives = element in system.survivors
    assert survives == (element.name in KEPT[name])
    if survives:
        assert found <= EXACT
    else:
        assert found >= BROKEN


def test_together_they_leave_what_all_leave() -> None:
    system = plume(TERMS["up"], TERMS["inflow below"], TERMS["obstacle"])
    assert system.survivors.name == "{e; flip, turn 180}"
    assert plume(TERMS["up"], TERMS["gradient"]).survivors.name == "C1"
    state = drawn_states(LAW, GRID)
    for element in ELEMENTS:
        found = defect(solver(system), state, element)
        assert (found <= EXACT) == (element in system.survivors)


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda g: g.name)
def test_moving_the_environment_too_restores_the_symmetry(
    element: GroupElement,
) -> None:
    names = ("askew", "gradient askew", "inflow aside", "obstacle aside")
    system = plume(*(TERMS[name] for name in names), viscosity=1e-3)
    state, environment = drawn_states(LAW, GRID), drawn_environment(system, GRID)
    spec = system.environment_fields
    assert spec.names == ("lift", "inflow", "obstacle")
    moved = act(element, environment, spec, GRID)
    before = PlumeSolver(system, GRID, moved, DT)(
        act(element, state, Plume.fields, GRID)
    )
    after = PlumeSolver(system, GRID, environment, DT)(state)
    expected = act(element, after, Plume.fields, GRID)
    assert relative_difference(before, expected) <= EXACT
    assert element in system.joint_survivors
    if element != GroupElement():
        assert defect(solver(system), state, element) >= BROKEN


@pytest.mark.parametrize(
    "name", ["askew", "gradient askew", "inflow aside", "obstacle aside"]
)
def test_strength_zero_is_the_intact_plume_bit_for_bit(name: str) -> None:
    state = drawn_states(LAW, GRID)
    intact = simulate(
        plume(viscosity=1e-3), GRID, state, no_environment(GRID), dt=DT, num_frames=4
    )
    term = TERMS[name].model_copy(update={"strength": 0.0})
    system = plume(term, viscosity=1e-3)
    environment = drawn_environment(system, GRID)
    without = simulate(system, GRID, state, environment, dt=DT, num_frames=4)
    assert torch.equal(without.states, intact.states)
    for invariant, budget in intact.budgets.items():
        assert torch.equal(without.budgets[invariant], budget)
    assert system.survivors == plume().survivors
    assert system.properties == frozenset(PlumeProperty)
    assert not torch.equal(solver(plume(TERMS[name], viscosity=1e-3))(state), state)


@pytest.mark.parametrize("name", ["askew", "gradient askew", "inflow aside"])
def test_defect_is_linear_in_the_strength(name: str) -> None:
    """By regression over strengths, with the number of steps held."""
    state, element = drawn_states(LAW, GRID), GroupElement(1)
    strengths, found = [0.0125, 0.025, 0.05, 0.1], []
    for strength in strengths:
        term = TERMS[name].model_copy(update={"strength": strength})
        found.append(defect(solver(plume(term), steps=6), state, element))
    assert observed_order(strengths, found) == pytest.approx(1, abs=0.05)


# Properties -------------------------------------------------------------------------


def holds(system: Plume, which: PlumeProperty) -> bool:
    """Return whether a property is seen on states at rest and in motion."""
    moving = solver(system)(drawn_states(LAW, GRID))
    still = moving.clone()
    still[:, 1:] = 0.0
    state = torch.cat([moving, still])
    after = solver(system)(state)
    if which is PlumeProperty.SMOKE:
        change = after[:, 0].sum((-2, -1)) / state[:, 0].sum((-2, -1)) - 1
        return bool((change.abs() <= 1e-12).all())
    if which is PlumeProperty.BOUNDS:
        # A clear sky and a full one have nowhere to go.
        flat = torch.cat([state, state])
        flat[: len(state), 0], flat[len(state) :, 0] = 0.0, 1.0
        end = solver(system)(flat)[:, 0]
        return bool((end - flat[:, 0]).abs().max() <= 1e-12)
    if which is PlumeProperty.PASSIVE:
        scaled = state.clone()
        scaled[:, 0] = 2 * state[:, 0] + OFFSET
        end = solver(system)(scaled)
        same_flow = torch.equal(end[:, 1:], after[:, 1:])
        expected = 2 * after[:, 0] + OFFSET
        return same_flow and bool((end[:, 0] - expected).abs().max() <= 1e-12)
    none = no_environment(GRID)
    energy = [system.measure(u, GRID, none)["energy"] for u in (state, after)]
    return bool((energy[1] <= energy[0] + 1e-12).all())


OFFSET = 0.2


@pytest.mark.parametrize("which", list(PlumeProperty))
@pytest.mark.parametrize("name", [None, "up", "gradient", "inflow below", "obstacle"])
def test_properties(name: str | None, which: PlumeProperty) -> None:
    system = plume(*([TERMS[name]] if name else []))
    assert holds(system, which) == (which in system.properties)


# Environments -----------------------------------------------------------------------


def test_lift_is_the_sum_of_its_terms() -> None:
    """``eps s e + eps' h(x) s e``, as 0.1 on the left and 0.2 on the right."""
    system = plume(BuoyancyDirection(strength=0.15), BuoyancyGradient(strength=0.1))
    lift = system.sample_environment(GRID, np.random.default_rng(0))
    assert lift.shape == (2, 20, 20)
    assert not lift[0].any()
    np.testing.assert_allclose(lift[1, :10], 0.1, rtol=1e-14)
    np.testing.assert_allclose(lift[1, 10:], 0.2, rtol=1e-14)
    linear = BuoyancyGradient(strength=1.0, profile="linear", along=180)
    x, _ = GRID.mesh()
    np.testing.assert_allclose(linear.pattern(GRID)[1], 0.5 - x, atol=1e-14)


def test_odd_grids_have_a_middle_without_gradient() -> None:
    h = BuoyancyGradient(strength=1.0).pattern(WalledGrid.square(9))[1]
    assert h[:, 0].tolist() == [-0.5] * 4 + [0.0] + [0.5] * 4


def test_disks_have_their_area_and_place() -> None:
    sizes, errors = [16, 32, 64, 128], []
    for n in sizes:
        grid = WalledGrid.square(n, 2.0)
        cover = disk_cover(grid, (0.4, 0.7), 0.2)
        x, y = grid.mesh()
        area = np.pi * 0.4**2
        errors.append(abs(cover.sum() * grid.cell_volume - area) / area)
        assert (cover * x).sum() / cover.sum() == pytest.approx(0.8, abs=0.02)
        assert (cover * y).sum() / cover.sum() == pytest.approx(1.4, abs=0.02)
    assert errors[-1] < 2e-3
    assert errors[0] < 0.1


def test_solid_cells_are_those_in_the_disk() -> None:
    solid = Obstacle(strength=0.25, x=0.3).pattern(GRID)
    x, y = GRID.mesh()
    inside = np.hypot(x - 0.3, y - 0.5) < 0.25
    np.testing.assert_array_equal(solid, inside)
    assert solid.mean() == pytest.approx(np.pi / 16, rel=0.1)


def test_inflows_at_random_places() -> None:
    """Each environment has its own, uniform in the range, that stays in the box."""
    term = Inflow(strength=2.0, x=0.5, y=0.3, radius=0.05, spread_x=0.4, spread_y=0.1)
    system, rng = plume(term), np.random.default_rng(0)
    drawn = np.stack([system.sample_environment(GRID, rng)[0] for _ in range(200)])
    x, y = GRID.mesh()
    weights = drawn / drawn.sum((1, 2), keepdims=True)
    places = np.stack([(weights * c).sum((1, 2)) for c in (x, y)])
    assert places[0].min() < 0.2 < 0.8 < places[0].max()
    assert 0.19 < places[1].min() < places[1].max() < 0.41
    assert system.survivors.name == "C1"
    assert Inflow(strength=2.0).survivors.name == "{e; flip, turn 180}"
    assert drawn.max() == pytest.approx(2.0)


def test_turned_environments_are_turns_of_each_other() -> None:
    """Inflow and lift turn together; the strength differs from turn to turn."""
    names = {"imbalance": 0.5, "turned": True}
    direction = BuoyancyDirection(strength=2.0, **names)  # type: ignore[arg-type]
    system = plume(direction, Inflow(strength=3.0), Obstacle(strength=0.1, y=0.7))
    plain = plume(
        BuoyancyDirection(strength=2.0),
        Inflow(strength=3.0),
        Obstacle(strength=0.1, y=0.7),
    )
    base, spec = drawn_environment(plain, GRID)[0], plain.environment_fields
    expected = [act(GroupElement(k), base, spec, GRID) for k in range(4)]
    for k in range(4):
        expected[k][:2] *= 1 + 0.5 * (2 * k / 3 - 1)
    rng, seen = np.random.default_rng(1), []
    for _ in range(20):
        drawn = torch.from_numpy(system.sample_environment(GRID, rng))
        gaps = [float((drawn - e).abs().max()) for e in expected]
        assert min(gaps) <= 1e-14
        seen.append(int(np.argmin(gaps)))
    assert set(seen) == {0, 1, 2, 3}
    assert sorted(float(e[:2].abs().max()) for e in expected) == pytest.approx(
        [1.0, 5 / 3, 7 / 3, 3.0]
    )
    assert system.survivors.name == "C1"


def test_the_rotation_experiment() -> None:
    """Plumes in four directions are turns of each other, but for the imbalance."""
    for imbalance, turned_alike in ((0.0, True), (0.3, False)):
        direction = BuoyancyDirection(strength=0.1, turned=True, imbalance=imbalance)
        system = plume(direction, Inflow(strength=0.2, radius=5 / 64))
        grid, rng = WalledGrid.square(24, 64.0), np.random.default_rng(3)
        ends: dict[int, Tensor] = {}
        while len(ends) < 4:
            environment = torch.from_numpy(system.sample_environment(grid, rng))[None]
            x, y = (
                environment[0, 2].sum(d) @ torch.arange(24.0).double() for d in (1, 0)
            )
            middle = 11.5 * environment[0, 2].sum()
            turns = (
                0 if y < middle - 1 else 2 if y > middle + 1 else 1 if x > middle else 3
            )
            still = torch.zeros(1, 3, 24, 24, dtype=torch.float64)
            done = simulate(system, grid, still, environment, dt=2.0, num_frames=6)
            ends[turns] = act(
                GroupElement(-turns), done.states[:, -1], Plume.fields, grid
            )
        gaps = [relative_difference(ends[k], ends[0]) for k in (1, 2, 3)]
        assert all((gap <= 1e-11) == turned_alike for gap in gaps)
        assert ends[0][0, 2].max() > 0.1
    assert not StillAir().sample(GRID, np.random.default_rng(0)).any()


# Own arrays -------------------------------------------------------------------------


def test_own_arrays(tmp_path: Path) -> None:
    x, y = GRID.mesh()
    pattern = np.where((x > 0.4) & (y > 0.6), x * y, 0.0)
    np.save(tmp_path / "own.npy", pattern)
    file = str(tmp_path / "own.npy")
    own = {"strength": 0.3, "field": file}
    gradient = BuoyancyGradient.parse(own, where="gradient")
    inflow = Inflow.parse(own, where="inflow")
    obstacle = Obstacle.parse(own, where="obstacle")
    for term in (gradient, inflow, obstacle):
        assert term.survivors.name == "C1"
    np.testing.assert_array_equal(gradient.pattern(GRID)[1], pattern)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(inflow.pattern(GRID, rng), pattern)
    np.testing.assert_array_equal(obstacle.pattern(GRID), pattern != 0)
    assert not Obstacle(field=obstacle.field).pattern(GRID).any()
    law = Puffs.parse({"field": file}, where="initial")
    np.testing.assert_array_equal(law.sample(GRID, rng)[0], pattern)
    np.save(tmp_path / "sink.npy", -pattern)
    sink = Inflow.parse({"field": str(tmp_path / "sink.npy")}, where="inflow")
    with pytest.raises(InputError, match="expected q >= 0"):
        sink.pattern(GRID, rng)
    with pytest.raises(InputError, match="expected shape"):
        inflow.pattern(WalledGrid.square(8), rng)
