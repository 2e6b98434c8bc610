"""The child process: ``python -m archive.hdf5.foreign.child FILE_FD SPOOL_FD BYTES`` lists one HDF5 file.

The listing goes to stdout as one JSON object, which `archive.engine.foreign.listing` reads. Data that cannot
be mapped in place is decoded into the spool.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from h5py import h5f, h5p

from archive.errors import ArchiveError, DamagedError, HostileFileError
from archive.hdf5.foreign.guards import Budget
from archive.hdf5.foreign.sandbox import Limits, Spool
from archive.hdf5.foreign.walk import Walk

__all__ = ["main"]

LIBRARY_ERRORS = (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError)
"""The exceptions that h5py raises for errors of libhdf5."""


def main(arguments: list[str]) -> int:
    """List one file; the exit status is 0 wherever an answer was written.

    Parameters
    ----------
    arguments : list of str
        Descriptors of the file (reading) and of the spool (reading and writing), and the bytes that may be
        decoded.
    """
    answer = _answer(*map(int, arguments))
    sys.stdout.buffer.write(json.dumps(answer, separators=(",", ":")).encode())
    sys.stdout.buffer.flush()
    return 0


def _answer(file_fd: int, spool_fd: int, most_decoded: int) -> dict[str, Any]:
    """Return the listing of a file, or the error that ended it."""
    file_bytes = os.fstat(file_fd).st_size
    limits = Limits(file_bytes, most_decoded)
    spool = Spool(spool_fd, limits)
    walk = None
    try:
        access = h5p.create(h5p.FILE_ACCESS)
        file = h5f.open(f"/dev/fd/{file_fd}".encode(), h5f.ACC_RDONLY, fapl=access)
        limits.close_files(max(spool_fd, file_fd, file.get_vfd_handle()))
        walk = Walk(file, Budget(file_bytes, most_decoded), limits, spool)
        return walk.listing()
    except ArchiveError as error:
        return _record(error)
    except MemoryError:
        return _record(HostileFileError("reading it needs more memory than it is given", key=_place(walk)))
    except LIBRARY_ERRORS as error:
        problem = f"libhdf5: {str(error)[:300] or type(error).__name__}"
        return _record(DamagedError(problem, key=_place(walk)))


def _place(walk: Walk | None) -> str | None:
    """Return the HDF5 path where a walk ended."""
    return None if walk is None else walk.path[:500]


def _record(error: ArchiveError) -> dict[str, Any]:
    """Return an error as the answer spells it."""
    return {
        "error": {
            "kind": type(error).__name__,
            "problem": error.problem,
            "key": error.key,
            "remedy": error.remedy,
            "errno": getattr(error, "errno", None),
        }
    }


if __name__ == "__main__":
    # without interpreter shutdown: closing thousands of HDF5 objects of a broken file risks a crash
    os._exit(main(sys.argv[1:]))
