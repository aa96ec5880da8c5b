"""Every model family of the registry, on every kind of data that it serves.

A family that joins the union is covered by being there.
"""

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import relative_defect
from one_device import META, OneDevice
from pydantic import TypeAdapter
from tolerances import TOLERANCE
from torch import Tensor, nn
from typed_fields import FLOW, vector

from experiments.models import families
from pde_sym.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pde_sym.config import canonical_json
from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import GroupElement, point_group
from pde_sym.nn import (
    Family,
    ModelConfig,
    Normalisation,
    Surrogate,
    Task,
    count_parameters,
    match_width,
    relaxed_layers,
    split_parameters,
)
from pde_sym.objective import TrainConfig, objective

POINTS = 12
STATES = {
    2: FLOW,
    1: FieldSpec.of(Field(name="u")),
    0: FieldSpec.of(
        Field(name="momentum", rank=Rank.VECTOR, components=3),
        Field(name="attitude", rank=Rank.TENSOR, components=9),
    ),
}
GIVEN = {
    2: FieldSpec.of(vector("wind")),
    1: FieldSpec.of(Field(name="depth")),
}
FREE_OF_SHIFTS: set[str] = set()
"""Families that see their place even where the task does not depend on it."""

SERVED = [(family, axes) for family in families() for axes in family.axes]
REFUSED = [(f, axes) for f in families() for axes in STATES if axes not in f.axes]


def kind(value: Any) -> str | None:
    """Return the name of a family, for the names of tests."""
    return value.model_fields["kind"].default if isinstance(value, type) else None


