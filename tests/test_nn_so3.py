"""Irreps of rotations, and the linear layer that is split by them."""

import itertools

import numpy as np
import pytest
import torch
from tolerances import TOLERANCE
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.nn.so3 import (
    HIGHEST,
    PARTS,
    SO3Type,
    coupling,
    generators,
    irrep_matrix,
    joined,
    map_basis,
    parts_between,
    products,
    traceless,
)
from pde_sym.nn.so3_linear import SO3Linear

BEFORE, AFTER = SO3Type((2, 3, 1)), SO3Type((1, 2, 2))
BLOCKS = list(itertools.product(range(HIGHEST + 1), repeat=2))
SETTINGS = {
    "strict": {},
    "parts": {"parts": ("l1", "l2", "l3", "l4")},
    "modulated": {"modulated": True},
    "both": {"parts": ("l1", "l2"), "modulated": True},
}


def rotations(count: int = 6) -> Tensor:
    """Draw rotations ``(count, 3, 3)``: nearly orthogonal matrices made exact."""
    q, r = torch.linalg.qr(torch.randn(count, 3, 3, dtype=torch.float64))
    q = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]
    return q * torch.linalg.det(q)[:, None, None].sign()


def layer(name: str, dtype: torch.dtype = torch.float64) -> SO3Linear:
    made = SO3Linear(BEFORE, AFTER, **SETTINGS[name])
    torch.nn.init.normal_(made.bias)
    return made.to(dtype)


def perturb(made: SO3Linear, scale: float = 0.3) -> None:
    with torch.no_grad():
        for weight in made.relaxed_parameters():
            weight.normal_(std=scale)


def defect(made: SO3Linear, turn: Tensor) -> float:
    """Return the largest ``||f(Q x) - Q f(x)|| / ||f(x)||`` over rotations."""
    dtype = made.bias.dtype
    x = torch.randn(5, BEFORE.size, dtype=dtype)
    with torch.no_grad():
        straight = made(BEFORE.turn(turn[:, None], x))
        turned = AFTER.turn(turn[:, None], made(x))
        return float(((straight - turned).norm(dim=(1, 2)) / made(x).norm()).max())


def test_generators_are_those_of_the_rotations() -> None:
    w = torch.randn(3, dtype=torch.float64)
    turn = torch.matrix_exp(torch.tensordot(w, torch.tensor(generators(1)), 1))
    axis = w / w.norm()
    assert torch.allclose(turn @ axis, axis, atol=1e-14)
    assert torch.allclose(
        torch.tensor(generators(1)[2])[:, 0], torch.eye(3, dtype=torch.float64)[1]
    )
    for ell in range(5):
        j = generators(ell)
        assert np.abs(j + j.transpose(0, 2, 1)).max() <= 1e-14
        assert np.abs(j[0] @ j[1] - j[1] @ j[0] - j[2]).max() <= 1e-13
        casimir = -np.einsum("aij,ajk->ik", j, j)
        assert np.abs(casimir - ell * (ell + 1) * np.eye(2 * ell + 1)).max() <= 1e-13
        exponential = torch.matrix_exp(torch.tensordot(w, torch.tensor(j), 1))
        assert (exponential - irrep_matrix(ell, turn)).abs().max() <= 1e-13


def test_irreps_are_representations_with_the_characters_of_so3() -> None:
    a, b = rotations(2)
    for ell in range(5):
        product = irrep_matrix(ell, a) @ irrep_matrix(ell, b)
        assert (irrep_matrix(ell, a @ b) - product).abs().max() <= 1e-13
        angle = torch.arccos((a.trace() - 1) / 2)
        character = torch.sin((ell + 0.5) * angle) / torch.sin(angle / 2)
        assert irrep_matrix(ell, a).trace() == pytest.approx(character.item())


def test_products_of_vectors_are_the_usual_ones() -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 3))
    dot, cross, rest = (
        np.einsum("abM,a,b->M", coupling(1, 1, ell), a, b) for ell in range(3)
    )
    assert dot == pytest.approx(a @ b / np.sqrt(3))
    assert cross == pytest.approx(np.cross(a, b) / np.sqrt(2))
    outer = (np.outer(a, b) + np.outer(b, a)) / 2 - a @ b / 3 * np.eye(3)
    assert np.tensordot(rest, traceless(), 1) == pytest.approx(outer)
    assert len(products()) == 15
    with pytest.raises(InputError, match="no product of l=1 and l=1 has a part l=3"):
        coupling(1, 1, 3)


def test_maps_of_vectors_are_the_usual_ones() -> None:
    assert map_basis(1, 1, 0)[0] == pytest.approx(np.eye(3) / np.sqrt(3))
    assert map_basis(1, 1, 2) == pytest.approx(traceless())
    w, v = np.random.default_rng(0).standard_normal((2, 3))
    turned = np.tensordot(w, map_basis(1, 1, 1), 1) @ v
    assert turned == pytest.approx(np.cross(w, v) / np.sqrt(2))


