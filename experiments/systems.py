"""``pde-sym systems``: what there is to simulate, and what each term breaks."""

import argparse
import json
from typing import Any

from pde_sym.config import Frozen
from pde_sym.initial_conditions import InitialLaw
from pde_sym.systems import SYSTEMS, BreakingTerm, System


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = [system.model_fields["kind"].default for system in SYSTEMS]
    parser.add_argument("system", nargs="?", choices=names, help="only this one")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    table = [describe(system) for system in SYSTEMS]
    if arguments.system:
        table = [one for one in table if one["system"] == arguments.system]
    print(
        json.dumps(table, indent=1)
        if arguments.json
        else "\n\n".join(map(_text, table))
    )
    return 0


def describe(system: type[System]) -> dict[str, Any]:
    """Return everything a system says of itself, as plain values."""
    return {
        "system": system.model_fields["kind"].default,
        "equation": system.equation,
        "symmetries": list(system.symmetries),
        "on_the_grid": system.model_validate({}).survivors.name,
        "settings": _settings(system),
        "properties": sorted(system.intact_properties),
        "invariants": {
            i.name: f"{i.meaning} [{i.unit or '1'}]" for i in system.invariants
        },
        "initial": [_describe_law(law) for law in system.initial_laws],
        "breaking": [_describe_term(term, system) for term in system.terms],
    }


def _describe_law(law: type[InitialLaw]) -> dict[str, Any]:
    return {
        "name": law.model_fields["kind"].default,
        "law": " ".join((law.__doc__ or "").split("\n\n")[0].split()),
        "settings": _settings(law),
    }


def _settings(kind: type[Frozen]) -> dict[str, str]:
    return {
        name: " ".join((field.description or "").split())
        for name, field in kind.model_fields.items()
        if name not in ("kind", "breaking")
    }


def _describe_term(kind: type[BreakingTerm], system: type[System]) -> dict[str, Any]:
    term, intact = kind.model_validate({}), system.intact_properties
    symmetries: Any = system.model_validate({}).survivors
    return {
        "name": term.kind,
        "equation": kind.equation,
        "leaves": (symmetries & term.survivors).name,
        "breaks": sorted(term.breaks),
        "keeps": sorted(intact - term.breaks),
        "settings": _settings(kind),
    }


def _text(system: dict[str, Any]) -> str:
    lines = [
        f"{system['system']}: {system['equation']}",
        f"  on the grid    {system['on_the_grid']}",
        f"  properties     {', '.join(system['properties'])}",
        "  invariants     "
        + "; ".join(f"{name} = {text}" for name, text in system["invariants"].items()),
        "  symmetries of the equation",
        *(f"      {generator}" for generator in system["symmetries"]),
        "  settings",
        *(f"      --set {name:15} {text}" for name, text in system["settings"].items()),
        "",
        "  initial states, the first by default (--set initial.kind=NAME):",
    ]
    for law in system["initial"]:
        lines.append(f"  {law['name']:12} {law['law']}")
        lines += [
            f"      --set initial.{name:7} {text}"
            for name, text in law["settings"].items()
        ]
    lines += [
        "",
        "  breaking terms, each with a strength, 0 = intact (--break NAME=STRENGTH):",
    ]
    for term in system["breaking"]:
        lines += [
            f"  {term['name']:12} {term['equation']}",
            f"      leaves     {term['leaves']}",
            f"      breaks     {', '.join(term['breaks']) or 'no other property'}",
            f"      keeps      {', '.join(term['keeps']) or 'no other property'}",
        ]
        lines += [
            f"      --set {term['name']}.{name:9} {text}"
            for name, text in term["settings"].items()
            if name != "strength"
        ]
        lines.append(f"      strength            {term['settings']['strength']}")
    return "\n".join(lines)
