"""Regressions: what a review with fresh eyes found, each failing before it was mended."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import archive
from archive.engine.write.seal import seal_partial
from archive.errors import ArchiveError, StorageError, UnsupportedURLError
from archive.storage.local.journal import SUFFIX
from archive.storage.local.partial import PartialFile
from archive.storage.local.sink import PUSH_BYTES


def npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_buffers_of_flower_like_arrays_are_never_taken_for_one_another(tmp_path: Path) -> None:
    arrays = [
        SimpleNamespace(
            dtype="float32", shape=(2,), stype="numpy.ndarray", data=bytearray(npy(np.full(2, n, "f4")))
        )
        for n in range(2000)
    ]
    archive.save({str(n): array for n, array in enumerate(arrays)}, tmp_path / "a.h5")
    record = archive.load(tmp_path / "a.h5").array_records["model"]
    assert [int(record[str(n)].numpy()[0]) for n in range(2000)] == list(range(2000))


def test_a_consuming_save_takes_only_what_it_wrote(tmp_path: Path) -> None:
    mapping = {"b": np.zeros(20 << 20, "u1"), "a": np.ones(3)}

    def replace(done: int, total: int) -> None:
        if "a" in mapping and mapping["a"].sum() == 3:
            mapping["a"] = np.full(3, 9.0)

    replaced = archive.save(mapping, tmp_path / "a.h5", keep_input=False, progress=replace)
    assert replaced.arrays == 2
    # progress is called for the first 16 MiB of the file, before any array is taken: the nines were there
    assert {key: array.tolist() for key, array in mapping.items()} == {"a": [9.0, 9.0, 9.0]}
    written = archive.load(tmp_path / "a.h5").array_records["model"]["a"].numpy().tolist()
    assert written == [1.0, 1.0, 1.0]

    items: list[Any] = [np.ones(3), np.zeros(2)]
    late = np.full(1, 5.0)

    def append(done: int, total: int) -> None:
        if not any(item is late for item in items):
            items.append(late)

    archive.save(items, tmp_path / "b.h5", keep_input=False, progress=append)
    assert len(items) == 1
    assert items[0] is late


def test_a_partial_file_that_is_still_written_is_left_alone(tmp_path: Path) -> None:
    sink = PartialFile(str(tmp_path / "m.h5"))
    Path(sink.partial + SUFFIX).write_bytes(b"")
    with pytest.raises(StorageError, match="still running"):
        seal_partial(sink.partial)
    assert Path(sink.partial + SUFFIX).exists()
    sink.discard()


def test_masked_pieces_are_refused(tmp_path: Path) -> None:
    masked = np.ma.array([1.0, 2.0], mask=[True, False])
    with pytest.raises(TypeError, match="mask"), archive.create(tmp_path / "a.h5") as writer:
        writer.add("m", "w", [masked], shape=(2,), dtype="f8")
    assert not list(tmp_path.iterdir())


def test_tensors_of_a_loaded_record_are_its_own_business(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    archive.save({"v": np.ones(3, "f4")}, tmp_path / "a.h5")
    record = archive.load(tmp_path / "a.h5").array_records["model"]
    record["v"].torch().zero_()
    assert record["v"].numpy().tolist() == [1, 1, 1]
    assert record["v"].torch().tolist() == [1, 1, 1]


def test_closing_an_unpickled_handle_closes_no_other(tmp_path: Path) -> None:
    archive.save({"w": np.ones(3)}, tmp_path / "a.h5")
    handle = archive.open(tmp_path / "a.h5")
    first, second = (pickle.loads(pickle.dumps(handle)) for _ in range(2))
    array = pickle.loads(pickle.dumps(handle["w"]))
    first.close()
    assert second["w"].numpy().sum() == array.numpy().sum() == 3


def test_a_row_read_by_pread_keeps_no_segment_alive(tmp_path: Path) -> None:
    archive.save({"w": np.zeros((1024, 1024), "f4")}, tmp_path / "a.h5")
    with archive.open(tmp_path / "a.h5", access="pread") as handle:
        row = handle["w"][5]
    base = row
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert base.nbytes <= 2 * row.nbytes


@pytest.mark.parametrize("shape", [(1, 3_000_000), (3_000_000,), ()])
def test_the_mean_of_any_shape_and_of_longdouble(tmp_path: Path, shape: tuple[int, ...]) -> None:
    third = np.full(shape, np.longdouble(1) / 3)
    archive.save({"g": third, "f": np.full(shape, 2, "f4")}, tmp_path / "a.h5")
    archive.mean([tmp_path / "a.h5"], out=tmp_path / "mean.h5")
    averaged = archive.load(tmp_path / "mean.h5").array_records["model"]
    assert averaged["g"].shape == shape
    assert (averaged["g"].numpy() == third).all()
    assert (averaged["f"].numpy() == 2).all()


def test_views_of_the_map_stay_read_only(tmp_path: Path) -> None:
    archive.save({"w": np.ones(3)}, tmp_path / "a.h5")
    with archive.open(tmp_path / "a.h5") as handle:
        view = handle["w"].numpy()
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.flags.writeable = True


@pytest.mark.parametrize("url", ["file:///tmp/a\0b", "file://", "\ud800", "", "a\0b"])
def test_paths_that_are_none(url: str) -> None:
    with pytest.raises(UnsupportedURLError):
        archive.open(url)


def test_a_mapping_whose_items_are_an_iterator_is_emptied(tmp_path: Path) -> None:
    class Lazy(dict[str, Any]):
        def items(self) -> Any:
            return ((key, self[key]) for key in self)

    given = Lazy(a=np.ones(2), b=np.zeros(3))
    archive.save(given, tmp_path / "a.h5", keep_input=False)
    assert not given


def test_empty_slices_read_nothing(tmp_path: Path) -> None:
    archive.save({"w": np.zeros((2 << 20, 2), "f4")}, tmp_path / "a.h5", created="2026-01-01T00:00:00Z")
    data = bytearray((tmp_path / "a.h5").read_bytes())
    data[4096 + 9_000_000] ^= 1
    (tmp_path / "a.h5").write_bytes(data)
    with archive.open(tmp_path / "a.h5") as handle:
        assert handle["w"][5:2].shape == (0, 2)
        assert handle["w"][7:7, 1].shape == (0,)
        with pytest.raises(ArchiveError):
            handle["w"].numpy()


def test_an_archive_verified_at_open_is_not_hashed_again(tmp_path: Path) -> None:
    archive.save({"w": np.zeros(1000)}, tmp_path / "a.h5")
    with archive.open(tmp_path / "a.h5", verify="open") as handle:
        with open(tmp_path / "a.h5", "r+b") as file:  # what a mapped page shows is the file's business now
            os.pwrite(file.fileno(), b"\1", 4096)
        assert handle["w"].numpy().shape == (1000,)


PAGES = """
import archive, archive.tools, ctypes, mmap, sys
import numpy as np
how, path, kept = sys.argv[1:]
arrays = {str(n): np.full(4 << 20, n, "f4") for n in range(20)}
if how == "copy":
    archive.tools.copy(kept, path, durable=False)
else:
    given = iter(arrays.items()) if how == "stream" else arrays
    archive.save(given, path, keep_input=how != "consume", durable=False)
with open(path, "rb") as file:
    pages = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
libc = ctypes.CDLL(None)
present = (ctypes.c_ubyte * (len(pages) // 4096))()
address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
assert libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(len(present) * 4096), present) == 0
print(4096 * sum(page & 1 for page in present))
"""


@pytest.mark.slow
def test_a_pushed_file_does_not_fill_the_page_cache(tmp_path: Path) -> None:
    """Of a save that consumes, a stream and a copy at most `PUSH_BYTES` stay; a plain save stays whole."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], stdout=subprocess.PIPE, check=True, text=True)
    if kind.stdout.strip() == "tmpfs":
        pytest.skip("files of a tmpfs are in the page cache and nowhere else")
    present = {}
    for how in ("keep", "consume", "stream", "copy"):
        command = [sys.executable, "-c", PAGES, how, tmp_path / f"{how}.h5", tmp_path / "keep.h5"]
        present[how] = int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    assert present.pop("keep") > 300 << 20
    assert all(nbytes <= PUSH_BYTES for nbytes in present.values()), present
