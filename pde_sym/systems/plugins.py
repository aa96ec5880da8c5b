"""Systems of other packages, found by entry point.

A package offers a subclass of `System` in its ``pyproject.toml``,

    [project.entry-points."pde_sym.systems"]
    reaction_diffusion = "pde_sym_reaction_diffusion:ReactionDiffusion"

and every command knows it from then on. One that does not load is left out, with a line
in the log of ``pde_sym``, which Python writes to standard error; the others go on.
"""

import inspect
import logging
import re
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_args

from pde_sym.errors import InputError
from pde_sym.systems.base import System

GROUP = "pde_sym.systems"
LOG = logging.getLogger("pde_sym")
_DECLARED = (
    "equation",
    "fields",
    "invariants",
    "intact_properties",
    "terms",
    "default_dt",
    "initial_laws",
    "symmetries",
)


def with_plugins(
    built_in: Sequence[type[System]], points: Sequence[EntryPoint] | None = None
) -> tuple[type[System], ...]:
    """Return the systems, followed by those of other packages that load.

    `points` are their entry points, those that are installed by default.
    """
    known = list(built_in)
    installed = entry_points(group=GROUP) if points is None else points
    for point in sorted(installed, key=lambda one: one.name):
        try:
            found = point.load()
            check(found, known)
        except Exception as error:  # noqa: BLE001 - a stranger's code raises anything
            what = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            reason = " ".join(f"{what}{error}".split())[:200]
            LOG.warning(
                "pde_sym: the system %s (%s) is left out: %s",
                point.name,
                point.value,
                reason,
            )
        else:
            known.append(found)
    return tuple(known)


def check(found: Any, known: Sequence[type[System]]) -> None:
    """Raise `InputError` when a class is no system that can stand beside the others."""
    if not (isinstance(found, type) and issubclass(found, System)):
        raise InputError(f"expected a subclass of System, got {found!r:.80}")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise InputError(f"{found.__name__} does not define {missing}")
    lacking = [name for name in _DECLARED if not hasattr(found, name)]
    if lacking:
        raise InputError(f"{found.__name__} does not declare {', '.join(lacking)}")
    if not (found.invariants and found.initial_laws):
        raise InputError(f"{found.__name__}: expected an invariant and an initial law")
    kind = found.model_fields["kind"]
    if not re.fullmatch(r"\w+", str(kind.default), re.ASCII) or get_args(
        kind.annotation
    ) != (kind.default,):
        raise InputError(
            f'{found.__name__}: expected kind: Literal["name"] = "name", of letters, '
            "digits and _"
        )
    if kind.default in {other.model_fields["kind"].default for other in known}:
        raise InputError(f"there is another system {kind.default!r}")
    laws = {law.model_fields["kind"].default: law for law in initial_laws(known)}
    for law in found.initial_laws:
        name = law.model_fields["kind"].default
        if laws.get(name, law) is not law:
            raise InputError(f"there is another law of initial states {name!r}")
    found.model_validate({})


def initial_laws(systems: Sequence[type[System]]) -> list[Any]:
    """Return the laws of initial states of all systems, each once."""
    return list(dict.fromkeys(law for one in systems for law in one.initial_laws))
