"""What the body hides from a network is read off: by irrep, and whereto."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rigid_bodies import GRID, NO_FIELDS
from test_nn_so3 import rotations
from torch import Tensor, nn

from experiments.__main__ import main
from experiments.runs import load_surrogate, read_run
from pde_sym.errors import InputError
from pde_sym.fields import FieldSpec
from pde_sym.nn import SO3Network, body_direction, body_spectrum, relaxed_layers
from pde_sym.nn.so3 import SO3Type, irrep_matrix
from pde_sym.nn.so3_linear import SO3Linear
from pde_sym.nn.so3_spectrum import quadrature
from pde_sym.systems.rigid_body import RigidBody
from pde_sym.systems.rigid_body_initial import FIELDS
from pde_sym.systems.rigid_body_solver import RigidBodySolver
from pde_sym.systems.rigid_body_terms import Gravity

MOMENTUM = FieldSpec.of(FIELDS.fields[0])
HEAVY = FieldSpec.of(*FIELDS.fields[:2])
UNIT = torch.eye(3, dtype=torch.float64)
Map = Callable[[Tensor], Tensor]


def units(count: int) -> Tensor:
    """Draw points of the sphere, ``(count, 3)``."""
    drawn = torch.randn(count, 3, dtype=torch.float64)
    return drawn / drawn.norm(dim=1, keepdim=True)


def cross(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.cross(a, b.expand_as(a))


def drawn_inertia() -> tuple[Tensor, Tensor]:
    """Draw a tensor ``I^-1`` and its traceless part, the latter at norm 1."""
    (turn,) = rotations(1)
    moments = 1 + torch.rand(3, dtype=torch.float64)
    inverse = turn @ torch.diag(1 / moments) @ turn.T
    rest = inverse - inverse.trace() / 3 * UNIT
    return inverse, rest / rest.norm()


def angle(found: Tensor, planted: Tensor) -> float:
    """Return the angle between two directions or matrices, whatever their sign."""
    chords = [float((found - sign * planted).norm()) for sign in (1, -1)]
    return math.degrees(2 * math.asin(min(chords) / 2))


def train(student: nn.Module, teacher: Map, x: Tensor, steps: int) -> float:
    """Fit by L-BFGS with a light penalty; return the relative mean square left."""
    y = teacher(x)
    optimiser = torch.optim.LBFGS(
        student.parameters(), max_iter=steps, line_search_fn="strong_wolfe",
        tolerance_grad=1e-10, tolerance_change=1e-13,
    )  # fmt: skip

    def error() -> Tensor:
        return (student(x) - y).square().mean() / y.square().mean()

    def closure() -> Tensor:
        optimiser.zero_grad()
        penalties = [layer.penalty() for layer in relaxed_layers(student)]
        loss = error() + 1e-6 * sum(penalties, y.new_zeros(()))
        loss.backward()
        return loss

    optimiser.step(closure)
    return error().item()


def hidden(shares: dict[str, float], part: str) -> float:
    """Return the share of a part in all that is not trivial."""
    return shares[part] / (1 - shares["trivial"])


def hidden_axis(chi: Tensor) -> Map:
    """Return the heavy top with a sphere's inertia: ``(Gamma x chi, Gamma x Pi)``."""

    def rate(x: Tensor) -> Tensor:
        pi, gamma = x.split(3, 1)
        return torch.cat([cross(gamma, chi), cross(gamma, pi)], 1)

    return rate


def test_quadrature_is_exact_up_to_its_degree() -> None:
    turns, weights = quadrature(6)
    assert weights.sum() == pytest.approx(1)
    assert (turns @ turns.mT - UNIT).abs().max() <= 1e-14
    assert torch.linalg.det(turns).min() > 0.9
    for first in range(4):
        for second in range(4):
            a, b = (irrep_matrix(ell, turns) for ell in (first, second))
            mean = torch.einsum("q,qab,qcd->abcd", weights, a, b)
            size = 2 * first + 1
            unit = torch.eye(size, dtype=torch.float64)
            expected = torch.einsum("ac,bd->abcd", unit, unit) / size
            wanted = expected if first == second else 0 * mean
            assert (mean - wanted).abs().max() <= 1e-13
    few, shares = quadrature(2)
    fourth = torch.einsum("q,q->", shares, few[:, 2, 2] ** 4)
    assert abs(float(fourth) - 1 / 5) > 1e-3


