"""Every relaxation of the steerable layer, for every kind of group."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from typed_fields import MIXED

from pde_sym.errors import InputError
from pde_sym.fields import FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.nn import (
    Constrained,
    Free,
    Isotypic,
    Likelihood,
    Modulated,
    Penalised,
    PeriodicConv2d,
    Prior,
    Relaxation,
    SteerableConv2d,
    field_type,
    gspace,
    kernel_basis,
    part_names,
    regular_type,
)
from pde_sym.nn.field_types import element_matrix, elements_of, subgroup_indices
from pde_sym.nn.kernel_space import COMPLEMENT, available_parts
from pde_sym.symmetry import GroupElement, act, point_group

GRID = PeriodicGrid.square(8)
SPEC = MIXED
GROUPS = {"C4": "C4", "C8": "C4", "D4": "D4", "D8": "D4", "SO2": "C4", "O2": "D4"}
"""Group -> what of it the grid has."""
KEPT = [
    ("C4", "C2"), ("D4", "C4"), ("D4", "D1"), ("D4", "D1@90"), ("D4", "D1@45"),
    ("D4", "D2"), ("D4", "D2@45"), ("C8", "C4"), ("D8", "D4"), ("D8", "C2"),
    ("SO2", "C2"), ("O2", "D1"), ("O2", "C4"), ("O2", "D1@90"),
]  # fmt: skip


def layer(group: str, setting: Relaxation, kernel_size: int = 5) -> SteerableConv2d:
    fields = field_type(SPEC, gspace(group))
    return SteerableConv2d(fields, fields, kernel_size, relaxation=setting).double()


def state() -> Tensor:
    return torch.randn(2, SPEC.num_channels, *GRID.shape, dtype=torch.float64)


def defects(conv: SteerableConv2d, group: str) -> dict[GroupElement, float]:
    """Return ``||f(g x) - g f(x)|| / ||f(x)||`` for what the grid has of a group."""
    x = state()
    with torch.no_grad():
        out = conv(x)
        return {
            g: float((conv(act(g, x, SPEC, GRID)) - act(g, out, SPEC, GRID)).norm())
            / float(out.norm())
            for g in point_group(GROUPS[group])
        }


def disturb(conv: SteerableConv2d, share: float = 0.1) -> None:
    """Give the relaxed weights a norm of `share` times that of the others."""
    with torch.no_grad():
        for weight in conv.relaxed_parameters():
            weight.normal_()
        factor = share / conv.relaxation()
        for weight in conv.relaxed_parameters():
            weight *= factor


@pytest.mark.parametrize("group", GROUPS)
def test_each_part_shows_where_the_grid_can_see_it(group: str) -> None:
    """A part is invisible if the grid's own elements act on it as the identity.

    Their character is then the dimension, for instance for momentum 4 of C8.
    """
    space = gspace(group)
    matrices = [element_matrix(space, g) for g in elements_of(space)]
    for part in available_parts(space)[1:]:
        conv = layer(group, Isotypic(parts=(part.name,)))
        if not conv.parts:
            continue
        with torch.no_grad():
            # The bias of other components is not what is tested here.
            for weight in conv.parts.parameters():
                weight.normal_()
            factor = 0.1 * conv.kernel().norm() / conv.parts[part.name]().norm()
            for weight in conv.parts.parameters():
                weight *= factor
        share = conv.kernel_spectrum()[part.name]
        assert share == pytest.approx(0.01 / 1.01, rel=1e-6)
        assert conv.relaxation() > 0
        largest = max(defects(conv, group).values())
        if part.name == COMPLEMENT:
            continue
        seen = part.weights[[i for i, m in enumerate(matrices) if not np.any(m % 1)]]
        if np.allclose(seen, part.weights.max()):
            assert largest <= 1e-12
        else:
            assert largest >= 1e-2


@pytest.mark.parametrize(("group", "kept"), KEPT)
@pytest.mark.parametrize(
    "setting",
    [Modulated(position_modes=2), Isotypic(position_modes=2)],
    ids=lambda s: type(s).__name__,
)
def test_a_kept_subgroup_stays_exact_and_no_other_element(
    group: str, kept: str, setting: Relaxation
) -> None:
    conv = layer(group, setting.model_copy(update={"relax_to": kept}))
    disturb(conv, 0.5)
    space = gspace(group)
    inside = [
        element_matrix(space, elements_of(space)[i]).tolist()
        for i in subgroup_indices(space, kept)
    ]
    for element, defect in defects(conv, group).items():
        if [list(map(float, row)) for row in element.matrix] in inside:
            assert defect <= 1e-12
        else:
            assert defect >= 1e-2


def test_what_a_subgroup_keeps_is_what_its_own_steerable_kernels_are() -> None:
    """All parts of D4 that keep C4 together are the steerable kernels of C4."""
    large, small = gspace("D4"), gspace("C4")
    for spec in (SPEC.fields[0], SPEC.fields[1], SPEC.fields[2]):
        one = FieldSpec.of(spec)
        (rho,) = field_type(one, large).representations
        (restricted,) = field_type(one, small).representations
        parts = kernel_basis(rho, rho, large, 5, keep="C4")
        expected = kernel_basis(restricted, restricted, small, 5, parts=())["trivial"]
        rows = torch.cat([part.flatten(1) for part in parts.values()])
        assert len(rows) == len(expected)
        outside = rows - rows @ expected.flatten(1).T @ expected.flatten(1)
        assert outside.abs().max() <= 1e-12


@pytest.mark.parametrize("group", ["SO2", "O2"])
def test_parts_of_continuous_groups_are_orthonormal_and_complete(group: str) -> None:
    space = gspace(group)
    for rho_in in field_type(SPEC, space).representations:
        for rho_out in field_type(SPEC, space).representations:
            basis = kernel_basis(rho_in, rho_out, space, 5)
            rows = torch.cat([part.flatten(1) for part in basis.values()])
            assert rows.shape == 2 * (rho_in.size * rho_out.size * 25,)
            unit = torch.eye(len(rows), dtype=rows.dtype)
            assert (rows @ rows.T - unit).abs().max() <= 1e-10


def test_steerable_kernels_of_all_turns_are_those_of_ever_finer_ones() -> None:
    """For momenta that are low enough, C16 allows no more than SO(2) does."""
    for spec in SPEC:
        one = FieldSpec.of(spec)
        (rho,) = field_type(one, gspace("SO2")).representations
        (fine,) = field_type(one, gspace("C16")).representations
        all_turns = kernel_basis(rho, rho, gspace("SO2"), 5, parts=())["trivial"]
        some = kernel_basis(fine, fine, gspace("C16"), 5, parts=())["trivial"]
        overlap = all_turns.flatten(1) @ some.flatten(1).T
        assert len(all_turns) == len(some)
        assert (overlap @ overlap.T).diagonal().min() >= 1 - 1e-12


def test_a_cutoff_leaves_the_low_momenta() -> None:
    conv = layer("C8", Isotypic(cutoff=1))
    assert list(conv.parts) == ["vector"]
    assert "complement" in layer("C8", Isotypic()).parts
    assert not layer("C8", Isotypic(cutoff=0)).parts


def test_a_free_start_has_the_entries_of_a_free_convolution() -> None:
    hidden = regular_type(gspace("C4"), 16)
    setting = Isotypic(hold=Free())
    ours = SteerableConv2d(hidden, hidden, 5, relaxation=setting).effective_kernel()
    ours = ours.detach()
    free = PeriodicConv2d(64, 64, 5).weight.detach()
    assert ours.std() / free.std() == pytest.approx(1.0, abs=0.01)
    assert ours.abs().mean() / free.abs().mean() == pytest.approx(1.0, abs=0.01)
    conv = SteerableConv2d(hidden, hidden, 5, relaxation=setting)
    assert conv.relaxation() > 1
    shares = conv.kernel_spectrum()
    assert shares["vector"] == pytest.approx(0.5, abs=0.02)


def test_the_prior_is_the_negative_logarithm_of_two_gaussians() -> None:
    """mean(w_0^2) / 2 s_0^2 + sum mean(w^2) / 2 s^2, kernels in He's units."""
    conv = layer("C4", Isotypic(hold=Prior(equivariant_std=2.0, relaxed_std=0.5)))
    disturb(conv)

    def mean_square(term: torch.nn.Module) -> Tensor:
        weights = torch.cat([w.flatten() for w in term.parameters()])
        return weights.square().mean() / conv.kernel.init_std**2

    parts = [mean_square(part) / (2 * 0.25) for part in conv.parts.values()]
    assert conv.extra_bias is not None
    bias = torch.cat([w.flatten() for w in conv.extra_bias.parameters()])
    expected = mean_square(conv.kernel) / (2 * 4.0) + torch.stack(parts).sum()
    expected = expected + bias.square().mean() / (2 * 0.25)
    assert torch.allclose(conv.penalty(), expected, rtol=1e-12)


