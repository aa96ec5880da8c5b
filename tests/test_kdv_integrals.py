"""The conserved integrals of KdV: algebra from both sides, values in closed form."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from pde_sym.systems.kdv_integrals import (
    INTEGRALS,
    KDV,
    Polynomial,
    add,
    degree,
    density,
    derivative,
    derivatives,
    euler,
    evaluate,
    fine_points,
    highest_order,
    integral,
    multiply,
    polynomial,
    raw_density,
    reduced,
    soliton_value,
    time_derivative,
    variation,
)
from pde_sym.systems.kdv_solutions import soliton, solitons

WRONG_SIGN = polynomial({(1, 1): 6, (0, 0, 0, 1): -1})
LENGTH = 10.0


def random_polynomial(rng: np.random.Generator) -> Polynomial:
    return polynomial(
        {
            tuple(int(e) for e in rng.integers(0, 3, size=3)): int(rng.integers(1, 9))
            for _ in range(4)
        }
    )


def waves(rng: np.random.Generator, num: int = 32, top: int = 5) -> torch.Tensor:
    """Return a real state with modes up to `top`."""
    spectrum = np.zeros(num // 2 + 1, dtype=complex)
    spectrum[: top + 1] = rng.standard_normal((top + 1, 2)) @ np.array([1, 1j])
    spectrum[0] = spectrum[0].real
    return torch.from_numpy(np.fft.irfft(spectrum, n=num, norm="forward"))


def along(n: int, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return the derivative of int P_n at u along v, by automatic differentiation."""
    at = u.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(integral(n, at, LENGTH), at)
    return (gradient * v).sum()


# Algebra ----------------------------------------------------------------------------


def test_first_densities_are_those_of_the_literature() -> None:
    assert raw_density(3) == polynomial({(0, 0, 1): 1, (2,): 1})
    assert raw_density(5) == polynomial(
        {(0, 0, 0, 0, 1): 1, (1, 0, 1): 6, (0, 2): 5, (3,): 2}
    )
    assert density(5) == polynomial({(3,): 2, (0, 2): -1})
    assert density(7) == polynomial({(4,): 5, (1, 2): -10, (0, 0, 2): 1})
    assert density(9) == polynomial(
        {(5,): 14, (2, 2): -70, (1, 0, 2): 14, (0, 0, 0, 2): -1}
    )
    assert variation(7) == polynomial(
        {(3,): 20, (0, 2): 10, (1, 0, 1): 20, (0, 0, 0, 0, 1): 2}
    )


def test_leading_coefficients_are_the_catalan_numbers() -> None:
    for m in range(7):
        leading = density(2 * m + 1)[(m + 1,)]
        assert leading == math.comb(2 * m, m) // (m + 1)


@pytest.mark.parametrize("n", range(1, 14))
def test_densities_of_even_number_are_total_derivatives(n: int) -> None:
    assert bool(euler(raw_density(n))) == (n % 2 == 1)
    assert bool(density(n)) == (n % 2 == 1)
    assert all(c.denominator == 1 for c in density(n).values())


@pytest.mark.parametrize("n", range(1, 14, 2))
def test_every_integral_is_conserved_for_this_sign_only(n: int) -> None:
    assert euler(time_derivative(raw_density(n), KDV)) == {}
    changes = euler(time_derivative(raw_density(n), WRONG_SIGN))
    assert bool(changes) == (n >= 5)


def test_a_wrong_density_is_not_conserved() -> None:
    wrong = add(density(7), polynomial({(4,): 1}))
    assert euler(time_derivative(wrong, KDV))


def test_the_flows_of_two_integrals_commute() -> None:
    """{P_5, P_7} = int (dP_5/du) D (dP_7/du) vanishes, as for every pair."""
    for a in (3, 5, 7):
        for b in (5, 7, 9):
            bracket = multiply(variation(a), derivative(variation(b)))
            assert euler(bracket) == {}
    cubic = euler(polynomial({(3,): 1}))
    assert euler(multiply(cubic, derivative(variation(7))))


def test_rules_of_the_algebra(rng: np.random.Generator) -> None:
    a, b = random_polynomial(rng), random_polynomial(rng)
    product = derivative(multiply(a, b))
    leibniz = add(multiply(derivative(a), b), multiply(a, derivative(b)))
    assert product == leibniz
    assert euler(derivative(a)) == {}
    assert euler(add(a, derivative(b))) == euler(a)
    assert euler(reduced(a)) == euler(a)
    assert reduced(derivative(multiply(a, b))) == {}
    assert highest_order(reduced(a)) <= highest_order(a)
    assert add(a, a, -1) == {}
    assert all(isinstance(c, Fraction) for c in product.values())


def test_numbers_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="n >= 1, got 0"):
        raw_density(0)


# Values -----------------------------------------------------------------------------


def test_derivatives_of_a_wave() -> None:
    x = np.arange(16) * LENGTH / 16
    k = 2 * np.pi / LENGTH * 2
    spectrum = torch.fft.rfft(torch.from_numpy(np.sin(k * x)), norm="forward")
    wavenumbers = 2 * np.pi / LENGTH * torch.arange(9, dtype=torch.float64)
    fine = np.arange(48) * LENGTH / 48
    for order, values in enumerate(derivatives(spectrum, wavenumbers, 48, 3)):
        expected = k**order * np.sin(k * fine + order * np.pi / 2)
        assert np.abs(values.numpy() - expected).max() <= 1e-13 * k**order


