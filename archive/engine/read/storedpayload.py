"""Arrays that are still in the file: the lazy side of `archive.records.payload.Payload`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from archive import tuning
from archive.descriptions import parse_description
from archive.dtypes import NDArray
from archive.engine.read.fill import fill_range
from archive.engine.read.reader import Reader
from archive.engine.read.selection import Selection, parse_selection
from archive.engine.read.slices import check_selection, read_selection
from archive.format.constants import FLAG_FORTRAN, MODE_DATA, MODE_ELEMENTS, MODE_TEXT
from archive.format.digests import array_digest
from archive.format.elements import NUMPY_MAX_RANK, ArrayType, column_major, opaque_view, unpack_text
from archive.npy import npy_header
from archive.records.array import Array
from archive.records.payload import BytesPayload, copy_elements, destination

if TYPE_CHECKING:
    from archive.engine.read.reference import Reference
    from archive.engine.storagespec import StorageSpec

__all__ = ["StoredPayload", "elements_of", "lazy_array"]


class StoredPayload:
    """One row of an open archive.

    Parameters
    ----------
    reader : Reader or Reference
    row : int
    shape : tuple of int
        Shape of the array.
    """

    __slots__ = ("_held", "_row", "shape")

    def __init__(self, reader: Reader | Reference, row: int, shape: tuple[int, ...]) -> None:
        self._held = reader
        self._row = row
        self.shape: tuple[int, ...] = shape

    @property
    def _reader(self) -> Reader:
        """The reader; what was unpickled is opened now."""
        held = self._held
        if not isinstance(held, Reader):
            held = self._held = held.open()
        return held

    @property
    def opened(self) -> bool:
        """Whether the archive is open, or was."""
        return isinstance(self._held, Reader)

    @property
    def type(self) -> ArrayType:
        """Row of the type table."""
        index = self._reader.index
        number: int = index.type.item(self._row)
        return index.types[number]

    @property
    def nbytes(self) -> int:
        """Bytes of the elements; of the data where it is no .npy."""
        kind = self.type
        if kind.mode == MODE_TEXT:
            count = int(self._reader.index.stored_nbytes[self._row]) // kind.itemsize
            return count * parse_description(kind.description).itemsize
        return int(self._reader.index.stored_nbytes[self._row])

    @property
    def data_nbytes(self) -> int:
        """Length of ``Array.data``, without reading it."""
        return self.nbytes if self.type.mode == MODE_DATA else len(self._header()) + self.nbytes

    @property
    def spec(self) -> StorageSpec:
        """The storage spec under which another archive stores it again."""
        from archive.engine.storagespec import stored_spec  # HDF5's datatypes, only needed to save it again

        index, row = self._reader.index, self._row
        kind, nbytes = index.types[index.type.item(row)], index.stored_nbytes.item(row)
        return stored_spec(kind, self.shape, index.flags.item(row), nbytes)

    @property
    def identity(self) -> object:
        """Equal for rows that share their bytes; the reader in it is kept, or another could get its id."""
        return self._reader, self._reader.index.segment_at.item(self._row), self.nbytes

    @property
    def place(self) -> tuple[Reader, int]:
        """The reader and the row."""
        return self._reader, self._row

    @property
    def token(self) -> tuple[str, str, int] | None:
        """Address without secrets, digest of the footer, and row; None of a foreign file. Nothing is read."""
        from archive.engine.read.reference import reference_of  # for Dask alone

        held = self._held
        if isinstance(held, Reader) and not held.identity:
            return None
        return (*reference_of(held).token, self._row)

    @property
    def digest(self) -> str:
        """Hexadecimal digest of the whole array, from the index alone."""
        index = self._reader.index
        segments = index.segment_digests(self._row).tobytes()
        flags = int(index.flags[self._row])
        return array_digest(segments, self.type, flags, self.shape).hex()

    @property
    def where(self) -> tuple[str, int, int]:
        """Path, offset and length of the stored bytes."""
        index = self._reader.index
        return self._reader.path, int(index.offset[self._row]), int(index.stored_nbytes[self._row])

    def stored(self) -> NDArray:
        """Return the stored bytes, verified."""
        return self._reader.stored(self._row)

    def stored_range(self, start: int, stop: int) -> NDArray:
        """Return stored bytes ``start`` to ``stop``, verified."""
        return self._reader.stored_range(self._row, start, stop)

    def release(self) -> None:
        """Give the pages of the stored bytes back."""
        self._reader.release(self._row)

    def data(self) -> bytes:
        """Return ``Array.data``, byte for byte as it was saved."""
        kind = self.type
        if kind.mode == MODE_DATA:
            return self.stored().tobytes()
        return npy_data(kind, self._elements(), self._fortran)

    def numpy(self, copy: bool) -> NDArray:
        """Return the elements: a read-only view of the map, or private memory (``copy``, mode ``"c"``)."""
        reader, kind = self._reader, self.type
        if kind.mode == MODE_DATA:
            return self._opaque().numpy()
        if copy or reader.writable:
            elements = self.writable()
            # np.load of Array.data gives column-major arrays as such, and so does a copy
            return column_major(elements) if self._fortran else elements
        elements = self._view(self.shape, reader.stored(self._row), kind)
        elements.flags.writeable = False
        return elements

    def writable(self) -> NDArray:
        """Return private writable elements: copy-on-write pages where the file is mapped."""
        kind = self.type
        if kind.mode == MODE_DATA:
            return self._opaque().writable()
        if kind.mode == MODE_TEXT:
            return self._elements()
        return self._view(self.shape, self._reader.private(self._row), kind)

    def getitem(self, index: Any) -> Any:
        """Return ``elements[index]`` as numpy does; only the segments that the index touches are read."""
        try:
            return self._select(index)
        except SystemError as error:  # what numpy makes of a code point beyond Unicode
            raise self._reader.invalid(self._row, f"an element that is not text: {error}") from error

    def read(self, index: Any, out: NDArray | None) -> NDArray:
        """Return the elements of an index of `array_index` in private memory, or in ``out``.

        Where they are one range of bytes, and long, these are read straight into it.
        """
        kind, reader, row = self.type, self._reader, self._row
        least = tuning.SINGLE_REQUEST_BYTES if reader.network else tuning.SELECT_BYTES
        short = out is None and int(reader.index.stored_nbytes[row]) <= least
        if short or kind.mode == MODE_DATA or len(self.shape) > NUMPY_MAX_RANK:
            return copy_elements(self.getitem(index), out)
        dtype = parse_description(kind.description)
        found = None if index is Ellipsis else parse_selection(index, self.shape, dtype, kind.itemsize)
        if index is not Ellipsis and (found is None or found.copies):
            return copy_elements(self.getitem(index), out)
        target = destination(self.shape if found is None else found.shape, dtype, out)
        straight = kind.mode == MODE_ELEMENTS and target.nbytes > least and row not in reader.held
        if straight and target.flags.c_contiguous and (found is None or found.contiguous):
            bounds = (0, target.nbytes) if found is None else found.bounds
            fill_range(reader, row, *bounds, np.asarray(target).reshape(-1).view(np.uint8))
            return target
        return copy_elements(self.getitem(index), target)

    def _select(self, index: Any) -> Any:
        kind, reader, row = self.type, self._reader, self._row
        if kind.mode == MODE_DATA:
            return self._opaque().getitem(index)
        selection = None if self._read_as_whole() else self._parse(index)
        if selection is None:
            return self.numpy(copy=False)[index]
        if self._mapped and kind.mode == MODE_ELEMENTS:
            check_selection(reader, row, selection)
            elements = self._view(self.shape, reader.mapped_row(row))
            elements.flags.writeable = reader.writable
            return elements[index]
        found = self._decode(read_selection(reader, row, selection))
        if not (selection.copies or reader.writable):
            found.flags.writeable = False
        return selection.arrange(found)

    @property
    def _mapped(self) -> bool:
        """Whether every byte can be viewed without fetching it."""
        source = self._reader.source
        return source.mapped and not source.pinned

    def _read_as_whole(self) -> bool:
        """Whether choosing what to read gains nothing, or numpy cannot hold the array."""
        reader, nbytes = self._reader, int(self._reader.index.stored_nbytes[self._row])
        if not nbytes or len(self.shape) > NUMPY_MAX_RANK or self._row in reader.held:
            return True
        if not self._mapped or nbytes <= tuning.SELECT_BYTES:
            return self._mapped
        return self.type.mode == MODE_ELEMENTS and reader.is_checked(self._row)

    def _parse(self, index: Any) -> Selection | None:
        """Return what an index takes; None where that is a field, or every element."""
        kind = self.type
        selection = parse_selection(index, self.shape, parse_description(kind.description), kind.itemsize)
        every = int(self._reader.index.stored_nbytes[self._row])
        whole = selection is None or (selection.nbytes >= every and not selection.copies)
        return None if whole else selection

    def _decode(self, stored: NDArray) -> NDArray:
        """Return the elements of opaque ones."""
        kind = self.type
        dtype = parse_description(kind.description)
        if kind.mode != MODE_TEXT:
            return stored.view(dtype)
        try:
            return unpack_text(stored.view(f"S{kind.itemsize}"), dtype)
        except ValueError as error:
            raise self._reader.invalid(self._row, error) from error

    @property
    def _fortran(self) -> bool:
        return bool(int(self._reader.index.flags[self._row]) & FLAG_FORTRAN)

    def _elements(self) -> NDArray:
        return self._view(self.shape, self.stored())

    def _view(self, shape: tuple[int, ...], stored: NDArray, kind: ArrayType | None = None) -> NDArray:
        """Return the elements of stored bytes of this row."""
        if len(shape) > NUMPY_MAX_RANK:
            raise self._reader.too_many_axes(self._row)
        try:
            return elements_of(kind or self.type, shape, stored)
        except ValueError as error:
            raise self._reader.invalid(self._row, error) from error

    def _opaque(self) -> BytesPayload:
        """Return data that is not exactly one .npy of dtype and shape: what it means is up to np.load."""
        return BytesPayload(self.data(), self.type.dtype)

    def _header(self) -> bytes:
        kind = self.type
        return kind.npy_header or npy_header(parse_description(kind.description), self.shape, self._fortran)

    def share(self, shared: dict[Reader, Reader]) -> StoredPayload:
        """Return a payload that outlives the handle: its reader is ``shared`` with the payloads before it.

        Raises
        ------
        ClosedError
            The handle is closed already.
        """
        if self._reader not in shared:
            shared[self._reader] = self._reader.share()
        return StoredPayload(shared[self._reader], self._row, self.shape)

    def __deepcopy__(self, memo: dict[int, Any]) -> StoredPayload:
        """Return the payload itself: the file does not change."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredPayload, (self._held, self._row, self.shape)


