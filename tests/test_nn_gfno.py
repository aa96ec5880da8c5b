"""Fourier kernels that a group shares, relaxed: parts, factors, what stays exact."""

import itertools

import numpy as np
import pytest
import torch
from relaxed_cases import SHIFT, SPEC, defect, state
from tolerances import TOLERANCE
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.nn import (
    Free,
    GFNOConfig,
    Isotypic,
    Modulated,
    Penalised,
    Relaxation,
    Strict,
    Task,
    element_matrix,
    gspace,
    relaxed_layers,
    split_parameters,
)
from pde_sym.nn.field_types import elements_of
from pde_sym.nn.gfno import GroupSpectralConv
from pde_sym.nn.kernel_space import isotypic_parts
from pde_sym.symmetry import point_group

EXACT = TOLERANCE[torch.float64]
GROUPS = ["C2", "C4", "D1", "D2", "D4"]
SETTINGS = [Modulated(), Isotypic()]
SIZE = 5


def layer(group: str, setting: Relaxation, fields: int = 2) -> GroupSpectralConv:
    return GroupSpectralConv(gspace(group), fields, fields, 2, setting).double()


def network(group: str = "D4", **settings: object) -> nn.Module:
    values = {"group": group, "width": 1, "depth": 2, "modes": 2, **settings}
    return GFNOConfig.parse(values, where="model").build(Task(state=SPEC)).double()


def move(parameters: list[nn.Parameter], size: float) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter.normal_(std=size)


def acted(kernel: Tensor, group: str, index: int) -> Tensor:
    """Return ``(g.K)_{h'h}(k) = K_{g^-1 h', g^-1 h}(M(g)^-1 k)``, entry by entry."""
    space = gspace(group)
    elements = elements_of(space)
    g, order = elements[index], len(elements)
    fields = kernel.shape[0] // order
    kernel = kernel.detach().view(fields, order, fields, order, SIZE, SIZE)
    back = np.rint(element_matrix(space, g).T).astype(int)
    place = [elements.index(~g @ h) for h in elements]
    result = torch.empty_like(kernel)
    for i, j in itertools.product(range(order), repeat=2):
        for k in itertools.product(range(-2, 3), repeat=2):
            a, b = back @ k + 2
            value = kernel[:, place[i], :, place[j], a, b]
            result[:, i, :, j, k[0] + 2, k[1] + 2] = value
    return result.view(fields * order, fields * order, SIZE, SIZE)


@pytest.mark.parametrize("group", GROUPS)
def test_parts_are_the_images_of_the_projectors(group: str) -> None:
    """``P_sigma K = sum_g weight_sigma(g) g.K`` gives back part sigma alone."""
    for part in isotypic_parts(gspace(group))[1:]:
        made = layer(group, Isotypic(parts=(part.name,)), 1)
        strict = made.kernel()
        move(list(made.relaxed_parameters()), made.init_std)
        own = made.kernel() - strict
        assert own.norm() > 0.1 * strict.norm()
        order = len(elements_of(gspace(group)))
        moved = torch.stack([acted(own, group, index) for index in range(order)])
        for other in isotypic_parts(gspace(group)):
            projected = torch.tensordot(torch.from_numpy(other.weights), moved, 1)
            expected = own if other.name == part.name else torch.zeros_like(own)
            assert (projected - expected).norm() <= 1e-13 * own.norm()
        for index in range(order):
            kept = acted(strict, group, index) - strict
            assert kept.norm() <= 1e-14 * strict.norm()


@pytest.mark.parametrize("group", GROUPS)
def test_all_parts_together_are_every_kernel(group: str) -> None:
    made = layer(group, Isotypic())
    parts, order = made.parameters_per_part(), len(elements_of(gspace(group)))
    assert set(parts) == {part.name for part in isotypic_parts(gspace(group))}
    assert sum(parts.values()) == (2 * order * SIZE) ** 2
    if group == "D1":
        # Linear in the weights: the kernels of single ones are independent.
        rows = []
        for weight in made.parameters():
            for index in range(weight.numel()):
                for other in made.parameters():
                    nn.init.zeros_(other)
                weight.data.view(-1)[index] = 1.0
                rows.append(made.kernel().detach().flatten())
        assert torch.linalg.matrix_rank(torch.stack(rows)) == len(rows)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("group", GROUPS)
def test_at_the_start_it_is_the_strict_layer_bit_for_bit(
    group: str, setting: Relaxation
) -> None:
    relaxed, strict = layer(group, setting), layer(group, Strict())
    missing, unexpected = relaxed.load_state_dict(strict.state_dict(), strict=False)
    assert (bool(missing), unexpected) == (True, [])
    x = torch.randn(2, relaxed.channels_in, 8, 8, dtype=torch.float64)
    assert torch.equal(relaxed(x), strict(x))
    assert relaxed.relaxation() == relaxed.penalty() == 0


