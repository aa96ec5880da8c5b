"""Heads that conserve by construction: what a network's increment may not change.

Each wraps a network that maps ``(B, C_in, *points)`` to a normalised increment of the
state. The surrogate scales all components of a vector alike, so that what holds for
the increment holds for the state. Points are equally far apart along both axes; a
derivative is exact for the Fourier modes of the grid, of which those without a partner
of the other sign (the highest of an even number) have none and are left out of the
velocity. All heads commute with turns, flips and shifts.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank

Head = Literal[
    "none", "mean", "leray", "leray+mean", "streamfunction", "streamfunction+mean"
]
"""What the increment leaves as it is: nothing; the mean of every field; the
divergence of the field `velocity`, by projection or by a streamfunction; or both."""

VELOCITY = "velocity"
STREAMFUNCTION = Field(name=f"{VELOCITY} streamfunction", rank=Rank.PSEUDOSCALAR)
MEAN_VELOCITY = Field(name=f"{VELOCITY} mean", rank=Rank.VECTOR, components=2)


def check_head(
    head: Head, state: FieldSpec, num_axes: int, between_walls: bool = False
) -> None:
    """Raise `InputError` unless the head can conserve something of the state."""
    if between_walls and head not in ("none", "mean"):
        raise InputError(
            f"head {head!r}: it takes the divergence away by Fourier modes, which "
            "there are none of between walls; use 'none' or 'mean'"
        )
    if head == "mean" and not num_axes:
        raise InputError(f"head {head!r}: points have no mean over space; use 'none'")
    fits = num_axes == 2 and any(
        field.name == VELOCITY and field.rank is Rank.VECTOR and field.components == 2
        for field in state
    )
    if head not in ("none", "mean") and not fits:
        raise InputError(
            f"head {head!r}: expected a vector field 'velocity' on the plane, got "
            f"{', '.join(state.names)} on {num_axes} axes; use 'none' or 'mean'"
        )


def network_fields(
    head: Head, state: FieldSpec, given: FieldSpec | None
) -> tuple[FieldSpec, FieldSpec | None]:
    """Return the fields that the network under a head predicts, and those given."""
    if not head.startswith("streamfunction"):
        return state, given
    potentials = (
        [STREAMFUNCTION] if head.endswith("mean") else [STREAMFUNCTION, MEAN_VELOCITY]
    )
    predicted, velocity = [], []
    for field in state:
        is_velocity = field.name == VELOCITY
        predicted += potentials if is_velocity else [field]
        velocity += [field] if is_velocity else []
    known = FieldSpec.of(*velocity)
    return FieldSpec.of(*predicted), known if given is None else known + given


def with_head(head: Head, net: nn.Module, state: FieldSpec) -> nn.Module:
    """Return a network for the fields of `network_fields` under its head."""
    keeps_mean = head.endswith("mean")
    if head.startswith("leray"):
        net = Leray(net, state.slices()[VELOCITY])
    elif head.startswith("streamfunction"):
        net = Streamfunction(net, state, predicts_mean=not keeps_mean)
    return MeanKeeping(net) if keeps_mean else net


class MeanKeeping(nn.Module):
    """``d(x) - mean_x d``: the total of every channel stays, heat, mass and momentum.

    Parameters
    ----------
    net
        Maps ``(B, C_in, *points)`` to the increment d, ``(B, C, *points)``.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        increment = self.net(x)
        axes = tuple(range(2, increment.ndim))
        # Once more: the first mean is rounded in units of itself, the second is not.
        for _ in range(2):
            increment = increment - increment.mean(axes, keepdim=True)
        return increment


class Leray(nn.Module):
    """``d - grad Delta^-1 div d`` of the velocity's increment d: no divergence.

    Its mean has none and stays.

    Parameters
    ----------
    net
        Maps ``(B, C_in, x, y)`` to the increment ``(B, C, x, y)``.
    velocity
        The two channels of the velocity in it.

    References
    ----------
    Chorin, Marsden 1993, A Mathematical Introduction to Fluid Mechanics, section 1.3.
    """

    def __init__(self, net: nn.Module, velocity: slice) -> None:
        super().__init__()
        self.net = net
        self.velocity: slice = velocity

    def forward(self, x: Tensor) -> Tensor:
        increment = self.net(x)
        start, stop = self.velocity.start, self.velocity.stop
        before, velocity, after = increment.tensor_split([start, stop], 1)
        return torch.cat([before, leray(velocity), after], 1)


