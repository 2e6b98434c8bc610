"""Array.read and Array.torch of what is in a file or an object: straight into memory, verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import archive
from archive import tuning
from archive.dtypes import NDArray
from archive.engine.read.storedpayload import StoredPayload
from archive.errors import ClosedError, DigestError
from archive.format.segments import segment_bytes_of
from tests.engine.read.test_slices import CHOSEN, PATH, URL, WAYS, Ways, arrays, cases
from tests.engine.read.test_slices import store as store
from tests.engine.read.test_slices import ways as ways
from tests.optional import torch
from tests.storage import folderstore
from tests.storage.folderstore import FolderStore, reach

ALL_WAYS = (*WAYS, "foreign")


def compare(handle: archive.Archive, key: str, index: Any) -> None:
    wanted = arrays()[key][index]
    found = handle[key].read(index)
    assert type(found) is np.ndarray
    assert found.shape == np.shape(wanted)
    assert found.dtype == (wanted.dtype if isinstance(wanted, np.ndarray) else arrays()[key].dtype)
    assert found.flags.writeable
    assert np.array_equal(found, wanted)
    if found.nbytes:
        found.reshape(-1).view(np.uint8)[:] = 1  # nobody sees that
    for out in (np.zeros(found.shape, found.dtype), np.zeros((*found.shape, 2), found.dtype)[..., 1]):
        if out.dtype == found.dtype:  # numpy makes S1 of S0
            assert handle[key].read(index, out) is out
            assert np.array_equal(out, wanted)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read ranges of a remote array of a few segments straight into memory, as those of many are."""
    monkeypatch.setattr(tuning, "SINGLE_REQUEST_BYTES", 1 << 20)


@pytest.mark.parametrize("way", ALL_WAYS)
def test_chosen_indexes(ways: Ways, eager: None, way: str) -> None:
    ranges: list[tuple[str, Any]] = [
        ("wide", ...),
        ("wide", np.s_[100:2900]),
        ("wide", np.s_[1, 5:9]),
        ("wide", np.s_[2999:]),
        ("wide", np.s_[None, 7:1900, :]),
        ("tied", np.s_[200:1200]),
        ("fortran", ...),
        ("fortran", np.s_[3:400]),
        ("text", ...),
        ("members", np.s_[1000:450_001]),
        ("short", np.s_[:2000]),
        ("small", ...),
        ("empty", ...),
    ]
    with ways[way]() as handle:
        for key, index in [*CHOSEN, *ranges]:
            compare(handle, key, index)


@given(case=cases(), way=st.sampled_from(ALL_WAYS))
def test_as_numpy(ways: Ways, case: tuple[str, Any], way: str) -> None:
    key, index = case
    try:
        arrays()[key][index]
    except IndexError:
        return
    with ways[way]() as handle:
        compare(handle, key, index)


def where(handle: archive.Archive, key: str) -> tuple[int, int, int]:
    """Return offset, bytes, and bytes of a segment."""
    payload = handle[key].payload
    assert isinstance(payload, StoredPayload)
    _, offset, nbytes = payload.where
    return offset, nbytes, segment_bytes_of(payload._reader.index, payload._row)


@pytest.fixture
def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ways:
    """An array whose second segment is damaged."""
    store = FolderStore(tmp_path)
    reach(store, monkeypatch)
    archive.save({"w": arrays()["wide"]}, URL)
    with archive.open(store.file(PATH)) as handle:
        offset, _, size = where(handle, "w")
    with store.file(PATH).open("r+b") as file:
        file.seek(offset + size + 5)
        file.write(b"\xff\xff")
    return {
        "map": lambda: archive.open(store.file(PATH)),
        "pread": lambda: archive.open(store.file(PATH), access="pread"),
        "private": lambda: archive.open(store.file(PATH), mode="c"),
        "remote": lambda: archive.open(URL),
        "cache": lambda: archive.open(URL, cache=tmp_path / "cache"),
    }


@pytest.mark.parametrize("way", ["map", "pread", "private", "remote", "cache"])
def test_damage_is_an_error_where_it_is_read_and_never_handed_out(
    damaged: Ways, eager: None, way: str
) -> None:
    with damaged[way]() as handle:
        _, _, size = where(handle, "w")
        rows = size // 6000
        assert np.array_equal(handle["w"].read(np.s_[: rows - 1]), arrays()["wide"][: rows - 1])
        after = np.s_[2 * rows + 2 :]
        assert np.array_equal(handle["w"].read(after), arrays()["wide"][after])
        index: Any
        for index in (..., np.s_[5:2000], np.s_[::7], rows + 1):
            out = np.full_like(arrays()["wide"][index], 3)
            with pytest.raises(DigestError, match="model/w"):
                handle["w"].read(index, out)
            kept = (out == 3) | (out == 0) | (out == arrays()["wide"][index])
            assert kept.all()
        with pytest.raises(DigestError):
            handle.load()
        torch()
        for index in (..., np.s_[5:2000], rows + 1):
            with pytest.raises(DigestError):
                handle["w"].torch(index)


@pytest.mark.parametrize("way", ["map", "pread", "remote", "cache"])
def test_a_closed_handle_reads_nothing(ways: Ways, way: str) -> None:
    with ways[way]() as handle:
        array = handle["wide"]
    for index in (..., 5, np.s_[5:2000]):
        with pytest.raises(ClosedError):
            array.read(index)
    for use in (array.__dlpack__, handle.load, lambda: handle.load("wide")):
        with pytest.raises(ClosedError):
            use()
    torch()
    with pytest.raises(ClosedError):
        array.torch()


