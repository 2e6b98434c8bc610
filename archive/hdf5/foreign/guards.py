"""Limits and rules for the content of a foreign HDF5 file, as far as they need no libhdf5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from archive.errors import HostileFileError, NotAnArchiveError, TruncatedError

__all__ = [
    "MAX_DATASET_ATTRIBUTES",
    "MAX_DEPTH",
    "MAX_GROUP_ATTRIBUTES",
    "Budget",
    "max_decoded_bytes",
    "refuse",
    "require_hard_link",
    "require_hdf5",
    "require_known_filters",
    "require_own_bytes",
    "require_plain_name",
    "require_plain_types",
]

MAX_OBJECTS = 2_000_000
"""Groups and names of datasets: twice the largest model ever saved as one file; the walk takes minutes."""
MAX_DEPTH = 64
"""Nested groups. Keras nests about 10 deep; libhdf5 takes 19 s to visit 5,000 nested groups, and walks
them by recursion."""
MAX_GROUP_ATTRIBUTES = 70_000
"""An archive keeps up to 4,096 values of a record as attributes; other writers keep up to 65,535."""
MAX_DATASET_ATTRIBUTES = 4_096
"""An archive writes 7, and netCDF files some dozens; libhdf5 lists 65,000 in half a second, a dataset."""
MAX_ATTRIBUTE_BYTES = 64 << 20
"""All attributes together: they are read into memory, and the listing goes through JSON."""
FREE_BYTES = 64 << 20
"""Declared bytes that are decoded at any rate of compression: a third of a second of gzip."""
MAX_EXPANSION = 20
"""Decoded bytes for each byte of the file, above FREE_BYTES: gzip has under 2 of weights, 1,032 of zeros."""
MOST_BYTES = 1 << 60
"""Decoded bytes that a caller may allow: with some GiB more it is still a limit of a process, a C long."""

SIGNATURE = b"\x89HDF\r\n\x1a\n"
HEAD_BYTES = 64
"""Every version's superblock fits."""
_ADDRESSES = {0: (13, 24, 40), 1: (13, 28, 44), 2: (9, 12, 28), 3: (9, 12, 28)}
"""Superblock version: where the size of an address, the base address and the end of file stand."""
_KNOWN_FILTERS = {
    1: "gzip",
    2: "shuffle",
    3: "fletcher32",
    4: "szip",
    5: "nbit",
    6: "scaleoffset",
    32000: "lzf",
}
# Numbers of the file format, the same in every libhdf5
_HARD_LINK = 0
_LINKS = {1: "a soft link", 64: "an external link"}
_OWN_LAYOUTS = (0, 1, 2)  # compact, contiguous, chunked
_TIME, _STRING, _COMPOUND, _REFERENCE, _VLEN, _ARRAY = 2, 3, 6, 7, 9, 10
_RESAVE = "save it anew with h5py, without that, if you trust it"


def refuse(problem: str, path: str, remedy: str = _RESAVE) -> HostileFileError:
    """Return the error for an object that is refused; the parent adds the file to its HDF5 path."""
    return HostileFileError(problem, key=path[:500], remedy=remedy)


def max_decoded_bytes(file_bytes: int, allowed: int | None = None) -> int:
    """Return the limit of bytes that are decoded from a file: what the caller allows, or what is usual."""
    return max(FREE_BYTES, MAX_EXPANSION * file_bytes) if allowed is None else min(allowed, MOST_BYTES)


def require_hdf5(path: str, read: Callable[[int, int], bytes], file_bytes: int) -> None:
    """Check the superblock before libhdf5 sees the file.

    Parameters
    ----------
    path : str
        The file, which errors name.
    read : callable of (offset, nbytes) -> bytes
        Reads from the file, fewer bytes at its end.
    file_bytes : int

    Raises
    ------
    NotAnArchiveError
        No HDF5 signature.
    HostileFileError
        An unknown superblock, or addresses that do not count from the start of the file.
    TruncatedError
        The file is shorter than its superblock states.
    """
    head = read(0, HEAD_BYTES)
    if not head.startswith(SIGNATURE):
        at = 512  # libhdf5 looks there next, and at every power of two after it
        while at < file_bytes:
            if read(at, len(SIGNATURE)) == SIGNATURE:
                raise HostileFileError(
                    "a user block before the HDF5 data", path=path, offset=0, remedy="remove it with h5unjam"
                )
            at *= 2
        raise NotAnArchiveError("not an HDF5 file", path=path, remedy="check the path, or fetch it again")
    places = _ADDRESSES.get(head[8]) if len(head) > 8 else None
    if len(head) < HEAD_BYTES or places is None:
        raise HostileFileError(
            "an HDF5 superblock of unknown version, or cut short", path=path, offset=8, remedy="h5repack it"
        )
    size_at, base_at, eof_at = places
    size = head[size_at]
    if size != 8:
        raise HostileFileError(
            f"HDF5 addresses of {size} bytes, not 8", path=path, offset=size_at, remedy="h5repack it"
        )
    base = int.from_bytes(head[base_at : base_at + 8], "little")
    if base:
        raise HostileFileError(
            f"a base address of {base}, not 0", path=path, offset=base_at, remedy="h5repack it"
        )
    end = int.from_bytes(head[eof_at : eof_at + 8], "little")
    if end > file_bytes:
        raise TruncatedError(
            f"the file has {file_bytes} of {end} bytes",
            path=path,
            offset=file_bytes,
            remedy="fetch it again, or take an earlier round",
        )


