"""The heat equation on a 2-D torus, intact or broken.

    C(x) u_t = div(kappa(x) R diag(1 + a, 1 - a) R^T grad(u + eps u^2 / 2))
               - div(b u) - s(x) u + q(x)

with conductivity ``kappa = k0 (1 - strength g)`` where there are bubbles and C = 1,
a = b = s = q = eps = 0 unless the breaking term of that name says otherwise. Lengths,
times and temperatures are in units of the user; k0 is a length squared per time.

Intact, its point symmetries are the motions and reflections of the plane, shifts of
time, superposition, the scaling (x, t) -> (s x, s^2 t), a Galilei-type and a
projective generator (Olver, Applications of Lie Groups, example 2.41); shifts, D4,
time and superposition survive on the square torus.
"""

from typing import Annotated, ClassVar, Literal, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Documented
from pydantic import model_validator
from torch import Tensor

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.flux_form import FluxForm, corner_minimum, face_mean
from pde_sym.grid import PeriodicGrid
from pde_sym.systems.base import (
    BreakingTerm,
    Budget,
    Invariant,
    Property,
    Solver,
    System,
)
from pde_sym.systems.heat_terms import (
    Anisotropy,
    Bubbles,
    Capacity,
    Drift,
    Nonlinear,
    Sink,
    Source,
)

Term = TypeVar("Term", bound=BreakingTerm)
HeatTerm = Annotated[
    Bubbles | Anisotropy | Sink | Drift | Nonlinear | Source | Capacity,
    Documented(discriminator="kind"),
]


