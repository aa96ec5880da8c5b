"""Model families as time steps: symmetry, sizes, settings, normalisation."""

import json

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from tolerances import TOLERANCE
from torch import Tensor, nn
from typed_fields import FLOW, pseudoscalar, vector

from pde_sym.config import canonical_json
from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.nn import (
    CNNConfig,
    FieldScale,
    IsotypicConfig,
    ModelConfig,
    ModulatedConfig,
    Normalisation,
    StrictConfig,
    Surrogate,
    Task,
    count_parameters,
    match_width,
    split_parameters,
)
from pde_sym.symmetry import GroupElement, act, point_group

GRID = PeriodicGrid.square(10)
STATE = FLOW
GIVEN = FieldSpec.of(pseudoscalar("topography"))
TASK = Task(state=STATE)
JOINT = Task(state=STATE, given=GIVEN)
SHIFT = GroupElement(shift=(0.3, 0.7))
FAMILIES = [CNNConfig, StrictConfig, ModulatedConfig, IsotypicConfig]
ON_GRID = {"C4": "C4", "D4": "D4", "C8": "C4", "D8": "D4"}


def states(spec: FieldSpec, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, spec.num_channels, *GRID.shape, dtype=dtype)


def surrogate(
    config: CNNConfig | StrictConfig | ModulatedConfig | IsotypicConfig,
    task: Task = TASK,
    dtype: torch.dtype = torch.float64,
) -> Surrogate:
    before, after = 3 * states(task.state) + 1, states(task.state)
    given = None if task.given is None else 5 * states(task.given)
    scales = Normalisation.of(task, before, after, given)
    return Surrogate(config.build(task), task, scales).to(dtype)


def defect(step: Surrogate, element: GroupElement, dtype: torch.dtype) -> float:
    """Return the relative defect, state and given fields moved together."""
    task = step.task
    x = states(task.state, dtype)
    given = None if task.given is None else states(task.given, dtype)
    moved = None
    if task.given is not None and given is not None:
        moved = act(element, given, task.given, GRID)
    with torch.no_grad():
        out = step(x, given)
        straight = step(act(element, x, task.state, GRID), moved)
    turned = act(element, out, task.state, GRID)
    return ((straight - turned).norm() / out.norm()).item()


def perturb(step: Surrogate) -> None:
    with torch.no_grad():
        for parameter in split_parameters(step)[1]:
            parameter.normal_(std=0.2)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("group", ON_GRID)
@pytest.mark.parametrize("task", [TASK, JOINT], ids=["state", "state and given"])
def test_strict_step_is_equivariant(group: str, dtype: torch.dtype, task: Task) -> None:
    step = surrogate(StrictConfig(group=group, width=2), task, dtype)
    for element in (*point_group(ON_GRID[group]), SHIFT):
        assert defect(step, element, dtype) <= TOLERANCE[dtype]
    if group[0] == "C":
        assert defect(step, GroupElement(flip=True), dtype) > 0.1


@pytest.mark.parametrize("family", [ModulatedConfig, IsotypicConfig])
def test_relaxed_step_starts_strict_and_can_leave(
    family: type[ModulatedConfig] | type[IsotypicConfig],
) -> None:
    task = Task(state=STATE, breaks_translation=True)
    step = surrogate(family(group="D4", width=2), task)
    strict = StrictConfig(group="D4", width=2).build(task)
    missing, unexpected = step.net.load_state_dict(strict.state_dict(), strict=False)
    assert missing
    assert not unexpected
    x = states(STATE)
    assert torch.equal(step.net(x), strict.double()(x))
    for element in (*point_group("D4"), SHIFT):
        assert defect(step, element, torch.float64) <= TOLERANCE[torch.float64]
    perturb(step)
    for element in (GroupElement(turns=1), GroupElement(flip=True), SHIFT):
        assert defect(step, element, torch.float64) > 1e-2


@pytest.mark.parametrize("family", [ModulatedConfig, IsotypicConfig])
def test_shifts_stay_exact_where_the_task_keeps_them(
    family: type[ModulatedConfig] | type[IsotypicConfig],
) -> None:
    step = surrogate(family(width=2))
    perturb(step)
    assert defect(step, GroupElement(turns=1), torch.float64) > 1e-2
    assert defect(step, SHIFT, torch.float64) <= TOLERANCE[torch.float64]


