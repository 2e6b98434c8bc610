"""Arrays of an archive as another element type: converted when they are asked for, or as they are written."""

from __future__ import annotations

from typing import Any

import numpy as np

from archive.descriptions import parse_description
from archive.dtypes import NDArray
from archive.engine.read.reader import Reader
from archive.engine.read.storedpayload import StoredPayload
from archive.engine.storagespec import StorageSpec, elements_spec
from archive.format.constants import FLAG_FORTRAN, MODE_ELEMENTS
from archive.format.elements import column_major
from archive.records.payload import NdarrayPayload

__all__ = ["ConvertedPayload"]


class ConvertedPayload:
    """The elements of another payload, each rounded as numpy and ml_dtypes do.

    Parameters
    ----------
    source : StoredPayload or ConvertedPayload
        Its elements are numbers.
    dtype : dtype
        A type of numbers.
    """

    __slots__ = ("_source", "dtype")

    def __init__(self, source: StoredPayload | ConvertedPayload, dtype: np.dtype[Any]) -> None:
        self._source = source
        self.dtype: np.dtype[Any] = dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self._source.shape

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self._source.nbytes // _dtype_of(self._source).itemsize * self.dtype.itemsize

    @property
    def data_nbytes(self) -> int:
        """Length of ``Array.data``."""
        return len(self.data())

    @property
    def widest(self) -> int:
        """Bytes of an element, before or after its conversion."""
        source = self._source
        before = source.widest if isinstance(source, ConvertedPayload) else _dtype_of(source).itemsize
        return max(before, self.dtype.itemsize)

    @property
    def spec(self) -> StorageSpec:
        """The storage spec under which another archive stores it."""
        return elements_spec(self.dtype, self.shape, bool(self._source.spec.flags & FLAG_FORTRAN))

    @property
    def place(self) -> tuple[Reader, int]:
        """The reader and the row of the elements."""
        return self._source.place

    @property
    def identity(self) -> object:
        """Equal for rows that share their bytes and are converted alike."""
        return self._source.identity, str(self.dtype)

    def stored(self) -> NDArray:
        """Return the stored bytes."""
        return self.stored_range(0, self.nbytes)

    def stored_range(self, start: int, stop: int) -> NDArray:
        """Return stored bytes ``start`` to ``stop``, both at elements; what they are made of is verified."""
        dtype, size = _dtype_of(self._source), self.dtype.itemsize
        found = self._source.stored_range(start // size * dtype.itemsize, stop // size * dtype.itemsize)
        with np.errstate(over="ignore", invalid="ignore"):
            return found.view(dtype).astype(self.dtype).view(np.uint8)

    def release(self) -> None:
        """Give the pages of the source back."""
        self._source.release()

    def data(self) -> bytes:
        """Return ``Array.data``: a ``.npy``."""
        return NdarrayPayload(self.writable()).data()

    def numpy(self, copy: bool) -> NDArray:
        """Return the elements, in memory of their own."""
        return self.writable()

    def writable(self) -> NDArray:
        """Return the elements, in memory of their own."""
        elements: NDArray = self.stored().view(self.dtype).reshape(self.shape)
        return column_major(elements) if self.spec.flags & FLAG_FORTRAN else elements

    def getitem(self, index: Any) -> Any:
        """Return ``elements[index]``; only what the index takes is read and converted."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self._source.getitem(index).astype(self.dtype)

    def __deepcopy__(self, memo: dict[int, Any]) -> ConvertedPayload:
        """Return the payload itself: the file does not change."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return ConvertedPayload, (self._source, self.dtype)


def _dtype_of(source: StoredPayload | ConvertedPayload) -> np.dtype[Any]:
    """Return the type of the elements of a payload of numbers."""
    if isinstance(source, ConvertedPayload):
        return source.dtype
    if source.type.mode != MODE_ELEMENTS:
        raise TypeError("the array has no elements that are numbers")
    return parse_description(source.type.description)
