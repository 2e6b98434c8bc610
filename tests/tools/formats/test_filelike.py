"""Sources and sinks as files of Python."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest

from archive.errors import ExistsError
from archive.storage.location import locate_source
from archive.storage.url import parse_url
from archive.tools.formats.filelike import SourceFile, Target, sibling, staged, stream_ranges


def test_a_source_reads_and_seeks_as_a_file_does(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(range(100)))
    source = locate_source(parse_url(path), "pread")
    with path.open("rb") as file:
        ours = SourceFile(source)
        for offset, whence in ((10, os.SEEK_SET), (5, os.SEEK_CUR), (-7, os.SEEK_END), (200, os.SEEK_SET)):
            assert ours.seek(offset, whence) == file.seek(offset, whence)
            assert ours.read(4) == file.read(4)
            assert ours.tell() == file.tell()
        for at in (ours, file):
            with pytest.raises(OSError, match="Invalid argument"):
                at.seek(-101, os.SEEK_END)
    source.close()


@pytest.mark.parametrize("name", ["{}/out", "memory://filelike/out"])
def test_a_target_appears_when_its_block_ends(tmp_path: Path, name: str) -> None:
    location = parse_url(name.format(tmp_path))
    with pytest.raises(TypeError), Target(location).open() as file:
        file.write(b"x" * 100 if not file.tell() else b"") and file.write(None)
    with pytest.raises(FileNotFoundError):
        locate_source(location, "pread")
    with Target(location, overwrite=True).open() as file:
        assert file.write(b"abc") == 3
        assert file.write(np.arange(3, dtype="u1")) == 3
        assert file.tell() == 6
    with staged(location) as path:
        assert Path(path).read_bytes() == b"abc\0\1\2"


def test_a_target_may_refuse_to_overwrite(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"theirs")
    target = Target(parse_url(tmp_path / "out"), overwrite=False)
    with pytest.raises(ExistsError), target.open() as file:
        file.write(b"ours")
    assert (tmp_path / "out").read_bytes() == b"theirs"


def test_ranges_come_in_the_order_that_was_asked_for() -> None:
    location = parse_url("memory://filelike/ranges")
    data = np.random.default_rng(0).integers(0, 256, 9 << 20, np.uint8)
    with Target(location).open() as file:
        file.write(data)
    source = locate_source(location, "pread")
    ranges = [(5 << 20, 4 << 20), (0, 10), (10, 0), (10, 5), (100, 5 << 20)]
    found = {number: io.BytesIO() for number in range(len(ranges))}
    order = []
    for number, part in stream_ranges(source, ranges):
        order.append(number)
        found[number].write(part.tobytes())
    assert order == sorted(order)
    for number, (offset, nbytes) in enumerate(ranges):
        assert found[number].getvalue() == data[offset : offset + nbytes].tobytes()


def test_a_sibling_lies_in_the_same_folder() -> None:
    location = sibling(parse_url("s3://bucket/a/m.json", {"anon": True}), "shard")
    assert (location.path, location.options) == ("s3://bucket/a/shard", {"anon": True})
