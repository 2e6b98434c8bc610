"""archive.create: array by array, piece by piece, all of it or nothing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest

import archive
from archive.errors import ClosedError, ExistsError, MissingError, UnsupportedDtypeError
from tests.acceptance.samples import CREATED, NDArray
from tests.optional import torch

ONE = np.zeros(3)


def create(path: Path, **options: Any) -> Any:
    return archive.create(path, **{"created": CREATED, "durable": False, **options})


def test_report_and_values(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    with create(path) as writer:
        writer.add("model", "w", ONE)
        writer.add("other", "w", ONE + 1)
        writer.add("model", "v", ONE + 2)
        writer.metrics["fit"]["loss"] = 0.5
        writer.metrics["fit"]["counts"] = [1, 2]
        writer.configs["run"] = {"name": "x", "blob": b"\0\1"}
        with pytest.raises(ClosedError):
            _ = writer.report
        assert not path.exists()
    report = writer.report
    assert (report.arrays, report.array_bytes, report.file_bytes) == (3, 72, path.stat().st_size)
    with archive.open(path) as handle:
        found = handle.records
        assert list(handle) == [("model", "w"), ("model", "v"), ("other", "w")]
        assert dict(found.metrics_records["fit"]) == {"loss": 0.5, "counts": [1, 2]}
        assert dict(found.configs_records["run"]) == {"name": "x", "blob": b"\0\1"}
        assert handle["other", "w"].numpy().tolist() == [1, 1, 1]
        assert list(found.parameters_records) == ["model", "other"]
        assert handle.info.created == CREATED
        assert handle.verify().ok


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float32", "bool"])
def test_pieces_that_are_tensors(tmp_path: Path, name: str) -> None:
    """They make the bytes of the whole tensor, whatever names the element type."""
    t = torch()
    dtype = getattr(t, name)
    whole = t.arange(24).reshape(4, 6).to(dtype)
    archive.save({"w": whole}, tmp_path / "whole.h5", created=CREATED, durable=False)
    for number, said in enumerate((dtype, name, f"torch.{name}")):
        path = tmp_path / f"{number}.h5"
        turned = whole.T.contiguous().T
        pieces = (whole[:1], whole[1:3].clone().requires_grad_(dtype.is_floating_point), turned[3:])
        with create(path) as writer:
            writer.add("model", "w", iter(pieces), shape=(4, 6), dtype=said)
        assert path.read_bytes() == (tmp_path / "whole.h5").read_bytes()
        with archive.open(path) as handle:
            assert handle["w"].torch(np.s_[1:]).float().tolist() == whole[1:].float().tolist()


def test_pieces_of_tensors_that_do_not_fit(tmp_path: Path) -> None:
    t = torch()
    half = t.zeros(2, 3, dtype=t.bfloat16)
    cases: list[tuple[Any, Any, type[Exception], str]] = [
        ([half], t.float16, ValueError, "model/w: a piece of dtype bfloat16"),
        ([half, half.float()], t.bfloat16, ValueError, "a piece of dtype float32"),
        ([half[0]], t.bfloat16, ValueError, "does not fit"),
        ([half], t.complex32, UnsupportedDtypeError, "model/w"),
        ([half.to_sparse()], t.bfloat16, UnsupportedDtypeError, "model/w.*to_dense"),
        ([t.zeros(4, 3, dtype=t.bfloat16, device="meta")], "bfloat16", UnsupportedDtypeError, "model/w"),
    ]
    for pieces, dtype, error, text in cases:
        with pytest.raises(error, match=text), create(tmp_path / "a.h5") as writer:
            writer.add("model", "w", pieces, shape=(4, 3), dtype=dtype)
    assert not (tmp_path / "a.h5").exists()


def test_pieces_of_a_type_by_its_short_name(tmp_path: Path) -> None:
    with create(tmp_path / "a.h5") as writer:
        writer.add("model", "w", [np.zeros((2, 3), "f2")], shape=(2, 3), dtype="fp16")
    assert archive.load(tmp_path / "a.h5").parameters_records["model"]["w"].dtype == "float16"


def test_nothing_at_all(tmp_path: Path) -> None:
    with create(tmp_path / "model.h5"):
        pass
    assert len(archive.load(tmp_path / "model.h5").parameters_records) == 0


@pytest.mark.parametrize("size", [3, 5 << 18])
def test_one_buffer_for_everything(tmp_path: Path, size: int) -> None:
    """What was added may be overwritten as soon as `add` returns, a piece when the next is asked for."""
    buffer, path = np.empty((2, size), "f4"), tmp_path / "model.h5"

    def pieces(start: int) -> Any:
        for number in range(start, start + 3):
            buffer[:] = number
            yield buffer
        buffer[:] = -1

    with create(path) as writer:
        for number in range(3):
            buffer[:] = number
            writer.add("whole", f"{number}", buffer)
        for number in range(3):
            writer.add("pieces", f"{number}", pieces(number), shape=(6, size), dtype="float32")
        buffer[:] = -2
    with archive.open(path) as handle:
        assert handle.verify().ok
        for number in range(3):
            assert (handle["whole", f"{number}"].numpy() == number).all()
            found = handle["pieces", f"{number}"].numpy()
            assert found[::2, 0].tolist() == found[1::2, -1].tolist() == [number, number + 1, number + 2]


def test_overwrite_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    archive.save({"old": ONE}, path)
    with pytest.raises(ExistsError):
        create(path, overwrite=False)
    assert list(tmp_path.iterdir()) == [path]


def test_overwrite_is_refused_when_somebody_was_faster(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"

    def race() -> None:
        with create(path, overwrite=False) as writer:
            writer.add("model", "new", ONE)
            archive.save({"old": ONE}, path)

    with pytest.raises(ExistsError):
        race()
    assert list(tmp_path.iterdir()) == [path]
    assert list(archive.load(path).array_records["model"]) == ["old"]


def test_folder_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        create(tmp_path / "none" / "model.h5")


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [True, False])
def test_exception_publishes_nothing(tmp_path: Path, error: BaseException, old: bool) -> None:
    path = tmp_path / "model.h5"
    if old:
        archive.save({"old": ONE}, path)
    writer = create(path)

    def block() -> None:
        with writer:
            writer.add("model", "w", np.zeros(5 << 18))
            writer.add("model", "v", ONE)
            raise error

    with pytest.raises(type(error)) as caught:
        block()
    assert caught.value is error
    assert list(tmp_path.iterdir()) == ([path] if old else [])
    with pytest.raises(ClosedError):
        writer.add("model", "late", ONE)
    with pytest.raises(ClosedError):
        _ = writer.report


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (("model", "w", ONE), ValueError),
        (("model", "x", object()), TypeError),
        (("model", 1, ONE), TypeError),
        ((1, "x", ONE), TypeError),
        (("model", "x", np.array([None])), archive.errors.UnsupportedDtypeError),
    ],
)
def test_refused_arrays_leave_the_writer_usable(tmp_path: Path, call: Any, kind: type[Exception]) -> None:
    path = tmp_path / "model.h5"
    with create(path) as writer:
        writer.add("model", "w", ONE)
        with pytest.raises(kind) as caught:
            writer.add(*call)
        assert "model/x" in str(caught.value) or call[1] != "x" or call[0] == 1
        writer.add("model", "last", ONE)
    with archive.open(path) as handle:
        assert list(handle) == [("model", "w"), ("model", "last")]


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (3,)},
        {"dtype": "float64"},
        {"shape": (3,), "dtype": "<U3"},
        {"shape": (3,), "dtype": "no such"},
        {"shape": (3,), "dtype": object},
        {"shape": (-1, 3), "dtype": "float64"},
        {"shape": (2**62, 2**62), "dtype": "float64"},
    ],
)
def test_bad_declarations(tmp_path: Path, options: dict[str, Any]) -> None:
    with create(tmp_path / "model.h5") as writer:
        with pytest.raises((TypeError, ValueError), match=r"model/x|need both"):
            writer.add("model", "x", iter([ONE]), **options)
        writer.add("model", "w", ONE)
    assert list(archive.load(tmp_path / "model.h5").array_records["model"]) == ["w"]


PIECES: dict[str, tuple[list[Any], tuple[int, ...]]] = {
    "too few": ([np.zeros((2, 3))], (3, 3)),
    "too many": ([np.zeros((2, 3)), np.zeros((2, 3))], (3, 3)),
    "too many where none belong": ([np.zeros((1, 3))], (0, 3)),
    "none": ([], (3, 3)),
    "another dtype": ([np.zeros((3, 3), "f4")], (3, 3)),
    "another byte order": ([np.zeros((3, 3), ">f8")], (3, 3)),
    "another width": ([np.zeros((3, 4))], (3, 3)),
    "another rank": ([np.zeros(9)], (3, 3)),
    "no axis": ([np.float64(1)] * 3, (3,)),
    "no shape": ([np.zeros(1)], ()),
    "not numbers": (["abc"], (3,)),
}


@pytest.mark.parametrize("case", PIECES)
@pytest.mark.parametrize("first", [True, False])
def test_wrong_pieces(tmp_path: Path, case: str, first: bool) -> None:
    """Whatever is wrong with the pieces: an error, and after it nothing more and no archive."""
    pieces, shape = PIECES[case]

    def block() -> None:
        with create(tmp_path / "model.h5") as writer:
            if not first:
                writer.add("model", "w", ONE)
            with pytest.raises(ValueError, match="model/x"):
                writer.add("model", "x", iter(pieces), shape=shape, dtype="float64")
            with pytest.raises(ClosedError):
                writer.add("model", "next", ONE)

    with pytest.raises(ClosedError):
        block()
    assert list(tmp_path.iterdir()) == []


def test_exception_in_the_pieces(tmp_path: Path) -> None:
    def pieces() -> Any:
        yield np.zeros((1, 5 << 18))
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"), create(tmp_path / "model.h5") as writer:
        writer.add("model", "x", pieces(), shape=(2, 5 << 18), dtype="float64")
    assert list(tmp_path.iterdir()) == []


def test_bad_values(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    with create(path) as writer:
        with pytest.raises((TypeError, ValueError)):
            writer.metrics["fit"] = {"loss": "text"}
        with pytest.raises((TypeError, ValueError)):
            writer.configs["run"]["x"] = object()
        with pytest.raises(TypeError):
            writer.metrics[1] = {}
        writer.metrics["fit"] = {"loss": 1.0}
    assert archive.load(path)["fit"]["loss"] == 1.0


def test_duplicate_of_a_name_that_is_escaped(tmp_path: Path) -> None:
    with create(tmp_path / "model.h5") as writer:
        for key in ("a/b", "a%2Fb", "", ".", "\u00e9", "e\u0301"):
            writer.add("model", key, ONE)
            with pytest.raises(ValueError, match="two arrays"):
                writer.add("model", key, ONE)
            writer.add("other", key, ONE)
    assert archive.verify(tmp_path / "model.h5").ok


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "?", ">c16", "datetime64[ns]", "S3"])
def test_dtypes_by_name_and_by_object(tmp_path: Path, dtype: str) -> None:
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    whole: NDArray = np.arange(12).astype("u1").view("u1").repeat(kind.itemsize).view(kind).reshape(6, 2)
    if dtype == "?":
        whole = np.arange(12).reshape(6, 2) % 2 == 0
    with create(tmp_path / "model.h5") as writer:
        writer.add("model", "a", (whole[n : n + 2] for n in (0, 2, 4)), shape=whole.shape, dtype=kind)
        writer.add("model", "b", [whole], shape=whole.shape, dtype=str(kind))
    with archive.open(tmp_path / "model.h5") as handle:
        for key in "ab":
            assert handle[key].dtype == str(kind)
            assert handle[key].numpy().tobytes() == whole.tobytes()


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Have threads change places every 10 us, as they do on a busy machine."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def in_threads(works: list[Callable[[], object]]) -> None:
    """Make calls side by side, and raise the first error."""
    with ThreadPoolExecutor(len(works)) as pool:
        for job in [pool.submit(work) for work in works]:
            job.result()


@pytest.mark.usefixtures("quick_switches")
def test_several_threads_add(tmp_path: Path) -> None:
    """Of 60 such archives 5 were damaged, and others could not be finished."""

    def add(writer: Any, thread: int) -> None:
        for number in range(30):
            array = np.full((number % 3 + 1, 500), 100 * thread + number, "f4")
            if thread == 0:
                writer.add(
                    "model", f"{thread}/{number}", np.split(array, len(array)), shape=array.shape, dtype="f4"
                )
            else:
                writer.add("model", f"{thread}/{number}", array)
            writer.metrics[f"fit {number}"][f"thread {thread}"] = thread

    for _ in range(3):
        with create(tmp_path / "model.h5") as writer:
            in_threads([partial(add, writer, thread) for thread in range(4)])
        records = archive.load(tmp_path / "model.h5")
        assert len(records["model"]) == 120
        for thread in range(4):
            for number in range(30):
                found = records.array_records["model"][f"{thread}/{number}"].numpy()
                assert (found == 100 * thread + number).all()
        for number in range(30):
            assert dict(records[f"fit {number}"]) == {f"thread {thread}": thread for thread in range(4)}


@pytest.mark.parametrize("error", [None, KeyError("k")])
def test_the_end_of_the_block_waits_for_a_thread(tmp_path: Path, error: Exception | None) -> None:
    """The file was closed under the thread: what it wrote went to a file that was opened meanwhile."""
    begun, go_on = threading.Event(), threading.Event()

    def pieces() -> Iterator[NDArray]:
        begun.set()
        go_on.wait()
        yield np.ones((3, 1 << 18))

    with ThreadPoolExecutor(2) as pool:
        with suppress(KeyError), create(tmp_path / "model.h5") as writer:
            job = pool.submit(writer.add, "model", "w", pieces(), shape=(3, 1 << 18), dtype="f8")
            begun.wait()
            waiting = pool.submit(writer.add, "model", "v", ONE)
            threading.Timer(0.1, go_on.set).start()
            if error is not None:
                raise error
        job.result()
        with suppress(ClosedError):
            waiting.result()
    if error is None:
        assert (archive.load(tmp_path / "model.h5").array_records["model"]["w"].numpy() == 1).all()
    else:
        assert list(tmp_path.iterdir()) == []


def test_pieces_that_add_an_array_are_refused(tmp_path: Path) -> None:
    def pieces() -> Iterator[NDArray]:
        yield np.ones((1, 3))
        writer.add("model", "other", ONE)

    with pytest.raises(ClosedError), create(tmp_path / "model.h5") as writer:
        writer.add("model", "w", pieces(), shape=(1, 3), dtype="f8")
    assert list(tmp_path.iterdir()) == []


def test_a_name_more_for_an_array(tmp_path: Path) -> None:
    with archive.create(tmp_path / "a.h5") as writer:
        writer.add("a", "w", np.arange(30_000.0))
        writer.add("a", "empty", np.zeros((0, 3)))
        writer.tie("b", "v", ("a", "w"))
        writer.tie("a", "u", ("b", "v"))
        writer.tie("a", "none", ("a", "empty"))
        writer.add("a", "last", np.ones(3))
        for to in (("a", "x"), ("c", "w")):
            with pytest.raises(KeyError, match="was added yet"):
                writer.tie("a", "y", to)
        with pytest.raises(ValueError, match="two arrays with the key"):
            writer.tie("a", "last", ("a", "w"))
        for odd in (("a",), "aw", ("a", 1), ["a", "w"]):
            with pytest.raises(TypeError, match="a \\(record, key\\) pair"):
                writer.tie("a", "y", odd)  # type: ignore[arg-type]
    assert writer.report.array_bytes == 240_000 + 24
    records = archive.load(tmp_path / "a.h5").array_records
    memory = [records[record][key].numpy() for record, key in (("a", "w"), ("b", "v"), ("a", "u"))]
    assert all(np.shares_memory(memory[0], other) for other in memory)
    assert np.array_equal(memory[2], np.arange(30_000.0))
    assert records["a"]["none"].shape == (0, 3)
    assert records["a"]["last"].numpy().tolist() == [1, 1, 1]
    with archive.open(tmp_path / "a.h5") as handle:
        assert handle.verify().ok
    with h5py.File(tmp_path / "a.h5") as file:
        assert np.array_equal(file["arrays/b/v"], np.arange(30_000.0))


def test_a_tie_is_that_of_a_planned_save(tmp_path: Path) -> None:
    given, created = np.arange(30_000.0), "2026-01-01T00:00:00Z"
    archive.save({"w": given, "v": given}, tmp_path / "planned.h5", created=created)
    with archive.create(tmp_path / "created.h5", created=created) as writer:
        writer.add("model", "w", given)
        writer.tie("model", "v", ("model", "w"))
    assert (tmp_path / "planned.h5").read_bytes() == (tmp_path / "created.h5").read_bytes()
