"""``pde-sym evaluate``: measure surrogates beside the solver, on the same inputs."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch

from experiments.evaluation import (
    UNKNOWN,
    Evaluation,
    Pictures,
    is_imported,
    write_evaluation,
)
from experiments.runs import Run, identity_of, load_surrogate, read_run
from experiments.table import print_table
from pde_sym.errors import InputError
from pde_sym.evaluation import diagnosis_of, errors_of, predict
from pde_sym.nn import count_parameters
from pde_sym.progress import progress
from pde_sym.samples import Samples
from pde_sym.systems.unknown import Unknown

KEPT_ROLLOUTS = 4
PARTS = 5
"""What one evaluation consists of, for the progress bar."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="the data, where they have moved"
    )
    parser.add_argument(
        "--steps", type=int, metavar="N", help="steps of the rollouts (all frames)"
    )
    parser.add_argument("--json", action="store_true", help="print the evaluations")


def run(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    runs = [read_run(folder, arguments.data) for folder in arguments.runs]
    evaluations = []
    with progress("evaluating", PARTS * len(runs), "parts") as advance:
        for one in runs:
            evaluation, pictures = evaluate(one, arguments.steps, advance)
            write_evaluation(one.folder, evaluation, pictures)
            evaluations.append(evaluation)
    if arguments.json:
        print(json.dumps([e.model_dump(mode="json") for e in evaluations]))
    else:
        show(evaluations)
    return 0


@torch.no_grad()
def evaluate(
    one: Run, steps: int | None, advance: Callable[[int], None]
) -> tuple[Evaluation, Pictures]:
    """Measure a run on its test data.

    Raises
    ------
    InputError
        When the data are not those of the run, or have too few frames.
    """
    if identity_of(one.data).recipe != one.config.data.recipe:
        raise InputError(
            f"{one.data}: made by another recipe than the training data of "
            f"{one.folder}; give its data with --data"
        )
    samples, surrogate = Samples.read(one.data), load_surrogate(one)
    predicted = predict(surrogate, samples, steps)
    errors = errors_of(surrogate, samples, predicted)
    advance(1)
    task = one.config.task
    diagnosis = diagnosis_of(surrogate, samples, predicted, task, advance)
    system, kept = samples.system, slice(0, KEPT_ROLLOUTS)
    evaluation = Evaluation(
        run=one.name,
        model=one.config.model.kind,
        group=getattr(one.config.model, "group", None) if task.num_axes == 2 else None,
        parameters=count_parameters(surrogate),
        seed=one.config.training.seed,
        updates=one.config.training.updates,
        settings=one.config.settings,
        recipe=one.config.data.recipe,
        system=system.kind,
        strengths={term.kind: term.strength for term in system.breaking},
        num_axes=task.num_axes,
        subgroup="unknown" if isinstance(system, Unknown) else system.survivors.name,
        trajectories=len(samples.states),
        **dict(errors),
        **dict(diagnosis),
    )
    pictures = Pictures(
        times=torch.tensor(errors.times, dtype=torch.float64).numpy(),
        truth=samples.states[kept, : len(errors.times)].numpy(),
        prediction=predicted[kept].numpy(),
        environment=samples.environment[kept].float().numpy(),
        channels=task.state.channel_names,
        environment_channels=samples.dynamics.environment_fields.channel_names,
        lengths=samples.grid.lengths,
    )
    return evaluation, pictures


def show(evaluations: list[Evaluation]) -> None:
    """Print one table of errors and one of defects."""
    step = min(10, *(len(e.vrmse) for e in evaluations))
    print_table(
        "errors on test data (VRMSE) and drift of the first invariant",
        ["run", "model", "parameters", "1 step", f"{step} steps", "no change", "drift"],
        [
            [
                e.run,
                e.model,
                str(e.parameters),
                f"{e.one_step_vrmse:.4f}",
                f"{e.vrmse[step - 1]:.4f}",
                f"{e.persistence_vrmse[step - 1]:.4f}",
                f"{e.invariants[0].model_drift[-1]:.1e}" if e.invariants else "",
            ]
            for e in evaluations
        ],
    )
    columns = ["element", "solver"]
    rows = [
        [d.element, "" if d.solver is None else f"{d.solver:.2e}"]
        for d in evaluations[0].defects
    ]
    for e in evaluations:
        has_bounds = any(d.certificate is not None for d in e.defects)
        columns += [e.run, "at most"] if has_bounds else [e.run]
        for row, d in zip(rows, e.defects, strict=True):
            row.append(f"{d.model:.2e}")
            if has_bounds:
                row.append("" if d.certificate is None else f"{d.certificate:.2e}")
    print_table("defect per element, over one step", columns, rows)
    if is_imported(evaluations[0]):
        print(UNKNOWN)
