"""drain(): arrays one by one out of memory, never out of the file."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import archive
from archive.engine.read.handle import select_rows
from archive.records import Array, ArrayRecord, RecordDict, RecordSet
from archive.types import Access, Mode
from tests.acceptance.samples import CREATED, NDArray
from tests.storage.folderstore import FolderStore, reach

URL = "folder://m/a.h5"
MB = 1 << 20
COUNT, EACH = 6, 8 * MB


def arrays() -> dict[str, NDArray]:
    return {f"{number}": np.full(EACH // 8, number, "f8") for number in range(COUNT)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("drain") / "model.h5"
    archive.save(arrays(), path, created=CREATED, metrics={"loss": list(range(9000))}, durable=False)
    yield path
    path.unlink()


def resident(path: Path) -> int:
    """Return how many bytes of the maps of a file are in this process's memory."""
    found, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        fields = line.split()
        if "-" in fields[0] and not fields[0].endswith(":"):
            ours = line.endswith(str(path))
        elif ours and fields[0] == "Rss:":
            found += int(fields[1]) << 10
    return found


def memory(kind: str) -> Any:
    if kind == "record":
        return ArrayRecord({key: Array(array) for key, array in arrays().items()})
    record = ArrayRecord({key: Array(array) for key, array in arrays().items()})
    return RecordSet({"model": record}) if kind == "recordset" else RecordDict({"model": record})


@pytest.mark.parametrize("kind", ["record", "recordset"])
def test_memory_is_let_go_of(kind: str) -> None:
    given = memory(kind)
    record = given if kind == "record" else given.parameters_records["model"]
    watched = [weakref.ref(array.payload.array) for array in record.values()]
    for number, (name, array) in enumerate(given.drain()):
        assert name == (f"{number}" if kind == "record" else ("model", f"{number}"))
        assert (array.numpy() == number).all()
        assert len(record) == COUNT - number - 1
        assert [reference() is None for reference in watched] == [n < number for n in range(COUNT)]
    del array
    assert all(reference() is None for reference in watched)
    assert len(record) == 0
    assert list(given.drain()) == []


@pytest.mark.parametrize("kind", ["archive", "records", "record"])
@pytest.mark.needs("/proc/self")
def test_pages_go_back(saved: Path, kind: str) -> None:
    with archive.open(saved) as handle:
        given: Any = {
            "archive": handle,
            "records": handle.records,
            "record": handle.records.array_records["model"],
        }[kind]
        most = 0
        for number, (name, array) in enumerate(given.drain()):
            assert name == (f"{number}" if kind == "record" else ("model", f"{number}"))
            view = array.numpy()
            assert (view == number).all()
            most = max(most, resident(saved))
        assert EACH <= most < 2 * EACH
        assert resident(saved) < MB
        # memory let go of the arrays; the file has them all, and so does a new look at it
        assert len(handle) == COUNT
        assert (handle["0"].numpy() == 0).all()
        del view, array
    assert archive.verify(saved).ok


