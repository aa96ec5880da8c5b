"""What a sweep over breaking strengths consists of: one value, read from TOML.

Families of models are trained at every strength of one breaking term, on training sets
of several sizes, from several seeds, each family with as many tuning trials as the
others.
"""

import copy
import itertools
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from data_gen.recipes import Recipe, term_classes
from experiments.moved import check_motions
from experiments.train import Choices
from pde_sym.config import Frozen, read_toml
from pde_sym.errors import InputError
from pde_sym.seeds import Split

NAMED = {
    path.stem: path for path in sorted((Path(__file__).parent / "sweeps").glob("*"))
}
"""Sweeps at hand, one file each."""
NAME = r"^[a-z0-9][a-z0-9_+-]*$"
"""Names become folders."""


class Trajectories(Frozen):
    """How many trajectories are made at each strength."""

    train: PositiveInt
    valid: PositiveInt
    test: PositiveInt

    @property
    def counts(self) -> dict[Split, int]:
        return {split: getattr(self, split.value) for split in Split}


class Candidate(Frozen):
    """One tuning trial of a family: settings that win over the family's own."""

    model: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)


class FamilyPlan(Frozen):
    """A family of models in a sweep."""

    name: str = Field(pattern=NAME)
    """Of its folder and its rows."""
    role: Literal["strict", "relaxed", "free", "other"]
    """relaxed families are compared with the best of the strict and free ones."""
    model: dict[str, Any]
    """As the table [model] of `pde-sym train`; the width is matched."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Settings that win over those of the sweep."""
    strengths: tuple[float, ...] | None = None
    """Those that the family is trained at; all when absent."""
    parameters: PositiveInt | None = None
    """Learned values in place of the sweep's: of a network that is to do as many
    operations as the others, not to hold as many weights."""
    tune: tuple[Candidate, ...] = (Candidate(),)
    """Tuning trials, the most constrained first; the one with the lowest validation
    error goes on."""


