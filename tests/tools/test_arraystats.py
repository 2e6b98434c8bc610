"""stats(): every kind of array, many archives, damage, and what is read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import archive
from archive import tuning
from archive.errors import ArchiveError, ClosedError, DigestError, MissingError, SkippedWarning
from archive.tools import stats
from tests.acceptance.samples import CREATED, NDArray
from tests.storage.folderstore import FolderStore, reach

RNG = np.random.default_rng(2026)
COLUMNS = [
    "path", "record", "key", "dtype", "shape", "count",
    "min", "max", "mean", "std", "norm", "zeros", "nan", "inf",
]  # fmt: skip


def saved(path: Path, arrays: Any, **options: Any) -> Path:
    archive.save(arrays, path, durable=False, created=CREATED, **options)
    return path


def damage(path: Path, key: str) -> None:
    with archive.open(path) as handle:
        payload: Any = handle[key].payload
        offset = payload.where[1]
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def row(table: Any, key: str) -> dict[str, Any]:
    at = table["key"].tolist().index(key)
    return {name: column[at] for name, column in table.items()}


def test_every_kind_of_array(tmp_path: Path) -> None:
    large = RNG.standard_normal((700, 999)).astype("f4")
    large[0, :3] = math.nan, math.inf, 0
    arrays: dict[str, NDArray] = {
        "large": large,
        "fortran": np.asfortranarray(RNG.standard_normal((30, 40))),
        "big": RNG.standard_normal(100).astype(">f8"),
        "bf16": RNG.standard_normal(1000).astype(ml_dtypes.bfloat16),
        "fp8": RNG.standard_normal(1000).astype(ml_dtypes.float8_e4m3fn),
        "scalar": np.array(7, np.int64),
        "empty": np.zeros((0, 3)),
        "bools": np.array([True, False, True]),
    }
    found = stats(saved(tmp_path / "a.h5", arrays))
    assert list(found) == COLUMNS
    assert found["key"].tolist() == list(arrays)
    for key, values in arrays.items():
        facts = row(found, key)
        there = values.astype("f8")
        there = there[np.isfinite(there)]
        assert (facts["count"], facts["shape"], facts["dtype"]) == (
            values.size,
            values.shape,
            str(values.dtype),
        )
        assert facts["zeros"] == np.count_nonzero(values == 0)
        if there.size:
            wanted = [there.min(), there.max(), there.mean(), there.std(), np.sqrt((there * there).sum())]
        else:
            wanted = [math.nan] * 5
        names = ("min", "max", "mean", "std", "norm")
        assert [facts[name] for name in names] == pytest.approx(wanted, rel=1e-12, abs=1e-15, nan_ok=True)
    assert (row(found, "large")["nan"], row(found, "large")["inf"]) == (1, 1)


def test_what_is_no_number_is_counted_and_not_read(tmp_path: Path) -> None:
    record = archive.ArrayRecord(
        {"text": archive.Array(np.array([["a", "bc"]])), "n": archive.Array(np.ones(2))}
    )
    record["own"] = archive.Array("", (3,), "my.own", b"abc")
    path = saved(tmp_path / "a.h5", record)
    for key in ("text", "own"):
        damage(path, key)
    found = stats(path)
    assert found["count"].tolist() == [2, 2, 3]
    assert np.isnan(found["mean"]).tolist() == [True, False, True]
    assert np.isnan(found["zeros"]).tolist() == [True, False, True]


def test_tied_arrays_are_read_once(tmp_path: Path) -> None:
    shared = np.arange(8.0)
    seen: list[tuple[int, int]] = []
    path = saved(tmp_path / "a.h5", {"a": shared, "b": shared, "c": np.ones(2)})
    found = stats(path, progress=lambda done, total: seen.append((done, total)))
    assert found["mean"].tolist() == [3.5, 3.5, 1]
    assert seen[-1] == (80, 80)


def test_large_integers_keep_their_digits(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.h5", {"big": np.array([2**63 + 1], "u8"), "f": np.array([0.5])})
    assert stats(path)["max"].tolist() == [2**63 + 1, 0.5]
    assert stats(path, keys="f")["max"].dtype == np.float64


def test_results_do_not_depend_on_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.h5", {str(n): RNG.standard_normal(400_000 + n) for n in range(4)})
    many = stats(path)
    monkeypatch.setattr(tuning, "THREADS", 1)
    one = stats(path)
    with archive.open(path, access="pread") as handle:
        read = stats(handle)
    for name in ("min", "max", "mean", "std", "norm"):
        assert many[name].tobytes() == one[name].tobytes() == read[name].tobytes()


def test_keys(tmp_path: Path) -> None:
    paths = [
        saved(tmp_path / "0.h5", {"a.w": np.ones(2), "b": np.ones(2)}),
        saved(tmp_path / "1.h5", {"b": np.ones(3)}),
    ]
    assert stats(paths[0], keys=["b", "*.w"])["key"].tolist() == ["b", "a.w"]
    assert stats(paths, keys="a.*")["path"].tolist() == [str(paths[0])]
    for urls in (paths, paths[1]):
        with pytest.raises(KeyError, match="nothing"):
            stats(urls, keys="nothing*")


def test_archives_that_are_open_and_named(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{n}.h5", {"w": np.full(2, float(n))}) for n in range(3)]
    with archive.open(paths[1]) as handle:
        assert stats([paths[2], handle, str(paths[0])])["mean"].tolist() == [2, 1, 0]
        assert stats(handle)["mean"].tolist() == [1]
        assert handle["w"].numpy().tolist() == [1, 1]
    with pytest.raises(ClosedError):
        stats(handle)
    assert stats([handle, paths[0]], errors="column")["mean"].tolist()[1] == 0
    assert stats(tmp_path)["mean"].tolist() == [0, 1, 2]
    assert stats(tmp_path / "[01].h5")["mean"].tolist() == [0, 1]
    assert [column.tolist() for column in stats([]).values()] == [[]] * len(COLUMNS)


def test_archives_of_a_store(tmp_path: Path) -> None:
    store = archive.CheckpointStore(tmp_path / "run")
    store.save({"w": np.zeros(2)}, 1, client="Köln")
    store.save({"w": np.ones(2)}, 1)
    found = stats(tmp_path / "run")
    assert list(found)[:5] == ["path", "run", "round", "client", "record"]
    assert dict(zip(found["client"].tolist(), found["mean"].tolist(), strict=True)) == {None: 1, "Köln": 0}
    assert found["round"].tolist() == [1, 1]


def test_one_damaged_and_one_missing_of_many(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{n:03}.h5", {"w": np.full(5, float(n)), "b": np.zeros(2)}) for n in range(20)]
    damage(paths[7], "w")
    paths[11].unlink()
    with pytest.raises(DigestError, match=r"007\.h5.*model/w"):
        stats(paths)
    with pytest.warns(SkippedWarning, match=r"2 of 20 .*007\.h5.*011\.h5"):
        skipped = stats(paths, errors="skip")
    assert [path for path, _ in skipped.failures] == [str(paths[7]), str(paths[11])]
    assert sorted({*map(str, paths)} - {*skipped["path"].tolist()}) == [str(paths[7]), str(paths[11])]
    assert len(skipped["path"]) == 36
    found = stats(paths, errors="column")
    assert len(found["path"]) == 38
    wrong = {
        path: text for path, text in zip(found["path"].tolist(), found["error"].tolist(), strict=True) if text
    }
    assert list(wrong) == [str(paths[7]), str(paths[11])]
    assert "model/w" in wrong[str(paths[7])]
    assert "no such file" in wrong[str(paths[11])]
    at = found["path"].tolist().index(str(paths[11]))
    assert (found["key"][at], found["shape"][at]) == (None, None)
    assert np.isnan([found["count"][at], found["mean"][at]]).all()


def test_what_cannot_be_meant(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="errors must be one of"):
        stats(tmp_path, errors="ignore")  # type: ignore[arg-type]
    with pytest.raises(MissingError):
        stats(tmp_path / "*.h5")
    (tmp_path / "no.h5").write_bytes(b"no")
    with pytest.raises(ArchiveError, match=r"no\.h5"):
        stats(tmp_path / "no.h5")


def test_foreign_files(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("g/w", data=np.arange(5000.0), compression="gzip")
    with archive.open(tmp_path / "f.h5", foreign=True) as handle:
        assert stats(handle)["mean"].tolist() == [2499.5]


def test_requests_of_remote_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path / "store")
    reach(store, monkeypatch)
    values = {f"layer{n}": RNG.standard_normal(1 << 18) for n in range(10)}
    archive.save(values | {"text": np.array(["a" * 100] * 5000)}, "folder://one/m.h5")
    nbytes = sum(array.nbytes for array in values.values())
    store.clear()
    found = stats("folder://one/m.h5")
    wanted = [array.mean() for array in values.values()]
    assert found["mean"][:10].tolist() == pytest.approx(wanted, rel=1e-12)
    assert store.counted() <= 2 + nbytes // tuning.PREFETCH_BYTES
    assert store.nbytes() <= nbytes + (1 << 17)
    for n in range(8):
        archive.save({"w": np.full(1000, float(n))}, f"folder://many/{n}.h5")
    store.clear()
    assert stats("folder://many")["mean"].tolist() == list(range(8))
    assert store.counted("get_suffix", "get_range", "get") <= 16