@pytest.mark.parametrize("kind", ["archive", "records", "record"])
@pytest.mark.needs("/proc/self")
def test_pages_of_small_arrays_go_back_together(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.h5"
    archive.save({str(number): np.full(1024, number, "f4") for number in range(4000)}, path, durable=False)
    with archive.open(path) as handle:
        record = handle.records.parameters_records["model"]
        given: Any = {"archive": handle, "records": handle.records, "record": record}[kind]
        most = 0
        for number, (_, array) in enumerate(given.drain()):
            assert array.numpy()[0] == number
            if number % 500 == 499:
                most = max(most, resident(path))
        assert 0 < most < 3 * MB  # of 16: what is read ahead is among it


@pytest.mark.parametrize("kind", ["archive", "records"])
def test_records_are_emptied_and_the_archive_is_not(saved: Path, kind: str) -> None:
    with archive.open(saved) as handle:
        records = handle.records
        assert len(list((handle if kind == "archive" else records).drain())) == COUNT
        assert len(records.parameters_records["model"]) == (COUNT if kind == "archive" else 0)
        assert len(handle) == COUNT
        assert records["metrics"]["loss"] == list(range(9000))


@pytest.mark.parametrize("mode", ["r", "c"])
def test_views_stay_valid(saved: Path, mode: Mode) -> None:
    """Also after the next step, the end and the closing; what was written to copied pages is kept."""
    with archive.open(saved, mode=mode) as handle:
        views = []
        for number, (_, array) in enumerate(handle.drain()):
            views.append(array.numpy())
            if mode == "c":
                views[-1][:10] = -number
    for number, view in enumerate(views):
        assert (view[10:] == number).all()
        assert (view[:10] == (number if mode == "r" else -number)).all()
    assert archive.verify(saved).ok


@pytest.mark.parametrize("access", ["mmap", "pread"])
def test_closing_and_leaving_on_the_way(saved: Path, access: Access) -> None:
    with archive.open(saved, access=access) as handle:
        for _, array in handle.drain():
            kept = array.numpy()
            break
        steps = handle.drain()
        next(steps)
    assert (kept == 0).all()
    with pytest.raises(archive.errors.ClosedError):
        _ = [array.numpy() for _, array in steps]


def test_damage_is_found(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    archive.save(arrays(), path, durable=False)
    with path.open("r+b") as file:
        file.seek(3 * EACH + EACH // 2)
        file.write(b"\1")
    read: list[str] = []
    with archive.open(path) as handle, pytest.raises(archive.errors.DigestError):
        read.extend(key for (_, key), array in handle.drain() if array.numpy() is not None)
    assert read == ["0", "1", "2"]


def test_conversions_that_consume(saved: Path) -> None:
    with archive.open(saved) as handle:
        record = handle.records.array_records["model"]
        found = record.to_numpy_ndarrays(keep_input=False)
        assert len(record) == 0
        assert all((array == number).all() for number, array in enumerate(found))
        again = handle.records
    assert len(again["model"]) == 0  # the same object: an archive makes its records once


def test_many_keys_at_once_are_found_as_one_by_one(tmp_path: Path) -> None:
    names = [f"layer.{number}" for number in range(50)] + ["\u00e9", "", "a/b", "x\0y"]
    one = archive.ArrayRecord({name: archive.Array(np.full(3, at)) for at, name in enumerate(names)})
    two = archive.ArrayRecord({name: archive.Array(np.full(3, -at)) for at, name in enumerate(names[:5], 1)})
    metrics = archive.MetricRecord({"long": [0.5] * 20_000})
    archive.save(archive.RecordSet({"one": one, "two": two}, {"m": metrics}), tmp_path / "a.h5")
    pairs: list[str | tuple[str, str]] = [("one", name) for name in names]
    pairs += [("two", name) for name in names[:5]]
    with archive.open(tmp_path / "a.h5") as handle:
        some: list[list[Any]] = [pairs, pairs[::-1], names[5:], [*names[5:], ("two", names[0])]]
        for wanted in some:
            found = select_rows(handle._reader, wanted)
            assert found == [handle._find(key) for key in wanted]
        for bad in (
            names,
            ["missing"],
            ["long"],
            [("m", "long")],
            [("one", "\ud800")],
            [("three", names[9])],
        ):
            with pytest.raises(KeyError) as many:
                select_rows(handle._reader, bad)
            with pytest.raises(KeyError) as single:
                _ = [handle._find(key) for key in bad]
            assert str(many.value) == str(single.value)
        wrongs: list[list[Any]] = [[5], [("one", 5)], [("one", "a", "b")]]
        for wrong in wrongs:
            with pytest.raises(TypeError):
                select_rows(handle._reader, wrong)


class TestSomeKeys:
    """`Archive.load` and `Archive.drain` of keys and patterns."""

    @pytest.fixture
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
        store = FolderStore(tmp_path / "store")
        reach(store, monkeypatch)
        small = {f"layer.{n}.{part}": np.full(999, n, "f4") for n in range(200) for part in ("w", "b")}
        shared = np.arange(50_000, dtype=">i8").reshape(100, 500)
        rest: dict[str, Any] = {
            "in": shared,
            "out": shared,
            "turned": np.asfortranarray(shared),
            "text": np.array([["a", "b\u00e9d"]]),
            "scalar": np.array(3.0),
            "empty": np.empty((3, 0)),
            "half": np.arange(9).astype(ml_dtypes.bfloat16),
        }
        archive.save({**small, **rest}, URL, metrics={"loss": 0.5})
        return store

    @pytest.fixture
    def handles(self, store: FolderStore, tmp_path: Path) -> dict[str, archive.Archive]:
        path = store.file("m/a.h5")
        return {
            "map": archive.open(path),
            "pread": archive.open(path, access="pread"),
            "private": archive.open(path, mode="c"),
            "remote": archive.open(URL),
            "cache": archive.open(URL, cache=tmp_path / "cache"),
        }

    def test_load_is_that_of_the_module(
        self, handles: dict[str, archive.Archive], store: FolderStore
    ) -> None:
        choices: list[Any] = [None, "layer.*.w", ["out", ("model", "text"), "turned"], [], "*"]
        for keys in choices:
            wanted = archive.load(store.file("m/a.h5"), keys=keys)
            for way, handle in handles.items():
                found = handle.load(keys)
                assert found == wanted, way
                assert type(found) is RecordSet
                for array in found.array_records["model"].values():
                    assert array.numpy().flags.writeable
        for handle in handles.values():
            handle.close()
            with pytest.raises(archive.errors.ClosedError):
                handle.load("text")

    def test_ties_stay_ties(self, handles: dict[str, archive.Archive]) -> None:
        for handle in handles.values():
            found = handle.load(["out", "in"]).array_records["model"]
            assert np.shares_memory(found["in"].numpy(), found["out"].numpy())
            one, two = handle["in"].read(), handle["out"].read()
            assert not np.shares_memory(one, two)
            handle.close()

    def test_many_arrays_are_few_requests(
        self, handles: dict[str, archive.Archive], store: FolderStore
    ) -> None:
        for way in ("remote", "cache"):
            store.clear()
            seen: dict[int, int] = {}
            handles[way].load("layer.*", progress=seen.__setitem__)
            assert store.counted() <= 2
            assert max(seen) == seen[max(seen)]
            store.clear()
            handles[way].load(["layer.3.w", "layer.150.b"])
            assert store.counted() <= 2
            assert store.nbytes() <= 2 * 4096 + (128 << 10) * (way == "cache")

    def test_drain_keeps_the_order_of_the_keys(
        self, handles: dict[str, archive.Archive], store: FolderStore
    ) -> None:
        wanted = archive.load(store.file("m/a.h5")).array_records["model"]
        keys: list[Any] = ["turned", "layer.9.b", ("model", "in"), "empty", "layer.3.w", "out", "layer.3.w"]
        for handle in handles.values():
            found = []
            for (record, key), array in handle.drain(keys):
                assert record == "model"
                assert np.array_equal(array.numpy(), wanted[key].numpy())
                assert array.dtype == wanted[key].dtype
                found.append(key)
            assert found == ["turned", "layer.9.b", "in", "empty", "layer.3.w", "out"]
            assert [key for (_, key), _ in handle.drain("layer.*.b")] == [f"layer.{n}.b" for n in range(200)]
            assert list(handle.drain([])) == []
            assert handle._reader.held == {}
            with pytest.raises(KeyError, match="no array 'nothing'"):
                list(handle.drain(["in", "nothing"]))
        store.clear()
        for _, array in handles["remote"].drain(f"layer.{n}.w" for n in range(200)):
            array.numpy()
        assert store.counted() <= 2

    @pytest.mark.needs("/proc/self")
    def test_pages_between_drained_arrays_stay(self, tmp_path: Path) -> None:
        path = tmp_path / "a.h5"
        small = np.ones(999)
        archive.save({"before": small, "kept": np.ones(EACH // 8), "after": small + 1}, path)
        with archive.open(path) as handle:
            assert (handle["kept"].numpy() == 1).all()
            for _, array in handle.drain(["before", "after"]):
                assert array.numpy()[0] in (1, 2)
            assert resident(path) >= EACH
