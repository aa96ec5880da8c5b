"""Networks for a rigid body: symmetry, products, heads, families."""

import copy
import io

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from rigid_bodies import GRID, body, equation, flow, states
from test_nn_so3 import rotations
from tolerances import TOLERANCE
from torch import Tensor, nn
from typed_fields import vector

from pde_sym.config import canonical_json
from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.nn import (
    BodyFields,
    MLPConfig,
    ModelConfig,
    Normalisation,
    RotationHead,
    SO3Config,
    SO3HiddenConfig,
    SO3IsotypicConfig,
    SO3Network,
    Surrogate,
    Task,
    count_parameters,
    match_width,
    relaxed_layers,
    split_parameters,
)
from pde_sym.nn.so3_head import turning
from pde_sym.nn.so3_network import SO3Product
from pde_sym.systems.rigid_body import RigidBody
from pde_sym.systems.rigid_body_initial import FIELDS
from pde_sym.systems.rigid_body_symmetry import BodyAction, Rotation
from pde_sym.systems.rigid_body_terms import Gravity

MOMENTUM = FieldSpec.of(FIELDS.fields[0])
INERTIA = Field(name="inertia", rank=Rank.TENSOR, components=9)
AXIS = Field(name="axis", rank=Rank.VECTOR, components=3)
GIVEN = FieldSpec.of(INERTIA, AXIS)
HEAVY = FieldSpec.of(*FIELDS.fields[:2])
TASKS = {
    "momentum": Task(state=MOMENTUM, num_axes=0),
    "all fields": Task(state=FIELDS, num_axes=0),
    "heavy, all given": Task(state=HEAVY, given=GIVEN, num_axes=0),
}
FAMILIES = [SO3Config, SO3HiddenConfig, SO3IsotypicConfig, MLPConfig]
Config = SO3Config | SO3HiddenConfig | SO3IsotypicConfig | MLPConfig
POINT = GRID.shape


def values(spec: FieldSpec, count: int = 4) -> Tensor:
    return torch.randn(count, spec.num_channels, *POINT, dtype=torch.float64)


def surrogate(config: Config, task: Task, dtype: torch.dtype) -> Surrogate:
    before = 3 * values(task.state) + 1
    given = None if task.given is None else 5 * values(task.given)
    after = before + 0.1 * values(task.state)
    scales = Normalisation.of(task, before, after, given)
    return Surrogate(config.build(task), task, scales).to(dtype)


def moved(spec: FieldSpec, turn: Tensor, x: Tensor) -> Tensor:
    """Return states ``(B, C, 1, 1, 1)`` whose body frame is turned."""
    return BodyFields(spec).turn(turn, x.flatten(1)).reshape(x.shape)


def defect(step: Surrogate, turn: Tensor, with_given: bool = True) -> float:
    """Return ``||f(Q x) - Q f(x)|| / ||f(x)||``, given fields moved too or not."""
    task, dtype = step.task, step.get_buffer("std").dtype
    x = values(task.state).to(dtype)
    given = None if task.given is None else values(task.given).to(dtype)
    after = given
    if task.given is not None and given is not None and with_given:
        after = moved(task.given, turn, given)
    with torch.no_grad():
        out = step.normalised_increment(x, given)
        straight = step.normalised_increment(moved(task.state, turn, x), after)
    back = moved(task.state, turn, out)
    return ((straight - back).norm() / out.norm()).item()


def perturb(model: nn.Module, scale: float = 0.2) -> None:
    with torch.no_grad():
        for weight in split_parameters(model)[1]:
            weight.normal_(std=scale)


def test_network_and_solver_agree_on_the_action() -> None:
    """Where the body hides nothing, solver and network turn alike."""
    sphere = body(Gravity(strength=0.0), inertia=(1.0, 1.0, 1.0))
    rotation = Rotation("body", (1.0, 2.0, -0.5), 77.0)
    turn, x = torch.from_numpy(rotation.matrix), states(sphere)
    ours = moved(sphere.fields, turn, x)
    assert (BodyAction(sphere.fields)(rotation, x) - ours).abs().max() <= 1e-14
    step = flow(sphere, compiled=False)
    straight, back = step(ours), moved(sphere.fields, turn, step(x))
    assert (straight - back).abs().max() <= 1e-13
    uneven = flow(body(inertia=(1.0, 1.5, 2.0), attitude=False), compiled=False)
    x = x[:, :3]
    broken = uneven(moved(MOMENTUM, turn, x)) - moved(MOMENTUM, turn, uneven(x))
    assert broken.abs().max() > 1e-2


