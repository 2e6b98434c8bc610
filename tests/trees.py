"""HDF5 trees of archives, changed and put together in other ways, every checksum and digest fixed up."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import archive
from archive.engine.read.expectedtree import encode_expected
from archive.format.constants import FOOTER_BYTES
from archive.format.digests import digest
from archive.format.footer import Footer, parse_footer
from archive.hdf5 import messages
from archive.hdf5.checksum import lookup3
from archive.hdf5.datasets import Attribute, attribute_message
from archive.hdf5.denselinks import StoredLink
from archive.hdf5.encoder import encode_superblock
from archive.hdf5.globalheap import GlobalHeap
from archive.hdf5.groups import COMPACT_LINKS, encode_links
from archive.hdf5.messages import Message
from archive.hdf5.objectheaders import StoredObject, read_object
from archive.hdf5.region import Region

__all__ = [
    "Tree",
    "extended",
    "footer_of",
    "reordered",
    "with_region",
    "with_superblock",
    "with_tree_of_index",
]

ROOT = slice(36, 44)
Path_ = tuple[bytes, ...]


def footer_of(data: bytes) -> Footer:
    return parse_footer(data[-FOOTER_BYTES:], len(data))


def root_of(superblock: bytes) -> int:
    return int.from_bytes(superblock[ROOT], "little")


def with_region(data: bytes, region: bytes, root: int | None = None) -> bytes:
    """Return an archive with other HDF5 metadata, of any length, every digest right."""
    footer = footer_of(data)
    end = footer.meta_at + len(region)
    rest = data[footer.index_at : -FOOTER_BYTES]
    length = end + len(rest) + FOOTER_BYTES
    superblock = footer.superblock
    if root is not None:
        superblock = encode_superblock(root, length)
    footer = replace(
        footer,
        file_bytes=length,
        meta_bytes=len(region),
        index_at=end,
        values_at=end + footer.index_bytes,
        superblock=superblock,
        meta_digest=digest(region),
    )
    return superblock + data[48 : footer.meta_at] + region + rest + footer.pack()


def with_superblock(data: bytes, superblock: bytes) -> bytes:
    """Return an archive with another superblock, of a checksum and a copy that are right."""
    superblock = superblock[:44] + lookup3(superblock[:44]).to_bytes(4, "little")
    footer = replace(footer_of(data), superblock=superblock)
    return superblock + data[48:-FOOTER_BYTES] + footer.pack()


def with_tree_of_index(data: bytes, scratch: Path) -> bytes:
    """Return an archive whose tree says what its index says, which somebody changed."""
    scratch.write_bytes(data)
    with archive.open(scratch) as handle:
        footer = replace(footer_of(data), meta_bytes=1 << 40)  # however short the metadata were
        metadata = encode_expected(handle._reader, footer, ()).metadata
    return with_region(data, metadata.region, root_of(metadata.superblock))


@dataclass(frozen=True, slots=True)
class Block:
    """A structure."""

    signature: bytes
    start: int
    stop: int
    path: Path_
    """The object that it belongs to; of a global heap collection the one that was read first."""
    sum_at: int
    """Where its checksum is, 0 without one."""
    used: int
    """Where the bytes end that mean something, but for the checksum."""


class TracingRegion(Region):
    """A region that remembers which bytes were taken, for which object, and whose each string is."""

    def __init__(self, data: bytes, start: int) -> None:
        super().__init__(data, start)
        self.path: Path_ = ()
        self.taken: list[tuple[int, int, Path_]] = []
        self.owners: dict[tuple[int, int], Path_] = {}

    def take(self, offset: int, nbytes: int, what: str) -> memoryview:
        self.taken.append((offset, nbytes, self.path))
        return super().take(offset, nbytes, what)

    def text(self, reference: memoryview, offset: int) -> bytes:
        _, address, number = struct.unpack("<IQI", reference)
        self.owners[address, number] = self.path
        return super().text(reference, offset)


class Tree:
    """The tree of an archive, taken apart.

    Attributes
    ----------
    objects : dict
        Address and content of every object by its path, link names from the root on.
    blocks : list of Block
        All structures in order of their offsets.
    slack : dict of int to str
        Offsets of bytes that mean nothing, with the reason.
    strings : dict of int to tuple
        Whose string it is, for every byte of the global heap that belongs to a string.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.footer = footer = footer_of(data)
        self.region = TracingRegion(data[footer.meta_at : footer.index_at], footer.meta_at)
        self.objects: dict[Path_, tuple[int, StoredObject]] = {}
        self._seen: dict[int, StoredObject] = {}
        self._walk((), root_of(footer.superblock))
        self.blocks: list[Block] = []
        tree = 0
        for start, nbytes, path in self.region.taken:
            if data[start : start + 4] == b"BTHD":
                tree = start
            self.blocks.append(self._block(start, start + nbytes, path, tree))
        self.blocks.sort(key=lambda block: block.start)
        self.slack: dict[int, str] = {}
        self.strings: dict[int, Path_] = {}
        self._find_slack()

    def _walk(self, path: Path_, address: int) -> None:
        self.region.path = path
        if address not in self._seen:
            self._seen[address] = read_object(self.region, address)
        self.objects[path] = address, self._seen[address]
        for name, link in self._seen[address].links.items():
            self._walk((*path, name), link.address)

    def _block(self, start: int, stop: int, path: Path_, tree: int) -> Block:
        signature, data = self.data[start : start + 4], self.data
        if signature == b"GCOL":
            return Block(signature, start, stop, path, 0, stop)
        if signature == b"FHDB":
            links = self.objects[path][1].links
            used = start + 21 + sum(21 + len(name) for name in links)
            return Block(signature, start, stop, path, start + 17, used)
        if signature == b"BTLF":
            (record,), (count,) = (
                struct.unpack_from("<H", data, tree + 10),
                struct.unpack_from("<Q", data, tree + 26),
            )
            end = start + 6 + record * count
            return Block(signature, start, stop, path, end, end)
        return Block(signature, start, stop, path, stop - 4, stop - 4)

    def _find_slack(self) -> None:
        position = self.footer.meta_at
        for block in [*self.blocks, Block(b"", self.footer.index_at, 0, (), 0, 0)]:
            self._mark(position, block.start, "belongs to no structure")
            position = block.stop
        for block in self.blocks:
            if block.signature == b"FHDB":
                self._mark(block.used, block.stop, "lies in a heap's block, after its links")
            if block.signature == b"BTLF":
                self._mark(block.sum_at + 4, block.stop, "lies in a tree's node, after its records")
            if block.signature == b"GCOL":
                self._find_strings(block)

    def _find_strings(self, block: Block) -> None:
        at = block.start + 16
        while block.stop - at >= 16:
            number, _, _, size = struct.unpack_from("<HHIQ", self.data, at)
            if not number:
                self._mark(at + 16, at + size, "is free space of a global heap collection")
                return
            end = at + 16 + size + -size % 8
            self.strings |= dict.fromkeys(range(at, at + 16 + size), self.region.owners[block.start, number])
            self._mark(at + 16 + size, end, "pads a string of the global heap")
            at = end
        self._mark(at, block.stop, "is the rest of a global heap collection")

    def _mark(self, start: int, stop: int, why: str) -> None:
        self.slack |= dict.fromkeys(range(start, stop), why)

    def changed(self, changes: Mapping[int, int]) -> bytes:
        """Return the archive with other bytes at file offsets, checksums and digests fixed up."""
        data = bytearray(self.data)
        for at, byte in changes.items():
            data[at] = byte
        for block in self.blocks:
            if block.sum_at and any(block.start <= at < block.stop for at in changes):
                _fix_sum(data, block)
        return with_region(self.data, bytes(data[self.footer.meta_at : self.footer.index_at]))

    def replaced(self, at: int, new: bytes) -> bytes:
        """Return the archive with other bytes from a file offset on."""
        return self.changed(dict(enumerate(new, at)))

    def find(self, path: str) -> StoredObject:
        """Return the object of an HDF5 path."""
        return self.objects[tuple(part.encode() for part in path.split("/")[1:] if part)][1]

    def names(self, at: int) -> set[str]:
        """Return names under which a fault may be reported: of its object, or of what that links to."""
        owner = self.strings.get(at)
        for block in self.blocks:
            if block.start <= at < block.stop and owner is None:
                owner = block.path
        assert owner is not None
        found = {owner, *((*owner, name) for name in self.objects[owner][1].links)}
        address = self.objects[owner][0]
        found |= {path for path, (other, _) in self.objects.items() if other == address}
        return {"/" + "/".join(name.decode() for name in path) for path in found}


