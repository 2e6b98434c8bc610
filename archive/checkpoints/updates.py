"""What the clients of a round changed: their arrays less those of the global model that they started from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from archive.checkpoints.roundfile import open_named
from archive.checkpoints.stacks import StackedFile
from archive.dtypes import NDArray
from archive.engine.read.handle import Archive
from archive.errors import ArchiveError, ValueRangeError
from archive.tools.arraystats import array_rows, number_type
from archive.tools.leftout import is_bad_input, without_traceback
from archive.tools.many import Errors, require_errors
from archive.tools.tabulation import Table, texts, warn_skipped
from archive.workers import map_archives

__all__ = ["Update", "Updates", "match_names", "number_names"]

Name: TypeAlias = tuple[str, str]
"""Record and key."""


class Update(Mapping[tuple[str, str], NDArray]):
    """What one client changed, by (record, key) of the global model; read and subtracted when asked for.

    Arrays of fewer than four bytes an element are subtracted as float32, integers and bool as float64.
    """

    def __init__(self, client: StackedFile, base: _Model) -> None:
        self._file, self._base = client, base
        self._names: dict[Name, Name] | None = None

    @property
    def client(self) -> str:
        """Name of the client."""
        return self._file.client or ""

    @property
    def path(self) -> str:
        """Path or URL of its file."""
        return self._file.place.display

    def __getitem__(self, name: tuple[str, str]) -> NDArray:
        with self._open() as opened:
            return self._difference(opened, name)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._common())

    def __len__(self) -> int:
        return len(self._common())

    def __repr__(self) -> str:
        return f"<fedarchive.Update of {self._file.name}>"

    def norm(self) -> float:
        """Return the Euclidean norm of all that changed."""
        return float(np.sqrt(sum(_dot(change, change) for _, change in self.changes())))

    def cosine(self, other: Mapping[tuple[str, str], NDArray]) -> float:
        """Return the cosine of the angle to another update, or to arrays of the same names; NaN of zeros."""
        with np.errstate(invalid="ignore", divide="ignore"):
            products = np.zeros(3)
            for name, change in self.changes():
                theirs = np.asarray(other[name])
                products += _dot(change, theirs), _dot(change, change), _dot(theirs, theirs)
            return float(products[0] / np.sqrt(products[1]) / np.sqrt(products[2]))

    def changes(self) -> Iterator[tuple[tuple[str, str], NDArray]]:
        """Yield each name and what changed, one after the other, while the file of the client is open."""
        with self._open() as opened:
            for name in self._common(opened):
                yield name, self._difference(opened, name)

    def _open(self) -> Archive:
        return open_named(self._file.place, self._file.digest)

    def _common(self, opened: Archive | None = None) -> dict[Name, Name]:
        """Return the names of the global model whose arrays the client has, and how it calls them."""
        if self._names is None:
            if opened is None:
                with self._open() as opened:
                    return self._common(opened)
            self._names = match_names(list(self._base.names), number_names(opened))
            if not self._names:
                raise ValueRangeError(
                    f"{self._file.name} has no array of the global model of {self._base.file.name}",
                    path=self._file.place.display,
                    remedy="read what it has by open(round, client=...)",
                )
        return self._names

    def _difference(self, opened: Archive, name: Name) -> NDArray:
        found = self._common(opened)
        if name not in found:
            raise KeyError(f"{self._file.name} changed no {name!r}")
        mine, base = _number(opened[found[name]].numpy()), self._base[name]
        if mine.shape != base.shape:
            raise ValueRangeError(
                f"{self._file.name} has the shape {mine.shape}, and {self._base.file.name} has {base.shape}",
                path=self._file.place.display,
                key="/".join(found[name]),
                remedy="these are not weights of this global model",
            )
        change: NDArray = np.subtract(mine, base)
        return change


class Updates(Mapping[str, Update]):
    """What each client of a round changed, by its name. Made by `CheckpointStore.updates`.

    Nothing is read before it is asked for. In memory are the global model, as far as it was read, and one
    array of a client at a time; `drift` of a remote store reads 16 clients at once.
    """

    def __init__(self, clients: Sequence[StackedFile], base: StackedFile, new: StackedFile) -> None:
        self._base, self._new = _Model(base), _Model(new)
        self._updates = {file.client or "": Update(file, self._base) for file in clients}

    def __getitem__(self, client: str) -> Update:
        return self._updates[client]

    def __iter__(self) -> Iterator[str]:
        return iter(self._updates)

    def __len__(self) -> int:
        return len(self._updates)

    def __repr__(self) -> str:
        return f"<fedarchive.Updates of {self._new.file.name}: {len(self)} clients>"

    def drift(self, *, errors: Errors = "raise") -> Table:
        """Return how far each client went, and whether the global model went there.

        Parameters
        ----------
        errors : {"raise", "skip", "column"}, default "raise"
            What a client's file that is damaged or missing does: as for `archive.table`.

        Returns
        -------
        Table
            One row a client: ``client``; ``norm`` of its update; ``relative``, that by the norm of the same
            arrays of the global model that it started from; and ``cosine`` of its update with the step of the
            global model in this round: 1 where both have one direction, NaN where one of them is zero.
            With ``errors="column"`` also ``error``, None for files that could be read.

        Raises
        ------
        ArchiveError
            One of the two global models cannot be read; or a client's file, with ``errors="raise"``.
        ValueError
            Another word for ``errors``.
        """
        require_errors(errors)
        measure = self._row if errors == "raise" else self._row_or_error
        measured = map_archives(measure, self._updates.values(), remote=self._base.file.place.remote)
        rows = dict(zip(self._updates, measured, strict=True))
        failed = {client: row for client, row in rows.items() if isinstance(row, ArchiveError)}
        failures = [(self[client].path, error) for client, error in failed.items()]
        if errors == "skip":
            rows = {client: row for client, row in rows.items() if client not in failed}
            warn_skipped(failures, len(self))
        nothing = (np.nan,) * 3
        numbers = [nothing if isinstance(row, ArchiveError) else row for row in rows.values()]
        named = np.array(numbers, np.float64).reshape(-1, 3)
        columns = {"client": texts(list(rows))}
        columns |= {name: named[:, at].copy() for at, name in enumerate(("norm", "relative", "cosine"))}
        if errors == "column":
            columns["error"] = texts([str(failed[client]) if client in failed else None for client in rows])
        return Table(columns, failures=failures)

    def _row_or_error(self, update: Update) -> tuple[float, float, float] | ArchiveError:
        """Return the error of the client's file; that of a global model says nothing about a client."""
        try:
            return self._row(update)
        except ArchiveError as error:
            if error.path != update.path or not is_bad_input(error):
                raise
            return without_traceback(error)

    def _row(self, update: Update) -> tuple[float, float, float]:
        mine = before = step = both = 0.0
        for name, change in update.changes():
            mine += _dot(change, change)
            before += _dot(self._base[name], self._base[name])
            if name in self._new.names:
                moved = np.subtract(self._new[name], self._base[name])
                step += _dot(moved, moved)
                both += _dot(change, moved)
        with np.errstate(invalid="ignore", divide="ignore"):
            relative, cosine = np.float64(mine) / before, both / np.sqrt(mine) / np.sqrt(step)
            return float(np.sqrt(mine)), float(np.sqrt(relative)), float(cosine)


