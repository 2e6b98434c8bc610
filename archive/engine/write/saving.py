"""A save from inputs to a published file: planned, streamed, and either of them consuming."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from archive.engine.attributes import EncodedValue, encode_context, encode_record
from archive.engine.progress import Report
from archive.engine.report import SaveReport
from archive.engine.write.consume import Consumption
from archive.engine.write.finiteness import FinitenessCheck
from archive.engine.write.inputs import Inputs, RecordInput, source_of
from archive.engine.write.plan import Plan, Preamble, make_plan, require_readable
from archive.engine.write.seal import complete
from archive.engine.write.stream import ArchiveStream
from archive.engine.write.writer import write_plan
from archive.errors import ArchiveError, PartialSaveError, StorageError
from archive.format.constants import KIND_ARRAYS
from archive.format.digests import digest
from archive.format.footer import Footer
from archive.format.index import RecordName
from archive.storage.local.journal import ForgetfulJournal, Journal, read_journal
from archive.storage.location import locate_partial, locate_sink
from archive.storage.protocols import Sink
from archive.storage.remote.staging import Spool, parse_spool
from archive.storage.url import Location

__all__ = ["SaveOptions", "report_of", "save_inputs"]


@dataclass(frozen=True, slots=True)
class SaveOptions:
    """How to save."""

    location: Location
    """Where to."""
    created: str
    """Creation time, as in the index."""
    overwrite: bool
    """Replace what is there."""
    durable: bool
    """Sync file and folder."""
    keep_input: bool
    """Leave the caller's containers as they are."""
    spool: Spool
    """Where what cannot be sent as it comes, or must outlive a failure, is collected."""
    gc_threshold: int
    """Bytes consumed between two garbage collections."""
    progress: Report | None
    """Called with (bytes written, bytes in all)."""
    require: Callable[[], object] | None = None
    """Called when all is written; nothing is published where it raises."""
    check: FinitenessCheck | None = None
    """Looks at what is written."""


def save_inputs(inputs: Inputs, options: SaveOptions) -> SaveReport:
    """Save records: planned where all of them are known, else as they come."""
    for record in inputs.records:
        # all there already, so that everything is checked before a byte is written
        if isinstance(record.arrays, Iterator) and isinstance(record.container, (list, tuple, Mapping)):
            record.arrays = list(record.arrays)
    content = _Content(inputs, options)
    streamed = any(isinstance(record.arrays, Iterator) for record in inputs.records)
    plan = None if streamed else make_plan(inputs, content.preamble, content.values)
    if streamed:
        require_readable(list(content.values), dict(enumerate(content.values.values())), content.preamble)
    if not options.keep_input:
        if plan is None:
            return _consume_stream(content, options)
        return _consume_plan(plan, content, options)
    sink = _sink_of(options, plan)
    clock = report_of(sink.path)
    try:
        if plan is None:
            plan, footer = _write_stream(content, options, sink)
        else:
            sink.reserve(plan.file_bytes)
            footer = write_plan(plan, sink, options.progress, check=options.check)
        if options.require is not None:
            options.require()
        sink.publish()
    finally:
        sink.discard()
    return clock(plan, footer)


class _Content:
    """What is saved: its arrays as they came, everything else validated and encoded once."""

    def __init__(self, inputs: Inputs, options: SaveOptions) -> None:
        self.records = inputs.records
        context = None if inputs.context is None else encode_context(inputs.context)
        self.preamble = Preamble(inputs.container, options.created, context, inputs.members)
        self.values: dict[RecordName, list[EncodedValue]] = {}
        """Metrics and configs by record, and the attributes of array records."""
        for record in inputs.records:
            if record.kind != KIND_ARRAYS or record.attributes:
                name = RecordName(record.kind, record.name)
                values = record.values or record.attributes
                self.values[name] = encode_record(name, values, record.attribute_bytes)


def _sink_of(options: SaveOptions, plan: Plan | None) -> Sink:
    return locate_sink(
        options.location,
        overwrite=options.overwrite,
        durable=options.durable,
        push=plan is None,
        nbytes=0 if plan is None else plan.file_bytes,
        spool=options.spool,
    )


def report_of(url: str) -> Callable[[Plan, Footer], SaveReport]:
    """Start a clock; what is returned stops it and tells what was written."""
    started = time.perf_counter()

    def report(plan: Plan, footer: Footer) -> SaveReport:
        return SaveReport(
            url=url,
            arrays=len(plan.table.keys),
            array_bytes=plan.schema.array_bytes,
            file_bytes=plan.file_bytes,
            seconds=time.perf_counter() - started,
            digest=digest(footer.pack()).hex(),
        )

    return report


def _write_stream(
    content: _Content,
    options: SaveOptions,
    sink: Sink,
    journal: Journal | None = None,
) -> tuple[Plan, Footer]:
    """Write records as they come; with a journal, noting each array that arrived."""
    stream = ArchiveStream(sink, content.preamble, options.progress, options.check)
    if journal is not None:
        consumption = Consumption(journal, stream.rows, stream.names, _leave, options.gc_threshold)
        consumption.begin(content.preamble, content.values)
        stream.consumption = consumption
    for record in content.records:
        if record.kind == KIND_ARRAYS:
            stream.add_record(record.name)
            _add_all(stream, record)
    return stream.finish(content.values)


def _add_all(stream: ArchiveStream, record: RecordInput) -> None:
    arrays = iter(record.arrays)
    while True:
        pair = next(arrays, None)
        if pair is None:
            return
        stream.require_new(record.name, pair[0])
        spec, source, _ = source_of(pair[1], (record.name, pair[0]))
        stream.add(record.name, pair[0], spec, source)
        # nothing may hold the array while the caller makes the next: two of the largest would be alive
        del pair, source


