"""Other solutions of KdV made of stored ones by its Lie point symmetries.

``u_t + 6 u u_x + u_xxx = 0`` is invariant under shifts of x and t, boosts
``(x, u) -> (x + 6 c t, u + c)`` and the scaling ``(x, t, u) -> (s x, s^3 t, u / s^2)``
(Olver 1993, Applications of Lie Groups to Differential Equations, example 2.44).
"""

from typing import Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from pde_sym.augmentation import Augmentation
from pde_sym.errors import InputError
from pde_sym.nn.families.base import Task
from pde_sym.nn.lines import shift_line

STRIDE = 8
"""Frames of a solution that a squeezed one passes in one: 2^3."""


class LiePointAugmentation(Augmentation):
    """Windows of KdV, each moved by random Lie point symmetries to another solution.

    Brandstetter, Welling and Worrall 2022, Lie Point Symmetry Data Augmentation for
    Neural PDE Solvers (arXiv 2202.07643). Shifts and boosts are by any amount, exact by
    Fourier's shift for the modes that a solver keeps; shifts of time are the windows
    themselves.

    The scaling maps a box of length L with frames dt apart to a box ``s L`` with frames
    ``s^3 dt`` apart; the paper hands both numbers to its networks. Ours have one box
    and one dt, on which only ``s = 1 / n`` leaves a periodic solution, n copies of one
    that passes n^3 frames in one. So here s is 1/2: ``4 u(2 x, 8 t)``, made of every
    eighth frame of a window that is eight times as long, without the modes that would
    leave the grid's lower two thirds. It is a solution as far as u has none of these.

    Parameters
    ----------
    shifts
        Whether to shift by any part of the box, given fields included.
    boost
        Largest c, in units of u.
    squeeze
        Part of the windows that are scaled by 1/2.
    """

    kind: Literal["lie_point"] = "lie_point"
    shifts: bool = True
    boost: NonNegativeFloat = 0.4
    squeeze: float = Field(default=0.0, ge=0.0, le=1.0)

    def check(self, task: Task) -> None:
        """Raise `InputError` when a moved window would not be a solution."""
        if task.boost is None:
            raise InputError("kind lie_point: the symmetries are those of kdv")
        for name, is_asked, is_broken in (
            ("shifts false", self.shifts, task.breaks_translation),
            ("boost 0", self.boost > 0, task.breaks_boosts),
            ("squeeze 0", self.squeeze > 0, task.breaks_scaling),
        ):
            if is_asked and is_broken:
                raise InputError(
                    f"expected {name}: a term of the equation breaks this symmetry, "
                    "and windows would not be solutions any more"
                )

    def frames(self, window: int) -> int:
        return STRIDE * (window - 1) + 1 if self.squeeze else window

    def __call__(
        self,
        states: Tensor,
        given: Tensor | None,
        task: Task,
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor | None]:
        count = len(states)
        place, c, chance = (
            torch.from_numpy(rng.uniform(low, 1.0, count)).to(states.device)
            for low in (0.0, -1.0, 0.0)
        )
        place, c = place * self.shifts, c * self.boost
        if self.squeeze:
            states = torch.stack(
                [
                    squeezed(u) if is_squeezed else u[: 1 + (len(u) - 1) // STRIDE]
                    for u, is_squeezed in zip(
                        states, chance < self.squeeze, strict=True
                    )
                ]
            )
        assert task.boost is not None, "checked"
        frame = torch.arange(states.shape[1], device=states.device)[:, None, None]
        c = c[:, None, None, None]
        by = place[:, None, None, None] + task.boost * c * frame
        moved = shift_line(states, by) + c.to(states.dtype)
        if given is None or not self.shifts:
            return moved, given
        return moved, shift_line(given, place[:, None, None])


def squeezed(states: Tensor) -> Tensor:
    """Return ``4 u(2 x, 8 t)`` of frames ``(T, C, x)``: every eighth of them.

    Only the modes ``|m| < N / 6`` are kept, which the grid's lower two thirds hold when
    they are doubled.
    """
    n = states.shape[-1]
    spectrum = torch.fft.rfft(states[::STRIDE].double())
    kept = 6 * torch.arange(n // 2 + 1, device=states.device) < n
    coarse = torch.fft.irfft(spectrum * kept, n=n)
    double = 2 * torch.arange(n, device=states.device) % n
    return 4 * coarse[..., double].to(states.dtype)
