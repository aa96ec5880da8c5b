"""``pde-sym``: one module per command, imported only when it is called.

Exit codes: 0 done; 1 a defect of pde_sym (with a traceback); 2 bad input; 3 the output
folder is in use or holds something else; 4 damaged or foreign data; 5 a simulation or
a training left the finite numbers, or a data set is finished without the trajectories
that did; 6 workers died over a task, or their scheduler is lost; 130, 138 and 143
interrupted (SIGINT, for a training SIGUSR1, SIGTERM), the work so far is kept.
"""

import argparse
import contextlib
import importlib
import io
import os
import signal
import sys
from typing import Any, NoReturn

COMMANDS = {
    "systems": ("experiments.systems", "systems, groups, invariants, breaking terms"),
    "generate": ("data_gen.generate", "simulate a data set"),
    "import": ("data_gen.importing", "a stranger's HDF5 file as a data set"),
    "verify": ("data_gen.verify", "check hashes, schema and physics of a data set"),
    "describe": ("data_gen.describe", "sizes, ranges, drift and defect of a data set"),
    "models": ("experiments.models", "model families with parameters and cost"),
    "train": ("experiments.train", "train a surrogate"),
    "evaluate": ("experiments.evaluate", "errors, defects and drift of a surrogate"),
    "sweep": ("experiments.sweep", "model families over strengths of a breaking term"),
    "rollout": ("experiments.rollout", "predictions as a data set folder"),
    "export": ("experiments.export", "a data set in the formats of other benchmarks"),
    "plot": ("experiments.plot", "draw a figure of evaluated surrogates"),
    "report": ("experiments.report", "one self-contained page on several surrogates"),
    "bench": ("experiments.bench", "our solvers against their floor and other codes"),
    "doctor": ("experiments.doctor", "the environment, and what is missing"),
    "completion": ("experiments.completion", "what bash, zsh or fish completes"),
}
"""Command -> module with `add_arguments` and `run`, and one line of help."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def overview() -> str:
    """Return the text of ``pde-sym --help``."""
    lines = [f"  {name:10} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: pde-sym COMMAND [options]",
            "",
            "Data with a known amount of broken symmetry, and surrogates for it.",
            "",
            *lines,
            "",
            "pde-sym COMMAND --help explains a command.",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Run a command; return its exit code."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in {"-h", "--help", "help"}:
        print(overview())
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"pde-sym {version('pde-sym')}")
        return 0
    if words[0] not in COMMANDS:
        known = ", ".join(COMMANDS)
        print(f"pde-sym: unknown command {words[0]!r}; one of {known}", file=sys.stderr)
        return 2
    return _run(words[0], words[1:])


def command_parser(name: str, module: Any) -> Parser:
    """Return the parser of a command, with the options that all have."""
    _, text = COMMANDS[name]
    parser = Parser(prog=f"pde-sym {name}", description=text, allow_abbrev=False)
    module.add_arguments(parser)
    talk = parser.add_mutually_exclusive_group()
    talk.add_argument(
        "--quiet", action="store_true", help="print errors only, and what --json asks"
    )
    talk.add_argument(
        "--verbose", action="store_true", help="print every part of the work"
    )
    return parser


def _called(module: Any, arguments: argparse.Namespace) -> int:
    """Run a command as loud as it was asked for."""
    from pde_sym.progress import Talk, talking

    if arguments.verbose:
        with talking(Talk.VERBOSE):
            return module.run(arguments)
    if not arguments.quiet:
        return module.run(arguments)
    with talking(Talk.QUIET):
        if getattr(arguments, "json", False):
            return module.run(arguments)
        with contextlib.redirect_stdout(io.StringIO()):
            return module.run(arguments)


def _run(name: str, words: list[str]) -> int:
    from pde_sym.errors import InputError, OutputError, PdeSymError, one_line

    who = f"pde-sym {name}"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        who += f", rank {os.environ.get('RANK')}"
    try:
        module = importlib.import_module(COMMANDS[name][0])
        parser = command_parser(name, module)
        return _called(module, parser.parse_args(words))
    except PdeSymError as error:
        print(f"{who}: {one_line(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{who}: interrupted; repeat the command to go on", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of a pipe went away: not an error of ours.
        sys.stderr.close()
        return 0
    except OSError as error:
        # What the system refuses is no defect: names too long, no rights, no room.
        place = "" if error.filename is None else f" {str(error.filename)[:200]!r}"
        print(f"{who}: {error.strerror or error}{place}", file=sys.stderr)
        return OutputError.exit_code
    except MemoryError as error:
        reason = one_line(error) or "memory ran out"
        print(f"{who}: {reason}; ask for less", file=sys.stderr)
        return InputError.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
