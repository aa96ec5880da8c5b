"""The U-Net: grids, shifts, where it starts."""

import itertools

import pytest
import torch
from helpers import relative_difference
from tolerances import TOLERANCE
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec
from pde_sym.nn import Task, UNetConfig
from pde_sym.nn.unet import ResidualBlock, UNet

STATE = FieldSpec.of(Field(name="u"))
EXACT = TOLERANCE[torch.float64]


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def network(levels: int = 2, norm: bool = False, num_axes: int = 2) -> UNet:
    """Return a U-Net whose blocks add something, as they do once it has learnt."""
    net = UNet(1, 1, 8, levels, norm, num_axes).double()
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net.requires_grad_(False)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("num_axes", [1, 2])
def test_shifts_of_the_coarsest_grid_are_exact_and_no_others(
    num_axes: int, norm: bool
) -> None:
    net, x = network(2, norm, num_axes), noise(2, 1, *num_axes * (16,))
    for axis, steps in ((-1, 4), (-num_axes, 8), (-1, -4)):
        moved = net(x.roll(steps, axis))
        assert relative_difference(moved, net(x).roll(steps, axis)) <= EXACT
    for steps in (1, 2, 3):
        moved = net(x.roll(steps, -1))
        assert relative_difference(moved, net(x).roll(steps, -1)) > 1e-3


def reach(levels: int) -> int:
    """Return how far from a point a change of it is seen."""
    net, x = network(levels), noise(1, 1, 64, 64)
    y = x.clone()
    y[..., 0, 0] += 1
    seen = (net(x) != net(y))[0, 0].nonzero()
    return int(torch.minimum(seen, 64 - seen).max())


def test_each_level_nearly_doubles_what_a_point_sees() -> None:
    """Four convolutions of 3 points see 4 points far; then coarse ones count double."""
    found = [reach(levels) for levels in range(3)]
    assert found[0] == 4
    assert all(b > 1.5 * a for a, b in itertools.pairwise(found))


@pytest.mark.parametrize("num_axes", [1, 2])
@pytest.mark.parametrize("points", range(8, 34, 2))
def test_every_even_grid_from_eight_points_on_has_a_network(
    points: int, num_axes: int
) -> None:
    task = Task(state=STATE, resolution=points, num_axes=num_axes)
    net = UNetConfig(width=4).build(task)
    x = torch.randn(2, 1, *num_axes * (points,))
    assert net(x).shape == x.shape
    (body,) = (module for module in net.modules() if isinstance(module, UNet))
    most = max(n for n in range(4) if points % 2**n == 0 and points / 2**n >= 4)
    assert body.levels == most


@pytest.mark.parametrize("points", [7, 9, 33, 6, 2])
def test_odd_and_tiny_grids_are_refused_in_one_line(points: int) -> None:
    with pytest.raises(InputError, match=f"unet: {points} points cannot be halved"):
        UNetConfig().build(Task(state=STATE, resolution=points))
    if points >= 3:
        flat = UNetConfig(levels=0, width=2).build(Task(state=STATE, resolution=points))
        assert flat(torch.randn(1, 1, points, points)).shape == (1, 1, points, points)


def test_grids_that_do_not_fit_a_built_network_are_refused() -> None:
    net = UNetConfig(width=4).build(Task(state=STATE, resolution=16))
    assert net(torch.randn(1, 1, 20, 12)).shape == (1, 1, 20, 12)
    for shape in ((18, 16), (16, 17), (8, 16)):
        with pytest.raises(InputError, match="multiples of 4 from 12 points on, got"):
            net(torch.randn(1, 1, *shape))


def test_it_starts_as_persistence() -> None:
    x = torch.randn(2, 1, 16, 16)
    assert torch.equal(UNet(1, 1, 4, 1, norm=False)(x), torch.zeros_like(x))
    assert network()(x.double()).abs().max() > 0.1


@pytest.mark.parametrize("norm", [True, False])
def test_a_block_starts_as_its_shortcut(norm: bool) -> None:
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(ResidualBlock(3, 3, norm)(x), x)
    wider = ResidualBlock(3, 5, norm)
    assert torch.equal(wider(x), wider.skip(x))


def test_the_norm_takes_the_scale_away() -> None:
    x = 10 * noise(2, 3, 8, 8)
    for norm in (True, False):
        torch.manual_seed(0)
        block = ResidualBlock(3, 3, norm).double().requires_grad_(False)
        torch.nn.init.normal_(block.body[-1].get_parameter("weight"))
        change = relative_difference(block.body(3 * x), block.body(x))
        assert (change < 1e-5) == norm
        assert (change > 1) != norm
