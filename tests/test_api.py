"""The front door: every argument, every refusal, and what an open handle promises."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.engine.read.storedpayload import StoredPayload
from archive.errors import (
    ClosedError,
    DamagedError,
    DigestError,
    ExistsError,
    MissingError,
    NotAnArchiveError,
    ReplacedError,
    StorageError,
    TruncatedError,
    UnsupportedURLError,
)
from archive.format.constants import MIN_SEGMENT_BYTES
from archive.types import Access, Mode

CREATED = "2026-01-02T03:04:05Z"
W = np.arange(12, dtype="f4").reshape(3, 4)
LARGE = np.arange(3 * MIN_SEGMENT_BYTES // 8 + 100, dtype="f8")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    one = archive.ArrayRecord({"layer.weight": archive.Array(W), "bias": archive.Array(W[0])})
    two = archive.ArrayRecord({"bias": archive.Array(W[1]), "only here": archive.Array(W[2])})
    records = archive.RecordSet({"one": one, "two": two}, {"bias": archive.MetricRecord({"loss": 0.5})})
    archive.save(records, tmp_path / "m.h5", created=CREATED, durable=False)
    return tmp_path / "m.h5"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.h5"
    archive.save({"x": LARGE, "y": W}, path, durable=False)
    return path


def offset_of(array: archive.Array) -> int:
    """Return where an array begins in its file."""
    assert isinstance(array.payload, StoredPayload)
    return array.payload.where[1]


def damaged(source: Path, target: Path, *offsets: int) -> Path:
    data = bytearray(source.read_bytes())
    for offset in offsets:
        data[offset] ^= 0xFF
    target.write_bytes(data)
    return target


# --- URLs


def test_urls_that_fsspec_does_not_know_are_refused() -> None:
    url = "nowhere://b/k"
    calls: list[Any] = [lambda: archive.save({}, url), lambda: archive.open(url), lambda: archive.load(url)]
    for call in [*calls, lambda: archive.verify(url)]:
        with pytest.raises(UnsupportedURLError, match=r"fsspec does not open it"):
            call()


@pytest.mark.parametrize("url", ["memory://b/k.h5", "simplecache::memory://b/k.h5"])
def test_what_only_local_files_can_do_says_so(url: str) -> None:
    for call in (lambda: archive.recover(url), lambda: archive.open(url, foreign=True)):
        with pytest.raises(UnsupportedURLError, match=r"only local files"):
            call()


def test_every_spelling_of_a_local_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Spelled:
        def __fspath__(self) -> str:
            return str(tmp_path / "m.h5")

    monkeypatch.chdir(tmp_path)
    for url in (tmp_path / "m.h5", str(tmp_path / "m.h5"), f"file://{tmp_path}/m.h5", "m.h5", Spelled()):
        report = archive.save({"w": W}, url, durable=False)
        assert report.url == os.path.realpath(tmp_path / "m.h5")
        assert archive.open(url)["w"].shape == (3, 4)
        assert archive.verify(url).ok
        assert len(archive.load(url).parameters_records["model"]) == 1
        (tmp_path / "m.h5").unlink()


@pytest.mark.parametrize("url", [5, None, b"x", ["x"]])
def test_no_paths_at_all(url: Any) -> None:
    for call in (lambda: archive.save({}, url), lambda: archive.open(url)):
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize("url", ["", "a\0b"])
def test_paths_that_name_nothing(url: str) -> None:
    with pytest.raises(UnsupportedURLError, match="name a file"):
        archive.open(url)


def test_storage_options_are_for_remote_urls(path: Path) -> None:
    with pytest.raises(UnsupportedURLError, match="leave them out"):
        archive.open(path, storage_options={"anon": True})


# --- open


@pytest.mark.must("FILE-6")
@pytest.mark.parametrize("mode", ["a", "w", "r+", "x", "", None])
def test_archives_are_immutable(path: Path, mode: Any) -> None:
    with pytest.raises(TypeError, match=r'archives are immutable, open them with "r" or "c"'):
        archive.open(path, mode=mode)


def test_choices_are_listed(path: Path) -> None:
    with pytest.raises(ValueError, match="verify must be one of 'first', 'open', 'off', not 'maybe'"):
        archive.open(path, verify="maybe")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="access must be one of 'auto', 'mmap', 'pread', not 'http'"):
        archive.open(path, access="http")  # type: ignore[arg-type]


def test_what_cannot_be_opened(tmp_path: Path, path: Path) -> None:
    with pytest.raises(MissingError, match=r"absent\.h5: no such file") as missing:
        archive.open(tmp_path / "absent.h5")
    assert isinstance(missing.value, FileNotFoundError)
    with pytest.raises(StorageError, match="not a regular file"):
        archive.open(tmp_path)
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(NotAnArchiveError):
        archive.open(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"text" * 5000)
    with pytest.raises(NotAnArchiveError, match="foreign=True"):
        archive.open(tmp_path / "x")
    (tmp_path / "x").write_bytes(path.read_bytes()[:-300])
    with pytest.raises(TruncatedError, match="fetch it again"):
        archive.open(tmp_path / "x")


def test_info(path: Path) -> None:
    info = archive.open(path).info
    assert info.path == str(path)
    assert (info.version, info.container, info.created) == ("1.0", "recordset", CREATED)
    assert info.records == (("arrays", "one", 2), ("arrays", "two", 2), ("metrics", "bias", 0))
    assert (info.arrays, info.array_bytes, info.file_bytes) == (4, 96, path.stat().st_size)
    assert info.access == "mmap"
    assert "first handed out" in info.verified
    assert archive.open(path, access="pread").info.access == "pread"
    assert "nothing else" in archive.open(path, verify="off").info.verified


# --- the handle


def test_arrays_by_name(path: Path) -> None:
    with archive.open(path) as handle:
        assert np.array_equal(handle["layer.weight"].numpy(), W)
        assert np.array_equal(handle["two", "bias"].numpy(), W[1])
        assert len(handle) == 4
        pairs = [("one", "layer.weight"), ("one", "bias"), ("two", "bias"), ("two", "only here")]
        assert list(handle) == pairs
        for there in ("bias", "only here", ("one", "bias"), *pairs):
            assert there in handle
        for absent in (
            "loss",
            ("bias", "loss"),
            ("two", "layer.weight"),
            5,
            ("one",),
            ("one", 1),
            None,
            "\ud800",
        ):
            assert absent not in handle
        assert "4 arrays" in repr(handle)


def test_names_that_are_not_found(path: Path) -> None:
    with archive.open(path) as handle:
        with pytest.raises(
            KeyError, match=r"several records, name one: \('one', 'bias'\), \('two', 'bias'\)"
        ):
            handle["bias"]
        with pytest.raises(KeyError, match=r"did you mean 'layer\.weight'"):
            handle["layer.wieght"]
        with pytest.raises(KeyError, match="no array 'q'"):
            handle["q"]
        with pytest.raises(KeyError, match=r"no array \('one', 'only here'\)"):
            handle["one", "only here"]
        for wrong in (5, None, ("one", 2), (1, "bias"), b"bias"):
            with pytest.raises(TypeError, match=r"by key or by \(record, key\)"):
                handle[wrong]  # type: ignore[index]


def test_closed_handles(path: Path) -> None:
    for access in ("mmap", "pread"):
        handle = archive.open(path, access=access)
        view, unread = handle["layer.weight"].numpy(), handle["one", "bias"]
        record = handle.records.parameters_records["two"]
        handle.close()
        handle.close()
        assert handle.closed
        assert np.array_equal(view, W), "a view that was handed out stays valid"
        for call in (
            unread.numpy,
            lambda array=unread: array.data,
            lambda array=unread: array[0],
            handle.verify,
        ):
            with pytest.raises(ClosedError, match=r"archive\.load|open it again"):
                call()
        with pytest.raises(ClosedError):
            record["bias"].numpy()
        assert "closed" in repr(handle)


def test_edits_of_records_stay_in_memory(path: Path) -> None:
    before = path.read_bytes()
    with archive.open(path) as handle:
        records = handle.records
        records.parameters_records["one"]["new"] = archive.Array(W)
        records.metrics_records["bias"]["loss"] = 1.5
        del records.parameters_records["two"]
        assert path.read_bytes() == before
        archive.save(records, path)
    again = archive.load(path)
    assert list(again.parameters_records["one"]) == ["layer.weight", "bias", "new"]
    assert again.metrics_records["bias"] == {"loss": 1.5}


def test_saving_over_a_path_that_is_open(path: Path) -> None:
    for access in ("mmap", "pread"):
        with archive.open(path, access=access) as handle:
            first = handle["two", "bias"]
            archive.save({"other": W * 2}, path)
            assert np.array_equal(first.numpy(), W[1]), "an open handle reads one version"
            archive.save(handle.records, path)
    assert list(archive.open(path)) == [
        ("one", "layer.weight"),
        ("one", "bias"),
        ("two", "bias"),
        ("two", "only here"),
    ]


def test_read_only_views_and_copy_on_write(large: Path) -> None:
    before = large.read_bytes()
    with archive.open(large) as handle:
        for view in (handle["x"].numpy(), handle["y"].numpy(), handle["x"][:3], np.asarray(handle["y"])):
            with pytest.raises(ValueError, match="read-only"):
                view[0] = 1
    with archive.open(large, mode="c") as handle:
        for key in "xy":
            one, two = handle[key].numpy(), handle[key].numpy()
            one[:] = -1
            assert not (two == -1).any(), "calls do not share what they hand out"
            assert not (handle[key][:] == -1).any()
            assert not (handle[key].numpy() == -1).any()
    assert large.read_bytes() == before


def test_handles_pickle_by_reference(path: Path, tmp_path: Path) -> None:
    with archive.open(path, access="pread", verify="off") as handle:
        text = pickle.dumps((handle, handle["layer.weight"], handle.records))
        assert len(text) < 3000
        again, array, records = pickle.loads(text)
        assert np.array_equal(again["layer.weight"].numpy(), W)
        assert np.array_equal(array.numpy(), W)
        assert records == handle.records
        assert again.info.access == "pread"
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer)[1].numpy().sum())"
    done = subprocess.run(
        [sys.executable, "-c", code], input=text, capture_output=True, check=True, timeout=60
    )
    assert float(done.stdout) == W.sum()
    again.close()
    archive.save({"layer.weight": W * 2}, path)
    for _ in range(2):
        with pytest.raises(ReplacedError, match="replaced by another version"):
            pickle.loads(text)[0]["layer.weight"]
        with pytest.raises(ReplacedError, match="replaced by another version"):
            pickle.loads(text)[1].numpy()
    path.unlink()
    with pytest.raises(MissingError):
        pickle.loads(text)[1].numpy()


def test_threads_share_a_handle(large: Path) -> None:
    with archive.open(large) as handle, ThreadPoolExecutor(8) as pool:
        gate = threading.Barrier(8)

        def read(number: int) -> bool:
            gate.wait(30)
            part = handle["x"][number * 1000 :]
            return np.array_equal(part, LARGE[number * 1000 :]) and np.array_equal(handle["y"].numpy(), W)

        assert all(pool.map(read, range(8)))
        _ = list(pool.map(lambda _: handle.records, range(8)))


# --- slices


@pytest.mark.must("READ-1")
@pytest.mark.parametrize("access", ["mmap", "pread"])
def test_slices_touch_only_their_segments(large: Path, tmp_path: Path, access: Access) -> None:
    with archive.open(large) as handle:
        offset = offset_of(handle["x"])
    per = MIN_SEGMENT_BYTES // 8
    bad = damaged(large, tmp_path / "bad.h5", offset + MIN_SEGMENT_BYTES + 5)
    with archive.open(bad, access=access) as handle:
        x = handle["x"]
        fine: list[Any] = [
            slice(0, per),
            slice(2 * per, None),
            5,
            -1,
            slice(10, 20, 3),
            (slice(2 * per, 9 * per),),
        ]
        for index in fine:
            assert np.array_equal(x[index], LARGE[index])
        failing: list[Any] = [
            slice(per, per + 1),
            per + 7,
            slice(per - 1, per + 1),
            slice(None),
            slice(None, None, -1),
        ]
        for index in failing:
            with pytest.raises(DigestError, match=r"model/x.*segment 1 "):
                x[index]
        with pytest.raises(DigestError) as caught:
            x.numpy()
        assert caught.value.offset == offset + MIN_SEGMENT_BYTES
        assert np.array_equal(handle["y"].numpy(), W)
    with archive.open(bad, verify="off") as handle:
        assert (handle["x"].numpy() != LARGE).sum() == 1, "what was asked for"


INDEXES: list[Any] = [
    *(0, -1, np.int64(1), slice(None), slice(1, 3), slice(5, 2), slice(None, None, -1), slice(-2, None), ...),
    *((0, 1), (slice(1, 3), 0), (-1, slice(None, None, 2)), (slice(0, 2), None), (..., 1), None, (1, [0, 2])),
    *([0, 2], [True, False, True], (slice(1, 3), [0, 1]), np.array([[True] * 4] * 3), (slice(0, 3, 2), -1)),
]


@pytest.mark.parametrize("number", range(len(INDEXES)))
@pytest.mark.parametrize("mode", ["r", "c"])
def test_indexing_is_numpys(path: Path, number: int, mode: Mode) -> None:
    with archive.open(path, mode=mode) as handle:
        found, expected = handle["layer.weight"][INDEXES[number]], W[INDEXES[number]]
        assert type(found) is type(expected)
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
        assert found.shape == expected.shape


@pytest.mark.parametrize("index", [3, -4, (0, 4), "a", 1.5, (0, 0, 0)])
def test_indexes_that_numpy_refuses(path: Path, index: Any) -> None:
    with archive.open(path) as handle, pytest.raises(IndexError):
        handle["layer.weight"][index]


# --- verify


@pytest.mark.must("VERIFY-2")
def test_damage_is_reported_with_its_place(large: Path, tmp_path: Path) -> None:
    with archive.open(large) as handle:
        x, y = offset_of(handle["x"]), offset_of(handle["y"])
    bad = damaged(large, tmp_path / "bad.h5", x + 2 * MIN_SEGMENT_BYTES, y, 2000)
    report = archive.verify(bad)
    assert not report
    assert (report.ok, report.arrays, report.unverifiable) == (False, 2, 0)
    places = [(failure.record, failure.key, failure.segment, failure.offset) for failure in report.failures]
    assert places == [
        ("", "padding", 0, 2000),
        ("model", "x", 2, x + 2 * MIN_SEGMENT_BYTES),
        ("model", "y", 0, y),
    ]
    with pytest.raises(DamagedError, match="2 more places"):
        archive.open(bad, verify="open")
    with pytest.raises(DigestError, match="model/"):
        archive.load(bad)
    assert archive.verify(large).checked_bytes == large.stat().st_size
    assert archive.open(large, verify="open")["y"].shape == (3, 4)


# --- load


def test_load_some_keys(path: Path) -> None:
    records = archive.load(path, keys=["layer.weight", ("two", "bias")])
    assert {name: list(record) for name, record in records.parameters_records.items()} == {
        "one": ["layer.weight"],
        "two": ["bias"],
    }
    assert records.metrics_records == {"bias": {"loss": 0.5}}
    assert list(archive.load(path, keys=iter([])).parameters_records["one"]) == []
    both = archive.load(path, keys="b*s").parameters_records
    assert [list(record) for record in both.values()] == [["bias"], ["bias"]]
    with pytest.raises(KeyError, match="several records"):
        archive.load(path, keys=["bias"])
    with pytest.raises(KeyError, match="no array 'x'"):
        archive.load(path, keys=["x"])


def test_loaded_memory_is_private_and_writable(path: Path) -> None:
    before = path.read_bytes()
    one, two = archive.load(path), archive.load(path)
    array = one.parameters_records["one"]["layer.weight"]
    array.numpy()[:] = -1
    assert (array.numpy() == -1).all(), "the memory itself"
    assert np.array_equal(two.parameters_records["one"]["layer.weight"].numpy(), W)
    assert np.array_equal(one.parameters_records["one"]["bias"].numpy(), W[0])
    assert path.read_bytes() == before
    path.unlink()
    assert two.parameters_records["one"]["layer.weight"].data


# --- save


@pytest.mark.must("FILE-4")
def test_equal_input_equal_bytes(tmp_path: Path) -> None:
    times: list[datetime | str] = [CREATED, datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)]
    times += [
        datetime(2026, 1, 2, 5, 4, 5, 999, tzinfo=timezone(timedelta(hours=2))),
        "2026-01-02T04:04:05+01:00",
    ]
    reports = []
    for number, created in enumerate(times):
        reports.append(archive.save({"w": W}, tmp_path / f"{number}.h5", metrics={"a": 1}, created=created))
    assert len({(tmp_path / f"{number}.h5").read_bytes() for number in range(len(times))}) == 1
    assert len({report.digest for report in reports}) == 1
    other = archive.save({"w": W}, tmp_path / "other.h5", metrics={"a": 2}, created=CREATED)
    assert other.digest != reports[0].digest


@pytest.mark.parametrize(
    ("created", "kind"),
    [
        ("yesterday", ValueError),
        (datetime(2026, 1, 1), ValueError),
        ("2026-01-01T00:00:00", ValueError),
        ("9999-12-31T23:59:59-12:00", ValueError),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=5))), ValueError),
        (5, TypeError),
    ],
)
def test_times_that_are_none(tmp_path: Path, created: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        archive.save({"w": W}, tmp_path / "a.h5", created=created)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("created", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"])
def test_the_first_and_the_last_moment(tmp_path: Path, created: str) -> None:
    archive.save({"w": W}, tmp_path / "a.h5", created=created)
    with archive.open(tmp_path / "a.h5") as found:
        assert found.info.created == created


def test_report(tmp_path: Path) -> None:
    report = archive.save([W, W[0]], tmp_path / "a.h5", durable=False)
    assert (report.arrays, report.array_bytes) == (2, 64)
    assert report.file_bytes == (tmp_path / "a.h5").stat().st_size
    assert 0 < report.seconds < 60


def test_overwrite(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(ExistsError) as caught:
        archive.save({"w": W}, path, overwrite=False)
    assert isinstance(caught.value, FileExistsError)
    assert path.read_bytes() == before
    path.unlink()
    archive.save({"w": W}, path, overwrite=False)
    assert [entry.name for entry in path.parent.iterdir()] == ["m.h5"]
    with pytest.raises(MissingError, match="create it first"):
        archive.save({"w": W}, path.parent / "absent" / "m.h5")


def test_name_must_be_a_str(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="name must be a str, not int"):
        archive.save({"w": W}, tmp_path / "a.h5", name=5)  # type: ignore[arg-type]


# --- progress


def require_progress(calls: list[tuple[int, int]]) -> None:
    assert calls
    assert len({total for _, total in calls}) == 1
    done = [done for done, _ in calls]
    assert done == sorted(done)
    assert done[0] >= 0
    assert calls[-1][0] == calls[-1][1]


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    for given in ({"x": LARGE, "y": W}, {"y": W}, [np.ones(500)] * 5000):
        path, calls = tmp_path / "a.h5", []
        archive.save(given, path, durable=False, progress=lambda *call: calls.append(call))  # noqa: B023
        require_progress(calls)
        assert calls[-1][1] == path.stat().st_size
        for act in (archive.load, archive.verify):
            calls.clear()
            act(path, progress=lambda *call: calls.append(call))  # noqa: B023
            require_progress(calls)


def test_progress_as_a_bar(large: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive.save({"x": LARGE}, tmp_path / "a.h5", durable=False, progress=True)
    archive.load(large, progress=True)
    archive.verify(large, progress=True)
    told = capsys.readouterr().err
    for text in ("saving a.h5: 100%", "loading large.h5: 100%", "verifying large.h5: 100%"):
        assert text in told


@pytest.mark.must("FILE-6")
def test_a_progress_that_raises_leaves_the_old_archive(path: Path) -> None:
    before = path.read_bytes()

    def stop(done: int, total: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        archive.save({"x": LARGE}, path, progress=stop)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["m.h5"]
