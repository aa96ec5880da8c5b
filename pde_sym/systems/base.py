"""What a physical system must provide, on one page.

A system is a frozen value: its parameters are its configuration, and its methods are
the mathematics. Breaking terms are smaller frozen values that are composed onto it;
each has one strength, and strength 0 is the intact system bit for bit.

States and environments are arrays ``(..., channels, x, y)`` whose channels a
`FieldSpec` names. The environment holds the constant fields that the terms need, such
as the conductivity of a medium with bubbles; its channels may be none at all.
"""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pde_sym.config import Frozen
from pde_sym.errors import ADVICE, Lost, LostTrajectoryError
from pde_sym.fields import FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import FULL, Subgroup
from pde_sym.initial_conditions import InitialLaw

if TYPE_CHECKING:  # a system describes itself without torch, which is slow to import
    from torch import Tensor

    from pde_sym.simulation import Simulation


STRENGTH = "strength_"
"""What the name of a term follows where its strength is stored."""


class Property(StrEnum):
    """A property of the dynamics that is not a motion of the plane."""

    SUPERPOSITION = "superposition"
    """Phi(a u + b v) = a Phi(u) + b Phi(v)"""
    SIGN = "u -> -u"
    """Phi(-u) = -Phi(u)"""
    OFFSET = "u -> u + c"
    """Phi(u + c) = Phi(u) + c"""
    SELF_ADJOINT = "self-adjointness"
    """<v, Phi(u)> = <Phi(v), u>"""
    MAXIMUM_PRINCIPLE = "maximum principle"
    """min u <= Phi(u) <= max u"""
    HEAT = "total heat"
    """int Phi(u) = int u"""
    WEIGHTED_HEAT = "heat weighted by the capacity"
    """int C Phi(u) = int C u"""
    ENERGY_DECAY = "energy decay"
    """int C Phi(u)^2 <= int C u^2"""


class BreakingTerm(Frozen, abc.ABC):
    """A mechanism that breaks symmetries or conservation laws by a known amount."""

    kind: str
    strength: float = Field(default=0.0, ge=0.0)
    """Dimensionless strength; 0 is the intact system."""

    equation: ClassVar[str]
    """The equation with the term, in one line."""

    @property
    @abc.abstractmethod
    def survivors(self) -> Subgroup:
        """The subgroup of T^2 x D4 that the term leaves at any strength > 0."""

    @property
    @abc.abstractmethod
    def breaks(self) -> frozenset[StrEnum]:
        """The other properties that the term breaks at any strength > 0."""


@dataclass(frozen=True)
class Invariant:
    """A functional of the state whose change is known.

    Parameters
    ----------
    name
        Name on disk; the budget is stored beside it as ``NAME_budget``.
    unit
        Its unit.
    meaning
        The formula in one line.
    residual
        Part of its size by which a trajectory's change may leave its budget: the
        error of a quadrature.
    """

    name: str
    unit: str
    meaning: str
    residual: float = 1e-7


Term = TypeVar("Term", bound=BreakingTerm)
Budget: TypeAlias = "dict[str, Tensor]"
"""Per invariant: value, rate or change, one number per trajectory."""


class PerInstance:
    """What a class lists for every instance, and an instance for its own terms."""

    def __init__(self, every: Any, own: "Callable[[Any], Any]") -> None:
        self._every, self._own = every, own

    def __get__(self, instance: Any, owner: type) -> Any:
        return self._every if instance is None else self._own(instance)


class Solver(Protocol):
    """A step function over one frame that also integrates the budgets."""

    def __call__(self, state: "Tensor") -> "Tensor":
        """Return the state ``(batch, channels, x, y)`` one frame later."""
        ...

    def step(self, state: "Tensor") -> "tuple[Tensor, Budget]":
        """Return the next state and the expected change of each invariant.

        The change is the integral of `System.rates`, by quadrature at the solver's
        own steps.

        Raises
        ------
        LostTrajectoryError
            When a field of some trajectories is not finite or moves too fast; times
            are since the beginning of the frame.
        """
        ...


def check_finite(
    state: "Tensor",
    fields: FieldSpec,
    times: "float | Sequence[float]",
    advice: str = ADVICE,
) -> None:
    """Raise `LostTrajectoryError` for states ``(batch, channels, x, y)`` not finite.

    Parameters
    ----------
    state, fields
        A state, and what its channels mean; prognostic fields are named first.
    times
        When it is, since the beginning of the frame: one number, or one for each.
    advice
        What the error advises.
    """
    rows = state.detach().isfinite().flatten(2).all(2)
    if bool(rows.all()):
        return
    parts = sorted(
        zip(fields, fields.slices().values(), strict=True),
        key=lambda pair: not pair[0].prognostic,
    )
    raise LostTrajectoryError(
        [
            Lost(
                index,
                next(field.name for field, part in parts if not row[part].all()),
                "is not finite",
                times[index] if isinstance(times, Sequence) else times,
            )
            for index, row in enumerate(rows)
            if not row.all()
        ],
        advice,
    )


