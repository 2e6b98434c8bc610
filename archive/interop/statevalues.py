"""Values of a program's state as JSON and named arrays, and back. Unknown classes are refused, never pickled.

JSON holds None, bool, int, float, str and lists as they are. Any other value is an object whose key ``$``
names its kind; its arrays are named by their path in the state (``m_t/fc.weight``).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import math
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np

from archive.errors import ArchiveError, HostileFileError, UnsupportedDtypeError, ValueRangeError
from archive.interop.statearrays import (
    JSON,
    LEAVES,
    Arrays,
    Found,
    Kind,
    NotStateError,
    Path,
    class_name,
    is_torch,
    of_class,
)
from archive.interop.stateclasses import (
    NotLoadedError,
    enum_member,
    is_namedtuple,
    member_names,
    named_tuple,
    place_of,
)
from archive.interop.statestandard import STANDARD
from archive.interop.statetensors import TENSORS
from archive.records import Array

__all__ = [
    "KINDS",
    "MALFORMED",
    "decode",
    "decode_dict",
    "encode",
    "encode_dict",
    "is_known_dict",
    "rewind",
    "without_collections",
]

_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
MALFORMED = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Errors of Python, numpy and torch when a tree was not made by `encode`."""
_MAX_BITS = 14_000
"""Bits of the largest int: Python reads and writes no text of more than 4,300 digits."""
_MAX_DEPTH = 100
"""Keys that lead to a value, at most: reading takes more of Python's stack than saving."""
_POSITIONS = {"MT19937": ("pos", 624), "Philox": ("buffer_pos", 4)}
"""Bit generators that read words at a position of their state, with its name and its largest value."""
_FACTORIES = {str(kind.__name__): kind for kind in (list, dict, set, int, float, str, Counter, deque)}


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Keep Python from looking for garbage: 20,000 tensors make 200,000 objects and none of it.

    Looking took 40 % of the time of a save and of a load.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def encode(value: Any, path: Path, arrays: Arrays) -> JSON:
    """Return a value as JSON, its arrays put into ``arrays`` under names that begin with ``path``.

    Raises
    ------
    NotStateError
        Something in it cannot be saved.

    Examples
    --------
    >>> arrays = Arrays()
    >>> encode({"w": [np.zeros(2), 0.5]}, ("m_t",), arrays)
    {'$': 'dict', 'items': [['w', [{'$': 'ndarray', 'at': 'm_t/w/0'}, 0.5]]]}
    >>> decode(_, arrays, key="m_t")
    {'w': [array([0., 0.]), 0.5]}
    """
    if type(value) is float and not math.isfinite(value):
        return {"$": "float", "value": repr(value)}
    if type(value) is int and value.bit_length() > _MAX_BITS:
        raise NotStateError(path, f"an int of {value.bit_length()} bits is not saved", "save its to_bytes()")
    if value is None or type(value) in (bool, int, float, str):
        return value
    if len(path) > _MAX_DEPTH:
        raise NotStateError(path[:10], f"nested more than {_MAX_DEPTH} deep")
    try:
        if type(value) is list:
            return [encode(item, (*path, str(number)), arrays) for number, item in enumerate(value)]
        for name, kind in KINDS.items():
            if kind.known(value):
                return {"$": name, **kind.encode(value, path, arrays)}
    except RecursionError as error:
        raise NotStateError(path, "nested too deep") from error
    raise NotStateError(path, f"{class_name(type(value))} is not saved", _remedy(value))


def _remedy(value: Any) -> str | None:
    """Return what to save instead of a value of an unknown class."""
    if callable(getattr(value, "state_dict", None)):
        return "save its state_dict()"
    plain = next((kind.__name__ for kind in (dict, list, tuple, set) if isinstance(value, kind)), None)
    return f"save {plain}() of it, or what it holds" if plain else None


