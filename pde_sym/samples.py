"""Trajectories in memory, with the physics that made them."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from pde_sym.config import explain
from pde_sym.dataset import TrajectoryDataset
from pde_sym.errors import DataError
from pde_sym.fields import FieldSpec
from pde_sym.grid import PeriodicGrid
from pde_sym.seeds import Split
from pde_sym.systems import System
from pde_sym.systems.ensemble import Dynamics, Ensemble
from pde_sym.systems.unknown import Unknown


@functools.cache
def _adapter() -> TypeAdapter[System]:
    from pde_sym.systems import AnySystem  # with the plug-ins, which may import this

    return TypeAdapter(AnySystem)


def dynamics_of(
    config: Mapping[str, Any], where: str, fields: FieldSpec, constants: FieldSpec
) -> Dynamics:
    """Return what a data set was simulated with, from its recipe.

    Imported data have none: of them no more is known than `fields` and `constants`.

    Raises
    ------
    DataError
        When the recipe, `where`, names no system that is known here.
    """
    if Unknown.model_fields["kind"].default in config:
        return Unknown(states=fields, constants=constants)
    try:
        system = _adapter().validate_python(config.get("system"))
    except ValidationError as error:
        raise DataError(f"{where}: system: {explain(error)}") from error
    varying = config.get("strengths")
    return Ensemble(system, tuple(sorted(varying))) if varying else system


@dataclass(frozen=True)
class Samples:
    """Trajectories of one system: what every diagnostic reads.

    Parameters
    ----------
    dynamics
        The system, or several side by side.
    grid
        Where the points are.
    states
        The prognostic fields, ``(trajectories, frames, channels, *points)``, float32.
    environment
        ``(trajectories, channels, *points)``, float64.
    is_given
        Whether the environment moves with the state and is read by models.
    dt
        Time between frames.
    """

    dynamics: Dynamics
    grid: PeriodicGrid
    states: Tensor
    environment: Tensor
    is_given: bool
    dt: float

    @classmethod
    def read(cls, folder: Path | str, split: Split | str = Split.TEST) -> "Samples":
        """Read a split of a data set.

        Raises
        ------
        InputError
            When the split is empty.
        DataError
            When the data are damaged, or of a system that is not known here.
        """
        return cls.of(TrajectoryDataset(folder, split, window=1))

    @classmethod
    def of(cls, dataset: TrajectoryDataset) -> "Samples":
        """Return the trajectories of a data set, all of them in memory."""
        return cls(
            dynamics_of(
                dataset.config,
                str(dataset.folder),
                dataset.fields,
                dataset.environment_fields,
            ),
            dataset.grid,
            dataset.load_all()["states"],
            dataset.load_environment(),
            len(dataset.given_fields) > 0,
            dataset.dt,
        )

    @property
    def system(self) -> System:
        """The system; where strengths vary, at the largest of them."""
        if isinstance(self.dynamics, Ensemble):
            return self.dynamics.nominal
        return self.dynamics

    @property
    def fields(self) -> FieldSpec:
        """The channels of `states`."""
        return self.dynamics.fields.prognostic()

    @property
    def given_fields(self) -> FieldSpec:
        """The channels of `environment` when models read them; else none."""
        return self.dynamics.environment_fields if self.is_given else FieldSpec.of()

    @property
    def given(self) -> Tensor | None:
        """The environment in float32 when models read it."""
        return self.environment.float() if self.is_given else None
