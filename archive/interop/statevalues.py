"""Values of a program's state as JSON and named arrays, and back. Never a pickle: the unknown is refused.

JSON holds None, bool, int, float, str and lists as they are. Everything else is an object whose key
``$`` says what it is; arrays in it are named by where they were found (``m_t/fc.weight``).
"""

from __future__ import annotations

import importlib
import math
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from archive.dtypes import dtype_name
from archive.errors import ArchiveError, HostileFileError
from archive.records import Array, SType
from archive.records.payload import BytesPayload, NdarrayPayload
from archive.records.tensors import is_tensor, tensor_to_elements

__all__ = [
    "JSON",
    "KINDS",
    "Arrays",
    "Kind",
    "NotStateError",
    "copy_of",
    "decode",
    "decode_dict",
    "encode",
    "encode_dict",
    "is_known_dict",
    "is_torch",
    "place",
    "rewind",
]

JSON: TypeAlias = Any
"""What ``json.dumps`` takes."""
Arrays: TypeAlias = dict[str, Array]
"""Arrays by name, filled while values are encoded, over the memory of these: saved before it changes."""

_INLINE_BYTES = 256
"""Longer bytes (boosted trees) are arrays of their own."""
_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
_FACTORIES = {str(kind.__name__): kind for kind in (list, dict, set, int, float, str, Counter, deque)}


class NotStateError(TypeError):
    """A value that no file can hold: a function, a handle, an object of an unknown class."""


