"""Networks on periodic lines, where shifts are the only motions.

The flip of a line is no symmetry of waves that travel one way: strict networks are
strict under shifts, and modulated ones break them by learned fields.
"""

import itertools

from torch import nn

from pde_sym.errors import InputError
from pde_sym.nn.families.base import ConvolutionalFamily, Task
from pde_sym.nn.lines import ReadingConv1d, RelaxedConv1d
from pde_sym.nn.relaxation import Relaxation


def line_network(
    config: ConvolutionalFamily, task: Task, relaxation: Relaxation
) -> nn.Module:
    """Return convolutions on a line, with factors in position where they are relaxed.

    Parameters
    ----------
    config
        Its width counts channels.
    task
        Fields on a line.
    relaxation
        Modes and number of the learned fields; nothing else is on a line.

    Raises
    ------
    InputError
        When the configuration asks for a group of turns and flips.
    """
    asked = getattr(config, "group", None)
    fields = type(config).model_fields
    if asked is not None and asked != fields["group"].default:
        raise InputError(
            f"group {asked}: a line has no turns, and its flip is no symmetry of waves "
            "that travel one way; leave the group out"
        )
    inner = (config.depth - 1) * [config.width]
    channels = [task.inputs.num_channels, *inner, task.state.num_channels]
    told = task.state.num_channels if config.boosts(task) == "relaxed" else 0
    modes, banks = relaxation.modes, relaxation.banks
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(channels):
        size = (before, after, config.kernel_size, modes, banks)
        if layers:
            layers += [nn.GELU(), RelaxedConv1d(*size)]
        else:
            reads = told or modes
            layers.append(ReadingConv1d(*size, told) if reads else RelaxedConv1d(*size))
    return nn.Sequential(*layers)
