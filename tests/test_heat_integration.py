"""The heat operator twice, in Torch and compiled, and what steps it through time."""

import numpy as np
import pytest
import torch
from helpers import (
    drawn_states,
    no_environment,
    observed_order,
    random_environment,
    relative_difference,
)

from pde_sym.errors import SimulationError
from pde_sym.flux_form import FluxForm, corner_minimum, face_mean
from pde_sym.grid import PeriodicGrid
from pde_sym.initial_conditions import RandomField
from pde_sym.integrators import (
    chebyshev_degree,
    chebyshev_series,
    ellipse_growth,
    exponential_coefficients,
    extrapolated_rkl2,
    integral_coefficients,
    rkl2_stages,
    rkl2_step,
)
from pde_sym.kernels.flux_form import CompiledFluxForm
from pde_sym.systems import Heat
from pde_sym.systems.heat_terms import Anisotropy, Nonlinear


def random_operator(
    rng: np.random.Generator, shape: tuple[int, int], nonlinearity: float = 0.0
) -> FluxForm:
    """Return an operator whose coefficients are all there and differ at each cell."""

    def draw(low: float, high: float) -> torch.Tensor:
        return torch.from_numpy(random_environment((1, *shape), rng, low, high))

    return FluxForm(
        face_x=draw(0.5, 9.0),
        face_y=draw(0.5, 9.0),
        diagonal=draw(-0.4, 0.4),
        wind_x=draw(-0.3, 0.3),
        wind_y=draw(-0.3, 0.3),
        sink=draw(0.0, 2.0),
        inverse_capacity=draw(0.2, 1.0),
        source=draw(-1.0, 1.0),
        nonlinearity=nonlinearity,
    )


def bounds(operator: FluxForm) -> tuple[float, float]:
    """Return bounds on the spectrum, along the negative real and the imaginary axis."""
    real, imag = operator.spectral_bounds()
    return float(real), float(imag)


def dense(operator: FluxForm, shape: tuple[int, int]) -> torch.Tensor:
    """Return the matrix of the homogeneous linear operator."""
    unit = torch.eye(shape[0] * shape[1], dtype=torch.float64)
    columns = operator.homogeneous(unit.view(-1, *shape))
    return columns.flatten(1).T


# The two implementations ------------------------------------------------------------


def test_compiled_rate_agrees_with_the_reference(rng: np.random.Generator) -> None:
    for nonlinearity in (0.0, 0.1):
        operator = random_operator(rng, (12, 10), nonlinearity)
        u = torch.from_numpy(rng.standard_normal((12, 10)))
        compiled = torch.from_numpy(CompiledFluxForm(operator).homogeneous(u.numpy()))
        assert relative_difference(compiled, operator.homogeneous(u[None])[0]) <= 1e-13


def test_compiled_step_agrees_with_the_reference(rng: np.random.Generator) -> None:
    operator = random_operator(rng, (16, 14))
    real, imag = bounds(operator)
    z = np.array([1.0, 6.0])
    degree = chebyshev_degree(z[-1], ellipse_growth(real, imag))
    coefficients = exponential_coefficients(z, degree)
    u = torch.from_numpy(rng.standard_normal((16, 14)))
    compiled = CompiledFluxForm(operator).chebyshev_series(
        u.numpy(), real, coefficients
    )
    reference = chebyshev_series(
        lambda v: operator.homogeneous(v[None])[0], u, real, coefficients
    )
    assert relative_difference(torch.from_numpy(compiled), reference) <= 1e-12


# Propagators and bounds -------------------------------------------------------------


def test_propagators_are_the_matrix_exponential_and_its_integral(
    rng: np.random.Generator,
) -> None:
    operator = random_operator(rng, (8, 6))
    matrix = dense(operator, (8, 6))
    real, imag = bounds(operator)
    times = np.array([0.05, 0.4])
    degree = chebyshev_degree(times[-1] * real / 2, ellipse_growth(real, imag))
    u = torch.from_numpy(rng.standard_normal((8, 6)))
    z = times * real / 2
    apply = lambda v: operator.homogeneous(v[None])[0]  # noqa: E731
    evolved = chebyshev_series(apply, u, real, exponential_coefficients(z, degree))
    added = chebyshev_series(apply, u, real, integral_coefficients(z, real, degree))
    for n, time in enumerate(times):
        exact = torch.linalg.matrix_exp(time * matrix)
        expected = (exact @ u.flatten()).view(8, 6)
        assert relative_difference(evolved[n], expected) <= 1e-13
        integral = torch.linalg.solve(matrix, (exact - torch.eye(48)) @ u.flatten())
        assert relative_difference(added[n], integral.view(8, 6)) <= 1e-12


