"""The published relaxations as families: built from fields, trained as the others."""

import pytest
import torch
from pydantic import TypeAdapter
from tolerances import TOLERANCE
from torch import Tensor
from typed_fields import FLOW, vector

from pde_sym.config import canonical_json
from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.nn import (
    ModelConfig,
    Normalisation,
    StrictConfig,
    Surrogate,
    Task,
    count_parameters,
    match_width,
    relaxed_layers,
    split_parameters,
)
from pde_sym.nn.families import (
    CanonicalConfig,
    Family,
    ImplicitConfig,
    LiftConfig,
    RGroupConfig,
    RPPConfig,
    RSteerConfig,
)
from pde_sym.objective import TrainConfig, window_loss
from pde_sym.symmetry import GroupElement, act, point_group
from pde_sym.training import make_optimiser

EXACT = TOLERANCE[torch.float64]
GRID = PeriodicGrid.square(10)
STATE = FLOW
GIVEN = FieldSpec.of(vector("wind"), Field(name="height"))
TASK, JOINT = Task(state=STATE), Task(state=STATE, given=GIVEN)
BREAKING = Task(state=STATE, breaks_translation=True)
SHIFT = GroupElement(shift=(0.3, 0.7))
FAMILIES: dict[str, Family] = {
    "rpp": RPPConfig(free_start=0),
    "rgroup": RGroupConfig(),
    "rgroup of h": RGroupConfig(argument="input", banks=1),
    "rsteer": RSteerConfig(),
    "lift": LiftConfig(),
    "implicit": ImplicitConfig(),
    "implicit, hidden": ImplicitConfig(learned_vector=True),
    "average": CanonicalConfig(relax=True),
    "frame": CanonicalConfig(mode="frame", relax=True),
}
RELAXED = [name for name in FAMILIES if name != "implicit"]


def small(name: str, **settings: object) -> Family:
    update = {"width": 2, "depth": 3, "kernel_size": 3, **settings}
    return FAMILIES[name].model_copy(update=update)


def states(spec: FieldSpec) -> Tensor:
    return torch.randn(2, spec.num_channels, *GRID.shape, dtype=torch.float64)


def surrogate(config: Family, task: Task = TASK) -> Surrogate:
    before, after = 3 * states(task.state) + 1, states(task.state)
    given = None if task.given is None else 5 * states(task.given)
    scales = Normalisation.of(task, before, after, given)
    return Surrogate(config.build(task), task, scales).double()


def defect(
    step: Surrogate, element: GroupElement, *, moves_given: bool = True
) -> float:
    """Return the relative defect, the given fields moved with the state or not."""
    task, x = step.task, states(step.task.state)
    given = None if task.given is None else 1 + states(task.given)
    moved = given
    if task.given is not None and given is not None and moves_given:
        moved = act(element, given, task.given, GRID)
    with torch.no_grad():
        out = step(x, given)
        straight = step(act(element, x, task.state, GRID), moved)
    turned = act(element, out, task.state, GRID)
    return ((straight - turned).norm() / out.norm()).item()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("group", ["C4", "D4"])
def test_steps_start_equivariant_state_and_environment_together(
    name: str, group: str
) -> None:
    for task in (TASK, JOINT):
        step = surrogate(small(name, group=group), task)
        for element in (*point_group(group), SHIFT):
            assert defect(step, element) <= EXACT
        assert all(layer.relaxation() == 0 for layer in relaxed_layers(step))


@pytest.mark.parametrize("name", ["strict", "implicit"])
def test_an_environment_left_behind_is_seen(name: str) -> None:
    """The strict answer to a given environment: exact when both are moved."""
    strict = StrictConfig(group="D4", width=2, depth=3, kernel_size=3)
    config = strict if name == "strict" else small(name, group="D4")
    step = surrogate(config, JOINT)
    for element in (*point_group("D4"), SHIFT):
        assert defect(step, element) <= EXACT
        if element != GroupElement():
            assert defect(step, element, moves_given=False) > 1e-3


