"""The sum of records that come one by one: one float64 array for each of the model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from archive.descriptions import parse_description
from archive.dtypes import NDArray
from archive.engine.storagespec import StorageSpec
from archive.engine.write.create import ArchiveWriter
from archive.engine.write.inputs import Source, gather, source_of
from archive.engine.write.writer import stored_buffer
from archive.errors import UnsupportedDtypeError, ValueRangeError
from archive.format.constants import KIND_ARRAYS, KIND_METRICS, MODE_ELEMENTS
from archive.tools.clientmetrics import Metrics, add_metrics, numeric_metrics, require_same
from archive.tools.sameschema import is_number
from archive.tools.summemory import SumMemory
from archive.tools.summing import EXACT_IN_DOUBLE
from archive.tools.widening import add_product, real_dtype, wide_dtype, wide_spec

__all__ = ["ClientArrays", "RunningSum", "number_dtype"]

Name = tuple[str, str]


class ClientArrays:
    """The arrays and metrics of one client, checked by no one yet.

    Parameters
    ----------
    records : anything that `archive.save` takes
    path : str
        What errors call the client.

    Raises
    ------
    TypeError, ValueError
        Not records.
    """

    def __init__(self, records: Any, path: str) -> None:
        self.path = path
        self.specs: dict[Name, StorageSpec] = {}
        self.attributes: dict[str, dict[str, Any]] = {}
        self.metrics: Metrics = {}
        self._sources: dict[Name, Source] = {}
        self._identities: dict[Name, object] = {}
        for record in gather(records, "model", None, None).records:
            if record.kind == KIND_METRICS:
                self.metrics |= numeric_metrics(record.name, record.values)
            if record.kind != KIND_ARRAYS:
                continue
            if record.attributes:
                self.attributes[record.name] = dict(record.attributes)
            for key, array in record.arrays:
                name = record.name, key
                if name in self.specs:
                    raise ValueError(f"record {record.name!r}: two arrays with the key {key!r}")
                self.specs[name], self._sources[name], identity = source_of(array, name)
                form = self.specs[name].type, self.specs[name].shape, self.specs[name].flags
                self._identities[name] = name if identity is None else (form, identity)

    def stored(self, name: Name) -> NDArray:
        """Return the stored bytes of an array."""
        buffer = stored_buffer(self.specs[name], self._sources[name], 0, lambda row: name)
        return np.asarray(buffer).reshape(-1).view(np.uint8)

    def leaders(self, names: Iterable[Name]) -> list[int]:
        """Return, for each array, the number of the first that is the same memory."""
        first: dict[object, int] = {}
        return [first.setdefault(self._identities[name], number) for number, name in enumerate(names)]

    def require_values(self, name: Name, dtype: np.dtype[Any], *, finite: bool) -> None:
        """Raise where elements cannot be added up.

        Raises
        ------
        ValueRangeError
            NaN or infinities, counted; or an integer too large for float64.
        """
        values = self.stored(name).view(real_dtype(dtype))
        problem = ""
        if dtype.kind in "iu":
            if dtype.itemsize == 8 and values.size:
                largest = max(abs(int(values.max())), abs(int(values.min())))
                if largest > EXACT_IN_DOUBLE:
                    problem = f"an integer of {largest} is too large for an exact mean"
        elif finite:
            if values.dtype.type.__module__ != "numpy":
                values = values.astype(np.float64)
            if not np.isfinite(values).all():
                nans, infinities = int(np.isnan(values).sum()), int(np.isinf(values).sum())
                elements = self.stored(name).nbytes // dtype.itemsize
                problem = f"{nans} NaN and {infinities} infinite of {elements} elements"
        if problem:
            remedy = "leave this client out"
            raise ValueRangeError(problem, path=self.path, key="/".join(name), remedy=remedy)


class RunningSum:
    """Weighted sums of the arrays of clients, in the order of the first; all ties of all clients are kept.

    Parameters
    ----------
    names : list of (str, str)
        Record and key of each array.
    specs : list of StorageSpec
        How the clients store each.
    attributes : dict
        What is said of the records of arrays.
    folder : str or None
        Local folder of the sums, as for `SumMemory`.
    """

    def __init__(
        self,
        names: list[Name],
        specs: list[StorageSpec],
        attributes: dict[str, dict[str, Any]],
        folder: str | None,
    ) -> None:
        self.names: list[Name] = names
        self.specs: list[StorageSpec] = specs
        self.attributes: dict[str, dict[str, Any]] = attributes
        self.metrics: Metrics = {}
        """Weighted sums of metrics."""
        self.form: Metrics | None = None
        """Metrics that every client must have, with any values; None where they are not averaged."""
        self._dtypes = [number_dtype(spec) for spec in specs]
        self._folder = folder
        self._memory: SumMemory | None = None
        self._totals: dict[int, NDArray] = {}
        self._others: dict[int, NDArray] = {}
        self._leaders: list[int] = []

    def require(self, client: ClientArrays, *, finite: bool) -> None:
        """Raise where a client cannot be added; nothing changes.

        Raises
        ------
        ValueRangeError, UnsupportedDtypeError
            The error names the client and an array.
        """
        remedy = "average archives of one model"
        odd = set(client.specs) ^ set(self.names)
        if odd:
            key = "/".join(min(odd))
            raise ValueRangeError(
                "this array is not in all archives", path=client.path, key=key, remedy=remedy
            )
        for number, name in enumerate(self.names):
            ours, theirs = self.specs[number], client.specs[name]
            if (ours.type.dtype, ours.type.mode, ours.type.description, ours.shape) != (
                theirs.type.dtype,
                theirs.type.mode,
                theirs.type.description,
                theirs.shape,
            ):
                problem = f"{theirs.type.dtype} {theirs.shape}, elsewhere {ours.type.dtype} {ours.shape}"
                raise ValueRangeError(problem, path=client.path, key="/".join(name), remedy=remedy)
            dtype = self._dtypes[number]
            if dtype is not None:
                client.require_values(name, dtype, finite=finite)
            elif number in self._others and not np.array_equal(self._others[number], client.stored(name)):
                raise UnsupportedDtypeError(
                    f"{ours.type.dtype!r} arrays have no mean, and these differ",
                    path=client.path,
                    key="/".join(name),
                    remedy="save the one to keep yourself",
                )
        if self.form is not None:
            require_same(client.metrics, self.form, client.path)

    def add(self, client: ClientArrays, weight: float) -> None:
        """Add a client that `require` let pass."""
        self._split_ties(client.leaders(self.names))
        with np.errstate(over="ignore", invalid="ignore"):
            for number, name in enumerate(self.names):
                dtype = self._dtypes[number]
                if dtype is None:
                    self._others.setdefault(number, client.stored(name).copy())
                elif self._leaders[number] == number:
                    values = client.stored(name).view(real_dtype(dtype))
                    if number not in self._totals:
                        self._totals[number] = self._zeros(number, dtype)
                    add_product(self._totals[number], values, weight)
        if self.form is not None:
            self.metrics = add_metrics([(1.0, self.metrics), (weight, client.metrics)])

    def take_up(self, client: ClientArrays) -> None:
        """Go on from sums that were written."""
        self._leaders = client.leaders(self.names)
        for number, name in enumerate(self.names):
            dtype, stored = self._dtypes[number], client.stored(name)
            if dtype is None:
                self._others[number] = stored.copy()
            elif self._leaders[number] == number:
                self._totals[number] = self._zeros(number, dtype)
                self._totals[number][:] = stored.view(wide_dtype(dtype))
        self.metrics = client.metrics

    def clear(self) -> None:
        """Begin again with zeros; arrays that are not numbers stay what they were."""
        self._totals.clear()
        self._leaders = []
        self.metrics = {}

    def write(self, writer: ArchiveWriter) -> None:
        """Write the sums."""
        for record, found in self.attributes.items():
            writer.attributes[record] = dict(found)
        for (record, key), value in self.metrics.items():
            writer.metrics[record][key] = value
        for number, (record, key) in enumerate(self.names):
            dtype, spec = self._dtypes[number], self.specs[number]
            if dtype is None:
                writer.add_stored(record, key, spec, [self._others[number]], None)
            elif self._leaders[number] != number:
                writer.tie(record, key, self.names[self._leaders[number]])
            else:
                pieces = [self._totals[number].view(np.uint8)]
                writer.add_stored(record, key, wide_spec(dtype, spec.shape), pieces, None)

    def _split_ties(self, leaders: list[int]) -> None:
        """Keep arrays tied that are tied in this client too."""
        before = self._leaders or [0] * len(leaders)
        first: dict[tuple[int, int], int] = {}
        pairs = enumerate(zip(before, leaders, strict=True))
        found = [first.setdefault(pair, number) for number, pair in pairs]
        for number, leader in enumerate(found):
            total, dtype = self._totals.get(before[number]), self._dtypes[number]
            if leader == number != before[number] and total is not None and dtype is not None:
                self._totals[number] = self._zeros(number, dtype)
                self._totals[number][:] = total
        self._leaders = found

    def _zeros(self, number: int, dtype: np.dtype[Any]) -> NDArray:
        """Return zeros for the sum of an array of numbers."""
        if self._memory is None:
            pairs = zip(self._dtypes, self.specs, strict=True)
            sizes = [0 if kind is None else wide_spec(kind, spec.shape).nbytes for kind, spec in pairs]
            self._memory = SumMemory(self._folder, sizes)
        return self._memory.zeros(number, wide_dtype(dtype))


def number_dtype(spec: StorageSpec) -> np.dtype[Any] | None:
    """Return the element type of an array of numbers; None for any other."""
    dtype = parse_description(spec.type.description) if spec.type.mode == MODE_ELEMENTS else None
    return dtype if dtype is not None and is_number(dtype) else None