def decode(tree: JSON, arrays: Mapping[str, Array] | Found, *, key: str, path: str | None = None) -> Any:
    """Return the value of a tree that `encode` made.

    Parameters
    ----------
    tree : JSON
    arrays : mapping of str to Array, or Found
    key : str
        Name of the value in the saved state, for errors.
    path : str, optional
        The file that the tree is from, for errors.

    Raises
    ------
    HostileFileError
        `encode` makes no such tree, or an array that the tree names is missing.
    ValueRangeError
        The class of a named tuple or enum is in none of the modules that the program has imported.
    UnsupportedDtypeError
        No element type of numpy or ml_dtypes has the saved name.
    """
    try:
        return _decode(tree, arrays if isinstance(arrays, Found) else Found(arrays))
    except UnsupportedDtypeError as error:
        raise UnsupportedDtypeError(
            error.problem, path=error.path or path, key=error.key or key, remedy=error.remedy
        ) from error
    except ArchiveError:  # an array that fails its digest, say
        raise
    except NotLoadedError as error:
        problem = f"{error} among the modules that this program has imported"
        remedy = "import the module of the class first"
        raise ValueRangeError(problem, path=path, key=key, remedy=remedy) from error
    except MALFORMED as error:
        problem = f"invalid saved state: {type(error).__name__}: {error}"
        raise HostileFileError(problem, path=path, key=key) from error


def _decode(tree: JSON, found: Found) -> Any:
    if isinstance(tree, list):
        return [_decode(item, found) for item in tree]
    return KINDS[tree["$"]].decode(tree, found) if isinstance(tree, dict) else tree


# Containers


def is_known_dict(value: object) -> bool:
    """Tell whether a dict's class is made again; a dict of any other class has to be filled in place."""
    factory = getattr(value, "default_factory", None)
    named = factory is None or _FACTORIES.get(getattr(factory, "__name__", "")) is factory
    return type(value) in (dict, OrderedDict, Counter) or (type(value) is defaultdict and named)


def encode_dict(value: Any, path: Path, arrays: Arrays) -> dict[str, JSON]:
    """Return any mapping as pairs."""
    return {
        "items": [
            [encode(key, (*path, "key"), arrays), encode(item, (*path, str(key)), arrays)]
            for key, item in value.items()
        ]
    }


def decode_dict(tree: JSON, found: Found) -> dict[Any, Any]:
    """Return the pairs as a dict."""
    return {_decode(key, found): _decode(item, found) for key, item in tree["items"]}


def _decode_items(tree: JSON, found: Found) -> list[Any]:
    return [_decode(item, found) for item in tree["items"]]


def _encode_defaultdict(value: Any, path: Path, arrays: Arrays) -> dict[str, JSON]:
    factory = value.default_factory
    return {"factory": None if factory is None else factory.__name__, **encode_dict(value, path, arrays)}


def _decode_defaultdict(tree: JSON, found: Found) -> Any:
    factory = None if tree["factory"] is None else _FACTORIES[tree["factory"]]
    return defaultdict(factory, decode_dict(tree, found))


def _encode_items(value: Any, path: Path, arrays: Arrays) -> dict[str, JSON]:
    return {"items": [encode(item, (*path, str(number)), arrays) for number, item in enumerate(value)]}


def _parts_of(kind: Any, *names: str) -> Kind:
    """Return a kind of values that are made of their attributes, in this order."""
    return Kind(
        of_class(kind),
        lambda value, path, arrays: {n: encode(getattr(value, n), (*path, n), arrays) for n in names},
        lambda tree, found: kind(*(_decode(tree[name], found) for name in names)),
    )


def _encode_namedtuple(value: Any, path: Path, arrays: Arrays) -> dict[str, JSON]:
    if getattr(value, "__dict__", None):
        raise NotStateError(path, f"{class_name(type(value))} with attributes beside its fields is not saved")
    fields = list(value._fields)
    items = [encode(item, (*path, name), arrays) for name, item in zip(fields, value, strict=True)]
    return {**place_of(type(value), path), "fields": fields, "items": items}


# Random numbers


def rewind(fresh: Any, value: Any) -> bool:
    """Bring a random generator to the state of another of its class; return False for any other pair."""
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


def _require_position(state: Any) -> None:
    """Raise where a state points outside of its words: numpy reads the memory there."""
    name, largest = _POSITIONS.get(state["bit_generator"], ("", 0))
    position = state[name] if name in state else state["state"].get(name, 0)
    if not 0 <= position <= largest:
        raise ValueError(f"invalid {name}: {position}")


def _encode_generator(value: np.random.Generator, path: Path, arrays: Arrays) -> dict[str, JSON]:
    state = value.bit_generator.state
    if state["bit_generator"] not in _BIT_GENERATORS:
        raise NotStateError(path, "a bit generator of an unknown class is not saved")
    return {"state": encode(state, path, arrays)}


def _decode_generator(tree: JSON, found: Found) -> np.random.Generator:
    state = _decode(tree["state"], found)
    if state["bit_generator"] not in _BIT_GENERATORS:
        raise ValueError(f"unknown bit generator {state['bit_generator']!r}")
    _require_position(state)
    bits = getattr(np.random, state["bit_generator"])()
    bits.state = state
    return np.random.Generator(bits)


