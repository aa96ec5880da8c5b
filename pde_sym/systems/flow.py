"""Incompressible flow on a 2-D torus, intact or broken.

    w_t + (u + W).grad(w + f(x)) = curl div(2 nu(x) S) - beta g.(u - <u>) - drag w
                                   - curl(chi(x) u) + curl F,    w = v_x - u_y,
    u = psi_y,  v = -psi_x,  Lap psi = -w,

with nu uniform and W = f = beta = drag = chi = F = 0 unless the breaking term of that
name says otherwise (the wind W carries w but not f). The mean velocity is part of the
state and has its own equation. Lengths and times are in units of the user.
A tracer, where one is asked for, is carried along, ``b_t + (u + W).grad b = kappa Lap
b``, and may lift the fluid by ``F = buoyancy b e``.

Intact, its point symmetries are the motions and reflections of the plane, shifts of
time, the scaling (x, t, u) -> (s x, s^2 t, u / s), generalised Galilei boosts and, for
the vorticity, rotations of the frame (Olver, Applications of Lie Groups, example 2.45
for nu = 0); shifts, D4, time and constant boosts survive on the square torus.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Documented
from pydantic import model_validator

from pde_sym.errors import InputError
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid
from pde_sym.initial_conditions import InitialLaw
from pde_sym.systems.base import (
    BreakingTerm,
    Budget,
    Invariant,
    PerInstance,
    Solver,
    System,
)
from pde_sym.systems.flow_initial import DoubleShearLayer, FlowLaw, RandomVorticity
from pde_sym.systems.flow_terms import (
    Beta,
    Buoyancy,
    Drag,
    FlowProperty,
    Kolmogorov,
    MeanFlow,
    Obstacle,
    Topography,
    Viscosity,
)

if TYPE_CHECKING:  # see `pde_sym.systems.base`
    from torch import Tensor

__all__ = ["Flow", "FlowProperty", "FlowTerms"]

FlowTerms = Annotated[
    Beta | Drag | Kolmogorov | Topography | MeanFlow | Viscosity | Obstacle | Buoyancy,
    Documented(discriminator="kind"),
]

_FIELDS = FieldSpec.of(
    Field(name="velocity", rank=Rank.VECTOR, unit="L / T", components=2),
    Field(name="vorticity", rank=Rank.PSEUDOSCALAR, unit="1 / T", prognostic=False),
)
_FIELDS_AND_TRACER = _FIELDS + FieldSpec.of(Field(name="tracer"))
_INVARIANTS = (
    Invariant("energy", "L^2 / T^2", "<u^2 + v^2> / 2"),
    Invariant("enstrophy", "1 / T^2", "<w^2> / 2"),
    Invariant("momentum_x", "L / T", "<u>"),
    Invariant("momentum_y", "L / T", "<v>"),
    Invariant("divergence", "1 / T", "<(u_x + v_y)^2>^(1/2)"),
)
_INVARIANTS_AND_TRACER = (
    *_INVARIANTS,
    Invariant("tracer", "", "<b>, where there is a tracer"),
    Invariant("tracer_variance", "", "<b^2> / 2, likewise"),
)


class Flow(System):
    """Two-dimensional incompressible flow; see the module for the equation."""

    kind: Literal["flow"] = "flow"
    viscosity: float = Documented(default=5e-3, ge=0.0, le=1e6)
    """nu, in lengths squared per unit of time; 0 is Euler's equation.

    By default 64 points per unit length resolve a flow of rms speed 1: the outermost
    tenth of the modes holds less than 1e-8 of the energy.
    """
    tracer: bool = False
    """Whether the flow carries a tracer; the term buoyancy brings one with it."""
    diffusivity: float = Documented(default=8e-3, ge=0.0, le=1e6)
    """kappa of the tracer, in lengths squared per unit of time; refused without one."""
    breaking: tuple[FlowTerms, ...] = ()
    """Breaking terms, each kind at most once."""

    equation: ClassVar[str] = (
        "w_t + u.grad w = nu Lap w, w = curl u, div u = 0; a tracer, if any: "
        "b_t + u.grad b = kappa Lap b"
    )
    fields: ClassVar[FieldSpec] = PerInstance(  # type: ignore[assignment]
        _FIELDS_AND_TRACER,
        lambda flow: _FIELDS_AND_TRACER if flow.tracer else _FIELDS,
    )
    """Of the class, all that a flow may have; of a flow, its own."""
    invariants: ClassVar[tuple[Invariant, ...]] = PerInstance(  # type: ignore[assignment]
        _INVARIANTS_AND_TRACER,
        lambda flow: _INVARIANTS_AND_TRACER if flow.tracer else _INVARIANTS,
    )
    """Likewise."""
    terms: ClassVar[tuple[type[BreakingTerm], ...]] = (
        Beta,
        Drag,
        Kolmogorov,
        Topography,
        MeanFlow,
        Viscosity,
        Obstacle,
        Buoyancy,
    )
    initial_laws: ClassVar[tuple[type[InitialLaw], ...]] = (
        RandomVorticity,
        DoubleShearLayer,
    )
    default_dt: ClassVar[float] = 0.02
    """Frame spacing on a box of length 1 with rms speed 1: frames differ by 2 to 15 %,
    and a fluid particle crosses the box in 50 of them."""
    kept_modes: ClassVar[float] = 2 / 3
    intact_properties: ClassVar[frozenset[FlowProperty]] = frozenset(  # type: ignore
        FlowProperty
    )
    symmetries: ClassVar[tuple[str, ...]] = (
        "d_t",
        "x d_y - y d_x + u d_v - v d_u",
        "x d_x + y d_y + 2 t d_t - u d_u - v d_v - 2 p d_p",
        "a(t) d_x + a' d_u - a'' x d_p",
        "a(t) d_y + a' d_v - a'' y d_p",
        "a(t) d_p",
        "reflections, w -> -w",
    )

    @model_validator(mode="after")
    def _bring_the_tracer(self) -> Self:
        if self.term(Buoyancy) is not None:
            # So that `tracer` is true of every flow that has one, as stored too.
            object.__setattr__(self, "tracer", True)
        default = type(self).model_fields["diffusivity"].default
        if not self.tracer and self.diffusivity != default:
            raise ValueError(
                "diffusivity is that of a tracer: expected tracer=true or the term "
                f"buoyancy with it, got {self.diffusivity:g} alone"
            )
        return self

    @model_validator(mode="after")
    def _something_to_vary(self) -> Self:
        if self.viscosity == 0 and self.term(Viscosity) is not None:
            raise ValueError("the term viscosity needs a viscosity above 0")
        return self

    def active(self, kind: str) -> bool:
        """Return whether a term of that kind has a strength above 0."""
        return any(t.kind == kind and t.strength > 0 for t in self.breaking)

    @property
    def environment_fields(self) -> FieldSpec:
        candidates = (
            (Topography, "topography", Rank.PSEUDOSCALAR, "1 / T", 1),
            (MeanFlow, "mean_flow", Rank.VECTOR, "L / T", 2),
            (Viscosity, "viscosity", Rank.SCALAR, "L^2 / T", 1),
            (Obstacle, "obstacle", Rank.SCALAR, "1 / T", 1),
        )
        return FieldSpec(
            fields=tuple(
                Field(
                    name=name, rank=rank, unit=unit, components=width, prognostic=False
                )
                for term, name, rank, unit, width in candidates
                if self.term(term) is not None
            )
        )

    def sample_environment(
        self, grid: PeriodicGrid, generator: np.random.Generator
    ) -> NDArray[np.float64]:
        """Draw Coriolis parameter, wind, viscosity, friction, those that are there."""
        channels: list[NDArray[np.float64]] = []
        if topography := self.term(Topography):
            channels.append(topography.strength * topography.pattern(grid, generator))
        if wind := self.term(MeanFlow):
            channels += [
                np.full(grid.shape, wind.strength * part) for part in wind.direction
            ]
        if viscosity := self.term(Viscosity):
            relative = 1 + viscosity.strength * viscosity.pattern(grid)
            channels.append(self.viscosity * relative)
        if obstacle := self.term(Obstacle):
            channels.append(obstacle.strength * obstacle.pattern(grid))
        return np.stack(channels) if channels else np.empty((0, *grid.shape))

    def sample_initial(
        self,
        law: InitialLaw,
        grid: PeriodicGrid,
        generator: np.random.Generator,
        index: int = 0,
    ) -> NDArray[np.float64]:
        """Draw velocity and vorticity, and after them the tracer, if any.

        So that the velocity is the same with and without a tracer.

        Raises
        ------
        InputError
            When the law has a tracer of its own and the flow none, or as it does.
        """
        assert isinstance(law, FlowLaw), law
        drawn = law.sample(grid, generator, index)
        if self.tracer:
            tracer = law.sample_tracer(grid, generator, index)
            return np.concatenate([drawn, tracer])
        if law.tracer != type(law).model_fields["tracer"].default:
            raise InputError(
                "initial.tracer: the flow carries no tracer: expected tracer=true or "
                "the term buoyancy with it"
            )
        return drawn

    def solver(
        self,
        grid: PeriodicGrid,
        environment: "Tensor",
        dt: float,
        refinement: int = 1,
    ) -> Solver:
        from pde_sym.systems.flow_solver import FlowSolver

        return FlowSolver(self, grid, environment, dt, refinement=refinement)

    def complete(self, state: "Tensor", grid: PeriodicGrid) -> "Tensor":
        """Return velocity, its vorticity ``v_x - u_y`` and the tracer, if any.

        `state` holds the prognostic channels only; the curl is spectral.

        Raises
        ------
        InputError
            When it has another number of channels.
        """
        from pde_sym.systems.flow_dynamics import with_vorticity

        expected = len(self.fields.prognostic_channels)
        if state.shape[-3:] != (expected, *grid.shape):
            raise InputError(
                f"expected the prognostic channels (..., {expected}, "
                f"{grid.shape[0]}, {grid.shape[1]}), got {tuple(state.shape)}"
            )
        return with_vorticity(state, grid)

    def measure(
        self,
        state: "Tensor",
        grid: PeriodicGrid,
        environment: "Tensor",
    ) -> Budget:
        from pde_sym.systems.flow_budgets import measure

        del environment
        return measure(state, grid)

    def rates(
        self, state: "Tensor", grid: PeriodicGrid, environment: "Tensor"
    ) -> Budget:
        from pde_sym.systems.flow_budgets import weak_rates

        return weak_rates(self, state, grid, environment)

    def scalars(self) -> dict[str, float]:
        own: dict[str, float] = {}
        if "viscosity" not in self.environment_fields.names:
            own["viscosity"] = self.viscosity
        if self.tracer:
            own["diffusivity"] = self.diffusivity
        return own | super().scalars()
