"""The physical systems; the unions of their classes are the registries.

`SYSTEMS`, `AnySystem` and `AnyInitial` are made when they are first asked for, with the
systems of other packages (`pde_sym.systems.plugins`), which import this one.
"""

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union

from pydantic import Field

from pde_sym.initial_conditions import InitialLaw
from pde_sym.systems.base import BreakingTerm, Invariant, Property, System
from pde_sym.systems.flow import Flow
from pde_sym.systems.heat import Heat
from pde_sym.systems.kdv import KdV
from pde_sym.systems.plume import Plume
from pde_sym.systems.rigid_body import RigidBody

BUILT_IN: tuple[type[System], ...] = (Heat, KdV, RigidBody, Flow, Plume)

if TYPE_CHECKING:
    SYSTEMS: tuple[type[System], ...]
    """Every system."""
    AnySystem: TypeAlias = System
    """Every system, told apart by `kind`."""
    AnyInitial: TypeAlias = InitialLaw
    """Every law of initial states, told apart by `kind`."""


def __getattr__(name: str) -> Any:
    if name not in ("SYSTEMS", "AnySystem", "AnyInitial"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pde_sym.systems.plugins import initial_laws, with_plugins

    systems = with_plugins(BUILT_IN)
    unions = {"AnySystem": systems, "AnyInitial": tuple(initial_laws(systems))}
    by_kind = Field(discriminator="kind")
    globals()["SYSTEMS"] = systems
    for key, classes in unions.items():
        globals()[key] = Annotated[Union[classes], by_kind]  # noqa: UP007
    return globals()[name]


__all__ = [
    "BUILT_IN",
    "SYSTEMS",
    "AnyInitial",
    "AnySystem",
    "BreakingTerm",
    "Flow",
    "Heat",
    "InitialLaw",
    "Invariant",
    "KdV",
    "Plume",
    "Property",
    "RigidBody",
    "System",
]
