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
from pde_sym.systems import SYSTEMS, Flow, RigidBody, System

STRENGTHS = {"bubbles": 0.5, "nonlinear": 0.1, "obstacle": 0.3, "kawahara": 0.05}
"""Of terms that want another strength than 0.3."""
RESOLUTION = {"heat": 16, "kdv": 128, "flow": 32, "plume": 16}
SMALL = {
    "heat": ["initial.modes=3"],
    "flow": ["initial.modes=3"],
    "kdv": ["length=32"],
}
TABLE = {kind.model_fields["kind"].default: kind.model_validate({}) for kind in SYSTEMS}
"""Every system, intact; a body with its attitude, and flow without and with tracer."""
TABLE |= {"rigid_body": RigidBody(attitude=True), "flow+tracer": Flow(tracer=True)}
ON_ANOTHER = {"buoyancy_imbalance"}
"""Terms that act on what another one adds; they are tested with their system."""
PAIRS = [
    (name, kind)
    for name, system in TABLE.items()
    for term in system.terms
    if (kind := term.model_fields["kind"].default) not in ON_ANOTHER
]


def broken(name: str, term: str, strength: float | None = None) -> System:
    """Return a system of the table with one term, of a strength that suits it."""
    if strength is None:
        strength = STRENGTHS.get(term, 0.3)
    values = TABLE[name].model_dump()
    values["breaking"] = [{"kind": term, "strength": strength}]
    return type(TABLE[name]).model_validate(values)


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
    ("name", "term"), PAIRS, ids=[f"{name}-{term}" for name, term in PAIRS]
)
def test_the_solver_keeps_what_the_table_says_and_nothing_else(
    name: str, term: str
) -> None:
    one = broken(name, term)
    states, environment, grid = states_of(one)
    phi = one.solver(grid, environment, one.default_dt)
    found = defects(phi, states, one.probes(grid), one.action(grid))
    kept = {d.element.name: d.largest for d in found if one.keeps(d.element)}
    lost = {d.element.name: d.mean for d in found if not one.keeps(d.element)}
    assert max(kept.values(), default=0.0) <= 2e-12, kept
    assert min(lost.values(), default=1.0) >= 1e-7, lost


def invariants_at(name: str, term: str, strength: float) -> dict[str, Tensor]:
    """Return each invariant over a few frames, at a strength, from the same states."""
    one = broken(name, term, strength)
    start, _, grid = states_of(broken(name, term))
    environment = one.sample_environment(grid, np.random.default_rng(0))
    run = simulate(
        one, grid, start, torch.from_numpy(environment)[None],
        dt=one.default_dt, num_frames=5,
    )  # fmt: skip
    sizes = measured_sizes(one, grid, start, torch.from_numpy(environment)[None])[1]
    return {name: v[:, -1] / sizes[name] for name, v in run.invariants.items()}


ONLY_INVARIANTS = [
    (name, term)
    for name, term in PAIRS
    if TABLE[name].survivors == broken(name, term).survivors
    and (name, term) != ("plume", "obstacle")
]
"""Terms that leave all motions of the grid; a radius in cells is no small strength."""
CONTROLS = {("kdv", "frame")}
"""Those that leave the invariants too."""


@pytest.mark.parametrize(
    ("name", "term"),
    ONLY_INVARIANTS,
    ids=[f"{name}-{term}" for name, term in ONLY_INVARIANTS],
)
def test_what_breaks_invariants_alone_does_so_linearly(name: str, term: str) -> None:
    unit = 1e-2 * STRENGTHS.get(term, 0.3)
    strengths = [unit, 2 * unit, 4 * unit]
    intact, *moved = (invariants_at(name, term, s) for s in (0.0, *strengths))
    number = 0
    for invariant, value in intact.items():
        drifts = [float((one[invariant] - value).abs().max()) for one in moved]
        if drifts[-1] <= 1e-12:
            continue
        slope = np.polyfit(np.log(strengths), np.log(drifts), 1)[0]
        assert slope == pytest.approx(1.0, abs=0.05), invariant
        number += 1
    assert (number == 0) == ((name, term) in CONTROLS)


@pytest.mark.parametrize("name", TABLE)
def test_strength_zero_is_the_intact_system_bit_for_bit(name: str) -> None:
    """Where a term adds no field; fields of their own are tested with the system."""
    intact = TABLE[name]
    states, environment, grid = states_of(intact)
    expected = intact.solver(grid, environment, intact.default_dt)(states)
    compared = 0
    for term in (term for other, term in PAIRS if other == name):
        zero = broken(name, term, 0.0)
        if zero.fields != intact.fields:
            continue
        rng = np.random.default_rng(0)
        own = torch.from_numpy(zero.sample_environment(grid, rng))[None]
        found = zero.solver(grid, own, zero.default_dt)(states)
        assert torch.equal(found, expected), term
        compared += 1
    assert compared >= 2


REFUSED = {"rigid_body": "networks are for grids of"}
"""Systems that a convolutional network cannot learn, and what says so."""


@pytest.mark.parametrize("case", TABLE)
def test_from_recipe_to_files_and_back(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, name = tmp_path / "data", TABLE[case].kind
    own = TABLE[case].model_dump(exclude_defaults=True)
    words = [name, "--frames", "3", "--train", "2", "--valid", "1", "--test", "2"]
    if name in RESOLUTION:
        words += ["--resolution", str(RESOLUTION[name])]
    settings = [f"{key}={json.dumps(value)}" for key, value in own.items()]
    for setting in settings + SMALL.get(name, []):
        words += ["--set", setting]
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
    if name in REFUSED:
        words = ["train", "--data", str(folder), "--model", "cnn"]
        assert main([*words, "--out", str(tmp_path / "run")]) == 2
        assert REFUSED[name] in capsys.readouterr().err
