"""Networks on lines: shifts and Galilei boosts, exact and relaxed."""

import math
from typing import Any

import pytest
import torch
from helpers import relative_difference
from tolerances import TOLERANCE
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec
from pde_sym.nn import (
    CNNConfig,
    FieldScale,
    GalileanFrame,
    IsotypicConfig,
    ModelConfig,
    ModulatedConfig,
    Normalisation,
    PeriodicConv1d,
    PositionChannels1d,
    ReadingConv1d,
    RelaxedConv1d,
    RelaxedGalileanFrame,
    StrictConfig,
    Surrogate,
    Task,
    count_parameters,
    match_width,
    relaxed_layers,
    shift_line,
    split_parameters,
)
from pde_sym.symmetry import GroupElement, act
from pde_sym.systems.kdv import KdV

GRID = KdV.grid(32, 16.0)
POINTS, DT = 32, 0.4
BOOST = 6 * DT / 16.0
INTACT = Task(state=KdV.fields, num_axes=1, boost=BOOST)
PINNED = INTACT.model_copy(update={"breaks_translation": True, "breaks_boosts": True})
SIZES: dict[str, Any] = {"width": 6, "depth": 3, "kernel_size": 5}
FAMILIES = (CNNConfig, StrictConfig, ModulatedConfig)
EXACT = TOLERANCE[torch.float64]


