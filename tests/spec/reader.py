"""A reader of archives written from the text of ``spec/v1`` alone: no numpy, nothing of `archive`.

Ids in brackets are the text's; `SpecError.args[0]` is the name of the error in its section 3.
"""

import ast
import base64
import json
import math
import re
import struct
from collections import namedtuple
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from xxhash import xxh3_64_intdigest
from xxhash import xxh3_128_digest as digest

FOOTER, HEADER = struct.Struct("<8s4IQ2I6Q48s32s32s32s16s8s"), struct.Struct("<8s2I6Q32s")
RECORD, TYPE = struct.Struct("<QIIQQ"), struct.Struct("<4Q4IQII")
SECTIONS = """offset Q nbytes Q key_end Q dims_end Q segment_at Q name_hash Q dims Q digests 16s record I
type I alias_of I flags I name_row I records 32s types 64s pool c"""
PER_ROW = ("record", "type", "key_end", "dims_end", "flags", "offset", "nbytes", "segment_at", "alias_of")
MAGIC, END, INDEX, HDF5 = b"\x93FEDARC\n", b"\nFEDARC\x93", b"\x93FEDIDX\n", b"\x89HDF\r\n\x1a\n\2\x08\x08"
Kind = namedtuple("Kind", "dtype stype description header mode itemsize")
Row = namedtuple("Row", "record key shape fortran offset nbytes digests segment_at kind alias")
NAMES = """float4_e2m1fn float6_e2m3fn float6_e3m2fn float8_e3m4 float8_e4m3 float8_e4m3b11fnuz float8_e4m3fn
float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu int1 int2 int4 uint1 uint2 uint4"""
LEARNED = dict.fromkeys(NAMES.split(), 1) | {"bfloat16": 2}
KINDS = ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
SIZES = {order + kind: int(kind[1:]) for order in "<>" for kind in KINDS}
SIZES |= {"|b1": 1, "|i1": 1, "|u1": 1, "<f16": 16, "<c32": 32}
COUNTED = re.compile(
    r"(?:\|[SV]|[<>]U)(0|[1-9]\d*)|[<>][Mm]8(?:\[([2-9]|[1-9]\d+)?(?:[YMWDhms]|[munpfa]s)\])?"
)
ESCAPE = r"x(?:[01][0-9a-f]|7f|[89a-f][0-9a-f])|u(?!00)[0-9a-f]{4}|U(?:000[1-9a-f]|0010)[0-9a-f]{4}"
TEXT = re.compile(rf"'(?:[ -&(-\[\]-~]|\\(?:[\\']|{ESCAPE}))*'")
SPELLED = {"bool": "true|false", "int": r'-?\d+|"-?[1-9]\d{,19}"', "str": '".*"', "bytes": '".*"'}
SPELLED["float"] = r'-?\d.*|"(-?inf|nan|[0-9a-f]{16})"'
TYPES = {"list", *SPELLED, *(single + "s" for single in SPELLED)}
STORED = {("bools", "|b1"): "?", ("ints", "<i8"): "q", ("ints", "<u8"): "Q", ("floats", "<f8"): "d"}
STORED |= {(name, "|u1"): "B" for name in TYPES - {"bools", "floats"}}
MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    SyntaxError,
    TypeError,
)


class SpecError(Exception):
    pass


def require(rule, *holds, kind="Hostile"):
    if not all(holds):
        raise SpecError(kind, rule)


@contextmanager
def rules(ids, kind="Hostile"):
    """Turn what Python raises on malformed input into the error of the text."""
    try:
        yield
    except (*MALFORMED, ValueError) as error:
        raise SpecError(kind, ids) from error


class NegativeZero(int):
    def __float__(self):
        return -0.0


def integer(text):
    require("[INDEX-18]", len(text.lstrip("-")) <= 309)
    return NegativeZero() if text == "-0" else int(text)