def _fix_sum(data: bytearray, block: Block) -> None:
    at = block.sum_at
    if block.signature == b"FHDB":
        data[at : at + 4] = bytes(4)
        summed = lookup3(bytes(data[block.start : block.stop]))
    else:
        summed = lookup3(bytes(data[block.start : at]))
    data[at : at + 4] = summed.to_bytes(4, "little")


@dataclass(slots=True)
class _Places:
    """Addresses of a tree under construction: of headers and heaps of links by the old ones, of the rest."""

    headers: dict[int, int]
    links: dict[int, int]
    strings: int
    index: int


def extended(data: bytes, minor: int) -> bytes:
    """Return an archive of a minor version whose root has an attribute and a group more."""
    data = data[:-FOOTER_BYTES] + replace(footer_of(data), minor=minor).pack()
    tree = Tree(data)
    root = tree.objects[()][1]
    version = root.attributes[b"version"]
    root.attributes[b"version"] = version._replace(value=(f"1.{minor}".encode(),))
    root.attributes[b"later"] = version._replace(value=(b"more",))
    root.links[b"added"] = StoredLink(-1, 0)
    tree.objects[b"added",] = -1, StoredObject(group=True)
    return _rebuilt(tree)


def reordered(data: bytes) -> bytes:
    """Return an archive of the same meaning as another writer might make it.

    Groups stand first, the root before its children; then heaps and trees of links; then datasets, the last
    first; then the global heap, a collection for each object. Messages stand in another order.
    """
    return _rebuilt(Tree(data))


