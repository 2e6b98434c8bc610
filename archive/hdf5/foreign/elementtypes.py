"""Element types of HDF5 as numpy reads them: memory type, numpy type, spelling, mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from h5py import h5t

from archive.hdf5.foreign.guards import refuse, require_plain_types

__all__ = ["ElementType", "is_flat", "read_type"]

_BFLOAT16 = (15, 7, 8, 0, 7), 127
"""Bit fields and exponent bias of bfloat16, for which h5py knows no numpy type."""


@dataclass(frozen=True, slots=True)
class ElementType:
    """How elements are read."""

    memory: Any
    """The ``h5py.h5t.TypeID`` to read as."""
    dtype: str
    """Spelling of the numpy type."""
    mode: str
    """``elements`` or ``text``."""
    inner: tuple[int, ...]
    """Axes of an array type, which follow those of the dataset."""

    @property
    def itemsize(self) -> int:
        """Bytes of one element, without the inner axes."""
        size = int(self.memory.get_size())
        for axis in self.inner:
            size //= axis
        return size


def is_flat(kind: Any) -> bool:
    """Return whether a type is a number, an enumeration, text or opaque: a value can have that type."""
    return kind.get_class() in (h5t.INTEGER, h5t.FLOAT, h5t.ENUM, h5t.STRING, h5t.OPAQUE)


def read_type(kind: Any, path: str, *, raw: bool) -> ElementType:
    """Return how to read elements of a type.

    Parameters
    ----------
    kind : h5py.h5t.TypeID
    path : str
        HDF5 path of the dataset, which errors name.
    raw : bool
        Read the bytes as they are stored, because attributes say what they mean.

    Raises
    ------
    HostileFileError
        The elements refer to something else, or numpy has no such type.
    """
    require_plain_types(kind, path)
    found, size = kind.get_class(), kind.get_size()
    if found == h5t.STRING:
        memory = kind.copy()
        if not raw:
            memory.set_strpad(h5t.STR_NULLPAD)
        if kind.get_cset() == h5t.CSET_UTF8:
            return ElementType(memory, f"<U{size}", "text", ())
        return ElementType(memory, f"|S{size}", "elements", ())
    if found == h5t.OPAQUE:
        return ElementType(kind, f"|V{size}", "elements", ())
    if found == h5t.FLOAT and _is_bfloat16(kind):
        return ElementType(kind, "bfloat16", "elements", ())
    try:
        dtype = kind.dtype
    except TypeError as error:
        if raw:
            return ElementType(kind, f"|V{size}", "elements", ())
        raise refuse(f"elements that numpy has no type for ({error})", path, "convert or drop it") from error
    if dtype.hasobject:
        raise refuse("elements that refer to somewhere else", path)
    memory = kind if raw or _same_bytes(kind, dtype) else h5t.py_create(dtype)
    return ElementType(memory, str(dtype.base if dtype.names is None else dtype), "elements", dtype.shape)


def _is_bfloat16(kind: Any) -> bool:
    fields = kind.get_fields(), kind.get_ebias(), kind.get_size(), kind.get_order()
    return fields == (*_BFLOAT16, 2, h5t.ORDER_LE)


def _same_bytes(kind: Any, dtype: np.dtype[Any]) -> bool:
    """Return whether the stored bytes are already those of the numpy type."""
    if kind.get_class() == h5t.ENUM:
        # also bool: an enumeration over int8
        kind, dtype = kind.get_super(), np.dtype("i1") if dtype.kind == "b" else dtype
    return any(kind.equal(h5t.py_create(dtype, logical=logical)) for logical in (False, True))
