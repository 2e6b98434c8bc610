"""The state of a strategy between rounds: its attributes, and those of the objects it holds.

All of an object's ``__dict__`` is saved, so that your own strategy is saved as Flower's are: moments,
momentum, clipping norms, wrapped strategies, accountants. Functions, modules, loggers and the like belong to
the script, which makes them anew.
"""

from __future__ import annotations

import enum
import logging
import threading
import types
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from archive.errors import ArchiveError, ValueRangeError
from archive.interop.statearrays import JSON, Arrays, NotStateError, Path, class_name, is_torch
from archive.interop.statevalues import decode, encode, is_known_dict, rewind
from archive.records import Array

__all__ = [
    "OURS",
    "Captured",
    "SchemaError",
    "capture",
    "is_plain",
    "require_attributes",
    "restore",
    "strategy_class",
    "subclass",
]

OURS = "_fedarchive"
"""Our attribute of a wrapped strategy, which is not part of its state."""

_SCRIPT = (
    *(type, types.ModuleType, logging.Logger, logging.LoggerAdapter, enum.Enum),
    *(type(threading.Lock()), type(threading.RLock()), threading.Thread, threading.Event),
)
"""Classes of objects that a script makes anew and no file holds."""


class SchemaError(ArchiveError, ValueError):
    """The saved round belongs to another strategy or another model than the resumed one."""


@dataclass(slots=True)
class Captured:
    """State of one object as JSON, and its arrays by name."""

    tree: JSON
    """Class, attributes, and the objects among them."""
    arrays: Arrays
    """Arrays by path."""
    left_out: list[str] = field(default_factory=list)
    """Paths of values that cannot be saved and are not known to be the script's."""


def capture(thing: Any, exclude: Collection[str] = ()) -> Captured:
    """Return the state of an object and of those it holds.

    Parameters
    ----------
    thing : object
    exclude : collection of str
        Attributes that are not saved, as in `require_attributes`. Names that the object lacks are ignored: a
        strategy may delete what it no longer needs.

    Examples
    --------
    >>> class Strategy:
    ...     def __init__(self):
    ...         self.eta, self.momentum, self.fit = 0.1, [1.5], print
    >>> captured = capture(Strategy())
    >>> captured.tree["attributes"], captured.left_out
    ({'eta': 0.1, 'momentum': [1.5]}, [])
    """
    captured = Captured(None, Arrays())
    captured.tree = _capture(thing, (), captured, _Walk(_paths(exclude)))
    return captured


def require_attributes(thing: Any, exclude: Collection[str]) -> None:
    """Raise unless an object has every attribute that is to be excluded.

    Parameters
    ----------
    thing : object
        The strategy as the script makes it.
    exclude : collection of str
        Names of attributes; ``strategy.testset`` or ``strategy/testset`` is an attribute of an object inside.

    Raises
    ------
    ValueRangeError
        An attribute is missing; the error lists those there are.

    Examples
    --------
    >>> class Strategy:
    ...     def __init__(self):
    ...         self.eta, self.testset = 0.1, [1.5]
    >>> require_attributes(Strategy(), ["testsets"])
    Traceback (most recent call last):
    archive.errors.ValueRangeError: 'exclude': Strategy has no attribute testsets; there are eta, testset
    """
    for path in sorted(_paths(exclude)):
        owner, *names = thing, *path.split("/")
        for number, name in enumerate(names):
            if not hasattr(owner, name):
                kind = getattr(type(owner), OURS + "_base", type(owner)).__name__
                missing = "/".join(names[: number + 1])
                there = ", ".join(sorted(set(getattr(owner, "__dict__", ())) - {OURS})) or "none"
                problem = f"{kind} has no attribute {missing}; there are {there}"
                raise ValueRangeError(problem, key="exclude")
            owner = getattr(owner, name)


def restore(
    thing: Any,
    saved: JSON,
    started: JSON,
    arrays: Mapping[str, Array],
    given: JSON = None,
    exclude: Collection[str] = (),
) -> list[str]:
    """Bring an object to a saved state, in place.

    A setting that the run never changed, and that the script now sets to another value, keeps the script's
    value, which ``started`` gets too. All other attributes become what was saved.

    Parameters
    ----------
    thing : object
        The object as the script makes it for a fresh start.
    saved : JSON
        `capture` at the end of the saved round.
    started : JSON
        `capture` at the start of the run.
    arrays : mapping of str to Array
    given : JSON, optional
        `capture` of the object as the script made it; by default, as it is now.
    exclude : collection of str
        Attributes that keep the script's value, whatever was saved.

    Returns
    -------
    list of str
        Settings that the script changed, one line each.

    Raises
    ------
    SchemaError
        An object is of another class than it was.
    """
    kept = _paths(exclude)
    before = started or {}, given or capture(thing, exclude).tree
    walk = _Restoring(arrays, kept)
    walk.restore(thing, saved, before, "")
    return walk.changes


