"""An append-only list of entries beside a partial file: what arrived in it, line by line.

A line is the CRC-32 of its payload in hexadecimal, a space, the payload, a newline. A writer that was
killed leaves at most one torn line, which is not read.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from archive.errors import DamagedError, StorageError

__all__ = ["SUFFIX", "ForgetfulJournal", "Journal", "has_journal", "read_journal", "remove_journal"]

SUFFIX = ".journal"


class Journal:
    """The journal of one partial file, made new.

    Parameters
    ----------
    partial : str
        Path of the partial file.

    Raises
    ------
    StorageError
    """

    def __init__(self, partial: str) -> None:
        self.path = partial + SUFFIX
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            # it has values in it: no more open than the file beside it
            self._fd = os.open(self.path, flags, os.stat(partial).st_mode & 0o666)
        except OSError as error:
            raise _failure(self.path, error) from error

    def append(self, payloads: Sequence[bytes]) -> None:
        """Add entries; when this returns they survive the death of the process."""
        lines = b"".join(b"%08x %s\n" % (zlib.crc32(payload), payload) for payload in payloads)
        while lines:
            try:
                lines = lines[os.write(self._fd, lines) :]
            except OSError as error:
                raise _failure(self.path, error) from error

    def close(self) -> None:
        """Let go of the file, once."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):  # every line was accepted, and is read again or removed
                os.close(fd)

    def remove(self) -> None:
        """Remove the file: what it lists is published, or nothing arrived."""
        self.close()
        _remove(self.path)


class ForgetfulJournal(Journal):
    """A journal of nothing: for a save that loses what it consumed when it fails."""

    def __init__(self) -> None:
        self._fd = -1

    def append(self, payloads: Sequence[bytes]) -> None:
        """Forget them."""


def remove_journal(partial: str) -> None:
    """Remove the journal of a partial file."""
    _remove(partial + SUFFIX)


def has_journal(partial: str) -> bool:
    """Tell whether a partial file still has its journal."""
    return Path(partial + SUFFIX).exists()


def read_journal(partial: str) -> list[bytes] | None:
    """Return the entries of a partial file's journal, None where it has none.

    A last line without its newline is torn, and left out.

    Raises
    ------
    StorageError
        It cannot be read.
    DamagedError
        A line does not match its check: what comes after it cannot be placed.
    """
    try:
        text = Path(partial + SUFFIX).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failure(partial + SUFFIX, error) from error
    payloads = []
    for number, line in enumerate(text.split(b"\n")[:-1], 1):
        check, _, payload = line.partition(b" ")
        if check != b"%08x" % zlib.crc32(payload):
            raise DamagedError(
                f"line {number} of the journal does not match its check",
                path=partial + SUFFIX,
                remedy="cut the journal off before that line to bring back what arrived before",
            )
        payloads.append(payload)
    return payloads


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _failure(path, error) from error


def _failure(path: str, error: OSError) -> StorageError:
    return StorageError(f"journal: {error.strerror}", path=path, errno=error.errno, remedy="free some space")
