"""Truth and all models side by side, as an animated PNG or GIF."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

from experiments.drawing import (
    ERROR_MAP,
    FIELD_MAP,
    POSITIVE_MAP,
    Floats,
    draw_environment,
    error_range,
    new_figure,
    show_field,
    styled,
    value_range,
)
from experiments.evaluation import Pictures
from pde_sym.errors import InputError
from pde_sym.fields import with_unit

DPI = 80
MAX_FRAMES = 40
FRAME_MS, LAST_MS = 160, 1200
FORMATS = {".png": "PNG", ".gif": "GIF"}
Moving = list[tuple[AxesImage, Floats]]
"""Images, each with its values in every frame."""


@styled
def animate(
    rollouts: Mapping[str, Pictures],
    unit: Mapping[str, str],
    trajectory: int = 0,
    channel: int = 0,
    suffix: str = ".png",
) -> bytes:
    """Return an animation of truth and predictions above environment and errors.

    Parameters
    ----------
    rollouts
        Label -> rollouts on the same trajectories.
    unit
        Unit per field.
    trajectory, channel
        Which of those that were kept.
    suffix
        ``.png`` (animated) or ``.gif``.
    """
    if suffix not in FORMATS:
        raise InputError(f"suffix {suffix!r}: expected one of {', '.join(FORMATS)}")
    first = next(iter(rollouts.values()))
    figure = new_figure(2.2 * (1 + len(rollouts)) + 1.0, 5.0)
    canvas = FigureCanvasAgg(figure)
    moving = _draw(figure, rollouts, unit, trajectory, channel)
    last = len(first.times) - 1
    title = figure.suptitle(f"t = {first.times[last]:.4g} T")
    # Once for all frames: panels that move by a pixel would flicker.
    figure.set_dpi(DPI)
    canvas.draw()
    figure.set_layout_engine("none")
    frames = np.unique(np.linspace(0, last, min(MAX_FRAMES, last + 1)).round())
    shots = []
    for frame in frames.astype(int):
        title.set_text(f"t = {first.times[frame]:.4g} T")
        for image, values in moving:
            image.set_data(values[frame].T)
        canvas.draw()
        shots.append(Image.fromarray(np.array(canvas.buffer_rgba())).convert("RGB"))
    pictures = with_one_palette(shots)
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        format=FORMATS[suffix],
        save_all=True,
        append_images=pictures[1:],
        duration=[*[FRAME_MS] * (len(pictures) - 1), LAST_MS],
        loop=0,
        optimize=True,
    )
    return buffer.getvalue()


def with_one_palette(shots: Sequence[Image.Image]) -> list[Image.Image]:
    """Return the frames in 256 colours: an animated PNG has one palette for all.

    They are those of the maps, since a palette fitted to a frame drops rare ones.
    """
    parts = ((FIELD_MAP, 92), (ERROR_MAP, 92), (POSITIVE_MAP, 48), ("gray", 24))
    colours = [colormaps[name](np.linspace(0, 1, n))[:, :3] for name, n in parts]
    palette = Image.new("P", (1, 1))
    levels = (255 * np.concatenate(colours)).round().astype(np.uint8)
    palette.putpalette(levels.tobytes())
    return [s.quantize(palette=palette, dither=Image.Dither.NONE) for s in shots]


def _draw(
    figure: Figure,
    rollouts: Mapping[str, Pictures],
    unit: Mapping[str, str],
    trajectory: int,
    channel: int,
) -> Moving:
    first = next(iter(rollouts.values()))
    panels = figure.subplots(2, 1 + len(rollouts), squeeze=False)
    truth = first.truth[trajectory, :, channel]
    errors = [o.prediction[trajectory, :, channel] - truth for o in rollouts.values()]
    cmap, norm = value_range(truth)
    spread = error_range(errors)
    field = show_field(panels[0, 0], truth[0], first.lengths, cmap, norm)
    panels[0, 0].set_title("truth")
    if first.environment_channels:
        name = first.environment_channels[0]
        draw_environment(
            figure, panels[1, 0], first, trajectory, 0, unit.get(name, ""), "bottom"
        )
    else:
        panels[1, 0].set_axis_off()
    moving: Moving = [(field, truth)]
    for column, (label, one) in enumerate(rollouts.items(), start=1):
        above, below = panels[:, column]
        states = one.prediction[trajectory, :, channel]
        moving.append((show_field(above, states[0], first.lengths, cmap, norm), states))
        above.set_title(label)
        error = errors[column - 1]
        image = show_field(below, error[0], first.lengths, ERROR_MAP, spread)
        moving.append((image, error))
    name = first.channels[channel]
    text = with_unit(name, unit.get(name, ""))
    figure.colorbar(field, ax=list(panels[0]), label=text)
    figure.colorbar(
        moving[-1][0], ax=list(panels[1, 1:]), label=f"prediction − truth\n{text}"
    )
    return moving
