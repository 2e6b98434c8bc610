"""A file system that behaves like NFS: a FUSE server of its own process over a backing folder.

Two mounts of one backing folder are two clients. Python speaks the kernel's protocol itself, so that file
handles, lifetimes of names and lock owners are as they should be, and no library of FUSE is needed.

- Attributes, names, names that are not there and listings are kept for ``ttl`` seconds: changes of other
  clients are seen late, own changes at once. Opening a file asks for its attributes anew.
- A file that another client removed or replaced is stale: ESTALE, whatever is asked of its descriptor.
- An own open file that is unlinked or replaced lives on as ``.nfs...`` until its last close.
- Writes are kept until fsync, close, or a megabyte; their errors come at fsync or close.
- No fallocate, O_TMPFILE, extended attributes and flags of rename; flock becomes a byte-range lock.

A plan lists faults: ``{"op": "FSYNC", "at": 2, "error": "EIO"}`` fails the second sync since `Mount.reset`,
``"on": True`` all later ones too. ``"lost": True`` does an operation twice: the first reply was lost.
``before`` and ``after`` list what another client does at this moment.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NAMES = {
    1: "LOOKUP", 2: "FORGET", 3: "GETATTR", 4: "SETATTR", 5: "READLINK", 6: "SYMLINK", 8: "MKNOD", 9: "MKDIR",
    10: "UNLINK", 11: "RMDIR", 12: "RENAME", 13: "LINK", 14: "OPEN", 15: "READ", 16: "WRITE", 17: "STATFS",
    18: "RELEASE", 20: "FSYNC", 25: "FLUSH", 26: "INIT", 27: "OPENDIR", 28: "READDIR", 29: "RELEASEDIR",
    30: "FSYNCDIR", 32: "SETLK", 33: "SETLKW", 35: "CREATE", 36: "INTERRUPT", 42: "BATCH_FORGET",
    45: "RENAME2",
}  # fmt: skip
"""Operations by the numbers of the kernel's protocol; what is missing here is unsupported."""
UNSUPPORTED = dict.fromkeys((21, 22, 23, 24, 43, 47, 51), errno.EOPNOTSUPP)
"""Extended attributes, fallocate, copy_file_range, O_TMPFILE. All others: ENOSYS, and the kernel makes do."""
SILENT = ("FORGET", "BATCH_FORGET", "INTERRUPT")
FLOCK_LOCKS, BIG_WRITES, AUTO_INVAL, ATOMIC_TRUNC = 1 << 10, 1 << 5, 1 << 12, 1 << 3
DIRTY_BYTES = 1 << 20


@dataclass
class Node:
    """A file handle: an inode of the backing folder, pinned by a descriptor so that its number stays."""

    fd: int
    key: tuple[int, int]
    lookups: int = 0
    opens: int = 0
    silly: tuple[Node, str] | None = None
    dirty: list[tuple[int, bytes]] = field(default_factory=list)
    failed: int = 0
    """Error of a write that nobody was told of."""
    listing: tuple[float, list[tuple[str, os.stat_result]]] = (0.0, [])
    listed: int = 0
    """When the folder was last changed before it was listed."""
    locks: dict[int, int] = field(default_factory=dict)
    """Descriptors of the backing file that hold its locks, by owner."""


