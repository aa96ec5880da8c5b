"""Layers on periodic lines, and the frame in which Galilei boosts are exact.

Arrays are ``(batch, channels, x)``.
"""

import math
from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from pde_sym.nn.kernel_space import TRIVIAL
from pde_sym.nn.layer import RelaxedLayer, drawn_aside
from pde_sym.nn.periodic import PeriodicConv1d


class PositionChannels1d(nn.Module):
    """Appends sin and cos of ``2 pi x / L``: two channels of position."""

    num_channels = 2

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, x)`` to ``(B, C + 2, x)``."""
        waves = _waves(x.shape[-1], 1, x.device).flip(0) / math.sqrt(2)
        return torch.cat([x, waves.to(x.dtype).expand(len(x), -1, -1)], dim=1)


class PositionFactors1d(nn.Module):
    """Factors ``1 + a_c(x)``, ``a_c = sum_r m_cr b_r(x)``, on the feature maps.

    The banks ``b_r = sum_k w_rk e_k(x)`` are learned fields that all channels share;
    the e_k are ``sqrt2 cos`` and ``sqrt2 sin`` of ``2 pi m x / L`` for m = 1 .. M, so
    that the weights fit every resolution. The banks start at zero, their mixing m does
    not: `pde_sym.nn.position.PositionTerm` on a line.

    Parameters
    ----------
    channels
        Number of feature maps.
    modes
        The highest mode M.
    banks
        Number of fields b_r; no more than channels are used.
    """

    def __init__(self, channels: int, modes: int, banks: int) -> None:
        super().__init__()
        self.modes = modes
        banks = min(banks, channels)
        with drawn_aside():
            mixing = torch.randn(channels, banks) / math.sqrt(banks)
        self.mixing: nn.Parameter = nn.Parameter(mixing)
        self.weight: nn.Parameter = nn.Parameter(torch.zeros(banks, 2 * modes))

    def factors(self, num_points: int) -> Tensor:
        """Return a_c on a line, shape ``(channels, x)``."""
        waves = _waves(num_points, self.modes, self.weight.device)
        return self.mixing @ (self.weight @ waves.to(self.weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + self.factors(x.shape[-1]))


def _waves(num_points: int, modes: int, device: torch.device) -> Tensor:
    """Return sqrt2 cos, then sqrt2 sin, of ``2 pi m i / N`` in float64, (2M, N)."""
    i = torch.arange(num_points, dtype=torch.float64, device=device)
    m = torch.arange(1, modes + 1, dtype=torch.float64, device=device)
    angle = 2 * math.pi / num_points * m[:, None] * i
    return math.sqrt(2) * torch.cat([angle.cos(), angle.sin()])


class LowPass1d(nn.Module):
    """Keeps the modes ``|m| < kept N / 2``, those that the solver of the data keeps.

    It commutes with every shift. Nothing in the data tells a network what to do with
    the other modes: left in, they grow along rollouts.

    Parameters
    ----------
    kept
        Part of the modes, at most 1.
    """

    def __init__(self, kept: float) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[-1]
        m = torch.arange(n // 2 + 1, device=x.device)
        spectrum = torch.fft.rfft(x) * (2 * m < self.kept * n)
        return torch.fft.irfft(spectrum, n=n)


class RelaxedConv1d(RelaxedLayer):
    """Periodic convolution that shifts commute with exactly, or up to learned fields.

    ``out(x) = sum_o K(o) (1 + a(x + o)) f(x + o) + b`` with a = 0 at the start: shifts
    are the symmetry of a line, and a is what breaks it.

    Parameters
    ----------
    channels_in, channels_out
        Feature maps before and after.
    kernel_size
        Points, odd.
    modes
        Highest Fourier mode of a; 0 keeps shifts exact.
    banks
        Number of learned fields that the a of all channels are mixed from.
    """

    formula: ClassVar[str] = "out(x) = sum_o K(o) (1 + a(x + o)) f(x + o) + b"
    source: ClassVar[str] = "the factors 1 + a(x) are this package's own"

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel_size: int,
        modes: int = 0,
        banks: int = 1,
    ) -> None:
        super().__init__()
        self.conv: PeriodicConv1d = PeriodicConv1d(
            channels_in, channels_out, kernel_size
        )
        self.position: PositionFactors1d | None = (
            PositionFactors1d(channels_in, modes, banks) if modes else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps after the layer, ``(B, C_in, x) -> (B, C_out, x)``."""
        if self.position is not None:
            self.conv.check(x)
            x = self.position(x)
        return self.conv(x)

    def relaxed_parameters(self) -> Iterator[nn.Parameter]:
        if self.position is not None:
            yield self.position.weight

    def relaxation(self) -> Tensor:
        """Return ``||a weights|| / ||other weights||``: 0 iff shifts are exact."""
        relaxed = [w.flatten() for w in self.relaxed_parameters()]
        plain = [w.flatten() for w in self.conv.parameters()]
        if self.position is not None:
            plain.append(self.position.mixing.flatten())
        none = plain[0].new_zeros(1)
        size = torch.linalg.vector_norm
        return size(torch.cat([none, *relaxed])) / size(torch.cat(plain))

    def parameters_per_part(self) -> dict[str, int]:
        parts = {TRIVIAL: self.conv, "position": self.position}
        return {
            name: sum(p.numel() for p in part.parameters())
            for name, part in parts.items()
            if part is not None
        }


