"""How every figure looks: style, units, colours of fields, and bytes of a file.

Nothing here touches the disk or the state of pyplot. Lengths, times and temperatures
are in the units of the user, written L, T and K.
"""

import io
from collections.abc import Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from experiments.evaluation import Pictures
from pde_sym.errors import InputError
from pde_sym.fields import FieldSpec, with_unit
from pde_sym.systems import SYSTEMS

Floats = NDArray[np.floating]

FIELD_MAP, ERROR_MAP, POSITIVE_MAP = "RdBu_r", "PuOr_r", "cividis"
SUFFIXES = (".png", ".svg", ".pdf")
STYLE: dict[Any, Any] = {
    "font.size": 11.0,
    "axes.titlesize": 11.0,
    "axes.labelsize": 11.0,
    "xtick.labelsize": 10.0,
    "ytick.labelsize": 10.0,
    "legend.fontsize": 10.0,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "lines.markersize": 6.0,
    "legend.frameon": False,
    # Equal figures, equal bytes.
    "svg.hashsalt": "pde_sym",
}
styled = mpl.rc_context(STYLE)


def new_figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def encode(figure: Figure, suffix: str) -> bytes:
    """Return a figure as a PNG, SVG or PDF file, without a date.

    Raises
    ------
    InputError
        For any other suffix.
    """
    dateless = {
        ".png": {"Software": None},
        ".svg": {"Date": None},
        ".pdf": {"CreationDate": None},
    }
    if suffix not in dateless:
        raise InputError(f"suffix {suffix!r}: expected one of {', '.join(SUFFIXES)}")
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=suffix[1:], dpi=150, metadata=dateless[suffix])
    return buffer.getvalue()


def units(system: str) -> dict[str, str]:
    """Return the unit of every field and channel of a system."""
    result: dict[str, str] = {}
    for kind in SYSTEMS:
        if kind.model_fields["kind"].default == system:
            # All at once, unchecked: some ask for settings of others.
            terms = tuple(term.model_validate({}) for term in kind.terms)
            every = kind.model_construct(breaking=terms)
            for spec in (kind.fields, every.environment_fields):
                for field in spec:
                    names = FieldSpec.of(field).channel_names
                    result |= dict.fromkeys((field.name, *names), field.unit)
    return result


def value_range(values: Floats) -> tuple[str, Normalize]:
    """Return map and limits: diverging and symmetric when there are both signs."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0, 0)
    if low < 0 < high:
        return FIELD_MAP, Normalize(-max(-low, high), max(-low, high))
    if low == high:
        low, high = low - 0.5, high + 0.5
    return POSITIVE_MAP, Normalize(low, high)


def error_range(errors: Sequence[Floats]) -> Normalize:
    """Return limits that are symmetric and shared by all runs."""
    sizes = [np.abs(e[np.isfinite(e)]).max(initial=0.0) for e in errors]
    largest = float(max(sizes, default=0.0)) or 1.0
    return Normalize(-largest, largest)


def show_field(
    axes: Axes, values: Floats, lengths: Sequence[float], cmap: str, norm: Normalize
) -> AxesImage:
    """Draw an ``(x, y)`` array with x to the right and y upwards."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.grid(visible=False)
    extent = (0.0, lengths[0], 0.0, lengths[1])
    return axes.imshow(
        values.T,
        origin="lower",
        extent=extent,
        cmap=cmap,
        norm=norm,
        interpolation="nearest",
    )


def label_box(axes: Axes, lengths: Sequence[float]) -> None:
    axes.set_xticks([0, lengths[0]])
    axes.set_yticks([0, lengths[1]])
    axes.set_xlabel("x [L]", labelpad=-8)
    axes.set_ylabel("y [L]", labelpad=-8)


def draw_environment(
    figure: Figure,
    axes: Axes,
    pictures: Pictures,
    trajectory: int,
    channel: int,
    unit: str,
    bar: Literal["right", "bottom"] = "right",
) -> None:
    """Draw a channel of the environment with a colour scale of its own."""
    values = pictures.environment[trajectory, channel]
    image = show_field(axes, values, pictures.lengths, *value_range(values))
    axes.set_title(with_unit(pictures.environment_channels[channel], unit))
    figure.colorbar(image, ax=axes, location=bar, fraction=0.05, pad=0.04)
