"""drain(): arrays one by one out of memory, never out of the file."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.engine.read.handle import select_rows
from archive.records import Array, ArrayRecord, RecordDict, RecordSet
from archive.types import Access, Mode
from tests.acceptance.samples import CREATED, NDArray

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
