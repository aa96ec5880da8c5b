"""Budgets of every breaking term of KdV, and flows that are known with a term."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import relative_difference
from kdv_cases import (
    DT,
    EXACT,
    GRID,
    LENGTH,
    TERMS,
    environment_of,
    flow,
    shifted,
    states,
    system_of,
)
from torch import Tensor

from pde_sym.arrays import ArrayFile
from pde_sym.simulate import simulate
from pde_sym.systems.kdv import KdV
from pde_sym.systems.kdv_integrals import derivatives
from pde_sym.systems.kdv_terms import (
    Bathymetry,
    Dispersion,
    Forcing,
    Modulation,
    Potential,
)

# Budgets ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*TERMS, "all"])
def test_budgets_close(name: str) -> None:
    """I(t) - I(0) is what the closed form explains, at the solver's own steps."""
    together = tuple(t for n, t in TERMS.items() if " " not in n)
    terms = together if name == "all" else (TERMS[name],)
    system, u = KdV(breaking=terms), states()
    run = simulate(system, GRID, u, environment_of(system), dt=DT, num_frames=4)
    moved = 0.0
    for invariant in KdV.invariants:
        value, budget = run.invariants[invariant.name], run.budgets[invariant.name]
        change = value - value[:, :1]
        size = value.abs().max()
        assert (change - budget).abs().max() <= 1e-8 * size, invariant.name
        moved = max(moved, float(change.abs().max() / size))
    assert (moved >= 1e-4) == (name != "frame")


def test_a_wrong_budget_would_not_close() -> None:
    system = system_of("potential")
    other = KdV(breaking=(Potential(strength=0.301),))
    u, environment = states(), environment_of(system)
    right = flow(system).step(u)[1]["P5"]
    wrong = flow(other).step(u)[1]["P5"]
    assert float((right - wrong).abs().max()) >= 1e-5
    frames = simulate(system, GRID, u, environment, dt=DT, num_frames=2)
    coarse = DT * system.rates(u, GRID, environment)["P5"]
    exact = frames.invariants["P5"].diff(dim=1)[:, 0]
    assert float(((coarse - exact) / exact).abs().max()) >= 1e-3


def closed_forms(name: str, u: Tensor) -> dict[str, Tensor]:
    """Return the rates that are known in few symbols."""
    system, eps = system_of(name), TERMS[name].strength
    k = 2 * torch.pi / LENGTH * torch.arange(65, dtype=torch.float64)
    v, vx = derivatives(torch.fft.rfft(u[:, 0], norm="forward"), k, 384, 1)
    zero = torch.zeros(len(u), dtype=torch.float64)
    if name in ("kawahara", "quartic", "modulation", "gardner"):
        return {"P1": zero, "P3": zero}
    if name == "frame":
        return {f"P{n}": zero for n in (1, 3, 5, 7, 9)}
    if name == "damping":
        p = system.measure(u, GRID, environment_of(system))
        return {"P1": -eps * p["P1"], "P3": -2 * eps * p["P3"]}
    if name == "viscosity":
        return {"P1": zero, "P3": -2 * eps * LENGTH * (vx**2).mean(-1)}
    field = torch.fft.rfft(environment_of(system)[0, 0], norm="forward")
    f, fx = derivatives(field, k, 384, 1)
    if name == "potential":
        return {"P1": zero, "P3": -LENGTH * (fx * v**2).mean(-1)}
    return {
        "P1": zero + LENGTH * f.mean(),
        "P3": 2 * LENGTH * (v * f).mean(-1),
    }


@pytest.mark.parametrize("name", [n for n in TERMS if n[0] != "b" and n[:2] != "di"])
def test_rates_in_closed_form(name: str) -> None:
    system, u = system_of(name), states()
    rates = system.rates(u, GRID, environment_of(system))
    for key, expected in closed_forms(name, u).items():
        assert torch.allclose(rates[key], expected, rtol=1e-10, atol=1e-12), key


def test_the_linear_part_of_bathymetry_keeps_the_momentum_of_small_long_waves() -> None:
    """Without c_x u / 2 the rate would be of the order of the strength."""
    grid = KdV.grid(128, 2000.0)
    system = system_of("bathymetry")
    environment = environment_of(system, grid)
    wave = torch.cos(2 * torch.pi * torch.arange(128).double() / 128)
    u = 1e-4 * (1 + wave)[None, None]
    rate = system.rates(u, grid, environment)["P3"]
    speed = environment[0, 0].sqrt()
    slope = torch.gradient(speed, spacing=2000.0 / 128)[0]
    without = 2000.0 * (slope.abs() * u[0, 0] ** 2).mean()
    assert abs(float(rate)) <= 1e-2 * float(without)


