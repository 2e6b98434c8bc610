"""Publishing a file whole or not at all: written beside the target, synced, renamed over it.

The temporary file is ``.NAME.<slot>.tmp``, or ``.NAME.<slot>.fedarchive.tmp`` of what is no archive, held by
a lock while it is written. A killed writer leaves it behind; the next save of the same name removes it, which
needs no listing of the folder (60 ms for 100,000 client files).
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any

from archive import system
from archive.dtypes import NDArray
from archive.errors import ExistsError, MissingError, StorageError
from archive.owner import Descriptor, Owner, close_in_children, unforked
from archive.storage.local.exclusive import place_new
from archive.storage.local.slots import MARKED, SLOTS, remove_stale
from archive.storage.local.source import FileSource, map_private
from archive.storage.local.volumes import (
    close_unlocked,
    copy_range,
    find_target,
    hold,
    keep_attributes,
    leads_to,
    reserve,
    sync_folder,
)
from archive.storage.remedies import remedy_of

__all__ = ["AtomicFile", "claim_slot"]

PUSH_BYTES = 64 << 20
"""Bytes of a pushed file that stay in the page cache at most."""
PUSH_STEP_BYTES = 16 << 20
"""Bytes whose writing begins at once, so that the disk works while the next bytes are made: 2 GB take 2.4 s,
and 3.0 s without (medians of 5)."""


class AtomicFile:
    """A file that appears under its name complete, or not at all.

    Parameters
    ----------
    path : str
        Where it will appear, absolute. A symbolic link is followed, so that the link stays and its target is
        replaced; another user's link in a folder such as ``/tmp`` is not. A file that is replaced hands on
        its mode, group, access control list and extended attributes, as far as the process may set them.
    overwrite : bool
        False: an existing file is an error, also one that appears while we write.
    durable : bool
        True: `publish` returns when the file and its name survive a power cut.
    push : bool
        Write to the disk as the file grows, and keep no more than 64 MiB of the file in the page cache: for
        files larger than memory.
    private : bool
        Let nobody else read the file while it is written.
    marked : bool
        The file does not begin as an archive does: its temporary name alone has to say whose it is.

    Raises
    ------
    ExistsError, MissingError, StorageError
    """

    any_order = True

    def __init__(
        self,
        path: str,
        *,
        overwrite: bool = True,
        durable: bool = True,
        push: bool = False,
        private: bool = False,
        marked: bool = False,
    ) -> None:
        self._overwrite = overwrite
        self._durable = durable
        self._reserved = 0
        self._push = push
        self._end = MARKED if marked else ".tmp"
        self._pushed = 0
        self.path: str = path
        self._begin()
        # only the name itself is followed: realpath would ask for every folder above it (0.05 ms)
        self.path, self._old = find_target(self.path)
        self._folder, self._name = os.path.split(self.path)
        if self._old is not None and not overwrite:
            raise self._exists()
        # never more open than what it replaces, whose mode it gets when it is published
        self._mode = 0o600 if private or self._old is not None else 0o666
        taken = False
        try:
            self._take_slot()
            taken = True
        except FileNotFoundError as error:
            raise MissingError(
                "the folder does not exist", path=self._folder, errno=errno.ENOENT, remedy="create it first"
            ) from error
        except OSError as error:
            raise self._failure("cannot create a temporary file", error) from error
        finally:
            if not taken:
                self.discard()

    def _begin(self) -> None:
        """Say whose file this is, before there is one."""
        self.owner: Owner = Owner(self.path)
        self._temporary, self._file = "", Descriptor()
        close_in_children(self)

    @property
    def temporary(self) -> str:
        """Path of the file until it is published."""
        return self._temporary

    def reserve(self, nbytes: int) -> None:
        """Reserve the first ``nbytes`` of the file on the disk, so that a full disk is found early."""
        fd = self.fileno()
        if nbytes <= self._reserved:
            return
        try:
            reserve(fd, self._reserved, nbytes - self._reserved)
        except OSError as error:
            raise self._failure(f"cannot reserve {nbytes} bytes", error) from error
        self._reserved = nbytes

    def reserve_if_possible(self, nbytes: int) -> bool:
        """Reserve ahead, and tell whether that worked; a disk too full for it is no error yet."""
        try:
            self.reserve(nbytes)
        except StorageError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            # what there was of it is ours now: given back, for the journal of a consuming save needs room too
            self.truncate(self._reserved)
            return False
        return True

    def truncate(self, nbytes: int) -> None:
        """Cut what was reserved and not needed."""
        fd = self.fileno()
        try:
            os.ftruncate(fd, nbytes)
        except OSError as error:
            raise self._failure("cannot cut the file to its length", error) from error

    def write(self, buffer: Any, offset: int) -> None:
        """Write a contiguous buffer at ``offset``; several threads may, each its own."""
        view = memoryview(buffer).cast("B")
        while len(view):
            fd = self.fileno()
            try:
                count = system.pwrite(fd, view, offset)
            except OSError as error:
                raise self._failure("writing failed", error, offset) from error
            offset += count
            view = view[count:]

    def copy(self, source: int, start: int, offset: int, nbytes: int) -> bool:
        """Have the system copy bytes of another file, maybe without moving any; False where it cannot."""
        return copy_range(source, start, self.fileno(), offset, nbytes)

    def read_into(self, offset: int, out: NDArray) -> None:
        """Fill ``out`` with what was written."""
        self.owner.require_here()
        FileSource(self.path, self._file, 0).read_into(offset, out)

    def push_to(self, end: int) -> None:
        """Take note that all bytes before ``end`` are written: those of a pushed file go to the disk now."""
        if self._push:
            try:
                self._push_to(end)
            except OSError as error:
                raise self._failure("syncing what was written failed", error) from error

    def fileno(self) -> int:
        """Return the file descriptor, which stays ours to close.

        Raises
        ------
        ClosedError
            The file belongs to the process that forked this one.
        """
        if self.owner.pid != os.getpid():
            self.owner.require_here()
        return self._file[0] if self._file else -1

    def map_written(self) -> NDArray:
        """Return what was written, uint8, to be read only."""
        fd = self.fileno()
        try:
            return map_private(fd, 0, os.lseek(fd, 0, os.SEEK_END), self.path, read_only=True)
        except OSError as error:
            raise self._failure("what was written cannot be read", error) from error

    def sync(self) -> None:
        """Make the bytes survive a power cut, where that was asked for."""
        fd = self.fileno()
        if self._durable:
            try:
                system.fsync(fd)
            except OSError as error:
                raise self._failure("publishing failed", error) from error

    def publish(self) -> None:
        """Make the file appear under its name; after an error `discard` or `leave` it.

        A failed sync is never tried again: the system has forgotten the pages it could not write
        (Rebello et al., "Can applications recover from fsync failures?", ATC 2020).
        """
        published = False
        fd = self.fileno()
        try:
            if self._overwrite:
                keep_attributes(fd, self.path, self._old)
            if self._durable:
                system.fsync(fd)
            else:
                # NFS reports at the close what it could not write; one call of C, which no interrupt divides
                next(map(os.close, map(os.dup, (fd,))))
            self.owner.require_here()
            self._place(fd)
            published = True
            if self._durable:
                sync_folder(self._folder)
        except StorageError:
            raise
        except FileExistsError as error:
            raise self._exists() from error
        except OSError as error:
            if published:
                raise StorageError(
                    f"published, but it may not survive a power cut: {error.strerror}",
                    path=self.path,
                    errno=error.errno,
                    remedy=remedy_of(error.errno, "save again, or elsewhere"),
                ) from error
            raise self._failure("publishing failed", error) from error
        self.discard()

    def _place(self, fd: int) -> None:
        """Give the file its name, if the temporary name still leads to it.

        A lock may be lost: on NFS with its server, as a byte-range lock with the first close. Then another
        save may have removed the file and made its own of that name. Once it is locked again, nobody will.
        """
        try:
            if not hold(fd, self._temporary):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if self._overwrite:
                os.rename(self._temporary, self.path)
            else:
                place_new(self._temporary, self.path)
        except (FileNotFoundError, FileExistsError):
            # done already: NFS repeats a request whose reply was lost, and so does a child that is forked at
            # this very call
            if not leads_to(self.path, fd):
                raise
        # a second name is removed by `discard`; a name that is free may be another writer's by now
        if self._overwrite or not leads_to(self._temporary, fd):
            self._temporary = ""

    def leave(self) -> str:
        """Let go of what is not published, but keep it, and return its path."""
        path, self._temporary = self._temporary, ""
        self.discard()
        return path

    def discard(self) -> None:
        """Remove what is not published and let go; the old file, if any, stays."""
        if not self.owner.is_here:
            self.close_copy()
            return
        if not self._file:
            return
        # what cannot be removed is removed by the next save of this name: it is not to hide how this one went
        with contextlib.suppress(OSError):
            # looked at: an interrupt may have come between the removal and the note of it, and another save
            # may have the name where the lock was lost
            if self._temporary and leads_to(self._temporary, self._file[0]):
                os.unlink(self._temporary)  # while the lock is held: nobody else can have taken the slot
        self._temporary = ""
        close_unlocked(self._file)

    def close_copy(self) -> None:
        """Close the descriptor that the child of a fork has of its parent's file, and nothing else."""
        with contextlib.suppress(OSError):
            self._file.close()

    def __del__(self) -> None:
        # of a save interrupted before its own clean-up began, or a writer whose block was never entered
        if hasattr(self, "_file"):
            self.discard()

    def _push_to(self, end: int) -> None:
        """Write to the disk what lies before ``end``, in whole steps, and drop it from the page cache.

        Advice begins to write dirty pages and drops clean pages, so that pages under way stay: after advice
        alone 600 to 1,500 of 2,048 MB stayed. The sync waits for them. `sync_file_range` would wait for less,
        but does nothing on overlayfs, the file system of containers.
        """
        advise = system.fadvise
        while end - self._pushed >= PUSH_STEP_BYTES:
            advise(self.fileno(), self._pushed, PUSH_STEP_BYTES, system.FADV_DONTNEED)
            self._pushed += PUSH_STEP_BYTES
            if self._pushed % PUSH_BYTES == 0:
                system.fdatasync(self.fileno())
                advise(self.fileno(), self._pushed - PUSH_BYTES, PUSH_BYTES, system.FADV_DONTNEED)

    def _take_slot(self) -> None:
        """Open a temporary file that is ours alone."""
        # 255 bytes are all a file name may have; what is cut off is only our own prefix
        stem = os.fsdecode(os.fsencode(self._name)[:200])
        prefix = os.path.join(self._folder, f".{stem}.")
        slots = iter([f"{prefix}{slot}{self._end}" for slot in (*range(SLOTS), os.urandom(8).hex())])
        for path in slots:
            self._temporary = path
            with unforked():
                if claim_slot(path, self._file, self._mode):
                    break
        else:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        for later in slots:
            if os.path.lexists(later):
                with contextlib.suppress(OSError):  # cleaning up is no reason not to save
                    remove_stale(later)

    def _exists(self) -> ExistsError:
        return ExistsError(
            "a file is already there",
            path=self.path,
            errno=errno.EEXIST,
            remedy="choose another name, or overwrite=True",
        )

    def _failure(self, what: str, error: OSError, offset: int | None = None) -> StorageError:
        self.owner.require_here()  # a signal handler that forks may come between the check and the call
        number = error.errno
        return StorageError(
            f"{what}: {error.strerror}",
            path=self.path,
            offset=offset,
            errno=number,
            remedy=remedy_of(number, "nothing was published"),
        )


def claim_slot(path: str, file: Descriptor, mode: int = 0o666) -> bool:
    """Make and hold a slot, whose mode follows the umask, and return whether that worked.

    False where another writer holds the slot, or its file is not ours. After an exception a file that was
    made is in ``file``, to be removed.
    """
    made = _create(path, file, mode)
    if not made:
        with contextlib.suppress(OSError):  # cleaning up is no reason not to save
            remove_stale(path)
        made = _create(path, file, mode)
    if made and hold(file[0], path):
        return True
    file.close()
    return False


def _create(path: str, file: Descriptor, mode: int) -> bool:
    """Make a slot; False where something is there already."""
    try:
        # one call of C, as in `Descriptor.open`
        file.extend(map(os.open, (path,), (_FLAGS,), (mode,)))
    except FileExistsError:
        return False
    if file[0] <= 2:
        file.leave_stdio()
    return True


_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | system.O_NOFOLLOW | system.O_CLOEXEC
