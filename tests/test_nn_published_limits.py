"""Strict limits of the relaxed layers, and the faults of their published versions."""

import numpy as np
import pytest
import torch
from relaxed_cases import (
    CONVOLUTIONS,
    GRID,
    ON_GRID,
    SHIFT,
    SPEC,
    defect,
    network,
    relax,
    state,
)
from tolerances import TOLERANCE
from torch import Tensor, nn

from pde_sym.nn import (
    PeriodicConv2d,
    SteerableConv2d,
    element_matrix,
    field_type,
    gspace,
    part_names,
    regular_type,
    relaxed_layers,
    split_parameters,
)
from pde_sym.nn._escnn import FieldType
from pde_sym.nn.kernel_layer import KernelLayer, steerable_part
from pde_sym.nn.relaxed_banks import (
    BankedConv2d,
    RelaxedGroupConv2d,
    RelaxedSteerableConv2d,
    offset_orbits,
)
from pde_sym.nn.residual_pathway import ResidualPathwayConv2d
from pde_sym.symmetry import GroupElement, act, point_group

EXACT = TOLERANCE[torch.float64]
ROUND_OFF = 1e-14
TURN = GroupElement(turns=1)
BANKED = [RelaxedGroupConv2d, RelaxedSteerableConv2d]


def fields(group: str) -> tuple[FieldType, FieldType]:
    """Return types of all ranks and of two regular fields."""
    space = gspace(group)
    return field_type(SPEC, space), regular_type(space, 2)


def distance(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def group_average(kernel: Tensor, layer: KernelLayer) -> Tensor:
    """Return ``mean_g rho_out(g) K(M(g)^-1 o) rho_in(g)^-1``, element by element."""
    space, half = layer.in_type.gspace, kernel.shape[-1] // 2
    values, total = kernel.detach().numpy(), np.zeros(kernel.shape)
    for g in space.fibergroup.elements:
        rho_out, rho_in = (
            np.asarray(t.representation(g)) for t in (layer.out_type, layer.in_type)
        )
        back = np.rint(element_matrix(space, g).T).astype(int)
        for a in range(-half, half + 1):
            for b in range(-half, half + 1):
                c, d = back @ (a, b) + half
                turned = rho_out @ values[..., c, d] @ np.linalg.inv(rho_in)
                total[..., a + half, b + half] += turned
    return torch.from_numpy(total / len(space.fibergroup.elements))


@pytest.mark.parametrize("group", ["C4", "D4"])
def test_the_steerable_part_is_the_group_average(group: str) -> None:
    before, after = fields(group)
    # Regular fields on either side of the others: several of a kind, not in a row.
    mixed = regular_type(gspace(group), 1) + before + after
    layer = ResidualPathwayConv2d(mixed, mixed, 5, free_start=1).double()
    kept = steerable_part(layer.free, mixed, mixed)
    assert distance(kept, group_average(layer.free, layer)) < ROUND_OFF
    again = steerable_part(kept, mixed, mixed)
    assert distance(again, kept) < ROUND_OFF
    assert 0.1 < kept.norm() / layer.free.norm() < 0.9


@pytest.mark.parametrize("group", ON_GRID)
@pytest.mark.parametrize("kind", BANKED)
def test_equal_weights_are_the_strict_layer_with_the_summed_kernel(
    kind: type[BankedConv2d], group: str
) -> None:
    before, after = fields(group)
    layer = kind(before, after, 5, banks=3).double()
    strict = SteerableConv2d(before, after, 5).double()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(3, 1).expand_as(layer.weight))
        for index, weight in enumerate(strict.kernel.parameters()):
            banks = [list(bank.parameters())[index] for bank in layer.banks]
            mixed = torch.tensordot(layer.weight[:, 0], torch.stack([*banks]), 1)
            weight.copy_(mixed)
    assert layer.relaxation() == 0
    assert layer.penalty() == 0
    x = state()
    assert distance(layer(x), strict(x)) < ROUND_OFF


@pytest.mark.parametrize("group", ON_GRID)
def test_weights_constant_on_orbits_of_offsets_break_nothing(group: str) -> None:
    """Radial variation, which the published penalty punishes, is harmless."""
    before, _ = fields(group)
    layer = RelaxedSteerableConv2d(before, before, 5, banks=2).double()
    orbits = torch.tensor(layer.orbits())
    with torch.no_grad():
        layer.weight.copy_(torch.randn(2, int(orbits.max()) + 1)[:, orbits])
    assert layer.weight.std() > 0.5
    assert layer.relaxation() == 0
    for element in (*point_group(ON_GRID[group]), SHIFT):
        assert defect(layer, state(), element) <= EXACT
    if ON_GRID[group] == group:
        kernel = layer.effective_kernel()
        assert distance(steerable_part(kernel, before, before), kernel) < ROUND_OFF
    with torch.no_grad():
        layer.weight[:, 1] += 0.1
    assert layer.relaxation() > 0
    assert defect(layer, state(), TURN) > 1e-3


