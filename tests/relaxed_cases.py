"""The published relaxed layers as cases: small networks, and what moves them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from typed_fields import MIXED

from pde_sym.fields import FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.nn import Task, field_type, gspace, relaxed_layers
from pde_sym.nn.canonical import Canonical, GroupAverage
from pde_sym.nn.families.body import steerable_body
from pde_sym.nn.families.lift import LiftConfig
from pde_sym.nn.implicit import ImplicitSteerableConv2d
from pde_sym.nn.lift import FourierLift
from pde_sym.nn.nonlinear import hidden_type
from pde_sym.nn.relaxed_banks import RelaxedGroupConv2d, RelaxedSteerableConv2d
from pde_sym.nn.residual_pathway import ResidualPathwayConv2d
from pde_sym.symmetry import GroupElement, act

GRID = PeriodicGrid.square(9)
SPEC = MIXED
ON_GRID = {"C4": "C4", "C8": "C4", "D4": "D4", "D8": "D4"}
"""Group of a network -> the part of it that the grid has."""
ALL_ON_GRID = {**ON_GRID, "SO2": "C4", "O2": "D4"}
SHIFT = GroupElement(shift=(2 / 9, 5 / 9))
ResidualPathway = partial(ResidualPathwayConv2d, free_start=0.0)
CONVOLUTIONS: dict[str, Callable[..., nn.Module]] = {
    "rpp": ResidualPathway,
    "rgroup g": partial(RelaxedGroupConv2d, banks=2),
    "rgroup h": partial(RelaxedGroupConv2d, banks=2, argument="input"),
    "rsteer": partial(RelaxedSteerableConv2d, banks=2),
    "implicit": partial(ImplicitSteerableConv2d, hidden=3, learned_vector=True),
}
"""Layers between field types, all of which start equivariant."""


def network(
    make: Callable[..., nn.Module], group: str, kernel_size: int = 3, **settings: Any
) -> nn.Module:
    """Return three layers, to signals on the group and back, in float64."""
    space = gspace(group)
    fields = field_type(SPEC, space)
    types = [fields, hidden_type(space, 2), hidden_type(space, 2), fields]
    net = steerable_body(types, lambda a, b: make(a, b, kernel_size, **settings))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if ".bias." in name or name.startswith("bias."):
                parameter.normal_()
    return net.double()


def lifted(group: str = "C4", **settings: Any) -> nn.Module:
    """Return a strict network that a lift writes four fields into, in float64."""
    # Features that are the same at every point say little of white noise.
    config = LiftConfig(
        group=group,
        width=2,
        depth=3,
        kernel_size=3,
        hidden=8,
        extra_fields=4,
        out_modes=1,
    )
    task = Task(state=SPEC)
    return config.model_copy(update=settings).build(task).double()


def free_network() -> nn.Module:
    """Return a network without any symmetry, translations included."""
    return _Placed(SPEC.num_channels).double()


class _Placed(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2, 3, padding=1, padding_mode="circular")
        self.out = nn.Conv2d(2, channels, 3, padding=1, padding_mode="circular")

    def forward(self, x: Tensor) -> Tensor:
        ramp = torch.arange(x.shape[-1], dtype=x.dtype, device=x.device)
        return self.out(torch.tanh(self.conv(x) + 0.1 * ramp))


def averaged(group: str = "D4", **settings: Any) -> GroupAverage:
    return GroupAverage(free_network(), SPEC, SPEC, group, **settings).double()


def framed(group: str = "D4", **settings: Any) -> Canonical:
    return Canonical(free_network(), SPEC, SPEC, group, **settings).double()


def state(size: int = 9, batch: int = 2) -> Tensor:
    return torch.randn(batch, SPEC.num_channels, size, size, dtype=torch.float64)


def defect(
    f: Callable[[Tensor], Tensor],
    x: Tensor,
    element: GroupElement,
    out_spec: FieldSpec = SPEC,
) -> float:
    """Return ``||f(g x) - g f(x)|| / ||f(x)||``."""
    grid = PeriodicGrid.square(x.shape[-1])
    with torch.no_grad():
        straight, out = f(act(element, x, SPEC, grid)), f(x)
        turned = act(element, out, out_spec, grid)
        return ((straight - turned).norm() / out.norm()).item()


def relax(net: nn.Module, size: float = 0.1) -> None:
    """Add noise to the relaxed weights, `size` in units of what they stand beside."""
    with torch.no_grad():
        for layer in relaxed_layers(net):
            unit = 1.0
            if isinstance(layer, ResidualPathwayConv2d):
                unit = layer.kernel.init_std
            if isinstance(layer, FourierLift):
                unit = (2 / layer.weight.shape[1]) ** 0.5
            for parameter in layer.relaxed_parameters():
                parameter += size * unit * torch.randn_like(parameter)
