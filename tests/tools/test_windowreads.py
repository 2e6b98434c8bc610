"""A window of many files, read into one buffer."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import archive
from archive.engine.read.open import open_reader
from archive.errors import DigestError
from archive.storage.url import parse_url
from archive.tools.meanwindows import plan_windows
from archive.tools.sameschema import Template
from archive.tools.windowreads import WindowReads

NAMES = ["a", "b", "c"]


def test_files_of_many_layouts_share_a_buffer(tmp_path: Path) -> None:
    """More layouts than are remembered, each twice; the bytes lie as in the first file."""
    orders = [NAMES, ["b", "a", "c"], ["c", "b", "a"], ["a", "c", "b"], ["b", "c", "a"], ["c", "a", "b"]]
    paths, wanted = [], []
    for number in range(12):
        values = {name: np.full(3000, 10 * number + at, "f4") for at, name in enumerate(NAMES)}
        values["b"] = values["b"].repeat(10)
        paths.append(tmp_path / f"{number}.h5")
        archive.save({name: values[name] for name in orders[number % 6]}, paths[-1])
        wanted.append([values[name] for name in NAMES])
    with ExitStack() as stack:
        readers = [open_reader(parse_url(path), access="pread", verify="first") for path in paths]
        for reader in readers:
            stack.callback(reader.close)
        template = Template(readers[0])
        f4 = [np.dtype("f4")] * 3
        (window,) = plan_windows(template.layout, range(3), f4, f4, stored_bytes=1 << 20, wide_bytes=1 << 24)
        buffer = np.zeros(window.nbytes, np.uint8)
        reads = WindowReads(window, buffer)
        for reader, arrays in zip(readers, wanted, strict=True):
            reads.fill(reader, template.layout_of(reader))
            for part in (part for strip in window.strips for part in strip.parts):
                found = buffer[part.at : part.at + part.nbytes].view("f4")
                assert (found == arrays[part.array]).all()


def test_damage_is_found_in_every_file(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.h5" for number in range(4)]
    for number, path in enumerate(paths):
        archive.save({"a": np.full(500, number, "f4"), "w": np.full(50_000, number + 1, "f4")}, path)
    with paths[2].open("r+b") as file:
        file.seek(150_000)
        file.write(b"\xff")
    with pytest.raises(DigestError, match=r"segment \d+ does not match") as caught:
        archive.mean(paths, out=tmp_path / "mean.h5")
    assert (caught.value.path, caught.value.key) == (str(paths[2]), "model/w")
    report = archive.mean(paths, out=tmp_path / "mean.h5", errors="skip")
    assert [one.position for one in report.skipped] == [2]
    means = archive.load(tmp_path / "mean.h5").array_records["model"]["w"].numpy()
    assert (means == np.float32((1 + 2 + 4) / 3)).all()
