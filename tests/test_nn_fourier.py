"""Fourier layers: what they compute, and that turns and flips share their weights."""

import itertools
import math

import numpy as np
import pytest
import torch
from helpers import relative_defect, relative_difference
from tolerances import TOLERANCE
from torch import Tensor, nn
from typed_fields import FLOW, TENSOR

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import GroupElement, point_group
from pde_sym.nn import FNOConfig, GFNOConfig, Task, element_matrix, gspace
from pde_sym.nn.fno import SpectralConv, hermitian, spectral_convolution
from pde_sym.nn.gfno import GroupSpectralConv

EXACT = TOLERANCE[torch.float64]
SCALAR = FieldSpec.of(Field(name="u"))
STATE = FLOW + TENSOR
GROUPS = ["C1", "C2", "C4", "D1", "D2", "D4"]
D4 = point_group("D4")


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


# The convolution itself.


@pytest.mark.parametrize("num_axes", [1, 2])
def test_kernels_are_real_and_every_real_kernel_is_one(num_axes: int) -> None:
    """``W(-k) = conj W(k)``, and ``R = Re W + Im W`` gives R back."""
    real = noise(2, 3, *num_axes * (5,))
    kernel = hermitian(real, num_axes)
    mirrored = kernel.flip(tuple(range(-num_axes, 0)))
    assert torch.equal(mirrored, kernel.conj())
    assert torch.allclose(kernel.real + kernel.imag, real, rtol=1e-14)


@pytest.mark.parametrize("shape", [(9,), (10,), (7, 9), (8, 6)])
@pytest.mark.parametrize("modes", [1, 2])
def test_it_is_the_convolution_with_the_kernel_of_these_modes(
    shape: tuple[int, ...], modes: int
) -> None:
    """``out(x) = sum_y K(x - y) f(y)``, ``K(x) = sum_k W(k) exp(2 pi i k x) / N``."""
    axes, n = len(shape), math.prod(shape)
    weight, x = noise(2, 3, *axes * (2 * modes + 1,)), noise(4, 3, *shape)
    points = list(itertools.product(*map(range, shape)))
    kernel = torch.zeros(2, 3, *shape, dtype=torch.complex128)
    for k in itertools.product(range(-modes, modes + 1), repeat=axes):
        index = tuple(m + modes for m in k)
        factor = hermitian(weight, axes)[(..., *index)]
        for p in points:
            phase = sum(m * i / size for m, i, size in zip(k, p, shape, strict=True))
            wave = np.exp(2j * math.pi * phase)
            kernel[(..., *p)] += factor * complex(wave) / n
    assert kernel.imag.abs().max() < 1e-14
    expected = torch.zeros(4, 2, *shape, dtype=torch.float64)
    for p, q in itertools.product(points, points):
        apart = tuple((i - j) % size for i, j, size in zip(p, q, shape, strict=True))
        matrix = kernel.real[(..., *apart)]
        expected[(..., *p)] += x[(..., *q)] @ matrix.T
    assert relative_difference(spectral_convolution(x, weight), expected) < 1e-13


def waves(num_points: int) -> Tensor:
    """Return a sum of modes up to 3 on the grid, ``(1, 1, N, N)``."""
    angle = 2 * math.pi * torch.arange(num_points, dtype=torch.float64) / num_points
    a, b = angle[:, None], angle[None, :]
    field = (a + 2 * b).cos() + (3 * a).sin() * b.cos() + (2 * a - 3 * b + 0.3).sin()
    return field[None, None]


def test_the_same_weights_are_the_same_operator_on_every_grid() -> None:
    layer = SpectralConv(1, 2, 4).double().requires_grad_(False)
    coarse, fine = layer(waves(12)), layer(waves(24))
    assert relative_difference(fine[..., ::2, ::2], coarse) < 1e-13
    # A grid without the mode 4 goes without it; below N / 2, with a sine and a cosine.
    few = torch.zeros_like(layer.weight)
    few[..., 1:-1, 1:-1] = layer.weight[..., 1:-1, 1:-1]
    for points in (7, 8):
        x = noise(2, 1, points, points)
        assert torch.equal(layer(x), spectral_convolution(x, few))
    x = noise(2, 1, 9, 9)
    assert relative_difference(layer(x), spectral_convolution(x, few)) > 1e-2


def test_shifts_of_any_size_are_exact_and_nothing_else() -> None:
    layer, grid = SpectralConv(1, 1, 5).double(), PeriodicGrid.square(12)
    layer.requires_grad_(False)
    shift = GroupElement(shift=(0.123, 0.77))
    assert relative_defect(layer, waves(12), shift, SCALAR, grid) < EXACT
    for element in D4.elements[1:]:
        assert relative_defect(layer, waves(12), element, SCALAR, grid) > 0.1


# The weights that a group shares.


def group_layer(group: str, into: int, out: int, modes: int) -> GroupSpectralConv:
    return GroupSpectralConv(gspace(group), into, out, modes).double()


