"""The errors that pde_sym raises for the person who reads them.

The command line prints the message on one line and exits with ``exit_code``;
every other exception is a defect of pde_sym and keeps its traceback.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self


class PdeSymError(Exception):
    """An error whose message says what was expected, what came and what to do."""

    exit_code = 1


def one_line(error: Exception) -> str:
    """Return a message as one line, which a terminal shows and does not obey."""
    line = " ".join(str(error).split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


class InputError(PdeSymError, ValueError):
    """A value, a key or a file that the user gave cannot be used."""

    exit_code = 2


class OutputError(PdeSymError):
    """An output folder holds something else, is in use or cannot be written."""

    exit_code = 3


class DataError(PdeSymError):
    """A file is damaged or foreign, or holds numbers that are not finite."""

    exit_code = 4


class SimulationError(PdeSymError):
    """A solver or a surrogate left the finite numbers or missed its tolerance."""

    exit_code = 5


class WorkerError(PdeSymError):
    """Worker processes died over a task, or their scheduler is lost."""

    exit_code = 6


ADVICE = "lower the initial amplitude, a strength or dt"
"""What helps most trajectories."""


@dataclass(frozen=True)
class Lost:
    """A trajectory that does not go on.

    Parameters
    ----------
    index
        Its place in a batch; in a data set its number in the split.
    field
        What gave way.
    reason
        How, for instance "is not finite".
    time
        Since the beginning of the frame; with a step, since the initial state.
    step
        Number of the frame that was not reached, which a solver does not know.
    """

    index: int
    field: str
    reason: str
    time: float
    step: int | None = None

    def __str__(self) -> str:
        when = f"at time {self.time:.4g} of the frame"
        if self.step is not None:
            when = f"at step {self.step}, t = {self.time:.4g}"
        return f"trajectory {self.index}: {self.field} {self.reason} {when}"


class LostTrajectoryError(SimulationError):
    """Some trajectories of a batch do not go on; the others could without them.

    Parameters
    ----------
    lost
        At least one.
    advice
        What to do about it.
    """

    def __init__(
        self,
        lost: Iterable[Lost],
        advice: str = ADVICE,
    ) -> None:
        self.lost: tuple[Lost, ...] = tuple(sorted(lost, key=lambda one: one.index))
        self.advice = advice
        first, *others = self.lost
        more = f", and {len(others)} more" if others else ""
        super().__init__(f"{first}{more}: {advice}")

    def __reduce__(self) -> tuple[type[Self], tuple[tuple[Lost, ...], str]]:
        # Workers send it to the process that asked.
        return type(self), (self.lost, self.advice)

    def since_start(self, step: int, start: float) -> "LostTrajectoryError":
        """Return the error of the frame `step`, which begins at the time `start`."""
        lost = [replace(one, step=step, time=start + one.time) for one in self.lost]
        return LostTrajectoryError(lost, self.advice)

    def renumbered(self, numbers: Sequence[int]) -> "LostTrajectoryError":
        """Return the error with ``numbers[i]`` for each place i in the batch."""
        lost = [replace(one, index=numbers[one.index]) for one in self.lost]
        return LostTrajectoryError(lost, self.advice)
