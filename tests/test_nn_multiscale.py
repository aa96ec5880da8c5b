"""Steerable U-Nets: exact through every coarser grid, or relaxed on each."""

import pytest
import torch
from helpers import relative_defect
from pydantic import TypeAdapter
from tolerances import TOLERANCE
from torch import Tensor, nn
from typed_fields import FLOW, pseudoscalar

from pde_sym.config import canonical_json
from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.nn import (
    Coarsen,
    IsotypicUNetConfig,
    ModelConfig,
    ModulatedUNetConfig,
    Pointwise,
    StrictUNetConfig,
    Task,
    count_parameters,
    gspace,
    match_width,
    regular_type,
    relaxed_layers,
    split_parameters,
)
from pde_sym.nn.coarsen import Resampling
from pde_sym.nn.heads import leray
from pde_sym.nn.residual import Antialiased
from pde_sym.symmetry import GroupElement, point_group

EXACT = TOLERANCE[torch.float64]
GRID = PeriodicGrid.square(16)
STATE = FLOW
GIVEN = FieldSpec.of(pseudoscalar("topography"))
TASK = Task(state=STATE)
COARSE = GroupElement(shift=(0.25, 0.75))
ELEMENTS = [*point_group("D4"), COARSE, GroupElement(1, True, (0.5, 0.25))]
RELAXED = (ModulatedUNetConfig, IsotypicUNetConfig)
FAMILIES = (StrictUNetConfig, *RELAXED)
UNet = StrictUNetConfig | ModulatedUNetConfig | IsotypicUNetConfig


def random(spec: FieldSpec = STATE) -> Tensor:
    return torch.randn(2, spec.num_channels, *GRID.shape, dtype=torch.float64)


def build(config: UNet, task: Task = TASK) -> nn.Module:
    """Return the net in float64, its blocks and biases away from their start."""
    net = config.build(task).double()
    known = {id(p) for p in split_parameters(net)[1]}
    for name, parameter in net.named_parameters():
        if id(parameter) not in known and ("bias" in name or "scale" in name):
            nn.init.normal_(parameter)
    return net


def perturb(net: nn.Module, std: float = 0.1) -> None:
    for parameter in split_parameters(net)[1]:
        nn.init.normal_(parameter, std=std)


@torch.no_grad()
def defect(net: nn.Module, element: GroupElement, x: Tensor | None = None) -> float:
    x = random() if x is None else x
    return relative_defect(net, x, element, STATE, GRID)


@pytest.mark.parametrize("resampling", ["spectral", "local"])
@pytest.mark.parametrize("group", ["D4", "D8", "O2"])
def test_the_strict_net_is_exact(group: str, resampling: Resampling) -> None:
    config = StrictUNetConfig(group=group, width=1, resampling=resampling)
    net = build(config)
    for element in ELEMENTS:
        assert defect(net, element) <= EXACT
    assert defect(net.float(), ELEMENTS[1], random().float()) <= 1e-5


class _Still(nn.Module):
    """A net whose given field stays where it is."""

    def __init__(self, net: nn.Module, given: Tensor) -> None:
        super().__init__()
        self.net, self.given = net, given

    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.cat([x, self.given], 1))


@torch.no_grad()
def test_given_fields_move_along() -> None:
    net = build(StrictUNetConfig(group="D4", width=1), Task(state=STATE, given=GIVEN))
    x, joint = random(STATE + GIVEN), STATE + GIVEN
    for element in ELEMENTS:
        assert relative_defect(net, x, element, joint, GRID, STATE) <= EXACT
    # Left where they are, they break the symmetry.
    given = random(GIVEN)
    found = defect(_Still(net, given), ELEMENTS[1])
    assert found > 1e-2


def test_a_net_of_turns_fails_flips() -> None:
    net = build(StrictUNetConfig(group="C4", width=1))
    for element in ELEMENTS:
        assert (defect(net, element) > 0.1) == element.flip


@pytest.mark.parametrize("normalise", [False, True])
def test_every_shift_by_whole_points_is_exact(normalise: bool) -> None:
    net = build(StrictUNetConfig(group="D4", width=1, normalise=normalise))
    for shift in ((1 / 16, 0.0), (3 / 16, 1 / 8)):
        assert defect(net, GroupElement(turns=1, flip=True, shift=shift)) <= EXACT


def test_local_resampling_knows_where_the_coarse_points_lie() -> None:
    by_one, by_two = (GroupElement(shift=(n / 16, 0.0)) for n in (1, 2))
    shallow = StrictUNetConfig(group="D4", width=1, levels=1, resampling="local")
    assert defect(build(shallow), by_two) <= EXACT
    assert defect(build(shallow), by_one) > 1e-2
    deep = shallow.model_copy(update={"levels": 2})
    assert defect(build(deep), by_two) > 1e-2


