"""Payloads: where the bytes of an Array come from. The two payloads in memory are here.

A payload is a value: callers cannot change it through anything that it returns. Arrays may therefore share
a payload, and copying an Array does not copy its payload. A deep copy calls the payload's ``__deepcopy__``,
so that a payload that returns its own memory can copy itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from archive.dtypes import ML_DTYPES, NDArray, parse_dtype
from archive.npy import NPY_MAGIC, npy_header, split_npy

__all__ = [
    "BytesPayload",
    "NdarrayPayload",
    "Payload",
    "array_index",
    "copy_elements",
    "destination",
    "is_opened",
    "memory_of",
    "private_copy",
    "read_elements",
    "release_of",
    "require_plain_elements",
    "token_of",
]


class Payload(Protocol):
    """The bytes of an Array, in memory or in an archive."""

    @property
    def nbytes(self) -> int:
        """Bytes of the elements; of the raw data where that is not a ``.npy``."""

    @property
    def data_nbytes(self) -> int:
        """``len(Array.data)``, known without reading."""

    def data(self) -> bytes:
        """Return ``Array.data``, byte for byte."""

    def numpy(self, copy: bool) -> NDArray:
        """Return the elements: private and writable; with ``copy=False`` maybe a read-only view."""

    def writable(self) -> NDArray:
        """Return private writable elements: a copy, or a copy-on-write map."""

    def getitem(self, index: Any) -> Any:
        """Return ``elements[index]``, read-only where that is a view; only its bytes are read."""


class BytesPayload:
    """Bytes that a caller gave, kept as they are.

    Parameters
    ----------
    data : bytes
        ``Array.data``.
    dtype : str, default ""
        ``Array.dtype``; restores ml_dtypes, which a ``.npy`` holds as void.

    Examples
    --------
    >>> BytesPayload(b"abc").nbytes
    3
    """

    __slots__ = ("_data", "_dtype")

    def __init__(self, data: bytes, dtype: str = "") -> None:
        self._data = data
        self._dtype = dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the elements where the data is one ``.npy``, else of the data."""
        try:
            return len(self._data) - split_npy(self._data).header_bytes
        except ValueError:
            return len(self._data)

    @property
    def data_nbytes(self) -> int:
        """Length of the data."""
        return len(self._data)

    def data(self) -> bytes:
        """Return the object that was given."""
        return self._data

    def numpy(self, copy: bool = False) -> NDArray:
        """Return a private, writable array, whatever ``copy`` says: the upstream ``Array.numpy()``."""
        return private_copy(self._elements())

    def writable(self) -> NDArray:
        """Return a private, writable array."""
        return self.numpy()

    def getitem(self, index: Any) -> Any:
        """Return ``elements[index]``, a read-only view where numpy gives a view."""
        return self._elements()[index]

    def _elements(self) -> NDArray:
        """Return the elements without copying them; they are read-only because bytes are."""
        try:
            layout = split_npy(self._data)
        except ValueError:
            # Upstream gives any bytes to np.load, which allows more bytes after the .npy and otherwise
            # raises EOFError or ValueError. But np.load allocates the size in the header before it looks
            # for the elements, and opens bytes that begin like a zip.
            if not self._data:
                raise EOFError("no data where a .npy should be") from None
            if self._data[: len(NPY_MAGIC)] != NPY_MAGIC:
                raise ValueError(
                    "the data is not a .npy; a pickle is never loaded (allow_pickle=False)"
                ) from None
            layout = split_npy(self._data, exact=False)
        elements: NDArray = np.ndarray(
            layout.shape,
            layout.dtype,
            self._data,
            layout.header_bytes,
            order="F" if layout.fortran_order else "C",
        )
        if elements.dtype.kind == "V" and elements.dtype.names is None and self._dtype in ML_DTYPES:
            named = parse_dtype(self._dtype)
            if named.itemsize == elements.dtype.itemsize:
                elements = elements.view(named)
        return elements

    def __deepcopy__(self, memo: dict[int, Any]) -> BytesPayload:
        """Return the payload itself: nothing can change it."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # pickle protocols 0 and 1 do not know slots
        return type(self), (self._data, self._dtype)


class NdarrayPayload:
    """A private ndarray, serialised on demand.

    Parameters
    ----------
    array : ndarray
        Kept without a copy: nobody else may write to it from now on. ``Array(ndarray)`` makes a copy
        first; a loader passes memory of its own.
    given_header : bytes, default b""
        The header of ``Array.data`` where the elements came with another than the canonical one.

    Examples
    --------
    >>> payload = NdarrayPayload(np.zeros((2, 3), "f4"))
    >>> payload.nbytes, payload.data_nbytes, len(payload.data())
    (24, 152, 152)
    """

    __slots__ = ("array", "given_header")

    array: NDArray
    """The elements; callers must not write to them."""
    given_header: bytes
    """The header that they came with, empty for the canonical one."""

    def __init__(self, array: NDArray, given_header: bytes = b"") -> None:
        self.array = array
        self.given_header = given_header

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.array.nbytes

    @property
    def data_nbytes(self) -> int:
        """Bytes of the ``.npy``: header and elements."""
        return len(self._header()) + self.array.nbytes

    def data(self) -> bytes:
        """Return a ``.npy``: its header (`archive.npy.npy_header`, or the given one) and the elements."""
        array = self.array.T if self._fortran() else self.array
        if array.nbytes == 0:
            return self._header()
        # one pass over the memory: join reads the elements in place
        return b"".join((self._header(), np.ascontiguousarray(array).reshape(-1).view(np.uint8).data))

    def numpy(self, copy: bool = False) -> NDArray:
        """Return a private, writable array, whatever ``copy`` says: the upstream ``Array.numpy()``."""
        return private_copy(self.array)

    def writable(self) -> NDArray:
        """Return a private, writable array."""
        return private_copy(self.array)

    def getitem(self, index: Any) -> Any:
        """Return ``elements[index]``, a read-only view where numpy gives a view."""
        view = self.array.view()
        view.flags.writeable = False
        return view[index]

    def _fortran(self) -> bool:
        return self.array.flags.f_contiguous and not self.array.flags.c_contiguous

    def _header(self) -> bytes:
        return self.given_header or npy_header(self.array.dtype, self.array.shape, self._fortran())

    def __deepcopy__(self, memo: dict[int, Any]) -> NdarrayPayload:
        """Return the payload itself: nothing can change it."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # as serialised bytes: below protocol 5 numpy pickles big-endian elements as native ones
        canonical = NdarrayPayload(self.array).data()
        return _rebuild, (type(self), self.array.dtype, canonical, self.given_header)