def _leave(row: int) -> None:
    """Take nothing: what an iterator yielded is gone by itself."""


def _consume_stream(content: _Content, options: SaveOptions) -> SaveReport:
    with _consuming(options, None) as consuming:
        plan, footer = _write_stream(content, options, consuming.sink, consuming.journal)
        return consuming.publish(plan, footer)


def _consume_plan(plan: Plan, content: _Content, options: SaveOptions) -> SaveReport:
    table = plan.table
    owners = [_owner(record) for record in content.records]
    first: dict[int, int] = {}
    for row, number in enumerate(table.record):
        first.setdefault(number, row)
    for record in content.records:
        record.arrays = ()  # drop our iterator: it would keep consumed arrays alive

    def take(row: int) -> None:
        # only what was written: the caller may have put something else there meanwhile
        number = table.record[row]
        owner, given = owners[number], table.given[row : row + 1]
        if isinstance(owner, list):
            place = row - first[number]
            if place < len(owner) and [_item_id(owner[place])] == given:
                owner[place] = None
        elif owner is not None and [id(owner.get(table.keys[row]))] == given:
            owner.pop(table.keys[row])

    names = [RecordName(record.kind, record.name) for record in content.records]
    with _consuming(options, plan) as consuming:
        consuming.sink.reserve(plan.file_bytes)
        consumption = Consumption(consuming.journal, table, names, take, options.gc_threshold)
        consumption.begin(content.preamble, content.values)
        footer = write_plan(plan, consuming.sink, options.progress, consumption.on_written, options.check)
        report = consuming.publish(plan, footer)
    for owner in owners:
        if isinstance(owner, list):
            owner[:] = [item for item in owner if item is not None]
    gc.collect()
    return report


def _item_id(item: Any) -> int:
    """Return the id of the array of a list's item, which may be a (key, array) pair."""
    return id(item[1]) if isinstance(item, tuple) else id(item)


def _owner(record: RecordInput) -> MutableMapping[str, Any] | list[Any] | None:
    """Return the container that arrays are taken from."""
    if record.kind != KIND_ARRAYS:
        return None
    if isinstance(record.container, (MutableMapping, list)):
        return record.container
    raise TypeError(
        f"keep_input=False takes arrays out of what it is given; a {type(record.container).__name__} "
        "does not let go of them: pass a dict, a record, a list or an iterator"
    )


def _consuming(options: SaveOptions, plan: Plan | None) -> _Consuming | _Losing:
    folder = parse_spool(options.spool)
    if folder is None and options.location.remote:
        return _Losing(options, plan)
    return _Consuming(options, folder or "")


class _Losing:
    """An object that takes what it is given along with it when it fails: ``spool=False`` asked for that."""

    def __init__(self, options: SaveOptions, plan: Plan | None) -> None:
        self.sink = _sink_of(options, plan)
        self.journal = ForgetfulJournal()
        self._clock = report_of(self.sink.path)

    def publish(self, plan: Plan, footer: Footer) -> SaveReport:
        """Make the object appear."""
        self.sink.publish()
        return self._clock(plan, footer)

    def __enter__(self) -> _Losing:
        return self

    def __exit__(self, *exception: object) -> None:
        self.sink.discard()


class _Consuming:
    """A partial file and its journal; after an error they stay if anything arrived, and the error says so."""

    def __init__(self, options: SaveOptions, folder: str) -> None:
        self.sink = locate_partial(
            options.location, overwrite=options.overwrite, durable=options.durable, folder=folder
        )
        self._clock = report_of(self.sink.url)
        try:
            self.journal = Journal(self.sink.partial, self.sink.owner)
        except StorageError:
            self.sink.discard()
            raise
        if options.durable:
            try:
                self.sink.secure_names()
            except StorageError:  # nothing was taken yet
                self.journal.remove()
                self.sink.discard()
                raise

    def publish(self, plan: Plan, footer: Footer) -> SaveReport:
        """Publish; until the very rename there is a file that can be recovered."""
        self.sink.sync()
        self.journal.remove()
        self.sink.publish()
        return self._clock(plan, footer)

    def _anything_arrived(self) -> bool:
        try:
            payloads = read_journal(self.sink.partial)
        except ArchiveError:
            return True
        return payloads is None or len(payloads) > 1  # the first entry is made before any array

    def __enter__(self) -> _Consuming:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.journal.close()
        if error is None or not self.sink.owner.is_here:
            self.sink.discard()
            return
        if not self.sink.partial or not self._anything_arrived():
            # under its name already, and only the folder's sync failed; or nothing to keep
            self.sink.discard()
            with contextlib.suppress(StorageError):
                self.journal.remove()
            return
        try:
            with contextlib.suppress(
                ArchiveError
            ):  # as on a full disk: the journal stays, recover tries again
                complete(self.sink)
        finally:
            partial = self.sink.leave()
        remedy = f"archive.recover({partial!r}) brings back what arrived"
        if isinstance(error, ArchiveError):
            error.partial = partial
            error.remedy = remedy
        elif isinstance(error, Exception):
            wrapped = PartialSaveError(f"the save failed: {error}", path=self.sink.url, remedy=remedy)
            wrapped.partial = partial
            raise wrapped from error
        elif hasattr(error, "add_note"):  # Ctrl-C stays what it is; Python 3.10 has no notes
            error.add_note(remedy)
