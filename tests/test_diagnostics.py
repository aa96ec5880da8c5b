"""Defects, spectra and floors of maps whose symmetry is known in closed form."""

import math
from collections.abc import Callable

import pytest
import torch
from helpers import no_environment, observed_order, relative_difference
from torch import Tensor

from pde_sym.diagnostics import (
    Action,
    breaking_spectrum,
    defects,
    in_batches,
    probes,
    semidirect,
    strict_floor,
    translation_lie_derivative,
    turned_back,
)
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import GroupElement, point_group, shift_group
from pde_sym.symmetry import fourier_shift
from pde_sym.systems import Heat
from pde_sym.systems.heat_terms import Drift

GRID = PeriodicGrid.square(16)
X, Y = (2 * math.pi * torch.from_numpy(axis) for axis in GRID.mesh())
SCALAR = FieldSpec.of(Field(name="u"))
VECTOR = FieldSpec.of(Field(name="v", rank=Rank.VECTOR, components=2))
ON_SCALARS = Action(SCALAR, GRID)
D4 = point_group("D4")
SHIFTS = shift_group(4)
EXACT = 1e-12
Map = Callable[[Tensor], Tensor]


def states(count: int = 3) -> Tensor:
    return torch.randn(count, 1, 16, 16, dtype=torch.float64)


def ones() -> Tensor:
    return torch.ones(1, 1, 16, 16, dtype=torch.float64)


def times(w: Tensor) -> Map:
    """Return ``u -> w(x) u``."""
    return lambda u: w * u


def slope(u: Tensor, axis: int) -> Tensor:
    return (u.roll(-1, axis) - u.roll(1, axis)) / 2


def d_x(u: Tensor) -> Tensor:
    return slope(u, -2)


def d_y(u: Tensor) -> Tensor:
    return slope(u, -1)


def second(u: Tensor, axis: int) -> Tensor:
    return u.roll(-1, axis) - 2 * u + u.roll(1, axis)


def laplacian(u: Tensor) -> Tensor:
    return second(u, -2) + second(u, -1)


def mixed(u: Tensor) -> Tensor:
    return u + d_x(u) + 0.5 * (1 + torch.sin(X)) * u.square()


def heat(system: Heat) -> Map:
    return system.solver(GRID, no_environment(GRID), 1e-3)


# Defects.


@pytest.mark.parametrize(
    "step", [lambda u: u, lambda u: u**3 - 1, laplacian, heat(Heat())]
)
def test_equivariant_maps_have_no_defect(step: Map) -> None:
    for defect in defects(step, states(), probes(GRID), ON_SCALARS):
        assert defect.mean <= defect.largest <= EXACT


def test_a_broken_solver_has_a_defect_where_it_must() -> None:
    """A wind along x keeps shifts and y -> -y alone."""
    system = Heat(breaking=(Drift(strength=5.0),))
    for defect in defects(heat(system), states(), probes(GRID), ON_SCALARS):
        if defect.element in system.survivors:
            assert defect.largest <= EXACT
        else:
            assert defect.mean > 1e-3


@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_defect_of_a_multiplication(epsilon: float) -> None:
    """``w = 1 + eps cos x``: ``||w(x + s) - w|| / ||w||`` on the constant 1.

    It is ``2 eps |sin(s / 2)| sqrt(1/2) / sqrt(1 + eps^2 / 2)`` for a shift s along
    x, the same with s = pi for a half turn of the shifted w, and 0 along y.
    """
    w = 1 + epsilon * torch.cos(X)
    for fraction in (1 / 16, 0.25, 0.5, 0.123):
        along_x, along_y = (
            GroupElement(shift=s) for s in ((fraction, 0.0), (0.0, fraction))
        )
        measured = defects(times(w), ones(), [along_x, along_y], ON_SCALARS)
        size = 2 * epsilon * abs(math.sin(math.pi * fraction)) / math.sqrt(2)
        expected = size / math.sqrt(1 + epsilon**2 / 2)
        assert measured[0].mean == pytest.approx(expected, rel=1e-12)
        assert measured[1].mean <= EXACT
    odd = times(1 + epsilon * torch.sin(X))
    turned, mirrored = defects(
        odd, ones(), [GroupElement(2), GroupElement(flip=True)], ON_SCALARS
    )
    expected = 2 * epsilon / math.sqrt(2) / math.sqrt(1 + epsilon**2 / 2)
    assert turned.mean == pytest.approx(expected, rel=1e-12)
    assert mirrored.mean <= EXACT


