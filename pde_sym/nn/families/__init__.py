"""The model families; the union of their classes is the registry.

Each is a frozen value that builds a network for a task; one file per kind of body.
"""

from typing import Annotated

from pydantic import Field

from pde_sym.nn.families.base import Family, Task, count_parameters, match_width
from pde_sym.nn.families.canonical import CanonicalConfig
from pde_sym.nn.families.cnn import CNNConfig
from pde_sym.nn.families.fno import FNOConfig
from pde_sym.nn.families.gfno import GFNOConfig
from pde_sym.nn.families.implicit import ImplicitConfig
from pde_sym.nn.families.lift import LiftConfig
from pde_sym.nn.families.multiscale import (
    IsotypicUNetConfig,
    ModulatedUNetConfig,
    StrictUNetConfig,
)
from pde_sym.nn.families.rgroup import RGroupConfig
from pde_sym.nn.families.rpp import RPPConfig
from pde_sym.nn.families.rsteer import RSteerConfig
from pde_sym.nn.families.size import check_fields
from pde_sym.nn.families.so3 import (
    MLPConfig,
    SO3Config,
    SO3HiddenConfig,
    SO3IsotypicConfig,
)
from pde_sym.nn.families.steerable import (
    IsotypicConfig,
    ModulatedConfig,
    StrictConfig,
)
from pde_sym.nn.families.unet import UNetConfig

ModelConfig = Annotated[
    CNNConfig
    | UNetConfig
    | FNOConfig
    | GFNOConfig
    | StrictConfig
    | ModulatedConfig
    | IsotypicConfig
    | SO3Config
    | SO3HiddenConfig
    | SO3IsotypicConfig
    | MLPConfig
    | RPPConfig
    | RGroupConfig
    | RSteerConfig
    | LiftConfig
    | ImplicitConfig
    | CanonicalConfig
    | StrictUNetConfig
    | ModulatedUNetConfig
    | IsotypicUNetConfig,
    Field(discriminator="kind"),
]
"""Any model family, told apart by ``kind``."""

__all__ = [
    "CNNConfig",
    "CanonicalConfig",
    "FNOConfig",
    "Family",
    "GFNOConfig",
    "ImplicitConfig",
    "IsotypicConfig",
    "IsotypicUNetConfig",
    "LiftConfig",
    "MLPConfig",
    "ModelConfig",
    "ModulatedConfig",
    "ModulatedUNetConfig",
    "RGroupConfig",
    "RPPConfig",
    "RSteerConfig",
    "SO3Config",
    "SO3HiddenConfig",
    "SO3IsotypicConfig",
    "StrictConfig",
    "StrictUNetConfig",
    "Task",
    "UNetConfig",
    "check_fields",
    "count_parameters",
    "match_width",
]
