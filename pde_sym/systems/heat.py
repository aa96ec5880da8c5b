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

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Documented

from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid
from pde_sym.initial_conditions import InitialLaw, RandomField
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

if TYPE_CHECKING:  # see `pde_sym.systems.base`
    from torch import Tensor

    from pde_sym.flux_form import FluxForm

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
    initial_laws: ClassVar[tuple[type[InitialLaw], ...]] = (RandomField,)
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
        channels = [
            self._environment_field(name, grid, generator)
            for name in self.environment_fields.names
        ]
        return np.stack(channels) if channels else np.empty((0, *grid.shape))

    def _environment_field(
        self, name: str, grid: PeriodicGrid, generator: np.random.Generator
    ) -> NDArray[np.float64]:
        if bubbles := self.term(Bubbles) if name == "conductivity" else None:
            pattern = bubbles.pattern(grid, generator)
            return self.conductivity * (1 - bubbles.strength * pattern)
        if capacity := self.term(Capacity) if name == "capacity" else None:
            return 1 + capacity.strength * capacity.pattern(grid)
        term = self.term(Sink) if name == "sink" else self.term(Source)
        assert term is not None, f"no term needs the field {name}"
        return term.strength * term.pattern(grid)

    def operator(self, grid: PeriodicGrid, environment: "Tensor") -> "FluxForm":
        """Return the right-hand side; see `heat_dynamics.flux_form`."""
        from pde_sym.systems.heat_dynamics import flux_form

        return flux_form(self, grid, environment)

    def solver(
        self,
        grid: PeriodicGrid,
        environment: "Tensor",
        dt: float,
        refinement: int = 1,
    ) -> Solver:
        from pde_sym.systems.heat_solver import HeatSolver

        return HeatSolver(self, grid, environment, dt, refinement=refinement)

    def measure(
        self, state: "Tensor", grid: PeriodicGrid, environment: "Tensor"
    ) -> Budget:
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

    def rates(
        self, state: "Tensor", grid: PeriodicGrid, environment: "Tensor"
    ) -> Budget:
        from pde_sym.systems.heat_dynamics import weak_rates

        return weak_rates(self.operator(grid, environment), state[:, 0], grid)

    def scalars(self) -> dict[str, float]:
        strengths = super().scalars()
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
