"""Rounds of a run as archives in a folder: saved, found again, kept and removed; their metrics as columns.

======================  ================================================================
``store``               `CheckpointStore`, which users call
``savedrun``            the same without what changes a run
``rounds``              files of rounds and clients: saved and removed
``roundreader``         the same read and listed while other processes save and remove some
``roundrows``           the rows of a history: every round that ever was, and its clients
``finitefiles``         NaN and infinities in what is saved
``stacks``              one array of many files as one lazy array
``updates``             what the clients of a round changed
``roundcheck``          the same verified
``contextfiles``        contexts of nodes
``roundfile``           configs that name these files
``runfacts``            what runs a folder has, and facts about each
``paths``               names of files
``retention``           which rounds stay, and which is the best: pure decisions
``writerlock``          the right to go on with a run, for one process at a time
``filecontent``         what a caller saves, and what the store adds
``curve``               metrics of the rounds before, carried by each round
``snapshot``            copies of records, for a save while the caller continues
``tables``              metrics and configs of many archives as columns
======================  ================================================================
"""

from __future__ import annotations

from archive.checkpoints.paths import require_experiment
from archive.checkpoints.roundfile import RoundReport
from archive.checkpoints.store import CheckpointStore
from archive.checkpoints.tables import table
from archive.tools.tabulation import Table

__all__ = ["CheckpointStore", "RoundReport", "Table", "require_experiment", "table"]
