"""The handle of an open archive: records and arrays by name, read on demand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from archive.dtypes import NDArray
from archive.engine.progress import Report
from archive.engine.read.containers import Records, build_context, build_records
from archive.engine.read.reader import Reader
from archive.engine.read.recordvalues import record_values
from archive.engine.read.reference import Reference, reference_of
from archive.engine.read.storedpayload import lazy_array
from archive.format.constants import KIND_ARRAYS
from archive.format.index import RecordName
from archive.records import Array, Context, RecordSet
from archive.records.valuerecord import ConfigValue

if TYPE_CHECKING:
    from archive.engine.read.archiveinfo import Info
    from archive.engine.report import VerifyReport

__all__ = ["Archive", "reader_of", "select_rows"]


class Archive:
    """An open archive. Made by `archive.open`; a context manager; safe to share between threads.

    ``a["layer.weight"]`` finds an array in any record, ``a["model", "layer.weight"]`` in one;
    ``in``, ``len`` and iteration work on arrays, iteration yields ``(record, key)``. Handles and the
    arrays in them pickle by reference (address, options that are no secrets, digest of the footer), never by
    value. An unpickled one is opened when it is first used.

    Examples
    --------
    >>> import archive, numpy as np
    >>> report = archive.save({"w": np.arange(6.0).reshape(2, 3)}, "/tmp/fedarchive-handle.h5")
    >>> with archive.open("/tmp/fedarchive-handle.h5") as a:
    ...     a["w"].shape, a["w"][1:].tolist(), list(a)
    ((2, 3), [[3.0, 4.0, 5.0]], [('model', 'w')])
    """

    def __init__(self, reader: Reader | Reference, hidden: Collection[str] = ()) -> None:
        self._held = reader
        self._hidden = hidden  # configs that a store added, and that nobody is handed out

    @property
    def _reader(self) -> Reader:
        """The reader; a handle that was unpickled is opened now."""
        held = self._held
        if isinstance(held, Reference):
            held = self._held = held.open()
        return held

    @cached_property
    def records(self) -> Records:
        """The records as they were saved, their arrays still in the file.

        Changing them changes memory only; an archive is immutable.
        """
        return self._without_hidden(build_records(self._reader, None))

    @cached_property
    def info(self) -> Info:
        """Facts that are known without reading an array byte."""
        from archive.engine.read.archiveinfo import info_of  # for people: opening does without

        return info_of(self._reader)

    @property
    def attributes(self) -> dict[str, dict[str, ConfigValue]]:
        """Attributes of array records by record name, without records that have none."""
        found = record_values(self._reader, "attributes")
        return {record.name: attributes for record, attributes in found.items()}

    @property
    def context(self) -> Context:
        """The Context that was saved, its ``state`` the records of this archive.

        Raises
        ------
        TypeError
            Another container was saved.
        """
        return build_context(self._reader, self.records)

    def verify(self, *, progress: Report | None = None) -> VerifyReport:
        """Compare every byte of the file with its digest, and check what the bytes mean.

        Returns
        -------
        VerifyReport
            Damage and what breaks a rule of the format are reported, not raised.

        Raises
        ------
        VersionError
            A later version of the format wrote values that this one does not know.
        StorageError
            The file cannot be read, or its document takes more memory than is allowed.
        """
        from archive.engine.read.scan import verify_reader  # 3 ms that opening does without

        return verify_reader(self._reader, progress)

    def load(
        self, keys: str | Iterable[str | tuple[str, str]] | None = None, *, progress: Report | None = None
    ) -> Records:
        """Read arrays into private writable memory, as `archive.load`; tied arrays share theirs.

        Parameters
        ----------
        keys : str or iterable of str or (record, key), optional
            These arrays alone. A str that is no key may be a shell pattern (``*``, ``?``, ``[ab]``): one with
            a slash is matched with ``record/key``, any other with the key. Metrics and configs come along,
            but not the tree of a saved state, unless all arrays do.
        progress : callable, optional
            Called with (bytes read, bytes in all).

        Raises
        ------
        KeyError
            No array has one of the keys, or matches one of the patterns.
        DigestError, ClosedError

        Examples
        --------
        >>> import archive, numpy as np
        >>> arrays = {"a.w": np.ones(2), "a.b": np.zeros(2), "c": np.ones(3)}
        >>> _ = archive.save(arrays, "/tmp/fedarchive-handle.h5")
        >>> with archive.open("/tmp/fedarchive-handle.h5") as a:
        ...     list(a.load("a.*")["model"]), list(a.load(["c", "*.b"])["model"])
        (['a.w', 'a.b'], ['a.b', 'c'])
        """
        from archive.engine.read.load import load_records  # 2 ms that opening does without

        return self._without_hidden(load_records(self._reader, keys, progress))

    def drain(
        self, keys: str | Iterable[str | tuple[str, str]] | None = None
    ) -> Iterator[tuple[tuple[str, str], Array]]:
        """Yield ``((record, key), Array)`` of every array; its pages go back to the system afterwards.

        Those of a large array go back at the next step, those of small ones when they are 1 MiB. The file
        keeps everything, and views that the caller keeps stay valid: their pages are read again when they are
        touched. The next arrays of a remote archive are fetched meanwhile.

        Parameters
        ----------
        keys : str or iterable of str or (record, key), optional
            These arrays alone, each once, in this order; patterns as for `load`.

        Raises
        ------
        KeyError
            No array has one of the keys, or matches one of the patterns: when the first is asked for.
        DigestError, ClosedError
        """
        index, reader = self._reader.index, self._reader
        every = np.flatnonzero(self._kinds == KIND_ARRAYS).tolist() if keys is None else []
        rows = every if keys is None else list(dict.fromkeys(select_rows(reader, keys)))
        # for all rows at once: of 20,000 arrays, asked for one by one, these took a fourth of the time
        records = [index.records[number].name for number in index.record[rows].tolist()]
        names, types = zip(records, index.keys(rows), strict=True), index.type[rows].tolist()
        shapes = index.shapes() if len(rows) > 1 else dict(zip(rows, map(index.shape, rows), strict=True))
        ready: Iterable[int] = rows
        if reader.network:
            from archive.engine.read.prefetch import prefetch_rows  # for remote archives alone

            ready = prefetch_rows(reader, rows)
        try:
            for row, name, type_row in zip(ready, names, types, strict=True):
                try:
                    yield name, lazy_array(reader, row, shapes[row], type_row)
                finally:
                    reader.release(row)
        finally:
            reader.release_rest()

    def require_whole(self) -> None:
        """Verify all bytes now, and trust them from then on.

        Raises
        ------
        DamagedError, HostileFileError
            Naming the first place that does not match, or breaks a rule. The handle is closed then, as it is
            by whatever `verify` raises.
        """
        report = None
        try:
            report = self.verify()
        finally:
            if not report:
                self.close()
        if not report.ok:
            remedy, others = "take another copy, or an earlier round", len(report.failures) - 1
            raise report.failures[0].error(self._reader.path, remedy, others)
        self._reader.trust()

    def close(self) -> None:
        """Close the file. Views already handed out stay valid; other arrays raise ClosedError."""
        self._held.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._held.closed

    def __getitem__(self, key: str | tuple[str, str]) -> Array:
        reader, row = self._reader, self._find(key)
        return lazy_array(reader, row, reader.index.shape(row), reader.index.type.item(row))

    def __contains__(self, key: object) -> bool:
        if isinstance(key, str):
            return bool(self._rows(key))
        if isinstance(key, tuple) and len(key) == 2 and all(isinstance(part, str) for part in key):
            return any(self._record(row).name == key[0] for row in self._rows(key[1]))
        return False

    def __len__(self) -> int:
        return int((self._kinds == KIND_ARRAYS).sum())

    def __iter__(self) -> Iterator[tuple[str, str]]:
        index = self._reader.index
        for number, record in enumerate(index.records):
            if record.kind == KIND_ARRAYS:
                rows = np.flatnonzero(index.record == number).tolist()
                yield from ((record.name, key) for key in index.keys(rows))

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        from archive.engine.read.archivesummary import archive_text  # for people alone

        return archive_text(self)

    def _repr_html_(self) -> str:
        from archive.engine.read.archivesummary import archive_html

        return archive_html(self)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return what Dask knows the archive by: address without secrets, digest of the footer."""
        return "fedarchive.Archive", *reference_of(self._held).token, *sorted(self._hidden)

    def __reduce__(self) -> tuple[Any, ...]:
        return _handle, (self._hidden, *reference_of(self._held).arguments)

    def _without_hidden(self, records: Records) -> Records:
        space: Any = records.configs_records if isinstance(records, RecordSet) else records
        for name in self._hidden:
            space.pop(name, None)
        return records

    @cached_property
    def _kinds(self) -> NDArray:
        """Kind of the record of every row: values stored as datasets are rows too."""
        index = self._reader.index
        return np.asarray(index.record_rows["kind"][index.record])

    def _record(self, row: int) -> RecordName:
        index = self._reader.index
        number: int = index.record.item(row)
        return index.records[number]

    def _rows(self, key: str) -> list[int]:
        return self._reader.index.find(key, KIND_ARRAYS)

    def _find(self, key: str | tuple[str, str]) -> int:
        given: Any = key
        record, name = given if isinstance(given, tuple) and len(given) == 2 else (None, given)
        if not (isinstance(name, str) and (record is None or isinstance(record, str))):
            raise TypeError("an archive is indexed by key or by (record, key)")
        rows = self._reader.index.find(name, KIND_ARRAYS)
        if record is not None:
            rows = [row for row in rows if self._record(row).name == record]
        if len(rows) == 1:
            return rows[0]
        if rows:
            names = ", ".join(repr((self._record(row).name, name)) for row in rows)
            raise KeyError(f"{name!r} is in several records, name one: {names}")
        raise KeyError(f"no array {key!r}" + self._suggest(key, name))

    def _suggest(self, key: object, name: str) -> str:
        """Return what may have been meant by a key, for the error text."""
        keys = self._reader.index.keys(np.flatnonzero(self._kinds == KIND_ARRAYS)[:100_000].tolist())
        if name in keys and not self._rows(name):
            raise self._reader.index.origin.invalid(f"the name table does not lead to {name!r}")
        from archive.engine.read.suggestions import hint, suggestion  # after a mistake only

        records = {
            record.name: f"saved.records[{record.name!r}]"
            + f", or saved[{record.name!r}, KEY] for an array of it" * (record.kind == KIND_ARRAYS)
            for record in self._reader.index.records
        }
        return hint(key, records, self) or suggestion(name, keys)


