"""What a data set takes, known before anything is allocated."""

import math
from typing import Self

from data_gen.recipes import Recipe
from pde_sym.config import Frozen
from pde_sym.errors import InputError
from pde_sym.seeds import Split

GIB = 1 << 30
MOST_GIB = 1e9
"""No disk holds that much."""


def bytes_of(max_gib: float) -> int:
    """Return a limit in bytes; `InputError` when it is none."""
    if not 0 < max_gib < MOST_GIB:
        raise InputError(
            f"--max-gib {max_gib}: expected a number above 0 and below {MOST_GIB:g}"
        )
    return int(max_gib * GIB)


class Cost(Frozen):
    """What a data set takes, in whole numbers that cannot overflow."""

    disk_bytes: int
    memory_bytes: int
    """Of the largest shard while it is made."""
    point_steps: int
    """Grid points times frames times trajectories."""


class Caps(Frozen):
    """Limits that a typing error should not pass."""

    disk_bytes: int = 64 * GIB
    memory_bytes: int = 4 * GIB
    point_steps: int = 10**13

    @classmethod
    def of(cls, max_gib: float | None, max_point_steps: int | None) -> Self:
        """Return the default limits, raised or lowered by the user's."""
        changed: dict[str, int] = {}
        if max_gib is not None:
            limit = bytes_of(max_gib)
            changed = dict.fromkeys(("disk_bytes", "memory_bytes"), limit)
        if max_point_steps is not None:
            changed["point_steps"] = max_point_steps
        return cls(**changed)


def estimate(recipe: Recipe, counts: dict[Split, int]) -> Cost:
    """Return the cost of a data set without allocating any of it."""
    itemsize = 8 if recipe.dtype == "float64" else 4
    total = sum(counts.values())
    points = recipe.grid.num_points
    states = recipe.system.fields.num_channels * points * recipe.frames
    constants = recipe.dynamics.environment_fields.num_channels * points
    series = 2 * len(recipe.system.invariants) * recipe.frames * 8
    largest = min(recipe.shard_size, max(counts.values()))
    # Frames before the stored ones are held too.
    longest = recipe.frames + max(recipe.first_frame(s) for s, n in counts.items() if n)
    held = recipe.system.fields.num_channels * points * longest + constants
    return Cost(
        disk_bytes=total * (itemsize * (states + constants) + series),
        # Frames and their stack in float64, then array, file and image on the way out.
        memory_bytes=largest * (16 + 4 * itemsize) * held,
        point_steps=points
        * sum(
            count * (recipe.first_frame(split) + recipe.frames - 1)
            for split, count in counts.items()
        ),
    )


def check_cost(cost: Cost, caps: Caps) -> None:
    """Raise `InputError` when a cost is above its cap."""
    for what, number, cap, scale, unit, option in (
        ("disk", cost.disk_bytes, caps.disk_bytes, GIB, " GiB", "--max-gib"),
        (
            "memory per shard",
            cost.memory_bytes,
            caps.memory_bytes,
            GIB,
            " GiB",
            "--max-gib",
        ),
        (
            "work",
            cost.point_steps,
            caps.point_steps,
            1,
            " point-steps",
            "--max-point-steps",
        ),
    ):
        if number > cap:
            raise InputError(
                f"{what}: {_shown(number, scale)}{unit} needed, the limit is "
                f"{_shown(cap, scale)}{unit}; ask for less or raise it with {option}"
            )


def _shown(number: int, scale: int) -> str:
    """Return ``number / scale`` for people; it may be too large for a float."""
    digits = int(number.bit_length() * math.log10(2))
    return f"{number / scale:.4g}" if digits < 100 else f"about 10^{digits}"
