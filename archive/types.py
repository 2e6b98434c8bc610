"""Types that calls of `archive` and `archive.tools` return, for annotations.

Example: ``from archive.types import SaveReport``. Callers make none of them.
"""

from __future__ import annotations

from archive.checkpoints.roundfile import RoundReport
from archive.checkpoints.tables import Table
from archive.engine.read.handle import Info
from archive.engine.report import Failure, SaveReport, VerifyReport
from archive.engine.write.create import ArchiveWriter

__all__ = ["ArchiveWriter", "Failure", "Info", "RoundReport", "SaveReport", "Table", "VerifyReport"]
