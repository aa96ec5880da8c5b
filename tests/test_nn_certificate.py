"""The certificate bounds the defect, and is zero for what is exact."""

import itertools
import math

import pytest
import torch
from relaxed_cases import CONVOLUTIONS, SHIFT, defect, state
from relaxed_cases import network as published
from torch import nn
from torch.nn.functional import gelu
from typed_fields import vector

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import GroupElement
from pde_sym.nn import (
    FieldScale,
    Isotypic,
    Modulated,
    ModulatedConfig,
    Normalisation,
    Pointwise,
    Relaxation,
    SteerableConv2d,
    Strict,
    Surrogate,
    Task,
    field_type,
    gspace,
    regular_type,
    split_parameters,
)
from pde_sym.nn.certificate import (
    GELU_SLOPE,
    Certificate,
    operator_norm,
    step_certificate,
)
from pde_sym.nn.heads import Head
from pde_sym.symmetry import act, point_group

SPEC = FieldSpec.of(Field(name="u"), vector("v"))
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
            bound, found = Certificate(net, x).bound(g), measured(net, x, g)
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
        assert Certificate(net, x).bound(g).max() <= 1e-12 * x.norm()


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


@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_on_large_grids_the_norm_is_bounded_from_few_samples(size: int) -> None:
    kernel, shape = torch.randn(3, 2, size, size, dtype=torch.float64), (96, 100)
    symbol = torch.fft.fft2(kernel, s=shape).permute(2, 3, 0, 1)
    exact = float(torch.linalg.matrix_norm(symbol, ord=2).max())
    assert exact <= operator_norm(kernel, shape) * (1 + 1e-12)
    assert operator_norm(kernel, shape) <= exact / math.cos(math.pi / 8) ** 2


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_it_bounds_the_defect_of_every_convolution(name: str) -> None:
    """With factors in position, under turns, flips, shifts, and both at once."""
    net, x = published(CONVOLUTIONS[name], "D4", position_modes=1), state()
    assert isinstance(net, nn.Sequential)
    with torch.no_grad():
        for weight in split_parameters(net)[1]:
            weight += 0.1 * torch.randn_like(weight)
    certificate, size = Certificate(net, x), float(net(x).detach().norm())
    shifts = (SHIFT, GroupElement(turns=3, flip=True, shift=SHIFT.shift))
    for g in (*point_group("D4").elements[1:], *shifts):
        found = defect(net, x, g) * size
        assert 1e-3 * size < found <= float(certificate.bound(g).norm())


@pytest.mark.parametrize("head", ["mean", "leray"])
def test_steps_are_bounded_in_the_scales_of_their_fields(head: Head) -> None:
    """Given fields move along; a part that keeps mean or divergence adds nothing."""
    velocity, depth = vector("velocity"), "depth"
    told = FieldSpec.of(Field(name=depth))
    task = Task(state=FieldSpec.of(velocity, Field(name="u")), given=told)
    scales = [("velocity", 0.0, 2.0, 0.1), ("u", 1.0, 3.0, 5.0), (depth, 2.0, 1.0, 1.0)]
    keys = ("name", "mean", "std", "increment_std")
    fields = tuple(
        FieldScale.model_validate(dict(zip(keys, s, strict=True))) for s in scales
    )
    config = ModulatedConfig(width=2, depth=2, head=head, position_modes=1)
    step = Surrogate(config.build(task), task, Normalisation(fields=fields)).double()
    with torch.no_grad():
        for weight in split_parameters(step)[1]:
            weight.normal_(std=0.1)
        u, given = state()[:, :3], state()[:, :1]
        certificate = step_certificate(step, u, given)
        grid = PeriodicGrid.square(9)
        for g in (GroupElement(turns=1), SHIFT):
            moved = [act(g, u, task.state, grid), act(g, given, told, grid)]
            change = step(*moved) - act(g, step(u, given), task.state, grid)
            found, bound = change.flatten(1).norm(dim=1), certificate.bound(g)
            assert (found > 1e-3).all()
            assert (found <= bound).all()
            assert (bound <= 1000 * found).all()
        # The scale of the increment counts: the bound is not that of the network.
        plain = Certificate(step.net, step.network_inputs(u, given))
        assert (plain.bound(SHIFT) - certificate.bound(SHIFT)).abs().min() > 1e-3


def test_gelu_is_never_steeper() -> None:
    x = torch.linspace(-8, 8, 100_001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(gelu(x).sum(), x)
    assert 0.999 * GELU_SLOPE < slope.abs().max() <= GELU_SLOPE


def test_other_layers_and_elements_are_refused() -> None:
    x = torch.randn(1, 3, *GRID.shape)
    with pytest.raises(InputError, match="got Conv2d"):
        Certificate(nn.Sequential(nn.Conv2d(3, 3, 3)), x).bound(GroupElement(turns=1))
    conv = SteerableConv2d(
        field_type(SPEC, gspace("C2")), field_type(SPEC, gspace("C2")), 3
    )
    with pytest.raises(InputError, match="no turn 90"):
        Certificate(nn.Sequential(conv), x).bound(GroupElement(turns=1))
    with pytest.raises(InputError, match="a shift by whole points, got"):
        Certificate(conv, x).bound(GroupElement(shift=(0.1, 0.0)))


def test_what_the_first_layer_breaks_is_magnified_by_the_last() -> None:
    x = torch.randn(3, 3, *GRID.shape, dtype=torch.float64)
    net = network(Modulated(), 0.0)
    with torch.no_grad():
        for weight in net[0].relaxed_parameters():  # type: ignore[operator]
            weight.normal_(std=0.1)
        for weight in net[-1].kernel.parameters():  # type: ignore[union-attr]
            weight *= 1000.0
    for g in point_group("D4").elements[1:]:
        bound, found = Certificate(net, x).bound(g), measured(net, x, g)
        assert (found > 0).all()
        assert (found <= bound).all()
        assert (bound <= 1000 * found).all()
