"""The objects that a strategy holds: which are state, and which belong to the script."""

from __future__ import annotations

import functools
import logging
import random
import threading
import types
from collections import deque
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import numpy as np

from archive.interop.statearrays import class_name, is_torch
from archive.interop.stateclasses import class_at

__all__ = [
    "CONTAINERS",
    "OURS",
    "STREAMED",
    "attributes",
    "base_of",
    "has_state_dict",
    "is_data",
    "is_generator",
    "is_object",
    "is_own_name",
    "is_script",
    "made_anew",
    "members",
    "strategy_class",
]

OURS = "_fedarchive"
"""Our attribute of a wrapped strategy, and how the names of all others begin: none is part of its state."""
STREAMED = OURS + "_streamed"
"""Attribute of the classes that `Streaming` makes: the class inside."""

CONTAINERS: dict[str, Any] = {class_name(kind): kind for kind in (list, tuple, dict)}
"""Containers that a saved state has made anew, by the name of their class."""

_SCRIPT = (
    *(type, types.ModuleType, logging.Logger, logging.LoggerAdapter),
    *(types.FunctionType, types.MethodType, functools.partial),
    *(type(threading.Lock()), type(threading.RLock()), threading.Thread, threading.Event),
)
"""Classes of objects that a script makes anew and no file holds."""
_DATA = ("torch.utils.data.", "datasets.", "flwr_datasets.", "tensorflow.python.data.")
"""Packages whose classes of these names are data sets and loaders."""
_DATA_NAMES = ("Dataset", "DatasetDict", "DatasetV2", "DataLoader")
_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)


def base_of(thing: object) -> type:
    """Return an object's class; for a wrapped strategy, the class inside."""
    kind = type(thing)
    kind = getattr(kind, OURS + "_base", kind)
    return getattr(kind, STREAMED, kind)


def strategy_class(thing: object) -> str:
    """Return the name of an object's class, with its module; for a wrapped strategy, of the class inside."""
    return class_name(base_of(thing))


def attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of an object that are not ours or Python's own (``__orig_class__``)."""
    for name, value in vars(thing).items():
        if not is_own_name(name):
            yield name, value


def is_own_name(name: str) -> bool:
    """Tell whether an attribute is ours or Python's own; no file sets such an attribute."""
    return name.startswith(OURS) or (name.startswith("__") and name.endswith("__"))


def is_script(value: Any) -> bool:
    """Tell whether a value is a function, module, logger or the like, which the script makes anew."""
    return isinstance(value, _SCRIPT) or (callable(value) and not hasattr(value, "__dict__"))


def is_object(value: Any) -> bool:
    """Tell whether a value is an object with attributes, or with a state dict."""
    other = isinstance(value, (Mapping, Iterator, Enum)) or is_script(value)
    return has_state_dict(value) or (hasattr(value, "__dict__") and not other)


def is_data(value: Any) -> bool:
    """Tell whether a value is a data set or a loader of one."""
    kinds = [kind for kind in type(value).__mro__ if kind.__name__.endswith(_DATA_NAMES)]
    return any(f"{kind.__module__}.".startswith(_DATA) for kind in kinds)


def is_generator(value: Any) -> bool:
    """Tell whether a value is a random generator."""
    return isinstance(value, _GENERATORS) or is_torch(value, "Generator")


def has_state_dict(value: Any) -> bool:
    """Tell whether an object hands out its state, and takes one."""
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


def members(value: Any) -> dict[Any, Any] | None:
    """Return the members of a container by position or key; None for any other value."""
    if isinstance(value, dict):
        return dict(value)
    return dict(enumerate(value)) if type(value) in (list, tuple, deque) else None


def made_anew(tree: Mapping[str, Any], owner: Any, classes: Mapping[str, type]) -> Any:
    """Return an object without attributes for one that a run made; None where that is not safe or not enough.

    A file may name a class that an object of the script has, or one of the package of the object that holds
    it. The class is not called, and must not act when its objects go.
    """
    name, package = tree["class"], base_of(owner).__module__.partition(".")[0]
    kind = classes.get(name) or _loaded_class(name)
    own = kind is not None and (name in classes or kind.__module__.partition(".")[0] == package)
    if not own or "unsaved" in tree or "state_dict" in tree or hasattr(kind, "__del__"):
        return None
    try:
        return object.__new__(kind)  # type: ignore[arg-type]
    except TypeError:  # a class of C, or an abstract one
        return None


def _loaded_class(name: str) -> type | None:
    """Return the class of a full name among the modules that the program has imported."""
    parts = name.split(".")
    for number in range(len(parts) - 1, 0, -1):
        place = {"module": ".".join(parts[:number]), "class": ".".join(parts[number:])}
        try:
            found = class_at(place)
        except (LookupError, ValueError):
            continue
        return found if class_name(found) == name else None
    return None