def test_orbits_of_offsets() -> None:
    """Corners, edges and the centre; rings where the grid lacks the group."""
    edges = offset_orbits(gspace("C4"), 3)
    assert edges == [0, 1, 0, 1, 2, 1, 0, 1, 0]
    for group, number in {"C1": 25, "C2": 13, "C4": 7, "D4": 6, "C8": 6}.items():
        assert len(set(offset_orbits(gspace(group), 5))) == number


@pytest.mark.parametrize("group", ON_GRID)
def test_residual_pathway_is_a_strict_layer_plus_a_free_one(group: str) -> None:
    before, after = fields(group)
    layer = ResidualPathwayConv2d(before, after, 5, free_start=1.0).double()
    strict = SteerableConv2d(before, after, 5).double()
    strict.kernel.load_state_dict(layer.kernel.state_dict())
    free = PeriodicConv2d(before.size, after.size, 5).double()
    with torch.no_grad():
        free.weight.copy_(layer.free)
        nn.init.normal_(layer.free_bias.weights[0])
        assert free.bias is not None
        free.bias.copy_(layer.free_bias())
    x = state()
    assert distance(layer(x), strict(x) + free(x)) < ROUND_OFF
    with torch.no_grad():
        layer.free.zero_()
        nn.init.zeros_(layer.free_bias.weights[0])
    assert layer.relaxation() == 0
    assert torch.equal(layer(x), strict(x))


@pytest.mark.parametrize("group", ON_GRID)
def test_the_steerable_part_of_the_free_branch_breaks_nothing(group: str) -> None:
    before, _ = fields(group)
    layer = ResidualPathwayConv2d(before, before, 5, free_start=1.0).double()
    assert layer.relaxation() > 0.5
    assert defect(layer, state(), TURN) > 0.1
    with torch.no_grad():
        layer.free.copy_(steerable_part(layer.free, before, before))
    assert layer.free.norm() > 0.1
    assert layer.relaxation() < 1e-14
    assert defect(layer, state(), TURN) <= EXACT


