"""Tools for whole archives: verify, compare, measure, report, edit, average, convert, recover, copy.

Each name is loaded when it is first used, so that copying imports nothing of averaging. `report` alone lives
on a floor above, since it reads runs; it is named here, where people look for tools.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archive.report.reporting import report
    from archive.tools.accumulator import Accumulator
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
    from archive.tools.verifyingmany import verify_all

__all__ = [
    "Accumulator",
    "convert",
    "copy",
    "diff",
    "edit",
    "extract",
    "mean",
    "recover",
    "reindex",
    "report",
    "stats",
    "verify",
    "verify_all",
]

_HOMES = {
    "Accumulator": "archive.tools.accumulator",
    "convert": "archive.tools.converting",
    "copy": "archive.tools.copying",
    "diff": "archive.tools.comparison",
    "edit": "archive.tools.editing",
    "extract": "archive.tools.extraction",
    "mean": "archive.tools.averaging",
    "recover": "archive.tools.recovery",
    "reindex": "archive.tools.reindexing",
    "report": "archive.report.reporting",
    "stats": "archive.tools.arraystats",
    "verify": "archive.tools.verification",
    "verify_all": "archive.tools.verifyingmany",
}
"""The module of each name."""


def __getattr__(name: str) -> object:
    """Load a name of ``__all__`` at its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found