class Heat(System):
    """Heat conduction; see the module for the equation."""

    kind: Literal["heat"] = "heat"
    conductivity: float = Documented(default=1.0, gt=0.0, le=1e6)
    """k0, in lengths squared per unit of time."""
    breaking: tuple[HeatTerm, ...] = ()
    """Breaking terms, each kind at most once."""

    equation: ClassVar[str] = "u_t = k0 Lap u"
    fields: ClassVar[FieldSpec] = FieldSpec.of(Field(name="temperature", unit="K"))
    terms: ClassVar[tuple[type[BreakingTerm], ...]] = (
        Bubbles,
        Anisotropy,
        Sink,
        Drift,
        Nonlinear,
        Source,
        Capacity,
    )
    default_dt: ClassVar[float] = 5e-4
    """Frame spacing on a box of length 1 with k0 = 1: frames differ by 5 to 10 %."""
    invariants: ClassVar[tuple[Invariant, ...]] = (
        Invariant("heat", "K L^2", "int u"),
        Invariant("weighted_heat", "K L^2", "int C u"),
        Invariant("energy", "K^2 L^2", "int C u^2 / 2"),
    )
    intact_properties: ClassVar[frozenset[Property]] = frozenset(Property)
    symmetries: ClassVar[tuple[str, ...]] = (
        "d_x",
        "d_y",
        "d_t",
        "x d_y - y d_x",
        "x d_x + y d_y + 2 t d_t",
        "u d_u",
        "2 k0 t d_x - x u d_u",
        "2 k0 t d_y - y u d_u",
        "4 k0 t^2 d_t + 4 k0 t (x d_x + y d_y) - (r^2 + 4 k0 t) u d_u",
        "v(x, y, t) d_u for every solution v",
        "reflections",
        "u -> -u",
    )

    @model_validator(mode="after")
    def _each_term_once(self) -> Self:
        kinds = [term.kind for term in self.breaking]
        if len(set(kinds)) != len(kinds):
            raise ValueError(f"each breaking term at most once, got {kinds}")
        return self

    def term(self, kind: type[Term]) -> Term | None:
        """Return the term of that class, or None."""
        for term in self.breaking:
            if isinstance(term, kind):
                return term
        return None

    @property
    def environment_fields(self) -> FieldSpec:
        sink = self.term(Sink)
        varies = sink is not None and (sink.profile != "uniform" or sink.field)
        candidates = (
            (self.term(Bubbles), "conductivity", "L^2 / T"),
            (self.term(Capacity), "capacity", ""),
            (sink if varies else None, "sink", "1 / T"),
            (self.term(Source), "source", "K / T"),
        )
        return FieldSpec(
            fields=tuple(
                Field(name=name, rank=Rank.SCALAR, unit=unit, prognostic=False)
                for term, name, unit in candidates
                if term is not None
            )
        )

    def sample_environment(
        self, grid: PeriodicGrid, generator: np.random.Generator
    ) -> NDArray[np.float64]:
        """Draw conductivity, capacity, sink and source, those that are there."""
        channels = []
        for name in self.environment_fields.names:
            if name == "conductivity" and (bubbles := self.term(Bubbles)):
                pattern = bubbles.strength * bubbles.pattern(grid, generator)
                values = self.conductivity * (1 - pattern)
            elif name == "capacity" and (capacity := self.term(Capacity)):
                values = 1 + capacity.strength * capacity.pattern(grid)
            elif name == "sink" and (sink := self.term(Sink)):
                values = sink.strength * sink.pattern(grid)
            elif name == "source" and (source := self.term(Source)):
                values = source.strength * source.pattern(grid)
            channels.append(values)
        return np.stack(channels) if channels else np.empty((0, *grid.shape))

    def operator(self, grid: PeriodicGrid, environment: Tensor) -> FluxForm:
        """Return the right-hand side in flux form, for ``(batch, channels, x, y)``.

        Raises
        ------
        InputError
            When a conductivity is negative or zero everywhere, a capacity is not
            positive, or the wind is too strong for the grid.
        """
        if grid.num_axes != 2:
            raise InputError(f"heat lives on 2 axes, got a grid of {grid.num_axes}")
        expected = (self.environment_fields.num_channels, *grid.shape)
        if environment.ndim != 4 or environment.shape[1:] != expected:
            raise InputError(
                f"expected an environment (batch, {', '.join(map(str, expected))}) "
                f"for {self.environment_fields.names}, got {tuple(environment.shape)}"
            )
        named = dict(
            zip(self.environment_fields.names, environment.unbind(1), strict=True)
        )
        uniform = torch.full(
            (1, *grid.shape), self.conductivity, dtype=torch.float64
        ).to(environment.device)
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
        along, cross = self._anisotropy()
        sink, nonlinear = self.term(Sink), self.term(Nonlinear)
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
            **self._wind(uniform, grid),
        )
        _check_wind(operator)
        return operator

    def _anisotropy(self) -> tuple[float, float]:
        """Return a cos(2 angle), a sin(2 angle): the traceless part of the tensor."""
        term = self.term(Anisotropy)
        if term is None:
            return 0.0, 0.0
        return term.strength * term.along, term.strength * term.cross

    def _wind(self, like: Tensor, grid: PeriodicGrid) -> dict[str, Tensor]:
        drift = self.term(Drift)
        if drift is None or drift.strength == 0:
            return {}
        names = zip(("wind_x", "wind_y"), drift.direction, grid.spacing, strict=True)
        return {
            name: torch.full_like(like, drift.strength * b / (2 * spacing))
            for name, b, spacing in names
        }

    def solver(self, grid: PeriodicGrid, environment: Tensor, dt: float) -> Solver:
        from pde_sym.systems.heat_solver import HeatSolver

        return HeatSolver(self, grid, environment, dt)

    def measure(self, state: Tensor, grid: PeriodicGrid, environment: Tensor) -> Budget:
        u = state[:, 0]
        names = self.environment_fields.names
        capacity = (
            environment[:, names.index("capacity")] if "capacity" in names else 1.0
        )
        cell = grid.cell_volume
        return {
            "heat": cell * u.sum((-2, -1)),
            "weighted_heat": cell * (capacity * u).sum((-2, -1)),
            "energy": cell * (capacity * u * u).sum((-2, -1)) / 2,
        }

    def rates(self, state: Tensor, grid: PeriodicGrid, environment: Tensor) -> Budget:
        return weak_rates(self.operator(grid, environment), state[:, 0], grid)

    def scalars(self) -> dict[str, float]:
        strengths = {f"strength_{t.kind}": t.strength for t in self.breaking}
        if "conductivity" in self.environment_fields.names:
            return strengths
        return {"conductivity": self.conductivity, **strengths}

    def mode_decay(self, grid: PeriodicGrid, mode: tuple[int, int]) -> float:
        """Return the exact decay rate of a Fourier mode of the intact equation.

        ``4 k0 (sin^2(pi m_x / N_x) / dx^2 + sin^2(pi m_y / N_y) / dy^2)``, that of the
        five-point operator; it tends to ``k0 |k|^2`` on fine grids.
        """
        return sum(
            4 * self.conductivity * np.sin(np.pi * m / n) ** 2 / spacing**2
            for m, n, spacing in zip(mode, grid.shape, grid.spacing, strict=True)
        )

    @property
    def is_linear(self) -> bool:
        nonlinear = self.term(Nonlinear)
        return nonlinear is None or nonlinear.strength == 0


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
