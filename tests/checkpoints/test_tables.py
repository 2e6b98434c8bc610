"""Columns of many archives: names, types, what is missing; pandas takes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import DamagedError, HostileFileError, MissingError, NotAnArchiveError, StorageError
from archive.tools.columns import make_column, make_columns
from tests.crafting import Crafted, write_sample

FACTS = ["created", "file_bytes", "arrays"]


def save(path: Path, metrics: Any = None, configs: Any = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    archive.save({"w": np.zeros(3)}, path, metrics=metrics, configs=configs, durable=False)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "int64"),
        ([1, 2**63], "uint64"),
        ([-1, 2**63], "object"),
        ([1, None], "float64"),
        ([1, 0.5], "float64"),
        ([True, False], "bool"),
        ([True, None], "object"),
        ([True, 1], "object"),
        (["a", None], "object"),
        ([[1, 2], [3, 4]], "object"),
        ([b"a", b""], "object"),
    ],
)
def test_types_of_columns(values: list[Any], dtype: str) -> None:
    column = make_column(values)
    assert column.dtype == dtype
    assert column.shape == (2,)
    for found, value in zip(column.tolist(), values, strict=True):
        assert found == value or (value is None and (found is None or math.isnan(found)))


def test_names_are_as_short_as_they_can_be() -> None:
    row: Any = {
        ("metrics", "fit", "loss"): 1,
        ("metrics", "test", "loss"): 2,
        ("metrics", "fit", "n"): 3,
        ("configs", "fit", "n"): 4,
        ("configs", "run", "lr"): 5,
        ("configs", "run", "path"): 6,
        ("configs", "a/b", "c"): 7,
        ("configs", "a", "b/c"): 8,
    }
    columns, aliases = make_columns([row], {"path"})
    assert {name: int(column[0]) for name, column in columns.items()} == {
        "fit/loss": 1,
        "test/loss": 2,
        "metrics/fit/n": 3,
        "configs/fit/n": 4,
        "lr": 5,
        "run/path": 6,
        "c": 7,
        "b/c": 8,
    }
    assert aliases["run/lr"] == aliases["configs/run/lr"] == "lr"
    assert "a/b/c" not in aliases


def test_a_table_of_clients(tmp_path: Path) -> None:
    for client in range(3):
        metrics = {"loss": client / 2, "n": client} if client else {"loss": 0.0}
        save(tmp_path / f"clients/{client}.h5", metrics, {"name": f"c{client}", "tags": ["x", "y"]})
    found = archive.table(f"{tmp_path}/clients/*.h5")
    assert list(found) == ["path", *FACTS, "loss", "name", "tags", "n"]
    assert found["path"].tolist() == [f"{tmp_path}/clients/{client}.h5" for client in range(3)]
    assert found["loss"].tolist() == [0.0, 0.5, 1.0]
    assert np.array_equal(found["n"], [np.nan, 1, 2], equal_nan=True)
    assert found["metrics/loss"] is found["loss"]
    assert found["tags"].tolist() == [["x", "y"]] * 3
    with pytest.raises(KeyError, match=r"no column 'accuracy'; there are 'path', .*'loss'"):
        _ = found["accuracy"]


@pytest.mark.parametrize("member", ["container", "created", "writer"])
def test_a_document_without_one_of_its_texts(tmp_path: Path, member: str) -> None:
    crafted = Crafted(write_sample(tmp_path / "a.h5"))
    del crafted.document[member]
    path = crafted.write(tmp_path / "b.h5")
    with pytest.raises(HostileFileError, match=f"values section has no {member}"):
        archive.table(path)


def test_what_the_library_keeps_for_itself_is_no_column(tmp_path: Path) -> None:
    own = {"fedarchive.state": {"version": 1, "tree": "[]"}, "fedarchive.later": {"n": 1}, "run": {"lr": 0.1}}
    archive.save({}, tmp_path / "a.h5", configs=own)
    assert list(archive.table(tmp_path / "a.h5")) == ["path", *FACTS, "lr"]


def test_pandas_takes_it(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    for client in range(3):
        save(tmp_path / f"{client}.h5", {"loss": client / 2, "n": client}, {"tags": ["x"]})
    frame = pandas.DataFrame(archive.table(f"{tmp_path}/*.h5"))
    assert frame.groupby("n")["loss"].sum().tolist() == [0.0, 0.5, 1.0]
    assert list(frame.columns) == ["path", *FACTS, "loss", "n", "tags"]
    assert frame["created"].dt.year.min() >= 2026


def test_patterns_and_lists(tmp_path: Path) -> None:
    for name in ("a.h5", "x/b.h5", "x/y/c.h5", "x/.hidden.h5", "odd[1].h5"):
        save(tmp_path / name, {"loss": 1})
    assert len(archive.table(f"{tmp_path}/*.h5")["loss"]) == 2
    assert len(archive.table(f"{tmp_path}/**/*.h5")["loss"]) == 4
    assert len(archive.table(tmp_path / "odd[1].h5")["loss"]) == 1
    two: list[str | Path] = [tmp_path / "x/b.h5", str(tmp_path / "a.h5")]
    assert archive.table(two)["path"].tolist() == [str(path) for path in two]
    with pytest.raises(MissingError, match="no file matches this pattern"):
        archive.table(f"{tmp_path}/none*.h5")
    with pytest.raises(MissingError):
        archive.table(tmp_path / "none.h5")


def test_loops_of_links_end(tmp_path: Path) -> None:
    """Two links to the folder itself are 2**40 paths to glob."""
    for name in ("a.h5", "sub/b.h5", "sub/deep/c.h5", ".hidden/d.h5", "elsewhere/e.h5"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        archive.save({}, tmp_path / name, metrics={"n": 1})
    runs = tmp_path / "runs"
    runs.mkdir()
    archive.save({}, runs / "f.h5", metrics={"n": 1})
    for link, target in {
        "one": ".", "two": ".", "up": "..", "latest": "../sub", "again": "../sub", "other": "gone"
    }.items():  # fmt: skip
        (runs / link).symlink_to(target)

    def found(pattern: str) -> list[str]:
        paths = archive.table(tmp_path / pattern)["path"].tolist()
        return [str(Path(path).relative_to(tmp_path)) for path in paths]

    assert found("sub/**/*.h5") == ["sub/b.h5", "sub/deep/c.h5"]
    everything = found("**/*.h5")
    assert everything == ["a.h5", "elsewhere/e.h5", "runs/f.h5", "sub/b.h5", "sub/deep/c.h5"]
    linked = found("runs/**/*.h5")
    assert len(linked) == len(everything), "what only links lead to is found, and once"
    assert {Path(tmp_path, path).resolve() for path in linked} == {tmp_path / path for path in everything}
    assert found("*/**/deep/**/*.h5") == ["sub/deep/c.h5"]
    assert found("runs/one/*.h5") == ["runs/one/f.h5"]


def test_a_pattern_of_folders_begins_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.h5", "sub/b.h5"):
        archive.save({}, tmp_path / name, metrics={"n": 1})
    monkeypatch.chdir(tmp_path)
    for pattern in ("**/*.h5", "**"):
        assert archive.table(pattern)["path"].tolist() == ["a.h5", "sub/b.h5"]


def test_patterns_of_remote_files(tmp_path: Path) -> None:
    """By fsspec's own file system in memory: a listing, and requests for what matches."""
    fsspec = pytest.importorskip("fsspec")
    save(tmp_path / "one.h5", {"loss": 0.5})
    data = (tmp_path / "one.h5").read_bytes()
    memory = fsspec.filesystem("memory")
    for name in ("run/clients/a.h5", "run/clients/b.h5", "run/clients/deep/c.h5", "run/clients/.d.h5"):
        memory.pipe_file(f"/tables/{name}", data)
    try:
        found = archive.table("memory://tables/run/clients/*.h5")
        assert found["path"].tolist() == [f"memory://tables/run/clients/{name}.h5" for name in "ab"]
        assert found["loss"].tolist() == [0.5, 0.5]
        assert len(archive.table("memory://tables/run/**/*.h5")["loss"]) == 3
        assert len(archive.table("memory://tables/*/clients/[ac].h5")["loss"]) == 1
    finally:
        memory.rm("/tables", recursive=True)