class Kind(NamedTuple):
    """Values of one sort."""

    known: Callable[[Any], bool]
    """Tells whether a value is one."""
    encode: Callable[[Any, str, Arrays], dict[str, JSON]]
    """Returns what stands beside ``$``."""
    decode: Callable[[JSON, Mapping[str, Array]], Any]
    """Makes the value again."""


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
    {'$': 'dict', 'items': [['w', [{'$': 'ndarray', 'at': 'm_t/w/0'}, 0.5]]]}
    >>> decode(_, arrays)
    {'w': [array([0., 0.]), 0.5]}
    """
    if type(value) is float and not math.isfinite(value):
        return {"$": "float", "value": repr(value)}
    if value is None or type(value) in (bool, int, float, str):
        return value
    try:
        if type(value) is list:
            return [encode(item, f"{path}/{number}", arrays) for number, item in enumerate(value)]
        for name, kind in KINDS.items():
            if kind.known(value):
                return {"$": name, **kind.encode(value, path, arrays)}
    except RecursionError as error:
        raise NotStateError(f"{path}: nested too deep") from error
    raise NotStateError(f"{path}: {type(value).__module__}.{type(value).__qualname__} is not saved")


def decode(tree: JSON, arrays: Mapping[str, Array]) -> Any:
    """Return the value of a tree that `encode` made.

    Raises
    ------
    HostileFileError
        The tree was made by something else, or an array it names is missing.
    """
    if isinstance(tree, list):
        return [decode(item, arrays) for item in tree]
    if not isinstance(tree, dict):
        return tree
    try:
        return KINDS[tree["$"]].decode(tree, arrays)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, ArchiveError):  # an array that fails its digest, say
            raise
        raise HostileFileError(f"a saved state that is none: {error}") from error


def is_torch(value: object, name: str) -> bool:
    """Tell whether a value is of a class of torch of that name; imports nothing."""
    return type(value).__module__.partition(".")[0] == "torch" and type(value).__name__ == name


def copy_of(array: Array) -> Array:
    """Return an Array that no later change of what was encoded shows through."""
    payload = array.payload
    return Array.from_numpy_ndarray(payload.array) if isinstance(payload, NdarrayPayload) else array


def place(array: Array, path: str, arrays: Arrays) -> str:
    """Put an array under a name of its own and return that name: keys may spell the same path."""
    name, number = path, 1
    while name in arrays:
        number += 1
        name = f"{path}~{number}"
    arrays[name] = array
    return name


# Containers


def is_known_dict(value: object) -> bool:
    """Tell whether a dict is of a class that is made again; of any other it has to be filled in place."""
    factory = getattr(value, "default_factory", None)
    named = factory is None or _FACTORIES.get(getattr(factory, "__name__", "")) is factory
    return type(value) in (dict, OrderedDict, Counter) or (type(value) is defaultdict and named)


def encode_dict(value: Any, path: str, arrays: Arrays) -> dict[str, JSON]:
    """Return any mapping as pairs."""
    return {
        "items": [
            [encode(key, f"{path}/key", arrays), encode(item, f"{path}/{key}", arrays)]
            for key, item in value.items()
        ]
    }


def decode_dict(tree: JSON, arrays: Mapping[str, Array]) -> dict[Any, Any]:
    """Return the pairs as a dict."""
    return {decode(key, arrays): decode(item, arrays) for key, item in tree["items"]}


def _encode_defaultdict(value: Any, path: str, arrays: Arrays) -> dict[str, JSON]:
    factory = value.default_factory
    return {"factory": None if factory is None else factory.__name__, **encode_dict(value, path, arrays)}


def _decode_defaultdict(tree: JSON, arrays: Mapping[str, Array]) -> Any:
    factory = None if tree["factory"] is None else _FACTORIES[tree["factory"]]
    return defaultdict(factory, decode_dict(tree, arrays))


def _encode_items(value: Any, path: str, arrays: Arrays) -> dict[str, JSON]:
    return {"items": [encode(item, f"{path}/{number}", arrays) for number, item in enumerate(value)]}


def _encode_deque(value: deque[Any], path: str, arrays: Arrays) -> dict[str, JSON]:
    return {**_encode_items(value, path, arrays), "maxlen": value.maxlen}


# Bytes, scalars, arrays


def _encode_bytes(value: bytes | bytearray, path: str, arrays: Arrays) -> dict[str, JSON]:
    if len(value) <= _INLINE_BYTES:
        return {"hex": value.hex()}
    array = Array.from_payload("bytes", (len(value),), "", BytesPayload(bytes(value)))
    return {"at": place(array, path, arrays)}


def _decode_bytes(tree: JSON, arrays: Mapping[str, Array]) -> bytes:
    return bytes.fromhex(tree["hex"]) if "hex" in tree else arrays[tree["at"]].data


def _encode_elements(elements: Any, path: str, arrays: Arrays) -> dict[str, JSON]:
    """Return where elements are put, and the order of their axes in memory where it is not that of C.

    Sums over an array run in that order, and torch's fused optimizers take it to be the parameter's.
    """
    payload = NdarrayPayload(elements)
    array = Array.from_payload(dtype_name(elements.dtype), elements.shape, SType.NUMPY, payload)
    at = {"at": place(array, path, arrays)}
    axes = sorted(range(elements.ndim), key=lambda axis: -elements.strides[axis])
    if elements.flags.c_contiguous or not elements.transpose(axes).flags.c_contiguous:
        return at
    return {**at, "axes": axes}


def _encode_ndarray(value: Any, path: str, arrays: Arrays) -> dict[str, JSON]:
    if value.dtype.hasobject or type(value) is not np.ndarray:
        raise NotStateError(f"{path}: {type(value).__name__} of dtype {value.dtype} is not saved")
    return _encode_elements(value, path, arrays)


def _decode_ndarray(tree: JSON, arrays: Mapping[str, Array]) -> Any:
    found = arrays[tree["at"]].payload.writable()
    axes = tree.get("axes")
    if axes is None:
        return found
    return np.ascontiguousarray(found.transpose(axes)).transpose(_inverse(axes))


def _encode_tensor(value: Any, path: str, arrays: Arrays) -> dict[str, JSON]:
    try:
        elements, _ = tensor_to_elements(value)
    except (TypeError, RuntimeError) as error:  # sparse, without memory, or of a type that numpy lacks
        raise NotStateError(f"{path}: this tensor is not saved: {error}") from error
    return {**_encode_elements(elements, path, arrays), "requires_grad": bool(value.requires_grad)}


def _decode_tensor(tree: JSON, arrays: Mapping[str, Array]) -> Any:
    importlib.import_module("torch")
    found = arrays[tree["at"]].torch()
    axes = tree.get("axes")
    if axes is not None:
        if sorted(axes) != list(range(found.ndim)):
            raise HostileFileError(f"axes of a tensor that are none: {axes}")
        found = found.permute(axes).contiguous().permute(_inverse(axes))
    return found.requires_grad_(tree["requires_grad"])


def _inverse(axes: Sequence[int]) -> list[int]:
    return sorted(range(len(axes)), key=axes.__getitem__)


def _decode_torch_dtype(tree: JSON, _: Mapping[str, Array]) -> Any:
    torch = importlib.import_module("torch")
    found = getattr(torch, tree["name"])
    if not isinstance(found, torch.dtype):
        raise HostileFileError(f"no element type: {tree['name']!r}")
    return found


# Random numbers


def rewind(fresh: Any, value: Any) -> bool:
    """Bring a random generator to the state of another of its class; False where they are none."""
    if type(fresh) is not type(value):
        return False
    if isinstance(fresh, np.random.Generator):
        if type(fresh.bit_generator) is not type(value.bit_generator):
            return False
        fresh.bit_generator.state = value.bit_generator.state
    elif isinstance(fresh, np.random.RandomState):
        fresh.set_state(value.get_state(legacy=False))
    elif isinstance(fresh, random.Random):
        fresh.setstate(value.getstate())
    elif is_torch(fresh, "Generator") and fresh.device == value.device:
        fresh.set_state(value.get_state())
    else:
        return False
    return True


def _encode_generator(value: np.random.Generator, path: str, arrays: Arrays) -> dict[str, JSON]:
    state = value.bit_generator.state
    if state["bit_generator"] not in _BIT_GENERATORS:
        raise NotStateError(f"{path}: a bit generator of an unknown class is not saved")
    return {"state": encode(state, path, arrays)}


def _decode_generator(tree: JSON, arrays: Mapping[str, Array]) -> np.random.Generator:
    state = decode(tree["state"], arrays)
    if state["bit_generator"] not in _BIT_GENERATORS:
        raise HostileFileError(f"a bit generator {state['bit_generator']!r}")
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


def _of(kind: type) -> Callable[[object], bool]:
    return lambda value: type(value) is kind


KINDS: dict[str, Kind] = {
    "float": Kind(lambda _: False, lambda *_: {}, lambda tree, _: float(tree["value"])),
    "ndarray": Kind(lambda value: isinstance(value, np.ndarray), _encode_ndarray, _decode_ndarray),
    "dict": Kind(_of(dict), encode_dict, decode_dict),
    "OrderedDict": Kind(_of(OrderedDict), encode_dict, lambda *given: OrderedDict(decode_dict(*given))),
    "Counter": Kind(_of(Counter), encode_dict, lambda *given: Counter(decode_dict(*given))),
    "defaultdict": Kind(
        lambda value: type(value) is defaultdict and is_known_dict(value),
        _encode_defaultdict,
        _decode_defaultdict,
    ),
    "tuple": Kind(_of(tuple), _encode_items, lambda tree, arrays: tuple(decode(tree["items"], arrays))),
    "set": Kind(_of(set), _encode_items, lambda tree, arrays: set(decode(tree["items"], arrays))),
    "frozenset": Kind(
        _of(frozenset), _encode_items, lambda tree, arrays: frozenset(decode(tree["items"], arrays))
    ),
    "deque": Kind(
        _of(deque), _encode_deque, lambda tree, arrays: deque(decode(tree["items"], arrays), tree["maxlen"])
    ),
    "bytes": Kind(_of(bytes), _encode_bytes, _decode_bytes),
    "bytearray": Kind(_of(bytearray), _encode_bytes, lambda *given: bytearray(_decode_bytes(*given))),
    "scalar": Kind(
        lambda value: isinstance(value, np.generic) and not value.dtype.hasobject,
        lambda value, *_: {"dtype": value.dtype.str, "hex": value.tobytes().hex()},
        lambda tree, _: np.frombuffer(bytes.fromhex(tree["hex"]), tree["dtype"])[0],
    ),
    "tensor": Kind(is_tensor, _encode_tensor, _decode_tensor),
    "dtype": Kind(
        lambda value: is_torch(value, "dtype"),
        lambda value, *_: {"name": str(value).removeprefix("torch.")},
        _decode_torch_dtype,
    ),
    "generator": Kind(_of(np.random.Generator), _encode_generator, _decode_generator),
    "random_state": Kind(
        _of(np.random.RandomState),
        lambda value, *rest: {"state": encode(value.get_state(legacy=False), *rest)},
        _decode_random_state,
    ),
    "random": Kind(_of(random.Random), _encode_random, _decode_random),
    "torch_generator": Kind(
        lambda value: is_torch(value, "Generator"),
        lambda value, *rest: {"state": encode(value.get_state(), *rest), "device": str(value.device)},
        _decode_torch_generator,
    ),
}
"""What can be saved, by its name in JSON; `archive.interop.flower.strategyvalues` adds Flower's own."""
