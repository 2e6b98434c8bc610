"""Compares the HDF5 tree of a file with the tree that its index asks for ([HDF5-3]).

As a rule the bytes are those that our encoder makes of the index. Another program may order its blocks
otherwise: then both trees are walked side by side, and only a difference in meaning is a failure. The walk
follows the tree of the index, so that nothing in the file decides how far it goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import xxhash

from archive.engine.read.expectedtree import ExpectedTree, Names, encode_expected
from archive.engine.read.reader import Reader
from archive.engine.report import Failure
from archive.errors import DamagedError, HostileFileError, VersionError
from archive.format.constants import VERSION_MINOR
from archive.format.digests import digest
from archive.format.footer import Footer
from archive.format.names import unescape_name
from archive.hdf5.encoder import encode_superblock
from archive.hdf5.objectheaders import Fact, StoredObject, read_object
from archive.hdf5.region import Region, StructureError

__all__ = ["MOST", "tree_failures"]

MOST = 1000
"""Differences that are reported; of more the last report says so."""
_ROOT_AT, _ROOT_END = 36, 44
_INDEX = (b"index",)

Path = tuple[bytes, ...]
"""Link names from the root group on."""


def tree_failures(reader: Reader, footer: Footer, damaged: Names) -> list[Failure]:
    """Return where the HDF5 tree does not say what the index says.

    Parameters
    ----------
    reader : Reader
        Its metadata match their digest, and its document is valid.
    footer : Footer
    damaged : collection of (str, str)
        Records and keys of arrays whose bytes do not match.

    Raises
    ------
    VersionError
        A later version of the format wrote the document.
    DamagedError
        Bytes changed since they were compared.
    """
    try:
        expected = encode_expected(reader, footer, damaged)
    except (VersionError, DamagedError):
        raise
    except HostileFileError as error:
        return [Failure("", "document", 0, footer.values_at, error.problem, bytes_match=True)]
    except (TypeError, ValueError) as error:
        problem = f"cannot hold what the index says: {error}"
        return [Failure("", "HDF5 metadata", 0, footer.meta_at, problem, bytes_match=True)]
    failures = _superblock_failures(footer)
    if _is_equal(expected, footer):
        return failures
    walk = _Walk(
        Region(expected.metadata.region, footer.meta_at, trusted=True),
        Region(_read_region(reader, footer), footer.meta_at),
        index_at=footer.index_at,
        later=footer.minor > VERSION_MINOR,
    )
    walk.compare((), _root(expected.metadata.superblock), _root(footer.superblock), footer.meta_at)
    failures += [at for at in walk.failures if (at.record, at.key) not in expected.unread]
    if len(walk.failures) == MOST:
        problem = f"differs in more places, of which the first {MOST:,} are reported"
        failures.append(Failure("", "HDF5 metadata", 0, footer.index_at, problem, bytes_match=True))
    return failures


def _root(superblock: bytes) -> int:
    return int.from_bytes(superblock[_ROOT_AT:_ROOT_END], "little")


def _is_equal(expected: ExpectedTree, footer: Footer) -> bool:
    """Return whether the bytes are those that we write: the digest, which matches, stands for them."""
    if expected.metadata.nbytes != footer.meta_bytes or expected.metadata.superblock != footer.superblock:
        return False
    found = xxhash.xxh3_128()
    for part in expected.metadata.parts:
        found.update(part)
    return bool(found.digest() == footer.meta_digest)


def _superblock_failures(footer: Footer) -> list[Failure]:
    """Return the failure of a superblock that differs in more than the place of its root group."""
    wanted = encode_superblock(_root(footer.superblock), footer.file_bytes)
    for at, (found, byte) in enumerate(zip(footer.superblock, wanted, strict=True)):
        if found != byte:
            return [Failure("", "superblock", 0, at, "is not one that an archive has", bytes_match=True)]
    return []


def _read_region(reader: Reader, footer: Footer) -> memoryview:
    """Return the bytes of the metadata once more: few archives need them."""
    data = reader.source.read(footer.meta_at, footer.meta_bytes)
    if digest(data) != footer.meta_digest:
        again = reader.source.reread(footer.meta_at, footer.meta_bytes)
        if again is None or digest(again) != footer.meta_digest:
            raise DamagedError(
                "the HDF5 metadata changed while they were verified",
                path=reader.path,
                offset=footer.meta_at,
                remedy="verify a copy that nobody writes to",
            )
        data = again
    return data.data


@dataclass(slots=True)
class _Walk:
    """Two trees side by side."""

    wanted: Region
    """Of the index."""
    found: Region
    """Of the file."""
    index_at: int
    """Where the bytes of ``/index`` lie."""
    later: bool
    """Whether the file has a later minor version, which may add attributes and groups."""
    failures: list[Failure] = field(default_factory=list)
    _found_of: dict[int, int] = field(default_factory=dict)
    """Header in the file of each header of the index."""
    _headers: set[int] = field(default_factory=set)
    """Headers in the file that belong to an object."""

    def compare(self, path: Path, wanted_at: int, found_at: int, link_at: int) -> None:
        """Compare two objects and all below them; ``link_at`` is the offset of the link in the file."""
        if len(self.failures) == MOST:
            return
        known = self._found_of.get(wanted_at)
        if known is not None or found_at in self._headers:
            if known != found_at:
                self._report(path, link_at, "its link leads to another object than the index says")
            return
        self._found_of[wanted_at] = found_at
        self._headers.add(found_at)
        try:
            found = read_object(self.found, found_at)
        except StructureError as error:
            self._report(path, error.offset, _unknown(error))
            return
        wanted = read_object(self.wanted, wanted_at)
        for problem in found.problems:
            self._report(path, problem.offset, _unknown(problem))
        if found.group != wanted.group:
            self._report(path, found_at, f"is a {_kind(found)}, by the index a {_kind(wanted)}")
            return
        self._compare_facts(path, wanted, found)
        self._compare_attributes(path, wanted, found, found_at)
        self._compare_links(path, wanted, found, found_at)

    def _compare_facts(self, path: Path, wanted: StoredObject, found: StoredObject) -> None:
        facts = dict(wanted.facts)
        if path == _INDEX:
            facts["address"] = Fact(self.index_at, 0)
        for name, fact in facts.items():
            there = found.facts[name]
            if there.value != fact.value:
                is_not = f"its HDF5 {name} is {_show(there.value)}, by the index {_show(fact.value)}"
                self._report(path, there.offset, is_not)

    def _compare_attributes(
        self, path: Path, wanted: StoredObject, found: StoredObject, found_at: int
    ) -> None:
        self._compare_names(path, "attribute", wanted.attributes, found.attributes, found_at)
        for name, attribute in wanted.attributes.items():
            there = found.attributes.get(name)
            if there is None:
                continue
            for what, value, other in (
                ("type", there.datatype, attribute.datatype),
                ("shape", there.dims, attribute.dims),
                ("value", there.value, attribute.value),
            ):
                if value != other and value is not None:
                    text = f"the {what} of its attribute {_quote(name)} is not that of the index"
                    self._report(path, there.offset, text)
                    break
        if found.group:
            self._compare_order(path, "attribute", wanted.attributes, found.attributes)

    def _compare_links(self, path: Path, wanted: StoredObject, found: StoredObject, found_at: int) -> None:
        self._compare_names(path, "link", wanted.links, found.links, found_at)
        for name, link in wanted.links.items():
            there = found.links.get(name)
            if there is not None:
                self.compare((*path, name), link.address, there.address, there.offset)
        self._compare_order(path, "link", wanted.links, found.links)

    def _compare_names(
        self, path: Path, what: str, wanted: Mapping[bytes, Any], found: Mapping[bytes, Any], found_at: int
    ) -> None:
        """Report names that only one tree has."""
        for name in wanted:
            if name not in found:
                where = (*path, name) if what == "link" else path
                text = "no link leads to it" if what == "link" else f"its attribute {_quote(name)} is missing"
                self._report(where, found_at, text)
        for name, there in found.items():
            if name not in wanted and not self.later:
                where = (*path, name) if what == "link" else path
                text = f"the index has no such {'object' if what == 'link' else f'attribute: {_quote(name)}'}"
                self._report(where, there.offset, text, named=what != "link")

    def _compare_order(
        self, path: Path, what: str, wanted: Mapping[bytes, Any], found: Mapping[bytes, Any]
    ) -> None:
        """Report names that stand in another order, those aside that only one tree has."""
        names = [name for name in found if name in wanted]
        for name, there in zip((name for name in wanted if name in found), names, strict=True):
            if name != there:
                text = f"its {what} {_quote(there)} is not in the order of the index"
                self._report(path, found[there].offset, text)

    def _report(self, path: Path, offset: int, problem: str, *, named: bool = True) -> None:
        """Add a failure of an object; ``named`` is whether the index has one of that path."""
        if len(self.failures) < MOST:
            record, key = _name(path) if named else ("", _spell(path))
            self.failures.append(Failure(record, key, 0, offset, problem, bytes_match=True))


def _name(path: Path) -> tuple[str, str]:
    """Return record and key of a dataset; of any other object no record, and its HDF5 path."""
    if len(path) == 3 and path[0] != b"context":
        return unescape_name(path[1].decode()), unescape_name(path[2].decode())
    return "", _spell(path)


def _spell(path: Path) -> str:
    return "/" + "/".join(name.decode(errors="backslashreplace")[:80] for name in path)


def _quote(name: bytes) -> str:
    return repr(name.decode(errors="backslashreplace")[:80])


def _kind(stored: StoredObject) -> str:
    return "group" if stored.group else "dataset"


def _show(value: Any) -> str:
    return value.hex()[:80] if isinstance(value, bytes) else str(value)


def _unknown(error: StructureError) -> str:
    return f"{error.problem}: not a structure of section 5 of the format"
