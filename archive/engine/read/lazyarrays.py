"""Arrays of one record that are still in the file: each is made when it is first asked for."""

from __future__ import annotations

from archive.dtypes import NDArray
from archive.engine.read.reader import Reader
from archive.engine.read.storedpayload import lazy_array
from archive.format.constants import KIND_ARRAYS
from archive.records import Array, Shape

__all__ = ["LazyArrays", "lazy_arrays"]

_FEW = 8
"""Arrays are found one by one until they are this share of all: finding an array takes as long as making four
of them together."""


class LazyArrays:
    """The source of a record of an open archive (`archive.records.lazydict.ValueSource`).

    No lock is needed: whichever thread is the first to make the Array of a key, every thread gets that one.

    Parameters
    ----------
    reader : Reader
    record : int
        Number of the record.
    rows : ndarray of int
        Its rows, in order.
    """

    def __init__(self, reader: Reader, record: int, rows: NDArray) -> None:
        self._reader = reader
        self._record = record
        self._rows = rows
        self._made: dict[str, Array] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, key: object) -> Array | None:
        """Return the Array of a key; None where the record has none, or where making all takes less time.

        A key that the name table of the index does not lead to is found by making all.
        """
        made: Array | None = self._made.get(key)  # type: ignore[call-overload]
        if made is not None or not isinstance(key, str) or len(self._made) * _FEW > len(self._rows):
            return made
        index = self._reader.index
        for row in index.find(key, KIND_ARRAYS):
            if index.record.item(row) == self._record:
                array = lazy_array(self._reader, row, index.shape(row), index.type.item(row))
                return self._made.setdefault(key, array)
        return None

    def peek(self, places: range) -> list[tuple[str, Array]]:
        """Return keys and Arrays at some places; the Arrays are nobody's but the caller's."""
        reader, index = self._reader, self._reader.index
        return [
            (index.key(row), lazy_array(reader, row, index.shape(row), index.type.item(row)))
            for row in self._rows[places.start : places.stop].tolist()
        ]

    def make_all(self) -> dict[str, Array]:
        """Return every Array by key, in order; those that were found before are the same objects.

        Raises
        ------
        HostileFileError
            Keys break a rule of the format.
        """
        index, rows, keep = self._reader.index, self._rows.tolist(), self._made.setdefault
        named = zip(index.keys(rows), lazy_arrays(self._reader, rows), strict=True)
        arrays = {key: keep(key, array) for key, array in named}
        if len(arrays) != len(rows):
            name = index.records[self._record].name
            raise index.origin.invalid("two arrays of one record share a key", key=name)
        return arrays


def lazy_arrays(reader: Reader, rows: list[int]) -> list[Array]:
    """Return Arrays whose bytes are still in the file; equal shapes are one object."""
    index = reader.index
    shapes, types = index.shapes(), index.type.tolist()
    shared = {shape: Shape(shape) for shape in set(shapes)}
    return [lazy_array(reader, row, shared[shapes[row]], types[row]) for row in rows]
