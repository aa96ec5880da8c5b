"""Errors of predictions against numbers worked out by hand or by numpy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pde_sym.fields import Field, FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.metrics import correlation, nrmse, relative_l2, vrmse
from pde_sym.symmetry import GroupElement, act, point_group

Metric = Callable[[Tensor, Tensor], Tensor]
METRICS: list[Metric] = [relative_l2, vrmse, nrmse, correlation]
GRID = PeriodicGrid.square(8)
SPEC = FieldSpec.of(Field(name="u"), Field(name="v"))


def pair() -> tuple[Tensor, Tensor]:
    """Return prediction and truth, ``(3, 4, 2, 8, 8)``, channels of unequal size."""
    scale = torch.tensor([1.0, 30.0], dtype=torch.float64).view(2, 1, 1)
    truth = scale * torch.randn(3, 4, 2, 8, 8, dtype=torch.float64) + scale
    return truth + 0.3 * scale * torch.randn_like(truth), truth


def test_by_hand() -> None:
    """u = (1, 2, 3, 4), p = u + (1, 0, 0, -1) on 2 x 2 points."""
    u = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)[None]
    p = u + torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    # |p - u|^2 = 2, |u|^2 = 30; squared deviations from 5/2 sum to 5, of n - 1 = 3.
    assert relative_l2(p, u).item() == pytest.approx((2 / 30) ** 0.5, abs=1e-15)
    assert nrmse(p, u).item() == pytest.approx((2 / 30) ** 0.5, abs=1e-15)
    vrmse_by_hand = ((2 / 4) / (5 / 3 + 1e-7)) ** 0.5
    assert vrmse(p, u).item() == pytest.approx(vrmse_by_hand, abs=1e-15)
    # p = (2, 2, 3, 3): product 2, squares 1 and 5.
    assert correlation(p, u).item() == pytest.approx(2 / 5**0.5, abs=1e-15)


@pytest.mark.parametrize("channel", [0, 1])
def test_one_channel_against_numpy(channel: int) -> None:
    p, u = (x[..., channel : channel + 1, :, :] for x in pair())
    expected = {metric: np.zeros((3, 4)) for metric in METRICS}
    for index in np.ndindex(3, 4):
        a, b = p[index].numpy().ravel(), u[index].numpy().ravel()
        error = np.mean((a - b) ** 2)
        norm = np.linalg.norm(a - b) / np.linalg.norm(b)
        expected[relative_l2][index] = norm
        expected[vrmse][index] = np.sqrt(error / (np.var(b, ddof=1) + 1e-7))
        expected[nrmse][index] = np.sqrt(error / np.mean(b**2))
        expected[correlation][index] = np.corrcoef(a, b)[0, 1]
    for metric, values in expected.items():
        assert metric(p, u).shape == (3, 4)
        assert np.allclose(metric(p, u).numpy(), values, rtol=1e-12), metric


@pytest.mark.parametrize("metric", [vrmse, nrmse, correlation])
def test_channels_are_averaged(metric: Metric) -> None:
    p, u = pair()
    single = [metric(p[..., c : c + 1, :, :], u[..., c : c + 1, :, :]) for c in (0, 1)]
    assert torch.allclose(metric(p, u), (single[0] + single[1]) / 2, rtol=1e-12)
    assert not torch.allclose(single[0], single[1], rtol=1e-3)


def test_relative_l2_sums_over_channels() -> None:
    """The larger channel decides: ``||p - u|| / ||u||`` over all of them."""
    p, u = pair()
    expected = (p - u).square().sum((-3, -2, -1)) / u.square().sum((-3, -2, -1))
    assert torch.allclose(relative_l2(p, u).square(), expected, rtol=1e-12)
    p[..., 0, :, :] = 0
    assert torch.allclose(relative_l2(p, u), expected.sqrt(), rtol=0.05)


def test_what_trivial_predictions_score() -> None:
    _, u = pair()
    mean = u.mean((-2, -1), keepdim=True).expand_as(u)
    # n / (n - 1) of the two variances is left.
    kept = torch.full((3, 4), 63 / 64, dtype=torch.float64)
    assert torch.allclose(vrmse(mean, u).square(), kept)
    zero = torch.zeros_like(u)
    assert torch.allclose(relative_l2(zero, u), torch.ones(3, 4, dtype=torch.float64))
    assert torch.allclose(nrmse(zero, u), torch.ones(3, 4, dtype=torch.float64))
    assert (vrmse(zero, u) > 1.1).all()
    for metric in (relative_l2, vrmse, nrmse):
        assert torch.equal(metric(u, u), torch.zeros(3, 4, dtype=torch.float64))
    for a, b in ((2.0, 5.0), (-2.0, 5.0)):
        sign = torch.full((3, 4), a / abs(a), dtype=torch.float64)
        assert torch.allclose(correlation(a * u + b, u), sign)


def test_the_variance_is_kept_from_zero() -> None:
    """A constant truth: ``sqrt(<(p - u)^2> / 1e-7)``."""
    u = torch.full((1, 4, 4), 3.0, dtype=torch.float64)
    assert vrmse(u + 0.01, u).item() == pytest.approx(0.01 / 1e-7**0.5, rel=1e-9)
    assert vrmse(u, u).item() == 0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "element",
    [*point_group("D4"), GroupElement(shift=(0.25, 0.5))],
    ids=lambda g: g.name,
)
def test_moving_both_changes_nothing(metric: Metric, element: GroupElement) -> None:
    p, u = pair()
    moved = metric(act(element, p, SPEC, GRID), act(element, u, SPEC, GRID))
    assert torch.allclose(moved, metric(p, u), rtol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_moving_one_changes_much(metric: Metric) -> None:
    p, u = pair()
    moved = metric(act(GroupElement(turns=1), p, SPEC, GRID), u)
    assert ((moved - metric(p, u)).abs() > 0.1).all()


@pytest.mark.parametrize("metric", [relative_l2, vrmse, nrmse])
def test_slopes_are_finite_where_a_prediction_is_exact(metric: Metric) -> None:
    """The root has no slope at 0; a field that stays 0 must not end a training."""
    _, u = pair()
    p = u.clone()
    p[0, 0, 0, 0, 0] += 1.0
    p.requires_grad_()
    metric(p, u).sum().backward()
    assert p.grad is not None
    assert p.grad.isfinite().all()
    assert p.grad[0, 0, 0, 0, 0] > 0
    assert p.grad.count_nonzero() == 1


@pytest.mark.parametrize("metric", [relative_l2, vrmse, nrmse])
def test_slopes(metric: Metric) -> None:
    u = torch.randn(1, 2, 3, 3, dtype=torch.float64)
    p = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: metric(p, u), (p,))
