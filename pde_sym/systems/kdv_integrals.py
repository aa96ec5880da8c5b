"""The conserved integrals of KdV, ``u_t + 6 u u_x + u_xxx = 0``, from a recursion.

    P_1 = u,   P_n = -D P_{n-1} + sum_{i=1}^{n-2} P_i P_{n-1-i}

(Miura, Gardner, Kruskal 1968, J. Math. Phys. 9, in the sign of this equation). Every
``int P_n`` is conserved; those of even n vanish. For the sign -6 the sum needs a
minus, else n = 5, 7, .. are wrong.

Polynomials in u, u_x, u_xx, .. have exact coefficients: a dict from the exponents
``(e_0, e_1, ..)`` of ``u^{e_0} u_x^{e_1} ..``, without trailing zeros, to a number.
They are evaluated on a grid that is fine enough for the integrals of products to be
free of aliasing.
"""

import functools
import math
from fractions import Fraction
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:  # see `pde_sym.systems.base`
    from torch import Tensor

Monomial: TypeAlias = tuple[int, ...]
Polynomial: TypeAlias = "dict[Monomial, Fraction]"

INTEGRALS = (1, 3, 5, 7, 9)
"""Numbers n of the integrals that are measured."""


# Exact algebra ----------------------------------------------------------------------


def polynomial(terms: dict[Monomial, int]) -> Polynomial:
    """Return the polynomial of integer coefficients, for instance ``{(2,): 1}``."""
    return _collected((m, Fraction(c)) for m, c in terms.items())


def _collected(terms) -> Polynomial:
    result: Polynomial = {}
    for monomial, coefficient in terms:
        while monomial and monomial[-1] == 0:
            monomial = monomial[:-1]
        result[monomial] = result.get(monomial, Fraction(0)) + coefficient
    return {m: c for m, c in result.items() if c}


def add(a: Polynomial, b: Polynomial, factor: int | Fraction = 1) -> Polynomial:
    """Return ``a + factor b``."""
    scaled = ((m, factor * c) for m, c in b.items())
    return _collected([*a.items(), *scaled])


def multiply(a: Polynomial, b: Polynomial) -> Polynomial:
    """Return ``a b``."""
    return _collected((_times(m, n), c * d) for m, c in a.items() for n, d in b.items())


def _times(a: Monomial, b: Monomial) -> Monomial:
    length = max(len(a), len(b))
    return tuple(
        x + y
        for x, y in zip(
            a + (0,) * (length - len(a)), b + (0,) * (length - len(b)), strict=True
        )
    )


def _by(monomial: Monomial, order: int, change: int) -> Monomial:
    """Return the monomial with the exponent of the derivative `order` changed."""
    padded = monomial + (0,) * (order + 1 - len(monomial))
    return (*padded[:order], padded[order] + change, *padded[order + 1 :])


def partial(a: Polynomial, order: int) -> Polynomial:
    """Return the derivative of `a` by the `order`-th derivative of u."""
    return _collected(
        (_by(m, order, -1), c * m[order])
        for m, c in a.items()
        if len(m) > order and m[order]
    )


def derivative(a: Polynomial) -> Polynomial:
    """Return the total derivative D a in x."""
    return _collected(
        (_by(_by(m, k, -1), k + 1, 1), c * e)
        for m, c in a.items()
        for k, e in enumerate(m)
        if e
    )


def highest_order(a: Polynomial) -> int:
    """Return the order of the highest derivative of u in `a`."""
    return max((len(m) - 1 for m in a), default=0)


def degree(a: Polynomial) -> int:
    """Return the largest number of factors of a monomial."""
    return max((sum(m) for m in a), default=0)


def euler(a: Polynomial) -> Polynomial:
    """Return the variational derivative ``sum_k (-D)^k da/du_k`` of ``int a``.

    It vanishes if and only if `a` is a total derivative (Olver, Applications of Lie
    Groups, theorem 4.7).
    """
    result: Polynomial = {}
    for order in range(highest_order(a), -1, -1):
        result = add(partial(a, order), derivative(result), -1)
    return result


def time_derivative(a: Polynomial, rate: Polynomial) -> Polynomial:
    """Return d a / dt under ``u_t = rate``."""
    result: Polynomial = {}
    for order in range(highest_order(a) + 1):
        result = add(result, multiply(partial(a, order), rate))
        rate = derivative(rate)
    return result


def reduced(a: Polynomial) -> Polynomial:
    """Return `a` less total derivatives: no highest derivative stands alone.

    ``q u_{k-1}^j u_k = D(q u_{k-1}^{j+1}) / (j+1) - D(q) u_{k-1}^{j+1} / (j+1)`` with q
    free of u_{k-1} and u_k lowers the order of such a monomial.
    """
    result: Polynomial = {}
    rest = dict(a)
    while rest:
        monomial, coefficient = rest.popitem()
        if len(monomial) < 2 or monomial[-1] != 1:
            result = add(result, {monomial: coefficient})
            continue
        power = monomial[-2] + 1
        factor = {monomial[:-2]: -coefficient / power}
        lower = _collected([((0,) * (len(monomial) - 2) + (power,), Fraction(1))])
        factor = derivative(_collected(factor.items()))
        rest = add(rest, multiply(factor, lower))
    return result


