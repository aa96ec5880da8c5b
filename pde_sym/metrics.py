"""Errors of predicted states, as pure functions of prediction and truth.

States are ``(..., channels, x, y)``; every function returns one number per leading
index, so that averages are taken, and stated, by the caller.
"""

import torch
from torch import Tensor

WELL_EPSILON = 1e-7


def relative_l2(prediction: Tensor, truth: Tensor) -> Tensor:
    """Return ``||p - u|| / ||u||`` over channels and space."""
    return _norm(prediction - truth) / _norm(truth)


def vrmse(prediction: Tensor, truth: Tensor) -> Tensor:
    """Return the VRMSE of The Well, averaged over channels.

    ``sqrt(<(p - u)^2> / (Var(u) + 1e-7))`` with the spatial variance of each channel,
    Bessel's correction included; predicting the spatial mean scores about 1.
    """
    mean_square = (prediction - truth).square().mean((-2, -1))
    variance = truth.var((-2, -1), correction=1)
    return _root(mean_square / (variance + WELL_EPSILON)).mean(-1)


def nrmse(prediction: Tensor, truth: Tensor) -> Tensor:
    """Return ``sqrt(<(p - u)^2> / <u^2>)`` per channel, averaged over channels."""
    mean_square = (prediction - truth).square().mean((-2, -1))
    return _root(mean_square / truth.square().mean((-2, -1))).mean(-1)


def correlation(prediction: Tensor, truth: Tensor) -> Tensor:
    """Return Pearson's correlation over space, averaged over channels."""
    p = prediction - prediction.mean((-2, -1), keepdim=True)
    u = truth - truth.mean((-2, -1), keepdim=True)
    product = (p * u).mean((-2, -1))
    scale = (p.square().mean((-2, -1)) * u.square().mean((-2, -1))).sqrt()
    return (product / scale).mean(-1)


def _root(square: Tensor) -> Tensor:
    """Return the root, with slope 0 at 0 where autograd would make nan of it."""
    exact = square == 0
    return torch.where(exact, 1.0, square).sqrt().masked_fill(exact, 0.0)


def _norm(state: Tensor) -> Tensor:
    return torch.linalg.vector_norm(state, dim=(-3, -2, -1))
