"""Federated-learning records, saved as archives that are ordinary HDF5 files.

This module is the front door: every name in ``__all__``, each loaded when it is first used, so that
``import archive`` costs next to nothing. Errors other than `ArchiveError` are in `archive.errors`.

The package is built in floors; a module imports only from floors below its own, and
``lint-imports`` (part of ``poe check``) holds it to that.

====================================  ====================================================
``__main__``, ``cli``                 the command line: decides nothing
``interop``, ``testing``              other libraries' objects; helpers for users' own tests
``report``                            the HTML page about a run
``checkpoints``, ``tools``            rounds of a run; work on whole archives
``reading``, ``writing``              check arguments and call the engine
``engine``                            how records meet bytes: save, load, verify
``hdf5``                              HDF5 structures as bytes; ``hdf5.foreign`` alone knows h5py
``records``, ``format``, ``storage``  what a program holds; what bytes mean; where bytes lie.
                                      None of the three knows the other two
``dtypes``, ``workers``, ``tuning``,  element types; threads; measured sizes;
``errors``                            the tree of errors, which knows no other module
====================================  ====================================================
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

# Eager: errors are small, and handlers name them before any archive is opened.
from archive import errors as errors
from archive.errors import ArchiveError
from archive.version import __version__ as __version__

if TYPE_CHECKING:
    from archive import packers as packers
    from archive import tools as tools
    from archive.checkpoints import CheckpointStore, table
    from archive.engine.read.handle import Archive
    from archive.reading import load, open
    from archive.records import (
        GC_THRESHOLD,
        Array,
        ArrayRecord,
        ConfigRecord,
        ConfigsRecord,
        Context,
        MetricRecord,
        MetricsRecord,
        ParametersRecord,
        RecordDict,
        RecordSet,
        SType,
        array_from_numpy,
    )
    from archive.tools import mean, recover, reindex, verify
    from archive.writing import create, save

__all__ = [
    "GC_THRESHOLD",
    "Archive",
    "ArchiveError",
    "Array",
    "ArrayRecord",
    "CheckpointStore",
    "ConfigRecord",
    "ConfigsRecord",
    "Context",
    "MetricRecord",
    "MetricsRecord",
    "ParametersRecord",
    "RecordDict",
    "RecordSet",
    "SType",
    "array_from_numpy",
    "create",
    "load",
    "mean",
    "open",
    "recover",
    "reindex",
    "save",
    "table",
    "verify",
]

_HOMES = {
    "Archive": "archive.engine.read.handle",
    "CheckpointStore": "archive.checkpoints",
    "table": "archive.checkpoints",
    **dict.fromkeys(("load", "open"), "archive.reading"),
    **dict.fromkeys(("create", "save"), "archive.writing"),
    **dict.fromkeys(("mean", "recover", "reindex", "verify"), "archive.tools"),
}
"""Module of each name that is not in ``archive.records``."""
_ROOMS = ("interop", "packers", "tools", "types")
"""Public modules and packages, which need no import of their own: ``archive.tools.stats``."""


def __getattr__(name: str) -> object:
    """Load a name of ``__all__``, or a public module, at its first use (PEP 562)."""
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")  # which sets the attribute
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(_HOMES.get(name, "archive.records")), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List all names, loaded or not."""
    return sorted({*globals(), *__all__, *_ROOMS})
