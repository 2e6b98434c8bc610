"""What the fuzzer runs: bytes become a hostile archive whose digests hold, and all of it is read.

The first byte of an input chooses what the rest is, so that small changes go deep:

====  =====================================================================
0     a whole file from byte 4096 on; markers, sizes, digests are put right
1     an index, behind the data of a sample
2     the JSON of an index
3     an element type with its .npy header, axes and elements
4     ``Array.data`` of an opaque array
5     the bytes of a value that is a dataset, or of a journal that is recovered
====  =====================================================================

The second byte chooses among samples and ways of access. Only ArchiveError may come out.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import xxhash

import archive
from archive.descriptions import parse_description
from archive.errors import ArchiveError
from archive.format.constants import (
    DATA_AT,
    END_MAGIC,
    FOOTER_BYTES,
    FOOTER_MAGIC,
    INDEX_HEADER_BYTES,
)
from archive.format.digests import digest
from archive.format.index import HEADER, read_index
from archive.format.layout import segment_bytes
from archive.hdf5.checksum import lookup3
from archive.types import Access, Mode

CREATED = "2026-01-02T03:04:05Z"
MODES = 6
MAX_SECONDS, MAX_RESIDENT_KIB = 2.0, 64 << 10
NDArray = np.ndarray[Any, Any]


def judge(data: bytes) -> str:
    """Return the name of the error that an input ended with, "" where it was read.

    Raises
    ------
    AssertionError
        It took too long or too much memory.
    """
    if len(data) < 2:
        return ""
    begun, resident = time.process_time(), _resident()
    try:
        with _stored(craft(data)) as path:
            read_everything(path, data[1])
    except ArchiveError as error:
        outcome = type(error).__name__ + str(error)[:0]
    else:
        outcome = ""
    seconds, grown = time.process_time() - begun, _resident() - resident
    assert seconds < MAX_SECONDS, f"{seconds:.1f} s"
    assert grown < MAX_RESIDENT_KIB, f"{grown} KiB"
    return outcome


def craft(data: bytes) -> bytes:
    """Return the file that an input stands for."""
    mode, variant, rest = data[0] % MODES, data[1], data[2:]
    if mode == 0:
        return fix_file(bytes(SUPERBLOCK) + bytes(DATA_AT - len(SUPERBLOCK)) + rest)
    if mode == 1:
        return _assembled(SAMPLES[variant % len(SAMPLES)], rest)
    if mode == 2:
        return _assembled(SAMPLES[variant % len(SAMPLES)], document=rest)
    if mode == 3:
        return _element_file(rest)
    if mode == 4:
        return _data_file(rest, variant)
    return _value_file(rest, variant)


def read_everything(path: str, variant: int) -> None:
    """Do with an archive all that a program can."""
    access: Access = "pread" if variant & 0x40 else "mmap"
    mode: Mode = "c" if variant & 0x80 else "r"
    with archive.open(path, access=access, mode=mode) as handle:
        info = handle.info
        assert len(repr(handle)) < 4_000
        assert len(handle._repr_html_()) < 100_000
        for step in (
            lambda: handle.attributes,
            lambda: handle.records,
            handle.verify,
            lambda: dict(handle.drain()),
        ):
            # each on its own: what one refuses is no reason to spare the others
            with contextlib.suppress(ArchiveError):
                step()
        if info.container == "context":
            with contextlib.suppress(ArchiveError):
                repr(handle.context)
        for pair in handle:
            with contextlib.suppress(ArchiveError):
                _use(handle[pair])
    records = archive.load(path)
    for record in records.values() if isinstance(records, archive.RecordDict) else ():
        repr(record)
    archive.verify(path)


def _use(array: archive.Array) -> None:
    repr(array)
    _ = array.nbytes, array.payload.digest, array.payload.spec  # type: ignore[attr-defined]
    data = array.data
    assert len(data) == array.payload.data_nbytes
    if array.stype != "numpy.ndarray":
        return
    # an opaque array's data is whatever was given, and so are the errors of reading it
    opaque = (ValueError, EOFError) if array.payload.type.mode == 2 else ()  # type: ignore[attr-defined]
    try:
        elements = array.numpy()
        copied = array.numpy(copy=True)
        if elements.nbytes:  # numpy widens elements of no bytes to turn them around: memory of its own
            assert elements.tobytes() == copied.tobytes()
        if elements.ndim and len(elements):
            _ = array[0], array[-1:], array[::2]
        _ = array[...]
    except opaque as error:
        if isinstance(error, ArchiveError):
            raise


def fix_file(data: bytes) -> bytes:
    """Put markers, sizes and digests of a file right, as far as its footer and index can be followed."""
    made = bytearray(data + bytes(max(0, DATA_AT + 64 + INDEX_HEADER_BYTES + FOOTER_BYTES - len(data))))
    end = len(made) - FOOTER_BYTES
    footer = made[end:]
    made[28:36] = len(made).to_bytes(8, "little")
    made[36:44] = footer[40:48]  # the root group: anywhere in the metadata
    made[44:48] = lookup3(bytes(made[:44])).to_bytes(4, "little")
    footer[0:8], footer[248:256] = FOOTER_MAGIC, END_MAGIC
    footer[8:12], footer[16:20], footer[20:24] = (
        (1).to_bytes(4, "little"),
        (256).to_bytes(4, "little"),
        bytes(4),
    )
    footer[24:32] = len(made).to_bytes(8, "little")
    footer[32:40] = (1).to_bytes(8, "little")  # the algorithm of the digests, and what is reserved
    footer[88:136] = made[:48]
    meta_at, meta_bytes, index_at, index_bytes, values_at, values_bytes = struct.unpack("<6Q", footer[40:88])
    if DATA_AT <= index_at <= values_at <= end:
        footer[64:72] = (values_at - index_at).to_bytes(8, "little")
        footer[80:88] = (end - values_at).to_bytes(8, "little")
        index_bytes, values_bytes = values_at - index_at, end - values_at
        made[index_at:values_at] = fix_index(bytes(made[index_at:values_at]), made)
    for at, start, nbytes in (
        (136, meta_at, meta_bytes),
        (168, index_at, index_bytes),
        (200, values_at, values_bytes),
    ):
        footer[at + 16 : at + 32] = bytes(16)
        if start <= len(made) and nbytes <= len(made):
            footer[at : at + 16] = digest(bytes(made[start : start + nbytes]))
    footer[232:248] = digest(bytes(footer[:232]))
    made[end:] = footer
    return bytes(made)


def fix_index(data: bytes, before: bytes | bytearray) -> bytes:
    """Put the digests of arrays right, as far as the sections can be followed."""
    if len(data) < INDEX_HEADER_BYTES:
        return data
    made = np.frombuffer(data, np.uint8).copy()
    try:
        index = read_index(made)
    except ArchiveError:
        return data
    for row in range(min(index.arrays, 64)):
        offset, nbytes, at = (int(c[row]) for c in (index.offset, index.stored_nbytes, index.segment_at))
        size = segment_bytes(nbytes)
        for number in range(min(-(-nbytes // size), 64, max(len(index.digests) - at, 0))):
            part = before[offset + number * size : offset + min((number + 1) * size, nbytes)]
            index.digests[at + number] = np.void(digest(bytes(part)))
    return made.tobytes()


def _assembled(
    sample: bytes, index: bytes | None = None, data: bytes | None = None, document: bytes | None = None
) -> bytes:
    """Return a sample with another index, other data and another document where they are given."""
    meta_at, meta_bytes, index_at, _ = struct.unpack("<4Q", sample[-FOOTER_BYTES + 40 : -FOOTER_BYTES + 72])
    before = sample[:index_at]
    footer = bytearray(sample[-FOOTER_BYTES:])
    if data is not None:
        data += bytes(-len(data) % 64)
        before = sample[:DATA_AT] + data + sample[meta_at:index_at]
        index_at = DATA_AT + len(data) + meta_bytes
        footer[40:64] = struct.pack("<3Q", DATA_AT + len(data), meta_bytes, index_at)
    index = index_of(sample) if index is None else index
    padded = index + bytes(-len(index) % 8) + bytes(max(0, INDEX_HEADER_BYTES - len(index)))
    footer[72:80] = (index_at + len(padded)).to_bytes(8, "little")
    document = json_of(sample) if document is None else document
    return fix_file(before + padded + document + footer)


def json_of(sample: bytes) -> bytes:
    """Return the document of an archive."""
    values_at, values_bytes = struct.unpack("<2Q", sample[-FOOTER_BYTES + 72 : -FOOTER_BYTES + 88])
    return sample[values_at : values_at + values_bytes]


def index_of(sample: bytes) -> bytes:
    """Return the index of an archive."""
    index_at, index_bytes = struct.unpack("<2Q", sample[-FOOTER_BYTES + 56 : -FOOTER_BYTES + 72])
    return sample[index_at : index_at + index_bytes]


def _one_array(
    dtype: bytes, stype: bytes, description: bytes, header: bytes, mode: int, itemsize: int,
    axes: tuple[int, ...], data: bytes, nbytes: int, flags: int = 0, kind: int = 0, values: Any = (),
) -> bytes:  # fmt: skip
    """Return an archive of one array or dataset, nothing of it checked."""
    strings = [b"model", dtype, stype, description, header]
    places, pool = [], b"w"
    for text in strings:
        places.append((len(pool), len(text)))
        pool += text
    record = struct.pack("<QIIQQ", *places[0], kind, 1, 0)
    row = struct.pack("<4Q4IQII", *(a for a, _ in places[1:]), *(n for _, n in places[1:]), itemsize, mode, 0)
    document = json.dumps(
        {"container": "recordset", "created": CREATED, "writer": "", "values": list(values)}
    )
    segments = -(-nbytes // segment_bytes(nbytes)) if nbytes < 1 << 30 else 1
    header_row = np.zeros(1, HEADER)
    for name, value in {
        "magic": b"\x93FEDIDX\n", "version": 1, "header_bytes": INDEX_HEADER_BYTES,
        "records": 1, "types": 1, "arrays": 1, "dims": len(axes), "segments": segments,
        "pool_bytes": len(pool),
    }.items():  # fmt: skip
        header_row[name] = value
    parts = [
        struct.pack("<Q", DATA_AT if nbytes else 0), struct.pack("<Q", nbytes), struct.pack("<Q", 1),
        struct.pack("<Q", len(axes)), bytes(8), struct.pack("<Q", xxhash.xxh3_64_intdigest(b"w")),
        struct.pack(f"<{len(axes)}Q", *axes), bytes(16 * segments), bytes(8), bytes(8),
        b"\xff\xff\xff\xff", struct.pack("<I", flags), bytes(4), record, row, pool,
    ]  # fmt: skip
    parts = [part + bytes(-len(part) % 8) for part in parts]
    index = header_row.tobytes() + b"".join(parts)
    return _assembled(SAMPLES[0], index, data, document.encode())


def _element_file(rest: bytes) -> bytes:
    """Parts, apart by 0xff: description, dtype, .npy header, axes (one byte each), elements."""
    description, dtype, header, axes, elements = (rest.split(b"\xff", 4) + [b""] * 5)[:5]
    shape = tuple(axis if axis < 250 else 1 << (8 * (axis - 249)) for axis in axes[:70])
    mode, itemsize = 0, 0
    with contextlib.suppress(ArchiveError, ValueError):
        found = parse_description(description.decode())
        itemsize = found.itemsize
        if found.kind == "U" and elements[:1] > b"\x7f":
            mode, itemsize = 1, max(1, found.itemsize // 4)
    nbytes = itemsize
    for axis in shape:
        nbytes *= axis
    if nbytes < 1 << 16:
        elements = (elements or b"\0") * (nbytes // max(len(elements), 1) + 1)
        elements = elements[:nbytes]
    flags = int(len(dtype) % 3 == 2)
    return _one_array(
        dtype, b"numpy.ndarray", description, header, mode, itemsize, shape, elements,
        nbytes % (1 << 64), flags,
    )  # fmt: skip


def _data_file(rest: bytes, variant: int) -> bytes:
    dtypes = (b"float32", b"bfloat16", b"O", b"<U3")
    return _one_array(
        dtypes[variant % 4], b"numpy.ndarray", b"", b"", 2, 1, (2,), rest, len(rest)
    )  # fmt: skip


def _value_file(rest: bytes, variant: int) -> bytes:
    types = ("bytes", "str", "ints", "floats", "bools", "strs", "bytess", "list", "int")
    name = types[variant % len(types)]
    description, size = ((b"|u1", 1), (b"<i8", 8), (b"<f8", 8), (b"|b1", 1))[variant // 9 % 4]
    rest = rest[: len(rest) // size * size]
    kind = 1 if variant & 0x20 else 2
    values = [["metrics" if kind == 1 else "configs", "model", [["w", [name, {"row": 0}]]]]]
    return _one_array(
        name.encode(), b"", description, b"", 2, 1, (len(rest) // size,), rest, len(rest), 0, kind, values
    )  # fmt: skip


@contextlib.contextmanager
def _stored(data: bytes) -> Iterator[str]:
    """Have bytes as a file in memory: a new one each time, so that no map outlives what it shows."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("hostile", os.MFD_CLOEXEC)
        try:
            os.write(fd, data)
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file.name


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _samples() -> list[bytes]:
    """Return small archives, one of each container."""
    raw = archive.Array("float32", (2,), "raw.bytes", b"any bytes")
    arrays = archive.ArrayRecord(
        {
            "w": archive.Array(np.arange(6, dtype="f4").reshape(2, 3)),
            "text": archive.Array(np.array(["a", "\u00e9\u4e2d", ""])),
            "fortran": archive.Array(np.asfortranarray(np.arange(12.0).reshape(3, 4))),
            "fields": archive.Array(np.array([(1, 2.5)], [("a", "<i4"), ("b", "<f8")])),
            "empty": archive.Array(np.empty((0, 3))),
            "raw": raw,
            "tied": raw,
            "bf": archive.Array(np.arange(3).astype(ml_dtypes.bfloat16)),
        }
    )
    arrays.attributes["packer"] = "x"
    metrics = archive.MetricRecord({"loss": 0.5, "steps": [1, 2], "none": []})
    configs = archive.ConfigRecord({"s": "x", "b": b"\0", "on": True, "n": 1 << 60, "inf": [float("inf")]})
    recorddict = archive.RecordDict({"a": arrays, "m": metrics, "c": configs})
    recordset = archive.RecordSet({"a": archive.ArrayRecord(dict(arrays))}, {"m": metrics}, {"c": configs})
    context = archive.Context(1, 2, {"k": 1}, recorddict, {"lr": 0.1})
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.h5"
        for container in (recordset, recorddict, context):
            archive.save(container, path, created=CREATED, durable=False)
            found.append(path.read_bytes())
    return found


SAMPLES = _samples()
SUPERBLOCK = SAMPLES[0][:48]
