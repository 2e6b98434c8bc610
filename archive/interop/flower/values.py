"""Values of a strategy as JSON and named arrays, and back. Never a pickle: what is not known is refused.

JSON holds None, bool, int, float, str and lists as they are. Everything else is an object whose key
``$`` says what it is; arrays in it are named by where they were found (``m_t/fc.weight``).
"""

from __future__ import annotations

import importlib
import math
import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from archive.errors import DamagedError
from archive.interop.flower.names import flower, is_from_flower
from archive.interop.flower.records import from_flower, to_flower
from archive.records import Array, SType
from archive.records.payload import BytesPayload
from archive.records.tensors import is_tensor

__all__ = ["JSON", "Arrays", "NotStateError", "decode", "encode", "is_torch", "tensor_array"]

JSON: TypeAlias = Any
"""What ``json.dumps`` takes."""
Arrays: TypeAlias = dict[str, Array]
"""Arrays by name, filled while values are encoded."""

_INLINE_BYTES = 256
"""Longer bytes (boosted trees) are arrays of their own."""
_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


class NotStateError(TypeError):
    """A value that no file can hold: a function, a handle, an object of an unknown class."""


def encode(value: Any, path: str, arrays: Arrays) -> JSON:
    """Return a value as JSON, its arrays put into ``arrays`` under names that begin with ``path``.

    Raises
    ------
    NotStateError
        Something in it cannot be saved.

    Examples
    --------
    >>> arrays = {}
    >>> encode({"w": [np.zeros(2), 0.5]}, "m_t", arrays)
    {'$': 'dict', 'items': [['w', [{'$': 'ndarray', 'at': 'm_t/w/0', 'order': 'C'}, 0.5]]]}
    >>> decode(_, arrays)
    {'w': [array([0., 0.]), 0.5]}
    """
    if type(value) is float and not math.isfinite(value):
        return {"$": "float", "value": repr(value)}
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [encode(item, f"{path}/{place}", arrays) for place, item in enumerate(value)]
    for kind, (known, encoder) in _ENCODERS.items():
        if known(value):
            return {"$": kind, **encoder(value, path, arrays)}
    raise NotStateError(f"{path}: {type(value).__module__}.{type(value).__qualname__} is not saved")


def decode(tree: JSON, arrays: Mapping[str, Array]) -> Any:
    """Return the value of a tree that `encode` made.

    Raises
    ------
    DamagedError
        The tree was made by something else, or an array it names is missing.
    """
    if isinstance(tree, list):
        return [decode(item, arrays) for item in tree]
    if not isinstance(tree, dict):
        return tree
    try:
        return _DECODERS[tree["$"]](tree, arrays)
    except KeyError as error:
        raise DamagedError(f"strategy state without {error}") from error


def is_torch(value: object, name: str) -> bool:
    """Tell whether a value is of a class of torch of that name; imports nothing."""
    return type(value).__module__.partition(".")[0] == "torch" and type(value).__name__ == name


def tensor_array(value: Any) -> Array:
    """Return a tensor's elements as an Array."""
    return Array.from_torch_tensor(value)


# Containers


def _encode_items(value: Any, path: str, arrays: Arrays) -> dict[str, JSON]:
    return {"items": [encode(item, f"{path}/{place}", arrays) for place, item in enumerate(value)]}


def _encode_dict(value: Any, path: str, arrays: Arrays) -> dict[str, JSON]:
    return {
        "items": [
            [encode(key, f"{path}/key", arrays), encode(item, f"{path}/{key}", arrays)]
            for key, item in value.items()
        ]
    }


def _decode_dict(tree: JSON, arrays: Mapping[str, Array]) -> dict[Any, Any]:
    return {decode(key, arrays): decode(item, arrays) for key, item in tree["items"]}


def _encode_deque(value: deque[Any], path: str, arrays: Arrays) -> dict[str, JSON]:
    return {**_encode_items(value, path, arrays), "maxlen": value.maxlen}


# Bytes, scalars, arrays


