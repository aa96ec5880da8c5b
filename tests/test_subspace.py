"""Bases that depend on the span alone, and not on the processor."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pde_sym.nn.subspace import Array, basis_of

KERNELS_HASH = """
import hashlib, numpy
from pde_sym.nn import gspace
from pde_sym.nn.kernel_space import irrep_bases
digest = hashlib.sha256()
for name in ("C4", "D4", "C8"):
    space = gspace(name)
    pairs = irrep_bases(space.regular_repr, space.regular_repr, space, 5)
    for bases in pairs.values():
        for basis in bases.values():
            digest.update(basis.astype(numpy.float32).tobytes())
print(digest.hexdigest())
"""


@pytest.mark.parametrize(("rank", "size"), [(2, 3), (3, 9), (7, 32), (100, 196)])
def test_any_basis_of_a_space_gives_the_same_one(rank: int, size: int) -> None:
    rng = np.random.default_rng(rank)
    span: Array = np.linalg.qr(rng.normal(size=(size, rank)))[0].T
    turn: Array = np.linalg.qr(rng.normal(size=(rank, rank)))[0]
    mixed = turn @ span
    basis = basis_of(span)
    assert np.abs(mixed - span).max() > 0.1
    np.testing.assert_allclose(basis_of(mixed), basis, rtol=0, atol=1e-12)
    np.testing.assert_allclose(basis @ basis.T, np.eye(rank), rtol=0, atol=1e-12)
    np.testing.assert_allclose(basis.T @ basis, span.T @ span, rtol=0, atol=1e-12)


def test_another_space_has_another_basis() -> None:
    plane = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    tilted = np.array([[1.0, 0.0, 0.0], [0.0, np.cos(0.1), np.sin(0.1)]])
    assert np.abs(basis_of(tilted) - basis_of(plane)).max() > 0.09


def test_no_direction_is_missed_where_every_row_of_the_projector_is_short() -> None:
    even = np.full((1, 400), 1 / 20.0)
    np.testing.assert_allclose(basis_of(even), even, rtol=0, atol=1e-15)


def test_entries_below_round_off_are_zero() -> None:
    nearly = np.array([[1.0, 1e-17, 0.0]])
    assert basis_of(nearly).tolist() == [[1.0, 0.0, 0.0]]


def test_an_empty_space_has_an_empty_basis() -> None:
    assert basis_of(np.zeros((0, 4))).shape == (0, 4)


def test_kernels_are_equal_to_the_bit_whatever_the_processor(tmp_path: Path) -> None:
    """NumPy's OpenBLAS chooses its routines by processor, and can be told another."""
    found = set()
    for core in ("Prescott", "Haswell"):
        environment = os.environ | {
            "OPENBLAS_CORETYPE": core,
            "PDE_SYM_CACHE": str(tmp_path / core),
        }
        done = subprocess.run(
            [sys.executable, "-c", KERNELS_HASH],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout)
    assert len(found) == 1
