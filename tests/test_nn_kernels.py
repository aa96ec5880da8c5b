"""Isotypic kernel bases against the group action written out on raw kernels."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typed_fields import pseudoscalar, tensor, vector

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.nn import element_matrix, field_type, gspace, kernel_basis, part_names
from pde_sym.nn._escnn import R2Conv, Representation
from pde_sym.nn.field_types import group_name
from pde_sym.nn.kernel_space import part_energies
from pde_sym.symmetry import GroupElement, point_group

Array = NDArray[np.float64]
EXACT_GROUPS = ("C1", "C2", "C4", "D1", "D2", "D4")
FIELDS = FieldSpec.of(
    vector("v"),
    pseudoscalar("w"),
    Field(name="u"),
    tensor("t"),
)


def representations(group: str) -> list[Representation]:
    space = gspace(group)
    return [space.regular_repr, *field_type(FIELDS, space).representations]


def matrix_of(rep: Representation, group: str, element: GroupElement) -> Array:
    """Return rho(g), finding escnn's element by its matrix M."""
    space = gspace(group)
    return next(
        np.asarray(rep(g))
        for g in space.fibergroup.elements
        if np.allclose(element_matrix(space, g), element.matrix)
    )


def act_on_kernels(
    kernels: Array,
    rho_in: Representation,
    rho_out: Representation,
    group: str,
    element: GroupElement,
) -> Array:
    """Return ``rho_out(g) K(M^-1 o) rho_in(g)^-1``, offset by offset."""
    left = matrix_of(rho_out, group, element)
    right = np.linalg.inv(matrix_of(rho_in, group, element))
    half = kernels.shape[-1] // 2
    result = np.zeros_like(kernels)
    for a in range(-half, half + 1):
        for b in range(-half, half + 1):
            i, j = np.array(element.matrix) @ (a, b)
            value = kernels[..., a + half, b + half]
            result[..., i + half, j + half] = left @ value @ right
    return result


def project(
    kernels: Array, rho_in: Representation, rho_out: Representation, group: str
) -> dict[str, Array]:
    """Return P_sigma K for each irrep, with the characters of pde_sym.symmetry."""
    table = point_group(group)
    moved = np.stack(
        [act_on_kernels(kernels, rho_in, rho_out, group, g) for g in table.elements]
    )
    return {i.name: np.tensordot(i.weights, moved, 1) for i in table.irreps}


def test_ranks_of_c4_regular_kernels() -> None:
    space = gspace("C4")
    regular = space.regular_repr
    full = kernel_basis(regular, regular, space, 5)
    assert [len(b) for b in full.values()] == [100, 200, 100]
    rings = kernel_basis(regular, regular, space, 5, "rings")
    assert [len(b) for b in rings.values()] == [44, 88, 44, 224]


@pytest.mark.parametrize("group", [*EXACT_GROUPS, "C3", "C8", "D8"])
def test_parts_are_an_orthonormal_basis_of_all_kernels(group: str) -> None:
    space = gspace(group)
    reps = representations(group)
    if group == "D8":
        reps = reps[1:]
    for rho_in in reps:
        for rho_out in reps:
            basis = kernel_basis(rho_in, rho_out, space, 3)
            rows = torch.cat([part.flatten(1) for part in basis.values()])
            assert rows.dtype == torch.float64
            assert rows.shape == 2 * (rho_in.size * rho_out.size * 9,)
            identity = torch.eye(len(rows), dtype=rows.dtype)
            assert (rows @ rows.T - identity).abs().max() < 1e-12


@pytest.mark.parametrize("group", EXACT_GROUPS)
def test_parts_are_the_images_of_the_projectors(group: str) -> None:
    space = gspace(group)
    assert part_names(space) == tuple(i.name for i in point_group(group).irreps)
    for rho_in in representations(group):
        for rho_out in representations(group)[:2]:
            for name, basis in kernel_basis(rho_in, rho_out, space, 5).items():
                if not len(basis):
                    continue
                projected = project(basis.numpy(), rho_in, rho_out, group)
                for other, values in projected.items():
                    expected = basis.numpy() if other == name else 0.0
                    assert np.abs(values - expected).max() < 1e-12


@pytest.mark.parametrize("group", EXACT_GROUPS)
def test_projectors_are_idempotent_and_sum_to_one(
    group: str, rng: np.random.Generator
) -> None:
    regular = gspace(group).regular_repr
    kernel = rng.standard_normal((1, regular.size, regular.size, 5, 5))
    parts = project(kernel, regular, regular, group)
    assert np.allclose(sum(parts.values()), kernel, atol=1e-12)
    for name, part in parts.items():
        again = project(part, regular, regular, group)[name]
        assert np.allclose(again, part, atol=1e-12)
    energies = part_energies(torch.from_numpy(kernel), regular, regular, gspace(group))
    for name, part in parts.items():
        assert math.isclose(energies[name], np.sum(part**2), rel_tol=1e-10)


