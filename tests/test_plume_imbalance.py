"""A lift that is unequal in a way that its field does not tell, from both sides."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import drawn_environment, drawn_states, relative_difference
from torch import Tensor

from data_gen.build import build
from data_gen.recipes import Recipe
from pde_sym.errors import InputError
from pde_sym.evaluation import diagnose
from pde_sym.grid import WalledGrid
from pde_sym.groups import GroupElement, point_group
from pde_sym.seeds import Split
from pde_sym.simulate import simulate
from pde_sym.symmetry import act
from pde_sym.systems.ensemble import Ensemble
from pde_sym.systems.plume import Plume
from pde_sym.systems.plume_initial import Puffs
from pde_sym.systems.plume_solver import PlumeSolver, acting_lift
from pde_sym.systems.plume_terms import BuoyancyDirection, BuoyancyImbalance, Inflow

GRID = WalledGrid.square(20)
DT, EPS = 0.05, 0.6
LAW = Puffs(modes=3, count=4, largest=0.2)
INFLOW = Inflow(strength=5.0, x=0.4, y=0.2)
EXACT, BROKEN = 1e-12, 1e-4
ELEMENTS = point_group("D4").elements


def plume(eps: float | None, **direction: Any) -> Plume:
    """Return a plume with a turned lift, and an imbalance unless it is None."""
    lift = BuoyancyDirection(strength=5.0, turned=True, **direction)
    terms: Any = (lift, INFLOW)
    if eps is not None:
        terms = (*terms, BuoyancyImbalance(strength=eps))
    return Plume(breaking=terms, viscosity=1e-3)


def environments(system: Plume, angle: float = 0.0) -> Tensor:
    """Return one environment for each of the four turns, ``(4, 3, x, y)``."""
    plain = BuoyancyDirection(strength=5.0, angle=90.0 + angle)
    base = drawn_environment(Plume(breaking=(plain, INFLOW)), GRID)
    spec = system.environment_fields
    return torch.cat([act(GroupElement(k), base, spec, GRID) for k in range(4)])


def joint_defects(system: Plume, element: GroupElement) -> list[float]:
    """Return ``|Phi(g u, g l) - g Phi(u, l)|`` for each of the four turns."""
    state, given = drawn_states(LAW, GRID, 1).repeat(4, 1, 1, 1), environments(system)
    moved = act(element, given, system.environment_fields, GRID)
    found = PlumeSolver(system, GRID, moved, DT)(
        act(element, state, Plume.fields, GRID)
    )
    after = PlumeSolver(system, GRID, given, DT)(state)
    expected = act(element, after, Plume.fields, GRID)
    return [relative_difference(*pair) for pair in zip(found, expected, strict=True)]


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda g: g.name)
@pytest.mark.parametrize("eps", [0.0, EPS])
def test_no_joint_motion_survives(eps: float, element: GroupElement) -> None:
    """At strength 0 all do, to round-off, at any other none but the identity."""
    system = plume(eps)
    found = joint_defects(system, element)
    survives = element in system.joint_survivors
    assert survives == (eps == 0 or element == GroupElement())
    if survives:
        assert max(found) <= EXACT
    else:
        # A flip along the lift leaves it alone: of four turns it moves two.
        assert max(found) >= BROKEN
    assert plume(eps).survivors.name == "C1"


def test_half_axes_have_their_factors() -> None:
    """``1 + eps (2 k / 3 - 1)``, k quarter turns from +y; linear on half-axes."""
    system = plume(EPS)
    for k, one in enumerate(environments(system)):
        acting, factor = acting_lift(system, one[:2]), 1 + EPS * (2 * k / 3 - 1)
        torch.testing.assert_close(acting, factor * one[:2], rtol=1e-14, atol=1e-14)
    x, y = torch.randn(2, *GRID.shape, dtype=torch.float64)
    acting = acting_lift(system, torch.stack([x, y]))
    right = (1 + EPS) * x.clamp(min=0) - (1 - EPS / 3) * (-x).clamp(min=0)
    up = (1 - EPS) * y.clamp(min=0) - (1 + EPS / 3) * (-y).clamp(min=0)
    torch.testing.assert_close(acting, torch.stack([right, up]))
    torch.testing.assert_close(
        acting_lift(system, torch.stack([3 * x, 0.5 * y])),
        torch.stack([3 * right, 0.5 * up]),
    )


def test_one_law_in_two_places() -> None:
    """Hidden in the law or told by the lift, the imbalance makes the same plumes."""
    grid, start = WalledGrid.square(16), torch.zeros(1, 3, 16, 16).double()
    hidden, told, ends = plume(EPS), plume(None, imbalance=EPS), []
    rngs = [np.random.default_rng(5) for _ in range(2)]
    for _ in range(6):
        drawn = [
            torch.from_numpy(one.sample_environment(grid, rng))[None]
            for one, rng in zip((hidden, told), rngs, strict=True)
        ]
        ends = [
            simulate(one, grid, start, given, dt=DT, num_frames=3).states[:, -1]
            for one, given in zip((hidden, told), drawn, strict=True)
        ]
        assert relative_difference(*ends) <= EXACT
        lifts = [given[:, :2].abs().max() for given in drawn]
        assert lifts[0] == 5.0 != lifts[1]


def test_strength_zero_is_the_intact_plume_bit_for_bit() -> None:
    state, given = drawn_states(LAW, GRID, 4), environments(plume(None))
    runs = [
        simulate(plume(eps), GRID, state, given, dt=DT, num_frames=4)
        for eps in (None, 0.0, EPS)
    ]
    assert torch.equal(runs[0].states, runs[1].states)
    for name, budget in runs[0].budgets.items():
        assert torch.equal(runs[1].budgets[name], budget)
    assert not torch.equal(runs[0].states, runs[2].states)
    assert plume(0.0).joint_survivors == plume(None).joint_survivors
    assert plume(EPS).properties == plume(None).properties


def test_defect_is_linear_in_the_strength() -> None:
    strengths = [0.01, 0.02, 0.04]
    found = [max(joint_defects(plume(eps), GroupElement(1))) for eps in strengths]
    slope = np.polyfit(np.log(strengths), np.log(found), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("compiled", [True, False])
def test_the_energy_budget_has_the_lift_that_acts(compiled: bool) -> None:
    """With that of the drawn lift it does not close."""
    system, state = plume(EPS), drawn_states(LAW, GRID, 4)
    given = environments(system)
    after, change = PlumeSolver(system, GRID, given, DT, None, compiled).step(state)
    energy = [system.measure(u, GRID, given)["energy"] for u in (state, after)]
    gap = (energy[1] - energy[0] - change["energy"]).abs() / energy[1]
    assert float(gap.max()) <= 1e-11
    rates = [one.rates(state, GRID, given)["energy"] for one in (system, plume(None))]
    off = DT * (rates[0] - rates[1]).abs() / energy[1]
    assert float(off.min()) >= 1e-4


@pytest.mark.parametrize("eps", [0.0, EPS])
def test_evaluations_move_the_given_lift(eps: float, tmp_path: Path) -> None:
    """``diagnose`` finds round-off of float32 at strength 0, and a defect above it."""
    recipe = Recipe(
        system=plume(eps), resolution=16, frames=3, dt=DT, environment="given"
    )
    build(recipe, {Split.TRAIN: 1, Split.VALID: 0, Split.TEST: 8}, tmp_path / "data")
    found = diagnose(lambda u, given: u + given[:, :1], tmp_path / "data").defects
    assert len(found) == 7
    for one in found:
        assert one.survives == (eps == 0)
        assert one.solver is not None
        assert one.solver <= 1e-6 if eps == 0 else one.solver >= 1e-3


def test_strengths_may_vary_per_trajectory() -> None:
    system, state = plume(EPS), drawn_states(LAW, GRID, 4)
    given, strengths = environments(system), torch.tensor([0.0, EPS, 0.0, EPS])
    rows = torch.cat(
        [given, strengths.expand(1, *GRID.shape, 4).permute(3, 0, 1, 2)], 1
    )
    after = Ensemble(system, ("buoyancy_imbalance",)).solver(GRID, rows, DT)(state)
    for i, eps in enumerate(strengths.tolist()):
        own = PlumeSolver(plume(eps), GRID, given[i : i + 1], DT)(state[i : i + 1])
        assert torch.equal(after[i : i + 1], own)


@pytest.mark.parametrize(
    ("direction", "got"),
    [((), "got none"), (({"kind": "buoyancy_direction"},), "got one without")],
)
def test_it_needs_a_turned_lift(direction: tuple[Any, ...], got: str) -> None:
    values = {"breaking": [*direction, {"kind": "buoyancy_imbalance"}]}
    with pytest.raises(InputError, match=f"turned = true beside it, {got}") as error:
        Plume.parse(values, where="plume")
    assert "\n" not in str(error.value)
