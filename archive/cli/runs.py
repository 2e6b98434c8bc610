"""``fedarchive runs``: what runs a folder has, what each shows, and removing rounds of one."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import archive
from archive.cli.bars import progress_of
from archive.cli.executors import chosen_executor, define_executor
from archive.cli.exits import OK, exit_code, worst
from archive.cli.options import define_options, options_for, require_one, runs_at, shown_path
from archive.cli.output import complain, show
from archive.cli.style import red
from archive.cli.text import columns, elided, json_value, moment, printable, size
from archive.errors import ArchiveError, MissingError, SkippedWarning

if TYPE_CHECKING:
    from archive.checkpoints.runfacts import RunFacts
    from archive.tools.many import Errors

__all__ = ["DESCRIPTION", "define", "run", "run_lines"]

DESCRIPTION = """\
ls: one line for each run in folders: newest round, rounds kept, how many of these are damaged (cannot be
opened; `fedarchive verify` reads every byte), nodes whose states (contexts) are there, files of clients in
the newest round, size, best round. show: one run. history: metrics and configs of all rounds that ever were;
--clients adds those of the clients, and what cannot be read is reported: the exit code is 1 for damage, else
2; --workers and --dask share the files that the catalogue of the run does not know. rm: remove rounds, whose
files are then gone. rewind: remove every round after ROUND, the newest first, so that the run goes on from
there; an error where a server runs the run.

A folder with one run needs no --experiment. rm and rewind ask first on a terminal; elsewhere they want --yes.

JSON: of ls path and runs (of several folders runs and errors), a list of what show prints: path, experiment,
rounds, damaged, clients, nodes, contexts, file_bytes, saved, best, best_by, best_value, keep_last,
keep_every, attempts (a list of {token, after, last}), resume. Of history path and columns, an object of
lists; what a round lacks is "nan" or null. Of rm and rewind path and removed, a list of rounds.
CSV: of ls and show a row for each run, of history one for each round (and client), of rm and rewind one for
each that was removed."""

ACTIONS = ("ls", "show", "history", "rm", "rewind")
SHOWN_NODES = 5
"""Nodes that `show` names."""
_FIELDS = (
    *("path", "experiment", "rounds", "damaged", "clients", "nodes", "contexts", "file_bytes", "saved"),
    *("best", "best_by", "best_value", "keep_last", "keep_every", "attempts", "resume"),
)
_OF_ONE_RUN = ("path", "run", "created", "file_bytes", "arrays")
"""Columns that a line for people leaves out unless they are named: a line has to fit."""
_NO_ROUND = "no round yet"
_RESUME_ROWS = {"nodes": "nodes of newest"}
"""Rows of what the server says, where its word alone would mislead."""


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    parser.add_argument("path", metavar="URL", help="a folder with runs, or of one run")
    parser.add_argument(
        "more", metavar="ROUND", nargs="*", help="of rm and rewind: the rounds; of ls: more folders"
    )
    parser.add_argument("--experiment", metavar="NAME", help="name of the run in the folder")
    parser.add_argument("--clients", action="store_true", help="of history: rows of clients too")
    parser.add_argument(
        "--columns",
        metavar="NAME,...",
        action="append",
        default=[],
        help="of history: these metrics and configs only; may be repeated",
    )
    parser.add_argument(
        "--errors",
        choices=("raise", "skip", "column"),
        help="of history: a file that cannot be read ends the command, is left out, or has a row with its "
        "error; default: skip",
    )
    define_executor(parser)
    parser.add_argument("--yes", action="store_true", help="of rm and rewind: do not ask")
    define_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do one of these."""
    _require_arguments(arguments)
    if arguments.action == "ls":
        return _list(arguments)
    if arguments.experiment is None:
        require_one(arguments, arguments.path, runs_at(arguments, arguments.path))
    store = archive.CheckpointStore(
        arguments.path, arguments.experiment, storage_options=options_for(arguments.options, arguments.path)
    )
    if arguments.action == "show":
        return show_run(store, arguments)
    if arguments.action == "history":
        return _show_history(store, arguments)
    return _remove(store, arguments)


def _require_arguments(arguments: argparse.Namespace) -> None:
    """Raise ArchiveError for arguments that the action does not take."""
    action, given = arguments.action, len(arguments.more)
    problem = None
    of_history = (arguments.clients, arguments.columns, arguments.errors, arguments.dask)
    if (any(of_history) or arguments.workers > 1) and action != "history":
        problem = "--clients, --columns, --errors, --workers and --dask are for history"
    elif action == "rm" and not given:
        problem = "rm takes a round or more"
    elif action == "rewind" and given != 1:
        problem = "rewind takes one round"
    elif action in ("show", "history") and given:
        problem = f"{action} takes no round"
    elif action in ("rm", "rewind"):
        odd = [word for word in arguments.more if not word.isdecimal()]
        problem = f"a round is a number, not {odd[0]!r}" if odd else None
    if problem is not None:
        raise ArchiveError(problem, path=shown_path(arguments.path), remedy="try: fedarchive runs --help")


