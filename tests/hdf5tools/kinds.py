"""Archives of every kind, each with the tree that an HDF5 tool has to show of it."""

from __future__ import annotations

from tests.hdf5tools import arraykinds as arraykinds
from tests.hdf5tools import recordkinds as recordkinds
from tests.hdf5tools.registry import KINDS, Kind, MissingError, rewritten

__all__ = ["KINDS", "Kind", "MissingError", "rewritten"]
