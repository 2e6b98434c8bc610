"""async-hdf5: metadata and addresses in Rust; the bytes of contiguous datasets are taken as chunks."""

import asyncio
import os
from importlib.metadata import version
from pathlib import Path

import async_hdf5
import numpy as np

from tests.hdf5tools.drivers.canon import run, tried


class Local:
    """Ranges of local files, as obspec asks for them."""

    async def get_range_async(self, path, *, start, end=None, length=None):
        with Path(path).open("rb") as file:
            file.seek(start)
            return file.read(end - start if length is None else length)

    async def get_ranges_async(self, path, *, starts, ends=None, lengths=None):
        ends = [at + more for at, more in zip(starts, lengths, strict=True)] if ends is None else ends
        pairs = zip(starts, ends, strict=True)
        return [await self.get_range_async(path, start=start, end=end) for start, end in pairs]


async def data(dataset):
    if dataset.is_null_dataspace:
        return None
    if dataset.filters:
        raise NotImplementedError("chunks are handed out compressed")
    shape = tuple(dataset.shape)
    empty = 0 in shape
    index = None if empty else await dataset.chunk_index()
    ranges = [] if index is None else [(chunk.byte_offset, chunk.byte_length) for chunk in index]
    found = b"".join(bytes(part) for part in await dataset.batch_fetch_ranges(ranges)) if ranges else b""
    return np.frombuffer(found, np.dtype(dataset.numpy_dtype)).reshape(shape)


def raising(error):
    def read():
        raise error

    return read


async def awaited(coroutine):
    """Return the form of what it returns, or of what it raises."""
    try:
        found = await coroutine
    except Exception as error:  # noqa: BLE001 a reader in Rust may raise anything
        return tried(raising(error))
    return tried(lambda: found)


async def entry(item, is_group):
    try:
        attributes = await item.attributes()
        attrs = {name: tried(lambda value=value: value) for name, value in attributes.items()}
    except Exception as error:  # noqa: BLE001 likewise
        attrs = {"": tried(raising(error))}
    return {"data": None if is_group else await awaited(data(item)), "attrs": attrs}


async def walk(group, path, found):
    found[path or "/"] = await entry(group, True)
    for name in await group.dataset_names():
        found[path + "/" + name] = await entry(await group.dataset(name), False)
    for name in await group.group_names():
        await walk(await group.group(name), path + "/" + name, found)


async def read_all(path):
    found: dict[str, object] = {}
    file = await async_hdf5.HDF5File.open(path, store=Local())
    await walk(await file.root_group(), "", found)
    return found


def read(path):
    return asyncio.run(read_all(path))


def versions():
    return {"tool": version("async-hdf5"), "hdf5": "none"}


if __name__ == "__main__":
    run(versions, read)
    os._exit(0)  # at the end of the interpreter it crashes now and then, whatever it read
