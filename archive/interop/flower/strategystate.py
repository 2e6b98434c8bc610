"""What a strategy remembers between rounds: its attributes, and those of the objects it holds.

Everything that an object's ``__dict__`` holds is taken, so that a strategy of yours is saved as Flower's
are: moments, momentum, clipping norms, wrapped strategies, accountants. Functions, modules, loggers and
the like belong to the script and are left as the script makes them.
"""

from __future__ import annotations

import enum
import logging
import threading
import types
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from archive.errors import ArchiveError
from archive.interop.statearrays import JSON, Arrays, NotStateError, is_torch
from archive.interop.statevalues import decode, encode, is_known_dict, rewind
from archive.records import Array

__all__ = ["OURS", "Captured", "SchemaError", "capture", "class_name", "is_plain", "restore", "subclass"]

OURS = "_fedarchive"
"""Attribute of a wrapped strategy that is ours and no state."""

_SCRIPT = (
    *(type, types.ModuleType, logging.Logger, logging.LoggerAdapter, enum.Enum),
    *(type(threading.Lock()), type(threading.RLock()), threading.Thread, threading.Event),
)
"""What a script makes anew and no file holds."""


class SchemaError(ArchiveError, ValueError):
    """What was saved belongs to another strategy or another model than the one to be resumed."""


@dataclass(slots=True)
class Captured:
    """State of one object as JSON; its arrays are beside it, by name."""

    tree: JSON
    """Class, attributes, and the objects among them."""
    arrays: Arrays
    """Arrays by path."""
    left_out: list[str] = field(default_factory=list)
    """What cannot be saved and is not known to be harmless."""


def capture(thing: Any) -> Captured:
    """Return the state of an object and of those it holds.

    Examples
    --------
    >>> class Strategy:
    ...     def __init__(self):
    ...         self.eta, self.momentum, self.fit = 0.1, [1.5], print
    >>> captured = capture(Strategy())
    >>> captured.tree["attributes"], captured.left_out
    ({'eta': 0.1, 'momentum': [1.5]}, [])
    """
    captured = Captured(None, {})
    captured.tree = _capture(thing, "", captured, set())
    return captured


def restore(
    thing: Any, saved: JSON, started: JSON, arrays: Mapping[str, Array], given: JSON = None
) -> list[str]:
    """Bring an object to a saved state, in place.

    A setting that the run never changed and the script now sets to something else stays as the script
    says, and is what ``started`` says from then on; everything else becomes what was saved.

    Parameters
    ----------
    thing : object
        Made by the script as for a fresh start.
    saved : JSON
        `capture` at the round to be resumed.
    started : JSON
        `capture` at the start of the run.
    arrays : mapping of str to Array
    given : JSON, optional
        `capture` of the object as the script made it; as it is now where not given.

    Returns
    -------
    list of str
        Settings that the script changed, one line each.

    Raises
    ------
    SchemaError
        An object is of another class than it was.
    """
    notes: list[str] = []
    _restore(thing, saved, (started or {}, given or capture(thing).tree), arrays, "", notes)
    return notes


def subclass(kind: type, base: Any) -> Any:
    """Return a subclass of a strategy's class with ours before it; `class_name` sees through it."""
    name = f"Resumable[{base.__name__}]"
    return type(base)(name, (kind, base), {OURS + "_base": base, "__module__": __name__})


def class_name(thing: object) -> str:
    """Return the name of an object's class, with its module; of a wrapped strategy, what was wrapped."""
    kind = type(thing)
    kind = getattr(kind, OURS + "_base", kind)
    return f"{kind.__module__}.{kind.__qualname__}"


