"""What families without turns and flips share: sight of their place, lines and planes.

Free of a symmetry means free of the one that the task breaks: a network of
convolutions is strict under shifts until it reads where it is.
"""

from abc import abstractmethod
from typing import ClassVar

from torch import nn

from pde_sym.nn.blocks import PositionChannels
from pde_sym.nn.families.base import Family, Task
from pde_sym.nn.lines import PositionChannels1d


class FreeFamily(Family):
    """Families on lines and planes that may read their place.

    Parameters
    ----------
    position_channels
        Whether it reads sin and cos of its place; None where the task breaks
        translations, without which it could not learn that.
    """

    axes: ClassVar[tuple[int, ...]] = (1, 2)
    position_channels: bool | None = None

    def _build(self, task: Task) -> nn.Module:
        channels = task.inputs.num_channels
        reads_place = self.position_channels
        if reads_place is None:
            reads_place = task.breaks_translation
        if not reads_place:
            return nn.Sequential(*self._body(channels, task))
        place = PositionChannels1d() if task.num_axes == 1 else PositionChannels()
        return nn.Sequential(place, *self._body(channels + place.num_channels, task))

    @abstractmethod
    def _body(self, channels_in: int, task: Task) -> list[nn.Module]:
        """Return the layers after position is appended."""
