"""A strategy brought to a saved state: the objects that the script makes get their saved attributes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from archive.errors import ArchiveError, HostileFileError
from archive.interop.flower.strategycapture import (
    capture,
    paths_of,
    require_attributes,
    subclass,
)
from archive.interop.flower.strategyobjects import (
    CONTAINERS,
    OURS,
    attributes,
    base_of,
    is_object,
    is_own_name,
    made_anew,
    members,
    strategy_class,
)
from archive.interop.flower.strategytrees import (
    Captured,
    differs,
    is_generator_tree,
    is_plain,
    parts_of,
    require_tree,
    shown,
)
from archive.interop.statearrays import JSON, class_name, is_torch
from archive.interop.statevalues import decode, rewind
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


class SchemaError(ArchiveError, ValueError):
    """The saved round belongs to another strategy or another model than the resumed one."""


_Before: TypeAlias = tuple[JSON, JSON]
"""The part at the start of the run, and as the script makes it now; None where there is none."""

_KEPT = object()
_MISSING = object()
_REMEDY = "make it in the script, or exclude its attribute, which then is as the script makes it"


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
    value, which ``started`` gets too. All other attributes become what was saved. The objects that the script
    makes are kept, and get their saved attributes. An object that the run made is made again without calling
    its class, if the class is one of the script's objects, or of the package of the object that holds it.

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
        An object is of another class than it was, or cannot be made again.
    HostileFileError
        `capture` makes no such state.
    """
    require_tree(saved, "strategy")
    if started:
        require_tree(started, "strategy")
    before = started or {}, given or capture(thing, exclude).tree
    restoring = _Restoring(arrays, paths_of(exclude), thing)
    restoring.fill(thing, saved, before, "")
    return restoring.changes


