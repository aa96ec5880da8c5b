"""What a network takes at the least, known before any of it is allocated.

Whole numbers that cannot overflow; a network takes more than what is counted here, so
that nothing that fits is refused.
"""

import math
import os
from typing import TYPE_CHECKING

from pde_sym.errors import InputError

if TYPE_CHECKING:
    from pde_sym.nn.families.base import Family, Task

VARIABLE = "PDE_SYM_MAX_GIB"
"""Environment variable with the limit in GiB, of all that builds a network."""
DEFAULT_GIB = 16.0
WEIGHT_BYTES = 16
"""Of a weight with its gradient and two moments."""
_GIB = 1 << 30


def check_weights(family: "Family", task: "Task") -> None:
    """Refuse settings whose weights are beyond the limit.

    Counted are the kernels between C hidden channels, ``(depth - 2) C^2`` times the
    points or modes of each, those of the first and the last layer with one field, and a
    learned field in position.

    Raises
    ------
    InputError
        Naming the variable that raises the limit.
    """
    values, channels = family.model_dump(), _channels(family)
    depth, points, modes, inner, places, banks = (
        values.get(name) or 1
        for name in (
            *("depth", "kernel_size", "modes", "hidden", "position_modes", "banks"),
        )
    )
    axes, between = task.num_axes, channels * (max(0, depth - 2) * channels + 2)
    weights = banks * between * max(points, modes) ** axes + inner + places**axes
    refuse_above_limit(
        WEIGHT_BYTES * weights, f"{family.kind}: its weights", "ask for a smaller one"
    )


def check_fields(family: "Family", task: "Task", states: int) -> None:
    """Refuse a batch whose hidden fields, all kept for the gradient, are beyond it.

    Raises
    ------
    InputError
        Naming the variable that raises the limit.
    """
    points = (task.resolution or 1) ** task.num_axes
    depth = family.model_dump().get("depth") or 1
    refuse_above_limit(
        4 * states * depth * _channels(family) * points,
        f"{family.kind}: its hidden fields",
        "ask for a smaller batch or network",
    )


def refuse_above_limit(needed: int, what: str, advice: str) -> None:
    """Raise `InputError` when so many bytes are beyond the limit."""
    limit = _limit()
    if needed > limit * _GIB:
        size = f"{needed / _GIB:.4g}" if needed.bit_length() < 900 else "over 10^250"
        raise InputError(
            f"{what} take at least {size} GiB, the limit is {limit:g} GiB; {advice}, "
            f"or raise the limit with the environment variable {VARIABLE}"
        )


def _limit() -> float:
    text = os.environ.get(VARIABLE, str(DEFAULT_GIB))
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise InputError(f"{VARIABLE}={text:.80}: expected a number of GiB above 0")
    return limit


def _channels(family: "Family") -> int:
    """Return the hidden channels: the width, times the elements of C<N> or D<N>."""
    group = str(family.model_dump().get("group", ""))
    if not group[1:].isdecimal():
        return family.width
    return family.width * int(group[1:]) * (2 if group[0] == "D" else 1)
