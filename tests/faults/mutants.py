"""Three small archives that hold every kind of array and value, and what becomes of damaged copies.

``python -m tests.faults.mutants FOLDER ARCHIVE PLAN BEGIN END`` judges mutations BEGIN to END of a plan in
a process that may crash: its progress and counts lie in shared memory, so that the test sees where.
"""

from __future__ import annotations

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
from tests.faults.scenes import CREATED

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
)
CPU_SECONDS, WALL_SECONDS = 2, 30
"""Nothing may take longer; the wall clock is generous because a busy machine is not our fault."""
MEMORY_BYTES = 2 << 30
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


def hand_out(handle: Any) -> list[Any]:
    """Return everything that an archive hands out, in a form that compares bit for bit."""
    records = handle.records if isinstance(handle, archive.Archive) else handle
    if isinstance(records, archive.RecordDict):
        spaces: tuple[Any, ...] = (records,)
    else:
        spaces = (records.parameters_records, records.metrics_records, records.configs_records)
    found: list[Any] = []
    for space in spaces:
        for name, record in space.items():
            found.append(name)
            for key, value in record.items():
                if isinstance(value, archive.Array):
                    found.append((key, value.dtype, tuple(value.shape), value.stype, value.data))
                    if value.stype == "numpy.ndarray":
                        elements = value.numpy()
                        found.append((str(elements.dtype), elements.shape, elements.tobytes()))
                else:
                    found.append((key, repr(value)))
    return found


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


def plan_of(name: str, folder: Path) -> Plan:
    """Return what makes mutation k of an archive."""
    if name == "splice":
        return lambda data, number: splice(data, number, folder)
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
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.alarm(WALL_SECONDS)
        outcome, text = judge(path, data, original, wanted, (number + number // 3) % 3)
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        at = 8 * OUTCOMES.index(outcome)
        struct.pack_into("<q", counts, at, struct.unpack_from("<q", counts, at)[0] + 1)
        if outcome in ("silent", "foreign error", "unverified"):
            sys.stdout.write(f"{plan} {number} of {name}: {outcome}: {text}\n")
            sys.stdout.flush()
    path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], *map(int, sys.argv[4:7]))
