"""Flower's names in the installed release, looked up once, when they are first needed."""

from __future__ import annotations

import contextlib
import importlib
from functools import cache
from types import SimpleNamespace
from typing import Any

__all__ = ["LOGGER", "flower"]

LOGGER = "flwr"
"""Flower's logger: no other is shown by a ServerApp or ClientApp."""

_NEEDED = "flwr 1.17 or newer is needed: pip install 'fedarchive[flower]'"


@cache
def flower() -> Any:
    """Return the names of flwr that this package uses.

    ``Strategy`` and ``FedAvg`` of the message-based API are None before flwr 1.21.

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
    records = ("Array", "ArrayRecord", "MetricRecord", "ConfigRecord", "RecordDict")
    names = (*records, "Context", "Message", "Parameters")
    found = SimpleNamespace(**{name: getattr(common, name) for name in names})
    legacy = importlib.import_module("flwr.server.strategy")
    found.LegacyStrategy = legacy.Strategy
    found.Strategy = found.FedAvg = None
    with contextlib.suppress(ModuleNotFoundError):
        strategies = importlib.import_module("flwr.serverapp.strategy")
        found.Strategy, found.FedAvg = strategies.Strategy, strategies.FedAvg
    # arrays travel in chunks; before flwr 1.20 an array is one protobuf field
    module = importlib.import_module(found.Array.__module__)
    found.ArrayChunk = getattr(module, "ArrayChunk", None)
    found.chunk_bytes = getattr(module, "FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE", 0)
    return found
