"""Metrics and configs: which values are legal, and their typed JSON in the values section.

A value is written as ``[type, payload]`` because JSON alone cannot tell 1 from 1.0 in every
language, nor hold bytes, NaN, or integers above 2**53 ([VALUE-1] to [VALUE-8]). Nothing here knows
where a value stands: callers add record and key to a TypeError or ValueError.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from archive.dtypes import NDArray
from archive.format.document import TooLargeError, parse_json

__all__ = [
    "JSON_BEGIN",
    "METRIC_TYPES",
    "STORED_AS",
    "STORED_ITEMSIZE",
    "VALUE_TYPES",
    "Value",
    "decode_stored",
    "decode_value",
    "encode_value",
    "is_plain",
    "validate_value",
]

Value = int | float | str | bytes | bool | list[int] | list[float] | list[str] | list[bytes] | list[bool]

INT64_MIN, INT64_MAX, UINT64_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1
JSON_BEGIN = b'["'
"""How the JSON of a value begins. A u8 attribute that begins otherwise holds bytes ([VALUE-9])."""
EXACT_IN_DOUBLE = (1 << 53) - 1
"""Largest integer that every JSON reader keeps exactly; larger ones are written as decimal text."""
_INTEGER = re.compile(r"-?[1-9][0-9]{15,19}")
_BITS = re.compile(r"[0-9a-f]{16}")
_NAN_BITS = 0x7FF8000000000000
_NAMED_FLOATS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
# bool before int and float before its subclasses: the first that matches names the type
_SCALARS: tuple[tuple[type, str], ...] = (
    (bool, "bool"),
    (int, "int"),
    (float, "float"),
    (str, "str"),
    (bytes, "bytes"),
)
VALUE_TYPES = frozenset({"list", *(name + end for _, name in _SCALARS for end in ("", "s"))})
"""Names of all types."""
STORED_AS: dict[str, tuple[str, ...]] = dict.fromkeys(VALUE_TYPES, ("|u1",)) | {
    "bools": ("|b1",),
    "ints": ("<i8", "<u8", "|u1"),
    "floats": ("<f8",),
}
"""Element types of each type's datasets ([VALUE-15])."""
STORED_ITEMSIZE = {"|u1": 1, "|b1": 1, "<i8": 8, "<u8": 8, "<f8": 8}
METRIC_TYPES = frozenset({"int", "float", "ints", "floats", "list"})
"""Names of those that a MetricRecord holds ([VALUE-11])."""


def validate_value(value: object, *, metric: bool) -> str:
    """Return the type name of a legal value; a list may have changed since it was assigned.

    Returns
    -------
    str
        ``bool``, ``int``, ``float``, ``str``, ``bytes``, their plural for a list, or ``list`` for an
        empty one.

    Raises
    ------
    TypeError
        Not a value that a MetricRecord (``metric``) or ConfigRecord holds.
    ValueError
        An integer beyond 64 bits, a list of integers that fits no 64-bit type, or a str with a lone
        surrogate.
    """
    if isinstance(value, list):
        if not value:
            return "list"
        name = _scalar_type(value[0])
        kind = {spelled: python for python, spelled in _SCALARS}.get(name)
        if kind is None or not all(isinstance(item, kind) for item in value):
            raise TypeError("a list must hold one type of bool, int, float, str or bytes")
        type_name = name + "s"
        items = value
    else:
        type_name = _scalar_type(value)
        items = [value]
    if not type_name or (metric and type_name not in METRIC_TYPES):
        allowed = "a metric is an int, a float" if metric else "a value is a bool, int, float, str, bytes"
        found = type_name or type(value).__name__
        convert = "; convert it with .item()" if hasattr(value, "item") else ""
        if isinstance(value, dict):
            convert = "; values are flat: give each mapping as a record of its own, or as json.dumps() of it"
        raise TypeError(f"{allowed} or a list of one of them, not {found}{convert}")
    if type_name in ("int", "ints"):
        _validate_integers(items)
    elif type_name in ("str", "strs"):
        for item in items:
            try:
                item.encode()
            except UnicodeEncodeError as error:
                raise ValueError("the str holds a lone surrogate, which no UTF-8 spells") from error
    return type_name


