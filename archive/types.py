"""The types of what calls return, for annotations: ``from archive.types import SaveReport``.

None of them is made by a caller; the calls of `archive` and `archive.tools` return them.
"""

from __future__ import annotations

from archive.checkpoints.roundfile import RoundReport
from archive.checkpoints.tables import Table
from archive.engine.read.handle import Info
from archive.engine.report import Failure, SaveReport, VerifyReport
from archive.engine.write.create import ArchiveWriter

__all__ = ["ArchiveWriter", "Failure", "Info", "RoundReport", "SaveReport", "Table", "VerifyReport"]
