"""Element types as the index spells them: a closed grammar in ASCII ([DTYPE-1]).

A description means the same under every Python and numpy: nothing is spelled by ``repr``, or read by ``ast``
or by numpy, whose notions of a printable character and of a legal type change from version to version. Each
type has one description: the parser takes what the speller gives, and nothing else.
"""

from __future__ import annotations

import functools
import math
import re
from typing import Any

import numpy as np

from archive.dtypes import ML_DTYPES, dtype_name, is_ml_dtype, parse_dtype
from archive.errors import UnsupportedDtypeError

__all__ = ["MAX_NESTING", "describe_dtype", "parse_description"]

DType = np.dtype[Any]

MAX_NESTING = 32
"""Levels of structured types, the outermost counted ([DTYPE-13]), and of the JSON document ([INDEX-18])."""
_MAX_DESCRIPTION = 1 << 17
"""Characters ([DTYPE-10])."""
_MAX_AXES = 32
"""Of a member ([DTYPE-12]): what every numpy holds."""
_MAX_NUMBER = (1 << 31) - 1
"""Largest size of an element, length of a member's axis, and factor of a unit of time."""

_NUMBER = r"(0|[1-9][0-9]{0,9})"
_PLAIN = re.compile(
    r"\|b1|\|[iu]1|[<>][iu][248]|[<>]f[248]|<f16|[<>]c(?:8|16)|<c32"
    rf"|\|[SV]{_NUMBER}|[<>]U{_NUMBER}"
    r"|[<>][mM]8(?:\[([2-9]|[1-9][0-9]{1,9})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
)
_QUOTED = re.compile(r"'((?:[ -&(-\[\]-~]|\\[\\']|\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8})*)'")
_ESCAPE = re.compile(r"\\(?:([\\'])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")
_ESCAPED = re.compile(r"[^ -&(-\[\]-~]")
_SHAPE = re.compile(rf"\((?:{_NUMBER},|{_NUMBER}(?:, {_NUMBER})+)\)")


def describe_dtype(dtype: DType) -> str:
    r"""Return the description of an element type ([DTYPE-1]).

    Examples
    --------
    >>> describe_dtype(np.dtype("float32")), describe_dtype(np.dtype([("a", "i1"), ("b", "?", (2,))]))
    ('<f4', "[('a', '|i1'), ('b', '|b1', (2,))]")
    >>> describe_dtype(np.dtype([("é", "f4")]))
    "[('\\xe9', '<f4')]"

    Raises
    ------
    TypeError
        The members of a structured type overlap or are out of order, which no ``.npy`` holds, or nest more
        than 32 deep, or one of them has more than 32 axes.
    UnsupportedDtypeError
        A type that the format has no description for, or a machine-learning type as a member ([DTYPE-2]).
    """
    if is_ml_dtype(dtype):
        return dtype_name(dtype)
    if dtype.names is None:
        return _describe_plain(dtype)
    if _nesting(dtype, MAX_NESTING) > MAX_NESTING:
        raise TypeError(f"the members of dtype {dtype_name(dtype)[:80]} nest more than {MAX_NESTING} deep")
    try:
        return _describe_members(dtype)
    except ValueError as error:
        raise TypeError(f"the members of dtype {dtype_name(dtype)[:80]} {error}") from error


def _describe_plain(dtype: DType) -> str:
    module, text = dtype.type.__module__, str(dtype.str)
    if module != "numpy" or _PLAIN.fullmatch(text) is None:
        raise UnsupportedDtypeError(
            f"no archive holds the type {dtype} of {module}",
            remedy="convert it to a type of numpy, or save view(np.uint8), the bytes",
        )
    return text


