"""Arrays, tensors, bytes and scalars of a program's state as members of JSON and named arrays, and back."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from archive.dtypes import NDArray, dtype_name
from archive.errors import UnsupportedDtypeError, ValueRangeError
from archive.records import Array, SType
from archive.records.payload import BytesPayload, NdarrayPayload
from archive.records.tensors import is_tensor, tensor_to_elements

__all__ = [
    "JSON",
    "LEAVES",
    "Arrays",
    "Kind",
    "NotStateError",
    "array_over",
    "class_name",
    "copy_of",
    "is_torch",
    "of_class",
    "place",
    "tensor_elements",
]

JSON: TypeAlias = Any
"""Any value of ``json.dumps``."""
Arrays: TypeAlias = dict[str, Array]
"""Arrays by name. They share the memory of the encoded values: save them before the values change."""

_INLINE_BYTES = 256
"""Longer bytes (boosted trees) are arrays of their own."""


class NotStateError(TypeError):
    """A value that no file can hold: a function, a handle, an object of an unknown class."""

    def __init__(self, key: str, problem: str, remedy: str | None = None) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key
        """Path of the value in the state."""
        self.problem = problem
        self.remedy = remedy
        """What the caller can do, where that is not to leave the value out."""


class Kind(NamedTuple):
    """How values of some classes are encoded."""

    known: Callable[[Any], bool]
    """Tells whether a value is of this kind."""
    encode: Callable[[Any, str, Arrays], dict[str, JSON]]
    """Returns the object's members beside ``$``."""
    decode: Callable[[JSON, Mapping[str, Array]], Any]
    """Makes the value again."""


def of_class(kind: type) -> Callable[[object], bool]:
    """Return a function that tells whether a value's class is exactly this one."""
    return lambda value: type(value) is kind


def class_name(kind: type) -> str:
    """Return the name of a class, with its module."""
    return f"{kind.__module__}.{kind.__qualname__}"


def is_torch(value: object, name: str) -> bool:
    """Tell whether a value's class is torch's of that name, without importing torch."""
    return type(value).__module__.partition(".")[0] == "torch" and type(value).__name__ == name


def copy_of(array: Array) -> Array:
    """Return an Array that later changes of the encoded value leave as it is."""
    payload = array.payload
    return Array.from_numpy_ndarray(payload.array) if isinstance(payload, NdarrayPayload) else array


def place(array: Array, path: str, arrays: Arrays) -> str:
    """Add an array under an unused name and return the name: two keys may spell the same path."""
    name, number = path, 1
    while name in arrays:
        number += 1
        name = f"{path}~{number}"
    arrays[name] = array
    return name


def array_over(elements: NDArray) -> Array:
    """Return an Array over the memory of elements."""
    payload = NdarrayPayload(elements)
    return Array.from_payload(dtype_name(elements.dtype), elements.shape, SType.NUMPY, payload)


def tensor_elements(tensor: Any, path: str) -> NDArray:
    """Return a tensor's elements, over its own memory where that is on this machine.

    Raises
    ------
    NotStateError
        The tensor is sparse, without memory, or of a type that numpy lacks.
    """
    try:
        elements, _ = tensor_to_elements(tensor)
    except (UnsupportedDtypeError, ValueRangeError) as error:
        raise NotStateError(path, error.problem, error.remedy) from error
    return elements


def _encode_elements(elements: NDArray, path: str, arrays: Arrays) -> dict[str, JSON]:
    """Return the name of the elements' array, and the order of their axes in memory unless it is C order.

    Sums over an array run in that order, and torch's fused optimizers take it to be the parameter's.
    """
    at = {"at": place(array_over(elements), path, arrays)}
    axes = sorted(range(elements.ndim), key=lambda axis: -elements.strides[axis])
    if elements.flags.c_contiguous or not elements.transpose(axes).flags.c_contiguous:
        return at
    return {**at, "axes": axes}


def _encode_ndarray(value: Any, path: str, arrays: Arrays) -> dict[str, JSON]:
    if value.dtype.hasobject or type(value) is not np.ndarray:
        raise NotStateError(path, f"{type(value).__name__} of dtype {value.dtype} is not saved")
    return _encode_elements(value, path, arrays)


def _decode_ndarray(tree: JSON, arrays: Mapping[str, Array]) -> Any:
    found = arrays[tree["at"]].payload.writable()
    axes = tree.get("axes")
    if axes is None:
        return found
    return np.ascontiguousarray(found.transpose(axes)).transpose(_inverse(axes))


def _encode_tensor(value: Any, path: str, arrays: Arrays) -> dict[str, JSON]:
    elements = tensor_elements(value, path)
    return {**_encode_elements(elements, path, arrays), "requires_grad": bool(value.requires_grad)}


def _decode_tensor(tree: JSON, arrays: Mapping[str, Array]) -> Any:
    importlib.import_module("torch")
    found = arrays[tree["at"]].torch()
    axes = tree.get("axes")
    if axes is not None:
        if sorted(axes) != list(range(found.ndim)):
            raise ValueError(f"invalid axes of a tensor: {axes}")
        found = found.permute(axes).contiguous().permute(_inverse(axes))
    return found.requires_grad_(tree["requires_grad"])


def _inverse(axes: Sequence[int]) -> list[int]:
    return sorted(range(len(axes)), key=axes.__getitem__)


def _decode_torch_dtype(tree: JSON, _: Mapping[str, Array]) -> Any:
    torch = importlib.import_module("torch")
    found = getattr(torch, tree["name"])
    if not isinstance(found, torch.dtype):
        raise ValueError(f"invalid element type {tree['name']!r}")
    return found


def _encode_bytes(value: bytes | bytearray, path: str, arrays: Arrays) -> dict[str, JSON]:
    if len(value) <= _INLINE_BYTES:
        return {"hex": value.hex()}
    array = Array.from_payload("bytes", (len(value),), "", BytesPayload(bytes(value)))
    return {"at": place(array, path, arrays)}


def _decode_bytes(tree: JSON, arrays: Mapping[str, Array]) -> bytes:
    return bytes.fromhex(tree["hex"]) if "hex" in tree else arrays[tree["at"]].data


LEAVES: dict[str, Kind] = {
    "ndarray": Kind(lambda value: isinstance(value, np.ndarray), _encode_ndarray, _decode_ndarray),
    "tensor": Kind(is_tensor, _encode_tensor, _decode_tensor),
    "dtype": Kind(
        lambda value: is_torch(value, "dtype"),
        lambda value, *_: {"name": str(value).removeprefix("torch.")},
        _decode_torch_dtype,
    ),
    "scalar": Kind(
        lambda value: isinstance(value, np.generic) and not value.dtype.hasobject,
        lambda value, *_: {"dtype": value.dtype.str, "hex": value.tobytes().hex()},
        lambda tree, _: np.frombuffer(bytes.fromhex(tree["hex"]), tree["dtype"])[0],
    ),
    "bytes": Kind(of_class(bytes), _encode_bytes, _decode_bytes),
    "bytearray": Kind(of_class(bytearray), _encode_bytes, lambda *given: bytearray(_decode_bytes(*given))),
}
"""Kinds of values that contain no other value."""
