"""The margin of maps on the torus: values and derivatives are those of torch's own."""

import pytest
import torch
from torch import Tensor, nn

from pde_sym.nn.periodic import wrap


def reference(x: Tensor, half: int) -> Tensor:
    return nn.functional.pad(x, 4 * [half], mode="circular")


@pytest.mark.parametrize("size", [3, 5, 7])
def test_values_and_gradients_are_those_of_circular_padding(size: int) -> None:
    x = torch.randn(2, 3, 7, 8, dtype=torch.float64, requires_grad=True)
    ours, theirs = wrap(x, size), reference(x, size // 2)
    assert torch.equal(ours, theirs)
    weight = torch.randn_like(ours)
    (mine,), (wanted,) = (torch.autograd.grad(out, x, weight) for out in (ours, theirs))
    torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-14)


def test_a_single_point_needs_no_margin() -> None:
    x = torch.randn(1, 1, 4, 4)
    assert wrap(x, 1) is x


def test_derivatives_of_both_modes_and_orders() -> None:
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)

    def square(x: Tensor) -> Tensor:
        return wrap(x, 5).square()

    assert torch.autograd.gradcheck(square, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(square, x)


def test_maps_over_batches() -> None:
    x, v = torch.randn(2, 3, 2, 6, 6, dtype=torch.float64)
    assert torch.equal(torch.vmap(lambda u: wrap(u, 3))(x), reference(x, 1))
    tangents = torch.func.jvp(lambda u: wrap(u, 3), (x,), (v,))
    assert torch.equal(tangents[1], reference(v, 1))
