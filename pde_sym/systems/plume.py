"""A smoke plume in a closed box, intact or broken.

    u_t + u.grad u = -grad p + nu Lap u + s F(x),    div u = 0,
    s_t + div(u s) = q(x),

with smoke s, and with the lift F and the inflow q zero unless the breaking terms of
those names say otherwise. The box is square, no fluid passes its walls or an obstacle;
along the walls the flow slips or sticks. Lengths, times and smoke are in units of the
user. Fields are stored at the centres of the cells, so that a quarter turn of the box
only permutes rows and columns and turns components.

Intact, smoke is carried and does nothing. Of the symmetries of the plane the walls
leave the turns and flips of the box about its middle, and shifts of time.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Documented
from pydantic import model_validator

from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.grid import PeriodicGrid, WalledGrid
from pde_sym.groups import Subgroup
from pde_sym.initial_conditions import InitialLaw
from pde_sym.systems.base import BreakingTerm, Budget, Invariant, Solver, System
from pde_sym.systems.plume_initial import Puffs, StillAir
from pde_sym.systems.plume_terms import (
    WALLS,
    BuoyancyDirection,
    BuoyancyGradient,
    BuoyancyImbalance,
    Inflow,
    Obstacle,
    PlumeProperty,
)

if TYPE_CHECKING:  # see `pde_sym.systems.base`
    from torch import Tensor

__all__ = ["Plume", "PlumeProperty"]

PlumeTerms = Annotated[
    BuoyancyDirection | BuoyancyGradient | BuoyancyImbalance | Inflow | Obstacle,
    Documented(discriminator="kind"),
]


class Plume(System):
    """A smoke plume in a closed box; see the module for the equations."""

    kind: Literal["plume"] = "plume"
    viscosity: float = Documented(default=0.0, ge=0.0, le=1e6)
    """nu, in lengths squared per unit of time; 0 is Euler's equation."""
    walls: Literal["slip", "stick"] = "slip"
    """Whether the flow slips along the walls or sticks to them."""
    breaking: tuple[PlumeTerms, ...] = ()
    """Breaking terms, each kind at most once."""

    equation: ClassVar[str] = (
        "u_t + u.grad u = -grad p + nu Lap u, div u = 0, s_t + div(u s) = 0"
    )
    fields: ClassVar[FieldSpec] = FieldSpec.of(
        Field(name="smoke"),
        Field(name="velocity", rank=Rank.VECTOR, unit="L / T", components=2),
    )
    terms: ClassVar[tuple[type[BreakingTerm], ...]] = (
        BuoyancyDirection,
        BuoyancyGradient,
        BuoyancyImbalance,
        Inflow,
        Obstacle,
    )
    default_dt: ClassVar[float] = 0.01
    """Frame spacing on a box of length 1 with rms speed 1: smoke changes by 10 %."""
    initial_laws: ClassVar[tuple[type[InitialLaw], ...]] = (Puffs, StillAir)
    invariants: ClassVar[tuple[Invariant, ...]] = (
        Invariant("smoke", "L^2", "int s"),
        Invariant("energy", "L^4 / T^2", "int |u|^2 / 2", residual=1e-8),
    )
    intact_properties: ClassVar[frozenset[PlumeProperty]] = frozenset(  # type: ignore
        PlumeProperty
    )
    symmetries: ClassVar[tuple[str, ...]] = (
        "d_t",
        "a(t) d_p",
        "quarter turns about the middle of the box",
        "reflections that keep the box",
        "s -> a s + c",
    )

    @classmethod
    def grid(cls, resolution: int, length: float) -> WalledGrid:
        return WalledGrid.square(resolution, length)

    @model_validator(mode="after")
    def _imbalance_needs_a_turned_lift(self) -> Self:
        direction = self.term(BuoyancyDirection)
        turned = direction is not None and direction.turned
        if self.term(BuoyancyImbalance) and not turned:
            raise ValueError(
                "buoyancy_imbalance: expected a buoyancy_direction with turned = true "
                f"beside it, got {'one without' if direction else 'none'}"
            )
        return self

    @property
    def survivors(self) -> Subgroup:
        return super().survivors & WALLS

    @property
    def joint_survivors(self) -> Subgroup:
        return super().joint_survivors & WALLS

    @property
    def environment_fields(self) -> FieldSpec:
        lifted = self.term(BuoyancyDirection) or self.term(BuoyancyGradient)
        candidates = (
            (lifted, "lift", Rank.VECTOR, "L / T^2", 2),
            (self.term(Inflow), "inflow", Rank.SCALAR, "1 / T", 1),
            (self.term(Obstacle), "obstacle", Rank.SCALAR, "", 1),
        )
        return FieldSpec(
            fields=tuple(
                Field(
                    name=name, rank=rank, unit=unit, components=width, prognostic=False
                )
                for term, name, rank, unit, width in candidates
                if term is not None
            )
        )

    def sample_environment(
        self, grid: PeriodicGrid, generator: np.random.Generator
    ) -> NDArray[np.float64]:
        """Draw lift, inflow and obstacle, those that are there."""
        channels = [np.empty((0, *grid.shape))]
        direction, gradient = self.term(BuoyancyDirection), self.term(BuoyancyGradient)
        if direction or gradient:
            lift = np.zeros((2, *grid.shape))
            if direction:
                lift += direction.strength * direction.pattern(grid)
            if gradient:
                lift += gradient.strength * gradient.pattern(grid)
            channels.append(lift)
        if inflow := self.term(Inflow):
            channels.append(inflow.strength * inflow.pattern(grid, generator)[None])
        if obstacle := self.term(Obstacle):
            channels.append(obstacle.pattern(grid)[None])
        drawn = np.concatenate(channels)
        if direction and direction.turned:
            turns = int(generator.integers(4))
            drawn = _turned(drawn, turns)
            drawn[:2] *= 1 + direction.imbalance * (2 * turns / 3 - 1)
        return drawn

    def sample_initial(
        self,
        law: InitialLaw,
        grid: PeriodicGrid,
        generator: np.random.Generator,
        index: int = 0,
    ) -> NDArray[np.float64]:
        """Draw a state ``(3, x, y)`` that goes around the obstacle.

        An obstacle that is turned at random is unknown here: the first step then
        removes what flows into it.
        """
        drawn = super().sample_initial(law, grid, generator, index)
        obstacle, direction = self.term(Obstacle), self.term(BuoyancyDirection)
        turned = direction is not None and direction.turned
        if obstacle is None or obstacle.strength == 0 or turned:
            return drawn
        from pde_sym.systems.plume_solver import around

        return around(obstacle.pattern(grid), drawn, grid)

    def solver(
        self,
        grid: PeriodicGrid,
        environment: "Tensor",
        dt: float,
        refinement: int = 1,
    ) -> Solver:
        from pde_sym.systems.plume_solver import PlumeSolver

        return PlumeSolver(self, grid, environment, dt, refinement=refinement)

    def measure(
        self, state: "Tensor", grid: PeriodicGrid, environment: "Tensor"
    ) -> Budget:
        from pde_sym.systems.plume_solver import measure

        del environment
        return measure(state, grid)

    def rates(
        self, state: "Tensor", grid: PeriodicGrid, environment: "Tensor"
    ) -> Budget:
        from pde_sym.systems.plume_solver import weak_rates

        return weak_rates(self, state, grid, environment)

    def scheme_rates(
        self, state: "Tensor", grid: PeriodicGrid, environment: "Tensor"
    ) -> Budget:
        from pde_sym.systems.plume_solver import scheme_rates

        del environment
        return scheme_rates(self, state, grid)

    def scalars(self) -> dict[str, float]:
        direction = self.term(BuoyancyDirection)
        return {
            "buoyancy": direction.strength if direction else 0.0,
            "viscosity": self.viscosity,
            **super().scalars(),
        }


def _turned(environment: NDArray[np.float64], turns: int) -> NDArray[np.float64]:
    """Return an environment, whose first two channels are the lift, turned."""
    for _ in range(turns):
        # (g f)(x, y) = f(y, -x), and the components of the lift turn with it.
        environment = environment[..., ::-1].swapaxes(-1, -2).copy()
        environment[:2] = np.stack([-environment[1], environment[0]])
    return environment