def test_the_spectrum_tells_the_parts_of_known_maps() -> None:
    chi, (inverse, rest) = units(1)[0], drawn_inertia()
    x, pi = torch.cat([units(3), units(3)], 1), units(5)
    shares = body_spectrum(hidden_axis(chi), x, HEAVY, HEAVY)
    gamma, both = x[:, 3:], cross(x[:, 3:], x[:, :3]).square().sum()
    # The mean of |Gamma x chi|^2 over the turned copies is 2/3.
    expected = 2 / 3 * gamma.square().sum() / (2 / 3 * gamma.square().sum() + both)
    assert shares["l1"] == pytest.approx(float(expected))
    assert shares["trivial"] == pytest.approx(1 - float(expected))
    assert max(shares[part] for part in ("l2", "l3", "l4")) < 1e-25
    found, share = body_direction(hidden_axis(chi), x, HEAVY, HEAVY, "l1")
    assert angle(found, chi) < 1e-10
    assert share == pytest.approx(1)

    def spin(x: Tensor) -> Tensor:
        return cross(x, x @ inverse)

    shares = body_spectrum(spin, pi, MOMENTUM, MOMENTUM)
    assert shares["l2"] == pytest.approx(1)
    found, share = body_direction(spin, pi, MOMENTUM, MOMENTUM, "l2")
    assert angle(found, rest) < 1e-10
    assert share == pytest.approx(1)
    assert found.trace().abs() <= 1e-14
    with pytest.raises(InputError, match="only l1 and l2"):
        body_direction(spin, pi, MOMENTUM, MOMENTUM, "l3")


def test_the_solver_shows_the_axis_and_the_inertia_that_it_was_given() -> None:
    """One frame of the exact flow, whose first order in dt is the equation."""
    chi, x = units(1)[0], torch.cat([units(4), units(4)], 1)
    direction = tuple(chi.tolist())
    heavy = RigidBody(
        inertia=(1.0, 1.0, 1.0),
        breaking=(Gravity.model_validate({"strength": 0.5, "direction": direction}),),
    )
    free = RigidBody(inertia=(1.0, 1.5, 2.0))

    def change(system: RigidBody, x: Tensor) -> Tensor:
        solver = RigidBodySolver(system, GRID, NO_FIELDS, 0.05, compiled=False)
        return solver(x[..., None, None, None]).flatten(1) - x

    shares = body_spectrum(lambda x: change(heavy, x), x, HEAVY, HEAVY)
    assert hidden(shares, "l1") > 0.99
    found, _ = body_direction(lambda x: change(heavy, x), x, HEAVY, HEAVY, "l1")
    assert angle(found, chi) < 1
    pi = x[:, :3]
    shares = body_spectrum(lambda x: change(free, x), pi, MOMENTUM, MOMENTUM)
    assert hidden(shares, "l2") > 0.99
    inverse = torch.diag(1 / torch.tensor(free.moments, dtype=torch.float64))
    rest = inverse - inverse.trace() / 3 * UNIT
    found, _ = body_direction(lambda x: change(free, x), pi, MOMENTUM, MOMENTUM, "l2")
    assert angle(found, rest / rest.norm()) < 1


@pytest.mark.parametrize("setting", ["parts", "modulated"])
@pytest.mark.parametrize("planted", ["axis", "inertia", "nothing"])
def test_the_weights_of_one_layer_show_what_was_planted(
    planted: str, setting: str
) -> None:
    """Linear teachers: ``Gamma x chi``, ``I^-1 Pi``, and a multiple of the identity."""
    one = SO3Type((0, 1, 0))
    for seed in range(8):
        torch.manual_seed(seed)
        chi, (inverse, rest) = units(1)[0], drawn_inertia()
        teachers: dict[str, Map] = {
            "axis": lambda x, chi=chi: 0.3 * x + cross(x, chi),
            "inertia": lambda x, inverse=inverse: x @ inverse,
            "nothing": lambda x: -0.7 * x,
        }
        is_modulated = setting == "modulated"
        parts = () if is_modulated else ("l1", "l2")
        student = SO3Linear(one, one, parts=parts, modulated=is_modulated).double()
        assert train(student, teachers[planted], units(32), 60) < 1e-7
        shares = student.weight_spectrum()
        if planted == "nothing":
            assert 1 - shares["trivial"] < 1e-6
            continue
        part, truth = ("l1", chi) if planted == "axis" else ("l2", rest)
        assert hidden(shares, part) > 0.999
        assert angle(student.direction(part), truth) < 0.1