@pytest.mark.parametrize(("group", "grid_group"), [("C8", "C4"), ("D8", "D4")])
def test_rings_keep_the_turns_of_the_grid_exactly(group: str, grid_group: str) -> None:
    space = gspace(group)
    for rho_in in representations(group):
        for rho_out in representations(group)[1:]:
            basis = kernel_basis(rho_in, rho_out, space, 5, parts=())["trivial"].numpy()
            # Between scalars and pseudoscalars of D8 the rings hold nothing.
            assert len(basis) or rho_in.size == rho_out.size == 1
            for element in point_group(grid_group):
                moved = act_on_kernels(basis, rho_in, rho_out, group, element)
                assert np.allclose(moved, basis, rtol=0, atol=1e-12)


def escnn_filters(
    rho_in: Representation, rho_out: Representation, group: str
) -> torch.Tensor:
    """Return the kernels of escnn's own basis, one per row."""
    space = gspace(group)
    layer = R2Conv(space.type(rho_in), space.type(rho_out), 5, bias=False)
    filters = []
    for index in range(layer.weights.numel()):
        layer.weights.data.zero_()
        layer.weights.data[index] = 1.0
        filters.append(layer.expand_parameters()[0].detach().double().flatten())
    return torch.stack(filters)


@pytest.mark.parametrize("group", ["C4", "D4", "C8"])
def test_trivial_part_holds_the_steerable_kernels_of_escnn(group: str) -> None:
    space = gspace(group)
    regular, vector, pseudoscalar, _, tensor = representations(group)
    for rho_in, rho_out in [(regular, regular), (vector, regular),
                            (pseudoscalar, vector), (vector, tensor)]:  # fmt: skip
        filters = escnn_filters(rho_in, rho_out, group)
        basis = kernel_basis(rho_in, rho_out, space, 5, parts=())["trivial"].flatten(1)
        outside = filters - filters @ basis.T @ basis
        assert outside.norm() < 1e-6 * filters.norm()
        if group == "C8":
            assert torch.linalg.matrix_rank(filters, rtol=1e-5) == len(basis)


def test_standard_representation_is_the_matrix_itself() -> None:
    for group in [*EXACT_GROUPS, "C3", "C8", "D3", "D8"]:
        space = gspace(group)
        vector = representations(group)[1]
        for element in space.fibergroup.elements:
            matrix = element_matrix(space, element)
            assert np.allclose(vector(element), matrix, atol=1e-12)
            assert math.isclose(abs(np.linalg.det(matrix)), 1.0)


def test_tensors_turn_on_both_sides() -> None:
    """rho(g) vec T = vec M T M^T, row after row; transposed tensors do so too."""
    some = np.array([[0.3, -1.0], [0.7, 2.0]])
    for group in [*EXACT_GROUPS, "C3", "C8", "D3", "D8"]:
        space = gspace(group)
        tensor = representations(group)[4]
        for element in space.fibergroup.elements:
            m = element_matrix(space, element)
            turned = tensor(element) @ some.ravel()
            assert np.abs(turned - (m @ some @ m.T).ravel()).max() <= 1e-12
            back = m.T @ some @ m
            differs = np.abs(m - m.T).max() > 1e-9 and np.abs(m + m.T).max() > 1e-9
            assert (np.abs(turned - back.ravel()).max() >= 1e-2) == differs


def test_groups_go_by_the_names_they_were_asked_for() -> None:
    for name in [*EXACT_GROUPS, "C3", "C8", "D3", "D8", "SO2", "O2"]:
        assert group_name(gspace(name)) == name


def test_bad_input_says_what_is_allowed() -> None:
    space = gspace("C8")
    regular = space.regular_repr
    for name in ("E4", "C0", "C", "c4", "D65", "SO(2)", "C4\n"):
        with pytest.raises(InputError, match="expected C or D"):
            gspace(name)
    with pytest.raises(InputError, match="odd and positive, got 4"):
        kernel_basis(regular, regular, space, 4)
    with pytest.raises(InputError, match="use band 'rings'"):
        kernel_basis(regular, regular, space, 5, "full")
    with pytest.raises(InputError, match="expected 'auto', 'full' or 'rings'"):
        kernel_basis(regular, regular, space, 5, "wide")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"part 'spin'.*trivial, vector"):
        kernel_basis(regular, regular, space, 5, parts=("spin",))
    three = FieldSpec.of(Field(name="v", rank=Rank.VECTOR, components=3))
    with pytest.raises(InputError, match="vector of the plane has 2 components, got 3"):
        field_type(three, space)
    attitude = FieldSpec.of(Field(name="r", rank=Rank.TENSOR, components=9))
    with pytest.raises(InputError, match="tensor of the plane has 4 components, got 9"):
        field_type(attitude, space)
