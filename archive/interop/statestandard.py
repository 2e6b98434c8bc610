"""Paths, times and numbers of Python's standard library as members of JSON, and back."""

from __future__ import annotations

import re
import uuid
import zoneinfo
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path as FilePath
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any, TypeAlias

import numpy as np

from archive.dtypes import dtype_name, parse_dtype
from archive.interop.statearrays import JSON, Arrays, Kind, NotStateError, Path, class_name, of_class

__all__ = ["STANDARD"]

_ZONE_KEY = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_OWN_PATH = type(FilePath())
_PATHS = {"posix": PurePosixPath, "windows": PureWindowsPath}
_Write: TypeAlias = Callable[[Any], dict[str, JSON]]


def _leaf(kind: type, write: _Write, make: Callable[[JSON], Any]) -> Kind:
    """Return a kind of values without parts; a tree is refused unless its value is written as that tree."""

    def encode(value: Any, path: Path, _: Arrays) -> dict[str, JSON]:
        try:
            members = write(value)
        except ValueError as error:
            raise NotStateError(path, str(error)) from error
        return members

    def decode(tree: JSON, _: object) -> Any:
        made = make(tree)
        if {"$": tree["$"], **write(made)} != tree:
            raise ValueError(f"no {tree['$']} is written like this: {tree}")
        return made

    return Kind(of_class(kind), encode, decode)


def _write_path(value: PurePath) -> dict[str, JSON]:
    text = str(value)
    if "\0" in text:
        raise ValueError("a path with a NUL")
    flavour = "windows" if isinstance(value, PureWindowsPath) else "posix"
    return {"flavour": flavour, "pure": not isinstance(value, FilePath), "text": text}


def _make_path(tree: JSON) -> PurePath:
    """Return the path; a file of the other kind of system is a pure path here."""
    kind = _PATHS[tree["flavour"]]
    own = tree["pure"] is False and issubclass(_OWN_PATH, kind)
    made = (_OWN_PATH if own else kind)(tree["text"])
    written = _write_path(made)
    if type(tree["pure"]) is not bool or written["text"] != tree["text"]:
        raise ValueError(f"no path is written like this: {tree}")
    return made


def _write_zone(value: tzinfo | None) -> dict[str, JSON]:
    """Return the tree of a time zone."""
    if type(value) is timezone:
        offset, *name = value.__getinitargs__()  # type: ignore[attr-defined] # tells a name that was given
        microseconds = offset // timedelta(microseconds=1)
        return {"$": "timezone", "microseconds": microseconds, **({"name": name[0]} if name else {})}
    key = getattr(value, "key", None)
    if type(value) is zoneinfo.ZoneInfo and key is not None:
        return {"$": "zoneinfo", "key": key}
    raise ValueError(f"a time zone of class {class_name(type(value))} without a key is not saved")


def _make_timezone(tree: JSON) -> timezone:
    offset = timedelta(microseconds=tree["microseconds"])
    if "name" in tree:
        return timezone(offset, tree["name"])
    return timezone(offset) if offset else timezone.utc


def _make_zoneinfo(tree: JSON) -> zoneinfo.ZoneInfo:
    """Return a time zone of this system's table: keys that lead elsewhere are refused."""
    key = tree["key"]
    if not _ZONE_KEY.fullmatch(key):
        raise ValueError(f"invalid time zone {key!r}")
    try:
        return zoneinfo.ZoneInfo(key)
    except OSError as error:  # a folder of zones
        raise ValueError(f"invalid time zone {key!r}") from error


_ZONES = {"timezone": _make_timezone, "zoneinfo": _make_zoneinfo}


def _write_clock(value: datetime | time) -> dict[str, JSON]:
    """Return what makes a datetime or a time; its zone has a tree of its own."""
    members: dict[str, JSON] = {"text": value.replace(tzinfo=None).isoformat()}
    if value.fold:
        members["fold"] = value.fold
    return members if value.tzinfo is None else {**members, "zone": _write_zone(value.tzinfo)}


def _clock_of(kind: Any) -> Kind:
    def make(tree: JSON) -> Any:
        made = kind.fromisoformat(tree["text"]).replace(fold=tree.get("fold", 0))
        zone = tree.get("zone")
        return made if zone is None else made.replace(tzinfo=_ZONES[zone["$"]](zone))

    return _leaf(kind, _write_clock, make)


def _without_kind(tree: dict[str, JSON]) -> dict[str, JSON]:
    return {name: member for name, member in tree.items() if name != "$"}


def _encode_dtype(value: Any, path: Path, _: Arrays) -> dict[str, JSON]:
    name = None if value.hasobject else dtype_name(value)
    if name is None or parse_dtype(name) != value:
        raise NotStateError(path, f"the element type {value} is not saved")
    return {"name": name}


STANDARD: dict[str, Kind] = {
    "path": Kind(
        lambda value: type(value) in (PurePosixPath, PureWindowsPath, _OWN_PATH),
        _leaf(PurePath, _write_path, _make_path).encode,
        lambda tree, _: _make_path(tree),
    ),
    "date": _leaf(date, lambda v: {"text": v.isoformat()}, lambda tree: date.fromisoformat(tree["text"])),
    "datetime": _clock_of(datetime),
    "time": _clock_of(time),
    "timezone": _leaf(timezone, lambda v: _without_kind(_write_zone(v)), _make_timezone),
    "zoneinfo": _leaf(zoneinfo.ZoneInfo, lambda v: _without_kind(_write_zone(v)), _make_zoneinfo),
    "uuid": _leaf(uuid.UUID, lambda v: {"hex": v.hex}, lambda tree: uuid.UUID(hex=tree["hex"])),
    "decimal": _leaf(Decimal, lambda v: {"text": str(v)}, lambda tree: Decimal(tree["text"])),
    "numpy_dtype": Kind(
        lambda value: isinstance(value, np.dtype),
        _encode_dtype,
        lambda tree, _: parse_dtype(tree["name"]),
    ),
}
"""Kinds of values of the standard library that contain no other value, and numpy's element types."""
