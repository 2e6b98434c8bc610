"""Constants of the record model: serialisation names and the garbage collection threshold."""

from __future__ import annotations

from typing import Final

__all__ = ["GC_THRESHOLD", "SType"]

GC_THRESHOLD: Final = 200_000_000
"""Serialised bytes that may be released before a conversion calls ``gc.collect()``."""


class SType:
    """Names of the serialisations an Array may have.

    An Array's ``stype`` is free text; these are the names this package gives a meaning to.

    Examples
    --------
    >>> SType.NUMPY
    'numpy.ndarray'
    """

    NUMPY: Final = "numpy.ndarray"
    """``Array.data`` is one ``.npy`` without pickled objects."""
