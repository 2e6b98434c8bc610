"""Tools for whole archives: verify, compare, measure, edit, average, convert, recover, copy, collect garbage.

Each name is loaded when it is first used, so that copying imports nothing of averaging.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archive.tools.arraystats import stats
    from archive.tools.averaging import mean
    from archive.tools.comparison import diff
    from archive.tools.converting import convert
    from archive.tools.copying import copy
    from archive.tools.editing import edit
    from archive.tools.extraction import extract
    from archive.tools.recovery import recover
    from archive.tools.reindexing import reindex
    from archive.tools.verification import verify

__all__ = [
    "convert",
    "copy",
    "diff",
    "edit",
    "extract",
    "mean",
    "recover",
    "reindex",
    "stats",
    "verify",
]

_HOMES = {
    "convert": "converting",
    "copy": "copying",
    "diff": "comparison",
    "edit": "editing",
    "extract": "extraction",
    "mean": "averaging",
    "recover": "recovery",
    "reindex": "reindexing",
    "stats": "arraystats",
    "verify": "verification",
}
"""The module of each name."""


def __getattr__(name: str) -> object:
    """Load a name of ``__all__`` at its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
