"""Lazy arrays of Dask: results are numpy's, tasks are few, and no byte is read before it is asked for."""

from __future__ import annotations

import concurrent.futures
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest

import archive
from archive import tuning
from archive.checkpoints.stacks import Stack
from archive.engine.read.storedpayload import StoredPayload
from archive.errors import ClosedError, DigestError, MissingError, ReplacedError, ValueRangeError
from archive.interop.dask import _chunks, _stack_chunks, stack, to_dask, to_xarray
from archive.tools.archivefacts import read_facts
from archive.tools.many import Input, read_each
from tests.children import child_environment
from tests.interop.flipping import damage

dask: Any = pytest.importorskip("dask", reason="dask is not installed")
da: Any = pytest.importorskip("dask.array", reason="dask is not installed")
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


@pytest.fixture
def file(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.normal(size=(300, 40, 5)).astype("f4"),
        "b": np.arange(7),
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 3)),
        "big-endian": np.arange(5, dtype=">f8"),
        "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "half": np.arange(6).astype(ml_dtypes.bfloat16),
        "text": np.array([["a", "Øresund"], ["", "x"]]),
        "structured": np.array([(1, 2.0), (3, 4.0)], [("n", "i4"), ("x", "f8")]),
        "when": np.array(["2026-01-01", "NaT"], "M8[D]"),
        "complex": np.array([1 + 2j]),
    }
    archive.save(arrays, tmp_path / "all.h5", metrics={"loss": 0.5})
    return str(tmp_path / "all.h5")


def clients(folder: Path, count: int = 4, shape: tuple[int, ...] = (3, 4)) -> list[str]:
    for number in range(count):
        archive.save({"w": np.random.default_rng(number).normal(size=shape)}, folder / f"client-{number}.h5")
    return [str(folder / f"client-{number}.h5") for number in range(count)]


def tasks(array: Any) -> int:
    return len(array.__dask_graph__())


def test_every_element_type_is_numpys(file: str) -> None:
    with archive.open(file) as opened:
        arrays = to_dask(opened)
        expected = {name: opened[name].numpy(copy=True) for name in opened}
    assert len(arrays) == 11
    for name, array in arrays.items():
        assert (array.shape, array.dtype) == (expected[name].shape, expected[name].dtype), name
        found = array.compute()
        assert found.dtype == expected[name].dtype
        assert found.tobytes() == expected[name].tobytes(), name
        assert tasks(array) == 1, name


def test_reductions_and_slices(file: str) -> None:
    with archive.open(file) as opened:
        lazy, whole = opened["w"], opened["w"].numpy(copy=True)
        array = to_dask(lazy, chunks=(70, 40, 5))
        half = to_dask(opened["half"], chunks=4)
    assert array.numblocks == (5, 1, 1)
    assert tasks(array) == 5
    assert np.allclose(array.mean(axis=0).compute(), whole.mean(axis=0), atol=1e-6)
    for index in (np.s_[3], np.s_[:, 2, 1:3], np.s_[::-7, ..., 0], np.s_[[5, 250, 5]], np.s_[-1, [1, 3]]):
        assert np.array_equal(array[index].compute(), whole[index])
    assert float(half.astype("f4").sum().compute()) == 15
    assert float(half.sum().compute()) == 15
    assert (half + half).dtype == ml_dtypes.bfloat16
    array.compute()[0] = 0  # the result is private and writable


def test_a_slice_reads_its_segments_alone(tmp_path: Path) -> None:
    """By a byte that is wrong where nothing is selected."""
    archive.save({"w": np.arange(1 << 19, dtype="f8").reshape(512, 1024)}, tmp_path / "w.h5")
    damage(str(tmp_path / "w.h5"))
    with archive.open(tmp_path / "w.h5") as opened:
        array = to_dask(opened["w"])
    assert array[3, :4].compute().tolist() == [3072, 3073, 3074, 3075]
    with pytest.raises(DigestError) as caught:
        array.sum().compute()
    assert (caught.value.path, caught.value.key) == (str(tmp_path / "w.h5"), "model/w")


