"""Exit codes, and which error leads to which."""

from __future__ import annotations

from collections.abc import Iterable

from archive.errors import DamagedError, HostileFileError, TruncatedError

__all__ = [
    "BROKEN_PIPE",
    "DAMAGED",
    "DIFFERENT",
    "INTERRUPTED",
    "LEFT_OUT",
    "OK",
    "TROUBLE",
    "USAGE",
    "exit_code",
    "worst",
]

OK = 0
DAMAGED = 1
"""The file is an archive, or was one, and its bytes are not what was saved."""
USAGE = 2
"""The command could not do its work: wrong arguments, no archive there, the system refused."""
DIFFERENT = 1
"""Of diff alone, as of diff(1): the archives differ."""
TROUBLE = 2
"""Of diff alone, as of diff(1): they could not be compared, damage included."""
LEFT_OUT = 3
"""A conversion is done, and what was written does not hold all that was read."""
INTERRUPTED = 130
"""Ctrl-C: what a shell reports for SIGINT."""
BROKEN_PIPE = 141
"""The reader of our output went away: what a shell reports for SIGPIPE."""

_DAMAGE = (DamagedError, TruncatedError, HostileFileError)


def exit_code(error: OSError | Exception) -> int:
    """Return the exit code of an error.

    Examples
    --------
    >>> exit_code(TruncatedError("the file has 3 of 9 bytes")), exit_code(FileNotFoundError())
    (1, 2)
    """
    return DAMAGED if isinstance(error, _DAMAGE) else USAGE


def worst(codes: Iterable[int]) -> int:
    """Return the code to leave with after several files: damage weighs more than a file not found.

    Examples
    --------
    >>> worst([OK, USAGE, DAMAGED]), worst([OK, USAGE]), worst([])
    (1, 2, 0)
    """
    return max(codes, key=(OK, USAGE, DAMAGED).index, default=OK)