def _classes(thing: Any, seen: set[int]) -> Iterator[tuple[str, type]]:
    """Yield the classes of an object and of those it holds, by name."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    inside = members(thing)
    if inside is None:
        if not is_object(thing):
            return
        yield strategy_class(thing), base_of(thing)
        inside = dict(attributes(thing)) if hasattr(thing, "__dict__") else {}
    for value in inside.values():
        yield from _classes(value, seen)


@dataclass(slots=True)
class _Restoring:
    """One call of `restore`."""

    arrays: Mapping[str, Array]
    exclude: frozenset[str]
    root: Any
    classes: dict[str, type] | None = None
    """Classes of the script's objects by name, from the first time that one is needed."""
    changes: list[str] = field(default_factory=list)
    made: dict[str, Any] = field(default_factory=dict)
    """Restored objects and containers by path."""

    def fill(self, thing: Any, saved: JSON, before: _Before, path: str) -> None:
        """Restore an object, whose attributes have paths that begin with ``path``."""
        place = path.rstrip("/")
        self._require_class(strategy_class(thing), saved, place)
        self.made[place] = thing
        if "state_dict" in saved:
            key = f"strategy/{path}state_dict"
            thing.load_state_dict(decode(saved["state_dict"], self.arrays, key=key))
            return
        first, now = (parts_of(tree or {}) for tree in before)
        names = {**{name: {"value": tree} for name, tree in saved["attributes"].items()}, **saved["objects"]}
        for name, part in names.items():
            if path + name in self.exclude or is_own_name(name):
                continue
            fresh = getattr(thing, name, _MISSING)
            value = self._part(fresh, part, (first.get(name), now.get(name)), path + name, thing)
            if value is _KEPT:
                _adopt(before[0], name, now[name])
            elif "value" in part:
                _assign(thing, name, fresh, value)
            elif value is not fresh:
                object.__setattr__(thing, name, value)

    def _part(self, fresh: Any, part: JSON, before: _Before, path: str, owner: Any) -> Any:
        """Return the value of an attribute or member; `_KEPT` for a setting that the script changed."""
        if "value" in part:
            return self._value(part, before, path)
        absent = fresh is _MISSING or fresh is None
        if "same" in part:  # wired by the script, or made by the run
            return self.made.get(part["same"], fresh) if absent else fresh
        if "script" in part:
            if fresh is _MISSING:
                raise SchemaError(
                    "the run made a value that no file holds", key=f"strategy/{path}", remedy=_REMEDY
                )
            return fresh
        if absent and part.get("unsaved") == ["data"]:
            self.changes.append(f"{path} is not there yet, and what was saved of it is not restored")
            return fresh
        if absent and before[0] is not None and "class" in before[0]:
            problem = f"saved with an object of class {part['class']}, which the strategy now lacks"
            raise SchemaError(problem, key=f"strategy/{path}", remedy="resume with the saved strategy")
        was, given = (tree if tree is not None and "class" in tree else {} for tree in before)
        if "items" in part:
            return self._container(fresh, part, (was, given), path, owner)
        thing = self._made(part, owner) if absent else fresh
        if thing is None:
            raise self._unmade(part, path)
        self.fill(thing, part, (was, given), f"{path}/")
        return thing

    def _value(self, part: JSON, before: _Before, path: str) -> Any:
        was, given = before
        if is_plain(part["value"]) and differs(was, given):
            line = f"{path} was {shown(was)!r} and is {shown(given)!r}"
            if part == was:
                self.changes.append(f"{line} from here on")
                return _KEPT
            if not is_generator_tree(part["value"]):  # one without a seed differs at every start
                self.changes.append(f"{line} in the script, but the run changed it: its own value goes on")
        return decode(part["value"], self.arrays, key=f"strategy/{path}")

    def _container(self, fresh: Any, part: JSON, before: _Before, path: str, owner: Any) -> Any:
        """Return the container with its saved members; one that the script made is filled in place."""
        was, given = before
        if "keys" in was and "keys" in given and set(parts_of(was)) != set(parts_of(given)):
            problem = f"the run began with {shown(was)}, and the script makes {shown(given)}"
            raise SchemaError(problem, key=f"strategy/{path}", remedy=_REMEDY)
        if fresh is _MISSING or fresh is None:
            if part["class"] not in CONTAINERS:
                raise self._unmade(part, path)
            fresh = CONTAINERS[part["class"]]()
        self._require_class(class_name(type(fresh)), part, path)
        self.made[path] = fresh
        mapping = {"$": "dict", "items": [[key, None] for key in part["keys"]]}
        keys = list(decode(mapping, {}, key=f"strategy/{path}"))
        if len(keys) != len(part["items"]):
            raise HostileFileError("two members of one key", key=f"strategy/{path}")
        there, first, now = members(fresh) or {}, parts_of(was), parts_of(given)
        values = []
        for key, label, item in zip(keys, map(json.dumps, part["keys"]), part["items"], strict=True):
            inner: _Before = first.get(label), now.get(label)
            value = self._part(there.get(key, _MISSING), item, inner, f"{path}/{key}", owner)
            if value is _KEPT:
                inner[0].clear()
                inner[0].update(now[label])
                value = there[key]
            elif value is _MISSING:
                raise self._unmade(item, f"{path}/{key}")
            values.append(value)
        self.made[path] = _refill(fresh, keys, values)
        return self.made[path]

    def _made(self, part: JSON, owner: Any) -> Any:
        if self.classes is None:
            self.classes = dict(_classes(self.root, set()))
        return made_anew(part, owner, self.classes)

    def _unmade(self, part: JSON, path: str) -> SchemaError:
        name = part.get("class", "unknown")
        problem = f"the run made an object of class {name}, which cannot be made again from a file"
        return SchemaError(problem, key=f"strategy/{path}", remedy=_REMEDY)

    def _require_class(self, name: str, saved: JSON, path: str) -> None:
        if saved["class"] != name:
            raise SchemaError(
                f"saved with class {saved['class']}, now {name}",
                key=f"strategy/{path}".rstrip("/"),
                remedy="resume with the saved class, or give another url or experiment",
            )


def _adopt(started: JSON, name: str, part: JSON) -> None:
    """Put the script's part into the state at the start: the next start compares with that."""
    started["attributes"].pop(name, None)
    started["objects"].pop(name, None)
    if "value" in part:
        started["attributes"][name] = part["value"]
    else:
        started["objects"][name] = part


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


def _refill(container: Any, keys: list[Any], values: list[Any]) -> Any:
    """Give a container other members, in place where it can be changed."""
    if isinstance(container, tuple):
        return tuple(values)
    container.clear()
    if isinstance(container, dict):
        container.update(zip(keys, values, strict=True))
    else:
        container.extend(values)
    return container
