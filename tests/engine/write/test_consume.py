"""keep_input=False: arrays are let go of as they are written, and never before."""

from __future__ import annotations

import gc
import types
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.records import (
    Array,
    ArrayRecord,
    ConfigRecord,
    MetricRecord,
    RecordDict,
    RecordSet,
)
from tests.acceptance.samples import CREATED, NDArray
from tests.optional import torch

OPTIONS: dict[str, Any] = {"keep_input": False, "durable": False, "created": CREATED}
MB = 1 << 20


def consume(records: Any, path: Path, **options: Any) -> Any:
    return archive.save(records, path, **OPTIONS | options)


def arrays(count: int = 4, nbytes: int = 80) -> dict[str, NDArray]:
    return {f"{number}": np.full(nbytes // 8, number, "f8") for number in range(count)}


def record(**options: int) -> Any:
    return ArrayRecord({key: Array(array) for key, array in arrays(**options).items()})


def check(path: Path, *, count: int = 4) -> None:
    with archive.open(path) as handle:
        assert handle.verify().ok
        for number in range(count):
            assert (handle[f"{number}"].numpy() == number).all()
        assert len(handle) == count
    assert list(path.parent.iterdir()) == [path]


def test_containers_are_emptied(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    containers = [arrays(), OrderedDict(arrays()), list(arrays().values()), record()]
    for given in containers:
        consume(given, path)
        assert len(given) == 0
        check(path)


@pytest.mark.parametrize("kind", [RecordSet, RecordDict])
def test_records_are_emptied_and_their_names_stay(tmp_path: Path, kind: Any) -> None:
    metrics, configs = MetricRecord({"loss": 0.5}), ConfigRecord({"a": "b"})
    if kind is RecordDict:
        given: Any = RecordDict({"m": metrics, "model": record(), "c": configs, "none": ArrayRecord()})
    else:
        given = RecordSet({"model": record(), "none": ArrayRecord()}, {"m": metrics}, {"c": configs})
    consume(given, tmp_path / "model.h5")
    assert len(given["model"]) == 0
    assert given["m"] == metrics == {"loss": 0.5}
    assert given["c"] == configs == {"a": "b"}
    check(tmp_path / "model.h5")
    found = archive.load(tmp_path / "model.h5")
    assert set(found) == {"m", "model", "c", "none"}


def test_iterators_are_exhausted(tmp_path: Path) -> None:
    for given in (
        iter(arrays().items()),
        (pair for pair in arrays().items()),
        zip("0123", arrays().values(), strict=True),
    ):
        consume(given, tmp_path / "model.h5")
        assert next(given, None) is None
        check(tmp_path / "model.h5")


IMMUTABLE = {
    "tuple": lambda: tuple(arrays().values()),
    "proxy": lambda: types.MappingProxyType(arrays()),
    "pairs in a tuple": lambda: tuple(arrays().items()),
}


@pytest.mark.parametrize("case", IMMUTABLE)
def test_what_does_not_let_go_is_refused(tmp_path: Path, case: str) -> None:
    with pytest.raises(TypeError, match="keep_input"):
        consume(IMMUTABLE[case](), tmp_path / "model.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_pairs_is_emptied(tmp_path: Path) -> None:
    given = list(arrays(nbytes=5 * MB).items())
    watched = [weakref.ref(array) for _, array in given]
    seen = []
    consume(given, tmp_path / "model.h5", progress=lambda *_: seen.append(sum(r() is None for r in watched)))
    assert given == []
    assert seen[-2] >= 3
    check(tmp_path / "model.h5")


def consumed_dict(made: dict[str, NDArray]) -> Any:
    return made


def consumed_list(made: dict[str, NDArray]) -> Any:
    return list(made.values())


def consumed_record(made: dict[str, NDArray]) -> Any:
    return ArrayRecord({key: Array(array) for key, array in made.items()})


def consumed_generator(made: dict[str, NDArray]) -> Any:
    def popping() -> Iterator[tuple[str, NDArray]]:
        for key in list(made):
            yield key, made.pop(key)

    return popping()


@pytest.mark.parametrize("given", [consumed_dict, consumed_list, consumed_record, consumed_generator])
def test_memory_falls_as_the_file_grows(tmp_path: Path, given: Any) -> None:
    """An array dies when it is written, not when all are; reference counts do it, no collector."""
    made = arrays(8, 9 * MB)
    container = given(made)
    watched = [weakref.ref(array) for array in made.values()]
    if given is consumed_record:
        watched = [weakref.ref(array.payload.array) for array in container.values()]
    if given in (consumed_list, consumed_record):
        made.clear()
    del made
    dead: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        dead.append((done, sum(reference() is None for reference in watched)))

    gc.disable()
    try:
        consume(container, tmp_path / "model.h5", gc_threshold=1 << 40, progress=progress)
    finally:
        gc.enable()
    for done, count in dead:
        # nothing is let go of before it is written; then all, but what the writing thread still has
        assert count * 9 * MB <= done
        assert count >= done // (9 * MB) - 3
    check(tmp_path / "model.h5", count=8)


def test_tensors_die_while_later_ones_wait(tmp_path: Path) -> None:
    nn = torch().nn
    state = nn.Sequential(*(nn.Linear(1024, 1200, bias=False) for _ in range(8))).state_dict()
    state = OrderedDict((key, tensor.clone()) for key, tensor in state.items())
    expected = {key: tensor.numpy().copy() for key, tensor in state.items()}
    watched = [weakref.ref(tensor) for tensor in state.values()]
    seen = []

    def progress(done: int, total: int) -> None:
        seen.append((sum(reference() is None for reference in watched), len(state)))

    consume(state, tmp_path / "model.h5", progress=progress)
    assert len(state) == 0
    assert any(dead >= 3 and left >= 3 for dead, left in seen)
    assert all(dead >= 8 - left for dead, left in seen)
    with archive.open(tmp_path / "model.h5") as handle:
        assert all(np.array_equal(handle[key].numpy(), array) for key, array in expected.items())


@pytest.mark.parametrize("nbytes", [80, pytest.param(5 * MB, marks=pytest.mark.slow)])
def test_one_collection_a_threshold(tmp_path: Path, nbytes: int) -> None:
    """The bytes that were taken decide, not the batches that they were written in."""
    collections: list[int] = []

    def count(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            collections.append(1)

    gc.collect()
    gc.callbacks.append(count)
    gc.disable()
    try:
        for threshold, expected in ((2 * nbytes, 4), (4 * nbytes, 2), (1 << 40, 0)):
            collections.clear()
            given = consumed_generator(arrays(8, nbytes))
            consume(given, tmp_path / "model.h5", gc_threshold=threshold - 1)
            assert len(collections) == expected
            collections.clear()
            consume(arrays(8, nbytes), tmp_path / "model.h5", gc_threshold=threshold - 1)
            assert len(collections) == expected + 1  # and one when all are gone
        collections.clear()
        archive.save(arrays(8, nbytes), tmp_path / "model.h5", gc_threshold=1)
        assert collections == []
    finally:
        gc.enable()
        gc.callbacks.remove(count)


BAD = {
    "no array": object(),
    "objects": np.array([None]),
    "too many axes": "text",
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("container", ["dict", "list"])
def test_all_is_checked_before_anything_is_taken(tmp_path: Path, bad: str, container: str) -> None:
    made: dict[str, Any] = {**arrays(), "last": BAD[bad]}
    given: Any = made if container == "dict" else list(made.values())
    before = list(given.items() if container == "dict" else given)
    with pytest.raises(TypeError):
        consume(given, tmp_path / "model.h5")
    now = list(given.items() if container == "dict" else given)
    assert len(now) == len(before)
    assert all(now_one is one or now_one[1] is one[1] for now_one, one in zip(now, before, strict=True))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        {"metrics": {"m": object()}},
        {"configs": {"c": {"d": [1, "x"]}}},
        {"name": "a" * 70000},
        {"created": "yesterday"},
        {"overwrite": False},
    ],
)
def test_arguments_are_checked_before_anything_is_taken(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "model.h5"
    if "overwrite" in options:
        path.write_bytes(b"old")
    for given in (arrays(), list(arrays().values()), record()):
        with pytest.raises((TypeError, ValueError, OSError)):
            consume(given, path, **options)
        assert len(given) == 4
        assert list(tmp_path.iterdir()) == ([path] if "overwrite" in options else [])


def test_names_are_checked_before_anything_is_taken(tmp_path: Path) -> None:
    for key in (5, "a" * 70000):
        given: dict[Any, Any] = {**arrays(), key: np.zeros(1)}
        with pytest.raises((TypeError, ValueError)):
            consume(given, tmp_path / "model.h5")
        assert len(given) == 5
    for number in (1, 2):  # two records of one name
        given = arrays()
        with pytest.raises((TypeError, ValueError)):
            consume(given, tmp_path / "model.h5", metrics={"a": {"x": 1.0}, "b": {"y": {}}})
        assert len(given) == 4, number
    assert list(tmp_path.iterdir()) == []


def test_a_name_too_long_for_its_partial(tmp_path: Path) -> None:
    """255 bytes are a file name, but leave no room for ``.partial``: refused, nothing taken."""
    given, path = arrays(), tmp_path / ("a" * 252 + ".h5")
    with pytest.raises(archive.errors.StorageError):
        consume(given, path)
    assert len(given) == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("nbytes", [80, 9 * MB])
def test_progress(tmp_path: Path, nbytes: int) -> None:
    for given in (arrays(4, nbytes), consumed_generator(arrays(4, nbytes))):
        told: list[tuple[int, int]] = []
        report = consume(given, tmp_path / "model.h5", progress=lambda *at, told=told: told.append(at))
        done = [at for at, _ in told]
        assert done == sorted(done)
        assert all(at <= total for at, total in told)
        assert told[-1][0] >= 4 * nbytes
        assert report.array_bytes == 4 * nbytes
        if not isinstance(given, Iterator):
            assert told[-1] == (report.file_bytes, report.file_bytes)


def test_lazy_records(tmp_path: Path) -> None:
    """Of an archive's records memory lets go; the file keeps everything."""
    archive.save(arrays(), tmp_path / "source.h5")
    with archive.open(tmp_path / "source.h5") as handle:
        given = handle.records
        consume(given, tmp_path / "source.h5")
        assert len(given["model"]) == 0
        assert len(handle) == 4
        assert (handle["3"].numpy() == 3).all()
    check(tmp_path / "source.h5")


def test_tied_arrays_are_taken_by_every_name(tmp_path: Path) -> None:
    one = np.arange(5 * MB // 8, dtype="f8")
    given = {"a": one, "b": np.zeros(3), "c": one, "d": np.zeros((0, 2)), "e": one}
    consume(given, tmp_path / "model.h5")
    assert given == {}
    found = archive.load(tmp_path / "model.h5").array_records["model"]
    assert list(found) == list("abcde")
    assert all(np.array_equal(found[key].numpy(), one) for key in "ace")


def test_the_callers_own_views_stay_valid(tmp_path: Path) -> None:
    given = arrays(3, 5 * MB)
    views = {key: array[::1000] for key, array in given.items()}
    consume(given, tmp_path / "model.h5")
    assert all((view == int(key)).all() for key, view in views.items())


@pytest.mark.parametrize("version", ["same", "partial"])
def test_saving_over_itself_and_beside_a_partial(tmp_path: Path, version: str) -> None:
    path = tmp_path / "model.h5"
    left = tmp_path / "model.h5.partial"
    if version == "partial":
        left.write_bytes(b"somebody's only copy")
    consume(arrays(), path)
    consume(arrays(), path)
    if version == "partial":
        assert left.read_bytes() == b"somebody's only copy"
        left.unlink()
    check(path)
