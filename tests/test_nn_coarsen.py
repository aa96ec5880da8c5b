"""Coarsening that commutes with the symmetries of the grid, and one that does not."""

import pytest
import torch
from helpers import relative_difference
from tolerances import TOLERANCE
from torch import Tensor, nn
from typed_fields import MIXED

from pde_sym.errors import InputError
from pde_sym.grid import PeriodicGrid
from pde_sym.nn import Coarsen, Refine
from pde_sym.nn.coarsen import Resampling
from pde_sym.symmetry import GroupElement, act, point_group

EXACT = TOLERANCE[torch.float64]
SPEC = MIXED
KINDS: tuple[Resampling, ...] = ("spectral", "local")
TURNS = list(point_group("D4"))


def random(n: int) -> Tensor:
    return torch.randn(2, SPEC.num_channels, n, n, dtype=torch.float64)


def moved(x: Tensor, element: GroupElement) -> Tensor:
    return act(element, x, SPEC, PeriodicGrid.square(x.shape[-1]))


def defect(layer: nn.Module, x: Tensor, element: GroupElement) -> float:
    """Return the relative defect; each grid is turned about its own index 0."""
    return relative_difference(layer(moved(x, element)), moved(layer(x), element))


@pytest.mark.parametrize("n", [12, 10, 8, 4, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_turns_flips_and_shifts_by_coarse_points(kind: Resampling, n: int) -> None:
    shift = GroupElement(turns=1, flip=True, shift=(4 / n, 2 / n))
    for element in [*TURNS, shift]:
        assert defect(Coarsen(kind), random(n), element) <= EXACT
        assert defect(Refine(kind), random(n), element) <= EXACT


def test_the_plain_mean_over_cells_fails_turns_and_flips() -> None:
    for layer in (nn.AvgPool2d(2), nn.Upsample(scale_factor=2)):
        for element in TURNS[1:]:
            # Only the exchange of x and y leaves the cells where they are.
            is_exchange = element.turns == 1 and element.flip
            assert (defect(layer, random(12), element) > 0.1) != is_exchange
        assert defect(layer, random(12), GroupElement(shift=(1 / 6, 0))) <= EXACT


def test_any_shift_is_exact_for_the_spectral_one_alone() -> None:
    # Modes without a partner cannot be shifted by less than a point.
    for shift in ((1 / 12, 0.0), (0.3, 0.77)):
        element = GroupElement(shift=shift)
        x = Coarsen()(random(24))
        assert defect(Coarsen(), x, element) <= EXACT
        y = Coarsen()(random(12))
        assert defect(Refine(), y, element) <= EXACT
        assert defect(Coarsen("local"), x, element) > 1e-3
        assert defect(Refine("local"), y, element) > 1e-3


@pytest.mark.parametrize("n", [12, 10])
def test_resampled_waves_are_waves(n: int) -> None:
    """Mode m of the fine grid is mode m of the coarse one, or gone."""

    def wave(points: int, m: int) -> Tensor:
        x = 2 * torch.pi * torch.arange(points, dtype=torch.float64) / points
        return torch.cos(m * x[:, None] - x + 0.3)[None, None]

    for m in range(n // 2):
        found = Coarsen()(wave(n, m))
        if m < n // 4 or (m == n // 4 and n // 2 % 2):
            assert torch.allclose(found, wave(n // 2, m), atol=EXACT)
            assert torch.allclose(Refine()(found), wave(n, m), atol=EXACT)
        else:
            assert found.abs().max() <= EXACT
        damping = (1 + torch.cos(torch.tensor(2 * torch.pi * m / n).double())) / 2
        damping = damping * (1 + torch.cos(torch.tensor(2 * torch.pi / n).double())) / 2
        expected = damping * wave(n, m)[..., ::2, ::2]
        assert torch.allclose(Coarsen("local")(wave(n, m)), expected, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_constants_and_means_are_kept(kind: Resampling) -> None:
    ones = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    for layer in (Coarsen(kind), Refine(kind)):
        assert torch.allclose(layer(ones), ones.new_ones(()), atol=EXACT)
        x = random(8)
        assert torch.allclose(layer(x).mean((2, 3)), x.mean((2, 3)), atol=EXACT)


def test_local_interpolation_is_linear_and_keeps_the_points() -> None:
    x = random(5)
    fine = Refine("local")(x)
    assert torch.equal(fine[..., ::2, ::2], x)
    middle = (x + x.roll(-1, -2)) / 2
    assert torch.allclose(fine[..., 1::2, ::2], middle)
    corner = (middle + middle.roll(-1, -1)) / 2
    assert torch.allclose(fine[..., 1::2, 1::2], corner)


@pytest.mark.parametrize("kind", KINDS)
def test_one_is_the_transpose_of_the_other(kind: Resampling) -> None:
    """``<R x, y> = 4 <x, C y>``: an upward path mirrors the downward one."""
    x, y = random(4), random(8)
    left, right = (Refine(kind)(x) * y).sum(), 4 * (x * Coarsen(kind)(y)).sum()
    assert abs(left - right) <= EXACT * abs(left)


@pytest.mark.parametrize("kind", KINDS)
def test_axes_may_differ_and_odd_ones_are_refused(kind: Resampling) -> None:
    x = torch.randn(1, 2, 4, 6)
    assert Coarsen(kind)(x).shape == (1, 2, 2, 3)
    assert Refine(kind)(x).shape == (1, 2, 8, 12)
    with pytest.raises(InputError, match="9 x 8 points cannot be halved; use even"):
        Coarsen(kind)(torch.zeros(1, 1, 9, 8))
