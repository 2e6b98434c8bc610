"""Three small archives that hold every kind of array and value, and what becomes of damaged copies.

Plans of damage: one byte flipped, every length, blocks (zeroed, swapped, copied, removed, inserted), two
archives spliced, and ``crafted``: fields edited and every digest fixed up. What is crafted may be a legal
archive that says something else; then all ways of reading it must agree, and no array contradict itself.

``python -m tests.faults.mutants FOLDER ARCHIVE PLAN BEGIN END`` judges mutations BEGIN to END of a plan in
a process that may crash: its progress and counts lie in shared memory, so that the test sees where.
"""

from __future__ import annotations

import copy
import functools
import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import archive
from tests.crafting import Crafted
from tests.faults.scenes import CREATED
from tests.handout import hand_out
from tests.hostiletexts import require_inert

NAMES = ("numbers", "texts", "values")
PATTERNS = (0xFF, 0x01, 0x80)
OUTCOMES = (
    "position",
    "error at open",
    "error at hand-out",
    "padding",
    "silent",
    "foreign error",
    "unverified",
    "read",
    "memory",
)
CPU_SECONDS, WALL_SECONDS = 1, 30
"""All reads of one case together; the wall clock is generous because a busy machine is not our fault."""
MEMORY_BYTES = 2 << 30
EXTRA_BYTES = 64 << 20
"""What one case may add to the most memory that the process ever had, above the file it reads."""
Plan = Callable[[bytes, int], bytes]


def build(folder: Path) -> None:
    """Save the three archives."""
    kinds = [
        f"{order}{kind}" for order in "<>" for kind in ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8")
    ]
    kinds += ["i1", "u1", "?", "<c8", ">c16", "<m8[s]", "<M8[ns]"]
    numbers: dict[str, Any] = {kind: np.arange(6).astype(kind).reshape(2, 3) for kind in kinds}
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4"):
        numbers[name] = np.arange(5).astype(getattr(ml_dtypes, name))
    numbers["fortran"] = np.asfortranarray(np.arange(12, dtype="<f4").reshape(3, 4))
    numbers["scalar"] = np.array(3.5)
    numbers["empty"] = np.zeros((0, 4), "<f4")
    numbers["tied"] = numbers["<f4"]
    archive.save(numbers, folder / "numbers.h5", created=CREATED, durable=False)

    structured = np.array([(1, 2.5, b"x"), (3, 4.5, b"yz")], [("a", "<i4"), ("b", ">f8"), ("c", "S3")])
    texts = {
        "bytes": np.array([b"a", b"bcd", b""]),
        "utf-8": np.array(["grün", "中文", ""]),
        "surrogate": np.array(["a\ud800", "b"]),
        "fields": structured,
        "void": np.array([b"ab", b"\0c"], "V2"),
        "a/b.c%2F": np.arange(3),
        "..": np.arange(2),
        "ключ": np.ones(2, "<f4"),
    }
    arrays = archive.ArrayRecord({key: archive.array_from_numpy(array) for key, array in texts.items()})
    arrays["opaque"] = archive.Array("float32", (2,), "torch.tensor", b"opaque bytes of a serializer")
    records = archive.RecordDict(
        {
            "first": arrays,
            "second / record": archive.ArrayRecord({"w": archive.array_from_numpy(np.arange(4.0))}),
            "m": archive.MetricRecord({"loss": 0.5, "steps": [1, 2, 3], "x": [0.5, float("inf")]}),
        }
    )
    archive.save(records, folder / "texts.h5", created=CREATED, durable=False)

    configs: dict[str, Any] = {
        "int": -(1 << 60), "float": float("nan"), "str": "grün\0x", "bytes": b"\0\xff", "bool": True,
        "ints": [1, -2], "floats": [0.1], "strs": ["a", "中"], "bytess": [b"", b"a"], "bools": [True, False],
        "none": [], "large": "x" * 60_500, "many": list(range(8000)), "a/b": "escaped",
    }  # fmt: skip
    archive.save(
        {"w": np.arange(3.0)}, folder / "values.h5", metrics={"u": (1 << 64) - 1}, configs=configs,
        created=CREATED, durable=False,
    )  # fmt: skip


def flip(data: bytes, number: int) -> bytes:
    """Flip bits of one byte."""
    at, pattern = divmod(number, len(PATTERNS))
    return data[:at] + bytes([data[at] ^ PATTERNS[pattern]]) + data[at + 1 :]


def truncate(data: bytes, number: int) -> bytes:
    """Cut the end off."""
    return data[:number]