def lazy_array(reader: Reader, row: int, shape: tuple[int, ...], type_row: int) -> Array:
    """Return an Array whose bytes are still in the file."""
    kind = reader.index.types[type_row]
    return Array.from_payload(kind.dtype, shape, kind.stype, StoredPayload(reader, row, shape))


def elements_of(kind: ArrayType, shape: tuple[int, ...], stored: NDArray) -> NDArray:
    """Return the elements of stored bytes: a view of the bytes, but for text."""
    dtype = parse_description(kind.description)
    if kind.mode == MODE_TEXT:
        return unpack_text(stored.view(f"S{kind.itemsize}").reshape(shape), dtype)
    if not stored.size:
        # np.zeros would make S1 of S0, and allocate a byte for every element
        empty: NDArray = np.ndarray(shape, dtype)
        return empty
    elements = stored.view(dtype)
    return elements if elements.shape == shape else elements.reshape(shape)


def npy_data(kind: ArrayType, elements: NDArray, fortran: bool) -> bytes:
    """Return ``Array.data`` of elements.

    A header that came with them is handed out as it is ([DTYPE-9]): what numpy makes of a header changes from
    version to version, and the elements are those that the index describes.
    """
    header = kind.npy_header or npy_header(elements.dtype, elements.shape, fortran)
    # numpy widens elements of no bytes when it turns them around: 4 bytes each of "<U0"
    body = opaque_view(elements).tobytes("F" if fortran else "C") if elements.nbytes else b""
    return header + body
