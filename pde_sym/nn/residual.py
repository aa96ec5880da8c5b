"""Residual blocks of steerable convolutions."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pde_sym.nn._escnn import FieldType
from pde_sym.nn.blocks import Pointwise
from pde_sym.nn.coarsen import resample
from pde_sym.nn.conv import STRICT, SteerableConv2d
from pde_sym.nn.fieldwise import ConstantModule, channels_of_fields
from pde_sym.nn.kernel_space import Band
from pde_sym.nn.nonlinear import (
    FourierPointwise,
    Gated,
    NormNonlinearity,
    pointwise,
)
from pde_sym.nn.norm import FieldNorm
from pde_sym.nn.relaxation import Relaxation


class Antialiased(nn.Module):
    """A nonlinearity taken on `factor` times as many points per axis.

    A function of samples does not commute with moving them by less than their spacing;
    taken on finer samples, between two exact changes of grid, it commutes with shifts
    by those. Turns and flips stay exact.

    Parameters
    ----------
    phi
        The nonlinearity.
    factor
        Points of the finer grid per point and axis.

    References
    ----------
    Karras et al. 2021, Alias-Free Generative Adversarial Networks, section 2.
    """

    def __init__(self, phi: "Nonlinearity", factor: int = 2) -> None:
        super().__init__()
        self.in_type: FieldType = phi.in_type
        self.out_type: FieldType = phi.out_type
        self.phi = phi
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C_in, x, y)`` to ``(B, C_out, x, y)``."""
        nx, ny = x.shape[-2:]
        fine = resample(x, (self.factor * nx, self.factor * ny))
        return resample(self.phi(fine), (nx, ny))


Nonlinearity = Pointwise | Gated | NormNonlinearity | FourierPointwise | Antialiased


class ResidualBlock(ConstantModule):
    """``x + s conv(phi(conv(norm(x))))``, one factor s per field, zero at the start.

    With s at zero a deep network starts as a shallow one, and the convolutions keep
    their own start, on which penalties and read-outs rely. Where the fields change, a
    convolution of one point stands for the identity.

    Parameters
    ----------
    in_type, out_type
        Fields before and after; None is those before.
    kernel_size, band, relaxation
        Of both convolutions, as of `SteerableConv2d`.
    nonlinearity
        What makes phi for given fields after it, for instance `Gated`; by default a
        gelu of signals on the group.
    normalise
        Whether `FieldNorm` stands before the first convolution.
    zero_start
        Whether s is 0 at the start, otherwise 1.

    References
    ----------
    Bachlechner et al. 2021, ReZero is All You Need, eq. 1, here per field.
    """

    def __init__(
        self,
        in_type: FieldType,
        kernel_size: int,
        out_type: FieldType | None = None,
        *,
        band: Band = "auto",
        relaxation: Relaxation = STRICT,
        nonlinearity: Callable[[FieldType], Nonlinearity] = pointwise,
        normalise: bool = False,
        zero_start: bool = True,
    ) -> None:
        super().__init__()
        out_type = out_type or in_type
        self.in_type = in_type
        self.out_type: FieldType = out_type

        def convolution(
            before: FieldType, after: FieldType, size: int = kernel_size
        ) -> SteerableConv2d:
            return SteerableConv2d(
                before, after, size, band=band, relaxation=relaxation
            )

        phi = nonlinearity(out_type)
        self.body: nn.Sequential = nn.Sequential(
            FieldNorm(in_type) if normalise else nn.Identity(),
            convolution(in_type, phi.in_type),
            phi,
            convolution(phi.out_type, out_type),
        )
        same = in_type == out_type
        self.shortcut: nn.Module = (
            nn.Identity() if same else convolution(in_type, out_type, 1)
        )
        members = channels_of_fields(out_type)
        self.keep("members", members)
        start = torch.zeros if zero_start else torch.ones
        self.scale: nn.Parameter = nn.Parameter(start(len(members)))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C_in, x, y)`` to ``(B, C_out, x, y)``."""
        factors = self.scale @ self.kept("members", self.scale)
        return self.shortcut(x) + factors[:, None, None] * self.body(x)
