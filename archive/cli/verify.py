"""``fedarchive verify``: every byte of every file compared with its digest."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from archive.cli.bars import progress_of
from archive.cli.executors import chosen_executor, define_executor
from archive.cli.exits import DAMAGED, OK, worst
from archive.cli.options import define_reading, shown_path
from archive.cli.output import show
from archive.cli.style import red
from archive.cli.text import name, printable, size
from archive.cli.words import Target, TargetReader, find_targets, store_of
from archive.display.texts import counted
from archive.errors import ArchiveError

if TYPE_CHECKING:
    from archive.checkpoints import RoundReport
    from archive.engine.report import VerifyReport
    from archive.tools.many import Input

__all__ = ["DESCRIPTION", "define", "run"]

DESCRIPTION = """\
Read every byte of every file, compare it with its digest, and check what the bytes mean. PATH is an
archive, a pattern in quotes, or a folder: every archive below it. Of a folder with runs: every round with
the files of its clients, every context, and every archive beside the runs. All are checked, whatever is wrong
with some; the exit code is 1 if any is damaged, else 2 if any could not be checked, else 0.

JSON: ok, and files, a list of {path, ok, arrays, checked_bytes, unverifiable, failures, error};
failures is a list of {record, key, segment, offset, problem, bytes_match}; error is null, or
{kind, message} of a file that could not be opened, whose counts are then 0. Of a folder with runs also
rounds, a list of {path, round, ok, files, failures}; failures is a list of text; contexts are files.
CSV: a row for each file and round, with the columns of both."""

_FIELDS = (
    *("path", "round", "ok", "files", "arrays", "checked_bytes", "unverifiable", "failures"),
    *("error", "message"),
)

SHOWN_BAD = 8
"""Files and rounds that the last line names."""
Result = tuple[dict[str, Any], list[str]]
"""Facts about a file or a round, and what people are told of it."""


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", help="archives, patterns or folders: paths or URLs"
    )
    define_executor(parser)
    define_reading(parser)


def run(arguments: argparse.Namespace) -> int:
    """Verify files and runs."""
    with chosen_executor(arguments) as executor, progress_of(arguments, "verifying", "archives") as bar:
        checks = _Checks(arguments, bar, executor)
        show(arguments, checks.document, checks.lines(), rows=checks.rows(), fields=_FIELDS, say=bar.say)
    return worst(checks.codes)


class _Checks(TargetReader):
    """Verifies what was named, one after the other."""

    def results(self) -> Iterator[Result]:
        """Verify, and yield what is found as it is found."""
        targets = find_targets(self.arguments, self.arguments.paths, beside_runs=True)
        for files, group in groupby(targets, key=lambda target: target.place is not None):
            if files:
                yield from self._verify_files([target.input for target in group])
                continue
            for target in group:
                try:
                    if target.error is not None:
                        raise target.error
                    yield from self._verify_run(target)
                except ArchiveError as error:
                    yield self._failed(shown_path(target.path), error)

    def lines(self) -> Iterator[str]:
        """Yield what people are told; of several files and rounds the last line says which are not ok."""
        checked, bad = 0, list[str]()
        for facts, told in self.results():
            yield from told
            checked += 1
            if not facts["ok"]:
                whose = f": round {facts['round']}" if "round" in facts else ""
                bad.append(f"{printable(facts['path'])}{whose}")
        if checked > 1:
            yield _summary(checked, bad)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of CSV."""
        for facts, _ in self.results():
            error = facts.get("error") or {}
            yield {**facts, "error": error.get("kind"), "message": error.get("message")}

    def document(self) -> dict[str, Any]:
        """Return the JSON document."""
        found = [facts for facts, _ in self.results()]
        rounds = [facts for facts in found if "round" in facts]
        files = [facts for facts in found if "round" not in facts]
        return {"ok": not any(self.codes), "files": files, **({"rounds": rounds} if rounds else {})}

    def _verify_files(self, inputs: Sequence[Input]) -> Iterator[Result]:
        from archive.tools.many import read_each
        from archive.tools.verification import verify_place

        alone = len(inputs) == 1  # its bytes are counted, else archives are
        outcomes = read_each(
            partial(verify_place, progress=self.bar.report if alone else None),
            inputs,
            errors="report",
            progress=None if alone else self.bar.report,
            executor=None if alone else self.executor,
        )
        with closing(outcomes):
            for outcome in outcomes:
                path = outcome.input.path
                if outcome.error is not None:
                    yield self._failed(path, outcome.error)
                elif outcome.result is not None:
                    self.codes.append(OK if outcome.result.ok else DAMAGED)
                    facts = {"path": path, **asdict(outcome.result), "error": None}
                    yield facts, _lines(path, outcome.result)

    def _verify_run(self, target: Target) -> Iterator[Result]:
        """Verify every round and every context of a run."""
        from archive.checkpoints.runfacts import contexts_of
        from archive.tools.many import Input

        store = store_of(self.arguments, target)
        for number in store.rounds():
            report = store.verify(number)
            self.codes.append(OK if report.ok else DAMAGED)
            yield {"path": store.url, "ok": report.ok, **asdict(report)}, _round_lines(store.url, report)
        yield from self._verify_files([Input(place.display, place) for place in contexts_of(store._files)])

    def _failed(self, path: str, error: ArchiveError) -> Result:
        self.fail(path, error)
        return _unopened(path, error), []


def _round_lines(path: str, report: RoundReport) -> list[str]:
    shown = printable(path)
    if report.ok:
        return [f"{shown}: round {report.round}: ok, {counted(report.files, 'file')}"]
    lines = [f"{shown}/{printable(failure)}" for failure in report.failures]
    return [
        *lines,
        f"{shown}: round {report.round}: {red('DAMAGED')} in {counted(len(report.failures), 'place')}",
    ]


def _summary(checked: int, bad: Sequence[str]) -> str:
    """Return the last line.

    Examples
    --------
    >>> _summary(3, []), _summary(9, ["a.h5", "b.h5"])
    ('all 3 are ok', '2 of 9 are not ok: a.h5, b.h5')
    """
    if not bad:
        return f"all {checked} are ok"
    more = len(bad) - SHOWN_BAD
    named = ", ".join(bad[:SHOWN_BAD]) + (f" and {more} more" if more > 0 else "")
    return f"{red(f'{len(bad)} of {checked}')} {'is' if len(bad) == 1 else 'are'} not ok: {named}"


def _unopened(path: str, error: ArchiveError) -> dict[str, Any]:
    from archive.engine.report import VerifyReport

    nothing = asdict(VerifyReport(ok=False, arrays=0, checked_bytes=0, unverifiable=0, failures=()))
    return {"path": path, **nothing, "error": {"kind": type(error).__name__, "message": str(error)}}


def _lines(path: str, report: VerifyReport) -> list[str]:
    shown = printable(path)
    if report.ok:
        return [f"{shown}: ok, {counted(report.arrays, 'array')}, {size(report.checked_bytes)} checked"]
    lines = [
        f"{shown}: {name(failure.record, failure.key) if failure.record else printable(failure.key)}: "
        f"{'' if failure.bytes_match else f'segment {failure.segment}, '}at byte {failure.offset}: "
        f"{printable(failure.problem)}"
        for failure in report.failures
    ]
    return [*lines, f"{shown}: {red('DAMAGED')} in {counted(len(report.failures), 'place')}"]