def test_factors_of_the_penalty_are_those_of_their_parts() -> None:
    plain = layer("C4", Isotypic())
    heavy = layer("C4", Isotypic(hold=Penalised(factors=(("vector", 3.0),))))
    heavy.load_state_dict(plain.state_dict())
    for conv in (plain, heavy):
        with torch.no_grad():
            for weight in conv.parts["quadrupole"].parameters():
                weight.fill_(0.1)
    assert plain.penalty() == heavy.penalty()
    for conv in (plain, heavy):
        with torch.no_grad():
            for weight in conv.parts["quadrupole"].parameters():
                weight.zero_()
            for weight in conv.parts["vector"].parameters():
                weight.fill_(0.1)
    assert torch.allclose(heavy.penalty(), 3 * plain.penalty())


@pytest.mark.parametrize("hold", [Constrained(), Likelihood()])
def test_strengths_start_at_zero_and_have_a_slope(
    hold: Constrained | Likelihood,
) -> None:
    conv = layer("D4", Isotypic(hold=hold))
    assert conv.relaxation() == 0
    assert max(defects(conv, "D4").values()) <= 1e-12
    conv(state()).square().sum().backward()
    slopes = [strength.grad for strength in conv.strengths.values()]
    assert all(slope is not None and slope.abs() > 0 for slope in slopes)
    with torch.no_grad():
        conv.strengths["vector"].fill_(0.5)
    factor = math.tanh(0.5) if isinstance(hold, Likelihood) else 0.5
    expected = conv.kernel() + factor * conv.parts["vector"]()
    assert torch.allclose(conv.effective_kernel(), expected, rtol=1e-12, atol=1e-14)
    assert max(defects(conv, "D4").values()) >= 1e-2


