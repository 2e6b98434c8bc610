"""Classes that a saved state names: named tuples and enums of modules that the program has imported.

A file chooses among classes that are there, and nothing is imported, called or looked up through ``getattr``
for it: modules and classes may run code then.
"""

from __future__ import annotations

import enum
import sys
import types
from collections.abc import Mapping
from typing import Any

from archive.interop.statearrays import JSON, NotStateError, Path, class_name

__all__ = [
    "NotLoadedError",
    "class_at",
    "enum_member",
    "is_namedtuple",
    "member_names",
    "named_tuple",
    "place_of",
]


class NotLoadedError(LookupError):
    """No module that the program has imported has a class of that name."""


def class_at(tree: JSON) -> type:
    """Return the class that a tree names.

    Examples
    --------
    >>> class_at({"module": "collections", "class": "OrderedDict"})
    <class 'collections.OrderedDict'>
    >>> class_at({"module": "antigravity", "class": "Result"})
    Traceback (most recent call last):
    archive.interop.stateclasses.NotLoadedError: no class antigravity.Result
    """
    module, name = tree["module"], tree["class"]
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = _members(found).get(part)
    if found is None:
        raise NotLoadedError(f"no class {module}.{name}")
    if not issubclass(type(found), type):
        raise ValueError(f"{module}.{name} is not a class")
    return found  # type: ignore[no-any-return]


def _members(thing: Any) -> Mapping[str, Any]:
    """Return what stands in a module or class, without running code of a lazy module or of a metaclass."""
    # isinstance() would ask the thing for its __class__
    kind = next((kind for kind in (type, types.ModuleType) if issubclass(type(thing), kind)), None)
    return {} if kind is None else kind.__getattribute__(thing, "__dict__")


def place_of(kind: type, path: Path) -> dict[str, JSON]:
    """Return module and name of a class, by which `class_at` finds the class again.

    Raises
    ------
    NotStateError
        The class does not stand in its module under its name.
    """
    place = {"module": kind.__module__, "class": kind.__qualname__}
    try:
        if class_at(place) is kind:
            return place
    except (LookupError, ValueError):
        pass
    raise NotStateError(
        path, f"{class_name(kind)} is not found by its name", "define the class at the top of a module"
    )


def is_namedtuple(value: object) -> bool:
    """Tell whether a value is of a class that ``collections.namedtuple`` or ``typing.NamedTuple`` made."""
    return isinstance(value, tuple) and _fields(type(value)) is not None


def _fields(kind: type) -> list[str] | None:
    fields = getattr(kind, "_fields", None) if issubclass(kind, tuple) else None
    return list(fields) if isinstance(fields, tuple) else None


def named_tuple(tree: JSON, items: list[Any]) -> Any:
    """Return a named tuple, whose class has to have the saved fields; its constructor is not called."""
    kind = class_at(tree)
    fields = _fields(kind)
    if fields is None:
        raise ValueError(f"{class_name(kind)} is no class of named tuples")
    if fields != tree["fields"] or len(items) != len(fields):
        raise ValueError(f"{class_name(kind)} has the fields {fields}, not {tree['fields']}")
    return tuple.__new__(kind, items)


def member_names(value: enum.Enum, path: Path) -> list[str]:
    """Return the name of an enum's member; of a flag without a name, those of its parts."""
    kind = type(value)
    known = kind.__members__
    if known.get(value.name) is value:
        return [value.name]
    if isinstance(value, enum.Flag):
        bits = value.value
        names = [name for name, member in known.items() if 0 != member.value == member.value & bits]
        if _union(kind, names) == bits:
            return names
    raise NotStateError(path, f"{value!r} has no name in {class_name(kind)}")


def enum_member(tree: JSON) -> Any:
    """Return the member of an enum, or the union of members of a flag."""
    kind, names = class_at(tree), tree["members"]
    if not issubclass(kind, enum.Enum):
        raise ValueError(f"{class_name(kind)} is no enum")
    unknown = [name for name in names if name not in kind.__members__]
    if unknown:
        raise ValueError(f"{class_name(kind)} has no member {unknown[0]!r}")
    if len(names) == 1:
        return kind.__members__[names[0]]
    if not issubclass(kind, enum.Flag):
        raise ValueError(f"{len(names)} members of {class_name(kind)}")
    return kind(_union(kind, names))


def _union(kind: Any, names: list[str]) -> int:
    bits = 0
    for name in names:
        bits |= kind.__members__[name].value
    return bits