def test_series_cut_short_misses_its_tolerance() -> None:
    """The degree is no larger than it needs to be: half of it is visibly too few."""
    z = 20.0
    degree = chebyshev_degree(z)
    y = np.cos(np.linspace(0, np.pi, 50))
    for terms, low, high in ((degree, 0.0, 1e-15), (degree // 2, 1e-8, 1.0)):
        coefficients = exponential_coefficients(np.array([z]), terms)[0]
        value = np.polynomial.chebyshev.chebval(y, coefficients)
        assert low <= np.abs(value - np.exp(z * (y - 1))).max() <= high


def test_spectral_bounds_hold_and_are_not_wild(rng: np.random.Generator) -> None:
    operator = random_operator(rng, (8, 6))
    eigenvalues = torch.linalg.eigvals(dense(operator, (8, 6)))
    real, imag = bounds(operator)
    assert -real <= eigenvalues.real.min() <= -real / 4
    assert eigenvalues.imag.abs().max() <= imag


def test_nine_point_operator_is_semidefinite_at_any_contrast(
    rng: np.random.Generator,
) -> None:
    kappa = torch.from_numpy(10 ** rng.uniform(-4, 0, (1, 8, 8)))
    for angle in (0.0, 30.0, 45.0, 80.0):
        term = Anisotropy(strength=1.0, angle=angle)
        operator = FluxForm(
            face_x=(1 + term.along) * face_mean(kappa, -2),
            face_y=(1 - term.along) * face_mean(kappa, -1),
            diagonal=term.cross * corner_minimum(kappa) / 2,
        )
        matrix = dense(operator, (8, 8))
        assert torch.allclose(matrix, matrix.T, atol=1e-14)
        assert torch.linalg.eigvalsh(matrix).max() <= 1e-12


# Time integration of the nonlinear equation -----------------------------------------


def test_rkl2_is_second_order_and_stable_at_its_limit() -> None:
    lam = 40.0
    matrix = torch.diag(torch.tensor([-1.0, -7.0, -lam], dtype=torch.float64))
    start = torch.ones(3, dtype=torch.float64)
    rate = lambda y: matrix @ y + 0.1 * y**2  # noqa: E731
    fine = start
    for _ in range(4000):
        fine = rkl2_step(rate, fine, 0.5 / 4000, 3)
    steps, errors = [8, 16, 32, 64], []
    for n in steps:
        y = start
        for _ in range(n):
            y = rkl2_step(rate, y, 0.5 / n, 7)
        errors.append(float((y - fine).abs()[0]))
    assert observed_order([1 / n for n in steps], errors) == pytest.approx(2, abs=0.1)
    stages = rkl2_stages(200.0)
    linear = lambda y: -200.0 * y  # noqa: E731
    y = torch.ones(1, dtype=torch.float64)
    assert rkl2_step(linear, y, 1.0, stages).abs() <= 1.0
    assert rkl2_step(linear, y, 1.0, stages - 4).abs() > 1.0


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8, 1e-10])
def test_extrapolated_rkl2_meets_its_tolerance(tolerance: float) -> None:
    """``y' = -y^2`` has ``y = 1 / (1 + t)``; a stiff linear part stays with it."""
    rate = lambda y: torch.stack([-(y[0] ** 2), -60.0 * (y[1] - y[0])])  # noqa: E731
    start = torch.ones(2, dtype=torch.float64)
    y = extrapolated_rkl2(rate, start, 0.1, 60.0, tolerance)
    assert abs(float(y[0]) - 1 / 1.1) <= 3 * tolerance


def test_extrapolation_that_cannot_converge_says_so() -> None:
    with pytest.raises(SimulationError, match="tolerance"):
        extrapolated_rkl2(
            lambda y: y**2, torch.full((1,), 50.0), 1.0, 1.0, 1e-8, max_levels=5
        )


def test_nonlinear_flow_converges_in_the_tolerance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grid, results = PeriodicGrid.square(16), []
    u = drawn_states(RandomField(modes=3), grid, count=1)
    for tolerance in (1e-9, 1e-12):
        monkeypatch.setattr("pde_sym.systems.heat_solver.RKL2_TOLERANCE", tolerance)
        system = Heat(breaking=(Nonlinear(strength=0.2),))
        results.append(system.solver(grid, no_environment(grid), 2e-3)(u))
    assert relative_difference(results[0], results[1]) <= 1e-8
    linear = Heat().solver(grid, no_environment(grid), 2e-3)(u)
    assert relative_difference(linear, results[1]) >= 1e-3
