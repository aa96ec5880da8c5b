"""Two-dimensional flow: exact solutions, order, symmetries, budgets, refusals."""

import math

import numpy as np
import pytest
import torch
from helpers import observed_order, relative_defect, relative_difference
from torch import Tensor

from pde_sym.errors import InputError, SimulationError
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import GroupElement, point_group
from pde_sym.simulate import simulate
from pde_sym.symmetry import act
from pde_sym.systems.flow import Flow
from pde_sym.systems.flow_dynamics import Medium, spectrum_of
from pde_sym.systems.flow_initial import (
    DoubleShearLayer,
    RandomVorticity,
    state_of_vorticity,
)
from pde_sym.systems.flow_solver import FlowSolver, StepBound

GRID = PeriodicGrid.square(32)
NOTHING = torch.zeros(1, 0, *GRID.shape, dtype=torch.float64)
DT = Flow.default_dt


def states(
    grid: PeriodicGrid = GRID, count: int = 2, mean: float = 0.7, seed: int = 1
) -> Tensor:
    rng = np.random.default_rng(seed)
    law = RandomVorticity(mean=mean)
    return torch.from_numpy(np.stack([law.sample(grid, rng) for _ in range(count)]))


def flow(viscosity: float = 1e-3, dt: float = DT, steps: int | None = None):
    return FlowSolver(Flow(viscosity=viscosity), GRID, NOTHING, dt, steps)


def shell(grid: PeriodicGrid, time: float, viscosity: float, mean: tuple[float, float]):
    """Return the exact flow of modes with ``|m|^2 = 25``, carried by a mean flow."""
    x, y = (
        2 * np.pi * (points - speed * time) / length
        for points, speed, length in zip(grid.mesh(), mean, grid.lengths, strict=True)
    )
    omega = 3 * np.cos(5 * x) - 2 * np.sin(5 * y) + 4 * np.cos(3 * x + 4 * y + 0.3)
    omega = omega + 5 * np.sin(4 * x - 3 * y - 1.0)
    square = 25 * (2 * np.pi / grid.lengths[0]) ** 2
    decayed = omega * math.exp(-viscosity * square * time)
    return torch.from_numpy(state_of_vorticity(grid, decayed, mean))[None]


@pytest.mark.parametrize("mean", [(0.0, 0.0), (0.8, -0.35)])
def test_modes_of_one_wavelength_are_exact(mean: tuple[float, float]) -> None:
    nu, dt, frames = 1e-3, 0.1, 5
    step = flow(nu, dt)
    state = shell(GRID, 0.0, nu, mean)
    for _ in range(frames):
        state = step(state)
    assert relative_difference(state, shell(GRID, frames * dt, nu, mean)) <= 1e-11
    wrong = shell(GRID, frames * dt, 1.01 * nu, mean)
    assert relative_difference(state, wrong) >= 1e-3


def test_order_four() -> None:
    start, dt = states(), 0.05
    exact = flow(dt=dt, steps=256)(start)
    counts = [16, 24, 32, 48]
    errors = [
        relative_difference(flow(dt=dt, steps=n)(start)[:, 2], exact[:, 2])
        for n in counts
    ]
    order = observed_order([dt / n for n in counts], errors)
    assert order == pytest.approx(4.0, abs=0.3)


@pytest.mark.parametrize("resolution", [32, 64])
def test_a_frame_is_accurate_by_default(resolution: int) -> None:
    grid = PeriodicGrid.square(resolution)
    start, nothing = states(grid), torch.zeros(1, 0, *grid.shape)
    found = Flow().solver(grid, nothing, DT)(start)
    exact = FlowSolver(Flow(), grid, nothing, DT, steps=100)(start)
    assert relative_difference(found[:, 2], exact[:, 2]) <= 1e-6
    changed = relative_difference(found[:, 2], start[:, 2])
    assert 0.02 <= changed <= 0.3


ELEMENTS = [
    *point_group("D4"),
    GroupElement(shift=(0.25, 0.5)),
    GroupElement(shift=(0.1234, 0.777)),
    GroupElement(3, True, (0.31, 0.0571)),
]


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda g: g.name)
def test_the_intact_flow_commutes_with_every_motion(element: GroupElement) -> None:
    step = flow(dt=4 * DT)
    assert relative_defect(step, states(), element, Flow().fields, GRID) <= 1e-12


