"""Element types of arrays, changed: of an array in memory at once, of another when it is written."""

from __future__ import annotations

from typing import Any

import numpy as np

from archive.descriptions import parse_description
from archive.dtypes import NDArray, is_ml_dtype, long_name, parse_dtype
from archive.engine.read.convertedpayload import ConvertedPayload
from archive.engine.read.storedpayload import StoredPayload
from archive.errors import UnsupportedDtypeError
from archive.format.constants import MODE_ELEMENTS
from archive.records import Array, SType
from archive.records.ownelements import has_own_elements
from archive.records.tensors import is_tensor_like, tensor_to_elements

__all__ = [
    "as_array",
    "convert",
    "is_floating",
    "number_type",
    "parse_number_type",
    "require_convertible",
]

DType = np.dtype[Any]


def parse_number_type(dtype: Any) -> DType:
    """Return the type of numbers that a name, a type of numpy or one of torch means.

    Raises
    ------
    UnsupportedDtypeError
        It is not a type of numbers.

    Examples
    --------
    >>> parse_number_type("bf16").name, parse_number_type(np.float16).name
    ('bfloat16', 'float16')
    """
    text = str(dtype)
    named = isinstance(dtype, str) or text.startswith("torch.")
    found = parse_dtype(long_name(text)) if named else np.dtype(dtype)
    if not _is_number(found):
        raise UnsupportedDtypeError(
            f"{text!r} is no type of numbers", key=text, remedy='name one, such as "bfloat16"'
        )
    return found


def number_type(array: Any) -> DType | None:
    """Return the type of the elements of an array-like; None where they are not numbers."""
    if isinstance(array, np.ndarray):
        found = array.dtype
    elif is_tensor_like(array):
        found = tensor_to_elements(array)[0].dtype
    elif array.stype != SType.NUMPY:
        return None
    else:
        payload = _payload(array)
        if isinstance(payload, StoredPayload):
            if payload.type.mode != MODE_ELEMENTS:
                return None
            found = parse_description(payload.type.description)
        else:
            try:
                found = parse_dtype(array.dtype)
            except UnsupportedDtypeError:
                return None
    return found if _is_number(found) else None


def require_convertible(found: DType | None, wanted: DType, key: str) -> None:
    """Raise where an array holds no numbers, or complex ones that would lose a part.

    Raises
    ------
    UnsupportedDtypeError
    """
    if found is None:
        raise UnsupportedDtypeError(
            "it does not hold numbers", key=key, remedy="name arrays of numbers in keys"
        )
    if found.kind == "c" and wanted.kind != "c":
        raise UnsupportedDtypeError(
            f"{wanted.name} has no imaginary part", key=key, remedy="assign the part that you want"
        )


def convert(array: Any, dtype: DType) -> Array | NDArray:
    """Return the numbers of an array-like as another type, rounded as numpy and ml_dtypes do."""
    payload = _payload(array)
    if isinstance(payload, StoredPayload | ConvertedPayload):
        converted = ConvertedPayload(payload, dtype)
        return Array.from_payload(converted.spec.type.dtype, payload.shape, SType.NUMPY, converted)
    with np.errstate(over="ignore", invalid="ignore"):
        elements: NDArray = _elements(array).astype(dtype)
    return elements


def as_array(array: Any) -> Array:
    """Return an array-like as an Array."""
    if isinstance(array, Array) and not has_own_elements(array):
        return array
    if isinstance(array, np.ndarray) or is_tensor_like(array):
        return Array(array)
    return Array(str(array.dtype), tuple(array.shape), str(array.stype), bytes(array.data))


def is_floating(dtype: DType) -> bool:
    """Tell whether a type is of real floating-point numbers.

    Examples
    --------
    >>> [is_floating(parse_number_type(name)) for name in ("bfloat16", "float64", "int4", "complex64")]
    [True, True, False, False]
    """
    return "float" in dtype.name


def _is_number(dtype: DType) -> bool:
    return dtype.kind in "biufc" or is_ml_dtype(dtype)


def _payload(array: Any) -> object:
    """Return the payload of an Array that leaves its elements to it; None of any other array-like."""
    own = isinstance(array, Array) and has_own_elements(array)
    return None if own else getattr(array, "payload", None)


def _elements(array: Any) -> NDArray:
    if isinstance(array, np.ndarray):
        return array
    if is_tensor_like(array):
        return tensor_to_elements(array)[0]
    elements: NDArray = as_array(array).payload.getitem(...)
    return elements
