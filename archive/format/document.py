"""The JSON of the index and of values; extensions that `json` accepts are refused."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import numpy as np

from archive.format.constants import MAX_NESTING

__all__ = ["parse_json"]

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1


def parse_json(text: bytes) -> Any:
    """Return the content of a JSON text ([INDEX-18]).

    Raises
    ------
    ValueError
        The text is not JSON in UTF-8, nests too deep, has a name twice in one object, or a lone surrogate.

    Examples
    --------
    >>> parse_json(b'{"a": [1, 0.5]}')
    {'a': [1, 0.5]}
    >>> parse_json(b"[NaN]")
    Traceback (most recent call last):
    ValueError: NaN is not JSON
    """
    try:
        found = json.loads(text.decode(), object_pairs_hook=_distinct, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("the JSON nests too deep") from error
    # after the parser: a pattern finds the strings of valid JSON only
    if _depth(text) > MAX_NESTING:
        raise ValueError(f"the JSON nests more than {MAX_NESTING} deep")
    if b"\\u" in text:
        json.dumps(found, ensure_ascii=False).encode()  # a lone surrogate is a ValueError
    return found


def _depth(text: bytes) -> int:
    """Return how deep a JSON text nests."""
    if text.count(b"[") + text.count(b"{") <= MAX_NESTING:
        return 0
    steps = _STEPS[np.frombuffer(_STRING.sub(b"", text), np.uint8)]
    return int(np.cumsum(steps[steps != 0], dtype=np.int64).max(initial=0))


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose names are all different."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in one JSON object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
