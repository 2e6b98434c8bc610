"""Which arrays a shell pattern names."""

from __future__ import annotations

import fnmatch
import re

import numpy as np

from archive.engine.read.reader import Reader
from archive.format.constants import KIND_ARRAYS

__all__ = ["match_rows"]


def match_rows(reader: Reader, pattern: str) -> list[int]:
    """Return the rows of the arrays that a pattern matches, in the order of the archive.

    ``*`` stands for any characters, ``?`` for one, ``[ab]`` for one of these. A pattern with a slash is
    matched with ``record/key``, any other with the key alone. A name that exists stands for itself.

    Raises
    ------
    KeyError
        No array matches.
    """
    index = reader.index
    arrays = np.flatnonzero(index.record_rows["kind"][index.record] == KIND_ARRAYS).tolist()
    keys = index.keys(arrays)
    if "/" in pattern:
        records = [record.name for record in index.records]
        keys = [f"{records[at]}/{key}" for at, key in zip(index.record[arrays].tolist(), keys, strict=True)]
    matches = re.compile(fnmatch.translate(pattern)).match
    named = list(zip(arrays, keys, strict=True))
    found = [row for row, key in named if key == pattern] or [row for row, key in named if matches(key)]
    if not found:
        raise KeyError(f"no array matches {pattern!r}")
    return found
