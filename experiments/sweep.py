"""``pde-sym sweep``: families of models over strengths of a breaking term."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.statistics import one_standard_error
from experiments.sweep_recipe import NAMED, FamilyPlan, Sweep, read_sweep
from experiments.sweep_runs import (
    DataSpec,
    Outcome,
    RunSpec,
    check_networks,
    make_data,
    perform,
    read_floors,
    read_outcome,
)
from experiments.sweep_summary import summarise, write_summary
from experiments.sweep_table import Table, classes_of, row_of, write_table
from experiments.sweep_watch import watched
from experiments.table import print_table
from pde_sym import executor
from pde_sym.config import canonical_json
from pde_sym.devices import add_argument, chosen_device
from pde_sym.errors import InputError
from pde_sym.progress import progress
from pde_sym.store import files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "The same command goes on where it was interrupted. A part that was made with "
        "--only or --strengths is completed by the command without them."
    )
    parser.add_argument(
        "sweep", metavar="NAME|FILE.toml", help=f"one of {', '.join(NAMED)}, or a file"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the results"
    )
    parser.add_argument(
        "--large",
        action="store_true",
        help="what the recipe has for a GPU: finer grids, more data, wider networks",
    )
    parser.add_argument(
        "--only", action="append", metavar="FAMILY", help="this family alone; repeats"
    )
    parser.add_argument(
        "--strengths",
        type=float,
        nargs="+",
        metavar="S",
        help="these strengths of the recipe alone",
    )
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="so many seeds in place of the recipe's"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the grid and what is done of it"
    )
    executor.add_arguments(parser)
    add_argument(parser, "cpu", "where to train; measured is on the CPU")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


@dataclass(frozen=True)
class Part:
    """The cells of a sweep that a command works on.

    Parameters
    ----------
    sweep
        The whole sweep.
    root
        Folder of the results.
    families
        Those in work, in the order of the recipe.
    seeds
        Number of seeds at each strength in work.
    device
        Where networks are trained.
    """

    sweep: Sweep
    root: Path
    families: tuple[FamilyPlan, ...]
    seeds: dict[float, int]
    device: str = "cpu"

    @property
    def strengths(self) -> tuple[float, ...]:
        return tuple(self.seeds)

    @classmethod
    def of(cls, sweep: Sweep, arguments: argparse.Namespace) -> "Part":
        """Return the part that the options ask for.

        Raises
        ------
        InputError
            When a family or a strength is not in the recipe, or seeds are below 1.
        """
        names = [family.name for family in sweep.families]
        for name in arguments.only or ():
            if name not in names:
                raise InputError(f"--only {name}: expected one of {', '.join(names)}")
        for strength in arguments.strengths or ():
            if strength not in sweep.strengths:
                known = ", ".join(f"{s:g}" for s in sweep.strengths)
                raise InputError(f"--strengths {strength:g}: expected some of {known}")
        asked = arguments.seeds
        if asked is not None and asked < 1:
            raise InputError(f"--seeds {asked}: expected a number >= 1")
        chosen = [f for f in sweep.families if f.name in (arguments.only or names)]
        strengths = arguments.strengths or sweep.strengths
        return cls(
            sweep,
            arguments.out,
            tuple(chosen),
            {s: asked or sweep.seeds_at(s) for s in sweep.strengths if s in strengths},
            chosen_device(arguments.device),
        )

    def data(self) -> list[DataSpec]:
        sweep = self.sweep
        has_second = sweep.out_of_distribution is not None
        return [
            DataSpec(
                self.root,
                strength,
                sweep.recipe(strength),
                sweep.recipe(strength, shifted=True) if has_second else None,
                sweep.moved,
                sweep.future(strength),
                sweep.trajectories.counts,
            )
            for strength in self.strengths
        ]

    def cells(self) -> list[tuple[float, int, FamilyPlan]]:
        """Return every strength, size and family that has runs."""
        return [
            (strength, size, family)
            for strength in self.strengths
            for size in self.sweep.sizes
            for family in self.families
            if family.strengths is None or strength in family.strengths
        ]

    def run(
        self,
        cell: tuple[float, int, FamilyPlan],
        candidate: int,
        seed: int,
        *,
        evaluated: bool,
    ) -> RunSpec:
        strength, size, family = cell
        sweep = self.sweep
        choices = sweep.choices(family, candidate, seed, size)
        return RunSpec(
            root=self.root,
            strength=strength,
            size=size,
            family=family.name,
            candidate=candidate,
            seed=seed,
            choices=choices,
            parameters=family.parameters or sweep.parameters,
            held=(sweep.trajectories.train, sweep.trajectories.valid),
            evaluated=evaluated,
            others=sweep.other_tests,
            device=self.device,
        )

    def tuning(self) -> list[RunSpec]:
        """Return the trials: every candidate of every cell, from the first seeds."""
        return [
            self.run(cell, candidate, seed, evaluated=False)
            for cell in self.cells()
            for candidate in range(len(cell[2].tune))
            for seed in range(self.sweep.tuning_seeds)
        ]

    def finals(self) -> list[RunSpec]:
        """Return the runs of the chosen candidates; cells still in tuning have none."""
        runs = []
        for seed in range(max(self.seeds.values())):
            for cell in self.cells():
                candidate = self.chosen(cell)
                if candidate is not None and seed < self.seeds[cell[0]]:
                    runs.append(self.run(cell, candidate, seed, evaluated=True))
        return runs

    def chosen(self, cell: tuple[float, int, FamilyPlan]) -> int | None:
        """Return the trial that goes on, None before all are done.

        It is chosen by `one_standard_error`; one that failed has an infinite error.
        """
        errors = []
        for candidate in range(len(cell[2].tune)):
            found = []
            for seed in range(self.sweep.tuning_seeds):
                spec = self.run(cell, candidate, seed, evaluated=False)
                outcome = read_outcome(spec)
                if outcome is None or not (outcome.trained or outcome.failed):
                    return None
                valid = outcome.valid_vrmse
                found.append(math.inf if valid is None else valid)
            errors.append(found)
        return one_standard_error(errors)


def run(arguments: argparse.Namespace) -> int:
    sweep = read_sweep(arguments.sweep, large=arguments.large)
    part = Part.of(sweep, arguments)
    if arguments.dry_run:
        _show_grid(part, as_json=arguments.json)
        return 0
    files.make_folder(part.root)
    with files.lock(part.root):
        recipe = json.dumps(json.loads(canonical_json(sweep)), indent=1) + "\n"
        files.write_file(part.root / "sweep.json", recipe.encode())
        try:
            with executor.executor(arguments.workers, arguments.scheduler) as workers:
                _conduct(part, workers)
        finally:
            # What is finished is shown, also of a sweep that is stopped.
            table = _tabulate(part)
    return _report(part, table, as_json=arguments.json)


def _conduct(part: Part, workers: executor.Executor) -> None:
    """Make the data, try the candidates, and train the chosen ones."""
    with progress("simulating", len(part.strengths), "strengths") as advance:
        for _ in workers.map(make_data, part.data()):
            advance(1)
    tuning, total = part.tuning(), _number_of_runs(part)
    check_networks(tuning)
    with watched(part.sweep, total) as saw:
        _work(workers, tuning, saw)
        _work(workers, part.finals(), saw)


def _work(
    workers: executor.Executor,
    specs: Sequence[RunSpec],
    saw: Callable[[RunSpec, Outcome], None],
) -> None:
    missing = []
    for spec in specs:
        outcome = read_outcome(spec)
        if outcome is not None and spec.is_done:
            saw(spec, outcome)
        else:
            missing.append(spec)
    for spec, outcome in workers.map(perform, missing):
        saw(spec, outcome)


def _number_of_runs(part: Part) -> int:
    tuning_seeds = part.sweep.tuning_seeds
    return sum(
        tuning_seeds * len(family.tune) + part.seeds[strength]
        for strength, _, family in part.cells()
    )


def _tabulate(part: Part) -> Table | None:
    """Write the table and the summary of all finished runs of the sweep."""
    sweep = part.sweep
    # Rows of other parts that were made before belong to the table.
    seeds = {
        strength: max(part.seeds.get(strength, 0), sweep.seeds_at(strength))
        for strength in sweep.strengths
    }
    whole = Part(sweep, part.root, sweep.families, seeds)
    classes, rows, floors = classes_of(sweep), [], {}
    for spec in sorted(whole.finals(), key=_order):
        if spec.strength not in floors:
            path = part.root / "floors" / f"{spec.strength:g}.json"
            floors[spec.strength] = read_floors(path)
        row = row_of(sweep, spec, floors[spec.strength], classes)
        rows += [row] if row else []
    if not rows:
        return None
    runs: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for spec in whole.tuning():
        outcome = read_outcome(spec)
        if outcome is not None and (outcome.trained or outcome.failed):
            runs[spec.family] = runs.get(spec.family, 0) + 1
            spent = seconds.get(spec.family, 0.0) + outcome.train_seconds
            seconds[spec.family] = round(spent, 1)
    system = sweep.recipe(sweep.strengths[-1]).system
    table = Table(
        title=sweep.title,
        system=system.kind,
        term=sweep.term,
        equation=next(t.equation for t in system.breaking if t.kind == sweep.term),
        tuning_runs=runs,
        tuning_seconds=seconds,
        rows=tuple(rows),
    )
    write_table(part.root, table)
    write_summary(part.root, summarise(table))
    return table


def _order(spec: RunSpec) -> tuple[float, int, str, int]:
    return spec.strength, spec.size, spec.family, spec.seed


def _report(part: Part, table: Table | None, *, as_json: bool) -> int:
    failed = [row for row in table.rows if row.failed] if table else []
    for row in failed:
        place = f"{row.strength:g}, {row.size}, {row.family}, seed {row.seed}"
        print(f"failed: {place}: {row.failed}", file=sys.stderr)
    if table is None:
        return 0
    summary = summarise(table)
    if as_json:
        print(canonical_json(summary))
        return 0
    errors = {(c.family, c.strength, c.size): c.test.value for c in summary.cells}
    largest = max(part.sweep.sizes)
    print_table(
        f"{table.title}: VRMSE after 10 steps, median over seeds, {largest} "
        "training trajectories",
        ["family", *(f"{s:g}" for s in part.sweep.strengths)],
        [
            [
                family.name,
                *(
                    _cell(errors, (family.name, strength, largest))
                    for strength in part.sweep.strengths
                ),
            ]
            for family in part.sweep.families
        ],
    )
    print(part.root / "table.csv")
    return 0


def _cell(
    errors: dict[tuple[str, float, int], float | None], key: tuple[str, float, int]
) -> str:
    if key not in errors:
        return "-"
    value = errors[key]
    return "failed" if value is None else f"{value:.4f}"


def _show_grid(part: Part, *, as_json: bool) -> None:
    """Print how many runs there are per family and strength, and how many are done."""
    specs = [*part.tuning(), *part.finals()]
    total = _number_of_runs(part)
    done = {(s.family, s.strength): 0 for s in specs}
    for spec in specs:
        done[spec.family, spec.strength] += spec.is_done
    if as_json:
        print(json.dumps({"runs": total, "done": sum(done.values())}))
        return
    rows = []
    for family in part.families:
        trials = part.sweep.tuning_seeds * len(family.tune)
        cells = []
        for strength, seeds in part.seeds.items():
            all_of = (trials + seeds) * len(part.sweep.sizes)
            of_these = done.get((family.name, strength))
            cells.append("-" if of_these is None else f"{of_these} of {all_of}")
        rows.append([family.name, *cells])
    print_table(
        f"{part.sweep.title}: {sum(done.values())} of {total} runs are done",
        ["family", *(f"{s:g}" for s in part.strengths)],
        rows,
    )
