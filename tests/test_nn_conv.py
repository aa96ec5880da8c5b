"""The steerable layer: exact where it says so, relaxed where it was told to."""

import pytest
import torch
from tolerances import TOLERANCE
from torch import Tensor, nn
from typed_fields import MIXED, vector

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.nn import (
    Isotypic,
    Modulated,
    Pointwise,
    Relaxation,
    SteerableConv2d,
    Strict,
    field_type,
    gspace,
    regular_type,
)
from pde_sym.nn.terms import FibreTerm
from pde_sym.symmetry import GroupElement, act, point_group

GRID = PeriodicGrid.square(9)
SPEC = MIXED + FieldSpec.of(vector("q"))
ON_GRID = {"C1": "C1", "C2": "C2", "C4": "C4", "D1": "D1", "D2": "D2", "D4": "D4",
           "C8": "C4", "D8": "D4", "C3": "C1", "D3": "D1", "C6": "C2",
           "SO2": "C4", "O2": "D4"}  # fmt: skip
SHIFT = GroupElement(shift=(2 / 9, 5 / 9))
RELAXATIONS = [Strict(), Modulated(position_modes=1), Isotypic(position_modes=1)]


def layer(
    group: str,
    relaxation: Relaxation | None = None,
    dtype: torch.dtype = torch.float64,
    kernel_size: int = 3,
) -> SteerableConv2d:
    fields = field_type(SPEC, gspace(group))
    conv = SteerableConv2d(
        fields, fields, kernel_size, relaxation=relaxation or Strict()
    )
    with torch.no_grad():
        for bias in conv.bias.parameters():
            bias.normal_()
    return conv.to(dtype)


def state(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, SPEC.num_channels, *GRID.shape, dtype=dtype)


def defect(
    f: nn.Module, x: Tensor, element: GroupElement, spec: FieldSpec = SPEC
) -> float:
    """Return ``||f(g x) - g f(x)|| / ||f(x)||``."""
    with torch.no_grad():
        straight, out = f(act(element, x, spec, GRID)), f(x)
        turned = act(element, out, spec, GRID)
        return ((straight - turned).norm() / out.norm()).item()


def perturb(parameters: list[nn.Parameter], scale: float = 0.3) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter.normal_(std=scale)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("group", ON_GRID)
@pytest.mark.parametrize("setting", RELAXATIONS, ids=lambda r: type(r).__name__)
def test_layer_starts_exactly_equivariant(
    group: str, dtype: torch.dtype, setting: Relaxation
) -> None:
    conv, x = layer(group, setting, dtype), state(dtype)
    assert conv.relaxation() == 0
    assert conv.penalty() == 0
    for element in (*point_group(ON_GRID[group]), SHIFT):
        assert defect(conv, x, element) <= TOLERANCE[dtype]


@pytest.mark.parametrize("kernel_size", [1, 5, 7])
def test_other_kernel_sizes_are_exact_too(kernel_size: int) -> None:
    for group in ("D4", "D8"):
        hidden = regular_type(gspace(group), 2)
        fields = field_type(SPEC, gspace(group))
        net = nn.Sequential(
            SteerableConv2d(fields, hidden, kernel_size),
            Pointwise(hidden),
            SteerableConv2d(hidden, fields, kernel_size),
        ).double()
        for element in point_group("D4"):
            assert defect(net, state(), element) <= TOLERANCE[torch.float64]


