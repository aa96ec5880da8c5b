"""Heads that conserve by construction: exactly, in rollouts, for every family."""

import json

import pytest
import torch
from helpers import relative_defect, relative_difference
from tolerances import TOLERANCE
from torch import Tensor, nn
from typed_fields import pseudoscalar, vector

from pde_sym.config import canonical_json
from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.nn import (
    CNNConfig,
    FieldScale,
    IsotypicConfig,
    Leray,
    MeanKeeping,
    ModulatedConfig,
    Normalisation,
    StrictConfig,
    Surrogate,
    Task,
    relaxed_layers,
    split_parameters,
)
from pde_sym.nn.families.steerable import SteerableFamily
from pde_sym.nn.heads import (
    Head,
    divergence,
    leray,
    network_fields,
    rotated_gradient,
    streamfunction_of,
    with_head,
)
from pde_sym.simulate import rollout
from pde_sym.symmetry import GroupElement, fourier_shift, point_group

EXACT = TOLERANCE[torch.float64]
GRID = PeriodicGrid.square(12)
VELOCITY = FieldSpec.of(vector("velocity"))
FLOW = FieldSpec.of(Field(name="smoke"), *VELOCITY, Field(name="heat"))
PSI = FieldSpec.of(pseudoscalar("psi"))
GIVEN = FieldSpec.of(pseudoscalar("topography"))
ELEMENTS = [
    *point_group("D4"),
    GroupElement(shift=(0.25, 0.5)),
    GroupElement(turns=1, flip=True, shift=(0.5, 1 / 12)),
]
DIVERGENCE_FREE: tuple[Head, ...] = (
    "leray",
    "leray+mean",
    "streamfunction",
    "streamfunction+mean",
)
FAMILIES = (CNNConfig, StrictConfig, ModulatedConfig, IsotypicConfig)


def random(spec: FieldSpec, n: int = GRID.shape[0]) -> Tensor:
    return torch.randn(2, spec.num_channels, n, n, dtype=torch.float64)


def flow(n: int = GRID.shape[0]) -> Tensor:
    """Return a state whose velocity has no divergence and a mean."""
    x = random(FLOW, n)
    x[:, 1:3] = leray(x[:, 1:3])
    return x


def surrogate(
    family: type[CNNConfig] | type[StrictConfig],
    head: Head,
    task: Task,
    step: float = 0.002,
) -> Surrogate:
    """Return an untrained time step, relaxed weights and biases off zero."""
    config = family(head=head, width=2, depth=2, kernel_size=3)
    if isinstance(config, SteerableFamily):
        config = config.model_copy(update={"group": "D4"})
    net = config.build(task)
    for name, parameter in net.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter)
    for parameter in split_parameters(net)[1]:
        nn.init.normal_(parameter, std=0.1)
    scales = tuple(
        FieldScale(name=field.name, std=2.0, increment_std=step)
        for field in task.inputs
    )
    net = Surrogate(net, task, Normalisation(fields=scales)).double()
    return net.requires_grad_(False)


def relative_divergence(velocity: Tensor) -> float:
    """Return ``||div v|| / ||grad v||``, in Fourier space, Nyquist modes and all."""
    modes = torch.fft.fftfreq(velocity.shape[-1], 1 / velocity.shape[-1]).double()
    u, v = torch.fft.fft2(velocity).unbind(-3)
    mx, my = modes[:, None], modes
    slopes = torch.stack([mx * u, my * u, mx * v, my * v])
    return float((mx * u + my * v).abs().norm() / slopes.abs().norm())


# The operators.


def test_the_operators_on_known_fields() -> None:
    """psi = sin(x + 2 y): v = (2 cos, -cos); grad of it has no part left."""
    x = 2 * torch.pi * torch.arange(12, dtype=torch.float64) / 12
    phase = (x[:, None] + 2 * x)[None, None]
    psi, slope = torch.sin(phase), torch.cos(phase)
    velocity = torch.cat([2 * slope, -slope], 1)
    assert torch.allclose(rotated_gradient(psi), velocity, atol=EXACT)
    assert torch.allclose(streamfunction_of(velocity + 3), psi, atol=EXACT)
    assert torch.allclose(leray(velocity + 3), velocity + 3, atol=EXACT)
    gradient = torch.cat([slope, 2 * slope], 1)
    assert leray(gradient).abs().max() <= EXACT
    assert torch.allclose(divergence(gradient), -5 * psi, atol=EXACT)


