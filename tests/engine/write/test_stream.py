"""One rule of placing: however arrays come in, the same arrays give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import archive
from archive.errors import HostileFileError, ValueRangeError
from archive.records import Array, ArrayRecord, RecordDict, RecordSet
from archive.records.payload import NdarrayPayload
from archive.tuning import JSON_VARIABLE
from tests.acceptance.samples import ARRAYS, CREATED, NDArray, same

VALUES: dict[str, Any] = {
    "metrics": {"loss": 0.25, "long": [float(n) for n in range(5000)], "counts": list(range(9))},
    "configs": {
        "name": "x",
        "blob": bytes(range(256)) * 40,
        "flags": [True, False],
        "words": ["a", "b\u00e9"],
    },
}
OPTIONS: dict[str, Any] = {"created": CREATED, "durable": False}
LARGE = {
    "a": np.arange(3, dtype="i8"),
    "five MB": np.arange(5 << 18, dtype="f4").reshape(-1, 256),
    "none": np.empty((0, 4), "f8"),
    "zero": np.array(7, "i8"),
    "one MB": np.full(1 << 20, 5, "u1"),
    "five MB of Fortran": np.asfortranarray(np.arange(5 << 18, dtype="f4").reshape(256, -1)),
    "twenty MB": np.arange(20 << 17, dtype="f8").reshape(-1, 8),
    "b": np.array(["text", "t"]),
}


def each(arrays: dict[str, NDArray]) -> Iterator[tuple[str, NDArray]]:
    yield from arrays.items()


def planned(arrays: dict[str, NDArray], path: Path) -> None:
    archive.save(arrays, path, **VALUES, **OPTIONS)


def generator(arrays: dict[str, NDArray], path: Path) -> None:
    archive.save(each(arrays), path, **VALUES, **OPTIONS)


def consumed_generator(arrays: dict[str, NDArray], path: Path) -> None:
    archive.save(each(arrays), path, keep_input=False, **VALUES, **OPTIONS)


def consumed_dict(arrays: dict[str, NDArray], path: Path) -> None:
    archive.save(dict(arrays), path, keep_input=False, **VALUES, **OPTIONS)


def consumed_record(arrays: dict[str, NDArray], path: Path) -> None:
    record = ArrayRecord()
    for key, array in arrays.items():
        record[key] = Array.from_payload(
            str(array.dtype), array.shape, "numpy.ndarray", NdarrayPayload(array)
        )
    archive.save(record, path, keep_input=False, **VALUES, **OPTIONS)


def added(arrays: dict[str, NDArray], path: Path) -> None:
    with archive.create(path, **OPTIONS) as writer:
        for key, array in arrays.items():
            writer.add("model", key, array)
        writer.metrics["metrics"] = VALUES["metrics"]
        writer.configs["configs"].update(VALUES["configs"])


def lazily(arrays: dict[str, NDArray], path: Path) -> None:
    with archive.open(path) as handle:
        archive.save(handle.records, path, **OPTIONS)


def lazily_consumed(arrays: dict[str, NDArray], path: Path) -> None:
    with archive.open(path) as handle:
        archive.save(handle.records, path, keep_input=False, **OPTIONS)


def lazily_streamed(arrays: dict[str, NDArray], path: Path) -> None:
    with archive.open(path) as handle:
        pairs = ((key, array) for (_, key), array in handle.drain())
        archive.save(pairs, path, keep_input=False, **VALUES, **OPTIONS)


def loaded(arrays: dict[str, NDArray], path: Path) -> None:
    archive.save(archive.load(path), path, keep_input=False, **OPTIONS)


WAYS: list[Callable[[dict[str, NDArray], Path], None]] = [
    generator,
    consumed_generator,
    consumed_dict,
    consumed_record,
    added,
    lazily,
    lazily_consumed,
    lazily_streamed,
    loaded,
]
OVER_ITSELF = WAYS[-4:]
"""Those that read the planned file, and replace it."""


@pytest.fixture(scope="module", params=["every sort", "large"])
def wanted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Arrays and the file that a planned save makes of them."""
    arrays = ARRAYS if request.param == "every sort" else LARGE
    path = tmp_path_factory.mktemp("planned") / "planned.h5"
    planned(arrays, path)
    yield arrays, path, path.read_bytes()
    path.unlink()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_equal_bytes(wanted: Any, tmp_path: Path, way: Callable[..., None]) -> None:
    arrays, source, expected = wanted
    path = tmp_path / "model.h5"
    if way in OVER_ITSELF:
        path.hardlink_to(source)
    way(arrays, path)
    assert not path.samefile(source)
    assert path.read_bytes() == expected
    path.unlink()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", [1, 3, 10**9])