class Sweep(Frozen):
    """Everything that decides the table of a sweep."""

    title: str
    data: Recipe
    """The data, as `pde-sym generate --config` reads them."""
    term: str
    """The breaking term whose strength is swept."""
    strengths: tuple[float, ...] = Field(min_length=1)
    """Increasing, from 0."""
    trajectories: Trajectories
    sizes: tuple[PositiveInt, ...] = Field(min_length=1)
    """Training trajectories in use; for one seed a smaller set lies in a larger one."""
    seeds: PositiveInt
    """Number of seeds of each cell, from 0."""
    intact_seeds: PositiveInt | None = None
    """Number of seeds at strength 0, as elsewhere when absent. There a ratio is near 1,
    and it takes more of them to say how near."""
    tuning_seeds: PositiveInt = 1
    """Number of seeds that a trial is judged by, from 0. With several, the first trial
    goes on whose mean error is within one standard error of the lowest."""
    parameters: PositiveInt
    """Learned values of every model that has no number of its own, to a tenth."""
    training: dict[str, Any] = Field(default_factory=dict)
    """As the table [training] of `pde-sym train`, for all families."""
    out_of_distribution: dict[str, Any] | None = None
    """Settings of the law of initial states that win over those of the data, for a
    second test set; none when absent."""
    moved: tuple[str, ...] = ()
    """Motions, as "turn 90", of the initial states of a third test set: those that the
    training data never show. None where the law of initial states is invariant, so
    that moved states are of the same law."""
    future_gap: PositiveInt | None = None
    """Frames between those of the training and a test set of the same trajectories, as
    many frames later on; none when absent. At least a training window."""
    families: tuple[FamilyPlan, ...] = Field(min_length=1)

    @field_validator("strengths")
    @classmethod
    def _increase_from_zero(cls, strengths: tuple[float, ...]) -> tuple[float, ...]:
        pairs = itertools.pairwise(strengths)
        if strengths[0] != 0 or any(b <= a for a, b in pairs):
            raise ValueError("expected increasing strengths from 0")
        return strengths

    @model_validator(mode="after")
    def _the_term_is_known(self) -> Self:
        known = term_classes(type(self.data.system))
        if self.term not in known:
            raise ValueError(
                f"term: {self.data.system.kind} has {', '.join(known)}, "
                f"got {self.term!r}"
            )
        for strength in self.strengths:
            self.recipe(strength)
        if self.out_of_distribution is not None:
            self.recipe(0.0, shifted=True)
        check_motions(self.recipe(0.0), self.moved)
        if self.future_gap is not None and self.data.split_by == "time":
            raise ValueError("future_gap: expected data.split_by = trajectory")
        return self

    @property
    def other_tests(self) -> tuple[str, ...]:
        """Names of the test sets beside the first."""
        has = {
            "shifted": self.out_of_distribution is not None,
            "moved": self.moved,
            "future": self.future_gap is not None,
        }
        return tuple(name for name, is_there in has.items() if is_there)

    @model_validator(mode="after")
    def _sizes_are_there(self) -> Self:
        if max(self.sizes) > self.trajectories.train:
            raise ValueError(
                f"sizes: expected at most {self.trajectories.train} trajectories, "
                f"those of trajectories.train, got {max(self.sizes)}"
            )
        if self.future_gap is not None and self.sizes != (self.trajectories.train,):
            raise ValueError(
                f"future_gap: its test set are all {self.trajectories.train} training "
                f"trajectories; expected sizes of that alone, got {self.sizes}"
            )
        return self

    @model_validator(mode="after")
    def _families_are_comparable(self) -> Self:
        names = [family.name for family in self.families]
        if len(set(names)) < len(names):
            raise ValueError(f"families: expected each name once, got {names}")
        trials = {family.name: len(family.tune) for family in self.families}
        if len(set(trials.values())) > 1:
            raise ValueError(
                "families: expected the same number of tuning trials for each, got "
                + ", ".join(f"{number} of {name}" for name, number in trials.items())
            )
        for family in self.families:
            unknown = set(family.strengths or ()) - set(self.strengths)
            if unknown:
                raise ValueError(
                    f"families.{family.name}.strengths: {min(unknown):g} is no "
                    "strength of the sweep"
                )
            for number in range(len(family.tune)):
                choices = self.choices(family, number, 0, self.sizes[0])
                window = choices.training.window
                if self.future_gap is not None and self.future_gap < window:
                    raise ValueError(
                        f"future_gap: expected at least {window} frames, a training "
                        f"window of families.{family.name}, got {self.future_gap}"
                    )
        return self

    def seeds_at(self, strength: float) -> int:
        """Return the number of seeds of each cell at a strength."""
        return (self.intact_seeds or self.seeds) if strength == 0 else self.seeds

    def recipe(self, strength: float, *, shifted: bool = False) -> Recipe:
        """Return the data at a strength, or with the shifted law of initial states."""
        values = self.data.model_dump()
        terms = [
            term for term in values["system"]["breaking"] if term["kind"] != self.term
        ]
        own = {"kind": self.term, "strength": strength}
        for term in values["system"]["breaking"]:
            if term["kind"] == self.term:
                own = {**term, **own}
        values["system"]["breaking"] = [own, *terms]
        if shifted:
            law = values["initial"]
            asked = self.out_of_distribution or {}
            # Another law does not have the settings of the first.
            same = asked.get("kind", law["kind"]) == law["kind"]
            values["initial"] = {**law, **asked} if same else asked
        return Recipe.model_validate(values)

    def future(self, strength: float) -> Recipe | None:
        """Return the data whose valid split are the training trajectories later on."""
        if self.future_gap is None:
            return None
        values = self.recipe(strength).model_dump()
        later = {"split_by": "time", "gap": self.future_gap}
        return Recipe.model_validate(values | later)

    def choices(
        self, family: FamilyPlan, candidate: int, seed: int, size: int
    ) -> Choices:
        """Return the model and the training of a run.

        Raises
        ------
        InputError
            When a setting is unknown or not allowed.
        """
        trial = family.tune[candidate]
        model = merged(family.model, trial.model)
        training = merged(self.training, family.training, trial.training)
        for key in ("seed", "trajectories"):
            if key in training:
                raise InputError(
                    f"families.{family.name}: training.{key} is set by the sweep"
                )
        if "width" in model:
            raise InputError(
                f"families.{family.name}: model.width is matched to `parameters`"
            )
        training |= {"seed": seed, "trajectories": size}
        return Choices.parse(
            {"model": model, "training": training},
            where=f"families.{family.name}",
        )


def merged(*tables: dict[str, Any]) -> dict[str, Any]:
    """Return nested tables as one; later ones win, key by key.

    A table of another ``kind`` replaces what was there.
    """
    result: dict[str, Any] = {}
    for table in tables:
        for key, value in copy.deepcopy(table).items():
            before = result.get(key)
            if not (isinstance(before, dict) and isinstance(value, dict)):
                result[key] = value
            elif value.get("kind", before.get("kind")) == before.get("kind"):
                result[key] = merged(before, value)
            else:
                result[key] = value
    return result


def read_sweep(name: str, *, large: bool = False) -> Sweep:
    """Return the sweep of that name, or in the file at that path.

    Parameters
    ----------
    name
        One of `NAMED`, or a path.
    large
        With its table ``[large]`` over the others, which else is left out: finer grids,
        more data and wider networks, as a GPU can train. A family's own number of
        parameters grows as many times as the sweep's.

    Raises
    ------
    InputError
        When there is none, or it is not one; the line names the key.
    """
    path = NAMED.get(name, Path(name))
    if path.suffix != ".toml":
        raise InputError(
            f"sweep {name!r:.80}: expected a FILE.toml or one of {', '.join(NAMED)}"
        )
    values = read_toml(path)
    over = values.pop("large", None)
    sweep = Sweep.parse(values, where=str(path))
    if not large:
        return sweep
    if not isinstance(over, dict):
        raise InputError(f"{path}: it has no table [large], which --large asks for")
    grown = Sweep.parse(merged(values, over), where=f"{path}, [large]")
    factor = grown.parameters / sweep.parameters
    families = tuple(
        family.model_copy(update={"parameters": round(factor * family.parameters)})
        if family.parameters
        else family
        for family in grown.families
    )
    return grown.model_copy(update={"families": families})
