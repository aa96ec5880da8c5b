"""Features that a free network reads off the whole input, on any grid."""

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.nn.layer import RelaxedLayer
from pde_sym.nn.periodic import check_map


class FourierLift(RelaxedLayer):
    """Extra feature maps from a free network on the lowest Fourier modes of the input.

    ``z(x) = sum_m Z_m e_m(x)``, ``Z = MLP(U)``, U the input's Fourier coefficients up
    to mode M per axis and e_m the real waves up to mode `out_modes`.

    Kept of the published Lift: a free three-layer perceptron reads the whole input,
    and what it says enters an equivariant network as channels more, by default the
    same at every point. Changed: it reads coefficients instead of all points, so that
    its weights fit every grid; its last layer starts at zero, so that the network
    starts equivariant; and `out_modes` lets the channels vary in space.

    Parameters
    ----------
    in_channels, out_channels
        Channels read, and extra channels.
    hidden
        Units of the two hidden layers.
    modes, out_modes
        Highest mode read and written, per axis.

    Raises
    ------
    InputError
        For sizes below 1 or modes below 0.
    """

    formula: ClassVar[str] = "z(x) = sum_m Z_m e_m(x), Z = MLP(Fourier modes of u)"
    source: ClassVar[str] = (
        "the baseline Lift of Wang, Walters and Yu 2022, Approximately Equivariant "
        "Networks for Imperfectly Symmetric Dynamics (arXiv 2201.11969); the Fourier "
        "coefficients in place of the points are this package's own"
    )

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden: int = 64,
        modes: int = 2,
        out_modes: int = 0,
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels, hidden) < 1 or min(modes, out_modes) < 0:
            raise InputError(
                "expected channels and hidden units from 1 and modes from 0, got "
                f"{in_channels}, {out_channels}, {hidden} and {modes}, {out_modes}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.modes = modes
        self.out_modes = out_modes
        num_in = in_channels * (2 * modes + 1) ** 2
        self.hidden: nn.Sequential = nn.Sequential(
            nn.Linear(num_in, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()
        )
        num_out = out_channels * (2 * out_modes + 1) ** 2
        self.weight: nn.Parameter = nn.Parameter(torch.zeros(num_out, hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C_in, x, y)`` to extra channels ``(B, C_out, x, y)``.

        Raises
        ------
        InputError
            For other channels, or a grid too coarse for the modes.
        """
        check_map(x, self.in_channels)
        nx, ny = x.shape[2:]
        if min(nx, ny) <= 2 * max(self.modes, self.out_modes):
            raise InputError(
                f"modes up to {max(self.modes, self.out_modes)} need a grid of at "
                f"least {2 * max(self.modes, self.out_modes) + 1} points, "
                f"got {(nx, ny)}"
            )
        ex, ey = (waves(n, self.modes, x) for n in (nx, ny))
        coefficients = ex @ x @ ey.T / (nx * ny)
        written = self.hidden(coefficients.flatten(1)) @ self.weight.T
        side = 2 * self.out_modes + 1
        ex, ey = (waves(n, self.out_modes, x) for n in (nx, ny))
        return ex.T @ written.view(len(x), self.out_channels, side, side) @ ey

    def relaxed_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the last layer: while it is zero the others have no say."""
        yield self.weight

    def relaxation(self) -> Tensor:
        """Return the last layer's root mean square in units of He's start."""
        return torch.linalg.vector_norm(self.weight) / math.sqrt(
            self.weight.numel() * self._variance
        )

    def penalty(self) -> Tensor:
        """Return the square of `relaxation`."""
        return self.weight.square().mean() / self._variance

    def parameters_per_part(self) -> dict[str, int]:
        return {"lift": sum(p.numel() for p in self.parameters())}

    @property
    def _variance(self) -> float:
        return 2 / self.weight.shape[1]


def waves(num_points: int, modes: int, like: Tensor) -> Tensor:
    """Return 1, sqrt2 cos and sqrt2 sin of ``2 pi m i / N``, shape ``(2 M + 1, N)``.

    The constants are made in float64 and cast to the precision of `like`.
    """
    points = torch.arange(num_points, dtype=torch.float64, device=like.device)
    mode = torch.arange(1, modes + 1, dtype=torch.float64, device=like.device)
    angle = 2 * math.pi / num_points * mode[:, None] * points
    pairs = torch.stack([torch.cos(angle), torch.sin(angle)], 1).flatten(0, 1)
    rows = [torch.ones_like(points)[None], math.sqrt(2) * pairs]
    return torch.cat(rows).to(like.dtype)