def encode_value(value: Any, type_name: str) -> list[Any]:
    """Return the ``[type, payload]`` of a value that `validate_value` named.

    Examples
    --------
    >>> encode_value(0.5, "float"), encode_value(2**60, "int"), encode_value(b"ab", "bytes")
    (['float', 0.5], ['int', '1152921504606846976'], ['bytes', 'YWI='])
    """
    if type_name == "list":
        return ["list", []]
    if type_name.endswith("s") and type_name != "bytes":
        return [type_name, [_encode_item(item) for item in value]]
    return [type_name, _encode_item(value)]


def is_plain(encoded: Any, metric: bool) -> bool:
    """Return whether ``[type, payload]`` is right, and its payload the value itself: what most values are.

    `decode_value` and `validate_value` say the same, and take ten times as long.

    Examples
    --------
    >>> is_plain(["float", 0.5], True), is_plain(["float", 1], True)
    (True, False)
    """
    if type(encoded) is not list or len(encoded) != 2:
        return False
    name, payload = encoded
    kind = type(payload)
    if kind is float:
        return bool(name == "float" and -math.inf < payload < math.inf)
    if kind is int:
        return bool(name == "int" and -EXACT_IN_DOUBLE <= payload <= EXACT_IN_DOUBLE)
    if kind is str:
        return name == "str" and not metric and payload.isascii()
    if kind is list:
        return _is_plain_list(name, payload)
    return kind is bool and name == "bool" and not metric


def _is_plain_list(name: Any, items: list[Any]) -> bool:
    kinds = set(map(type, items))
    if kinds == {float}:
        return name == "floats" and all(map(math.isfinite, items))
    return (
        kinds == {int} and name == "ints" and min(items) >= -EXACT_IN_DOUBLE and max(items) <= EXACT_IN_DOUBLE
    )


def decode_value(encoded: Any) -> Value:
    """Return the value that ``[type, payload]`` spells.

    Raises
    ------
    ValueError
        Not what `encode_value` writes: every value has one spelling, except that a float may be any number.
    """
    if not isinstance(encoded, list) or len(encoded) != 2 or not isinstance(encoded[0], str):
        raise ValueError(f"a value is [type, payload], not {str(encoded)[:80]}")
    name, payload = encoded
    if name == "list" and payload == []:
        return []
    single = name[:-1] if name.endswith("s") and name != "bytes" else name
    if single not in _DECODERS:
        raise ValueError(f"unknown value type {name[:80]!r}")
    decode = _DECODERS[single]
    if single == name:
        single_value: Value = decode(payload)
        return single_value
    if not isinstance(payload, list) or not payload:
        raise ValueError(f"{name} needs a list of values")
    if name == "ints" and not isinstance(payload[0], bool):
        # bools are ints, but a list that begins with one is a list of bools
        return [item if isinstance(item, bool) else decode(item) for item in payload]
    return [decode(item) for item in payload]


def decode_stored(type_name: str, description: str, stored: NDArray) -> Value:
    """Return the value that a dataset holds.

    Parameters
    ----------
    type_name : str
        What the index says the value is.
    description : str
        Element type of the dataset, spelled as in the index.
    stored : ndarray of uint8, shape (n,)
        Its bytes.

    Raises
    ------
    ValueError
        The bytes are not such a value.
    TooLargeError
        They are JSON whose objects would take too much memory.
    """
    if description not in STORED_AS.get(type_name, ()):
        raise ValueError(f"a value of type {type_name[:80]!r} stored as {description[:80]!r}")
    if description == "|b1" and stored.size and int(stored.max()) > 1:
        raise ValueError("a bool that is neither 0 nor 1")
    try:
        if type_name == "bytes":
            return stored.tobytes()
        if type_name == "str":
            return stored.tobytes().decode()
        if description != "|u1":
            return list(stored.view(np.dtype(description)).tolist())
        encoded = parse_json(stored.tobytes(), text_counts=False)
        decoded = decode_value(encoded)
        if encoded[0] != type_name:
            raise ValueError(f"the JSON spells a value of type {encoded[0][:80]!r}")
        return decoded
    except TooLargeError:
        raise
    except ValueError as error:
        raise ValueError(f"a dataset that is not a value of type {type_name[:80]!r}: {error}") from error