@pytest.mark.parametrize("n", [12, 9])
def test_the_operators_are_each_others_inverses(n: int) -> None:
    v, psi = random(VELOCITY, n), random(PSI, n)
    free = leray(v)
    assert relative_difference(leray(free), free) <= EXACT
    assert relative_divergence(free) <= EXACT
    assert relative_divergence(v) > 0.1
    mean = free.mean((2, 3), keepdim=True)
    assert torch.allclose(mean, v.mean((2, 3), keepdim=True), atol=EXACT)
    assert torch.allclose(
        rotated_gradient(streamfunction_of(free)), free - mean, atol=EXACT
    )
    assert relative_divergence(rotated_gradient(psi)) <= EXACT
    # Orthogonal: what is taken away is a gradient (and modes without a partner).
    assert (free * (v - free)).sum().abs() <= EXACT * (v * v).sum()


def test_the_operators_commute_with_turns_and_flips() -> None:
    for element in ELEMENTS:
        for f, before, after in (
            (leray, VELOCITY, VELOCITY),
            (rotated_gradient, PSI, VELOCITY),
            (streamfunction_of, VELOCITY, PSI),
        ):
            x = random(before)
            assert relative_defect(f, x, element, before, GRID, after) <= EXACT
        # A streamfunction that were a scalar: flips tell.
        scalar = FieldSpec.of(Field(name="psi"))
        wrong = relative_defect(
            rotated_gradient, random(scalar), element, scalar, GRID, VELOCITY
        )
        assert (wrong > 0.5) == element.flip


# Single steps.


