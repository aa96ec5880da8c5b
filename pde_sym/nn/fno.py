"""Fourier layers: convolutions whose kernels are given by their lowest modes."""

import torch
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.nn.periodic import periodic_conv


def hermitian(weight: Tensor, num_axes: int) -> Tensor:
    """Return ``W(k) = ((1 + i) R(k) + (1 - i) R(-k)) / 2`` of real R.

    The last axes of R are the modes ``-M .. M`` of each axis of space. Every W with
    ``W(-k) = conj W(k)``, that of real kernels, is that of one R (Hartley's transform),
    so that no weight is without effect.
    """
    mirrored = weight.flip(tuple(range(-num_axes, 0)))
    return torch.complex(weight + mirrored, weight - mirrored) / 2


def spectral_convolution(x: Tensor, weight: Tensor) -> Tensor:
    """Return the fields whose modes are ``W(k) x_k`` for ``|k_j| <= M``, else 0.

    On an axis with few points, M is the highest mode that has a sine and a cosine
    there: below N / 2, so that the modes kept are closed under turns and flips.

    Parameters
    ----------
    x
        ``(B, C_in, *points)``.
    weight
        Real R of `hermitian`, ``(C_out, C_in, *modes)``, 2 M + 1 modes per axis.
    """
    points = x.shape[2:]
    axes = tuple(range(2, 2 + len(points)))
    highest = weight.shape[-1] // 2
    kernel = hermitian(weight, len(points))
    spectrum = torch.fft.rfftn(x, dim=axes)
    result = spectrum.new_zeros(len(x), len(weight), *spectrum.shape[2:])
    place: list[Tensor] = []
    for axis, n in enumerate(points):
        modes = min(highest, (n - 1) // 2)
        is_last = axis == len(points) - 1
        k = torch.arange(0 if is_last else -modes, modes + 1, device=x.device)
        kernel = kernel.index_select(axis + 2, k + highest)
        shape = [1] * len(points)
        shape[axis] = -1
        place.append((k % n).view(shape))
    where = (slice(None), slice(None), *place)
    result[where] = torch.einsum("bi...,oi...->bo...", spectrum[where], kernel)
    return torch.fft.irfftn(result, s=points, dim=axes)


class SpectralConv(nn.Module):
    """A convolution that is learned mode by mode, ``out = F^-1 (W(k) F f (k))``.

    Li et al. 2020, Fourier Neural Operator for Parametric Partial Differential
    Equations, eq. 4-5; here the modes ``-M .. M`` of each axis, a set that turns and
    flips map onto itself.

    Parameters
    ----------
    channels_in, channels_out
        Channels before and after.
    modes
        The highest mode M per axis.
    num_axes
        Axes of the grid, 1 or 2.
    """

    def __init__(
        self, channels_in: int, channels_out: int, modes: int, num_axes: int = 2
    ) -> None:
        super().__init__()
        sizes = num_axes * (2 * modes + 1,)
        # As small as the authors start: what learns first is the map at each point.
        weight = torch.randn(channels_out, channels_in, *sizes)
        self.weight: nn.Parameter = nn.Parameter(weight / (channels_in * channels_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C_in, *points)`` to ``(B, C_out, *points)``."""
        if x.ndim != self.weight.ndim or x.shape[1] != self.weight.shape[1]:
            raise InputError(
                f"expected input (batch, {self.weight.shape[1]}, *points) with "
                f"{self.weight.ndim - 2} axes of points, got shape {tuple(x.shape)}"
            )
        return spectral_convolution(x, self.weight)


class FourierLayer(nn.Module):
    """``K f + W f + b``: a spectral convolution and a linear map at every point."""

    def __init__(self, convolution: nn.Module, pointwise: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution
        self.pointwise = pointwise

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x) + self.pointwise(x)


def fourier_layer(channels: int, modes: int, num_axes: int) -> FourierLayer:
    """Return a free Fourier layer."""
    return FourierLayer(
        SpectralConv(channels, channels, modes, num_axes),
        periodic_conv(num_axes)(channels, channels, 1),
    )
