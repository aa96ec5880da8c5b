"""Any network made equivariant: by its group average, or in a canonical frame."""

import math

import pytest
import torch
from relaxed_cases import (
    SPEC,
    averaged,
    defect,
    framed,
    free_network,
    state,
)
from tolerances import TOLERANCE
from torch import Tensor, nn
from typed_fields import pseudoscalar, vector

from pde_sym.fields import Field, FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.nn.canonical import Canonical, GroupAverage, phases, shift
from pde_sym.symmetry import GroupElement, act, fourier_shift, point_group

EXACT = TOLERANCE[torch.float64]
SHIFTS = [GroupElement(shift=(2 / 9, 1 / 9)), GroupElement(shift=(0.123, 0.456))]
GROUPS = ["C1", "C2", "C4", "D1", "D2", "D4"]


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("size", [8, 9])
def test_any_network_becomes_equivariant(group: str, size: int) -> None:
    """Turns, flips and, in a frame, every shift, of a network that keeps nothing."""
    free, x = free_network(), state(size)
    average = GroupAverage(free, SPEC, SPEC, group).double()
    frame = Canonical(free, SPEC, SPEC, group).double()
    grid_shift = GroupElement(shift=(2 / size, 1 / size))
    for element in point_group(group):
        assert defect(average, x, element) <= EXACT
        assert defect(frame, x, element) <= EXACT
    for element in (grid_shift, GroupElement(1, False, (3 / size, 0))):
        assert defect(free, x, element) > 1e-2
        assert defect(average, x, element) > 1e-2
    for element in point_group(group):
        moved = grid_shift @ element
        assert defect(frame, x, moved) <= EXACT
    without = Canonical(free, SPEC, SPEC, group, shifts=False).double()
    assert defect(without, x, point_group(group).elements[-1]) <= EXACT
    assert defect(without, x, grid_shift) > 1e-2


def test_a_frame_keeps_shifts_between_points() -> None:
    net = framed("D4")
    for element in SHIFTS:
        assert defect(net, state(9), element) <= EXACT


@pytest.mark.parametrize("group", ["C4", "D2"])
def test_elements_outside_the_group_stay_broken(group: str) -> None:
    outside = set(point_group("D4").elements) - set(point_group(group).elements)
    for net in (averaged(group), framed(group)):
        for element in outside:
            assert defect(net, state(), element) > 1e-2


def test_the_average_is_the_formula() -> None:
    """``P f(u) = mean_g g^-1 f(g u)``; P P f = P f; P f = f for equivariant f."""
    free, x, grid = free_network(), state(), PeriodicGrid.square(9)
    average = GroupAverage(free, SPEC, SPEC, "D4").double()
    terms = [
        act(g.inverse(), free(act(g, x, SPEC, grid)), SPEC, grid)
        for g in point_group("D4")
    ]
    assert torch.allclose(average(x), sum(terms, torch.zeros_like(x)) / 8, atol=1e-14)
    twice = GroupAverage(average, SPEC, SPEC, "D4")
    assert torch.allclose(twice(x), average(x), atol=1e-14)
    assert not torch.allclose(average(x), free(x), atol=1e-2)


def test_fields_before_and_after_may_differ() -> None:
    """A vector and a scalar in, a pseudoscalar out."""
    before = FieldSpec.of(vector("v"),
                          Field(name="u"))  # fmt: skip
    after = FieldSpec.of(pseudoscalar("w"))
    conv = nn.Conv2d(3, 1, 3, padding=1, padding_mode="circular")
    grid, x = PeriodicGrid.square(9), torch.randn(2, 3, 9, 9, dtype=torch.float64)
    for kind in (GroupAverage, Canonical):
        net = kind(conv, before, after, "D4").double()
        for element in point_group("D4"):
            straight = net(act(element, x, before, grid))
            assert torch.allclose(
                straight, act(element, net(x), after, grid), atol=1e-12
            )
        flipped = net(act(GroupElement(flip=True), x, before, grid))
        wrong = net(x).flip(-1).roll(1, -1)
        assert not torch.allclose(flipped, wrong, atol=1e-3)