def _place(array: Array, path: str, arrays: Arrays) -> str:
    """Put an array under a name of its own and return that name: keys may spell the same path."""
    name, number = path, 1
    while name in arrays:
        number += 1
        name = f"{path}~{number}"
    arrays[name] = array
    return name


def _encode_bytes(value: bytes, path: str, arrays: Arrays) -> dict[str, JSON]:
    if len(value) <= _INLINE_BYTES:
        return {"hex": value.hex()}
    return {"at": _place(Array.from_payload("bytes", (len(value),), "", BytesPayload(value)), path, arrays)}


def _decode_bytes(tree: JSON, arrays: Mapping[str, Array]) -> bytes:
    return bytes.fromhex(tree["hex"]) if "hex" in tree else arrays[tree["at"]].data


def _encode_ndarray(value: Any, path: str, arrays: Arrays) -> dict[str, JSON]:
    if value.dtype.hasobject or type(value) is not np.ndarray:
        raise NotStateError(f"{path}: {type(value).__name__} of dtype {value.dtype} is not saved")
    fortran = value.flags.f_contiguous and not value.flags.c_contiguous
    array = Array.from_numpy_ndarray(value)
    return {"at": _place(array, path, arrays), "order": "F" if fortran else "C"}


def _decode_ndarray(tree: JSON, arrays: Mapping[str, Array]) -> Any:
    found = arrays[tree["at"]].payload.writable()
    # sums over an array run in the order of its memory
    return np.asfortranarray(found) if tree["order"] == "F" else found


def _decode_tensor(tree: JSON, arrays: Mapping[str, Array]) -> Any:
    importlib.import_module("torch")
    return arrays[tree["at"]].torch().requires_grad_(tree["requires_grad"])


# Random numbers


def _encode_generator(value: np.random.Generator, path: str, arrays: Arrays) -> dict[str, JSON]:
    state = value.bit_generator.state
    if state["bit_generator"] not in _BIT_GENERATORS:
        raise NotStateError(f"{path}: a bit generator of an unknown class is not saved")
    return {"state": encode(state, path, arrays)}


def _decode_generator(tree: JSON, arrays: Mapping[str, Array]) -> np.random.Generator:
    state = decode(tree["state"], arrays)
    if state["bit_generator"] not in _BIT_GENERATORS:
        raise DamagedError(f"a bit generator {state['bit_generator']!r}")
    bits = getattr(np.random, state["bit_generator"])()
    bits.state = state
    return np.random.Generator(bits)


def _decode_random_state(tree: JSON, arrays: Mapping[str, Array]) -> np.random.RandomState:
    made = np.random.RandomState()
    made.set_state(decode(tree["state"], arrays))
    return made


def _encode_random(value: random.Random, path: str, arrays: Arrays) -> dict[str, JSON]:
    version, words, gauss = value.getstate()
    return {"version": version, "words": encode(np.array(words, np.uint32), path, arrays), "gauss": gauss}


def _decode_random(tree: JSON, arrays: Mapping[str, Array]) -> random.Random:
    made = random.Random()  # noqa: S311 whatever a strategy samples its clients with
    words = tuple(decode(tree["words"], arrays).tolist())
    made.setstate((tree["version"], words, tree["gauss"]))
    return made


def _decode_torch_generator(tree: JSON, arrays: Mapping[str, Array]) -> Any:
    made = importlib.import_module("torch").Generator(tree["device"])
    made.set_state(decode(tree["state"], arrays))
    return made


# Flower's own


def _encode_record(value: Any, path: str, arrays: Arrays) -> dict[str, JSON]:
    if is_from_flower(value, "Array"):
        return {"at": _place(from_flower(value), path, arrays)}
    return _encode_dict(value, path, arrays)


def _decode_record(tree: JSON, arrays: Mapping[str, Array]) -> Any:
    if tree["$"] == "Array":
        return to_flower(arrays[tree["at"]])
    made = getattr(flower(), tree["$"])()
    for key, value in _decode_dict(tree, arrays).items():
        made[key] = value
    return made


