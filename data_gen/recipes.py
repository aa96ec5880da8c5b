"""What a data set is made from: one value, and what it will cost.

Equal recipes make equal bytes. The numbers of trajectories are no part of a recipe, so
that a data set can grow; nor are folders, hosts, dates or the number of workers.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from pde_sym.config import Frozen, assignment, literal, read_toml
from pde_sym.errors import DataError, InputError
from pde_sym.grid import PeriodicGrid
from pde_sym.initial_conditions import InitialLaw
from pde_sym.seeds import Split
from pde_sym.store import read_manifest
from pde_sym.store.folder import MAX_SHARD
from pde_sym.systems import SYSTEMS, AnyInitial, AnySystem, BreakingTerm, System

if TYPE_CHECKING:
    from pde_sym.systems.ensemble import Dynamics

NAMED = {
    path.stem: path for path in sorted((Path(__file__).parent / "named").iterdir())
}
"""Recipes at hand, one file each."""


class Recipe(Frozen):
    """Everything that decides the numbers in a data set."""

    system: AnySystem
    """The equation with its breaking terms."""
    initial: AnyInitial | None = None
    """Law of the initial states; the first that the system knows when absent."""
    resolution: int | None = Field(default=None, ge=1)
    """Points per axis, even and at least 8, or 1 for a system without space; the
    system's own when absent."""
    length: float | None = Field(default=None, ge=1e-9, le=1e9)
    """Side of the box, in units of length; the system's own when absent."""
    frames: int = Field(default=21, ge=2)
    """Stored frames per trajectory, the initial state included."""
    dt: float | None = Field(default=None, ge=1e-12, le=1e9)
    """Time between frames, in units of time; the system's own when absent."""
    environment: Literal["hidden", "given"] | None = None
    """hidden: one environment for all, models do not see it; given: one for each.
    Given when absent and strengths vary, else hidden."""
    strengths: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Breaking terms whose strength is drawn per trajectory, uniform in that range."""
    split_by: Literal["trajectory", "time"] = "trajectory"
    """trajectory: each split has its own; time: valid and test go on where train and
    valid end, from the same initial states."""
    gap: int = Field(default=0, ge=0)
    """Frames that are left out between the splits when they are by time."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Root of all random numbers."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision on disk; the solvers run in float64."""
    shard_size: int = Field(default=16, ge=1, le=MAX_SHARD)
    """Trajectories per file."""

    @model_validator(mode="before")
    @classmethod
    def _name_the_law(cls, values: Any) -> Any:
        """Let settings without a kind be those of the system's first law."""
        match values:
            case {"system": {"kind": str(name)}, "initial": dict(law)}:
                system = _systems().get(name)
                if system is not None and "kind" not in law:
                    kind = next(iter(law_classes(system)))
                    return {**values, "initial": {"kind": kind, **law}}
        return values

    @model_validator(mode="after")
    def _resolve_space(self) -> Self:
        asked, is_point = self.resolution, self.system.default_resolution == 1
        if asked is None or (is_point and asked == 1):
            return self
        if is_point or asked < 8 or asked % 2:
            wanted = "1" if is_point else "an even number of at least 8"
            raise ValueError(
                f"resolution: {self.system.kind} expects {wanted}, got {asked}"
            )
        return self

    @model_validator(mode="after")
    def _fill_in(self) -> Self:
        # The stored recipe says the values, so that later defaults change nothing.
        for name, value in (
            ("dt", float(self.system.default_dt)),
            ("resolution", self.system.default_resolution),
            ("length", self.system.default_length),
            ("initial", self.system.initial_laws[0].model_validate({})),
            ("environment", "given" if self.strengths else "hidden"),
        ):
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if not isinstance(self.initial, self.system.initial_laws):
            known = ", ".join(law_classes(type(self.system)))
            raise ValueError(
                f"initial.kind: {self.system.kind} has {known}, got {self.law.kind}"
            )
        return self

    @model_validator(mode="after")
    def _check_ranges_and_splits(self) -> Self:
        for name, (low, high) in self.strengths.items():
            term = next((t for t in self.system.breaking if t.kind == name), None)
            if term is None or not low < high == term.strength:
                raise ValueError(
                    f"strengths.{name}: expected LOW < HIGH with HIGH the strength of "
                    f"a term of the system, got {low:g} to {high:g}"
                )
            # The lower end has the same limits as a strength of its own.
            type(term).model_validate({**term.model_dump(), "strength": low})
        if self.gap and self.split_by == "trajectory":
            raise ValueError(f"gap={self.gap}: expected 0 unless split_by is time")
        if self.strengths and self.environment == "hidden":
            raise ValueError(
                "strengths that vary are a given field: expected environment given, "
                "got hidden"
            )
        return self

    @property
    def environment_kind(self) -> Literal["hidden", "given"]:
        """`environment`, filled in."""
        assert self.environment is not None
        return self.environment

    @property
    def dynamics(self) -> "Dynamics":
        """The system; where strengths vary, the ensemble."""
        if not self.strengths:
            return self.system
        from pde_sym.systems.ensemble import Ensemble  # with it comes torch

        return Ensemble(self.system, tuple(sorted(self.strengths)))

    @property
    def law(self) -> InitialLaw:
        """`initial`, filled in."""
        assert self.initial is not None
        return self.initial

    @property
    def grid(self) -> PeriodicGrid:
        assert self.resolution is not None
        assert self.length is not None
        return self.system.grid(self.resolution, self.length)

    @property
    def frame_spacing(self) -> float:
        """`dt`, filled in."""
        assert self.dt is not None
        return self.dt

    def first_frame(self, split: Split) -> int:
        """Return the frame that a split starts with, counted from the initial state."""
        if self.split_by == "trajectory":
            return 0
        return split.spawn_index * (self.frames + self.gap)

    def source(self, split: Split) -> Split:
        """Return the split whose random numbers a split has."""
        return split if self.split_by == "trajectory" else Split.TRAIN

    def times(self, split: Split) -> np.ndarray:
        """Return the time of each frame since the initial state."""
        frames = np.arange(self.frames) + self.first_frame(split)
        return frames * self.frame_spacing