def test_a_record_and_an_array_in_memory(file: str) -> None:
    with archive.open(file) as opened:
        record = to_dask(opened.records.array_records["model"])
        assert list(record) == list(opened.records.array_records["model"])
    assert record["b"].sum().compute() == 21
    memory = to_dask(archive.Array(np.arange(6.0)), chunks=4)
    assert memory.chunks == ((4, 2),)
    assert memory.sum().compute() == 15
    wrong: Any
    for wrong in (np.zeros(2), {"w": np.zeros(2)}, None, "w.h5"):
        with pytest.raises(TypeError, match="takes an Array, an ArrayRecord or an open archive"):
            to_dask(wrong)
    with pytest.raises(TypeError, match="Unsupported serialization type"):
        to_dask(archive.Array("float32", (2,), "pickled", b"12345678"))
    opened = archive.open(file)
    opened.close()
    with pytest.raises(ClosedError):
        to_dask(opened["b"])


def test_a_foreign_file_is_read_by_threads_alone(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "foreign.h5", "w") as foreign:
        foreign["w"] = np.arange(5.0)
    with archive.open(tmp_path / "foreign.h5", foreign=True) as opened:
        (array,) = to_dask(opened).values()
        assert array.sum().compute() == 10
        with pytest.raises(TypeError, match="a foreign file has no digest"):
            pickle.dumps(array)