def deep(planted: str, seed: int, modulated: bool = False) -> tuple[SO3Network, Map]:
    """Return a trained network of two layers and its teacher."""
    torch.manual_seed(seed)
    chi, (inverse, _) = units(1)[0], drawn_inertia()
    teachers: dict[str, tuple[FieldSpec, Map]] = {
        "axis": (HEAVY, hidden_axis(chi)),
        "inertia": (MOMENTUM, lambda x: cross(x, x @ inverse)),
        "nothing": (HEAVY, hidden_axis(0 * chi)),
    }
    spec, teacher = teachers[planted]
    parts = () if modulated else ("l1", "l2")
    student = SO3Network(spec, spec, 3, 2, parts=parts, modulated=modulated).double()
    x = torch.cat([units(64) for _ in spec], 1)
    assert train(student, teacher, x, 150) < 1e-3
    return student, teacher


def check_deep(planted: str, seed: int, modulated: bool = False) -> None:
    """Train, and compare the parts of the student with what was planted."""
    student, teacher = deep(planted, seed, modulated)
    spec = MOMENTUM if planted == "inertia" else HEAVY
    x = torch.cat([units(16) for _ in spec], 1)
    shares = body_spectrum(student, x, spec, spec)
    if planted == "nothing":
        assert 1 - shares["trivial"] < 0.01
        return
    part = "l1" if planted == "axis" else "l2"
    assert hidden(shares, part) > 0.95
    found, share = body_direction(student, x, spec, spec, part)
    truth, _ = body_direction(teacher, x, spec, spec, part)
    assert angle(found, truth) < 2
    assert share > 0.98


@pytest.mark.parametrize("planted", ["axis", "inertia", "nothing"])
def test_a_network_breaks_as_its_teacher_does(planted: str) -> None:
    check_deep(planted, 0)


@pytest.mark.slow
@pytest.mark.parametrize("modulated", [False, True], ids=["parts", "modulated"])
@pytest.mark.parametrize("planted", ["axis", "inertia", "nothing"])
def test_eight_networks_break_as_their_teachers_do(
    planted: str, modulated: bool
) -> None:
    for seed in range(8):
        check_deep(planted, seed, modulated)


def test_a_strict_network_hides_what_its_teacher_shows() -> None:
    torch.manual_seed(0)
    teacher, x = hidden_axis(units(1)[0]), torch.cat([units(64), units(64)], 1)
    student = SO3Network(HEAVY, HEAVY, 3, 2).double()
    assert train(student, teacher, x, 60) > 0.1
    shares = body_spectrum(student, x[:8], HEAVY, HEAVY)
    assert 1 - shares["trivial"] < 1e-12
    assert np.isclose(sum(shares.values()), 1)


@pytest.mark.slow
def test_a_run_shows_the_inertia_of_its_data(tmp_path: Path) -> None:
    """From generated data to a trained surrogate, by the commands that users have."""
    data, system = tmp_path / "data", RigidBody()
    sizes = ["--train", "16", "--valid", "4", "--test", "1", "--frames", "21"]
    assert main(["generate", "rigid_body", *sizes, "--out", str(data)]) == 0
    x, inverse = units(16), torch.diag(1 / torch.tensor(system.moments).double())
    rest = inverse - inverse.trace() / 3 * UNIT
    found = {}
    for kind in ("so3", "so3_isotypic", "mlp"):
        out = tmp_path / kind
        words = ["train", "--data", str(data), "--model", kind, "--out", str(out)]
        assert main([*words, "--updates", "300"]) == 0
        step = load_surrogate(read_run(out)).double()

        def change(x: Tensor, step: nn.Module = step) -> Tensor:
            return step(x[..., None, None, None]).flatten(1) - x

        shares = body_spectrum(change, x, MOMENTUM, MOMENTUM)
        found[kind] = 1 - shares["trivial"]
        if kind == "so3_isotypic":
            assert hidden(shares, "l2") > 0.95
            direction, _ = body_direction(change, x, MOMENTUM, MOMENTUM, "l2")
            assert angle(direction, rest / rest.norm()) < 3
    assert found["so3"] < 1e-12
    assert found["so3_isotypic"] > 0.9
    assert found["mlp"] > 0.9
