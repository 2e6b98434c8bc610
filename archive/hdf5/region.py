"""The metadata region of a file as it is read: every byte belongs to one structure at most.

Offsets come from the file and may be anything. Each is compared with the region before bytes are read there,
and bytes are taken once; what fails has a limit as well. So all structures together cost no more than a few
passes over the region, and no offset leads in a circle. HDF5 File Format Specification, section III.E (global
heap).
"""

from __future__ import annotations

import struct

from archive.hdf5.checksum import lookup3

__all__ = ["Region", "StructureError"]

_COLLECTION_HEAD = struct.Struct("<4sB3sQ")
_MIN_COLLECTION_NBYTES = 4096
_OBJECT_HEAD = struct.Struct("<HHIQ")
_REFERENCE = struct.Struct("<IQI")


class StructureError(ValueError):
    """Bytes that are not a structure of section 5 of the format.

    Parameters
    ----------
    problem : str
        The fault.
    offset : int
        File offset of the bytes.
    """

    def __init__(self, problem: str, offset: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.offset = offset


class Region:
    """Bytes from file offset ``start`` on; checksums of what our encoder made just now are ``trusted``."""

    __slots__ = (
        "_collections",
        "_data",
        "_looked_at",
        "_taken",
        "_wasted",
        "start",
        "trusted",
    )

    def __init__(self, data: bytes | memoryview, start: int, *, trusted: bool = False) -> None:
        self.start: int = start
        self.trusted: bool = trusted
        self._data = memoryview(data)
        self._taken = bytearray(len(data))
        self._looked_at = 0
        self._wasted = 0
        self._collections: dict[int, dict[int, tuple[int, int]]] = {}

    def peek(self, offset: int, nbytes: int, what: str) -> memoryview:
        """Return bytes that may be taken later.

        Raises
        ------
        StructureError
            They are not in the region.
        """
        at = offset - self.start
        if at < 0 or at + nbytes > len(self._data):
            raise StructureError(f"{what} that is not in the HDF5 metadata", offset)
        return self._data[at : at + nbytes]

    def take(self, offset: int, nbytes: int, what: str) -> memoryview:
        """Return bytes that no other structure has.

        Raises
        ------
        StructureError
            They are not in the region, or were taken before.
        """
        data, at = self.peek(offset, nbytes, what), offset - self.start
        # what was looked at in vain has a limit too: many structures could end in the same bytes
        first = self._taken.find(1, at, at + nbytes) if self._looked_at <= len(self._data) else at
        if first >= 0:
            self._looked_at += first - at
            raise StructureError(f"{what} over bytes of another structure", offset)
        self._taken[at : at + nbytes] = b"\1" * nbytes
        return data

    def take_summed(self, offset: int, nbytes: int, what: str) -> memoryview:
        """Return bytes that no other structure has, without the lookup3 of them that ends them."""
        data, at = self.take(offset, nbytes, what), offset - self.start
        try:
            self.require_sum(data[:-4], data[-4:], offset, what)
        except StructureError:
            # a wrong offset must not keep bytes from the structure that has them, nor be tried without end
            self._wasted += nbytes
            if self._wasted <= len(self._data):
                self._taken[at : at + nbytes] = bytes(nbytes)
            raise
        return data[:-4]

    def text(self, reference: memoryview, offset: int) -> bytes:
        """Return the string that an element of variable length refers to; each is referred to once.

        Raises
        ------
        StructureError
            There is no such string.
        """
        length, address, number = _REFERENCE.unpack(reference)
        if address not in self._collections:
            self._collections[
                address
            ] = {}  # a collection that is invalid is reported once, then it has nothing
            self._collections[address] = self._read_collection(address)
        at, nbytes = self._collections[address].pop(number, (0, -1))
        if nbytes != length:
            raise StructureError("a string that is not in the global heap, or another attribute's", offset)
        return bytes(self.peek(at, nbytes, "a string"))

    def require_sum(self, data: bytes | memoryview, stored: memoryview, offset: int, what: str) -> None:
        """Raise unless the lookup3 of some bytes is the stored one."""
        if not self.trusted and lookup3(data) != int.from_bytes(stored, "little"):
            raise StructureError(f"{what} that does not match its checksum", offset)

    def _read_collection(self, address: int) -> dict[int, tuple[int, int]]:
        """Return offset and length of the objects of a global heap collection, by index."""
        what = "a global heap collection"
        head = self.peek(address, _COLLECTION_HEAD.size, what)
        signature, version, reserved, size = _COLLECTION_HEAD.unpack(head)
        if (signature, version, reserved) != (b"GCOL", 1, bytes(3)) or size < _MIN_COLLECTION_NBYTES:
            raise StructureError(f"not {what}", address)
        data = self.take(address, size, what)
        found: dict[int, tuple[int, int]] = {}
        at = _COLLECTION_HEAD.size
        while size - at >= _OBJECT_HEAD.size:
            number, count, unused, nbytes = _OBJECT_HEAD.unpack_from(data, at)
            end = at + nbytes if number == 0 else at + _OBJECT_HEAD.size + nbytes + -nbytes % 8
            if count or unused or end > size or number in found or (number == 0 and end != size):
                raise StructureError(f"an object that is not one of {what}", address + at)
            if number:
                found[number] = address + at + _OBJECT_HEAD.size, nbytes
            at = end
        return found
