"""Edits an archive: arrays replaced, added, deleted, renamed and cast, metrics and configs changed.

An archive is immutable: an edit writes another file, which takes the place of the first. What was not touched
is copied by the system where source and target are local, and keeps its digests, which what was written is
compared with.

Examples
--------
Parts of an archive put together (concat), taken apart (split) and converted (cast):

>>> import archive, numpy as np
>>> from archive.tools import edit
>>> _ = archive.save({"a.w": np.zeros(2, "f4"), "b.w": np.ones(2, "f4")}, "/tmp/fedarchive-whole.h5")
>>> with archive.open("/tmp/fedarchive-whole.h5") as whole:
...     for part in ("a", "b"):
...         arrays = {key: whole[record, key] for record, key in whole if key.startswith(f"{part}.")}
...         _ = archive.save(arrays, f"/tmp/fedarchive-part-{part}.h5")
>>> with (
...     archive.open("/tmp/fedarchive-part-b.h5") as other,
...     edit("/tmp/fedarchive-part-a.h5", "/tmp/fedarchive-joined.h5") as joined,
... ):
...     for name in other:
...         joined[name] = other[name]
>>> with edit("/tmp/fedarchive-joined.h5", "/tmp/fedarchive-half.h5") as half:
...     cast = half.cast("float16")
>>> {key: array.dtype for key, array in archive.load("/tmp/fedarchive-half.h5")["model"].items()}
{'a.w': 'float16', 'b.w': 'float16'}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any

from archive.engine.progress import Bar, Progress
from archive.engine.read.handle import Archive
from archive.engine.read.open import open_reader
from archive.engine.read.reader import Reader
from archive.engine.read.suggestions import suggestion
from archive.engine.report import SaveReport
from archive.engine.write.inputs import gather, source_of
from archive.engine.write.plan import timestamp
from archive.engine.write.saving import SaveOptions, save_inputs
from archive.errors import ClosedError, ReplacedError, ValueRangeError
from archive.format.constants import KIND_ARRAYS
from archive.owner import Owner
from archive.records import (
    GC_THRESHOLD,
    Array,
    ConfigRecord,
    MetricRecord,
)
from archive.records.tensors import is_tensor_like
from archive.storage.remote.staging import Spool
from archive.storage.url import URL, Cache, Location, parse_url
from archive.tools.conversion import (
    as_array,
    convert,
    is_floating,
    number_type,
    parse_number_type,
    require_convertible,
)
from archive.tools.editables import (
    NamedArrays,
    Slots,
    ValueRecords,
    add_record,
    members_with_prefix,
    require_texts,
)
from archive.tools.statetrees import StateTree, state_of

__all__ = ["Editor", "edit"]


def edit(
    url: URL,
    out: URL | None = None,
    *,
    created: datetime | str | None = None,
    overwrite: bool = True,
    durable: bool = True,
    spool: Spool = True,
    progress: Progress = None,
    cache: Cache = None,
    cache_bytes: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    out_options: Mapping[str, Any] | None = None,
) -> Editor:
    """Change an archive, which is replaced at once when the ``with`` block ends, and not after an exception.

    The file has the bytes that `archive.save` of the changed records gives. Arrays that are not touched are
    copied by the system where both files are local (which takes neither time nor room on file systems that
    share blocks), and read and written elsewhere. What was written is compared with the digests that these
    arrays have.

    Parameters
    ----------
    url : str or path-like
        The archive.
    out : str or path-like, optional
        Where the changed archive goes; ``url`` itself if not given, replaced at once as by `archive.save`.
    created : datetime or ISO 8601 str, optional
        Creation time; that of the archive if not given, so that equal edits of equal archives give equal
        bytes.
    overwrite, durable, spool, progress
        As for `archive.save`.
    cache, cache_bytes
        Of ``url``, as for `archive.open`.
    storage_options, out_options : mapping, optional
        Keyword arguments of the remote file system of ``url``, and of that of ``out``.

    Returns
    -------
    Editor
        To be used in a ``with`` statement.

    Raises
    ------
    NotAnArchiveError, TruncatedError, VersionError, DamagedError, HostileFileError
        ``url`` is not an archive, or its bytes are not what was saved.
    MissingError, StorageError, UnsupportedURLError
        ``url`` cannot be read.

    Notes
    -----
    The end of the block raises what `archive.save` does; DigestError where bytes of an array that was not
    touched are damaged, which is not published; and ReplacedError where another program replaced ``url``
    since it was opened and ``out`` is not given.

    Kept as they are: container, order of records and arrays, attributes of records, fields of a Context,
    metrics and configs, tied arrays, and members of the document that a program gave a prefix.

    Examples
    --------
    >>> import archive, numpy as np
    >>> from archive.tools import edit
    >>> _ = archive.save({"fc.weight": np.ones(3), "fc.bias": np.zeros(3)}, "/tmp/fedarchive-editing.h5")
    >>> with edit("/tmp/fedarchive-editing.h5") as e:
    ...     e["model", "fc.bias"] = np.full(3, 0.5, "f4")
    ...     e.rename("fc.weight", "head.weight")
    ...     e.metrics["fit"] = {"loss": 0.25}
    >>> with archive.open("/tmp/fedarchive-editing.h5") as a:
    ...     list(a), a["fc.bias"][:1].tolist(), a.records["fit"]
    ([('model', 'head.weight'), ('model', 'fc.bias')], [0.5], {'loss': 0.25})
    """
    source = parse_url(url, storage_options, cache, cache_bytes)
    target = parse_url(url, storage_options) if out is None else parse_url(out, out_options)
    text = "" if created is None else timestamp(created)
    # no map: bytes that somebody changes after they were checked would be written
    reader = open_reader(source, access="pread", verify="first")
    options = SaveOptions(target, text, overwrite, durable, True, spool, GC_THRESHOLD, None)
    with ExitStack() as opened:
        opened.callback(reader.close)
        editor = Editor(reader, options, source if out is None else None, progress)
        opened.pop_all()  # the editor closes it
    return editor


class Editor(NamedArrays):
    """An archive that is being changed. Made by `edit`; a context manager.

    ``e["model", "fc.weight"]`` is an array, and so is ``e["fc.weight"]`` where one record has that key;
    ``in``, ``len`` and iteration work on arrays, iteration yields ``(record, key)``, as of an `Archive`.

    What is assigned is an ndarray, a torch tensor or an Array, of another archive too. It replaces an array,
    or is added after the others of its record. Its elements are read when the block ends, so that its memory
    must not change before, and a tied array (two keys of one array) is untied: the other key keeps the old
    elements. One object under two keys ties them.

    ``del e["optimizer/*"]`` deletes what a pattern names, by the rule of `Archive.load`. A record whose last
    array was deleted stays, without arrays. The editor belongs to the process that made
    it: in the child of a fork leaving the block changes nothing.
    """

    def __init__(
        self, reader: Reader, options: SaveOptions, replaced: Location | None, progress: Progress
    ) -> None:
        self._reader, self._replaced, self._progress = reader, replaced, progress
        handle, document = Archive(reader), reader.values.document
        self._members = members_with_prefix(document)
        self._options = replace(options, created=options.created or document["created"])
        self._content: Any = handle.records
        if document["container"] == "context":
            self._content = handle.context
            found = members_with_prefix(document["context"])
            self._members |= {"context": found} if found else {}
        self._records = handle.records
        super().__init__({name: Slots(record) for name, record in self._records.array_records.items()})
        self._owner = Owner(reader.path)
        self._tree: StateTree | None = None
        self._report: SaveReport | None = None
        self.metrics: ValueRecords[MetricRecord] = ValueRecords(self._records, MetricRecord)
        """Metrics by record name: change a record, assign a mapping, delete."""
        self.configs: ValueRecords[ConfigRecord] = ValueRecords(self._records, ConfigRecord)
        """Configs by record name."""

    @property
    def report(self) -> SaveReport:
        """What was written, once it is published; ClosedError before."""
        if self._report is None:
            path = self._options.location.display
            raise ClosedError("nothing is published yet", path=path, remedy="leave the with block first")
        return self._report

    def rename(self, old: str | tuple[str, str], new: str | tuple[str, str]) -> None:
        """Give an array another key, and maybe another record; within its record it keeps its place.

        Raises
        ------
        KeyError
            There is no array ``old``.
        ValueRangeError
            There is an array ``new``; or the array is part of a saved state that has no place for ``new``.
        """
        record, key = self._find(old)
        target, name = new if isinstance(new, tuple) and len(new) == 2 else (record, new)
        require_texts(target, name)
        if (target, name) == (record, key):
            return
        if (target, name) in self:
            place = f"{target}/{name}"
            raise ValueRangeError("an array has that name already", key=place, remedy="delete it first")
        if state := self._state():
            state.rename((record, key), (target, name))
        if target == record:
            self._arrays[record].rename(key, name)
        else:
            self._record(target)[name] = self._arrays[record][key]
            del self._arrays[record][key]

    def cast(
        self, dtype: Any, keys: str | Iterable[str | tuple[str, str]] | None = None
    ) -> list[tuple[str, str]]:
        """Convert arrays of numbers to another type.

        Each element is rounded as ``ndarray.astype`` does, of numpy and ml_dtypes: to the nearest, halves to
        even; what is too large becomes infinite, or NaN where the type has no infinity; integers take the
        part before the point. Arrays of the archive are converted when they are written, 4 MiB at a time, and
        tied arrays stay tied.

        Parameters
        ----------
        dtype : str or dtype
            A type of numbers, such as ``"bfloat16"`` or ``"bf16"``, ``np.float16``, ``torch.float8_e4m3fn``.
        keys : str or iterable, optional
            Keys and patterns, as for `Archive.load`, and (record, key) pairs. If not given,
            all arrays of real floating-point numbers, but for the state of an optimizer in a saved state,
            whose counters of steps are floats too; integers and masks stay what they are.

        Returns
        -------
        list of (str, str)
            The arrays that were converted; those that have the type already are not among them.

        Raises
        ------
        KeyError
            Nothing has such a key, or matches the pattern.
        UnsupportedDtypeError
            An array that was named does not hold numbers, or only its complex numbers would fit.
        """
        wanted = parse_number_type(dtype)
        state = self._state()
        kept = state.optimizers if state and keys is None else frozenset()
        names = [name for name in self if name[0] not in kept] if keys is None else self._select(keys)
        chosen = []
        for record, key in names:
            found = number_type(self._arrays[record][key])
            if keys is not None:
                require_convertible(found, wanted, f"{record}/{key}")
            if found is not None and found != wanted and (keys is not None or is_floating(found)):
                chosen.append((record, key))
        if state:
            for name in chosen:
                state.require_plain(name)
        made: dict[int, Any] = {}  # one object under two keys is one afterwards
        for record, key in chosen:
            array = self._arrays[record][key]
            if id(array) not in made:
                made[id(array)] = array, convert(array, wanted)  # kept: its id must not be used again
            self._arrays[record][key] = made[id(array)][1]
        return chosen

    def __getitem__(self, key: str | tuple[str, str]) -> Array:
        self._require_open()
        record, name = self._find(key)
        return as_array(self._arrays[record][name])

    def __setitem__(self, key: str | tuple[str, str], array: Any) -> None:
        self._require_open()
        record, name = key if isinstance(key, tuple) and len(key) == 2 else self._place_of(key)
        require_texts(record, name)
        if not is_tensor_like(array):  # a tensor may be on another device
            source_of(array, (record, name))
        if state := self._state():
            state.replace((record, name))
        self._record(record)[name] = array

    def delete_record(self, name: str) -> None:
        """Delete all arrays of a record; of a saved state the part of that name, such as ``"optimizer"``.

        Raises
        ------
        KeyError
            There is no such record of arrays.
        ValueRangeError
            The saved state has these arrays elsewhere.
        """
        self._require_open()
        if name not in self._arrays:
            raise KeyError(f"no record of arrays {name!r}" + suggestion(name, self._arrays))
        if state := self._state():
            state.remove_part(name)
        del self._arrays[name], self._records.array_records[name]

    def __delitem__(self, key: str | tuple[str, str]) -> None:
        names = self._select(key) if isinstance(key, str) and key not in self else [self._find(key)]
        if state := self._state():
            state.remove(names)
        for record, name in names:
            del self._arrays[record][name]

    def __enter__(self) -> Editor:
        self._require_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._owner.is_here:
                self._publish()
        finally:
            self._reader.close()

    def _publish(self) -> None:
        if self._tree is not None:
            self._tree.store()
        inputs = gather(self._content, "", None, None)
        inputs.members = self._members
        for record in inputs.records:
            if record.kind == KIND_ARRAYS:
                record.arrays = self._arrays[record.name].items()
        with Bar(self._progress, f"editing {self._options.location.name}") as report:
            options = replace(self._options, progress=report, require=self._require_same)
            self._report = save_inputs(inputs, options)

    def _require_same(self) -> None:
        """Raise where the archive that is to be replaced was replaced since it was opened."""
        if self._replaced is None:
            return
        there = open_reader(self._replaced, access="pread", verify="first")
        there.close()
        if there.identity != self._reader.identity:
            raise ReplacedError(
                "another program replaced it since it was opened",
                path=there.path,
                remedy="edit it again; nothing was written",
            )

    def _written(self) -> dict[str, str]:
        values = {name: f"e.metrics[{name!r}]" for name in self.metrics}
        return values | {name: f"e.configs[{name!r}]" for name in self.configs} | super()._written()

    def _record(self, name: str) -> Slots:
        """Return the arrays of a record, which is added where it is not there."""
        if name not in self._arrays:
            add_record(self._records, name)
            self._arrays[name] = Slots({})
        return self._arrays[name]

    def _state(self) -> StateTree | None:
        self._tree = state_of(self.configs, self._tree, self._reader.path)
        return self._tree

    def _require_open(self) -> None:
        self._owner.require_here()
        self._reader.require_open()
