"""``fedarchive verify``: every byte of every file compared with its digest."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import Any

import archive
from archive.cli.exits import DAMAGED, OK, exit_code, worst
from archive.cli.options import define_reading, reading_options
from archive.cli.text import name, print_json, printable, size
from archive.engine.report import VerifyReport
from archive.errors import ArchiveError

__all__ = ["DESCRIPTION", "define", "run"]

DESCRIPTION = """\
Read every byte of every file, compare it with its digest, and check what the bytes mean. With several
files all are checked; the exit code is 1 if any is damaged, else 2 if any could not be checked, else 0.

JSON: ok, and files, a list of {path, ok, arrays, checked_bytes, unverifiable, failures, error};
failures is a list of {record, key, segment, offset, problem, bytes_match}; error is null, or
{kind, message} of a file that could not be opened, whose counts are then 0."""


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("paths", metavar="PATH", nargs="+", help="archives: paths or URLs")
    define_reading(parser)


def run(arguments: argparse.Namespace) -> int:
    """Verify files one after the other."""
    codes, files = [], []
    for path in arguments.paths:
        try:
            report = archive.verify(path, **reading_options(arguments, path))
        except ArchiveError as error:
            codes.append(exit_code(error))
            files.append(_unopened(path, error))
            print(f"fedarchive: {printable(str(error))}", file=sys.stderr)
            continue
        codes.append(OK if report.ok else DAMAGED)
        files.append({"path": path, **asdict(report), "error": None})
        if not arguments.json:
            # flushed, so that a long run over many files shows how far it is
            print("\n".join(_lines(path, report)), flush=True)
    if arguments.json:
        print_json({"ok": not any(codes), "files": files})
    return worst(codes)


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
