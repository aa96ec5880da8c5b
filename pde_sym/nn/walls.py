"""Fields between walls, unfolded to a torus on which any network of the plane runs.

Walls are mirrors: a field goes on behind a wall as its image, and behind the next one
as the image of that. The image of a scalar is the scalar itself, that of a vector has
its component through the wall reversed, as of any field under a flip; the velocity of a
flow that sticks to its walls is reversed whole. So the solver treats them too. On the
unfolded plane there is no wall: a network that is equivariant there under turns, flips
and shifts by whole points is so between the walls, under the turns and flips of the box
about its middle, whatever its layers are.

What tells a network where the walls are is a vector field that it reads besides,

    n(x, y) = (cos(pi x / L_x), cos(pi y / L_y)),

the normal at a wall and 0 in the middle: it turns and flips with the box.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.nn.fieldwise import ConstantModule
from pde_sym.nn.heads import VELOCITY
from pde_sym.nn.periodic import check_map

Walls = Literal["slip", "stick"]
"""Whether the flow slips along the walls or sticks to them."""
NORMAL = Field(name="wall normal", rank=Rank.VECTOR, components=2)


class Unfolded(ConstantModule):
    """A network of the plane between walls: ``crop net(unfold(u, n))``.

    Parameters
    ----------
    net
        A network for fields on a torus, which reads `NORMAL` after the others.
    inputs
        The fields that it reads besides.
    walls
        Whether the field `velocity` slips or sticks.
    reach
        How many points away `net` sees: it runs on the box with a margin of as many
        images on each side, and one empty point that closes the torus. Turns and flips
        of the box are then those of the torus about its first point. None is the whole
        box: it runs on the box with its images, twice as large along each axis, and
        has to commute with shifts by one point.
    """

    def __init__(
        self, net: nn.Module, inputs: FieldSpec, walls: Walls, reach: int | None
    ) -> None:
        super().__init__()
        self.net = net
        self.reach = reach
        self.keep("signs", image_signs(inputs + FieldSpec.of(NORMAL), walls))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C_in, x, y)`` to ``(B, C_out, x, y)``, both between walls.

        Raises
        ------
        InputError
            For other channels.
        """
        signs = self.kept("signs", x)
        check_map(x, signs.shape[1] - NORMAL.components)
        normal = wall_normal(x).expand(len(x), -1, -1, -1)
        out = self.net(unfold(torch.cat([x, normal], 1), signs, self.reach))
        start = 0 if self.reach is None else self.reach + 1
        nx, ny = x.shape[-2:]
        return out[..., start : start + nx, start : start + ny]


def unfolded_points(points: int, reach: int | None) -> int:
    """Return the points of an axis of the torus that `Unfolded` runs on."""
    return 2 * points if reach is None else points + 2 * reach + 1


def image_signs(spec: FieldSpec, walls: Walls) -> Tensor:
    """Return -1 for what a wall across x, across y reverses, else 1, ``(2, C)``."""
    rows = [[], []]
    for field in spec:
        for axis, row in enumerate(rows):
            # Of a flip along the axis: what it does to each component of a vector.
            flip = [-1.0 if i == axis else 1.0 for i in range(2)]
            if walls == "stick" and field.name == VELOCITY:
                row += field.components * [-1.0]
            elif field.rank is Rank.VECTOR:
                row += flip
            elif field.rank is Rank.TENSOR:
                row += [a * b for a in flip for b in flip]
            else:
                sign = -1.0 if field.rank is Rank.PSEUDOSCALAR else 1.0
                row += field.components * [sign]
    return torch.tensor(rows, dtype=torch.float64)


def wall_normal(like: Tensor) -> Tensor:
    """Return ``(cos(pi x / L_x), cos(pi y / L_y))`` at the centres, ``(2, x, y)``."""
    nx, ny = like.shape[-2:]
    along = [
        torch.cos(torch.pi * (torch.arange(n, device=like.device) + 0.5).double() / n)
        for n in (nx, ny)
    ]
    return torch.stack(torch.meshgrid(*along, indexing="ij")).to(like.dtype)


def unfold(x: Tensor, signs: Tensor, reach: int | None) -> Tensor:
    """Return fields ``(..., C, x, y)`` with their images, see `Unfolded`.

    Parameters
    ----------
    signs
        Those of `image_signs`.
    """
    for axis, sign in zip((-2, -1), signs, strict=True):
        n = x.shape[axis]
        if reach is None:
            place = torch.arange(2 * n, device=x.device)
        else:
            place = torch.arange(-reach - 1, n + reach, device=x.device)
        box, inside = place // n, place % n
        is_image = box % 2 == 1
        factors = torch.where(is_image, sign[:, None], torch.ones_like(sign[:, None]))
        if reach is not None:
            # The point opposite to the middle has two images: it holds neither.
            factors = factors * (place > place[0])
        x = x.index_select(axis, torch.where(is_image, n - 1 - inside, inside))
        x = x * (factors[:, :, None] if axis == -2 else factors[:, None, :])
    return x