def test_a_function_on_finer_points_commutes_with_shifts_by_those() -> None:
    fields = regular_type(gspace("C1"), 1)
    x = Coarsen()(torch.randn(1, 1, 32, 32, dtype=torch.float64))
    plain, spec = Pointwise(fields), FieldSpec.of(STATE.fields[2])
    for factor in (2, 4):
        fine = Antialiased(plain, factor)
        for part in (factor, 2 * factor):
            shift = GroupElement(shift=(1 / 16 / part, 0.0))
            exact = part == factor
            found = relative_defect(fine, x, shift, spec, GRID)
            assert (found <= EXACT) == exact
            assert found < 0.3 * relative_defect(plain, x, shift, spec, GRID)


@pytest.mark.parametrize("family", RELAXED)
def test_relaxed_nets_start_strict_and_can_leave(family: type[UNet]) -> None:
    task = Task(state=STATE, breaks_translation=True, resolution=16)
    net = build(family(group="D4", width=1, levels=2), task)
    strict = StrictUNetConfig(group="D4", width=1, levels=2).build(task).double()
    missing, unexpected = net.load_state_dict(strict.state_dict(), strict=False)
    assert missing
    assert not unexpected
    x = random()
    assert torch.equal(net(x), strict(x))
    layers = relaxed_layers(net)
    # In and out, 2 to change the grid per level, 2 in each of 5 blocks.
    assert len(layers) == 2 + 2 * 2 + 5 * 2
    assert all(layer.relaxation().item() == 0 for layer in layers)
    perturb(net)
    assert all(layer.relaxation().item() > 0 for layer in layers)
    for element in ELEMENTS[1:]:
        assert defect(net, element) > 1e-2


def test_learned_fields_are_as_coarse_as_their_grids() -> None:
    task = Task(state=STATE, breaks_translation=True, resolution=32)
    modes = [
        layer.position.modes  # type: ignore[union-attr]
        for layer in relaxed_layers(ModulatedUNetConfig(width=1).build(task))
    ]
    assert set(modes) == {8, 4, 2}
    assert {
        layer.position  # type: ignore[union-attr]
        for layer in relaxed_layers(ModulatedUNetConfig(width=1).build(TASK))
    } == {None}


@pytest.mark.parametrize("family", FAMILIES)
def test_any_of_them_learns_saves_and_moves_to_other_grids(family: type[UNet]) -> None:
    config = family(width=1, levels=1, normalise=True, resampling="local")
    adapter: TypeAdapter[ModelConfig] = TypeAdapter(ModelConfig)
    assert adapter.validate_json(canonical_json(config)) == config
    net = config.build(TASK)
    x = torch.randn(4, 4, 8, 12)
    target, losses = 0.5 * x.roll(1, -1), []
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(10):
        optimiser.zero_grad()
        loss = (net(x) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    again = config.build(TASK)
    again.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(x), net(x))
    assert net(torch.randn(1, 4, 16, 16)).shape == (1, 4, 16, 16)


def test_the_grid_is_halved_as_often_as_it_can_be() -> None:
    def halvings(resolution: int | None, **settings: int) -> int:
        config = StrictUNetConfig.model_validate({"width": 1, **settings})
        net = config.build(Task(state=STATE, resolution=resolution))
        return sum(isinstance(layer, Coarsen) for layer in net.modules())

    for resolution, expected in {8: 1, 12: 1, 24: 1, 32: 2, 64: 3, 96: 3}.items():
        assert halvings(resolution) == expected
    assert halvings(None) == 2
    assert halvings(256) == 3
    assert halvings(64, levels=1) == 1
    for resolution, levels in ((33, 1), (34, 2), (16, 3)):
        with pytest.raises(InputError, match=rf"halved {levels} times needs .* got"):
            halvings(resolution, levels=levels)


def test_widths_can_be_matched() -> None:
    wanted = count_parameters(StrictUNetConfig(width=3).build(TASK))
    assert match_width(StrictUNetConfig(), TASK, wanted) == StrictUNetConfig(width=3)


def test_heads_serve_them_too() -> None:
    net = build(StrictUNetConfig(group="D4", width=1, head="streamfunction"))
    x = random()
    velocity = net(x)[:, :2]
    assert torch.allclose(leray(velocity), velocity, atol=EXACT)
    for element in ELEMENTS:
        assert defect(net, element) <= EXACT


def test_bad_input_says_what_is_allowed() -> None:
    net = StrictUNetConfig(width=1, levels=2).build(TASK)
    with pytest.raises(InputError, match="5 x 5 points cannot be halved; use even"):
        net(torch.zeros(1, 4, 10, 10))
    with pytest.raises(InputError, match=r"3 points needs a grid at least.*\(2, 2\)"):
        net(torch.zeros(1, 4, 8, 8))
    with pytest.raises(InputError, match="levels"):
        StrictUNetConfig.parse({"levels": 0}, where="model")
    with pytest.raises(InputError, match="resampling"):
        StrictUNetConfig.parse({"resampling": "mean"}, where="model")
    line = Task(state=FieldSpec.of(Field(name="u")), num_axes=1)
    with pytest.raises(InputError, match="grids of 2 axes, the data have 1"):
        StrictUNetConfig().build(line)