def named(name: str) -> Path:
    """Return the file of a recipe at hand; `InputError` when there is none."""
    if name not in NAMED:
        raise InputError(f"--recipe {name!r:.80}: expected one of {', '.join(NAMED)}")
    return NAMED[name]


def resolve(
    system: str | None,
    breaks: Sequence[str] = (),
    sets: Sequence[str] = (),
    config: Path | None = None,
    options: dict[str, Any] | None = None,
) -> Recipe:
    """Return the recipe that a command line describes; later sources win.

    Parameters
    ----------
    system
        Its name; may be absent when `config` names it.
    breaks
        ``NAME=STRENGTH`` per breaking term, or ``NAME=LOW..HIGH``: one per trajectory.
    sets
        ``KEY=VALUE`` or ``PART.KEY=VALUE``; a part is ``initial`` or a breaking term.
    config
        A TOML file with the fields of `Recipe`.
    options
        Fields of `Recipe`; None means not given.

    Raises
    ------
    InputError
        When a name is unknown or a value is not allowed.
    """
    values = read_toml(config) if config else {}
    part = _table(values, "system", "the configuration")
    part["kind"] = system or part.get("kind")
    kind = _system_class(part["kind"])
    for text in breaks:
        name, strength = assignment(text, "--break", "NAME=STRENGTH")
        low, dots, high = strength.partition("..")
        _term(part, kind, name)["strength"] = _number(name, high if dots else low)
        if dots:
            limits = [_number(name, low), _number(name, high)]
            _table(values, "strengths", "the configuration")[name] = limits
    assigned = [assignment(text, "--set") for text in sets]
    # The law first: which keys it has depends on it.
    for key, value in sorted(assigned, key=lambda pair: pair[0] != "initial.kind"):
        _assign(values, kind, key, literal(value))
    values |= {k: v for k, v in (options or {}).items() if v is not None}
    return Recipe.parse(values, where=str(config) if config else "recipe")


