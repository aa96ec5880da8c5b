"""Data at default settings: accurate in time, resolved in space, budgets closed."""

import functools
from typing import Any

import pytest
import torch
from helpers import drawn_environment, drawn_states, no_environment
from torch import Tensor

from pde_sym.simulate import Trajectories, simulate
from pde_sym.systems import flow_solver
from pde_sym.systems.flow import Flow
from pde_sym.systems.flow_dynamics import spectrum_of
from pde_sym.systems.flow_initial import DoubleShearLayer, RandomVorticity
from pde_sym.systems.flow_terms import (
    Beta,
    Buoyancy,
    Drag,
    Kolmogorov,
    MeanFlow,
    Obstacle,
    Topography,
    Viscosity,
)

SYSTEMS = {"flow": Flow(), "with tracer": Flow(tracer=True)}
BROKEN = {
    term.kind: Flow(breaking=(term,))
    for term in (
        Beta(strength=50.0),
        Drag(strength=1.0),
        Kolmogorov(strength=3.0),
        Topography(strength=10.0, profile="random"),
        MeanFlow(strength=1.0),
        Viscosity(strength=3.0),
        Obstacle(strength=20.0),
        Buoyancy(strength=5.0),
    )
}
FRAMES, COUNT = 50, 8
FIELDS = [("flow", "velocity"), ("flow", "vorticity"), ("with tracer", "tracer")]


@functools.cache
def data(kind: str, refinement: int = 1) -> Trajectories:
    """Return default data, with that many steps for one."""
    system = (SYSTEMS | BROKEN)[kind]
    grid = system.grid(system.default_resolution, system.default_length)
    bounds = {n: getattr(flow_solver, n) for n in ("COURANT", "STRAIN", "RATE")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in bounds.items():
            patch.setattr(flow_solver, name, value / refinement)
        return simulate(
            system,
            grid,
            drawn_states(RandomVorticity(), grid, COUNT, system=system),
            drawn_environment(system, grid),
            dt=system.default_dt,
            num_frames=FRAMES,
        )


def field(kind: str, name: str, refinement: int = 1) -> Tensor:
    """Return a field about its mean over the box, ``(batch, frames, points)``."""
    channels = (SYSTEMS | BROKEN)[kind].fields.slices()[name]
    values = data(kind, refinement).states[:, :, channels]
    return (values - values.mean((-2, -1), keepdim=True)).flatten(2)


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_every_frame_is_exact_in_time(kind: str, name: str) -> None:
    found, finer = (field(kind, name, refinement) for refinement in (1, 2))
    errors = (found - finer).norm(dim=2) / finer.norm(dim=2)
    assert errors.max() <= 1e-6
    # The two are other computations, which differ by more than round-off.
    assert errors[:, -1].min() > 1e-11


@pytest.mark.slow
@pytest.mark.parametrize("kind", BROKEN)
def test_every_frame_is_exact_in_time_with_a_term(kind: str) -> None:
    test_every_frame_is_exact_in_time(kind, "vorticity")


@pytest.mark.slow
@pytest.mark.parametrize("kind", BROKEN)
def test_budgets_close_with_a_term(kind: str) -> None:
    for name, tolerance in (("energy", 2e-9), ("enstrophy", 2e-8)):
        value, budget = data(kind).invariants[name], data(kind).budgets[name]
        missed = (value - value[:, :1] - budget).abs().amax(1)
        assert (missed / value.amax(1)).max() <= tolerance


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_every_frame_is_resolved(kind: str, name: str) -> None:
    """The outermost tenth of the modes holds little of the energy or variance."""
    channels = SYSTEMS[kind].fields.slices()[
        "velocity" if name == "vorticity" else name
    ]
    share = tail(data(kind).states[:, :, channels])
    assert share.max() <= 1e-8
    assert share.max() > 1e-16


def tail(fields: Tensor) -> Tensor:
    """Return the part of ``(..., channels, 64, 64)`` in the outermost modes."""
    spectrum = spectrum_of(Flow.grid(64, Flow.default_length))
    hat = spectrum.forward(fields)
    power = spectrum.weights * (hat.abs() ** 2).sum(-3) * (spectrum.square > 0)
    outer = spectrum.square.sqrt() > 0.9 * spectrum.largest
    return (power * outer).sum((-2, -1)) / power.sum((-2, -1))


def test_the_default_shear_layers_are_resolved() -> None:
    grid = Flow.grid(64, Flow.default_length)
    assert tail(drawn_states(DoubleShearLayer(), grid)[:, :2]).max() <= 1e-8
    sharp = drawn_states(DoubleShearLayer(sharpness=80), grid)
    assert tail(sharp[:, :2]).min() >= 1e-5


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_frames_differ_by_a_few_percent(kind: str, name: str) -> None:
    values = field(kind, name)
    changes = (values[:, 1:] - values[:, :-1]).norm(dim=2) / values[:, :-1].norm(dim=2)
    assert changes.mean(0).min() >= 0.02
    assert changes.max() <= 0.2


@pytest.mark.parametrize("kind", SYSTEMS)
def test_budgets_close(kind: str) -> None:
    tolerances: dict[str, Any] = {"energy": 1e-9, "tracer_variance": 2e-8}
    run = data(kind)
    for name, value in run.invariants.items():
        change = value - value[:, :1]
        missed = (change - run.budgets[name]).abs().amax(1)
        if name.startswith("momentum") or name == "divergence":
            assert missed.max() <= 1e-13
        else:
            assert (missed / value[:, 0].abs()).max() <= tolerances.get(name, 1e-8)
        if name in ("energy", "enstrophy", "tracer_variance"):
            assert (change[:, -1] <= -0.1 * value[:, 0]).all()


def test_the_velocity_of_every_frame_is_free_of_divergence() -> None:
    states, grid = data("flow").states, Flow.grid(64, 1.0)
    assert data("flow").invariants["divergence"].max() <= 1e-12
    s = spectrum_of(grid)
    u, v = s.forward(states[:, :, :2]).unbind(2)
    curl = s.inverse(s.ikx * v - s.iky * u)
    assert torch.allclose(curl, states[:, :, 2], atol=1e-11, rtol=0)
    # A gradient is seen: 2 pi (1 + 2 * 2) sin(x + 2 y) has the rms below.
    x, y = (2 * torch.pi * torch.from_numpy(m) for m in grid.mesh())
    push = torch.stack([(x + 2 * y).cos(), 2 * (x + 2 * y).cos(), 0 * x])
    found = Flow().measure(states[:, 3] + push, grid, no_environment(grid))
    exact = 2 * torch.pi * 5 / 2**0.5
    assert (found["divergence"] - exact).abs().max() <= 1e-11