def test_a_kept_mean_is_kept_to_round_off() -> None:
    class Increment(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 1e3 + x

    for shape in ((3, 2, 12), (3, 2, 9, 9), (3, 2, 32, 32)):
        x = torch.randn(shape, dtype=torch.float64)
        out = MeanKeeping(Increment())(x)
        axes = tuple(range(2, x.ndim))
        assert (out.sum(axes).abs() / out.abs().sum(axes)).max() <= 1e-15
        assert Increment()(x).mean(axes).min() > 100
        assert torch.allclose(out, x - x.mean(axes, keepdim=True), atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", ["mean", *DIVERGENCE_FREE])
def test_any_family_conserves_along_a_rollout(
    family: type[CNNConfig], head: Head
) -> None:
    """A hundred steps of an untrained network."""
    breaking = Task(state=FLOW, given=GIVEN, breaks_translation=True, resolution=12)
    step, given = surrogate(family, head, breaking), random(GIVEN)
    start = flow()
    states = rollout(lambda u: step(u, given), start, 100)
    # It goes somewhere, and not to infinity.
    assert (states[:, -1] - start).abs().max() > 0.1
    assert states.abs().max() < 100
    divergences = [relative_divergence(states[:, i, 1:3]) for i in range(101)]
    means = states.mean((-2, -1))
    size = states.abs().mean((-2, -1))
    drift = ((means - means[:, :1]).abs() / size).amax((0, 1))
    if head == "mean":
        assert divergences[-1] > 1e-3
    else:
        assert max(divergences) <= EXACT
    if head.endswith("mean"):
        assert drift.max() <= 1e-14
    else:
        assert drift.min() > 1e-5


def test_without_a_head_nothing_is_conserved() -> None:
    step = surrogate(StrictConfig, "none", Task(state=FLOW))
    # Large enough for the mean of a vector to change, which quadratic terms do.
    x = 3 * flow()
    out = step(x)
    assert relative_divergence(out[:, 1:3]) > 1e-4
    assert (out - x).mean((2, 3)).abs().min() > 1e-5


@pytest.mark.parametrize("head", ["mean", *DIVERGENCE_FREE])
def test_heads_keep_the_symmetry_of_the_network(head: Head) -> None:
    strict = surrogate(StrictConfig, head, Task(state=FLOW))
    free = surrogate(CNNConfig, head, Task(state=FLOW))
    x = flow()
    for element in ELEMENTS:
        assert relative_defect(strict, x, element, FLOW, GRID) <= EXACT
        broken = relative_defect(free, x, element, FLOW, GRID)
        assert (broken > 1e-5) == bool(element.turns or element.flip)


@pytest.mark.parametrize("head", DIVERGENCE_FREE)
def test_the_step_is_the_one_the_network_asks_for(head: Head) -> None:
    """Where the network answers a flow, the head hands it on unchanged."""
    wanted = leray(random(VELOCITY))
    mean = wanted.mean((2, 3), keepdim=True)
    others = random(FieldSpec.of(FLOW.fields[0], FLOW.fields[2]))
    seen: list[Tensor] = []

    class Answer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            velocity = [wanted]
            if head.startswith("streamfunction"):
                velocity = [streamfunction_of(wanted)]
                velocity += [] if head.endswith("mean") else [mean.expand_as(wanted)]
            return torch.cat([others[:, :1], *velocity, others[:, 1:]], 1)

    state, given = network_fields(head, FLOW, GIVEN)
    x = torch.cat([flow(), random(GIVEN)], 1)
    out = with_head(head, Answer(), FLOW)(x)
    expected = torch.cat([others[:, :1], wanted, others[:, 1:]], 1)
    if head.endswith("mean"):
        expected = expected - expected.mean((2, 3), keepdim=True)
    assert torch.allclose(out, expected, atol=EXACT)
    assert given is not None
    inputs = state + given
    assert seen[0].shape[1] == inputs.num_channels
    parts = {name: seen[0][:, where] for name, where in inputs.slices().items()}
    assert torch.equal(parts["velocity"], x[:, 1:3])
    assert torch.equal(parts["smoke"], x[:, :1])
    assert torch.equal(parts["heat"], x[:, 3:4])
    assert torch.equal(parts["topography"], x[:, 4:])
    if head.startswith("streamfunction"):
        psi = rotated_gradient(parts["velocity streamfunction"])
        psi = psi + x[:, 1:3].mean((2, 3), keepdim=True)
        assert torch.allclose(psi, x[:, 1:3], atol=EXACT)


def test_a_head_moves_between_grids() -> None:
    """The same modes on more points: the head gives the same flow."""
    fine, coarse = (2 * torch.pi * torch.arange(n).double() / n for n in (18, 9))

    def psi(x: Tensor) -> Tensor:
        wave = torch.sin(x[:, None] + 2 * x) + torch.cos(3 * x[:, None])
        return wave.expand(1, 1, -1, -1)

    every_second = rotated_gradient(psi(fine))[..., ::2, ::2]
    assert torch.allclose(every_second, rotated_gradient(psi(coarse)), atol=EXACT)


# Settings, layers and faults.


@pytest.mark.parametrize("head", ["mean", *DIVERGENCE_FREE])
def test_heads_are_settings_that_survive_json_and_saving(head: Head) -> None:
    config = ModulatedConfig(head=head, width=2, depth=2)
    assert json.loads(canonical_json(config))["head"] == head
    assert ModulatedConfig.model_validate_json(canonical_json(config)) == config
    task = Task(state=FLOW)
    net, again = config.build(task), config.build(task)
    assert len(relaxed_layers(net)) == 2
    x = flow().float()
    assert not torch.equal(net(x), again(x))
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.eval()(x), net(x))
    assert net(x).dtype == torch.float32


def test_bad_heads_say_what_is_allowed() -> None:
    heat = Task(state=FieldSpec.of(Field(name="temperature")))
    for head in DIVERGENCE_FREE:
        with pytest.raises(InputError, match="vector field 'velocity' on the plane"):
            CNNConfig(head=head).build(heat)
    scalar = Task(state=FieldSpec.of(Field(name="velocity")))
    with pytest.raises(InputError, match="use 'none' or 'mean'"):
        StrictConfig(head="leray").build(scalar)
    with pytest.raises(InputError, match="head: Input should be 'none', 'mean'"):
        CNNConfig.parse({"head": "energy"}, where="model")
    CNNConfig(head="mean").build(heat)
    shift = fourier_shift(flow(), (0.1, 0.3))
    assert relative_divergence(shift[:, 1:3]) <= EXACT
    assert isinstance(StrictConfig(head="leray").build(Task(state=FLOW)), Leray)
