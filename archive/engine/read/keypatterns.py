"""Which arrays a shell pattern names."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

import numpy as np

from archive.engine.read.reader import Reader
from archive.format.constants import KIND_ARRAYS

__all__ = ["match_names", "match_rows"]


def match_rows(reader: Reader, pattern: str) -> list[int]:
    """Return the rows of the arrays that a pattern matches, in the order of the archive.

    Raises
    ------
    KeyError
        No array matches.
    """
    index = reader.index
    arrays = np.flatnonzero(index.record_rows["kind"][index.record] == KIND_ARRAYS).tolist()
    records = [record.name for record in index.records]
    names = zip((records[at] for at in index.record[arrays].tolist()), index.keys(arrays), strict=True)
    found = match_names(names, pattern)
    if not found:
        raise KeyError(f"no array matches {pattern!r}")
    return [arrays[place] for place in found]


def match_names(names: Iterable[tuple[str, str]], pattern: str) -> list[int]:
    """Return the places of the (record, key) pairs that a pattern matches.

    ``*`` stands for any characters, ``?`` for one, ``[ab]`` for one of these. A pattern with a slash is
    matched with ``record/key``, any other with the key alone. A key that exists stands for itself, and so
    does a ``record/key``.

    Examples
    --------
    >>> names = [("model", "fc.weight"), ("model", "fc.bias"), ("optimizer", "fc.weight")]
    >>> match_names(names, "*.weight"), match_names(names, "model/*"), match_names(names, "fc.bias")
    ([0, 2], [0, 1], [1])
    """
    pairs = list(names)
    keys = [key for _, key in pairs]
    texts = ["/".join(pair) for pair in pairs] if "/" in pattern else keys
    matches = re.compile(fnmatch.translate(pattern)).match
    for known in (keys, texts):
        if exact := [place for place, text in enumerate(known) if text == pattern]:
            return exact
    return [place for place, text in enumerate(texts) if matches(text)]