@pytest.mark.parametrize("group", GROUPS)
def test_kernels_follow_their_formula(group: str) -> None:
    """``K_{h'h}(k) = W_{h'^-1 h}(M(h')^-1 k)``, by the package's own elements."""
    layer, modes = group_layer(group, 2, 3, 2), 2
    space = gspace(group)
    matrices = [element_matrix(space, e) for e in space.fibergroup.elements]
    elements = [g for m in matrices for g in D4 if np.array_equal(g.matrix, m)]
    order = len(elements)
    kernel = layer.kernel().view(3, order, 2, order, 5, 5)
    weight = layer.weight.view(order, 3, 2, 5, 5)
    for (a, after), (b, before) in itertools.product(enumerate(elements), repeat=2):
        quotient = elements.index(after.inverse() @ before)
        for k in itertools.product(range(-modes, modes + 1), repeat=2):
            x, y = np.array(after.inverse().matrix) @ k + modes
            found = kernel[:, a, :, b, k[0] + modes, k[1] + modes]
            assert torch.equal(found, weight[quotient, :, :, x, y])


def network(group: str, width: int = 2, state: FieldSpec = STATE) -> nn.Module:
    config = GFNOConfig.parse({"group": group, "width": width}, where="model")
    net = config.build(Task(state=state)).double()
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net.requires_grad_(False)


@pytest.mark.parametrize("points", [9, 12, 20])
@pytest.mark.parametrize("group", GROUPS)
def test_fields_of_every_rank_turn_flip_and_shift_exactly(
    group: str, points: int
) -> None:
    """Even grids too, on which the modes stay below N / 2; and nothing is promised
    beyond the group."""
    net, grid = network(group), PeriodicGrid.square(points)
    x = noise(2, STATE.num_channels, points, points)
    shift = (2 / points, 1 / points)
    for g in D4:
        for element in (g, GroupElement(g.turns, g.flip, shift)):
            found = relative_defect(net, x, element, STATE, grid)
            if g in point_group(group):
                assert found <= EXACT
            else:
                assert found > 1e-2


@pytest.mark.parametrize("fault", ["modes", "components"])
def test_faults_in_either_index_are_seen(fault: str) -> None:
    """Modes that do not turn, or components that do not: the defect tells."""
    net, grid = network("D4"), PeriodicGrid.square(12)
    x = noise(2, STATE.num_channels, 12, 12)
    for layer in net.modules():
        if isinstance(layer, GroupSpectralConv):
            table = layer.turned if fault == "modes" else layer.quotient
            table[:] = table[0].clone()
    for element in D4.elements[1:]:
        assert relative_defect(net, x, element, STATE, grid) > 1e-2


def test_single_precision_is_exact_to_its_round_off() -> None:
    net, grid = network("D4").float(), PeriodicGrid.square(12)
    x = noise(2, STATE.num_channels, 12, 12).float()
    for element in D4:
        found = relative_defect(net, x, element, STATE, grid)
        assert found <= TOLERANCE[torch.float32]


def test_boxes_keep_the_motions_that_they_have() -> None:
    net, grid = network("D4"), PeriodicGrid(shape=(10, 14), lengths=(1.0, 1.4))
    x = noise(2, STATE.num_channels, 10, 14)
    for element in point_group("D2"):
        assert relative_defect(net, x, element, STATE, grid) <= EXACT


def test_the_layer_says_what_it_is() -> None:
    layer = group_layer("D4", 2, 3, 2)
    assert layer.parameters_per_part() == {"trivial": 8 * 2 * 3 * 25}
    assert list(layer.relaxed_parameters()) == []
    assert layer.relaxation() == layer.penalty() == 0
    assert "2306.05697" in layer.source


def test_modes_come_from_the_data_when_not_asked_for() -> None:
    def modes(resolution: int | None, **settings: int) -> int:
        task = Task(state=SCALAR, resolution=resolution)
        return FNOConfig.model_validate(settings).highest_mode(task)

    wanted = {None: 8, 64: 8, 17: 8, 16: 7, 9: 4, 8: 3}
    assert {n: modes(n) for n in wanted} == wanted
    assert modes(64, modes=31) == 31
    with pytest.raises(InputError, match=r"fno: modes 32, but 64 points have .* to 31"):
        modes(64, modes=32)


def test_bad_input_is_one_line() -> None:
    with pytest.raises(InputError, match=r"shared by C1, C2, C4, D1"):
        GFNOConfig.parse({"group": "D8"}, where="model")
    with pytest.raises(InputError, match=r"expected input \(batch, 8, x, y\)"):
        group_layer("C4", 2, 1, 1)(noise(1, 4, 8, 8))
    with pytest.raises(InputError, match=r"expected input \(batch, 2, \*points\)"):
        SpectralConv(2, 1, 1)(noise(1, 3, 8, 8))
    with pytest.raises(InputError, match="with 1 axes of points"):
        SpectralConv(2, 1, 1, num_axes=1)(noise(1, 2, 8, 8))
    with pytest.raises(InputError, match="gfno: its networks are for grids of 2 axes"):
        GFNOConfig().build(Task(state=SCALAR, num_axes=1))