def test_equal_bytes_in_pieces(tmp_path: Path, rows: int) -> None:
    """Pieces of any size, of every numeric type; arrays that have no first axis are added whole."""
    arrays = {
        key: array for key, array in ARRAYS.items() if array.flags.c_contiguous and array.dtype.kind != "U"
    }
    if rows == 1:
        arrays["one page"] = arrays["one page"][:3000]  # three batches
    else:
        arrays |= {"seven MB": np.arange(7 << 18, dtype="f4").reshape(7, -1)}
        arrays |= {"bfloat16": np.arange(3 << 20).reshape(12, -1).astype(ml_dtypes.bfloat16)}
    archive.save(arrays, tmp_path / "planned.h5", **OPTIONS)
    with archive.create(tmp_path / "pieces.h5", **OPTIONS) as writer:
        for key, array in arrays.items():
            if array.ndim:
                pieces = (array[start : start + rows] for start in range(0, len(array), rows))
                writer.add("model", key, pieces, shape=array.shape, dtype=array.dtype)
            else:
                writer.add("model", key, array)
    assert (tmp_path / "pieces.h5").read_bytes() == (tmp_path / "planned.h5").read_bytes()


@pytest.mark.parametrize("keep_input", [True, False])
def test_list(tmp_path: Path, keep_input: bool) -> None:
    arrays = list(LARGE.values())
    planned({str(number): array for number, array in enumerate(arrays)}, tmp_path / "dict.h5")
    given = list(arrays)
    archive.save(given, tmp_path / "list.h5", keep_input=keep_input, **VALUES, **OPTIONS)
    assert (tmp_path / "list.h5").read_bytes() == (tmp_path / "dict.h5").read_bytes()
    assert len(given) == (len(arrays) if keep_input else 0)


def tied() -> dict[str, NDArray]:
    shared, large = np.arange(6.0), np.arange(5 << 18, dtype="f4")
    return {
        "x": shared,
        "y": large,
        "x again": shared,
        "none": np.empty(0),
        "y again": large,
        "z": shared * 2,
    }


@pytest.mark.parametrize("container", [dict, ArrayRecord, RecordSet, RecordDict])
def test_tied_arrays(tmp_path: Path, container: Any) -> None:
    """One memory is stored once, consumed or not, and again when it comes from an archive."""

    def given() -> Any:
        if container is dict:
            return tied()
        record = ArrayRecord()
        made = {id(array): Array(array) for array in tied_arrays.values()}
        for key, array in tied_arrays.items():
            record[key] = made[id(array)]
        return record if container is ArrayRecord else container({"model": record})

    tied_arrays = tied()
    for keep_input in (True, False):
        archive.save(given(), tmp_path / f"{keep_input}.h5", keep_input=keep_input, **OPTIONS)
    expected = (tmp_path / "True.h5").read_bytes()
    assert len(expected) < 5_400_000
    assert (tmp_path / "False.h5").read_bytes() == expected
    with archive.open(tmp_path / "False.h5") as handle:
        archive.save(handle.records, tmp_path / "again.h5", keep_input=False, **OPTIONS)
        assert handle["y"].numpy() is not None
    assert (tmp_path / "again.h5").read_bytes() == expected


def test_scalars_of_integers_keep_their_value(tmp_path: Path) -> None:
    """Regression: ``bytes()`` of a 0-d array of integers is that many zeros."""
    arrays = {code: np.array(8, code) for code in ("i1", "u1", "i2", ">i4", "i8", "u8", "?", "f4", "c8")}
    for keep_input in (True, False):
        path = tmp_path / f"{keep_input}.h5"
        archive.save(iter(arrays.items()), path, keep_input=keep_input, **OPTIONS)
        with archive.open(path) as handle:
            assert all(same(handle[code].numpy(), array) for code, array in arrays.items())


def test_many_small_arrays(tmp_path: Path) -> None:
    """More than one batch of rows and more than one reservation ahead."""
    arrays = {f"{n}": np.full(n % 50, n, "i4") for n in range(3000)}
    archive.save(arrays, tmp_path / "planned.h5", **OPTIONS)
    for name, given in (("stream", iter(arrays.items())), ("dict", dict(arrays))):
        archive.save(given, tmp_path / f"{name}.h5", keep_input=False, **OPTIONS)
        assert (tmp_path / f"{name}.h5").read_bytes() == (tmp_path / "planned.h5").read_bytes()


def test_one_buffer_for_all_elements(tmp_path: Path) -> None:
    """A generator may yield the same memory again and again, small or large."""
    for size in (10, (1 << 18) + 1, 5 << 18):
        for keep_input in (True, False):
            buffer = np.empty(size, "f4")

            def pairs(buffer: NDArray = buffer) -> Iterator[tuple[str, NDArray]]:
                for number in range(4):
                    buffer[:] = number
                    yield f"{number}", buffer
                buffer[:] = -1

            path = tmp_path / "reused.h5"
            archive.save(pairs(), path, keep_input=keep_input, **OPTIONS)
            with archive.open(path) as handle:
                for number in range(4):
                    assert (handle[f"{number}"].numpy() == number).all()


