"""``pde-sym completion``: what a shell completes, from the commands themselves."""

import argparse
import importlib
from typing import NamedTuple

SHELLS = ("bash", "zsh", "fish")
USE = {
    "bash": 'eval "$(pde-sym completion bash)"',
    "zsh": 'eval "$(pde-sym completion zsh)"',
    "fish": "pde-sym completion fish | source",
}
"""What a user writes into the start-up file of the shell."""


class Option(NamedTuple):
    """One option of a command."""

    name: str
    help: str
    choices: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "; ".join(f"{shell}: {line}" for shell, line in USE.items())
    parser.add_argument("shell", choices=SHELLS, help=", ".join(SHELLS))


def run(arguments: argparse.Namespace) -> int:
    print(script(arguments.shell))
    return 0


def commands() -> dict[str, tuple[str, list[str], list[Option]]]:
    """Return help, words and options of every command."""
    from experiments.__main__ import COMMANDS, command_parser

    found = {}
    for name, (place, text) in COMMANDS.items():
        parser = command_parser(name, importlib.import_module(place))
        words: list[str] = []
        options: list[Option] = []
        # argparse has no public list of what was added.
        for action in parser._actions:
            choices = tuple(str(one) for one in action.choices or ())
            long = [one for one in action.option_strings if one.startswith("--")]
            if long:
                options.append(Option(long[0], action.help or "", choices))
            else:
                words += choices
        found[name] = (text, words, options)
    return found


def script(shell: str) -> str:
    """Return the completion of a shell."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()


def _bash() -> str:
    known = commands()
    lines = [
        "_pde_sym() {",
        '    local here="${COMP_WORDS[COMP_CWORD]}"',
        '    local before="${COMP_WORDS[COMP_CWORD-1]}"',
        '    if [ "$COMP_CWORD" -eq 1 ]; then',
        f'        COMPREPLY=($(compgen -W "{" ".join(known)}" -- "$here"))',
        "        return",
        "    fi",
        '    case "${COMP_WORDS[1]} $before" in',
    ]
    for name, (_, _, options) in known.items():
        lines += [
            f'    "{name} {one.name}") '
            f'COMPREPLY=($(compgen -W "{" ".join(one.choices)}" -- "$here")); return;;'
            for one in options
            if one.choices
        ]
    lines += ["    esac", '    case "${COMP_WORDS[1]}" in']
    for name, (_, words, options) in known.items():
        every = " ".join([*words, *(one.name for one in options)])
        lines.append(f'    {name}) COMPREPLY=($(compgen -W "{every}" -- "$here"));;')
    lines += ["    esac", "}", "complete -o default -F _pde_sym pde-sym"]
    return "\n".join(lines)


def _zsh() -> str:
    """Return bash's, which zsh reads once its own completion is switched on."""
    start = [
        "(( $+functions[compdef] )) || { autoload -U compinit && compinit -i }",
        "autoload -U +X bashcompinit && bashcompinit",
    ]
    return "\n".join([*start, _bash()])


def _fish() -> str:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    lines = []
    for name, (text, words, options) in commands().items():
        lines.append(
            f"complete -c pde-sym -n __fish_use_subcommand -f -a {name} "
            f"-d {quoted(text)}"
        )
        where = f"complete -c pde-sym -n '__fish_seen_subcommand_from {name}'"
        if words:
            lines.append(f"{where} -a {quoted(' '.join(words))}")
        for one in options:
            values = f" -xa {quoted(' '.join(one.choices))}" if one.choices else ""
            about = quoted(one.help.replace("%%", "%"))
            lines.append(f"{where} -l {one.name[2:]}{values} -d {about}")
    return "\n".join(lines)
