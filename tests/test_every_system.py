"""What all systems share: the table of symmetries, and the way from recipe to files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.__main__ import main
from pde_sym.diagnostics import defects, measured_sizes
from pde_sym.simulate import simulate
from pde_sym.systems import SYSTEMS, BreakingTerm, System

STRENGTHS = {"bubbles": 0.5, "nonlinear": 0.1, "obstacle": 0.3, "kawahara": 0.05}
"""Of terms that want another strength than 0.3."""
RESOLUTION = {"heat": 16, "kdv": 128, "flow": 32, "tracer_flow": 32, "plume": 16}
SMALL = {"heat": ["initial.modes=3"], "flow": ["initial.modes=3"]}
PAIRS = [(system, term) for system in SYSTEMS for term in system.terms]


def kind_of(what: type[System] | type[BreakingTerm]) -> str:
    return what.model_fields["kind"].default


def broken(system: type[System], term: type[BreakingTerm]) -> System:
    name = kind_of(term)
    setting = {"kind": name, "strength": STRENGTHS.get(name, 0.3)}
    values: dict[str, Any] = {"breaking": [setting]}
    if "attitude" in system.model_fields:
        values["attitude"] = True
    return system.model_validate(values)


def states_of(one: System, count: int = 2) -> tuple[Tensor, Tensor, Any]:
    """Return states on the way, their environment and the grid."""
    grid = one.grid(RESOLUTION.get(one.kind, 1), one.default_length)
    law = one.initial_laws[0]
    fields = law.model_fields
    settings = {"modes": 3} if "modes" in fields else {}
    rng = np.random.default_rng(7)
    drawn = [
        one.sample_initial(law.model_validate(settings), grid, rng, i)
        for i in range(count)
    ]
    environment = torch.from_numpy(one.sample_environment(grid, rng))[None]
    run = simulate(
        one, grid, torch.from_numpy(np.stack(drawn)), environment,
        dt=one.default_dt, num_frames=3,
    )  # fmt: skip
    return run.states[:, -1], environment, grid


@pytest.mark.parametrize(
    ("system", "term"), PAIRS, ids=[f"{kind_of(s)}-{kind_of(t)}" for s, t in PAIRS]
)
def test_the_solver_keeps_what_the_table_says_and_nothing_else(
    system: type[System], term: type[BreakingTerm]
) -> None:
    one = broken(system, term)
    states, environment, grid = states_of(one)
    phi = one.solver(grid, environment, one.default_dt)
    found = defects(phi, states, one.probes(grid), one.action(grid))
    kept = {d.element.name: d.largest for d in found if one.keeps(d.element)}
    lost = {d.element.name: d.mean for d in found if not one.keeps(d.element)}
    assert max(kept.values(), default=0.0) <= 2e-12, kept
    assert min(lost.values(), default=1.0) >= 1e-7, lost


def invariants_at(system: type[System], term: type[BreakingTerm], strength: float):
    """Return each invariant over a few frames, at a strength, from the same states."""
    one = broken(system, term)
    one = one.model_copy(
        update={
            "breaking": (one.breaking[0].model_copy(update={"strength": strength}),)
        }
    )
    start, _, grid = states_of(broken(system, term))
    environment = one.sample_environment(grid, np.random.default_rng(0))
    run = simulate(
        one, grid, start, torch.from_numpy(environment)[None],
        dt=one.default_dt, num_frames=5,
    )  # fmt: skip
    sizes = measured_sizes(one, grid, start, torch.from_numpy(environment)[None])[1]
    return {name: v[:, -1] / sizes[name] for name, v in run.invariants.items()}


ONLY_INVARIANTS = [
    (system, term)
    for system, term in PAIRS
    if system.model_validate({}).survivors == broken(system, term).survivors
    and (kind_of(system), kind_of(term)) != ("plume", "obstacle")
]
"""Terms that leave all motions of the grid; a radius in cells is no small strength."""
CONTROLS = {("kdv", "frame")}
"""Those that leave the invariants too."""


@pytest.mark.parametrize(
    ("system", "term"),
    ONLY_INVARIANTS,
    ids=[f"{kind_of(s)}-{kind_of(t)}" for s, t in ONLY_INVARIANTS],
)
def test_what_breaks_invariants_alone_does_so_linearly(
    system: type[System], term: type[BreakingTerm]
) -> None:
    unit = 1e-2 * STRENGTHS.get(kind_of(term), 0.3)
    strengths = [unit, 2 * unit, 4 * unit]
    intact, *moved = (invariants_at(system, term, s) for s in (0.0, *strengths))
    number = 0
    for name, value in intact.items():
        drifts = [float((one[name] - value).abs().max()) for one in moved]
        if drifts[-1] <= 1e-12:
            continue
        slope = np.polyfit(np.log(strengths), np.log(drifts), 1)[0]
        assert slope == pytest.approx(1.0, abs=0.05), name
        number += 1
    assert (number == 0) == ((kind_of(system), kind_of(term)) in CONTROLS)


@pytest.mark.parametrize("system", SYSTEMS, ids=kind_of)
def test_strength_zero_is_the_intact_system_bit_for_bit(system: type[System]) -> None:
    """Where a term adds no field; fields of their own are tested with the system."""
    intact = system.model_validate({})
    states, environment, grid = states_of(intact)
    expected = intact.solver(grid, environment, intact.default_dt)(states)
    compared = 0
    for term in system.terms:
        zero = system.model_validate({"breaking": [{"kind": kind_of(term)}]})
        if zero.fields != intact.fields:
            continue
        rng = np.random.default_rng(0)
        own = torch.from_numpy(zero.sample_environment(grid, rng))[None]
        found = zero.solver(grid, own, zero.default_dt)(states)
        assert torch.equal(found, expected), kind_of(term)
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize("system", SYSTEMS, ids=kind_of)
def test_from_recipe_to_files_and_back(
    system: type[System], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, name = tmp_path / "data", kind_of(system)
    words = [name, "--frames", "3", "--train", "2", "--valid", "1", "--test", "2"]
    if name in RESOLUTION:
        words += ["--resolution", str(RESOLUTION[name])]
    for setting in SMALL.get(name, []):
        words += ["--set", setting]
    if name == "tracer_flow":
        words += ["--set", 'initial.flow={"modes": 3}']
        words += ["--set", 'initial.tracer={"modes": 3}']
    if name == "kdv":
        words += ["--set", "length=32"]
    assert main(["generate", *words, "--out", str(folder)]) == 0
    assert main(["verify", str(folder)]) == 0
    capsys.readouterr()
    pictures = tmp_path / "pictures"
    assert main(["describe", str(folder), "--json", "--pictures", str(pictures)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["system"] == name
    assert report["defect"]
    for row in report["defect"]:
        # Files are float32, solvers are not.
        assert (row["defect"] <= 1e-7) == row["survives"], row
    for file in report["pictures"]:
        assert Path(file).read_bytes().startswith(b"\x89PNG")
    if name in {"kdv", "rigid_body", "plume"}:
        words = ["train", "--data", str(folder), "--model", "cnn"]
        assert main([*words, "--out", str(tmp_path / "run")]) == 2
        assert "models are for" in capsys.readouterr().err
