"""diff(): what differs, what is not read, tolerances, remote archives."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import archive
from archive import tuning
from archive.errors import ClosedError, DigestError, MissingError
from archive.tools import diff, stats
from archive.types import Diff, ValueDiff
from tests.acceptance.samples import CREATED
from tests.storage.folderstore import FolderStore, reach
from tests.tools.test_arraystats import damage

RNG = np.random.default_rng(2026)
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def save(name: str, arrays: Any, **options: Any) -> Path:
        archive.save(arrays, tmp_path / f"{name}.h5", durable=False, **{"created": CREATED, **options})
        return tmp_path / f"{name}.h5"

    return save


def test_the_same_bytes_are_equal_at_once(save: Save) -> None:
    a, b = (save(name, {"w": np.ones(3), "b": np.zeros(2)}) for name in "ab")
    found = diff(a, b)
    assert (found.equal, found.same, str(found).splitlines()[-1]) == (True, 2, "equal: 2 arrays")
    with pytest.raises(TypeError, match="equal"):
        bool(found)


def test_equal_digests_are_not_read(save: Save) -> None:
    """Not even where a byte was damaged since, on one side or on both."""
    arrays = {"w": RNG.standard_normal(1000), "text": np.array(["a"]), "x": np.zeros(4)}
    a, b = save("a", arrays), save("b", arrays | {"x": np.ones(4)}, created="2026-01-01T00:00:00Z")
    damage(a, "w")
    damage(b, "text")
    found = diff(a, b)
    assert [change.key for change in found.changed] == ["x"]
    assert found.same == 2
    damage(b, "x")
    with pytest.raises(DigestError, match=r"b\.h5.*model/x"):
        diff(a, b)
    assert diff(a, b, keys="w").equal


def test_everything_that_differs_of_an_array(save: Save) -> None:
    grid = np.arange(6.0).reshape(2, 3)
    one = archive.ArrayRecord({
        "same": archive.Array(grid), "values": archive.Array(grid), "dtype": archive.Array(grid),
        "shape": archive.Array(grid), "order": archive.Array(grid),
        "text": archive.Array(np.array(["a", "b"])),
        "wider": archive.Array(np.array(["a"])), "gone": archive.Array(grid), "kind": archive.Array(grid),
    })  # fmt: skip
    one["stype"] = archive.Array("", (), "my.own", b"abc")
    other = archive.ArrayRecord({
        "same": archive.Array(grid), "values": archive.Array(grid + np.array([0, 0, 1])),
        "dtype": archive.Array(grid.astype("f4")), "shape": archive.Array(grid.T.copy()),
        "order": archive.Array(np.asfortranarray(grid)), "text": archive.Array(np.array(["a", "c"])),
        "wider": archive.Array(np.array(["a"], "U9")), "new": archive.Array(grid),
        "kind": archive.Array(np.full((2, 3), "a")),
    })  # fmt: skip
    other["stype"] = archive.Array("", (), "your.own", b"abc")
    found = diff(save("a", one), save("b", other))
    assert (found.only_a, found.only_b) == ((("model", "gone"),), (("model", "new"),))
    assert {change.key: change.differs for change in found.changed} == {
        "values": ("values",), "dtype": ("dtype",), "shape": ("shape",), "order": ("order",),
        "text": ("values",),
        "wider": ("dtype",), "kind": ("dtype",), "stype": ("stype",),
    }  # fmt: skip
    by_key = {change.key: change for change in found.changed}
    values = by_key["values"]
    assert (values.different, values.elements, values.max_abs, values.max_rel) == (2, 6, 1, 1 / 3)
    assert values.norm == pytest.approx(math.sqrt(2))
    assert (by_key["dtype"].dtype, by_key["dtype"].different, by_key["dtype"].compared) == (
        ("float64", "float32"), 0, True)  # fmt: skip
    assert by_key["shape"].shape == ((2, 3), (3, 2))
    assert not by_key["text"].compared
    assert "2 of 6 elements differ; max abs 1" in str(found)
    assert "dtype float64 -> float32" in str(found)


def test_segments_of_two_types_meet(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 64 KiB has twice as many float32 as float64."""
    monkeypatch.setattr(tuning, "LOOK_BYTES", 1)
    a = RNG.standard_normal(100_000)
    b = a.astype("f4")
    b[99_999] += 3
    paths = save("a", {"w": a}), save("b", {"w": b})
    for access in ("mmap", "pread"):
        with archive.open(paths[0], access=access) as one, archive.open(paths[1], access=access) as other:
            (change,) = diff(one, other).changed
        away = a - b
        assert change.different == np.count_nonzero(away)
        assert change.max_abs == np.abs(away).max()
        assert change.norm == pytest.approx(np.sqrt((away * away).sum()), rel=1e-12)


