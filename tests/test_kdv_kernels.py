"""The compiled loops of KdV against the readable path, for every term."""

import math

import numpy as np
import pytest
import torch
from helpers import no_environment, relative_difference
from kdv_cases import DT, GRID, NAMES, TERMS, environment_of, flow, states, system_of
from torch import Tensor

from pde_sym.etdrk4 import Etdrk4Coefficients
from pde_sym.kernels import kdv
from pde_sym.kernels.kdv import BLOCK, LANES
from pde_sym.simulate import simulate
from pde_sym.systems import kdv_solver
from pde_sym.systems.base import Budget
from pde_sym.systems.kdv import KdV
from pde_sym.systems.kdv_dynamics import Coefficients, Modes
from pde_sym.systems.kdv_solver import KdVSolver

EQUATIONS = [*NAMES, "all"]


def equation(name: str | None) -> KdV:
    if name == "all":
        return KdV(breaking=tuple(t for n, t in TERMS.items() if " " not in n))
    return system_of(name)


def unequal(count: int) -> Tensor:
    """Return states that need different numbers of steps."""
    return states(count) * torch.linspace(0.3, 1.5, count).double()[:, None, None]


def solvers(system: KdV, environment: Tensor, **options) -> list[KdVSolver]:
    return [
        KdVSolver(system, GRID, environment, DT, compiled=compiled, **options)
        for compiled in (True, False)
    ]


@pytest.mark.parametrize("name", EQUATIONS)
def test_a_frame_agrees(name: str | None) -> None:
    system, u = equation(name), unequal(2)
    environment = environment_of(system)
    compiled, readable = solvers(system, environment)
    got, budgets = compiled.at(1).step(u)
    expected, changes = readable.at(1).step(u)
    assert relative_difference(got, expected) <= 1e-12
    for key, size in system.measure(u, GRID, environment).items():
        miss = (budgets[key] - changes[key]).abs().max()
        assert miss <= 1e-12 * size.abs().max(), key


def test_the_comparison_sees_other_strengths() -> None:
    """A strength wrong by 1e-7 is more than the two paths differ by."""
    for name in TERMS:
        term = TERMS[name]
        other = term.model_copy(update={"strength": term.strength * (1 + 1e-7)})
        system = KdV(breaking=(other,))
        compiled = KdVSolver(system, GRID, environment_of(system), DT)
        readable = solvers(system_of(name), environment_of(system_of(name)))[1]
        u = states(1)
        assert relative_difference(compiled(u), readable(u)) > 1e-12, name


@pytest.mark.parametrize("name", EQUATIONS)
def test_a_trajectory_does_not_depend_on_its_batch(name: str | None) -> None:
    """Bit for bit, wherever it stands and however many stand beside it."""
    count = BLOCK + LANES + 1
    system, u = equation(name), unequal(count)
    environment = environment_of(system).repeat(count, 1, 1)
    environment *= 1 + 1e-3 * torch.arange(count)[:, None, None]

    def step(rows: list[int]) -> tuple[Tensor, Budget]:
        return KdVSolver(system, GRID, environment[rows], DT).step(u[rows])

    whole, budgets = step(list(range(count)))
    for rows in ([0], [count - 1], [3, 1, 2], list(range(count))[::-2]):
        part, budget = step(rows)
        assert torch.equal(part, whole[rows])
        for key, values in budgets.items():
            assert torch.equal(budget[key], values[rows])
    assert len({tuple(row) for row in whole[:, 0].tolist()}) == count
    assert len(kdv._advance.signatures) == 1, "compiled twice, for other layouts"


@pytest.mark.parametrize("points", [128, 96, 27])
def test_integrals_agree(points: int, rng: np.random.Generator) -> None:
    """Of rough states of any number of points, and bit for bit in any batch."""
    grid = KdV.grid(points, 5.0)
    u = torch.from_numpy(rng.standard_normal((7, 1, points)))
    compiled = KdV().measure(u, grid, no_environment(grid))
    readable = KdV().measure(u.requires_grad_(), grid, no_environment(grid))
    part = KdV().measure(u.detach()[4:6], grid, no_environment(grid))
    for key, expected in readable.items():
        size = max(float(expected.detach().abs().max()), 1.0)
        assert (compiled[key] - expected).abs().max() <= 1e-12 * size, key
        assert torch.equal(part[key], compiled[key][4:6])


def test_rows_take_their_own_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kdv_solver, "LEAST_STEPS", 7)
    u, system = unequal(5), equation("damping")
    solver = KdVSolver(system, GRID, environment_of(system), DT)
    asked = []
    plan = solver._plan

    def noted(steps: int) -> Etdrk4Coefficients:
        asked.append(steps)
        return plan(steps)

    monkeypatch.setattr(solver._compiled, "_etdrk4", noted)
    whole = solver(u)
    assert len(asked) >= 3
    for steps in asked:
        same = KdVSolver(system, GRID, environment_of(system), DT, steps=steps)(u)
        assert sum(torch.equal(a, b) for a, b in zip(same, whole, strict=True)) >= 1


def test_gradients_go_through_the_readable_path() -> None:
    phi, u = flow(system_of("potential"), steps=20), states(1)
    u.requires_grad_()
    phi(u).square().sum().backward()
    assert u.grad is not None
    h, v = 1e-6, torch.cos(torch.arange(128).double() / 5)
    with torch.no_grad():
        ends = [phi(u + s * h * v).square().sum() for s in (1, -1)]
    slope = float((ends[0] - ends[1]) / (2 * h))
    assert float((u.grad[0, 0] * v).sum()) == pytest.approx(slope, rel=1e-6)


def test_single_precision_is_integrated_in_double() -> None:
    u = states(2).float()
    assert torch.equal(flow(KdV())(u), flow(KdV())(u.double()))


def test_what_changes_no_integral_has_no_budget() -> None:
    for name in (None, "frame"):
        system = system_of(name)
        run = simulate(
            system, GRID, states(), environment_of(system), dt=DT, num_frames=2
        )
        for key, budget in run.budgets.items():
            assert not budget.any()
            drift = run.invariants[key].diff(dim=1).abs().max()
            assert drift <= 1e-9 * run.invariants[key].abs().max()


@pytest.mark.parametrize("name", EQUATIONS)
def test_the_fewest_steps_that_are_allowed_are_stable(name: str | None) -> None:
    """Over ten frames of one; `test_kdv.py` shows the blow-up of fewer."""
    system, u = equation(name), states(1)
    environment, modes = environment_of(system), Modes(GRID)
    c, spectrum = Coefficients(system, modes, environment), modes.spectrum(u[:, 0])
    size = 2 * spectrum[:, 1:].abs().sum(-1)
    _, stable = c.stiffness(size, spectrum[:, 0].real, 10 * DT)
    steps = max(8, math.ceil(1.1 * float(stable)))
    coarse = KdVSolver(system, GRID, environment, 10 * DT, steps=steps)(u)
    fine = KdVSolver(system, GRID, environment, 10 * DT)(u)
    assert relative_difference(coarse, fine) <= 0.01
