"""Types that the calls of this package take and return, for annotations; programs make none of them.

Each name is loaded when it is first used, so that importing this module loads nothing.

- `ArchiveWriter`, `Editor`, `SaveReport`, `MeanReport`, `Skipped`, `Added`, `VerifyReport`, `Failure`,
  `RoundReport`, `CatalogueReport`, `Table`, `LoadReport`, `ConvertReport`, `PageReport`, `Garbage`, `Diff`
  with `ArrayDiff` and `ValueDiff`, `Stack`, `Updates`, `Update`: results of calls; `Info` is that of
  ``archive.open(...).info``.
- `Records`, `Record`, `KindView`, `TypedDict`, `MetricValue`, `ConfigValue`, `UserConfig`, `Shape`,
  `Payload`: contents of an archive.
- `NDArray`, `NDArrays`, `SparseInfo`: arrays of any element type, and the lists of the packers.
- `Mode`, `Verify`, `Access`, `BestBy`, `Check`, `Errors`, `FileFormat`: the words that `archive.open`,
  `CheckpointStore`, `archive.table` and `archive.tools.convert` take.
- `URL`, `Cache`, `Spool`, `Progress`, `Report`, `Names`: arguments of calls.

Examples
--------
>>> import archive, numpy as np
>>> from archive.types import SaveReport, VerifyReport
>>> def save_checked(layers: dict[str, np.ndarray], url: str) -> VerifyReport:
...     report: SaveReport = archive.save(layers, url)
...     return archive.verify(url)
>>> save_checked({"w": np.zeros(3)}, "/tmp/fedarchive-types.h5").ok
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archive.checkpoints.cataloguereport import CatalogueReport
    from archive.checkpoints.finitefiles import Check
    from archive.checkpoints.retention import BestBy
    from archive.checkpoints.roundfile import RoundReport
    from archive.checkpoints.stacks import Stack
    from archive.checkpoints.updates import Update, Updates
    from archive.dtypes import NDArray
    from archive.engine.progress import Progress, Report
    from archive.engine.read.archiveinfo import Info
    from archive.engine.read.containers import Records
    from archive.engine.report import Failure, SaveReport, VerifyReport
    from archive.engine.write.create import ArchiveWriter
    from archive.interop.flower.parameternames import Names
    from archive.interop.torch import LoadReport
    from archive.reading import Access, Mode, Verify
    from archive.records.context import UserConfig
    from archive.records.packers.lists import NDArrays
    from archive.records.packers.sparse import SparseInfo
    from archive.records.payload import Payload
    from archive.records.recorddict import KindView
    from archive.records.recordset import Record
    from archive.records.shape import Shape
    from archive.records.typeddict import TypedDict
    from archive.records.valuerecord import ConfigValue, MetricValue
    from archive.report.reporting import PageReport
    from archive.storage.remote.staging import Spool
    from archive.storage.url import URL, Cache
    from archive.tools.averaging import MeanReport
    from archive.tools.batchfile import Added
    from archive.tools.collection import Garbage
    from archive.tools.converting import ConvertReport
    from archive.tools.differences import ArrayDiff, Diff, ValueDiff
    from archive.tools.editing import Editor
    from archive.tools.formats.kinds import FileFormat
    from archive.tools.leftout import Skipped
    from archive.tools.many import Errors
    from archive.tools.tabulation import Table

__all__ = [
    "URL",
    "Access",
    "Added",
    "ArchiveWriter",
    "ArrayDiff",
    "BestBy",
    "Cache",
    "CatalogueReport",
    "Check",
    "ConfigValue",
    "ConvertReport",
    "Diff",
    "Editor",
    "Errors",
    "Failure",
    "FileFormat",
    "Garbage",
    "Info",
    "KindView",
    "LoadReport",
    "MeanReport",
    "MetricValue",
    "Mode",
    "NDArray",
    "NDArrays",
    "Names",
    "PageReport",
    "Payload",
    "Progress",
    "Record",
    "Records",
    "Report",
    "RoundReport",
    "SaveReport",
    "Shape",
    "Skipped",
    "SparseInfo",
    "Spool",
    "Stack",
    "Table",
    "TypedDict",
    "Update",
    "Updates",
    "UserConfig",
    "ValueDiff",
    "Verify",
    "VerifyReport",
]

_HOMES = {
    "BestBy": "archive.checkpoints.retention",
    "Check": "archive.checkpoints.finitefiles",
    "CatalogueReport": "archive.checkpoints.cataloguereport",
    "RoundReport": "archive.checkpoints.roundfile",
    "Stack": "archive.checkpoints.stacks",
    **dict.fromkeys(("Update", "Updates"), "archive.checkpoints.updates"),
    "Table": "archive.tools.tabulation",
    "NDArray": "archive.dtypes",
    **dict.fromkeys(("Progress", "Report"), "archive.engine.progress"),
    "Records": "archive.engine.read.containers",
    "Info": "archive.engine.read.archiveinfo",
    **dict.fromkeys(("Failure", "SaveReport", "VerifyReport"), "archive.engine.report"),
    "ArchiveWriter": "archive.engine.write.create",
    **dict.fromkeys(("ArrayDiff", "Diff", "ValueDiff"), "archive.tools.differences"),
    "Editor": "archive.tools.editing",
    "Names": "archive.interop.flower.parameternames",
    "LoadReport": "archive.interop.torch",
    **dict.fromkeys(("Access", "Mode", "Verify"), "archive.reading"),
    "UserConfig": "archive.records.context",
    "NDArrays": "archive.records.packers.lists",
    "SparseInfo": "archive.records.packers.sparse",
    "PageReport": "archive.report.reporting",
    "Payload": "archive.records.payload",
    "KindView": "archive.records.recorddict",
    "Record": "archive.records.recordset",
    "Shape": "archive.records.shape",
    "TypedDict": "archive.records.typeddict",
    **dict.fromkeys(("ConfigValue", "MetricValue"), "archive.records.valuerecord"),
    "Spool": "archive.storage.remote.staging",
    **dict.fromkeys(("URL", "Cache"), "archive.storage.url"),
    "Garbage": "archive.tools.collection",
    "Errors": "archive.tools.many",
    "ConvertReport": "archive.tools.converting",
    "FileFormat": "archive.tools.formats.kinds",
    "Added": "archive.tools.batchfile",
    "MeanReport": "archive.tools.averaging",
    "Skipped": "archive.tools.leftout",
}
"""The module of each name."""


def __getattr__(name: str) -> object:
    """Load a name of ``__all__`` at its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List all names, loaded or not."""
    return sorted({*globals(), *__all__})