class _Model:
    """The numbers of a global model, each kept once it was read."""

    def __init__(self, file: StackedFile) -> None:
        self.file = file
        self._opened: Archive | None = None
        self._read: dict[Name, NDArray] = {}

    @cached_property
    def names(self) -> dict[Name, None]:
        """Names of its arrays of numbers."""
        return dict.fromkeys(number_names(self._open()))

    def __getitem__(self, name: Name) -> NDArray:
        if name not in self._read:
            self._read[name] = _number(self._open()[name].numpy())
        return self._read[name]

    def _open(self) -> Archive:
        if self._opened is None:
            self._opened = open_named(self.file.place, self.file.digest)
        return self._opened


def number_names(opened: Archive) -> list[Name]:
    """Return the names of arrays of numbers; what a foreign serialization holds is up to somebody else."""
    index = opened._reader.index
    numbers = [number_type(kind) is not None for kind in index.types]
    rows = [row for row in array_rows(opened._reader, None) if numbers[index.type.item(row)]]
    records = [index.records[number].name for number in index.record[rows].tolist()]
    return list(zip(records, index.keys(rows), strict=True))


def match_names(names: Sequence[Name], theirs: Sequence[Name]) -> dict[Name, Name]:
    """Return their name of each of our arrays: the same, else the one with the same key in another record.

    Examples
    --------
    >>> match_names([("model", "w"), ("model", "b")], [("reply", "w"), ("drift", "w2"), ("model", "b")])
    {('model', 'w'): ('reply', 'w'), ('model', 'b'): ('model', 'b')}
    """
    known, by_key = set(theirs), dict[str, list[Name]]()
    for name in theirs:
        by_key.setdefault(name[1], []).append(name)
    ours = Counter(key for _, key in names)
    found = {}
    for name in names:
        same = by_key.get(name[1], [])
        if name in known:
            found[name] = name
        elif len(same) == 1 and ours[name[1]] == 1:
            found[name] = same[0]
    return found


def _number(elements: NDArray) -> NDArray:
    """Return elements that can be subtracted without loss of sign or range."""
    dtype = elements.dtype
    if dtype.kind == "c" or (dtype.kind == "f" and dtype.itemsize >= 4):
        return elements
    return elements.astype(np.float64 if dtype.kind in "biu" else np.float32)


def _dot(one: Any, other: Any) -> float:
    """Return the sum of products, in float64; of complex numbers its real part."""
    wide = np.complex128 if "c" in (one.dtype.kind, other.dtype.kind) else np.float64
    return float(np.vdot(one.astype(wide).reshape(-1), other.astype(wide).reshape(-1)).real)
