"""Constants of the record model: serialisation names and the garbage collection threshold."""

from __future__ import annotations

from typing import Final

__all__ = ["GC_THRESHOLD", "SType"]

GC_THRESHOLD: Final = 200_000_000
"""Serialised bytes that a conversion releases before it calls ``gc.collect()``."""


class SType:
    """Names of serialisations.

    The ``stype`` of an Array is free text; this package gives these names a meaning.

    Examples
    --------
    >>> SType.NUMPY
    'numpy.ndarray'
    """

    NUMPY: Final = "numpy.ndarray"
    """``Array.data`` is one ``.npy`` without pickled objects."""
