"""Scalars of a training for TensorBoard, beside its ``metrics.jsonl``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from pde_sym.errors import InputError

INSTALL = "pip install tensorboard"


@contextmanager
def tensorboard(folder: Path | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a function that writes a row of metrics; it does nothing without a folder.

    Raises
    ------
    InputError
        When TensorBoard is not installed.
    """
    if folder is None:
        yield lambda _: None
        return
    try:
        writer: Any = import_module("torch.utils.tensorboard").SummaryWriter(folder)
    except ImportError as error:
        raise InputError(
            f"--tensorboard: TensorBoard is not installed: {INSTALL}"
        ) from error

    def write(row: dict[str, Any]) -> None:
        for name, value in row.items():
            if name != "update":
                writer.add_scalar(name, value, row["update"])

    try:
        yield write
    finally:
        writer.close()