def scatter(data: bytes, number: int) -> bytes:
    """Damage at random: bytes, blocks zeroed, swapped, repeated, removed or inserted."""
    chance = random.Random(number)
    made = bytearray(data)
    kind = number % 6
    size = chance.choice((1, 8, 64, 512, 4096))
    at, other = (chance.randrange(0, max(len(data) - size, 1)) for _ in range(2))
    if kind == 0:
        for _ in range(chance.randint(2, 64)):
            made[chance.randrange(len(made))] = chance.randrange(256)
    elif kind == 1:
        made[at : at + size] = bytes(size)
    elif kind == 2:
        made[at : at + size], made[other : other + size] = data[other : other + size], data[at : at + size]
    elif kind == 3:
        made[at : at + size] = data[other : other + size]
    elif kind == 4:
        del made[at : at + size]
    else:
        made[at:at] = chance.randbytes(size)
    return bytes(made[: len(data) + 4096])


def splice(data: bytes, number: int, folder: Path) -> bytes:
    """Begin with one archive and end with another."""
    chance = random.Random(number)
    other = (folder / f"{chance.choice(NAMES)}.h5").read_bytes()
    at = chance.randrange(64, min(len(data), len(other))) // 64 * 64  # at 0 it would be the other, whole
    kind = number % 3
    if kind == 0:
        return data[:at] + other[at:]
    if kind == 1:
        return data[:at] + other[at : at + 4096] + data[at + 4096 :]
    return data + other


NUMBERS = (
    0,
    1,
    2,
    7,
    8,
    63,
    64,
    255,
    4095,
    4096,
    65535,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 62,
    1 << 63,
)
JUNK: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 1 << 70, 0.5, "", "x", "nan", "\ud800", [], {}, [[]], ["int", 1], {"row": 0}),
    *("recorddict", "context", "recordset", ["floats", {"row": 1}], ["bytes", "AA=="], [0, []]),
)


def crafted(parts: Crafted, number: int) -> bytes:
    """Edit one field, or several, of an archive in parts, and fix all digests up."""
    chance = random.Random(number)
    made = parts.copy()
    _edit(made, chance, chance.randrange(12))
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        _edit(made, chance, chance.randrange(11))
    return made.assemble()


def _edit(made: Crafted, chance: random.Random, kind: int) -> None:
    names = [name for name, section in made.sections.items() if len(section) and name != "digests"]
    if kind < 5:  # a number of a column or table
        section = made.sections[chance.choice(names)]
        row = chance.randrange(len(section))
        if section.dtype.names is None:
            section[row] = _number(int(section[row]), section.dtype, chance)
        else:
            field = chance.choice(section.dtype.names)
            section[field][row] = _number(int(section[field][row]), section.dtype[field], chance)
    elif kind == 5:  # two rows change places
        section = made.sections[chance.choice(names)]
        one, two = chance.randrange(len(section)), chance.randrange(len(section))
        section[one], section[two] = section[two].copy(), section[one].copy()
    elif kind == 6:  # a count of the header
        field = chance.choice(HEADER_FIELDS)
        made.counts[field] = int(_number(int(made.header[0][field]), made.header.dtype[field], chance))
    elif kind == 7:  # a byte of the JSON
        document = bytearray(json.dumps(made.document).encode())
        for _ in range(chance.randint(1, 3)):
            document[chance.randrange(len(document))] = chance.choice(b'{}[]":,0123456789.-eE \\utfalsn')
        made.json = bytes(document)
    elif kind == 8:  # a member of the JSON
        made.json = None
        _replace(made.document, chance)
    elif kind == 9:  # a number of the footer
        at = 8 * chance.randrange(1, 11)
        right = int.from_bytes(made.footer[at : at + 8], "little")
        made.footer[at : at + 8] = int(_number(right, np.dtype("<u8"), chance)).to_bytes(8, "little")
    elif kind == 10:  # an element type of another
        types = made.sections["types"]
        one, two = chance.randrange(len(types)), chance.randrange(len(types))
        field = chance.choice(("dtype", "stype", "description", "npy_header"))
        for part in ("at", "bytes"):
            types[f"{field}_{part}"][one] = types[f"{field}_{part}"][two]
    else:  # elements, as long as their place is right: legal, they say something else
        record, key = chance.choice(made.owners)
        nbytes = int(made.sections["nbytes"][made.row(record, key)])
        made.write_elements(record, key, bytes([chance.randrange(256)]), chance.randrange(nbytes))


HEADER_FIELDS = (
    *("version", "header_bytes", "records", "types", "arrays", "dims", "segments"),
    "pool_bytes",
)


def _number(right: int, dtype: np.dtype[Any], chance: random.Random) -> int:
    found = chance.choice(
        (
            right ^ (1 << chance.randrange(8 * dtype.itemsize)),
            right + chance.randint(-64, 64),
            chance.choice(NUMBERS),
        )
    )
    return found % (1 << 8 * dtype.itemsize)


def _replace(value: Any, chance: random.Random) -> None:
    """Put something else somewhere into a tree of JSON."""
    while isinstance(value, (dict, list)) and value:
        at = chance.choice(list(value)) if isinstance(value, dict) else chance.randrange(len(value))
        if not isinstance(value[at], (dict, list)) or not value[at] or chance.random() < 0.3:
            value[at] = copy.deepcopy(chance.choice(JUNK))  # it may be edited next
            return
        value = value[at]


