"""The tree of a captured strategy: its parts, which settings differ between two, and what does not change.

A part is ``{"value": tree}``, ``{"script": true}`` (the script makes it), ``{"same": path}`` (captured
there), an object (``class``, ``attributes``, ``objects``; ``unsaved``, names of other attributes), or a
container of objects (``class``, ``keys``, ``items``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import xxhash

from archive.errors import ArchiveError, HostileFileError
from archive.interop.statearrays import JSON, Arrays
from archive.interop.statevalues import MALFORMED, decode
from archive.records import Array
from archive.records.payload import NdarrayPayload

__all__ = [
    "BULK_BYTES",
    "Captured",
    "bulk",
    "classes_in",
    "differences",
    "differs",
    "is_generator_tree",
    "is_plain",
    "parts_of",
    "require_tree",
    "shown",
    "unchanged",
]

Bulk: TypeAlias = tuple[int, bytes]
"""Bytes of the arrays of an attribute, and a digest of all that is saved of the attribute."""
BULK_BYTES = 16 << 20
"""Attributes of fewer bytes of arrays may be saved each round whether they change or not."""
_GENERATORS = ("generator", "random_state", "random", "torch_generator")
_MAX_DEPTH = 100


@dataclass(slots=True)
class Captured:
    """State of one object as JSON, and its arrays by name."""

    tree: JSON
    """Class, attributes, and the objects among them."""
    arrays: Arrays
    """Arrays by path. They share the memory of the object: save them before the object changes."""
    left_out: list[str] = field(default_factory=list)
    """Paths of values that cannot be saved and are not known to be the script's."""
    data: list[str] = field(default_factory=list)
    """Paths of data sets and loaders, which the script loads anew."""


def is_plain(tree: JSON) -> bool:
    """Tell whether a tree names no array: such trees can be compared."""
    if isinstance(tree, list):
        return all(map(is_plain, tree))
    return not isinstance(tree, dict) or ("at" not in tree and all(map(is_plain, tree.values())))


def differences(started: JSON, given: JSON) -> list[tuple[str, Any, Any]]:
    """Return the settings in which a script differs from the start of a run, with the objects inside.

    Parameters
    ----------
    started : JSON
        `capture` at the start of the run.
    given : JSON
        `capture` of the object as the script makes it now.

    Returns
    -------
    list of (name, was, now)
        Values, or names of classes. A value with arrays is shown as ``"(arrays)"``; the elements of arrays
        are not compared.

    Examples
    --------
    >>> from archive.interop.flower.strategycapture import capture
    >>> class Strategy:
    ...     def __init__(self, eta):
    ...         self.eta = eta
    >>> differences(capture(Strategy(0.1)).tree, capture(Strategy(0.2)).tree)
    [('eta', 0.1, 0.2)]
    """
    require_tree(started, "strategy")
    if started["class"] != given["class"]:
        return [("class", started["class"], given["class"])]
    return [(name, shown(was), shown(now)) for name, was, now in _differences(started, given, "")]


def _differences(first: JSON, now: JSON, path: str) -> Iterator[tuple[str, JSON, JSON]]:
    before = parts_of(first)
    for label, part in parts_of(now).items():
        was, name = before.get(label), path + label.strip('"')
        if was is None or not differs(was, part):
            continue
        if "class" in part and was.get("class") == part["class"] and was.get("keys") == part.get("keys"):
            yield from _differences(was, part, f"{name}/")
        else:
            yield name, was, part


def differs(was: JSON, now: JSON) -> bool:
    """Tell whether the script changed a part; what one of the two lacks is of another release."""
    known = all(part is not None and ("value" in part or "class" in part) for part in (was, now))
    return known and was != now


def parts_of(tree: JSON) -> dict[str, JSON]:
    """Return the parts of an object by name, or of a container by key as JSON."""
    if "items" in tree:
        return dict(zip(map(json.dumps, tree["keys"]), tree["items"], strict=True))
    values = {name: {"value": value} for name, value in tree.get("attributes", {}).items()}
    state = {"state_dict": {"value": tree["state_dict"]}} if "state_dict" in tree else {}
    objects: dict[str, JSON] = tree.get("objects", {})
    return values | objects | state


def is_generator_tree(tree: JSON) -> bool:
    """Tell whether a tree is that of a random generator."""
    return isinstance(tree, dict) and tree.get("$") in _GENERATORS