def test_multipliers_bring_a_useless_strength_to_its_slack() -> None:
    """lambda grows while |gamma| > lambda / rho, and pushes gamma down meanwhile."""
    conv = layer("C4", Isotypic(hold=Constrained(rate=0.05, rho=2.0)))
    with torch.no_grad():
        conv.strengths["vector"].fill_(1.0)
    optimiser = torch.optim.SGD(conv.strengths.parameters(), lr=0.02)
    for _ in range(200):
        optimiser.zero_grad()
        conv.lagrangian().backward()
        optimiser.step()
        conv.after_update()
    multiplier = float(conv.multipliers["vector"].detach())
    assert multiplier > 0
    assert abs(float(conv.strengths["vector"].detach())) < 0.1
    assert float(conv.multipliers["quadrupole"].detach()) == 0.0
    assert "multipliers.vector" in conv.state_dict()


def test_bad_input_names_what_is_there() -> None:
    with pytest.raises(InputError, match="no such subgroup"):
        layer("D4", Isotypic(relax_to="C8"))
    with pytest.raises(InputError, match="expected degrees after @"):
        layer("D4", Isotypic(relax_to="D1@up"))
    with pytest.raises(InputError, match="no such subgroup"):
        layer("C4", Modulated(relax_to="D1"))
    with pytest.raises(InputError, match="among its 32 turns"):
        layer("SO2", Modulated(relax_to="C3"))
    with pytest.raises(InputError, match="exact on the grid"):
        layer("C8", Modulated(relax_to="C8", position_modes=1))
    with pytest.raises(InputError, match=r"part 'spin'.*vector"):
        layer("C4", Isotypic(hold=Penalised(factors=(("spin", 1.0),))))
    assert part_names(gspace("C4")) == ("trivial", "vector", "quadrupole")


@pytest.mark.parametrize("kept", ["C1", "C2"])
def test_relaxed_biases_and_factors_hold_nothing_that_is_invariant(kept: str) -> None:
    """Regular fields: both have mean zero over each, so that 0 means equivariant."""
    hidden = regular_type(gspace("D4"), 2)
    conv = SteerableConv2d(hidden, hidden, 3, relaxation=Modulated(relax_to=kept))
    bias, fibre = conv.extra_bias, conv.fibre_out
    assert bias is not None
    assert fibre is not None
    with torch.no_grad():
        for weight in (*bias.parameters(), *fibre.parameters()):
            weight.normal_()
        values = bias().view(2, 8)
        factors = fibre(torch.ones(16, 1)).view(2, 8) - 1
    for some in (values, factors):
        assert some.abs().max() > 0.1
        assert some.mean(1).abs().max() <= 1e-6
