"""The physical systems; the unions of their classes are the registries."""

from typing import Annotated

from pydantic import Field

from pde_sym.initial_conditions import RandomField
from pde_sym.systems.base import BreakingTerm, Invariant, Property, System
from pde_sym.systems.flow import Flow
from pde_sym.systems.flow_initial import DoubleShearLayer, RandomVorticity
from pde_sym.systems.heat import Heat
from pde_sym.systems.kdv import KdV
from pde_sym.systems.kdv_solutions import Cnoidal, RandomSolitons, RandomWaves
from pde_sym.systems.plume import Plume
from pde_sym.systems.plume_initial import Puffs, StillAir
from pde_sym.systems.rigid_body import RigidBody
from pde_sym.systems.rigid_body_initial import NearAxis, RandomSpin

AnySystem = Annotated[
    Heat | KdV | RigidBody | Flow | Plume, Field(discriminator="kind")
]
"""Every system, told apart by `kind`."""

AnyInitial = Annotated[
    RandomField
    | RandomWaves
    | RandomSolitons
    | Cnoidal
    | RandomVorticity
    | DoubleShearLayer
    | RandomSpin
    | NearAxis
    | Puffs
    | StillAir,
    Field(discriminator="kind"),
]
"""Every law of initial states, told apart by `kind`."""

SYSTEMS: tuple[type[System], ...] = (Heat, KdV, RigidBody, Flow, Plume)

__all__ = [
    "SYSTEMS",
    "AnyInitial",
    "AnySystem",
    "BreakingTerm",
    "Flow",
    "Heat",
    "Invariant",
    "KdV",
    "Plume",
    "Property",
    "RigidBody",
    "System",
]
