"""Groups of motions: axioms, characters, subgroups and projections."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pde_sym.diagnostics import Action, semidirect, turned_back
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import (
    FULL,
    IDENTITY,
    Group,
    GroupElement,
    Irrep,
    Subgroup,
    point_group,
    shift_group,
)

POINT = ["C1", "C2", "C4", "D1", "D2", "D4"]
GROUPS = [*map(point_group, POINT), *map(shift_group, (1, 2, 3, 4))]


def position(element: GroupElement) -> tuple[int, bool, float, float]:
    """Return a form in which equal elements are equal up to round-off of shifts."""
    x, y = (round(s, 9) % 1.0 for s in element.shift)
    return element.turns, element.flip, x, y


def moved(element: GroupElement, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``g x = M x + s`` on the torus."""
    return (np.array(element.matrix) @ x + np.array(element.shift)) % 1.0


def random_elements(rng: np.random.Generator, count: int) -> list[GroupElement]:
    return [
        GroupElement(int(rng.integers(-9, 9)), bool(rng.integers(2)), (sx, sy))
        for sx, sy in rng.uniform(-2, 2, (count, 2)).tolist()
    ]


def test_composition_is_that_of_maps(rng: np.random.Generator) -> None:
    """``(g h) x = g (h x)``, g^-1 undoes g, and ``(g h) k = g (h k)``."""
    x = np.array([0.137, 0.731])
    elements = random_elements(rng, 60)
    for g, h, k in zip(elements, elements[1:], elements[2:], strict=False):
        wrapped = (moved(g @ h, x) - moved(g, moved(h, x)) + 0.5) % 1.0 - 0.5
        assert np.abs(wrapped).max() < 1e-12
        for undone in (g @ g.inverse(), g.inverse() @ g):
            assert position(undone) == position(IDENTITY)
        assert position((g @ h) @ k) == position(g @ (h @ k))
        assert position((g @ h).inverse()) == position(h.inverse() @ g.inverse())
        assert np.array_equal(
            np.array((g @ h).matrix), np.array(g.matrix) @ np.array(h.matrix)
        )
        assert (g @ h).determinant == g.determinant * h.determinant


def test_the_matrix_is_a_flip_then_quarter_turns() -> None:
    """``M = R(turns pi/2) diag(1, -1)^flip``, ``R(pi/2): (x, y) -> (-y, x)``."""
    quarter, mirror = np.array([[0, -1], [1, 0]]), np.diag([1, -1])
    for turns, flip in itertools.product(range(-4, 8), (False, True)):
        g = GroupElement(turns, flip)
        expected = np.linalg.matrix_power(quarter, turns % 4)
        expected = expected @ mirror if flip else expected
        assert np.array_equal(g.matrix, expected)
        assert g.determinant == round(np.linalg.det(expected))
        assert 0 <= g.turns < 4
    turn, flip = GroupElement(turns=1), GroupElement(flip=True)
    # First the right one: they do not commute.
    assert turn @ flip == GroupElement(1, True)
    assert flip @ turn == GroupElement(3, True)


@pytest.mark.parametrize("shift", [-1e-17, -1.0, 1.0, 7.25, -0.75, 0.999])
def test_shifts_are_taken_modulo_one(shift: float) -> None:
    g = GroupElement(shift=(shift, 0.0))
    assert 0 <= g.shift[0] < 1
    assert abs(g.shift[0] - shift - round(g.shift[0] - shift)) < 1e-12
    if shift in (-1e-17, -1.0, 1.0):
        assert g == IDENTITY
        assert g.name == "e"
        assert g in Subgroup.of("", point_group("C1"))


@pytest.mark.parametrize("group", GROUPS, ids=lambda g: g.name)
def test_axioms(group: Group) -> None:
    keys = {position(g) for g in group}
    assert len(keys) == len(group)
    assert group.elements[0] == IDENTITY
    for g in group:
        assert position(g.inverse()) in keys
        assert {position(g @ h) for h in group} == keys


def test_orders_of_the_groups() -> None:
    assert [len(point_group(name)) for name in POINT] == [1, 2, 4, 2, 4, 8]
    assert [len(shift_group(n)) for n in (1, 2, 3)] == [1, 4, 9]
    for name in POINT:
        assert all(g.flip is False for g in point_group(name)) == (name[0] == "C")


