"""Errors of predicted states, as pure functions of prediction and truth.

States are ``(..., channels, *points)`` with `num_axes` axes of points; every function
returns one number per leading index, so that averages are taken, and stated, by the
caller.
"""

import torch
from torch import Tensor

WELL_EPSILON = 1e-7


def relative_l2(prediction: Tensor, truth: Tensor, num_axes: int = 2) -> Tensor:
    """Return ``||p - u|| / ||u||`` over channels and space."""
    dims = (-num_axes - 1, *_space(num_axes))
    return _norm(prediction - truth, dims) / _norm(truth, dims)


def vrmse(prediction: Tensor, truth: Tensor, num_axes: int = 2) -> Tensor:
    """Return the VRMSE of The Well, averaged over channels.

    ``sqrt(<(p - u)^2> / (Var(u) + 1e-7))`` with the spatial variance of each channel,
    Bessel's correction included; predicting the spatial mean scores about 1. A single
    point has no variance: there it is ``sqrt(<(p - u)^2> / (<u^2> + 1e-7))`` with
    means over channels, and predicting 0 scores about 1.

    >>> truth = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    >>> round(float(vrmse(torch.full_like(truth, 1.5), truth)), 3)
    0.866
    """
    space = _space(num_axes)
    square = (prediction - truth).square()
    if truth.shape[-num_axes:].numel() == 1:
        every = (-num_axes - 1, *space)
        return _root(square.mean(every) / (truth.square().mean(every) + WELL_EPSILON))
    variance = truth.var(space, correction=1)
    return _root(square.mean(space) / (variance + WELL_EPSILON)).mean(-1)


def nrmse(prediction: Tensor, truth: Tensor, num_axes: int = 2) -> Tensor:
    """Return ``sqrt(<(p - u)^2> / <u^2>)`` per channel, averaged over channels."""
    space = _space(num_axes)
    mean_square = (prediction - truth).square().mean(space)
    return _root(mean_square / truth.square().mean(space)).mean(-1)


def correlation(prediction: Tensor, truth: Tensor, num_axes: int = 2) -> Tensor:
    """Return Pearson's correlation over space, averaged over channels."""
    space = _space(num_axes)
    p = prediction - prediction.mean(space, keepdim=True)
    u = truth - truth.mean(space, keepdim=True)
    product = (p * u).mean(space)
    scale = (p.square().mean(space) * u.square().mean(space)).sqrt()
    return (product / scale).mean(-1)


def _space(num_axes: int) -> tuple[int, ...]:
    """Return the axes of points, the last ones."""
    return tuple(range(-num_axes, 0))


def _root(square: Tensor) -> Tensor:
    """Return the root, with slope 0 at 0 where autograd would make nan of it."""
    exact = square == 0
    return torch.where(exact, 1.0, square).sqrt().masked_fill(exact, 0.0)


def _norm(state: Tensor, dims: tuple[int, ...]) -> Tensor:
    return torch.linalg.vector_norm(state, dim=dims)