def _rebuilt(tree: Tree) -> bytes:
    objects = dict(tree.objects.values())
    order = [a for a in objects if objects[a].group] + [a for a in reversed(objects) if not objects[a].group]
    index = tree.objects[b"index",][0]
    places = _Places(dict.fromkeys(objects, 0), dict.fromkeys(objects, 0), 0, 0)
    region = b""
    for _ in range(2):  # sizes do not depend on addresses
        heap = GlobalHeap(places.strings)
        headers, links = {}, {}
        for address in order:
            stored = objects[address]
            headers[address], links[address] = _encode(stored, places, heap, address)
            if address == index:
                headers[address] = _dataset(stored, heap, places.index)
            if heap._pieces:
                heap._close()
        groups = [address for address in order if objects[address].group]
        at = tree.footer.meta_at
        parts = []
        for kind, addresses in (("header", groups), ("links", groups), ("header", order[len(groups) :])):
            for address in addresses:
                made = headers[address] if kind == "header" else links[address]
                (places.headers if kind == "header" else places.links)[address] = at
                parts.append(made)
                at += len(made)
        places.strings = -(-at // 8) * 8
        parts += [bytes(places.strings - at), *map(bytes, heap.finish()[0])]
        region = b"".join(parts)
        region += bytes(-len(region) % 64)
        places.index = tree.footer.meta_at + len(region)
    return with_region(tree.data, region, places.headers[tree.objects[()][0]])


def _encode(stored: StoredObject, places: _Places, heap: GlobalHeap, address: int) -> tuple[bytes, bytes]:
    """Return header, and heap and trees of links."""
    if not stored.group:
        return _dataset(stored, heap, None), b""
    names = list(stored.links)
    targets = [places.headers[link.address] for link in stored.links.values()]
    parts: list[Message] = [messages.group_info(), *_attributes(stored, heap)]
    dense = b""
    if len(names) > COMPACT_LINKS:
        storage = encode_links(places.links[address], names, np.array(targets, np.uint64))
        dense = b"".join(map(bytes, storage.parts))
        parts.append(storage.info)
    else:
        made = [messages.link(name, n, at) for n, (name, at) in enumerate(zip(names, targets, strict=True))]
        parts += [*(Message(0x06, link) for link in reversed(made)), messages.link_info(len(names))]
    parts.append(messages.attribute_info(len(stored.attributes)))
    return messages.header(parts, attributes=len(stored.attributes)), dense


def _dataset(stored: StoredObject, heap: GlobalHeap, at: int | None) -> bytes:
    facts: dict[str, Any] = {name: fact.value for name, fact in stored.facts.items()}
    parts = [*reversed(_attributes(stored, heap)), messages.fill_value()]
    if facts["number of links"] > 1:
        parts.append(messages.reference_count(facts["number of links"]))
    parts += [
        messages.contiguous_layout(facts["address"] if at is None else at, facts["length"]),
        messages.datatype(facts["type"]),
        Message(0x01, messages.dataspace(facts["shape"])),
        messages.attribute_info(),
    ]
    return messages.header(parts)


def _attributes(stored: StoredObject, heap: GlobalHeap) -> list[Message]:
    made = []
    for name, (datatype, dims, value, _) in stored.attributes.items():
        assert value is not None
        made.append(attribute_message(Attribute(name.decode(), datatype, dims, value), heap))
    return made
