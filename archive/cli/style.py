"""Bold, dim and red text on terminals that show it; the same text elsewhere."""

from __future__ import annotations

import os
import re
import sys
from typing import TextIO

__all__ = ["bold", "dim", "is_terminal", "red", "shows_colour", "width"]

_CODE = re.compile(r"\x1b\[\d*m")


def shows_colour(stream: TextIO | None = None) -> bool:
    """Return whether styled text goes to a stream, standard output by default.

    ``NO_COLOR`` and ``FORCE_COLOR`` decide where they are set and not empty, and ``NO_COLOR`` is stronger.
    Otherwise a terminal gets colours unless ``TERM`` is ``dumb``.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return os.environ.get("TERM") != "dumb" and is_terminal(sys.stdout if stream is None else stream)


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether somebody looks at a stream; a closed one has no reader."""
    return stream is not None and not stream.closed and stream.isatty()


def bold(text: str) -> str:
    """Return a header."""
    return _styled(text, 1)


def dim(text: str) -> str:
    """Return what is there for reference, such as a path."""
    return _styled(text, 2)


def red(text: str) -> str:
    """Return what needs attention: damage, NaN."""
    return _styled(text, 31)


def width(text: str) -> int:
    r"""Return how many characters of a printable text, which may be styled, are shown.

    Examples
    --------
    >>> width("ok"), width("\x1b[31mok\x1b[0m")
    (2, 2)
    """
    return len(_CODE.sub("", text)) if "\x1b" in text else len(text)


def _styled(text: str, code: int) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if text and shows_colour() else text