def _rebuild(
    kind: type[NdarrayPayload], dtype: np.dtype[Any], data: bytes, given_header: bytes
) -> NdarrayPayload:
    layout = split_npy(data)
    order: Any = "F" if layout.fortran_order else "C"
    elements: NDArray = np.ndarray(layout.shape, dtype, bytearray(data), layout.header_bytes, order=order)
    return kind(elements, given_header)


def private_copy(array: NDArray) -> NDArray:
    """Return a writable copy as plain ndarray, in C order unless the array is in Fortran order.

    These two orders keep the bytes of ``np.save``, which writes every other layout in C order. Structured
    elements are copied as raw bytes: numpy copies them field by field and leaves arbitrary memory between
    the fields, which would then be saved.

    Examples
    --------
    >>> private_copy(np.zeros((2, 3), order="F")).flags.f_contiguous
    True
    """
    plain = np.asarray(array)
    order: Any = "F" if plain.flags.f_contiguous and not plain.flags.c_contiguous else "C"
    copied = np.array(_whole_elements(plain), order=order)
    return copied if plain.dtype.names is None else copied.view(plain.dtype)


def array_index(index: Any) -> Any:
    """Return an index that gives an array without axes where ``index`` gives a scalar, and else the same.

    A scalar has lost the byte order and the width of its type.

    Examples
    --------
    >>> np.array(["a", "bc"])[array_index(0)].dtype.str[1:]
    'U2'
    """
    entries = index if isinstance(index, tuple) else (index,)
    fields = isinstance(index, str) or (isinstance(index, list) and any(isinstance(i, str) for i in index))
    return index if fields or any(entry is Ellipsis for entry in entries) else (*entries, ...)


