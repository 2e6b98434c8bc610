"""An append-only list of entries beside a partial file: what arrived in it, line by line.

A line is the CRC-32 of its payload in hexadecimal, a space, the payload, a newline. A writer that was
killed leaves at most one torn line, which is not read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import zlib
from collections.abc import Sequence

from archive import system
from archive.errors import DamagedError, StorageError
from archive.owner import Descriptor, Owner, close_in_children, unforked
from archive.storage.remedies import remedy_of

__all__ = [
    "SUFFIX",
    "ForgetfulJournal",
    "Journal",
    "has_journal",
    "read_journal",
    "remove_journal",
    "remove_own_journal",
    "sync_journal",
]

SUFFIX = ".journal"


class Journal:
    """The journal of one partial file, made new.

    Parameters
    ----------
    partial : str
        Path of the partial file.
    owner : Owner
        That of the partial file.

    Raises
    ------
    ClosedError, StorageError
    """

    _empty = False

    def __init__(self, partial: str, owner: Owner) -> None:
        self.path: str = partial + SUFFIX
        self._owner = owner
        self._file = Descriptor()
        self._empty = True
        close_in_children(self)
        owner.require_here()
        try:
            # it has values in it: no more open than the file beside it
            beside = os.stat(partial)
            with unforked():
                owner.require_here()  # a child that was forked since would make its parent's journal
                self._make(beside)
        except OSError as error:
            raise _failure(self.path, error) from error

    def _make(self, beside: os.stat_result) -> None:
        """Make the file, or take the one that a child made which this thread forked as it made the file.

        Such a child writes nothing, and the file is empty.
        """
        flags = os.O_WRONLY | os.O_APPEND | system.O_CLOEXEC
        try:
            self._file.open(self.path, flags | os.O_CREAT | os.O_EXCL, beside.st_mode & 0o666)
        except FileExistsError:
            fd = self._file.open(self.path, flags | system.O_NOFOLLOW | system.O_NONBLOCK)
            found = os.fstat(fd)
            if found.st_size or not stat.S_ISREG(found.st_mode) or found.st_uid != beside.st_uid:
                self._file.close()
                raise

    def append(self, payloads: Sequence[bytes]) -> None:
        """Add entries; when this returns they survive the death of the process."""
        lines = b"".join(b"%08x %s\n" % (zlib.crc32(payload), payload) for payload in payloads)
        self._empty = False
        while lines:
            self._owner.require_here()
            try:
                lines = lines[os.write(self._file[0] if self._file else -1, lines) :]
            except OSError as error:
                self._owner.require_here()  # a signal handler may have forked since
                raise _failure(self.path, error) from error

    def close(self) -> None:
        """Let go of the file, once."""
        with contextlib.suppress(OSError):  # every line was accepted, and is read again or removed
            self._file.close()

    def remove(self) -> None:
        """Remove the file: what it lists is published, or nothing arrived."""
        self.close()
        self._owner.require_here()
        _remove(self.path)

    def close_copy(self) -> None:
        """Close the descriptor that the child of a fork has of its parent's journal."""
        self.close()

    def __del__(self) -> None:
        # of a save that was interrupted before it began
        if self._empty and self._file and self._owner.is_here:
            with contextlib.suppress(StorageError):
                self.remove()


class ForgetfulJournal(Journal):
    """A journal of nothing: for a save that loses what it consumed when it fails."""

    def __init__(self) -> None:
        self._file = Descriptor()

    def append(self, payloads: Sequence[bytes]) -> None:
        """Forget them."""


def has_journal(partial: str) -> bool:
    """Tell whether something lies where a partial file has its journal, or raise StorageError."""
    try:
        os.lstat(partial + SUFFIX)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _failure(partial + SUFFIX, error) from error
    return True


def remove_journal(partial: str) -> None:
    """Remove the journal of a partial file."""
    _remove(partial + SUFFIX)


def remove_own_journal(partial: str) -> None:
    """Remove the journal of a partial file that needs none any more, unless it is the file of something else.

    After a power cut an own journal may be empty, torn, or zeros.
    """
    text = _read(partial + SUFFIX)
    if text is not None and (
        not text.strip(b"\0") or _TORN.match(text) or any(map(_is_whole, text.split(b"\n")[:-1]))
    ):
        remove_journal(partial)


def sync_journal(partial: str) -> None:
    """Make the journal of a partial file survive a power cut; its name is the folder's.

    Raises
    ------
    StorageError
    """
    path = partial + SUFFIX
    try:
        with Descriptor() as file:
            system.fsync(file.open(path, _READ))
    except OSError as error:
        raise _failure(path, error) from error


def read_journal(partial: str) -> list[bytes] | None:
    """Return the entries of a partial file's journal, None where it has none.

    A last line without its newline is torn, and left out.

    Raises
    ------
    StorageError
        It cannot be read, or is a link.
    DamagedError
        A line does not match its check: what comes after it cannot be placed.
    """
    path = partial + SUFFIX
    text = _read(path)
    if text is None:
        return None
    payloads = []
    for number, line in enumerate(text.split(b"\n")[:-1], 1):
        if not _is_whole(line):
            raise DamagedError(
                f"line {number} of the journal does not match its check",
                path=path,
                remedy="cut the journal off before that line to bring back what arrived before",
            )
        payloads.append(line[9:])
    return payloads


def _is_whole(line: bytes) -> bool:
    check, _, payload = line.partition(b" ")
    return check == b"%08x" % zlib.crc32(payload)


def _read(path: str) -> bytes | None:
    """Return the bytes of a journal, None where there is none; a link is not followed."""
    try:
        with Descriptor() as file:
            fd = file.open(path, _READ)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise _not_ours(path)
            with open(fd, "rb", closefd=False) as text:
                return text.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise _not_ours(path) from error
        raise _failure(path, error) from error


_READ = os.O_RDONLY | system.O_NOFOLLOW | system.O_NONBLOCK | system.O_CLOEXEC
_TORN = re.compile(rb'[0-9a-f]{8} \{"head": ')


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _failure(path, error) from error


def _failure(path: str, error: OSError) -> StorageError:
    remedy = remedy_of(error.errno, "check permissions and the disk")
    return StorageError(f"journal: {error.strerror}", path=path, errno=error.errno, remedy=remedy)


def _not_ours(path: str) -> StorageError:
    return StorageError(
        "the journal is a link or no file, and is not followed",
        path=path,
        errno=errno.ELOOP,
        remedy="remove it, or recover from another folder",
    )
