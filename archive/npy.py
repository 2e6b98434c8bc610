"""Headers of ``.npy`` files: the canonical one of an array, and what any of them says."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from archive.descriptions import describe_dtype
from archive.dtypes import MAX_NPY_HEADER, from_descr, is_ml_dtype, parse_literal

__all__ = ["NPY_BEGINNING_BYTES", "NPY_MAGIC", "NpyLayout", "npy_header", "split_npy"]

DType = np.dtype[Any]

NPY_MAGIC = b"\x93NUMPY"
_NPY_VERSIONS = (b"\1\0", b"\2\0", b"\3\0")
# numpy pads the header so that the growing axis can be rewritten in place up to this many digits
# (numpy/lib/format.py, GROWTH_AXIS_MAX_DIGITS since 1.23); the bytes of np.save depend on it
_GROWTH_DIGITS = 21
_ALIGN = 64
NPY_BEGINNING_BYTES = 12 + MAX_NPY_HEADER
"""Bytes at the beginning of a ``.npy`` that hold any header."""


def npy_header(dtype: DType, shape: tuple[int, ...], fortran_order: bool = False) -> bytes:
    """Return the canonical header of a ``.npy`` of such an array (section 8.5 of the format).

    Not left to numpy, so that the bytes do not depend on the Python and numpy that read an archive. They are
    what ``np.save`` writes, but for members whose names hold a quote, a backslash, or characters that are not
    printable ASCII: those are escaped as in the description. A test compares with ``np.save``.

    Examples
    --------
    >>> npy_header(np.dtype("<f4"), (2, 3))[10:59]
    b"{'descr': '<f4', 'fortran_order': False, 'shape':"
    """
    text, version = _header_text(dtype, tuple(shape), bool(fortran_order))
    body = text.encode("ascii")
    return NPY_MAGIC + bytes([version, 0]) + len(body).to_bytes(2 if version == 1 else 4, "little") + body


@functools.lru_cache(maxsize=4096)
def _header_text(dtype: DType, shape: tuple[int, ...], fortran_order: bool) -> tuple[str, int]:
    """Return header text, padding included, and format version (1 or 2)."""
    spelled = f"<V{dtype.itemsize}" if is_ml_dtype(dtype) else describe_dtype(dtype)
    descr = spelled if dtype.names is not None else f"'{spelled}'"
    text = f"{{'descr': {descr}, 'fortran_order': {fortran_order}, 'shape': {shape!r}, }}"
    if shape:
        text += " " * (_GROWTH_DIGITS - len(repr(shape[-1 if fortran_order else 0])))
    length, start = len(text) + 1, len(NPY_MAGIC) + 2
    pad = _ALIGN - (start + 2 + length) % _ALIGN
    if length + pad < 1 << 16:
        return text + " " * pad + "\n", 1
    pad = _ALIGN - (start + 4 + length) % _ALIGN
    return text + " " * pad + "\n", 2


@dataclass(frozen=True, slots=True)
class NpyLayout:
    """The fields of a ``.npy`` header."""

    dtype: DType
    """Element type in the header (void for ml_dtypes)."""
    shape: tuple[int, ...]
    """Shape of the array."""
    fortran_order: bool
    """Whether the elements are in column-major order."""
    header_bytes: int
    """Offset of the elements."""


def split_npy(data: bytes | memoryview, *, exact: bool = True, nbytes: int | None = None) -> NpyLayout:
    """Read the header of a ``.npy`` without loading its elements, and without pickle.

    Parameters
    ----------
    data : bytes or memoryview
        All of it, or with ``nbytes`` its beginning.
    exact : bool, default True
        False allows more bytes after the ``.npy``, as `numpy.load` does.
    nbytes : int, optional
        Length of the whole, of which `NPY_BEGINNING_BYTES` hold any header.

    Raises
    ------
    ValueError
        ``data`` is not exactly one ``.npy`` of a type without Python objects: wrong magic or header,
        or more or fewer bytes than dtype and shape need.
    """
    head = bytes(data[:12])
    if len(head) < 12 or head[:6] != NPY_MAGIC or head[6:8] not in _NPY_VERSIONS:
        raise ValueError("not a .npy")
    width = 2 if head[6] == 1 else 4
    length = int.from_bytes(head[8 : 8 + width], "little")
    start = 8 + width + length
    if length > MAX_NPY_HEADER or start > len(data):
        raise ValueError("the .npy header is longer than its bytes")
    try:
        text = bytes(data[8 + width : start]).decode("utf-8" if head[6] == 3 else "latin1")
        fields = parse_literal(text.strip())
        shape, fortran = fields["shape"], fields["fortran_order"]
        dtype = from_descr(fields["descr"])
    except (TypeError, ValueError, SyntaxError, RecursionError, MemoryError, KeyError, IndexError) as error:
        raise ValueError("the .npy header cannot be read") from error
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 1 << 63 for n in shape):
        raise ValueError("the .npy shape is not a tuple of lengths")
    if not isinstance(fortran, bool) or len(fields) != 3:
        raise ValueError("the .npy header has unknown fields")
    if dtype.hasobject:
        raise ValueError("the .npy holds pickled objects, and allow_pickle is False")
    needed = math.prod(shape) * dtype.itemsize
    there = (len(data) if nbytes is None else nbytes) - start
    if there < needed or (exact and there > needed):
        raise ValueError("the .npy has more or fewer bytes than its shape")
    return NpyLayout(dtype, shape, fortran, start)
