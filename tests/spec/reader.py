"""A reader of archives written from ``spec/v1/format.md`` alone: no numpy, nothing of `archive`.

Ids in brackets are the text's; `SpecError.args[0]` is the name of the error in its section 3.
"""

import json
import math
import re
import struct
from bisect import bisect_left
from collections import namedtuple
from itertools import pairwise

import xxhash

from tests.spec.decode import DECODE, LETTERS, descr, distinct, element_size, npy_header

FOOTER, HEADER = struct.Struct("<8s4I6Q48s16s16s80s16s8s"), struct.Struct("<8s2I8Q16s")
RECORD, TYPE = struct.Struct("<QIIQQ"), struct.Struct("<4Q4IQII")
SECTIONS = """offset Q nbytes Q key_end Q dims_end Q segment_at Q name_hash Q dims Q digests 16s record I
type I alias_of I flags I name_row I records 32s types 64s pool c json c"""
MAGIC, END, INDEX, HDF5 = b"\x93FEDARC\n", b"\nFEDARC\x93", b"\x93FEDIDX\n", b"\x89HDF\r\n\x1a\n"
Kind = namedtuple("Kind", "dtype stype description header mode itemsize")
Row = namedtuple("Row", "record key shape fortran offset nbytes digests segment_at kind alias")
digest, key_hash = xxhash.xxh3_128_digest, xxhash.xxh3_64_intdigest


class SpecError(Exception):
    pass


def require(rule, *holds, kind="Hostile"):
    if not all(holds):
        raise SpecError(kind, rule)


