"""Which process made something: the copy that the child of a fork inherits is inert.

A fork copies every object. A copy must not write to, publish or remove what its original goes on with, nor
wait for threads, which stay with the parent. So everything in the making has an `Owner`: in another process
using it raises an error, and tidying it up does nothing.

A child also shares open files, and the locks on them last as long as any process keeps a descriptor. So a
child closes its descriptors of files in the making as it begins. A thread may be opening such a file while
another one forks: the fork waits until the file's object knows the descriptor (`unforked`).
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

from archive.errors import ClosedError

__all__ = ["Owner", "close_in_children", "unforked"]

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

    __slots__ = ("_path", "_pid")

    def __init__(self, path: str | None = None) -> None:
        self._path = path
        self._pid = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether that process is this one."""
        return self._pid == os.getpid()

    def require_here(self) -> None:
        """Raise unless that process is this one.

        Raises
        ------
        ClosedError
        """
        if not self.is_here:
            raise ClosedError(
                f"this belongs to another process ({self._pid}), of which this one is a fork",
                path=self._path,
                remedy="begin again in this process, under another name",
            )


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
    global _waited  # noqa: PLW0603 a fork has no other place to keep anything
    _waited = _opening.acquire(timeout=FORK_WAIT_S)


def _after_in_parent() -> None:
    if _waited:
        _opening.release()


def _after_in_child() -> None:
    global _opening  # noqa: PLW0603 after a fork that did not wait any longer, a thread of the parent has it
    _opening = threading.RLock()
    for shared in list(_shared):
        shared.close_copy()


_opening = threading.RLock()
_waited = False
_shared: weakref.WeakSet[_Shared] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
