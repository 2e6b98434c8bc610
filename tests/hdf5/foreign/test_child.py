"""The child process that reads foreign files: its listing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import archive
from archive.errors import HostileFileError
from tests.hdf5.hostile import HOSTILE, SECRET, Craft, make

ROOT = Path(__file__).resolve().parents[3]


def run_child(
    path: Path, program: tuple[str, ...] = ("-m", "archive.hdf5.foreign.child")
) -> tuple[Any, bytes]:
    """Return the listing of a file, or its error, and the spool."""
    with tempfile.TemporaryFile() as spool, path.open("rb") as file:
        fds = file.fileno(), spool.fileno()
        done = subprocess.run(
            [sys.executable, *program, *map(str, fds), str(1 << 30)],
            cwd=ROOT,
            capture_output=True,
            pass_fds=fds,
            check=False,
        )
        spool.seek(0)
        return (json.loads(done.stdout) if done.stdout else (done.returncode, done.stderr)), spool.read()


def test_contiguous_datasets_are_left_in_place_and_others_decoded(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    data = np.arange(1000, dtype="<i4")
    with h5py.File(path, "w", track_order=True) as file:
        file["plain"] = data
        file.create_dataset("chunked", data=data, chunks=(100,))
        file.create_dataset("gzip", data=np.tile(data, 1000), compression="gzip")
        file["tied"] = file["plain"]
        file["empty"] = np.empty((3, 0))
    listing, spool = run_child(path)
    assert [parent for parent, *_ in listing["groups"]] == [-1]
    named = {name: (first, entry) for _, name, first, entry in listing["datasets"]}
    assert list(named) == ["plain", "chunked", "gzip", "tied", "empty"]
    dtype, mode, itemsize, shape, spooled, offset, nbytes, attributes = named["plain"][1]
    assert (dtype, mode, itemsize, shape, spooled, nbytes) == ("int32", "elements", 4, [1000], 0, 4000)
    assert attributes == {}
    assert path.read_bytes()[offset : offset + nbytes] == data.tobytes()
    for name, wanted in (("chunked", data), ("gzip", np.tile(data, 1000))):
        *_, spooled, offset, nbytes, _ = named[name][1]
        assert spooled
        assert spool[offset : offset + nbytes] == wanted.tobytes()
    assert named["tied"] == (0, [])
    assert named["empty"][1][3:7] == [[3, 0], 0, 0, 0]


def test_types_whose_bytes_are_not_numpys_are_converted(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    twenty_bits = h5py.h5t.STD_I32LE.copy()
    twenty_bits.set_precision(20)
    twenty_bits.set_offset(4)
    padded = h5py.h5t.C_S1.copy()
    padded.set_size(4)
    padded.set_strpad(h5py.h5t.STR_SPACEPAD)
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((3,))
        integers = h5py.h5d.create(file.id, b"i20", twenty_bits, space)
        integers.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([1, -2, 3], "i4"))
        texts = h5py.h5d.create(file.id, b"text", padded, space)
        texts.write(h5py.h5s.ALL, h5py.h5s.ALL, np.frombuffer(b"ab  c   defg", "S4"), mtype=padded)
    listing, spool = run_child(path)
    read = {}
    for _, name, _, (dtype, _, _, _, spooled, offset, nbytes, _) in listing["datasets"]:
        assert spooled
        read[name] = np.frombuffer(spool[offset : offset + nbytes], dtype).tolist()
    assert read == {"i20": [1, -2, 3], "text": [b"ab", b"c", b"defg"]}


@pytest.mark.slow  # the quick tests have each of them judged by child and parent together
@pytest.mark.parametrize("craft", HOSTILE, ids=lambda craft: craft.__name__)
def test_the_secret_never_leaves_the_child(craft: Craft, tmp_path: Path) -> None:
    # without the parent's own look at the superblock
    path = make(craft, tmp_path)
    listing, spool = run_child(path)
    assert SECRET not in json.dumps(listing, default=str).encode()
    assert SECRET not in spool
    if "error" in listing:
        assert listing["error"]["kind"] in ("HostileFileError", "DamagedError")
    else:  # what the child lists, the parent judges
        with pytest.raises(HostileFileError):
            archive.open(path, foreign=True)


@pytest.mark.slow
def test_files_without_holes_in_their_answer(tmp_path: Path) -> None:
    """Every truncation and a sample of flipped bytes: an answer or a death, never a hang or a traceback."""
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file["g/w"] = np.arange(10)
        file["g"].attrs["name"] = "text"
    data = path.read_bytes()
    random = np.random.default_rng(5)
    for at in random.integers(0, len(data), 12).tolist():
        damaged = bytearray(data)
        damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        listing, _ = run_child(path)
        assert not isinstance(listing, tuple) or listing[0] < 0, listing
    os.truncate(path, len(data) // 2)
    assert run_child(path)[0]["error"]["kind"] == "DamagedError"