class SpecReader:
    def __init__(self, file):
        self.file, size, last = file, len(file), bytes(file[-256:])
        marks = (last[:8] == MAGIC) + (last[-8:] == END)
        cut = file[:8] == HDF5 and int.from_bytes(file[28:36], "little") > size
        require("[FOOTER-1]", marks > 0, kind="Truncated" if cut else "NotAnArchive")
        require("[FOOTER-1]", marks == 2, digest(last[:232]) == last[232:248], kind="Damaged")
        _, major, _, *fixed, total, data_at, meta_at, meta, at, length = FOOTER.unpack(last)[:11]
        superblock, meta_digest, index_digest, zeros = FOOTER.unpack(last)[11:15]
        require("[VERSION-2]", major == 1, kind="Version")
        require("[FOOTER-2]", total == size, kind="Truncated")
        require("[FOOTER-3]", fixed == [256, 0], data_at == 4096, not any(zeros))
        require("[FOOTER-4]", meta_at >= 4096, meta_at % 64 == meta % 64 == 0, meta_at + meta == at)
        require("[FOOTER-4]", length >= 96, at + length + 256 == size)
        require("[FOOTER-5]", superblock[:9] == HDF5 + b"\2")
        require("[FOOTER-5]", superblock == file[:48], kind="Damaged")
        require("[FOOTER-6] [FOOTER-7]", digest(file[meta_at:at]) == meta_digest, kind="Damaged")
        require("[FOOTER-6] [FOOTER-7]", digest(file[at : at + length]) == index_digest, kind="Damaged")
        try:
            self.read_sections(bytes(file[at : at + length]))
            self.read_rows(meta_at)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SpecError("Hostile", "[DTYPE-3] [INDEX-17] [INDEX-18]") from error

    def read_sections(self, index):
        magic, version, size, self.segment, *counts, zeros = HEADER.unpack_from(index)
        require("[INDEX-1]", version == 1, kind="Version")
        require("[INDEX-1]", magic == INDEX, size == 96, not any(zeros))
        require("[INDEX-2]", self.segment % 64 == 0, 64 <= self.segment <= 1 << 30)
        require("[INDEX-4]", counts[2] < 0xFFFFFFFF, counts[0] <= 1 << 24)
        counted = dict(zip("records types arrays dims digests pool json".split(), counts, strict=True))  # noqa: SIM905
        at, self.columns = 96, {}
        for name, code in re.findall(r"(\w+) (\w+)", SECTIONS):
            end = at + struct.calcsize(code) * counted.get(name, counts[2])
            part, at = index[at:end], end + -end % 8
            require("[INDEX-3] [INDEX-5]", at <= len(index), not any(index[end:at]))
            self.columns[name] = part if code == "c" else [x for (x,) in struct.iter_unpack(f"<{code}", part)]
        require("[INDEX-3]", at == len(index))
        self.document = json.loads(self.columns["json"].decode(), object_pairs_hook=distinct)
        texts = [self.document[name] for name in ("container", "created", "writer")]
        require("[INDEX-18]", all(isinstance(text, str) for text in texts))
        require("[VERSION-4]", texts[0] in ("recordset", "recorddict"))

    def pool(self, at, length):
        require("[INDEX-17]", at + length <= len(self.columns["pool"]))
        return self.columns["pool"][at : at + length]

    def read_rows(self, meta_at):
        columns, self.rows, self.records, kinds = self.columns, [], [], []
        tables = [RECORD.unpack(record) for record in columns["records"]]
        spans = [(at, at + length) for at, length, *_ in tables if length]
        for at, length, kind, _, zero in tables:
            require("[INDEX-15]", kind < 3, zero == 0)
            self.records.append((kind, self.pool(at, length).decode()))
        scope = slice(1 if self.document["container"] == "recorddict" else 0, 2)
        require("[INDEX-11]", len({record[scope] for record in self.records}) == len(tables))
        for row in columns["types"]:
            *places, itemsize, mode, zero = TYPE.unpack(row)
            spans += [(at, at + n) for at, n in zip(places[:4], places[4:], strict=True) if n]
            strings = [self.pool(*place) for place in zip(places[:4], places[4:], strict=True)]
            kind = Kind(*map(bytes.decode, strings[:3]), strings[3], mode, itemsize)
            size = element_size(kind.description) if mode < 2 else 1
            require("[INDEX-15]", mode < 3, zero == 0)
            require("[INDEX-16]", itemsize == size if mode != 1 else 1 <= itemsize <= size <= 256 * itemsize)
            require("[INDEX-16]", mode != 1 or kind.description[1] == "U", mode != 2 or not strings[3])
            kinds.append(kind)
        spans = sorted(set(spans))
        require("[INDEX-21]", *(one[1] <= two[0] for one, two in pairwise(spans)))
        key, axis, owned, places, counts = 0, 0, 0, [(0, 48)], [0] * len(tables)
        names = "record type key_end dims_end flags offset nbytes segment_at alias_of"
        for row in zip(*map(columns.get, names.split()), strict=True):
            record, number, key_end, dims_end, flags, offset, nbytes, first, alias = row
            require("[INDEX-7]", record < len(tables), number < len(kinds), flags < 2)
            require("[INDEX-6]", key <= key_end, axis <= dims_end <= min(axis + 64, len(columns["dims"])))
            kind, shape = kinds[number], tuple(columns["dims"][axis:dims_end])
            count = -(-nbytes // self.segment)
            require("[INDEX-8]", max(kind.itemsize, 1) * math.prod(n or 1 for n in shape) <= 1 << 62)
            require("[INDEX-8]", kind.mode == 2 or math.prod(shape) * kind.itemsize == nbytes)
            digests, name = columns["digests"][first : first + count], self.pool(key, key_end - key)
            self.rows.append(Row(record, name, shape, flags, offset, nbytes, digests, first, kind, alias))
            require("[LAYOUT-7] [LAYOUT-2]", nbytes or not offset, offset % 64 == 0)
            if alias == 0xFFFFFFFF:
                require("[INDEX-12]", first == owned)
                require("[LAYOUT-1]", not nbytes or offset >= max(places[-1][1], 4096))
                owned, places = owned + count, places + [(offset, offset + nbytes)] * (nbytes > 0)
            else:
                require("[TIE-1]", alias < len(self.rows) - 1 and self.rows[alias].alias == 0xFFFFFFFF)
                require("[TIE-2]", self.rows[alias][2:9] == self.rows[-1][2:9])
            key, axis, counts[record] = key_end, dims_end, counts[record] + 1
        require("[LAYOUT-1]", places[-1][1] <= meta_at)
        self.gaps = [(end, at) for (_, end), (at, _) in zip(places, [*places[1:], (meta_at, 0)], strict=True)]
        require("[INDEX-12] [INDEX-6]", owned == len(columns["digests"]), axis == len(columns["dims"]))
        require("[INDEX-13]", counts == [record[3] for record in tables])
        require("[INDEX-11]", len({row[:2] for row in self.rows}) == len(self.rows))
        require("[INDEX-10]", sorted(columns["name_row"]) == list(range(len(self.rows))))
        require("[INDEX-10]", sorted(columns["name_hash"]) == columns["name_hash"])

    def find(self, record, key):
        hashed = key_hash(key.encode())
        for at in range(bisect_left(self.columns["name_hash"], hashed), len(self.rows)):
            row = self.rows[self.columns["name_row"][at]]
            if (row.key, self.records[row.record]) == (key.encode(), (0, record)):
                return row
            if self.columns["name_hash"][at] != hashed:
                break
        raise KeyError((record, key))

    def stored(self, row):
        data = bytes(self.file[row.offset : row.offset + row.nbytes])
        found = [digest(data[at : at + self.segment]) for at in range(0, len(data), self.segment)]
        require("[READ-2]", found == row.digests, kind="Digest")
        return data

    def data(self, row):
        stored, (_, _, description, header, mode, size) = self.stored(row), row.kind
        if mode == 2:
            return stored
        if mode == 1:
            codec, n = {"<": "utf-32-le", ">": "utf-32-be"}[description[0]], int(description[2:])
            raw = [stored[at : at + size].rstrip(b"\0") for at in range(0, len(stored), size)]
            texts = [element.decode(errors="ignore") for element in raw]
            require("[DTYPE-6]", [element.encode() for element in texts] == raw, max(map(len, texts)) <= n)
            size, stored = 4 * n, b"".join(element.encode(codec).ljust(4 * n, b"\0") for element in texts)
        if row.fortran:
            stride, order = math.prod(row.shape), [0]
            for length in row.shape:
                stride //= length or 1
                order = [at + i * stride for i in range(length) for at in order]
            stored = b"".join(stored[at * size : (at + 1) * size] for at in order)
        return (header or npy_header(descr(description), row.shape, row.fortran == 1)) + stored

    def values(self):
        found = {}
        try:
            for number, entries in self.document.get("values", []):
                require("[INDEX-19]", number not in found, self.records[number][0] > 0)
                found[number] = {key: self.value(number, key, *value) for key, value in entries}
                require("[INDEX-19]", len(found[number]) == len(entries))
        except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
            raise SpecError("Hostile", "[VALUE-1] to [VALUE-14]") from error
        return found

    def value(self, record, key, name, payload):
        single = name if name in DECODE else name[:-1] if name.endswith("s") else ""
        held = ("int", "float") if self.records[record][0] == 1 else DECODE
        require("[VALUE-11]", name == "list" or single in held)
        if isinstance(payload, dict):
            row = self.rows[payload["row"]]
            require("[INDEX-20]", (row.record, row.key) == (record, key.encode()))
            stored, letter = self.stored(row), LETTERS.get(row.kind.description, "B")
            require("[VALUE-14]", row.kind.mode == 2, row.shape == (len(stored) / struct.calcsize(letter),))
            if name in ("str", "bytes"):
                return stored.decode() if name == "str" else stored
            if letter != "B":
                return list(struct.unpack(f"<{row.shape[0]}{letter}", stored))
            found, payload = json.loads(stored.decode())
            require("[VALUE-13]", found == name)
        return DECODE[single](payload) if name == single else [DECODE[single](item) for item in payload]

    def verify(self):
        require("[LAYOUT-5]", not any(any(self.file[at:end]) for at, end in self.gaps), kind="Damaged")
        stored = [self.stored(row) for row in self.rows]
        hashes = [key_hash(self.rows[number].key) for number in self.columns["name_row"]]
        require("[VERIFY-1]", hashes == self.columns["name_hash"])
        return stored