def test_a_step_from_the_grid_maximum_would_break_shifts() -> None:
    start, element = states(count=1, mean=0.0), GroupElement(shift=(0.1234, 0.777))
    moved = act(element, start, Flow().fields, GRID)
    speeds = [float(state[0, :2].abs().sum(0).max()) for state in (start, moved)]
    # A whole number of steps lies between what the two maxima ask for.
    dt = 8 * 0.7 / (spectrum_of(GRID).largest * sum(speeds) / 2)
    steps = [math.ceil(8 * 2 * speed / sum(speeds)) for speed in speeds]
    assert abs(steps[0] - steps[1]) == 1
    ends = [
        flow(dt=dt, steps=number)(state)
        for number, state in zip(steps, (start, moved), strict=True)
    ]
    exact = act(element, ends[0], Flow().fields, GRID)
    assert relative_difference(ends[1], exact) >= 1e-8
    assert relative_defect(flow(dt=dt), start, element, Flow().fields, GRID) <= 1e-12


def test_galilei_boost_is_an_exact_shift() -> None:
    start, dt = states(), 0.03
    column = torch.tensor([3.1, -1.7, 0.0], dtype=torch.float64)[:, None, None]
    moved = GroupElement(shift=(3.1 * dt, -1.7 * dt))
    exact = act(moved, flow(dt=dt)(start), Flow().fields, GRID) + column
    assert relative_difference(flow(dt=dt)(start + column), exact) <= 1e-12
    wrong = act(
        GroupElement(shift=(3.1 * dt, 0)), flow(dt=dt)(start), Flow().fields, GRID
    )
    assert relative_difference(flow(dt=dt)(start + column), wrong + column) >= 1e-2


def test_fields_are_consistent() -> None:
    """div u = 0 and w = curl u in what is drawn and what comes out."""
    s = spectrum_of(GRID)
    for state in (states(), flow()(states())):
        u, v, w = s.forward(state).unbind(1)
        assert s.inverse(s.ikx * u + s.iky * v).abs().max() <= 1e-12 * w.abs().sum()
        assert s.inverse(s.ikx * v - s.iky * u - w).abs().max() <= 1e-10
        assert (s.kept * w - w).abs().max() <= 1e-13


def test_the_derived_vorticity_is_not_read() -> None:
    start = states()
    other = start.clone()
    other[:, 2] = 7.0
    assert torch.equal(flow()(start), flow()(other))


def test_completing_a_state_derives_the_vorticity_from_the_velocity() -> None:
    start = states()
    found = Flow().complete(start[:, :2], GRID)
    assert relative_difference(found, start) <= 1e-13
    assert torch.equal(found[:, :2], start[:, :2])
    single = Flow().complete(start[:, :2].float(), GRID)
    assert single.dtype == torch.float32
    assert relative_difference(single.double(), start) <= 1e-6
    with pytest.raises(InputError, match=r"prognostic channels \(..., 2, 32, 32\)"):
        Flow().complete(start, GRID)


def test_completing_commutes_with_every_motion_for_any_velocity() -> None:
    """A surrogate's velocity is neither band-limited nor free of divergence."""
    given = torch.randn(2, 2, *GRID.shape, dtype=torch.float64)
    for g in point_group("D4"):
        defect = relative_defect(
            lambda u: Flow().complete(u, GRID),
            given, g, Flow().fields.prognostic(), GRID, Flow().fields,
        )  # fmt: skip
        assert defect <= 1e-13
    # The highest modes count: the curl is not that of the solver's projection.
    kept = spectrum_of(GRID)
    curl = Flow().complete(given, GRID)[:, 2]
    projected = kept.inverse(kept.kept * kept.forward(curl))
    assert relative_difference(projected, curl) >= 0.1


@pytest.mark.parametrize("viscosity", [1e-3, 0.0])
def test_budgets_close(viscosity: float) -> None:
    system = Flow(viscosity=viscosity)
    run = simulate(system, GRID, states(), NOTHING, dt=DT, num_frames=6)
    for name, tolerance in (("energy", 1e-9), ("enstrophy", 1e-8)):
        value = run.invariants[name]
        change = value - value[:, :1]
        residual = (change - run.budgets[name]).abs().max() / value.max()
        assert residual <= tolerance
        if viscosity:
            assert change.abs().min(dim=0).values[1:].min() >= 1e-3
            assert (change.diff(dim=1) < 0).all()
        else:
            assert (run.budgets[name] == 0).all()
    for name in ("momentum_x", "momentum_y"):
        value = run.invariants[name]
        assert value.abs().min() >= 0.01
        assert (value - value[:, :1]).abs().max() <= 1e-14


