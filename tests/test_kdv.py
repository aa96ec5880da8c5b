"""The KdV solver against exact solutions and symmetries, and bad input."""

import numpy as np
import pytest
import torch
from helpers import observed_order, relative_difference
from pydantic import ValidationError
from torch import Tensor

from pde_sym.errors import InputError, SimulationError
from pde_sym.etdrk4 import Etdrk4Coefficients, etdrk4_coefficients, etdrk4_step
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import Subgroup, point_group
from pde_sym.simulate import simulate
from pde_sym.systems import kdv_dynamics, kdv_solver
from pde_sym.systems.kdv import KdV
from pde_sym.systems.kdv_integrals import INTEGRALS, soliton_value
from pde_sym.systems.kdv_solutions import (
    RandomWaves,
    cnoidal_roots,
    cnoidal_wave,
    cnoidal_wavelength,
    phase_shifts,
    soliton,
    solitons,
)
from pde_sym.systems.kdv_solver import KdVSolver, gregory_weights
from pde_sym.systems.kdv_terms import Damping, Potential, Viscosity

ROOTS = (-0.3, 0.1, 1.2)
GRID = KdV.grid(128, 32.0)
DT = 0.1


def nothing(grid: PeriodicGrid) -> Tensor:
    return torch.empty((1, 0, *grid.shape), dtype=torch.float64)


def intact(grid: PeriodicGrid = GRID, dt: float = DT, **options) -> KdVSolver:
    return KdVSolver(KdV(), grid, nothing(grid), dt, **options)


def states(count: int = 2, seed: int = 3, grid: PeriodicGrid = GRID) -> Tensor:
    rng, law = np.random.default_rng(seed), RandomWaves(modes=4, amplitude=0.4)
    return torch.from_numpy(np.stack([law.sample(grid, rng) for _ in range(count)]))