def every(pairs: list[tuple[type[Family], int]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("family", "axes"), pairs, ids=kind)


def task(axes: int, *, breaking: bool = False, given: bool = False) -> Task:
    return Task(
        state=STATES[axes],
        given=GIVEN.get(axes) if given else None,
        breaks_translation=breaking and axes > 0,
        resolution=POINTS if axes else None,
        num_axes=axes,
    )


def small(family: type[Family], width: int = 2) -> Family:
    return family.model_validate({"width": width})


def inputs(of: Task, dtype: torch.dtype = torch.float32) -> Tensor:
    points = of.num_axes * (POINTS,) or (1, 1, 1)
    return torch.randn(3, of.inputs.num_channels, *points, dtype=dtype)


def _shaken(net: nn.Module) -> nn.Module:
    """Move every weight but the relaxed ones: some networks start as persistence."""
    with torch.no_grad():
        for parameter in split_parameters(net)[0]:
            parameter += 0.1 * torch.randn_like(parameter)
    return net


def test_the_table_knows_the_registry() -> None:
    kinds = [kind(family) for family in families()]
    assert len(set(kinds)) == len(kinds)
    assert {"cnn", "unet", "fno", "gfno", "strict"} <= set(kinds)
    assert {axes for _, axes in SERVED} >= {1, 2}
    assert set(kinds) >= FREE_OF_SHIFTS


@every(SERVED)
@pytest.mark.parametrize("given", [False, True], ids=["state", "given"])
def test_it_builds_predicts_and_every_weight_counts(
    family: type[Family], axes: int, given: bool
) -> None:
    of = task(axes, breaking=True, given=given)
    net = _shaken(small(family).build(of))
    x = inputs(of)
    out = net(x)
    assert out.shape == (3, of.state.num_channels, *x.shape[2:])
    assert out.isfinite().all()
    assert out.std() > 0
    out.square().mean().backward()
    unused = [
        name for name, p in net.named_parameters() if p.numel() and p.grad is None
    ]
    assert not unused
    counted = sum(v.numel() for v in dict(net.named_parameters()).values())
    assert count_parameters(net) == counted > 0


@every(SERVED)
def test_an_update_stays_on_its_device(
    family: type[Family], axes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # There is no other precision on a device without values.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    of = task(axes, breaking=True, given=axes in GIVEN)
    surrogate = Surrogate(small(family).build(of), of, Normalisation.identity(of))
    surrogate.to(META)
    x = inputs(of).to(META)
    states = torch.stack(3 * [x[:, : of.state.num_channels]], 1)
    given = x[:, of.state.num_channels :] if of.given else None
    moved = {"group": {2: "D4", 1: "C1"}[axes]} if axes else None
    config = TrainConfig.parse(
        {"penalty": 1.0, "augmentation": moved, "equivariance_penalty": moved},
        where="training",
    )
    with OneDevice():
        loss, _ = objective(surrogate, states, given, config, update=0)
        loss.backward()
    assert {p.grad.device for p in surrogate.parameters() if p.grad is not None} == {
        META
    }


def test_a_tensor_that_is_left_behind_is_seen() -> None:
    there, here = torch.randn(2, 2, device=META), torch.randn(2, 2)
    with OneDevice():
        for mixed in (lambda: there @ here, lambda: there + here[:1, :1]):
            with pytest.raises(RuntimeError, match="device"):
                mixed()
        assert (there + torch.tensor(1.0)).device == META
        assert here.to(META).device == META


@every(SERVED)
def test_a_budget_finds_its_width(family: type[Family], axes: int) -> None:
    of = task(axes)
    counts = [count_parameters(small(family, w).build(of)) for w in (1, 2, 3, 4)]
    assert counts == sorted(set(counts))
    assert match_width(small(family, 1), of, counts[2]) == small(family, 3)
    with pytest.raises(InputError, match="no width brings"):
        match_width(small(family), of, max(counts[0] // 3, 1))


@every(SERVED)
def test_its_settings_survive_json(family: type[Family], axes: int) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(ModelConfig)
    config = small(family)
    again = adapter.validate_json(canonical_json(config))
    assert (again, hash(again)) == (config, hash(config))
    default = adapter.validate_python({"kind": kind(family)})
    assert isinstance(default, family)
    assert axes in default.axes
    with pytest.raises(InputError, match=r"model.*colour: Extra inputs"):
        family.parse({"colour": 1}, where="model")


@every(SERVED)
def test_weights_come_back_the_same(
    family: type[Family], axes: int, tmp_path: Path
) -> None:
    of = task(axes, breaking=True)
    x = inputs(of)
    net, other = (_shaken(small(family).build(of)).eval() for _ in range(2))
    with torch.no_grad():
        out = net(x)
        assert torch.equal(net(x), out)
        assert not torch.equal(other(x), out)
        keys = set(net.state_dict())
        save_checkpoint(tmp_path / "net", Checkpoint(dict(net.state_dict()), {}))
        other.load_state_dict(load_checkpoint(tmp_path / "net").tensors, strict=True)
        assert torch.equal(other(x), out)
        assert set(net.train().state_dict()) == keys
        assert torch.allclose(net(x), out, rtol=1e-5, atol=1e-6)


@every(REFUSED)
def test_other_data_are_refused_in_one_line(family: type[Family], axes: int) -> None:
    with pytest.raises(InputError, match="axes") as caught:
        small(family).build(task(axes))
    assert "\n" not in str(caught.value)
    assert str(kind(family)) in str(caught.value)


# What the layers say of themselves, and what holds of the network.


def relaxation(net: nn.Module) -> float:
    with torch.no_grad():
        return sum(float(layer.relaxation()) for layer in relaxed_layers(net))


@every(SERVED)
def test_its_layers_say_what_they_are(family: type[Family], axes: int) -> None:
    net = small(family).build(task(axes, breaking=True))
    for layer in relaxed_layers(net):
        assert layer.formula
        assert re.search(r"\b(19|20)\d\d\b|own", layer.source)
        parts = layer.parameters_per_part()
        assert sum(parts.values()) == count_parameters(layer)
        relaxing = sum(p.numel() for p in layer.relaxed_parameters())
        assert relaxing <= sum(n for name, n in parts.items() if name != "trivial")
        assert layer.penalty() >= 0


def motions(config: Family) -> list[GroupElement]:
    """Return the turns and flips of the grid that are in the group of a family."""
    found = re.fullmatch(r"([CD])(\d+)", getattr(config, "group", None) or "")
    if found is None:
        return []
    order = max(n for n in (1, 2, 4) if int(found[2]) % n == 0)
    return list(point_group(f"{found[1]}{order}"))[1:]


def defects(net: nn.Module, of: Task, elements: list[GroupElement]) -> dict[str, float]:
    grid = PeriodicGrid(
        shape=of.num_axes * (POINTS,), lengths=tuple(of.num_axes * [1.0])
    )
    x = inputs(of, torch.float64)
    net = net.double().requires_grad_(False)
    return {
        g.name: relative_defect(net, x, g, of.inputs, grid, of.state) for g in elements
    }


ON_GRIDS = [(family, axes) for family, axes in SERVED if axes]


@every(ON_GRIDS)
def test_a_network_without_relaxation_keeps_its_group(
    family: type[Family], axes: int
) -> None:
    """Turns and flips of its group where no layer says that it left them, and
    shifts by half the box where the task does not depend on the place."""
    config, of = small(family), task(axes)
    net = _shaken(config.build(of))
    kept = [] if kind(family) in FREE_OF_SHIFTS else [GroupElement(shift=(0.5, 0.0))]
    if axes == 2 and relaxation(net) == 0:
        kept += motions(config)
    for name, found in defects(net, of, kept).items():
        assert found <= TOLERANCE[torch.float64], name
    if not motions(config) and axes == 2:
        turn = defects(net, of, [GroupElement(turns=1)])
        assert min(turn.values()) > 1e-2


@every(ON_GRIDS)
def test_relaxed_weights_are_seen_in_relaxation_and_defect(
    family: type[Family], axes: int
) -> None:
    config, of = small(family), task(axes, breaking=True)
    net = _shaken(config.build(of))
    relaxed = split_parameters(net)[1]
    if not relaxed:
        assert relaxation(net) == 0
        return
    before = relaxation(net)
    with torch.no_grad():
        for parameter in relaxed:
            parameter.normal_(std=0.3)
    assert relaxation(net) > max(before, 1e-3)
    broken = [GroupElement(shift=(0.5, 0.0))]
    if axes == 2:
        broken += motions(config)
    assert max(defects(net, of, broken).values()) > 1e-2
