"""The certificate bounds the defect, and is zero for what is exact."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import GroupElement
from pde_sym.nn import (
    Isotypic,
    Modulated,
    Pointwise,
    Relaxation,
    SteerableConv2d,
    Strict,
    field_type,
    gspace,
    regular_type,
    split_parameters,
)
from pde_sym.nn.certificate import GELU_SLOPE, certificate, operator_norm
from pde_sym.symmetry import act, point_group

SPEC = FieldSpec.of(Field(name="u"), Field(name="v", rank=Rank.VECTOR, components=2))
GRID = PeriodicGrid.square(8)


def network(setting: Relaxation, share: float) -> nn.Sequential:
    space = gspace("D4")
    fields, hidden = field_type(SPEC, space), regular_type(space, 2)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise([fields, hidden, hidden, fields]):
        if layers:
            layers.append(Pointwise(hidden))
        layers.append(SteerableConv2d(before, after, 3, relaxation=setting))
    net = nn.Sequential(*layers).double()
    with torch.no_grad():
        for weight in split_parameters(net)[1]:
            weight.normal_(std=share)
    return net


def measured(net: nn.Module, x: torch.Tensor, g: GroupElement) -> torch.Tensor:
    with torch.no_grad():
        change = net(act(g, x, SPEC, GRID)) - act(g, net(x), SPEC, GRID)
    return change.flatten(1).norm(dim=1)


@pytest.mark.parametrize(
    "setting", [Modulated(), Modulated(position_modes=1), Isotypic(position_modes=1)]
)
def test_it_bounds_the_defect_and_follows_it_to_zero(setting: Relaxation) -> None:
    x = torch.randn(3, 3, *GRID.shape, dtype=torch.float64)
    sizes = []
    for share in (1e-3, 1e-1):
        net = network(setting, share)
        bound = torch.zeros(())
        for g in point_group("D4").elements[1:]:
            bound, found = certificate(net, x, g), measured(net, x, g)
            assert (found > 0).all()
            assert (found <= bound).all()
            # Loose, but not by orders of magnitude.
            assert (bound <= 1000 * found).all()
        sizes.append(float(bound.max()))
    assert sizes[0] < 0.05 * sizes[1]


def test_a_strict_network_has_none() -> None:
    x = torch.randn(2, 3, *GRID.shape, dtype=torch.float64)
    net = network(Strict(), 0.0)
    for g in point_group("D4"):
        assert certificate(net, x, g).max() <= 1e-12 * x.norm()


def test_the_norm_is_that_of_the_convolution() -> None:
    kernel = torch.randn(2, 3, 3, 3, dtype=torch.float64)
    columns = []
    for index in range(3 * 36):
        x = torch.zeros(3 * 36, dtype=torch.float64)
        x[index] = 1.0
        padded = nn.functional.pad(x.view(1, 3, 6, 6), 4 * [1], mode="circular")
        columns.append(nn.functional.conv2d(padded, kernel).flatten())
    dense = torch.linalg.matrix_norm(torch.stack(columns), ord=2)
    assert operator_norm(kernel, (6, 6)) == pytest.approx(float(dense), rel=1e-12)


def test_gelu_is_never_steeper() -> None:
    x = torch.linspace(-8, 8, 100_001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(gelu(x).sum(), x)
    assert 0.999 * GELU_SLOPE < slope.abs().max() <= GELU_SLOPE


def test_other_layers_and_elements_are_refused() -> None:
    x = torch.randn(1, 3, *GRID.shape)
    with pytest.raises(InputError, match="got Conv2d"):
        certificate(nn.Sequential(nn.Conv2d(3, 3, 3)), x, GroupElement(turns=1))
    conv = SteerableConv2d(
        field_type(SPEC, gspace("C2")), field_type(SPEC, gspace("C2")), 3
    )
    with pytest.raises(InputError, match="no turn 90"):
        certificate(nn.Sequential(conv), x, GroupElement(turns=1))


def test_what_the_first_layer_breaks_is_magnified_by_the_last() -> None:
    x = torch.randn(3, 3, *GRID.shape, dtype=torch.float64)
    net = network(Modulated(), 0.0)
    with torch.no_grad():
        for weight in net[0].relaxed_parameters():  # type: ignore[operator]
            weight.normal_(std=0.1)
        for weight in net[-1].kernel.parameters():  # type: ignore[union-attr]
            weight *= 1000.0
    for g in point_group("D4").elements[1:]:
        bound, found = certificate(net, x, g), measured(net, x, g)
        assert (found > 0).all()
        assert (found <= bound).all()
        assert (bound <= 1000 * found).all()
