"""A file that one process has locked; the system ends the lock with the process, however that ends."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from archive import system
from archive.errors import StorageError
from archive.owner import Descriptor, Owner, close_in_children, unforked
from archive.storage.local.volumes import close_unlocked, leads_to, lock_file
from archive.storage.remedies import remedy_of

__all__ = ["LockFile"]

READ_BYTES = 4096
"""What is read of the text of a lock."""


class LockFile:
    """A lock that a process takes by its file, which is made where it is missing and never removed.

    A child of a fork neither has the lock nor lets go of it.

    Parameters
    ----------
    path : str
        Absolute path of the file. No link is followed there.

    Examples
    --------
    >>> lock, other = LockFile("/tmp/fedarchive-doctest.lock"), LockFile("/tmp/fedarchive-doctest.lock")
    >>> lock.take(b"the first"), other.take(b"the second"), other.read()
    (True, False, b'the first')
    >>> lock.release()
    >>> other.take(b"the second")
    True
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.owner: Owner = Owner(path)
        self.exclusive: bool = True
        """False where the file system has no locks: what was taken keeps nobody away."""
        self._file = Descriptor()
        close_in_children(self)

    @property
    def taken(self) -> bool:
        """Whether this process has the lock by this object."""
        return bool(self._file) and self.owner.is_here

    def take(self, text: bytes) -> bool:
        """Take the lock and write a text about its holder; False where somebody has the lock.

        Raises
        ------
        StorageError
            The file cannot be made, opened or written.
        ClosedError
            The lock belongs to the process that forked this one.
        """
        self.owner.require_here()
        if self._file:
            return True
        try:
            while self._open():
                if leads_to(self.path, self._file[0]):
                    self._write(text)
                    return True
                close_unlocked(self._file)  # the file was removed meanwhile: another process may make it anew
        except OSError as error:
            close_unlocked(self._file)
            if isinstance(error, StorageError):
                raise
            raise StorageError(
                f"cannot take the lock: {error.strerror}",
                path=self.path,
                errno=error.errno,
                remedy=remedy_of(error.errno, "check the permissions of the file and of its folder"),
            ) from error
        return False

    def read(self) -> bytes:
        """Return the text of the last holder, empty where there is none."""
        with contextlib.suppress(OSError), Descriptor() as file:
            fd = file.open(self.path, os.O_RDONLY | system.O_NOFOLLOW | system.O_NONBLOCK)
            return system.pread(fd, READ_BYTES, 0)
        return b""

    def release(self) -> None:
        """Let go of the lock. The file stays, or a process that just opened it would lock another one."""
        if self.owner.is_here:
            close_unlocked(self._file)
        else:
            self.close_copy()

    def close_copy(self) -> None:
        """Close the descriptor that the child of a fork has of its parent's lock, and nothing else."""
        with contextlib.suppress(OSError):
            self._file.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self.release()

    def _open(self) -> bool:
        """Open the file and lock it; False where somebody has the lock."""
        flags = os.O_RDWR | os.O_CREAT | system.O_NOFOLLOW | system.O_NONBLOCK
        with unforked():
            fd = self._file.open(self.path, flags)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise StorageError(
                "not a file, so that it cannot be locked",
                path=self.path,
                errno=errno.EINVAL,
                remedy="remove it",
            )
        if not lock_file(fd):
            self._file.close()
            return False
        self.exclusive = lock_file(fd, unlocked=False)  # again: without locks the first call says yes
        return True

    def _write(self, text: bytes) -> None:
        fd = self._file[0]
        if os.fstat(fd).st_nlink > 1:
            return  # a second name, such as one in a backup of hard links, is not to change with it
        # the new text, then its length: a process that reads in between finds a whole first line
        system.pwrite(fd, text[:READ_BYTES], 0)
        os.ftruncate(fd, len(text[:READ_BYTES]))