def plan_of(name: str, folder: Path) -> Plan:
    """Return what makes mutation k of an archive."""
    if name == "splice":
        return lambda data, number: splice(data, number, folder)
    if name == "crafted":
        whole = functools.cache(Crafted)
        return lambda data, number: crafted(whole(data), number)
    return {"flip": flip, "truncate": truncate, "scatter": scatter}[name]


def judge(path: Path, data: bytes, original: bytes, wanted: list[Any], access: int) -> tuple[str, str]:
    """Return what became of a damaged copy, and an explanation."""
    path.write_bytes(data)
    found, outcome, text = None, "", ""
    try:
        if access == 2:
            found = hand_out(archive.load(path))
        else:
            with archive.open(path, access=("mmap", "pread")[access]) as handle:
                outcome = "error at hand-out"
                found = hand_out(handle)
    except archive.ArchiveError as error:
        outcome = outcome or "error at open"
        str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is none of ours
        return "foreign error", f"{type(error).__name__}: {error}"
    if data == original:
        return ("padding", "") if found == wanted else ("silent", "the undamaged archive is refused")
    if found is not None:
        outcome, text = ("padding", "") if found == wanted else ("silent", "handed out another value")
    try:
        if archive.verify(path).ok and outcome != "silent":
            return "unverified", f"verify() says ok; {outcome}"
    except archive.ArchiveError:
        pass
    except Exception as error:  # noqa: BLE001
        return "foreign error", f"verify: {type(error).__name__}: {error}"
    return outcome, text


def judge_crafted(path: Path, data: bytes) -> tuple[str, str]:
    """Return what became of an archive whose digests hold: an error of ours, or reads that all agree."""
    path.write_bytes(data)
    found: dict[str, Any] = {}
    outcome = "error at open"
    try:
        for access in ("mmap", "pread"):
            try:
                with archive.open(path, access=access) as handle:
                    outcome = "error at hand-out"
                    require_inert(repr(handle), handle._repr_html_())  # whatever it holds
                    found[access] = [hand_out(handle), repr(handle.info.records)]
            except archive.ArchiveError as error:
                found[access] = _said(error)
        try:
            found["load"] = [hand_out(archive.load(path)), found["mmap"][1]]
        except archive.ArchiveError as error:
            found["load"] = _said(error)
        try:
            archive.verify(path)
        except archive.ArchiveError as error:
            found["verify"] = _said(error)
    except AssertionError as error:
        return "silent", f"contradicts itself: {error}"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is none of ours
        return "foreign error", f"{type(error).__name__}: {error}"
    read = {way: isinstance(found[way], list) for way in ("mmap", "pread", "load")}
    if read["mmap"] != read["pread"] or (read["mmap"] and read["load"] and found["mmap"] != found["load"]):
        return "silent", f"read in several ways, it differs: {read}"
    if not read["mmap"]:
        return outcome, ""
    return ("read", "") if found["mmap"] == found["pread"] else ("silent", "read twice, it differs")


def _said(error: archive.ArchiveError) -> str:
    return f"{type(error).__name__}: {error}"


def main(folder: Path, name: str, plan: str, begin: int, end: int, step: int) -> None:
    """Judge mutations and count outcomes in shared memory."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    original = (folder / f"{name}.h5").read_bytes()
    wanted = hand_out(archive.load(folder / f"{name}.h5"))
    mutate = plan_of(plan, folder)
    path = folder / f"mutant-{os.getpid()}.h5"
    with (folder / f"{plan}-{name}-{begin % step}.counts").open("r+b") as file:
        counts = mmap.mmap(file.fileno(), 8 * len(OUTCOMES))
    for number in range(begin, end, step):
        struct.pack_into("<q", counts, 0, number)
        data = mutate(original, number)
        resident = _most_resident()
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.alarm(WALL_SECONDS)
        if plan == "crafted":
            outcome, text = judge_crafted(path, data)
        else:
            outcome, text = judge(path, data, original, wanted, (number + number // 3) % 3)
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if _most_resident() - resident > EXTRA_BYTES + len(data):
            outcome, text = "memory", f"{(_most_resident() - resident) >> 20} MB"
        at = 8 * OUTCOMES.index(outcome)
        struct.pack_into("<q", counts, at, struct.unpack_from("<q", counts, at)[0] + 1)
        if outcome in ("silent", "foreign error", "unverified", "memory"):
            sys.stdout.write(f"{plan} {number} of {name}: {outcome}: {text}\n")
            sys.stdout.flush()
    path.unlink(missing_ok=True)


def _most_resident() -> int:
    """Return the most memory that this process ever had, in bytes: it only grows."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], *map(int, sys.argv[4:7]))
