"""The measuring tools catch faults: each is shown a good case and a bad one."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from disk_faults import KILLED, FailingDisk, disk_error, exit_code_when_killed
from helpers import (
    observed_order,
    random_environment,
    relative_defect,
    relative_difference,
)
from torch import Tensor

from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid
from pde_sym.store import files
from pde_sym.symmetry import GroupElement, point_group

GRID = PeriodicGrid.square(8)
SCALAR = FieldSpec.of(Field(name="u"))
VECTOR = FieldSpec.of(Field(name="v", rank=Rank.VECTOR, components=2))


@pytest.mark.parametrize("order", [1, 2, 4])
def test_observed_order_is_the_exponent(order: int) -> None:
    sizes = [0.1, 0.05, 0.025]
    assert observed_order(sizes, [3 * h**order for h in sizes]) == pytest.approx(order)


def test_observed_order_tells_a_wrong_difference_quotient_from_a_right_one() -> None:
    """One-sided differences have order 1, central ones order 2."""
    sizes = np.array([0.02, 0.01, 0.005])
    exact = np.cos(1.0)
    one_sided = (np.sin(1 + sizes) - np.sin(1.0)) / sizes
    central = (np.sin(1 + sizes) - np.sin(1 - sizes)) / (2 * sizes)
    measured = [
        observed_order(sizes.tolist(), abs(quotient - exact).tolist())
        for quotient in (one_sided, central)
    ]
    assert measured == pytest.approx([1, 2], abs=0.02)


def central_difference(u: Tensor, axis: int) -> Tensor:
    return (u.roll(-1, axis) - u.roll(1, axis)) / 2


def test_relative_defect_is_zero_only_under_kept_elements() -> None:
    """``d/dx`` keeps y -> -y, and a quarter turn makes ``-+ d/dy`` of it."""
    u = torch.randn(1, 1, 8, 8, dtype=torch.float64)

    def defect(element: GroupElement) -> float:
        return relative_defect(
            lambda u: central_difference(u, -2), u, element, SCALAR, GRID
        )

    assert defect(GroupElement(flip=True)) <= 1e-15
    assert defect(GroupElement(shift=(0.25, 0.5))) <= 1e-15
    assert defect(GroupElement(turns=1)) > 0.5
    # A half turn changes the sign: ||-f - f|| / ||f|| = 2.
    assert defect(GroupElement(turns=2)) == pytest.approx(2, abs=1e-12)


def test_relative_defect_turns_results_as_their_own_fields() -> None:
    """The gradient is a vector; taken for two scalars it has a defect."""
    u = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    scalars = FieldSpec.of(Field(name="a"), Field(name="b"))

    def gradient(u: Tensor) -> Tensor:
        parts = [central_difference(u, axis) for axis in (-2, -1)]
        return torch.cat(parts, dim=1)

    for element in point_group("D4").elements[1:]:
        defects = [
            relative_defect(gradient, u, element, SCALAR, GRID, spec)
            for spec in (VECTOR, scalars)
        ]
        assert defects[0] <= 1e-15
        assert defects[1] > 0.5


def test_relative_difference_is_relative_to_the_second() -> None:
    a, b = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert relative_difference(a, b) == pytest.approx(5 / 4)
    assert relative_difference(b, a) == pytest.approx(5 / 3)
    assert relative_difference(a, a.clone()) == 0


def test_random_environment_fills_its_range(rng: np.random.Generator) -> None:
    values = random_environment((40, 50), rng, 0.5, 2.0)
    assert values.shape == (40, 50)
    assert 0.5 <= values.min() < 0.51
    assert 1.99 < values.max() < 2.0
    assert not np.array_equal(values, random_environment((40, 50), rng, 0.5, 2.0))


def test_a_failing_disk_fails_at_its_call_and_no_other(tmp_path: Path) -> None:
    once = FailingDisk(2, disk_error(errno.EIO))
    for_good = FailingDisk(2, for_good=True, counted=("make_folder",))
    found = []
    for disk in (once, for_good):
        for number in range(4):
            try:
                disk.make_folder(tmp_path / f"{number}")
                found.append(0)
            except OSError as error:
                found.append(error.errno)
    assert found == [0, errno.EIO, 0, 0, 0, *3 * [errno.ENOSPC]]
    assert once.calls == for_good.calls == 4
    for_good.rename(tmp_path / "0", tmp_path / "not counted")
    assert for_good.calls == 4


def test_work_is_killed_at_its_call_with_a_write_half_done(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def work() -> None:
        with path.open("wb", buffering=0) as file:
            for _ in range(2):
                files.disk.write(file.fileno(), memoryview(b"1234"))

    sizes = {}
    for at in (1, 2, 3):
        code = exit_code_when_killed(at, work)
        sizes[at] = (code, path.stat().st_size)
    assert sizes == {1: (KILLED, 2), 2: (KILLED, 6), 3: (0, 8)}
    assert type(files.disk) is files.Disk


def test_work_that_raises_is_told_from_work_that_ends(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def work() -> None:
        raise OSError

    assert exit_code_when_killed(1, work) == 1
    assert capfd.readouterr().err == ""