def subclass(kind: type, base: Any) -> Any:
    """Return a subclass of a strategy's class with ours as its first base."""
    name = f"Resumable[{base.__name__}]"
    return type(base)(name, (kind, base), {OURS + "_base": base, "__module__": __name__})


def strategy_class(thing: object) -> str:
    """Return the name of an object's class, with its module; for a wrapped strategy, of the class inside."""
    kind = type(thing)
    return class_name(getattr(kind, OURS + "_base", kind))


def _paths(exclude: Collection[str]) -> frozenset[str]:
    """Return names of attributes as paths."""
    names = (exclude,) if isinstance(exclude, str) else exclude
    return frozenset(name.replace(".", "/") for name in names)


@dataclass(slots=True)
class _Walk:
    """What a capture has met so far."""

    exclude: frozenset[str]
    seen: set[int] = field(default_factory=set)


def _capture(thing: Any, path: Path, captured: Captured, walk: _Walk) -> JSON:
    walk.seen.add(id(thing))
    attributes: dict[str, JSON] = {}
    objects: dict[str, JSON] = {}
    tree = {"class": strategy_class(thing), "attributes": attributes, "objects": objects}
    if _has_state_dict(thing):
        try:
            tree["state_dict"] = _encode(thing.state_dict(), (*path, "state_dict"), captured.arrays)
        except NotStateError:
            captured.left_out.append("/".join(path))
        return tree
    for name, value in _attributes(thing):
        where = (*path, name)
        if "/".join(where) in walk.exclude:
            continue
        try:
            attributes[name] = _encode(value, where, captured.arrays)
        except NotStateError:
            if _is_object(value):
                if id(value) not in walk.seen:
                    objects[name] = _capture(value, where, captured, walk)
            else:
                captured.left_out.append("/".join(where))
    return tree


def _encode(value: Any, path: Path, arrays: Arrays) -> JSON:
    """Return a value as JSON; a value that cannot be saved adds no array."""
    before = len(arrays)
    try:
        # a mapping of another class is filled in place, see `_assign`
        own = isinstance(value, dict) and not is_known_dict(value)
        return encode(dict(value) if own else value, path, arrays)
    except NotStateError:
        for added in list(arrays)[before:]:
            del arrays[added]
        raise


@dataclass(slots=True)
class _Restoring:
    """One call of `restore`."""

    arrays: Mapping[str, Array]
    exclude: frozenset[str]
    changes: list[str] = field(default_factory=list)

    def restore(self, thing: Any, saved: JSON, before: tuple[JSON, JSON], path: str) -> None:
        """Restore one object at a path that ends in a slash, from the trees ``before`` and the saved one."""
        if saved["class"] != strategy_class(thing):
            raise SchemaError(
                f"saved with class {saved['class']}, now {strategy_class(thing)}",
                key=f"strategy/{path}".rstrip("/"),
                remedy="resume with the saved class, or give another url or experiment",
            )
        if "state_dict" in saved:
            key = f"strategy/{path}state_dict"
            thing.load_state_dict(decode(saved["state_dict"], self.arrays, key=key))
            return
        first, now = (tree.get("attributes", {}) for tree in before)
        for name, tree in saved["attributes"].items():
            if path + name in self.exclude:
                continue
            known = is_plain(tree) and name in first and name in now
            if known and now[name] != first[name] and tree == first[name]:
                self.changes.append(f"{path}{name} was {first[name]!r} and is {now[name]!r} from here on")
                first[name] = now[name]  # the next start compares with this value
                continue
            value = decode(tree, self.arrays, key=f"strategy/{path}{name}")
            _assign(thing, name, getattr(thing, name, None), value)
        for name, tree in saved["objects"].items():
            if path + name in self.exclude:
                continue
            if not hasattr(thing, name):
                raise SchemaError(
                    f"saved with an object of class {tree['class']}, which the strategy now lacks",
                    key=f"strategy/{path}{name}",
                    remedy="resume with the saved strategy",
                )
            inner = tuple(tree.get("objects", {}).get(name, {}) for tree in before)
            self.restore(getattr(thing, name), tree, inner, f"{path}{name}/")


def _assign(thing: Any, name: str, fresh: Any, value: Any) -> None:
    """Set an attribute.

    Mappings of other classes and random generators, which other objects may share, are changed in place.
    A tensor stays on the device of the script's tensor.
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
    """Tell whether a value is an object with attributes, or with a state dict."""
    return _has_state_dict(value) or (
        hasattr(value, "__dict__") and not isinstance(value, (Mapping, Iterator))
    )


def _has_state_dict(value: Any) -> bool:
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


def is_plain(tree: JSON) -> bool:
    """Tell whether a tree names no array: such trees can be compared."""
    if isinstance(tree, list):
        return all(map(is_plain, tree))
    return not isinstance(tree, dict) or ("at" not in tree and all(map(is_plain, tree.values())))
