"""Exact symmetry for any network: its group average, or a canonical frame."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.fields import FieldSpec
from pde_sym.grid import PeriodicGrid, WalledGrid
from pde_sym.groups import GroupElement, point_group
from pde_sym.nn.layer import RelaxedLayer
from pde_sym.nn.periodic import wrap
from pde_sym.symmetry import act

SCORE_SEED = 7
"""Of the fixed kernel that tells turned and flipped states apart."""
SCORE_POINTS = 5


class Symmetrised(RelaxedLayer):
    """``F(u) = S(u) + gamma (f(u) - S(u))``: S equivariant, f any network.

    Parameters
    ----------
    net
        The network f; it maps the channels of `inputs` to those of `outputs`.
    inputs, outputs
        The fields before and after.
    group
        C1, C2, C4, D1, D2 or D4: turns and flips about the grid's first point. Others
        move points off the grid, where the states of a free network are not known.
    relax
        Whether gamma is learned, from zero at the start; otherwise it is zero.
    walled
        Whether turns and flips are those of a box with walls, about its middle.

    Raises
    ------
    InputError
        For another group.
    """

    def __init__(
        self,
        net: nn.Module,
        inputs: FieldSpec,
        outputs: FieldSpec,
        group: str,
        *,
        relax: bool = False,
        walled: bool = False,
    ) -> None:
        super().__init__()
        self.grid: type[WalledGrid] | type[PeriodicGrid] = (
            WalledGrid if walled else PeriodicGrid
        )
        self.net = net
        self.inputs = inputs
        self.outputs = outputs
        self.elements: tuple[GroupElement, ...] = point_group(group).elements
        self.gamma: nn.Parameter | None = (
            nn.Parameter(torch.zeros(())) if relax else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C_in, x, y)`` to ``(B, C_out, x, y)``.

        Raises
        ------
        InputError
            For other channels, or quarter turns of a grid that is not square.
        """
        exact = self.symmetric(x)
        if self.gamma is None:
            return exact
        return exact + self.gamma * (self.net(x) - exact)

    @abstractmethod
    def symmetric(self, x: Tensor) -> Tensor:
        """Return S(u)."""

    def relaxed_parameters(self) -> Iterator[nn.Parameter]:
        if self.gamma is not None:
            yield self.gamma

    def relaxation(self) -> Tensor:
        """Return ``|gamma|``, 0 where it is not learned."""
        if self.gamma is None:
            return next(self.net.parameters()).new_zeros(())
        return self.gamma.abs()

    def parameters_per_part(self) -> dict[str, int]:
        numbers = {"trivial": sum(p.numel() for p in self.net.parameters())}
        return numbers if self.gamma is None else {**numbers, "gamma": 1}

    def _act(self, element: GroupElement, x: Tensor, spec: FieldSpec) -> Tensor:
        grid = self.grid(shape=tuple(x.shape[-2:]), lengths=(1.0, 1.0))
        return act(element, x, spec, grid)


class GroupAverage(Symmetrised):
    """The group average of a network, ``P f(u) = mean_g g^-1 f(g u)``.

    It costs ``|G|`` evaluations of the network. Translations are as exact as in the
    network itself.
    """

    formula: ClassVar[str] = "F(u) = mean_g g^-1 f(g u)"
    source: ClassVar[str] = (
        "Reynolds' operator, for networks: Yarotsky 2022, Universal Approximations of "
        "Invariant Maps by Neural Networks; Puny et al. 2022, Frame Averaging "
        "(arXiv 2110.03336), with the whole group as the frame"
    )

    def symmetric(self, x: Tensor) -> Tensor:
        turned = [
            self._act(g.inverse(), self.net(self._act(g, x, self.inputs)), self.outputs)
            for g in self.elements
        ]
        return torch.stack(turned).mean(0)


