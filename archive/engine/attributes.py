"""Metrics and configs on their way into an archive: HDF5 attributes, or datasets where too large.

Each value is validated and encoded once, before a byte is written.

Every value is also in the values section (as JSON, or as a reference to its dataset); the attributes are what
other HDF5 tools show: numbers, bools, str and lists of them in their own types, bytes as uint8, ``[]`` and
``b""`` as null dataspaces, and what HDF5 has no type for (str with NUL, lists of bytes) as uint8 that hold
their JSON ([VALUE-9]). No bytes are taken for that JSON: those that begin as it does are JSON too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from archive.dtypes import NDArray
from archive.errors import ValueRangeError
from archive.format.constants import (
    CONTEXT_NUMBERS,
    KIND_ARRAYS,
    KIND_METRICS,
    MAX_ATTRIBUTE_BYTES,
    MAX_ATTRIBUTES,
)
from archive.format.document import RAISE, TooLargeError, encode_json
from archive.format.index import RecordName
from archive.format.names import link_name
from archive.format.values import INT64_MAX, JSON_BEGIN, Value, encode_value, validate_value
from archive.hdf5.datasets import Attribute
from archive.hdf5.datatypes import UINT8, UTF8_VLEN, encode_datatype

__all__ = ["EncodedContext", "EncodedValue", "encode_context", "encode_inline", "encode_record"]


INT64, UINT64, FLOAT64, BOOL = (np.dtype(name) for name in ("<i8", "<u8", "<f8", "?"))


@dataclass(frozen=True, slots=True)
class EncodedValue:
    """One value of a record, ready to be stored."""

    key: str
    """Its key."""
    type_name: str
    """As `archive.format.values.validate_value` names it."""
    inline: list[Any] | None
    """Its ``[type, payload]`` in the values section; None where it is a dataset."""
    attribute: Attribute | None
    """Its HDF5 attribute; None where it is a dataset."""
    stored: NDArray | None
    """Elements of its dataset."""
    value: Value
    """The value itself."""

    def spell(self) -> list[Any]:
        """Return its ``[type, payload]``, whatever its size."""
        return encode_value(self.value, self.type_name) if self.inline is None else self.inline


@dataclass(frozen=True, slots=True)
class EncodedContext:
    """The fields of a Context except its records, ready to be stored."""

    state: str
    """Container of its records."""
    configs: dict[str, list[EncodedValue]]
    """``node_config`` and ``run_config``."""
    numbers: list[EncodedValue]
    """``run_id``, ``node_id``, ``series_id``."""

    def document(self) -> dict[str, Any]:
        """Return its JSON in the values section."""
        configs = {
            field: [[value.key, value.inline] for value in values] for field, values in self.configs.items()
        }
        return {**configs, "state": self.state, **{value.key: value.inline for value in self.numbers}}


def encode_record(name: RecordName, values: Mapping[str, Any], most: int | None = None) -> list[EncodedValue]:
    """Validate and encode the values of a record; those of a record of arrays must all be attributes.

    Values of more than about ``most`` bytes are datasets, by default those that no attribute holds.

    Raises
    ------
    TypeError, ValueRangeError
        A value or key that no record holds; the message names record and key.
    """
    encoded: list[EncodedValue] = []
    attributes = 0
    for key, value in values.items():
        if not isinstance(key, str):
            raise TypeError(f"record {name.name!r}: a key is a str, not {type(key).__name__}")
        type_name = _type_name(name, key, value)
        link = link_name(name.name, key)
        if attributes < MAX_ATTRIBUTES and len(link) + _size(value) <= (most or MAX_ATTRIBUTE_BYTES):
            attributes += 1
            inline, attribute = encode_value(value, type_name), _attribute(link.decode(), value, type_name)
            encoded.append(EncodedValue(key, type_name, inline, attribute, None, value))
        elif name.kind != KIND_ARRAYS:
            try:
                elements = _elements(value, type_name)
            except TooLargeError as error:
                raise ValueRangeError(str(error), key=f"{name.name}/{key}", remedy=RAISE) from error
            encoded.append(EncodedValue(key, type_name, None, None, elements, value))
        else:
            raise ValueRangeError(
                f"an attribute takes at most {MAX_ATTRIBUTE_BYTES} bytes, a record at most {MAX_ATTRIBUTES}",
                key=f"{name.name}/{key}",
                remedy="store it in a ConfigRecord",
            )
    return encoded


def encode_inline(name: RecordName, values: Mapping[str, Value]) -> list[EncodedValue]:
    """Encode values of an archive that are attributes there, whatever their size; without their JSON.

    Raises
    ------
    TypeError, ValueError
        No attribute holds one of them.
    """
    encoded = []
    for key, value in values.items():
        type_name, link = _type_name(name, key, value), link_name(name.name, key).decode()
        encoded.append(EncodedValue(key, type_name, None, _attribute(link, value, type_name), None, value))
    return encoded


def encode_context(context: Mapping[str, Any]) -> EncodedContext:
    """Validate and encode the fields of a Context; ``state`` is the container of its records.

    Raises
    ------
    TypeError, ValueRangeError
        A value or key that no attribute holds; the message names field and key.
    """
    configs = {
        field: encode_record(RecordName(KIND_ARRAYS, field), context[field])
        for field in ("node_config", "run_config")
    }
    numbers = {field: context[field] for field in CONTEXT_NUMBERS if field != "series_id" or context[field]}
    encoded = encode_record(RecordName(KIND_ARRAYS, "context"), numbers)
    return EncodedContext(context["state"], configs, encoded)


def _type_name(name: RecordName, key: str, value: Any) -> str:
    try:
        return validate_value(value, metric=name.kind == KIND_METRICS)
    except TypeError as error:
        raise TypeError(f"{f'{name.name}/{key}'!r}: {error}") from error
    except ValueError as error:
        raise ValueRangeError(
            str(error), key=f"{name.name}/{key}", remedy="store it as str, float or bytes"
        ) from error


def _size(value: Any) -> int:
    """Return about how many bytes a value takes as an attribute."""
    items = value if isinstance(value, list) else [value]
    if items and isinstance(items[0], str):
        return sum(len(item.encode()) + 16 for item in items)
    if items and isinstance(items[0], bytes):
        return sum(4 * len(item) // 3 + 8 for item in items)
    return 24 * len(items) if any(isinstance(item, bool) for item in items) else 8 * len(items)


def _numbers(value: Any, name: str) -> NDArray | None:
    """Return a number, or a list of numbers of one type, as HDF5 shows it; None for anything else."""
    if name in ("bool", "bools"):
        return np.array(value, BOOL)
    if name in ("float", "floats"):
        return np.array(value, FLOAT64)
    if name in ("int", "ints"):
        largest = max(value) if isinstance(value, list) else value
        return np.array(value, UINT64 if largest > INT64_MAX else INT64)
    return None


def _attribute(name: str, value: Any, type_name: str) -> Attribute:
    numbers = _numbers(value, type_name)
    if numbers is not None:
        return Attribute(name, encode_datatype(numbers.dtype), numbers.shape, numbers.tobytes())
    if type_name == "list":
        return Attribute(name, encode_datatype(FLOAT64), None, b"")
    if type_name == "bytes" and not value.startswith(JSON_BEGIN):
        return Attribute(name, UINT8, (len(value),) if value else None, value)
    texts = [value] if type_name == "str" else value
    if type_name in ("str", "strs") and not any("\0" in text for text in texts):
        dims = () if type_name == "str" else (len(texts),)
        return Attribute(name, UTF8_VLEN, dims, tuple(text.encode() for text in texts))
    # h5py ends a str at its first NUL, and has no lists of bytes
    text = _json(value, type_name)
    return Attribute(name, UINT8, (len(text),), text)


def _elements(value: Any, type_name: str) -> NDArray:
    """Return a value as the elements of a dataset."""
    mixed = type_name == "ints" and any(isinstance(item, bool) for item in value)
    if isinstance(value, list) and not mixed:
        numbers = _numbers(value, type_name)
        if numbers is not None:
            return numbers
    if type_name == "str":
        return np.frombuffer(value.encode(), np.uint8)
    if type_name == "bytes":
        return np.frombuffer(value, np.uint8)
    return np.frombuffer(_json(value, type_name), np.uint8)


def _json(value: Any, type_name: str) -> bytes:
    """Return the JSON of the values section, for what HDF5 has no type for."""
    return encode_json(encode_value(value, type_name), text_counts=False)
