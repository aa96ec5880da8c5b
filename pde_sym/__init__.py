"""Data with a known amount of broken symmetry, and surrogates for it.

    system = pde_sym.Heat.broken(bubbles=0.5)          # a system and its strengths
    states = np.asarray(system.simulate(4, frames=11)) # trajectories as an array
    dataset = pde_sym.Dataset("data/heat", "train")    # windows for a DataLoader
    model = pde_sym.fit(net, "data/heat")              # any nn.Module, as a time step
    pde_sym.evaluate(model, "data/heat")               # its errors
    pde_sym.diagnose(model, "data/heat")               # what it breaks, and drift

Nothing is imported before it is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pde_sym.dataset import TrajectoryDataset as Dataset
    from pde_sym.evaluation import diagnose, evaluate
    from pde_sym.interchange import to_xarray
    from pde_sym.learning import fit, task_of
    from pde_sym.nn.surrogate import Surrogate
    from pde_sym.objective import TrainConfig
    from pde_sym.samples import Samples
    from pde_sym.simulation import Simulation
    from pde_sym.systems import Flow, Heat, KdV, Plume, RigidBody

__all__ = [
    "Dataset",
    "Flow",
    "Heat",
    "KdV",
    "Plume",
    "RigidBody",
    "Samples",
    "Simulation",
    "Surrogate",
    "TrainConfig",
    "diagnose",
    "evaluate",
    "fit",
    "task_of",
    "to_xarray",
]

_HOMES = {
    "Dataset": "dataset.TrajectoryDataset",
    "Samples": "samples.Samples",
    "Simulation": "simulation.Simulation",
    "Surrogate": "nn.surrogate.Surrogate",
    "TrainConfig": "objective.TrainConfig",
    "diagnose": "evaluation.diagnose",
    "evaluate": "evaluation.evaluate",
    "fit": "learning.fit",
    "task_of": "learning.task_of",
    "to_xarray": "interchange.to_xarray",
}
"""Name -> where it lives; systems live in `pde_sym.systems`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'pde_sym' has no attribute {name!r}")
    from importlib import import_module

    module, _, own = _HOMES.get(name, f"systems.{name}").rpartition(".")
    return getattr(import_module(f"pde_sym.{module}"), own)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
