"""Every layer of `pde_sym.nn` as a small case: how to make it, and what it reads."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from typed_fields import pseudoscalar, vector

import pde_sym.nn
from pde_sym.fields import Field, FieldSpec, Rank
from pde_sym.nn import (
    Canonical,
    Coarsen,
    Constrained,
    EquivariantHead,
    FieldNorm,
    FourierLift,
    FourierPointwise,
    Free,
    GalileanFrame,
    Gated,
    GroupAverage,
    ImplicitSteerableConv2d,
    InvariantHead,
    Isotypic,
    Leray,
    Likelihood,
    LowPass1d,
    MeanKeeping,
    Modulated,
    Normalisation,
    NormNonlinearity,
    OrderParameters,
    PeriodicConv1d,
    PeriodicConv2d,
    Pointwise,
    PositionChannels,
    PositionChannels1d,
    Prior,
    ReadingConv1d,
    Refine,
    RelaxedConv1d,
    RelaxedGalileanFrame,
    RelaxedGroupConv2d,
    RelaxedSteerableConv2d,
    ResidualBlock,
    ResidualPathwayConv2d,
    RotationHead,
    SO3Linear,
    SO3Network,
    SO3Product,
    SO3Type,
    SteerableConv2d,
    Streamfunction,
    Strict,
    Surrogate,
    Task,
    field_type,
    gspace,
    regular_type,
)
from pde_sym.nn.families.multiscale import Level
from pde_sym.nn.families.so3 import MLP
from pde_sym.nn.field_types import field_groups
from pde_sym.nn.fno import FourierLayer, SpectralConv
from pde_sym.nn.gfno import GroupSpectralConv
from pde_sym.nn.kernel_term import KernelTerm
from pde_sym.nn.lines import PositionFactors1d
from pde_sym.nn.nonlinear import hidden_type
from pde_sym.nn.position import PositionTerm
from pde_sym.nn.residual import Antialiased
from pde_sym.nn.terms import BiasTerm, FibreTerm, Order
from pde_sym.nn.unet import ResidualBlock as PlainBlock
from pde_sym.nn.unet import UNet
from pde_sym.nn.walls import Unfolded

SCALAR = FieldSpec.of(Field(name="u"))
VECTOR = FieldSpec.of(vector("v"))
PSEUDOSCALAR = FieldSpec.of(pseudoscalar("w"))
FLOW = FieldSpec.of(vector("velocity"), Field(name="tracer"))
BODY = FieldSpec.of(
    Field(name="momentum", rank=Rank.VECTOR, components=3), Field(name="height")
)
C4, D4 = (field_type(SCALAR + VECTOR, gspace(group)) for group in ("C4", "D4"))
ONE = regular_type(gspace("C4"), 1)
FEATURES = SO3Type((1, 1, 1))
PLANE, LINE = Task(state=SCALAR + VECTOR), Task(state=SCALAR, num_axes=1)


@dataclass(frozen=True)
class Case:
    """A layer and the shapes of what it reads: none for terms, which are weights."""

    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...] = ()

    def layer(self) -> nn.Module:
        """Return the layer in float64, every weight off its start."""
        made = self.make()
        with torch.no_grad():
            for parameter in made.parameters():
                parameter += 0.2 * torch.rand_like(parameter) + 0.1
        return made.double()

    def inputs(self) -> list[Tensor]:
        return [torch.randn(shape, dtype=torch.float64) for shape in self.shapes]


def case(make: Callable[..., nn.Module], *args: Any, of: Any, **settings: Any) -> Case:
    """Return a case whose shapes are `of`: one, or a list of them."""
    shapes = of if isinstance(of, list) else [of]
    return Case(partial(make, *args, **settings), tuple(map(tuple, shapes)))


def _steerable(setting: Any, group: str = "C4") -> Case:
    fields = field_type(VECTOR, gspace(group))
    out = hidden_type(gspace(group), 1)
    return case(SteerableConv2d, fields, out, 3, relaxation=setting, of=(1, 2, 3, 4))


def _step(net: nn.Module, task: Task) -> Surrogate:
    return Surrogate(net, task, Normalisation.identity(task))


def _net(channels: int) -> nn.Module:
    return nn.Sequential(PeriodicConv2d(channels, channels, 1), nn.Tanh())


def _reading_line() -> ReadingConv1d:
    return ReadingConv1d(1, 1, 3, modes=1, told=1)


_PLANE = (1, 3, 3, 4)
_FIELDS = SCALAR + VECTOR
CASES: dict[str, Case] = {
    "convolution, plane": case(PeriodicConv2d, 2, 3, 3, of=(1, 2, 3, 4)),
    "convolution, line": case(PeriodicConv1d, 2, 3, 3, of=(1, 2, 5)),
    "strict": _steerable(Strict()),
    "strict, all turns": _steerable(Strict(), "O2"),
    "modulated": _steerable(Modulated(position_modes=1)),
    "modulated to C2": _steerable(Modulated(position_modes=1, relax_to="C2")),
    "isotypic": _steerable(Isotypic(position_modes=1)),
    "isotypic, rings": _steerable(Isotypic(cutoff=2), "C8"),
    "prior": _steerable(Isotypic(hold=Prior())),
    "constrained": _steerable(Isotypic(hold=Constrained())),
    "likelihood": _steerable(Isotypic(hold=Likelihood())),
    "free parts": _steerable(Isotypic(hold=Free())),
    "rpp": case(ResidualPathwayConv2d, C4, ONE, 3, of=_PLANE),
    "rgroup": case(RelaxedGroupConv2d, C4, ONE, 3, banks=2, of=_PLANE),
    "rsteer": case(RelaxedSteerableConv2d, C4, ONE, 3, banks=2, of=_PLANE),
    "implicit": case(ImplicitSteerableConv2d, C4, ONE, 3, hidden=1, of=_PLANE),
    "implicit, hidden direction": case(
        ImplicitSteerableConv2d, C4, ONE, 3, hidden=1, learned_vector=True, of=_PLANE
    ),
    "implicit, given": case(
        ImplicitSteerableConv2d,
        C4,
        ONE,
        3,
        hidden=1,
        attributes=C4,
        of=[_PLANE, (1, 3)],
    ),
    "lift": case(FourierLift, 2, 1, hidden=3, modes=1, out_modes=1, of=(1, 2, 3, 4)),
    "average": Case(
        lambda: GroupAverage(_net(3), _FIELDS, _FIELDS, "C4", relax=True),
        ((1, 3, 3, 3),),
    ),
    "frame": Case(
        lambda: Canonical(_net(3), _FIELDS, _FIELDS, "C2", relax=True), ((1, 3, 5, 5),)
    ),
    "kernel": case(KernelTerm, C4, C4, 3, "auto", of=[]),
    "bias": case(BiasTerm, ONE + C4, "C1", of=[]),
    "fibre": case(FibreTerm, ONE, of=(4, 3)),
    "order": case(Order, field_groups(C4 + ONE + C4), of=(10, 2)),
    "position": case(PositionTerm, C4, 1, 2, of=_PLANE),
    "position, line": case(PositionFactors1d, 2, 1, 2, of=(1, 2, 5)),
    "position channels": case(PositionChannels, of=(1, 2, 3, 4)),
    "position channels, line": case(PositionChannels1d, of=(1, 2, 5)),
    "relaxed line": case(RelaxedConv1d, 2, 2, 3, modes=1, of=(1, 2, 5)),
    "low pass": case(LowPass1d, 2 / 3, of=(1, 2, 8)),
    "galilei": Case(
        lambda: _step(GalileanFrame(PeriodicConv1d(1, 1, 3), 0.3), LINE), ((1, 1, 6),)
    ),
    "frame of a line": Case(
        lambda: GalileanFrame(PeriodicConv1d(1, 1, 3), 0.3), ((1, 1, 6),)
    ),
    "line that reads": case(ReadingConv1d, 1, 2, 3, modes=1, told=1, of=(1, 2, 5)),
    "relaxed frame of a line": Case(
        lambda: RelaxedGalileanFrame(_reading_line(), 0.3), ((1, 1, 6),)
    ),
    "galilei, relaxed": Case(
        lambda: _step(RelaxedGalileanFrame(_reading_line(), 0.3), LINE), ((1, 1, 6),)
    ),
    "step": Case(lambda: _step(_net(3), PLANE), (_PLANE,)),
    "between walls": Case(
        lambda: Unfolded(PeriodicConv2d(5, 2, 3), _FIELDS, "slip", 1), (_PLANE,)
    ),
    "pointwise": case(Pointwise, ONE, of=(1, 4, 3, 3)),
    "gated": case(Gated, D4, of=(1, 4, 2, 2)),
    "norm nonlinearity": case(NormNonlinearity, D4, of=(1, 3, 2, 2)),
    "fourier nonlinearity": case(
        FourierPointwise, hidden_type(gspace("SO2"), 1), of=(1, 5, 2, 2)
    ),
    "antialiased": Case(lambda: Antialiased(Pointwise(ONE)), ((1, 4, 3, 3),)),
    "field norm": case(FieldNorm, D4 + D4, of=(1, 6, 2, 3)),
    "residual block": case(
        ResidualBlock, ONE, 3, relaxation=Modulated(), normalise=True, of=(1, 4, 3, 3)
    ),
    "gated block": case(ResidualBlock, C4, 1, ONE, nonlinearity=Gated, of=_PLANE),
    "level": Case(
        lambda: Level(_net(2), nn.Sequential(Coarsen(), _net(2), Refine()), _net(2)),
        ((1, 2, 6, 6),),
    ),
    **{
        f"{kind.__name__}, {how}": case(kind, how, of=(1, 2, 4, 6))
        for kind in (Coarsen, Refine)
        for how in ("spectral", "local")
    },
    "invariant head": case(InvariantHead, D4, 2, of=_PLANE),
    "equivariant head": case(EquivariantHead, ONE, VECTOR, 3, of=(1, 4, 3, 3)),
    "pooled head": case(EquivariantHead, ONE, VECTOR, pool=True, of=(1, 4, 3, 3)),
    "mean": Case(lambda: MeanKeeping(_net(3)), (_PLANE,)),
    "leray": Case(lambda: Leray(_net(3), slice(0, 2)), (_PLANE,)),
    "streamfunction": Case(
        lambda: Streamfunction(PeriodicConv2d(6, 4, 1), FLOW), (_PLANE,)
    ),
    "spectral": case(SpectralConv, 2, 1, 1, of=(1, 2, 4, 3)),
    "fourier": Case(
        lambda: FourierLayer(SpectralConv(2, 2, 1), PeriodicConv2d(2, 2, 1)),
        ((1, 2, 4, 3),),
    ),
    "gfno": case(GroupSpectralConv, gspace("C4"), 1, 1, 1, of=(1, 4, 4, 3)),
    **{
        f"gfno, {type(how).__name__}": case(
            GroupSpectralConv, gspace("D1"), 1, 1, 1, how, of=(1, 2, 4, 3)
        )
        for how in (Modulated(), Isotypic())
    },
    "plain block": case(PlainBlock, 2, 3, norm=True, of=(1, 2, 4, 4)),
    "unet": case(UNet, 1, 1, 2, 1, norm=True, of=(1, 1, 6, 6)),
    **{
        f"so3 {name}": case(SO3Linear, FEATURES, FEATURES, **settings, of=(2, 9))
        for name, settings in {
            "strict": {},
            "parts": {"parts": ("l1", "l2", "l3", "l4")},
            "modulated": {"parts": ("l1",), "modulated": True},
        }.items()
    },
    "order parameters": Case(
        lambda: OrderParameters(SO3Type((0, 1, 1)), SO3Type((1, 2, 1))), ()
    ),
    "so3 product": case(SO3Product, 1, of=(1, 18)),
    "so3 network": case(
        SO3Network, BODY, BODY, 1, 2, parts=("l1",), of=(1, 4, 1, 1, 1)
    ),
    "rotation head": Case(
        lambda: RotationHead(MLP(4, 4, 3, 2), BODY, ("momentum",)), ((1, 4, 1, 1, 1),)
    ),
    "mlp": case(MLP, 2, 3, 4, 2, of=(1, 2, 1, 1, 1)),
}


def layers_of_the_package() -> set[type[nn.Module]]:
    """Return every module of `pde_sym.nn` that one can make and call."""
    for found in pkgutil.walk_packages(pde_sym.nn.__path__, "pde_sym.nn."):
        importlib.import_module(found.name)
    return {
        kind
        for kind in _subclasses(nn.Module)
        if kind.__module__.startswith("pde_sym.nn")
        and not kind.__name__.startswith("_")
        and not inspect.isabstract(kind)
        and kind.forward is not nn.Module.forward
    }


def _subclasses(kind: type) -> Iterator[type]:
    for one in kind.__subclasses__():
        yield one
        yield from _subclasses(one)