@pytest.mark.parametrize("name", RELAXED)
def test_steps_leave_what_the_task_breaks(name: str) -> None:
    step = surrogate(small(name), BREAKING)
    _, relaxed = split_parameters(step)
    assert relaxed
    with torch.no_grad():
        for parameter in relaxed:
            parameter += 0.3 * torch.randn_like(parameter)
    for element in (GroupElement(turns=1), SHIFT):
        assert defect(step, element) > 1e-3


@pytest.mark.parametrize("name", FAMILIES)
def test_few_updates_reduce_the_loss(name: str) -> None:
    """Of windows that decay and drift, through the trainer's own loss and optimiser."""
    # A square grid: quarter turns of the averaged networks ask for one.
    task = Task(state=STATE, given=GIVEN, breaks_translation=True, resolution=8)
    config = small(name, width=3, depth=2)
    x, given = torch.randn(4, 4, 8, 8), torch.randn(3, 8, 8)
    windows = torch.stack([0.5**n * x.roll(n, -1) for n in range(3)], 1)
    scales = Normalisation.of(task, windows[:, :-1], windows[:, 1:], given)
    step = Surrogate(config.build(task), task, scales)
    optimiser = make_optimiser(step, TrainConfig(learning_rate=1e-2))
    before = [p.detach().clone() for p in step.parameters()]
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = window_loss(step, windows, given)
        loss = loss + 1e-3 * sum(layer.penalty() for layer in relaxed_layers(step))
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    for old, new in zip(before, step.parameters(), strict=True):
        assert not new.numel() or not torch.equal(old, new)


@pytest.mark.parametrize("name", [n for n in FAMILIES if n not in ("average", "frame")])
def test_steps_run_on_oblong_grids(name: str) -> None:
    step = surrogate(small(name), BREAKING)
    x = torch.randn(1, 4, 14, 9, dtype=torch.float64)
    assert step(x).shape == x.shape


@pytest.mark.parametrize("name", FAMILIES)
def test_matched_widths_come_within_ten_percent(name: str) -> None:
    own = small(name, width=5)
    wanted = round(1.01 * count_parameters(own.build(TASK)))
    assert match_width(small(name), TASK, wanted) == own


@pytest.mark.parametrize("name", FAMILIES)
def test_settings_survive_json(name: str) -> None:
    adapter: TypeAdapter[ModelConfig] = TypeAdapter(ModelConfig)
    config = small(name)
    again = adapter.validate_json(canonical_json(config))
    assert again == config
    assert hash(again) == hash(config)


@pytest.mark.parametrize("name", ["rpp", "rgroup", "rsteer", "lift", "implicit"])
def test_groups_that_the_grid_has_in_part(name: str) -> None:
    step = surrogate(small(name, group="D8"))
    for element in point_group("D4"):
        assert defect(step, element) <= EXACT


def test_position_follows_the_task() -> None:
    for config in (RGroupConfig(), RSteerConfig(), RPPConfig(), ImplicitConfig()):
        for task, modes in ((TASK, 0), (BREAKING, 8)):
            assert config.layer_settings(task)["position_modes"] == modes
        at_8 = BREAKING.model_copy(update={"resolution": 8})
        assert config.layer_settings(at_8)["position_modes"] == 2
        fixed = config.model_copy(update={"position_modes": 3})
        assert fixed.layer_settings(TASK)["position_modes"] == 3


def test_bad_settings_say_what_is_allowed() -> None:
    with pytest.raises(InputError, match="exact groups of the grid"):
        CanonicalConfig.parse({"group": "C8"}, where="model")
    with pytest.raises(InputError, match="'average' or 'frame'"):
        CanonicalConfig.parse({"mode": "best"}, where="model")
    with pytest.raises(InputError, match="'output' or 'input'"):
        RGroupConfig.parse({"argument": "g"}, where="model")
    with pytest.raises(InputError, match="banks"):
        RSteerConfig.parse({"banks": 0}, where="model")
    with pytest.raises(InputError, match="free_prior"):
        RPPConfig.parse({"free_prior": 0}, where="model")
    with pytest.raises(InputError, match="use band 'rings'"):
        LiftConfig.parse({"group": "C8", "band": "full"}, where="model")
    with pytest.raises(InputError, match="grids of 2 axes"):
        ImplicitConfig().build(Task(state=STATE, num_axes=1))