def parameter_array(tensor: bytes, tensor_type: str) -> Array:
    """Return one tensor of Flower's Parameters as an Array of the same bytes.

    Examples
    --------
    >>> parameter_array(Array(np.zeros((2, 3), "f4")).data, "numpy.ndarray").shape
    (2, 3)
    """
    payload = BytesPayload(tensor)
    if tensor_type != SType.NUMPY:
        return Array.from_payload("", (len(tensor),), tensor_type, payload)
    elements = payload.getitem(...)
    return Array.from_payload(str(elements.dtype), elements.shape, SType.NUMPY, payload)


def _encode_parameters(value: Any, path: str, arrays: Arrays) -> dict[str, JSON]:
    places = [
        _place(parameter_array(tensor, value.tensor_type), f"{path}/{place}", arrays)
        for place, tensor in enumerate(value.tensors)
    ]
    return {"tensor_type": value.tensor_type, "at": places}


def _decode_parameters(tree: JSON, arrays: Mapping[str, Array]) -> Any:
    tensors = [arrays[place].data for place in tree["at"]]
    return flower().Parameters(tensors=tensors, tensor_type=tree["tensor_type"])


def _of(*kinds: type) -> Callable[[object], bool]:
    return lambda value: type(value) in kinds


def _of_flower(name: str) -> Callable[[object], bool]:
    return lambda value: is_from_flower(value, name)


_RECORDS = ("Array", "ArrayRecord", "MetricRecord", "ConfigRecord", "RecordDict")
Encoder: TypeAlias = Callable[[Any, str, Arrays], dict[str, JSON]]
_ENCODERS: dict[str, tuple[Callable[[object], bool], Encoder]] = {
    "ndarray": (lambda value: isinstance(value, np.ndarray), _encode_ndarray),
    "dict": (lambda value: isinstance(value, dict), _encode_dict),
    "tuple": (_of(tuple), _encode_items),
    "set": (_of(set, frozenset), _encode_items),
    "deque": (_of(deque), _encode_deque),
    "bytes": (_of(bytes, bytearray), lambda value, *rest: _encode_bytes(bytes(value), *rest)),
    "scalar": (
        lambda value: isinstance(value, np.generic) and not value.dtype.hasobject,
        lambda value, *_: {"dtype": value.dtype.str, "hex": value.tobytes().hex()},
    ),
    **{name: (_of_flower(name), _encode_record) for name in _RECORDS},
    "Parameters": (_of_flower("Parameters"), _encode_parameters),
    "tensor": (
        is_tensor,
        lambda value, path, arrays: {
            "at": _place(tensor_array(value), path, arrays),
            "requires_grad": bool(value.requires_grad),
        },
    ),
    "generator": (_of(np.random.Generator), _encode_generator),
    "random_state": (
        _of(np.random.RandomState),
        lambda value, *rest: {"state": encode(value.get_state(legacy=False), *rest)},
    ),
    "random": (_of(random.Random), _encode_random),
    "torch_generator": (
        lambda value: is_torch(value, "Generator"),
        lambda value, *rest: {"state": encode(value.get_state(), *rest), "device": str(value.device)},
    ),
}

_DECODERS: dict[str, Callable[[JSON, Mapping[str, Array]], Any]] = {
    "float": lambda tree, _: float(tree["value"]),
    "ndarray": _decode_ndarray,
    "dict": _decode_dict,
    "tuple": lambda tree, arrays: tuple(decode(tree["items"], arrays)),
    "set": lambda tree, arrays: set(decode(tree["items"], arrays)),
    "deque": lambda tree, arrays: deque(decode(tree["items"], arrays), tree["maxlen"]),
    "bytes": _decode_bytes,
    "scalar": lambda tree, _: np.frombuffer(bytes.fromhex(tree["hex"]), tree["dtype"])[0],
    **dict.fromkeys(_RECORDS, _decode_record),
    "Parameters": _decode_parameters,
    "tensor": _decode_tensor,
    "generator": _decode_generator,
    "random_state": _decode_random_state,
    "random": _decode_random,
    "torch_generator": _decode_torch_generator,
}
