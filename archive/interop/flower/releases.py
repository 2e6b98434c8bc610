"""Flower's names, whichever release is there: looked up once, when they are first needed."""

from __future__ import annotations

import importlib
from functools import cache
from types import SimpleNamespace
from typing import Any

__all__ = ["LOGGER", "flower", "is_from_flower"]

LOGGER = "flwr"
"""Flower's logger: the only one that a ServerApp or ClientApp shows."""

_NEEDED = "flwr 1.17 or newer is needed: pip install 'fedarchive[flower]'"


@cache
def flower() -> Any:
    """Return what is used of flwr, by name.

    ``Strategy`` and ``Result`` of the message-based API are None before flwr 1.21.

    Raises
    ------
    ImportError
        flwr is not installed, or older than 1.17.
    """
    try:
        common = importlib.import_module("flwr.common")
    except ModuleNotFoundError as error:
        raise ImportError(_NEEDED) from error
    if not hasattr(common, "RecordDict"):
        raise ImportError(_NEEDED)
    names = ("Array", "ArrayRecord", "MetricRecord", "ConfigRecord", "RecordDict", "Context", "Parameters")
    found = SimpleNamespace(**{name: getattr(common, name) for name in names})
    legacy = importlib.import_module("flwr.server.strategy")
    found.LegacyStrategy = legacy.Strategy
    try:
        found.Strategy = importlib.import_module("flwr.serverapp.strategy").Strategy
    except ModuleNotFoundError:
        found.Strategy = None
    # the unit that arrays travel in; before flwr 1.20 an array travels as one protobuf field
    module = importlib.import_module(found.Array.__module__)
    found.ArrayChunk = getattr(module, "ArrayChunk", None)
    found.chunk_bytes = getattr(module, "FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE", 0)
    return found


def is_from_flower(value: object, *names: str) -> bool:
    """Tell whether a value is an instance of one of Flower's classes of these names; imports nothing."""
    return any(
        kind.__name__ in names and kind.__module__.partition(".")[0] == "flwr" for kind in type(value).__mro__
    )
