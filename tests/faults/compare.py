"""The same damage to the same arrays in three formats: ``python -m tests.faults.compare [MUTATIONS]``.

Prints how many damaged files each reader took for whole, refused, died of, hung in, or needed too much memory
for. Ours are read by `archive.load`, the peers by h5py and safetensors as their documentation says.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import safetensors.numpy

import archive
from tests.faults.mutants import CPU_SECONDS, EXTRA_BYTES, MEMORY_BYTES, PATTERNS, WALL_SECONDS, scatter

FORMATS = ("fedarchive", "h5py", "safetensors")
OUTCOMES = ("position", "silent", "error", "unharmed", "memory")
DEATHS = ("signal", "hang")
Arrays = dict[str, Any]


def build(folder: Path) -> None:
    """Write the same arrays in all three formats."""
    arrays = {
        f"layer{number}.{kind}": np.arange(60).astype(kind).reshape(5, 12)
        for number, kind in enumerate(("f4", "f8", "f2", "i8", "i4", "u1", "?"))
    }
    archive.save(arrays, folder / "fedarchive", durable=False)
    with h5py.File(folder / "h5py", "w") as file:
        for number, (name, array) in enumerate(arrays.items()):
            file.create_dataset(name, data=array, compression="gzip" if number % 2 else None)
    safetensors.numpy.save_file(arrays, folder / "safetensors")


def read(kind: str, path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return everything that a reader hands out, bit for bit."""
    if kind == "fedarchive":
        model = archive.load(path).parameters_records["model"]
        arrays: Arrays = {name: array.numpy() for name, array in model.items()}
    elif kind == "h5py":
        with h5py.File(path, "r") as file:
            arrays = {name: np.asarray(file[name][()]) for name in file}
    else:
        arrays = safetensors.numpy.load_file(path)
    return {name: (str(array.dtype), array.shape, array.tobytes()) for name, array in arrays.items()}


def mutate(data: bytes, number: int) -> bytes:
    """Damage: two bytes in five flipped, two in five blocks, one cut short."""
    chance = random.Random(number)
    if number % 5 < 2:
        made = bytearray(data)
        made[chance.randrange(len(made))] ^= chance.choice(PATTERNS)
        return bytes(made)
    return scatter(data, number // 5) if number % 5 < 4 else data[: chance.randrange(len(data))]


def judge(folder: Path, kind: str, begin: int, end: int) -> None:
    """Judge mutations, and count in shared memory: what comes next may kill this process."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    original, path = (folder / kind).read_bytes(), folder / f"{kind}-mutant"
    wanted = read(kind, folder / kind)
    with (folder / f"{kind}-counts").open("r+b") as file:
        counts = mmap.mmap(file.fileno(), 8 * len(OUTCOMES))
    for number in range(begin, end):
        struct.pack_into("<q", counts, 0, number)
        path.write_bytes(mutate(original, number))
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.alarm(WALL_SECONDS)
        try:
            outcome = "unharmed" if read(kind, path) == wanted else "silent"
        except MemoryError:
            outcome = "memory"
        except Exception:  # noqa: BLE001 - whatever a reader says, it says something
            outcome = "error"
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident) << 10 > EXTRA_BYTES:
            outcome = "memory"
        at = 8 * OUTCOMES.index(outcome)
        struct.pack_into("<q", counts, at, struct.unpack_from("<q", counts, at)[0] + 1)


def compare(mutations: int) -> dict[str, Counter[str]]:
    """Return how often each format came to what end."""
    totals = {kind: Counter[str]() for kind in FORMATS}
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        folder = Path(name)
        build(folder)
        for kind, total in totals.items():
            counts, begin = folder / f"{kind}-counts", 0
            counts.write_bytes(bytes(8 * len(OUTCOMES)))
            while begin < mutations:
                command = [
                    sys.executable,
                    "-m",
                    "tests.faults.compare",
                    "--judge",
                    folder,
                    kind,
                    begin,
                    mutations,
                ]
                arguments = [str(part) for part in command]
                root = Path(__file__).parents[2]
                code = subprocess.run(arguments, capture_output=True, check=False, cwd=root).returncode
                if code > 0:
                    raise RuntimeError(f"judging {kind} failed")
                if not code:
                    break
                total["hang" if -code in (signal.SIGPROF, signal.SIGALRM) else "signal"] += 1
                begin = struct.unpack("<q", counts.read_bytes()[:8])[0] + 1
            values = struct.unpack(f"<{len(OUTCOMES)}q", counts.read_bytes())
            total.update(dict(zip(OUTCOMES[1:], values[1:], strict=True)))
    return totals


def table(totals: dict[str, Counter[str]]) -> str:
    """Return the figures as a Markdown table."""
    columns = ("silent", *DEATHS, "memory", "error", "unharmed")
    lines = [f"| reader | mutations | {' | '.join(columns)} |", "|---|" + "---:|" * (len(columns) + 1)]
    for kind, total in totals.items():
        figures = " | ".join(f"{total[column]:,}" for column in columns)
        lines.append(f"| {kind} | {sum(total.values()):,} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Judge, or compare and print."""
    if sys.argv[1:2] == ["--judge"]:
        with contextlib.suppress(KeyboardInterrupt):
            judge(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
        return
    os.environ["PYTHONWARNINGS"] = "ignore"
    sys.stdout.write(table(compare(int(sys.argv[1]) if sys.argv[1:] else 20_000)) + "\n")


if __name__ == "__main__":
    main()
