"""A folder of files ``round-N-weights.npz``: what is a round there, and what is left out of it."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass, field

from archive.dtypes import NDArray
from archive.errors import ArchiveError, MissingError, ValueRangeError
from archive.storage.folder import join, list_files
from archive.storage.url import Location, parse_url
from archive.tools.formats.entries import Content, Hasher, LeftOut, chunks_of
from archive.tools.formats.intake import renamed, require_distinct
from archive.tools.formats.kinds import open_content
from archive.tools.leftout import is_bad_input

__all__ = ["NpzFolder", "find_files"]

_ROUND = re.compile(r"round-([0-9]{1,18})(?:-weights)?\.npz")


def find_files(source: Location) -> dict[int, Location]:
    """Return the files of rounds by number, in order.

    Raises
    ------
    MissingError
        The folder has no such file.
    ValueRangeError
        Two files are of one round.
    """
    rounds: dict[int, str] = {}
    for entry in list_files(source.path, source.options or None, below=False):
        match = _ROUND.fullmatch(entry.path)
        if match and rounds.setdefault(int(match[1]), entry.path) != entry.path:
            raise ValueRangeError(
                f"{entry.path} and {rounds[int(match[1])]} are both of round {int(match[1])}",
                path=source.display,
                remedy="move one of them out of the folder",
            )
    if not rounds:
        raise MissingError(
            "no round-N-weights.npz in this folder", path=source.display, remedy="name the folder they are in"
        )
    return {
        number: parse_url(join(source.path, name), source.options or None)
        for number, name in sorted(rounds.items())
    }


@dataclass(slots=True)
class NpzFolder:
    """Files of rounds on their way into a store."""

    files: dict[int, Location]
    """By the numbers of rounds."""
    names: list[str] | None
    decoded_bytes: int | None
    hasher: Hasher
    """Takes note of what is converted."""
    skips: bool
    """Whether a bad file is left out."""
    nbytes: dict[int, int] = field(default_factory=dict)
    """Bytes of the elements of each round that is not left out."""
    left_out: list[LeftOut] = field(default_factory=list)

    def open_all(self) -> None:
        """Open each file: what is no ``.npz`` is found before a round is saved."""
        for number, file in list(self.files.items()):
            try:
                with self._open(file) as content:
                    self.nbytes[number] = sum(entry.nbytes for entry in content.entries)
                    self.left_out += [(f"{file.name}: {name}", reason) for name, reason in content.left_out]
            except ArchiveError as error:
                self.leave_out(number, error)
        self.hasher.total = sum(self.nbytes.values())

    def read(self, file: Location, written: Hasher) -> dict[str, NDArray]:
        """Return the arrays of a file; ``written`` takes note of them."""
        arrays = {}
        with self._open(file) as content:
            for entry, chunks in content.read(content.entries):
                arrays[entry.key] = entry.assemble(chunks)
                for _ in written.watch(entry, chunks_of(arrays[entry.key])):
                    pass
            content.require_unchanged()
        return arrays

    def _open(self, file: Location) -> Content:
        """Open the file of a round, its arrays under the names that were given."""
        content = open_content(file, "npz", self.decoded_bytes)
        with ExitStack() as undo:
            undo.callback(content.close)
            if self.names is not None:
                content.entries = renamed(content.entries, self.names, file)
            require_distinct(content, file)
            undo.pop_all()
        return content

    def leave_out(self, number: int, error: ArchiveError) -> None:
        """Leave a bad file out, or raise its error; that of the last file is raised, too."""
        if not self.skips or not is_bad_input(error) or len(self.files) == 1:
            raise error
        name = self.files.pop(number).name
        self.left_out = [one for one in self.left_out if not one[0].startswith(f"{name}: ")]
        self.left_out.append((name, error.problem))
        self.hasher.total -= self.nbytes.pop(number, 0)
        if self.hasher.report is not None and self.hasher.total:
            self.hasher.report(self.hasher.done, self.hasher.passes * self.hasher.total)
