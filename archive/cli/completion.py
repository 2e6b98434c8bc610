"""``fedarchive completion``: scripts by which shells complete commands, options, choices and file names.

The scripts are static: no Python starts at a press of TAB. They are made from the parser itself. No library
does this here: argcomplete starts Python at each TAB, and shtab would be one more package for every user.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from archive.cli.exits import OK
from archive.cli.output import show

__all__ = ["DESCRIPTION", "define", "run"]

DESCRIPTION = """\
Print a script by which a shell completes commands, options, their choices and file names:

  bash  fedarchive completion bash > ~/.local/share/bash-completion/completions/fedarchive
  zsh   fedarchive completion zsh > DIR/_fedarchive   (DIR is in $fpath, and compinit runs after that)
  fish  fedarchive completion fish > ~/.config/fish/completions/fedarchive.fish

JSON: shell, script. CSV: the same as one row."""

_FILES = {"PATH", "IN", "OUT", "SRC", "DST", "URL", "PARTIAL", "DIR", "FILE", "RUN", "RUN2"}
"""Words of the help that stand for names of files and folders."""


@dataclass(frozen=True, slots=True)
class _Option:
    """An option of a command."""

    names: tuple[str, ...]
    text: str
    values: int
    """Words that it takes."""
    attached: bool
    """It takes a value after an equals sign alone."""
    repeated: bool
    files: bool
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Command:
    """A command; that without a name is ``fedarchive`` itself."""

    name: str
    text: str
    options: tuple[_Option, ...]
    choices: tuple[str, ...]
    """What its first word may be; empty for a name of a file."""
    files: bool


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("shell", choices=sorted(_SCRIPTS), help="which shell")


def run(arguments: argparse.Namespace) -> int:
    """Print one script."""
    from archive.cli.dispatch import full_parser

    script = _SCRIPTS[arguments.shell](_commands(full_parser()))
    show(arguments, {"shell": arguments.shell, "script": script}, [script])
    return OK


def _commands(parser: argparse.ArgumentParser) -> list[_Command]:
    """Return what a parser knows, that without a name first."""
    found = [_command("", "", parser)]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            found += [_command(name, texts[name], below) for name, below in action.choices.items()]
    return found


def _command(name: str, text: str, parser: argparse.ArgumentParser) -> _Command:
    options = []
    words = []
    for action in parser._actions:
        if action.option_strings:
            options.append(_option(parser, action))
        elif not isinstance(action, argparse._SubParsersAction):
            words.append(action)
    choices = tuple(map(str, words[0].choices)) if words and words[0].choices else ()
    return _Command(name, text, tuple(options), choices, any(_takes_files(action) for action in words))


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> _Option:
    values = action.nargs if isinstance(action.nargs, int) else 0 if action.nargs == "?" else 1
    text = " ".join(parser._get_formatter()._expand_help(action).split())
    return _Option(
        names=tuple(action.option_strings),
        text=text.partition(";")[0],
        values=values,
        attached=action.nargs == "?",
        repeated=isinstance(action, argparse._AppendAction),
        files=_takes_files(action),
        choices=tuple(map(str, action.choices)) if action.choices else (),
    )


def _takes_files(action: argparse.Action) -> bool:
    names = action.metavar if isinstance(action.metavar, tuple) else [action.metavar]
    return not _FILES.isdisjoint(name for name in names if name)


def _bash(commands: Sequence[_Command]) -> str:
    values, choices, options, firsts = [], [], [], []
    for command in commands:
        for option in command.options:
            pattern = "|".join(f'"{command.name} {name}"' for name in option.names)
            if option.values:
                values.append(f"            {pattern}) skip={option.values} ;;")
            if option.choices:
                choices.append(f"            {pattern}) words='{' '.join(option.choices)}' ;;")
        names = " ".join(name for option in command.options for name in option.names)
        options.append(f"            '{command.name}') words='{names}' ;;")
        if command.choices:
            firsts.append(f"            '{command.name} 0') words='{' '.join(command.choices)}' ;;")
    firsts.append(f"            ' 0') words='{' '.join(command.name for command in commands[1:])}' ;;")
    return "\n".join(
        [
            "# bash completion of fedarchive; what is not completed here is completed as a file name",
            "_fedarchive() {",
            "    local current=${COMP_WORDS[COMP_CWORD]} command= option= words= word",
            "    local -i at=0 skip=0 i",
            "    for ((i = 1; i < COMP_CWORD; i++)); do",
            "        word=${COMP_WORDS[i]}",
            "        if [[ $word == '=' ]]; then skip=1; continue; fi",
            "        if ((skip > 0)); then skip=skip-1; continue; fi",
            "        if [[ $word != -* ]]; then",
            "            if [[ -z $command ]]; then command=$word; else at=at+1; fi",
            "            continue",
            "        fi",
            "        option=$word",
            '        case "$command $option" in',
            *values,
            "        esac",
            "    done",
            "    if [[ $current == '=' ]]; then current=; skip=1; fi",
            "    if ((skip > 0)); then",
            '        case "$command $option" in',
            *choices,
            "        esac",
            "    elif [[ $current == -* ]]; then",
            '        case "$command" in',
            *options,
            "        esac",
            "    else",
            '        case "$command $at" in',
            *firsts,
            "        esac",
            "    fi",
            '    COMPREPLY=($(compgen -W "$words" -- "$current"))',
            "}",
            "complete -o bashdefault -o default -F _fedarchive fedarchive",
        ]
    )


def _zsh(commands: Sequence[_Command]) -> str:
    top, *others = commands
    cases = []
    for command in others:
        specs = [*_zsh_options(command)]
        if command.choices:
            specs.append(_quoted(f"1:{command.name}:({' '.join(command.choices)})"))
        if command.files:
            specs.append("'*:file:_files'")
        lines = " \\\n                ".join(specs)
        cases += [f"        {command.name})", f"            _arguments -s {lines} && ret=0", "            ;;"]
    described = [f"        {_quoted(f'{one.name}:{one.text}')}" for one in others]
    return "\n".join(
        [
            "#compdef fedarchive",
            "_fedarchive() {",
            "    local curcontext=$curcontext state line ret=1",
            "    typeset -A opt_args",
            "    local -a commands",
            "    commands=(",
            *described,
            "    )",
            f"    _arguments -C {' '.join(_zsh_options(top))} '1: :->command' '*:: :->words' && ret=0",
            "    case $state in",
            "    command) _describe -t commands command commands && ret=0 ;;",
            "    words)",
            "        case $words[1] in",
            *cases,
            "        esac",
            "        ;;",
            "    esac",
            "    return ret",
            "}",
            "# loaded from $fpath it is the function itself, else it was sourced",
            'if [[ $funcstack[1] == _fedarchive ]]; then _fedarchive "$@"',
            "else compdef _fedarchive fedarchive; fi",
        ]
    )


def _zsh_options(command: _Command) -> Iterator[str]:
    for option in command.options:
        text = option.text.translate({ord(char): f"\\{char}" for char in "[]:\\"})
        action = f"({' '.join(option.choices)})" if option.choices else "_files" if option.files else " "
        for name in option.names:
            repeated = "*" if option.repeated else ""
            if option.attached:
                yield _quoted(f"{repeated}{name}=-[{text}]::value:{action}")
            else:
                equals = "=" if option.values == 1 and name.startswith("--") else ""
                yield _quoted(f"{repeated}{name}{equals}[{text}]" + f":value:{action}" * option.values)


def _fish(commands: Sequence[_Command]) -> str:
    takers: dict[int, list[str]] = {}
    for option in (option for command in commands for option in command.options if option.values):
        takers[option.values] = sorted({*takers.get(option.values, []), *option.names})
    lines = [
        "# fish completion of fedarchive",
        "# whether the command is the first argument here, and as many words follow it as the second says",
        "function __fedarchive_at",
        "    set -l given (commandline -opc)",
        "    set -e given[1]",
        "    set -l words",
        "    set -l skip 0",
        "    for word in $given",
        "        if test $skip -gt 0",
        "            set skip (math $skip - 1)",
        "            continue",
        "        end",
        "        switch $word",
        *(f"            case {' '.join(names)}; set skip {count}" for count, names in sorted(takers.items())),
        "            case '-*'",
        "            case '*'; set -a words $word",
        "        end",
        "    end",
        '    test "$words[1]" = "$argv[1]"; or return 1',
        "    test (count $argv) = 1; or test (count $words) = (math 1 + $argv[2])",
        "end",
        "complete -c fedarchive -f",
    ]
    for command in commands:
        here = f"complete -c fedarchive -n '__fedarchive_at \"{command.name}\"'"
        if command.name:
            told = f"-a {command.name} -d {_fish_quoted(command.text)}"
            lines.append(f"complete -c fedarchive -n '__fedarchive_at \"\"' {told}")
        if command.choices:
            first = f"complete -c fedarchive -n '__fedarchive_at {command.name} 0'"
            lines.append(f"{first} -a '{' '.join(command.choices)}'")
        if command.files:
            lines.append(f"{here} -F")
        for option in command.options:
            names = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
            )
            value = ""
            if option.choices:
                value = f" -x -a '{' '.join(option.choices)}'"
            elif option.values:
                value = " -r -F" if option.files else " -x"
            lines.append(f"{here} {names}{value} -d {_fish_quoted(option.text)}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """Return text as one word of bash and zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_SCRIPTS: dict[str, Callable[[Sequence[_Command]], str]] = {"bash": _bash, "fish": _fish, "zsh": _zsh}
