"""The state of a strategy between rounds, taken: its attributes, and those of the objects it holds.

All of an object's ``__dict__`` is saved, so that your own strategy is saved as Flower's are: moments,
momentum, clipping norms, wrapped strategies, accountants, lists and dicts of objects. Functions, modules,
loggers and the like belong to the script, which makes them anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from archive.errors import ValueRangeError
from archive.interop.flower.strategyobjects import (
    CONTAINERS,
    OURS,
    attributes,
    base_of,
    has_state_dict,
    is_data,
    is_generator,
    is_object,
    is_own_name,
    is_script,
    made_anew,
    members,
    strategy_class,
)
from archive.interop.flower.strategytrees import Captured, classes_in, parts_of
from archive.interop.statearrays import JSON, Arrays, NotStateError, Path, class_name
from archive.interop.statevalues import encode, is_known_dict

__all__ = [
    "capture",
    "paths_of",
    "require_attributes",
    "subclass",
]

_MAX_DEPTH = 90
"""Attributes that lead to an object, at most: a value may be nested 100 deep, objects included."""


def capture(thing: Any, exclude: Collection[str] = (), given: JSON = None) -> Captured:
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
    given : JSON, optional
        `capture` of the object as the script made it. What the run has put into it since then, and `restore`
        could not make again, is left out with the attribute that holds it.

    Examples
    --------
    >>> class Strategy:
    ...     def __init__(self):
    ...         self.eta, self.momentum, self.fit = 0.1, [1.5], print
    >>> captured = capture(Strategy())
    >>> captured.tree["attributes"], captured.left_out
    ({'eta': 0.1, 'momentum': [1.5]}, [])
    """
    walk = _Capturing(paths_of(exclude), frozenset(classes_in(given)) if given else None)
    walk.seen[id(thing)] = ""
    tree = walk.tree_of(thing, (), given or {})
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
                found = getattr(owner, "__dict__", ())
                there = ", ".join(sorted(name for name in found if not is_own_name(name))) or "none"
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


class _LostError(Exception):
    """An object that the run made, and that cannot be made again."""


@dataclass(slots=True)
class _Capturing:
    """One call of `capture`."""

    exclude: frozenset[str]
    classes: frozenset[str] | None
    """Names of the classes that the script's objects have; None at the start of a run."""
    arrays: Arrays = field(default_factory=Arrays)
    left_out: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    seen: dict[int, str] = field(default_factory=dict)
    """Paths of objects and containers by id: each is captured once."""
    seen_in_data: set[int] = field(default_factory=set)
    """Objects in data sets and loaders by id, of which only the random generators are saved."""

    def tree_of(self, thing: Any, path: Path, was: JSON, *, data: bool = False) -> JSON:
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
        unsaved: list[str] = []
        before = parts_of(was)
        for name, value in attributes(thing):
            where = (*path, name)
            if data:
                part = self._data_part(value, where)
            else:
                part = self._attribute(value, where, before.get(name), thing)
            if "value" in part:
                saved[name] = part["value"]
            elif "script" in part:
                unsaved.append(name)
            else:
                objects[name] = part
        return {**tree, "unsaved": unsaved} if unsaved else tree

    def _attribute(self, value: Any, path: Path, was: JSON, owner: Any) -> JSON:
        """Return an attribute as `_part` does, or leave it out with all that was captured of it."""
        found: tuple[Any, ...] = self.arrays, self.seen, self.left_out, self.data
        before = [len(part) for part in found]
        try:
            return self._part(value, path, was, owner)
        except _LostError:
            for part, number in zip(found, before, strict=True):
                for key in list(part)[number:]:
                    del part[key if isinstance(part, dict) else number]
            self.left_out.append("/".join(path))
            return {"script": True}

    def _part(self, value: Any, path: Path, was: JSON, owner: Any) -> JSON:
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
        if inside is not None:
            return self._container(value, inside, path, was, owner)
        tree = self.tree_of(value, path, was if was and "class" in was else {})
        scripts = {tree["class"]: base_of(value)} if tree["class"] in (self.classes or ()) else {}
        self._require_restorable(tree, was, lambda: made_anew(tree, owner, scripts) is not None)
        return tree

    def _require_restorable(self, tree: JSON, was: JSON, may_make: Callable[[], bool]) -> None:
        """Raise where the script makes no such object there, and `restore` could not make one."""
        if self.classes is None:
            return
        if was is None or was == {"value": None}:
            lost = not may_make()
        elif "value" in was:
            lost = "keys" not in tree or not isinstance(was["value"], (list, dict))
        else:
            lost = was.get("class", tree["class"]) != tree["class"]
        if lost:
            raise _LostError

    def _container(self, value: Any, inside: dict[Any, Any], path: Path, was: JSON, owner: Any) -> JSON:
        """Return the tree of a container of objects; its keys have to be values without arrays."""
        try:
            arrays = Arrays()
            keys = [encode(key, (*path, "key"), arrays) for key in inside]
        except NotStateError:
            keys = None
        if keys is None or arrays:
            self.left_out.append("/".join(path))
            return {"script": True}
        before = parts_of(was) if was and "keys" in was else {}
        items: list[JSON] = []
        for key, label in zip(inside, map(json.dumps, keys), strict=True):
            items.append(self._part(inside[key], (*path, str(key)), before.get(label), owner))
            lost = "script" in items[-1] or items[-1].get("unsaved") == ["data"]
            if self.classes is not None and lost and label not in before:
                raise _LostError
        if all("script" in item for item in items):
            return {"script": True}
        tree = {"class": class_name(type(value)), "keys": keys, "items": items}
        self._require_restorable(tree, was, lambda: tree["class"] in CONTAINERS)
        return tree

    def _data_object(self, value: Any, path: Path) -> JSON:
        """Return the generators of a data set or loader and of what it holds, or its state dict."""
        if id(value) in self.seen_in_data:
            return {"script": True}
        self.seen_in_data.add(id(value))
        tree = self.tree_of(value, path, {}, data=True)
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
