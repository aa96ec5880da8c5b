"""Networks whose symmetry is exact, relaxed by learning, or absent.

A `Task` says which fields a network reads and predicts, a configuration of the union
`ModelConfig` builds it, and a `Surrogate` makes it a time step:

    net = ModulatedConfig(group="C4").build(task)
    step = Surrogate(net, task, Normalisation.of(task, before, after))
"""

from pde_sym.nn.blocks import Pointwise, PositionChannels
from pde_sym.nn.canonical import Canonical, GroupAverage
from pde_sym.nn.coarsen import Coarsen, Refine
from pde_sym.nn.conv import SteerableConv2d
from pde_sym.nn.families import (
    CanonicalConfig,
    CNNConfig,
    Family,
    FNOConfig,
    GFNOConfig,
    ImplicitConfig,
    IsotypicConfig,
    IsotypicUNetConfig,
    LiftConfig,
    MLPConfig,
    ModelConfig,
    ModulatedConfig,
    ModulatedUNetConfig,
    RGroupConfig,
    RPPConfig,
    RSteerConfig,
    SO3Config,
    SO3HiddenConfig,
    SO3IsotypicConfig,
    StrictConfig,
    StrictUNetConfig,
    Task,
    UNetConfig,
    check_fields,
    count_parameters,
    match_width,
)
from pde_sym.nn.field_types import (
    element_matrix,
    field_type,
    gspace,
    regular_type,
)
from pde_sym.nn.heads import Leray, MeanKeeping, Streamfunction
from pde_sym.nn.implicit import ImplicitSteerableConv2d
from pde_sym.nn.kernel_space import Band, kernel_basis, part_names
from pde_sym.nn.layer import RelaxedLayer, relaxed_layers, split_parameters
from pde_sym.nn.lift import FourierLift
from pde_sym.nn.lines import (
    GalileanFrame,
    LowPass1d,
    PositionChannels1d,
    ReadingConv1d,
    RelaxedConv1d,
    RelaxedGalileanFrame,
    shift_line,
)
from pde_sym.nn.nonlinear import FourierPointwise, Gated, NormNonlinearity
from pde_sym.nn.norm import FieldNorm
from pde_sym.nn.periodic import PeriodicConv1d, PeriodicConv2d
from pde_sym.nn.readout import EquivariantHead, InvariantHead
from pde_sym.nn.relaxation import (
    Constrained,
    Free,
    Hold,
    Isotypic,
    Likelihood,
    Modulated,
    Penalised,
    Prior,
    Relaxation,
    Strict,
)
from pde_sym.nn.relaxed_banks import RelaxedGroupConv2d, RelaxedSteerableConv2d
from pde_sym.nn.residual import ResidualBlock
from pde_sym.nn.residual_pathway import ResidualPathwayConv2d
from pde_sym.nn.so3 import SO3Type
from pde_sym.nn.so3_fields import BodyFields
from pde_sym.nn.so3_head import RotationHead
from pde_sym.nn.so3_linear import SO3Linear
from pde_sym.nn.so3_network import OrderParameters, SO3Network, SO3Product
from pde_sym.nn.so3_spectrum import body_direction, body_spectrum
from pde_sym.nn.surrogate import FieldScale, Normalisation, Surrogate
from pde_sym.nn.walls import Unfolded

__all__ = [
    "Band",
    "BodyFields",
    "CNNConfig",
    "Canonical",
    "CanonicalConfig",
    "Coarsen",
    "Constrained",
    "EquivariantHead",
    "FNOConfig",
    "Family",
    "FieldNorm",
    "FieldScale",
    "FourierLift",
    "FourierPointwise",
    "Free",
    "GFNOConfig",
    "GalileanFrame",
    "Gated",
    "GroupAverage",
    "Hold",
    "ImplicitConfig",
    "ImplicitSteerableConv2d",
    "InvariantHead",
    "Isotypic",
    "IsotypicConfig",
    "IsotypicUNetConfig",
    "Leray",
    "LiftConfig",
    "Likelihood",
    "LowPass1d",
    "MLPConfig",
    "MeanKeeping",
    "ModelConfig",
    "Modulated",
    "ModulatedConfig",
    "ModulatedUNetConfig",
    "NormNonlinearity",
    "Normalisation",
    "OrderParameters",
    "Penalised",
    "PeriodicConv1d",
    "PeriodicConv2d",
    "Pointwise",
    "PositionChannels",
    "PositionChannels1d",
    "Prior",
    "RGroupConfig",
    "RPPConfig",
    "RSteerConfig",
    "ReadingConv1d",
    "Refine",
    "Relaxation",
    "RelaxedConv1d",
    "RelaxedGalileanFrame",
    "RelaxedGroupConv2d",
    "RelaxedLayer",
    "RelaxedSteerableConv2d",
    "ResidualBlock",
    "ResidualPathwayConv2d",
    "RotationHead",
    "SO3Config",
    "SO3HiddenConfig",
    "SO3IsotypicConfig",
    "SO3Linear",
    "SO3Network",
    "SO3Product",
    "SO3Type",
    "SteerableConv2d",
    "Streamfunction",
    "Strict",
    "StrictConfig",
    "StrictUNetConfig",
    "Surrogate",
    "Task",
    "UNetConfig",
    "Unfolded",
    "body_direction",
    "body_spectrum",
    "check_fields",
    "count_parameters",
    "element_matrix",
    "field_type",
    "gspace",
    "kernel_basis",
    "match_width",
    "part_names",
    "regular_type",
    "relaxed_layers",
    "shift_line",
    "split_parameters",
]
