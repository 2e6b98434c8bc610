"""``fedarchive verify``: every byte of every file compared with its digest."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import archive
from archive.cli.exits import DAMAGED, OK, exit_code, worst
from archive.cli.options import define_reading, options_for, reading_options, runs_at
from archive.cli.text import name, print_json, printable, size
from archive.engine.report import VerifyReport
from archive.errors import ArchiveError
from archive.storage.url import URL, Location

if TYPE_CHECKING:
    from archive.checkpoints import RoundReport

__all__ = ["DESCRIPTION", "define", "run"]

DESCRIPTION = """\
Read every byte of every file, compare it with its digest, and check what the bytes mean. With several
files all are checked; the exit code is 1 if any is damaged, else 2 if any could not be checked, else 0. Of a
folder with runs: every round with the files of its clients, and every context.

JSON: ok, and files, a list of {path, ok, arrays, checked_bytes, unverifiable, failures, error};
failures is a list of {record, key, segment, offset, problem, bytes_match}; error is null, or
{kind, message} of a file that could not be opened, whose counts are then 0. Of a folder with runs also
rounds, a list of {path, round, ok, files, failures}; failures is a list of text; contexts are files."""


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", help="archives, or folders with runs: paths or URLs"
    )
    define_reading(parser)


def run(arguments: argparse.Namespace) -> int:
    """Verify files and runs one after the other."""
    outcome = _Outcome(arguments)
    for path in arguments.paths:
        experiments = runs_at(arguments, path)
        for experiment in experiments:
            outcome.verify_run(path, experiment)
        if not experiments:
            outcome.verify_file(path)
    if arguments.json:
        rounds = {"rounds": outcome.rounds} if outcome.rounds else {}
        print_json({"ok": not any(outcome.codes), "files": outcome.files, **rounds})
    return worst(outcome.codes)


class _Outcome:
    """What was verified so far."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.codes: list[int] = []
        self.files: list[dict[str, Any]] = []
        self.rounds: list[dict[str, Any]] = []

    def verify_file(self, path: URL) -> None:
        """Verify one archive."""
        shown = path.display if isinstance(path, Location) else str(path)
        try:
            report = archive.verify(path, **reading_options(self.arguments, shown))
        except ArchiveError as error:
            self.codes.append(exit_code(error))
            self.files.append(_unopened(shown, error))
            print(f"fedarchive: {printable(str(error))}", file=sys.stderr)
            return
        self.codes.append(OK if report.ok else DAMAGED)
        self.files.append({"path": shown, **asdict(report), "error": None})
        if not self.arguments.json:
            # flushed, so that a long run over many files shows how far it is
            print("\n".join(_lines(shown, report)), flush=True)

    def verify_run(self, path: str, experiment: str) -> None:
        """Verify every round and every context of a run."""
        from archive.checkpoints.runfacts import contexts_of

        options = options_for(self.arguments.options, path)
        store = archive.CheckpointStore(path, experiment or None, storage_options=options)
        for number in store.rounds():
            report = store.verify(number)
            self.codes.append(OK if report.ok else DAMAGED)
            self.rounds.append({"path": store.url, "ok": report.ok, **asdict(report)})
            if not self.arguments.json:
                print("\n".join(_round_lines(store.url, report)), flush=True)
        for context in contexts_of(store._files):
            self.verify_file(context)


def _round_lines(path: str, report: RoundReport) -> list[str]:
    shown = printable(path)
    if report.ok:
        return [f"{shown}: round {report.round}: ok, {report.files} files"]
    lines = [f"{shown}/{printable(failure)}" for failure in report.failures]
    return [*lines, f"{shown}: round {report.round}: DAMAGED in {len(report.failures)} places"]


def _unopened(path: str, error: ArchiveError) -> dict[str, Any]:
    nothing = asdict(VerifyReport(ok=False, arrays=0, checked_bytes=0, unverifiable=0, failures=()))
    return {"path": path, **nothing, "error": {"kind": type(error).__name__, "message": str(error)}}


def _lines(path: str, report: VerifyReport) -> list[str]:
    shown = printable(path)
    if report.ok:
        return [f"{shown}: ok, {report.arrays} arrays, {size(report.checked_bytes)} checked"]
    lines = [
        f"{shown}: {name(failure.record, failure.key) if failure.record else printable(failure.key)}: "
        f"{'' if failure.bytes_match else f'segment {failure.segment}, '}at byte {failure.offset}: "
        f"{printable(failure.problem)}"
        for failure in report.failures
    ]
    return [*lines, f"{shown}: DAMAGED in {len(report.failures)} places"]
