"""The state of a strategy between rounds, taken: its attributes, and those of the objects it holds.

All of an object's ``__dict__`` is saved, so that your own strategy is saved as Flower's are: moments,
momentum, clipping norms, wrapped strategies, accountants, lists and dicts of objects. Functions, modules,
loggers and the like belong to the script, which makes them anew.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from archive.errors import ValueRangeError
from archive.interop.flower.strategyobjects import (
    OURS,
    attributes,
    base_of,
    has_state_dict,
    is_data,
    is_generator,
    is_object,
    is_script,
    members,
    strategy_class,
)
from archive.interop.statearrays import JSON, Arrays, NotStateError, Path, class_name
from archive.interop.statevalues import encode, is_known_dict

__all__ = [
    "Captured",
    "capture",
    "is_plain",
    "paths_of",
    "require_attributes",
    "subclass",
]

_MAX_DEPTH = 90
"""Attributes that lead to an object, at most: a value may be nested 100 deep, objects included."""


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


def capture(thing: Any, exclude: Collection[str] = ()) -> Captured:
    """Return the state of an object and of those it holds.

    A data set or a loader of one (torch's, Hugging Face's, Flower's, TensorFlow's, and subclasses) is not
    state: the script makes it again at every start, from the same files, and a copy in every round would only
    take room. Of its attributes the random generators are saved, so that batches go on in the same order. One
    that changes during the run is saved if it has ``state_dict`` and ``load_state_dict``. An iterator cannot
    be saved: nothing tells how far it is.

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
    walk = _Capturing(paths_of(exclude))
    walk.seen[id(thing)] = ""
    tree = walk.tree_of(thing, ())
    return Captured(tree, walk.arrays, walk.left_out, walk.data)


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
    for path in sorted(paths_of(exclude)):
        owner, *names = thing, *path.split("/")
        for number, name in enumerate(names):
            if not hasattr(owner, name):
                missing = "/".join(names[: number + 1])
                there = ", ".join(sorted(set(getattr(owner, "__dict__", ())) - {OURS})) or "none"
                problem = f"{base_of(owner).__name__} has no attribute {missing}; there are {there}"
                raise ValueRangeError(problem, key="exclude")
            owner = getattr(owner, name)


def paths_of(exclude: Collection[str]) -> frozenset[str]:
    """Return names of attributes as paths."""
    names = (exclude,) if isinstance(exclude, str) else exclude
    return frozenset(name.replace(".", "/") for name in names)


def subclass(kind: type, base: Any) -> Any:
    """Return a subclass of a strategy's class with ours as its first base."""
    name = f"Resumable[{base.__name__}]"
    return type(base)(name, (kind, base), {OURS + "_base": base, "__module__": __name__})


def is_plain(tree: JSON) -> bool:
    """Tell whether a tree names no array: such trees can be compared."""
    if isinstance(tree, list):
        return all(map(is_plain, tree))
    return not isinstance(tree, dict) or ("at" not in tree and all(map(is_plain, tree.values())))


@dataclass(slots=True)
class _Capturing:
    """One call of `capture`."""

    exclude: frozenset[str]
    arrays: Arrays = field(default_factory=Arrays)
    left_out: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    seen: dict[int, str] = field(default_factory=dict)
    """Paths of objects and containers by id: each is captured once."""
    seen_in_data: set[int] = field(default_factory=set)
    """Objects in data sets and loaders by id, of which only the random generators are saved."""

    def tree_of(self, thing: Any, path: Path, *, data: bool = False) -> JSON:
        """Return the tree of an object; of ``data`` only the random generators are saved."""
        saved: dict[str, JSON] = {}
        objects: dict[str, JSON] = {}
        tree = {"class": strategy_class(thing), "attributes": saved, "objects": objects}
        if has_state_dict(thing) and (not data or is_data(thing)):
            try:
                tree["state_dict"] = self._encode(thing.state_dict(), (*path, "state_dict"))
            except NotStateError:
                self.left_out.append("/".join(path))
                tree["unsaved"] = ["state_dict"]
            return tree
        unsaved = []
        for name, value in attributes(thing):
            part = self._data_part(value, (*path, name)) if data else self._part(value, (*path, name))
            if "value" in part:
                saved[name] = part["value"]
            elif "script" in part:
                unsaved.append(name)
            else:
                objects[name] = part
        return {**tree, "unsaved": unsaved} if unsaved else tree

    def _part(self, value: Any, path: Path) -> JSON:
        """Return an attribute or member: ``value``, ``script``, or the tree of an object or a container."""
        where = "/".join(path)
        if where in self.exclude or is_script(value):
            return {"script": True}
        if is_data(value):
            if not has_state_dict(value):
                self.data.append(where)
            return self._data_object(value, path)
        try:
            return {"value": self._encode(value, path)}
        except NotStateError:
            pass
        inside = members(value)
        known = is_object(value) if inside is None else _holds_object(value, set())
        if not known or len(path) > _MAX_DEPTH:
            if inside is None or not all(map(is_script, inside.values())):
                self.left_out.append(where)
            return {"script": True}
        if id(value) in self.seen:
            return {"same": self.seen[id(value)]}
        self.seen[id(value)] = where
        return self.tree_of(value, path) if inside is None else self._container(value, inside, path)

    def _container(self, value: Any, inside: dict[Any, Any], path: Path) -> JSON:
        """Return the tree of a container of objects; its keys have to be values without arrays."""
        try:
            arrays = Arrays()
            keys = [encode(key, (*path, "key"), arrays) for key in inside]
        except NotStateError:
            keys = None
        if keys is None or arrays:
            self.left_out.append("/".join(path))
            return {"script": True}
        items = [self._part(member, (*path, str(key))) for key, member in inside.items()]
        if all("script" in item for item in items):
            return {"script": True}
        return {"class": class_name(type(value)), "keys": keys, "items": items}

    def _data_object(self, value: Any, path: Path) -> JSON:
        """Return the generators of a data set or loader and of what it holds, or its state dict."""
        if id(value) in self.seen_in_data:
            return {"script": True}
        self.seen_in_data.add(id(value))
        tree = self.tree_of(value, path, data=True)
        kept = "state_dict" in tree or tree["attributes"] or tree["objects"]
        return {**tree, "unsaved": ["data"]} if kept else {"script": True}

    def _data_part(self, value: Any, path: Path) -> JSON:
        if "/".join(path) not in self.exclude:
            if is_generator(value):
                try:
                    return {"value": self._encode(value, path)}
                except NotStateError:
                    self.left_out.append("/".join(path))
            elif is_object(value) and hasattr(value, "__dict__") and len(path) < _MAX_DEPTH:
                return self._data_object(value, path)
        return {"script": True}

    def _encode(self, value: Any, path: Path) -> JSON:
        """Return a value as JSON; a value that cannot be saved adds no array."""
        before = len(self.arrays)
        try:
            # a mapping of another class is filled in place when it is restored
            own = isinstance(value, dict) and not is_known_dict(value)
            return encode(dict(value) if own else value, path, self.arrays)
        except NotStateError:
            for added in list(self.arrays)[before:]:
                del self.arrays[added]
            raise


def _holds_object(value: Any, seen: set[int]) -> bool:
    """Tell whether a container holds an object with attributes, at any depth."""
    inside = members(value)
    if inside is None:
        return is_object(value)
    if id(value) in seen:
        return False
    seen.add(id(value))
    return any(_holds_object(member, seen) for member in inside.values())
