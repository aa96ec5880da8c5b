"""What a sweep shows while it runs: a table on a terminal, else a line at times."""

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from experiments.sweep_recipe import Sweep
from experiments.sweep_runs import Outcome, RunSpec
from pde_sym.progress import progress

Saw = Callable[[RunSpec, Outcome], None]


@contextmanager
def watched(sweep: Sweep, total: int) -> Iterator[Saw]:
    """Yield a function to call with each run that is finished."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _live(sweep, total) as saw:
            yield saw
        return
    with progress(sweep.title, total, "runs") as advance:
        yield lambda _spec, _outcome: advance(1)


@contextmanager
def _live(sweep: Sweep, total: int) -> Iterator[Saw]:
    """Yield the same with a table: runs and lowest validation error of each cell."""
    runs: dict[tuple[str, float], int] = {}
    lowest: dict[tuple[str, float], float] = {}

    def draw() -> Table:
        done = sum(runs.values())
        table = Table(
            title=f"{sweep.title}: {done} of {total} runs", title_justify="left"
        )
        table.add_column("family")
        for strength in sweep.strengths:
            table.add_column(f"{sweep.term} {strength:g}", justify="right")
        for family in sweep.families:
            cells = []
            for strength in sweep.strengths:
                key = family.name, strength
                best = lowest.get(key, math.inf)
                shown = f"{best:.4f}" if math.isfinite(best) else "-"
                cells.append(f"{shown} ({runs[key]})" if key in runs else "")
            table.add_row(family.name, *cells)
        return table

    with Live(draw(), console=Console(file=sys.stderr), refresh_per_second=2) as live:

        def saw(spec: RunSpec, outcome: Outcome) -> None:
            key = spec.family, spec.strength
            runs[key] = runs.get(key, 0) + 1
            if outcome.valid_vrmse is not None:
                lowest[key] = min(lowest.get(key, math.inf), outcome.valid_vrmse)
            live.update(draw())

        yield saw