@pytest.mark.parametrize(("after", "before"), BLOCKS)
def test_the_parts_are_orthogonal_complete_and_turn_as_they_say(
    after: int, before: int
) -> None:
    bases = {p: map_basis(after, before, p) for p in parts_between(after, before)}
    every = np.concatenate([basis.reshape(len(basis), -1) for basis in bases.values()])
    assert every.shape[0] == every.shape[1] == (2 * after + 1) * (2 * before + 1)
    assert np.abs(every @ every.T - np.eye(len(every))).max() <= 1e-14
    (turn,) = rotations(1)
    left, right = irrep_matrix(after, turn), irrep_matrix(before, turn)
    for part, basis in bases.items():
        moved = left @ torch.tensor(basis) @ right.mT
        mixed = torch.einsum(
            "Nab,NM->Mab", torch.tensor(basis), irrep_matrix(part, turn)
        )
        assert (moved - mixed).abs().max() <= 1e-13


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", SETTINGS)
def test_layer_starts_exactly_equivariant(name: str, dtype: torch.dtype) -> None:
    made = layer(name, dtype)
    assert made.relaxation() == made.penalty() == 0
    assert defect(made, rotations()) <= TOLERANCE[dtype]
    assert made.weight_spectrum()["trivial"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", ["parts", "modulated"])
def test_every_relaxed_weight_breaks_the_symmetry(name: str) -> None:
    turn = rotations()
    for index, weight in enumerate(list(layer(name).relaxed_parameters())):
        made = layer(name)
        chosen = list(made.relaxed_parameters())[index]
        with torch.no_grad():
            chosen.normal_()
            strict = [w.flatten() for w in [*made.weights, made.bias]]
            size = torch.cat(strict).norm() if name == "parts" else 1.0
            chosen.mul_(0.1 * size / chosen.norm())
        assert defect(made, turn) >= 1e-2, weight.shape
        assert made.relaxation() > 0
        assert made.weight_spectrum()["trivial"] < 1 - 1e-5


def test_one_part_shows_in_its_place_of_the_spectrum() -> None:
    for part in PARTS[1:]:
        made = SO3Linear(BEFORE, AFTER, parts=(part,)).double()
        perturb(made)
        spectrum = made.weight_spectrum()
        assert sum(spectrum.values()) == pytest.approx(1, abs=1e-12)
        assert spectrum[part] > 1e-3
        others = [p for p in PARTS[1:] if p != part]
        assert max(spectrum[p] for p in others) < 1e-24


def test_the_complete_family_reaches_every_map() -> None:
    numbers = layer("parts").parameters_per_part()
    assert sum(numbers.values()) == AFTER.size * (BEFORE.size + 1)
    made = layer("modulated")
    extra = sum(w.numel() for w in made.relaxed_parameters())
    assert made.parameters_per_part()["factors"] == 5 * 8 + 3 * 24
    assert extra == made.parameters_per_part()["factors"] + AFTER.size - 1


def test_formula_and_bias() -> None:
    one = SO3Type((0, 1, 0))
    made = SO3Linear(one, one, parts=("l1",), modulated=True).double()
    perturb(made)
    x = torch.randn(3, dtype=torch.float64)
    alpha, delta = made.alpha, made.delta
    assert alpha is not None
    assert delta is not None
    bases = np.concatenate([map_basis(1, 1, part) for part in (1, 2)])
    left, right = (
        np.eye(3) + np.tensordot(term["1"][0].detach().numpy(), bases, 1)
        for term in (alpha, delta)
    )
    axis = made.parts["l1_11"][0, 0].detach().numpy()
    bias = made.extra_bias["l1"][0].detach().numpy()
    expected = left @ (made.weights[1].item() * right @ x.numpy())
    expected = expected + np.cross(axis, x.numpy()) / np.sqrt(2) + bias
    assert made(x).detach().numpy() == pytest.approx(expected)


def test_the_penalty_is_the_documented_one() -> None:
    made = layer("both")
    perturb(made)
    expected = 0.0
    for part in ("l1", "l2"):
        chosen = {k: w for k, w in made.parts.items() if k.startswith(part)}
        scaled = [w.square() * BEFORE.counts[int(k[-1])] for k, w in chosen.items()]
        expected += torch.cat([s.flatten() for s in scaled]).mean().item()
    for term in (made.alpha, made.delta, made.extra_bias):
        assert term is not None
        flat = [w.flatten() for w in term.values()]
        expected += torch.cat(flat).square().mean().item()
    assert made.penalty().item() == pytest.approx(expected)


def test_features_side_by_side() -> None:
    x, y = (torch.randn(2, t.size, dtype=torch.float64) for t in (BEFORE, AFTER))
    both = joined((BEFORE, x), (AFTER, y))
    (turn,) = rotations(1)
    expected = joined((BEFORE, BEFORE.turn(turn, x)), (AFTER, AFTER.turn(turn, y)))
    assert torch.allclose((BEFORE + AFTER).turn(turn, both), expected, atol=1e-14)


def test_bad_input_says_what_is_allowed() -> None:
    with pytest.raises(InputError, match=r"part 'l5': expected some of l1, l2, l3, l4"):
        SO3Linear(BEFORE, AFTER, parts=("l5",))
    with pytest.raises(InputError, match="no rotation-equivariant map"):
        SO3Linear(SO3Type((0, 1, 0)), SO3Type((0, 0, 1)))
    with pytest.raises(InputError, match=r"features \(\.\.\., 16\), got"):
        layer("strict")(torch.zeros(2, 3))
    with pytest.raises(InputError, match="at least one in all"):
        SO3Type((0, 0, 0))
    with pytest.raises(InputError, match="only l1 and l2"):
        layer("parts").direction("l3")
