"""The action of the plane's symmetries and the tables of their irreps."""

import itertools
import math

import numpy as np
import pytest
import torch

from pde_sym.diagnostics import probes
from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import (
    Group,
    GroupElement,
    Irrep,
    Subgroup,
    point_group,
    shift_group,
)
from pde_sym.symmetry import act, fourier_shift

GRID = PeriodicGrid.square(8)
SPEC = FieldSpec.of(
    Field(name="u"),
    Field(name="w", rank=Rank.PSEUDOSCALAR),
    Field(name="v", rank=Rank.VECTOR, components=2),
    Field(name="t", rank=Rank.TENSOR, components=4),
)
ELEMENTS = [
    GroupElement(g.turns, g.flip, (i / 8, j / 8))
    for g in point_group("D4")
    for i, j in ((0, 0), (1, 0), (3, 5))
]


def state() -> torch.Tensor:
    return torch.randn(2, SPEC.num_channels, *GRID.shape, dtype=torch.float64)


def test_action_is_a_homomorphism() -> None:
    u = state()
    for g, h in itertools.product(ELEMENTS, ELEMENTS):
        stepwise = act(g, act(h, u, SPEC, GRID), SPEC, GRID)
        assert torch.equal(stepwise, act(g @ h, u, SPEC, GRID)), (g, h)


