"""What a user gives to the flow: own arrays, and what is refused in one line."""

import numpy as np
import pytest
from helpers import drawn_environment

from pde_sym.errors import InputError
from pde_sym.grid import PeriodicGrid
from pde_sym.systems.flow import Flow
from pde_sym.systems.flow_solver import FlowSolver
from pde_sym.systems.flow_terms import (
    FlowTerm,
    Kolmogorov,
    Obstacle,
    Topography,
    Viscosity,
)

GRID = PeriodicGrid.square(16)


def solver(*terms: FlowTerm) -> FlowSolver:
    system = Flow(breaking=terms, viscosity=1e-3)  # type: ignore[arg-type]
    return FlowSolver(system, GRID, drawn_environment(system, GRID), 0.02)


def own(tmp_path, values: np.ndarray) -> str:
    path = tmp_path / "own.npy"
    np.save(path, values)
    return str(path)


def test_own_patterns(tmp_path) -> None:
    values = np.random.default_rng(0).uniform(size=GRID.shape)
    path = own(tmp_path, values)
    rng = np.random.default_rng(0)
    topography = Topography.parse({"field": path, "strength": 1.0}, where="t")
    assert np.abs(topography.pattern(GRID, rng) - values + values.mean()).max() == 0
    obstacle = Obstacle.parse({"field": path, "strength": 1.0}, where="t")
    assert np.array_equal(obstacle.pattern(GRID), values)
    viscosity = Viscosity.parse({"field": path, "strength": 1.0}, where="t")
    assert np.array_equal(viscosity.pattern(GRID), values)
    for term in (topography, obstacle, viscosity):
        assert len(term.survivors.point) == 1
        assert not term.survivors.translations


def test_a_negative_viscosity_is_refused(tmp_path) -> None:
    values = -np.ones(GRID.shape)
    values[0, 0] = 1.0
    term = Viscosity.parse({"field": own(tmp_path, values), "strength": 1.5}, where="t")
    with pytest.raises(
        InputError, match=r"viscosity must be > 0, got -0\.0005"
    ) as told:
        solver(term)
    assert "\n" not in str(told.value)
    solver(term.model_copy(update={"strength": 0.5}))


def test_an_unstable_viscosity_is_refused() -> None:
    with pytest.raises(InputError, match="viscosity: Input should be greater than"):
        Flow.parse({"viscosity": -1e-3}, where="system")
    with pytest.raises(InputError, match="needs a viscosity above 0"):
        Flow.parse({"viscosity": 0, "breaking": [{"kind": "viscosity"}]}, where="s")


def test_an_obstacle_that_leaves_no_fluid_is_refused(tmp_path) -> None:
    covering = Obstacle.parse(
        {"field": own(tmp_path, np.ones(GRID.shape)), "strength": 1.0}, where="t"
    )
    with pytest.raises(InputError, match="obstacle: it covers the domain") as told:
        solver(covering)
    assert "\n" not in str(told.value)
    beyond = Obstacle.parse(
        {"field": own(tmp_path, 2 * np.eye(GRID.shape[0])), "strength": 1.0}, where="t"
    )
    with pytest.raises(InputError, match="expected 0 <= chi <= 1, got 0 to 2"):
        solver(beyond)


def test_a_force_that_the_grid_does_not_hold_is_refused() -> None:
    solver(Kolmogorov(strength=1.0, mode=5))
    with pytest.raises(InputError, match="the solver keeps modes below"):
        solver(Kolmogorov(strength=1.0, mode=6))


def test_each_term_at_most_once() -> None:
    with pytest.raises(InputError, match="at most once"):
        Flow.parse({"breaking": [{"kind": "drag"}, {"kind": "drag"}]}, where="system")


@pytest.mark.parametrize("term", Flow.terms, ids=lambda t: t.__name__)
@pytest.mark.parametrize("strength", [-1e-3, 1.1e4, float("nan"), float("inf")])
def test_a_strength_beyond_its_range_is_refused(
    term: type[FlowTerm], strength: float
) -> None:
    kind = term.model_fields["kind"].default
    values = {"breaking": [{"kind": kind, "strength": strength}]}
    with pytest.raises(InputError, match=f"{kind}.strength: Input should be") as told:
        Flow.parse(values, where="system")
    assert "\n" not in str(told.value)
    Flow.parse({"breaking": [{"kind": kind, "strength": 1.0}]}, where="system")
