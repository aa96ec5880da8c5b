"""Teachers whose broken irrep is known: do students find it, and nothing else?

One layer is identified by its kernel. In deep networks hidden changes of basis move
weight between parts, so that the breaking spectrum of the function is judged.
"""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pde_sym.diagnostics import Action, breaking_spectrum, turned_back
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid
from pde_sym.nn import (
    Isotypic,
    Modulated,
    Pointwise,
    Relaxation,
    SteerableConv2d,
    Strict,
    element_matrix,
    field_type,
    gspace,
    regular_type,
)
from pde_sym.nn.field_types import elements_of, subgroup_indices
from pde_sym.nn.periodic import wrap
from pde_sym.symmetry import point_group

SPEC = FieldSpec.of(Field(name="u"), Field(name="v", rank=Rank.VECTOR, components=2))
GRID = PeriodicGrid.square(8)
PARTS = ("pseudoscalar", "vector", "quadrupole", "quadrupole'")
TEACHERS = list(itertools.product(PARTS, range(2)))
KEPT = ("C4", "D1", "D1@90", "D2", "C2", "D1@45", "D2@45", "C1")


def layer(setting: Relaxation) -> SteerableConv2d:
    fields = field_type(SPEC, gspace("D4"))
    return SteerableConv2d(fields, fields, 3, relaxation=setting).double()


def plant(conv: SteerableConv2d, share: float) -> None:
    """Give the relaxed kernels a norm of `share` times that of the steerable ones."""
    with torch.no_grad():
        for weight in conv.parts.parameters():
            weight.normal_()
        relaxed = conv.effective_kernel() - conv.kernel()
        factor = share * conv.kernel().norm() / relaxed.norm()
        for weight in conv.parts.parameters():
            weight *= factor


def learn(student: nn.Module, inputs: Tensor, outputs: Tensor, rounds: int) -> float:
    """Fit by LBFGS; return the relative error."""
    optimiser = torch.optim.LBFGS(
        student.parameters(), max_iter=rounds, line_search_fn="strong_wolfe",
        tolerance_grad=1e-12, tolerance_change=1e-14,
    )  # fmt: skip

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = (student(inputs) - outputs).square().mean() / outputs.square().mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    return float(closure().detach()) ** 0.5


def non_trivial(shares: dict[str, float]) -> dict[str, float]:
    """Return each part's share of what is not trivial."""
    rest = {name: share for name, share in shares.items() if name != "trivial"}
    return {name: share / sum(rest.values()) for name, share in rest.items()}


def states(number: int) -> Tensor:
    return torch.randn(number, SPEC.num_channels, *GRID.shape, dtype=torch.float64)


@pytest.mark.parametrize(("part", "seed"), TEACHERS)
def test_one_layer_finds_the_part(part: str, seed: int) -> None:
    torch.manual_seed(seed)
    teacher, student = layer(Isotypic(parts=(part,))), layer(Isotypic())
    plant(teacher, 0.3)
    x = states(8)
    assert learn(student, x, teacher(x).detach(), 200) < 1e-3
    shares = student.kernel_spectrum()
    assert non_trivial(shares)[part] > 0.95
    assert 1 - shares["trivial"] == pytest.approx(0.09 / 1.09, rel=0.05)


def test_one_layer_of_a_symmetric_teacher_stays_symmetric() -> None:
    for seed in range(8):
        torch.manual_seed(seed)
        teacher, student = layer(Strict()), layer(Isotypic())
        x = states(8)
        assert learn(student, x, teacher(x).detach(), 200) < 1e-3
        assert 1 - student.kernel_spectrum()["trivial"] < 0.01


@pytest.mark.parametrize("kept", KEPT)
def test_one_layer_finds_the_subgroup(kept: str) -> None:
    """What the student breaks leaves alone what the teacher keeps, and no more."""
    teacher, student = layer(Isotypic(relax_to=kept)), layer(Isotypic())
    plant(teacher, 0.3)
    x = states(8)
    assert learn(student, x, teacher(x).detach(), 200) < 1e-3
    space = gspace("D4")
    inside = subgroup_indices(space, kept)
    matrices = [element_matrix(space, g).tolist() for g in elements_of(space)]
    turned = spectrum_parts(student, states(4))
    size = turned[0].square().mean()
    for element, image in zip(point_group("D4"), turned, strict=True):
        matrix = [list(map(float, row)) for row in element.matrix]
        broken = float((image - turned[0]).square().mean() / size)
        if matrices.index(matrix) in inside:
            assert broken < 1e-5
        else:
            assert broken > 1e-3


class Planted(nn.Module):
    """``f(x) = strict(x) + s P(x)`` with P in one part: broken by one irrep exactly."""

    def __init__(self, part: str | None) -> None:
        super().__init__()
        self.strict, self.part = network(Strict()), None
        if part is not None:
            self.part, self.name = layer(Isotypic(parts=(part,))), part
            plant(self.part, 1.0)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        out = self.strict(x)
        if self.part is None:
            return out
        own = nn.functional.conv2d(wrap(x, 3), self.part.parts[self.name]())
        return out + 0.3 * own * out.norm() / own.norm()


def network(setting: Relaxation, width: int = 2) -> nn.Sequential:
    space = gspace("D4")
    fields, hidden = field_type(SPEC, space), regular_type(space, width)
    return nn.Sequential(
        SteerableConv2d(fields, hidden, 3, relaxation=setting),
        Pointwise(hidden),
        SteerableConv2d(hidden, fields, 3, relaxation=setting),
    ).double()


def spectrum_parts(f: nn.Module, x: Tensor) -> Tensor:
    """Return ``g^-1 f(g x)`` for every g of D4."""
    with torch.no_grad():
        return turned_back(f, x, point_group("D4").elements, Action(SPEC, GRID))


def function_spectrum(f: nn.Module, x: Tensor) -> dict[str, float]:
    """Return ``||f_sigma||^2 / ||f||^2`` over the inputs."""
    with torch.no_grad():
        return breaking_spectrum(f, x, point_group("D4"), Action(SPEC, GRID))


@pytest.mark.slow
@pytest.mark.parametrize("setting", [Isotypic(), Modulated()], ids=["parts", "factors"])
@pytest.mark.parametrize(("part", "seed"), TEACHERS)
def test_deep_networks_find_the_irrep_of_the_function(
    part: str, seed: int, setting: Relaxation
) -> None:
    torch.manual_seed(seed)
    teacher, student = Planted(part), network(setting, 6)
    assert non_trivial(function_spectrum(teacher, states(16)))[part] > 0.999
    x = states(64)
    error = learn(student, x, teacher(x), 400)
    shares = function_spectrum(student, states(16))
    assert non_trivial(shares)[part] > 0.95, (error, shares)


@pytest.mark.slow
def test_deep_networks_of_symmetric_teachers_break_nothing() -> None:
    for seed in range(8):
        torch.manual_seed(seed)
        teacher, student = Planted(None), network(Isotypic(), 6)
        x = states(64)
        learn(student, x, teacher(x), 400)
        assert 1 - function_spectrum(student, states(16))["trivial"] < 0.01


def test_a_spectrum_that_is_wrong_is_seen() -> None:
    teacher = Planted("vector")
    shares = non_trivial(function_spectrum(teacher, states(16)))
    assert shares["vector"] > 0.999
    assert np.isclose(sum(shares.values()), 1.0)
    assert shares["quadrupole"] < 1e-3
