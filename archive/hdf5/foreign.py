"""Reads a foreign HDF5 file through h5py, guarded, and lists what is in it.

The only module that imports h5py. It runs as a process of its own, ``python -m archive.hdf5.foreign FILE_FD
SPOOL_FD``, because libhdf5 "is not designed to handle maliciously crafted files safely" (its own security
page): a crash, a loop or a bomb ends this process and not the caller's. The listing goes to stdout as one
JSON object, which `archive.engine.foreign.listing` reads; data that cannot be mapped in place is decoded into
the spool.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
from h5py import h5, h5a, h5d, h5f, h5g, h5o, h5p, h5s, h5t, h5z

from archive.dtypes import NDArray
from archive.errors import ArchiveError, DamagedError, HostileFileError, ValueRangeError
from archive.format.constants import FORMAT_NAME
from archive.format.values import decode_value, encode_value, validate_value
from archive.hdf5.guards import (
    MAX_ATTRIBUTE_BYTES,
    MAX_DATASET_ATTRIBUTES,
    MAX_DEPTH,
    MAX_GROUP_ATTRIBUTES,
    Budget,
    error_record,
    refuse,
    require_hard_link,
    require_known_filters,
    require_own_bytes,
    require_plain_name,
    require_plain_types,
)
from archive.hdf5.sandbox import Limits, Spool

__all__ = ["main"]

LIBRARY_ERRORS = (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError)
"""What h5py makes of libhdf5's errors."""
SLAB, SLAB_BYTES, MIN_SLAB = 65_536, 256 << 20, 256
"""Variable-length strings held in memory at once: fewer where each may be as long as a large file."""
DATASET_ATTRIBUTES = frozenset((b"stype", b"dtype", b"shape", b"key", b"order", b"encoding", b"npy_header"))
_BFLOAT16 = (15, 7, 8, 0, 7), 127
"""Bit fields and exponent bias of bfloat16, which h5py knows as no type of numpy's."""
_NONE = object()


