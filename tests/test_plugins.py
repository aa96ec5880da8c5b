"""Systems of other packages: the worked example, and those that do not load."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
import yaml

from pde_sym.diagnostics import Action, defects, probes
from pde_sym.groups import Subgroup, point_group
from pde_sym.initial_conditions import RandomField
from pde_sym.systems import BUILT_IN, Heat, System
from pde_sym.systems.plugins import with_plugins

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "reaction_diffusion"


@pytest.fixture(scope="module")
def example() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        import pde_sym_reaction_diffusion as module  # type: ignore[import-not-found]

        yield module


class Point:
    """An entry point, as `importlib.metadata` has them."""

    def __init__(self, name: str, found: Any) -> None:
        self.name, self.value, self.found = name, f"stranger:{name}", found

    def load(self) -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


# The example


def test_the_example_is_used_without_touching_the_library(tmp_path: Path) -> None:
    """Installed beside a package that is not there any more."""
    installed = tmp_path / "rd-0.1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: rd\nVersion: 1\n")
    declared = (EXAMPLE / "pyproject.toml").read_text().split('"pde_sym.systems"]')[1]
    line = declared.strip().splitlines()[0].replace('"', "")
    points = f"[pde_sym.systems]\n{line}\ngone = nowhere:Nothing\n"
    (installed / "entry_points.txt").write_text(points)
    program = """
import sys
from experiments.__main__ import main
def run(words, *more):
    assert main([*words.split(), *more]) == 0, words
run("systems reaction_diffusion")
assert "torch" not in sys.modules
run("generate reaction_diffusion --break wind=0.5 --resolution 16 --frames 4 --train 3"
    " --valid 1 --test 2 --out data")
run("verify data")
run("train --data data --model strict --group D4 --width 2 --updates 2 --out run",
    "--set", "model.depth=2", "--set", "training.batch_size=2")
run("evaluate run")
run("plot defect run --out defect.png")
"""
    path = os.pathsep.join([str(ROOT), str(EXAMPLE), str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": path},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "wind         u_t = D Lap u" in done.stdout
    assert "data: sound" in done.stdout
    assert (tmp_path / "defect.png").read_bytes().startswith(b"\x89PNG")
    errors = [x for x in done.stderr.splitlines() if "nowhere" in x]
    assert errors == [
        "pde_sym: the system gone (nowhere:Nothing) is left out: "
        "ModuleNotFoundError: No module named 'nowhere'"
    ]
    assert "Traceback" not in done.stderr
    statistics = yaml.safe_load((tmp_path / "data" / "stats.yaml").read_text())
    assert list(statistics["mean"]) == ["phase"]


@pytest.mark.parametrize("angle", [0.0, 45.0, 90.0])
def test_its_wind_breaks_what_it_says(example: Any, angle: float) -> None:
    wind = example.Wind(strength=0.5, angle=angle)
    system = example.ReactionDiffusion(breaking=(wind,))
    run = system.simulate(2, frames=2, resolution=16)
    phi = system.solver(run.grid, run.environment, run.dt)
    found = defects(
        phi, run.states[:, 0], probes(run.grid), Action(run.fields, run.grid)
    )
    for defect in found:
        assert (defect.largest < 1e-12) == system.keeps(defect.element)
        assert (defect.largest > 1e-2) != system.keeps(defect.element)
    kept = [d.element.name for d in found if system.keeps(d.element)]
    assert len(kept) == 4  # three shifts and one flip
    intact = example.ReactionDiffusion()
    assert intact.survivors == Subgroup.of("xy", point_group("D4"))


def test_its_solver_is_of_order_four_and_its_budget_closes(example: Any) -> None:
    system = example.ReactionDiffusion(breaking=(example.Wind(strength=0.5),))
    run = system.simulate(2, frames=5, resolution=16)
    change = run.invariants["mass"] - run.invariants["mass"][:, :1]
    assert change.abs().max() > 1e-3
    torch.testing.assert_close(change, run.budgets["mass"], rtol=0, atol=1e-13)
    start = run.states[:, 0]
    ends = [system.solver(run.grid, run.environment, 0.1, n)(start) for n in (1, 2, 8)]
    coarse, fine = ((u - ends[2]).abs().max().item() for u in ends[:2])
    assert 3.5 < np.log2(coarse / fine) < 4.5


def test_a_front_keeps_its_shape(example: Any) -> None:
    """``D u'' + r (u - u^3) = 0`` has the solution ``tanh(x sqrt(r / (2 D)))``.

    Two of them, far from each other, travel with a wind along x.
    """
    system = example.ReactionDiffusion(
        diffusivity=5e-4, breaking=(example.Wind(strength=0.25),)
    )
    x = np.arange(128) / 128
    scale = np.sqrt(1.0 / (2 * 5e-4))

    def front(shift: float) -> np.ndarray:
        z = (x - shift) % 1.0
        return np.tanh(scale * (z - 0.25)) * np.tanh(scale * (0.75 - z))

    initial = np.repeat(front(0.0)[:, None], 128, axis=1)[None, None]
    run = system.simulate(frames=6, dt=0.2, initial=initial)
    moved = run.states[0, -1, 0, :, 0].numpy()
    assert np.abs(moved - front(0.25)).max() < 1e-3
    assert np.abs(moved - front(0.2)).max() > 0.1


# Those that do not load


class Nameless(Heat):
    kind: str = "nameless"  # type: ignore[assignment]


class Unfinished(System):
    kind: Literal["unfinished"] = "unfinished"


class OwnField(RandomField):
    """A law under a name that another one has."""


class Borrowed(Heat):
    kind: Literal["borrowed"] = "borrowed"  # type: ignore[assignment]
    initial_laws: ClassVar[Any] = (OwnField,)


class Fine(Heat):
    kind: Literal["fine"] = "fine"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (RuntimeError("two\nlines"), "RuntimeError: two lines"),
        (ImportError("no module"), "ImportError: no module"),
        (42, "expected a subclass of System, got 42"),
        (Unfinished, "Unfinished does not define environment_fields, measure"),
        (Nameless, 'expected kind: Literal["name"] = "name"'),
        (Heat, "there is another system 'heat'"),
        (Borrowed, "there is another law of initial states 'random_field'"),
    ],
)
def test_one_that_does_not_load_is_one_line_and_the_others_go_on(
    found: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    points: Any = [Point("a_bad_one", found), Point("fine", Fine)]
    with caplog.at_level(logging.WARNING, logger="pde_sym"):
        assert with_plugins(BUILT_IN, points) == (*BUILT_IN, Fine)
    (line,) = caplog.messages
    assert line.startswith("pde_sym: the system a_bad_one (stranger:a_bad_one) is left")
    assert reason in line
    assert "\n" not in line


def test_no_plugins_no_lines(caplog: pytest.LogCaptureFixture) -> None:
    assert with_plugins(BUILT_IN, []) == BUILT_IN
    assert caplog.messages == []
