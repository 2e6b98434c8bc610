"""``fedarchive diff``: how two archives differ, with the exit codes of diff(1)."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from archive.cli.bars import progress_of
from archive.cli.exits import DIFFERENT, OK, TROUBLE
from archive.cli.options import define_reading, open_file, open_round, open_run, round_number, shown_path
from archive.cli.output import complain, show
from archive.cli.text import json_value, printable
from archive.errors import ArchiveError

if TYPE_CHECKING:
    from archive.tools.differences import ArrayDiff, Diff

__all__ = ["DESCRIPTION", "define", "run"]

DESCRIPTION = """\
Compare arrays, metrics, configs, attributes, context and order of two archives. Of an array: dtype, shape,
stype, order; how many elements differ, the largest absolute and relative difference, the norm of the
difference, the cosine. Arrays whose digests are equal are equal, and are not read. A and B are archives or
folders of runs, of which the newest round is taken, or --round; of one run two rounds: diff RUN --round 6,7.

Exit codes are those of diff(1): 0 nothing differs, 1 something does, 2 trouble: an archive is damaged, is not
there or is no archive, or the arguments are wrong.

JSON: a, b, equal, same (a number of arrays); only_a and only_b, lists of {record, key}; changed, a list of
{record, key, differs, dtype, shape, stype, compared, elements, different, nan, max_abs, max_rel, norm,
relative_norm, cosine}, of which dtype, shape and stype are pairs, and those after compared are null unless it
is true; values, a list of {kind, record, key, a, b}. CSV: a row for each of these, with what: only_a, only_b,
array or value."""

_FIELDS = (
    *("what", "kind", "record", "key", "differs", "dtype", "shape", "stype", "compared", "elements"),
    *("different", "nan", "max_abs", "max_rel", "norm", "relative_norm", "cosine", "a", "b"),
)


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("a", metavar="A", help="an archive, or the folder of a run: a path or URL")
    parser.add_argument(
        "b", metavar="B", nargs="?", help="another, right after A; with --round N,M of one run not needed"
    )
    parser.add_argument(
        "--round", metavar="N[,M]", type=_rounds, help="of folders of runs: round N of A, and M (or N) of B"
    )
    parser.add_argument("--client", metavar="NAME", help="of folders of runs: what this client sent")
    parser.add_argument(
        "--keys",
        metavar="PATTERN",
        action="append",
        help="only arrays that have such a KEY or RECORD/KEY, and nothing else; may be repeated",
    )
    text = "numbers are equal where |a - b| <= ATOL + RTOL * |b|; default: 0"
    parser.add_argument("--rtol", type=_tolerance, default=0.0, help=text)
    parser.add_argument("--atol", type=_tolerance, default=0.0, help="see --rtol")
    parser.add_argument("--brief", "-q", action="store_true", help="say only whether they differ")
    define_reading(parser)
    parser.set_defaults(foreign=False, decoded_bytes=None)


def run(arguments: argparse.Namespace) -> int:
    """Compare two archives; trouble of any kind is 2, as of diff(1)."""
    try:
        found = _compare(arguments)
    except ArchiveError as error:
        complain(error, debug=arguments.debug)
        return TROUBLE
    lines = found.lines()
    if arguments.brief:
        said = f"{printable(found.a)} and {printable(found.b)} differ"
        lines = iter([] if found.equal else [said])
    show(arguments, lambda: _document(found), lines, rows=_rows(found), fields=_FIELDS)
    return OK if found.equal else DIFFERENT


def _compare(arguments: argparse.Namespace) -> Diff:
    from archive.tools import diff

    rounds = arguments.round or [None]
    other = arguments.b
    if other is None:
        if len(rounds) < 2:
            remedy = "name another, or two rounds of a run: --round 6,7"
            raise ArchiveError(
                "there is nothing to compare it with", path=shown_path(arguments.a), remedy=remedy
            )
        other = arguments.a
    sides = [(arguments.a, rounds[0]), (other, rounds[-1])]
    runs = [open_run(arguments, path) for path, _ in sides]
    handles = []
    for run, (path, number) in zip(runs, sides, strict=True):
        chosen = argparse.Namespace(**{**vars(arguments), "round": number})
        if run is None and any(runs):  # the other is a run, and --round and --client are for that
            chosen.round = chosen.client = None
        handles.append(open_file(chosen, path) if run is None else open_round(chosen, run))
    with handles[0] as one, handles[1] as two, progress_of(arguments, "comparing") as bar:
        try:
            return diff(
                one, two, keys=arguments.keys, rtol=arguments.rtol, atol=arguments.atol, progress=bar.report
            )
        except KeyError as error:
            remedy = "`fedarchive ls` lists the arrays"
            raise ArchiveError(str(error.args[0]), path=one.info.path, remedy=remedy) from error


def _document(found: Diff) -> dict[str, Any]:
    return {
        "a": found.a,
        "b": found.b,
        "equal": found.equal,
        "same": found.same,
        "only_a": [{"record": record, "key": key} for record, key in found.only_a],
        "only_b": [{"record": record, "key": key} for record, key in found.only_b],
        "changed": [_json(_facts(change)) for change in found.changed],
        "values": [_json(asdict(change)) for change in found.values],
    }


def _facts(change: ArrayDiff) -> dict[str, Any]:
    """Return what is known of an array; what says nothing where elements were not compared is None."""
    names = [field.name for field in fields(change)]
    unknown = [] if change.compared else names[names.index("compared") + 1 :]
    return {name: None if name in unknown else getattr(change, name) for name in names}


def _rows(found: Diff) -> Iterator[dict[str, Any]]:
    for what in ("only_a", "only_b"):
        yield from ({"what": what, "record": record, "key": key} for record, key in getattr(found, what))
    yield from ({"what": "array", **_facts(change)} for change in found.changed)
    yield from ({"what": "value", **asdict(change)} for change in found.values)


def _json(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        name: json_value(list(value) if isinstance(value, tuple) else value) for name, value in facts.items()
    }


def _rounds(text: str) -> list[int | str]:
    numbers = [round_number(part) for part in text.split(",")]
    if len(numbers) > 2:
        raise argparse.ArgumentTypeError(f"one round or two, not {text!r}")
    return numbers


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"a number of at least 0, not {text!r}")
    return value
