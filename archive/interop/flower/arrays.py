"""Flower's Array over bytes that are still in an archive, and its chunks for Flower's messages.

Flower serialises an array through ``Array.data`` (until 1.19 by ``vars``) or through its chunks. Both are
read piece by piece from the mapped file. Flower frees its copies of a piece (a protobuf field, or two copies
of a 20 MB chunk) before it asks for the next.
"""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

import numpy as np

from archive.display.texts import value_text
from archive.engine.read.storedpayload import StoredPayload
from archive.format.constants import FLAG_FORTRAN, MODE_DATA, MODE_TEXT
from archive.interop.flower.releases import flower
from archive.npy import npy_header
from archive.records import Array, SType
from archive.records.ownelements import data_payload
from archive.records.payload import Payload

__all__ = ["lazy_array", "payload_of"]

_FIELDS = ("dtype", "shape", "stype", "data")


def lazy_array(array: Array) -> Any:
    """Return Flower's Array over the same bytes, without reading them.

    Parameters
    ----------
    array : archive.Array

    Returns
    -------
    flwr.common.Array
        An instance of a subclass. Item assignment into an ArrayRecord keeps the subclass;
        ``ArrayRecord(dict)`` reads the data.
    """
    return object.__new__(_lazy_class()).over(array)


def payload_of(array: Any) -> Payload | None:
    """Return the payload of a lazy array; None of any other array, and after data was assigned."""
    return array.payload if isinstance(array, _LazyArray) else None


class _LazyArray:
    """First base of our subclass of Flower's Array: data is read from an archive on demand."""

    dtype: str
    shape: Any
    stype: str
    payload: Payload | None
    """Source of the bytes; None after data was assigned."""
    _assigned: bytes

    def over(self, array: Array) -> Any:
        """Take an Array's description and payload."""
        self.payload = data_payload(array)
        self.dtype, self.stype = array.dtype, array.stype
        self.shape = tuple(array.shape) if flower().ArrayChunk is not None else list(array.shape)
        return self

    @property
    def data(self) -> bytes:
        """The serialised array, read anew each time."""
        return self._assigned if self.payload is None else self.payload.data()

    @data.setter
    def data(self, data: bytes) -> None:
        self._assigned, self.payload = data, None

    def numpy(self) -> Any:
        """Return writable elements: a mapped page is copied at the first write."""
        inner: Any = super()
        if self.payload is None or self.stype != SType.NUMPY:
            return inner.numpy()
        return self.payload.writable()

    def slice_array(self) -> Any:
        """Return ids and chunks of the data: all but the first are views of the mapped file."""
        inner: Any = super()
        parts = None if self.payload is None else _parts(self.payload)
        if self.payload is None or parts is None or "_chunks" in self.__dict__:
            return inner.slice_array()
        step = flower().chunk_bytes
        made = [_chunk_class()(*parts, start) for start in range(0, self.payload.data_nbytes, step)]
        self.__dict__["_chunks"] = [(chunk.object_id, chunk) for chunk in made]
        return self.__dict__["_chunks"]

    def __eq__(self, other: object) -> bool:
        """Compare with any Array of Flower; data is compared last, as it has to be read."""
        if not isinstance(other, flower().Array):
            return NotImplemented
        return all(getattr(self, field) == getattr(other, field) for field in _FIELDS)

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        nbytes = len(self._assigned) if self.payload is None else self.payload.data_nbytes
        fields = ", ".join(f"{name}={value_text(getattr(self, name), 150)}" for name in _FIELDS[:-1])
        return f"Array({fields}, data=<{nbytes} bytes>)"

    def __copy__(self) -> Any:
        if self.payload is None:
            return flower().Array(*(getattr(self, field) for field in _FIELDS))
        return lazy_array(Array.from_payload(self.dtype, tuple(self.shape), self.stype, self.payload))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self.__copy__()

    def __reduce_ex__(self, protocol: Any) -> Any:
        # by value, as Flower's own: the reader of a pickle may have no access to this file
        return flower().Array, tuple(getattr(self, field) for field in _FIELDS)


class _LazyChunk:
    """First base of our subclass of Flower's ArrayChunk: header and elements are joined on demand."""

    def __init__(self, header: bytes, elements: Any, start: int) -> None:
        self._header, self._elements, self._start = header, elements, start

    @property
    def data(self) -> memoryview:
        """The bytes of this chunk; a view of the mapped file unless it begins with the header."""
        header, stop = self._header, self._start + flower().chunk_bytes
        first, last = max(0, self._start - len(header)), max(0, stop - len(header))
        view = memoryview(self._elements)[first:last]
        ahead = header[self._start : stop]
        return memoryview(b"".join((ahead, view))) if ahead else view

    def __reduce_ex__(self, protocol: Any) -> Any:
        return flower().ArrayChunk, (bytes(self.data),)


def _fields(array: Any) -> dict[str, Any]:
    """Return the four fields: Flower before 1.20 serialises ``vars(array)``."""
    return {field: getattr(array, field) for field in _FIELDS}


@cache
def _lazy_class() -> Any:
    names = flower()
    own = {} if names.ArrayChunk is not None else {"__dict__": property(_fields)}
    return _before(_LazyArray, names.Array, own)


@cache
def _chunk_class() -> Any:
    return _before(_LazyChunk, flower().ArrayChunk, {})


def _before(kind: type, base: Any, own: dict[str, Any]) -> Any:
    """Return a subclass of both under the name of Flower's class, which a receiver looks up."""
    return type(base.__name__, (kind, base), own | {"__qualname__": base.__qualname__})


def _parts(payload: Payload) -> tuple[bytes, Any] | None:
    """Return ``.npy`` header and element bytes without a copy; None where the file does not hold them."""
    if not isinstance(payload, StoredPayload) or payload.type.mode in (MODE_DATA, MODE_TEXT):
        return None
    if payload.spec.flags & FLAG_FORTRAN:
        return None  # the file has C order, the .npy has not
    elements = payload.numpy(False)
    if not elements.flags.c_contiguous or not elements.size:
        return None
    header = payload.type.npy_header or npy_header(elements.dtype, elements.shape, False)
    if len(header) + elements.nbytes != payload.data_nbytes:
        return None
    return header, elements.reshape(-1).view(np.uint8)
