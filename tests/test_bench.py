"""The comparison of solvers: problems, arithmetic, and what it says of others."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.__main__ import main
from experiments.bench import compete, time_at_error
from experiments.bench_layers import SETTINGS, bench_layers
from experiments.contests import flow, heat, kdv, plume, rigid_body
from experiments.peers import SOLVERS, measure
from pde_sym.errors import InputError


def row(error: float, seconds: float, trajectories: int = 2) -> dict[str, float]:
    return {"error": error, "seconds": seconds, "trajectories": trajectories}


def test_time_at_an_error_lies_on_the_line_between_two_settings() -> None:
    """A method of order 4: half the step, twice the time, a sixteenth of the error."""
    rows = [row(16e-6, 1.0), row(1e-6, 2.0), row(1e-6 / 16, 4.0)]
    assert time_at_error(rows, 1e-6) == pytest.approx(1.0)
    assert time_at_error(rows, 4e-6) == pytest.approx(2**0.5 / 2)
    assert time_at_error(rows, 1e-4) == pytest.approx(0.5)
    assert time_at_error(rows, 1e-9) is None
    assert time_at_error([row(float("nan"), 1.0)], 1e-6) is None


@pytest.mark.parametrize(
    ("contest", "order"),
    [
        (kdv(2), 4),
        (flow(32, batch=2), 4),
        (heat(1), None),
        (rigid_body(5), None),
        (plume(1), None),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_our_solvers_reach_the_reference(contest, order) -> None:
    problem = {k: np.asarray(v) for k, v in contest.arrays.items()}
    make = SOLVERS["pde_sym"][contest.arrays["system"]]
    settings = contest.settings_of("pde_sym")
    rows = [measure(make, problem, setting) for setting in settings]
    errors = [found["error"] for found in rows]
    assert min(errors) <= contest.target
    assert all(found["seconds"] > 0 for found in rows)
    if order is not None:
        slope = np.polyfit(np.log(settings), np.log(errors), 1)[0]
        assert slope == pytest.approx(order, abs=0.4)
    # The figure is an error: another problem's solution does not have it.
    problem["reference"] = 1.01 * problem["reference"]
    assert measure(make, problem, settings[-1])["error"] > 1e-3


def test_a_code_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    contest = kdv(1)
    file = tmp_path / "problem.npz"
    np.savez(file, settings=np.array([0.1]), **contest.arrays)
    # An interpreter without any package has none of the codes.
    (found,) = compete("exponax", sys.executable, file, [0], 1e-6)
    assert found == {"solver": "exponax", "reason": "not installed"}


def test_figures_are_written(
    tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SOLVERS, "py-pde", {})
    monkeypatch.setattr("experiments.contests.CONTESTS", {"kdv": lambda: kdv(2)})
    file = tmp_path / "bench.json"
    assert main(["bench", "solvers", "--json", str(file)]) == 0
    rows = {r["solver"]: r for r in json.loads(file.read_text())["rows"]}
    assert set(rows) == {"pde_sym", "exponax"}
    ours = rows["pde_sym"]
    assert ours["steps_per_second"] > 0
    assert ours["floor"] > 0.5
    assert ours["seconds_at_target"] > 0
    assert "not installed" in capsys.readouterr().out


def test_unknown_problems_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "solvers", "--problem", "burgers"]) == 2
    assert "expected one of kdv, flow-64" in capsys.readouterr().err


def test_layers_are_timed_in_turns_and_compared_with_conv2d() -> None:
    rows = bench_layers(
        channels=8, resolution=8, batch=2, repeats=2, groups=("C4",), kernel_size=3
    )
    by_name = {row["layer"]: row for row in rows}
    assert set(by_name) == {"Conv2d", *SETTINGS, "escnn R2Conv"}
    assert by_name["Conv2d"]["step_to_conv2d"] == 1.0
    row = by_name["modulated"]
    ratio = row["step_ms"] / by_name["escnn R2Conv"]["step_ms"]
    assert row["step_to_escnn"] == pytest.approx(ratio)
    assert by_name["Conv2d"]["step_to_escnn"] is None
    with pytest.raises(InputError, match="multiple of 4 for C4"):
        bench_layers(channels=6, groups=("C4",))
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="torch sees no GPU"):
            bench_layers(device="cuda")