def shifted(u: Tensor, by: float) -> Tensor:
    """Return u(x - by L) of states below N/2, by Fourier."""
    num = u.shape[-1]
    m = torch.arange(num // 2 + 1, dtype=torch.float64)
    phase = torch.exp(-2j * torch.pi * m * by)
    return torch.fft.irfft(torch.fft.rfft(u) * phase, n=num)


def reflected(u: Tensor) -> Tensor:
    """Return u(-x)."""
    return u.flip(-1).roll(1, -1)


def relative_change(a: Tensor, b: Tensor) -> float:
    return float(((b - a) / a).abs().max())


# Order ------------------------------------------------------------------------------


def cnoidal_errors(sizes: tuple[int, ...]) -> list[float]:
    """Return the errors on four cnoidal waves at time 5 with so many steps."""
    grid = KdV.grid(256, 4 * cnoidal_wavelength(ROOTS))
    x = grid.coordinates(0)
    start = torch.from_numpy(cnoidal_wave(x, 0.0, ROOTS))[None, None]
    exact = torch.from_numpy(cnoidal_wave(x, 5.0, ROOTS))
    return [
        float((intact(grid, 5.0, steps=n)(start)[0, 0] - exact).abs().max())
        for n in sizes
    ]


def test_order_is_four_on_the_cnoidal_wave() -> None:
    sizes = (900, 1300, 1900, 2800)
    errors = cnoidal_errors(sizes)
    assert observed_order([1 / n for n in sizes], errors) == pytest.approx(4, abs=0.3)
    assert errors[-1] <= 1e-8


def test_order_is_one_with_the_real_parts_of_the_coefficients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are right for a real linear part only, and the waves do not blow up."""

    def real_parts(linear: Tensor, dt: float) -> Etdrk4Coefficients:
        c = etdrk4_coefficients(linear, dt)
        weights = (c.inner, c.first, c.middle, c.last)
        return Etdrk4Coefficients(c.full, c.half, *(w.real + 0j for w in weights))

    monkeypatch.setattr(kdv_solver, "etdrk4_coefficients", real_parts)
    sizes = (600, 1000, 2000)
    errors = cnoidal_errors(sizes)
    assert 0.5 <= observed_order([1 / n for n in sizes], errors) <= 1.5
    assert errors[-1] >= 1e-3


# Solitons ---------------------------------------------------------------------------


def peak(u: Tensor, length: float, near: float) -> float:
    """Return the maximum of a band-limited state next to a point, by Newton."""
    spectrum = torch.fft.rfft(u, norm="forward").numpy()
    spectrum[1:] *= 2
    k = 2 * np.pi / length * np.arange(len(spectrum))
    x = near
    for _ in range(30):
        wave = spectrum * np.exp(1j * k * x)
        slope, curve = (1j * k * wave).sum().real, (-(k**2) * wave).sum().real
        x -= slope / curve
    return x


def test_two_solitons_through_their_collision() -> None:
    """Invariants and phase shifts of one run; starts are those of lone solitons."""
    k, time, length = (1.4, 0.9), 19.0, 52.0
    grid = KdV.grid(256, length)
    behind = (length / 2 - 5.0, length / 2)
    # The slow one is where h_1 is large: its lone path is ahead of the parameter.
    lone = (behind[0], behind[1] - phase_shifts(k)[1])
    images = grid.coordinates(0)[:, None] + length * np.arange(-3, 4)
    start = torch.from_numpy(solitons(images, 0.0, k, behind).sum(axis=1))
    u = intact(grid, time, steps=12_500)(start[None, None])
    measured = KdV().measure(u, grid, nothing(grid))
    for n in INTEGRALS:
        exact = soliton_value(n, k)
        assert float(measured[f"P{n}"]) == pytest.approx(exact, rel=1e-10), n
    for k_i, x_i, shift in zip(k, lone, phase_shifts(k), strict=True):
        straight = x_i + k_i**2 * time
        assert peak(u[0, 0], length, straight + shift) - straight == pytest.approx(
            shift, abs=1e-6
        )
    assert phase_shifts(k) == pytest.approx([2.1800804, -3.3912362], abs=1e-7)


def rate_of(solution, x: np.ndarray, t: float, h: float = 1e-2) -> np.ndarray:
    """Return u_t by central differences of order 8."""
    weights = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
    rate = np.zeros_like(x)
    for j, w in enumerate(weights, start=1):
        rate += w * (solution(x, t + j * h) - solution(x, t - j * h)) / h
    return rate


SOLUTIONS = {
    "soliton": (lambda x, t: soliton(x - 30, t, 1.3, -1.0), 60.0),
    "three": (
        lambda x, t: solitons(x - 40, t, (1.4, 1.1, 0.8), (1.0, -0.5, 0.0)),
        80.0,
    ),
    "cnoidal": (
        lambda x, t: cnoidal_wave(x, t, ROOTS),
        3 * cnoidal_wavelength(ROOTS),
    ),
}


@pytest.mark.parametrize("name", SOLUTIONS)
def test_exact_solutions_solve_the_equation(name: str) -> None:
    solution, length = SOLUTIONS[name]
    grid = KdV.grid(512, length)
    x, k = grid.coordinates(0), 2 * np.pi / length * np.arange(257)
    spectrum = np.fft.rfft(solution(x, 0.3))
    u, ux, uxxx = (np.fft.irfft((1j * k) ** n * spectrum) for n in (0, 1, 3))
    terms = rate_of(solution, x, 0.3), 6 * u * ux, uxxx
    size = max(np.abs(t).max() for t in terms)
    assert np.abs(sum(terms)).max() <= 1e-8 * size
    assert np.abs(terms[0] - terms[1] + terms[2]).max() >= 0.1 * size


def test_determinant_is_the_formula_for_two() -> None:
    (k1, k2), x = (1.4, 0.9), np.linspace(-15, 15, 301)
    e1, e2 = np.exp(k1 * (x - k1**2 - 1)), np.exp(k2 * (x - k2**2 + 2))
    a = ((k1 - k2) / (k1 + k2)) ** 2
    tau = 1 + e1 + e2 + a * e1 * e2
    tau_x = k1 * e1 + k2 * e2 + a * (k1 + k2) * e1 * e2
    tau_xx = k1**2 * e1 + k2**2 * e2 + a * (k1 + k2) ** 2 * e1 * e2
    expected = 2 * (tau * tau_xx - tau_x**2) / tau**2
    assert np.abs(solitons(x, 1.0, (k1, k2), (1, -2)) - expected).max() <= 1e-13


def test_determinant_is_stable_far_away() -> None:
    """Nothing overflows, and the tails are those of the solitons."""
    x = np.array([-1e4, -60.0, 60.0, 1e4])
    u = solitons(x, 0.0, (1.5, 1.2, 0.9, 0.6), (0, 1, 2, 3))
    assert np.isfinite(u).all()
    assert np.abs(u).max() <= 1e-11
    far = soliton(np.array([-2000.0, 2000.0]), 0.0, 1.0)
    assert (far == 0).all()


def test_phase_shifts_keep_the_centre_of_mass() -> None:
    k = np.array([1.7, 1.1, 0.6, 0.5])
    assert np.sum(k * phase_shifts(k)) == pytest.approx(0, abs=1e-13)


def test_roots_of_the_cnoidal_wave() -> None:
    roots = cnoidal_roots(7.0, 0.9, mean=0.3)
    assert cnoidal_wavelength(roots) == pytest.approx(7.0, rel=1e-13)
    u = cnoidal_wave(np.arange(64) * 7.0 / 64, 0.0, roots)
    assert u.mean() == pytest.approx(0.3, rel=1e-12)
    assert (roots[2] - roots[1]) / (roots[2] - roots[0]) == pytest.approx(0.9)


# Symmetries of the solver -----------------------------------------------------------


@pytest.mark.parametrize("boost", [0.5, -3.0])
def test_galilei_boosts(boost: float) -> None:
    """Phi(u + V) is Phi(u) moved by 6 V t, plus V, to round-off."""
    phi, u = intact(), states()
    expected = shifted(phi(u), 6 * boost * DT / 32.0) + boost
    assert relative_difference(phi(u + boost), expected) <= 1e-13


def test_shifts_off_the_grid() -> None:
    phi, u = intact(), states()
    assert relative_difference(phi(shifted(u, 0.1234)), shifted(phi(u), 0.1234)) <= (
        1e-13
    )


def test_the_solver_breaks_galilei_without_the_frame() -> None:
    """The same scheme on u itself: right, but a boost is as good as its time step."""
    k = 2 * torch.pi / 32.0 * torch.arange(43, dtype=torch.float64)
    plan = etdrk4_coefficients(1j * k**3, DT / 8)

    def rate(y: Tensor) -> Tensor:
        values = torch.fft.irfft(y, n=128, norm="forward")
        return -3j * k * torch.fft.rfft(values**2, norm="forward")[..., :43]

    def naive(u: Tensor) -> Tensor:
        y = torch.fft.rfft(u, norm="forward")[..., :43]
        for _ in range(8):
            y = etdrk4_step(rate, y, plan)
        return torch.fft.irfft(y, n=128, norm="forward")

    u, boost = states(), 2.0
    assert relative_difference(naive(u), intact()(u)) <= 1e-5
    defect = relative_difference(
        naive(u + boost), shifted(naive(u), 6 * boost * DT / 32.0) + boost
    )
    assert defect >= 1e-8
    assert relative_difference(naive(shifted(u, 0.1)), shifted(naive(u), 0.1)) <= 1e-13


def test_scaling_maps_boxes_to_boxes() -> None:
    s, u = 1.7, states()
    small = intact(KdV.grid(128, 32.0 / s), DT / s**3)
    assert relative_difference(small(s**2 * u), s**2 * intact()(u)) <= 1e-12


def test_reversal_is_as_good_as_the_steps() -> None:
    phi, u = intact(), states()
    back = reflected(phi(reflected(phi(u))))
    assert 1e-14 <= relative_difference(back, u) <= 1e-7


def test_mass_is_exact_and_the_others_drift_little() -> None:
    u = states()
    run = simulate(KdV(), GRID, u, nothing(GRID), dt=DT, num_frames=6)
    for name, values in run.invariants.items():
        drift = relative_change(values[:, 0], values[:, -1])
        assert drift <= (1e-14 if name == "P1" else 1e-6), name
        assert run.budgets[name].abs().max() == 0.0


# Solver interface -------------------------------------------------------------------


def test_a_trajectory_does_not_depend_on_its_batch() -> None:
    u = states(3)
    u[1] *= 4
    system = KdV(breaking=(Potential(strength=0.3), Viscosity(strength=0.01)))
    drawn = system.sample_environment(GRID, np.random.default_rng(0))
    one = torch.from_numpy(drawn)[None]
    together, budgets = system.solver(GRID, one.expand(3, -1, -1), DT).step(u)
    for i in range(3):
        alone, budget = system.solver(GRID, one, DT).step(u[i : i + 1])
        assert torch.equal(alone[0], together[i])
        assert torch.equal(budget["P5"][0], budgets["P5"][i])


def test_modes_that_a_state_does_not_keep_are_dropped() -> None:
    u = states(1)
    rough = u + torch.cos(2 * torch.pi * 50 / 128 * torch.arange(128).double())
    assert relative_difference(intact()(rough), intact()(u)) <= 1e-13


def test_gregory_is_of_order_eight() -> None:
    for degree in range(8):
        for steps in (7, 8, 20):
            t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
            value = float((gregory_weights(steps) * t**degree).sum() / steps)
            wrong = abs(value - 1 / (degree + 1))
            assert (wrong <= 1e-14) == (degree <= 7)
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    assert float((gregory_weights(8) * t**9).sum() / 8) != pytest.approx(0.1, rel=1e-9)


def test_system_describes_itself() -> None:
    system = KdV()
    shifts = Subgroup.of("x", point_group("C1"))
    assert system.survivors == system.joint_survivors == shifts
    assert system.properties == KdV.intact_properties
    assert KdV.grid(64, 3.0) == PeriodicGrid(shape=(64,), lengths=(3.0,))
    assert KdV(breaking=(Damping(strength=0.2),)).scalars() == {"strength_damping": 0.2}
    names = {invariant.name for invariant in KdV.invariants}
    assert names == {f"P{n}" for n in INTEGRALS}
    assert len({term.model_fields["kind"].default for term in KdV.terms}) == 11


# Bad input --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [term.__name__ for term in KdV.terms])
def test_a_strength_out_of_range_is_one_line(kind: str) -> None:
    (term,) = (t for t in KdV.terms if t.__name__ == kind)
    for strength, reason in (
        (-0.1, "greater than or equal to 0"),
        (1e4, "less than or equal to"),
        (float("nan"), "finite number"),
        ("much", "number"),
    ):
        with pytest.raises(InputError, match=rf"^breaking: strength: .*{reason}") as e:
            term.parse({"strength": strength}, where="breaking")
        assert "\n" not in str(e.value)


def test_each_term_stands_once() -> None:
    with pytest.raises(ValidationError, match="each breaking term at most once"):
        KdV(breaking=(Damping(), Damping()))


def test_steps_that_are_unstable_are_refused() -> None:
    u = 20 * states()
    with pytest.raises(InputError, match="steps=8 per frame is unstable: trajectory 0"):
        intact(dt=0.5, steps=8)(u)
    with pytest.raises(InputError, match="at least 7 steps per frame, got 3"):
        intact(steps=3)(states() / 100)
    fast = r"trajectory 0: u moves too fast \(.*, at most 200000\) .*, and 1 more: "
    with pytest.raises(SimulationError, match=fast):
        intact(dt=1e4)(u)
    for dt in (0.0, -1.0, float("nan")):
        with pytest.raises(SimulationError, match="dt must be a positive number"):
            intact(dt=dt)


@pytest.mark.parametrize("compiled", [True, False])
def test_states_that_are_not_finite_are_named(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By trajectory, field and time; a blow-up too, here of steps too long."""
    u = states(3)
    u[1, 0, 5] = float("nan")
    phi = intact(compiled=compiled).at(4)
    with pytest.raises(SimulationError) as caught:
        phi(u)
    assert str(caught.value).startswith(
        "trajectory 1: u is not finite at time 0 of the frame: lower the"
    )
    monkeypatch.setattr(kdv_dynamics, "STABLE_STEP", 1e9)
    u = states(3)
    u[2] *= 40
    with pytest.raises(SimulationError) as caught:
        intact(dt=2.0, steps=40, compiled=compiled)(u)
    assert str(caught.value).startswith(
        "trajectory 2: u is not finite at time 2 of the frame: lower the"
    )
    assert "\n" not in str(caught.value)


def test_wrong_shapes_are_refused() -> None:
    plane = PeriodicGrid.square(16)
    with pytest.raises(InputError, match="1 axis, got a grid of 2"):
        KdV().solver(plane, nothing(plane), DT)
    with pytest.raises(InputError, match="1 axis, got a grid of 2"):
        RandomWaves().sample(plane, np.random.default_rng(0))
    with pytest.raises(InputError, match=r"environment \(batch, 1, 128\)"):
        KdV(breaking=(Potential(strength=0.1),)).solver(GRID, nothing(GRID), DT)
    with pytest.raises(InputError, match="needs 4 points"):
        intact(KdV.grid(3, 1.0))
    with pytest.raises(InputError, match="different k > 0"):
        solitons(np.zeros(2), 0.0, (1.0, 1.0), (0.0, 1.0))
    with pytest.raises(InputError, match="u1 < u2 < u3"):
        cnoidal_wave(np.zeros(2), 0.0, (0.0, 0.0, 1.0))