def destination(shape: tuple[int, ...], dtype: np.dtype[Any], out: NDArray | None) -> NDArray:
    """Return memory for elements: that of the caller, or new memory in C order.

    Raises
    ------
    TypeError
        ``out`` is not an ndarray, or has another type.
    ValueError
        It has another shape, or is read-only.
    """
    if out is None:
        made: NDArray = np.ndarray(shape, dtype)  # np.empty would make S1 of S0
        return made
    if getattr(out, "dtype", None) != dtype or not isinstance(out, np.ndarray):
        raise TypeError(f"out must be an ndarray of dtype {dtype}, not {_kind_of(out)}")
    if out.shape != shape or not out.flags.writeable:
        state = f"of shape {out.shape}" if out.flags.writeable else "read-only"
        raise ValueError(f"out must be writable and of shape {shape}, but is {state}")
    return out


def _kind_of(value: Any) -> str:
    return f"of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def copy_elements(elements: NDArray, out: NDArray | None) -> NDArray:
    """Return elements in memory of the caller, or in new memory in C order, all bytes of each copied.

    Elements that own their memory are nobody else's: they are returned as they are where there is no ``out``.
    """
    flags = elements.flags
    if out is None and flags.owndata and flags.c_contiguous and flags.writeable:
        return elements
    target = destination(elements.shape, elements.dtype, out)
    if elements.nbytes:
        np.copyto(_whole_elements(target), _whole_elements(elements))
    return target


def read_elements(payload: Payload, index: Any, out: NDArray | None) -> NDArray:
    """Return the elements of an index of `array_index` in private memory, or in ``out``.

    A payload that can read into memory does (``read``); of others the elements are copied.
    """
    read: Callable[[Any, NDArray | None], NDArray] | None = getattr(payload, "read", None)
    return copy_elements(payload.getitem(index), out) if read is None else read(index, out)


def _whole_elements(array: NDArray) -> NDArray:
    """Return structured elements as opaque ones: numpy copies them field by field, and not between them."""
    plain = array if type(array) is np.ndarray else np.asarray(array)
    named = plain.dtype.names is not None and plain.dtype.itemsize
    return plain.view(np.dtype(f"V{plain.dtype.itemsize}")) if named else plain


def require_plain_elements(ndarray: NDArray) -> None:
    """Raise ValueError where elements are Python objects, which only pickle could hold."""
    if ndarray.dtype.hasobject:
        raise ValueError(
            f"Object arrays cannot be saved: dtype {ndarray.dtype} holds Python objects, which are never "
            "pickled; convert the array to a numeric or fixed-width type"
        )


def memory_of(payload: Payload) -> object:
    """Return what is equal for payloads over the same memory, or the same bytes of a file, while both live.

    Examples
    --------
    >>> payload = NdarrayPayload(np.zeros(2))
    >>> memory_of(payload) == memory_of(NdarrayPayload(payload.array))
    True
    """
    identity = getattr(payload, "identity", None)
    return id(getattr(payload, "array", payload)) if identity is None else identity


def is_opened(payload: Payload) -> bool:
    """Return whether a payload knows its sizes without opening a file: one that was unpickled may not yet."""
    return getattr(payload, "opened", True)


def token_of(payload: Payload) -> tuple[Any, ...] | None:
    """Return what names the elements of a payload without reading them; None where nothing does."""
    return getattr(payload, "token", None)


def release_of(payload: Payload) -> Callable[[], object]:
    """Return a function that releases the pages of elements in a file, and does nothing for others.

    The function must not hold a payload in memory: the caller that drains a record holds the only reference.
    """
    release: Callable[[], object] | None = getattr(payload, "release", None)
    return release if release is not None else _keep


def _keep() -> None:
    """Release nothing: elements in memory belong to the caller."""
