"""Learned factors in position: translations broken by band-limited fields."""

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pde_sym.errors import InputError
from pde_sym.nn._escnn import FieldType, GSpace
from pde_sym.nn.field_types import element_matrix, elements_of, subgroup_indices
from pde_sym.nn.layer import drawn_aside
from pde_sym.nn.subspace import basis_of
from pde_sym.nn.terms import Term


class PositionTerm(Term):
    """Factors ``1 + a_c(x)``, ``a_c = sum_r m_cr b_r(x)``, on the feature maps.

    The banks ``b_r = sum_k w_rk e_k(x)`` are learned fields that all channels share:
    a place is special for all of them. The e_k are products of 1, cos and sin of
    ``2 pi m x / L`` up to mode M per axis without the constant one, so that the
    weights fit every resolution. The banks start at zero, their mixing m does not.

    Parameters
    ----------
    fields
        The fields that it acts on.
    modes
        The highest mode M.
    banks
        Number of fields b_r; no more than channels are used.
    keep
        The subgroup that stays exact: the e_k are then combined to fields that it
        leaves alone, and all components of a field share their factor.
    """

    def __init__(
        self, fields: FieldType, modes: int, banks: int, keep: str | None = None
    ) -> None:
        super().__init__()
        sizes = [rep.size for rep in fields.representations]
        number = fields.size if keep is None else len(sizes)
        self.modes = modes
        banks = min(banks, number)
        with drawn_aside():
            mixing = torch.randn(number, banks) / math.sqrt(banks)
        self.mixing: nn.Parameter = nn.Parameter(mixing)
        self._waves = self._field_of_channel = None
        num_waves = (2 * modes + 1) ** 2 - 1
        if keep is not None:
            waves = torch.from_numpy(_invariant_waves(fields.gspace, modes, keep))
            num_waves, self._waves = len(waves), self._keep(waves)
            places = torch.repeat_interleave(torch.arange(number), torch.tensor(sizes))
            self._field_of_channel = self._keep(places)
        self.weights.append(nn.Parameter(torch.zeros(banks, num_waves)))

    def factors(self, shape: tuple[int, int]) -> Tensor:
        """Return a_c on a grid, shape ``(channels, N_x, N_y)``."""
        side, weight = 2 * self.modes + 1, self.weights[0]
        if self._waves is not None:
            weight = weight @ self._constant(self._waves)
        coefficients = nn.functional.pad(weight, (1, 0)).view(-1, side, side)
        ex, ey = (
            torch.as_tensor(_waves(n, self.modes)).to(coefficients) for n in shape
        )
        factors = torch.tensordot(self.mixing, ex.T @ coefficients @ ey, dims=1)
        if self._field_of_channel is None:
            return factors
        return factors[self.get_buffer(self._field_of_channel)]

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + self.factors((x.shape[-2], x.shape[-1])))


def _waves(num_points: int, modes: int) -> NDArray[np.float64]:
    """Return 1, sqrt2 cos and sqrt2 sin of ``2 pi m i / N``, shape (2M + 1, N)."""
    angle = 2 * np.pi * np.arange(num_points) / num_points
    rows = [np.ones(num_points)]
    for m in range(1, modes + 1):
        rows += [math.sqrt(2) * np.cos(m * angle), math.sqrt(2) * np.sin(m * angle)]
    return np.stack(rows)


@functools.cache
def _invariant_waves(space: GSpace, modes: int, keep: str) -> NDArray[np.float64]:
    """Return combinations of the products of waves that a subgroup leaves alone.

    Raises
    ------
    InputError
        When the subgroup does not map the grid onto itself.
    """
    matrices = [
        element_matrix(space, elements_of(space)[i])
        for i in subgroup_indices(space, keep)
    ]
    if not all(np.array_equal(m, np.rint(m)) for m in matrices):
        raise InputError(
            f"relax_to {keep!r} with factors in position: expected a subgroup that is "
            "exact on the grid (C1, C2, C4, D1, D2, D4); or set position_modes to 0"
        )
    points = 2 * modes + 2
    wave = _waves(points, modes)
    products = np.einsum("ax,by->abxy", wave, wave).reshape(-1, points, points)[1:]
    x, y = np.meshgrid(*2 * [np.arange(points)], indexing="ij")
    mean = np.zeros((len(products), len(products)))
    for matrix in np.rint(matrices).astype(int):
        i, j = (row @ np.stack([x.ravel(), y.ravel()]) % points for row in matrix)
        turned = products[:, i, j].reshape(products.shape)
        mean += np.einsum("axy,bxy->ab", products, turned) / points**2 / len(matrices)
    values, vectors = np.linalg.eigh((mean + mean.T) / 2)
    return basis_of(vectors[:, values > 0.5].T)
