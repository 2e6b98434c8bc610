"""What a stored array looks like: its row in the index and its dataset in the HDF5 tree.

Arrays of one dtype, shape and order share one storage spec, so that 20,000 arrays cost a dictionary
look-up each. Nothing here knows record or key: callers add them to a TypeError (an element type that no
archive holds) or ValueError (a name or size beyond the format).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from archive.descriptions import describe_dtype, parse_description
from archive.dtypes import ML_DTYPES, NDArray, dtype_name, is_ml_dtype, parse_dtype
from archive.errors import UnsupportedDtypeError
from archive.format.constants import (
    FLAG_FORTRAN,
    HDF5_MAX_RANK,
    MAX_ATTRIBUTE_BYTES,
    MAX_FILE_BYTES,
    MAX_RANK,
    MODE_DATA,
    MODE_ELEMENTS,
    MODE_TEXT,
)
from archive.format.elements import ArrayType
from archive.format.layout import segment_bytes
from archive.hdf5.datatypes import BFLOAT16, MAX_ELEMENT_NBYTES, UINT8, encode_datatype, utf8_fixed

__all__ = [
    "NUMPY_STYPE",
    "ShownType",
    "StorageSpec",
    "data_spec",
    "elements_spec",
    "plain_spec",
    "row_spec",
    "shown_type",
    "stored_spec",
    "stored_value_spec",
    "text_spec",
]

DType = np.dtype[Any]
Shape = tuple[int, ...]
NUMPY_STYPE = "numpy.ndarray"


@dataclass(frozen=True, slots=True, eq=False)
class StorageSpec:
    """Everything about a stored array except its bytes, its name and its place."""

    type: ArrayType
    """Row of the type table."""
    shape: Shape
    """``Array.shape``."""
    flags: int
    """FLAG_FORTRAN or 0."""
    nbytes: int
    """Stored bytes."""
    datatype: bytes
    """HDF5 datatype message of its dataset."""
    dims: Shape
    """HDF5 dataspace of its dataset."""

    @property
    def segments(self) -> int:
        """Number of digests."""
        return -(-self.nbytes // segment_bytes(self.nbytes))


@dataclass(frozen=True, slots=True)
class ShownType:
    """What HDF5 tools see of a stored element."""

    itemsize: int
    """Stored bytes."""
    datatype: bytes | None
    """HDF5 datatype message; None where HDF5 cannot show the elements: then the dataset is plain bytes."""
    axes: Shape = ()
    """Axes after those of the array."""

    def place(self, shape: Shape, nbytes: int) -> tuple[bytes, Shape]:
        """Return HDF5 datatype and dataspace of an array."""
        if self.datatype is None or len(shape) + len(self.axes) > HDF5_MAX_RANK:
            return UINT8, (nbytes,)
        return self.datatype, (*shape, *self.axes)


_HIDDEN = ShownType(0, None)


def elements_spec(
    dtype: DType, shape: Shape, fortran: bool, *, name: str | None = None, header: bytes = b""
) -> StorageSpec:
    """Return the storage spec of an array whose elements are stored as they are, in C order.

    Parameters
    ----------
    dtype, shape, fortran
        Of the array; ``fortran`` where it is column-major and not also row-major.
    name : str, optional
        ``Array.dtype`` where it is not ``str(dtype)``.
    header : bytes
        The .npy header of ``Array.data`` where it is not the canonical one.

    Raises
    ------
    TypeError
        An element type that no archive holds.
    ValueError
        More axes or bytes than the format allows, or a name that is not UTF-8.
    """
    # str(dtype) takes 2 us, a third of all that a small array costs: only once a storage spec. Equal
    # structured types can be spelled differently (aligned or not): the spelling is part of the cache key.
    if name is None and dtype.names is not None:
        name = dtype_name(dtype)
    return plain_spec(dtype, shape, fortran, name, header)


@functools.lru_cache(maxsize=8192)
def plain_spec(
    dtype: DType, shape: Shape, fortran: bool, name: str | None = None, header: bytes = b""
) -> StorageSpec:
    """Return what `elements_spec` does, for a type that is not structured or whose name is given."""
    kind, shown = _kind_of(dtype, name, header)
    nbytes = _checked_nbytes(shape, dtype.itemsize)
    return StorageSpec(kind, shape, FLAG_FORTRAN if fortran else 0, nbytes, *shown.place(shape, nbytes))


@functools.lru_cache(maxsize=1024)
def _kind_of(dtype: DType, name: str | None, header: bytes) -> tuple[ArrayType, ShownType]:
    """Return what arrays of one type and different shapes share."""
    if dtype.hasobject:
        raise TypeError(f"dtype {dtype} holds Python objects, which are never stored")
    name = dtype_name(dtype) if name is None else name
    _require_utf8(name)
    description = describe_dtype(dtype)
    if parse_description(description) != dtype:
        raise TypeError(f"dtype {description[:80]} cannot be restored from its name")
    return ArrayType(name, NUMPY_STYPE, description, MODE_ELEMENTS, dtype.itemsize, header), _shown(dtype)


@functools.lru_cache(maxsize=8192)
def text_spec(
    dtype: DType, shape: Shape, fortran: bool, width: int, *, name: str | None = None, header: bytes = b""
) -> StorageSpec:
    """Return the storage spec of a ``U`` array stored as UTF-8 of ``width`` bytes an element."""
    nbytes = _checked_nbytes(shape, width)
    datatype, dims = _shown_text(width).place(shape, nbytes)
    name = dtype_name(dtype) if name is None else name
    _require_utf8(name)
    kind = ArrayType(name, NUMPY_STYPE, describe_dtype(dtype), MODE_TEXT, width, header)
    return StorageSpec(kind, shape, FLAG_FORTRAN if fortran else 0, nbytes, datatype, dims)


@functools.lru_cache(maxsize=8192)
def data_spec(name: str, stype: str, shape: Shape, nbytes: int) -> StorageSpec:
    """Return the storage spec of an array whose ``data`` is stored as it is.

    Its dataset has an element type where the bytes are exactly the C-order elements of a dtype and shape
    that HDF5 tools can show; otherwise it is plain bytes.
    """
    _checked_nbytes(shape, 1)
    _require_utf8(name, stype)
    datatype, dims = _of_size(_shown_name(name), shape, nbytes).place(shape, nbytes)
    return StorageSpec(ArrayType(name, stype, "", MODE_DATA, 1), shape, 0, nbytes, datatype, dims)


def stored_value_spec(type_name: str, elements: NDArray) -> StorageSpec:
    """Return the storage spec of a metric or config that is too large for an HDF5 attribute."""
    datatype, dims = encode_datatype(elements.dtype), elements.shape
    # a longer text is shown as bytes, and so is a text with NUL
    if type_name == "str" and 0 < elements.size <= MAX_ELEMENT_NBYTES and elements.all():
        datatype, dims = utf8_fixed(elements.size), ()
    kind = ArrayType(type_name, "", describe_dtype(elements.dtype), MODE_DATA, 1)
    return StorageSpec(kind, elements.shape, 0, elements.nbytes, datatype, dims)


def _require_utf8(*texts: str) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError("dtype or stype holds a lone surrogate, which no UTF-8 spells") from error


def stored_spec(kind: ArrayType, shape: Shape, flags: int, nbytes: int) -> StorageSpec:
    """Return the storage spec of an array that is already stored, from its row in an index or journal."""
    if kind.mode == MODE_DATA:
        return data_spec(kind.dtype, kind.stype, shape, nbytes)
    dtype, fortran = parse_description(kind.description), bool(flags & FLAG_FORTRAN)
    if kind.mode == MODE_TEXT:
        return text_spec(dtype, shape, fortran, kind.itemsize, name=kind.dtype, header=kind.npy_header)
    return elements_spec(dtype, shape, fortran, name=kind.dtype, header=kind.npy_header)


def shown_type(kind: ArrayType) -> ShownType:
    """Return what HDF5 tools see of the elements of a row of the type table."""
    if kind.mode == MODE_DATA:
        return _shown_name(kind.dtype)
    if kind.mode == MODE_TEXT:
        return _shown_text(kind.itemsize)
    if kind.description in ML_DTYPES:
        return _shown_learned(kind.description)
    return _shown(parse_description(kind.description))


def row_spec(kind: ArrayType, shown: ShownType, shape: Shape, flags: int, nbytes: int) -> StorageSpec:
    """Return the storage spec of a row of an index; many shapes of one type cost no more than one.

    ``shown`` is the `shown_type` of ``kind``.
    """
    if kind.mode == MODE_DATA:
        shown = _of_size(shown, shape, nbytes)
    return StorageSpec(kind, shape, flags, nbytes, *shown.place(shape, nbytes))


def _checked_nbytes(shape: Shape, itemsize: int) -> int:
    if len(shape) > MAX_RANK:
        raise ValueError(f"{len(shape)} axes, the format allows {MAX_RANK}")
    if math.prod(max(axis, 1) for axis in shape) * max(itemsize, 1) > MAX_FILE_BYTES:
        raise ValueError(f"shape {shape} has more bytes than a file may hold")
    return math.prod(shape) * itemsize


def _of_size(shown: ShownType, shape: Shape, nbytes: int) -> ShownType:
    """Return what tools see of data: its elements where the data are as long as these are, else bytes."""
    return shown if shown.itemsize and math.prod(shape) * shown.itemsize == nbytes else _HIDDEN


def _shown_name(name: str) -> ShownType:
    """Return what tools see of elements of a type by its name."""
    if name in ML_DTYPES:
        return _shown_learned(name)
    try:
        return _shown(parse_dtype(name))
    except UnsupportedDtypeError:
        return _HIDDEN


def _shown_learned(name: str) -> ShownType:
    """Return what tools see of a machine-learning type, whether ml_dtypes has it or not."""
    # as float types, plain tools show 14 wrong codes for e4m3fn; only bfloat16 is safe
    return ShownType(2, BFLOAT16) if name == "bfloat16" else ShownType(1, UINT8)


def _shown_text(width: int) -> ShownType:
    return ShownType(width, utf8_fixed(width) if width <= MAX_ELEMENT_NBYTES else None)


def _shown(dtype: DType) -> ShownType:
    """Return HDF5 datatype and further axes under which tools show the right values."""
    size = dtype.itemsize
    if not size:
        return _HIDDEN
    if is_ml_dtype(dtype):
        return _shown_learned(dtype.name)
    if dtype.kind in "mM":
        return ShownType(size, encode_datatype(np.dtype(f"{dtype.byteorder}i8")))
    if dtype.kind == "U":
        return ShownType(size, encode_datatype(np.dtype(f"{dtype.byteorder}u4")), (size // 4,))
    try:
        datatype = encode_datatype(dtype)
    except TypeError:
        return _HIDDEN
    # a compound of thousands of members is larger than the header message that would hold it
    return ShownType(size, datatype if len(datatype) <= MAX_ATTRIBUTE_BYTES else None)
