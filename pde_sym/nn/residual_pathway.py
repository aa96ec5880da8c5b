"""Residual pathway priors: a steerable kernel beside a free one, each with a prior."""

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.nn._escnn import FieldType
from pde_sym.nn.kernel_layer import KernelLayer, norm, steerable_part
from pde_sym.nn.kernel_term import KernelTerm
from pde_sym.nn.terms import BiasTerm

FREE_START = 1e-3
"""The authors' factor on the initial weights of the free branch."""


class ResidualPathwayConv2d(KernelLayer):
    """``K = K_0 + W``: a steerable kernel and a free one, each with a Gaussian prior.

    Parameters
    ----------
    in_type, out_type, kernel_size
        As in `KernelLayer`.
    free_start
        Factor on He's standard deviation for the initial W; 0 starts at exactly zero
        and thus equivariant.
    equivariant_prior, free_prior
        Standard deviations sigma_a of K_0 and sigma_b of W, in units of He's.
    settings
        Band and position factors, as in `KernelLayer`.

    Raises
    ------
    InputError
        As `KernelLayer`; for a start below zero or a prior that is not above it.
    """

    formula: ClassVar[str] = "out(x) = sum_o (K_0(o) + W(o)) f(x + o) + b_0 + b"
    source: ClassVar[str] = (
        "Finzi, Benton and Wilson 2021, Residual Pathway Priors for Soft Equivariance "
        "Constraints (arXiv 2112.01388): W ~ N(0, (sigma_a^2 + sigma_b^2) Q Q^T + "
        "sigma_b^2 (1 - Q Q^T))"
    )

    def __init__(
        self,
        in_type: FieldType,
        out_type: FieldType,
        kernel_size: int,
        *,
        free_start: float = FREE_START,
        equivariant_prior: float = 1.0,
        free_prior: float = 0.1,
        **settings: Any,
    ) -> None:
        super().__init__(in_type, out_type, kernel_size, **settings)
        if free_start < 0 or min(equivariant_prior, free_prior) <= 0:
            raise InputError(
                "expected free_start >= 0 and priors > 0, got "
                f"{free_start}, {equivariant_prior}, {free_prior}"
            )
        self.priors: tuple[float, float] = (equivariant_prior, free_prior)
        self.kernel: KernelTerm = self.steerable_term()
        shape = (out_type.size, in_type.size, kernel_size, kernel_size)
        scale = free_start * self.kernel.init_std
        self.free: nn.Parameter = nn.Parameter(scale * torch.randn(shape))
        self.free_bias: BiasTerm = BiasTerm(out_type, "C1")

    def effective_kernel(self) -> Tensor:
        return self.kernel() + self.free

    def effective_bias(self) -> Tensor:
        return self.bias() + self.free_bias()

    def relaxing_weights(self) -> Iterator[nn.Parameter]:
        yield self.free
        yield from self.free_bias.parameters()

    def relaxation(self) -> Tensor:
        """Return ``||(1 - P) W|| / ||K_0 + P W||``, biases and factors included.

        The steerable part P W of the free branch breaks nothing and does not count.
        """
        kept = steerable_part(self.free, self.in_type, self.out_type, self.band)
        broken = [self.free - kept, *self.free_bias.parameters()]
        broken += self.position_weights()
        whole = [self.kernel() + kept, *self.bias.parameters()]
        return norm(broken, self.free) / norm(whole, self.free)

    def penalty(self) -> Tensor:
        """Return the negative logarithm of the prior per entry of the kernel.

        ``(||K_0||^2 / 2 sigma_a^2 + ||W||^2 / 2 sigma_b^2) / (n s^2)``, n entries and
        He's variance s^2, so that one factor serves layers of every size; plus the
        mean square of the weights of the position factors.
        """
        sigma_a, sigma_b = self.priors
        variance = self.kernel.init_std**2
        total = self.kernel().square().mean() / (2 * variance * sigma_a**2)
        total = total + self.free.square().mean() / (2 * variance * sigma_b**2)
        for weight in self.position_weights():
            total = total + weight.square().mean()
        return total
