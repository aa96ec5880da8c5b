"""What holds for every layer of the package: slopes, saving, casting, compiling."""

import copy
import io
from collections.abc import Callable

import pytest
import torch
from layer_cases import CASES, layers_of_the_package
from torch import Tensor, nn

from pde_sym.nn import relaxed_layers

every_case = pytest.mark.parametrize("name", CASES)
LEARNS = [n for n, c in CASES.items() if list(c.make().parameters())]


def output(layer: Callable[..., Tensor], inputs: list[Tensor]) -> Tensor:
    with torch.no_grad():
        return layer(*inputs)


def test_the_table_has_every_layer() -> None:
    covered = {type(case.make()) for case in CASES.values()}
    missing = layers_of_the_package() - covered
    assert not missing, f"no case in layer_cases.py for {missing}"


def test_a_layer_that_is_not_in_the_table_is_found() -> None:
    class Newcomer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    Newcomer.__module__ = "pde_sym.nn.newcomer"
    assert Newcomer in layers_of_the_package()
    # Out of the way of the test above, which sees every class that is alive.
    Newcomer.__module__ = __name__


@every_case
def test_slopes_are_those_of_differences(name: str) -> None:
    layer, inputs = CASES[name].layer(), CASES[name].inputs()
    learned = {n: p.detach() for n, p in layer.named_parameters() if p.requires_grad}

    def run(*values: Tensor) -> Tensor:
        weights = dict(zip(learned, values[len(inputs) :], strict=True))
        return torch.func.functional_call(layer, weights, values[: len(inputs)])

    values = [value.requires_grad_() for value in (*inputs, *learned.values())]
    assert torch.autograd.gradcheck(run, values)


@every_case
def test_slopes_at_the_start_are_finite(name: str) -> None:
    """Of what is penalised: a norm has none at 0, where relaxed weights begin."""
    made = CASES[name].make()
    for layer in relaxed_layers(made):
        total = layer.relaxation() + layer.penalty() + layer.lagrangian()
        if total.requires_grad:
            total.backward()
    for parameter in made.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@every_case
def test_saving_evaluating_and_casting_change_no_bit(name: str) -> None:
    case = CASES[name]
    # Weights that were drawn in float32 lose nothing; constants must not either.
    layer, inputs = case.layer().float().double(), case.inputs()
    before, keys = output(layer, inputs), list(layer.state_dict())
    assert torch.equal(output(layer.eval(), inputs), before)
    assert torch.equal(output(layer, inputs), before)
    assert list(layer.state_dict()) == keys
    assert torch.equal(output(layer.float().double(), inputs), before)
    assert torch.equal(output(layer.train(), inputs), before)
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    other = case.layer().eval()
    assert torch.equal(output(other, inputs), before) == (name not in LEARNS)
    other.load_state_dict(torch.load(buffer, weights_only=True), strict=True)
    assert list(other.state_dict()) == keys
    for again in (other, copy.deepcopy(other), other.train()):
        assert torch.equal(output(again, inputs), before)
    single = output(layer.float(), [x.float() for x in inputs])
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), before, rtol=1e-3, atol=1e-4)


@pytest.mark.compiled
@every_case
def test_compiled_layers_give_the_same(name: str) -> None:
    layer, inputs = CASES[name].layer(), CASES[name].inputs()
    compiled = torch.compile(layer, backend="aot_eager")
    for training in (True, False):
        layer.train(training)
        expected = output(layer, inputs)
        assert torch.allclose(output(compiled, inputs), expected, rtol=0, atol=1e-13)
    torch._dynamo.reset()
