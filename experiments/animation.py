"""Truth and all models side by side, as an animated PNG or GIF, or a film."""

import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from experiments.series import Look
from experiments.space_time import moving_lines
from pde_sym.errors import InputError, OutputError
from pde_sym.fields import with_unit

DPI = 80
MAX_FRAMES = 40
FRAME_MS, LAST_MS = 160, 1200
FORMATS = {".png": "PNG", ".gif": "GIF"}
FILM = ".mp4"
Moving = list[tuple[Callable[[Floats], object], Floats]]
"""What shows a frame, each with its values in every frame."""


@dataclass(frozen=True)
class Shots:
    """The frames of an animation, in 256 colours, and the time of each."""

    pictures: list[Image.Image]
    times: list[str]


def animate(
    rollouts: Mapping[str, Pictures],
    unit: Mapping[str, str],
    trajectory: int = 0,
    channel: int = 0,
    suffix: str = ".png",
    looks: Mapping[str, Look] | None = None,
) -> bytes:
    """Return an animation of truth and predictions above environment and errors.

    The parameters are those of `shots_of`.

    Parameters
    ----------
    suffix
        ``.png`` (animated), ``.gif``, or ``.mp4``, for which ffmpeg is needed.

    Raises
    ------
    InputError
        For another suffix, without ffmpeg, or for a body, of which nothing moves in
        space.
    """
    if suffix not in (*FORMATS, FILM):
        known = ", ".join((*FORMATS, FILM))
        raise InputError(f"suffix {suffix!r}: expected one of {known}")
    encoder = film_encoder() if suffix == FILM else ""
    pictures = shots_of(rollouts, unit, trajectory, channel, looks).pictures
    if encoder:
        return as_film(pictures, encoder)
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


def film_encoder() -> str:
    """Return the path of ffmpeg.

    Raises
    ------
    InputError
        When there is none.
    """
    try:
        import imageio_ffmpeg  # pyright: ignore[reportMissingImports]
    except ImportError:
        found = shutil.which("ffmpeg")
    else:
        found = str(imageio_ffmpeg.get_ffmpeg_exe())
    if found is None:
        raise InputError(
            "an .mp4 needs ffmpeg, which is not here: `pip install imageio-ffmpeg`, "
            "or write a .gif or .png"
        )
    return found


def as_film(pictures: Sequence[Image.Image], encoder: str) -> bytes:
    """Return the frames as an MP4 film in H.264, the last one held.

    Raises
    ------
    OutputError
        When the encoder fails; it says why.
    """
    held = [*pictures, *[pictures[-1]] * (LAST_MS // FRAME_MS)]
    width, height = (2 * (n // 2) for n in pictures[0].size)  # H.264 wants even ones
    raw = b"".join(p.convert("RGB").crop((0, 0, width, height)).tobytes() for p in held)
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"film{FILM}"
        words = [encoder, "-loglevel", "error", *source, "-r", str(1000 / FRAME_MS)]
        words += ["-i", "-", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
        done = subprocess.run([*words, str(out)], input=raw, capture_output=True)
        if done.returncode:
            reason = " ".join(done.stderr.decode(errors="replace").split())[:200]
            raise OutputError(f"ffmpeg: {reason}")
        return out.read_bytes()


@styled
def shots_of(
    rollouts: Mapping[str, Pictures],
    unit: Mapping[str, str],
    trajectory: int = 0,
    channel: int = 0,
    looks: Mapping[str, Look] | None = None,
    most: int = MAX_FRAMES,
) -> Shots:
    """Return frames of truth and predictions above environment and errors.

    On a line they are curves.

    Parameters
    ----------
    rollouts
        Label -> rollouts on the same trajectories.
    unit
        Unit per field.
    trajectory, channel
        Which of those that were kept.
    looks
        Label -> how curves are drawn.
    most
        Frames at most, evenly spaced.

    Raises
    ------
    InputError
        For a body, of which nothing moves in space.
    """
    first = next(iter(rollouts.values()))
    on_line = len(first.lengths) == 1
    if on_line:
        figure, lines = moving_lines(rollouts, unit, looks or {}, trajectory, channel)
        moving: Moving = [(line.set_ydata, values) for line, values in lines]
    elif len(first.lengths) == 2:
        figure = new_figure(2.2 * (1 + len(rollouts)) + 1.0, 5.0)
        images = _draw(figure, rollouts, unit, trajectory, channel)
        # Arrays are indexed (x, y), pictures (row, column).
        moving = [(i.set_data, v.swapaxes(-1, -2)) for i, v in images]
    else:
        raise InputError("a body has no picture in space; use `pde-sym plot rollout`")
    canvas = FigureCanvasAgg(figure)
    last = len(first.times) - 1
    title = figure.suptitle(f"t = {first.times[last]:.4g} T")
    # Once for all frames: panels that move by a pixel would flicker.
    figure.set_dpi(DPI)
    canvas.draw()
    figure.set_layout_engine("none")
    frames = np.unique(np.linspace(0, last, min(most, last + 1)).round())
    times = [f"t = {first.times[frame]:.4g} T" for frame in frames.astype(int)]
    shots = []
    for frame, time in zip(frames.astype(int), times, strict=True):
        title.set_text(time)
        for show, values in moving:
            show(values[frame])
        canvas.draw()
        shots.append(Image.fromarray(np.array(canvas.buffer_rgba())).convert("RGB"))
    # Curves have few colours, and all are in the last frame.
    pictures = _with_palette_of_last(shots) if on_line else with_one_palette(shots)
    return Shots(pictures, times)


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


def _with_palette_of_last(shots: Sequence[Image.Image]) -> list[Image.Image]:
    last = shots[-1].quantize(256, dither=Image.Dither.NONE)
    return [s.quantize(palette=last, dither=Image.Dither.NONE) for s in shots]


def _draw(
    figure: Figure,
    rollouts: Mapping[str, Pictures],
    unit: Mapping[str, str],
    trajectory: int,
    channel: int,
) -> list[tuple[AxesImage, Floats]]:
    """Draw the first frame; return the images, each with its values in every frame."""
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
    moving = [(field, truth)]
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
