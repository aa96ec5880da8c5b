"""Kernels by an equivariant perceptron; features read off the whole state."""

import math

import numpy as np
import pytest
import torch
from relaxed_cases import GRID, ON_GRID, SHIFT, SPEC, defect, lifted, state
from tolerances import TOLERANCE
from torch import Tensor, nn
from typed_fields import pseudoscalar, vector

from pde_sym.fields import FieldSpec
from pde_sym.nn import element_matrix, field_type, gspace, regular_type, relaxed_layers
from pde_sym.nn._escnn import GSpace
from pde_sym.nn.implicit import ImplicitSteerableConv2d
from pde_sym.nn.kernel_layer import steerable_part
from pde_sym.nn.lift import FourierLift, waves
from pde_sym.symmetry import GroupElement, act, point_group

EXACT = TOLERANCE[torch.float64]
WIND = FieldSpec.of(
    vector("wind"),
    pseudoscalar("spin"),
)


def layer(group: str, size: int = 5, **settings: bool) -> ImplicitSteerableConv2d:
    """Return a layer between mixed fields that reads a wind and a spin."""
    space = gspace(group)
    fields = field_type(SPEC, space)
    return ImplicitSteerableConv2d(
        fields, fields, size, hidden=3, attributes=field_type(WIND, space), **settings
    ).double()


@pytest.mark.parametrize("group", ON_GRID)
def test_kernels_are_steered_with_their_attributes(group: str) -> None:
    """``K(g o, g z) = rho_out(g) K(o, z) rho_in(g)^-1`` for every g, z moved along."""
    conv = layer(group)
    space, half = conv.in_type.gspace, 2
    z = torch.randn(3, dtype=torch.float64)
    kernel = conv.effective_kernel(z).detach().numpy()
    for g in space.fibergroup.elements:
        matrix = element_matrix(space, g)
        if not np.array_equal(matrix, np.rint(matrix)):
            continue
        assert conv.attributes is not None
        moved = torch.from_numpy(np.asarray(conv.attributes.representation(g))) @ z
        turned = conv.effective_kernel(moved).detach().numpy()
        rho = np.asarray(conv.in_type.representation(g))
        for a in range(-half, half + 1):
            for b in range(-half, half + 1):
                c, d = (matrix @ (a, b)).astype(int) + half
                expected = rho @ kernel[..., a + half, b + half] @ rho.T
                assert np.allclose(turned[..., c, d], expected, atol=1e-13)
    still = conv.effective_kernel(torch.zeros(3, dtype=torch.float64)).detach().numpy()
    assert np.linalg.norm(still - kernel) > 1e-2 * np.linalg.norm(kernel)


@pytest.mark.parametrize("group", ["C8", "D8"])
def test_kernels_are_steered_between_grid_points_too(group: str) -> None:
    """Turns by 45 degrees: exact for the kernel as a function of the offset."""
    conv = layer(group)
    space = conv.in_type.gspace
    (g,) = [e for e in space.fibergroup.elements if _is_eighth_turn(space, e)]
    z = torch.randn(3, dtype=torch.float64)
    rho = torch.from_numpy(np.asarray(conv.in_type.representation(g)))
    offsets = torch.randn(20, 2, dtype=torch.float64)
    kernel = conv.kernel_at(offsets, z[None])[0]
    turn = torch.from_numpy(element_matrix(space, g))
    assert conv.attributes is not None
    moved = torch.from_numpy(np.asarray(conv.attributes.representation(g))) @ z
    turned = conv.kernel_at(offsets @ turn.T, moved[None])[0]
    assert torch.allclose(turned, rho @ kernel @ rho.T, atol=1e-12)
    assert not torch.allclose(turned, kernel, atol=1e-2)
    grid = [(a, b) for a in range(-2, 3) for b in range(-2, 3)]
    sampled = conv.kernel_at(torch.tensor(grid, dtype=torch.float64), z[None])[0]
    own = conv.effective_kernel(z).flatten(2).permute(2, 0, 1)
    assert torch.equal(sampled, own)


def _is_eighth_turn(space: GSpace, element: object) -> bool:
    c = math.sqrt(0.5)
    return np.allclose(element_matrix(space, element), [[c, -c], [c, c]])


@pytest.mark.parametrize("group", ON_GRID)
def test_layer_commutes_when_state_and_attributes_move_together(group: str) -> None:
    conv, x = layer(group), state()
    z = torch.randn(2, 3, dtype=torch.float64)
    maps = z[..., None, None].expand(-1, -1, *GRID.shape)
    for element in (*point_group(ON_GRID[group]), SHIFT):
        moved = act(element, maps, WIND, GRID)[..., 0, 0]
        straight = conv(act(element, x, SPEC, GRID), moved)
        turned = act(element, conv(x, z), SPEC, GRID)
        assert ((straight - turned).norm() / turned.norm()).item() <= EXACT
        if element.turns or element.flip:
            alone = conv(act(element, x, SPEC, GRID), z)
            assert ((alone - turned).norm() / turned.norm()).item() > 1e-3


def test_each_state_has_the_kernel_of_its_own_attributes() -> None:
    conv, x = layer("D4"), state()
    z = torch.randn(2, 3, dtype=torch.float64)
    single = torch.cat([conv(x[i : i + 1], z[i : i + 1]) for i in range(2)])
    assert torch.allclose(conv(x, z), single, atol=1e-13)
    padded = nn.functional.pad(x, 4 * [2], mode="circular")
    by_hand = nn.functional.conv2d(
        padded[:1], conv.effective_kernel(z[0]), conv.effective_bias()
    )
    assert torch.allclose(conv(x, z)[:1], by_hand, atol=1e-13)