def _decode_random_state(tree: JSON, found: Found) -> np.random.RandomState:
    made, state = np.random.RandomState(), _decode(tree["state"], found)
    _require_position(state)
    made.set_state(state)
    return made


def _encode_random_state(value: np.random.RandomState, path: Path, arrays: Arrays) -> dict[str, JSON]:
    state = value.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        raise NotStateError(path, "a RandomState of another bit generator than MT19937 is not saved")
    return {"state": encode(state, path, arrays)}


def _encode_random(value: random.Random, path: Path, arrays: Arrays) -> dict[str, JSON]:
    version, words, gauss = value.getstate()
    return {"version": version, "words": encode(np.array(words, np.uint32), path, arrays), "gauss": gauss}


def _decode_random(tree: JSON, found: Found) -> random.Random:
    made = random.Random()  # noqa: S311 whatever a strategy samples its clients with
    words = tuple(_decode(tree["words"], found).tolist())
    made.setstate((tree["version"], words, tree["gauss"]))
    return made


def _decode_torch_generator(tree: JSON, found: Found) -> Any:
    torch = importlib.import_module("torch")
    made = torch.Generator(tree["device"])
    made.set_state(torch.from_numpy(_decode(tree["state"], found)))
    return made


def _items_of(kind: type) -> Kind:
    return Kind(of_class(kind), _encode_items, lambda *given: kind(_decode_items(*given)))


def _pairs_of(kind: type) -> Kind:
    return Kind(of_class(kind), encode_dict, lambda *given: kind(decode_dict(*given)))


def _encode_ordered(value: Any, path: Path, arrays: Arrays) -> dict[str, JSON]:
    """Return the pairs, and the versions of modules that torch hangs on a state dict."""
    tree = encode_dict(value, path, arrays)
    versions = getattr(value, "_metadata", None)
    return tree if versions is None else {**tree, "metadata": encode(versions, (*path, "_metadata"), arrays)}


def _decode_ordered(tree: JSON, found: Found) -> Any:
    made: Any = OrderedDict(decode_dict(tree, found))
    if "metadata" in tree:
        made._metadata = _decode(tree["metadata"], found)
    return made


KINDS: dict[str, Kind] = {
    **TENSORS,
    **LEAVES,
    **{kind.__name__: _pairs_of(kind) for kind in (dict, Counter)},
    "OrderedDict": Kind(of_class(OrderedDict), _encode_ordered, _decode_ordered),
    **{kind.__name__: _items_of(kind) for kind in (tuple, set, frozenset)},
    "float": Kind(lambda _: False, lambda *_: {}, lambda tree, _: float(tree["value"])),
    "defaultdict": Kind(
        lambda value: type(value) is defaultdict and is_known_dict(value),
        _encode_defaultdict,
        _decode_defaultdict,
    ),
    "deque": Kind(
        of_class(deque),
        lambda value, *rest: {**_encode_items(value, *rest), "maxlen": value.maxlen},
        lambda tree, found: deque(_decode_items(tree, found), tree["maxlen"]),
    ),
    "generator": Kind(of_class(np.random.Generator), _encode_generator, _decode_generator),
    "random_state": Kind(
        of_class(np.random.RandomState),
        _encode_random_state,
        _decode_random_state,
    ),
    "random": Kind(of_class(random.Random), _encode_random, _decode_random),
    "torch_generator": Kind(
        lambda value: is_torch(value, "Generator"),
        lambda value, *rest: {"state": encode(value.get_state().numpy(), *rest), "device": str(value.device)},
        _decode_torch_generator,
    ),
    **STANDARD,
    "timedelta": _parts_of(timedelta, "days", "seconds", "microseconds"),
    "fraction": _parts_of(Fraction, "numerator", "denominator"),
    "range": _parts_of(range, "start", "stop", "step"),
    "slice": _parts_of(slice, "start", "stop", "step"),
    "namedtuple": Kind(
        is_namedtuple, _encode_namedtuple, lambda tree, found: named_tuple(tree, _decode_items(tree, found))
    ),
    "enum": Kind(
        lambda value: isinstance(value, Enum),
        lambda value, path, _: {**place_of(type(value), path), "members": member_names(value, path)},
        lambda tree, _: enum_member(tree),
    ),
}
"""Every kind by its name in JSON; `archive.interop.flower.strategyvalues` adds Flower's own."""
