"""What made data that came from elsewhere: fields are known, physics is not."""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from pde_sym.errors import InputError
from pde_sym.fields import FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.groups import Subgroup, point_group
from pde_sym.initial_conditions import InitialLaw
from pde_sym.systems.base import (
    BreakingTerm,
    Budget,
    Invariant,
    PerInstance,
    Solver,
    System,
)

if TYPE_CHECKING:
    from torch import Tensor


class Unknown(System):
    """Fields that someone else's solver advanced: no equation, no invariants.

    It stands among data, never among the systems to choose from. Nothing is known to
    survive, so that no network is denied what would break a symmetry.

    Parameters
    ----------
    states
        The fields of a state.
    constants
        Constant fields beside them.
    """

    kind: Literal["imported"] = "imported"
    states: FieldSpec
    constants: FieldSpec = FieldSpec.of()

    fields: ClassVar[FieldSpec] = PerInstance(  # type: ignore[assignment]
        FieldSpec.of(), lambda system: system.states
    )
    equation: ClassVar[str] = "unknown"
    invariants: ClassVar[tuple[Invariant, ...]] = ()
    intact_properties: ClassVar[frozenset[StrEnum]] = frozenset()
    terms: ClassVar[tuple[type[BreakingTerm], ...]] = ()
    default_dt: ClassVar[float] = 1.0
    initial_laws: ClassVar[tuple[type[InitialLaw], ...]] = ()
    symmetries: ClassVar[tuple[str, ...]] = ()

    @property
    def environment_fields(self) -> FieldSpec:
        return self.constants

    @property
    def survivors(self) -> Subgroup:
        """The identity alone."""
        return Subgroup.of("", point_group("C1"))

    @property
    def joint_survivors(self) -> Subgroup:
        return self.survivors

    def probes(self, grid: PeriodicGrid) -> Sequence[Any]:
        """Return the usual motions, less quarter turns where the box has none."""
        motions = super().probes(grid)
        return [
            g
            for g in motions
            if grid.is_square or grid.num_axes == 1 or not g.turns % 2
        ]

    def sample_environment(
        self,
        grid: PeriodicGrid,
        generator: np.random.Generator,
    ) -> NDArray[np.float64]:
        _refuse(grid, generator)

    def solver(
        self,
        grid: PeriodicGrid,
        environment: "Tensor",
        dt: float,
        refinement: int = 1,
    ) -> Solver:
        _refuse(grid, environment, dt, refinement)

    def measure(
        self,
        state: "Tensor",  # noqa: ARG002
        grid: PeriodicGrid,  # noqa: ARG002
        environment: "Tensor",  # noqa: ARG002
    ) -> Budget:
        """Return nothing: no invariant is known."""
        return {}

    rates = measure


def _refuse(*_: object) -> NoReturn:
    raise InputError(
        "imported data have no solver here; expected data that `pde-sym generate` made"
    )
