"""How elements of a type are stored; text as fixed-width UTF-8."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from archive.descriptions import parse_description
from archive.dtypes import NDArray
from archive.format.constants import MAX_FILE_BYTES, MAX_TEXT_EXPANSION, MODE_DATA, MODE_ELEMENTS, MODE_TEXT

__all__ = [
    "NUMPY_MAX_RANK",
    "ArrayType",
    "column_major",
    "empty_text_width",
    "pack_text",
    "text_width",
    "unpack_text",
]

DType = np.dtype[Any]
NUMPY_MAX_RANK = 32 if np.lib.NumpyVersion(np.__version__) < "2.0.0" else 64
"""Axes that the installed numpy holds; the format allows 64."""


@dataclass(frozen=True, slots=True)
class ArrayType:
    """What many arrays of an archive share: one row of its type table."""

    dtype: str
    """``Array.dtype``, as it was given."""
    stype: str
    """``Array.stype``, as it was given."""
    description: str
    """Element type (`archive.descriptions`); in mode DATA ``""``, but for values that are datasets."""
    mode: int
    """MODE_ELEMENTS, MODE_TEXT or MODE_DATA."""
    itemsize: int
    """Bytes of one stored element (1 in mode DATA)."""
    npy_header: bytes = b""
    """The .npy header of ``Array.data`` where it is not the canonical one."""


def opaque_view(array: NDArray) -> NDArray:
    """Return structured elements as opaque elements of the same size, any other array as it is.

    numpy copies structured elements field by field and leaves arbitrary memory between the fields; those
    bytes would be saved, and would differ each time.
    """
    if array.dtype.names is not None and array.dtype.itemsize:
        return array.view(np.dtype(f"V{array.dtype.itemsize}"))
    return array


def column_major(elements: NDArray) -> NDArray:
    """Return elements in column-major order, as `numpy.load` does for a column-major ``.npy``."""
    if not elements.nbytes:  # numpy widens elements of no bytes when it copies them
        empty: NDArray = np.ndarray(elements.shape, elements.dtype, order="F")
        return empty
    ordered: NDArray = np.asfortranarray(opaque_view(elements)).view(elements.dtype)
    return ordered


def text_width(array: NDArray) -> int | None:
    """Return the bytes that an element of a ``U`` array takes as UTF-8; None where code points are stored.

    NUL inside a text and lone surrogates do not survive as fixed-width UTF-8, so such arrays are stored as
    code points. So are arrays much wider than their text: a small file could claim all memory.
    """
    if array.size == 0:
        return empty_text_width(array.dtype, array.shape)
    if array.dtype.itemsize == 0:
        return None
    points = np.ascontiguousarray(array).view(f"{array.dtype.byteorder}u4").reshape(array.size, -1)
    if bool(((points >= 0xD800) & (points < 0xE000)).any()) or bool((points > 0x10FFFF).any()):
        return None
    inner_nul = (points[:, :-1] == 0) & (points[:, 1:] != 0)
    if bool(inner_nul.any()):
        return None
    sizes = (points != 0).astype(np.int64)
    for limit in (0x80, 0x800, 0x10000):
        sizes += points >= limit
    width = max(1, int(sizes.sum(axis=1).max()))
    return width if array.dtype.itemsize <= width * MAX_TEXT_EXPANSION else None


def empty_text_width(dtype: DType, shape: tuple[int, ...]) -> int | None:
    """Return what `text_width` does for an array without elements: a byte a character ([DTYPE-5])."""
    width = dtype.itemsize // 4
    most = width * MAX_TEXT_EXPANSION * math.prod(max(axis, 1) for axis in shape)
    return width if 0 < most <= MAX_FILE_BYTES else None


def pack_text(array: NDArray, width: int) -> NDArray:
    """Return ``U`` elements as NUL-padded UTF-8 of ``width`` bytes each, in C order (dtype ``S``).

    Raises
    ------
    ValueError
        An element is wider, or has no UTF-8.
    """
    # flat, because np.char stops at 32 axes
    flat = np.char.encode(np.ascontiguousarray(array).reshape(-1), "utf-8")
    if flat.dtype.itemsize > width:
        raise ValueError(f"text of {flat.dtype.itemsize} bytes, where {width} are its width")
    packed: NDArray = flat.astype(f"S{width}").reshape(array.shape)
    return packed


def unpack_text(stored: NDArray, dtype: DType) -> NDArray:
    """Return the ``U`` elements of fixed-width UTF-8.

    Raises
    ------
    ValueError
        An element is not UTF-8, or longer than the type holds.
    """
    if stored.size == 0:
        return np.empty(stored.shape, dtype)
    try:
        text = np.char.decode(stored.reshape(-1), "utf-8").reshape(stored.shape)
    except UnicodeDecodeError as error:
        raise ValueError("a text element is not UTF-8") from error
    if text.dtype.itemsize > dtype.itemsize:
        raise ValueError("a text element is longer than its type")
    unpacked: NDArray = text.astype(dtype)
    return unpacked


def stored_dtype(kind: ArrayType) -> DType:
    """Return the numpy type of the stored elements of a row of the type table."""
    if kind.mode == MODE_DATA:
        return np.dtype(np.uint8)
    dtype = parse_description(kind.description)
    if kind.mode == MODE_TEXT:
        if dtype.kind != "U":
            raise ValueError(f"mode TEXT with elements {kind.description[:80]!r}")
        if not 1 <= kind.itemsize <= dtype.itemsize <= kind.itemsize * MAX_TEXT_EXPANSION:
            raise ValueError(f"text of {kind.itemsize} bytes for elements {kind.description[:80]!r}")
        return np.dtype(f"S{kind.itemsize}")
    if kind.mode != MODE_ELEMENTS:
        raise ValueError(f"unknown storage mode {kind.mode}")
    if dtype.itemsize != kind.itemsize:
        raise ValueError(f"elements {kind.description[:80]!r} of {kind.itemsize} bytes")
    return dtype