@pytest.mark.parametrize("element", D4.elements, ids=lambda g: g.name)
def test_defect_of_a_shift_under_turns(element: GroupElement) -> None:
    """``g^-1 T_s g = T_r``, ``r = M^-1 s``: ``2 |sin(k.(r - s) / 2)|`` on a wave."""
    s, k = (0.125, 0.3125), (1, 2)

    def step(u: Tensor) -> Tensor:
        return fourier_shift(u, s)

    wave = torch.cos(k[0] * X + k[1] * Y + 0.4)[None, None]
    (defect,) = defects(step, wave, [element], ON_SCALARS)
    (a, b), (c, d) = element.matrix
    r = (a * s[0] + c * s[1], b * s[0] + d * s[1])
    phase = math.pi * (k[0] * (r[0] - s[0]) + k[1] * (r[1] - s[1]))
    assert defect.mean == pytest.approx(2 * abs(math.sin(phase)), abs=1e-12)
    # Translations commute with a translation.
    (defect,) = defects(step, wave, [GroupElement(shift=(0.25, 0.5))], ON_SCALARS)
    assert defect.mean <= EXACT


def test_mean_and_largest_are_over_the_inputs() -> None:
    """Each defect is relative to its own output, and inputs of any size count alike."""

    def step(u: Tensor) -> Tensor:
        return (1 + u.mean((-3, -2, -1), keepdim=True) * torch.cos(X)) * u

    half = [GroupElement(shift=(0.5, 0.0))]
    inputs = torch.cat([ones(), 0.5 * ones(), 1e-3 * ones()])
    single = [defects(step, u[None], half, ON_SCALARS)[0].mean for u in inputs]
    (defect,) = defects(step, inputs, half, ON_SCALARS)
    assert single[0] > single[1] > single[2] > 0
    assert defect.largest == pytest.approx(single[0])
    assert defect.mean == pytest.approx(sum(single) / 3)
    assert defect.element == half[0]


def test_turning_back_undoes_the_turn_of_the_result() -> None:
    """The gradient is a vector: ``g^-1 grad(g u) = grad u``; of scalars it is not."""

    def gradient(u: Tensor) -> Tensor:
        return torch.cat([d_x(u), d_y(u)], dim=1)

    u = states()
    parts = turned_back(gradient, u, D4, Action(VECTOR, GRID), ON_SCALARS)
    assert parts.shape == (8, 3, 2, 16, 16)
    assert all(relative_difference(part, gradient(u)) <= EXACT for part in parts)
    scalars = Action(FieldSpec.of(Field(name="a"), Field(name="b")), GRID)
    parts = turned_back(gradient, u, D4, scalars, ON_SCALARS)
    wrong = [relative_difference(part, gradient(u)) for part in parts[1:]]
    assert min(wrong) > 0.5


def test_given_fields_move_with_the_state() -> None:
    """``(u, e) -> u e`` keeps everything when e moves too, and nothing when not."""
    given = states(1)
    pairs = torch.cat([states(), given.expand(3, -1, -1, -1)], dim=1)
    both = Action(SCALAR + FieldSpec.of(Field(name="e")), GRID)

    def joint(x: Tensor) -> Tensor:
        return x[:, :1] * x[:, 1:]

    for defect in defects(joint, pairs, probes(GRID), ON_SCALARS, before=both):
        assert defect.largest <= EXACT
    for defect in defects(times(given), states(), probes(GRID), ON_SCALARS):
        assert defect.mean > 0.1
    assert strict_floor(joint, pairs, D4.elements, ON_SCALARS, both) <= EXACT
    assert strict_floor(times(given), states(), D4.elements, ON_SCALARS) > 0.1
    shares = breaking_spectrum(joint, pairs, D4, ON_SCALARS, both)
    assert shares["trivial"] == pytest.approx(1, abs=EXACT)


# Spectra.

OPERATORS: dict[str, Map] = {
    "trivial": laplacian,
    "vector": d_x,
    "quadrupole": lambda u: second(u, -2) - second(u, -1),
    "quadrupole'": lambda u: d_x(d_y(u)),
    "pseudoscalar": lambda u: d_x(d_y(second(u, -2) - second(u, -1))),
}


@pytest.mark.parametrize("irrep", OPERATORS)
def test_a_difference_operator_lies_in_the_irrep_of_its_symbol(irrep: str) -> None:
    shares = breaking_spectrum(OPERATORS[irrep], states(), D4, ON_SCALARS)
    assert set(shares) == {i.name for i in D4.irreps}
    for name, share in shares.items():
        assert share == pytest.approx(float(name == irrep), abs=EXACT)