@pytest.mark.parametrize("group", GROUPS, ids=lambda g: g.name)
def test_characters_are_orthogonal_class_functions(group: Group) -> None:
    """``<chi_s, chi_t> = c delta_st``, ``sum d^2 / c = |G|``, ``chi(e) = d``.

    c is 2 for an irrep that splits over the complex numbers, and 1 otherwise.
    """
    n = len(group)
    for s, t in itertools.product(group.irreps, repeat=2):
        inner = np.dot(s.characters, t.characters) / n
        c = 2 if s.is_complex_type else 1
        assert inner == pytest.approx(c if s is t else 0, abs=1e-12)
    orders = [i.dimension**2 / (2 if i.is_complex_type else 1) for i in group.irreps]
    assert sum(orders) == n
    index = {position(g): i for i, g in enumerate(group)}
    for irrep in group.irreps:
        assert irrep.characters[0] == irrep.dimension
        for g, h in itertools.product(group, repeat=2):
            conjugate = index[position(h @ g @ h.inverse())]
            same = irrep.characters[index[position(g)]]
            assert irrep.characters[conjugate] == pytest.approx(same, abs=1e-12)
    assert group.trivial.characters == (1.0,) * n
    names = [irrep.name for irrep in group.irreps]
    assert names[0] == "trivial"
    assert len(set(names)) == len(names)


def test_columns_of_the_table_of_d4_are_orthogonal() -> None:
    """``sum_s chi_s(g) chi_s(h) = |G| / |class of g|`` for conjugate g, h, else 0."""
    group = point_group("D4")
    table = np.array([irrep.characters for irrep in group.irreps])
    classes = [{h @ g @ h.inverse() for h in group} for g in group]
    for i, j in itertools.product(range(8), repeat=2):
        expected = 8 / len(classes[i]) if group.elements[j] in classes[i] else 0
        assert table[:, i] @ table[:, j] == pytest.approx(expected, abs=1e-12)


def test_irreps_of_d4_are_named_after_their_functions() -> None:
    """1, xy(x^2 - y^2), x^2 - y^2, xy and (x, y), under ``f -> f(g^-1 x)``."""
    functions = {
        "trivial": lambda x, y: x**2 + y**2,
        "pseudoscalar": lambda x, y: x * y * (x**2 - y**2),
        "quadrupole": lambda x, y: x**2 - y**2,
        "quadrupole'": lambda x, y: x * y,
    }
    group = point_group("D4")
    irreps = {irrep.name: irrep for irrep in group.irreps}
    assert set(irreps) == {*functions, "vector"}
    for name, f in functions.items():
        for g, character in zip(group, irreps[name].characters, strict=True):
            x, y = np.array(g.inverse().matrix) @ np.array([2.0, 3.0])
            assert f(x, y) == pytest.approx(character * f(2.0, 3.0))
    for g, character in zip(group, irreps["vector"].characters, strict=True):
        assert np.trace(np.array(g.matrix)) == pytest.approx(character, abs=1e-12)


def test_irreps_of_shifts_are_fourier_modes() -> None:
    n = 4
    group = shift_group(n)
    irreps = {irrep.name: irrep for irrep in group.irreps}
    mode = irreps["mode (1, 2)"]
    expected = [
        2 * math.cos(2 * math.pi * (g.shift[0] + 2 * g.shift[1])) for g in group
    ]
    assert mode.characters == pytest.approx(expected, abs=1e-12)
    assert (mode.dimension, mode.is_complex_type) == (2, True)
    # A mode that is its own conjugate is real; of a pair there is one.
    assert irreps["mode (2, 0)"].dimension == 1
    assert "mode (3, 2)" not in irreps
    assert sum(irrep.dimension for irrep in group.irreps) == n * n


SPEC = FieldSpec.of(
    Field(name="u"),
    Field(name="v", rank=Rank.VECTOR, components=2),
    Field(name="w", rank=Rank.PSEUDOSCALAR),
    Field(name="t", rank=Rank.TENSOR, components=4),
)


