"""Nonlinearities and normalisation: exact where they say so, on both sides."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers import relative_difference
from tolerances import TOLERANCE
from torch import Tensor, nn
from typed_fields import MIXED, TENSOR

from pde_sym.errors import InputError
from pde_sym.nn import (
    FieldNorm,
    FourierPointwise,
    Gated,
    NormNonlinearity,
    Pointwise,
    field_type,
    gspace,
    regular_type,
)
from pde_sym.nn._escnn import FieldType
from pde_sym.nn.nonlinear import hidden_type, pointwise

EXACT = TOLERANCE[torch.float64]
EVERY = MIXED + TENSOR
SPACES = ("SO2", "O2", "C1", "C4", "D1", "D4", "C8", "D8")
RANDOM_ANGLES = (0.1, 1.0, 2.7)


def mixed(name: str) -> FieldType:
    """Return fields of every kind, in an order that grouping has to undo."""
    space = gspace(name)
    group: Any = space.fibergroup
    if group.continuous:
        one, *others = group.irreps()
        whole = group.bl_regular_representation(2)
        return space.type(others[-1], one, whole, *others, one, whole)
    return field_type(EVERY, space) + regular_type(space, 2) + field_type(EVERY, space)


def elements(fields: FieldType, angles: tuple[float, ...] = RANDOM_ANGLES) -> list:
    """Return all elements of a finite group, some of an infinite one."""
    group: Any = fields.gspace.fibergroup
    if not group.continuous:
        return list(group.elements)
    flips = (0, 1) if group.name == "O(2)" else (None,)
    return [
        group.element(a if flip is None else (flip, a), param="radians")
        for a in angles
        for flip in flips
    ]


def turned(x: Tensor, fields: FieldType, element: Any) -> Tensor:
    matrix = torch.from_numpy(np.asarray(fields.representation(element)))
    return torch.einsum("dc,bcxy->bdxy", matrix.to(x.dtype), x)


def fibre_defects(
    layer: nn.Module, before: FieldType, after: FieldType, some: list | None = None
) -> list[float]:
    """Return ``||f(rho g c) - rho g f(c)|| / ||f(c)||`` per element."""
    x = torch.randn(2, before.size, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        return [
            relative_difference(layer(turned(x, before, g)), turned(layer(x), after, g))
            for g in some or elements(before)
        ]


def perturbed(layer: nn.Module) -> nn.Module:
    for parameter in layer.double().parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


@pytest.mark.parametrize("make", [Gated, NormNonlinearity, FieldNorm])
@pytest.mark.parametrize("name", SPACES)
def test_layers_of_every_field_are_exact(name: str, make: type[Gated]) -> None:
    layer = make(mixed(name))
    perturbed(layer)
    assert max(fibre_defects(layer, layer.in_type, layer.out_type)) <= EXACT


def test_a_function_of_each_channel_is_not() -> None:
    # Channels that a group swaps may have scales of their own: C4 would not tell.
    for name in ("C8", "D8", "SO2"):
        fields = mixed(name)
        found = fibre_defects(nn.GELU(), fields, fields)
        assert max(found) > 0.1
        norm = nn.InstanceNorm2d(fields.size)
        assert max(fibre_defects(norm, fields, fields)) > 0.05


def test_the_gate_multiplies_whole_fields() -> None:
    """``c -> sigmoid(s) c`` and a function of what is invariant."""
    layer = Gated(field_type(EVERY, gspace("C4")), torch.tanh)
    # C4 leaves the pseudoscalar as it is: gates for the vector and the tensor.
    assert layer.in_type.size == 8 + 2
    x = torch.randn(1, 10, 3, 3)
    u, v, w, t, s = x.split([1, 2, 1, 4, 2], 1)
    first, second = s.sigmoid().split(1, 1)
    expected = torch.cat([u.tanh(), first * v, w.tanh(), second * t], 1)
    assert torch.allclose(layer(x), expected)


def test_the_norm_nonlinearity_is_the_documented_one() -> None:
    layer = NormNonlinearity(field_type(EVERY, gspace("D4")), torch.tanh)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([0.5, -0.1, -20.0]))
        x = torch.randn(1, 8, 3, 3)
        u, v, w, t = x.split([1, 2, 1, 4], 1)
        longer = v * (1 + 0.5 / v.norm(dim=1, keepdim=True))
        shrunk = w.sign() * (w.abs() - 0.1).clamp(min=0)
        expected = torch.cat([u.tanh(), longer, shrunk, 0 * t], 1)
        assert torch.allclose(layer(x), expected, atol=1e-6)
        assert layer(0 * x).abs().max() == 0


# Signals on the group.


@pytest.mark.parametrize("name", ["C1", "C4", "D1", "D4", "C8", "D8"])
def test_on_regular_fields_it_is_pointwise(name: str) -> None:
    fields = regular_type(gspace(name), 3)
    layer = FourierPointwise(fields)
    x = torch.randn(2, fields.size, 3, 3, dtype=torch.float64)
    assert torch.allclose(layer(x), Pointwise(fields)(x), atol=EXACT)


@pytest.mark.parametrize("name", ["C8", "D8", "D4"])
def test_signals_with_fewer_irreps_are_exact_on_finite_groups(name: str) -> None:
    group: Any = gspace(name).fibergroup
    some = group.spectral_regular_representation(*group.bl_irreps(1), name="some")
    fields = gspace(name).type(some, gspace(name).trivial_repr, some)
    layer = FourierPointwise(fields)
    assert max(fibre_defects(layer, fields, fields)) <= EXACT
    assert some.size < group.order()


def test_hidden_fields_are_signals_with_a_function_of_their_own() -> None:
    for name, size in {"C4": 4, "D8": 16, "SO2": 5, "O2": 10}.items():
        fields = hidden_type(gspace(name), 3)
        assert fields.size == 3 * size
        layer = pointwise(fields)
        assert isinstance(layer, Pointwise) == (name in ("C4", "D8"))
        quarter = elements(fields, (math.pi / 2,))
        assert max(fibre_defects(layer, fields, fields, quarter)) <= EXACT


def signals(name: str, highest: int) -> FieldType:
    space = gspace(name)
    group: Any = space.fibergroup
    whole = group.bl_regular_representation(highest)
    return space.type(whole, space.trivial_repr, whole)


@pytest.mark.parametrize("name", ["SO2", "O2"])
@pytest.mark.parametrize("highest", [1, 2, 3])
def test_the_turns_that_are_sampled_are_exact(name: str, highest: int) -> None:
    fields = signals(name, highest)
    on_grid = elements(fields, (0.0, math.pi / 2, math.pi, 3 * math.pi / 2))
    for num_turns in (None, 8, 20):
        layer = FourierPointwise(fields, num_turns=num_turns)
        assert max(fibre_defects(layer, fields, fields, on_grid)) <= EXACT
        assert max(fibre_defects(layer, fields, fields)) > 1e-9


@pytest.mark.parametrize("name", ["SO2", "O2"])
def test_the_others_follow_as_the_samples_become_dense(name: str) -> None:
    fields = signals(name, 2)
    found = [
        max(fibre_defects(FourierPointwise(fields, num_turns=n), fields, fields))
        for n in (8, 16, 32, 64)
    ]
    assert found[0] > 3e-3
    assert found == sorted(found, reverse=True)
    assert found[-1] < 1e-6
    # Squares have harmonics up to 2 L: 3 L + 1 turns hold all that is projected back.
    square = FourierPointwise(fields, torch.square, num_turns=8)
    assert max(fibre_defects(square, fields, fields)) <= EXACT
    cube = FourierPointwise(fields, lambda f: f**3, num_turns=8)
    assert max(fibre_defects(cube, fields, fields)) > 1e-3


def test_quarter_turns_need_multiples_of_four() -> None:
    fields = signals("SO2", 2)
    with pytest.raises(InputError, match="multiple of 4, got 6"):
        FourierPointwise(fields, num_turns=6)
    with pytest.raises(InputError, match="5 components, of which 4 samples tell 4"):
        FourierPointwise(fields, num_turns=4)
    with pytest.raises(InputError, match="finite and sampled whole"):
        FourierPointwise(regular_type(gspace("C4"), 1), num_turns=4)
    group: Any = fields.gspace.fibergroup
    twice = fields.gspace.type(group.irrep(1) + group.irrep(1))
    with pytest.raises(InputError, match="is no signal on the group"):
        FourierPointwise(twice)
    for layer in (FourierPointwise(fields), Gated(fields), FieldNorm(fields)):
        with pytest.raises(InputError, match=r"expected input \(batch, \d+, x, y\)"):
            layer(torch.zeros(1, 2, 8, 8))


# Normalisation.


def test_normalised_fields_have_unit_size_and_keep_their_mean_direction() -> None:
    fields = field_type(EVERY, gspace("D4")) + regular_type(gspace("D4"), 1)
    layer = FieldNorm(fields, eps=0.0).double()
    size = torch.rand(fields.size, dtype=torch.float64)[:, None, None] + 0.5
    x = 3 + size * torch.randn(2, fields.size, 8, 8, dtype=torch.float64)
    out = layer(x)
    start = 0
    for rep in fields.representations:
        field = out[:, start : start + rep.size]
        assert torch.allclose(
            field.square().mean((1, 2, 3)), torch.ones(2).double(), atol=EXACT
        )
        start += rep.size
    u, v, _, _, regular = out.split([1, 2, 1, 4, 8], 1)
    assert u.mean((2, 3)).abs().max() <= EXACT
    assert regular.mean((1, 2, 3)).abs().max() <= EXACT
    # A mean vector is a direction: it stays, one factor for both components.
    ratio = v / x[:, 1:3]
    assert torch.allclose(ratio, ratio[:, :1, :1, :1].expand_as(ratio), atol=EXACT)


def test_samples_do_not_see_each_other_and_eval_is_train() -> None:
    layer = FieldNorm(regular_type(gspace("C4"), 2))
    x = torch.randn(3, 8, 6, 6)
    together = layer(x)
    alone = torch.cat([layer(sample[None]) for sample in x])
    assert torch.allclose(together, alone, atol=1e-6)
    assert torch.equal(layer.eval()(x), together)
    assert list(layer.state_dict()) == ["scale", "bias"]
    tiny = 1e-8 * x
    assert layer(tiny).abs().max() < 2 * tiny.abs().max() / 1e-5**0.5
