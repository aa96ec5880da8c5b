"""The published relaxed layers: exact at the start, relaxed when told, well behaved."""

import pytest
import torch
from relaxed_cases import (
    CONVOLUTIONS,
    SHIFT,
    SPEC,
    averaged,
    defect,
    framed,
    lifted,
    network,
    state,
)
from tolerances import TOLERANCE
from torch import nn

from pde_sym.errors import InputError
from pde_sym.fields import FieldSpec
from pde_sym.nn import field_type, gspace, regular_type, relaxed_layers
from pde_sym.nn.canonical import Canonical, GroupAverage
from pde_sym.nn.implicit import ImplicitSteerableConv2d
from pde_sym.nn.layer import RelaxedLayer
from pde_sym.nn.lift import FourierLift
from pde_sym.nn.relaxed_banks import RelaxedGroupConv2d, RelaxedSteerableConv2d
from pde_sym.nn.residual_pathway import ResidualPathwayConv2d
from pde_sym.symmetry import GroupElement

EXACT = TOLERANCE[torch.float64]
TURN = GroupElement(turns=1)


def build(name: str, group: str = "D4") -> nn.Module:
    """Return a network of the named layer."""
    if name in CONVOLUTIONS:
        return network(CONVOLUTIONS[name], group)
    makers = {"lift": lifted, "average": averaged, "frame": framed}
    settings = {} if name == "lift" else {"relax": True}
    return makers[name](group, **settings)


LAYERS = [*CONVOLUTIONS, "lift", "average", "frame"]


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_factors_in_position_break_shifts_alone(name: str) -> None:
    net, x = network(CONVOLUTIONS[name], "C4", position_modes=1), state()
    assert defect(net, x, SHIFT) <= EXACT
    for layer in relaxed_layers(net):
        assert layer.relaxation() == 0
        nn.init.normal_(layer.get_parameter("position.weights.0"), std=0.1)
        assert layer.relaxation() > 0
        assert layer.penalty() > 0
        assert layer.parameters_per_part()["position"] > 0
    assert defect(net, x, SHIFT) > 1e-2


@pytest.mark.parametrize("name", LAYERS)
def test_parts_add_up_and_sources_are_named(name: str) -> None:
    net = build(name)
    layers = relaxed_layers(net)
    assert len({type(layer) for layer in layers} & set(NAMED)) == 1
    for layer in layers:
        total = sum(p.numel() for p in layer.parameters())
        assert sum(layer.parameters_per_part().values()) == total
        relaxed = list(layer.relaxed_parameters())
        if type(layer) in NAMED:
            assert "=" in layer.formula
            assert any(year in layer.source for year in ("2021", "2022", "2023"))
            assert relaxed
        own = {id(p) for p in layer.parameters()}
        assert {id(p) for p in relaxed} <= own


NAMED: list[type[RelaxedLayer]] = [
    ResidualPathwayConv2d,
    RelaxedGroupConv2d,
    RelaxedSteerableConv2d,
    ImplicitSteerableConv2d,
    FourierLift,
    GroupAverage,
    Canonical,
]


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_bad_input_says_what_is_allowed(name: str) -> None:
    make = CONVOLUTIONS[name]
    c4, d4 = (regular_type(gspace(group), 1) for group in ("C4", "D4"))
    with pytest.raises(InputError, match="on one plane"):
        make(c4, d4, 3)
    with pytest.raises(InputError, match="odd and positive, got 4"):
        make(c4, c4, 4)
    c8 = regular_type(gspace("C8"), 1)
    with pytest.raises(InputError, match="use band 'rings'"):
        make(c8, c8, 3, band="full")
    layer = make(c4, c4, 5)
    with pytest.raises(InputError, match=r"expected input \(batch, 4, x, y\)"):
        layer(torch.zeros(1, 3, 9, 9))
    with pytest.raises(InputError, match=r"grid at least.*got \(9, 4\)"):
        layer(torch.zeros(1, 4, 9, 4))


def test_bad_settings_say_what_is_allowed() -> None:
    space = gspace("D4")
    hidden, fields = regular_type(space, 1), field_type(SPEC, space)
    even, odd = (FieldSpec.of(SPEC.fields[i]) for i in (0, 2))
    with pytest.raises(InputError, match="use a larger kernel"):
        ResidualPathwayConv2d(field_type(even, space), field_type(odd, space), 3)
    with pytest.raises(InputError, match="free_start >= 0 and priors > 0"):
        ResidualPathwayConv2d(hidden, hidden, 3, free_start=-1)
    with pytest.raises(InputError, match="priors > 0"):
        ResidualPathwayConv2d(hidden, hidden, 3, free_prior=0)
    with pytest.raises(InputError, match="needs regular fields"):
        RelaxedGroupConv2d(fields, fields, 3)
    with pytest.raises(InputError, match="'output' or 'input'"):
        RelaxedGroupConv2d(hidden, hidden, 3, argument="both")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="banks: expected at least 1, got 0"):
        RelaxedSteerableConv2d(hidden, hidden, 3, banks=0)
    with pytest.raises(InputError, match="hidden: expected at least 1"):
        ImplicitSteerableConv2d(hidden, hidden, 3, hidden=0)
    other = field_type(odd, gspace("C4"))
    with pytest.raises(InputError, match="attributes on the plane"):
        ImplicitSteerableConv2d(hidden, hidden, 3, attributes=other)
    informed = ImplicitSteerableConv2d(hidden, hidden, 3, attributes=fields)
    with pytest.raises(InputError, match=r"attributes: expected shape \(2, 4\)"):
        informed(torch.zeros(2, 8, 5, 5))
    with pytest.raises(InputError, match="channels and hidden units from 1"):
        FourierLift(0, 1)
    lift = FourierLift(2, 3, modes=2)
    with pytest.raises(InputError, match=r"expected input \(batch, 2, x, y\)"):
        lift(torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match=r"at least 5 points, got \(8, 4\)"):
        lift(torch.zeros(1, 2, 8, 4))
    with pytest.raises(InputError, match="exact groups of the grid"):
        averaged("C8")
    with pytest.raises(InputError, match=r"at least 5 points.*\(1, 4, 4, 9\)"):
        framed()(torch.zeros(1, 4, 4, 9, dtype=torch.float64))
    with pytest.raises(InputError, match="needs a square grid"):
        averaged()(torch.zeros(1, 4, 8, 9, dtype=torch.float64))