def test_columns_of_a_store(tmp_path: Path) -> None:
    store = archive.CheckpointStore(tmp_path)
    for number in (1, 2, 10):
        for client in "BA":
            store.save({}, number, client=client, metrics={"n": ord(client)})
        store.save({}, number, metrics={"loss": 1 / number, "round": 7}, background=number == 10)
    found = store.history()
    assert list(found) == ["path", "run", "round", "kept", *FACTS, "loss", "metrics/round"]
    assert found["round"].tolist() == [1, 2, 10]
    whole = store.history(clients=True)
    assert whole["round"].tolist() == [1, 1, 1, 2, 2, 2, 10, 10, 10]
    assert whole["client"].tolist() == ["", "A", "B"] * 3
    assert np.isnan(whole["n"][::3]).all()
    assert whole["n"][1::3].tolist() == [65.0] * 3
    table = archive.table(f"{tmp_path}/rounds/*/*.h5")
    assert sorted(table["client"]) == ["A", "A", "A", "B", "B", "B"]
    assert table["n"].dtype == np.int64


def test_values_of_many_kilobytes_are_left_out(tmp_path: Path) -> None:
    save(tmp_path / "a.h5", {"loss": 1.0, "long": [0.5] * 10_000}, {"text": "x" * 100_000})
    assert list(archive.table(tmp_path / "a.h5")) == ["path", *FACTS, "loss"]


