"""Networks between walls: images, turns of the box, and what they know of the walls."""

from typing import Any

import pytest
import torch
from helpers import drawn_states, relative_difference
from tolerances import TOLERANCE
from torch import Tensor, nn
from typed_fields import pseudoscalar, tensor, vector

from experiments.models import families
from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec
from pde_sym.grid import WalledGrid
from pde_sym.nn import (
    CNNConfig,
    Family,
    ModulatedConfig,
    ModulatedUNetConfig,
    StrictConfig,
    StrictUNetConfig,
    Task,
    relaxed_layers,
    split_parameters,
)
from pde_sym.nn.walls import (
    NORMAL,
    Unfolded,
    Walls,
    image_signs,
    unfold,
    unfolded_points,
    wall_normal,
)
from pde_sym.symmetry import GroupElement, act, point_group
from pde_sym.systems.plume import Plume
from pde_sym.systems.plume_initial import Puffs

EXACT = TOLERANCE[torch.float64]
STATE = Plume.fields
LIFT = FieldSpec.of(vector("lift"))
GRID = WalledGrid.square(12)
PLANE = [family for family in families() if 2 in family.axes]
D4 = point_group("D4").elements[1:]
WALLS: list[Walls] = ["slip", "stick"]


def task(walls: Walls = "slip", points: int = 12, **settings: Any) -> Task:
    values = {"breaks_translation": True, "resolution": points, **settings}
    return Task(state=STATE, walls=walls, **values)


def states(spec: FieldSpec = STATE, grid: WalledGrid = GRID) -> Tensor:
    return torch.randn(2, spec.num_channels, *grid.shape, dtype=torch.float64)


def network(config: Family, of: Task | None = None) -> nn.Module:
    """Return a network in float64, all but its relaxed weights off their start."""
    net = config.build(of or task())
    with torch.no_grad():
        for parameter in split_parameters(net)[0]:
            parameter += 0.1 * torch.randn_like(parameter)
    return net.double().requires_grad_(False)


def relax(net: nn.Module) -> bool:
    relaxed = split_parameters(net)[1]
    for parameter in relaxed:
        nn.init.normal_(parameter, std=0.3)
    return bool(relaxed)


def defect(net: nn.Module, element: GroupElement, spec: FieldSpec = STATE) -> float:
    x = states(spec)
    turned = act(element, net(x), STATE, GRID)
    return relative_difference(net(act(element, x, spec, GRID)), turned)


def small(family: type[Family], **settings: Any) -> Family:
    fields = family.model_fields
    values = {"width": 2, **settings}
    values |= {"kernel_size": 3} if "kernel_size" in fields else {}
    values |= {"group": "D4"} if "group" in fields else {}
    values |= {"free_start": 0.0} if "free_start" in fields else {}
    return family.parse(values, where="model")


# Images.


@pytest.mark.parametrize("walls", WALLS)
def test_images_are_those_of_the_solver(walls: Walls) -> None:
    """Smoke is even, what flows through a wall odd, along it even or odd."""
    x, signs = states(), image_signs(STATE, walls)
    wide = unfold(x, signs, None)
    assert wide.shape[-2:] == (24, 24)
    assert torch.equal(wide[..., :12, :12], x)
    sign = 1 if walls == "slip" else -1
    s, u, v = x.unbind(1)
    across_x = torch.stack([s, -u, sign * v], 1).flip(-2)
    across_y = torch.stack([s, sign * u, -v], 1).flip(-1)
    assert torch.equal(wide[..., 12:, :12], across_x)
    assert torch.equal(wide[..., :12, 12:], across_y)
    both = torch.stack([s, -sign * u, -sign * v], 1).flip(-2, -1)
    assert torch.equal(wide[..., 12:, 12:], both)