def test_a_tensor_turns_as_the_inertia_does() -> None:
    (turn,) = rotations(1)
    inertia = torch.randn(2, 3, 3, dtype=torch.float64)
    fields = BodyFields(FieldSpec.of(INERTIA))
    assert fields.type.counts == (1, 1, 1)
    found = fields.turn(turn, inertia.flatten(1)).reshape(-1, 3, 3)
    assert torch.allclose(found, turn @ inertia @ turn.T, atol=1e-14)
    x = values(FIELDS).flatten(1)
    whole = BodyFields(FIELDS)
    assert whole.type.counts == (2, 5, 0)
    assert torch.allclose(whole.channels(whole.features(x)), x, atol=1e-14)


def test_with_its_inertia_and_axis_the_equation_is_equivariant() -> None:
    """``Pi' = Pi x I^-1 Pi + Gamma x chi`` of the module, all turned together."""
    (turn,) = rotations(1)
    heavy = RigidBody(breaking=(Gravity(strength=0.7, direction=(1.0, 2.0, 2.0)),))
    x = states(heavy).flatten(1)
    inverse = torch.diag(1 / torch.tensor(heavy.moments, dtype=torch.float64))
    chi = torch.tensor(heavy.vector(Gravity), dtype=torch.float64)

    def rate(x: Tensor, inverse: Tensor, chi: Tensor) -> Tensor:
        pi, gamma = x.split(3, 1)
        omega, cross = pi @ inverse, torch.linalg.cross
        weight = cross(gamma, chi.expand_as(gamma))
        return torch.cat([cross(pi, omega) + weight, cross(gamma, omega)], 1)

    assert (rate(x, inverse, chi) - equation(heavy, x)).abs().max() <= 1e-14
    turns = BodyFields(HEAVY).turn
    straight = rate(turns(turn, x), turn @ inverse @ turn.T, turn @ chi)
    assert (straight - turns(turn, rate(x, inverse, chi))).abs().max() <= 1e-14
    hidden = rate(turns(turn, x), inverse, chi)
    assert (hidden - turns(turn, rate(x, inverse, chi))).abs().max() > 0.1


def test_products_are_equivariant_under_rotations_and_not_under_reflections() -> None:
    product = SO3Product(2)
    x = torch.randn(3, product.in_type.size, dtype=torch.float64)
    for turn in rotations():
        straight = product(product.in_type.turn(turn, x))
        back = product.out_type.turn(turn, product(x))
        assert (straight - back).norm() <= 1e-12 * back.norm()
    flip = -torch.eye(3, dtype=torch.float64)
    straight = product(product.in_type.turn(flip, x))
    assert (straight - product.out_type.turn(flip, product(x))).norm() > 0.1


def test_products_hold_the_cross_product_and_the_gate() -> None:
    product = SO3Product(1)
    a, b = torch.randn(2, 3, dtype=torch.float64)
    x = torch.cat([torch.tensor([0.7, 0.0]), a, b, torch.zeros(10)])
    _, vectors, _ = product.out_type.split(product(x))
    gate = nn.functional.gelu(torch.tensor(0.7)).double()
    # In the order of `so3.products`: 0 x 1, 1 x 0, 1 x 1, ...
    assert torch.allclose(vectors[0], gate * b, atol=1e-7)
    assert torch.allclose(vectors[2], torch.linalg.cross(a, b) / 2**0.5)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("name", "rotated"),
    [
        *((name, ()) for name in TASKS),
        ("all fields", ("angular_momentum", "attitude")),
        ("heavy, all given", ("angular_momentum",)),
    ],
)
def test_strict_step_is_equivariant(
    name: str, rotated: tuple[str, ...], dtype: torch.dtype
) -> None:
    step = surrogate(SO3Config(width=2, rotated=rotated), TASKS[name], dtype)
    for turn in rotations():
        assert defect(step, turn) <= TOLERANCE[dtype]
        if step.task.given is not None:
            assert defect(step, turn, with_given=False) > 1e-2
    free = surrogate(MLPConfig(width=8, rotated=rotated), TASKS[name], dtype)
    assert defect(free, rotations(1)[0]) > 1e-2