def classes_in(tree: JSON) -> Iterator[str]:
    """Yield the names of the classes of an object and of those inside."""
    if "class" in tree:
        yield tree["class"]
        for part in parts_of(tree).values():
            yield from classes_in(part)


def shown(part: JSON) -> Any:
    """Return a part for a message."""
    if "value" not in part:
        return part["class"] + (f" of {len(part['items'])}" if "items" in part else "")
    if is_generator_tree(part["value"]):
        return "(random generator)"
    if not is_plain(part["value"]):
        return "(arrays)"
    try:
        return decode(part["value"], {}, key="strategy")
    except ArchiveError:  # a class that the program no longer has
        return part["value"]


def require_tree(tree: JSON, key: str) -> None:
    """Raise HostileFileError for a tree that `capture` does not make."""
    try:
        _validate(tree)
        tree["class"], tree["attributes"]
    except MALFORMED as error:
        problem = f"invalid saved state: {type(error).__name__}: {error}"
        raise HostileFileError(problem, key=key) from error


def _validate(part: JSON, depth: int = 0) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError(f"objects nested more than {_MAX_DEPTH} deep")
    if not isinstance(part, dict):
        raise TypeError(f"a {type(part).__name__} instead of a part")
    texts = [part[name] for name in ("class", "same") if name in part]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a name that is no text")
    if "items" in part:
        if (
            "class" not in part
            or not isinstance(part["keys"], list)
            or len(part["keys"]) != len(part["items"])
        ):
            raise ValueError("as many keys as members")
        for item in part["items"]:
            _validate(item, depth + 1)
    elif "class" in part:
        if not isinstance(part["attributes"], dict):
            raise TypeError("attributes that are no object")
        for inner in part["objects"].values():
            _validate(inner, depth + 1)
    elif not {"value", "script", "same"} & set(part):
        raise ValueError("an unknown part")


def bulk(captured: Captured) -> dict[str, Bulk]:
    """Return bytes of arrays, and a digest, of each attribute that has `BULK_BYTES` or more.

    Call it before the object changes: arrays share its memory, and an array that a strategy changes in place
    keeps its address. So only a digest of all elements shows that nothing changed. Each array is read once.
    Two rounds are enough to find out: the caller need not read later ones.
    """
    digests: dict[str, bytes] = {}
    return dict(_bulk(captured, captured.tree, "", digests))


def unchanged(before: Mapping[str, Bulk], now: Mapping[str, Bulk]) -> list[tuple[str, int]]:
    """Return names and bytes of the attributes that are the same in two rounds, as `bulk` found them.

    An attribute inside of one that is unchanged too is not listed. ``exclude`` takes the same names.
    """
    same = {name: nbytes for name, (nbytes, digest) in now.items() if before.get(name) == (nbytes, digest)}
    return [
        (name, nbytes)
        for name, nbytes in same.items()
        if not any(name.startswith(f"{other}/") for other in same)
    ]


def _bulk(captured: Captured, tree: JSON, path: str, digests: dict[str, bytes]) -> Iterator[tuple[str, Bulk]]:
    for name, part in parts_of(tree).items():
        arrays = [captured.arrays[at] for at in _places(part)]
        nbytes = sum(array.payload.nbytes for array in arrays)
        if nbytes < BULK_BYTES or name == "state_dict":
            continue
        hasher = xxhash.xxh3_128(json.dumps(part, sort_keys=True).encode())
        for at in _places(part):
            if at not in digests:
                digests[at] = xxhash.xxh3_128_digest(_bytes_of(captured.arrays[at]))
            hasher.update(digests[at])
        yield path + name, (nbytes, hasher.digest())
        if "attributes" in part:
            yield from _bulk(captured, part, f"{path}{name}/", digests)


def _places(tree: JSON) -> Iterator[str]:
    """Yield the names of the arrays in a tree."""
    if isinstance(tree, dict) and "at" in tree:
        yield from [tree["at"]] if isinstance(tree["at"], str) else tree["at"]
    elif isinstance(tree, (dict, list)):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _places(part)


def _bytes_of(array: Array) -> Any:
    """Return the elements of an array as they lie in memory, or its bytes."""
    payload = array.payload
    if not isinstance(payload, NdarrayPayload):
        return payload.data()
    return np.ascontiguousarray(payload.array).reshape(-1).view(np.uint8)
