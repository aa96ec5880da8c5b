"""``pde-sym bench``: solvers and layers against their floors and other codes.

``layers`` is `experiments.bench_layers`; the rest is about ``solvers``.

Every solver runs in a process of its own, pinned to one core, on the same problem;
then in as many processes as there are cores, at once. Times are compared at equal
error: the time per trajectory is read off, on logarithmic scales, where the error
passes the target. The floor is the cost of the Fourier transforms alone, measured in
the same process as our step.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.peers import SOLVERS, measure
from experiments.table import print_table
from pde_sym.errors import InputError
from pde_sym.progress import progress
from pde_sym.store import files

OURS = "pde_sym"
TIMEOUT = 600.0
Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("solvers", "layers"))
    parser.add_argument(
        "--problem",
        action="append",
        metavar="NAME",
        help="only this problem, of kdv, flow-64, flow-128, heat, rigid-body, plume; "
        "repeats",
    )
    parser.add_argument(
        "--python",
        default=sys.executable,
        metavar="PATH",
        help="an interpreter that has the other codes (this one)",
    )
    parser.add_argument(
        "--channels", type=int, default=64, metavar="N", help="of the layers (64)"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="of the layers (cpu)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all rows")


def run(arguments: argparse.Namespace) -> int:
    if arguments.what == "layers":
        return _layers(arguments)
    return _solvers(arguments)


def _layers(arguments: argparse.Namespace) -> int:
    import torch

    from experiments.bench_layers import GROUPS, bench_layers

    torch.set_num_threads(1)
    rows: list[Row] = []
    with progress("layers", len(GROUPS), "groups") as finished:
        for group in GROUPS:
            rows += bench_layers(
                channels=arguments.channels, groups=(group,), device=arguments.device
            )
            finished(1)

    def heads(what: str) -> list[str]:
        return [f"{what} [ms]", "/ Conv2d", "/ escnn"]

    print_table(
        f"{arguments.channels} channels, 5 x 5, 64^2 points, a batch of 16, one thread",
        ["layer", "group", *heads("step"), *heads("inference")],
        [
            [row["layer"], row["group"] or "-"]
            + [
                cell
                for what in ("step", "inference")
                for cell in (
                    f"{row[f'{what}_ms']:.1f}",
                    f"{row[f'{what}_to_conv2d']:.3f}",
                    "-"
                    if row[f"{what}_to_escnn"] is None
                    else f"{row[f'{what}_to_escnn']:.3f}",
                )
            ]
            for row in rows
        ],
    )
    _write(arguments.json, {"device": arguments.device, "rows": rows})
    return 0


def _write(path: Path | None, report: Row) -> None:
    if path is not None:
        text = json.dumps({"machine": platform.machine(), **report}, indent=1) + "\n"
        files.write_file(path, text.encode())


def _solvers(arguments: argparse.Namespace) -> int:
    from experiments.contests import CONTESTS  # torch and the solvers

    names = arguments.problem or list(CONTESTS)
    for name in names:
        if name not in CONTESTS:
            raise InputError(
                f"--problem {name!r}: expected one of {', '.join(CONTESTS)}"
            )
    cores = sorted(os.sched_getaffinity(0))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            contest = CONTESTS[name]()
            system = str(contest.arrays["system"])
            solvers = [solver for solver, can in SOLVERS.items() if system in can]
            with progress(contest.name, len(solvers), "solvers") as finished:
                found = []
                for solver in solvers:
                    file = Path(folder) / "problem.npz"
                    settings = np.array(contest.settings_of(solver))
                    np.savez(file, settings=settings, **contest.arrays)
                    python = sys.executable if solver == OURS else arguments.python
                    found += compete(solver, python, file, cores, contest.target)
                    finished(1)
            for row in found:
                row["problem"] = contest.name
                if row["solver"] == OURS and contest.floor and "error" not in row:
                    row["floor"] = floor_ratio(contest, cores[0])
            show(contest.name, contest.target, found)
            rows += found
    _write(arguments.json, {"cores": len(cores), "rows": rows})
    return 0


def compete(
    solver: str, python: str, file: Path, cores: Sequence[int], target: float
) -> list[Row]:
    """Return the row of a solver; its ``reason`` says why there is no figure."""
    try:
        (alone,) = _processes(solver, python, file, cores[:1])
        together = _processes(solver, python, file, cores)
    except RuntimeError as error:
        return [{"solver": solver, "reason": str(error)}]
    finest = alone[-1]
    return [
        {
            "solver": solver,
            "settings": alone,
            "steps_per_second": finest["trajectories"]
            * finest["steps"]
            / finest["seconds"],
            "steps_per_second_all_cores": sum(
                rows[-1]["trajectories"] * rows[-1]["steps"] / rows[-1]["seconds"]
                for rows in together
            ),
            "error_at_finest": finest["error"],
            "seconds_at_target": time_at_error(alone, target),
        }
    ]


def _processes(
    solver: str, python: str, file: Path, cores: Sequence[int]
) -> list[list[Row]]:
    """Run a solver once on each core, at the same time."""
    script = Path(__file__).with_name("peers.py")
    single = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
    )
    running = [
        subprocess.Popen(
            [python, str(script), solver, str(file)],
            env={**os.environ, **single},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in cores
    ]
    for process, core in zip(running, cores, strict=True):
        os.sched_setaffinity(process.pid, {core})
    results = []
    for process in running:
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            for one in running:
                one.kill()
            raise RuntimeError(f"more than {TIMEOUT:g} s") from None
        if process.returncode:
            lines = err.strip().splitlines() or ["no message"]
            named = [line for line in lines if "Error: " in line] or lines
            missing = "No module named" in named[-1]
            raise RuntimeError("not installed" if missing else named[-1][:40])
        results.append(
            [json.loads(line) for line in out.splitlines() if line[:1] == "{"]
        )
    return results


def time_at_error(rows: Sequence[Row], target: float) -> float | None:
    """Return the seconds per trajectory at which the error is `target`.

    Between two settings, on logarithmic scales. None when no setting reaches it, and
    the cheapest setting's time when all do.
    """
    points = sorted(
        (row["error"], row["seconds"] / row["trajectories"])
        for row in rows
        if math.isfinite(row["error"])
    )
    below = [p for p in points if p[0] <= target]
    above = [p for p in points if p[0] > target]
    if not below:
        return None
    if not above:
        return min(seconds for _, seconds in below)
    (e0, t0), (e1, t1) = below[-1], above[0]
    part = math.log(target / e0) / math.log(e1 / e0) if e0 > 0 else 0.0
    return math.exp((1 - part) * math.log(t0) + part * math.log(t1))


def floor_ratio(contest: Any, core: int) -> float:
    """Return the time of our step over that of its transforms, in this process."""
    import time

    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        problem = {k: np.asarray(v) for k, v in contest.arrays.items()}
        make = SOLVERS[OURS][str(problem["system"])]
        row = measure(make, problem, contest.settings_of(OURS)[-1])
        steps = row["trajectories"] * row["steps"]
        contest.floor(1)
        best = math.inf
        for _ in range(3):
            start = time.perf_counter()
            contest.floor(int(steps))
            best = min(best, time.perf_counter() - start)
    finally:
        os.sched_setaffinity(0, allowed)
    return row["seconds"] / best


def show(name: str, target: float, rows: Sequence[Row]) -> None:
    ours = next((r.get("seconds_at_target") for r in rows if r["solver"] == OURS), None)
    cells = []
    for row in rows:
        if "reason" in row:
            cells.append([row["solver"], row["reason"], "", "", "", "", ""])
            continue
        seconds = row["seconds_at_target"]
        cells.append(
            [
                row["solver"],
                f"{row['steps_per_second']:.3g}",
                f"{row['steps_per_second_all_cores']:.3g}",
                f"{row['error_at_finest']:.1e}",
                "not reached" if seconds is None else f"{1e3 * seconds:.3g} ms",
                "" if seconds is None or not ours else f"{seconds / ours:.2f}",
                f"{row['floor']:.2f}" if "floor" in row else "",
            ]
        )
    print_table(
        name,
        [
            "solver",
            "steps/s, a core",
            "all cores",
            "error at finest",
            f"time to {target:.0e}",
            "over ours",
            "over its FFTs",
        ],
        cells,
    )
