"""The heat solver against exact solutions, its media and terms, and bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import (
    drawn_environment,
    no_environment,
    observed_order,
    relative_difference,
)
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg

from pde_sym.arrays import ArrayFile
from pde_sym.errors import InputError, SimulationError
from pde_sym.flux_form import FluxForm, face_mean
from pde_sym.grid import PeriodicGrid
from pde_sym.initial_conditions import RandomField
from pde_sym.simulate import rollout
from pde_sym.systems import Heat
from pde_sym.systems.heat_terms import (
    Anisotropy,
    Bubbles,
    Capacity,
    Drift,
    Nonlinear,
    Sink,
    Source,
    disk_fraction,
)
from pde_sym.systems.patterns import bump

Array = NDArray[np.float64]


# Exact solutions --------------------------------------------------------------------


@pytest.mark.parametrize("mode", [(1, 0), (0, 3), (2, 5)])
def test_discrete_fourier_decay(mode: tuple[int, int]) -> None:
    grid = PeriodicGrid(shape=(16, 24), lengths=(1.0, 1.7))
    system, dt = Heat(conductivity=0.7), 3e-3
    x, y = grid.mesh()
    phase = mode[0] * x / grid.lengths[0] + mode[1] * y / grid.lengths[1]
    u = torch.from_numpy(np.cos(2 * np.pi * phase + 0.3))[None, None]
    after = rollout(system.solver(grid, no_environment(grid), dt), u, 4)[:, -1]
    expected = u * np.exp(-4 * dt * system.mode_decay(grid, mode))
    assert relative_difference(after, expected) <= 1e-12


def test_mode_decay_tends_to_the_continuous_rate_at_second_order() -> None:
    sizes, errors = [32, 64, 128, 256], []
    exact = 0.7 * (2 * np.pi) ** 2 * (3**2 + 2**2)
    for n in sizes:
        rate = Heat(conductivity=0.7).mode_decay(PeriodicGrid.square(n), (3, 2))
        errors.append(abs(rate - exact))
    assert observed_order([1 / n for n in sizes], errors) == pytest.approx(2, abs=0.02)


@pytest.mark.parametrize("angle", [0.0, 30.0, 45.0])
def test_anisotropic_decay(angle: float) -> None:
    """``exp(-k0 (k^2 + eps (k_x'^2 - k_y'^2)) t)``, at second order in the spacing."""
    term, mode, time = Anisotropy(strength=0.6, angle=angle), (2, 1), 5e-3
    k = 2 * np.pi * np.array(mode)
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    along, across = cos * k[0] + sin * k[1], -sin * k[0] + cos * k[1]
    rate = k @ k + 0.6 * (along**2 - across**2)
    sizes, errors = [16, 32, 64], []
    for n in sizes:
        grid = PeriodicGrid.square(n)
        x, y = grid.mesh()
        u = torch.from_numpy(np.cos(2 * np.pi * (mode[0] * x + mode[1] * y)))
        phi = Heat(breaking=(term,)).solver(grid, no_environment(grid), time)
        amplitude = (phi(u[None, None])[0, 0] * u).sum() / u.square().sum()
        measured = -torch.log(amplitude) / time
        errors.append(abs(float(measured) - rate) / rate)
    assert errors[-1] < 5e-3
    assert observed_order([1 / n for n in sizes], errors) == pytest.approx(2, abs=0.1)


def test_uniform_sink_only_damps() -> None:
    """``u = e^{-eps t} u_free``."""
    grid, dt = PeriodicGrid.square(16), 2e-3
    u = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    free = Heat().solver(grid, no_environment(grid), dt)
    damped = Heat(breaking=(Sink(strength=40.0),)).solver(
        grid, no_environment(grid), dt
    )
    assert relative_difference(damped(u), np.exp(-40.0 * dt) * free(u)) <= 1e-13


def test_constant_drift_only_moves() -> None:
    """``u(x, t) = u_free(x - eps b t, t)``, at second order in the spacing."""
    term, time = Drift(strength=20.0, angle=30.0), 4e-3
    shift = 20.0 * time * np.array([np.cos(np.pi / 6), np.sin(np.pi / 6)])
    sizes, errors = [16, 32, 64], []
    for n in sizes:
        grid = PeriodicGrid.square(n)
        x, y = grid.mesh()
        wave = lambda x, y: np.cos(2 * np.pi * (x + y)) + np.sin(2 * np.pi * x)  # noqa: E731
        decay = [np.exp(-((2 * np.pi) ** 2) * m * time) for m in (2, 1)]
        moved = decay[0] * np.cos(2 * np.pi * (x + y - shift.sum()))
        moved += decay[1] * np.sin(2 * np.pi * (x - shift[0]))
        phi = Heat(breaking=(term,)).solver(grid, no_environment(grid), time)
        after = phi(torch.from_numpy(wave(x, y))[None, None])
        errors.append(relative_difference(after[0, 0], torch.from_numpy(moved)))
    assert errors[-1] < 2e-3
    assert observed_order([1 / n for n in sizes], errors) == pytest.approx(2, abs=0.1)


def test_steady_state_balances_the_source() -> None:
    """With a balanced source the state tends to ``div(kappa grad u) + q = 0``."""
    grid = PeriodicGrid.square(16)
    system = Heat(breaking=(Source(strength=50.0, balanced=True),))
    environment = drawn_environment(system, grid)
    phi = system.solver(grid, environment, 0.5)
    steady = rollout(phi, torch.zeros(1, 1, 16, 16, dtype=torch.float64), 3)[:, -1]
    rate = system.operator(grid, environment).rate(steady[:, 0])
    assert rate.abs().max() <= 1e-9 * environment.abs().max()
    assert steady.abs().max() > 0.1


# Media ------------------------------------------------------------------------------


def effective_conductivity(kappa: Array, axis: int) -> float:
    """Return the mean flux through a cell of unit mean gradient along `axis`.

    Solves the steady cell problem with the solver's own face conductances.
    """
    n = kappa.shape[0]
    field = torch.from_numpy(kappa)[None]
    faces = {-2: face_mean(field, -2)[0].numpy(), -1: face_mean(field, -1)[0].numpy()}
    operator = FluxForm(face_mean(field, -2), face_mean(field, -1))

    def apply(u: Array) -> Array:
        rate = operator.homogeneous(torch.from_numpy(u.reshape(1, n, n)))
        return -rate.numpy().ravel()

    normal = -2 + axis
    load = (faces[normal] - np.roll(faces[normal], 1, normal)).ravel() / n
    matrix = LinearOperator((n * n, n * n), apply)
    u, status = cg(matrix, load, rtol=1e-10, maxiter=20000)
    assert status == 0
    u = u.reshape(n, n)
    gradient = (np.roll(u, -1, normal) - u) * n + 1.0
    return float((faces[normal] * gradient).mean())


def rayleigh(f: float, ratio: float) -> float:
    """Return the conductivity of a square array of disks (Rayleigh 1892).

    ``1 + 2 f / (c - f - 0.305827 f^4 c / (c^2 - 1.402958 f^8) - 0.013362 f^8 / c)``
    with ``c = 1/b``, for area fraction f and ``b = (ratio - 1) / (ratio + 1)``.
    """
    b = (ratio - 1) / (ratio + 1)
    third = 0.305827 * f**4 / b / (1 / b**2 - 1.402958 * f**8)
    return 1 + 2 * f / (1 / b - f - third - 0.013362 * f**8 * b)


@pytest.mark.parametrize(("n", "tolerance"), [(64, 0.016), (256, 0.005)])
def test_bubbles_have_rayleighs_conductivity(n: int, tolerance: float) -> None:
    f, ratio = 0.3, 0.026
    centre, radius = np.array([[0.5, 0.5]]), np.array([np.sqrt(f / np.pi)])
    fraction = disk_fraction(PeriodicGrid.square(n), centre, radius)
    assert fraction.mean() == pytest.approx(f, rel=2e-3)
    measured = effective_conductivity(1 - (1 - ratio) * fraction, axis=0)
    assert rayleigh(f, ratio) == pytest.approx(0.555896, abs=2e-6)
    assert measured == pytest.approx(rayleigh(f, ratio), rel=tolerance)
    # The formula is told apart from Maxwell's dilute one times a wrong contrast.
    assert measured != pytest.approx(rayleigh(f, 10 * ratio), rel=tolerance)


def test_keller_duality() -> None:
    """``k_x(k1, k2) k_y(k2, k1) = k1 k2`` for disks of k2 in a matrix of k1."""
    fraction = disk_fraction(
        PeriodicGrid.square(128), np.array([[0.5, 0.5]]), np.array([0.3])
    )
    inside = fraction > 0.5
    one, two = 1.0, 0.1
    product = effective_conductivity(np.where(inside, two, one), 0)
    product *= effective_conductivity(np.where(inside, one, two), 1)
    assert product == pytest.approx(one * two, rel=5e-3)


def test_layers_conduct_like_resistors() -> None:
    kappa = np.ones((16, 16))
    kappa[4:12] = 0.1
    along = effective_conductivity(kappa, 1)
    across = effective_conductivity(kappa, 0)
    # Two of 16 faces lie on an interface and conduct like half of each side.
    assert along == pytest.approx(0.5 * 1.1, rel=0.15)
    assert 1 / across == pytest.approx(0.5 * (1 + 10), rel=1e-9)


def test_maximum_principle_with_bubbles(rng: np.random.Generator) -> None:
    grid = PeriodicGrid.square(32)
    system = Heat(breaking=(Bubbles(strength=0.95),))
    environment = drawn_environment(system, grid, rng)
    u = torch.from_numpy(rng.uniform(-1, 1, (1, 1, 32, 32)))
    frames = rollout(system.solver(grid, environment, 1e-4), u, 10)
    highest, lowest = frames.amax((0, 2, 3, 4)), frames.amin((0, 2, 3, 4))
    assert (highest.diff() <= 1e-13).all()
    assert (lowest.diff() >= -1e-13).all()
    assert highest[-1] < 0.9 * highest[0]


def test_bubbles_on_a_finer_grid_are_the_same_bubbles() -> None:
    term = Bubbles(strength=0.9)
    coarse, fine = (
        term.pattern(PeriodicGrid.square(n), np.random.default_rng(1)) for n in (32, 96)
    )
    assert coarse.mean() == pytest.approx(fine.mean(), rel=1e-2)
    assert 0.05 < fine.mean() < 0.4
    assert coarse.min() == 0.0
    assert coarse.max() == 1.0


# Composition and independence -------------------------------------------------------


def test_a_trajectory_does_not_depend_on_its_batch() -> None:
    grid = PeriodicGrid.square(16)
    for terms in ((Bubbles(strength=0.9),), (Nonlinear(strength=0.1),)):
        system, rng = Heat(breaking=terms), np.random.default_rng(0)
        drawn = [system.sample_environment(grid, rng) for _ in range(3)]
        environment = torch.from_numpy(np.stack(drawn))
        u = torch.from_numpy(np.stack([RandomField(modes=4).sample(grid, rng)] * 3))
        u = u + torch.arange(3.0)[:, None, None, None] / 10
        together = system.solver(grid, environment, 1e-3)(u)
        alone = system.solver(grid, environment[2:], 1e-3)(u[2:])
        assert torch.equal(together[2:], alone)


def test_systems_survive_json_and_hash_alike() -> None:
    system = Heat(breaking=(Bubbles(strength=0.5, count=3), Drift(strength=1.0)))
    again = Heat.model_validate_json(system.model_dump_json())
    assert again == system
    assert hash(again) == hash(system)
    assert json.loads(system.model_dump_json())["breaking"][0]["kind"] == "bubbles"


def test_own_arrays(tmp_path: Path) -> None:
    grid = PeriodicGrid.square(8)
    pattern = bump(grid)
    np.save(tmp_path / "g.npy", pattern)
    term = Bubbles.parse(
        {"strength": 0.5, "field": str(tmp_path / "g.npy")}, where="bubbles"
    )
    system = Heat(breaking=(term,), conductivity=2.0)
    environment = system.sample_environment(grid, np.random.default_rng(0))
    assert np.allclose(environment[0], 2.0 * (1 - 0.5 * pattern))
    stored = Heat.model_validate_json(system.model_dump_json())
    assert "npy" not in system.model_dump_json()
    assert stored == system
    with pytest.raises(InputError, match="give its file again"):
        stored.sample_environment(grid, np.random.default_rng(0))
    np.save(tmp_path / "initial.npy", np.stack([pattern, -pattern]))
    law = RandomField.parse({"field": str(tmp_path / "initial.npy")}, where="initial")
    rng = np.random.default_rng(0)
    assert np.array_equal(law.sample(grid, rng, 1)[0], -pattern)
    with pytest.raises(InputError, match="trajectory 2"):
        law.sample(grid, rng, 2)


def test_random_fields_are_the_same_function_on_every_grid() -> None:
    law = RandomField(modes=5, offset=0.3)
    coarse, fine = (
        law.sample(PeriodicGrid.square(n), np.random.default_rng(7)) for n in (16, 64)
    )
    assert np.allclose(fine[:, ::4, ::4], coarse, atol=1e-13)
    assert fine.var() == pytest.approx(1.0, abs=1e-12)
    assert abs(fine.mean()) <= 0.3


# Bad input --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"conductivity": 0.0}, "conductivity"),
        ({"conductivity": float("nan")}, "conductivity"),
        ({"breaking": [{"kind": "bubbles", "strength": 1.5}]}, "strength"),
        ({"breaking": [{"kind": "bubbles", "strength": -0.1}]}, "strength"),
        ({"breaking": [{"kind": "bubble"}]}, "bubble"),
        ({"breaking": [{"kind": "sink"}, {"kind": "sink"}]}, "at most once"),
        ({"breaking": [{"kind": "drift", "angel": 3}]}, "angel"),
        ({"kappa": 1.0}, "kappa"),
    ],
)
def test_bad_parameters_are_named(values: dict, named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        Heat.parse(values, where="heat")
    assert "\n" not in str(caught.value)


def array_file(path: Path, values: Array) -> ArrayFile:
    """Write an array and name it as a recipe does."""
    np.save(path, values)
    return ArrayFile.parse(str(path), where="array")


def test_impossible_media_are_refused(tmp_path: Path) -> None:
    grid = PeriodicGrid.square(8)
    high = array_file(tmp_path / "g.npy", np.full((8, 8), 3.0))
    low = array_file(tmp_path / "c.npy", np.full((8, 8), -1.0))
    for term, message in (
        (Bubbles(strength=0.5, field=high), "conductivity must be"),
        (Capacity(strength=2.0, field=low), "capacity must be"),
    ):
        system = Heat(breaking=(term,))
        environment = drawn_environment(system, grid)
        with pytest.raises(InputError, match=message):
            system.solver(grid, environment, 1e-3)
    with pytest.raises(InputError, match="Peclet"):
        Heat(breaking=(Drift(strength=1e3),)).solver(grid, no_environment(grid), 1e-3)
    with pytest.raises(InputError, match="expected an environment"):
        Heat().solver(grid, environment, 1e-3)


@pytest.mark.parametrize("content", [b"", b"not numpy", b"\x93NUMPY\x01\x00v\x00{"])
def test_damaged_arrays_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.npy"):
        ArrayFile.parse(str(path), where="array")


def test_arrays_with_objects_or_nan_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "n.npy", np.array([np.nan]))
    for name in ("o", "n"):
        with pytest.raises(InputError):
            ArrayFile.parse(str(tmp_path / f"{name}.npy"), where="array")


def test_a_rollout_that_blows_up_names_step_and_trajectory() -> None:
    def step(u: torch.Tensor) -> torch.Tensor:
        return torch.where(u > 3, torch.inf, 2 * u)

    start = torch.tensor([0.1, 1.0])[:, None, None, None]
    with pytest.raises(SimulationError, match=r"trajectory 1 .* step 3 of 9"):
        rollout(step, start, 9)
