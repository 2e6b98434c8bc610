"""``fedarchive stats``: count, range, mean, spread and odd values of every array."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from archive.cli.bars import progress_of
from archive.cli.executors import chosen_executor, define_executor
from archive.cli.exits import OK, worst
from archive.cli.options import define_archives, shown_path
from archive.cli.output import is_text, show
from archive.cli.style import dim, red
from archive.cli.text import columns, json_value, name, printable, shape
from archive.cli.words import Target, TargetReader, find_targets, is_one
from archive.display.texts import counted
from archive.errors import ArchiveError
from archive.storage.folder import join

if TYPE_CHECKING:
    from archive.tools.arraystats import ArchiveStats

__all__ = ["DESCRIPTION", "NUMBERS", "define", "moment_facts", "number", "run"]

DESCRIPTION = """\
Print one line an array: its elements counted, and min, max, mean, std (ddof=0) and norm (L2) of those that
are finite. Every byte of an array of numbers is read once, and compared with its digest. Of complex elements:
of their absolute values; of texts and what is no number the count alone. PATH is an archive, a pattern in
quotes, a folder (every archive below it), or the folder of a run: the global model of its newest round, or of
--round; 'RUN/rounds/**/*.h5' is every round with what its clients sent.

An archive that cannot be read is reported, and the exit code is 1 for damage, else 2; NaN and infinities are
no error.

JSON: arrays, a list of {path, run, round, client, record, key, dtype, shape, count, min, max, mean, std,
norm, zeros, nan, inf, error}; and errors, a list of {path, kind, message}. What is not known is null; floats
that JSON lacks are "nan", "inf" and "-inf". CSV: a row for each array."""

NUMBERS = ("min", "max", "mean", "std", "norm", "zeros", "nan", "inf")
_WHOSE = ("run", "round", "client")
_FIELDS = ("path", *_WHOSE, "record", "key", "dtype", "shape", "count", *NUMBERS, "error")

Row = dict[str, Any]


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    define_archives(parser)
    define_executor(parser)
    parser.add_argument(
        "--keys",
        metavar="PATTERN",
        action="append",
        help="only arrays that have such a KEY or RECORD/KEY, such as 'encoder.*'; may be repeated",
    )
    parser.add_argument("--nan", action="store_true", help="only arrays with a NaN or an infinity")
    parser.add_argument(
        "--sort",
        choices=sorted(set(_FIELDS) - {"error"}),
        help="by this column: numbers from the largest on, texts from A to Z; default: as saved",
    )
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument(
        "--errors",
        choices=("raise", "skip", "column"),
        default="skip",
        help="an archive that cannot be read ends the command, is left out, or has a row with its error; "
        "default: skip",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the statistics of all arrays of all archives."""
    from archive.tools.arraystats import measure_archive, require_found

    targets = find_targets(arguments, arguments.paths)
    is_one(arguments.paths, targets)
    alone = len(targets) == 1
    unit = "B" if alone else "archives"
    with chosen_executor(arguments) as executor, progress_of(arguments, "reading", unit) as bar:
        reader = (_Strict if arguments.errors == "raise" else TargetReader)(arguments, bar, executor)
        report = bar.report if alone else None
        measure = partial(measure_archive, keys=arguments.keys, progress=report, alone=alone)
        found = [one._replace(path=path) for path, one in reader.read(targets, measure)]
    try:
        require_found(found)
    except KeyError as error:
        remedy = "`fedarchive ls` lists the arrays"
        raise ArchiveError(str(error.args[0]), path=shown_path(arguments.paths[0]), remedy=remedy) from error
    rows = [row for one in found for row in _rows(one)]
    if arguments.nan:
        measured = counted(len(rows), "array")
        rows = [row for row in rows if row["nan"] or row["inf"]]
        if not rows and is_text(arguments):
            print(f"no NaN and no infinity in {measured}{_left_unread(arguments, targets)}")
    if arguments.sort is not None:
        rows = _sorted(rows, arguments.sort)
    if arguments.reverse:
        rows.reverse()
    if arguments.errors == "column":
        rows += [
            dict.fromkeys(_FIELDS) | {"path": at["path"], "error": at["message"]} for at in reader.errors
        ]
    show(
        arguments,
        lambda: {
            "arrays": [{key: json_value(value) for key, value in row.items()} for row in rows],
            "errors": reader.errors,
        },
        _lines(rows, several=not alone),
        rows=rows,
        fields=_FIELDS,
    )
    return worst(reader.codes) if reader.codes else OK


def _left_unread(arguments: argparse.Namespace, targets: Sequence[Target]) -> str:
    """Return what more a run has, where one was named and one of its rounds was read; else nothing."""
    run = next((target for target in targets if target.experiment is not None), None)
    if run is None or arguments.client is not None:
        return ""
    folder = join(shown_path(run.path).rstrip("/"), *filter(None, [run.experiment]))
    pattern = printable(shlex.quote(join(folder, "rounds/**/*.h5")))
    return f", the global model of one round; {pattern} is every round with what its clients sent"


class _Strict(TargetReader):
    """Raises the first error."""

    def fail(self, path: str, error: ArchiveError) -> None:
        raise error


def moment_facts(moments: Any) -> Row:
    """Return what is known of numbers by its name in tables; None of what are no numbers."""
    if moments is None:
        return dict.fromkeys(NUMBERS)
    ends = {"min": moments.low, "max": moments.high}
    return ends | {name: getattr(moments, name) for name in NUMBERS if name not in ends}


def number(value: float | None) -> str:
    """Return a number for people.

    Examples
    --------
    >>> number(0.123456789), number(3), number(None)
    ('0.123457', '3', '-')
    """
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _rows(one: ArchiveStats) -> list[Row]:
    from archive.tools.provenance import provenance_of

    whose = provenance_of(one.place, one.values)
    return [
        {
            "path": one.path,
            **{field: getattr(whose, field) for field in _WHOSE},
            "record": array.record,
            "key": array.key,
            "dtype": array.dtype,
            "shape": list(array.shape),
            "count": math.prod(array.shape),
            **moment_facts(array.moments),
            "error": None,
        }
        for array in one.arrays
        if array is not None
    ]


def _sorted(rows: list[Row], column: str) -> list[Row]:
    """Return rows in the order of a column; those that have nothing there are the last."""

    def is_known(row: Row) -> bool:
        value = row[column]
        return value is not None and value == value

    known = [row for row in rows if is_known(row)]
    falls = bool(known) and isinstance(known[0][column], (int, float))
    known.sort(key=lambda row: row[column], reverse=falls)
    return known + [row for row in rows if not is_known(row)]


def _lines(rows: Sequence[Row], *, several: bool) -> list[str]:
    if not rows:
        return []
    before = ["path", *(field for field in _WHOSE[1:] if any(row[field] is not None for row in rows))]
    before = before if several else []
    table = [[*before, "array", "dtype", "shape", "count", *NUMBERS]]
    for row in rows:
        fields = [dim(printable(str(row[field]))) if row[field] is not None else "-" for field in before]
        if row["error"] is not None:
            table.append([*fields, red(printable(row["error"]))])
            continue
        numbers = [number(row[field]) for field in NUMBERS]
        numbers[-2:] = [red(text) if text not in ("0", "-") else text for text in numbers[-2:]]
        facts = [name(row["record"], row["key"]), printable(row["dtype"]) or "-", shape(row["shape"])]
        table.append([*fields, *facts, str(row["count"]), *numbers])
    return columns(table, header=True)
