"""What a training minimises: its settings, the loss of windows, and charges on it."""

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag
from torch import Tensor

from pde_sym.augmentation import (
    Augmentation,
    EquivariancePenalty,
    GroupAugmentation,
    Purpose,
    draws,
)
from pde_sym.config import Frozen
from pde_sym.errors import InputError
from pde_sym.lie_point import LiePointAugmentation
from pde_sym.metrics import vrmse
from pde_sym.nn import Task, relaxed_layers
from pde_sym.nn.surrogate import Surrogate
from pde_sym.ranks import ALONE, Ranks
from pde_sym.turned_bodies import FrameAugmentation


def _kind_of(augmentation: Any) -> Any:
    """Return the kind of settings, which is group unless they say another."""
    if isinstance(augmentation, dict):
        return augmentation.get("kind", "group")
    return getattr(augmentation, "kind", None)


AnyAugmentation = Annotated[
    Annotated[GroupAugmentation, Tag("group")]
    | Annotated[LiePointAugmentation, Tag("lie_point")]
    | Annotated[FrameAugmentation, Tag("frame")],
    Discriminator(_kind_of),
]
"""Any augmentation, told apart by ``kind``."""

LASSO_EDGE = 1e-3
"""Root mean square of relaxed weights below which the lasso is a ridge."""


class TrainConfig(Frozen):
    """How a surrogate is trained."""

    updates: PositiveInt = 2000
    """Number of optimiser steps."""
    batch_size: PositiveInt = 16
    """Windows per step."""
    unroll: PositiveInt = 2
    """Frames that the surrogate predicts in a row before the loss is taken."""
    learning_rate: PositiveFloat = 3e-3
    """Peak rate of AdamW; it warms up and then follows a cosine to a hundredth."""
    relaxed_rate: PositiveFloat = 1.0
    """Factor on the rate of the weights that relax a symmetry."""
    weight_decay: float = Field(default=1e-4, ge=0.0)
    """Of every weight but the relaxed ones."""
    penalty: float = Field(default=0.0, ge=0.0)
    """Weight of the models' own penalty on relaxed weights: the distance of a relaxed
    layer from its steerable part. Channels of a free network have no type, so that its
    distance is not defined: there this is nothing, and `equivariance_penalty` serves.
    """
    penalty_shape: Literal["ridge", "lasso"] = "ridge"
    """ridge: the sum over layers of their penalty R, which hardly holds what is small;
    lasso: the sum of ``sqrt(R + e^2) - e`` with e = 1e-3, which holds a layer at its
    symmetry unless breaking it pays, and pulls no harder when it does (Yuan and Lin
    2006, J. R. Stat. Soc. B 68, section 2, a group to a layer, smooth at 0).
    """
    equivariance_penalty: EquivariancePenalty | None = None
    """Charge on the defect of any network, with its group and weight; none by default.
    """
    augmentation: AnyAugmentation | None = None
    """Random motions of the training windows; none by default."""
    clip: PositiveFloat = 1.0
    """Largest norm of the gradient."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of the initial weights, the order of the data and all that is drawn."""
    trajectories: PositiveInt | None = None
    """Training trajectories to use; subsets of one seed are nested. All when absent."""
    evaluate_every: PositiveInt = 200
    """Updates between validations; a checkpoint is written at each."""
    horizon: PositiveInt = 10
    """Steps of the rollouts that choose the best checkpoint."""

    def check(self, task: Task) -> None:
        """Raise `InputError` when the fields of `task` cannot be moved as asked."""
        if self.augmentation is not None:
            _check_motions("training.augmentation", self.augmentation, task)
        if self.equivariance_penalty is not None:
            where = "training.equivariance_penalty"
            _check_motions(where, self.equivariance_penalty, task)

    @property
    def window(self) -> int:
        """Stored frames that an update is made of."""
        frames = self.unroll + 1
        return self.augmentation.frames(frames) if self.augmentation else frames

    def rate(self, update: int) -> float:
        """Return the learning rate of an update: warm-up over 5 %, then a cosine."""
        warm = max(1, self.updates // 20)
        if update < warm:
            return self.learning_rate * (update + 1) / warm
        phase = (update - warm) / max(1, self.updates - warm)
        return self.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * phase)) / 2)


def _check_motions(
    where: str, motions: Augmentation | EquivariancePenalty, task: Task
) -> None:
    try:
        motions.check(task)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def window_loss(
    surrogate: Surrogate,
    states: Tensor,
    given: Tensor | None,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Return the mean VRMSE of the frames predicted from the first one.

    Each rank predicts its share of the windows; the mean is over all of them.
    """
    mine = ranks.share(len(states))
    states, given = states[mine], None if given is None else given[mine]
    predicted, state = [], states[:, 0]
    for _ in range(states.shape[1] - 1):
        state = surrogate(state, given)
        predicted.append(state)
    axes = surrogate.task.array_axes
    return ranks.mean(vrmse(torch.stack(predicted, 1), states[:, 1:], axes))


def objective(
    surrogate: Surrogate,
    states: Tensor,
    given: Tensor | None,
    config: TrainConfig,
    update: int,
    ranks: Ranks = ALONE,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what an update minimises, and each charge in it without its weight.

    All ranks draw the motions of the whole batch, which cost little beside a network:
    what a window is moved by does not depend on who predicts it.
    """
    if config.augmentation is not None:
        rng = draws(config.seed, update, Purpose.AUGMENTATION)
        states, given = config.augmentation(states, given, surrogate.task, rng)
    loss = window_loss(surrogate, states, given, ranks)
    for layer in relaxed_layers(surrogate):
        loss = loss + layer.lagrangian()
    charges: dict[str, Tensor] = {}
    if config.penalty:
        penalties = [layer.penalty() for layer in relaxed_layers(surrogate)]
        if config.penalty_shape == "lasso":
            penalties = [lasso(penalty) for penalty in penalties]
        charges["penalty"] = sum(penalties, loss.new_zeros(()))
        loss = loss + config.penalty * charges["penalty"]
    if config.equivariance_penalty is not None:
        rng = draws(config.seed, update, Purpose.PENALTY)
        charged = config.equivariance_penalty
        charge = charged(surrogate, states[:, 0], given, rng, ranks)
        loss = loss + config.equivariance_penalty.weight * charge
        charges["equivariance_penalty"] = charge
    return loss, charges


def lasso(penalty: Tensor) -> Tensor:
    """Return ``sqrt(R + e^2) - e`` of a penalty R, e = 1e-3.

    It is ``R / 2e`` where R is far below e^2 and ``sqrt R`` far above it.
    """
    return (penalty + LASSO_EDGE**2).sqrt() - LASSO_EDGE