def test_residual_pathway_starts_near_and_has_both_priors() -> None:
    """``(||K_0||^2 / 2 sigma_a^2 + ||W||^2 / 2 sigma_b^2) / (n s^2)``."""
    before, after = fields("C4")
    assert ResidualPathwayConv2d(before, after, 5, free_start=0).relaxation() == 0
    near = ResidualPathwayConv2d(before, after, 5)
    assert 2e-4 < near.relaxation() < 2e-3
    assert near.free.std().item() == pytest.approx(1e-3 * near.kernel.init_std, rel=0.1)
    layer = ResidualPathwayConv2d(
        before, after, 5, free_start=0.5, equivariant_prior=3.0, free_prior=0.2
    ).double()
    variance = 2 / (before.size * 25)
    scale = layer.free.numel() * variance
    expected = layer.kernel().square().sum() / (2 * 3.0**2)
    expected = (expected + layer.free.square().sum() / (2 * 0.2**2)) / scale
    assert layer.penalty().item() == pytest.approx(expected.item(), rel=1e-12)
    layer.penalty().backward()
    for parameter in (layer.free, *layer.kernel.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0


@pytest.mark.parametrize("group", ON_GRID)
def test_relaxed_group_convolution_by_its_formula(group: str) -> None:
    """``psi(g, h) = sum_l w_l(g or h) psi_l(g^-1 h)``, filters turned in space."""
    _, hidden = fields(group)
    space = hidden.gspace
    elements = space.fibergroup.elements
    size = len(elements)
    for argument in ("output", "input"):
        layer = RelaxedGroupConv2d(
            hidden, hidden, 3, banks=2, argument=argument
        ).double()
        with torch.no_grad():
            layer.weight.normal_()
        kernel = layer.effective_kernel().view(2, size, 2, size, 3, 3)
        banks = torch.stack([bank() for bank in layer.banks])
        banks = banks.view(2, 2, size, 2, size, 3, 3)
        for i, g in enumerate(elements):
            back = np.rint(element_matrix(space, g).T)
            if not np.allclose(back, element_matrix(space, g).T):
                continue
            for j, h in enumerate(elements):
                own = elements.index(~g @ h)
                at = i if argument == "output" else j
                psi = torch.tensordot(layer.weight[:, at], banks[:, :, 0, :, own], 1)
                turned = torch.zeros_like(psi)
                for a, b in np.ndindex(3, 3):
                    c, d = (back @ (a - 1, b - 1) + 1).astype(int)
                    turned[..., a, b] = psi[..., c, d]
                assert distance(kernel[:, i, :, j], turned) < 1e-13


def test_only_the_regular_side_can_carry_the_weights() -> None:
    before, after = fields("C4")
    for argument in ("output", "input"):
        lifting = RelaxedGroupConv2d(before, after, 3, argument=argument)
        reading = RelaxedGroupConv2d(after, before, 3, argument=argument)
        assert (lifting.argument, reading.argument) == ("output", "input")
        assert RelaxedGroupConv2d(after, after, 3, argument=argument).argument == (
            argument
        )


@pytest.mark.parametrize("group", ["C4", "D4", "C8"])
def test_weight_spectrum_tells_which_symmetry_is_broken(group: str) -> None:
    _, hidden = fields(group)
    space = hidden.gspace
    layer = RelaxedGroupConv2d(hidden, hidden, 3, banks=2)
    names = part_names(space)[: len(space.fibergroup.irreps())]
    spectrum = layer.weight_spectrum()
    assert set(spectrum) == set(names)
    assert spectrum["trivial"] == pytest.approx(1, abs=1e-12)
    vector = [element_matrix(space, g)[0, 0] for g in space.fibergroup.elements]
    sign = [np.linalg.det(element_matrix(space, g)) for g in space.fibergroup.elements]
    with torch.no_grad():
        layer.weight.add_(0.3 * torch.tensor(vector))
    spectrum = layer.weight_spectrum()
    share = 0.09 * np.mean(np.square(vector))
    assert spectrum["vector"] == pytest.approx(share / (1 + share), rel=1e-6)
    others = set(names) - {"trivial", "vector"}
    assert sum(spectrum[name] for name in others) < 1e-12
    if group == "D4":
        with torch.no_grad():
            layer.weight.copy_(0.5 * torch.tensor(sign).expand(2, -1))
        spectrum = layer.weight_spectrum()
        assert spectrum["pseudoscalar"] == pytest.approx(1, abs=1e-12)


def test_weights_stay_equal_on_symmetric_data_alone() -> None:
    """Wang et al. 2023: gradients of equal w are equal when the data are symmetric."""
    net = network(CONVOLUTIONS["rgroup g"], "D4")
    x, target = state(batch=3), state(batch=3)
    for symmetric in (True, False):
        elements = point_group("D4").elements if symmetric else point_group("C1")
        inputs = torch.cat([act(g, x, SPEC, GRID) for g in elements])
        targets = torch.cat([act(g, target, SPEC, GRID) for g in elements])
        net.zero_grad()
        (net(inputs) - targets).square().mean().backward()
        for layer in relaxed_layers(net):
            assert isinstance(layer, RelaxedGroupConv2d)
            slope = layer.weight.grad
            assert slope is not None
            spread = (slope - slope.mean(1, keepdim=True)).norm() / slope.norm()
            assert (spread < 1e-12) == symmetric
            assert (spread > 1e-2) != symmetric


# Faults of the published code (reference notes, section 5) that these lack.


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_networks_are_not_linear(name: str) -> None:
    net, a, b = network(CONVOLUTIONS[name], "C4"), state(), state()
    with torch.no_grad():
        excess = net(a + b) - net(a) - net(b) + net(0 * a)
        assert excess.norm() > 1e-2 * net(a).norm()


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_every_weight_learns_and_none_is_bound_to_the_grid(name: str) -> None:
    """No detached filters; one set of weights on every grid, oblong ones too."""
    net = network(CONVOLUTIONS[name], "C4", position_modes=1)
    relax(net)
    net(torch.randn(2, 4, 7, 12, dtype=torch.float64)).square().sum().backward()
    for key, parameter in net.named_parameters():
        if parameter.numel():
            assert parameter.grad is not None, key
            assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_penalty_is_neither_squared_nor_skipped(name: str) -> None:
    """Twice the deviation is four times the penalty, with a slope that is felt."""
    net = network(CONVOLUTIONS[name], "C4")
    relax(net)
    for layer in relaxed_layers(net):
        if isinstance(layer, ResidualPathwayConv2d):
            start = layer.kernel().square().mean() / (2 * layer.kernel.init_std**2)
        else:
            start = torch.zeros(())
        single = layer.penalty() - start
        single.backward(retain_graph=True)
        slopes = [p.grad for p in layer.relaxed_parameters() if p.grad is not None]
        assert max(slope.norm() for slope in slopes) > 1e-3
        with torch.no_grad():
            for parameter in layer.relaxed_parameters():
                rest = 1.0 if isinstance(layer, BankedConv2d) else 0.0
                parameter.copy_(rest + 2 * (parameter - rest))
        assert (layer.penalty() - start).item() == pytest.approx(4 * single.item())


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_weight_decay_does_not_pull_the_relaxed_weights(name: str) -> None:
    net = network(CONVOLUTIONS[name], "C4")
    plain, relaxed = split_parameters(net)
    known = {id(p) for p in relaxed}
    assert relaxed
    for layer in relaxed_layers(net):
        assert all(id(p) in known for p in layer.relaxed_parameters())
    assert not known & {id(p) for p in plain}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_kernels_are_expanded_once_in_eval_mode(name: str) -> None:
    net, x = network(CONVOLUTIONS[name], "C4").eval(), state()
    layer = relaxed_layers(net)[0]
    with torch.inference_mode():
        net(x)
        first = layer._kept
        net(x)
        assert layer._kept is first
        assert first is not None
    with torch.no_grad():
        before = net(x)
        for parameter in layer.parameters():
            parameter.mul_(2)
        assert not torch.equal(net(x), before)