def test_pseudoscalars_and_tensors_are_as_any_flip_leaves_them() -> None:
    spec = FieldSpec.of(
        pseudoscalar("w"),
        tensor("t"),
        vector("v"),
    )
    signs = image_signs(spec, "slip")
    ones = torch.ones(1, spec.num_channels, 3, 3, dtype=torch.float64)
    flip_y, half_turn = GroupElement(flip=True), GroupElement(turns=2)
    for axis, element in ((1, flip_y), (0, half_turn @ flip_y)):
        flipped = act(element, ones, spec, WalledGrid.square(3))[0, :, 0, 0]
        assert torch.equal(signs[axis], flipped)


def test_a_margin_is_a_part_of_all_images() -> None:
    """And further out than the box it holds images of images."""
    x, signs = states(), image_signs(STATE, "stick")
    plane = unfold(x, signs, None).repeat(1, 1, 4, 4)
    for reach in (1, 5, 12, 17):
        wide = unfold(x, signs, reach)
        assert wide.shape[-1] == unfolded_points(12, reach) == 12 + 2 * reach + 1
        part = slice(24 - reach, 36 + reach)
        assert torch.equal(wide[..., 1:, 1:], plane[..., part, part])
        assert not wide[..., 0, :].any()
        assert not wide[..., 0].any()


def test_the_normal_points_inwards_and_turns_with_the_box() -> None:
    normal = wall_normal(states())
    assert (normal[0, 0] > 0.9).all()
    assert (normal[0, -1] < -0.9).all()
    spec = FieldSpec.of(NORMAL)
    for element in D4:
        assert (act(element, normal, spec, GRID) - normal).abs().max() <= EXACT
    by_hand = torch.cos(torch.tensor(torch.pi * 2.5 / 12, dtype=torch.float64))
    assert torch.allclose(normal[:, 2, 2], by_hand.expand(2))


# Symmetry.


@pytest.mark.parametrize("walls", WALLS)
@pytest.mark.parametrize("family", PLANE, ids=lambda f: f.model_fields["kind"].default)
def test_every_family_of_the_plane_keeps_what_the_box_keeps(
    family: type[Family], walls: Walls
) -> None:
    """Exact until it is relaxed, with a given lift that turns too; free ones never."""
    net = network(small(family), task(walls, given=LIFT))
    spec = STATE + LIFT
    assert net(states(spec)).shape == (2, 3, 12, 12)
    if getattr(family.model_fields.get("group"), "default", None) is None:
        assert min(defect(net, g, spec) for g in D4) > 1e-3
        return
    assert sum(float(layer.relaxation()) for layer in relaxed_layers(net)) == 0
    assert max(defect(net, g, spec) for g in D4) <= EXACT
    if relax(net):
        assert min(defect(net, g, spec) for g in D4) > 1e-3


def test_turns_alone_fail_flips() -> None:
    net = network(StrictConfig(group="C4", width=2, depth=3, kernel_size=3))
    for element in D4:
        assert (defect(net, element) <= EXACT) == (not element.flip)


def test_images_that_are_not_those_of_a_vector_fail_quarter_turns() -> None:
    """Here u is odd and v even about every wall; half turns and flips do not notice."""
    net = network(StrictConfig(group="D4", width=2, depth=3, kernel_size=3))
    signs = net.get_buffer("signs")
    net.get_buffer("signs").copy_(signs[:1].expand(2, -1))
    for element in D4:
        assert (defect(net, element) <= EXACT) == (element.turns % 2 == 0)


@pytest.mark.parametrize("kept", ["C2", "D1", "D2"])
def test_a_kept_subgroup_is_one_of_the_box(kept: str) -> None:
    """Factors in position are then even about the middle of the box, on any grid."""
    config = ModulatedConfig(group="D4", width=2, depth=2, kernel_size=3,
                             relax_to=kept, position_modes=2)  # fmt: skip
    net = network(config)
    relax(net)
    inside = point_group(kept).elements
    for element in D4:
        assert (defect(net, element) <= EXACT) == (element in inside)