@pytest.mark.parametrize("relaxation", ["modulated", "isotypic"])
def test_a_relaxed_network_starts_as_gfno(relaxation: str) -> None:
    strict, relaxed = network(), network(relaxation=relaxation)
    _, unexpected = relaxed.load_state_dict(strict.state_dict(), strict=False)
    assert not unexpected
    x = state()
    assert torch.equal(relaxed(x), strict(x))
    spectral = [m for m in relaxed.modules() if isinstance(m, GroupSpectralConv)]
    move([p for m in spectral for p in m.relaxed_parameters()], 0.5)
    for element in point_group("D4").elements[1:]:
        assert defect(relaxed, x, element) > 1e-4
    assert defect(relaxed, x, SHIFT) <= EXACT


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("group", ["C4", "D4"])
def test_the_layer_is_broken_as_far_as_it_says(group: str, setting: Relaxation) -> None:
    """``relaxation() = ||K - K_0|| / ||K_0||``; at 0.1 turns are off by a percent."""
    made = layer(group, setting)
    move(list(made.relaxed_parameters()), 1.0)
    with torch.no_grad():
        for _ in range(6):
            # Factors on both sides are not quite linear in their weights.
            size = 0.1 / made.relaxation()
            for weight in made.relaxed_parameters():
                weight *= size
    assert made.relaxation().item() == pytest.approx(0.1, rel=1e-3)
    kernel, change = made.kernel(), []
    for index in range(1, len(elements_of(gspace(group)))):
        change.append(float((acted(kernel, group, index) - kernel).norm().detach()))
    assert max(change) >= 1e-2 * float(kernel.norm().detach())


@pytest.mark.parametrize(
    ("group", "kept"), [("C4", "C2"), ("D4", "C4"), ("D4", "D1"), ("D4", "D2")]
)
@pytest.mark.parametrize("relaxation", ["modulated", "isotypic"])
@pytest.mark.parametrize("modes", [0, 1])
def test_a_kept_subgroup_stays_exact_and_no_other_element(
    group: str, kept: str, relaxation: str, modes: int
) -> None:
    net = network(group, relaxation=relaxation, relax_to=kept, position_modes=modes)
    for made in relaxed_layers(net):
        unit = made.init_std if isinstance(made, GroupSpectralConv) else 0.3
        move(list(made.relaxed_parameters()), unit)
    inside = point_group(kept).elements
    for element in point_group(group):
        found = defect(net, state(), element)
        assert found <= EXACT if element in inside else found > 1e-3
    assert (defect(net, state(), SHIFT) <= EXACT) == (modes == 0)


def test_the_penalty_is_the_documented_one() -> None:
    made = layer("D4", Isotypic(hold=Penalised(factors=(("vector", 3.0),))))
    move(list(made.relaxed_parameters()), made.init_std)
    expected = 0.0
    for name, weight in made.parts.weights.items():
        factor = 3.0 if name == "vector" else 1.0
        expected += factor * weight.square().mean().item() / made.init_std**2
    assert made.penalty().item() == pytest.approx(expected)
    modulated = layer("D4", Modulated())
    relaxed = list(modulated.relaxed_parameters())
    move(relaxed, 0.2)
    squares = [weight.square().mean().item() for weight in relaxed]
    assert modulated.penalty().item() == pytest.approx(sum(squares))
    assert modulated.parameters_per_part()["fibre"] == 2 * 2 * 7


def test_relaxed_weights_stay_out_of_weight_decay_and_learn() -> None:
    net = network(relaxation="isotypic", position_modes=1)
    relaxed = split_parameters(net)[1]
    kinds = [m for m in net.modules() if isinstance(m, GroupSpectralConv)]
    own = {id(p) for m in kinds for p in m.parts.parameters()}
    assert own
    assert own <= {id(p) for p in relaxed}
    net(state()).square().sum().backward()
    for parameter in relaxed:
        if parameter.numel():
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0


def test_bad_settings_are_one_line() -> None:
    with pytest.raises(InputError, match="got hold 'free'; use 'penalised'"):
        layer("C4", Isotypic(hold=Free()))
    with pytest.raises(InputError, match=r"part 'spin'.*vector"):
        layer("C4", Isotypic(parts=("spin",)))
    with pytest.raises(InputError, match="C4 has no such subgroup"):
        network("C4", relaxation="modulated", relax_to="D1")
    with pytest.raises(InputError, match="for a relaxed network; set relaxation"):
        network("C4", relax_to="C2")
    with pytest.raises(InputError, match="for a relaxed network; set relaxation"):
        network("C4", position_modes=3)
    box = Task(state=SPEC, walls="slip", breaks_translation=True, resolution=8)
    config = GFNOConfig(relaxation="modulated", relax_to="C2")
    with pytest.raises(InputError, match="set position_modes to 0"):
        config.build(box)


def test_the_action_is_one_and_moves_what_is_relaxed() -> None:
    made = layer("C4", Isotypic())
    move(list(made.relaxed_parameters()), made.init_std)
    kernel = made.kernel().detach()
    assert (acted(kernel, "C4", 1) - kernel).norm() > 0.1 * kernel.norm()
    assert torch.equal(acted(acted(kernel, "C4", 1), "C4", 3), kernel)