@pytest.mark.parametrize("keep_input", [True, False])
def test_a_stream_refuses_what_a_plan_refuses(tmp_path: Path, keep_input: bool) -> None:
    path, one = tmp_path / "model.h5", np.zeros(1)
    cases: list[tuple[list[Any], type[Exception]]] = [
        ([("a", object())], TypeError),
        ([("a", np.array([None]))], archive.errors.UnsupportedDtypeError),
        ([(1, one)], TypeError),
        ([("a", one, one)], TypeError),
        (["a"], TypeError),
    ]
    for given, kind in cases:
        with pytest.raises(kind) as caught:
            archive.save(iter(given), path, keep_input=keep_input, **OPTIONS)
        assert list(tmp_path.iterdir()) == []
        assert "model/a" in str(caught.value) or given[0][0] != "a" or len(given[0]) != 2
    with pytest.raises((ValueError, archive.errors.PartialSaveError), match="two arrays"):
        archive.save(iter([("a", one), ("a", one)]), path, keep_input=keep_input, **OPTIONS)
    assert not path.exists()


@pytest.mark.parametrize("keep_input", [True, False])
def test_an_empty_stream(tmp_path: Path, keep_input: bool) -> None:
    archive.save({}, tmp_path / "planned.h5", **VALUES, **OPTIONS)
    archive.save(iter([]), tmp_path / "stream.h5", keep_input=keep_input, **VALUES, **OPTIONS)
    assert (tmp_path / "stream.h5").read_bytes() == (tmp_path / "planned.h5").read_bytes()


@pytest.mark.parametrize("keep_input", [True, False])
def test_bad_values_are_found_before_a_stream_is_touched(tmp_path: Path, keep_input: bool) -> None:
    touched = []

    def pairs() -> Iterator[tuple[str, NDArray]]:
        touched.append(1)
        yield "a", np.zeros(1)

    with pytest.raises((TypeError, ValueError)):
        archive.save(pairs(), tmp_path / "x.h5", keep_input=keep_input, metrics={"m": object()}, **OPTIONS)
    assert touched == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("save", [generator, consumed_generator, added])
def test_ties_of_another_archive_are_kept(tmp_path: Path, save: Callable[..., None]) -> None:
    """A stream cannot know whether memory changes between two arrays; an archive does not change."""
    large, small = np.arange(1 << 18, dtype="f8"), np.arange(3)
    given = {"a": large, "b": small, "c": large, "d": small, "turned": large.reshape(2, -1), "e": large}
    archive.save(given, tmp_path / "given.h5", **OPTIONS)
    with archive.open(tmp_path / "given.h5") as handle:
        save({key: handle[key] for key in given}, tmp_path / "a.h5")
    assert archive.verify(tmp_path / "a.h5").ok
    with archive.open(tmp_path / "given.h5") as before, archive.open(tmp_path / "a.h5") as after:
        assert after.info.array_bytes == before.info.array_bytes
        assert all(same(after[key].numpy(), array) for key, array in given.items())


def test_values_that_no_reader_takes_are_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before an array is asked for or taken; and whatever is written can be read."""

    def never() -> Iterator[tuple[str, NDArray]]:
        raise AssertionError("an array was asked for")
        yield

    monkeypatch.setenv(JSON_VARIABLE, "2000000")
    path, many = tmp_path / "x.h5", {f"metric {number:080}": 0.5 for number in range(3000)}
    whole, several = {"w": np.arange(3.0)}, {"texts": ["\0", *"ab" * 30_000]}
    for keep in (True, False):
        for arrays in (dict(whole), never()):
            with pytest.raises(ValueRangeError, match=f"'metrics': .*{JSON_VARIABLE}"):
                archive.save(arrays, path, metrics=many, keep_input=keep, **OPTIONS)
            with pytest.raises(ValueRangeError, match=f"'configs/texts': .*{JSON_VARIABLE}"):
                archive.save(arrays, path, configs=several, keep_input=keep, **OPTIONS)
            assert not isinstance(arrays, dict) or list(arrays) == ["w"]
    assert not list(tmp_path.iterdir())
    few = dict(list(many.items())[:1500])
    archive.save(whole, path, metrics=few, configs={"texts": several["texts"][:20_000]}, **OPTIONS)
    assert archive.load(path)["metrics"] == few
    monkeypatch.setenv(JSON_VARIABLE, "1000000")
    with (
        pytest.raises(HostileFileError, match=f"{path.name}: .*{JSON_VARIABLE}"),
        archive.open(path) as handle,
    ):
        _ = handle.info
