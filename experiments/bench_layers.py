"""``pde-sym bench layers``: what a relaxed layer costs beside ``Conv2d``.

All layers have the same channels, kernel and grid, and are timed in turns in one
process with one thread, so that a busy machine slows all of them. A training step is
forward and backward with the gradient of the input; the others are inference in eval
mode, where kernels are expanded once. The reference is torch's own ``Conv2d`` with
circular padding: ours add the expansion of the kernel and save part of the padding.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pde_sym.devices import chosen_device
from pde_sym.errors import InputError
from pde_sym.nn import (
    Isotypic,
    Modulated,
    Relaxation,
    SteerableConv2d,
    Strict,
    gspace,
    regular_type,
)
from pde_sym.nn._escnn import R2Conv

Row = dict[str, Any]

GROUPS = ("C4", "D4", "C8", "D8")
SETTINGS: dict[str, Relaxation] = {
    "strict": Strict(),
    "modulated": Modulated(),
    "modulated, positions": Modulated(position_modes=8),
    "isotypic": Isotypic(),
}
REFERENCE = "Conv2d"


def bench_layers(
    *,
    channels: int = 64,
    kernel_size: int = 5,
    resolution: int = 64,
    batch: int = 16,
    repeats: int = 5,
    groups: tuple[str, ...] = GROUPS,
    device: str = "cpu",
) -> list[Row]:
    """Return a row per layer: milliseconds of a training step and of inference.

    Raises
    ------
    InputError
        When the channels are no whole number of regular fields, or there is no such
        device.
    """
    device = chosen_device(device)
    layers = {
        key: layer.to(device)
        for key, layer in _layers(channels, kernel_size, groups).items()
    }
    x = torch.randn(batch, channels, resolution, resolution, device=device)
    rows: dict[tuple[str, str], Row] = {
        key: {"layer": key[0], "group": key[1]} for key in layers
    }
    for what, job in (("step_ms", _training_step), ("inference_ms", _inference)):
        for number in range(repeats + 1):
            for key, layer in layers.items():
                spent = _milliseconds(job, layer, x)
                # The first time expands kernels and makes buffers.
                if number:
                    rows[key][what] = min(rows[key].get(what, spent), spent)
    return [_with_ratios(row, rows) for row in rows.values()]


def _layers(
    channels: int, kernel_size: int, groups: tuple[str, ...]
) -> dict[tuple[str, str], nn.Module]:
    layers: dict[tuple[str, str], nn.Module] = {
        (REFERENCE, ""): nn.Conv2d(
            channels,
            channels,
            kernel_size,
            padding=kernel_size // 2,
            padding_mode="circular",
        )
    }
    for group in groups:
        space = gspace(group)
        order = space.regular_repr.size
        if channels % order:
            raise InputError(
                f"--channels {channels}: expected a multiple of {order} for {group}"
            )
        fields = regular_type(space, channels // order)
        for name, setting in SETTINGS.items():
            layers[name, group] = SteerableConv2d(
                fields, fields, kernel_size, relaxation=setting
            )
        layers["escnn R2Conv", group] = _Escnn(fields, kernel_size)
    return layers


class _Escnn(nn.Module):
    """escnn's own layer, on plain tensors."""

    def __init__(self, fields: Any, kernel_size: int) -> None:
        super().__init__()
        self.fields = fields
        self.layer = R2Conv(
            fields,
            fields,
            kernel_size,
            padding=kernel_size // 2,
            padding_mode="circular",
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.fields(x)).tensor


def _training_step(layer: nn.Module, x: Tensor) -> None:
    if not layer.training:
        layer.train()
    layer.zero_grad()
    layer(x.detach().requires_grad_()).square().mean().backward()


@torch.no_grad()
def _inference(layer: nn.Module, x: Tensor) -> None:
    if layer.training:
        layer.eval()
    layer(x)


def _milliseconds(
    job: Callable[[nn.Module, Tensor], None], layer: nn.Module, x: Tensor
) -> float:
    if x.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    job(layer, x)
    if x.is_cuda:
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start)


def _with_ratios(row: Row, rows: dict[tuple[str, str], Row]) -> Row:
    reference = rows[REFERENCE, ""]
    escnn = rows.get(("escnn R2Conv", row["group"]))
    ratios: Row = {}
    for what in ("step", "inference"):
        key = f"{what}_ms"
        ratios[f"{what}_to_conv2d"] = row[key] / reference[key]
        ratios[f"{what}_to_escnn"] = row[key] / escnn[key] if escnn else None
    return {**row, **ratios}