class Walk:
    """The walk through one file, an open ``h5py.h5f.FileID``."""

    def __init__(self, file: Any, file_bytes: int, limits: Limits, spool: Spool) -> None:
        self.groups: list[list[Any]] = []
        self.datasets: list[list[Any]] = []
        self.path = "/"
        self._file = file
        self._budget = Budget(file_bytes)
        self._limits = limits
        self._spool = spool
        self._ours = False
        self._pending: list[tuple[list[Any], str, Any]] = []
        self._seen_groups: set[int] = set()
        self._seen_datasets: dict[int, int] = {}
        self._types: dict[bytes, tuple[Any, str, str, tuple[int, ...]]] = {}

    def listing(self) -> dict[str, Any]:
        """Return everything in the file, its bytes addressed."""
        if self._file.get_create_plist().get_userblock():
            raise refuse("a user block before the HDF5 data", "/", "h5repack it without")
        root = h5g.open(self._file, b"/")
        self._budget.add_objects(1, "/")
        self._group(root, h5o.get_info(root).addr, "", -1, "", 0)
        # only now, when all of the file was judged: a bomb at its end must not cost what comes before it
        self._limits.allow(self._budget.decoded_bytes)
        for entry, path, memory in self._pending:
            self.path = path
            dataset = h5o.open(self._file, path.encode())
            if memory is None:
                self._decode_strings(dataset, entry)
            else:
                self._decode(dataset, entry, memory)
        return {"groups": self.groups, "datasets": self.datasets}

    def _decode(self, dataset: Any, entry: list[Any], memory: Any) -> None:
        """Decode the elements of a dataset into the spool."""

        def fill(out: memoryview) -> None:
            # libhdf5 converts chunk by chunk straight into the map: no second copy of the dataset
            dataset.read(h5s.ALL, h5s.ALL, np.frombuffer(out, np.uint8), mtype=memory)

        entry[5] = self._spool.fill(entry[6], fill)

    def _group(self, group: Any, address: int, path: str, parent: int, name: str, depth: int) -> None:
        if address in self._seen_groups:
            raise refuse("a group that has two names, or holds itself", path)
        if depth > MAX_DEPTH:
            raise refuse(f"more than {MAX_DEPTH} groups inside one another", path, "flatten the file")
        self._seen_groups.add(address)
        number = len(self.groups)
        plist = group.get_create_plist()
        self.path = path or "/"
        values, skipped = self._values(group, plist.get_attr_creation_order())
        self.groups.append([parent, name, values, skipped])
        if parent < 0:
            self._ours = ["format", ["str", FORMAT_NAME]] in values
        self._budget.add_objects(group.get_num_objs(), self.path)
        links: list[tuple[bytes, int, int]] = []
        group.links.iterate(
            lambda link, info: links.append((link, info.type, info.u)),
            idx_type=_order(plist.get_link_creation_order()),
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
                self._seen_datasets[target] = len(self.datasets)
                self.datasets.append([number, name, -1, self._dataset(found, path)])
            else:
                self.datasets.append([number, name, first, []])
        # a committed datatype is neither, and holds nothing

    def _values(self, group: Any, creation_order: int) -> tuple[list[list[Any]], int]:
        """Return the attributes of a group that are legal values, and how many are not."""
        values: list[list[Any]] = []
        skipped = 0
        for name in self._attribute_names(group, MAX_GROUP_ATTRIBUTES, creation_order):
            value = self._attribute(group, name, ours=self._ours)
            try:
                key = name.decode()
                kind = validate_value(value, metric=False, key=key)
                values.append([key, encode_value(value, kind)])
            except (TypeError, ValueRangeError, UnicodeDecodeError):
                skipped += 1
        return values, skipped

    def _attribute_names(self, owner: Any, limit: int, creation_order: int) -> list[bytes]:
        count = h5a.get_num_attrs(owner)
        if count > limit:
            raise refuse(f"{count:,} attributes", self.path, f"keep at most {limit:,}")
        names: list[bytes] = []
        h5a.iterate(
            owner, lambda name, *_: names.append(name), index_type=_order(creation_order), order=h5.ITER_INC
        )
        return names

    def _attribute(self, owner: Any, name: bytes, *, ours: bool = False) -> Any:
        """Return the value of an attribute, or something that is none.

        ``ours``: it may be one that an archive's writer had no HDF5 type for ([VALUE-9]).
        """
        attribute = h5a.open(owner, name)
        kind, space = attribute.get_type(), attribute.get_space()
        empty = space.get_simple_extent_type() == h5s.NULL
        shape = () if empty else space.get_simple_extent_dims()
        nbytes = 0 if empty else space.get_simple_extent_npoints() * kind.get_size()
        self._budget.add_attribute(len(name) + nbytes, self.path)
        if len(shape) > 1 or not _is_flat(kind):
            return _NONE
        if kind.get_class() == h5t.OPAQUE:
            return _bytes(attribute, kind, empty, shape)
        if empty:
            return [] if ours and kind.get_class() == h5t.FLOAT else _NONE
        elements = np.empty(shape, kind.dtype)
        if elements.size:
            # strings may share their bytes: nothing says how long they are before they are read
            self._limits.within(
                4 * MAX_ATTRIBUTE_BYTES,
                lambda: attribute.read(elements, mtype=h5t.py_create(elements.dtype)),
            )
        value: Any = elements.tolist()
        if ours and shape and elements.dtype == np.uint8:
            return _json_value(elements)
        if kind.get_class() != h5t.STRING:
            return value if elements.dtype.kind in "biuf" else _NONE
        texts = value if shape else [value]
        self._budget.add_attribute(sum(map(len, texts)), self.path)
        if kind.is_variable_str() or kind.get_cset() == h5t.CSET_UTF8:
            try:
                texts = [text.decode() for text in texts]
            except UnicodeDecodeError:
                return _NONE
        return texts if shape else texts[0]

    def _dataset(self, dataset: Any, path: str) -> list[Any]:
        """Return dtype, mode, itemsize, shape, source, offset, nbytes and attributes of a dataset."""
        plist = dataset.get_create_plist()
        layout = plist.get_layout()
        require_own_bytes(layout, plist.get_external_count(), path)
        codes = [plist.get_filter(at)[0] for at in range(plist.get_nfilters())]
        require_known_filters(codes, [h5z.filter_avail(code) for code in codes], path)
        space = dataset.get_space()
        extent = space.get_simple_extent_type()
        attributes = self._dataset_attributes(dataset)
        if extent == h5s.NULL:
            return ["", "null", 0, [], 0, 0, 0, attributes]
        shape = space.get_simple_extent_dims()
        kind = dataset.get_type()
        if kind.get_class() == h5t.STRING and kind.is_variable_str():
            count = space.get_simple_extent_npoints()
            self._budget.add_decoded(count * kind.get_size(), dataset.get_storage_size(), path)
            entry = ["<U1", "text", 1, list(shape), 0, 0, 0, attributes]
            if count:
                self._pending.append((entry, path, None))
            return entry
        memory, name, mode, inner = self._type(kind, path, raw=self._ours and "dtype" in attributes)
        count = space.get_simple_extent_npoints()
        nbytes = count * memory.get_size()
        itemsize = memory.get_size()
        for axis in inner:
            itemsize //= axis
        head = [name, mode, itemsize, [*shape, *inner]]
        if not nbytes:
            return [*head, 0, 0, 0, attributes]
        stored, offset = dataset.get_storage_size(), dataset.get_offset()
        in_place = layout == h5d.CONTIGUOUS and not codes and memory.equal(kind) and stored == nbytes
        if in_place and offset is not None and 0 < offset <= self._budget.file_bytes - nbytes:
            return [*head, 0, offset, nbytes, attributes]
        self._budget.add_decoded(nbytes, stored, path)
        entry = [*head, 1, 0, nbytes, attributes]
        self._pending.append((entry, path, memory))
        return entry

    def _dataset_attributes(self, dataset: Any) -> dict[str, Any]:
        attributes = {}
        for name in self._attribute_names(dataset, MAX_DATASET_ATTRIBUTES, 0):
            if name in DATASET_ATTRIBUTES:
                value = self._attribute(dataset, name)
                if isinstance(value, str) or (isinstance(value, list) and all(type(v) is int for v in value)):
                    attributes[name.decode()] = value
        return attributes

    def _type(self, kind: Any, path: str, *, raw: bool) -> tuple[Any, str, str, tuple[int, ...]]:
        """Return the type to read as, dtype text, mode and inner axes of an element type.

        ``raw``: the bytes are wanted as they are stored, because attributes say what they mean.
        """
        encoded = bytes(kind.encode()) + bytes([raw])
        found = self._types.get(encoded)
        if found is None:
            require_plain_types(kind, path)
            memory, dtype, name, mode = _read_type(kind, path, raw=raw)
            inner = dtype.shape if mode == "elements" else ()
            found = self._types[encoded] = memory, name, mode, inner
        return found

    def _decode_strings(self, dataset: Any, entry: list[Any]) -> None:
        """Decode variable-length strings as fixed-width UTF-8, as wide as the longest."""
        shape = dataset.get_space().get_simple_extent_dims()
        count = dataset.get_space().get_simple_extent_npoints()
        width = characters = 1
        stored = 0
        slabs = max(MIN_SLAB, min(SLAB, SLAB_BYTES // self._budget.file_bytes))
        for slab in _slabs(dataset, shape, count, slabs):
            stored += sum(map(len, slab))
            if stored > max(self._budget.file_bytes, MAX_ATTRIBUTE_BYTES):
                raise refuse("strings that share their bytes: there are more than the file has", self.path)
            try:
                characters = max(characters, *(len(text.decode()) for text in slab))
            except UnicodeDecodeError as error:
                raise refuse("a string that is not UTF-8", self.path) from error
            width = max(width, *map(len, slab))
        nbytes = count * width
        self._budget.add_decoded(nbytes, nbytes, self.path)
        self._limits.allow(self._budget.decoded_bytes)
        offset = None
        for slab in _slabs(dataset, shape, count, slabs):
            # one after the other without a gap: a slab starts where the last one ended
            at = self._spool.append(np.array(slab, f"S{width}").tobytes(), aligned=offset is None)
            offset = at if offset is None else offset
        entry[:7] = [f"<U{characters}", "text", width, list(shape), 1, offset, nbytes]


def _order(creation_order: int) -> int:
    return int(h5.INDEX_CRT_ORDER if creation_order & h5p.CRT_ORDER_TRACKED else h5.INDEX_NAME)


def _is_flat(kind: Any) -> bool:
    """Tell whether a type is a number, an enumeration, text or opaque: what a value can be."""
    return kind.get_class() in (h5t.INTEGER, h5t.FLOAT, h5t.ENUM, h5t.STRING, h5t.OPAQUE)


def _bytes(attribute: Any, kind: Any, empty: bool, shape: tuple[int, ...]) -> Any:
    """Return the bytes behind an opaque attribute without a tag."""
    if shape or kind.get_tag():
        return _NONE
    if empty:
        return b""
    data = np.empty((), f"V{kind.get_size()}")
    attribute.read(data, mtype=kind)
    return data.tobytes()


def _json_value(elements: NDArray) -> Any:
    """Return the value behind bytes of JSON, or the numbers that they are."""
    try:
        return decode_value(json.loads(elements.tobytes()))
    except (ValueError, RecursionError):
        return elements.tolist()


def _read_type(kind: Any, path: str, *, raw: bool) -> tuple[Any, np.dtype[Any], str, str]:
    """Return the type to read as, the numpy type that this gives, its text, and the mode."""
    found, size = kind.get_class(), kind.get_size()
    if found == h5t.STRING:
        memory = kind.copy()
        if not raw:
            memory.set_strpad(h5t.STR_NULLPAD)
        text = kind.get_cset() == h5t.CSET_UTF8
        name, mode = (f"<U{size}", "text") if text else (f"|S{size}", "elements")
        return memory, np.dtype(f"S{size}"), name, mode
    if found == h5t.OPAQUE:
        return kind, np.dtype(f"V{size}"), f"|V{size}", "elements"
    if found == h5t.FLOAT and _is_bfloat16(kind):
        return kind, np.dtype("V2"), "bfloat16", "elements"
    try:
        dtype = kind.dtype
    except TypeError as error:
        if raw:
            return kind, np.dtype(f"V{size}"), f"|V{size}", "elements"
        raise refuse(f"elements that numpy has no type for ({error})", path, "convert or drop it") from error
    if dtype.hasobject:
        raise refuse("elements that refer to somewhere else", path)
    memory = kind if raw or _same_bytes(kind, dtype) else h5t.py_create(dtype)
    name = str(dtype.base) if dtype.names is None else str(dtype)
    return memory, dtype, name, "elements"


def _is_bfloat16(kind: Any) -> bool:
    fields = kind.get_fields(), kind.get_ebias(), kind.get_size(), kind.get_order()
    return fields == (*_BFLOAT16, 2, h5t.ORDER_LE)


def _same_bytes(kind: Any, dtype: np.dtype[Any]) -> bool:
    """Tell whether the stored bytes are already those of the numpy type."""
    if kind.get_class() == h5t.ENUM:
        # also bool: an enumeration over int8
        kind, dtype = kind.get_super(), np.dtype("i1") if dtype.kind == "b" else dtype
    return any(kind.equal(h5t.py_create(dtype, logical=logical)) for logical in (False, True))


def _slabs(dataset: Any, shape: tuple[int, ...], count: int, most: int) -> Any:
    """Yield lists of the strings of a dataset, in C order; about ``most`` at once."""
    if not count:
        return
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


def main(arguments: list[str]) -> int:
    """List one file; the exit status is 0 wherever an answer was written.

    Parameters
    ----------
    arguments : list of str
        Descriptors of the file (reading) and of the spool (reading and writing).
    """
    file_fd, spool_fd = map(int, arguments)
    file_bytes = os.fstat(file_fd).st_size
    limits = Limits(file_bytes)
    spool = Spool(spool_fd, limits)
    walk = None
    answer: dict[str, Any]
    try:
        access = h5p.create(h5p.FILE_ACCESS)
        file = h5f.open(f"/dev/fd/{file_fd}".encode(), h5f.ACC_RDONLY, fapl=access)
        limits.close_files(max(spool_fd, file_fd, file.get_vfd_handle()))
        walk = Walk(file, file_bytes, limits, spool)
        answer = walk.listing()
    except ArchiveError as error:
        answer = {"error": error_record(error)}
    except MemoryError:
        answer = {"error": error_record(HostileFileError("needs more memory than it is given"))}
    except LIBRARY_ERRORS as error:
        problem = f"libhdf5: {str(error)[:300] or type(error).__name__}"
        answer = {"error": error_record(DamagedError(problem))}
    if "error" in answer and walk is not None:
        answer["error"]["key"] = answer["error"]["key"] or walk.path[:500]
    sys.stdout.buffer.write(json.dumps(answer, separators=(",", ":")).encode())
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    # without interpreter shutdown: closing thousands of HDF5 objects of a broken file is not worth a crash
    code = main(sys.argv[1:])
    os._exit(code)
