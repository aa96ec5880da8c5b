"""Every layer of the plane for every group: exact, and as broken as it says.

A pair is served, with the defects that belong to it, or refused in one line.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from layer_cases import CASES, layers_of_the_package
from relaxed_cases import (
    ALL_ON_GRID,
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
from torch import Tensor, nn

from experiments.models import families
from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec
from pde_sym.nn import (
    EquivariantHead,
    Gated,
    GFNOConfig,
    InvariantHead,
    Isotypic,
    Modulated,
    NormNonlinearity,
    ResidualBlock,
    SteerableConv2d,
    Task,
    field_type,
    gspace,
    relaxed_layers,
)
from pde_sym.nn.families.body import LayeredFamily
from pde_sym.nn.layer import RelaxedLayer
from pde_sym.nn.nonlinear import hidden_type, pointwise
from pde_sym.nn.residual import Antialiased
from pde_sym.symmetry import GroupElement, point_group

EXACT = TOLERANCE[torch.float64]
NUMBERS = FieldSpec.of(*(Field(name=name) for name in "abc"))
FINITE = [group for group in ALL_ON_GRID if group[-1] != "2"]
ON_POINTS = ["C4", "D4"]
"""Groups that map the grid's points onto each other."""


class Constant(nn.Module):
    """Numbers for the whole plane as constant fields, which `act` can turn."""

    def forward(self, y: Tensor) -> Tensor:
        return y[:, :, None, None].expand(-1, -1, 9, 9)


def block(group: str, nonlinearity: Any, *head: Any, **settings: Any) -> nn.Sequential:
    """Return a block of hidden fields with all that it may hold, and a head."""
    fields, hidden = field_type(SPEC, gspace(group)), hidden_type(gspace(group), 2)
    # Not zero at the start, or nothing of the block would be seen.
    settings = {"normalise": True, "zero_start": False, **settings}
    body = ResidualBlock(hidden, 3, nonlinearity=nonlinearity, **settings)
    ends = head or (EquivariantHead(hidden, SPEC),)
    return nn.Sequential(SteerableConv2d(fields, hidden, 3), body, *ends).double()


def invariant(group: str) -> nn.Sequential:
    hidden = hidden_type(gspace(group), 2)
    return block(group, pointwise, InvariantHead(hidden, 3), Constant())


def pooled(group: str) -> nn.Sequential:
    head = EquivariantHead(hidden_type(gspace(group), 2), SPEC, pool=True)
    return block(group, pointwise, head, Constant())


def group_fourier(group: str, relaxation: str = "strict") -> nn.Module:
    settings = {"group": group, "relaxation": relaxation}
    settings |= {"width": 1, "depth": 2, "modes": 2}
    config = GFNOConfig.parse(settings, where="model")
    return config.build(Task(state=SPEC)).double()


STEERABLE: dict[str, Callable[..., nn.Module]] = {
    "strict": SteerableConv2d,
    "modulated": partial(SteerableConv2d, relaxation=Modulated()),
    "isotypic": partial(SteerableConv2d, relaxation=Isotypic()),
    **CONVOLUTIONS,
}
NETWORKS: dict[str, Callable[[str], nn.Module]] = {
    **{name: partial(network, make) for name, make in STEERABLE.items()},
    "lift": lifted,
    "block": partial(block, nonlinearity=pointwise, relaxation=Modulated()),
    "gated block": partial(block, nonlinearity=Gated, relaxation=Isotypic()),
    "norm block": partial(block, nonlinearity=NormNonlinearity),
    "antialiased": partial(block, nonlinearity=lambda f: Antialiased(pointwise(f))),
    "pooled head": pooled,
    "invariant head": invariant,
    **{
        f"gfno {how}": partial(group_fourier, relaxation=how)
        for how in ("strict", "modulated", "isotypic")
    },
    "average": partial(averaged, relax=True),
    "frame": partial(framed, relax=True),
}
"""Networks of the state, whose every layer but the named one is strict."""
GROUPS = {
    "implicit": FINITE,
    "rgroup g": FINITE,
    "rgroup h": FINITE,
    **dict.fromkeys(
        ("gfno strict", "gfno modulated", "gfno isotypic", "average", "frame"),
        ON_POINTS,
    ),
}
"""What serves a part of the groups only."""
SERVED = [(n, g) for n in NETWORKS for g in GROUPS.get(n, ALL_ON_GRID)]
REFUSED = [(n, g) for n in NETWORKS for g in ALL_ON_GRID if (n, g) not in SERVED]