KDV = polynomial({(1, 1): -6, (0, 0, 0, 1): -1})
"""``u_t = -6 u u_x - u_xxx``."""


@functools.cache
def raw_density(n: int) -> Polynomial:
    """Return P_n as the recursion gives it; do not change the result."""
    if n < 1:
        raise ValueError(f"P_n is defined for n >= 1, got {n}")
    if n == 1:
        return polynomial({(1,): 1})
    result = add({}, derivative(raw_density(n - 1)), -1)
    for i in range(1, n - 1):
        result = add(result, multiply(raw_density(i), raw_density(n - 1 - i)))
    return result


@functools.cache
def density(n: int) -> Polynomial:
    """Return P_n less total derivatives; empty for even n.

    ``P_5 ~ 2 u^3 - u_x^2``, ``P_7 ~ 5 u^4 - 10 u u_x^2 + u_xx^2``.
    """
    return reduced(raw_density(n))


@functools.cache
def variation(n: int) -> Polynomial:
    """Return the variational derivative of ``int P_n``."""
    return euler(density(n))


# Values -----------------------------------------------------------------------------


def fine_points(num_points: int, highest_mode: int, factors: int) -> int:
    """Return a grid on which the integral of so many factors has no aliasing.

    A product of f factors holds modes up to f M, and the mean of a grid of n points
    also sees the mode n: a multiple of the number of points with ``n > f M``.
    """
    return num_points * max(1, math.ceil((factors * highest_mode + 1) / num_points))


def derivatives(
    spectrum: "Tensor", wavenumbers: "Tensor", num_points: int, highest: int
) -> "list[Tensor]":
    """Return u, u_x, .. on a grid of `num_points`, each ``(.., num_points)``.

    Parameters
    ----------
    spectrum
        Fourier coefficients ``(.., modes)`` from mode 0 up, those of
        ``rfft(u, norm="forward")``.
    wavenumbers
        ``2 pi m / L`` of the modes.
    num_points
        Points of the grid, at least twice the number of modes less one.
    highest
        Order of the last derivative.
    """
    import torch

    parts = [spectrum]
    for _ in range(highest):
        parts.append(parts[-1] * (1j * wavenumbers))
    stacked = torch.stack(parts)
    return list(torch.fft.irfft(stacked, n=num_points, norm="forward").unbind())


def evaluate(a: Polynomial, derivs: "list[Tensor]") -> "Tensor":
    """Return the polynomial of the derivatives, point by point."""
    import torch

    total = torch.zeros_like(derivs[0])
    for monomial, coefficient in a.items():
        product = torch.full_like(derivs[0], float(coefficient))
        for order, exponent in enumerate(monomial):
            for _ in range(exponent):
                product = product * derivs[order]
        total = total + product
    return total


def integral(n: int, u: "Tensor", length: float) -> "Tensor":
    """Return ``int P_n dx`` of states ``(.., N)`` on a period of `length`, exactly.

    The state is what its Fourier modes below N/2 say, and the products of its
    derivatives are summed without aliasing. u may be complex.
    """
    import torch

    a = density(n)
    if not a:
        return torch.zeros_like(u[..., 0])
    if u.is_complex():
        return _complex_integral(a, u, length)
    num, top = u.shape[-1], (u.shape[-1] - 1) // 2
    spectrum = torch.fft.rfft(u, norm="forward")[..., : top + 1]
    k = 2 * math.pi / length * torch.arange(top + 1, dtype=u.dtype, device=u.device)
    fine = fine_points(num, top, degree(a))
    values = evaluate(a, derivatives(spectrum, k, fine, highest_order(a)))
    return length * values.mean(-1)


def _complex_integral(a: Polynomial, u: "Tensor", length: float) -> "Tensor":
    import torch

    num, top = u.shape[-1], (u.shape[-1] - 1) // 2
    fine = fine_points(num, top, degree(a))
    spectrum = torch.fft.fft(u, norm="forward")
    padded = torch.zeros((*u.shape[:-1], fine), dtype=u.dtype, device=u.device)
    padded[..., : top + 1] = spectrum[..., : top + 1]
    padded[..., fine - top :] = spectrum[..., num - top :]
    k = 2 * math.pi / length * torch.fft.fftfreq(fine, d=1 / fine, dtype=torch.float64)
    parts = [
        torch.fft.ifft(padded * (1j * k.to(u.device)) ** order, norm="forward")
        for order in range(highest_order(a) + 1)
    ]
    return length * evaluate(a, parts).mean(-1)


def soliton_value(n: int, amplitudes: "tuple[float, ...]") -> float:
    """Return ``int P_n`` of solitons ``(k^2/2) sech^2(k (x - k^2 t)/2)`` on the line.

    ``sum_j 2 k_j^n / n`` for odd n, 0 for even n; it does not change in collisions.
    """
    return sum(2 * k**n / n for k in amplitudes) if n % 2 else 0.0
