"""Copies of records, so that training may continue while they are saved."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from archive.engine.read.reader import Reader
from archive.engine.read.storedpayload import StoredPayload
from archive.engine.write.inputs import Inputs, RecordInput, gather, source_of
from archive.format.constants import KIND_ARRAYS, KIND_METRICS
from archive.records import Array, ArrayRecord, ConfigRecord, Context, MetricRecord, RecordDict, RecordSet
from archive.records.ownelements import has_own_elements
from archive.records.payload import BytesPayload

__all__ = ["take_snapshot"]


def take_snapshot(records: Any) -> RecordSet | RecordDict | Context:
    """Return a copy of anything that `archive.save` takes; later changes do not reach it.

    Arrays that are still in an archive stay there, and bytes are shared: neither changes. The archive stays
    open for the copy where its handle is closed. Tied arrays stay tied. An iterable is read to its end.

    Parameters
    ----------
    records : RecordSet, RecordDict, Context, ArrayRecord, mapping, list or iterable

    Returns
    -------
    RecordSet, RecordDict or Context
        What would be read back after a save.

    Raises
    ------
    TypeError, ValueError
        A value that no archive can hold.

    Examples
    --------
    >>> import numpy as np
    >>> layers = {"w": np.zeros(2)}
    >>> kept = take_snapshot(layers)
    >>> layers["w"] += 1
    >>> kept["model"]["w"].numpy().tolist()
    [0.0, 0.0]
    """
    inputs = gather(records, "model", None, None)
    copies = _Copies()
    made = [(record, _record(record, copies)) for record in inputs.records]
    if inputs.container == "recorddict" or (inputs.context or {}).get("state") == "recorddict":
        container: RecordSet | RecordDict = RecordDict({record.name: found for record, found in made})
    else:
        container = RecordSet()
        for record, found in made:
            container[record.name] = found
    return container if inputs.context is None else _context(inputs, container)


def _record(record: RecordInput, copies: _Copies) -> ArrayRecord | MetricRecord | ConfigRecord:
    if record.kind == KIND_ARRAYS:
        made = ArrayRecord({key: copies.of(array, (record.name, key)) for key, array in record.arrays})
        made.attributes.update(_values(record.attributes))
        return made
    kind = MetricRecord if record.kind == KIND_METRICS else ConfigRecord
    return kind(_values(record.values))


def _values(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, list) else value for key, value in values.items()}


def _context(inputs: Inputs, state: RecordSet | RecordDict) -> Context:
    fields = {key: value for key, value in (inputs.context or {}).items() if key != "state"}
    return Context(**fields, state=state)


class _Copies:
    """Copies by their source, so that tied arrays stay tied."""

    def __init__(self) -> None:
        self._made: dict[object, Array] = {}
        # keep the sources: another object could get the id or address of one that is gone
        self._alive: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._readers: dict[Reader, Reader] = {}

    def of(self, array: Any, place: tuple[str, str]) -> Array:
        """Return a private Array of an ndarray, a tensor, or an Array of ours or Flower's."""
        if isinstance(array, Array) and not has_own_elements(array):
            if isinstance(stored := array.payload, StoredPayload):
                stored = stored.share(self._readers)
                return Array.from_payload(array.dtype, array.shape, array.stype, stored)
            return copy.deepcopy(array, self._memo)
        spec, source, identity = source_of(
            array, place
        )  # refuses what no archive holds now, not in a thread later
        if identity is None:
            return _copy(array, source)
        key = identity, spec
        if key not in self._made:
            self._made[key] = _copy(array, source)
            self._alive.append(source)
        return self._made[key]


def _copy(array: Any, source: Any) -> Array:
    """Return a private Array of an ndarray, a tensor or Flower's Array, whose immutable bytes are shared."""
    if not hasattr(array, "stype"):
        return Array.from_numpy_ndarray(source)
    dtype, data = str(array.dtype), bytes(array.data)
    return Array.from_payload(dtype, tuple(array.shape), str(array.stype), BytesPayload(data, dtype))