def test_tokens_are_address_and_digest(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def token(path: Any) -> tuple[str, str, str]:
        with archive.open(path) as opened:
            found = opened, opened["w"], opened["b"]
            assert tuple(map(dask.base.tokenize, pickle.loads(pickle.dumps(found)))) == tuple(
                map(dask.base.tokenize, found)
            ), "a handle that is not open yet has the same"
            return tuple(map(dask.base.tokenize, found))

    for name in ("stored", "stored_range", "numpy", "getitem", "data"):
        monkeypatch.setattr(StoredPayload, name, None)
    first = token(file)
    assert len(set(first)) == 3
    assert token(file) == first
    shutil.copy(file, tmp_path / "copy.h5")
    assert set(token(tmp_path / "copy.h5")).isdisjoint(first)
    monkeypatch.undo()
    with archive.open(file) as opened:
        assert to_dask(opened["w"]).name == to_dask(opened["w"]).name
        changed = {**{key: opened["model", key].numpy() for key in ("w", "b")}, "b": np.arange(7)}
    archive.save(changed, file)
    assert set(token(file)).isdisjoint(first)
    same = [dask.base.tokenize(archive.Array(np.arange(3))) for _ in range(2)]
    assert same[0] == same[1] != dask.base.tokenize(archive.Array(np.arange(1, 4)))


def test_tokens_hold_no_secrets() -> None:
    options = {"key": "AKID", "secret": "s3cret"}
    url = "memory://tokens/a.h5"
    archive.save({"w": np.zeros(3)}, url, storage_options=options)
    with archive.open(url, storage_options=options) as opened:
        told = repr((opened.__dask_tokenize__(), opened["w"].__dask_tokenize__()))
        graphs = to_dask(opened["w"]), stack([url], "w", storage_options=options)
    for text in (told, *(pickle.dumps(graph).decode("latin-1") for graph in graphs)):
        assert url in text
        assert "s3cret" not in text
        assert "AKID" not in text


def test_stack_is_numpys(tmp_path: Path) -> None:
    urls = clients(tmp_path)
    expected = np.stack([np.random.default_rng(number).normal(size=(3, 4)) for number in range(4)])
    for source in (urls, str(tmp_path / "client-*.h5"), map(Path, urls)):
        array = stack(source, "w")
        assert array.shape == (4, 3, 4)
        assert np.array_equal(array.compute(), expected)
    assert tasks(array) == 2, "all fit into one chunk"
    array = stack(urls, ("model", "w"), chunks=(3, 2, 4))
    assert array.chunks == ((3, 1), (2, 1), (4,))
    assert np.array_equal(array[1:, ::2, 1].compute(), expected[1:, ::2, 1])
    assert np.allclose(array.std(axis=0).compute(), expected.std(axis=0))
    assert array.name == stack(urls, ("model", "w"), chunks=(3, 2, 4)).name
    with pytest.raises(TypeError, match="needs the key"):
        stack(urls)
    with pytest.raises(ValueError, match="the list is empty"):
        stack([], "w")
    with pytest.raises(KeyError, match="no array 'v'"):
        stack(urls, "v")
    with pytest.raises(MissingError):
        stack([*urls, str(tmp_path / "none.h5")], "w")


def test_stack_of_strings_and_small_floats(tmp_path: Path) -> None:
    for number in range(3):
        arrays = {"t": np.array(["a" * 3, "ø"]), "h": np.full(4, number, ml_dtypes.bfloat16)}
        archive.save(arrays, tmp_path / f"{number}.h5")
    texts = stack(str(tmp_path / "*.h5"), "t")
    assert texts.compute().tolist() == [["aaa", "ø"]] * 3
    halves = stack(str(tmp_path / "*.h5"), "h", chunks=(1, 4))
    assert halves.dtype == ml_dtypes.bfloat16
    assert halves.astype("f4").mean(axis=0).compute().tolist() == [1, 1, 1, 1]


def test_many_archives_are_few_tasks(tmp_path: Path) -> None:
    (one,) = clients(tmp_path, 1)
    array = stack([one] * 1000, "w")
    assert array.numblocks == (16, 1, 1)
    assert tasks(array) == 17
    total = array.sum(axis=0)
    assert tasks(dask.optimize(total)[0]) < 60
    assert np.allclose(total.compute(), 1000 * np.random.default_rng(0).normal(size=(3, 4)))


def test_another_shape_or_a_later_version_is_an_error(tmp_path: Path) -> None:
    urls = clients(tmp_path)
    array = stack(urls, "w")
    archive.save({"w": np.zeros((3, 4))}, urls[2])
    with pytest.raises(ReplacedError, match="replaced by another version since the stack was made") as caught:
        array.compute()
    assert caught.value.path == urls[2]
    archive.save({"w": np.zeros((3, 5))}, urls[2])
    with pytest.raises(ValueRangeError, match=r"client-2.h5 has float64 \(3, 5\), and .*client-0.h5"):
        stack(urls, "w", chunks=(1, 3, 4)).compute()
    damage(urls[2])
    with pytest.raises(DigestError):
        stack([urls[2]], "w").compute()


def test_stack_of_a_store_and_xarray(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    store = archive.CheckpointStore(tmp_path / "run")
    names = ["Berlin", "Oslo", "Ærø"]
    for number in (1, 2):
        for place, name in enumerate(names):
            store.save({"w": np.full((2, 3), 10 * number + place)}, number, client=name)
        store.save({"w": np.full((2, 3), number)}, number)
    found = to_xarray(store.stack("w", round=2), ["row", "column"])
    assert isinstance(found, xarray.DataArray)
    assert found.dims == ("client", "row", "column")
    assert found.sel(client="Oslo").values.tolist() == [[21] * 3] * 2
    assert found["round"].values.tolist() == [2, 2, 2]
    assert found.mean("client").values.tolist() == [[21.0] * 3] * 2
    found = to_xarray(store.stack("w", rounds="all"))
    assert found.dims == ("round", "dim_1", "dim_2")
    assert found.sel(round=2).values.tolist() == [[2] * 3] * 2
    found = to_xarray(store.stack("w", rounds=[2, 1], client="Oslo"), chunks=(1, 2, 3))
    assert (found.dims[0], found["client"].values.tolist()) == ("round", ["Oslo"] * 2)
    assert found[:, 0, 0].values.tolist() == [21, 11]
    with pytest.raises(TypeError, match="has its key already"):
        stack(store.stack("w", round=1), "w")


def test_tokens_of_stacks(tmp_path: Path) -> None:
    store = archive.CheckpointStore(tmp_path)
    for number in (1, 2):
        store.save({"w": np.zeros(2)}, number)
    token = dask.base.tokenize(store.stack("w", rounds="all"))
    assert token == dask.base.tokenize(store.stack("w", rounds="all"))
    assert token != dask.base.tokenize(store.stack(("model", "w"), rounds="all"))
    assert token != dask.base.tokenize(store.stack("w", rounds=[2, 1]))
    store.rewind(1)
    store.save({"w": np.ones(2)}, 2)
    assert token != dask.base.tokenize(store.stack("w", rounds="all"))


@pytest.mark.parametrize(
    "shape",
    [(), (0, 5), (5,), (1 << 30,), (1000, 1000), (10_000, 50_000), (3, 2, 1 << 26), (1, 1 << 29),
     (7, 1 << 25), (1 << 20, 3, 77), (2, 50_000_001), (100, 3, 9 * MIB)],
)  # fmt: skip
def test_chunks_are_of_many_megabytes(shape: tuple[int, ...]) -> None:
    lengths, nbytes = _chunks(shape, 4), 4 * int(np.prod(shape, dtype=object))
    size = 4 * int(np.prod(lengths, dtype=object))
    assert size <= tuning.CHUNK_BYTES
    count = int(
        np.prod([-(-one // part) for one, part in zip(shape, lengths, strict=True) if one], dtype=object)
    )
    if nbytes > tuning.CHUNK_BYTES:
        assert count <= 2 * -(-nbytes // (64 * MIB)), "few, and none tiny"
        assert size >= 32 * MIB
    else:
        assert lengths == shape


def test_chunks_end_with_segments_and_stacks_are_batches() -> None:
    assert 4 * _chunks((1 << 30,), 4)[0] % (4 * MIB) == 0
    assert _chunks((10_000, 16_384), 4) == (2048, 16_384)
    assert _stack_chunks((1000, 10), 4) == (63, 10)
    assert _stack_chunks((64, 25_000_000), 4) == (1, 25_000_000)
    assert _stack_chunks((10, 1 << 26), 4) == (1, 1 << 25)
    assert _stack_chunks((64, 1 << 22), 4) == (8, 1 << 22)


def test_a_stack_is_pickled_by_reference(tmp_path: Path) -> None:
    urls = clients(tmp_path, 3, (100, 100))
    array = stack(urls, "w")
    assert len(pickle.dumps(array)) < 6000
    (source,) = [
        one for one in array.__dask_graph__().values() if isinstance(getattr(one, "value", one), Stack)
    ]
    again = pickle.loads(pickle.dumps(getattr(source, "value", source)))
    assert "shape not read yet" not in repr(again), "workers need not open the first file for it"


def test_dask_is_imported_when_it_is_used(file: str) -> None:
    code = (
        "import sys, json, archive, archive.interop.dask as ours\n"
        f"with archive.open({file!r}) as opened:\n"
        "    opened['w'].numpy(), opened.__dask_tokenize__(), opened['w'].__dask_tokenize__()\n"
        "print(json.dumps([name for name in ('dask', 'distributed', 'xarray') if name in sys.modules]))\n"
        "sys.modules['dask.array'] = None\n"
        "try: ours.stack([], 'w')\n"
        "except ImportError as error: print(error)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], env=child_environment(), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert json.loads(told[0]) == []
    assert told[1] == "this needs Dask: pip install 'fedarchive[dask]'"


def test_a_task_of_many_archives_is_named_without_a_look_at_each() -> None:
    """Dask names what it is handed by a digest of all of it, with the names of 2,048 archives."""

    class Looked:
        def __dask_tokenize__(self) -> str:
            raise AssertionError

    class Names(concurrent.futures.Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            names.append(dask.tokenize.tokenize(fn, *args))
            done: concurrent.futures.Future[Any] = concurrent.futures.Future()
            done.set_result([("facts", None)])
            return done

    names: list[str] = []
    place: Any = Looked()
    for _ in range(2):
        (outcome,) = read_each(read_facts, [Input("a", place)], executor=Names())
        assert outcome.result == "facts"
    assert len(set(names)) == 2  # and it is read again, whatever became of it