class Streamfunction(nn.Module):
    """The velocity's increment is ``(d psi / dy, -d psi / dx)`` plus its mean.

    The network reads psi of the velocity beside the velocity, and predicts the
    increment of psi, a pseudoscalar; the mean, which psi does not hold, is the mean
    over space of a vector field that it predicts too. Coordinates are such that the
    box is 2 pi long: mode m of the velocity is m times that of psi, on every grid.

    Parameters
    ----------
    net
        A network for the fields of `network_fields`.
    state
        The fields of the state.
    predicts_mean
        Whether the mean is predicted; otherwise it stays.

    References
    ----------
    Batchelor 1967, An Introduction to Fluid Dynamics, section 2.2.
    """

    def __init__(
        self, net: nn.Module, state: FieldSpec, predicts_mean: bool = True
    ) -> None:
        super().__init__()
        self.net = net
        self.predicts_mean = predicts_mean
        self.velocity: slice = state.slices()[VELOCITY]
        self.num_channels: int = state.num_channels

    def forward(self, x: Tensor) -> Tensor:
        start, stop = self.velocity.start, self.velocity.stop
        before, velocity, after, given = x.tensor_split(
            [start, stop, self.num_channels], 1
        )
        potentials = [streamfunction_of(velocity)]
        if self.predicts_mean:
            potentials.append(velocity.mean((2, 3), keepdim=True).expand_as(velocity))
        out = self.net(torch.cat([before, *potentials, after, velocity, given], 1))
        num_means = 2 if self.predicts_mean else 0
        before, psi, mean, after = out.tensor_split(
            [start, start + 1, start + 1 + num_means], 1
        )
        increment = rotated_gradient(psi)
        if self.predicts_mean:
            increment = increment + mean.mean((2, 3), keepdim=True)
        return torch.cat([before, increment, after], 1)


def rotated_gradient(psi: Tensor) -> Tensor:
    """Return ``(d psi / dy, -d psi / dx)``, ``(B, 1, x, y) -> (B, 2, x, y)``."""
    mx, my, kept = _modes(psi)
    hat = 1j * kept * torch.fft.rfft2(psi)
    return torch.fft.irfft2(torch.cat([my * hat, -mx * hat], 1), s=psi.shape[-2:])


def streamfunction_of(velocity: Tensor) -> Tensor:
    """Return psi of mean zero with ``-Delta psi`` the curl of the velocity."""
    mx, my, kept = _modes(velocity)
    u, v = torch.fft.rfft2(velocity).split(1, 1)
    hat = 1j * kept * (mx * v - my * u) / (mx**2 + my**2).clamp(min=1)
    return torch.fft.irfft2(hat, s=velocity.shape[-2:])


def leray(velocity: Tensor) -> Tensor:
    """Return the part of a velocity ``(B, 2, x, y)`` without divergence."""
    mx, my, kept = _modes(velocity)
    u, v = (kept * torch.fft.rfft2(velocity)).split(1, 1)
    gradient = (mx * u + my * v) / (mx**2 + my**2).clamp(min=1)
    hat = torch.cat([u - mx * gradient, v - my * gradient], 1)
    return torch.fft.irfft2(hat, s=velocity.shape[-2:])


def divergence(velocity: Tensor) -> Tensor:
    """Return ``du / dx + dv / dy`` of a velocity ``(B, 2, x, y)``, box of 2 pi."""
    mx, my, kept = _modes(velocity)
    u, v = torch.fft.rfft2(velocity).split(1, 1)
    return torch.fft.irfft2(1j * kept * (mx * u + my * v), s=velocity.shape[-2:])


def _modes(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return m_x, m_y and which modes have a derivative, as `rfft2` orders them."""
    nx, ny = x.shape[-2:]
    kind = {"device": x.device, "dtype": x.dtype}
    mx = torch.fft.fftfreq(nx, 1 / nx, **kind)[:, None]
    my = torch.fft.rfftfreq(ny, 1 / ny, **kind)
    return mx, my, (2 * mx.abs() < nx) & (2 * my < ny)
