"""Which format a file has by its name, and which module reads and writes it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from archive.engine.read.open import open_reader
from archive.errors import NotAnArchiveError, UnsupportedURLError
from archive.storage.url import Location
from archive.tools.formats.entries import Content, LeftOut, Stamp

__all__ = ["INDEX_SUFFIX", "FileFormat", "formats_of", "is_index", "open_content", "writer_of"]

FileFormat = Literal["archive", "safetensors", "npz", "npy", "pt", "keras", "hdf5", "rounds"]
"""Name of a format."""

INDEX_SUFFIX = ".safetensors.index.json"
_SUFFIXES: dict[str, FileFormat] = {
    ".safetensors": "safetensors",
    INDEX_SUFFIX: "safetensors",
    ".npz": "npz",
    ".npy": "npy",
    ".pt": "pt",
    ".pth": "pt",
    ".bin": "pt",
    ".ckpt": "pt",
    ".weights.h5": "keras",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".he5": "hdf5",
    ".nc": "hdf5",
}
_FORMATS = "archive.tools.formats"
_READERS = {
    "safetensors": (f"{_FORMATS}.safetensors", "read"),
    "npz": (f"{_FORMATS}.npz", "read_npz"),
    "npy": (f"{_FORMATS}.npz", "read_npy"),
    "pt": ("archive.interop.torchfile", "read"),
    "keras": (f"{_FORMATS}.hdf5groups", "read"),
    "hdf5": (f"{_FORMATS}.hdf5groups", "read"),
}
_WRITERS = {
    "safetensors": (f"{_FORMATS}.safetensors", "write"),
    "npz": (f"{_FORMATS}.npz", "write_npz"),
    "npy": (f"{_FORMATS}.npz", "write_npy"),
    "pt": ("archive.interop.torchfile", "write"),
    "keras": (f"{_FORMATS}.hdf5groups", "write"),
}
"""Module and function of each format; a module is loaded when its format is met. torch's is a floor above and
named here, as no tool may import it."""
_DECODED = ("npz", "keras", "hdf5")
"""Formats that may hold compressed arrays."""
_NAMED = ("safetensors", "npy")  # what these hold, the name says


def formats_of(source: Location, target: Location, given: str | None, to: str | None) -> tuple[str, str]:
    """Return the formats of both sides, one of which is an archive."""
    for argument, value in (("format", given), ("to", to)):
        if value is not None and value not in get_args(FileFormat):
            raise ValueError(
                f"{argument} must be one of {', '.join(map(repr, get_args(FileFormat)))}, not {value!r}"
            )
    kind = given or _format_of(source)
    if kind == "rounds":
        return kind, "rounds"
    if kind in ("hdf5", "keras") and given is None:
        kind = "archive" if _is_archive(source) else kind
    if kind != "archive":
        wanted = to or "archive"
        if wanted != "archive" or (to is None and _suffix_format(target) not in (None, "hdf5")):
            raise UnsupportedURLError(
                f"from {kind} to {to or _suffix_format(target)}: one side has to be an archive",
                path=target.display,
                remedy="convert it to an archive first, and that to the other format",
            )
        return kind, "archive"
    wanted = to or _format_of(target)
    if wanted not in _WRITERS:
        raise UnsupportedURLError(
            "both sides are archives by their names",
            path=target.display,
            remedy="name a .safetensors, .npz, .npy, .pt or .weights.h5; archive.tools.copy copies archives",
        )
    return kind, wanted


def is_index(name: str) -> bool:
    """Return whether a file is by its name the index of shards of safetensors."""
    return name.lower().endswith(INDEX_SUFFIX)


def _suffix_format(location: Location) -> str | None:
    name = location.name.lower()
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        if name.endswith(suffix):
            return _SUFFIXES[suffix]
    return None


def _format_of(location: Location) -> str:
    found = _suffix_format(location)
    if found is None and (
        location.path.endswith("/") or (not location.remote and Path(location.path).is_dir())
    ):
        return "rounds"
    if found is None:
        raise UnsupportedURLError(
            "its name says no format",
            path=location.display,
            remedy="unzip it, and convert its model.weights.h5"
            if location.name.lower().endswith(".keras")
            else f"name one by format= or to=, or a file with one of {' '.join(_SUFFIXES)}",
        )
    return found


def _is_archive(location: Location) -> bool:
    try:
        open_reader(location, access="pread", verify="first").close()
    except NotAnArchiveError:
        return False
    return True


def open_content(
    location: Location, kind: str, decoded_bytes: int | None = None, *, name: str = ""
) -> Content:
    """Open a file of another format; ``name`` is its later name, where it has a temporary name now."""
    module, function = _READERS[kind]
    read: Callable[..., Content] = getattr(importlib.import_module(module), function)
    options: dict[str, Any] = {"name": name or location.name} if kind in _NAMED else {}
    if kind in _DECODED:
        options["decoded_bytes"] = decoded_bytes
    stamp, content = Stamp(location), read(location, **options)
    content.stamps.append(stamp)
    return content


def writer_of(kind: str, shard_bytes: int | None = None) -> Callable[..., list[LeftOut]]:
    """Return the function that writes content in a format, and returns what it left out."""
    module, function = _WRITERS[kind]
    write: Callable[..., list[LeftOut]] = getattr(importlib.import_module(module), function)
    if shard_bytes is None:
        return write
    return partial(write, shard_bytes=shard_bytes)
