"""The physical systems; the union of their classes is the registry."""

from pde_sym.initial_conditions import RandomField
from pde_sym.systems.base import BreakingTerm, Invariant, Property, System
from pde_sym.systems.heat import Heat

AnySystem = Heat
"""Every system, told apart by `kind`."""

AnyInitial = RandomField
"""Every law of initial states, told apart by `kind`."""

SYSTEMS: tuple[type[System], ...] = (Heat,)

__all__ = [
    "SYSTEMS",
    "AnyInitial",
    "AnySystem",
    "BreakingTerm",
    "Heat",
    "Invariant",
    "Property",
    "System",
]
