"""Safetensors files: one, or shards that an index names.

The header is read and written here and not by the package ``safetensors``. Its writer takes all tensors in
memory at once, and its reader maps a local file: neither serves 8 GB in 512 MB, nor an object. The layout is
small: 8 bytes of length, JSON, elements. The tests compare with files of the package, byte for byte.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from archive.dtypes import NDArray, plain_name
from archive.errors import ArchiveError, ExistsError
from archive.storage.folder import remove_file
from archive.storage.location import locate_source
from archive.storage.protocols import Source
from archive.storage.url import Location
from archive.tools.formats.entries import Content, Entry, Hasher, LeftOut, Stamp, left_of_ties
from archive.tools.formats.filelike import SinkFile, Target, sibling, stream_ranges
from archive.tools.formats.flatnames import RECORDS, flat_names, is_escaped, split_name
from archive.tools.formats.kinds import INDEX_SUFFIX, is_index
from archive.tools.formats.safetensorsheader import (
    MAX_HEADER_BYTES,
    ORDER,
    PACKED,
    SPELLED,
    element_type,
    header_of,
    parse_json,
    parse_tensor,
    refuse,
    require_gapless,
)

__all__ = ["read", "write"]

USUAL = {"format": "pt"}
"""Metadata that nearly all files have, and without which transformers reads none: written where there are no
others, and dropped when it is read."""
METADATA = "metadata"
"""Config record of the texts under ``__metadata__``."""
INDEX_METADATA = "index_metadata"
"""Config record of what the index of shards says beside their total size."""


def read(location: Location, *, name: str) -> Content:
    """Open a safetensors file, or the index of shards: the name of the file says which.

    Raises
    ------
    HostileFileError, TruncatedError
        It breaks a rule of the format, or is cut.
    MissingError, StorageError
    """
    content = _Shards()
    with contextlib.ExitStack() as undo:
        undo.callback(content.close)
        if is_index(name):
            _open_index(content, location)
        else:
            content.open(location)
        undo.pop_all()
    return content


class _Shards(Content):
    """One file or several."""

    def __init__(self) -> None:
        super().__init__()
        self._sources: list[Source] = []

    def open(self, location: Location, wanted: set[str] | None = None) -> dict[str, str]:
        """Open a file, add its tensors (or those that are wanted), and return its metadata."""
        self.stamps.append(Stamp(location))
        source = locate_source(location, "pread")
        self._sources.append(source)
        header, start = header_of(source)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            refuse(source, "metadata that is not text")
        escaped = is_escaped(metadata.pop(RECORDS, None))
        tensors = [parse_tensor(source, name, found) for name, found in header.items()]
        tensors.sort(key=lambda tensor: tensor[3:])
        require_gapless(source, tensors, source.nbytes - start)
        for name, spelled, shape, begin, end in tensors:
            if wanted is not None and name not in wanted:
                self.left_out.append((name, f"{source.path} has it, and the index does not name it"))
            elif spelled in PACKED:
                self.left_out.append((name, f"elements of {spelled}, which are packed into parts of bytes"))
            else:
                record, key = split_name(name, escaped)
                place = len(self._sources) - 1, start + begin
                self.entries.append(
                    Entry(record, key, element_type(spelled, name), shape, end - begin, place)
                )
        if wanted is not None and not wanted <= header.keys():
            refuse(source, f"no tensor {min(wanted - header.keys())[:80]!r}, which the index names")
        if wanted is None and metadata not in ({}, USUAL):
            self.configs[METADATA] = dict(metadata)
        return metadata

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, Iterator[NDArray]]]:
        """Yield each entry with its bytes."""
        for number, group in itertools.groupby(entries, key=lambda entry: entry.place[0]):
            listed = list(group)
            source = self._sources[number]
            parts = stream_ranges(source, [(entry.place[1], entry.nbytes) for entry in listed])
            for entry in listed:
                yield entry, _take(parts, entry.nbytes)

    def close(self) -> None:
        """Close all files."""
        for source in self._sources:
            source.close()


def _take(parts: Iterator[tuple[int, NDArray]], nbytes: int) -> Iterator[NDArray]:
    while nbytes:
        _, part = next(parts)
        nbytes -= len(part)
        yield part


def _open_index(content: _Shards, location: Location) -> None:
    """Open the shards that an index names, which lie beside it."""
    source = locate_source(location, "pread")
    try:
        if source.nbytes > MAX_HEADER_BYTES:
            refuse(source, f"an index of {source.nbytes} bytes")
        index = parse_json(source, source.read(0, source.nbytes).tobytes())
        files = index.get("weight_map")
        told = index.get("metadata") or {}
        if not isinstance(files, dict) or not isinstance(told, dict) or not files:
            refuse(source, "no weight_map of an index of shards")
        shards: dict[str, set[str]] = {}
        for name, file in files.items():
            if not isinstance(file, str) or not file.endswith(".safetensors") or {*file} & {*"/\\\0:"}:
                refuse(source, f"a shard called {str(file)[:80]!r}")
            shards.setdefault(file, set()).add(name)
        first: dict[str, str] | None = None
        for file in sorted(shards):
            metadata = content.open(sibling(location, file), shards[file])
            if first is None:
                first = metadata
            elif metadata != first:
                content.left_out.append((file, "metadata that differs from that of the first shard"))
        if first and first != USUAL:
            content.configs[METADATA] = dict(first)
        content.left_out += [
            (key, "neither metadata nor weight_map of an index")
            for key in sorted(index.keys() - {"metadata", "weight_map"})
        ]
        kept = {key: value for key, value in told.items() if _is_plain(value)}
        content.left_out += [(f"metadata/{key}", _NOT_PLAIN) for key in sorted(told.keys() - kept.keys())]
        kept.pop("total_size", None)
        if kept:
            content.configs[INDEX_METADATA] = kept
    finally:
        source.close()


_NOT_PLAIN = "not a plain value"


def _is_plain(value: Any) -> bool:
    if isinstance(value, int):
        return -(1 << 63) <= value < 1 << 64
    return isinstance(value, (str, float))


def write(
    content: Content, target: Target, hasher: Hasher, *, shard_bytes: int | None = None
) -> list[LeftOut]:
    """Write content as one file, or as shards of at most so many bytes and their index.

    The names that `read` will find are those that ``hasher`` keeps.

    Returns
    -------
    list of (str, str)
        What was left out.

    Raises
    ------
    ExistsError
        A file of that name is there already: shards are not replaced one by one.
    ArchiveError
    """
    left_out: list[LeftOut] = []
    chosen = [entry for entry in content.entries if _is_held(entry, left_out)]
    names, escaped = flat_names(chosen)
    chosen.sort(key=lambda entry: (ORDER[plain_name(entry.dtype)], names[entry.name].encode()))
    metadata = _metadata(content, left_out) or dict(USUAL)
    if escaped:
        metadata[RECORDS] = "escaped"
    left_out += left_of_ties(chosen)
    hasher.total = sum(entry.nbytes for entry in chosen)
    if not is_index(target.location.name):
        if INDEX_METADATA in content.configs:
            left_out.append((INDEX_METADATA, "configs of an index: this is one file without one"))
        _write_file(content, target, chosen, names, metadata, hasher)
        return left_out
    groups = _grouped(chosen, shard_bytes or 5_000_000_000)
    told = _index_metadata(content, left_out)
    _write_shards(content, target, groups, names, (metadata, told), hasher)
    return left_out


def _is_held(entry: Entry, left_out: list[LeftOut]) -> bool:
    name = None if entry.dtype is None else plain_name(entry.dtype)
    if entry.key == "__metadata__":
        left_out.append(("/".join(entry.name), "safetensors has its metadata under this name"))
        return False
    if name in SPELLED and entry.dtype is not None and entry.dtype.byteorder != ">":
        return True
    left_out.append(
        ("/".join(entry.name), f"safetensors has no element type for {entry.dtype or 'such bytes'}")
    )
    return False


def _metadata(content: Content, left_out: list[LeftOut]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, values in content.configs.items():
        if name == METADATA and all(isinstance(value, str) for value in values.values()):
            found = dict(values)
        elif name != INDEX_METADATA:
            left_out.append((name, "configs: safetensors holds only texts, of one record called 'metadata'"))
    left_out += [(name, "metrics") for name in content.metrics]
    left_out += [(name, "attributes of a record") for name in content.attributes]
    return found


def _index_metadata(content: Content, left_out: list[LeftOut]) -> dict[str, Any]:
    found = {}
    for key, value in content.configs.get(INDEX_METADATA, {}).items():
        if key == "total_size":
            left_out.append((f"{INDEX_METADATA}/{key}", "the index says the bytes of its shards there"))
        elif _is_plain(value):
            found[key] = value
        else:
            left_out.append((f"{INDEX_METADATA}/{key}", _NOT_PLAIN))
    return found


def _grouped(entries: list[Entry], most: int) -> list[list[Entry]]:
    groups: list[list[Entry]] = [[]]
    filled = 0
    for entry in entries:
        if groups[-1] and filled + entry.nbytes > most:
            groups.append([])
            filled = 0
        groups[-1].append(entry)
        filled += entry.nbytes
    return groups


def _write_shards(
    content: Content,
    target: Target,
    groups: list[list[Entry]],
    names: dict[tuple[str, str], str],
    metadata: tuple[dict[str, str], dict[str, Any]],  # of each shard, and of the index
    hasher: Hasher,
) -> None:
    """Write shards, and then the index, without which nobody takes them for a model."""
    stem = target.location.name[: -len(INDEX_SUFFIX)]
    files = [f"{stem}-{number:05}-of-{len(groups):05}.safetensors" for number in range(1, len(groups) + 1)]
    for location in (target.location, *(sibling(target.location, file) for file in files)):
        _require_absent(location)
    weight_map: dict[str, str] = {}
    with contextlib.ExitStack() as undo:
        for file, group in zip(files, groups, strict=True):
            shard = replace(target, location=sibling(target.location, file), check=None)
            _write_file(content, shard, group, names, metadata[0], hasher)
            undo.callback(_remove_again, shard.location)
            weight_map |= {names[entry.name]: file for entry in group}
        told = {"total_size": sum(entry.nbytes for group in groups for entry in group)}
        said = {"metadata": metadata[1] | told, "weight_map": dict(sorted(weight_map.items()))}
        with target.open() as index:
            index.write(f"{json.dumps(said, indent=2)}\n".encode())
            undo.callback(_remove_again, target.location)
        undo.pop_all()


def _remove_again(location: Location) -> None:
    """Remove a file of a model after a failure, whose error is the one to be raised."""
    with contextlib.suppress(ArchiveError):
        _remove(location)


def _require_absent(location: Location) -> None:
    try:
        locate_source(location, "pread").close()
    except FileNotFoundError:
        return
    raise ExistsError(
        "it is there already, and shards are not replaced one by one",
        path=location.display,
        remedy="name another folder, or remove the model first",
    )


def _remove(location: Location) -> None:
    folder, _, name = location.path.rpartition("/")
    remove_file(folder, name, location.options or None)


def _write_file(
    content: Content,
    target: Target,
    entries: list[Entry],
    names: dict[tuple[str, str], str],
    metadata: dict[str, str],
    hasher: Hasher,
) -> None:
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    position = 0
    for entry in entries:
        spelled = SPELLED[plain_name(entry.dtype)]
        ends = [position, position := position + entry.nbytes]
        header[names[entry.name]] = {"dtype": spelled, "shape": list(entry.shape), "data_offsets": ends}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with target.open(8 + len(text) + position) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        _write_elements(content, entries, file, hasher)


def _write_elements(content: Content, entries: list[Entry], file: SinkFile, hasher: Hasher) -> None:
    for entry, chunks in content.read(entries):
        for chunk in hasher.watch(entry, chunks):
            file.write(chunk)