def reader_of(handle: Archive) -> Reader:
    """Return the reader of an archive, for what the library does with open ones."""
    return handle._reader


def select_rows(reader: Reader, keys: str | Iterable[str | tuple[str, str]]) -> list[int]:
    """Return the rows of keys, (record, key) pairs and patterns; a str alone is one of these."""
    handle, index, wanted = Archive(reader), reader.index, [keys] if isinstance(keys, str) else list(keys)
    pairs: list[Any] = [(None, key) if isinstance(key, str) else key for key in wanted]
    if not all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], str) for pair in pairs):
        return [handle._find(key) for key in wanted]  # which says what a key is
    found: list[int] = []
    rows = index.find_many([key for _, key in pairs], KIND_ARRAYS)
    for row, (record, name), key in zip(rows, pairs, wanted, strict=True):
        if row >= 0 and record in (None, handle._record(row).name):
            found.append(row)
        elif isinstance(key, str) and not handle._rows(name) and not {*"*?[/"}.isdisjoint(key):
            from archive.engine.read.keypatterns import match_rows  # opening does without

            found += match_rows(reader, key)
        else:
            found.append(handle._find(key))
    return found


def _handle(hidden: Collection[str], *arguments: Any) -> Archive:
    """Unpickle a handle of its own, which can be closed without closing others."""
    return Archive(Reference(*arguments), hidden)