def _capture(thing: Any, path: str, captured: Captured, seen: set[int]) -> JSON:
    seen.add(id(thing))
    attributes: dict[str, JSON] = {}
    objects: dict[str, JSON] = {}
    tree = {"class": class_name(thing), "attributes": attributes, "objects": objects}
    if _has_state_dict(thing):
        try:
            tree["state_dict"] = _encode(thing.state_dict(), f"{path}state_dict", captured.arrays)
        except NotStateError:
            captured.left_out.append(path.rstrip("/"))
        return tree
    for name, value in _attributes(thing):
        where = f"{path}{name}"
        try:
            attributes[name] = _encode(value, where, captured.arrays)
        except NotStateError:
            if _is_object(value):
                if id(value) not in seen:
                    objects[name] = _capture(value, f"{where}/", captured, seen)
            else:
                captured.left_out.append(where)
    return tree


def _encode(value: Any, path: str, arrays: Arrays) -> JSON:
    """Return a value as JSON; what cannot be saved leaves no array behind."""
    before = len(arrays)
    try:
        # a mapping of a class of its own is filled in place, see `_assign`
        own = isinstance(value, dict) and not is_known_dict(value)
        return encode(dict(value) if own else value, path, arrays)
    except NotStateError:
        for added in list(arrays)[before:]:
            del arrays[added]
        raise


def _restore(
    thing: Any,
    saved: JSON,
    before: tuple[JSON, JSON],
    arrays: Mapping[str, Array],
    path: str,
    notes: list[str],
) -> None:
    if saved["class"] != class_name(thing):
        raise SchemaError(
            f"{path.rstrip('/') or 'the strategy'} was of class {saved['class']}, now {class_name(thing)}",
            remedy="resume with the class it was saved with, or give another url or experiment",
        )
    if "state_dict" in saved:
        thing.load_state_dict(decode(saved["state_dict"], arrays, key=f"strategy/{path}state_dict"))
        return
    first, now = (tree.get("attributes", {}) for tree in before)
    for name, tree in saved["attributes"].items():
        known = is_plain(tree) and name in first and name in now
        if known and now[name] != first[name] and tree == first[name]:
            notes.append(f"{path}{name} was {first[name]!r} and is {now[name]!r} from here on")
            first[name] = now[name]  # or the next start could not tell a change from this one
            continue
        value = decode(tree, arrays, key=f"strategy/{path}{name}")
        _assign(thing, name, getattr(thing, name, None), value)
    for name, tree in saved["objects"].items():
        if not hasattr(thing, name):
            raise SchemaError(
                f"saved with {path}{name} of class {tree['class']}, which the strategy does not have now",
                remedy="resume with the strategy it was saved with",
            )
        inner = tuple(tree.get("objects", {}).get(name, {}) for tree in before)
        _restore(getattr(thing, name), tree, inner, arrays, f"{path}{name}/", notes)


def _assign(thing: Any, name: str, fresh: Any, value: Any) -> None:
    """Set an attribute; containers of classes of their own, and tensors on a device, stay what they are.

    So do random generators, which others draw from too.
    """
    if isinstance(fresh, MutableMapping) and isinstance(value, dict) and type(fresh) is not dict:
        fresh.clear()
        fresh.update(value)
    elif rewind(fresh, value):
        return
    elif is_torch(value, "Tensor") and is_torch(fresh, "Tensor"):
        object.__setattr__(thing, name, value.to(fresh.device))
    else:
        object.__setattr__(thing, name, value)


def _attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    for name, value in vars(thing).items():
        script = isinstance(value, _SCRIPT) or (callable(value) and not hasattr(value, "__dict__"))
        if name != OURS and not script and not isinstance(value, (types.FunctionType, types.MethodType)):
            yield name, value


def _is_object(value: Any) -> bool:
    """Tell whether a value is an object with attributes, or with a state of its own that it hands out."""
    return _has_state_dict(value) or (
        hasattr(value, "__dict__") and not isinstance(value, (Mapping, Iterator))
    )


def _has_state_dict(value: Any) -> bool:
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


def is_plain(tree: JSON) -> bool:
    """Tell whether a tree names no array, so that it can be compared as it is."""
    if isinstance(tree, list):
        return all(map(is_plain, tree))
    return not isinstance(tree, dict) or ("at" not in tree and all(map(is_plain, tree.values())))