def show_run(store: archive.CheckpointStore, arguments: argparse.Namespace) -> int:
    """Print the facts about one run."""
    from archive.checkpoints.runfacts import facts_of

    facts = facts_of(store._files)
    show(arguments, _json(facts), run_lines(facts), fields=_FIELDS)
    return OK


def run_lines(facts: RunFacts) -> list[str]:
    """Return the facts about one run as lines."""
    rows = [
        ["path", printable(facts.path)],
        *_round_rows(facts),
        ["nodes with states", _nodes(facts)],
        ["client files", ", ".join(map(printable, facts.clients)) or "none"],
        ["file bytes", f"{facts.file_bytes} ({size(facts.file_bytes)})"],
    ]
    for number, attempt in enumerate(facts.attempts):
        began = f"resumed after round {attempt.after}" if number else "began the run"
        rows.append(
            [
                "" if number else "attempts",
                f"{printable(attempt.token)} {began}, rounds to {attempt.last}",
            ]
        )
    rows += [
        [_RESUME_ROWS.get(key, printable(key)), elided(printable(str(value)))]
        for key, value in facts.resume.items()
    ]
    return columns(rows)


def _round_rows(facts: RunFacts) -> list[list[str]]:
    """Return the rows about the rounds; nothing is said of what only a readable round says."""
    if not facts.rounds:
        return [["rounds", _NO_ROUND]]
    damaged = f"{_numbers(facts.damaged)} (unreadable metadata; fedarchive verify reads every byte)"
    rows = [
        ["rounds", _numbers(facts.rounds)],
        *([["damaged", red(damaged)]] if facts.damaged else []),
        ["saved", "unknown" if facts.saved is None else moment(facts.saved)],
    ]
    if len(facts.damaged) < len(facts.rounds):
        rows += [
            ["best", _best(facts) or "nothing says what makes a round the best"],
            ["keeps", _retention(facts)],
        ]
    return rows


def _nodes(facts: RunFacts) -> str:
    if not facts.nodes:
        return "none"
    more = len(facts.nodes) - SHOWN_NODES
    named = ", ".join(map(printable, facts.nodes[:SHOWN_NODES])) + (f" and {more} more" if more > 0 else "")
    return f"{len(facts.nodes)} ({named}), files: {facts.contexts}"


def _list(arguments: argparse.Namespace) -> int:
    paths = [arguments.path, *arguments.more]
    runs: list[RunFacts] = []
    errors: list[dict[str, str]] = []
    codes = [OK]
    for path in paths:
        try:
            runs += _runs_in(arguments, path)
        except ArchiveError as error:
            if len(paths) == 1:
                raise
            complain(error, debug=arguments.debug)
            codes.append(exit_code(error))
            errors.append({"path": shown_path(path), "kind": type(error).__name__, "message": str(error)})
    header = ["run", "newest", "rounds", "damaged", "nodes", "client-files", "size", "best"]
    rows = [
        [
            printable(facts.path if len(paths) > 1 else facts.experiment or "."),
            str(facts.rounds[-1]) if facts.rounds else "-",
            str(len(facts.rounds)),
            red(str(len(facts.damaged))) if facts.damaged else "0",
            str(len(facts.nodes)),
            str(len(facts.clients)),
            size(facts.file_bytes),
            (_best(facts) or "-") if facts.rounds else _NO_ROUND,
        ]
        for facts in runs
    ]
    found = [_json(facts) for facts in runs]
    lines = columns([header, *rows], header=True) if rows else []
    document = (
        {"runs": found, "errors": errors} if len(paths) > 1 else {"path": shown_path(paths[0]), "runs": found}
    )
    show(arguments, document, lines, rows=found, fields=_FIELDS)
    return worst(codes)


def _runs_in(arguments: argparse.Namespace, path: str) -> list[RunFacts]:
    from archive.checkpoints.runfacts import list_runs

    runs = list_runs(path, options_for(arguments.options, path))
    if arguments.experiment is not None:
        runs = [facts for facts in runs if facts.experiment == arguments.experiment]
    if not runs:
        raise MissingError("no run is here", path=shown_path(path), remedy="check the folder and the name")
    return runs


