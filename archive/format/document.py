"""The JSON of the values section and of single values; extensions that `json` accepts are refused.

A JSON text of 60 MB can become 3 GB of objects. Hence a text is measured before it is parsed, and a writer
refuses what a reader would.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from archive import tuning
from archive.dtypes import NDArray
from archive.errors import StorageError
from archive.format.constants import MAX_NESTING

__all__ = ["RAISE", "SMALL_BYTES", "TooLargeError", "encode_json", "parse_json", "require_decodable"]

RAISE = f"raise {tuning.JSON_VARIABLE} (the environment) if you trust the file"
"""Remedy for a text that takes too much memory."""

SMALL_BYTES = 256 << 10
"""JSON up to this length is within the limit: it takes at most 64 bytes of memory for each of its own."""
_MAX_DIGITS = 309
"""The largest double has as many."""
_PIECE_BYTES = 256 << 10
"""Measured at a time, so that measuring takes 2 MB."""
_QUOTE = ord('"')
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1
# bytes of memory that each of these stands for, parsing included, measured on Python 3.10 to 3.14
_COSTS = np.zeros(256, np.int32)
for _mark, _cost in zip(b'[{,:"', (112, 96, 48, 192, 32), strict=True):
    _COSTS[_mark] = _cost
_NO_MARKS = bytes(set(range(256)) - set(b'[]{}"'))
_MOST_EACH = int(_COSTS.max()) + 13
"""What a byte of JSON takes at most: as a mark, and as a character (`_text_nbytes`)."""


class TooLargeError(ValueError):
    """A JSON text whose objects would take more memory than `archive.tuning.json_bytes`."""


def parse_json(text: bytes | NDArray, *, text_counts: bool = True) -> Any:
    """Return the content of a JSON text ([INDEX-18]).

    Parameters
    ----------
    text : bytes or ndarray of uint8
    text_counts : bool, default True
        As for `require_decodable`.

    Raises
    ------
    ValueError
        The text is not JSON in UTF-8, nests too deep, has a name twice in one object, or a lone surrogate.
    TooLargeError
        Its objects would take too much memory.

    Examples
    --------
    >>> parse_json(b'{"a": [1, 0.5]}')
    {'a': [1, 0.5]}
    >>> parse_json(b"[NaN]")
    Traceback (most recent call last):
    ValueError: NaN is not JSON
    """
    small = _MOST_EACH * len(text) <= _limit()
    if text_counts and not small:
        _require_less(3 * len(text), text)  # before it is copied
    text = bytes(text)
    shallow = small and _is_shallow(text)
    if not shallow and require_decodable(text, text_counts=text_counts) > MAX_NESTING:
        raise ValueError(f"the JSON nests more than {MAX_NESTING} deep")
    found = _DECODER.decode(text.decode())
    if b"\\u" in text:
        json.dumps(found, ensure_ascii=False).encode()  # a lone surrogate is a ValueError
    return found


def encode_json(content: Any, *, text_counts: bool = True) -> bytes:
    """Return content as JSON that `parse_json` takes.

    Raises
    ------
    TooLargeError
        Its objects would take too much memory when they are read.
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    require_decodable(text, text_counts=text_counts)
    return text


def require_decodable(text: bytes, *, text_counts: bool = True) -> int:
    """Return how deep a JSON text nests, after making sure that its objects take little memory.

    Parameters
    ----------
    text : bytes
        Anything: what is no JSON is measured up to the place where a parser would stop, at least.
    text_counts : bool, default True
        Whether its characters count as well; False where the caller asked for all of them.

    Raises
    ------
    TooLargeError
        They take more than `archive.tuning.json_bytes`.
    StorageError
        The environment has no number there.
    """
    nbytes = _text_nbytes(text) if text_counts else 0
    _require_less(nbytes, text)
    level = deepest = 0
    for marks in _marks(text):
        nbytes += int(_COSTS[marks].sum())
        _require_less(nbytes, text)
        steps = _STEPS[marks]
        levels = np.cumsum(steps[steps != 0], dtype=np.int32) + level
        if len(levels):
            deepest, level = max(deepest, int(levels.max())), int(levels[-1])
    return deepest


def _is_shallow(text: bytes) -> bool:
    """Return whether a text surely nests no deeper than it may; measuring its depth takes ten times as long.

    Strings whose two quotes meet, once all but quotes and brackets is gone, hold no bracket. A pass removes
    what is innermost: lists, then objects, thus two levels at most.
    """
    if b"\\" in text:
        return False
    marks = text.translate(None, _NO_MARKS).replace(b'""', b"")
    for _ in range(MAX_NESTING // 2):
        if not marks:
            break
        marks = marks.replace(b"[]", b"").replace(b"{}", b"")
    return not marks


def _limit() -> int:
    try:
        return tuning.json_bytes()
    except ValueError as error:
        raise StorageError(
            str(error), key=tuning.JSON_VARIABLE, remedy="set it to a number of bytes, such as 268435456"
        ) from None


def _require_less(nbytes: int, text: bytes | NDArray) -> None:
    """Raise where a text that takes at least ``nbytes`` of memory takes too much."""
    most = _limit()
    if nbytes > most:
        raise TooLargeError(
            f"{len(text):,} bytes of JSON, whose objects would take more than {most:,} bytes of memory"
        )


def _text_nbytes(text: bytes) -> int:
    """Return what the characters of a text take: its bytes, all of it decoded, and its strings.

    Strings with escapes are also encoded once, to find lone surrogates.
    """
    largest = int(np.frombuffer(text, np.uint8).max(initial=0))
    decoded = 1 if largest < 0xC4 else 2 if largest < 0xF0 else 4
    return len(text) * (1 + decoded + (8 if b"\\u" in text else decoded))


def _marks(text: bytes) -> Iterator[NDArray]:
    """Yield what stands outside the strings of a JSON text, piece by piece; each string leaves one quote."""
    if b"\\" in text:
        text = text.replace(rb"\\", b"").replace(rb"\"", b"")
    data, quoted = np.frombuffer(text, np.uint8), False
    for at in range(0, len(data), _PIECE_BYTES):
        piece: NDArray = data[at : at + _PIECE_BYTES]
        inside = np.logical_xor.accumulate(piece == _QUOTE) ^ quoted
        quoted = bool(inside[-1])
        yield piece[~inside]


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose names are all different."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in one JSON object")
    return found


class _NegativeZero(int):
    """The number ``-0``: as an int 0, as a float -0.0 ([VALUE-4])."""

    def __float__(self) -> float:
        return -0.0


def _integer(digits: str) -> int:
    """Return an integer that a double holds: the time for one grows with the square of its length."""
    if len(digits.lstrip("-")) > _MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits):,} digits")
    return _NegativeZero() if digits == "-0" else int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_refuse_constant, parse_int=_integer)
