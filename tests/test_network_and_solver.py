"""Solver and network mean the same by a turn, a flip, a shift, a vector and a sign."""

import functools
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import drawn_environment, relative_defect, relative_difference
from tolerances import TOLERANCE
from torch import Tensor, nn

from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import GroupElement, point_group
from pde_sym.initial_conditions import RandomField
from pde_sym.nn import (
    CNNConfig,
    FieldScale,
    ModulatedConfig,
    Normalisation,
    StrictConfig,
    Surrogate,
    Task,
    split_parameters,
)
from pde_sym.systems import Heat
from pde_sym.systems.base import Solver
from pde_sym.systems.heat_terms import Bubbles, Drift

GRID = PeriodicGrid.square(12)
STRICT = StrictConfig(group="D4", width=2, depth=3, kernel_size=3)
ELEMENTS = [
    GroupElement(g.turns, g.flip, (i / 12, j / 12))
    for g, (i, j) in itertools.product(point_group("D4"), ((0, 0), (1, 0), (5, 2)))
]
Map = Callable[[Tensor], Tensor]


def states(spec: FieldSpec, seed: int = 7) -> Tensor:
    """Draw smooth states ``(2, channels, 12, 12)``, each channel by the own law."""
    rng, law = np.random.default_rng(seed), RandomField(modes=4)
    drawn = [
        np.concatenate([law.sample(GRID, rng) for _ in range(spec.num_channels)])
        for _ in range(2)
    ]
    return torch.from_numpy(np.stack(drawn))


@functools.cache
def heat(*, broken: bool = False) -> Solver:
    """Return the intact solver, or one with bubbles in fixed places."""
    system = Heat(breaking=(Bubbles(strength=0.8),) if broken else ())
    return system.solver(GRID, drawn_environment(system, GRID), 1e-3)


def network(
    state: FieldSpec,
    config: StrictConfig | CNNConfig | ModulatedConfig = STRICT,
    dtype: torch.dtype = torch.float64,
) -> Surrogate:
    """Return an untrained surrogate whose scales are not 1."""
    torch.manual_seed(3)
    task = Task(state=state)
    scales = tuple(
        FieldScale(
            name=field.name,
            mean=0.7 if field.rank is Rank.SCALAR else 0.0,
            std=2.0,
            increment_std=0.5,
        )
        for field in state
    )
    net = config.build(task)
    for name, parameter in net.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter)
    if isinstance(config, ModulatedConfig):
        for parameter in split_parameters(net)[1]:
            nn.init.normal_(parameter, std=0.2)
    surrogate = Surrogate(net, task, Normalisation(fields=scales)).to(dtype)
    return surrogate.requires_grad_(False)


def defect(
    step: Map,
    element: GroupElement,
    spec: FieldSpec,
    out: FieldSpec | None = None,
    dtype: torch.dtype = torch.float64,
) -> float:
    return relative_defect(step, states(spec).to(dtype), element, spec, GRID, out)


# Scalars: the solver itself.


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda g: g.name)
def test_solver_and_network_commute_with_the_same_action(element: GroupElement) -> None:
    """``Phi(g u) = g Phi(u)`` and ``net(g u) = g net(u)``, g of D4 and grid shifts."""
    exact = TOLERANCE[torch.float64]
    assert defect(heat(), element, Heat.fields) <= exact
    assert defect(network(Heat.fields), element, Heat.fields) <= exact
    # One after the other, as in a hybrid step.
    net, phi = network(Heat.fields), heat()
    assert defect(lambda u: net(phi(u)), element, Heat.fields) <= exact
    single = network(Heat.fields, dtype=torch.float32)
    found = defect(single, element, Heat.fields, dtype=torch.float32)
    assert found <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("element", ELEMENTS[1:], ids=lambda g: g.name)
def test_neither_commutes_where_it_is_broken(element: GroupElement) -> None:
    """Bubbles break everything in the solver; a free network breaks turns and flips."""
    assert defect(heat(broken=True), element, Heat.fields) > 1e-4
    free = network(Heat.fields, CNNConfig(width=4, depth=3, kernel_size=3))
    found = defect(free, element, Heat.fields)
    if element.turns or element.flip:
        assert found > 1e-2
    else:
        assert found <= TOLERANCE[torch.float64]