def test_inverse_undoes() -> None:
    u = state()
    for g in ELEMENTS:
        assert torch.equal(act(g.inverse(), act(g, u, SPEC, GRID), SPEC, GRID), u)


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda g: g.name)
def test_action_moves_points_and_components_by_the_same_matrix(
    element: GroupElement,
) -> None:
    """``(g u)(x) = rho(M) u(M^-1 (x - s))``, checked on functions of position."""
    x, y = (torch.from_numpy(c) for c in GRID.mesh())

    def fields(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        a, b = 2 * np.pi * x, 2 * np.pi * y
        u = torch.sin(a) + torch.cos(2 * b + a)
        w = torch.cos(a) * torch.sin(b) + torch.sin(2 * a)
        parts = [torch.sin(b + 2 * a), torch.cos(a - b), torch.sin(a - 2 * b), u * w]
        return torch.stack([u, w, torch.sin(b + 2 * a), torch.cos(a - b), *parts])

    (a, b), (c, d) = element.matrix
    sx, sy = element.shift
    # M is orthogonal: its inverse is its transpose.
    back = fields(a * (x - sx) + c * (y - sy), b * (x - sx) + d * (y - sy))
    expected = torch.stack(
        [
            back[0],
            element.determinant * back[1],
            a * back[2] + b * back[3],
            c * back[2] + d * back[3],
        ]
    )
    moved = act(element, fields(x, y), SPEC, GRID)
    assert torch.allclose(moved[:4], expected, atol=1e-12)
    matrix = torch.tensor(element.matrix, dtype=torch.float64)
    tensor = back[4:].reshape(2, 2, *GRID.shape)
    turned = torch.einsum("ik,jl,klxy->ijxy", matrix, matrix, tensor)
    assert torch.allclose(moved[4:], turned.flatten(0, 1), atol=1e-12)
    other = torch.einsum("ik,lj,klxy->ijxy", matrix, matrix, tensor)  # M T M
    if element.flip or element.turns % 2:
        is_same = torch.equal(matrix, matrix.T)
        assert torch.allclose(moved[4:], other.flatten(0, 1), atol=1e-12) == is_same


def test_quarter_turn_maps_x_to_y() -> None:
    turn = GroupElement(turns=1)
    assert turn.matrix == ((0, -1), (1, 0))
    spec = FieldSpec.of(Field(name="v", rank=Rank.VECTOR, components=2))
    v = torch.zeros(2, 8, 8)
    v[0, 1, 0] = 1.0  # at (1, 0), along +x
    moved = act(turn, v, spec, GRID)
    assert moved[1, 0, 1] == 1.0  # at (0, 1), along +y
    assert moved.abs().sum() == 1.0


def test_fourier_shift_agrees_with_rolls_and_composes() -> None:
    grid, u = PeriodicGrid.square(16), torch.randn(16, 16, dtype=torch.float64)
    spectrum = torch.fft.fft2(u)
    spectrum[8], spectrum[:, 8] = 0, 0  # the unpaired mode has no exact shift
    u = torch.fft.ifft2(spectrum).real
    rolled = torch.roll(u, (3, -2), (0, 1))
    assert torch.allclose(fourier_shift(u, (3 / 16, -2 / 16)), rolled, atol=1e-12)
    twice = fourier_shift(fourier_shift(u, (0.013, 0.2)), (0.4, -0.1))
    assert torch.allclose(twice, fourier_shift(u, (0.413, 0.1)), atol=1e-12)
    scalar = FieldSpec.of(Field(name="u"))
    shifted = act(GroupElement(shift=(0.1, 0.7)), u[None], scalar, grid)
    assert torch.allclose(shifted[0], fourier_shift(u, (0.1, 0.7)), atol=1e-12)


@pytest.mark.parametrize("name", ["C1", "C2", "C4", "D1", "D2", "D4"])
def test_projectors_are_complementary_projections(name: str) -> None:
    """P_sigma^2 = P_sigma, P_sigma P_tau = 0 and sum P_sigma = 1."""
    _check_projectors(point_group(name))


def test_projectors_of_shifts() -> None:
    group = shift_group(4)
    _check_projectors(group)
    assert sum(irrep.dimension for irrep in group.irreps) == 16


def _check_projectors(group: Group) -> None:
    n = len(group)
    index = {g: i for i, g in enumerate(group.elements)}
    regular = np.zeros((n, n, n))
    for i, g in enumerate(group.elements):
        for j, h in enumerate(group.elements):
            regular[i, index[g @ h], j] = 1.0
    projectors = [
        np.tensordot(np.array(irrep.weights), regular, axes=1) for irrep in group.irreps
    ]
    for i, p in enumerate(projectors):
        for j, q in enumerate(projectors):
            assert np.allclose(p @ q, p if i == j else 0.0, atol=1e-12)
    assert np.allclose(sum(projectors), np.eye(n), atol=1e-12)


def test_wrong_tables_are_refused() -> None:
    elements = point_group("C2").elements
    trivial = Irrep("trivial", 1, (1.0, 1.0))
    with pytest.raises(ValueError, match="sum to one"):
        Group("incomplete", elements, (trivial,))
    with pytest.raises(ValueError, match="not orthogonal"):
        Group("twice", elements, (trivial, Irrep("odd", 1, (1.0, -0.5))))
    with pytest.raises(ValueError, match="not closed"):
        Group("open", (GroupElement(), GroupElement(1)), (trivial,))


def test_subgroups_intersect() -> None:
    flip_y = Subgroup.of("x", point_group("D1"))
    turns = Subgroup.of("xy", point_group("C4"))
    both = flip_y & turns
    assert both.name == "T_x x C1"
    assert GroupElement(shift=(0.3, 0.0)) in both
    assert GroupElement(shift=(0.3, 0.1)) not in both
    assert GroupElement(2) not in both


def test_bad_states_are_refused_by_name() -> None:
    wide = PeriodicGrid(shape=(8, 4), lengths=(1.0, 1.0))
    with pytest.raises(InputError, match="square grid"):
        act(GroupElement(1), torch.zeros(4, 8, 4), SPEC, wide)
    with pytest.raises(InputError, match="expected a state"):
        act(GroupElement(1), torch.zeros(3, 8, 8), SPEC, GRID)
    with pytest.raises(InputError, match="exact groups"):
        point_group("C8")


def test_a_line_has_shifts_and_nothing_else() -> None:
    """``u(x - s)`` of a band-limited function, at whole steps and between."""
    line = PeriodicGrid(shape=(16,), lengths=(2.0,))
    spec = FieldSpec.of(Field(name="u"))
    x = torch.from_numpy(line.coordinates(0)) / 2

    def u(place: torch.Tensor) -> torch.Tensor:
        return torch.sin(2 * math.pi * place) + torch.cos(6 * math.pi * place + 1)

    for shift in (3 / 16, 0.1):
        moved = act(GroupElement(shift=(shift, 0.0)), u(x)[None, None], spec, line)
        torch.testing.assert_close(moved[0, 0], u(x - shift), rtol=0, atol=1e-13)
    for element in (
        GroupElement(1),
        GroupElement(flip=True),
        GroupElement(shift=(0, 0.5)),
    ):
        with pytest.raises(InputError, match="a line has shifts"):
            act(element, u(x)[None, None], spec, line)
    assert all(not g.turns and not g.flip and not g.shift[1] for g in probes(line))
