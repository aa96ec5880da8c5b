"""Exponential integrator: coefficients against a contour, order on exact solutions."""

import cmath
import math

import numpy as np
import pytest
import torch
from helpers import observed_order
from torch import Tensor

from pde_sym.etdrk4 import etdrk4_coefficients, etdrk4_step, phi_functions

SIZES = (0.0, 1e-12, 1e-6, 1e-2, 0.3, 0.999, 1.001, 3.0, 30.0, 400.0)


def contour_phi(z: complex, order: int, points: int = 64) -> complex:
    """Return phi_j as a mean over a circle about z (Kassam, Trefethen 2005).

    A radius of 1 would run into 0 for ``|z| = 1``.
    """
    total = 0.0
    for m in range(points):
        w = z + 2 * cmath.exp(2j * math.pi * (m + 0.5) / points)
        value = cmath.exp(w)
        for j in range(order):
            value = (value - 1 / math.factorial(j)) / w
        total += value
    return total / points


@pytest.mark.parametrize("direction", [-1.0, 1j, -1j, cmath.exp(2.2j)])
@pytest.mark.parametrize("size", SIZES)
def test_phi_functions(size: float, direction: complex) -> None:
    z = size * direction
    found = phi_functions(torch.tensor([z], dtype=torch.complex128))
    for order, value in enumerate(found, start=1):
        exact = contour_phi(z, order)
        assert abs(complex(value[0]) - exact) <= 1e-14 * max(abs(exact), 0.1)


def test_the_plain_formula_would_lose_the_small_ones() -> None:
    z = -1e-4
    plain = (math.exp(z) - 1 - z - z * z / 2) / z**3
    found = float(phi_functions(torch.tensor([z], dtype=torch.float64))[2])
    exact = contour_phi(z, 3).real
    assert abs(plain - exact) >= 1e-6
    assert abs(found - exact) <= 1e-15


def test_real_and_complex_arrays_agree() -> None:
    linear = -np.geomspace(1e-3, 1e3, 20)
    real = etdrk4_coefficients(linear, 0.1)
    complex_ = etdrk4_coefficients(torch.from_numpy(linear + 0j), 0.1)
    for name in ("full", "half", "inner", "first", "middle", "last"):
        a, b = getattr(real, name), getattr(complex_, name)
        assert a.dtype == torch.float64
        assert b.dtype == torch.complex128
        assert (a - b).abs().max() <= 1e-15


def swinging(y: Tensor) -> Tensor:
    """``y' = L y - i |y|^2 y``: |y| is constant for imaginary L."""
    return -1j * y.abs() ** 2 * y


@pytest.mark.parametrize("frequency", [0.0, 7.0, -40.0])
def test_order_four(frequency: float) -> None:
    start = torch.tensor([0.8 + 0.3j], dtype=torch.complex128)
    rate = 1j * frequency
    exact = start * cmath.exp(rate - 1j * float(start.abs()) ** 2)
    steps, errors = [10, 20, 40, 80], []
    for n in steps:
        c = etdrk4_coefficients(np.array([rate]), 1.0 / n)
        y = start
        for _ in range(n):
            y = etdrk4_step(swinging, y, c)
        errors.append(float((y - exact).abs()))
    assert observed_order([1.0 / n for n in steps], errors) == pytest.approx(
        4.0, abs=0.35
    )


def test_the_real_part_of_the_coefficients_is_not_enough() -> None:
    """Dropping the imaginary part of phi costs three orders when L is imaginary."""
    start = torch.tensor([0.8 + 0.3j], dtype=torch.complex128)
    exact = start * cmath.exp(7j - 1j * float(start.abs()) ** 2)
    steps, errors = [20, 40, 80, 160], []
    for n in steps:
        c = etdrk4_coefficients(np.array([7j]), 1.0 / n)
        for name in ("inner", "first", "middle", "last"):
            object.__setattr__(c, name, getattr(c, name).real)
        y = start
        for _ in range(n):
            y = etdrk4_step(swinging, y, c)
        errors.append(float((y - exact).abs()))
    assert observed_order([1.0 / n for n in steps], errors) <= 1.5


def test_a_linear_equation_is_exact() -> None:
    c = etdrk4_coefficients(np.array([-3.0, 0.0]), 0.7)
    y = torch.tensor([2.0, 2.0], dtype=torch.float64)
    found = etdrk4_step(lambda y: torch.zeros_like(y), y, c)
    exact = torch.tensor([2 * math.exp(-2.1), 2.0], dtype=torch.float64)
    assert (found - exact).abs().max() <= 1e-15


def test_without_a_linear_part_it_is_the_classical_method() -> None:
    c = etdrk4_coefficients(np.zeros(1), 0.1)
    found = etdrk4_step(lambda y: y, torch.ones(1, dtype=torch.float64), c)
    assert float(found) == pytest.approx(
        sum(0.1**n / math.factorial(n) for n in range(5)), abs=math.ulp(1.0)
    )