def parse(text):
    """Return a JSON document (7.6)."""

    def distinct(pairs):
        require("[INDEX-18]", len(dict(pairs)) == len(pairs))
        return dict(pairs)

    def depth(found):
        inner = found.values() if isinstance(found, dict) else found if isinstance(found, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    found = json.loads(
        text.decode(),
        object_pairs_hook=distinct,
        parse_constant=dict[str, float]().__getitem__,
        parse_int=integer,
    )
    require("[INDEX-18]", depth(found) <= 32, json.dumps(found, ensure_ascii=False).encode())
    return found


def element_size(kind, depth=0):
    """Return the size of a description, or of the members that a structured one spells (8.1)."""
    if isinstance(kind, list):
        names: list[str] = []
        before, size = False, 0
        for name, inner, *shape in kind:
            padding, part = (name, inner[:2], shape) == ("", "|V", []), element_size(inner, depth + 1)
            title, own = (None, name) if isinstance(name, str) else name
            names += [] if padding else [own] if title is None else [title, own]
            require("[DTYPE-1]", not padding or (part and not before))
            require("[DTYPE-1]", own or padding or (inner[:2] != "|V" and not shape))
            require("[DTYPE-1] [DTYPE-12]", not shape or 0 < len(shape[0]) <= 32)
            require("[DTYPE-12]", not shape or max(shape[0]) < 1 << 31)
            require("[DTYPE-12]", not shape or inner[1:] not in ("S0", "V0", "U0"))
            before, size = padding, size + part * math.prod(*(shape or [()]))
        require("[DTYPE-1] [DTYPE-13]", len(set(names)) == len(names), depth <= 32)
    elif kind.startswith("["):
        bare = TEXT.sub("''", kind)
        require("[DTYPE-1] [DTYPE-10]", len(kind) <= 131072, repr(ast.literal_eval(bare)) == bare, not depth)
        require("[DTYPE-1]", set(TEXT.sub("", kind)) <= set("[](), 0123456789"))
        size = element_size(ast.literal_eval(kind), 1)
    else:
        found = COUNTED.fullmatch(kind)
        known = {**SIZES, **({} if depth else LEARNED)}.get(kind)
        # None has no item: the type is malformed
        size = known or int(found[1] or 8) * (4 if kind[1] == "U" else 1)  # type: ignore[index]
        require("[DTYPE-1]", not found or int(found[2] or 1) < 1 << 31)
    require("[DTYPE-1]", size < 1 << 31)
    return size


def segment(nbytes):
    """Return the length of the segments of a row (11)."""
    return next((size for size in (1 << n for n in range(17, 22)) if size * 1024 >= nbytes), 1 << 22)


def npy_header(kind, shape, fortran):
    """Return the header that came with an array, or the canonical one (8.5)."""
    learned = LEARNED.get(kind.description)
    descr = f"'<V{learned}'" if learned else f"'{kind.description}'"
    descr = kind.description if kind.description[0] == "[" else descr
    if kind.header:
        return kind.header
    spelled = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    spelled += " " * (21 - len(str(shape[-fortran]))) if shape else ""
    body = spelled.encode("ascii")
    version, width = (1, 2) if len(body) < 65462 else (2, 4)
    rest = body + b" " * (64 - (8 + width + len(body) + 1) % 64) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(rest).to_bytes(width, "little") + rest


def decode(name, payload):
    """Return a value (10.2)."""
    if name not in SPELLED:
        require("[VALUE-8]", isinstance(payload, list), (name == "list") == (payload == []))
        items = [
            item if name == "ints" and isinstance(item, bool) else decode(name[:-1], item) for item in payload
        ]
        require("[VALUE-8]", name != "ints" or not isinstance(items[0], bool))
        require("[VALUE-10]", name != "ints" or min(items) >= 0 or max(items) < 1 << 63)
        return items
    require("[VALUE-2] to [VALUE-7]", re.fullmatch(SPELLED[name], json.dumps(payload)))
    if name == "float" and isinstance(payload, str) and len(payload) == 16:
        (found,) = struct.unpack(">d", bytes.fromhex(payload))
        require("[VALUE-5]", math.isnan(found), payload != "7ff8000000000000")
    elif name == "float":
        found = float(payload)
    elif name == "int":
        found = int(payload)
        require(
            "[VALUE-3]", -(1 << 63) <= found < 1 << 64, (abs(found) < 1 << 53) == isinstance(payload, int)
        )
    else:
        found = base64.b64decode(payload) if name == "bytes" else payload
        require("[VALUE-7]", name != "bytes" or base64.b64encode(found).decode() == payload)
    return found


def lookup3(data):
    """Return the checksum of HDF5 metadata (2): hashlittle of 1 byte or more."""
    *words, a, b, c = struct.unpack(f"<{-(-len(data) // 12) * 3}I", data + bytes(-len(data) % 12))
    state = [(0xDEADBEEF + len(data)) % (1 << 32)] * 3

    def step(x, y, z, shift):
        """Let x lose z, cross x with z rotated, let z gain y."""
        turned = state[z] << shift | state[z] >> 32 - shift
        state[x] = ((state[x] - state[z]) ^ turned) % (1 << 32)
        state[z] = (state[z] + state[y]) % (1 << 32)

    for at in range(0, len(words), 3):
        state = [(word + more) % (1 << 32) for word, more in zip(state, words[at : at + 3], strict=True)]
        for turn, shift in enumerate((4, 6, 8, 16, 19, 4)):
            step(turn % 3, (turn + 1) % 3, (turn + 2) % 3, shift)
    state = [(word + more) % (1 << 32) for word, more in zip(state, (a, b, c), strict=True)]
    for x, y, shift in ((2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24)):
        state[x] = ((state[x] ^ state[y]) - (state[y] << shift | state[y] >> 32 - shift)) % (1 << 32)
    return state[2]


def ends_at(head):
    """Return where a superblock that an HDF5 tool wrote ends the file, None of other bytes (6)."""
    sizes, base, end = {0: (13, 24, 40), 2: (9, 12, 28), 3: (9, 12, 28)}.get(head[8], (0, 0, 0))
    try:
        require("[FOOTER-9]", head[:8] == HDF5[:8], head[sizes : sizes + 2] == b"\x08\x08")
        require("[FOOTER-9]", not any(head[base : base + 8]))
        require("[FOOTER-9]", not head[8] or lookup3(head[:44]) == int.from_bytes(head[44:], "little"))
    except SpecError:
        return None
    return int.from_bytes(head[end : end + 8], "little")


class SpecReader:
    def __init__(self, file):
        self.file, size, last = file, len(file), bytes(file[-256:])
        marks = ((last[:8] == MAGIC) + (last[-8:] == END)) * (size >= 4352)
        cut = size >= 48 and file[:11] == HDF5 and int.from_bytes(file[28:36], "little") > size
        require("[FOOTER-1]", marks, kind="Truncated" if cut else "NotAnArchive")
        require("[FOOTER-1]", marks == 2, digest(last[:232]) == last[232:248], kind="Damaged")
        _, major, minor, length, flags, total, algorithm, reserved, *rest = FOOTER.unpack(last)
        meta_at, meta, at, index, values_at, values, superblock, *digests = rest[:10]
        self.unknown, self.digest = "Version" if minor else "Hostile", digest(last)
        self.index_at, self.values_at = at, values_at
        require("[VERSION-2]", major == 1, kind="Version")
        rewritten = ends_at(bytes(file[:48])) == size
        require("[FOOTER-9]", total == size or not rewritten, kind="NotAnArchive")
        require("[FOOTER-2]", total == size, kind="Truncated")
        require("[DIGEST-1]", algorithm == 1, kind="Version")
        unused = any(b"".join(part[16:] for part in digests))
        require("[VERSION-4]", flags == 0, reserved == 0, not unused, kind=self.unknown)
        require("[FOOTER-3]", length == 256)
        stated, root = struct.unpack_from("<QQ", superblock, 28)
        require("[FOOTER-5]", superblock[:11] == HDF5, stated == size, meta_at <= root < at)
        require("[FOOTER-4]", meta_at >= 4096, meta_at % 64 == meta % 64 == 0, meta_at + meta == at)
        require("[FOOTER-4]", at + index == values_at, values_at + values + 256 == size)
        require("[FOOTER-9]", superblock == file[:48] or not rewritten, kind="NotAnArchive")
        require("[FOOTER-5]", superblock == file[:48], kind="Damaged")
        parts = file[meta_at:at], file[at:values_at], file[values_at : size - 256]
        for part, wanted in zip(parts, digests, strict=False):
            require("[FOOTER-6] to [FOOTER-8]", digest(part) == wanted[:16], kind="Damaged")
        with rules("[INDEX-17] [INDEX-18]"):
            self.read_sections(parts[1])
            self.document = parse(parts[2])
            texts = [self.document[name] for name in ("container", "created", "writer")]
            require("[INDEX-18]", *(isinstance(text, str) for text in texts))
            self.read_tables()
            self.read_rows(meta_at)

    def read_sections(self, index):
        magic, version, size, *counts, reserved = HEADER.unpack_from(index)
        require("[INDEX-1]", version == 1, kind="Version")
        require("[INDEX-1]", magic == INDEX, size == 96)
        require("[INDEX-1]", not any(reserved), kind=self.unknown)
        require("[INDEX-4]", counts[2] < 0xFFFFFFFF, counts[0] <= 1 << 24)
        names = ("records", "types", "arrays", "dims", "digests", "pool")
        counted, at, self.columns = dict(zip(names, counts, strict=True)), 96, dict[str, Any]()
        for name, code in re.findall(r"(\w+) (\w+)", SECTIONS):
            end = at + struct.calcsize(code) * counted.get(name, counts[2])
            part, at = index[at:end], end + -end % 8
            require("[INDEX-3] [INDEX-5]", at <= len(index), not any(index[end:at]))
            self.columns[name] = part if code == "c" else [x for (x,) in struct.iter_unpack(f"<{code}", part)]
        require("[INDEX-3]", at == len(index))

    def pool(self, at, length):
        require("[INDEX-17]", at + length <= len(self.columns["pool"]))
        return self.columns["pool"][at : at + length]

    def read_tables(self):
        self.records, self.kinds, spans = [], list[Kind](), []
        for at, length, kind, _, reserved in map(RECORD.unpack, self.columns["records"]):
            require("[INDEX-15]", kind < 3, reserved == 0, kind=self.unknown)
            self.records.append((kind, self.pool(at, length).decode()))
            spans.append((at, length))
        require("[INDEX-11]", len(set(self.records)) == len(self.records))
        for *places, itemsize, mode, reserved in map(TYPE.unpack, self.columns["types"]):
            require("[INDEX-15]", mode < 3, reserved == 0, kind=self.unknown)
            places = list(zip(places[:4], places[4:], strict=True))
            *texts, header = (self.pool(*place) for place in places)
            kind, size = Kind(*[*map(bytes.decode, texts), header, mode, itemsize]), 1
            if mode < 2:
                with rules("[DTYPE-3]", self.unknown):
                    size = element_size(kind.description)
            fits = 1 <= itemsize <= size <= 256 * itemsize if mode == 1 else itemsize == size
            require("[INDEX-16]", fits, mode != 1 or kind.description[1] == "U", mode != 2 or not header)
            spans, self.kinds = spans + places, [*self.kinds, kind]
        spans = sorted({(at, at + length) for at, length in spans if length})
        require("[INDEX-21]", *(one[1] <= two[0] for one, two in pairwise(spans)))

    def read_rows(self, meta_at):
        columns, self.rows, places, counts = self.columns, [], [(0, 48)], [0] * len(self.records)
        key, axis, owned = 0, 0, 0
        for row in zip(*map(columns.get, PER_ROW), strict=True):
            record, number, key_end, dims_end, flags, offset, nbytes, first, alias = row
            require("[INDEX-7]", record < len(counts), number < len(self.kinds))
            require("[INDEX-7]", flags < 2, kind=self.unknown)
            require("[INDEX-6]", key <= key_end, axis <= dims_end <= min(axis + 64, len(columns["dims"])))
            kind, shape = self.kinds[number], tuple(columns["dims"][axis:dims_end])
            require("[DTYPE-8]", not flags or (kind.mode < 2 and sum(n > 1 for n in shape) > 1))
            wide = max(kind.itemsize, 1) * (256 if kind.mode == 1 else 1)
            require("[INDEX-8]", wide * math.prod(n or 1 for n in shape) <= 1 << 62)
            require("[INDEX-8]", kind.mode == 2 or math.prod(shape) * kind.itemsize == nbytes)
            name, count = self.pool(key, key_end - key), -(-nbytes // segment(nbytes))
            found = columns["digests"][first : first + count]
            self.rows.append(Row(record, name, shape, flags == 1, offset, nbytes, found, first, kind, alias))
            require("[LAYOUT-7] [LAYOUT-2]", nbytes or not offset, offset % 64 == 0)
            if alias == 0xFFFFFFFF:
                require("[INDEX-12]", first == owned)
                require("[LAYOUT-1]", not nbytes or offset >= max(places[-1][1], 4096))
                owned, places = owned + count, places + [(offset, offset + nbytes)] * (nbytes > 0)
            else:
                require("[TIE-1]", alias < len(self.rows) - 1 and self.rows[alias].alias == 0xFFFFFFFF)
                require("[TIE-2]", self.rows[alias][2:9] == self.rows[-1][2:9])
                require(
                    "[TIE-4]", nbytes, not any(self.records[n][0] for n in (record, self.rows[alias].record))
                )
            key, axis, counts[record] = key_end, dims_end, counts[record] + 1
        self.gaps = [(one[1], two[0]) for one, two in pairwise([*places, (meta_at, 0)])]
        require("[LAYOUT-1]", places[-1][1] <= meta_at)
        require("[INDEX-12] [INDEX-6]", owned == len(columns["digests"]), axis == len(columns["dims"]))
        require("[INDEX-13]", counts == [RECORD.unpack(record)[3] for record in columns["records"]])
        self.places = {(*self.records[row.record], row.key.decode()): row for row in self.rows}
        require("[INDEX-11]", len({row[:2] for row in self.rows}) == len(self.rows))
        require("[INDEX-10]", sorted(columns["name_row"]) == list(range(len(self.rows))))
        require("[INDEX-10]", sorted(columns["name_hash"]) == columns["name_hash"])

    def find(self, record, key):
        return self.places[0, record, key]

    def failed(self, row):
        """Return the offsets of segments that do not match their digests."""
        size, stop = segment(row.nbytes), row.offset + row.nbytes
        places = [(row.offset + n * size, wanted) for n, wanted in enumerate(row.digests)]
        return [at for at, wanted in places if digest(self.file[at : min(at + size, stop)]) != wanted]

    def stored(self, row):
        failed = self.failed(row)
        place = self.records[row.record][1], row.key.decode(), *failed[:1]
        require(f"[READ-2] {place}", not failed, kind="Digest")
        return self.file[row.offset : row.offset + row.nbytes]

    def array_digest(self, row):
        texts = [*map(str.encode, row.kind[:3]), row.kind.header]
        numbers = [1, row.kind.itemsize, row.kind.mode, row.fortran, *map(len, texts)]
        numbers += [len(row.shape), *row.shape]
        return digest(struct.pack(f"<{len(numbers)}Q", *numbers) + b"".join(texts + row.digests))

    @rules("[DTYPE-6]")
    def data(self, row):
        stored, kind, size = self.stored(row), row.kind, row.kind.itemsize
        if kind.mode == 2:
            return stored
        if kind.mode == 1:
            codec, n = {"<": "utf-32-le", ">": "utf-32-be"}[kind.description[0]], int(kind.description[2:])
            texts = [stored[at : at + size].rstrip(b"\0").decode() for at in range(0, len(stored), size)]
            require("[DTYPE-6]", max(map(len, texts), default=0) <= n)
            size, stored = 4 * n, b"".join(text.encode(codec).ljust(4 * n, b"\0") for text in texts)
        if row.fortran:
            stride, order = math.prod(row.shape), [0]
            for length in row.shape:
                stride //= length or 1
                order = [at + i * stride for i in range(length) for at in order]
            stored = b"".join(stored[at * size : (at + 1) * size] for at in order)
        return npy_header(kind, row.shape, row.fortran) + stored

    @rules("[VALUE-1] to [VALUE-15]")
    def values(self, member="values"):
        """Return the values of each record by number and key (10), or its attributes."""
        found, self.referred, listed = {}, list[Any](), self.document.get(member, [])
        require("[INDEX-19]", isinstance(listed, list))
        for *named, entries in listed:
            kind, name = named if member == "values" else ("arrays", *named)
            number = self.records.index((("arrays", "metrics", "configs").index(kind), name))
            holds = (self.records[number][0] > 0) == (member == "values")
            require("[INDEX-19]", number not in found, holds)
            found[number] = self.entries(entries, number)
        rows = [at for at, row in enumerate(self.rows) if self.records[row.record][0]]
        require("[INDEX-20]", member != "values" or sorted(self.referred) == rows)
        self.context()
        return found

    def context(self):
        """Return the fields of a Context (7.7), None where there is none."""
        container, context = self.document["container"], None
        if container == "context":
            fields = self.document["context"]
            numbers = [[name, fields[name]] for name in ("run_id", "node_id", "series_id") if name in fields]
            context, container = self.entries(numbers), fields["state"]
            require(
                "[INDEX-22]", {"run_id", "node_id"} <= {*context}, *(type(n) is int for n in context.values())
            )
            context |= {name: self.entries(fields[name]) for name in ("node_config", "run_config")}
        require("[INDEX-22]", isinstance(container, str))
        require("[VERSION-4]", container in ("recordset", "recorddict"), kind=self.unknown)
        names = {record[container == "recorddict" :] for record in self.records}
        require("[INDEX-11]", len(names) == len(self.records))
        return context

    def entries(self, entries, record=None):
        found = {key: self.value(record, key, *value) for key, value in entries}
        require("[INDEX-19]", *(isinstance(key, str) for key in found), len(found) == len(entries))
        return found

    def value(self, record, key, name, payload):
        kind = 2 if record is None else self.records[record][0]
        require("[VERSION-4]", name in TYPES, kind=self.unknown)
        require("[VALUE-11]", kind != 1 or name in ("int", "float", "ints", "floats", "list"))
        if not isinstance(payload, dict):
            return decode(name, payload)
        require("[INDEX-20]", payload.keys() == {"row"})
        row = self.rows[payload["row"]]
        require("[INDEX-20]", (row.record, row.key) == (record, key.encode()), kind > 0)
        self.referred.append(payload["row"])
        stored, letter = self.stored(row), STORED[name, row.kind.description]
        require("[VALUE-14]", row.kind.mode == 2, row.shape == (len(stored) / struct.calcsize(letter),))
        if name in ("str", "bytes"):
            return stored.decode() if name == "str" else stored
        if letter != "B":
            require("[VALUE-15]", stored, letter != "?" or max(stored) < 2)
            return list(struct.unpack(f"<{row.shape[0]}{letter}", stored))
        found, payload = parse(stored)
        require("[VALUE-15]", found == name)
        return decode(name, payload)

    def verify(self):
        """Return every failure (13.4): its SpecError and its offset."""
        gaps = ((end, self.file[at:end].lstrip(b"\0")) for at, end in self.gaps)
        failures = [(SpecError("Damaged", "[LAYOUT-5]"), end - len(rest)) for end, rest in gaps if rest]
        for row in self.rows:
            failures += [(SpecError("Digest", "[READ-2]"), at) for at in self.failed(row)]
        hashes = [xxh3_64_intdigest(self.rows[number].key) for number in self.columns["name_row"]]
        if hashes != self.columns["name_hash"]:
            failures.append((SpecError("Hostile", "[VERIFY-1] [INDEX-9]"), self.index_at))
        texts = [(self.data, row) for row in self.rows if row.kind.mode == 1]
        for check, argument in ((self.values, "values"), (self.values, "attributes"), *texts):
            try:
                check(argument)
            except SpecError as error:
                if error.args[0] == "Version":
                    raise
                failures += [(error, self.values_at)] * (error.args[0] == "Hostile")  # [VERIFY-3]
        return failures