def test_solver_and_network_turn_alike() -> None:
    """One after the other, on states between walls that the solver steps."""
    system = Plume()
    x = drawn_states(Puffs(), GRID, system=system)
    solver = system.solver(GRID, torch.empty(1, 0, 12, 12, dtype=torch.float64), 0.01)
    net = network(StrictConfig(group="D4", width=2, depth=3, kernel_size=3))

    def hybrid(u: Tensor) -> Tensor:
        return solver(u) + 0.1 * net(u)

    assert net(x).norm() > 0.1 * x.norm()
    for element in D4:
        for step in (solver, hybrid):
            turned = act(element, step(x), STATE, GRID)
            straight = step(act(element, x, STATE, GRID))
            assert relative_difference(straight, turned) <= 1e-11


# What is seen.


def test_a_margin_as_wide_as_the_network_sees_changes_nothing() -> None:
    config = CNNConfig(width=3, depth=3, kernel_size=5, position_channels=False)
    near, x = network(config), states()
    assert isinstance(near, Unfolded)
    assert near.reach == config.reach == 6
    far = Unfolded(near.net, STATE, "slip", None).double()
    assert relative_difference(near(x), far(x)) <= EXACT
    short = Unfolded(near.net, STATE, "slip", 5).double()
    assert relative_difference(short(x), far(x)) > 1e-6


def test_a_network_of_flips_keeps_the_images() -> None:
    """Between slippery walls its output has the images of a state."""
    config = StrictUNetConfig(group="D4", width=1, levels=1)
    net, x = network(config), states()
    assert isinstance(net, Unfolded)
    wide = unfold(torch.cat([x, wall_normal(x).expand(2, -1, -1, -1)], 1),
                  net.get_buffer("signs"), None)  # fmt: skip
    out = net.net(wide)
    again = unfold(out[..., :12, :12], image_signs(STATE, "slip"), None)
    assert relative_difference(again, out) <= EXACT


@pytest.mark.parametrize("family", [CNNConfig, StrictConfig])
def test_the_walls_are_seen(family: type[Family]) -> None:
    """Of a state that is the same everywhere, the change is not."""
    net = network(small(family), task(breaks_translation=False))
    still = torch.zeros(1, 3, 12, 12, dtype=torch.float64)
    out = net(still)
    assert (out.std((2, 3)) > 1e-3).any()


def test_one_network_serves_boxes_of_every_size_and_shape() -> None:
    net = network(StrictConfig(group="D4", width=2, depth=2, kernel_size=3))
    grid = WalledGrid(shape=(9, 14), lengths=(9.0, 14.0))
    x = states(grid=grid)
    for element in point_group("D2"):
        turned = act(element, net(x), STATE, grid)
        moved = net(act(element, x, STATE, grid))
        assert relative_difference(moved, turned) <= EXACT


def test_means_are_kept_between_walls_too() -> None:
    net = network(CNNConfig(width=2, depth=2, head="mean"))
    assert net(states()).mean((2, 3)).abs().max() <= 1e-15


# Refusals.


def test_what_walls_rule_out_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"Fourier modes.* use 'none' or 'mean'"):
        StrictConfig(head="leray").build(task())
    with pytest.raises(InputError, match="'local' keeps every second point"):
        StrictUNetConfig(resampling="local").build(task())
    with pytest.raises(InputError, match="set position_modes to 0"):
        ModulatedUNetConfig(relax_to="C2").build(task())
    ModulatedUNetConfig(relax_to="C2", position_modes=0).build(task())
    with pytest.raises(ValueError, match="walls are around a plane"):
        Task(state=FieldSpec.of(Field(name="u")), num_axes=1, walls="slip")
    net = network(CNNConfig(width=2, depth=2))
    with pytest.raises(InputError, match=r"expected input \(batch, 3, x, y\)"):
        net(states(STATE + LIFT))
