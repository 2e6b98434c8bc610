"""Files of an accumulator: the sum of a batch and which clients are in it, and clients before their turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from archive.engine.read.load import load_records
from archive.engine.read.recordvalues import record_values
from archive.engine.storagespec import StorageSpec, stored_spec
from archive.errors import DamagedError, ValueRangeError
from archive.format.constants import KIND_CONFIGS, MODE_ELEMENTS
from archive.format.elements import ArrayType
from archive.format.index import RecordName
from archive.records import RecordDict, RecordSet
from archive.storage.url import Location
from archive.tools.batches import VERSION, Rule
from archive.tools.partials import RECORD, content_of, create_partial, open_partial
from archive.tools.runningsum import ClientArrays, RunningSum
from archive.tools.sameschema import Template
from archive.writing import save

__all__ = ["Added", "BatchFile", "StagedFile"]


@dataclass(frozen=True, slots=True)
class Added:
    """A client of an accumulator."""

    position: int
    """Its place in the order of the sum, from 0."""
    name: str
    """As the caller named it, or the path of its archive without secrets; empty if it has neither."""
    weight: float
    """Its weight."""
    digest: str
    """Hexadecimal digest of the footer of its archive; empty where it came as records."""


@dataclass(slots=True)
class BatchFile:
    """The sum of a batch, complete or not."""

    place: Location
    rule: Rule
    number: int
    clients: list[Added] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    """Positions that will not come."""
    content: str = ""
    """What the file says, as it was read."""
    identity: bytes = b""
    """Version of the file, as it was read or written: another run may replace it."""

    @property
    def settled(self) -> int:
        """Positions that came or will not come."""
        return len(self.clients) + len(self.left_out)

    @property
    def weight(self) -> Fraction:
        """Sum of the weights, exactly."""
        return sum((Fraction(client.weight) for client in self.clients), Fraction())

    @property
    def key(self) -> str:
        """By which sums of it are named: they are of these clients."""
        return json.dumps([self._rule_content(), self.number, self._clients_content()])

    def write(self, running: RunningSum | None, *, durable: bool) -> None:
        """Write the sum; the file is replaced at once."""
        content = {
            "accumulator": self._rule_content(),
            "batch": self.number,
            "clients": self._clients_content(),
            "left_out": self.left_out,
        }
        if running is not None:
            types = list(dict.fromkeys(spec.type for spec in running.specs))
            numbers = {kind: number for number, kind in enumerate(types)}
            content["types"] = [_encode_type(kind) for kind in types]
            content["arrays"] = [[numbers[spec.type], spec.flags] for spec in running.specs]
            content["form"] = None
            if running.form is not None:
                content["form"] = [[*name, value] for name, value in running.form.items()]
        with create_partial(self.place, json.dumps(content), durable=durable) as writer:
            if running is not None and self.clients:
                running.write(writer)
        self.identity = bytes.fromhex(writer.report.digest)

    @classmethod
    def read(cls, place: Location, rule: Rule, number: int) -> BatchFile:
        """Return what the file of a batch says.

        Raises
        ------
        DamagedError, ValueRangeError
        """
        reader = open_partial(place)
        try:
            text, identity = content_of(reader), reader.identity
        finally:
            reader.close()
        found = cls(place, rule, number, content=text, identity=identity)
        try:
            content = json.loads(text)
            wanted, batch = content["accumulator"], content["batch"]
            found.clients = [_decode_client(entry) for entry in content["clients"]]
            found.left_out = [int(position) for position in content["left_out"]]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise _damaged(place, error) from error
        if wanted != found._rule_content():
            raise ValueRangeError(
                f"sums that were begun by another rule: {str(wanted)[:60]}",
                path=place.display,
                remedy="open it with the batch, nan and metrics that it was begun with",
            )
        if batch != number or found.settled > rule.batch:
            raise _damaged(place, f"batch {batch}")
        return found

    def load(self, batches: Sequence[BatchFile], folder: str | None) -> RunningSum | None:
        """Return the running sum of the last batch, in a local folder; zeros where it is complete."""
        written = [batch for batch in batches if batch.clients]
        if not written:
            return None
        running = written[-1]._template(folder)
        if self.settled < self.rule.batch and self.clients:
            running.take_up(ClientArrays(_load(self.place, self.identity), self.place.display))
        return running

    def _template(self, folder: str | None) -> RunningSum:
        """Return a running sum of nothing, for the arrays of this batch."""
        reader = open_partial(self.place, self.identity)
        try:
            template = Template(reader)
        finally:
            reader.close()
        try:
            content = json.loads(self.content or self._reread())
            types = [_decode_type(entry) for entry in content["types"]]
            specs = [
                _spec_of(template, number, types[kind], flags)
                for number, (kind, flags) in enumerate(content["arrays"])
            ]
            form = content["form"]
            running = RunningSum(template.names, specs, template.attributes, folder)
            running.form = None if form is None else {(record, key): value for record, key, value in form}
        except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
            raise _damaged(self.place, error) from error
        if len(specs) != len(template):
            raise _damaged(self.place, f"{len(specs)} arrays of {len(template)}")
        return running

    def _reread(self) -> str:
        reader = open_partial(self.place, self.identity)
        try:
            return content_of(reader)
        finally:
            reader.close()

    def _rule_content(self) -> list[Any]:
        return [VERSION, self.rule.batch, self.rule.nan, self.rule.metrics]

    def _clients_content(self) -> list[Any]:
        return [[client.position, client.name, client.weight, client.digest] for client in self.clients]


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A client that came before its turn."""

    place: Location
    added: Added
    weigh_by: str = ""
    """The metric that is its weight, and is no result."""
    identity: bytes = b""
    """As that of a `BatchFile`."""

    def write(self, records: Any, *, durable: bool) -> StagedFile:
        """Write its records, and return which version of the file has them."""
        client = self.added
        content = json.dumps([client.position, client.name, client.weight, client.digest])
        configs = {RECORD: {"staged": content, "weigh_by": self.weigh_by}}
        options = self.place.options if self.place.remote else None
        report = save(records, self.place.path, configs=configs, durable=durable, storage_options=options)
        return replace(self, identity=bytes.fromhex(report.digest))

    def load(self) -> RecordDict | RecordSet:
        """Return its records."""
        return _load(self.place, self.identity)

    @classmethod
    def read(cls, place: Location) -> StagedFile:
        """Return what a file says of its client."""
        reader = open_partial(place)
        try:
            configs = record_values(reader, "values").get(RecordName(KIND_CONFIGS, RECORD), {})
            identity = reader.identity
        finally:
            reader.close()
        try:
            client = _decode_client(json.loads(str(configs["staged"])))
            return cls(place, client, str(configs["weigh_by"]), identity)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise _damaged(place, error) from error