def test_irreps_of_smaller_groups() -> None:
    """Restriction: to C4 xy joins x^2 - y^2; to D1 d/dx is even and d/dy odd."""
    u = states()
    for name, operator in OPERATORS.items():
        shares = breaking_spectrum(operator, u, point_group("C4"), ON_SCALARS)
        expected = name.removesuffix("'").replace("pseudoscalar", "trivial")
        assert shares[expected] == pytest.approx(1, abs=EXACT)
    mirror = point_group("D1")
    for operator, name in ((d_x, "trivial"), (d_y, "pseudoscalar")):
        shares = breaking_spectrum(operator, u, mirror, ON_SCALARS)
        assert shares[name] == pytest.approx(1, abs=EXACT)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ((0, 0), "trivial"),
        ((1, 0), "mode (1, 0)"),
        ((2, 0), "mode (2, 0)"),
        ((1, 2), "mode (1, 2)"),
        ((1, -1), "mode (1, 3)"),
        ((3, 0), "mode (1, 0)"),
        ((4, 0), "trivial"),
    ],
)
def test_a_modulation_shows_as_its_mode(mode: tuple[int, int], name: str) -> None:
    """``w = cos(m.x)`` lies in mode m, modulo the number of shifts."""
    w = torch.cos(mode[0] * X + mode[1] * Y + 0.3)
    shares = breaking_spectrum(times(w), states(), SHIFTS, ON_SCALARS)
    for irrep, share in shares.items():
        assert share == pytest.approx(float(irrep == name), abs=EXACT)


def test_shares_are_squared_amplitudes() -> None:
    """``1 + a cos x`` on constants: 1 against ``a^2 / 2``; shares sum to one."""
    a = 0.6
    shares = breaking_spectrum(times(1 + a * torch.cos(X)), ones(), SHIFTS, ON_SCALARS)
    assert shares["trivial"] == pytest.approx(1 / (1 + a * a / 2), abs=EXACT)
    assert shares["mode (1, 0)"] == pytest.approx(1 - shares["trivial"], abs=EXACT)
    for group in (D4, point_group("C4"), SHIFTS):
        shares = breaking_spectrum(mixed, states(), group, ON_SCALARS)
        assert sum(shares.values()) == pytest.approx(1, abs=EXACT)
        assert 0.01 < shares["trivial"] < 0.99


# Floors.


def average(step: Map) -> Map:
    """Return ``P f = mean_g g^-1 f(g .)`` over D4."""
    return lambda u: turned_back(step, u, D4, ON_SCALARS).mean(0)


def error_over_images(step: Map, strict: Map, inputs: Tensor) -> float:
    """Return ``sqrt(E ||f(g x) - h(g x)||^2 / E ||f(g x)||^2)`` over D4."""
    images = torch.cat([ON_SCALARS(g, inputs) for g in D4])
    return relative_difference(strict(images), step(images))


def test_no_equivariant_map_goes_under_the_floor_and_the_average_attains_it() -> None:
    u = states()
    floor = strict_floor(mixed, u, D4.elements, ON_SCALARS)
    assert 0.1 < floor < 1
    # What averages out is d/dx and sin x.
    for best in (average(mixed), lambda u: u + 0.5 * u.square()):
        error = error_over_images(mixed, best, u)
        assert error == pytest.approx(floor, rel=1e-12)
    others: list[Map] = [
        lambda u: u,
        lambda u: 1e-3 * u,
        lambda u: u + 0.4 * u.square(),
        laplacian,
        lambda u: average(mixed)(u) + 1e-3 * laplacian(u),
        lambda u: average(mixed)(u) - 1e-3 * laplacian(u),
        lambda u: 1.001 * average(mixed)(u),
    ]
    for other in others:
        assert (
            max(d.largest for d in defects(other, u, D4.elements, ON_SCALARS)) <= EXACT
        )
        assert error_over_images(mixed, other, u) > floor
    # A map that is not equivariant may.
    assert error_over_images(mixed, mixed, u) == 0


def test_the_floor_of_equivariant_maps_is_zero() -> None:
    everything = semidirect(D4, shift_group(2))
    for step in (laplacian, heat(Heat()), average(mixed)):
        assert strict_floor(step, states(), D4.elements, ON_SCALARS) <= EXACT
    assert strict_floor(heat(Heat()), states(1), everything, ON_SCALARS) <= EXACT
    # What has no trivial part has nothing that an equivariant map could learn.
    assert strict_floor(d_x, states(), D4.elements, ON_SCALARS) == pytest.approx(1)


