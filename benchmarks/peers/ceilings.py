"""What the machine can do: no names, no structure, no safety."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.base import NDArray, Peer
from benchmarks.shapes import Entry, arrays_of

__all__ = ["HashSpeed", "Memmap", "RawRead"]

_WRITE_BYTES = 16 << 20
_HASH_BYTES = 4 << 20
_SERIAL_BYTES = 8 << 20


class RawRead(Peer):
    """fallocate, then long writes of the staged memory; preads into fresh memory with every core."""

    name = "raw pwrite/pread"
    writes = "raw"
    operations = frozenset(["save", "save-durable", "open-one", "slice", "load", "drain"])
    ceiling = True

    def __init__(self, path: Path, entries: tuple[Entry, ...]) -> None:
        super().__init__(path, entries)
        self.by_key = {entry.key: entry for entry in entries}

    def take(self, arrays: Mapping[str, NDArray]) -> None:
        """Hold the staged memory as one buffer: arrays lie in it one after another."""
        first, last = arrays[self.entries[0].key].reshape(-1).view(np.uint8), self.entries[-1]
        self.input = np.lib.stride_tricks.as_strided(first, (last.offset + last.nbytes,))

    def write(self) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        # Blocks taken beforehand: 191 ms instead of 279 for 1.1 GB on ext4.
        os.posix_fallocate(handle, 0, self.input.nbytes)
        at = 0
        while at < self.input.nbytes:
            # Aligned and long: the page cache may then use large folios.
            at += os.pwrite(handle, self.input[at : at + _WRITE_BYTES], at)
        os.close(handle)

    def open_one(self, key: str) -> Any:
        return self.slice(key, 0, -1)

    def slice(self, key: str, start: int, stop: int) -> Any:
        entry = self.by_key[key]
        rows = entry.shape[0] if entry.shape else 1
        stop = rows if stop < 0 else stop
        row_bytes = entry.nbytes // max(rows, 1)
        memory = np.empty((stop - start) * row_bytes, np.uint8)
        with open(self.path, "rb", buffering=0) as file:
            _read(file.fileno(), memory, entry.offset + start * row_bytes)
        shape = (stop - start, *entry.shape[1:]) if entry.shape else ()
        return memory.view(entry.dtype).reshape(shape)

    def load_all(self) -> Mapping[str, Any]:
        last = self.entries[-1]
        memory = np.empty(last.offset + last.nbytes, np.uint8)
        with open(self.path, "rb", buffering=0) as file:
            _read(file.fileno(), memory, 0)
        return arrays_of(self.entries, memory)

    def drain(self) -> Iterator[tuple[str, Any]]:
        memory = np.empty(max(entry.nbytes for entry in self.entries), np.uint8)
        with open(self.path, "rb", buffering=0) as file:
            for entry in self.entries:
                part = memory[: entry.nbytes]
                _read(file.fileno(), part, entry.offset)
                yield entry.key, part.view(entry.dtype).reshape(entry.shape)


class Memmap(RawRead):
    """np.memmap of the same file."""

    name = "np.memmap"
    operations = frozenset(["map", "map-touched", "drain"])

    def map_all(self) -> Mapping[str, Any]:
        return arrays_of(self.entries, np.memmap(self.path, np.uint8, "r"))

    def drain(self) -> Iterator[tuple[str, Any]]:
        yield from self.map_all().items()


class HashSpeed(RawRead):
    """XXH3 over the same bytes, mapped and warm, with every core."""

    name = "xxh3"
    operations = frozenset(["verify"])
    requires = ("xxhash",)

    def verify(self) -> bool:
        digest = importlib.import_module("xxhash").xxh3_128_digest
        mapped: NDArray = np.asarray(np.memmap(self.path, np.uint8, "r"))
        cores = len(os.sched_getaffinity(0))
        with ThreadPoolExecutor(cores) as pool:
            starts = range(0, mapped.nbytes, _HASH_BYTES)
            return all(pool.map(lambda at: digest(mapped[at : at + _HASH_BYTES]), starts))


def _read(handle: int, memory: NDArray, offset: int) -> None:
    cores = len(os.sched_getaffinity(0)) if memory.nbytes > _SERIAL_BYTES else 1
    if cores == 1:
        _read_fully(handle, memory, offset)
        return
    step = -(-memory.nbytes // cores)
    with ThreadPoolExecutor(cores) as pool:
        starts = range(0, memory.nbytes, step)
        list(pool.map(lambda at: _read_fully(handle, memory[at : at + step], offset + at), starts))


def _read_fully(handle: int, memory: NDArray, offset: int) -> None:
    done = 0
    while done < memory.nbytes:
        read = os.preadv(handle, [memory[done:].data], offset + done)
        if not read:
            raise EOFError(f"{memory.nbytes - done} bytes missing")
        done += read
