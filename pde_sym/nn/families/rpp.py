"""Residual pathway priors."""

from typing import ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat

from pde_sym.nn._escnn import FieldType
from pde_sym.nn.families.base import Task
from pde_sym.nn.families.body import PositionedFamily
from pde_sym.nn.residual_pathway import FREE_START, ResidualPathwayConv2d


class RPPConfig(PositionedFamily):
    """Steerable kernels plus free ones, each with a Gaussian prior (RPP).

    The priors act through ``training.penalty``: the variance of the noise over the
    number of training windows, times the kernels' entries, in the paper's reading.

    Parameters
    ----------
    free_start
        Factor on the initial weights of the free kernels; 0 starts equivariant.
    equivariant_prior, free_prior
        Standard deviations of the two, in units of He's.
    """

    all_turns: ClassVar[bool] = True
    kind: Literal["rpp"] = "rpp"
    free_start: NonNegativeFloat = FREE_START
    equivariant_prior: PositiveFloat = 1.0
    free_prior: PositiveFloat = 0.1

    def layer(
        self, task: Task, before: FieldType, after: FieldType
    ) -> ResidualPathwayConv2d:
        return ResidualPathwayConv2d(
            before,
            after,
            self.kernel_size,
            free_start=self.free_start,
            equivariant_prior=self.equivariant_prior,
            free_prior=self.free_prior,
            **self.layer_settings(task),
        )