def _describe_members(dtype: DType) -> str:
    """Return the description of a structured type.

    Raises
    ------
    ValueError
        The members overlap, are out of order, or are more than the grammar has a form for.
    """
    parts, end = [], 0
    fields: Any = dtype.fields
    for name in dtype.names or ():
        member, offset, *title = fields[name]
        if offset < end:
            raise ValueError("overlap or are out of order")
        if offset > end:
            parts.append(f"('', '|V{offset - end}')")
        end = offset + member.itemsize
        parts.append(_describe_member(name, title, member))
    if dtype.itemsize > end:
        parts.append(f"('', '|V{dtype.itemsize - end}')")
    return f"[{', '.join(parts)}]"


def _describe_member(name: str, title: list[Any], member: DType) -> str:
    if is_ml_dtype(member.base):
        raise UnsupportedDtypeError(
            f"no archive holds {member.base} as the member {name[:80]!r} of a structured type",
            remedy="save each member as an array of its own",
        )
    named = _quote(name)
    if title:
        if not isinstance(title[0], str):
            raise ValueError("have a title that is no text")
        named = f"({_quote(title[0])}, {named})"
    if name == "" and (member.shape or (member.kind == "V" and member.names is None)):
        raise ValueError("include padding with a shape or a title, or a subarray without a name")
    base = member.base
    kind = _describe_members(base) if base.names is not None else _quote(_describe_plain(base))
    return f"({named}, {kind}{_describe_shape(member.shape)})"


def _describe_shape(shape: tuple[int, ...]) -> str:
    if not shape:
        return ""
    if len(shape) > _MAX_AXES:
        raise ValueError(f"include one of more than {_MAX_AXES} axes")
    return f", ({shape[0]},)" if len(shape) == 1 else f", ({', '.join(map(str, shape))})"


def _quote(text: str) -> str:
    """Return a text in single quotes; whatever is not printable ASCII is escaped, quote and backslash too."""
    return f"'{_ESCAPED.sub(_escape, text)}'"


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    point = ord(char)
    if char in "\\'":
        return f"\\{char}"
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


@functools.lru_cache(maxsize=1024)
def parse_description(text: str) -> DType:
    """Return the element type of a description.

    Raises
    ------
    ValueError
        The text is no description.
    UnsupportedDtypeError
        This machine has no such type, or the installed ml_dtypes is too old for it.

    Examples
    --------
    >>> parse_description("[('a', '<f4', (2,)), ('', '|V3')]").itemsize
    11
    """
    if text in ML_DTYPES:
        return parse_dtype(text)
    try:
        if len(text) > _MAX_DESCRIPTION:
            raise ValueError(f"more than {_MAX_DESCRIPTION:,} characters")
        return _Parser(text).whole() if text[:1] == "[" else _parse_plain(text)
    except ValueError as error:
        raise ValueError(f"the element type {text[:80]!r} is unknown: {error}") from error


def _parse_plain(text: str) -> DType:
    found = _PLAIN.fullmatch(text)
    if found is None:
        raise ValueError("no plain type is spelled like that")
    void_bytes, points, factor = (int(digits or 0) for digits in found.groups())
    if max(void_bytes, 4 * points) > _MAX_NUMBER:
        raise ValueError("an element takes 2^31 bytes or more")
    if factor > _MAX_NUMBER:
        raise ValueError("the factor of its unit is 2^31 or more")
    try:
        return np.dtype(text)
    except TypeError as error:
        raise UnsupportedDtypeError(
            f"this machine has no type {text!r}", remedy="read it where it was saved"
        ) from error


