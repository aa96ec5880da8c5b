"""The physical systems; the union of their classes is the registry."""

from pde_sym.systems.base import BreakingTerm, Invariant, Property, System
from pde_sym.systems.heat import Heat

AnySystem = Heat
"""Every system, told apart by `kind`."""

SYSTEMS: tuple[type[Heat], ...] = (Heat,)

__all__ = [
    "SYSTEMS",
    "AnySystem",
    "BreakingTerm",
    "Heat",
    "Invariant",
    "Property",
    "System",
]
