"""The dynamics of the heat equation: its operator, and its budgets in weak form."""

import torch
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.flux_form import FluxForm, corner_minimum, face_mean
from pde_sym.grid import PeriodicGrid
from pde_sym.systems.base import Budget
from pde_sym.systems.heat import Heat
from pde_sym.systems.heat_terms import Anisotropy, Drift, Nonlinear, Sink


def flux_form(system: Heat, grid: PeriodicGrid, environment: Tensor) -> FluxForm:
    """Return the right-hand side in flux form, for ``(batch, channels, x, y)``.

    Raises
    ------
    InputError
        When a conductivity is negative or zero everywhere, a capacity is not
        positive, or the wind is too strong for the grid.
    """
    if grid.num_axes != 2:
        raise InputError(f"heat lives on 2 axes, got a grid of {grid.num_axes}")
    expected = (system.environment_fields.num_channels, *grid.shape)
    if environment.ndim != 4 or environment.shape[1:] != expected:
        raise InputError(
            f"expected an environment (batch, {', '.join(map(str, expected))}) "
            f"for {system.environment_fields.names}, got {tuple(environment.shape)}"
        )
    named = dict(
        zip(system.environment_fields.names, environment.unbind(1), strict=True)
    )
    uniform = torch.full((1, *grid.shape), system.conductivity, dtype=torch.float64).to(
        environment.device
    )
    kappa = named.get("conductivity", uniform)
    if kappa.min() < 0 or kappa.amax((-2, -1)).min() <= 0:
        raise InputError(
            f"conductivity must be >= 0 and not vanish, got {kappa.min():g} to "
            f"{kappa.max():g}: lower the strength of bubbles"
        )
    capacity = named.get("capacity")
    if capacity is not None and capacity.min() <= 0:
        raise InputError(
            f"capacity must be > 0, got {capacity.min():g}: lower its strength"
        )
    dx, dy = grid.spacing
    along, cross = _anisotropy(system)
    sink, nonlinear = system.term(Sink), system.term(Nonlinear)
    if "sink" not in named and sink is not None:
        named["sink"] = sink.strength * torch.ones_like(uniform)
    operator = FluxForm(
        face_x=(1 + along) * face_mean(kappa, -2) / dx**2,
        face_y=(1 - along) * face_mean(kappa, -1) / dy**2,
        diagonal=cross * corner_minimum(kappa) / (2 * dx * dy) if cross else None,
        sink=named.get("sink"),
        inverse_capacity=None if capacity is None else 1 / capacity,
        source=named.get("source"),
        nonlinearity=0.0 if nonlinear is None else nonlinear.strength,
        **_wind(system, uniform, grid),
    )
    _check_wind(operator)
    return operator


def _anisotropy(system: Heat) -> tuple[float, float]:
    """Return a cos(2 angle), a sin(2 angle): the traceless part of the tensor."""
    term = system.term(Anisotropy)
    if term is None:
        return 0.0, 0.0
    return term.strength * term.along, term.strength * term.cross


def _wind(system: Heat, like: Tensor, grid: PeriodicGrid) -> dict[str, Tensor]:
    drift = system.term(Drift)
    if drift is None or drift.strength == 0:
        return {}
    names = zip(("wind_x", "wind_y"), drift.direction, grid.spacing, strict=True)
    return {
        name: torch.full_like(like, drift.strength * b / (2 * spacing))
        for name, b, spacing in names
    }


def weak_rates(operator: FluxForm, u: Tensor, grid: PeriodicGrid) -> Budget:
    """Return dI/dt of heat, weighted heat and energy from the weak form.

    For ``I = int f(u)`` with ``p = f'(u) / C`` the parts of the equation contribute

        conduction  - int grad p . K grad w(u)
        wind        + int u b . grad p
        sink        - int s u p
        source      + int q p

    with p = 1 / C, 1 and u. The divergences of the solver do not appear.
    """
    ones = torch.ones_like(u)
    heat = ones if operator.inverse_capacity is None else operator.inverse_capacity
    return {
        "heat": grid.cell_volume * _weak_rate(operator, u, heat.expand_as(u)),
        "weighted_heat": grid.cell_volume * _weak_rate(operator, u, ones),
        "energy": grid.cell_volume * _weak_rate(operator, u, u),
    }


def _weak_rate(operator: FluxForm, u: Tensor, p: Tensor) -> Tensor:
    w = operator.potential(u)

    def ahead(values: Tensor, axis: int) -> Tensor:
        return torch.roll(values, -1, axis) - values

    density = -operator.face_x * ahead(w, -2) * ahead(p, -2)
    density = density - operator.face_y * ahead(w, -1) * ahead(p, -1)
    if operator.diagonal is not None:

        def slopes(values: Tensor) -> tuple[Tensor, Tensor]:
            x, y = ahead(values, -2), ahead(values, -1)
            return (x + x.roll(-1, -1)) / 2, (y + y.roll(-1, -2)) / 2

        (wx, wy), (px, py) = slopes(w), slopes(p)
        density = density - 2 * operator.diagonal * (wx * py + wy * px)
    if operator.wind_x is not None and operator.wind_y is not None:
        density = density + operator.wind_x * (u + u.roll(-1, -2)) * ahead(p, -2)
        density = density + operator.wind_y * (u + u.roll(-1, -1)) * ahead(p, -1)
    if operator.sink is not None:
        density = density - operator.sink * u * p
    if operator.source is not None:
        density = density + operator.source * p
    return density.sum((-2, -1))


def _check_wind(operator: FluxForm) -> None:
    """Refuse a wind that the central scheme cannot carry without wiggles."""
    pairs = (
        (operator.wind_x, operator.face_x),
        (operator.wind_y, operator.face_y),
    )
    for wind, face in pairs:
        if wind is not None and (wind.abs() > face).any():
            raise InputError(
                "drift: the wind exceeds 2 conductivity / spacing somewhere (cell "
                "Peclet number above 2): lower its strength or raise the resolution"
            )
