"""Galilei boosts of states on a line, as motions that defects are measured under."""

from dataclasses import dataclass

from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.fields import FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.symmetry import GroupElement, act


@dataclass(frozen=True)
class Boost:
    """``u -> u + c`` at the time t = 0, and ``u(x) -> u(x - 6 c t) + c`` later.

    Parameters
    ----------
    speed
        c, in units of u.
    """

    speed: float

    @property
    def name(self) -> str:
        return f"boost {self.speed:g}"

    def inverse(self) -> "Boost":
        return Boost(-self.speed)


@dataclass(frozen=True)
class BoostAction:
    """The action of boosts on the first field of states ``(batch, channels, x)``.

    What follows it, given fields that are uniform, stays as it is.

    Parameters
    ----------
    spec, grid
        The field, a scalar, and its line.
    moved
        Part of the box by which a boost of 1 has moved the state: ``6 t / L``.
    """

    spec: FieldSpec
    grid: PeriodicGrid
    moved: float

    def __post_init__(self) -> None:
        if self.grid.num_axes != 1 or self.spec.num_channels != 1:
            raise InputError(
                f"boosts move one scalar on a line, got {self.spec.names} on "
                f"{self.grid.num_axes} axes"
            )

    def __call__(self, boost: Boost, state: Tensor) -> Tensor:
        result, part = state.clone(), self.moved * boost.speed
        shift = GroupElement(shift=(part, 0.0))
        result[:, :1] = act(shift, state[:, :1], self.spec, self.grid) + boost.speed
        return result