def test_tolerances(save: Save) -> None:
    one = save("a", {"w": np.array([1.0, 2.0])}, metrics={"loss": 1.0, "n": 3, "curve": [1.0, math.nan]})
    other = save("b", {"w": np.array([1.0, 2.02])}, metrics={"loss": 1.01, "n": 3, "curve": [1.01, math.nan]})
    assert not diff(one, other).equal
    assert len(diff(one, other).values) == 2
    assert diff(one, other, rtol=0.011).equal
    assert diff(one, other, atol=0.021).equal
    assert not diff(one, other, atol=0.015).equal
    for wrong in (-1.0, math.nan):
        with pytest.raises(ValueError, match="tolerances"):
            diff(one, other, rtol=wrong)


def test_equal_numbers_of_other_bytes(save: Save) -> None:
    quiet, loud = np.array([0x7FC00000, 0x80000000], "u4"), np.array([0x7FC00001, 0], "u4")
    found = diff(save("a", {"w": quiet.view("f4")}), save("b", {"w": loud.view("f4")}))
    assert (found.equal, found.same) == (True, 1)


def test_values_of_records(save: Save) -> None:
    def records(lr: float, empty: bool, **more: Any) -> archive.RecordSet:
        model = archive.ArrayRecord({"w": archive.Array(np.ones(1))})
        model.attributes["note"] = f"lr {lr}"
        configs = {"fit": archive.ConfigRecord({"lr": lr, **more})}
        metrics = {"empty": archive.MetricRecord({})} if empty else {}
        return archive.RecordSet({"model": model}, metrics, configs)

    found = diff(save("a", records(0.1, True, old=b"x")), save("b", records(0.2, False, new=[1])))
    assert found.values == (
        ValueDiff("attributes", "model", "note", "lr 0.1", "lr 0.2"),
        ValueDiff("configs", "fit", "lr", 0.1, 0.2),
        ValueDiff("configs", "fit", "old", b"x", None),
        ValueDiff("record", "metrics", "empty", "empty", None),
        ValueDiff("configs", "fit", "new", None, [1]),
    )
    assert "configs/fit/new: nothing -> [1]" in str(found)
    assert diff(save("a", records(0.1, True)), save("b", records(0.2, True)), keys="w").equal


def test_types_of_values_differ(save: Save) -> None:
    found = diff(save("a", {}, configs={"n": 1}), save("b", {}, configs={"n": 1.0}))
    assert [(value.a, value.b) for value in found.values] == [(1, 1.0)]


def test_order_of_arrays(save: Save) -> None:
    """Lists of parameters are arrays in order."""
    a, b = {"x": np.ones(1), "y": np.ones(1)}, {"y": np.ones(1), "x": np.ones(1)}
    found = diff(save("a", a), save("b", b))
    assert found.values == (ValueDiff("order", "model", "", "x", "y"),)
    assert not found.equal


def test_containers_and_contexts(save: Save) -> None:
    def context(run: int, **config: Any) -> archive.Context:
        state = archive.RecordDict({"w": archive.ArrayRecord({"x": archive.Array(np.ones(1))})})
        return archive.Context(run_id=run, node_id=2, node_config={}, state=state, run_config=config)

    found = diff(save("a", context(1, lr=0.5)), save("b", context(3)))
    assert set(found.values) == {
        ValueDiff("context", "", "run_id", 1, 3),
        ValueDiff("context", "run_config", "lr", 0.5, None),
    }
    kinds = diff(save("a", context(1)), save("b", context(1).state))
    assert ValueDiff("container", "", "", "context", "recorddict") in kinds.values


def test_rounds_of_a_store(tmp_path: Path) -> None:
    """What the store says of a round is its own, whether the round was opened by it or by its path."""
    store = archive.CheckpointStore(tmp_path / "run")
    for number in (6, 7):
        store.save({"w": np.ones(3)}, number, metrics={"loss": 0.5})
    assert diff(store.open(6), store.open(7)).equal
    folder = tmp_path / "run/rounds"
    assert diff(folder / "00000006.h5", folder / "00000007.h5").equal


def test_states_are_compared(tmp_path: Path) -> None:
    """The tree of a saved state is a record of ours, and content all the same."""
    torch = pytest.importorskip("torch")
    from archive.interop.torch import save_state

    for number in (1, 2):
        save_state({"model": {"w": torch.ones(2)}, "epoch": number}, tmp_path / f"{number}.h5")
    found = diff(tmp_path / "1.h5", tmp_path / "2.h5")
    assert not found.equal
    assert not found.changed


def test_keys(save: Save) -> None:
    a, b = save("a", {"a.w": np.ones(1), "b": np.ones(1)}), save("b", {"b": np.zeros(1), "c.w": np.ones(1)})
    found = diff(a, b, keys="*.w")
    assert (found.only_a, found.only_b, found.changed) == ((("model", "a.w"),), (("model", "c.w"),), ())
    assert [change.key for change in diff(a, b, keys=["b", ("model", "a.w")]).changed] == ["b"]
    with pytest.raises(KeyError, match="nothing"):
        diff(a, b, keys=["b", "nothing*"])
    with pytest.raises(KeyError):
        diff(a, a, keys="nothing")


