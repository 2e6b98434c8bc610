"""The walk through one foreign file: its groups and datasets listed, what is compressed decoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from h5py import h5, h5d, h5g, h5o, h5s, h5t, h5z

from archive.format.constants import FORMAT_NAME
from archive.hdf5.foreign.attributevalues import AttributeReader, order_of
from archive.hdf5.foreign.elementtypes import ElementType, read_type
from archive.hdf5.foreign.guards import (
    MAX_ATTRIBUTE_BYTES,
    MAX_DEPTH,
    Budget,
    refuse,
    require_hard_link,
    require_known_filters,
    require_own_bytes,
    require_plain_name,
)
from archive.hdf5.foreign.sandbox import Limits, Spool

__all__ = ["Walk"]

SLAB, SLAB_BYTES, MIN_SLAB = 65_536, 256 << 20, 256
"""Variable-length strings in memory at once: fewer where each may be as long as a large file."""


class Walk:
    """The walk through one file, an open ``h5py.h5f.FileID``."""

    def __init__(self, file: Any, budget: Budget, limits: Limits, spool: Spool) -> None:
        self.path: str = "/"
        """HDF5 path of the object that is being read."""
        self._groups: list[list[Any]] = []
        self._datasets: list[list[Any]] = []
        self._file = file
        self._budget = budget
        self._limits = limits
        self._spool = spool
        self._attributes = AttributeReader(self._budget, limits)
        self._pending: list[tuple[list[Any], str, ElementType | None]] = []
        self._seen_groups: set[int] = set()
        self._seen_datasets: dict[int, int] = {}
        self._types: dict[bytes, ElementType] = {}

    def listing(self) -> dict[str, Any]:
        """Return everything in the file, its bytes addressed."""
        if self._file.get_create_plist().get_userblock():
            raise refuse("a user block before the HDF5 data", "/", "h5repack it without")
        root = h5g.open(self._file, b"/")
        self._budget.add_objects(1, "/")
        self._group(root, h5o.get_info(root).addr, "", -1, "", 0)
        # not before the whole file is validated: a bomb at its end must not cost the decoding of the rest
        self._limits.allow(self._budget.decoded_bytes)
        for entry, path, kind in self._pending:
            self.path = path
            self._decode(h5o.open(self._file, path.encode()), path, entry, kind)
        return {"groups": self._groups, "datasets": self._datasets}

    def _decode(self, dataset: Any, path: str, entry: list[Any], kind: ElementType | None) -> None:
        """Decode the elements of a dataset into the spool; without a type they are strings."""
        if kind is None:
            self._decode_strings(dataset, path, entry)
            return

        def fill(out: memoryview) -> None:
            # libhdf5 converts chunk by chunk straight into the map: no second copy of the dataset
            dataset.read(h5s.ALL, h5s.ALL, np.frombuffer(out, np.uint8), mtype=kind.memory)

        entry[5] = self._spool.fill(entry[6], path, fill)

    def _decode_strings(self, dataset: Any, path: str, entry: list[Any]) -> None:
        """Decode variable-length strings as fixed-width UTF-8, as wide as the longest."""
        count = dataset.get_space().get_simple_extent_npoints()
        file_bytes = self._budget.file_bytes
        most = max(MIN_SLAB, min(SLAB, SLAB_BYTES // file_bytes))
        width = characters = 1
        stored = 0
        for slab in _slabs(dataset, count, most):
            stored += sum(map(len, slab))
            if stored > max(file_bytes, MAX_ATTRIBUTE_BYTES):
                raise refuse("strings that share their bytes: there are more than the file has", path)
            try:
                characters = max(characters, *(len(text.decode()) for text in slab))
            except UnicodeDecodeError as error:
                raise refuse("a string that is not UTF-8", path) from error
            width = max(width, *map(len, slab))
        nbytes = count * width
        self._budget.add_decoded(nbytes, path)
        self._limits.allow(self._budget.decoded_bytes)
        offset = None
        for slab in _slabs(dataset, count, most):
            # without a gap: a slab starts where the last one ended
            at = self._spool.append(np.array(slab, f"S{width}").tobytes(), path, aligned=offset is None)
            offset = at if offset is None else offset
        entry[0], entry[2] = f"<U{characters}", width
        entry[4:7] = [1, offset, nbytes]

    def _group(self, group: Any, address: int, path: str, parent: int, name: str, depth: int) -> None:
        if address in self._seen_groups:
            raise refuse("a group that has two names, or holds itself", path)
        if depth > MAX_DEPTH:
            raise refuse(f"more than {MAX_DEPTH} groups inside one another", path, "flatten the file")
        self._seen_groups.add(address)
        number = len(self._groups)
        self.path = path or "/"
        values, skipped = self._attributes.of_group(group, self.path)
        self._groups.append([parent, name, values, skipped])
        if parent < 0:
            self._attributes.ours = ["format", ["str", FORMAT_NAME]] in values
        self._budget.add_objects(group.get_num_objs(), self.path)
        links: list[tuple[bytes, int, int]] = []
        group.links.iterate(
            lambda link, info: links.append((link, info.type, info.u)),
            idx_type=order_of(group.get_create_plist().get_link_creation_order()),
            order=h5.ITER_INC,
            info=True,
        )
        for link, kind, target in links:
            text = require_plain_name(link, path)
            self._member(group, link, kind, target, f"{path}/{text}", number, text, depth)

    def _member(
        self, group: Any, link: bytes, kind: int, target: int, path: str, number: int, name: str, depth: int
    ) -> None:
        self.path = path
        require_hard_link(kind, path)
        found = h5o.open(group, link)
        if isinstance(found, h5g.GroupID):
            self._group(found, target, path, number, name, depth + 1)
        elif isinstance(found, h5d.DatasetID):
            first = self._seen_datasets.get(target)
            if first is None:
                self._seen_datasets[target] = len(self._datasets)
                self._datasets.append([number, name, -1, self._dataset(found, path)])
            else:
                self._datasets.append([number, name, first, []])
        # a committed datatype is neither, and holds nothing

    def _dataset(self, dataset: Any, path: str) -> list[Any]:
        """Return dtype, mode, itemsize, shape, source, offset, nbytes and attributes of a dataset."""
        plist = dataset.get_create_plist()
        require_own_bytes(plist.get_layout(), plist.get_external_count(), path)
        codes = [plist.get_filter(at)[0] for at in range(plist.get_nfilters())]
        require_known_filters(codes, [h5z.filter_avail(code) for code in codes], path)
        space, kind = dataset.get_space(), dataset.get_type()
        attributes = self._attributes.of_dataset(dataset, path)
        if space.get_simple_extent_type() == h5s.NULL:
            return ["", "null", 0, [], 0, 0, 0, attributes]
        shape, count = space.get_simple_extent_dims(), space.get_simple_extent_npoints()
        stored = dataset.get_storage_size()
        if kind.get_class() == h5t.STRING and kind.is_variable_str():
            self._budget.add_decoded(count * kind.get_size(), path)
            entry = ["<U1", "text", 1, list(shape), 0, 0, 0, attributes]
            if count:
                self._pending.append((entry, path, None))
            return entry
        found = self._type(kind, path, raw=self._attributes.ours and "dtype" in attributes)
        head = [found.dtype, found.mode, found.itemsize, [*shape, *found.inner]]
        nbytes = count * found.memory.get_size()
        if not nbytes:
            return [*head, 0, 0, 0, attributes]
        plain = plist.get_layout() == h5d.CONTIGUOUS and not codes
        if plain and found.memory.equal(kind) and stored == nbytes:
            offset = dataset.get_offset()
            if offset is not None and 0 < offset <= self._budget.file_bytes - nbytes:
                return [*head, 0, offset, nbytes, attributes]
        self._budget.add_decoded(nbytes, path)
        entry = [*head, 1, 0, nbytes, attributes]
        self._pending.append((entry, path, found))
        return entry

    def _type(self, kind: Any, path: str, *, raw: bool) -> ElementType:
        """Return how to read elements of a type: looked up where the file had the type before."""
        encoded = bytes(kind.encode()) + bytes([raw])
        found = self._types.get(encoded)
        if found is None:
            found = self._types[encoded] = read_type(kind, path, raw=raw)
        return found


def _slabs(dataset: Any, count: int, most: int) -> Iterator[list[bytes]]:
    """Yield lists of the strings of a dataset, in C order; about ``most`` at once."""
    if not count:
        return
    shape = dataset.get_space().get_simple_extent_dims()
    rows = shape[0] if shape else 1
    step = max(1, most // max(1, count // rows))
    for start in range(0, rows, step):
        part = (min(step, rows - start), *shape[1:]) if shape else ()
        elements = np.empty(part, object)
        if shape:
            chosen = h5s.create_simple(shape)
            chosen.select_hyperslab((start, *[0] * (len(shape) - 1)), part)
            dataset.read(h5s.create_simple(part), chosen, elements, mtype=h5t.PYTHON_OBJECT)
        else:
            dataset.read(h5s.ALL, h5s.ALL, elements, mtype=h5t.PYTHON_OBJECT)
        yield [text or b"" for text in elements.ravel().tolist()]
