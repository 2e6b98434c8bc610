"""Strings of variable length, decoded as UTF-8 of a fixed width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from h5py import h5s, h5t

from archive.hdf5.foreign.guards import MAX_ATTRIBUTE_BYTES, Budget, refuse
from archive.hdf5.foreign.sandbox import Limits, Spool

__all__ = ["decode_strings"]

SLAB, SLAB_BYTES, MIN_SLAB = 65_536, 256 << 20, 256
"""Strings held in memory at once: fewer where each may be as long as a large file."""


def decode_strings(
    dataset: Any, path: str, budget: Budget, limits: Limits, spool: Spool
) -> tuple[int, int, int | None, int]:
    """Decode the strings of a dataset into the spool, as wide as the longest.

    Returns
    -------
    characters, width : int
        Of the longest string, in characters and in bytes.
    offset : int or None
        Place in the spool; None where there are no strings.
    nbytes : int
        Bytes of all strings.

    Raises
    ------
    HostileFileError
        The strings are larger than the file, or not UTF-8.
    """
    count = dataset.get_space().get_simple_extent_npoints()
    most = max(MIN_SLAB, min(SLAB, SLAB_BYTES // budget.file_bytes))
    width = characters = 1
    stored = 0
    for slab in _slabs(dataset, count, most):
        stored += sum(map(len, slab))
        if stored > max(budget.file_bytes, MAX_ATTRIBUTE_BYTES):
            raise refuse("strings that share their bytes: there are more than the file has", path)
        try:
            characters = max(characters, *(len(text.decode()) for text in slab))
        except UnicodeDecodeError as error:
            raise refuse("a string that is not UTF-8", path) from error
        width = max(width, *map(len, slab))
    nbytes = count * width
    budget.add_decoded(nbytes, nbytes, path)
    limits.allow(budget.decoded_bytes)
    offset = None
    for slab in _slabs(dataset, count, most):
        # one after the other without a gap: a slab starts where the last one ended
        at = spool.append(np.array(slab, f"S{width}").tobytes(), path, aligned=offset is None)
        offset = at if offset is None else offset
    return characters, width, offset, nbytes


def _slabs(dataset: Any, count: int, most: int) -> Iterator[list[bytes]]:
    """Yield lists of the strings of a dataset, in C order; about ``most`` at once."""
    if not count:
        return
    shape = dataset.get_space().get_simple_extent_dims()
    rows = shape[0] if shape else 1
    step = max(1, most // max(1, count // rows))
    for start in range(0, rows, step):
        part = (min(step, rows - start), *shape[1:]) if shape else ()
        elements = np.empty(part, object)
        if shape:
            chosen = h5s.create_simple(shape)
            chosen.select_hyperslab((start, *[0] * (len(shape) - 1)), part)
            dataset.read(h5s.create_simple(part), chosen, elements, mtype=h5t.PYTHON_OBJECT)
        else:
            dataset.read(h5s.ALL, h5s.ALL, elements, mtype=h5t.PYTHON_OBJECT)
        yield [text or b"" for text in elements.ravel().tolist()]