class _Swapped(nn.Module):
    """A layer that is fed (v_y, -v_x) and gives the same back."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        turned = torch.stack([x[:, 1], -x[:, 0], x[:, 2]], dim=1)
        out = self.conv(turned)
        return torch.stack([-out[:, 1], out[:, 0], out[:, 2]], dim=1)


def test_swapped_components_pass_turns_and_fail_flips() -> None:
    spec = FieldSpec.of(vector("v"),
                        Field(name="u"))  # fmt: skip
    fields = field_type(spec, gspace("D4"))
    net = _Swapped(SteerableConv2d(fields, fields, 3).double())
    x = state()[:, :3]
    for element in point_group("D4"):
        if element.flip:
            assert defect(net, x, element, spec) > 0.1
        else:
            assert defect(net, x, element, spec) <= TOLERANCE[torch.float64]


def test_a_layer_of_turns_fails_flips() -> None:
    assert defect(layer("C4"), state(), GroupElement(flip=True)) > 0.1


@pytest.mark.parametrize("group", ["C4", "D4", "C8"])
@pytest.mark.parametrize("setting", [Modulated(), Isotypic()], ids=str)
def test_learned_weights_break_the_group_and_keep_shifts(
    group: str, setting: Relaxation
) -> None:
    conv, x = layer(group, setting), state()
    perturb(list(conv.relaxed_parameters()))
    assert conv.relaxation() > 0
    assert conv.penalty() > 0
    assert defect(conv, x, GroupElement(turns=1)) > 1e-2
    assert defect(conv, x, SHIFT) <= TOLERANCE[torch.float64]
    spectrum = conv.kernel_spectrum()
    assert sum(spectrum.values()) == pytest.approx(1, abs=1e-12)
    assert spectrum["trivial"] < 0.99


def test_every_relaxing_term_breaks_the_symmetry() -> None:
    terms = ("fibre_out", "fibre_in", "extra_bias", "position")
    for name in terms:
        conv, x = layer("D4", Modulated(position_modes=1)), state()
        perturb(list(getattr(conv, name).parameters()))
        element = SHIFT if name == "position" else GroupElement(turns=1, flip=True)
        assert defect(conv, x, element) > 1e-2, name
        assert conv.relaxation() > 0


def test_one_part_shows_in_its_place_of_the_spectrum() -> None:
    conv = layer("C4", Isotypic(parts=("quadrupole",)))
    assert conv.kernel_spectrum()["trivial"] == pytest.approx(1, abs=1e-12)
    perturb(list(conv.parts.parameters()))
    spectrum = conv.kernel_spectrum()
    assert spectrum["quadrupole"] > 0.1
    assert spectrum["vector"] < 1e-20
    # A half turn keeps what a quarter turn breaks.
    assert defect(conv, state(), GroupElement(turns=1)) > 1e-2
    assert defect(conv, state(), GroupElement(turns=2)) < 1e-12


def test_the_penalty_is_the_documented_one() -> None:
    conv = layer("C4", Isotypic())
    perturb(list(conv.relaxed_parameters()))
    std = (2 / (SPEC.num_channels * 9)) ** 0.5
    expected = sum(
        torch.cat([w.flatten() for w in part.parameters()]).square().mean().item()
        / std**2
        for part in conv.parts.values()
    )
    assert conv.extra_bias is not None
    bias = torch.cat([w.flatten() for w in conv.extra_bias.parameters()])
    expected += bias.square().mean().item()
    assert conv.penalty().item() == pytest.approx(expected)


@pytest.mark.parametrize("setting", RELAXATIONS[1:], ids=lambda r: type(r).__name__)
def test_nothing_that_relaxes_is_free_of_charge(setting: Relaxation) -> None:
    conv, charged = layer("C4", setting), []
    assert conv.penalty() == 0
    for weight in conv.relaxed_parameters():
        before = weight.detach().clone()
        with torch.no_grad():
            weight.fill_(0.1)
        charged.append(bool(conv.penalty() > 0))
        # The mixing of banks that are zero relaxes nothing.
        assert charged[-1] == bool(conv.relaxation() > 0)
        with torch.no_grad():
            weight.copy_(before)
    assert sum(charged) >= 2


@pytest.mark.parametrize("setting", RELAXATIONS[1:], ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_relaxed_layer_starts_as_the_strict_one_bit_for_bit(
    setting: Relaxation, dtype: torch.dtype
) -> None:
    strict, relaxed = layer("D4", dtype=dtype), layer("D4", setting, dtype)
    missing, unexpected = relaxed.load_state_dict(strict.state_dict(), strict=False)
    assert missing
    assert not unexpected
    x = state(dtype)
    assert torch.equal(strict(x), relaxed(x))


def test_the_complete_family_reaches_every_kernel() -> None:
    for group in ("C4", "C8"):
        conv = layer(group, Isotypic())
        count = sum(w.numel() for w in conv.kernel.parameters())
        count += sum(w.numel() for w in conv.parts.parameters())
        assert count == SPEC.num_channels**2 * 9


def test_the_kept_kernel_follows_the_weights() -> None:
    conv, x = layer("C4", Modulated()).eval(), state()
    weight = conv.kernel.weights[0]
    with torch.inference_mode():
        first = conv(x)
        assert conv._kept is not None
        assert torch.equal(conv(x), first)
    with torch.no_grad():
        weight.mul_(2)
        assert not torch.equal(conv(x), first)
        weight.data = weight.data / 2
        assert torch.equal(conv(x), first)
    loss = conv(x).sum()
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0
    # A frozen layer may serve the kept kernel and still pass gradients to its input.
    conv.requires_grad_(False).train().eval()
    with torch.inference_mode():
        conv(x)
    x.requires_grad_()
    conv(x).sum().backward()
    assert x.grad is not None
    conv.train()
    assert conv._kept is None


def test_modulation_holds_nothing_that_the_steerable_kernel_holds() -> None:
    for group, sizes in {"D4": (0, 3, 0, 3, 7), "C4": (0, 2, 0, 2, 3)}.items():
        space = gspace(group)
        fields = field_type(SPEC, space) + regular_type(space, 1)
        for rep, size in zip(fields.representations, sizes, strict=True):
            single = space.type(rep)
            term = FibreTerm(single).double()
            assert term.weights[0].shape == (1, size)
            perturb(list(term.parameters()))
            identity = torch.eye(rep.size, dtype=torch.float64)
            alpha = term(identity).detach() - identity
            turned = [
                torch.from_numpy(rep(g) @ alpha.numpy() @ rep(g).T)
                for g in space.fibergroup.elements
            ]
            assert sum(turned, torch.zeros_like(alpha)).abs().max() < 1e-12


def test_the_scale_of_activations_is_kept() -> None:
    hidden = regular_type(gspace("C4"), 16)
    conv = SteerableConv2d(hidden, hidden, 5)
    x = torch.randn(4, 64, 16, 16)
    # He: the variance doubles, and a rectifier takes half of it away.
    assert 1.5 < conv(x).var().item() < 2.5


def test_position_factors_move_between_grids() -> None:
    conv = layer("C4", Modulated(position_modes=2))
    assert conv.position is not None
    perturb(list(conv.position.parameters()))
    coarse, fine = conv.position.factors((8, 8)), conv.position.factors((16, 24))
    assert torch.allclose(fine[:, ::2, ::3], coarse, atol=1e-12)
    assert coarse.mean(dim=(1, 2)).abs().max() < 1e-12
    assert conv(torch.randn(1, 6, 16, 24, dtype=torch.float64)).shape[2:] == (16, 24)


def test_bad_input_says_what_is_allowed() -> None:
    c4, d4 = (field_type(SPEC, gspace(g)) for g in ("C4", "D4"))
    with pytest.raises(InputError, match="on one plane"):
        SteerableConv2d(c4, d4, 3)
    with pytest.raises(InputError, match="odd and positive, got 2"):
        SteerableConv2d(c4, c4, 2)
    with pytest.raises(InputError, match=r"part 'spin'.*vector, quadrupole"):
        SteerableConv2d(c4, c4, 3, relaxation=Isotypic(parts=("spin",)))
    conv = SteerableConv2d(c4, c4, 5)
    with pytest.raises(InputError, match=r"expected input \(batch, 6, x, y\)"):
        conv(torch.zeros(1, 5, 9, 9))
    with pytest.raises(InputError, match=r"grid at least.*got \(9, 4\)"):
        conv(torch.zeros(1, 6, 9, 4))
    scalar, pseudoscalar = (
        field_type(FieldSpec.of(SPEC.fields[i]), gspace("D4")) for i in (0, 2)
    )
    with pytest.raises(InputError, match="use a larger kernel"):
        SteerableConv2d(scalar, pseudoscalar, 3)
    with pytest.raises(InputError, match="not equivariant"):
        Pointwise(c4)