# Known effects ----------------------------------------------------------------------


def test_damping_in_closed_form() -> None:
    system, u = system_of("damping"), states()
    run = simulate(system, GRID, u, environment_of(system), dt=DT, num_frames=4)
    times, eps = DT * torch.arange(4).double(), TERMS["damping"].strength
    for name, rate in (("P1", eps), ("P3", 2 * eps)):
        value = run.invariants[name]
        expected = value[:, :1] * torch.exp(-rate * times)
        assert torch.allclose(value, expected, rtol=1e-8)


def test_frame_is_a_shift() -> None:
    u, speed = states(), TERMS["frame"].strength
    expected = shifted(flow(KdV())(u), -speed * DT / LENGTH)
    assert relative_difference(flow(system_of("frame"))(u), expected) <= 1e-13


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        (None, lambda k: k**3),
        ("kawahara", lambda k: k**3 - 0.05 * k**5),
        ("viscosity", lambda k: k**3 + 0.1j * k**2),
        ("modulation", lambda k: k**3 * (1 + 0.4 * np.sin(3 * DT) / (3 * DT))),
        ("frame", lambda k: k**3 + 1.5 * k),
    ],
)
def test_small_waves_turn_at_their_frequency(name: str | None, rate) -> None:
    mode, size = 6, 1e-9
    k = 2 * np.pi * mode / LENGTH
    wave = torch.cos(k * torch.from_numpy(GRID.coordinates(0)))
    u = flow(system_of(name))(size * wave[None, None])
    got = complex(torch.fft.rfft(u[0, 0], norm="forward")[mode]) * 2 / size
    assert got == pytest.approx(np.exp(1j * rate(k) * DT), rel=1e-7)


def uniform(tmp_path: Path) -> ArrayFile:
    np.save(tmp_path / "one.npy", np.ones(128))
    return ArrayFile.model_validate(tmp_path / "one.npy")


def test_uniform_profiles_are_known_flows(tmp_path: Path) -> None:
    """A uniform current is a shift; uniform depth is KdV in other units."""
    u, one = states(), uniform(tmp_path)
    current = flow(KdV(breaking=(Potential(strength=0.7, field=one),)))
    moved = shifted(flow(KdV())(u), 0.7 * DT / LENGTH)
    assert relative_difference(current(u), moved) <= 1e-9
    depth = 1.2
    water = flow(KdV(breaking=(Bathymetry(strength=depth - 1, field=one),)))
    other = flow(KdV(), dt=depth**2.5 * DT)(u / depth**3) * depth**3
    moved = shifted(other, (depth**0.5 - 1) * DT / LENGTH)
    assert relative_difference(water(u), moved) <= 1e-8
    stronger = flow(KdV(breaking=(Dispersion(strength=0.5, field=one),)))
    other = flow(KdV(), dt=1.5 * DT)(u / 1.5) * 1.5
    assert relative_difference(stronger(u), other) <= 1e-8
    pushed = flow(KdV(breaking=(Forcing(strength=0.4, field=one),)))
    rise = 0.4 * DT
    moved = shifted(flow(KdV())(u), 3 * rise * DT / LENGTH) + rise
    assert relative_difference(pushed(u), moved) <= 1e-13


def test_modulation_keeps_a_clock_per_frame() -> None:
    system, u = system_of("modulation"), states()
    phi = flow(system)
    first, second = phi.step(u)[0], phi.step(u)[0]
    assert torch.equal(first, flow(system)(u))
    assert torch.equal(first, phi.at(0)(u))
    assert torch.equal(second, phi.at(1)(u))
    assert torch.equal(phi(u), phi(u))
    assert phi.frame == 2
    assert relative_difference(first, second) >= 1e-4
    half = flow(system, DT / 2)
    assert relative_difference(half.step(half.step(u)[0])[0], first) <= 1e-9
    turned = Modulation(strength=0.4, frequency=3.0, phase=np.degrees(3.0 * DT))
    assert relative_difference(flow(KdV(breaking=(turned,)))(u), second) <= EXACT
    environment = environment_of(system)
    rates = [system.rates(u, GRID, environment, t)["P5"] for t in (0.0, np.pi / 6)]
    assert float(rates[0].abs().min()) >= 1e-4
    assert float(rates[1].abs().max()) <= 1e-12
