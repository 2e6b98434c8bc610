"""Opens HDF5 files that are not archives: a guarded child process reads their tree, nothing is verified."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from archive import system
from archive.dtypes import NDArray
from archive.engine.foreign.dataset import Stored
from archive.engine.foreign.listing import build_index, parse_listing
from archive.engine.read.reader import Reader
from archive.errors import ArchiveError, DamagedError, HostileFileError, NotAnArchiveError, StorageError
from archive.hdf5.foreign.guards import max_decoded_bytes, require_hdf5
from archive.owner import Descriptor
from archive.storage.local.concat import SplicedSource
from archive.storage.local.source import FileSource, MapSource, open_source
from archive.storage.remedies import remedy_of

__all__ = ["open_foreign"]


MIN_SECONDS = 300
"""How long the child may take for any file. Loops end sooner, by its limit of processor time."""
BYTES_PER_SECOND = 250_000
"""Added to it for larger files."""
MAX_LISTING_BYTES = 1 << 30
"""Longest listing that is taken in: 2,000,000 datasets have about 400 MB."""
SEAM_ALIGN = 4096

_PACKAGES = Path(__file__).resolve().parents[3]
"""Where this very package lies: the child runs there, so that it finds it, and not in a folder where
somebody may have put an ``h5py.py``."""
_ERRORS: dict[str, type[ArchiveError]] = {
    kind.__name__: kind for kind in (DamagedError, HostileFileError, NotAnArchiveError)
}
_DEATHS = {
    -getattr(signal, name): death
    for name, death in (
        ("SIGXCPU", "libhdf5 used up its processor time on it"),
        ("SIGKILL", "the process that read it was killed, as the system does when memory runs out"),
    )
    if hasattr(signal, name)
}
"""Exit codes of a child that its limits ended."""
_DROPPED = ("HDF5_", "PYTHONINSPECT", "PYTHONWARNINGS", "PYTHONSTARTUP", "PYTHONBREAKPOINT")
_SETTINGS = {
    "HDF5_PLUGIN_PRELOAD": "::",  # libhdf5 takes this for: load no plugins
    "HDF5_USE_FILE_LOCKING": "FALSE",  # reading must work where the file system has no locks
    "OPENBLAS_NUM_THREADS": "1",  # 40 threads reserve more address space than the limit leaves
    "OMP_NUM_THREADS": "1",
}
_ANOTHER_COPY = "take another copy, or try h5dump on it"


def open_foreign(path: str, *, access: str, writable: bool, decoded_bytes: int | None = None) -> Reader:
    """Open an HDF5 file that is not, or no longer, an archive: repacked, edited, or written by others.

    Its datasets become rows of an index in memory: contiguous ones are read in place, all others from an
    unlinked temporary file that they were decoded into. No byte has a digest.

    Parameters
    ----------
    path : str
    access : {"auto", "mmap", "pread"}
    writable : bool
        Hand out elements that may be written to (mode ``"c"``).
    decoded_bytes : int, optional
        Bytes that may be decoded, as for `archive.open`.

    Raises
    ------
    NotAnArchiveError
        Not an HDF5 file.
    HostileFileError
        The file refers to other files, holds circles or bombs, or takes more time or memory than reading is
        given. The message names the HDF5 path.
    TruncatedError, DamagedError
        The file is cut short, or libhdf5 cannot read it.
    MissingError, StorageError
        The file, or the temporary folder, cannot be used.
    """
    file = open_source(path, access)
    path = file.path
    source: FileSource | SplicedSource = file
    reader = None
    try:
        require_hdf5(path, lambda at, n: file.read(at, min(n, file.nbytes - at)).tobytes(), file.nbytes)
        with _temporary() as spool, _temporary() as answer:
            answered = _listing(file, max_decoded_bytes(file.nbytes, decoded_bytes), spool, answer)
            spool_bytes = os.fstat(spool.fileno()).st_size
            seam = -(-file.nbytes // SEAM_ALIGN) * SEAM_ALIGN
            kind = MapSource if file.mapped and spool_bytes else FileSource
            decoded = kind(f"{file.path} (decoded)", Descriptor([os.dup(spool.fileno())]), spool_bytes)
            source = SplicedSource(file, decoded, seam)
        listing = parse_listing(path, answered, file.nbytes, spool_bytes)
        spliced = source

        def read(stored: Stored) -> NDArray:
            return spliced.read(stored.offset + seam * stored.spooled, stored.nbytes)

        index, values = build_index(listing, seam, read)
        reader = Reader(source, index, values, "off", writable, access=access)
    except ArchiveError:
        raise
    except OSError as error:
        raise StorageError(
            f"reading a foreign file failed: {error.strerror}",
            path=path,
            errno=error.errno,
            remedy="make room in the folder for temporary files, or point TMPDIR elsewhere"
            if error.errno == errno.ENOSPC
            else remedy_of(error.errno, "name a folder for temporary files by TMPDIR"),
        ) from error
    finally:
        if reader is None:
            source.close()
    return reader


def _temporary() -> IO[bytes]:
    """Open a file without a name, which the system removes however this process ends."""
    return tempfile.TemporaryFile(prefix="fedarchive-")


def _listing(file: FileSource, most_decoded: int, spool: IO[bytes], answer: IO[bytes]) -> dict[str, Any]:
    """Let the child read the file, and return its listing."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_DROPPED)}
    seconds = MIN_SECONDS + file.nbytes // BYTES_PER_SECOND
    with ExitStack() as stack:
        complaints = stack.enter_context(_temporary())
        fds = [_above_stdio(fd, stack) for fd in (file.fileno(), spool.fileno())]
        try:
            done = subprocess.run(  # noqa: S603 - our own module, numbers for arguments
                [sys.executable, "-m", "archive.hdf5.foreign.child", *map(str, (*fds, most_decoded))],
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=complaints,
                cwd=_PACKAGES,
                env=environment | _SETTINGS,
                pass_fds=fds,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise HostileFileError(
                f"reading it took more than {seconds} s", path=file.path, remedy=_ANOTHER_COPY
            ) from error
        _require_success(file.path, done.returncode, _last_line(complaints))
    return _parse(file.path, answer)


def _above_stdio(fd: int, stack: ExitStack) -> int:
    """Return a descriptor, or a copy of it where the child has its stdin, stdout or stderr under that number.

    A program that has closed its own opens files under these numbers.
    """
    if fd > 2:
        return fd
    copy = system.fcntl(fd, system.F_DUPFD_CLOEXEC, 3)
    stack.callback(os.close, copy)
    return copy


def _require_success(path: str, code: int, complaint: str) -> None:
    """Raise where the child did not end by itself."""
    if code in _DEATHS:
        raise HostileFileError(_DEATHS[code], path=path, remedy=_ANOTHER_COPY)
    if code < 0:
        name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
        raise DamagedError(f"libhdf5 died of it ({name})", path=path, remedy=_ANOTHER_COPY)
    if code:
        raise DamagedError(f"h5py cannot read it: {complaint}", path=path, remedy=_ANOTHER_COPY)


def _parse(path: str, answer: IO[bytes]) -> dict[str, Any]:
    """Return the child's listing, or raise the error that it wrote instead."""
    nbytes = os.fstat(answer.fileno()).st_size
    if nbytes > MAX_LISTING_BYTES:
        raise HostileFileError(f"its listing takes {nbytes:,} bytes", path=path, remedy="split the file")
    answer.seek(0)
    try:
        listing = json.loads(answer.read())
    except (ValueError, RecursionError):
        listing = None
    if not isinstance(listing, dict):
        raise DamagedError("the process that read it wrote no listing", path=path, remedy=_ANOTHER_COPY)
    refusal = listing.get("error")
    if isinstance(refusal, dict):
        raise _refused(path, refusal)
    return listing


def _refused(path: str, refusal: dict[str, Any]) -> ArchiveError:
    """Return the error that the child wrote."""
    problem, key = str(refusal.get("problem"))[:1000], str(refusal.get("key") or "")[:500] or None
    remedy, errno = str(refusal.get("remedy") or _ANOTHER_COPY)[:500], refusal.get("errno")
    if refusal.get("kind") == StorageError.__name__:
        number = errno if isinstance(errno, int) else None
        return StorageError(problem, path=path, key=key, remedy=remedy, errno=number)
    kind = _ERRORS.get(str(refusal.get("kind")), DamagedError)
    return kind(problem, path=path, key=key, remedy=remedy)


def _last_line(complaints: IO[bytes]) -> str:
    size = os.fstat(complaints.fileno()).st_size
    complaints.seek(max(0, size - 4096))
    lines = complaints.read().decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "no reason given"
