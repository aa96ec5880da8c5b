"""Normalisation that keeps equivariance."""

import torch
from torch import Tensor, nn

from pde_sym.nn._escnn import FieldType
from pde_sym.nn.fieldwise import (
    ConstantModule,
    channels_of_fields,
    check_channels,
    invariant_directions,
)


class FieldNorm(ConstantModule):
    """``c(x) -> gamma (c(x) - m) / sqrt(s^2 + eps) + beta``, per sample and field.

    m is the mean over space of the field's invariant components (the mean of the
    others is a direction, for instance of a wind, and stays) and
    ``s^2 = mean_x |c(x) - m|^2 / size`` is one invariant number for all components.
    gamma is one factor and beta a bias along the invariant components. Samples do not
    see each other and nothing is remembered: eval is train.

    Parameters
    ----------
    fields
        The fields before and after.
    eps
        Added to the variance: fields much smaller than its root stay small.

    Notes
    -----
    The amplitude of a field is lost: what depends on it, as every increment of a
    linear equation does, needs a way around the layer.

    References
    ----------
    Ulyanov, Vedaldi, Lempitsky 2016, Instance Normalization, eq. 2, here for fields;
    Weiler, Cesa 2019, General E(2)-equivariant steerable CNNs, section 2.
    """

    def __init__(self, fields: FieldType, eps: float = 1e-5) -> None:
        super().__init__()
        self.in_type = fields
        self.out_type = fields
        self.eps = eps
        members = channels_of_fields(fields)
        self.keep("members", members)
        self.keep("averages", members / members.sum(1, keepdim=True))
        directions = invariant_directions(fields)
        self.keep("directions", directions)
        self.scale: nn.Parameter = nn.Parameter(torch.ones(len(members)))
        self.bias: nn.Parameter = nn.Parameter(torch.zeros(directions.shape[1]))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, x, y)`` to the same shape."""
        check_channels(x, self.in_type)
        members, averages, directions = (
            self.kept(name, x) for name in ("members", "averages", "directions")
        )
        mean = x.mean((2, 3)) @ directions @ directions.T
        x = x - mean[:, :, None, None]
        variance = x.square().mean((2, 3)) @ averages.T
        factors = (self.scale / (variance + self.eps).sqrt()) @ members
        bias = directions @ self.bias
        return x * factors[:, :, None, None] + bias[:, None, None]