@pytest.mark.parametrize("kind", [ModulatedConfig, IsotypicConfig])
def test_learned_fields_stay_above_the_spacing_of_the_data(
    kind: type[ModulatedConfig] | type[IsotypicConfig],
) -> None:
    def modes(task: Task, **settings: int) -> int:
        return kind.model_validate(settings).relaxation(task).modes

    breaking = {"state": STATE, "breaks_translation": True}
    assert modes(Task(state=STATE, resolution=64)) == 0
    assert modes(Task.model_validate(breaking)) == 8
    for resolution, highest in ((64, 8), (32, 8), (16, 4), (8, 2), (3, 1)):
        assert modes(Task.model_validate(breaking | {"resolution": resolution})) == (
            highest
        )
    assert modes(Task.model_validate(breaking), position_modes=3) == 3


def test_free_step_sees_its_place_only_where_the_task_breaks_translations() -> None:
    breaking = Task(state=STATE, breaks_translation=True)
    bound = TOLERANCE[torch.float64]
    assert defect(surrogate(CNNConfig(width=4)), SHIFT, torch.float64) <= bound
    for config, task, sees in [
        (CNNConfig(width=4), breaking, True),
        (CNNConfig(width=4, position_channels=False), breaking, False),
        (CNNConfig(width=4, position_channels=True), TASK, True),
    ]:
        found = defect(surrogate(config, task), SHIFT, torch.float64)
        assert (found > 1e-2) == sees
        assert (found <= bound) != sees
    turned = defect(surrogate(CNNConfig(width=4)), GroupElement(turns=1), torch.float64)
    assert turned > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_any_family_runs_on_another_grid_and_learns(
    family: type[CNNConfig] | type[ModulatedConfig],
) -> None:
    task = Task(state=STATE, given=GIVEN, breaks_translation=True)
    step = surrogate(family(width=3, depth=2), task, torch.float32)
    plain, relaxed = split_parameters(step)
    assert len({id(p) for p in plain + relaxed}) == len(list(step.parameters()))
    assert bool(relaxed) == (family in (ModulatedConfig, IsotypicConfig))
    optimiser = torch.optim.AdamW(
        [{"params": plain}, {"params": relaxed, "weight_decay": 0.0}], lr=1e-2
    )
    x, given = torch.randn(4, 4, 12, 8), torch.randn(1, 12, 8)
    target = 0.5 * x.roll(1, -1)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = (step(x, given) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    # One step in, every relaxing weight has moved.
    assert all(p.abs().max() > 0 for p in relaxed if p.numel())


@pytest.mark.parametrize("family", FAMILIES)
def test_matched_widths_come_within_ten_percent(
    family: type[CNNConfig] | type[StrictConfig],
) -> None:
    own = family()
    wanted = round(1.01 * count_parameters(own.build(TASK)))
    small = own.model_copy(update={"width": 2})
    assert match_width(small, TASK, wanted) == own
    with pytest.raises(InputError, match="no width brings"):
        match_width(family(), TASK, 10)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    match_width(family(), TASK, wanted)
    assert torch.equal(torch.rand(1), expected)


def test_modulation_costs_few_parameters() -> None:
    strict = count_parameters(StrictConfig().build(TASK))
    modulated = count_parameters(ModulatedConfig().build(TASK))
    assert strict < modulated < 1.02 * strict


@pytest.mark.parametrize("family", FAMILIES)
def test_settings_survive_json(family: type[CNNConfig]) -> None:
    adapter: TypeAdapter[ModelConfig] = TypeAdapter(ModelConfig)
    config = family(width=7, depth=3)
    again = adapter.validate_json(canonical_json(config))
    assert again == config
    assert hash(again) == hash(config)
    task = Task(state=STATE, given=GIVEN)
    assert Task.model_validate_json(canonical_json(task)) == task


def test_normalisation_measures_by_rank_and_survives_json() -> None:
    before = states(STATE) * torch.tensor([2.0, 4.0, 3.0, 0.5]).view(-1, 1, 1) + 7
    after = before + 0.1 * states(STATE)
    given = torch.full((2, 1, *GRID.shape), 3.0, dtype=torch.float64)
    scales = Normalisation.of(JOINT, before, after, given)
    assert Normalisation.model_validate_json(canonical_json(scales)) == scales
    velocity, vorticity, tracer, topography = scales.fields
    assert velocity.mean == vorticity.mean == topography.mean == 0
    assert tracer.mean == pytest.approx(7, abs=0.2)
    assert velocity.std == pytest.approx(before[:, :2].square().mean().sqrt().item())
    assert tracer.std == pytest.approx(0.5, rel=0.2)
    assert tracer.increment_std == pytest.approx(0.1, rel=0.2)
    assert topography.increment_std == 1
    mean, std, _ = scales.channels(JOINT.inputs)
    assert mean.shape == std.shape == (5, 1, 1)
    assert std[0] == std[1]


def test_a_constant_field_has_scale_one() -> None:
    task = Task(state=FieldSpec.of(Field(name="u")))
    still = torch.full((3, 1, 8, 8), 0.1)
    (scale,) = Normalisation.of(task, still, still).fields
    assert scale.std == scale.increment_std == 1


def test_step_is_the_state_plus_the_scaled_increment() -> None:
    task = Task(state=FieldSpec.of(Field(name="u")))
    scale = FieldScale(name="u", mean=2.0, std=4.0, increment_std=0.5)
    step = Surrogate(nn.Identity(), task, Normalisation(fields=(scale,)))
    x = torch.randn(2, 1, 8, 8)
    assert torch.allclose(step(x), x + 0.5 * (x - 2) / 4)
    assert list(step.state_dict()) == []


def test_bad_input_says_what_is_allowed() -> None:
    with pytest.raises(InputError, match=r"kernel_size.*odd and positive"):
        StrictConfig.parse({"kernel_size": 4}, where="model")
    with pytest.raises(InputError, match="expected C or D"):
        StrictConfig.parse({"group": "SO(2)"}, where="model")
    with pytest.raises(InputError, match="use band 'rings'"):
        ModulatedConfig.parse({"group": "C8", "band": "full"}, where="model")
    with pytest.raises(InputError, match=r"part 'spin'.*vector"):
        IsotypicConfig.parse({"parts": ["spin"]}, where="model")
    with pytest.raises(InputError, match="names must differ"):
        Task.parse({"state": STATE, "given": STATE}, where="task")
    with pytest.raises(ValidationError, match="kind"):
        TypeAdapter(ModelConfig).validate_python({"kind": "transformer"})
    tilted = Normalisation(fields=(FieldScale(name="v", mean=1.0),))
    spec = FieldSpec.of(vector("v"))
    with pytest.raises(InputError, match="vector needs mean 0"):
        Surrogate(nn.Identity(), Task(state=spec), tilted)
    with pytest.raises(InputError, match="lacks field 'velocity'"):
        Surrogate(nn.Identity(), TASK, tilted)
    step = surrogate(StrictConfig(width=1), JOINT, torch.float32)
    x = states(STATE, torch.float32)
    with pytest.raises(InputError, match=r"expected the fields.*got None"):
        step(x)
    with pytest.raises(InputError, match="state: expected"):
        step(x[:, :2], x[:, :1])
    with pytest.raises(InputError, match="no given fields"):
        surrogate(StrictConfig(width=1), TASK, torch.float32)(x, x[:, :1])
    with pytest.raises(InputError, match="grid at least"):
        surrogate(CNNConfig(width=1), TASK, torch.float32)(x[..., :3])


def test_identity_normalisation_changes_nothing() -> None:
    scales = Normalisation.identity(JOINT)
    assert json.loads(canonical_json(scales))["fields"][0]["mean"] == 0
    mean, std, increment_std = scales.channels(JOINT.inputs)
    assert mean.abs().max() == 0
    assert torch.equal(std, torch.ones(5, 1, 1))
    assert torch.equal(increment_std, std)