def test_handles_stay_open_and_closed_ones_are_refused(save: Save) -> None:
    a, b = save("a", {"w": np.ones(1)}), save("b", {"w": np.zeros(1)})
    with archive.open(a) as handle:
        assert not diff(handle, b).equal
        assert handle["w"].numpy().tolist() == [1]
    with pytest.raises(ClosedError):
        diff(handle, b)
    with pytest.raises(MissingError):
        diff(a, "nowhere.h5")


def test_tied_arrays_and_progress(save: Save) -> None:
    shared, seen = np.arange(8.0), list[tuple[int, int]]()
    a = save("a", {"x": shared, "y": shared})
    b = save("b", {"x": shared + 1, "y": shared + 1})
    found = diff(a, b, progress=lambda done, total: seen.append((done, total)))
    assert [change.max_abs for change in found.changed] == [1, 1]
    assert seen[-1][0] == seen[-1][1]


def test_the_text_is_short_and_safe(save: Save) -> None:
    names = [f"evil\x1b[31m{number}" + "x" * 500 for number in range(500)]
    a = save("a", {name: np.ones(1) for name in names}, configs={"k\n": "y" * 10_000})
    b = save("b", {name: np.zeros(1) for name in names[:400]})
    found = diff(a, b)
    assert len(found.changed) == 400
    text = str(found)
    assert len(text) < 10_000
    assert all(line.isprintable() for line in text.splitlines())
    assert "and 390 more" in text
    assert len(list(found.lines())) > 500


def test_foreign_files_have_no_digests(tmp_path: Path, save: Save) -> None:
    h5py = pytest.importorskip("h5py")
    for number in (1, 2):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file.create_dataset("model/w", data=np.full(3, float(number)))
            file.create_dataset("model/same", data=np.ones(3))
            file.create_dataset("model/text", data=np.array([f"{number}"], "S3"))
    handles = [archive.open(tmp_path / f"{number}.h5", foreign=True) for number in (1, 2)]
    with handles[0] as one, handles[1] as other:
        found = diff(one, other)
        assert [change.key for change in found.changed] == ["text", "w"]
        assert diff(one, one).equal
        saved = save("a", {"w": np.full(3, 1.0)})
        assert diff(saved, one, keys="w").equal


def test_an_equal_diff_is_equal() -> None:
    assert Diff("a", "b").equal
    assert not Diff("a", "b", only_a=(("r", "k"),)).equal


def test_requests_of_remote_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Save) -> None:
    store = FolderStore(tmp_path / "store")
    reach(store, monkeypatch)
    arrays: dict[str, Any] = {f"layer{n}": RNG.standard_normal(1 << 18) for n in range(8)}
    half = {key: array.astype(ml_dtypes.bfloat16) for key, array in arrays.items()}
    archive.save(arrays, "folder://a.h5", created=CREATED)
    archive.save(half, "folder://b.h5", created=CREATED)
    local = save("c", arrays | {"layer3": arrays["layer3"] + 1})
    store.clear()
    found = diff("folder://a.h5", "folder://b.h5")
    assert len(found.changed) == 8
    assert store.counted() <= 2 * (2 + (16 << 20) // tuning.PREFETCH_BYTES)
    assert store.nbytes() <= (16 << 20) + (4 << 20) + (2 << 17)
    store.clear()
    assert [change.key for change in diff("folder://a.h5", local).changed] == ["layer3"]
    assert store.nbytes() <= (2 << 20) + (1 << 17)


def test_archives_in_s3(server: Any) -> None:
    from tests.servers.s3 import BUCKET

    options = server.options()
    urls = [f"s3://{BUCKET}/differences/{name}.h5" for name in "ab"]
    for number, url in enumerate(urls):
        arrays = {"w": np.arange(300_000.0) + number, "same": np.ones(1000)}
        archive.save(arrays, url, metrics={"loss": 0.5}, storage_options=options)
    found = diff(*urls, storage_options=options)
    (change,) = found.changed
    assert (change.key, change.different, change.max_abs, found.same) == ("w", 300_000, 1, 1)
    table = stats(urls, storage_options=options)
    assert table["mean"].tolist() == [149_999.5, 1, 150_000.5, 1]


@pytest.mark.parametrize("access", ["mmap", "pread"])
def test_memory_does_not_grow_with_arrays(save: Save, access: Any) -> None:
    paths = [save(name, {"w": np.arange(6_000_000.0) + number}) for number, name in enumerate("ab")]
    with archive.open(paths[0], access=access) as one, archive.open(paths[1], access=access) as other:
        diff(one, other)
        tracemalloc.start()
        try:
            found, table = diff(one, other), stats([one, other])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert found.changed[0].max_abs == table["mean"][1] - table["mean"][0] == 1
    assert peak < 32 << 20
