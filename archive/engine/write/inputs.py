"""What callers hand to `save` as one kind of list: records of (key, spec, source).

Foreign objects (torch tensors, Flower's records) are recognised by what they are, through
``sys.modules``; nothing is imported for them.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from archive.dtypes import NDArray, is_ml_dtype, npy_dtype, parse_dtype
from archive.engine.read.convertedpayload import ConvertedPayload
from archive.engine.read.storedpayload import StoredPayload
from archive.engine.storagespec import (
    NUMPY_STYPE,
    StorageSpec,
    data_spec,
    elements_spec,
    text_spec,
)
from archive.errors import ArchiveError, UnsupportedDtypeError, ValueRangeError
from archive.format.constants import CONTEXT_NUMBERS, KIND_ARRAYS, KIND_CONFIGS, KIND_METRICS, KINDS
from archive.format.elements import NUMPY_MAX_RANK, text_width
from archive.format.names import escape_name, name_error
from archive.npy import npy_header, split_npy
from archive.records import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    MetricRecord,
    RecordDict,
    RecordSet,
)
from archive.records.ownelements import has_own_elements
from archive.records.payload import NdarrayPayload
from archive.records.tensors import is_tensor_like, tensor_to_elements
from archive.records.valuerecord import plain_values

__all__ = [
    "Inputs",
    "RecordInput",
    "gather",
    "is_flower",
    "plain_array",
    "source_of",
    "unstorable",
]

_CONTEXT_FIELDS = {*CONTEXT_NUMBERS, "state", "node_config", "run_config"}
Source = NDArray | StoredPayload | ConvertedPayload
"""Where the bytes of an array come from when they are written: memory, or another archive."""

_METRICS = ("MetricRecord", "MetricsRecord")
_CONFIGS = ("ConfigRecord", "ConfigsRecord")


@dataclass(slots=True)
class RecordInput:
    """One record to be saved."""

    kind: int
    """KIND_ARRAYS, KIND_METRICS or KIND_CONFIGS."""
    name: str
    """Its name."""
    arrays: Iterable[tuple[str, Any]] = ()
    """Keys and anything `source_of` takes."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Metrics or configs."""
    container: Any = None
    """What the arrays came in, and are taken from with ``keep_input=False``."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """What is said of an array record as a whole."""
    attribute_bytes: int | None = None
    """About the largest value that is an attribute, where that is to be less than an attribute can be."""


@dataclass(slots=True)
class Inputs:
    """All that is to be saved, in the order of the container."""

    container: str
    """Type of the container: recordset, recorddict or context."""
    records: list[RecordInput]
    """Its records."""
    context: dict[str, Any] | None = None
    """Fields of a Context but its state; None for other containers."""
    members: Mapping[str, Any] = field(default_factory=dict)
    """Members of the document that belong to somebody else, as `Preamble.members`."""


def gather(
    records: Any, name: str, metrics: Mapping[str, Any] | None, configs: Mapping[str, Any] | None
) -> Inputs:
    """Return what is to be saved, in order.

    Raises
    ------
    TypeError
        Not something `archive.save` takes.
    ValueError
        Two records of one kind and name.
    """
    inputs = _inputs(records, name)
    for kind, extra in ((KIND_METRICS, metrics), (KIND_CONFIGS, configs)):
        inputs.records += _value_records(kind, extra)
    seen: set[object] = set()
    for record in inputs.records:
        if not isinstance(record.name, str):
            raise TypeError(f"a record name is a str, not {type(record.name).__name__}")
        # a RecordDict has one name space, a RecordSet one for each kind
        twin = record.name if inputs.container == "recorddict" else (record.kind, record.name)
        if twin in seen:
            raise ValueError(
                f"two records {KINDS[record.kind]}/{record.name}: pass one of them under another name, as "
                "metrics={name: {...}}"
            )
        seen.add(twin)
        try:
            escape_name(record.name)
        except ValueError as error:
            raise name_error(error, record.name) from error
    return inputs


def _inputs(records: Any, name: str) -> Inputs:
    if isinstance(records, Context) or is_flower(records, "Context"):
        state = _inputs(records.state, name)
        unknown = {field.name for field in dataclasses.fields(records)} - _CONTEXT_FIELDS
        if unknown:
            raise TypeError(f"a Context with fields that would be lost: {', '.join(sorted(unknown))}")
        fields = {field: getattr(records, field, 0) for field in CONTEXT_NUMBERS}
        fields |= {field: dict(getattr(records, field)) for field in ("node_config", "run_config")}
        return Inputs("context", state.records, fields | {"state": state.container})
    # flwr 1.16: old name, new ways
    one_space = is_flower(records, "RecordSet") and isinstance(records, Mapping)
    if one_space or isinstance(records, RecordDict) or is_flower(records, "RecordDict"):
        return Inputs("recorddict", [_record(n, r) for n, r in records.items()])
    if isinstance(records, RecordSet) or is_flower(records, "RecordSet"):
        spaces = (records.parameters_records, records.metrics_records, records.configs_records)
        return Inputs("recordset", [_record(n, r) for space in spaces for n, r in space.items()])
    if _holds_values(records):
        raise TypeError(f"pass a {type(records).__name__} as metrics= or configs=, or in a RecordDict")
    attributes = records.attributes if isinstance(records, ArrayRecord) else {}
    arrays = RecordInput(KIND_ARRAYS, name, _named_arrays(records), container=records, attributes=attributes)
    return Inputs("recordset", [arrays])


def source_of(array: Any, place: tuple[str, str]) -> tuple[StorageSpec, Source, object]:
    """Return the storage spec of an array-like, where its bytes come from, and its identity.

    Parameters
    ----------
    array : ndarray, torch tensor, Array, or a Flower Array
    place : (str, str)
        Its record and key, which errors name.

    Returns
    -------
    spec : StorageSpec
    source : ndarray, StoredPayload or ConvertedPayload
    identity
        Equal for two arrays that are the same memory, None where that cannot be told.

    Raises
    ------
    TypeError
        Not such an array.
    UnsupportedDtypeError, ValueRangeError
        An array that no archive holds.
    """
    try:
        if isinstance(array, np.ndarray):
            plain = array if type(array) is np.ndarray else plain_array(array)
            spec, source = _ndarray(plain, None, b"", place)
            # id() of what the plan keeps alive: the id of anything else may be used again
            return spec, source, id(array) if source is array else None
        if isinstance(array, Array) and not has_own_elements(array):
            return _array(array, place)
        if is_tensor_like(array):
            return _tensor(array, place)
        if all(hasattr(array, name) for name in ("dtype", "shape", "stype", "data")):
            return _parts(array, place)
    except ArchiveError:
        raise
    except TypeError as error:
        raise TypeError(f"{'/'.join(place)}: {error}") from error
    if isinstance(array, (np.generic, bool, int, float, complex)):
        remedy = "numpy.asarray(value) makes an array of it"
    else:
        remedy = "archive.interop.torch.save_state saves nested states and plain values"
    raise TypeError(
        f"{'/'.join(place)}: an array is an ndarray, a torch tensor or an Array, not {type(array).__name__}; "
        f"{remedy}"
    )


def _record(name: str, record: Any) -> RecordInput:
    if _holds_values(record):
        metrics = isinstance(record, MetricRecord) or is_flower(record, *_METRICS)
        return RecordInput(KIND_METRICS if metrics else KIND_CONFIGS, name, values=record)
    attributes = record.attributes if isinstance(record, ArrayRecord) else {}
    return RecordInput(KIND_ARRAYS, name, record.items(), container=record, attributes=attributes)


def _holds_values(record: object) -> bool:
    """Tell whether a record is one of metrics or configs, ours or Flower's."""
    return isinstance(record, (MetricRecord, ConfigRecord)) or is_flower(record, *_METRICS, *_CONFIGS)


