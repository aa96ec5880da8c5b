"""The library as a user calls it: arrays in and out, own networks, own data."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import pde_sym
from data_gen.build import build
from data_gen.recipes import resolve
from pde_sym.errors import InputError, SimulationError
from pde_sym.nn.families import CNNConfig
from pde_sym.seeds import Split
from pde_sym.simulate import rollout

COUNTS = {Split.TRAIN: 4, Split.VALID: 2, Split.TEST: 2}
QUICK = pde_sym.TrainConfig(updates=40, batch_size=4, evaluate_every=20)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api") / "heat"
    options = {"resolution": 16, "frames": 6, "seed": 3}
    build(resolve("heat", ["bubbles=0.5"], options=options), COUNTS, folder)
    return folder


# system -> simulate -> array


def test_simulate_gives_what_generate_stores(data: Path) -> None:
    simulation = pde_sym.Heat.broken(bubbles=0.5).simulate(
        2, frames=6, resolution=16, seed=3, split="test"
    )
    stored = pde_sym.Samples.read(data, "test").states.numpy()
    states = np.asarray(simulation, dtype=np.float32)
    np.testing.assert_array_equal(states, stored)
    intact = pde_sym.Heat().simulate(2, frames=6, resolution=16, seed=3, split="test")
    np.testing.assert_array_equal(np.asarray(intact)[:, 0], simulation.states[:, 0])
    assert np.abs(np.asarray(intact) - simulation.states.numpy()).max() > 1e-3


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_a_simulation_goes_on_from_an_array(kind) -> None:
    system = pde_sym.Heat.broken(bubbles=0.5)
    whole = system.simulate(2, frames=5, resolution=16)
    half = system.simulate(
        frames=3, initial=kind(whole.states[:, 2]), environment=kind(whole.environment)
    )
    torch.testing.assert_close(half.states, whole.states[:, 2:], rtol=0, atol=1e-13)
    other = system.simulate(frames=3, initial=kind(whole.states[:, 2]), seed=9)
    assert (other.states - half.states).abs().max() > 1e-4


def test_xarray_goes_out_and_comes_in() -> None:
    pytest.importorskip("xarray")
    flow = pde_sym.Flow().simulate(2, frames=3, resolution=16)
    table = flow.to_xarray()
    assert table["velocity"].dims == ("trajectory", "time", "x", "y", "component_0")
    np.testing.assert_array_equal(table["x"], flow.grid.coordinates(0))
    np.testing.assert_array_equal(table["time"], flow.times)
    channels = flow.fields.slices()["velocity"]
    v_y = flow.states[:, :, channels][:, :, 1]
    np.testing.assert_array_equal(table["velocity"][..., 1], v_y)
    again = pde_sym.Flow().simulate(frames=2, initial=table.isel(time=1))
    torch.testing.assert_close(again.states[:, 0], flow.states[:, 1], rtol=0, atol=0)
    with pytest.raises(InputError, match="'velocity' is missing"):
        pde_sym.Flow().simulate(frames=2, initial=table.drop_vars("velocity"))


def test_without_xarray_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(InputError, match="pip install"):
        pde_sym.Heat().simulate(frames=2, resolution=16).to_xarray()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 3, 16, 16)), "expected 1 channels"),
        (np.zeros((16, 16)), "expected 1 channels"),
        (np.zeros((2, 1, 16, 8)), "as many points along each axis"),
        (np.full((1, 1, 8, 8), np.nan), "not finite"),
    ],
)
def test_arrays_that_do_not_fit_are_one_line(values, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pde_sym.Heat().simulate(frames=2, initial=values)


def test_unknown_terms_and_strengths_are_one_line() -> None:
    with pytest.raises(InputError, match="bubble"):
        pde_sym.Heat.broken(bubble=0.5)
    with pytest.raises(InputError, match="strength"):
        pde_sym.Heat.broken(bubbles=-1)


# folder -> Dataset -> DataLoader


def test_a_data_loader_serves_pairs_of_frames(data: Path) -> None:
    dataset = pde_sym.Dataset(data, "train")
    batches = list(DataLoader(dataset, batch_size=5))
    states = torch.cat([batch["states"] for batch in batches])
    assert states.shape == (4 * 5, 2, 1, 16, 16)
    torch.testing.assert_close(states[0, 1], states[1, 0], rtol=0, atol=0)


# own network -> fit, evaluate, diagnose


def convolution() -> nn.Module:
    return nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")


def test_an_own_network_is_fitted_evaluated_and_diagnosed(data: Path) -> None:
    rows = []
    model = pde_sym.fit(convolution(), data, QUICK, report=rows.append)
    assert [row["update"] for row in rows if "valid_vrmse" in row] == [0, 20, 40]
    errors = pde_sym.evaluate(model, data)
    assert errors.one_step_vrmse < 0.7 * errors.persistence_vrmse[0]
    assert len(errors.vrmse) == 5
    assert errors.times[-1] == pytest.approx(5 * pde_sym.Dataset(data, "test").dt)
    found = {d.element: d for d in pde_sym.diagnose(model, data).defects}
    assert found["shift 0.0625, 0"].model < 1e-5 < 1e-3 < found["turn 90"].model


def test_the_solver_itself_has_no_error_and_its_own_defect(data: Path) -> None:
    """Positive control: a model that is the solver, as a plain function."""
    samples = pde_sym.Samples.read(data)
    environment = samples.environment[:1]
    phi = samples.system.solver(samples.grid, environment, samples.dt)

    def model(state: Tensor) -> Tensor:
        return phi(state.double()).float()

    errors = pde_sym.evaluate(model, samples, steps=3)
    assert max(errors.one_step_vrmse, *errors.vrmse) < 1e-5
    diagnosis = pde_sym.diagnose(model, samples)
    for defect in diagnosis.defects:
        assert defect.model == pytest.approx(defect.solver, rel=1e-3)
        assert defect.solver is not None
        assert defect.solver > 1e-3
        assert not defect.survives
    heat = diagnosis.invariants[0]
    assert max(heat.model_drift) < 1e-6


def test_a_simulation_is_data_too(data: Path) -> None:
    """On the same trajectories as the folder: the same numbers."""
    simulation = pde_sym.Heat.broken(bubbles=0.5).simulate(
        2, frames=6, resolution=16, seed=3, split="test"
    )

    def still(state: Tensor) -> Tensor:
        return state

    in_memory, on_disk = (pde_sym.evaluate(still, d) for d in (simulation, data))
    assert in_memory.vrmse == on_disk.vrmse == on_disk.persistence_vrmse
    with pytest.raises(InputError, match="expected 1 to 5"):
        pde_sym.evaluate(still, data, steps=6)


def test_rollouts_that_grow_too_far_are_one_line(data: Path) -> None:
    """Their states are finite throughout, their squares or invariants are not."""
    with pytest.raises(SimulationError, match="until its VRMSE was not finite"):
        pde_sym.evaluate(lambda u: 1e6 * u, data)
    waves = pde_sym.KdV().simulate(2, frames=3, resolution=32)
    with pytest.raises(SimulationError, match=r"until its drift of P. was"):
        pde_sym.diagnose(lambda u: 1e17 * u, waves)
    drift = pde_sym.diagnose(lambda u: 1e5 * u, waves).invariants[-1].model_drift
    assert 1e40 < drift[-1] < float("inf")


def test_given_fields_reach_a_model() -> None:
    simulation = pde_sym.Heat.broken(bubbles=0.5).simulate(
        3, frames=4, resolution=16, given=True
    )
    seen = []

    def model(state: Tensor, given: Tensor) -> Tensor:
        seen.append(given)
        return state

    pde_sym.evaluate(model, simulation)
    expected = simulation.environment.float()
    torch.testing.assert_close(seen[0], expected, rtol=0, atol=0)
    assert (expected[0] - expected[1]).abs().max() > 0.1
    # State and environment move together, and then nothing is broken.
    for defect in pde_sym.diagnose(model, simulation).defects:
        assert defect.survives
        assert defect.solver is not None
        assert max(defect.solver, defect.model) < 1e-6


def test_fit_goes_on_in_its_folder_and_takes_families(
    data: Path, tmp_path: Path
) -> None:
    family = CNNConfig(width=4, depth=2, kernel_size=3)
    first = pde_sym.fit(family, data, QUICK, out=tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").exists()
    rows = []
    second = pde_sym.fit(family, data, QUICK, out=tmp_path / "run", report=rows.append)
    assert [row["update"] for row in rows] == [40]
    start = pde_sym.Samples.read(data).states[:, 0]
    with torch.no_grad():
        a, b = (rollout(model, start, 2) for model in (first, second))
    torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Conv2d(2, 1, 3, padding=1), r"does not take an input \(1, 1, 16, 16\)"),
        (nn.Conv2d(1, 1, 3), r"expected an output \(1, 1, 16, 16\) .*14, 14\)"),
        (nn.Conv2d(1, 2, 3, padding=1), "got .1, 2, 16, 16."),
    ],
)
def test_a_network_that_does_not_fit_is_one_line(
    data: Path, net: nn.Module, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        pde_sym.fit(net, data, QUICK)


def test_evaluation_leaves_a_network_as_it_was(data: Path) -> None:
    model = pde_sym.fit(convolution(), data, QUICK).train()
    pde_sym.evaluate(model, data)
    assert model.training


# The import


def test_importing_the_package_loads_nothing() -> None:
    program = (
        "import sys; before = set(sys.modules); import pde_sym; dir(pde_sym)\n"
        "print(*(set(sys.modules) - before))\n"
        "for name in pde_sym.__all__: assert getattr(pde_sym, name) is not None\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = {name for name in done.stdout.split() if name.startswith("pde_sym")}
    assert loaded == {"pde_sym"}
    assert not {"numpy", "torch", "pydantic"} & {*done.stdout.split()}


def test_other_names_are_errors() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        pde_sym.nonsense  # noqa: B018
