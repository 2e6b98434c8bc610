"""A folder of rounds as Flower's how-to saves them, ``round-N-weights.npz``, into a store of rounds."""

from __future__ import annotations

from typing import Literal

from archive.checkpoints.npzfolder import NpzFolder, find_files
from archive.checkpoints.paths import round_path
from archive.checkpoints.store import CheckpointStore
from archive.engine.read.open import open_reader
from archive.errors import ArchiveError, DamagedError, ExistsError
from archive.storage.url import Location
from archive.tools.formats.archives import ArchiveContent
from archive.tools.formats.entries import Hasher, LeftOut, compare

__all__ = ["convert_rounds"]


def convert_rounds(
    source: Location,
    out: Location,
    names: list[str] | None,
    hasher: Hasher,
    *,
    verify: bool,
    decoded_bytes: int | None = None,
    errors: Literal["raise", "skip"] = "raise",
) -> list[LeftOut]:
    """Save each ``round-N-weights.npz`` of a folder as round N of a store, in order.

    All files are opened before the first round is saved, so that one that is not a ``.npz`` leaves the store
    as it was, unless it is to be left out. A round that the store has is compared: where its arrays are those
    of the file it is done, which is how a conversion that failed half-way goes on. A round takes memory for
    its arrays.

    Raises
    ------
    MissingError
        The folder has no such file.
    ExistsError
        The store has one of the rounds, with other arrays.
    ValueRangeError
        Two files are of one round.
    HostileFileError
        A file is no ``.npz``, or two of its arrays have one name; with ``errors="skip"`` only where no file
        is left.
    DamagedError
        A round that was read back is not what was written; it was removed.
    """
    folder = NpzFolder(find_files(source), names, decoded_bytes, hasher, skips=errors == "skip")
    folder.open_all()
    with CheckpointStore(out) as store:
        there = set(store.rounds())
        for number in sorted(folder.nbytes, key=lambda number: (number not in there, number)):
            _convert_round(folder, store, number, is_there=number in there, verify=verify)
    return folder.left_out


def _convert_round(
    folder: NpzFolder, store: CheckpointStore, number: int, *, is_there: bool, verify: bool
) -> None:
    """Save a round, and compare it; or compare the one that is there."""
    hasher = folder.hasher
    written = Hasher(hasher.report, hasher.total, hasher.done, passes=hasher.passes)
    try:
        arrays = folder.read(folder.files[number], written)
    except ArchiveError as error:
        folder.leave_out(number, error)
        return
    place = store._files.at(round_path(number))
    if is_there:
        if _read_back(written, place, counted=verify).found != written.found:
            raise ExistsError(
                f"round {number} is there already, with other arrays than {folder.files[number].name}",
                path=place.display,
                remedy="name another folder for the store, or remove this round",
            )
    else:
        store.save(arrays, number, background=False)
        if verify:
            try:
                compare(written.found, _read_back(written, place).found, place.display)
            except DamagedError:
                store.remove(number)  # it was not there before
                raise
    hasher.done = written.done
    hasher.array_bytes += written.array_bytes
    hasher.found |= {(str(number), key): found for (_, key), found in written.found.items()}


def _read_back(written: Hasher, place: Location, *, counted: bool = True) -> Hasher:
    """Return what a round holds; ``counted``: its bytes are among those that progress is told of."""
    again = Hasher(written.report if counted else None, written.total, written.done, passes=written.passes)
    with ArchiveContent(open_reader(place, access="pread", verify="first"), place) as back:
        again.watch_all(back)
    if counted:
        written.done = again.done
    return again