def is_flower(value: object, *names: str) -> bool:
    """Tell whether a value is an instance of one of Flower's own classes; nothing is imported for it."""
    return any(
        kind.__name__ in names and kind.__module__.partition(".")[0] == "flwr" for kind in type(value).__mro__
    )


def _named_arrays(records: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(records, Mapping):
        return records.items()
    if isinstance(records, (list, tuple)) and not _is_pairs(records):
        return [(str(position), array) for position, array in enumerate(records)]
    if isinstance(records, Iterable) and not isinstance(records, (str, bytes, np.ndarray)):
        return _pairs(records)
    raise TypeError(
        "records must be a RecordSet, RecordDict, ArrayRecord, a mapping of names to arrays, a list of "
        f"ndarrays or an iterable of (key, array), not {type(records).__name__}; "
        "of a torch module save state_dict()"
    )


def _is_pairs(records: list[Any] | tuple[Any, ...]) -> bool:
    return bool(records) and all(
        isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in records
    )


def _pairs(records: Iterable[Any]) -> Iterable[tuple[str, Any]]:
    for pair in records:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(
                f"an iterable of arrays must yield (key, array), not {type(pair).__name__}; "
                "of a torch module save state_dict()"
            )
        yield pair
        del pair  # or it would live on while the caller's generator makes the next


def _value_records(kind: int, extra: Mapping[str, Any] | None) -> list[RecordInput]:
    """Return ``metrics=`` or ``configs=``: values of one record called so, or several records by name."""
    if extra is None:
        return []
    if not isinstance(extra, Mapping):
        raise TypeError(f"{KINDS[kind]} must be a mapping, not {type(extra).__name__}")
    several = bool(extra) and all(isinstance(value, Mapping) for value in extra.values())
    named = extra if several else {KINDS[kind]: extra}
    return [RecordInput(kind, record, values=plain_values(values)) for record, values in named.items()]


def unstorable(error: Exception, place: tuple[str, str]) -> ArchiveError:
    """Return the error for an array of which `archive.engine.storagespec` makes no storage spec."""
    if isinstance(error, UnsupportedDtypeError):
        return UnsupportedDtypeError(error.problem, key="/".join(place), remedy=error.remedy)
    if isinstance(error, TypeError):
        return UnsupportedDtypeError(
            str(error), key="/".join(place), remedy="convert it to numbers, text or a packed structured type"
        )
    return ValueRangeError(str(error), key="/".join(place), remedy="reshape it, or split it")


def _ndarray(
    array: NDArray, name: str | None, header: bytes, place: tuple[str, str]
) -> tuple[StorageSpec, Source]:
    if array.dtype.type is np.record:
        array = array.view(np.dtype((np.void, array.dtype)))
    dtype, shape = array.dtype, array.shape
    flags = array.flags
    fortran = flags.f_contiguous and not flags.c_contiguous
    width = text_width(array) if dtype.kind == "U" else None
    try:
        if width is not None:
            return text_spec(dtype, shape, fortran, width, name=name, header=header), array
        return elements_spec(dtype, shape, fortran, name=name, header=header), array
    except (TypeError, ValueError) as error:
        raise unstorable(error, place) from error


def _array(array: Array, place: tuple[str, str]) -> tuple[StorageSpec, Source, object]:
    payload = array.payload
    if isinstance(payload, (StoredPayload, ConvertedPayload)):
        return payload.spec, payload, payload.identity
    if isinstance(payload, NdarrayPayload) and array.stype == NUMPY_STYPE:
        elements = payload.array
        name = array.dtype if array.dtype != str(elements.dtype) else None
        return (*_ndarray(elements, name, payload.given_header, place), id(elements))
    # id() of the bytes, which the source keeps alive; that of an Array made on the way is used again
    data = payload.data()
    return (*_bytes(array.dtype, tuple(array.shape), array.stype, data, place), id(data))


def _tensor(tensor: Any, place: tuple[str, str]) -> tuple[StorageSpec, Source, object]:
    elements, _ = tensor_to_elements(tensor, "/".join(place))
    # The address of the elements and not of the tensor: x and x.conj() share a data_ptr, and a tensor that
    # an iterable makes on the way is freed, and its address used again, before the next one comes.
    identity = elements.__array_interface__["data"][0], elements.strides
    return (*_ndarray(elements, None, b"", place), identity)


def _parts(array: Any, place: tuple[str, str]) -> tuple[StorageSpec, Source, object]:
    """Return what `source_of` does for Flower's Array, and for an Array whose class makes its own data."""
    data = array.data
    if not isinstance(data, bytes):  # Flower checks no assignment: any buffer may be there, of any items
        data = np.frombuffer(data, np.uint8).data
    shape = tuple(map(operator.index, array.shape))
    # only the id of bytes: any other buffer is not handed in twice
    identity = id(data) if isinstance(data, bytes) else None
    return (*_bytes(str(array.dtype), shape, str(array.stype), data, place), identity)


def plain_array(array: NDArray) -> NDArray:
    """Return an instance of a subclass of ndarray (matrix, memmap, ...) as a plain one, without a copy."""
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise TypeError("a masked array would lose its mask: save filled(), or its data and its mask")
    return np.asarray(array)


def _bytes(
    name: str, shape: tuple[int, ...], stype: str, data: bytes | memoryview, place: tuple[str, str]
) -> tuple[StorageSpec, Source]:
    """Return the storage spec of serialised data: elements where it is one .npy of dtype and shape."""
    if min(shape, default=0) < 0:
        raise ValueRangeError(f"shape {shape} has an axis of negative length", key="/".join(place))
    if stype == NUMPY_STYPE:
        found = _npy_elements(name, shape, data, place)
        if found is not None:
            return found
    try:
        return data_spec(name, stype, shape, len(data)), np.frombuffer(data, np.uint8)
    except ValueError as error:
        raise unstorable(error, place) from error


def _npy_elements(
    name: str, shape: tuple[int, ...], data: bytes | memoryview, place: tuple[str, str]
) -> tuple[StorageSpec, Source] | None:
    try:
        layout = split_npy(data)
        dtype = parse_dtype(name)
    except (ValueError, UnsupportedDtypeError):
        return None
    if layout.shape != shape or len(shape) > NUMPY_MAX_RANK:
        return None
    if layout.dtype not in (dtype, npy_dtype(dtype)) or dtype.subdtype is not None:
        return None
    if layout.dtype != dtype and not is_ml_dtype(dtype):
        return None
    order: Literal["F", "C"] = "F" if layout.fortran_order else "C"
    elements: NDArray = np.ndarray(shape, dtype, data, layout.header_bytes, order=order)
    # What np.save writes follows from the elements; any other header is kept as it came.
    canonical = npy_header(dtype, shape, elements.flags.f_contiguous and not elements.flags.c_contiguous)
    header = bytes(data[: layout.header_bytes])
    try:
        return _ndarray(elements, name, b"" if header == canonical else header, place)
    except ValueRangeError:
        return None