def _scalar_type(value: object) -> str:
    for kind, name in _SCALARS:
        if isinstance(value, kind):
            return name
    return ""


def _validate_integers(items: list[int]) -> None:
    low, high = min(items), max(items)
    if low < INT64_MIN or high > UINT64_MAX or (low < 0 and high > INT64_MAX):
        worst = low if low < INT64_MIN else high
        raise ValueError(
            f"no 64-bit integer type holds {_short(worst)}"
            + (f" beside {_short(low)}" if low < 0 <= worst else "")
        )


def _short(number: int) -> str:
    # str() of an integer of thousands of digits raises or takes seconds
    return str(number) if abs(number).bit_length() < 256 else f"an integer of {number.bit_length()} bits"


def _encode_item(item: Any) -> Any:
    if isinstance(item, bool):
        return bool(item)
    if isinstance(item, int):
        return int(item) if abs(item) <= EXACT_IN_DOUBLE else str(int(item))
    if isinstance(item, float):
        return _encode_float(float(item))
    if isinstance(item, str):
        return str(item)
    return base64.b64encode(item).decode()


def _encode_float(number: float) -> float | str:
    if math.isfinite(number):
        return number
    if math.isinf(number):
        return "inf" if number > 0 else "-inf"
    (bits,) = struct.unpack("<Q", struct.pack("<d", number))
    return "nan" if bits == _NAN_BITS else f"{bits:016x}"


def _decode_bool(payload: Any) -> bool:
    if not isinstance(payload, bool):
        raise ValueError("a bool is true or false")
    return payload


def _decode_int(payload: Any) -> int:
    is_number = isinstance(payload, int) and not isinstance(payload, bool)
    if is_number and -EXACT_IN_DOUBLE <= payload <= EXACT_IN_DOUBLE:
        return int(payload)
    if isinstance(payload, str) and _INTEGER.fullmatch(payload):
        number = int(payload)
        if INT64_MIN <= number < -EXACT_IN_DOUBLE or EXACT_IN_DOUBLE < number <= UINT64_MAX:
            return number
    raise ValueError("an int is a 64-bit integer: a number up to 2**53 - 1, text beyond")


def _decode_float(payload: Any) -> float:
    if isinstance(payload, bool) or not isinstance(payload, (int, float, str)):
        raise ValueError("a float is a number or its name")
    if isinstance(payload, str):
        named = _NAMED_FLOATS.get(payload)
        if named is not None:
            return named
        bits: bytes = bytes.fromhex(payload) if _BITS.fullmatch(payload) else bytes(8)
        number: float = struct.unpack(">d", bits)[0]
        if not math.isnan(number) or int.from_bytes(bits, "big") == _NAN_BITS:
            raise ValueError(f"{payload[:40]!r} is not a float, or has another name")
        return number
    try:
        found = float(payload)
    except OverflowError as error:
        raise ValueError("a float beyond the range of 64 bits") from error
    if not math.isfinite(found):
        raise ValueError("a float beyond the range of 64 bits")
    return found


def _decode_str(payload: Any) -> str:
    if not isinstance(payload, str):
        raise ValueError("a str is a JSON string")
    return payload


def _decode_bytes(payload: Any) -> bytes:
    if not isinstance(payload, str):
        raise ValueError("bytes are a base64 string")
    try:
        decoded = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("bytes are a base64 string") from error
    if base64.b64encode(decoded).decode() != payload:
        raise ValueError("bytes have one spelling in base64")
    return decoded


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "bool": _decode_bool,
    "int": _decode_int,
    "float": _decode_float,
    "str": _decode_str,
    "bytes": _decode_bytes,
}