class Server:
    """One client of the backing folder, as its kernel sees it."""

    def __init__(self, backing: str, options: dict[str, Any]) -> None:
        self.ttl = float(options.get("ttl", 0))
        self.links = bool(options.get("links", True))
        self.locks = str(options.get("locks", "posix"))
        """``posix``: of a process, gone with its first close; ``flock``: of an open file; ``none``."""
        self.backing = backing
        self.nodes: dict[int, Node] = {1: self._node(os.open(backing, os.O_PATH))}
        self.nodes[1].lookups = 1
        self.numbers = {self.nodes[1].key: 1}
        self.files: dict[int, tuple[int, Node]] = {}
        self.lists: dict[int, list[tuple[str, os.stat_result]]] = {}
        self.last = 1
        self.plan: list[dict[str, Any]] = []
        self.seen: list[str] = []
        self.fired = 0

    # The protocol

    def serve(self, device: int) -> None:
        """Answer the kernel and the test, until the test goes or the file system is unmounted."""
        self.device = device
        while True:
            for ready in select.select([device, 0], [], [])[0]:
                if ready == 0:
                    line = sys.stdin.readline()
                    if not line:
                        return
                    _say(json.dumps(self._command(json.loads(line))))
                    continue
                try:
                    request = os.read(device, (1 << 20) + 8192)
                except OSError as error:
                    if error.errno == errno.ENODEV:
                        return
                    if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                        continue
                    raise
                self._answer(request)

    def _command(self, command: dict[str, Any]) -> Any:
        if "plan" in command:
            self.plan, self.seen, self.fired = command["plan"], [], 0
        return {
            "seen": self.seen,
            "fired": self.fired,
            "locks": sum(len(n.locks) for n in self.nodes.values()),
        }

    def _answer(self, request: bytes) -> None:
        _, code, unique, nodeid, _, _, self.pid, _, _ = struct.unpack_from("<IIQQIIIHH", request)
        name = NAMES.get(code)
        if name is None:
            self._reply(unique, UNSUPPORTED.get(code, errno.ENOSYS))
            return
        try:
            answer = self._perform(name, nodeid, request[40:])
        except OSError as error:
            if error.errno == errno.ESTALE:
                self._refresh(nodeid)
            self._reply(unique, error.errno or errno.EIO)
        else:
            if name not in SILENT:
                self._reply(unique, 0, answer or b"")

    def _refresh(self, nodeid: int) -> None:
        """Have the kernel ask for the attributes of a file again."""
        note = struct.pack("<Qqq", nodeid, -1, 0)
        with contextlib.suppress(FileNotFoundError):
            os.write(self.device, struct.pack("<IiQ", 16 + len(note), 2, 0) + note)

    def _reply(self, unique: int, number: int, body: bytes = b"") -> None:
        with contextlib.suppress(FileNotFoundError):  # interrupted: nobody waits for it
            os.write(self.device, struct.pack("<IiQ", 16 + len(body), -number, unique) + body)

    def _perform(self, name: str, nodeid: int, body: bytes) -> bytes | None:
        fault = self._fault(name) if name not in (*SILENT, "INIT") else {}
        self._meanwhile(fault.get("before", ()))
        number = getattr(errno, fault["error"]) if "error" in fault else 0
        method = getattr(self, f"do_{name.lower()}")
        if name == "WRITE" and number:
            self.nodes[nodeid].failed = number  # told later
            return struct.pack("<II", struct.unpack_from("<QQI", body)[2], 0)
        if number and name in ("FSYNC", "FLUSH"):
            self.nodes[nodeid].dirty.clear()
            if name == "FLUSH":
                self._unlock_process(self.nodes[nodeid])
        if number and name in ("RELEASE", "RELEASEDIR"):
            method(nodeid, body)
        if number:
            raise OSError(number, os.strerror(number))
        if fault.get("lost"):
            with contextlib.suppress(OSError):
                method(nodeid, body)
        listing = self.nodes[nodeid].listing if nodeid in self.nodes else None
        try:
            answer: bytes | None = method(nodeid, body)
        except OSError:
            if listing and name != "LOOKUP":
                self.nodes[nodeid].listing = listing  # nothing was changed
            raise
        self._meanwhile(fault.get("after", ()))
        return answer

    def _meanwhile(self, deeds: list[list[Any]]) -> None:
        """Do what another client does, past this one: ``["unlink", PATH]``, ``["replace", FROM, TO]``..."""
        for what, *rest in deeds:
            paths = [os.path.join(self.backing, part) if isinstance(part, str) else part for part in rest]
            with contextlib.suppress(FileNotFoundError):
                _DEEDS[what](*paths)

    def _fault(self, name: str) -> dict[str, Any]:
        self.seen.append(name)
        count = self.seen.count(name)
        for fault in self.plan:
            if fault["op"] == name and (count == fault["at"] or (fault.get("on") and count > fault["at"])):
                self.fired += 1
                return fault
        return {}

    # Nodes

    def _node(self, fd: int) -> Node:
        status = os.fstat(fd)
        return Node(fd, (status.st_dev, status.st_ino))

    def _status(self, node: Node) -> os.stat_result:
        """Return what the server says of a file; stale where the last name of it is gone."""
        status = os.fstat(node.fd)
        if not status.st_nlink:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return status

    def _attributes(self, node: Node) -> bytes:
        status = self._status(node)
        size = max([status.st_size, *(at + len(data) for at, data in node.dirty)])
        times = status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns
        return struct.pack(
            "<6Q10I",
            *(status.st_ino, size, status.st_blocks, *(ns // 10**9 for ns in times)),
            *(*(ns % 10**9 for ns in times), status.st_mode, status.st_nlink, status.st_uid, status.st_gid),
            *(0, 65536, 0),
        )

    def _valid(self) -> tuple[int, int]:
        return int(self.ttl), int(self.ttl % 1 * 10**9)

    def _entry(self, folder: Node, name: str) -> bytes:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder.fd)
        found = self._node(fd)
        number = self.numbers.get(found.key)
        if number is None:
            self.last = number = self.last + 1
            self.nodes[number], self.numbers[found.key] = found, number
        else:
            os.close(fd)
        node = self.nodes[number]
        node.lookups += 1
        seconds, nanoseconds = self._valid()
        head = struct.pack("<QQQQII", number, 1, seconds, seconds, nanoseconds, nanoseconds)
        return head + self._attributes(node)

    def _forget(self, number: int, count: int) -> None:
        node = self.nodes[number]
        node.lookups -= count
        if node.lookups <= 0 and number != 1:
            del self.nodes[number], self.numbers[node.key]
            os.close(node.fd)

    def _open_here(self, folder: Node, name: str) -> Node | None:
        """Return the node of a name if this client has it open."""
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
            node = self.nodes.get(self.numbers.get((status.st_dev, status.st_ino), 0))
            return node if node is not None and node.opens else None
        return None

    def _be_silly(self, folder: Node, name: str, node: Node) -> None:
        hidden = f".nfs{node.key[1]:016x}{self.last:08x}"
        os.rename(name, hidden, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
        node.silly = folder, hidden

    def _write_back(self, node: Node) -> None:
        if not node.dirty:
            return
        self._status(node)
        fd = os.open(f"/proc/self/fd/{node.fd}", os.O_WRONLY)
        try:
            for at, data in node.dirty:
                os.pwrite(fd, data, at)
        finally:
            os.close(fd)
            node.dirty.clear()

    def _tell(self, node: Node) -> None:
        """Write what is dirty, and report the errors of writing: once."""
        number, node.failed = node.failed, 0
        self._write_back(node)
        if number:
            raise OSError(number, os.strerror(number))

    # Operations

    def do_init(self, _: int, body: bytes) -> bytes:
        _, minor, ahead, _ = struct.unpack_from("<IIII", body)
        flags = FLOCK_LOCKS | BIG_WRITES | AUTO_INVAL | ATOMIC_TRUNC
        return struct.pack(
            "<IIIIHHIIHHI7I", 7, min(minor, 31), ahead, flags, 12, 9, 1 << 17, 1, 0, 0, 0, *[0] * 7
        )

    def do_lookup(self, nodeid: int, body: bytes) -> bytes:
        folder = self.nodes[nodeid]
        if folder.listed != os.fstat(folder.fd).st_mtime_ns:  # an answer has its attributes, too
            folder.listing = (0.0, [])
        try:
            return self._entry(folder, os.fsdecode(body[:-1]))
        except FileNotFoundError:
            self._status(self.nodes[nodeid])
            if not self.ttl:
                raise
            seconds, nanoseconds = self._valid()
            return struct.pack("<QQQQII", 0, 0, seconds, 0, nanoseconds, 0) + bytes(88)

    def do_forget(self, nodeid: int, body: bytes) -> None:
        self._forget(nodeid, struct.unpack_from("<Q", body)[0])

    def do_batch_forget(self, _: int, body: bytes) -> None:
        for place in range(struct.unpack_from("<I", body)[0]):
            self._forget(*struct.unpack_from("<QQ", body, 8 + 16 * place))

    def do_interrupt(self, _: int, body: bytes) -> None:
        """Nothing waits here."""

    def do_getattr(self, nodeid: int, _: bytes) -> bytes:
        seconds, nanoseconds = self._valid()
        return struct.pack("<QII", seconds, nanoseconds, 0) + self._attributes(self.nodes[nodeid])

    def do_setattr(self, nodeid: int, body: bytes) -> bytes:
        node = self.nodes[nodeid]
        self._status(node)
        found = struct.unpack_from("<IIQQQQQQIIIIIIII", body)
        valid, size, times, mode, uid, gid = (
            found[0],
            found[3],
            (found[5], found[6]),
            found[11],
            found[13],
            found[14],
        )
        path = f"/proc/self/fd/{node.fd}"
        if valid & 6:
            os.chown(path, uid if valid & 2 else -1, gid if valid & 4 else -1)
        if valid & 1:
            os.chmod(path, stat.S_IMODE(mode))
        if valid & 8:
            self._write_back(node)
            os.truncate(path, size)
        if valid & 0x1B0:
            old, now = os.stat(path), time.time_ns()
            kinds = (
                (0x80, 0x10, old.st_atime_ns, times[0], found[8]),
                (0x100, 0x20, old.st_mtime_ns, times[1], found[9]),
            )
            ns = [now if valid & n else s * 10**9 + f if valid & v else o for n, v, o, s, f in kinds]
            os.utime(path, ns=(ns[0], ns[1]))
        return self.do_getattr(nodeid, b"")

    def do_readlink(self, nodeid: int, _: bytes) -> bytes:
        return os.fsencode(os.readlink("", dir_fd=self.nodes[nodeid].fd))

    def do_symlink(self, nodeid: int, body: bytes) -> bytes:
        name, target = (os.fsdecode(part) for part in body[:-1].split(b"\0"))
        os.symlink(target, name, dir_fd=self._changed(nodeid).fd)
        return self._entry(self.nodes[nodeid], name)

    def do_mknod(self, nodeid: int, body: bytes) -> bytes:
        mode, name = struct.unpack_from("<I", body)[0], os.fsdecode(body[16:-1])
        os.mknod(name, mode, dir_fd=self._changed(nodeid).fd)
        return self._entry(self.nodes[nodeid], name)

    def do_mkdir(self, nodeid: int, body: bytes) -> bytes:
        mode, name = struct.unpack_from("<I", body)[0], os.fsdecode(body[8:-1])
        os.mkdir(name, mode, dir_fd=self._changed(nodeid).fd)
        return self._entry(self.nodes[nodeid], name)

    def do_unlink(self, nodeid: int, body: bytes) -> None:
        folder, name = self._changed(nodeid), os.fsdecode(body[:-1])
        node = self._open_here(folder, name)
        if node is None or node.silly:
            os.unlink(name, dir_fd=folder.fd)
        else:
            self._be_silly(folder, name, node)

    def do_rmdir(self, nodeid: int, body: bytes) -> None:
        os.rmdir(os.fsdecode(body[:-1]), dir_fd=self._changed(nodeid).fd)

    def do_rename(self, nodeid: int, body: bytes) -> None:
        self._rename(nodeid, struct.unpack_from("<Q", body)[0], body[8:])

    def do_rename2(self, nodeid: int, body: bytes) -> None:
        raise OSError(errno.EINVAL, "flags of a rename")

    def _rename(self, nodeid: int, new: int, names: bytes) -> None:
        old, target = (os.fsdecode(part) for part in names[:-1].split(b"\0"))
        source, folder = self._changed(nodeid), self._changed(new)
        moved = os.stat(old, dir_fd=source.fd, follow_symlinks=False)
        node = self._open_here(folder, target)
        if node is not None and node.key != (moved.st_dev, moved.st_ino) and not node.silly:
            self._be_silly(folder, target, node)  # the name is free for a moment, as on NFS
        os.rename(old, target, src_dir_fd=source.fd, dst_dir_fd=folder.fd)

    def do_link(self, nodeid: int, body: bytes) -> bytes:
        node, name = self.nodes[struct.unpack_from("<Q", body)[0]], os.fsdecode(body[8:-1])
        if not self.links:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        self._status(node)
        os.link(f"/proc/self/fd/{node.fd}", name, dst_dir_fd=self._changed(nodeid).fd, follow_symlinks=True)
        return self._entry(self.nodes[nodeid], name)

    def do_open(self, nodeid: int, body: bytes) -> bytes:
        node, flags = self.nodes[nodeid], struct.unpack_from("<I", body)[0]
        self._status(node)
        self._refresh(nodeid)  # close-to-open: to open is to ask for the attributes
        return self._opened(node, os.open(f"/proc/self/fd/{node.fd}", flags & ~(os.O_NOFOLLOW | os.O_EXCL)))

    def do_create(self, nodeid: int, body: bytes) -> bytes:
        flags, mode = struct.unpack_from("<II", body)
        folder, name = self._changed(nodeid), os.fsdecode(body[16:-1])
        fd = os.open(name, flags & ~os.O_DIRECT | os.O_CREAT, stat.S_IMODE(mode), dir_fd=folder.fd)
        entry = self._entry(folder, name)
        return entry + self._opened(self.nodes[struct.unpack_from("<Q", entry)[0]], fd)

    def _opened(self, node: Node, fd: int) -> bytes:
        node.opens += 1
        self.files[fd] = fd, node
        return struct.pack("<QII", fd, 0, 0)

    def do_read(self, nodeid: int, body: bytes) -> bytes:
        handle, offset, size = struct.unpack_from("<QQI", body)
        fd, node = self.files[handle]
        self._status(node)
        found = bytearray(os.pread(fd, size, offset))
        for at, data in node.dirty:
            start, end = max(at, offset), min(at + len(data), offset + size)
            if start < end:
                found.extend(bytes(max(0, end - offset - len(found))))
                found[start - offset : end - offset] = data[start - at : end - at]
        return bytes(found)

    def do_write(self, nodeid: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        node = self.nodes[nodeid]
        node.dirty.append((offset, body[40 : 40 + size]))
        if sum(len(data) for _, data in node.dirty) > DIRTY_BYTES:
            try:
                self._write_back(node)
            except OSError as error:
                node.failed = error.errno or errno.EIO
        return struct.pack("<II", size, 0)

    def do_statfs(self, _: int, __: bytes) -> bytes:
        found = os.statvfs(self.backing)
        counts = found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree
        return struct.pack("<5Q4I24x", *counts, found.f_bsize, 255, found.f_frsize, 0)

    def do_flush(self, nodeid: int, _: bytes) -> None:
        node = self.nodes[nodeid]
        self._unlock_process(node)
        self._tell(node)

    def do_fsync(self, nodeid: int, _: bytes) -> None:
        node = self.nodes[nodeid]
        self._status(node)
        self._tell(node)

    def do_release(self, nodeid: int, body: bytes) -> None:
        handle, _, how, owner = struct.unpack_from("<QIIQ", body)
        fd, node = self.files.pop(handle)
        with contextlib.suppress(OSError):
            self._write_back(node)
        os.close(fd)
        if how & 2 and self.locks != "posix":
            self._unlock(node, owner)
        node.opens -= 1
        if not node.opens and node.silly:
            folder, hidden = node.silly
            node.silly, folder.listing = None, (0.0, [])
            with contextlib.suppress(OSError):
                os.unlink(hidden, dir_fd=folder.fd)

    def do_opendir(self, nodeid: int, _: bytes) -> bytes:
        folder = self.nodes[nodeid]
        self._status(folder)
        self.last += 1
        if folder.listing[0] <= time.monotonic():
            folder.listed = os.fstat(folder.fd).st_mtime_ns
            names = os.listdir(f"/proc/self/fd/{folder.fd}")
            found = []
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    found.append((name, os.stat(name, dir_fd=folder.fd, follow_symlinks=False)))
            folder.listing = time.monotonic() + self.ttl, found
        self.lists[self.last] = folder.listing[1]
        return struct.pack("<QII", self.last, 0, 0)

    def do_readdir(self, _: int, body: bytes) -> bytes:
        handle, offset, size = struct.unpack_from("<QQI", body)
        entries = b""
        for place, (name, status) in enumerate(self.lists[handle][offset:], offset + 1):
            spelled = os.fsencode(name)
            entry = (
                struct.pack("<QQII", status.st_ino, place, len(spelled), stat.S_IFMT(status.st_mode) >> 12)
                + spelled
            )
            entry += bytes(-len(entry) % 8)
            if len(entries) + len(entry) > size:
                break
            entries += entry
        return entries

    def do_releasedir(self, _: int, body: bytes) -> None:
        self.lists.pop(struct.unpack_from("<Q", body)[0], None)

    def do_fsyncdir(self, nodeid: int, _: bytes) -> None:
        self._status(self.nodes[nodeid])

    def do_setlk(self, nodeid: int, body: bytes) -> None:
        handle, owner, _, _, kind, pid = struct.unpack_from("<QQQQII", body)
        node = self.nodes[nodeid]
        if self.locks == "none":
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        if self.locks == "posix":
            owner = pid or _process(self.pid)
        if kind == fcntl.F_UNLCK:
            self._unlock(node, owner)
            self._tell(node)
            return
        self._status(node)
        mode = fcntl.fcntl(self.files[handle][0], fcntl.F_GETFL) & os.O_ACCMODE
        if mode == (os.O_RDONLY if kind == fcntl.F_WRLCK else os.O_WRONLY):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        fd = node.locks.get(owner)
        held = fd is not None
        if fd is None:
            fd = os.open(f"/proc/self/fd/{node.fd}", os.O_RDONLY)
        try:
            fcntl.flock(fd, (fcntl.LOCK_EX if kind == fcntl.F_WRLCK else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError:
            if not held:
                os.close(fd)
            raise
        node.locks[owner] = fd

    do_setlkw = do_setlk

    def _unlock(self, node: Node, owner: int) -> None:
        fd = node.locks.pop(owner, None)
        if fd is not None:
            os.close(fd)

    def _unlock_process(self, node: Node) -> None:
        """Drop a process's lock: it closed a descriptor of the file, no matter which."""
        if self.locks == "posix" and node.locks:
            self._unlock(node, _process(self.pid))

    def _changed(self, nodeid: int) -> Node:
        """Return a folder that this client changes, whose listing it will make anew."""
        folder = self.nodes[nodeid]
        self._status(folder)
        folder.listing = (0.0, [])
        return folder


def _process(thread: int) -> int:
    """Return the process of a thread."""
    with contextlib.suppress(OSError), open(f"/proc/{thread}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Tgid:"))
    return thread


def _empty(folder: str) -> None:
    """Remove the files of a folder."""
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))


_DEEDS: dict[str, Callable[..., None]] = {"unlink": os.unlink, "replace": os.replace, "empty": _empty}


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Mount:
    """A mounted client; ``folder`` is where."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder, self._process = folder, process

    def reset(self, *plan: dict[str, Any]) -> None:
        """Count anew, and follow another plan."""
        self._ask({"plan": plan})

    def seen(self) -> list[str]:
        """Return the operations since `reset`."""
        found: list[str] = self._ask({})["seen"]
        return found

    def fired(self) -> int:
        """Return how many faults there were since `reset`."""
        return int(self._ask({})["fired"])

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@contextlib.contextmanager
def nfs_client(backing: Path, folder: Path, **options: Any) -> Iterator[Mount]:
    """Mount a backing folder as one client sees it; skipped where that cannot be done."""
    if os.geteuid() or not os.path.exists("/dev/fuse"):
        pytest.skip("a FUSE mount needs root and /dev/fuse")
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.servers.nfslike", str(backing), str(folder), json.dumps(options)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = process.stdout.readline()
        if said != "mounted\n":
            pytest.skip(f"no FUSE mount: {said}")
        try:
            yield Mount(folder, process)
        finally:
            subprocess.run(["umount", "-l", folder], check=False)
            process.stdin.close()
            process.wait(20)


def main() -> None:
    """Mount and serve: ``python -m tests.servers.nfslike BACKING FOLDER OPTIONS``."""
    backing, folder, options = sys.argv[1:]
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    how = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
    if libc.mount(b"nfslike", os.fsencode(folder), b"fuse.nfslike", 0, how.encode()):
        _say(os.strerror(ctypes.get_errno()))
        return
    _say("mounted")
    os.umask(0)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the kernel forgets files late
    try:
        Server(backing, json.loads(options)).serve(device)
    finally:
        libc.umount2(os.fsencode(folder), 2)


if __name__ == "__main__":
    main()