class System(Frozen, abc.ABC):
    """A physical system on a grid, intact or with breaking terms."""

    kind: str
    breaking: tuple[BreakingTerm, ...] = ()

    fields: ClassVar[FieldSpec]
    """The fields of a state."""
    equation: ClassVar[str]
    """The intact equation."""
    invariants: ClassVar[tuple[Invariant, ...]]
    intact_properties: ClassVar[frozenset[StrEnum]]
    """Properties that are not motions of the plane, in the system's own words."""
    terms: ClassVar[tuple[type[BreakingTerm], ...]]
    """The breaking terms that the system knows."""
    default_dt: ClassVar[float]
    """Frame spacing at which consecutive frames differ by 2 to 20 %."""
    default_resolution: ClassVar[int] = 64
    """Points per axis."""
    default_length: ClassVar[float] = 1.0
    """Side of the box."""
    kept_modes: ClassVar[float] = 1.0
    """Part of the Fourier modes along each axis that a state keeps."""
    initial_laws: ClassVar[tuple[type[InitialLaw], ...]]
    """The laws that initial states may be drawn from, the default first."""
    symmetries: ClassVar[tuple[str, ...]]
    """Generators and discrete elements of the intact equation on the plane."""

    @classmethod
    def grid(cls, resolution: int, length: float) -> PeriodicGrid:
        """Return the grid of that many points per axis: a square, unless overridden."""
        return PeriodicGrid.square(resolution, length)

    @classmethod
    def broken(cls, **strengths: float) -> Self:
        """Return the system with terms of those strengths, else as it is by default.

        >>> from pde_sym import Heat
        >>> Heat.broken(bubbles=0.5, sink=2).survivors.name
        'C1'

        Raises
        ------
        InputError
            When there is no such term, or not at that strength.
        """
        terms = [{"kind": name, "strength": s} for name, s in strengths.items()]
        return cls.parse({"breaking": terms}, where=cls.__name__)

    def simulate(
        self,
        trajectories: int = 1,
        frames: int = 21,
        **settings: Any,
    ) -> "Simulation":
        """Return trajectories in memory.

        The settings and the errors are those of `pde_sym.simulation.simulated`.
        """
        from pde_sym.simulation import simulated  # with it comes torch

        return simulated(self, trajectories, frames, **settings)

    def sample_initial(
        self,
        law: InitialLaw,
        grid: PeriodicGrid,
        generator: np.random.Generator,
        index: int = 0,
    ) -> NDArray[np.float64]:
        """Draw an initial state ``(channels, *grid.shape)``, as the law does.

        A system whose fields depend on its terms picks them from the law's draw.
        """
        return law.sample(grid, generator, index)

    def probes(self, grid: PeriodicGrid) -> "Sequence[Any]":
        """Return the motions under which the defect of a data set is measured."""
        from pde_sym.diagnostics import probes

        return probes(grid)

    def action(self, grid: PeriodicGrid) -> "Callable[[Any, Tensor], Tensor]":
        """Return how those motions act on a state ``(batch, channels, *grid.shape)``.

        Norms are left alone.
        """
        from pde_sym.diagnostics import Action

        return Action(self.fields, grid)

    def complete(self, state: "Tensor", grid: PeriodicGrid) -> "Tensor":  # noqa: ARG002
        """Return the state with its derived fields, from the prognostic ones alone.

        Both are ``(batch, channels, *grid.shape)``; without derived fields they are
        the same.
        """
        return state

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
    @abc.abstractmethod
    def environment_fields(self) -> FieldSpec:
        """The constant fields that the breaking terms need, possibly none."""

    @abc.abstractmethod
    def sample_environment(
        self, grid: PeriodicGrid, generator: np.random.Generator
    ) -> NDArray[np.float64]:
        """Draw an environment ``(channels, x, y)``."""

    @abc.abstractmethod
    def solver(
        self,
        grid: PeriodicGrid,
        environment: "Tensor",
        dt: float,
        refinement: int = 1,
    ) -> Solver:
        """Return the step over a frame of length `dt`.

        Parameters
        ----------
        grid
            Where the points are.
        environment
            ``(batch, channels, x, y)``, or with batch 1 for all.
        dt
            In units of time.
        refinement
            How many times finer the solver's own steps are than those it chooses.
        """

    @abc.abstractmethod
    def measure(
        self, state: "Tensor", grid: PeriodicGrid, environment: "Tensor"
    ) -> "Budget":
        """Return each invariant of a state ``(batch, channels, x, y)``."""

    @abc.abstractmethod
    def rates(
        self, state: "Tensor", grid: PeriodicGrid, environment: "Tensor"
    ) -> "Budget":
        """Return the rate of each invariant, from its closed form."""

    def scheme_rates(
        self,
        state: "Tensor",  # noqa: ARG002
        grid: PeriodicGrid,  # noqa: ARG002
        environment: "Tensor",  # noqa: ARG002
    ) -> "Budget":
        """Return the part of `rates` that the scheme adds to the equation.

        From its closed form too; an invariant to which it adds nothing is left out.
        """
        return {}

    def scalars(self) -> dict[str, float]:
        """Return the numbers that are stored with every file, by name.

        They are the strengths; a system puts its own parameters before them.
        """
        return {STRENGTH + term.kind: term.strength for term in self.breaking}

    @property
    def survivors(self) -> Subgroup:
        """The subgroup of T^2 x D4 that the terms of non-zero strength leave."""
        result = FULL
        for term in self.breaking:
            if term.strength > 0:
                result = result & term.survivors
        return result

    @property
    def joint_survivors(self) -> Subgroup:
        """The subgroup that survives when the environment moves with the state.

        A term that acts through an environment field breaks nothing then.
        """
        result = FULL
        for term in self.breaking:
            alone = self.model_copy(update={"breaking": (term,)})
            if term.strength > 0 and not len(alone.environment_fields):
                result = result & term.survivors
        return result

    def keeps(self, motion: Any, *, joint: bool = False) -> bool:
        """Return whether a motion of `probes` survives the terms; see `survivors`.

        With `joint`, when the environment moves with the state.
        """
        return motion in (self.joint_survivors if joint else self.survivors)

    @property
    def properties(self) -> frozenset[StrEnum]:
        """The properties that the terms of non-zero strength leave."""
        broken: set[StrEnum] = set()
        for term in self.breaking:
            if term.strength > 0:
                broken |= term.breaks
        return self.intact_properties - broken