def test_learned_share_of_the_free_network() -> None:
    """``F = S + gamma (f - S)``: S at the start, f at 1."""
    for make in (averaged, framed):
        net, x = make(relax=True), state()
        assert net.gamma is not None
        strict = make("D4")
        strict.net.load_state_dict(net.net.state_dict())
        assert torch.equal(net(x), strict(x))
        assert strict.relaxation() == 0
        assert list(strict.relaxed_parameters()) == []
        with torch.no_grad():
            net.gamma.fill_(1)
            assert torch.allclose(net(x), net.net(x), atol=1e-12)
            net.gamma.fill_(-0.3)
        assert net.relaxation().item() == pytest.approx(0.3)
        assert net.penalty().item() == pytest.approx(0.09)


def test_the_score_tells_turns_and_not_shifts() -> None:
    net, x, grid = framed("D4"), state(batch=6), PeriodicGrid.square(9)
    own = net.score(x)
    turned = [net.score(act(g, x, SPEC, grid)) for g in point_group("D4")]
    gaps = torch.stack(turned).sort(0).values.diff(dim=0)
    # Round-off cannot decide which is the largest.
    assert gaps[-1].min() > 1e-6 * own.abs().max()
    moved = act(GroupElement(shift=(3 / 9, 1 / 9)), x, SPEC, grid)
    assert torch.allclose(net.score(moved), own, atol=1e-13)


def test_phases_follow_shifts_and_find_the_crest() -> None:
    x = state()
    own = phases(x)
    for a, b in ((2 / 9, 5 / 9), (0.07, 0.31)):
        moved = phases(fourier_shift(x, (a, b))) - own
        expected = torch.tensor([[a, b]], dtype=torch.float64)
        difference = (moved - expected + 0.5) % 1 - 0.5
        assert difference.abs().max() < 1e-12
    along = torch.arange(16, dtype=torch.float64) / 16
    wave = torch.cos(2 * math.pi * (along - 0.3))
    both = (wave[:, None] + torch.cos(2 * math.pi * (along - 0.8)))[None, None]
    place = phases(both) % 1
    assert torch.allclose(place, torch.tensor([[0.3, 0.8]], dtype=torch.float64))


def test_shifts_are_a_group_and_agree_with_the_solvers() -> None:
    x = state(9)
    steps = torch.tensor([[0.1, 0.7], [0.25, -0.4]], dtype=torch.float64)
    there = shift(x, steps)
    for one, moved, (a, b) in zip(x, there, steps.tolist(), strict=True):
        assert torch.allclose(moved, fourier_shift(one, (a, b)), atol=1e-13)
    assert torch.allclose(shift(there, -steps), x, atol=1e-13)
    even = state(8)
    kept = shift(even, 0 * steps)
    spectrum = torch.fft.fft2(even - kept).abs()
    assert spectrum[..., 4, :].max() > 0.1
    spectrum[..., 4, :] = spectrum[..., :, 4] = 0
    assert spectrum.max() < 1e-12


def test_samples_have_frames_of_their_own() -> None:
    """A batch is evaluated as its members are."""
    net, x = framed("D4"), state(batch=5)
    single = torch.cat([net(one[None]) for one in x])
    assert torch.allclose(net(x), single, atol=1e-12)


def test_states_without_divergence_have_a_frame() -> None:
    """Their v_x has no wave along x: the frame must not rest on one channel."""
    along = torch.arange(9, dtype=torch.float64) / 9
    wave = torch.sin(2 * math.pi * along)
    flow = torch.stack([wave.expand(9, 9), wave[:, None].expand(9, 9)])[None]

    def modes(x: Tensor) -> Tensor:
        return torch.fft.fft2(x)[0, 0, 1, 0].abs()

    assert modes(flow) < 1e-12
    for s in (0.13, 0.57):
        moved = fourier_shift(flow, (s, 0.0))
        found = (phases(moved) - phases(flow))[0, 0] - s
        assert abs((found.item() + 0.5) % 1 - 0.5) < 1e-12