def test_a_trajectory_does_not_depend_on_its_batch() -> None:
    start = states(count=3)
    together, budgets = flow().step(start)
    for i in range(3):
        alone, budget = flow().step(start[i : i + 1])
        assert torch.equal(together[i], alone[0])
        for name in budget:
            assert torch.equal(budgets[name][i], budget[name][0])


def test_the_sums_of_amplitudes_bound_speed_and_strain() -> None:
    """And do not change under shifts off the grid, as maxima on the grid do."""
    s, state = spectrum_of(GRID), states(count=1, mean=0.0)
    element = GroupElement(shift=(0.1234, 0.777))
    modes, moved = (
        s.decompose(u) for u in (state, act(element, state, Flow().fields, GRID))
    )
    u, v = s.velocity_of(modes.omega, modes.mean).unbind(1)
    gradient = s.inverse(torch.stack([s.ikx * u, s.iky * u, s.ikx * v, s.iky * v], 1))
    ((speed, strain, mean, *_),) = s.amplitudes(modes)
    largest = [float(f.abs().sum(1).max()) for f in (state[:, :2], gradient)]
    assert largest[0] <= speed <= 10 * largest[0]
    assert largest[1] <= 2 * strain <= 20 * largest[1]
    assert mean <= 1e-14
    assert s.amplitudes(moved)[0][:2] == pytest.approx((speed, strain), rel=1e-13)


def test_a_fast_flow_takes_more_steps() -> None:
    s = spectrum_of(GRID)
    slow, fast = (states(count=1)[0], 3 * states(count=1)[0])
    rates = [
        StepBound(Medium(1e-3), s)(s.amplitudes(s.decompose(x[None]))[0], DT)
        for x in (slow, fast)
    ]
    assert rates[1] == pytest.approx(3 * rates[0])


@pytest.mark.parametrize("dt", [0.0, -1.0, math.nan, math.inf])
def test_a_frame_has_a_positive_length(dt: float) -> None:
    with pytest.raises(SimulationError, match="dt must be a positive number"):
        flow(dt=dt)


def test_a_foreign_environment_is_refused() -> None:
    with pytest.raises(InputError, match="expected an environment"):
        Flow().solver(GRID, torch.zeros(1, 1, *GRID.shape), DT)
    line = PeriodicGrid(shape=(32,), lengths=(1.0,))
    with pytest.raises(InputError, match="expected an environment"):
        Flow().solver(line, torch.zeros(1, 0, 32), DT)


@pytest.mark.parametrize(
    "law", [RandomVorticity(mean=1.0), DoubleShearLayer(sharpness=8.0)]
)
def test_a_draw_is_one_function_on_every_grid(
    law: RandomVorticity | DoubleShearLayer,
) -> None:
    fine, coarse = (
        law.sample(PeriodicGrid.square(n), np.random.default_rng(3)) for n in (128, 64)
    )
    # The kink of the shear layer where its branches meet is not band-limited.
    tolerance = 1e-12 if isinstance(law, RandomVorticity) else 0.2
    assert np.abs(fine[:, ::2, ::2] - coarse).max() <= tolerance * np.abs(fine).max()
    assert (
        np.abs(fine - law.sample(PeriodicGrid.square(128), np.random.default_rng(4)))[
            0
        ].max()
        > 0.1
    )


def test_a_draw_has_the_speed_that_was_asked_for() -> None:
    drawn = RandomVorticity(speed=2.5).sample(GRID, np.random.default_rng(0))
    assert np.mean(drawn[0] ** 2 + drawn[1] ** 2) == pytest.approx(2.5**2, rel=1e-12)
    assert np.abs(drawn[:2].mean((1, 2))).max() <= 1e-14


def test_modes_beyond_the_two_thirds_are_refused() -> None:
    with pytest.raises(InputError, match=r"the solver keeps modes below 5\.33"):
        RandomVorticity(modes=6).sample(
            PeriodicGrid.square(16), np.random.default_rng(0)
        )
    RandomVorticity(modes=5).sample(PeriodicGrid.square(16), np.random.default_rng(0))


def test_own_vorticity(tmp_path) -> None:
    omega = np.random.default_rng(0).standard_normal((2, *GRID.shape))
    path = tmp_path / "omega.npy"
    np.save(path, omega)
    law = RandomVorticity.parse({"field": str(path)}, where="initial")
    drawn = law.sample(GRID, np.random.default_rng(0), 1)
    s = spectrum_of(GRID)
    given = s.kept * s.forward(torch.from_numpy(omega[1]))
    given[0, 0] = 0
    assert (s.forward(torch.from_numpy(drawn[2])) - given).abs().max() <= 1e-14
