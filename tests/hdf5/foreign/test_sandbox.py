"""The limits that the child process sets on itself."""

from __future__ import annotations

import signal
from pathlib import Path

import h5py

from tests.hdf5.foreign.test_child import run_child
from tests.hdf5.hostile import SECRET


def test_no_file_can_be_opened_after_the_first(tmp_path: Path) -> None:
    """Were a link to be followed by a mistake of ours, or of libhdf5's, it would still lead nowhere."""
    path = tmp_path / "f.h5"
    (tmp_path / "secret.bin").write_bytes(SECRET)
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "w", (len(SECRET),), "u1", external=[(str(tmp_path / "secret.bin"), 0, len(SECRET))]
        )
    program = (
        "import sys, h5py, numpy\n"
        "from archive.hdf5.foreign.sandbox import Limits\n"
        "file = h5py.File(f'/dev/fd/{sys.argv[1]}')\n"
        "if sys.argv[4:]: Limits(1000, 0).close_files(int(sys.argv[2]) + 2)\n"
        "try:\n"
        "    print('\"' + file['w'][()].tobytes().decode() + '\"')\n"
        "except OSError as error:\n"
        "    print('{\"refused\": true}')\n"
    )
    assert run_child(path, ("-c", program))[0] == SECRET.decode()
    limited = program.replace("if sys.argv[4:]: ", "")
    assert run_child(path, ("-c", limited))[0] == {"refused": True}


def test_loops_and_leaks_end_in_the_child(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"")
    start = "from archive.hdf5.foreign import sandbox\nsandbox.WALK_SECONDS = 1\nsandbox.Limits(0, 0)\n"
    answer, _ = run_child(path, ("-c", start + "while True: pass"))
    assert answer[0] == -signal.SIGXCPU
    answer, _ = run_child(path, ("-c", start + "bytearray(8 << 30)"))
    assert b"MemoryError" in answer[1]
    answer, _ = run_child(path, ("-c", start + "import os, sys\nos.ftruncate(int(sys.argv[2]), 1 << 40)"))
    assert b"File too large" in answer[1]
