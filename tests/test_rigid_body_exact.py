"""The free rigid body in closed form: integration, special cases and gradients."""

import itertools

import mpmath
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.special import ellipj, ellipk
from torch import Tensor

from pde_sym.systems.rigid_body_exact import (
    elliptic_k,
    flip_period,
    free_attitude,
    free_motion,
    jacobi,
)
from pde_sym.systems.rigid_body_rotations import rotate

Array = NDArray[np.float64]


def tensor(values: object) -> Tensor:
    return torch.as_tensor(np.asarray(values, dtype=np.float64))


def integrated(momentum: Array, inertia: Array, time: float) -> Array:
    """Return Pi ``(n, 3)`` at `time` by DOP853 at its tightest tolerance."""

    def rate(_: float, flat: Array) -> Array:
        pi = flat.reshape(momentum.shape)
        return np.cross(pi, pi / inertia).ravel()

    span = (0.0, time)
    done = solve_ivp(
        rate, span, momentum.ravel(), method="DOP853", rtol=2.3e-14, atol=1e-16,
        max_step=5e-3,
    )  # fmt: skip
    return done.y[:, -1].reshape(momentum.shape)


def random_bodies(n: int, seed: int = 1) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)), rng.uniform(0.5, 4.0, (n, 3))


def test_jacobi_functions_agree_with_scipy(rng: np.random.Generator) -> None:
    u, m = rng.uniform(-30, 30, 2000), rng.uniform(0, 1, 2000)
    m[:4] = 0.0, 0.5, 1e-12, np.nextafter(0.5, 1)
    found = jacobi(tensor(u), tensor(m), tensor(1 - m))
    for ours, theirs in zip(found, ellipj(u, m)[:3], strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-13)
    np.testing.assert_allclose(
        elliptic_k(tensor(1 - m)).numpy(), ellipk(m), rtol=1e-14, atol=0
    )


@pytest.mark.parametrize("complement", [0.0, 1e-300, 1e-30, 1e-14, 1e-6, 0.1, 0.499])
def test_jacobi_functions_keep_relative_accuracy_near_one(complement: float) -> None:
    """Also cn and dn, which are exponentially small there; cn up to its zeros."""
    quarter = float(elliptic_k(tensor(complement))) if complement else 30.0
    u = np.linspace(1e-3, min(1.9 * quarter, 300.0), 20)
    found = jacobi(tensor(u), tensor(1 - complement), tensor(complement))
    with mpmath.workdps(340):
        m = 1 - mpmath.mpf(complement)
        for name, values in zip(("sn", "cn", "dn"), found, strict=True):
            exact = [float(mpmath.ellipfun(name, mpmath.mpf(x), m=m)) for x in u]
            small = complement**0.5 if name == "cn" else 0.0
            error = np.abs(values.numpy() - exact) / np.maximum(np.abs(exact), small)
            assert np.max(error) <= 3e-13, name


def test_random_bodies_follow_the_integrated_equation() -> None:
    momentum, inertia = random_bodies(200)
    exact = free_motion(tensor(momentum), tensor(inertia), tensor(3.0)).numpy()
    assert np.abs(exact - integrated(momentum, inertia, 3.0)).max() <= 1e-12
    wrong = free_motion(tensor(momentum), tensor(inertia), tensor(3.0 + 1e-9)).numpy()
    assert np.abs(wrong - exact).max() >= 1e-9


@pytest.mark.slow
def test_random_bodies_over_long_times() -> None:
    momentum, inertia = random_bodies(200)
    for time in (20.0, -20.0):
        exact = free_motion(tensor(momentum), tensor(inertia), tensor(time)).numpy()
        error = np.abs(exact - integrated(momentum, inertia, time)).max()
        assert error <= 1e-11


def test_solution_solves_the_equation_at_any_time() -> None:
    """The derivative in time is Pi x Omega; with other inertias it is not."""
    momentum, inertia = (tensor(x) for x in random_bodies(300))
    time = torch.linspace(-40, 40, 300, dtype=torch.float64).requires_grad_()
    pi = free_motion(momentum, inertia, time)
    slopes = [
        torch.autograd.grad(pi[:, i].sum(), time, retain_graph=True)[0]
        for i in range(3)
    ]
    pi, slope = pi.detach(), torch.stack(slopes, dim=-1)
    scale = momentum.square().sum(-1, keepdim=True) / inertia.amin(-1, keepdim=True)
    residual = (slope - torch.linalg.cross(pi, pi / inertia)) / scale
    assert residual.abs().max() <= 1e-12
    heavier = inertia * tensor([1, 1, 1.001])
    other = (slope - torch.linalg.cross(pi, pi / heavier)) / scale
    assert other.abs().max() >= 1e-4


