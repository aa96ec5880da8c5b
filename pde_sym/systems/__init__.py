"""The physical systems; the unions of their classes are the registries."""

from typing import Annotated

from pydantic import Field

from pde_sym.initial_conditions import RandomField
from pde_sym.systems.base import BreakingTerm, Invariant, Property, System
from pde_sym.systems.flow import Flow, TracerFlow
from pde_sym.systems.flow_initial import (
    DoubleShearLayer,
    RandomVorticity,
    RandomVorticityAndTracer,
)
from pde_sym.systems.heat import Heat
from pde_sym.systems.kdv import KdV
from pde_sym.systems.kdv_solutions import Cnoidal, RandomSolitons, RandomWaves

AnySystem = Annotated[Heat | KdV | Flow | TracerFlow, Field(discriminator="kind")]
"""Every system, told apart by `kind`."""

AnyInitial = Annotated[
    RandomField
    | RandomWaves
    | RandomSolitons
    | Cnoidal
    | RandomVorticity
    | DoubleShearLayer
    | RandomVorticityAndTracer,
    Field(discriminator="kind"),
]
"""Every law of initial states, told apart by `kind`."""

SYSTEMS: tuple[type[System], ...] = (Heat, KdV, Flow, TracerFlow)

__all__ = [
    "SYSTEMS",
    "AnyInitial",
    "AnySystem",
    "BreakingTerm",
    "Flow",
    "Heat",
    "Invariant",
    "KdV",
    "Property",
    "System",
    "TracerFlow",
]