def relax(net: nn.Module, share: float) -> bool:
    """Move what is relaxed at random until every layer says that it is so by `share`.

    Return whether there was anything to move.
    """
    able = [m for m in relaxed_layers(net) if list(m.relaxed_parameters())]
    for layer in able:
        start = [p.detach().clone() for p in layer.relaxed_parameters()]
        noise, size = [torch.randn_like(p) for p in start], 0.1
        for _ in range(4):
            with torch.no_grad():
                for p, rest, by in zip(
                    layer.relaxed_parameters(), start, noise, strict=True
                ):
                    p.copy_(rest + size * by)
            size *= share / layer.relaxation().item()
        assert layer.relaxation().item() == pytest.approx(share, rel=1e-2)
        assert layer.penalty() > 0
    return bool(able)


@pytest.mark.parametrize(("name", "group"), SERVED)
def test_exact_at_the_start_and_broken_as_far_as_it_says(name: str, group: str) -> None:
    """Scalars, vectors and pseudoscalars under every turn and flip, and shifts."""
    net, x = NETWORKS[name](group), state()
    out = NUMBERS if name == "invariant head" else SPEC
    for layer in relaxed_layers(net):
        assert layer.relaxation() == 0
    # The average's network sees its place; the frame has shifts of its own.
    shifts = [] if name == "average" else [SHIFT]
    for element in (*point_group(ALL_ON_GRID[group]), *shifts):
        assert defect(net, x, element, out) <= EXACT
    if group in ("C4", "C8", "SO2"):
        assert defect(net, x, GroupElement(flip=True), out) > 1e-3
    if relax(net, 0.1):
        elements = point_group(ALL_ON_GRID[group])
        assert max(defect(net, x, element, out) for element in elements) >= 1e-2
        if name not in ("average", "frame", "lift"):
            assert defect(net, x, SHIFT, out) <= EXACT


@pytest.mark.parametrize(("name", "group"), REFUSED)
def test_other_groups_are_refused_in_one_line(name: str, group: str) -> None:
    reasons = {
        "implicit": "regular fields inside, which .* has not; use C<N>",
        "rgroup g": "infinitely many; use C<N>",
        "rgroup h": "infinitely many; use C<N>",
        "gfno": "shared by C1, C2, C4, D1, D2 and D4",
        "average": "exact groups of the grid",
        "frame": "exact groups of the grid",
    }
    reason = reasons["gfno" if name.startswith("gfno") else name]
    with pytest.raises(InputError, match=reason) as caught:
        NETWORKS[name](group)
    assert "\n" not in str(caught.value)


LAYERED = [family for family in families() if issubclass(family, LayeredFamily)]


@pytest.mark.parametrize("group", ["SO2", "O2"])
@pytest.mark.parametrize(
    "family", LAYERED, ids=lambda f: f.model_fields["kind"].default
)
def test_families_of_all_turns_are_exact_on_the_grid(
    family: type[LayeredFamily], group: str
) -> None:
    """Where there are such layers; rpp alone does not start on the symmetry."""
    values = {"group": group, "width": 1, "depth": 2}
    if not family.all_turns:
        with pytest.raises(InputError, match="expected C<N> or D<N>") as caught:
            family.parse(values, where="model")
        assert "\n" not in str(caught.value)
        return
    values |= {"free_start": 0.0} if "free_start" in family.model_fields else {}
    values |= {"levels": 1} if "levels" in family.model_fields else {}
    net = family.parse(values, where="model").build(Task(state=SPEC)).double()
    for element in point_group(ALL_ON_GRID[group]):
        assert defect(net, state(8), element) <= EXACT


def test_every_layer_of_the_plane_is_in_a_network() -> None:
    """Layers of typed fields, and all that can be relaxed, but lines and bodies."""
    made = [case.make() for case in CASES.values()]
    wanted = {
        type(layer)
        for layer in made
        if isinstance(layer, RelaxedLayer) or hasattr(layer, "in_type")
    }
    others = ("pde_sym.nn.lines", "pde_sym.nn.so3")
    wanted = {kind for kind in wanted if not kind.__module__.startswith(others)}
    assert wanted <= layers_of_the_package()
    networks = [NETWORKS[n](g) for n, g in SERVED if g in ("C4", "SO2")]
    present = {type(layer) for net in networks for layer in net.modules()}
    assert wanted - present == set()