@pytest.mark.parametrize("settings", [{}, {"parts": (), "modulated": True}], ids=str)
@pytest.mark.parametrize("name", TASKS)
def test_relaxed_step_starts_strict_and_leaves(
    name: str, settings: dict[str, bool]
) -> None:
    relaxed = SO3IsotypicConfig.model_validate({"width": 2, **settings})
    step = surrogate(relaxed, TASKS[name], torch.float64)
    strict = SO3Config(width=2).build(TASKS[name])
    missing, unexpected = step.net.load_state_dict(strict.state_dict(), strict=False)
    assert missing
    assert not unexpected
    x = values(TASKS[name].inputs)
    assert torch.equal(step.net(x), strict.double()(x))
    for turn in rotations():
        assert defect(step, turn) <= TOLERANCE[torch.float64]
    for index in range(len(relaxed_layers(step))):
        net = copy.deepcopy(step)
        perturb(relaxed_layers(net)[index])
        assert max(defect(net, turn) for turn in rotations()) > 1e-2


def test_attached_values_are_read_and_break_as_the_body_does() -> None:
    task = TASKS["momentum"]
    plain = SO3Config(width=2)
    told = SO3Config(width=2, inertia=(1.0, 1.5, 2.0), directions=((0.0, 0.0, 1.0),))
    assert plain.attached is None
    step = surrogate(told, task, torch.float64)
    half = torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64))
    assert defect(step, half) <= 1e-12
    for turn in (*rotations(), half.flip(0).flip(1)):
        assert defect(step, turn) > 1e-2
    fields, fixed = told.attached or (FieldSpec.of(), torch.empty(0))
    assert fields.names == ("inverse_inertia", "axis_1")
    inverse = 1 / np.array([1.0, 1.5, 2.0])
    expected = np.diag(inverse / inverse.mean())
    assert fixed[:9].reshape(3, 3).numpy() == pytest.approx(expected)
    # The same network of body and state together is equivariant.
    (turn,) = rotations(1)
    nets = [
        SO3Network(MOMENTUM, MOMENTUM, 2, 3, attached=(fields, each))
        for each in (fixed, BodyFields(fields).turn(turn, fixed))
    ]
    nets[1].load_state_dict(nets[0].state_dict())
    x = values(MOMENTUM)
    with torch.no_grad():
        straight = nets[1].double()(moved(MOMENTUM, turn, x))
        back = moved(MOMENTUM, turn, nets[0].double()(x))
    assert (straight - back).norm() <= 1e-12 * back.norm()


def test_a_strict_network_that_sees_the_momentum_alone_cannot_turn_it() -> None:
    """What is equivariant there is g(|Pi|) Pi: the inertia must be read or relaxed."""
    task, x = TASKS["momentum"], values(MOMENTUM)
    settings = {"width": 3, "rotated": ("angular_momentum",)}
    with torch.no_grad():
        strict = SO3Config.model_validate(settings).build(task).double()
        assert strict(x).abs().max() <= 1e-14
        relaxed = SO3IsotypicConfig.model_validate(settings).build(task).double()
        assert relaxed(x).abs().max() <= 1e-14
        perturb(relaxed)
        assert relaxed(x).abs().max() > 1e-2
        told = SO3Config.model_validate({**settings, "inertia": (1.0, 1.5, 2.0)})
        assert told.build(task).double()(x).abs().max() > 1e-2