class ReadingConv1d(RelaxedConv1d):
    """A relaxed convolution that also reads the place, and channels t of its own.

    ``out_c(x) = sum_o K(o) (1 + a(x + o)) f(x + o) + b_c + sum_k w_ck e_k(x)
    + sum_j t_j(x) (v_cj + sum_k v_cjk e_k(x))`` with the waves e_k of
    `PositionFactors1d`, and a = w = v = 0 at the start.

    Parameters
    ----------
    channels_in, channels_out, kernel_size, modes, banks
        As for `RelaxedConv1d`; the e_k have the same modes.
    told
        Number of the t, channels behind the f.
    """

    formula: ClassVar[str] = (
        "out(x) = sum_o K(o) (1 + a(x + o)) f(x + o) + b "
        "+ sum_k w_k e_k(x) + t(x) (v + sum_k v_k e_k(x))"
    )
    source: ClassVar[str] = "factors and terms in place and mean are this package's own"

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel_size: int,
        modes: int = 0,
        banks: int = 1,
        told: int = 0,
    ) -> None:
        super().__init__(channels_in, channels_out, kernel_size, modes, banks)
        self.modes = modes
        self.told = told
        terms = (1 + told) * (1 + 2 * modes) - 1
        self.reading: nn.Parameter = nn.Parameter(torch.zeros(channels_out, terms))

    def forward(self, x: Tensor) -> Tensor:
        """Map f and t, ``(B, C_in + told, x)``, to ``(B, C_out, x)``."""
        f, told = x.tensor_split([x.shape[1] - self.told], 1)
        waves = _waves(x.shape[-1], self.modes, x.device).to(x.dtype)
        basis = torch.cat([waves.new_ones(1, x.shape[-1]), waves])
        in_mean = (told[:, :, None] * basis).flatten(1, 2)
        terms = torch.cat([waves.expand(len(x), -1, -1), in_mean], 1)
        return super().forward(f) + self.reading @ terms

    def relaxed_parameters(self) -> Iterator[nn.Parameter]:
        yield from super().relaxed_parameters()
        yield self.reading

    def parameters_per_part(self) -> dict[str, int]:
        return super().parameters_per_part() | {"place and mean": self.reading.numel()}


class GalileanFrame(nn.Module):
    """A network on a line whose step commutes with Galilei boosts.

    ``u_t + 6 u u_x + u_xxx = 0`` is invariant under ``u -> u + c, x -> x + 6 c t``, so
    that a step f over dt has ``f(u + c) = S(6 c dt) f(u) + c``, S(s) the shift by s.
    With the mean <u> of the state, any step g becomes one that has this exactly:

        f(u) = S(6 <u> dt) g(u - <u>) + <u>

    The mode N / 2 of an even number N of points, which no shift by a part of a point
    keeps real, is left out of the result; solvers of KdV never fill it. What the
    network reads beside the state must be uniform, or boosts move the one and not the
    other.

    Parameters
    ----------
    net
        The network of g: it gives the normalised increment of a state without mean.
    boost
        ``6 dt / L``: the part of the box that a mean of 1 moves a state in one step.
    """

    def __init__(self, net: nn.Module, boost: float) -> None:
        super().__init__()
        self.net = net
        self.boost = boost

    def forward(self, x: Tensor) -> Tensor:
        """Return what the network gives in its frame; `carry` leads there and back."""
        return self.net(x)

    def carry(self, step: Callable[[Tensor], Tensor], state: Tensor) -> Tensor:
        """Return ``S(6 <u> dt) g(u - <u>) + <u>`` of the step g, ``(B, C, x)``."""
        mean = state.mean(-1, keepdim=True)
        return shift_line(step(state - mean), self.boost * mean) + mean


class RelaxedGalileanFrame(GalileanFrame):
    """A frame whose network is told the mean, by weights that start at zero.

    ``f(u) = S(6 <u> dt) [u + d(u - <u>, <u>)]``, d the network's increment: boosts are
    exact as long as d does not read its second argument. What lies still, a hill on the
    ground, acts on waves by the mean too, which an exact frame hides.

    Parameters
    ----------
    net
        Maps the normalised state without its mean, and the normalised mean as further
        channels, to the normalised increment; its first layer is a `ReadingConv1d`.
    boost
        As in `GalileanFrame`.
    channels
        Those of the state, which come first.
    """

    def __init__(self, net: nn.Module, boost: float, channels: int = 1) -> None:
        super().__init__(net, boost)
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Return what the network gives of ``x - <x>``, given fields, and ``<x>``."""
        state, given = x.tensor_split([self.channels], 1)
        mean = state.mean(-1, keepdim=True)
        return self.net(torch.cat([state - mean, given, mean.expand_as(state)], 1))

    def carry(self, step: Callable[[Tensor], Tensor], state: Tensor) -> Tensor:
        """Return ``S(6 <u> dt) step(u)``, ``(B, C, x)``."""
        return shift_line(step(state), self.boost * state.mean(-1, keepdim=True))


def shift_line(state: Tensor, shift: Tensor) -> Tensor:
    """Return ``u(x - s)`` without the mode N / 2, exact for band-limited states.

    Parameters
    ----------
    state
        ``(..., x)``.
    shift
        s in box lengths, ``(..., 1)``, one per line of the state.
    """
    n = state.shape[-1]
    m = torch.arange(n // 2 + 1, dtype=torch.float64, device=state.device)
    angle = -2 * math.pi * m * shift.double()
    phase = torch.polar((2 * m < n).double().expand_as(angle), angle)
    shifted = torch.fft.irfft(torch.fft.rfft(state.double()) * phase, n=n)
    return shifted.to(state.dtype)
