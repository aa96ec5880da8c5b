"""What a body hides, learned as vectors and tensors of its frame."""

import copy

import pytest
import torch
from rigid_bodies import GRID
from test_nn_so3 import rotations
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.nn import (
    BodyFields,
    SO3HiddenConfig,
    SO3Network,
    Task,
    count_parameters,
    relaxed_layers,
    split_parameters,
)
from pde_sym.nn.families import SO3Config
from pde_sym.nn.so3_network import OrderParameters
from pde_sym.systems.rigid_body_initial import FIELDS

MOMENTUM = FieldSpec.of(FIELDS.fields[0])
AXIS = Field(name="axis", rank=Rank.VECTOR, components=3)
TASK = Task(state=MOMENTUM, num_axes=0)


def momenta(count: int = 4) -> Tensor:
    return torch.randn(count, 3, *GRID.shape, dtype=torch.float64)


def turned(turn: Tensor, x: Tensor) -> Tensor:
    return BodyFields(MOMENTUM).turn(turn, x.flatten(1)).reshape(x.shape)


def order_of(net: torch.nn.Module) -> OrderParameters:
    (found,) = (m for m in relaxed_layers(net) if isinstance(m, OrderParameters))
    return found


def defect(net: torch.nn.Module, turn: Tensor) -> float:
    x = momenta()
    with torch.no_grad():
        straight, back = net(turned(turn, x)), turned(turn, net(x))
    return ((straight - back).norm() / back.norm()).item()


@pytest.mark.parametrize(("vectors", "tensors"), [(1, 0), (0, 1), (2, 1)])
def test_it_is_strict_until_something_is_learned(vectors: int, tensors: int) -> None:
    config = SO3HiddenConfig(width=2, vectors=vectors, tensors=tensors)
    net = config.build(TASK).double()
    order = order_of(net)
    assert order.relaxation() == 0
    assert order.penalty() == 0
    for turn in rotations():
        assert defect(net, turn) <= 1e-12
    with torch.no_grad():
        (values,) = split_parameters(net)[1]
        values.normal_()
    assert order.relaxation().item() == pytest.approx(values.norm().item())
    assert order.penalty().item() == pytest.approx(values.square().mean().item())
    assert max(defect(net, turn) for turn in rotations()) > 1e-2
    parts = {"l1": 3 * vectors, "l2": 5 * tensors, "mixing": 4 * (vectors + tensors)}
    assert order.parameters_per_part() == {n: k for n, k in parts.items() if k}
    more = count_parameters(net) - count_parameters(SO3Config(width=2).build(TASK))
    assert more == sum(parts.values())


def test_it_starts_as_the_strict_network_of_its_seed() -> None:
    torch.manual_seed(3)
    strict = SO3Config(width=2).build(TASK)
    torch.manual_seed(3)
    hidden = SO3HiddenConfig(width=2).build(TASK)
    kept = hidden.state_dict()
    assert all(torch.equal(kept[name], w) for name, w in strict.state_dict().items())
    torch.manual_seed(4)
    other = SO3Config(width=2).build(TASK).state_dict()
    assert not all(torch.equal(kept[name], weight) for name, weight in other.items())


def test_state_and_what_is_learned_turn_together() -> None:
    """``f(Q x, Q c) = Q f(x, c)``, whatever the weights are."""
    net = SO3HiddenConfig(width=2).build(TASK).double()
    order = order_of(net)
    x = momenta()
    with torch.no_grad():
        order.values.normal_()
        before = net(x)
        for turn in rotations():
            other = copy.deepcopy(net)
            order_of(other).values.copy_(order.fields.turn(turn, order.values))
            error = other(turned(turn, x)) - turned(turn, before)
            assert error.norm() <= 1e-12 * before.norm()


def test_a_learned_vector_is_one_that_is_attached() -> None:
    """``W x + M c``: the columns of M stand beside those of W."""
    hidden = SO3HiddenConfig(width=2, tensors=0).build(TASK).double()
    order = order_of(hidden)
    axis = torch.randn(3, dtype=torch.float64)
    told = SO3Network(
        MOMENTUM, MOMENTUM, 2, 4, attached=(FieldSpec.of(AXIS), axis)
    ).double()
    weights = hidden.state_dict()
    first = "layers.0.weights.1"
    weights[first] = torch.cat([weights[first], order.mixing[1].detach()], 1)
    told.load_state_dict({k: w for k, w in weights.items() if "order" not in k})
    x = momenta()
    with torch.no_grad():
        order.values.copy_(axis)
        assert torch.allclose(hidden(x), told(x), rtol=1e-12, atol=1e-12)
        order.values.neg_()
        assert (hidden(x) - told(x)).abs().max() > 1e-2


def test_it_finds_the_axis_that_the_data_hide() -> None:
    """``Pi x chi``: the learned vector lies along chi, and a strict network fails."""
    chi = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    losses: dict[type, float] = {}
    for config in (SO3HiddenConfig(width=2, depth=2), SO3Config(width=2, depth=2)):
        net = config.build(TASK).double()
        optimiser = torch.optim.Adam(net.parameters(), lr=0.03)
        loss = torch.zeros(())
        for _ in range(200):
            x = momenta(32)
            wanted = torch.linalg.cross(x, chi.view(1, 3, 1, 1, 1).expand_as(x), dim=1)
            loss = (net(x) - wanted).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        losses[type(config)] = loss.item()
        if isinstance(config, SO3HiddenConfig):
            order = order_of(net)
            axis = order.fields.split(order.values)[1][0]
            assert abs(axis @ chi) > 0.99 * axis.norm() * chi.norm()
    assert losses[SO3HiddenConfig] < 0.05 * losses[SO3Config]


def test_nothing_to_learn_is_refused() -> None:
    with pytest.raises(InputError, match="nothing is hidden"):
        SO3HiddenConfig.parse({"vectors": 0, "tensors": 0}, where="model")
