"""What the words of a command line mean: archives, patterns, folders, and folders of runs."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar, cast

import archive
from archive.cli.bars import ProgressBar
from archive.cli.exits import OK, exit_code
from archive.cli.options import open_file, open_round, options_for, reading_options, runs_at, shown_path
from archive.cli.output import complain
from archive.errors import ArchiveError, MissingError, StorageError, UnsupportedURLError
from archive.storage.url import Location, parse_url

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from archive.tools.many import Input

__all__ = ["Target", "TargetReader", "find_targets", "is_one", "store_of"]

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Target:
    """One archive, one run, or a word that means nothing."""

    path: str
    """As the user named it, of an archive without secrets; of a run the folder that was named."""
    place: Location | None = None
    """Of an archive."""
    experiment: str | None = None
    """Of a run: its name in the folder, empty for the folder itself."""
    error: ArchiveError | None = None
    alone: bool = True
    """The user named this archive or run itself, not by a pattern or a folder above it."""

    @property
    def input(self) -> Input:
        """The archive, for `read_each`."""
        from archive.tools.many import Input

        if self.place is None:
            raise ValueError(f"{self.path} is no archive")
        return Input(self.path, self.place)


def find_targets(
    arguments: argparse.Namespace, words: Sequence[str], *, beside_runs: bool = False
) -> list[Target]:
    """Return what words mean, in their order.

    A word is a path or URL, a pattern in quotes, a folder (every archive below it) or a folder with runs;
    ``beside_runs``: of that also the archives that are in none of its runs. A word that means nothing has an
    error.
    """
    found = []
    for word in words:
        try:
            found += _of_word(arguments, word, beside_runs=beside_runs)
        except ArchiveError as error:
            found.append(Target(shown_path(word), error=error))
    return found


def is_one(words: Sequence[str], targets: Sequence[Target]) -> bool:
    """Return whether the user named one archive or run, which is then shown in full, and not several.

    Raises
    ------
    ArchiveError
        The one word means nothing.
    """
    if len(words) == 1 and targets[0].error is not None:
        raise targets[0].error
    return len(words) == 1 and all(target.alone for target in targets)


def _of_word(arguments: argparse.Namespace, word: str, *, beside_runs: bool) -> list[Target]:
    if experiments := runs_at(arguments, word):
        runs = [Target(word, experiment=name) for name in experiments]
        return runs + (_beside(arguments, word, experiments) if beside_runs else [])
    from archive.tools.many import find_inputs
    from archive.tools.patterns import has_wildcards, may_be_several

    options, place = reading_options(arguments, word), parse_url(word, options_for(arguments.options, word))
    if may_be_several(place):
        try:
            found = find_inputs(word, **options, folders=True)
            return [Target(one.path, place=one.place, alone=False) for one in found]
        except (MissingError, UnsupportedURLError, StorageError):
            if not place.remote or has_wildcards(place):
                raise
            # no prefix of other names, or none that can be listed: it may be an object
    [one] = find_inputs([word], **options)
    return [Target(one.path, place=one.place)]


def _beside(arguments: argparse.Namespace, word: str, experiments: Sequence[str]) -> list[Target]:
    """Return the archives below a folder that are in none of its runs."""
    from archive.storage.folder import join, locate_folder
    from archive.tools.many import find_inputs
    from archive.tools.spelling import RUN_FOLDERS

    options = reading_options(arguments, word)
    root = locate_folder(word, options["storage_options"]).path
    of_runs = tuple(
        f"{join(root, *filter(None, [name]), folder)}/" for name in experiments for folder in RUN_FOLDERS
    )
    try:
        found = find_inputs(word, **options, folders=True)
    except MissingError:
        return []
    return [
        Target(one.path, place=one.place, alone=False)
        for one in found
        if not one.place.path.startswith(of_runs)
    ]


class TargetReader:
    """Reads what was named; one that cannot be read is reported, and does not stop the rest."""

    def __init__(
        self, arguments: argparse.Namespace, bar: ProgressBar, executor: Executor | None = None
    ) -> None:
        self.arguments = arguments
        self.bar = bar
        self.executor = executor
        """What reads several files; None for this process."""
        self.codes: list[int] = []
        """Exit codes of all."""
        self.errors: list[dict[str, str]] = []
        """For JSON: path, kind and message of what could not be read."""

    def read(
        self, targets: Sequence[Target], read: Callable[[archive.Archive], R]
    ) -> Iterator[tuple[str, R]]:
        """Yield the path of each and what a function reads of the open archive; of a run it opens a round."""
        for files, group in groupby(targets, key=lambda target: target.place is not None):
            if files:
                yield from self._read_files([target.input for target in group], read)
                continue
            for target in group:
                try:
                    if target.error is not None:
                        raise target.error
                    with open_round(self.arguments, store_of(self.arguments, target)) as handle:
                        self.codes.append(OK)
                        yield handle.info.path, read(handle)
                except ArchiveError as error:
                    self.fail(shown_path(target.path), error)

    def fail(self, path: str, error: ArchiveError) -> None:
        """Report one that cannot be read."""
        self.codes.append(exit_code(error))
        self.errors.append({"path": path, "kind": type(error).__name__, "message": str(error)})
        with self.bar.paused():
            complain(error, debug=self.arguments.debug)

    def _read_files(
        self, inputs: Sequence[Input], read: Callable[[archive.Archive], R]
    ) -> Iterator[tuple[str, R]]:
        from archive.tools.many import read_each

        several = len(inputs) > 1
        read_one = partial(_read_file, _reading(self.arguments), read)
        outcomes = read_each(
            read_one,
            inputs,
            errors="report",
            progress=self.bar.report if several else None,
            executor=self.executor if several else None,
        )
        with contextlib.closing(outcomes):
            for outcome in outcomes:
                if outcome.error is not None:
                    self.fail(outcome.input.path, outcome.error)
                else:
                    self.codes.append(OK)
                    yield outcome.input.path, cast("R", outcome.result)


def _reading(arguments: argparse.Namespace) -> argparse.Namespace:
    """Return what `open_file` needs of arguments: it goes to other processes."""
    names = ("round", "client", "foreign", "decoded_bytes")
    return argparse.Namespace(**{name: getattr(arguments, name) for name in names})


def _read_file(arguments: argparse.Namespace, read: Callable[[archive.Archive], R], place: Location) -> R:
    with open_file(arguments, place) as handle:
        return read(handle)


def store_of(arguments: argparse.Namespace, target: Target) -> archive.CheckpointStore:
    """Return the store of a run that was named."""
    options = options_for(arguments.options, target.path)
    return archive.CheckpointStore(target.path, target.experiment or None, storage_options=options)