def _load(place: Location, identity: bytes) -> RecordDict | RecordSet:
    reader = open_partial(place, identity)
    try:
        return load_records(reader, None, None)
    finally:
        reader.close()


def _encode_type(kind: ArrayType) -> list[Any]:
    return [kind.dtype, kind.stype, kind.description, kind.mode, kind.itemsize, kind.npy_header.hex()]


def _decode_type(entry: Any) -> ArrayType:
    dtype, stype, description, mode, itemsize, header = entry
    return ArrayType(
        str(dtype), str(stype), str(description), int(mode), int(itemsize), bytes.fromhex(header)
    )


def _decode_client(entry: Any) -> Added:
    position, name, weight, digest = entry
    return Added(int(position), str(name), float(weight), str(digest))


def _spec_of(template: Template, number: int, kind: ArrayType, flags: int) -> StorageSpec:
    shape, nbytes = template.shapes[number], template.nbytes[number]
    if kind.mode == MODE_ELEMENTS and template.dtypes[number] is not None:
        dtype = template.dtypes[number]
        nbytes = nbytes // (dtype.itemsize if dtype is not None else 1) * kind.itemsize
    return stored_spec(kind, shape, flags, nbytes)


def _damaged(place: Location, problem: object) -> DamagedError:
    return DamagedError(
        f"not the sum of a batch: {str(problem)[:80]}",
        path=place.display,
        remedy="begin anew in another folder",
    )
