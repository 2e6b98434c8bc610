"""A folder of rounds as Flower's how-to saves them, ``round-N-weights.npz``, into a store of rounds."""

from __future__ import annotations

import re
from contextlib import ExitStack

from archive.checkpoints.store import CheckpointStore
from archive.engine.read.open import open_reader
from archive.errors import DamagedError, ExistsError, MissingError, ValueRangeError
from archive.storage.folder import join, list_files
from archive.storage.url import Location, parse_url
from archive.tools.formats.archives import ArchiveContent
from archive.tools.formats.entries import Content, Hasher, LeftOut, chunks_of, compare
from archive.tools.formats.intake import renamed, require_distinct
from archive.tools.formats.kinds import open_content

__all__ = ["convert_rounds"]

_ROUND = re.compile(r"round-([0-9]{1,18})(?:-weights)?\.npz")


def convert_rounds(
    source: Location,
    out: Location,
    names: list[str] | None,
    hasher: Hasher,
    *,
    verify: bool,
    decoded_bytes: int | None = None,
) -> list[LeftOut]:
    """Save each ``round-N-weights.npz`` of a folder as round N of a store, in order.

    All files are opened before the first round is saved, so that one that is not a ``.npz`` leaves the store
    as it was. A round takes memory for its arrays.

    Raises
    ------
    MissingError
        The folder has no such file.
    ExistsError
        The store has one of the rounds.
    ValueRangeError
        Two files are of one round.
    HostileFileError
        A file is no ``.npz``, or two of its arrays have one name.
    DamagedError
        A round that was read back is not what was written; it was removed.
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
    left_out: list[LeftOut] = []
    files = {
        number: parse_url(join(source.path, name), source.options or None)
        for number, name in sorted(rounds.items())
    }
    for number, file in files.items():
        with _open_round(file, names, decoded_bytes) as content:
            hasher.total += sum(entry.nbytes for entry in content.entries)
            left_out += [(f"{rounds[number]}: {name}", reason) for name, reason in content.left_out]
    with CheckpointStore(out) as store:
        there = set(store.rounds()) & files.keys()
        if there:
            raise ExistsError(
                f"round {min(there)} is there already",
                path=out.display,
                remedy="name another folder for the store",
            )
        for number, file in files.items():
            with _open_round(file, names, decoded_bytes) as content:
                _convert_round(store, number, content, hasher, out if verify else None)
    return left_out


def _open_round(file: Location, names: list[str] | None, decoded_bytes: int | None) -> Content:
    """Open the file of a round, its arrays under the names that were given."""
    content = open_content(file, "npz", decoded_bytes)
    with ExitStack() as undo:
        undo.callback(content.close)
        if names is not None:
            content.entries = renamed(content.entries, names, file)
        require_distinct(content, file)
        undo.pop_all()
    return content


def _convert_round(
    store: CheckpointStore, number: int, content: Content, hasher: Hasher, out: Location | None
) -> None:
    """Save one round, and compare it where ``out`` says how it is reached."""
    written = Hasher(hasher.report, hasher.total, hasher.done, passes=hasher.passes)
    arrays = {}
    for entry, chunks in content.read(content.entries):
        arrays[entry.key] = entry.assemble(chunks)
        for _ in written.watch(entry, chunks_of(arrays[entry.key])):
            pass
    content.require_unchanged()
    report = store.save(arrays, number, background=False)
    if out is not None:
        try:
            again = _read_back(written, parse_url(report.url, out.options or None))
        except DamagedError:
            store.remove(number)  # it was not there before
            raise
        written.done = again.done
    hasher.done = written.done
    hasher.array_bytes += written.array_bytes
    hasher.found |= {(str(number), key): found for (_, key), found in written.found.items()}


def _read_back(written: Hasher, place: Location) -> Hasher:
    """Compare a round with what was written."""
    again = Hasher(written.report, written.total, written.done, passes=written.passes)
    with ArchiveContent(open_reader(place, access="pread", verify="first"), place) as back:
        again.watch_all(back)
    compare(written.found, again.found, place.display)
    return again