class Canonical(Symmetrised):
    """A network in a canonical frame, ``S(u) = g_u f(g_u^-1 u)``, ``g_hu = h g_u``.

    The turn or flip of the frame maximises a fixed score of ``g^-1 u``, the mean of a
    rectified convolution, which shifts leave alone. The shift of the frame then puts
    the lowest Fourier modes along x and y, of the sum of all channels, to phase zero;
    it moves by fractions of a point too, so that the waves at the grid's highest
    frequency, which have no phase, are removed before and after the network.

    As every such frame it jumps: where two scores are equal or a lowest mode vanishes,
    a set of measure zero, S is not continuous (for states that are symmetric
    themselves, not equivariant).

    Parameters
    ----------
    net, inputs, outputs, group, relax, walled
        As in `Symmetrised`.
    shifts
        Whether the frame has translations too.
    """

    formula: ClassVar[str] = "F(u) = g_u f(g_u^-1 u), g_hu = h g_u"
    source: ClassVar[str] = (
        "Kaba et al. 2023, Equivariance with Learned Canonicalization Functions "
        "(arXiv 2211.06489); for operators of fields: PACE-FNO 2026 (arXiv 2605.18606)"
    )

    def __init__(
        self,
        net: nn.Module,
        inputs: FieldSpec,
        outputs: FieldSpec,
        group: str,
        *,
        shifts: bool = True,
        relax: bool = False,
        walled: bool = False,
    ) -> None:
        super().__init__(net, inputs, outputs, group, relax=relax, walled=walled)
        self.shifts = shifts
        drawn = torch.Generator().manual_seed(SCORE_SEED)
        shape = (1, inputs.num_channels, SCORE_POINTS, SCORE_POINTS)
        kernel = torch.randn(shape, generator=drawn, dtype=torch.float64)
        self._kernel: Tensor
        self.register_buffer("_kernel", kernel, persistent=False)

    def symmetric(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or min(x.shape[2:]) < SCORE_POINTS:
            raise InputError(
                f"a canonical frame needs states (batch, channels, x, y) of at least "
                f"{SCORE_POINTS} points per axis, got shape {tuple(x.shape)}"
            )
        if self.shifts:
            x = shift(x, x.new_zeros(len(x), 2))
        turned = torch.stack(
            [self._act(g.inverse(), x, self.inputs) for g in self.elements]
        )
        best = self.score(turned.flatten(0, 1)).view(len(turned), -1).argmax(0)
        upright = turned[best, torch.arange(len(x), device=x.device)]
        if self.shifts:
            place = phases(upright)
            out = shift(self.net(shift(upright, -place)), place)
        else:
            out = self.net(upright)
        back = torch.stack([self._act(g, out, self.outputs) for g in self.elements])
        return back[best, torch.arange(len(x), device=x.device)]

    def score(self, x: Tensor) -> Tensor:
        """Return a number per state that turns and flips change and shifts do not."""
        seen = nn.functional.conv2d(wrap(x, SCORE_POINTS), self._kernel.to(x.dtype))
        return nn.functional.relu(seen).mean((1, 2, 3))


def phases(x: Tensor) -> Tensor:
    """Return where the lowest waves along x and y have their crest, ``(B, 2)``.

    In box lengths; a state moved by a has it moved by a, modulo 1.
    """
    total = x.sum(1)
    lines = (total.mean(2), total.mean(1))
    modes = [torch.fft.rfft(line)[:, 1] for line in lines]
    return torch.stack([-mode.angle() / (2 * math.pi) for mode in modes], 1)


def shift(x: Tensor, steps: Tensor) -> Tensor:
    """Return ``u(x - s)`` per state, without the waves at the highest frequency.

    Parameters
    ----------
    x
        States ``(B, C, x, y)``.
    steps
        Shifts s in box lengths, ``(B, 2)``.
    """
    nx, ny = x.shape[-2:]
    device = x.device
    mx = torch.fft.fftfreq(nx, d=1 / nx, device=device, dtype=x.dtype)[:, None]
    my = torch.fft.rfftfreq(ny, d=1 / ny, device=device, dtype=x.dtype)[None]
    has_phase = (2 * mx.abs() < nx) & (2 * my < ny)
    angle = -2 * math.pi * (mx * steps[:, 0, None, None] + my * steps[:, 1, None, None])
    phase = torch.polar(has_phase.to(x.dtype).expand_as(angle).contiguous(), angle)
    return torch.fft.irfft2(torch.fft.rfft2(x) * phase[:, None], s=(nx, ny))
