"""The README holds: its commands are CI's, and so do its promises.

`test_pages.py` runs its code, `test_claims.py` holds it to evidence.
"""

from __future__ import annotations

import dataclasses
import os
import pickle
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive import errors, system
from archive.cli import main
from archive.format.constants import (
    DATA_AT,
    FOOTER_BYTES,
    INDEX_HEADER_BYTES,
    MAX_SEGMENT_BYTES,
    MIN_SEGMENT_BYTES,
)
from archive.format.digests import digest
from archive.format.footer import parse_footer
from tests.pages import ROOT, blocks, read_page

README = read_page("README.md")


def shown(kind: str) -> list[str]:
    """Return the code of all blocks of a kind."""
    return [block.code for block in blocks("README.md") if block.kind == kind]


def test_it_is_short() -> None:
    assert README.count("\n") <= 125


def test_the_picture_is_the_file(tmp_path: Path) -> None:
    picture = next(block.code for block in blocks("README.md") if "superblock" in block.code)
    rows = [line[6:].partition("  ")[0].strip() for line in picture.splitlines()]
    assert rows == [
        "superblock",
        "array bytes",
        "HDF5 tree",
        "index",
        "values",
        f"footer, {FOOTER_BYTES} bytes",
    ]
    assert (MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES) == (128 << 10, 4 << 20), "as its second row says"
    archive.save({"w": np.arange(3.0)}, tmp_path / "a.h5", metrics={"loss": 0.5})
    data = (tmp_path / "a.h5").read_bytes()
    footer = parse_footer(data[-FOOTER_BYTES:], len(data))
    assert data[DATA_AT : DATA_AT + 24] == np.arange(3.0).tobytes()
    places = [DATA_AT, footer.meta_at, footer.index_at, footer.values_at, len(data) - FOOTER_BYTES]
    assert places == sorted(places)
    assert footer.index_at + footer.index_bytes == footer.values_at, "adjacent"
    assert footer.values_at + footer.values_bytes == places[-1]
    assert f"\n{DATA_AT}  array bytes" in picture


def test_the_first_block_is_ten_lines() -> None:
    assert len([line for line in shown("python")[0].splitlines() if line]) <= 10


def test_two_commands_and_the_second_is_what_ci_runs() -> None:
    demo, check = (code.strip() for code in shown("sh"))
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert demo == "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/fedarchive demo"
    make, activate, *steps = check.split(" && ")
    assert make == "python3 -m venv .venv"
    assert activate == ". .venv/bin/activate"
    assert steps == ["pip install -e '.[test]'", "poe check"]
    assert 'python3 -m venv "$work/venv"' in ci
    assert '. "$work/venv/bin/activate"' in ci
    assert [line for line in ci if line in steps] == steps
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8").splitlines()
    assert {f"      - run: {step}" for step in steps} <= set(workflow)


def test_flipped_bytes_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    archive.save({"w": np.arange(30.0)}, path, metrics={"loss": 0.5})
    good = path.read_bytes()
    # every byte of the array, and every 17th of the file
    for offset in [*range(4096, 4096 + 240), *range(0, len(good), 17)]:
        bad = bytearray(good)
        bad[offset] ^= 0x10
        path.write_bytes(bad)
        try:
            assert not archive.verify(path), offset
        except archive.ArchiveError:
            continue
        if 4096 <= offset < 4096 + 240:
            with archive.open(path) as handle, pytest.raises(errors.DigestError, match="model/w"):
                handle["w"].numpy()


def test_a_save_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def noted(name: str, call: Any) -> Any:
        def wrapper(*arguments: Any) -> Any:
            folder = name == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode)
            calls.append(f"{name} of the folder" if folder else name)
            return call(*arguments)

        return wrapper

    for module, name in ((system, "fsync"), (os, "rename")):
        monkeypatch.setattr(module, name, noted(name, getattr(module, name)))
    archive.save({"w": np.zeros(3)}, tmp_path / "a.h5")
    assert calls == ["fsync", "rename", "fsync of the folder"]


@pytest.mark.parametrize("field", ["header", "offset"])
def test_a_hostile_index_is_refused(field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An index that lies under digests that hold."""
    path = tmp_path / "a.h5"
    archive.save({"w": np.arange(512.0)}, path)
    data = bytearray(path.read_bytes())
    footer = parse_footer(bytes(data[-FOOTER_BYTES:]), len(data))
    index = data[footer.index_at : footer.index_at + footer.index_bytes]
    if field == "offset":
        # the array is said to lie where the file ends
        at = index.index((4096).to_bytes(8, "little"), INDEX_HEADER_BYTES)
        index[at : at + 8] = len(data).to_bytes(8, "little")
    else:
        index[16:INDEX_HEADER_BYTES] = b"\xff" * (INDEX_HEADER_BYTES - 16)
    data[footer.index_at : footer.index_at + footer.index_bytes] = index
    data[-FOOTER_BYTES:] = dataclasses.replace(footer, index_digest=digest(bytes(index))).pack()
    path.write_bytes(data)
    with pytest.raises(errors.HostileFileError):
        archive.open(path)
    assert main(["info", str(path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


class Canary:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> Any:
        return (os.mkdir, ("unpickled",))


@pytest.mark.must("FILE-3")
def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(Canary())
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + b"\n"
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + pickled
    records = archive.RecordDict(
        {
            "model": archive.ArrayRecord({"w": archive.Array("object", (), "numpy.ndarray", npy)}),
            "run": archive.ConfigRecord({"blob": pickled}),
        }
    )
    archive.save(records, "a.h5")
    assert archive.verify("a.h5")
    loaded = archive.load("a.h5")
    with archive.open("a.h5") as handle:
        for array in (handle["w"], loaded.array_records["model"]["w"], records.array_records["model"]["w"]):
            assert array.data == npy
            for copy in (False, True):
                with pytest.raises(ValueError, match=r"object|pickle"):
                    array.numpy(copy=copy)
    assert loaded["run"]["blob"] == pickled
    assert main(["ls", "a.h5", "--json"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5"]