@pytest.mark.parametrize("n", [*INTEGRALS, 11])
def test_integrals_have_no_aliasing(n: int, rng: np.random.Generator) -> None:
    """The value on few points is that on many, up to the last mode below N/2."""
    coarse = waves(rng, 11, 5)
    fine = torch.fft.irfft(
        torch.nn.functional.pad(torch.fft.rfft(coarse, norm="forward"), (0, 250)),
        n=510,
        norm="forward",
    )
    expected = integral(n, fine, LENGTH)
    assert integral(n, coarse, LENGTH) == pytest.approx(float(expected), rel=1e-12)


def test_aliasing_would_be_seen(rng: np.random.Generator) -> None:
    """The same polynomial on the state's own grid misses the integral."""
    u = waves(rng, 11, 5)
    spectrum = torch.fft.rfft(u, norm="forward")
    k = 2 * np.pi / LENGTH * torch.arange(6, dtype=torch.float64)
    values = evaluate(density(7), derivatives(spectrum, k, 11, 2))
    exact = float(integral(7, u, LENGTH))
    assert abs(LENGTH * float(values.mean()) / exact - 1) >= 1e-3


def test_fine_points_hold_every_factor() -> None:
    assert fine_points(8, 3, 1) == 8
    for num, top, factors in ((8, 3, 5), (256, 85, 8), (9, 4, 9)):
        points = fine_points(num, top, factors)
        assert points > factors * top >= points - num
        assert points % num == 0


@pytest.mark.parametrize("n", INTEGRALS)
def test_variational_derivative_is_the_gradient(
    n: int, rng: np.random.Generator
) -> None:
    """d int P_n(u + s v) / ds = int (dP_n/du) v, by automatic differentiation."""
    u, v = waves(rng), waves(rng)
    slope = along(n, u, v)
    p = variation(n)
    k = 2 * np.pi / LENGTH * torch.arange(17, dtype=torch.float64)
    points = 32 * (degree(p) + 1)
    values = derivatives(torch.fft.rfft(u, norm="forward"), k, points, highest_order(p))
    other = derivatives(torch.fft.rfft(v, norm="forward"), k, points, 0)[0]
    expected = LENGTH * float((evaluate(p, values) * other).mean())
    assert float(slope) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("n", [*INTEGRALS, 11, 13])
def test_rate_under_the_flow_vanishes(n: int, rng: np.random.Generator) -> None:
    """Without time stepping: the derivative of int P_n along the exact right-hand side.

    The control is the wrong sign of the nonlinearity.
    """
    u = torch.nn.functional.pad(torch.fft.rfft(waves(rng) / 5, norm="forward"), (0, 16))
    k = 2 * np.pi / LENGTH * torch.arange(33, dtype=torch.float64)
    u0, u1, _, u3 = derivatives(u, k, 64, 3)
    rates = []
    for sign in (6, -6):
        rate = -sign * u0 * u1 - u3
        gradient = along(n, u0, torch.ones_like(u0)).abs() + 1
        rates.append(float(along(n, u0, rate).abs() / gradient))
    assert rates[0] <= 1e-9
    assert (rates[1] >= 1e-2) == (n >= 5)


@pytest.mark.parametrize("k", [(1.2,), (1.4, 0.9), (1.5, 1.2, 0.9)])
@pytest.mark.parametrize("n", [*INTEGRALS, 11])
def test_values_of_solitons(n: int, k: tuple[float, ...]) -> None:
    """int P_n = sum 2 k^n / n, wherever the solitons are, in collision too."""
    length, num = 100.0, 512
    x = np.arange(num) * length / num - length / 2
    starts = np.linspace(-1, 1, len(k))
    u = torch.from_numpy(solitons(x, 0.0, k, starts))
    # The tails of the slowest soliton end at e^-40.
    assert float(integral(n, u, length)) == pytest.approx(
        soliton_value(n, k), rel=1e-12
    )
    assert soliton_value(n + 1, k) == 0.0


def test_values_of_the_reference() -> None:
    expected = {1: 4.6, 3: 2.3153333, 5: 2.387492, 7: 3.148470661, 9: 4.677437165}
    for n, value in expected.items():
        assert soliton_value(n, (1.4, 0.9)) == pytest.approx(value, rel=2e-8)


def test_a_complex_state_has_a_complex_integral(rng: np.random.Generator) -> None:
    u = waves(rng)
    for n in (1, 3, 5):
        same = integral(n, u + 0j, LENGTH)
        assert complex(same) == pytest.approx(float(integral(n, u, LENGTH)), rel=1e-12)
    turned = integral(3, u * 1j, LENGTH)
    assert complex(turned) == pytest.approx(-float(integral(3, u, LENGTH)), rel=1e-12)


def test_integrals_of_even_number_are_zero(rng: np.random.Generator) -> None:
    assert integral(4, waves(rng)[None], LENGTH).tolist() == [0.0]


def test_one_soliton_is_the_first_of_many() -> None:
    x = np.linspace(-20, 20, 41)
    assert np.abs(soliton(x, 1.0, 1.3) - solitons(x, 1.0, [1.3], [0.0])).max() <= 1e-15
