"""Residual blocks, and heads that end in numbers, vectors and typed fields."""

import pytest
import torch
from helpers import relative_difference
from tolerances import TOLERANCE
from torch import Tensor, nn
from typed_fields import MIXED

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.nn import (
    EquivariantHead,
    Gated,
    InvariantHead,
    Isotypic,
    Modulated,
    NormNonlinearity,
    Pointwise,
    Relaxation,
    ResidualBlock,
    SteerableConv2d,
    Strict,
    field_type,
    gspace,
    regular_type,
    relaxed_layers,
    split_parameters,
)
from pde_sym.nn.nonlinear import hidden_type, pointwise
from pde_sym.symmetry import GroupElement, act, point_group

EXACT = TOLERANCE[torch.float64]
GRID = PeriodicGrid.square(7)
SPEC = MIXED
SHIFT = GroupElement(shift=(2 / 7, 3 / 7))
ELEMENTS = [*point_group("D4"), SHIFT]
RELAXATIONS = [Modulated(position_modes=1), Isotypic(position_modes=1)]


def random(spec: FieldSpec = SPEC) -> Tensor:
    return torch.randn(2, spec.num_channels, *GRID.shape, dtype=torch.float64)


def off_zero(net: nn.Module) -> nn.Module:
    """Return the net in float64 with its factors and biases away from their start."""
    known = {id(p) for p in split_parameters(net)[1]}
    for name, parameter in net.double().named_parameters():
        if id(parameter) not in known and ("bias" in name or "scale" in name):
            nn.init.normal_(parameter)
    return net


def perturb(net: nn.Module, std: float) -> None:
    for parameter in split_parameters(net)[1]:
        nn.init.normal_(parameter, std=std)


def defect(
    net: nn.Module, element: GroupElement, out: FieldSpec | None = SPEC
) -> float:
    """Return the relative defect; an `out` of None is for numbers, which stay."""
    x = random()
    with torch.no_grad():
        y = net(x)
        turned = y if out is None else act(element, y, out, GRID)
        return relative_difference(net(act(element, x, SPEC, GRID)), turned)


def block(
    relaxation: Relaxation | None = None,
    group: str = "D4",
    *,
    normalise: bool = True,
    gated: bool = False,
) -> nn.Module:
    """Return typed fields -> hidden fields -> block -> typed fields."""
    fields = field_type(SPEC, gspace(group))
    hidden = fields + fields if gated else hidden_type(gspace(group), 2)
    setting = relaxation or Strict()
    return nn.Sequential(
        SteerableConv2d(fields, hidden, 3),
        ResidualBlock(
            hidden,
            3,
            relaxation=setting,
            nonlinearity=Gated if gated else pointwise,
            normalise=normalise,
        ),
        ResidualBlock(
            hidden, 3, fields, relaxation=setting, nonlinearity=NormNonlinearity
        ),
    )


@pytest.mark.parametrize("setting", RELAXATIONS, ids=lambda r: type(r).__name__)
def test_relaxed_blocks_leave_the_group(setting: Relaxation) -> None:
    net = off_zero(block(setting))
    layers = relaxed_layers(net)
    # One convolution before, two in each block, and the second block's way around.
    assert len(layers) == 6
    assert all(layer.relaxation().item() == 0 for layer in layers)
    perturb(net, 0.1)
    assert sum(layer.relaxation().item() > 0 for layer in layers) == 5
    for element in (*ELEMENTS[1:], SHIFT):
        assert defect(net, element) > 1e-2


def test_a_block_of_turns_fails_flips() -> None:
    net = off_zero(block(group="C4"))
    for element in ELEMENTS:
        assert (defect(net, element) > 0.1) == element.flip


