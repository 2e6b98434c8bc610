"""One dataset of a foreign file: its entry in the listing validated, and the array that it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from archive.descriptions import describe_dtype
from archive.dtypes import ML_DTYPES, parse_dtype
from archive.engine.storagespec import NUMPY_STYPE, StorageSpec, data_spec, elements_spec, text_spec
from archive.errors import HostileFileError
from archive.format.constants import MAX_FILE_BYTES, MAX_RANK, MODE_DATA
from archive.format.elements import ArrayType, empty_text_width
from archive.format.values import STORED_AS

__all__ = ["Stored", "array_spec", "parse_stored", "value_type"]


_BY_TYPE = "delete its attributes stype, dtype and shape to have it read by its HDF5 type"


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A dataset as the listing has it; several names may share it."""

    file: str
    """The file."""
    path: str
    """Its (first) HDF5 path."""
    dtype: str
    """Element type by its HDF5 type, spelled as in the index."""
    mode: str
    """``elements``, ``text``, or ``null`` for a dataspace without extent."""
    itemsize: int
    """Bytes of an element."""
    shape: tuple[int, ...]
    """HDF5 dataspace, the axes of an array type included."""
    spooled: bool
    """Whether its bytes are in the spool rather than in the file."""
    offset: int
    """Where its bytes begin."""
    nbytes: int
    """Their number."""
    attributes: dict[str, Any]
    """Those of stype, dtype, shape, key, order, encoding, npy_header that it has; skipped counts others."""

    def invalid(self, problem: str, remedy: str = _BY_TYPE) -> HostileFileError:
        """Return the error for a dataset that is not the array or value it should be."""
        return HostileFileError(problem, path=self.file, key=self.path[:500], remedy=remedy)


def parse_stored(file: str, path: str, entry: list[Any], file_bytes: int, spool_bytes: int) -> Stored:
    """Return a dataset after checking places and sizes.

    Raises
    ------
    TypeError, ValueError
        The entry contradicts itself, or lies outside the file.
    """
    dtype, mode, itemsize, shape, spooled, offset, nbytes, attributes = entry
    for number in (itemsize, offset, nbytes, *shape):
        if type(number) is not int or not 0 <= number <= MAX_FILE_BYTES:
            raise ValueError(f"{path[:200]}: {number} is not a size")
    if (
        mode not in ("elements", "text", "null")
        or not isinstance(dtype, str)
        or not isinstance(attributes, dict)
    ):
        raise ValueError(f"{path[:200]}: neither elements nor text")
    if len(shape) > MAX_RANK or math.prod(shape) * itemsize != nbytes:
        raise ValueError(f"{path[:200]}: its bytes are not those of its shape")
    if offset + nbytes > (spool_bytes if spooled else file_bytes):
        raise ValueError(f"{path[:200]}: it lies outside the file")
    return Stored(file, path, dtype, mode, itemsize, tuple(shape), bool(spooled), offset, nbytes, attributes)


def array_spec(stored: Stored, ours: bool, read: Any) -> StorageSpec:
    """Return the storage spec of the array that a dataset is.

    Parameters
    ----------
    stored : Stored
    ours : bool
        An archive's writer made the file: attributes say what the bytes mean.
    read : callable of (Stored) -> ndarray of uint8
        Reads its bytes; needed for text of more than 32 axes only.

    Raises
    ------
    HostileFileError
        Attributes and bytes do not go together, or no archive holds such an array.
    """
    try:
        if ours and isinstance(stored.attributes.get("dtype"), str) and stored.attributes.get("stype"):
            spec = _spec_by_attributes(stored, read)
        else:
            spec = _spec_by_type(stored)
    except (TypeError, ValueError) as error:
        raise stored.invalid(f"no array that an archive holds: {error}") from error
    if spec.nbytes != stored.nbytes:
        raise stored.invalid(f"its attributes describe {spec.nbytes} bytes, it has {stored.nbytes}")
    return spec


def value_type(stored: Stored) -> ArrayType | None:
    """Return the type of a metric or config that is a dataset; None where nothing says which value it is."""
    name = stored.attributes.get("dtype")
    if not isinstance(name, str) or stored.attributes.get("stype") != "":
        return None
    try:
        # text is read as bytes: its dataset is one string as long as the value
        description = "|u1" if stored.mode == "text" else describe_dtype(parse_dtype(stored.dtype))
    except TypeError:
        return None
    if description not in STORED_AS.get(name, ()) or (stored.mode != "text" and len(stored.shape) != 1):
        return None
    return ArrayType(name, "", description, MODE_DATA, 1)


def _spec_by_type(stored: Stored) -> StorageSpec:
    """Return the storage spec of a dataset by its HDF5 type."""
    dtype, named = parse_dtype(stored.dtype), stored.attributes.get("dtype")
    if stored.mode == "text":
        return text_spec(dtype, stored.shape, False, stored.itemsize)
    if dtype.kind == "V" and dtype.names is None and isinstance(named, str) and named in ML_DTYPES:
        # Keras writes bfloat16 as untagged bytes and its name beside them
        dtype = parse_dtype(named)
    return elements_spec(dtype, stored.shape, False)


def _spec_by_attributes(stored: Stored, read: Any) -> StorageSpec:
    """Return the storage spec that an archive's own attributes describe."""
    attributes = stored.attributes
    name, stype = attributes["dtype"], attributes["stype"]
    shape = tuple(attributes.get("shape", stored.shape))
    fortran = attributes.get("order") == "F"
    header = bytes(attributes.get("npy_header", ()))
    if any(type(axis) is not int or axis < 0 for axis in shape):
        raise ValueError("its attribute shape is not a shape")
    if attributes.get("encoding") == "data":
        return data_spec(name, stype, shape, stored.nbytes)
    if stype != NUMPY_STYPE:
        raise ValueError(f"elements of stype {stype[:80]!r}")
    dtype = parse_dtype(name)
    if dtype.subdtype is not None:
        raise ValueError(f"the element type {name[:80]!r} is an array type")
    if dtype.kind == "U":
        width = _text_width(stored, dtype, shape, read)
        if width is not None:
            return text_spec(dtype, shape, fortran, width, name=name, header=header)
    return elements_spec(dtype, shape, fortran, name=name, header=header)


def _text_width(stored: Stored, dtype: np.dtype[Any], shape: tuple[int, ...], read: Any) -> int | None:
    """Return the bytes of an element of text; None where code points are stored."""
    items = math.prod(shape)
    if not items:
        return empty_text_width(dtype, shape)
    width = stored.nbytes // items
    is_text = width and (stored.mode == "text" or _is_text(stored, dtype, width, read))
    return width if is_text else None


def _is_text(stored: Stored, dtype: np.dtype[Any], width: int, read: Any) -> bool:
    """Return whether plain bytes, the HDF5 type beyond 32 axes, are UTF-8 and not code points."""
    if stored.dtype != "uint8" or width != dtype.itemsize:
        return stored.dtype == "uint8"
    # equally wide only if a text is all characters of four bytes, whose bytes are not a code point
    points = read(stored).view(f"{dtype.byteorder}u4")
    return bool((points > 0x10FFFF).any())
