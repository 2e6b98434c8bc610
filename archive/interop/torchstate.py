"""States of optimizers and schedulers as JSON and named tensors, and back; what is neither is refused.

JSON holds None, bool, int, finite float, str and lists as they are; anything else is an object whose key
``$`` says what it is.
"""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from archive.errors import HostileFileError, ValueRangeError
from archive.records.tensors import is_tensor, require_torch

__all__ = ["decode_state", "encode_state"]

JSON: TypeAlias = Any
_DICTS: dict[str, type[dict[Any, Any]]] = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}
_MAX_DEPTH = 100


def encode_state(
    value: Any, path: str, arrays: dict[str, Any], names: Mapping[str, str] | None = None
) -> str:
    """Return a state as JSON; its tensors and ndarrays are put into ``arrays`` under their paths.

    Parameters
    ----------
    value : Any
    path : str
        What names of arrays begin with.
    arrays : dict
    names : mapping, optional
        Better names for paths, such as a parameter's for its number.

    Raises
    ------
    ValueRangeError
        A part of it is none of the kinds above; the message names it.

    Examples
    --------
    >>> arrays = {}
    >>> encode_state({0: {"m": np.zeros(2), "betas": (0.9, float("inf"))}}, "state", arrays)
    '{"$":"dict","items":[[0,{"$":"dict","items":[["m",{"$":"ndarray","at":"state/0/m"}],...
    >>> decode_state(_, arrays.__getitem__)
    {0: {'m': array([0., 0.]), 'betas': (0.9, inf)}}
    """
    tree = _encode(value, path, arrays, names or {}, 0)
    return json.dumps(tree, allow_nan=False, separators=(",", ":"))


def decode_state(text: object, find: Callable[[str], Any]) -> Any:
    """Return the state behind what `encode_state` made; ``find`` gives the array of a name.

    Raises
    ------
    HostileFileError
        It was made by something else, or names an array that is not there.
    """
    try:
        return _decode(json.loads(text), find)  # type: ignore[arg-type]
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise HostileFileError(f"the state of a training that is none: {error}") from error


def _encode(value: Any, path: str, arrays: dict[str, Any], names: Mapping[str, str], depth: int) -> JSON:
    path = names.get(path, path)
    kind = type(value)
    if value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value)):
        return value
    if kind is float:
        return {"$": "float", "value": repr(value)}
    if depth > _MAX_DEPTH:
        raise ValueRangeError(f"nested more than {_MAX_DEPTH} deep", key=path)
    if kind in (list, tuple):
        items = [
            _encode(item, f"{path}/{place}", arrays, names, depth + 1) for place, item in enumerate(value)
        ]
        return items if kind is list else {"$": "tuple", "items": items}
    if kind in _DICTS.values():
        items = []
        for key, item in value.items():
            if type(key) not in (str, int):
                raise ValueRangeError(f"a key of type {type(key).__name__}", key=path)
            items.append([key, _encode(item, f"{path}/{key}", arrays, names, depth + 1)])
        return {"$": kind.__name__, "items": items}
    if is_tensor(value):
        return {"$": "tensor", "at": _place(value, path, arrays)}
    if kind is np.ndarray and not value.dtype.hasobject:
        return {"$": "ndarray", "at": _place(value, path, arrays)}
    if isinstance(value, np.generic) and not value.dtype.hasobject:
        return {"$": "scalar", "at": _place(np.asarray(value), path, arrays)}
    if kind is bytes:
        return {"$": "bytes", "hex": value.hex()}
    if kind.__module__ == "torch" and kind.__name__ == "dtype":
        return {"$": "dtype", "name": str(value).removeprefix("torch.")}
    raise ValueRangeError(
        f"{kind.__module__}.{kind.__qualname__} is no tensor and no plain value, and nothing is pickled",
        key=path,
        remedy="leave it out of the state, and set it again after loading",
    )


def _place(array: Any, path: str, arrays: dict[str, Any]) -> str:
    name, number = path, 1
    while name in arrays:  # the keys "0" and 0 spell one path
        number += 1
        name = f"{path}~{number}"
    arrays[name] = array
    return name


def _decode(tree: JSON, find: Callable[[str], Any]) -> Any:
    if isinstance(tree, list):
        return [_decode(item, find) for item in tree]
    if not isinstance(tree, dict):
        return tree
    kind = tree["$"]
    if kind in _DICTS:
        return _DICTS[kind]({key: _decode(item, find) for key, item in tree["items"]})
    if kind == "tuple":
        return tuple(_decode(tree["items"], find))
    if kind == "float":
        return float(tree["value"])
    if kind == "bytes":
        return bytes.fromhex(tree["hex"])
    if kind == "dtype":
        torch = require_torch()
        found = getattr(torch, tree["name"])
        if not isinstance(found, torch.dtype):
            raise ValueError(f"no element type: {tree['name']!r}")
        return found
    if kind not in ("tensor", "ndarray", "scalar"):
        raise ValueError(f"unknown kind {kind!r}")
    found = find(tree["at"])
    if isinstance(found, np.ndarray):
        return found[()] if kind == "scalar" else found
    return found if kind == "tensor" else found.numpy()