def test_invariants_and_flow_property() -> None:
    momentum, inertia = (tensor(x) for x in random_bodies(500))
    there = free_motion(momentum, inertia, tensor(7.3))
    for weight in (torch.ones_like(inertia), 1 / inertia):
        before, after = ((weight * x * x).sum(-1) for x in (momentum, there))
        assert ((after - before) / before).abs().max() <= 2e-14
    twice = free_motion(there, inertia, tensor(2.1))
    once = free_motion(momentum, inertia, tensor(9.4))
    assert (twice - once).abs().max() <= 1e-12
    back = free_motion(there, inertia, tensor(-7.3))
    assert (back - momentum).abs().max() <= 1e-12


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_any_order_of_the_inertias(order: tuple[int, ...]) -> None:
    """A renaming of the axes renames the solution; an odd one turns time about."""
    momentum, _ = random_bodies(50)
    inertia = np.array([1.0, 1.7, 2.2])
    sign = float(np.linalg.det(np.eye(3)[list(order)]))
    direct = free_motion(tensor(momentum), tensor(inertia), tensor(4.0)).numpy()
    renamed = free_motion(
        tensor(momentum[:, order]), tensor(inertia[list(order)]), tensor(4.0 * sign)
    ).numpy()
    assert np.abs(renamed - direct[:, order]).max() <= 1e-13


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("other", [0.7, 1.9])
def test_symmetric_bodies_precess(axis: int, other: float) -> None:
    """About the axis k at the rate Pi_k (1 / I_k - 1 / I): the circular limit."""
    momentum, _ = random_bodies(50)
    inertia = np.full(3, 1.2)
    inertia[axis] = other
    j, k = (axis + 1) % 3, (axis + 2) % 3
    angle = momentum[:, axis] * (1 / other - 1 / 1.2) * 11.0
    expected = momentum.copy()
    expected[:, j] = np.cos(angle) * momentum[:, j] + np.sin(angle) * momentum[:, k]
    expected[:, k] = np.cos(angle) * momentum[:, k] - np.sin(angle) * momentum[:, j]
    found = free_motion(tensor(momentum), tensor(inertia), tensor(11.0)).numpy()
    assert np.abs(found - expected).max() <= 1e-13
    nearly = inertia * np.array([1.0, 1 + 1e-15, 1.0])
    found = free_motion(tensor(momentum), tensor(nearly), tensor(11.0)).numpy()
    assert np.abs(found - expected).max() <= 1e-12


def test_spheres_rest_and_steady_rotations_stay() -> None:
    momentum, inertia = random_bodies(20)
    time = tensor(13.0)
    sphere = free_motion(tensor(momentum), tensor([2.0, 2.0, 2.0]), time).numpy()
    np.testing.assert_array_equal(sphere, momentum / 2.0 * 2.0)
    rest = free_motion(torch.zeros(20, 3, dtype=torch.float64), tensor(inertia), time)
    assert torch.equal(rest, torch.zeros_like(rest))
    for axis in np.eye(3):
        steady = free_motion(tensor(axis), tensor([1.0, 1.5, 2.2]), time).numpy()
        assert np.abs(steady - axis).max() <= 1e-15


@pytest.mark.parametrize("time", [0.3, 4.0, -4.0, 30.0, 2000.0])
def test_separatrix(time: float) -> None:
    """M^2 = 2 E I_2, exactly in binary numbers: Omega = (A sech, B tanh, C sech)."""
    inertia, momentum = np.array([1.0, 2.5, 4.0]), np.array([2.0, 0.0, 4.0])
    size = float(np.linalg.norm(momentum))
    growth = size / 2.5 * (1.5 * 1.5 / 4.0) ** 0.5
    sech = 1 / np.cosh(growth * min(time, 300.0))
    expected = momentum * sech + np.array([0, size * np.tanh(growth * time), 0])
    found = free_motion(tensor(momentum), tensor(inertia), tensor(time)).numpy()
    assert np.abs(found - expected).max() <= 1e-14
    assert np.isinf(flip_period(tensor(momentum), tensor(inertia)).item())


@pytest.mark.parametrize("tilt", [1e-2, 1e-4, 1e-6, 1e-8, 1e-12])
def test_near_the_separatrix_no_digit_is_lost(tilt: float) -> None:
    """Four flips of a racket against 60 digits; DOP853 is wrong by 1e-5 there."""
    inertia, momentum = [1.0, 2.0, 3.5], [2 * tilt, 2.0, 0.6 * tilt]
    period = float(flip_period(tensor(momentum), tensor(inertia)))
    times = np.linspace(0.0, 4.0 * period)
    found = free_motion(tensor(momentum), tensor(inertia), tensor(times)).numpy()
    with mpmath.workdps(60):
        expected = [_reference(momentum, inertia, t) for t in times]
    assert np.abs(found - np.array(expected)).max() <= 2e-13