def _show_history(store: archive.CheckpointStore, arguments: argparse.Namespace) -> int:
    errors: Errors = arguments.errors or "skip"
    with (
        chosen_executor(arguments) as executor,
        progress_of(arguments, "reading", "files") as bar,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", SkippedWarning)  # said below, of each file
        table = store.history(
            clients=arguments.clients, errors=errors, executor=executor, progress=bar.report
        )
    for _, error in table.failures:
        complain(error, debug=arguments.debug)
    path = store.url
    shown = {name: column.tolist() for name, column in table.items()}
    shown["created"] = [None if time is None else f"{time.isoformat()}Z" for time in shown["created"]]
    if arguments.columns:
        places = [
            "round",
            *(["client"] if arguments.clients else []),
            *(["error"] if "error" in shown else []),
        ]
        shown = {name: shown[name] for name in [*places, *_chosen(shown, arguments.columns, path)]}
    facts = {name: [json_value(value) for value in values] for name, values in shown.items()}
    rows = (dict(zip(shown, row, strict=True)) for row in zip(*shown.values(), strict=True))
    show(
        arguments,
        {"path": path, "columns": facts},
        _history_lines(shown, chosen=bool(arguments.columns)),
        rows=rows,
        fields=list(shown),
    )
    return worst([OK, *(exit_code(error) for _, error in table.failures)])


def _history_lines(shown: dict[str, list[Any]], *, chosen: bool) -> Iterator[str]:
    texts = {name: values for name, values in shown.items() if chosen or name not in _OF_ONE_RUN}
    if "kept" in texts:
        texts["kept"] = ["yes" if kept else "no" for kept in texts["kept"]]
    fields = [[_field(value) for value in values] for values in texts.values()]
    header = [printable(name) for name in texts]
    yield from columns([header, *map(list, zip(*fields, strict=True))], header=True)


def _chosen(shown: Mapping[str, Any], words: Sequence[str], path: str) -> list[str]:
    """Return the columns that words with commas name; a column whose name has a comma stands for itself."""
    names = [name for word in words for name in ([word] if word in shown else word.split(","))]
    missing = [name for name in names if name not in shown]
    if missing:
        known = elided(", ".join(shown), 400)
        raise ArchiveError(f"no column {missing[0]!r}", path=path, remedy=f"there are: {known}")
    return names


def _remove(store: archive.CheckpointStore, arguments: argparse.Namespace) -> int:
    there, asked = store.rounds(), sorted(set(map(int, arguments.more)))
    missing = [number for number in asked if number not in there]
    if missing:
        raise MissingError(
            f"there {'is' if len(missing) == 1 else 'are'} no {_rounds(missing)}",
            path=store.url,
            remedy=f"there are {_numbers(there)}" if there else "check the folder",
        )
    rewinding = arguments.action == "rewind"
    going = [number for number in there if number > asked[0]] if rewinding else asked
    if going and not arguments.yes:
        _ask(f"remove {_rounds(going)} of {printable(store.url)}", arguments)
    if rewinding:
        store.rewind(asked[0])
    else:
        for number in reversed(asked):
            store.remove(number)
    line = f"{printable(store.url)}: removed {_numbers(going) or 'nothing'}"
    removed = ({"path": store.url, "removed": number} for number in going)
    show(arguments, {"path": store.url, "removed": going}, [line], rows=removed, fields=["path", "removed"])
    return OK


def _ask(what: str, arguments: argparse.Namespace) -> None:
    """Ask on a terminal; raise unless the answer is yes."""
    answer = ""
    if sys.stdin.isatty() and sys.stderr.isatty():
        print(f"{what}? [y/N] ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
    if answer.strip().lower() not in ("y", "yes"):
        raise ArchiveError(
            f"nothing was removed: {arguments.action} would {what}",
            path=shown_path(arguments.path),
            remedy="give --yes",
        )


def _json(facts: RunFacts) -> dict[str, Any]:
    shown = asdict(facts)
    shown["saved"] = None if facts.saved is None else moment(facts.saved)
    shown["best_value"] = json_value(facts.best_value)
    shown["resume"] = {key: json_value(value) for key, value in facts.resume.items()}
    return shown


def _best(facts: RunFacts) -> str:
    if facts.best_by is None:
        return ""
    metric, word = facts.best_by
    found = "none" if facts.best is None else f"{facts.best} ({facts.best_value:.6g})"
    return f"{found} by {word} {printable(metric)}"


def _retention(facts: RunFacts) -> str:
    kept = [f"the last {facts.keep_last}"] if facts.keep_last is not None else []
    kept += [f"every {facts.keep_every}"] if facts.keep_every is not None else []
    return " and ".join(kept) or "all rounds"


def _rounds(numbers: Sequence[int]) -> str:
    """Return numbers as words.

    Examples
    --------
    >>> _rounds([6]), _rounds([6, 7])
    ('round 6', 'rounds 6, 7')
    """
    return f"{'round' if len(numbers) == 1 else 'rounds'} {_numbers(numbers)}"


def _numbers(numbers: Sequence[int]) -> str:
    """Return numbers with their ranges.

    Examples
    --------
    >>> _numbers([1, 2, 3, 5, 8, 9])
    '1-3, 5, 8, 9'
    """
    parts: list[str] = []
    at = 0
    while at < len(numbers):
        end = at
        while end + 1 < len(numbers) and numbers[end + 1] == numbers[end] + 1:
            end += 1
        if end - at > 1:
            parts.append(f"{numbers[at]}-{numbers[end]}")
        else:
            parts += map(str, numbers[at : end + 1])
        at = end + 1
    return ", ".join(parts)


def _field(value: object) -> str:
    if isinstance(value, float):
        return "-" if value != value else f"{value:.6g}"
    return "-" if value is None else elided(printable(str(value)), 40)