def test_only_the_segments_of_a_range_are_fetched(ways: Ways, eager: None, store: FolderStore) -> None:
    with ways["remote"]() as handle:
        _, _, size = where(handle, "wide")
        rows = np.s_[size // 6000 * 2 : size // 6000 * 6]
        store.clear()
        found = handle["wide"].read(rows)
        assert np.array_equal(found, arrays()["wide"][rows])
        low, high = rows.start * 6000, rows.stop * 6000
        assert store.nbytes() == (-(-high // size) - low // size) * size
        assert store.counted() == 1
        store.clear()
        with pytest.raises(ValueError, match="shape"):
            handle["wide"].read(rows, np.zeros((3, 3), "f4"))
        assert store.asked == []


@pytest.mark.parametrize("piece", [1 << 10, 99_999, 1 << 18, 300_001, 1 << 24])
def test_bytes_come_in_pieces_of_any_length(
    ways: Ways, eager: None, store: FolderStore, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """And a window that does not match is fetched once more, by a request for it alone."""
    monkeypatch.setattr(folderstore, "PIECE_BYTES", piece)
    with ways["remote"]() as handle:
        store.clear()
        loaded: Any = handle.load()["model"]
        for key, wanted in arrays().items():
            assert np.array_equal(loaded[key].numpy(), wanted), key
        requests, nbytes = store.counted(), store.nbytes()
        # one at a time: the window that is fetched once more may be the request after it
        for flip in ({0: 5_000_000}, {1: 300}):
            store.clear()
            store.flip = flip
            try:
                found: Any = handle.load()["model"]
            finally:
                store.flip = {}
            assert all(np.array_equal(found[key].numpy(), wanted) for key, wanted in arrays().items())
            assert store.counted() == requests + 1
            assert nbytes < store.nbytes() <= nbytes + tuning.WINDOW_BYTES


def test_a_flaw_on_the_way_is_fetched_again(ways: Ways, eager: None, store: FolderStore) -> None:
    with ways["remote"]() as handle:
        store.clear()
        store.flip = {0: 99}
        try:
            assert np.array_equal(handle["wide"].read(), arrays()["wide"])
        finally:
            store.flip = {}


@pytest.mark.parametrize("way", ["map", "pread", "private", "remote", "cache"])
def test_tensors_of_slices(ways: Ways, way: str) -> None:
    t = torch()
    with ways[way]() as handle:
        for index in (np.s_[5:2500], np.s_[:, 7], [3, 2, 2900], (4, 4), ...):
            wanted = np.asarray(arrays()["short"][index], "f4")
            found = handle["short"].torch(index)
            assert found.dtype == t.bfloat16
            assert np.array_equal(found.float().numpy(), wanted)
            out = t.zeros(wanted.shape, dtype=t.bfloat16)
            assert handle["short"].torch(index, out=out) is out
            assert np.array_equal(out.float().numpy(), wanted)
            found.zero_()
            double = handle["short"].torch(index, t.float64)
            assert np.array_equal(double.numpy(), wanted)
        assert t.from_dlpack(handle["short"]).dtype == t.bfloat16
        assert np.array_equal(np.from_dlpack(handle["fortran"]), arrays()["fortran"])
        assert np.array_equal(t.from_dlpack(handle["scalar"]).numpy(), arrays()["scalar"])


def test_out_may_be_a_subclass(ways: Ways, tmp_path: Path) -> None:
    wanted = arrays()["wide"]
    for out in (
        np.zeros_like(wanted).view(np.matrix),
        np.memmap(tmp_path / "m", "f4", "w+", shape=wanted.shape),
    ):
        with ways["map"]() as handle:
            assert handle["wide"].read(out=out) is out
        assert np.array_equal(np.asarray(out), wanted)


def test_what_was_verified_is_known(ways: Ways) -> None:
    """Of a mapped file: a segment that was read into memory is not verified again as a view."""
    with ways["map"]() as handle:
        payload = handle["wide"].payload
        assert isinstance(payload, StoredPayload)
        reader, row = payload._reader, payload._row
        first, size = int(reader.index.segment_at[row]), segment_bytes_of(reader.index, row)
        handle["wide"].read(np.s_[: size // 600])
        assert reader._checked[first : first + 10] == b"\x01" * 10
        assert not any(reader._checked[first + 11 :])
        handle.load("wide")
        assert reader.is_checked(row)
    with ways["pread"]() as handle:
        handle.load("wide")
        payload = handle["wide"].payload
        assert isinstance(payload, StoredPayload)
        assert not any(payload._reader._checked)


def test_a_buffer_of_the_caller_is_the_only_one(tmp_path: Path) -> None:
    """A whole array, and all rows but one, come without a second buffer: the pieces of the ends are small."""
    import tracemalloc

    whole: NDArray = np.arange(8 << 20, dtype="f4").reshape(-1, 1024)
    archive.save({"w": whole}, tmp_path / "a.h5")
    out = np.empty_like(whole)
    for access in ("mmap", "pread"):
        with archive.open(tmp_path / "a.h5", access=access) as handle:
            handle["w"].read(out=out)
            for index in (np.s_[:], np.s_[1:]):
                tracemalloc.start()
                handle["w"].read(index, out[index])
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                assert np.array_equal(out, whole)
                assert peak < 9 << 20
