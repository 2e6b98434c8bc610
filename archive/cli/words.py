"""What the words of a command line mean: archives, patterns, folders, and folders of runs."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from archive.cli.options import options_for, reading_options, runs_at
from archive.errors import ArchiveError, MissingError, StorageError, UnsupportedURLError
from archive.storage.url import Location, parse_url
from archive.tools.many import Input, find_inputs

__all__ = ["Target", "find_targets"]


@dataclass(frozen=True, slots=True)
class Target:
    """One archive, one run, or a word that means nothing."""

    path: str
    """As the user named it, without secrets; of a run its folder, or the folder with the runs."""
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
        if self.place is None:
            raise ValueError(f"{self.path} is no archive")
        return Input(self.path, self.place)


def find_targets(arguments: argparse.Namespace, words: Sequence[str]) -> list[Target]:
    """Return what words mean, in their order.

    A word is a path or URL, a pattern in quotes, a folder (every archive below it) or a folder with runs.
    A word that means nothing has an error.
    """
    found = []
    for word in words:
        try:
            found += _of_word(arguments, word)
        except ArchiveError as error:
            found.append(Target(word, error=error))
    return found


def _of_word(arguments: argparse.Namespace, word: str) -> list[Target]:
    if experiments := runs_at(arguments, word):
        return [Target(word, experiment=name) for name in experiments]
    found = _find_archives(arguments, word)
    named = [os.fspath(word)] == [one.path for one in found]
    return [Target(one.path, place=one.place, alone=named) for one in found]


def _find_archives(arguments: argparse.Namespace, word: str) -> list[Input]:
    options = reading_options(arguments, word)
    place = parse_url(word, options_for(arguments.options, word))
    if place.remote:
        if place.path.startswith(("http://", "https://")):
            return find_inputs([word], **options)  # a question mark begins its query
        if not any(char in word for char in "*?["):
            with contextlib.suppress(MissingError, UnsupportedURLError, StorageError):
                return find_inputs(word, **options, folders=True)
            return find_inputs([word], **options)  # no folder, or it cannot be listed
    return find_inputs(word, **options, folders=True)