def test_a_wind_and_a_modulated_network_keep_shifts_alone() -> None:
    relaxed = ModulatedConfig(group="D4", width=2, depth=3, kernel_size=3)
    empty = torch.empty(1, 0, 12, 12, dtype=torch.float64)
    wind = Heat(breaking=(Drift(strength=5.0, angle=30.0),)).solver(GRID, empty, 1e-3)
    for step in (wind, network(Heat.fields, relaxed)):
        for element in ELEMENTS[1:]:
            found = defect(step, element, Heat.fields)
            if element.turns or element.flip:
                assert found > 1e-4
            else:
                assert found <= TOLERANCE[torch.float64]


# Vectors and pseudoscalars: differential operators, whose meaning is beyond doubt.

SCALAR = FieldSpec.of(Field(name="u"))
PSEUDOSCALAR = FieldSpec.of(Field(name="w", rank=Rank.PSEUDOSCALAR))
VECTOR = FieldSpec.of(Field(name="v", rank=Rank.VECTOR, components=2))
TENSOR = FieldSpec.of(Field(name="t", rank=Rank.TENSOR, components=4))
FOUR = FieldSpec.of(*(Field(name=name) for name in "abcd"))
SCALARS = FieldSpec.of(Field(name="a"), Field(name="b"))


def central(u: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(d/dx, d/dy)`` by central differences."""
    h = 2 * GRID.spacing[0]
    x, y = ((u.roll(-1, axis) - u.roll(1, axis)) / h for axis in (-2, -1))
    return x, y


def spectral(u: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(d/dx, d/dy)`` by ``i k``, without the mode that has no partner."""
    slopes = []
    for axis, direction in ((0, -2), (1, -1)):
        k = torch.from_numpy(GRID.wavenumbers(axis))
        k[GRID.shape[axis] // 2] = 0
        factor = 1j * (k[:, None] if direction == -2 else k[None, :])
        slopes.append(torch.fft.ifft2(factor * torch.fft.fft2(u)).real)
    return slopes[0], slopes[1]


Slopes = Callable[[Tensor], tuple[Tensor, Tensor]]


def operators(slopes: Slopes) -> dict[str, tuple[Map, FieldSpec, FieldSpec]]:
    """Return grad, curl, div and their like, with what they map to what."""

    def grad(u: Tensor) -> Tensor:
        return torch.cat(slopes(u), dim=1)

    def rotated(w: Tensor) -> Tensor:
        x, y = slopes(w)
        return torch.cat([y, -x], dim=1)

    def curl(v: Tensor) -> Tensor:
        return slopes(v[:, 1:])[0] - slopes(v[:, :1])[1]

    def div(v: Tensor) -> Tensor:
        return slopes(v[:, :1])[0] + slopes(v[:, 1:])[1]

    def jacobian(v: Tensor) -> Tensor:
        """Return T_ij = d_j v_i."""
        return torch.cat([grad(v[:, :1]), grad(v[:, 1:])], dim=1)

    def tensor_div(t: Tensor) -> Tensor:
        """Return v_i = d_j T_ij."""
        return torch.cat([div(t[:, :2]), div(t[:, 2:])], dim=1)

    return {
        "jacobian": (jacobian, VECTOR, TENSOR),
        "tensor div": (tensor_div, TENSOR, VECTOR),
        "grad": (grad, SCALAR, VECTOR),
        "rotated grad": (rotated, PSEUDOSCALAR, VECTOR),
        "curl": (curl, VECTOR, PSEUDOSCALAR),
        "div": (div, VECTOR, SCALAR),
    }


def test_the_differences_are_derivatives() -> None:
    """``d/dx sin(2 pi x + 4 pi y)``; the signs of curl and div on a known field."""
    x, y = (torch.from_numpy(c) for c in GRID.mesh())
    wave = (2 * torch.pi * x + 4 * torch.pi * y)[None, None]
    for axis, size in ((0, 2 * torch.pi), (1, 4 * torch.pi)):
        exact = size * torch.cos(wave)
        assert relative_difference(spectral(torch.sin(wave))[axis], exact) <= 1e-12
        damped = np.sin(size / 12) / (size / 12)
        slope = central(torch.sin(wave))[axis]
        assert relative_difference(slope, damped * exact) <= 1e-12
    # v = (0, sin 2 pi x): curl 2 pi cos 2 pi x, div 0.
    v = torch.stack([0 * x, torch.sin(2 * torch.pi * x)])[None]
    found = operators(spectral)
    curl = 2 * torch.pi * torch.cos(2 * torch.pi * x)[None, None]
    assert relative_difference(found["curl"][0](v), curl) <= 1e-12
    assert found["div"][0](v).abs().max() <= 1e-12


@pytest.mark.parametrize("slopes", [central, spectral])
@pytest.mark.parametrize(
    "name", ["grad", "rotated grad", "curl", "div", "jacobian", "tensor div"]
)
def test_operators_and_networks_share_their_ranks(slopes: Slopes, name: str) -> None:
    """grad u and rotated grad w are vectors, curl v a pseudoscalar, div v a scalar;
    the Jacobian of a vector is a tensor, whose divergence is a vector.

    A strict network between the same ranks commutes with the same action; it meets
    the operator in one map too, ``net(D u)``.
    """
    operator, before, after = operators(slopes)[name]
    exact = TOLERANCE[torch.float64]
    own, net = network(before), network(after)
    for element in ELEMENTS:
        assert defect(operator, element, before, after) <= exact
        assert defect(own, element, before) <= exact
        assert defect(lambda u: net(operator(u)), element, before, after) <= exact
        assert defect(lambda u: operator(own(u)), element, before, after) <= exact


WRONG = {
    # name: (a wrong rank of the result, the elements that tell)
    "grad": (SCALARS, lambda g: bool(g.turns or g.flip)),
    "curl": (SCALAR, lambda g: g.flip),
    "div": (PSEUDOSCALAR, lambda g: g.flip),
    # Half a turn leaves tensors as they are.
    "jacobian": (FOUR, lambda g: bool(g.turns % 2 or g.flip)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rank_fails_where_the_ranks_differ(name: str) -> None:
    operator, before, _ = operators(central)[name]
    rank, tells = WRONG[name]
    for element in ELEMENTS:
        found = defect(operator, element, before, rank)
        if tells(element):
            assert found > 0.5
        else:
            assert found <= TOLERANCE[torch.float64]


def test_mixed_fields_with_derivatives() -> None:
    """``(u, v, w)``: all three ranks in one state, in one network and one operator."""
    spec = SCALAR + VECTOR + PSEUDOSCALAR
    found = operators(spectral)

    def operator(state: Tensor) -> Tensor:
        u, v, w = state[:, :1], state[:, 1:3], state[:, 3:]
        parts = [
            found["div"][0](v) + u * u + w * w,
            found["grad"][0](u) + found["rotated grad"][0](w) + u * v,
            found["curl"][0](v) + u * w,
        ]
        return torch.cat(parts, dim=1)

    def wrong(state: Tensor) -> Tensor:
        return operator(state) + state[:, 3:] * torch.tensor([1, 0, 0, 0]).view(4, 1, 1)

    net = network(spec)
    for element in ELEMENTS:
        for step in (operator, net):
            assert defect(step, element, spec) <= TOLERANCE[torch.float64]
        # A pseudoscalar added to a scalar: only flips see it.
        if element.flip:
            assert defect(wrong, element, spec) > 1e-4
        else:
            assert defect(wrong, element, spec) <= TOLERANCE[torch.float64]


def swapped(v: Tensor) -> Tensor:
    """Return ``(v_y, -v_x)``: v turned by a quarter at every point."""
    return torch.stack([v[:, 1], -v[:, 0]], dim=1)


def test_swapped_components_pass_turns_and_fail_flips() -> None:
    """The classic slip: it commutes with turns, so only flips tell it apart."""
    net = network(VECTOR)
    grad = operators(spectral)["grad"][0]
    swapped_maps: list[tuple[Map, FieldSpec]] = [
        (lambda v: net(swapped(v)), VECTOR),
        (lambda u: swapped(grad(u)), SCALAR),
    ]
    for step, before in swapped_maps:
        for element in ELEMENTS:
            found = defect(step, element, before, VECTOR)
            if element.flip:
                assert found > 0.1
            else:
                assert found <= TOLERANCE[torch.float64]


def test_a_free_network_of_vectors_fails_every_turn_and_flip() -> None:
    free = network(VECTOR, CNNConfig(width=4, depth=3, kernel_size=3))
    for element in ELEMENTS:
        found = defect(free, element, VECTOR)
        if element.turns or element.flip:
            assert found > 0.1
        else:
            assert found <= TOLERANCE[torch.float64]