def test_turning_is_the_rotation_that_it_says() -> None:
    v, w = torch.randn(2, 5, 3, dtype=torch.float64)
    size = w.norm(dim=1, keepdim=True)
    omega = 2 * torch.arctan(size) * w / size
    zero = torch.zeros_like(omega[:, 0])
    x, y, z = omega.unbind(1)
    hat = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).unflatten(1, (3, 3))
    expected = torch.einsum("bij,bj->bi", torch.matrix_exp(hat), v)
    assert torch.allclose(v + turning(v, w), expected, atol=1e-14)
    assert not turning(v, 0 * w).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_rotation_head_keeps_lengths_and_attitudes(family: type[Config]) -> None:
    task = Task(state=FieldSpec.of(*FIELDS.fields[:3]), num_axes=0)
    names = task.state.names
    step = surrogate(family(width=4, rotated=names), task, torch.float64)
    free = surrogate(family(width=4), task, torch.float64)
    perturb(step)
    x = states(body(Gravity(strength=1.0)))
    with torch.no_grad():
        after, other = x, x
        for _ in range(20):
            after, other = step(after), free(other)
    for a, b in ((0, 3), (3, 6)):
        length, kept, lost = (
            s[:, a:b].flatten(1).norm(dim=1) for s in (x, after, other)
        )
        assert (kept - length).abs().max() <= 1e-12
        assert (lost - length).abs().max() > 1e-3
        assert (after[:, a:b] - x[:, a:b]).abs().max() > 1e-2
    rows = after[:, 6:15].reshape(-1, 3, 3)
    assert (rows @ rows.mT - torch.eye(3)).abs().max() <= 1e-12
    assert torch.linalg.det(rows).min() > 0.9


@pytest.mark.parametrize("family", FAMILIES)
def test_any_family_learns_and_keeps_its_weights(family: type[Config]) -> None:
    task = TASKS["heavy, all given"]
    step = surrogate(family(width=3, depth=2), task, torch.float32)
    plain, relaxed = split_parameters(step)
    assert len({id(p) for p in plain + relaxed}) == len(list(step.parameters()))
    assert bool(relaxed) == (family in (SO3HiddenConfig, SO3IsotypicConfig))
    x, given = values(HEAVY).float(), values(GIVEN, 1)[0].float()
    target, losses = x + 0.05 * x.flip(0), []
    optimiser = torch.optim.Adam(step.parameters(), lr=1e-2)
    for _ in range(10):
        optimiser.zero_grad()
        loss = (step(x, given) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(p.abs().max() > 0 for p in relaxed if p.numel())
    out, keys = step(x, given), list(step.state_dict())
    buffer = io.BytesIO()
    torch.save(step.eval().state_dict(), buffer)
    buffer.seek(0)
    other = Surrogate(family(width=3, depth=2).build(task), task, step.normalisation)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert list(other.state_dict()) == keys
    with torch.inference_mode():
        assert torch.equal(other(x, given), out)


@pytest.mark.parametrize("family", FAMILIES)
def test_settings_survive_json_and_widths_match(family: type[Config]) -> None:
    adapter: TypeAdapter[ModelConfig] = TypeAdapter(ModelConfig)
    config = family(width=7, depth=2, rotated=("angular_momentum",))
    assert adapter.validate_json(canonical_json(config)) == config
    task = TASKS["momentum"]
    wanted = round(1.01 * count_parameters(family().build(task)))
    assert match_width(family(width=2), task, wanted) == family()


def test_bad_input_says_what_is_allowed() -> None:
    task = TASKS["momentum"]
    with pytest.raises(InputError, match=r"for grids of 0 axes, the data have 2"):
        SO3Config().build(Task(state=MOMENTUM))
    with pytest.raises(InputError, match=r"part 'l7'.*l1, l2"):
        SO3IsotypicConfig.parse({"parts": ["l7"]}, where="model")
    with pytest.raises(InputError, match=r"'attitude': expected some of angular_mom"):
        SO3Config(rotated=("attitude",)).build(task)
    flat = FieldSpec.of(vector("v"))
    with pytest.raises(InputError, match=r"vector of 3 components, got 2"):
        SO3Config().build(Task(state=flat, num_axes=0))
    with pytest.raises(InputError, match=r"expected \(batch, 3, \*points\)"):
        SO3Config(width=1).build(task)(torch.zeros(2, 4, 1, 1, 1))
    with pytest.raises(InputError, match="none"):
        RotationHead(nn.Identity(), FieldSpec.of(Field(name="u")), ("u",))