def states(dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw states with means, of the modes that a solver keeps."""
    spectrum = torch.fft.rfft(torch.randn(3, 1, POINTS, dtype=torch.float64))
    spectrum[..., POINTS // 3 :] = 0
    return (torch.fft.irfft(spectrum, n=POINTS) + 0.7).to(dtype)


def surrogate(
    config: ModelConfig, task: Task = INTACT, dtype: torch.dtype = torch.float64
) -> Surrogate:
    scale = FieldScale(name="u", mean=0.3, std=1.7, increment_std=0.8)
    step = Surrogate(config.build(task), task, Normalisation(fields=(scale,)))
    for name, parameter in step.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter)
    return step.to(dtype).requires_grad_(False)


def relax(module: nn.Module, relative: float) -> None:
    """Give every relaxed layer that relative weight."""
    for layer in relaxed_layers(module):
        for parameter in layer.relaxed_parameters():
            nn.init.normal_(parameter)
            size = layer.relaxation().item()
            parameter.data *= relative / size


def shift_defect(step: nn.Module, points: float) -> float:
    u = states()
    element = GroupElement(shift=(points / POINTS, 0.0))
    moved = act(element, u, KdV.fields, GRID)
    return relative_difference(step(moved), act(element, step(u), KdV.fields, GRID))


def boost_defect(
    step: nn.Module, c: float, dtype: torch.dtype = torch.float64
) -> float:
    """Return ``||f(u + c) - S(6 c dt) f(u) - c|| / ||f(u)||``."""
    u = states(dtype)
    moved = act(
        GroupElement(shift=(c * BOOST, 0.0)), step(u).double(), KdV.fields, GRID
    )
    return relative_difference(step(u + c).double(), moved + c)


# Shifts


@pytest.mark.parametrize("family", FAMILIES)
def test_shifts_are_exact_where_the_physics_keeps_them(family: type) -> None:
    step = surrogate(family(**SIZES))
    for points in (1, 7, 16):
        assert shift_defect(step, points) <= EXACT


def test_shifts_break_where_the_physics_breaks_them() -> None:
    assert shift_defect(surrogate(CNNConfig(**SIZES), PINNED), 7) > 1e-2
    blind = CNNConfig(**SIZES, position_channels=False)
    assert shift_defect(surrogate(blind, PINNED), 7) <= EXACT
    assert shift_defect(surrogate(StrictConfig(**SIZES), PINNED), 7) <= EXACT
    step = surrogate(ModulatedConfig(**SIZES), PINNED)
    # Equivariant at the start, and further off the larger the learned fields are.
    assert shift_defect(step, 7) <= EXACT
    found = []
    for relative in (0.01, 0.1):
        relax(step, relative)
        found.append(shift_defect(step, 7))
    assert found[1] > 1e-2
    assert found[0] < 0.5 * found[1]


def test_a_relaxed_network_starts_as_the_strict_one_with_its_weights() -> None:
    strict = StrictConfig(**SIZES).build(PINNED)
    relaxed = ModulatedConfig(**SIZES, position_modes=3, galilei=False).build(PINNED)
    missing, unexpected = relaxed.load_state_dict(strict.state_dict(), strict=False)
    assert missing
    assert not unexpected
    x = torch.randn(2, 1, POINTS)
    assert torch.equal(relaxed(x), strict(x))
    found = [layer.relaxation().item() for layer in relaxed_layers(relaxed)]
    assert found == 3 * [0.0]


def test_a_relaxed_network_of_a_seed_starts_as_the_strict_one() -> None:
    """What mixes relaxed weights is drawn aside, so that a seed pairs the two."""
    torch.manual_seed(5)
    strict = StrictConfig(**SIZES).build(PINNED).state_dict()
    torch.manual_seed(5)
    relaxed = ModulatedConfig(**SIZES, position_modes=3, galilei=False).build(PINNED)
    kept = relaxed.state_dict()
    assert all(torch.equal(kept[name], weight) for name, weight in strict.items())
    torch.manual_seed(6)
    other = StrictConfig(**SIZES).build(PINNED).state_dict()
    assert not all(torch.equal(kept[name], weight) for name, weight in other.items())


# The layer


def test_layer_is_its_formula() -> None:
    """``out(x) = sum_o K(o) (1 + a(x + o)) f(x + o) + b``, o from -1 to 1."""
    layer = RelaxedConv1d(2, 3, 3, modes=2, banks=2).double()
    relax(layer, 0.3)
    assert layer.position is not None
    f, n = torch.randn(1, 2, 10, dtype=torch.float64), 10
    m, w = layer.position.mixing, layer.position.weight
    k, b = layer.conv.weight, layer.conv.bias
    assert b is not None
    nn.init.normal_(b)
    out = torch.zeros(3, n, dtype=torch.float64)
    for x in range(n):
        for o in (-1, 0, 1):
            place = (x + o) % n
            phase = [2 * math.pi * mode * place / n for mode in (1, 2)]
            waves = [*map(math.cos, phase), *map(math.sin, phase)]
            field = math.sqrt(2) * w @ torch.tensor(waves, dtype=torch.float64)
            out[:, x] += k[:, :, o + 1] @ ((1 + m @ field) * f[0, :, place])
        out[:, x] += b
    assert torch.allclose(layer(f)[0], out, atol=1e-13)


def test_learned_fields_are_the_same_on_every_grid() -> None:
    layer = RelaxedConv1d(2, 2, 3, modes=3, banks=2).double()
    relax(layer, 0.3)
    assert layer.position is not None
    coarse, fine = (layer.position.factors(n) for n in (16, 48))
    assert torch.allclose(fine[:, ::3], coarse, atol=1e-14)
    assert fine.abs().max() > 1e-2
    assert fine.mean(-1).abs().max() < 1e-14


def test_weights_are_counted_once_and_told_apart() -> None:
    layer = RelaxedConv1d(4, 3, 5, modes=3, banks=2)
    assert layer.parameters_per_part() == {
        "trivial": 3 * 4 * 5 + 3,
        "position": 4 * 2 + 2 * 6,
    }
    assert sum(layer.parameters_per_part().values()) == count_parameters(layer)
    plain, relaxed = split_parameters(layer)
    assert [tuple(p.shape) for p in relaxed] == [(2, 6)]
    assert len(plain) == 3
    assert layer.penalty() == 0
    nn.init.constant_(relaxed[0], 0.5)
    assert layer.penalty().item() == pytest.approx(0.25)
    strict = RelaxedConv1d(4, 3, 5)
    assert strict.parameters_per_part() == {"trivial": 63}
    assert strict.relaxation() == strict.penalty() == 0


def test_place_is_sine_and_cosine() -> None:
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    out = PositionChannels1d()(x)
    assert torch.equal(out[:, :3], x)
    angle = 2 * math.pi * torch.arange(8, dtype=torch.float64) / 8
    assert torch.allclose(out[1, 3:], torch.stack([angle.sin(), angle.cos()]))


def test_increments_keep_to_the_modes_of_the_data() -> None:
    task = INTACT.model_copy(update={"kept_modes": 2 / 3})
    found = {}
    for kept in (INTACT, task):
        step = surrogate(StrictConfig(**SIZES, galilei=False), kept)
        u = states()
        spectrum = torch.fft.rfft(step(u) - u).abs()
        highest = (POINTS - 1) // 3
        tail = spectrum[..., highest + 1 :].amax()
        found[kept.kept_modes] = float(tail / spectrum.amax())
        assert spectrum[..., highest].amax() > 1e-2 * spectrum.amax()
        assert shift_defect(step, 7) <= EXACT
    assert found[2 / 3] <= EXACT
    assert found[1.0] > 1e-2


# Galilei boosts


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", [INTACT, PINNED], ids=["intact", "pinned"])
def test_boosts_are_exact_in_the_frame_of_the_mean(family: type, task: Task) -> None:
    """For any network: on pinned data it reads its place, or has learned fields."""
    step = surrogate(family(**SIZES, galilei=True), task)
    relax(step, 0.1)
    for c in (0.3, -1.9, 40.0):
        assert boost_defect(step, c) <= EXACT
    single = surrogate(family(**SIZES, galilei=True), task, torch.float32)
    assert boost_defect(single, 0.3, torch.float32) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("family", FAMILIES)
def test_boosts_break_without_the_frame(family: type) -> None:
    assert boost_defect(surrogate(family(**SIZES, galilei=False)), 0.3) > 1e-2


def test_a_relaxed_frame_leaves_boosts_as_far_as_it_reads_the_mean() -> None:
    """``f(u) = S(6 <u> dt) [u + d(u - <u>, <u>)]``."""
    step = surrogate(ModulatedConfig(**SIZES, galilei="relaxed"))
    assert isinstance(step.net, RelaxedGalileanFrame)
    first = next(m for m in step.modules() if isinstance(m, ReadingConv1d))
    assert boost_defect(step, 0.3) <= EXACT
    assert shift_defect(step, 7) <= EXACT
    found = []
    for relative in (0.01, 0.1):
        relax(step, relative)
        assert first.relaxation().item() == pytest.approx(relative)
        found.append(boost_defect(step, 0.3))
    assert found[1] > 1e-2
    assert found[0] < 0.5 * found[1]
    # Without modes in position what it reads is uniform.
    assert shift_defect(step, 7) <= EXACT
    u = states()
    mean = (u.mean(-1, keepdim=True) - 0.3) / 1.7
    still = (u - 0.3) / 1.7 - mean
    moved = u + 0.8 * step.net.net(torch.cat([still, mean.expand_as(u)], 1))
    expected = shift_line(moved, BOOST * u.mean(-1, keepdim=True))
    assert relative_difference(step(u), expected) <= EXACT


def test_a_layer_that_reads_has_terms_in_place_and_mean() -> None:
    """``out = relaxed + sum_k w_k e_k + t (v + sum_k v_k e_k)``, each term in turn."""
    reading = ReadingConv1d(1, 3, 5, modes=2, told=1).double().requires_grad_(False)
    plain = RelaxedConv1d(1, 3, 5, modes=2).double().requires_grad_(False)
    plain.load_state_dict(reading.state_dict(), strict=False)
    f, t = states(), torch.randn(3, 1, 1, dtype=torch.float64)
    x = torch.cat([f, t.expand(3, 1, POINTS)], 1)
    assert torch.equal(reading(x), plain(f))
    assert reading.relaxation() == reading.penalty() == 0
    assert reading.parameters_per_part()["place and mean"] == 27
    angle = 2 * math.pi * torch.arange(POINTS, dtype=torch.float64) / POINTS
    waves = [(m * angle).cos() for m in (1, 2)] + [(m * angle).sin() for m in (1, 2)]
    e = [math.sqrt(2) * wave for wave in waves]
    terms = [wave.expand(3, 1, -1) for wave in e] + [t * torch.ones_like(angle)]
    terms += [t * wave for wave in e]
    for number, term in enumerate(terms):
        reading.reading.zero_()
        reading.reading[1, number] = 0.7
        more = reading(x) - plain(f)
        assert relative_difference(more[:, 1:2], 0.7 * term) <= EXACT
        assert more[:, ::2].abs().max() == 0


@pytest.mark.parametrize("wrong", [-1.0, 0.5])
def test_a_frame_of_another_speed_is_not_galilean(wrong: float) -> None:
    step = surrogate(StrictConfig(**SIZES, galilei=True))
    assert isinstance(step.net, GalileanFrame)
    step.net.boost *= wrong
    assert boost_defect(step, 0.3) > 1e-2


def test_the_frame_keeps_shifts_and_leaves_states_at_rest_alone() -> None:
    free = surrogate(StrictConfig(**SIZES, galilei=False))
    step = surrogate(StrictConfig(**SIZES, galilei=True))
    step.load_state_dict(
        {k.replace("net.", "net.net."): v for k, v in free.state_dict().items()}
    )
    assert shift_defect(step, 7) <= EXACT
    u = states()
    still = u - u.mean(-1, keepdim=True)
    spectrum = torch.fft.rfft(free(still))
    spectrum[..., -1] = 0
    expected = torch.fft.irfft(spectrum, n=POINTS)
    assert relative_difference(step(still), expected) <= EXACT


def test_boosts_are_those_of_the_task() -> None:
    def is_galilean(config: ModelConfig, task: Task) -> bool:
        return isinstance(config.build(task), GalileanFrame)

    def is_relaxed(config: ModelConfig, task: Task) -> bool:
        return isinstance(config.build(task), RelaxedGalileanFrame)

    for family in (StrictConfig, ModulatedConfig):
        assert is_galilean(family(**SIZES), INTACT)
        assert not is_relaxed(family(**SIZES), INTACT)
        assert is_galilean(family(**SIZES, galilei=True), PINNED)
        assert not is_relaxed(family(**SIZES, galilei=True), PINNED)
        assert not is_galilean(family(**SIZES, galilei=False), INTACT)
    assert not is_galilean(StrictConfig(**SIZES), PINNED)
    assert is_relaxed(ModulatedConfig(**SIZES), PINNED)
    # Free is free of this symmetry too, unless it is asked for.
    assert not is_galilean(CNNConfig(**SIZES), INTACT)
    assert is_galilean(CNNConfig(**SIZES, galilei=None), INTACT)
    plane = Task(state=KdV.fields)
    assert not is_galilean(StrictConfig(**SIZES), plane)
    with pytest.raises(InputError, match="galilei: expected false"):
        CNNConfig(**SIZES, galilei=True).build(plane)


@pytest.mark.parametrize("n", [9, 10])
def test_shifts_form_a_group_and_are_exact(n: int) -> None:
    x = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    u = torch.stack([torch.cos(2 * x) + 0.3, torch.sin(4 * x)])
    by = torch.tensor([[0.123], [-2.7]], dtype=torch.float64)
    expected = torch.cos(2 * (x - 2 * math.pi * 0.123)) + 0.3
    assert torch.allclose(shift_line(u, by)[0], expected, atol=1e-14)
    expected = torch.sin(4 * (x - 2 * math.pi * -2.7))
    assert torch.allclose(shift_line(u, by)[1], expected, atol=1e-14)
    rough = torch.randn(2, n, dtype=torch.float64)
    one = shift_line(shift_line(rough, by), 3 * by)
    assert torch.allclose(one, shift_line(rough, 4 * by), atol=1e-13)
    sawtooth = (-1.0) ** torch.arange(n, dtype=torch.float64)
    if n % 2 == 0:
        assert shift_line(sawtooth, by[:1]).abs().max() < 1e-14


# Refusals


def test_bad_input_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="kernel_size must be odd"):
        PeriodicConv1d(1, 1, 4)
    layer = RelaxedConv1d(2, 1, 5, modes=1)
    for wrong in (torch.randn(1, 1, 8), torch.randn(2, 8), torch.randn(1, 2, 8, 8)):
        with pytest.raises(InputError, match=r"expected input \(batch, 2, x\)"):
            layer(wrong)
    with pytest.raises(InputError, match=r"grid at least as large, got \(4,\)"):
        layer(torch.randn(1, 2, 4))
    with pytest.raises(InputError, match="group D4: a line has no turns"):
        StrictConfig(group="D4").build(INTACT)
    with pytest.raises(InputError, match="isotypic: its networks are for grids of 2"):
        IsotypicConfig().build(INTACT)
    body = Task(state=FieldSpec.of(Field(name="p")), num_axes=0)
    with pytest.raises(InputError, match="cnn: its networks are for grids of 1 or 2"):
        CNNConfig().build(body)


@pytest.mark.parametrize("family", FAMILIES)
def test_widths_match_parameters_on_lines(family: type) -> None:
    config = match_width(family(), PINNED, 20_000)
    assert abs(count_parameters(config.build(PINNED)) - 20_000) <= 2_000