def test_a_block_starts_as_the_identity_if_it_may() -> None:
    hidden = regular_type(gspace("C4"), 3)
    x = torch.randn(1, 12, 8, 8)
    still = ResidualBlock(hidden, 3)
    assert torch.equal(still(x), x)
    # Every weight of a block that starts at zero learns after the first update.
    optimiser = torch.optim.SGD(still.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        still(x).square().sum().backward()
        optimiser.step()
    assert all(p.grad is not None and p.grad.any() for p in still.parameters())
    assert all(layer.relaxation().item() == 0 for layer in relaxed_layers(still))
    moving = ResidualBlock(hidden, 3, zero_start=False)
    assert torch.allclose(moving(x), x + moving.body(x))
    assert (moving(x) - x).norm() > 0.1 * x.norm()


def test_the_factor_is_one_per_field() -> None:
    fields = field_type(SPEC, gspace("D4"))
    net = ResidualBlock(fields, 3, nonlinearity=Gated)
    with torch.no_grad():
        net.scale.copy_(torch.tensor([0.0, 2.0, -1.0]))
    x = random().float()
    factors = torch.tensor([0.0, 2.0, 2.0, -1.0])[:, None, None]
    assert torch.allclose(net(x), x + factors * net.body(x))


# Heads.


def invariant_head(group: str) -> nn.Module:
    fields = field_type(SPEC, gspace(group))
    hidden = fields + regular_type(gspace(group), 2)
    return nn.Sequential(SteerableConv2d(fields, hidden, 3), InvariantHead(hidden, 3))


@pytest.mark.parametrize("group", ["C4", "D4", "D8"])
def test_an_invariant_head_does_not_see_the_group(group: str) -> None:
    net = off_zero(invariant_head(group))
    assert net(random()).shape == (2, 3)
    for element in ELEMENTS:
        found = defect(net, element, None)
        assert found > 1e-3 if group == "C4" and element.flip else found <= EXACT


def test_an_invariant_head_sees_lengths_of_what_moves() -> None:
    fields = field_type(SPEC, gspace("D4")) + regular_type(gspace("D4"), 1)
    head = InvariantHead(fields, 5).double()
    with torch.no_grad():
        head.linear.weight.copy_(torch.eye(5))
        head.linear.bias.zero_()
    x = torch.randn(3, 12, 6, 6, dtype=torch.float64)
    u, v, w, regular = x.split([1, 2, 1, 8], 1)
    mean = regular.mean(1, keepdim=True)
    expected = [
        u.mean((1, 2, 3)),
        8**0.5 * regular.mean((1, 2, 3)),
        v.square().mean((1, 2, 3)).sqrt(),
        w.square().mean((1, 2, 3)).sqrt(),
        (regular - mean).square().mean((1, 2, 3)).sqrt(),
    ]
    assert torch.allclose(head(x).abs(), torch.stack(expected, 1).abs(), atol=1e-9)
    # A plain mean of a vector's components is no invariant.
    plain = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    assert max(defect(plain.double(), g, None) for g in ELEMENTS) > 1e-2


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("group", ["D4", "D8"])
def test_an_equivariant_head_turns_as_its_fields(group: str, pool: bool) -> None:
    fields = field_type(SPEC, gspace(group))
    hidden = regular_type(gspace(group), 2)
    wanted = FieldSpec.of(*reversed(SPEC.fields))

    class Constant(nn.Module):
        """Numbers for the whole plane as constant fields, which `act` can turn."""

        def forward(self, y: Tensor) -> Tensor:
            return y[:, :, None, None].expand(-1, -1, *GRID.shape) if pool else y

    net = nn.Sequential(
        SteerableConv2d(fields, hidden, 3),
        Pointwise(hidden),
        EquivariantHead(hidden, wanted, pool=pool),
    )
    assert off_zero(net)(random()).shape == ((2, 4) if pool else (2, 4, 7, 7))
    for element in ELEMENTS:
        assert defect(nn.Sequential(net, Constant()), element, wanted) <= EXACT
    wrong = FieldSpec.of(*(Field(name=name) for name in "abcd"))
    flips = [g for g in ELEMENTS if g.flip]
    whole = nn.Sequential(net, Constant())
    assert min(defect(whole, element, wrong) for element in flips) > 1e-2


def test_bad_input_says_what_is_allowed() -> None:
    fields = field_type(SPEC, gspace("D4"))
    with pytest.raises(InputError, match="not equivariant"):
        ResidualBlock(fields, 3, nonlinearity=Pointwise)
    with pytest.raises(InputError, match="on one plane"):
        ResidualBlock(regular_type(gspace("C4"), 1), 3, regular_type(gspace("D4"), 1))
    with pytest.raises(InputError, match="odd and positive, got 4"):
        ResidualBlock(regular_type(gspace("D4"), 1), 4)
    with pytest.raises(InputError, match=r"expected input \(batch, 4, x, y\)"):
        InvariantHead(fields, 2)(torch.zeros(1, 3, 5, 5))
    vector = FieldSpec.of(SPEC.fields[1])
    scalar = field_type(FieldSpec.of(SPEC.fields[0]), gspace("D4"))
    with pytest.raises(InputError, match="use a larger kernel"):
        EquivariantHead(scalar, vector)
    assert EquivariantHead(scalar, vector, 3)(torch.zeros(1, 1, 5, 5)).shape[1] == 2
