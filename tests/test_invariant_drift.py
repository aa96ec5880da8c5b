"""Drift of invariants along rollouts, and what the closed-form budgets explain."""

import pytest
import torch
from helpers import drawn_environment, drawn_states, observed_order
from torch import Tensor

from pde_sym.diagnostics import invariant_drift, invariant_scale, measured_sizes
from pde_sym.grid import PeriodicGrid
from pde_sym.initial_conditions import RandomField
from pde_sym.simulate import rollout, simulate
from pde_sym.systems import Flow, Heat, KdV
from pde_sym.systems.flow_initial import RandomVorticity
from pde_sym.systems.heat import HeatTerm
from pde_sym.systems.heat_terms import Capacity, Drift, Sink, Source
from pde_sym.systems.kdv_solutions import RandomWaves

GRID = PeriodicGrid.square(12)
TIME = 0.012


def environment(system: Heat) -> Tensor:
    return drawn_environment(system, GRID)


def initial(count: int = 2) -> Tensor:
    return drawn_states(RandomField(modes=3, offset=2.0), GRID, count, seed=11)


def trajectories(system: Heat, frames: int) -> tuple[Tensor, Tensor, float]:
    """Return states at `frames` + 1 times up to the same end, environment and dt."""
    dt, given = TIME / frames, environment(system)
    run = simulate(system, GRID, initial(), given, dt=dt, num_frames=frames + 1)
    return run.states, given, dt


def test_exact_heat_keeps_its_heat() -> None:
    system = Heat()
    states, given, dt = trajectories(system, 6)
    drift = invariant_drift(system, GRID, states, given, dt)
    assert set(drift) == {"heat", "weighted_heat", "energy"}
    for name in ("heat", "weighted_heat"):
        assert drift[name].change.shape == (2, 7)
        assert drift[name].change.abs().max() <= 1e-12
        assert drift[name].explained.abs().max() <= 1e-12
    # Energy decays, and only the budget says that it should.
    assert (drift["energy"].change.diff(dim=1) < -1e-3).all()
    assert drift["energy"].change[:, -1].max() < -0.1


CASES: dict[str, HeatTerm] = {
    "heat": Sink(strength=30.0, profile="bump"),
    "weighted_heat": Sink(strength=30.0),
    "energy": Drift(strength=5.0),
    "energy with a source": Source(strength=200.0),
    "heat with a capacity": Capacity(strength=3.0),
}


@pytest.mark.parametrize("case", CASES)
def test_residuals_of_the_truth_are_of_second_order(case: str) -> None:
    """The trapezoidal rule over frames: halved frames, a quarter of the residual."""
    system, name = Heat(breaking=(CASES[case],)), case.split()[0]
    counts, residuals = [16, 32, 64], []
    for count in counts:
        states, given, dt = trajectories(system, count)
        drift = invariant_drift(system, GRID, states, given, dt)[name]
        residuals.append(float(drift.residual.abs().max()))
        # Without the budget the change is large and stays.
        assert drift.change[:, -1].abs().max() > 20 * residuals[-1]
        assert drift.change[:, -1].abs().max() > 0.01
        assert torch.equal(drift.change[:, 0], torch.zeros(2, dtype=torch.float64))
        assert torch.equal(drift.residual, drift.change - drift.explained)
    sizes = [TIME / count for count in counts]
    assert observed_order(sizes, residuals) == pytest.approx(2, abs=0.15)


def test_a_step_that_loses_heat_is_found() -> None:
    """``u -> 0.99 u``: the heat after n steps is ``0.99^n`` of it."""
    system = Heat()
    start = initial(1)
    states = rollout(lambda u: 0.99 * u, start, 5)
    drift = invariant_drift(system, GRID, states, environment(system), 1e-3)["heat"]
    sign = float(start.sum().sign())
    n = torch.arange(6, dtype=torch.float64)
    assert torch.allclose(drift.change[0], sign * (0.99**n - 1), atol=1e-12)
    assert torch.allclose(drift.residual, drift.change, atol=1e-12)