@pytest.mark.parametrize(
    "group",
    [*map(point_group, POINT), shift_group(2), shift_group(4)],
    ids=lambda g: g.name,
)
def test_projections_of_signals(group: Group) -> None:
    """``P_s P_t = delta_st P_s`` and ``sum P_s = 1``, on random states.

    The projection of a state is that of the constant map to it.
    """
    grid = PeriodicGrid.square(8)
    action = Action(SPEC, grid)
    state = torch.randn(2, SPEC.num_channels, 8, 8, dtype=torch.float64)

    def projected(irrep: Irrep, u: Tensor) -> Tensor:
        return group.project(irrep, turned_back(lambda _: u, u, group.elements, action))

    parts = [projected(irrep, state) for irrep in group.irreps]
    total = functools.reduce(torch.add, parts)
    assert (total - state).abs().max() <= 1e-12
    for (i, part), (j, irrep) in itertools.product(
        enumerate(parts), enumerate(group.irreps)
    ):
        expected = part if i == j else torch.zeros_like(part)
        assert (projected(irrep, part) - expected).abs().max() <= 1e-12
    # All parts are there: the identities do not hold between zeros.
    assert all(part.abs().max() > 0.01 for part in parts)


def test_a_wrong_weight_is_no_projection() -> None:
    """Without c the irrep of C4 that splits would count twice."""
    vector = next(i for i in point_group("C4").irreps if i.name == "vector")
    assert vector.is_complex_type
    assert vector.weights[0] == pytest.approx(2 / 8 * 2)
    wrong = Irrep("vector", 2, vector.characters, is_complex_type=False)
    with pytest.raises(ValueError, match="sum to one"):
        Group(
            "C4",
            point_group("C4").elements,
            tuple(wrong if i is vector else i for i in point_group("C4").irreps),
        )
    with pytest.raises(ValueError, match="identity"):
        Group("C1", (GroupElement(turns=2),), (Irrep("trivial", 1, (1.0,)),))


def test_semidirect_products() -> None:
    """Point groups normalise shifts: |G| = |H| |N|; a lone shift is not normalised."""
    for name, n in itertools.product(("C1", "C4", "D4"), (1, 2, 4)):
        products = semidirect(point_group(name), shift_group(n))
        keys = {position(g) for g in products}
        assert len(keys) == len(products) == len(point_group(name)) * n * n
        assert {position(g @ h) for g in products[:9] for h in products} == keys
    along_x = Group(
        "half x",
        (IDENTITY, GroupElement(shift=(0.5, 0.0))),
        point_group("C2").irreps,
    )
    lopsided = semidirect(point_group("C4"), along_x)
    keys = {position(g) for g in lopsided}
    assert not {position(g @ h) for g in lopsided for h in lopsided} <= keys


def test_subgroups_of_the_plane() -> None:
    shift_x, shift_y = GroupElement(shift=(0.3, 0.0)), GroupElement(shift=(0.0, 0.3))
    flip_x, flip_y = GroupElement(2, True), GroupElement(0, True)
    turn = GroupElement(turns=1)
    along_x = Subgroup.of("x", point_group("D2"))
    for element, full, part in [
        (IDENTITY, True, True),
        (shift_x, True, True),
        (shift_y, True, False),
        (shift_x @ shift_y, True, False),
        (turn, True, False),
        (flip_x, True, True),
        (flip_y @ shift_x, True, True),
        (flip_y @ shift_y, True, False),
    ]:
        assert (element in FULL) is full
        assert (element in along_x) is part


@pytest.mark.parametrize("element", [*point_group("D4"), *shift_group(3)])
def test_an_intersection_holds_what_both_hold(element: GroupElement) -> None:
    subgroups = [
        FULL,
        Subgroup.of("x", point_group("D2")),
        Subgroup.of("y", point_group("D1")),
        Subgroup.of("", point_group("C4")),
    ]
    for a, b in itertools.product(subgroups, repeat=2):
        assert (element in (a & b)) == (element in a and element in b)
        assert a & b == b & a
    assert all(FULL & a == a & a == a for a in subgroups)


def test_names() -> None:
    elements = {
        "e": IDENTITY,
        "turn 90": GroupElement(turns=1),
        "flip y": GroupElement(flip=True),
        "flip, turn 90": GroupElement(1, True),
        "shift 0.25, 0": GroupElement(shift=(0.25, 0.0)),
    }
    for name, element in elements.items():
        assert element.name == name
    diagonal = [IDENTITY, GroupElement(1, True)]
    subgroups = {
        "T^2 x D4": FULL,
        "T_x x D1": Subgroup.of("x", point_group("D1")),
        "T_y x C1": Subgroup.of("y", [IDENTITY]),
        "C4": Subgroup.of("", point_group("C4")),
        "T^2 x {e; flip, turn 90}": Subgroup.of("xy", diagonal),
    }
    for name, subgroup in subgroups.items():
        assert subgroup.name == name
    d4 = [g.name for g in point_group("D4")]
    assert len(set(d4)) == 8
