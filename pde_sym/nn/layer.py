"""What every layer with adjustable symmetry can say of itself."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def drawn_aside() -> Iterator[None]:
    """Have what is drawn inside leave alone what is drawn afterwards.

    The weights that mix relaxed ones are drawn so: a network that starts as a strict
    one then starts as the very strict network of its seed.
    """
    with torch.random.fork_rng(devices=[]):
        yield


class RelaxedLayer(nn.Module, ABC):
    """A layer whose symmetry is exact, or relaxed by learned weights of its own."""

    formula: ClassVar[str]
    """What the layer computes, in one line."""
    source: ClassVar[str]
    """Where it was published: authors, year, title, equation."""

    @abstractmethod
    def relaxed_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that leave the symmetry; keep weight decay off them."""

    @abstractmethod
    def relaxation(self) -> Tensor:
        """Return how far the layer has left its symmetry: 0 iff it is equivariant."""

    @abstractmethod
    def parameters_per_part(self) -> dict[str, int]:
        """Return the number of weights of each part; those of "trivial" keep it."""

    def penalty(self) -> Tensor:
        """Return the mean square of the relaxed weights, 0 without any.

        Layers whose relaxed weights carry a scale divide by it, so that one factor
        serves every layer.
        """
        weights = [w.flatten() for w in self.relaxed_parameters()]
        if not sum(w.numel() for w in weights):
            return next(self.parameters()).new_zeros(())
        return torch.cat(weights).square().mean()

    def lagrangian(self) -> Tensor:
        """Return what the layer's own multipliers add to the loss: nothing."""
        return next(self.parameters()).new_zeros(())

    def after_update(self) -> None:
        """Do what the layer asks for after each step of the optimiser: nothing."""


class ScaledNetwork(nn.Module, ABC):
    """A network whose output has to know the scales of the fields."""

    @abstractmethod
    def use_scales(self, std: Tensor, increment_std: Tensor) -> None:
        """Take the scales per channel of the state, each ``(C_state,)``, float64.

        A `Surrogate` calls this once, before anything else.
        """


def relaxed_layers(model: nn.Module) -> list[RelaxedLayer]:
    """Return the layers of a model that can say how far they leave their symmetry."""
    return [layer for layer in model.modules() if isinstance(layer, RelaxedLayer)]


def split_parameters(
    model: nn.Module,
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters that keep the symmetry and those that relax it.

    Only the first belong into weight decay, which would pull the others to zero.
    """
    relaxed = [p for layer in relaxed_layers(model) for p in layer.relaxed_parameters()]
    known = {id(p) for p in relaxed}
    return [p for p in model.parameters() if id(p) not in known], relaxed
