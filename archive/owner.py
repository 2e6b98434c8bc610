"""Which process made something: the copy that the child of a fork inherits is inert.

A fork copies every object. A copy must not write to, publish or remove what its original goes on with, nor
wait for threads, which stay with the parent. So everything in the making has an `Owner`: in another process
using it raises an error, and tidying it up does nothing.

A child also shares open files, and the locks on them last as long as any process keeps a descriptor. So a
child closes its descriptors of files in the making as it begins. A thread may be opening such a file while
another one forks: the fork waits until the file's object knows the descriptor (`unforked`). An exception of a
signal handler is not to lose a descriptor either (`Descriptor`).
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Protocol

from archive import system
from archive.errors import ClosedError

__all__ = ["Descriptor", "Owner", "close_in_children", "unforked"]

FORK_WAIT_S = 1.0
"""Seconds that a fork waits for a file being opened: a file system that hangs is not to stop the program."""


class Owner:
    """The process that made something.

    Parameters
    ----------
    path : str, optional
        Named in errors.

    Examples
    --------
    >>> Owner().is_here
    True
    """

    __slots__ = ("_path", "pid")

    def __init__(self, path: str | None = None) -> None:
        self._path = path
        self.pid: int = os.getpid()
        """Its number."""

    @property
    def is_here(self) -> bool:
        """Whether that process is this one."""
        return self.pid == os.getpid()

    def require_here(self) -> None:
        """Raise unless that process is this one.

        Raises
        ------
        ClosedError
        """
        if not self.is_here:
            raise ClosedError(
                f"this belongs to another process ({self.pid}), of which this one is a fork",
                path=self._path,
                remedy="begin again in this process, under another name",
            )


class Descriptor(list[int]):
    """At most one file descriptor, which is closed when nothing refers to this list any more.

    A signal handler runs between the call that opens a file and the assignment of its result, and may raise:
    Ctrl-C, or the error of a time limit. So a descriptor comes into the list within one call of C, and is
    taken out and closed within another. Reference counts need no lock, which a fork could catch held.

    Examples
    --------
    >>> with Descriptor() as file:
    ...     number = file.open("/dev/null", os.O_RDONLY)
    ...     file == [number]
    True
    >>> file
    []
    """

    __slots__ = ()

    def open(self, path: str, flags: int, mode: int = 0o666, dir_fd: int | None = None) -> int:
        """Open a file and return its descriptor; it is closed when a program is executed.

        Its number is above those of stdin, stdout and stderr. Where a program closed these, what a library
        prints would go into the file.

        Raises
        ------
        OSError
        """
        call = os.open if dir_fd is None else partial(os.open, dir_fd=dir_fd)
        self.extend(map(call, (path,), (flags | system.O_CLOEXEC,), (mode,)))
        if self[0] <= 2:
            self.leave_stdio()
        return self[0]

    def leave_stdio(self) -> None:
        """Move a descriptor that has the number of stdin, stdout or stderr."""
        self.extend(map(system.fcntl, (self[0],), (system.F_DUPFD_CLOEXEC,), (3,)))
        next(map(os.close, map(self.pop, (0,))))

    def close(self) -> None:
        """Close the descriptor, once."""
        if self:
            next(map(os.close, map(self.pop, (0,))))

    def __enter__(self) -> Descriptor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self, close: Callable[[int], None] = os.close, refused: type[OSError] = OSError) -> None:
        for number in self:
            try:  # noqa: SIM105 - an interrupt may come as `contextlib.suppress` is called, and leave it open
                close(number)
            except refused:  # of NFS; the number is free all the same
                pass


class _Shared(Protocol):
    """Something with a descriptor that a child of a fork is not to keep."""

    def close_copy(self) -> None:
        """Close the descriptor, and nothing else."""


def close_in_children(shared: _Shared) -> None:
    """Have every child of a fork close its copy of a descriptor, as long as the object lives."""
    _shared.add(shared)


def unforked() -> threading.RLock:
    """Return what keeps other threads from forking, to be held while a file is opened and noted.

    The same thread may fork, in a signal handler. A fork in C code is not seen.

    Examples
    --------
    >>> with unforked():
    ...     fd = os.dup(1)
    >>> os.close(fd)
    """
    return _opening


def _before_fork() -> None:
    _fork.waited = _opening.acquire(timeout=FORK_WAIT_S)


def _after_in_parent() -> None:
    if _fork.waited:
        _opening.release()


def _after_in_child() -> None:
    global _opening  # noqa: PLW0603 after a fork that did not wait any longer, a thread of the parent has it
    _opening = threading.RLock()
    for shared in list(_shared):
        shared.close_copy()


_opening = threading.RLock()
_fork = threading.local()  # several threads may be about to fork
_shared: weakref.WeakSet[_Shared] = weakref.WeakSet()
system.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
