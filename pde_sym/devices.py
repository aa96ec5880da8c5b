"""Which device a command works on."""

import argparse

import torch

from pde_sym.errors import InputError

DEVICES = ("auto", "cpu", "cuda")


def add_argument(parser: argparse.ArgumentParser, default: str, purpose: str) -> None:
    """Add ``--device``, whose help begins with `purpose`."""
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default=default,
        help=f"{purpose}; auto: cuda where torch sees a GPU, else cpu ({default})",
    )


def chosen_device(name: str) -> str:
    """Return cpu or cuda; `InputError` when cuda is asked for and not there."""
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise InputError("--device cuda: torch sees no GPU here; expected auto or cpu")
    if name == "auto":
        return "cuda" if there else "cpu"
    return name