def _systems() -> dict[str, type[System]]:
    return {kind.model_fields["kind"].default: kind for kind in SYSTEMS}


def _system_class(name: Any) -> type[System]:
    known = _systems()
    if not isinstance(name, str) or name not in known:
        got = "none" if name is None else repr(name)
        raise InputError(f"system: expected one of {', '.join(known)}, got {got:.80}")
    return known[name]


def term_classes(system: type[System]) -> dict[str, type[BreakingTerm]]:
    """Return the breaking terms of a system by name."""
    terms: tuple[type[BreakingTerm], ...] = getattr(system, "terms", ())
    return {term.model_fields["kind"].default: term for term in terms}


def law_classes(system: type[System]) -> dict[str, type[InitialLaw]]:
    """Return the laws of initial states of a system by name."""
    return {law.model_fields["kind"].default: law for law in system.initial_laws}


def _table(values: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    table = values.setdefault(key, {})
    if not isinstance(table, dict):
        raise InputError(f"{where}: {key} must be a table, got {table!r:.80}")
    return table


def _term(part: dict[str, Any], kind: type[System], name: str) -> dict[str, Any]:
    """Return the breaking term of that name in the plain system, made if absent."""
    known = term_classes(kind)
    if name not in known:
        raise InputError(
            f"breaking term {name!r:.80}: {part['kind']} has {', '.join(known)}"
        )
    terms = part.setdefault("breaking", [])
    if not isinstance(terms, list):
        raise InputError(f"system.breaking must be a list, got {terms!r:.80}")
    for term in terms:
        if isinstance(term, dict) and term.get("kind") == name:
            return term
    terms.append({"kind": name})
    return terms[-1]


def _assign(values: dict[str, Any], kind: type[System], key: str, value: Any) -> None:
    head, dot, rest = key.partition(".")
    recipe_fields = [f for f in Recipe.model_fields if f not in ("system", "initial")]
    system_fields = [f for f in kind.model_fields if f not in ("kind", "breaking")]
    if not dot and head in recipe_fields:
        values[head] = value
    elif not dot and head in system_fields:
        values["system"][head] = value
    elif dot and head == "initial":
        law = _table(values, "initial", "the configuration")
        laws = law_classes(kind)
        chosen = str(law.get("kind", next(iter(laws))))
        _known("initial.kind", chosen, list(laws))
        if rest == "kind":
            _known(f"{key}={value}", str(value), list(laws))
        else:
            _known(key, rest, [f for f in laws[chosen].model_fields if f != "kind"])
        law |= {"kind": chosen, rest: value}
    elif dot and head in term_classes(kind):
        allowed = [f for f in term_classes(kind)[head].model_fields if f != "kind"]
        _known(key, rest, allowed)
        _term(values["system"], kind, head)[rest] = value
    else:
        raise InputError(
            f"--set {key:.80}: unknown; expected one of "
            f"{', '.join([*recipe_fields, *system_fields])}, or KEY of "
            f"{', '.join(['initial', *term_classes(kind)])} as in initial.modes"
        )


def _known(key: str, name: str, allowed: list[str]) -> None:
    if name not in allowed:
        raise InputError(f"--set {key:.80}: expected one of {', '.join(allowed)}")


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InputError(
            f"--break {name}={text:.80}: expected a finite strength >= 0, as in "
            f"--break {name}=0.5"
        )
    return value


def read_recipe(folder: Path) -> Recipe:
    """Return the recipe of a data set; `DataError` when this version cannot."""
    config = read_manifest(folder, complete=False).config
    try:
        return Recipe.parse(config, where=f"{folder}: recipe")
    except InputError as error:
        raise DataError(str(error)) from error