def test_a_folder_leads_to_a_pattern(tmp_path: Path) -> None:
    save(tmp_path / "a.h5", {"loss": 1.0})
    with pytest.raises(StorageError, match=r"is a folder; name its files by a pattern, such as .*/\*\.h5"):
        archive.table(tmp_path)
    archive.CheckpointStore(tmp_path / "run").save({}, 1)
    said = r"such as .*/run/rounds/\*\.h5 \(rounds\) or .*/run/rounds/\*/\*\.h5 \(what clients sent\)"
    with pytest.raises(StorageError, match=said):
        archive.table(tmp_path / "run")


def test_files_that_are_no_archives(tmp_path: Path) -> None:
    save(tmp_path / "a.h5", {"loss": 1.0})
    (tmp_path / "b.h5").write_bytes(b"x" * 5000)
    with pytest.raises(NotAnArchiveError):
        archive.table(f"{tmp_path}/*.h5")
    (tmp_path / "b.h5").unlink()
    data = bytearray((tmp_path / "a.h5").read_bytes())
    data[data.rindex(b'"loss"')] ^= 1
    (tmp_path / "a.h5").write_bytes(data)
    with pytest.raises(DamagedError):
        archive.table(f"{tmp_path}/*.h5")


FIT = ("metrics", "metrics")
LOSS = ["loss", ["float", 0.5]]
HISTORY = ["history", ["floats", {"row": 1}]]
HOSTILE: dict[str, tuple[list[Any], str]] = {
    "two lists of one record": ([[*FIT, [LOSS, HISTORY]], [*FIT, []]], "two lists of values"),
    "a key twice": ([[*FIT, [LOSS, LOSS, HISTORY]]], "share a key"),
    "a key that is no text": ([[*FIT, [[5, ["float", 0.5]], HISTORY]]], "are malformed"),
    "a number for a record": ([["metrics", 1, [LOSS, HISTORY]]], "no record of their kind"),
    "a metric of text": ([[*FIT, [["loss", ["str", "low"]], HISTORY]]], "a metric is an int"),
    "integers of no one type": ([[*FIT, [["loss", ["ints", [-1, str(1 << 63)]]], HISTORY]]], "64-bit"),
    "an object that is no row": ([[*FIT, [["loss", ["float", {}]], HISTORY]]], "refers to no dataset"),
    "a row and more": ([[*FIT, [LOSS, ["history", ["floats", {"row": 1, "x": 2}]]]]], "refers to no dataset"),
    "a metric of long text": (
        [[*FIT, [LOSS, ["history", ["str", {"row": 1}]]]]],
        "a metric is no str",
    ),
    "values of arrays": ([["arrays", "model", [LOSS]], [*FIT, [HISTORY]]], "no record of their kind"),
}
OF_THE_INDEX: dict[str, tuple[list[Any], str]] = {
    "another record's dataset": (
        [[*FIT, [LOSS, ["history", ["floats", {"row": 0}]]]]],
        "refers to no dataset",
    ),
    "a dataset of no value": ([[*FIT, [LOSS]]], "not exactly one value names"),
    "a record that is not there": ([[*FIT, [LOSS, HISTORY]], ["metrics", "none", []]], "index does not have"),
}
"""A table reads no index: what only the index contradicts, records refuse."""


@pytest.mark.parametrize("name", HOSTILE | OF_THE_INDEX)
def test_hostile_values_are_refused_as_by_records(tmp_path: Path, name: str) -> None:
    """One decoder: a table, a history and the choice of the best round refuse what `records` refuses."""
    values, problem = (HOSTILE | OF_THE_INDEX)[name]
    store = archive.CheckpointStore(tmp_path, best_by=("loss", "min"))
    for number in (1, 2):
        metrics = {"loss": 1 / number, "history": [0.5] * 10_000}
        store.save({"w": np.zeros(3)}, number, metrics={"metrics": metrics})
    path = Path(store.history()["path"][1])
    crafted = Crafted(path)
    assert crafted.keys[1] == ("metrics", "history")
    marks = [entry for entry in crafted.document["values"] if entry[:2] != [*FIT]]
    crafted.document["values"] = [*values, *marks]
    crafted.write(path)
    reads: list[Callable[[], object]] = [lambda: archive.open(path).records]
    if name in HOSTILE:
        reads += [
            lambda: archive.table(f"{tmp_path}/rounds/*.h5"),
            store.history,
            lambda: store.open("best"),
        ]
    for read in reads:
        with pytest.raises(HostileFileError, match=problem) as caught:
            read()
        assert caught.value.path == str(path)