def test_the_trapezoidal_rule_by_hand() -> None:
    """A uniform sink has ``I' = -s I``: ``-s dt (I_0 + I_1) / 2`` per frame."""
    system = Heat(breaking=(Sink(strength=3.0),))
    values = torch.tensor([1.0, 4.0, 2.0], dtype=torch.float64)
    states = values.view(1, 3, 1, 1, 1).expand(1, 3, 1, 12, 12)
    drift = invariant_drift(system, GRID, states, environment(system), 0.1)["heat"]
    assert drift.change[0].tolist() == pytest.approx([0, 3, 1], abs=1e-12)
    by_hand = [0.0, -3 * 0.1 * 2.5, -3 * 0.1 * (2.5 + 3.0)]
    assert drift.explained[0].tolist() == pytest.approx(by_hand, abs=1e-12)


def test_single_precision_states_are_measured_in_double() -> None:
    system = Heat()
    states, given, dt = trajectories(system, 4)
    drift = invariant_drift(system, GRID, states.float(), given, dt)["heat"]
    assert drift.change.dtype == torch.float64
    # Rounding the states leaves the mean to about eps / sqrt(points).
    assert 0 < drift.change.abs().max() < 1e-7


def test_the_scale_is_the_root_mean_square_at_the_start() -> None:
    system = Heat()
    given, states = environment(system), initial(3)
    scale = invariant_scale(system, GRID, states, given)
    heats = states.mean((1, 2, 3)) * GRID.volume
    assert float(scale["heat"]) == pytest.approx(float(heats.square().mean().sqrt()))
    energies = states.square().mean((1, 2, 3)) / 2
    expected = float(energies.square().mean().sqrt())
    assert float(scale["energy"]) == pytest.approx(expected)
    # Zero is no scale: 1 stands in for it.
    flat = torch.zeros(2, 1, 12, 12, dtype=torch.float64)
    zero = invariant_scale(system, GRID, flat, given)
    assert {name: float(value) for name, value in zero.items()} == {
        "heat": 1.0,
        "weighted_heat": 1.0,
        "energy": 1.0,
    }


def test_an_invariant_that_cancels_is_judged_by_its_terms() -> None:
    flow, grid = Flow(), Flow.grid(16, 1.0)
    states = drawn_states(RandomVorticity(modes=3), grid, 3, seed=2)
    none = torch.empty(1, 0, *grid.shape, dtype=torch.float64)
    with torch.no_grad():
        scale = invariant_scale(flow, grid, states, none)
    for axis in "xy":
        assert flow.measure(states, grid, none)[f"momentum_{axis}"].abs().max() < 1e-14
        speed = states[:, "xy".index(axis)].abs().mean()
        assert float(scale[f"momentum_{axis}"]) == pytest.approx(float(speed))


def test_rounding_moves_an_invariant_by_at_most_epsilon_sizes() -> None:
    kdv, epsilon = KdV(), 1e-6
    grid = kdv.grid(64, 32.0)
    states = drawn_states(RandomWaves(modes=3), grid, 4, seed=3)
    none = torch.empty(1, 0, *grid.shape, dtype=torch.float64)
    values, sizes = measured_sizes(kdv, grid, states, none)
    for seed in range(3):
        signs = torch.randn(states.shape, generator=torch.manual_seed(seed)).sign()
        moved = kdv.measure(states * (1 + epsilon * signs), grid, none)
        for name, value in values.items():
            change = (moved[name] - value).abs()
            assert (change <= 1.01 * epsilon * sizes[name] + 1e-9).all(), name
    # The bound is reached where every term grows: P1 of a state above zero.
    above = states - states.min() + 1
    values, sizes = measured_sizes(kdv, grid, above, none)
    moved = kdv.measure(above * (1 + epsilon), grid, none)
    change = moved["P1"] - values["P1"]
    assert torch.allclose(change, epsilon * sizes["P1"], rtol=1e-6)


def test_a_given_scale_divides() -> None:
    system = Heat(breaking=(Sink(strength=30.0),))
    states, given, dt = trajectories(system, 4)
    own = invariant_scale(system, GRID, states[:, 0], given)
    double = {name: 2 * value for name, value in own.items()}
    plain = invariant_drift(system, GRID, states, given, dt)
    halved = invariant_drift(system, GRID, states, given, dt, double)
    for name, drift in plain.items():
        assert torch.allclose(halved[name].change, drift.change / 2, rtol=1e-12)
        assert torch.allclose(halved[name].residual, drift.residual / 2, rtol=1e-9)