@pytest.mark.parametrize("group", ["C4", "D4"])
def test_without_attributes_kernels_are_steerable(group: str) -> None:
    space = gspace(group)
    before, after = field_type(SPEC, space), regular_type(space, 2)
    plain = ImplicitSteerableConv2d(before, after, 5).double()
    kernel = plain.effective_kernel()
    assert (steerable_part(kernel, before, after) - kernel).norm() < 1e-14
    assert list(plain.relaxed_parameters()) == []
    assert plain.relaxation() == plain.penalty() == 0
    hidden = ImplicitSteerableConv2d(before, after, 5, learned_vector=True).double()
    assert hidden.vector is not None
    with torch.no_grad():
        hidden.vector[0] = 0.5
    kernel = hidden.effective_kernel()
    gap = (steerable_part(kernel, before, after) - kernel).norm() / kernel.norm()
    assert gap > 1e-2
    assert hidden.relaxation().item() == pytest.approx(0.5)


def test_a_learned_direction_keeps_the_flip_about_it() -> None:
    fields = field_type(SPEC, gspace("D4"))
    conv = ImplicitSteerableConv2d(fields, fields, 3, learned_vector=True).double()
    assert conv.vector is not None
    with torch.no_grad():
        conv.vector[0] = 0.5  # along x, which y -> -y leaves alone
    assert defect(conv, state(), GroupElement(flip=True)) <= EXACT
    assert defect(conv, state(), GroupElement(turns=2)) > 1e-3


def test_the_gain_at_the_start_is_that_of_he() -> None:
    hidden = regular_type(gspace("D4"), 4)
    for size in (1, 3, 7):
        kernel = ImplicitSteerableConv2d(hidden, hidden, size).effective_kernel()
        white = kernel.square().sum() / len(kernel)
        constant = kernel.sum((2, 3)).square().sum() / len(kernel)
        assert max(white, constant).item() == pytest.approx(2, rel=1e-4)


# Features read off the whole state.


def smooth(size: int) -> Tensor:
    """Return one band-limited state, sampled on `size` points per axis."""
    rng = torch.Generator().manual_seed(3)
    coefficients = torch.randn(2, 3, 5, 5, generator=rng, dtype=torch.float64)
    e = waves(size, 2, coefficients)
    return e.T @ coefficients @ e


def test_a_perceptron_that_is_dead_at_birth_is_drawn_again() -> None:
    space = gspace("C4")
    for seed in (482, 766, 894):
        torch.manual_seed(seed)
        conv = ImplicitSteerableConv2d(
            regular_type(space, 2), regular_type(space, 2), 3, hidden=1
        )
        assert conv.effective_kernel().isfinite().all()
        assert conv.effective_kernel().abs().max() > 1e-2


def test_lift_reads_and_writes_the_same_on_every_grid() -> None:
    lift = FourierLift(3, 2, hidden=5, modes=2, out_modes=1).double()
    nn.init.normal_(lift.weight)
    coarse, fine = lift(smooth(8)), lift(smooth(24))
    assert coarse.std() > 0.1
    assert torch.allclose(fine[..., ::3, ::3], coarse, atol=1e-12)


def test_waves_are_orthonormal() -> None:
    for points in (5, 8):
        e = waves(points, 2, torch.zeros((), dtype=torch.float64))
        identity = torch.eye(5, dtype=torch.float64)
        assert torch.allclose(e @ e.T / points, identity, atol=1e-14)
        x = torch.arange(points, dtype=torch.float64) * 2 * math.pi / points
        assert torch.allclose(e[3], math.sqrt(2) * torch.cos(2 * x), atol=1e-14)
        assert torch.allclose(e[2], math.sqrt(2) * torch.sin(x), atol=1e-14)


def test_published_lift_is_the_same_at_every_point() -> None:
    lift = FourierLift(3, 2, hidden=5).double()
    assert lift(smooth(8)).abs().max() == 0
    nn.init.normal_(lift.weight)
    written = lift(smooth(8))
    assert written.std((2, 3)).max() < 1e-14
    assert written.std((0, 1)).min() > 1e-3


@pytest.mark.parametrize("out_modes", [0, 1])
def test_lift_breaks_turns_and_shifts(out_modes: int) -> None:
    net, x = lifted("D4", out_modes=out_modes), state()
    assert defect(net, x, GroupElement(turns=1)) <= EXACT
    (lift,) = [m for m in relaxed_layers(net) if isinstance(m, FourierLift)]
    nn.init.normal_(lift.weight)
    for element in (GroupElement(turns=1), GroupElement(flip=True), SHIFT):
        assert defect(net, x, element) > 1e-3
    assert net(torch.randn(1, 4, 12, 7, dtype=torch.float64)).shape == (1, 4, 12, 7)


def test_lift_relaxation_is_in_units_of_he() -> None:
    lift = FourierLift(3, 4, hidden=32, out_modes=2)
    nn.init.normal_(lift.weight, std=0.1 * math.sqrt(2 / 32))
    assert lift.relaxation().item() == pytest.approx(0.1, rel=0.05)
    assert lift.penalty().item() == pytest.approx(lift.relaxation().item() ** 2)
