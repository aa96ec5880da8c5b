"""The conservative five- and nine-point operator of the heat equation.

    C du/dt = div(K grad w(u)) - div(b u) - s u + q,      w(u) = u + eps u^2 / 2

on the periodic grid, as differences of fluxes through the faces and along the
diagonals of the dual cells. The sum over all cells of every divergence is zero by
construction, the diffusive part is symmetric, and turns and flips of the coefficients
and the state together commute with it.

This is the readable reference and the path for GPUs; `pde_sym.kernels.flux_form` is
the same operator in compiled loops.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class FluxForm:
    """Coefficients, each ``(batch, x, y)``, divided by spacings so as to be rates.

    Parameters
    ----------
    face_x, face_y
        Conductance over spacing squared of the face between i and i + 1, per axis.
    diagonal
        Conductance of the diagonal (i, j) - (i + 1, j + 1); the other diagonal of the
        same dual cell has the opposite one. None when the tensor is diagonal.
    wind_x, wind_y
        Wind over twice the spacing through the same faces; None without wind.
    sink
        s; None without a sink.
    inverse_capacity
        1 / C; None when C = 1.
    source
        q; None without a source.
    nonlinearity
        eps in w(u) = u + eps u^2 / 2.
    """

    face_x: Tensor
    face_y: Tensor
    diagonal: Tensor | None = None
    wind_x: Tensor | None = None
    wind_y: Tensor | None = None
    sink: Tensor | None = None
    inverse_capacity: Tensor | None = None
    source: Tensor | None = None
    nonlinearity: float = 0.0

    def potential(self, u: Tensor) -> Tensor:
        """Return ``w(u)``, whose gradient drives the diffusive flux (Kirchhoff)."""
        return u if self.nonlinearity == 0 else u + 0.5 * self.nonlinearity * u * u

    def homogeneous(self, u: Tensor) -> Tensor:
        """Return the right-hand side without the source, ``(batch, x, y)``."""
        w = self.potential(u)
        rate = _divergence(self.face_x * _ahead(w, -2), -2)
        rate = rate + _divergence(self.face_y * _ahead(w, -1), -1)
        if self.diagonal is not None:
            along = w.roll((-1, -1), (-2, -1)) - w
            across = w.roll(-1, -2) - w.roll(-1, -1)
            flux = self.diagonal * along
            rate = rate + flux - flux.roll((1, 1), (-2, -1))
            flux = -self.diagonal * across
            rate = rate + flux.roll(1, -1) - flux.roll(1, -2)
        if self.wind_x is not None and self.wind_y is not None:
            rate = rate - _divergence(self.wind_x * (u + u.roll(-1, -2)), -2)
            rate = rate - _divergence(self.wind_y * (u + u.roll(-1, -1)), -1)
        if self.sink is not None:
            rate = rate - self.sink * u
        if self.inverse_capacity is not None:
            rate = rate * self.inverse_capacity
        return rate

    def forcing(self) -> Tensor | None:
        """Return ``q / C``, or None."""
        if self.source is None or self.inverse_capacity is None:
            return self.source
        return self.source * self.inverse_capacity

    def rate(self, u: Tensor) -> Tensor:
        """Return ``du/dt``, ``(batch, x, y)``."""
        rate, forcing = self.homogeneous(u), self.forcing()
        return rate if forcing is None else rate + forcing

    def spectral_bounds(self, slope: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
        """Return bounds on the real and imaginary spectrum, each ``(batch,)``.

        Gershgorin's circles: the eigenvalues lie in ``[-real, 0] x [-imag, imag]``.
        They depend on the coefficients by sums and a maximum over the grid, which
        shifts, turns and flips leave alone.

        Parameters
        ----------
        slope
            Bound on w'(u), for the nonlinear operator.
        """
        row = (
            self.face_x
            + self.face_x.roll(1, -2)
            + self.face_y
            + self.face_y.roll(1, -1)
        )
        if self.diagonal is not None:
            d = self.diagonal.abs()
            row = row + d + d.roll((1, 1), (-2, -1)) + d.roll(1, -2) + d.roll(1, -1)
        row = 2 * slope * row
        if self.sink is not None:
            row = row + self.sink
        scale = 1.0 if self.inverse_capacity is None else self.inverse_capacity
        real = (row * scale).amax((-2, -1))
        if self.wind_x is None or self.wind_y is None:
            return real, torch.zeros_like(real)
        wind = self.wind_x.abs() + self.wind_x.abs().roll(1, -2)
        wind = wind + self.wind_y.abs() + self.wind_y.abs().roll(1, -1)
        return real, (wind * scale).amax((-2, -1))

    def select(self, index: int) -> "FluxForm":
        """Return the operator of one trajectory, with batch 1."""

        def pick(name: str) -> Tensor | None:
            values = getattr(self, name)
            return None if values is None else values[min(index, len(values) - 1)][None]

        names = [f.name for f in fields(self) if f.name != "nonlinearity"]
        return replace(self, **{name: pick(name) for name in names})


def _ahead(u: Tensor, axis: int) -> Tensor:
    """Return ``u_{i+1} - u_i``, on the face between them."""
    return u.roll(-1, axis) - u


def _divergence(flux: Tensor, axis: int) -> Tensor:
    """Return ``f_{i+1/2} - f_{i-1/2}``."""
    return flux - flux.roll(1, axis)


def face_mean(kappa: Tensor, axis: int) -> Tensor:
    """Return the harmonic mean ``2 a b / (a + b)`` on faces; 0 next to a vacuum."""
    other = kappa.roll(-1, axis)
    total = kappa + other
    safe = torch.where(total > 0, total, torch.ones_like(total))
    return torch.where(total > 0, 2 * kappa * other / safe, torch.zeros_like(total))


def corner_minimum(kappa: Tensor) -> Tensor:
    """Return the least of the four values round a corner (i + 1/2, j + 1/2).

    With it the nine-point operator stays negative semidefinite for any contrast: the
    cross term of a corner is bounded by the fluxes through the four faces round it.
    """
    pair = torch.minimum(kappa, kappa.roll(-1, -2))
    return torch.minimum(pair, pair.roll(-1, -1))