def test_the_floor_is_the_share_outside_the_trivial_irrep() -> None:
    """``floor^2 = 1 - share`` where all irreps are of dimension 1."""
    u = states()
    for name in ("C2", "D1", "D2"):
        group = point_group(name)
        floor = strict_floor(mixed, u, group.elements, ON_SCALARS)
        shares = breaking_spectrum(mixed, u, group, ON_SCALARS)
        assert floor**2 == pytest.approx(1 - shares["trivial"], rel=1e-12)
    a = 0.6
    step = times(1 + a * torch.cos(X))
    floor = strict_floor(step, ones(), SHIFTS.elements, ON_SCALARS)
    assert floor**2 == pytest.approx((a * a / 2) / (1 + a * a / 2), abs=EXACT)


def test_elements_that_are_no_group_give_another_number() -> None:
    """Over e and one quarter turn the mean is no equivariant map."""
    u = states()
    floor = strict_floor(mixed, u, D4.elements, ON_SCALARS)
    part = strict_floor(mixed, u, D4.elements[:2], ON_SCALARS)
    assert abs(part - floor) > 0.02

    def wrong(v: Tensor) -> Tensor:
        return turned_back(mixed, v, D4.elements[:2], ON_SCALARS).mean(0)

    (defect,) = defects(wrong, u, D4.elements[1:2], ON_SCALARS)
    assert defect.mean > 0.1


# Shifts off the grid, batches and probes.


def test_lie_derivative_of_maps_that_keep_shifts_is_zero() -> None:
    for step in (laplacian, heat(Heat()), lambda u: fourier_shift(u, (0.1, 0.2))):
        smooth = torch.cos(X + 2 * Y) + torch.sin(3 * X)
        assert translation_lie_derivative(step, smooth[None, None]) <= 1e-9


def test_lie_derivative_of_a_multiplication() -> None:
    """``w = 1 + eps cos x``: ``2 pi eps / sqrt(2) / sqrt(1 + eps^2 / 2)`` on 1.

    The central difference multiplies it by ``sin(2 pi h) / (2 pi h)``: order 2.
    """
    epsilon = 0.5
    norm = math.sqrt(1 + epsilon**2 / 2)
    exact = 2 * math.pi * epsilon / math.sqrt(2) / norm
    fractions = [0.02, 0.01, 0.005]
    for wave in (X, Y):
        step = times(1 + epsilon * torch.cos(wave))
        measured = [translation_lie_derivative(step, ones(), h) for h in fractions]
        for h, value in zip(fractions, measured, strict=True):
            damped = exact * math.sin(2 * math.pi * h) / (2 * math.pi * h)
            assert value == pytest.approx(damped, rel=1e-10)
        errors = [abs(value - exact) for value in measured]
        assert observed_order(fractions, errors) == pytest.approx(2, abs=0.01)
        assert translation_lie_derivative(step, ones()) == pytest.approx(exact, 1e-5)
    # Both axes together, as the root of the sum of squares.
    both = times(1 + epsilon * (torch.cos(X) + torch.cos(Y)) / math.sqrt(2))
    assert translation_lie_derivative(both, ones()) == pytest.approx(exact, 1e-5)


def test_batches_change_nothing() -> None:
    calls: list[int] = []

    def step(u: Tensor) -> Tensor:
        calls.append(len(u))
        return mixed(u)

    u = states(7)
    assert torch.equal(in_batches(step, 3)(u), mixed(u))
    assert calls == [3, 3, 1]
    values = turned_back(in_batches(mixed, 2), u, D4, ON_SCALARS)
    assert torch.equal(values, turned_back(mixed, u, D4, ON_SCALARS))


@pytest.mark.parametrize(("n", "quarter"), [(16, 0.25), (10, 0.2), (9, 2 / 9)])
def test_probes_are_the_seven_of_d4_and_three_shifts_on_grid_steps(
    n: int, quarter: float
) -> None:
    grid = PeriodicGrid.square(n)
    found = probes(grid)
    assert found[:7] == D4.elements[1:]
    shifts = [(1 / n, 0.0), (0.0, 1 / n), (quarter, quarter)]
    assert [g.shift for g in found[7:]] == shifts
    u = torch.randn(1, n, n)
    for g in found:
        # A permutation of the points: the sorted values stay, bit for bit.
        moved = Action(SCALAR, grid)(g, u)
        assert torch.equal(moved.flatten().sort()[0], u.flatten().sort()[0])
        assert not torch.equal(moved, u)