class _Parser:
    """Reads a structured type from left to right: each token stands where the grammar has it, or nowhere."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def whole(self) -> DType:
        """Return the type that the whole text spells."""
        found = self._structure(1)
        if self._at < len(self._text):
            raise ValueError(f"more than a type, from character {self._at} on")
        return found

    def _has(self, token: str) -> bool:
        """Return whether a token comes next, and pass it."""
        there = self._text.startswith(token, self._at)
        self._at += len(token) * there
        return there

    def _require(self, token: str) -> None:
        if not self._has(token):
            raise ValueError(f"no {token!r} at character {self._at}")

    def _quoted(self) -> str:
        found = _QUOTED.match(self._text, self._at)
        if found is None:
            raise ValueError(f"no quoted text at character {self._at}")
        text = _ESCAPE.sub(_unescape, found[1])
        if _quote(text) != found[0]:
            raise ValueError(f"another spelling of the text at character {self._at}")
        self._at = found.end()
        return text

    def _shape(self) -> tuple[int, ...]:
        found = _SHAPE.match(self._text, self._at)
        if found is None:
            raise ValueError(f"no shape at character {self._at}")
        self._at = found.end()
        shape = tuple(int(axis) for axis in found[0][1:-1].rstrip(",").split(", "))
        if len(shape) > _MAX_AXES:
            raise ValueError(f"a member of more than {_MAX_AXES} axes")
        if max(shape) > _MAX_NUMBER:
            raise ValueError("an axis of a member is 2^31 or longer")
        return shape

    def _structure(self, depth: int) -> DType:
        if depth > MAX_NESTING:
            raise ValueError(f"its members nest more than {MAX_NESTING} deep")
        self._require("[")
        members = _Members()
        while not self._has("]"):
            if members.count:
                self._require(", ")
            self._member(members, depth)
        return members.dtype()

    def _member(self, members: _Members, depth: int) -> None:
        self._require("(")
        title = None
        if self._has("("):
            title = self._quoted()
            self._require(", ")
        name = self._quoted()
        if title is not None:
            self._require(")")
        self._require(", ")
        kind = (
            self._structure(depth + 1)
            if self._text.startswith("[", self._at)
            else _parse_plain(self._quoted())
        )
        shape = self._shape() if self._has(", ") else None
        self._require(")")
        members.add(name, title, kind, shape)


def _unescape(match: re.Match[str]) -> str:
    self, *digits = match.groups("")
    return self or chr(int("".join(digits), 16))


class _Members:
    """The members of a structured type, in order."""

    def __init__(self) -> None:
        self.count = 0
        self._names: list[str] = []
        self._titles: list[str | None] = []
        self._formats: list[DType] = []
        self._offsets: list[int] = []
        self._end, self._padded = 0, False

    def add(self, name: str, title: str | None, kind: DType, shape: tuple[int, ...] | None) -> None:
        """Add a member, or bytes that belong to none."""
        self.count += 1
        nbytes = kind.itemsize * math.prod(shape or ())
        if self._end + nbytes > _MAX_NUMBER:
            raise ValueError("an element takes 2^31 bytes or more")
        if shape is not None and kind.names is None and not kind.itemsize:
            raise ValueError("a shape beside a type of 0 bytes")  # which no numpy holds
        void = kind.kind == "V" and kind.names is None
        if name == "" and void and shape is None and title is None:
            if self._padded or not nbytes:
                raise ValueError("padding in two pieces, or of no bytes")
            self._padded = True
        else:
            if name == "" and (void or shape is not None):
                raise ValueError("padding with a shape or a title, or a subarray without a name")
            self._padded = False
            self._names.append(name)
            self._titles.append(title)
            self._formats.append(kind if shape is None else np.dtype((kind, shape)))
            self._offsets.append(self._end)
        self._end += nbytes

    def dtype(self) -> DType:
        """Return the structured type."""
        named = [*self._names, *(title for title in self._titles if title is not None)]
        if len(set(named)) < len(named):
            raise ValueError("two members of one name")
        fields: Any = {
            "names": self._names,
            "formats": self._formats,
            "offsets": self._offsets,
            "titles": self._titles,
            "itemsize": self._end,
        }
        found: DType = np.dtype(fields)
        return found


def _nesting(dtype: DType, limit: int) -> int:
    """Return how deep structured types nest, counting no further than one beyond a limit."""
    if dtype.names is None or limit < 0:
        return 0
    inner = (dtype[name].base for name in dtype.names)
    return 1 + max((_nesting(member, limit - 1) for member in inner if member.names is not None), default=0)