def require_plain_name(name: bytes, parent: str) -> str:
    """Return a link name; HostileFileError where libhdf5 would take it for a path of unchecked links."""
    try:
        text = name.decode()
    except UnicodeDecodeError as error:
        raise refuse("a link name that is not UTF-8", f"{parent}/{name[:80]!r}") from error
    if text in ("", ".") or "/" in text:
        raise refuse("a link name that HDF5 takes for a path", f"{parent}/{text}")
    return text


def require_known_filters(codes: list[int], available: list[bool], path: str) -> None:
    """Raise HostileFileError for a filter that this libhdf5 lacks, or that is neither HDF5's nor lzf."""
    for code, present in zip(codes, available, strict=True):
        if code not in _KNOWN_FILTERS or not present:
            name = _KNOWN_FILTERS.get(code, "unknown")
            raise refuse(
                f"stored with filter {code} ({name}), which is not read here",
                path,
                "decode it where the filter is at home: h5repack -f NONE",
            )


def require_hard_link(kind: int, path: str) -> None:
    """Raise HostileFileError for any other link: opening it could already read another file."""
    if kind != _HARD_LINK:
        name = _LINKS.get(kind, "a user-defined link")
        raise refuse(f"{name}; only hard links are followed", path)


def require_own_bytes(layout: int, external: int, path: str) -> None:
    """Raise HostileFileError for a dataset with bytes in other files: virtual, or external segments."""
    if layout not in _OWN_LAYOUTS:
        raise refuse("a virtual dataset: its bytes are in other files", path)
    if external:
        raise refuse("external storage: its bytes are in other files", path)


def require_plain_types(kind: Any, path: str) -> None:
    """Raise HostileFileError for references, variable length or HDF5's time type, inside compounds too."""
    found = kind.get_class()
    if found == _REFERENCE:
        raise refuse("object or region references", path)
    if found == _VLEN or (found == _STRING and kind.is_variable_str()):
        raise refuse("variable-length elements; only plain strings of variable length are read", path)
    if found == _TIME:
        raise refuse("elements of HDF5's time type", path)
    if found == _ARRAY:
        require_plain_types(kind.get_super(), path)
    if found == _COMPOUND:
        for member in range(kind.get_nmembers()):
            require_plain_types(kind.get_member_type(member), path)


@dataclass(slots=True)
class Budget:
    """Counts of one file against the limits."""

    file_bytes: int
    """Length of the file."""
    most_decoded: int
    """Bytes that may be decoded."""
    objects: int = 0
    """Groups and names of datasets so far."""
    attribute_bytes: int = 0
    """Bytes of attributes so far."""
    decoded_bytes: int = 0
    """Bytes that were declared to be decoded so far."""

    def add_objects(self, count: int, path: str) -> None:
        """Count objects before they are opened."""
        self.objects += count
        if self.objects > MAX_OBJECTS:
            raise refuse(f"more than {MAX_OBJECTS:,} groups and datasets", path, "split the file")

    def add_attribute(self, nbytes: int, path: str) -> None:
        """Count an attribute before it is read."""
        self.attribute_bytes += nbytes
        if self.attribute_bytes > MAX_ATTRIBUTE_BYTES:
            raise refuse(
                f"more than {MAX_ATTRIBUTE_BYTES >> 20} MiB of attributes", path, "store them as datasets"
            )

    def add_decoded(self, declared: int, path: str) -> None:
        """Count the bytes that a dataset declares before they are allocated."""
        self.decoded_bytes += declared
        if self.decoded_bytes > self.most_decoded:
            raise refuse(
                f"up to here {self.decoded_bytes:,} bytes are to be decoded; {self.most_decoded:,} may be",
                path,
                "raise decoded_bytes (--decoded-bytes) if you trust the file",
            )