def _reference(momentum: list[float], inertia: list[float], time: float) -> list[float]:
    """Return the textbook solution, ``Omega = (A cn, B sn, C dn)``, for M^2 > 2 E I_2.

    With the axes 1 and 3 exchanged where M^2 < 2 E I_2.
    """
    pi, moments = [mpmath.mpf(x) for x in momentum], [mpmath.mpf(x) for x in inertia]
    square = sum(x * x for x in pi)
    energy = sum(x * x / i for x, i in zip(pi, moments, strict=True))
    exchanged = square < energy * moments[1]
    if exchanged:
        pi, moments = pi[::-1], moments[::-1]
    i1, i2, i3 = moments
    low, high = energy * i3 - square, square - energy * i1
    a, b = (mpmath.sqrt(low / (i * (i3 - i))) for i in (i1, i2))
    c = mpmath.sqrt(high / (i3 * (i3 - i1)))
    rate = mpmath.sqrt((i3 - i2) * high / (i1 * i2 * i3))
    m = (i2 - i1) * low / ((i3 - i2) * high)
    phase = mpmath.ellipf(mpmath.atan2(pi[1] / i2 / b, pi[0] / i1 / a), m)
    u = phase + rate * mpmath.mpf(time)
    values = [i1 * a * mpmath.ellipfun("cn", u, m=m)]
    values.append(i2 * b * mpmath.ellipfun("sn", u, m=m))
    values.append(i3 * c * mpmath.ellipfun("dn", u, m=m))
    return [float(x) for x in (values[::-1] if exchanged else values)]


@pytest.mark.parametrize(
    ("tilt", "time"), [(1e-2, 16.5240), (1e-4, 30.5942), (1e-6, 44.6633)]
)
def test_flip_times_of_the_tennis_racket(tilt: float, time: float) -> None:
    momentum, inertia = tensor([2 * tilt, 2.0, 0.6 * tilt]), tensor([1.0, 2.0, 3.5])
    period = flip_period(momentum, inertia)
    assert float(period) == pytest.approx(time, abs=6e-5)
    half = free_motion(momentum, inertia, period / 2)
    assert free_motion(half, inertia, period)[1] * half[1] <= 0
    turned = free_motion(momentum, inertia, period)
    assert float(turned[1]) == pytest.approx(-2.0, abs=1e-9)


def test_gradients_agree_with_differences() -> None:
    momentum, inertia = (tensor(x).requires_grad_() for x in random_bodies(8, seed=4))
    time = torch.linspace(-3, 5, 8, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        free_motion, (momentum, inertia, time), atol=1e-6, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("momentum", "inertia"),
    [
        ([0.0, 0.0, 0.0], [1.0, 1.5, 2.0]),
        ([0.3, 0.5, -0.4], [1.0, 1.0, 2.0]),
        ([0.3, 0.5, -0.4], [2.0, 2.0, 2.0]),
        ([0.0, 1.0, 0.0], [1.0, 1.5, 2.0]),
        ([1.0, 0.0, 0.0], [1.0, 1.5, 2.0]),
        ([0.0, 0.5, 0.4], [1.0, 1.5, 2.0]),
    ],
)
def test_gradients_in_the_state_at_special_cases(
    momentum: list[float], inertia: list[float]
) -> None:
    def flow(state: Tensor) -> Tensor:
        return free_motion(state, tensor(inertia), tensor(1.7))

    state = tensor(momentum).requires_grad_()
    assert torch.autograd.gradcheck(flow, (state,), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    "inertia", [[1.0, 1.5, 2.2], [2.2, 1.0, 1.5], [1.0, 1.0, 2.0], [2.0, 2.0, 2.0]]
)
def test_attitude_follows_the_integrated_equation(inertia: list[float]) -> None:
    momentum, _ = random_bodies(1, seed=9)
    moments = np.array(inertia)

    def rate(_: float, y: Array) -> Array:
        pi, turn = y[:3], y[3:].reshape(3, 3)
        omega = pi / moments
        return np.append(np.cross(pi, omega), np.cross(turn, omega[None]))

    start = np.append(momentum[0], np.eye(3))
    done = solve_ivp(rate, (0, 2), start, method="DOP853", rtol=1e-13, atol=1e-15)
    end, turn = done.y[:3, -1], done.y[3:, -1].reshape(3, 3)
    q = free_attitude(tensor(momentum), tensor(inertia), 2.0, 8)
    found = torch.stack([rotate(q[0], e) for e in torch.eye(3, dtype=q.dtype)], dim=1)
    assert np.abs(found.numpy() - turn).max() <= 1e-12
    kept = rotate(q[0], tensor(end)).numpy()
    assert np.abs(kept - momentum[0]).max() <= 1e-12
    coarse = free_attitude(tensor(momentum), tensor(inertia), 2.0, 4)
    assert (coarse - q).abs().max() <= 1e-11


def test_one_part_is_exact_up_to_a_radian() -> None:
    momentum, inertia = random_bodies(300)
    speed = np.linalg.norm(momentum, axis=1) / inertia.min(axis=1)
    pi, moments = tensor(momentum / speed[:, None]), tensor(inertia)
    for time, least, most in ((1.0, 0.0, 1e-14), (4.0, 1e-10, 1e-2)):
        once, often = (free_attitude(pi, moments, time, n) for n in (1, 16))
        assert least <= float((once - often).abs().max()) <= most


def test_a_body_at_rest_does_not_turn() -> None:
    q = free_attitude(torch.zeros(2, 3).double(), tensor([1.0, 1.5, 2.0]), 1.0, 3)
    assert torch.equal(q, tensor([[1.0, 0, 0, 0]] * 2))
