"""The JSON texts that hold a program's state among the configs of an archive: of limited size, both ways."""

from __future__ import annotations

import json

from archive.errors import HostileFileError, ValueRangeError
from archive.format.document import RAISE, TooLargeError, require_decodable
from archive.interop.statearrays import JSON

__all__ = ["from_text", "to_text"]


def to_text(tree: JSON, key: str) -> str:
    """Return a tree as text, to be stored under ``key``.

    Raises
    ------
    ValueRangeError
        Its objects would take too much memory when they are read.
    """
    text = json.dumps(tree, allow_nan=False, separators=(",", ":"))
    try:
        require_decodable(text.encode(), text_counts=False)
    except TooLargeError as error:
        raise ValueRangeError(str(error), key=key, remedy=RAISE) from error
    return text


def from_text(text: str, path: str, key: str) -> JSON:
    """Return the tree that a text of a file holds under ``key``.

    Raises
    ------
    HostileFileError
        Its objects would take too much memory.
    TypeError, ValueError, RecursionError
        Not such a text.
    """
    try:
        require_decodable(text.encode(), text_counts=False)
    except AttributeError as error:
        raise TypeError(f"a {type(text).__name__} instead of JSON") from error
    except TooLargeError as error:
        raise HostileFileError(str(error), path=path, key=key, remedy=RAISE) from error
    return json.loads(text)
