"""One damaged and one missing of 420 archives, in tables and histories: raised, left out, or a row."""

from __future__ import annotations

import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import (
    DamagedError,
    HostileFileError,
    MissingError,
    NotAnArchiveError,
    SkippedWarning,
    TruncatedError,
)
from archive.format.constants import INDEX_MAGIC
from archive.types import Table
from tests.crafting import Crafted

CLIENTS = ROUNDS = 20
FACTS = ["created", "file_bytes", "arrays"]
Store = archive.CheckpointStore


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 rounds of 20 clients: 420 archives."""
    folder = tmp_path_factory.mktemp("whole") / "adam"
    store = Store(folder)
    for number in range(ROUNDS):
        for client in range(CLIENTS):
            store.save({"w": np.zeros(2)}, number, client=f"c{client:02d}", metrics={"n": client})
        store.save({"w": np.zeros(2)}, number, metrics={"loss": 1 / (1 + number)})
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy: round 7 lacks the file of a client, and that of another client is cut."""
    folder = tmp_path / "adam"
    shutil.copytree(whole, folder)
    lost(folder).unlink()
    with cut(folder).open("r+b") as file:
        file.truncate(5000)
    return folder


def lost(folder: Path) -> Path:
    return folder / "rounds/00000007/c03.h5"


def cut(folder: Path) -> Path:
    return folder / "rounds/00000007/c11.h5"


def paths_of(folder: Path) -> list[str]:
    """All 420, as somebody may have them from a list."""
    rounds = [f"{folder}/rounds/{number:08d}" for number in range(ROUNDS)]
    return [f"{path}.h5" for path in rounds] + [
        f"{path}/c{client:02d}.h5" for path in rounds for client in range(CLIENTS)
    ]


def require_named(found: Table, folder: Path) -> None:
    assert [(path, type(error)) for path, error in found.failures] == [
        (str(lost(folder)), MissingError),
        (str(cut(folder)), TruncatedError),
    ]


def test_a_whole_run_has_no_failures(whole: Path) -> None:
    for errors in ("raise", "skip", "column"):
        for found in (
            archive.table(paths_of(whole), errors=errors),
            Store(whole).history(clients=True, errors=errors),
        ):
            assert len(found["path"]) == 420
            assert found.failures == ()
            assert ("error" in found) == (errors == "column")
            assert set(found["run"]) == {"adam"}
            assert set(found["arrays"]) == {1}
            assert found["file_bytes"].tolist() == [Path(path).stat().st_size for path in found["path"]]


def test_raise(run: Path) -> None:
    with pytest.raises(MissingError) as missing:
        archive.table(paths_of(run))
    assert missing.value.path == str(lost(run))
    with pytest.raises(TruncatedError) as truncated:
        archive.table(f"{run}/rounds/**/*.h5")
    assert truncated.value.path == str(cut(run))
    with pytest.raises(MissingError, match="round 7 names this file of client 'c03', and it is gone"):
        Store(run).history(clients=True)
    assert len(Store(run).history()["path"]) == ROUNDS, "the rounds themselves are whole"


@pytest.mark.parametrize("what", ["table", "history"])
def test_skip(run: Path, what: str) -> None:
    with pytest.warns(SkippedWarning, match="2 of 420 archives cannot be read and were left out") as warned:
        found = (
            archive.table(paths_of(run), errors="skip")
            if what == "table"
            else Store(run).history(clients=True, errors="skip")
        )
    (one,) = warned
    assert one.filename == __file__
    assert str(lost(run)) in str(one.message)
    assert str(cut(run)) in str(one.message)
    assert len(found["path"]) == 418
    assert not {str(lost(run)), str(cut(run))} & set(found["path"])
    assert "error" not in found
    assert found["file_bytes"].dtype == np.int64
    require_named(found, run)


@pytest.mark.parametrize("what", ["table", "history"])
def test_column(run: Path, what: str) -> None:
    found = (
        archive.table(paths_of(run), errors="column")
        if what == "table"
        else Store(run).history(clients=True, errors="column")
    )
    require_named(found, run)
    assert len(found["path"]) == 420
    bad = [row for row, error in enumerate(found["error"]) if error is not None]
    assert found["path"][bad].tolist() == [str(lost(run)), str(cut(run))]
    assert [found["error"][row] for row in bad] == [str(error) for _, error in found.failures]
    assert found["round"][bad].tolist() == [7, 7]
    assert found["client"][bad].tolist() == ["c03", "c11"]
    assert found["run"][bad].tolist() == ["adam", "adam"]
    assert np.isnan(found["n"][bad]).all()
    assert np.isnan(found["file_bytes"][bad]).all()
    assert np.isnat(found["created"][bad]).all()
    good = [row for row in range(420) if row not in bad and found["client"][row]]
    assert found["n"][good].tolist() == [int(name[1:]) for name in found["client"][good]]


def test_a_damaged_round(run: Path) -> None:
    """The newest: it has the curve, and names the clients."""
    with (run / "rounds/00000019.h5").open("r+b") as file:
        file.truncate(5000)
    store = Store(run)
    with pytest.raises(TruncatedError):
        store.history(errors="raise")
    found = store.history(errors="column")
    assert found["round"].tolist() == list(range(ROUNDS))
    assert [error is None for error in found["error"]] == [True] * 19 + [False]
    assert found["kept"].all()
    with pytest.warns(SkippedWarning, match="1 of 20"):
        found = store.history(errors="skip")
    assert found["round"].tolist() == list(range(19)), "not shown as a round that was removed"
    found = store.history(clients=True, errors="column")
    assert found["round"].tolist().count(19) == 1
    assert len(found.failures) == 3


def test_a_damaged_round_in_the_middle_is_not_shown_as_removed(run: Path) -> None:
    (run / "rounds/00000005.h5").write_bytes(b"x" * 5000)
    store = Store(run, keep_last=None)
    store.remove(3)
    with pytest.warns(SkippedWarning):
        found = store.history(errors="skip")
    assert 5 not in found["round"]
    assert found["kept"].tolist() == [number != 3 for number in range(ROUNDS) if number != 5]
    ((path, error),) = store.history(errors="column").failures
    assert path == str(run / "rounds/00000005.h5")
    assert isinstance(error, NotAnArchiveError)


def test_a_client_file_that_was_swapped(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adam"
    shutil.copytree(whole, folder)
    shutil.copy(folder / "rounds/00000003/c00.h5", folder / "rounds/00000003/c01.h5")
    store = Store(folder)
    with pytest.raises(DamagedError, match="saved with another file"):
        store.history(clients=True)
    found = store.history(clients=True, errors="column")
    (bad,) = (row for row, error in enumerate(found["error"]) if error)
    assert (found["round"][bad], found["client"][bad], math.isnan(found["n"][bad])) == (3, "c01", True)


def test_a_hostile_curve_is_an_error_of_its_round(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adam"
    shutil.copytree(whole, folder)
    crafted = Crafted(folder / "rounds/00000019.h5")
    for _, record, values in crafted.document["values"]:
        if record == "fedarchive.curve":
            for entry in values:
                if entry[0] == "length":
                    entry[1] = ["int", 1000]
    crafted.write(folder / "rounds/00000019.h5")
    with pytest.raises(HostileFileError):
        Store(folder).history()
    ((path, error),) = Store(folder).history(errors="column").failures
    assert (path, type(error)) == (str(folder / "rounds/00000019.h5"), HostileFileError)


def test_all_are_bad(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"")
    found = archive.table(f"{tmp_path}/*.h5", errors="column")
    assert list(found) == ["path", *FACTS, "error"]
    assert [column.shape for column in found.values()] == [(1,)] * 5
    with pytest.warns(SkippedWarning, match="1 of 1"):
        found = archive.table(f"{tmp_path}/*.h5", errors="skip")
    assert {len(column) for column in found.values()} == {0}
    with pytest.raises(MissingError, match="no file matches"):
        archive.table(f"{tmp_path}/none*.h5", errors="skip")


def test_a_warning_names_a_few(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"{number}.h5").write_bytes(b"")
    with pytest.warns(SkippedWarning, match=r"9 of 9 .*2\.h5: 0 bytes [^;]*; and 6 more"):
        archive.table(f"{tmp_path}/*.h5", errors="skip")


@pytest.mark.parametrize("call", [archive.table, lambda urls, **how: Store(urls).history(**how)])
def test_other_words(tmp_path: Path, call: Any) -> None:
    with pytest.raises(ValueError, match="errors must be one of 'raise', 'skip', 'column', not 'ignore'"):
        call(str(tmp_path), errors="ignore")


def test_metrics_of_these_names_are_found_by_their_record(tmp_path: Path) -> None:
    metrics = {"fit": {"arrays": 1.5, "created": 2.5, "error": 0.25}, "run": {"run": 3}}
    archive.save({"w": np.zeros(2), "b": np.zeros(2)}, tmp_path / "a.h5", metrics=metrics)
    found = archive.table(tmp_path / "a.h5")
    assert list(found) == ["path", *FACTS, "fit/arrays", "fit/created", "error", "run"]
    assert (found["arrays"][0], found["fit/arrays"][0], found["fit/created"][0]) == (2, 1.5, 2.5)
    found = archive.table(tmp_path / "a.h5", errors="column")
    assert found["fit/error"].tolist() == [0.25]
    assert found["error"].tolist() == [None]


def test_times_are_of_the_archives(tmp_path: Path) -> None:
    for number, created in enumerate(["1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]):
        archive.save({}, tmp_path / f"{number}.h5", created=created)
    crafted = Crafted(tmp_path / "0.h5")
    for number, text in enumerate(
        ["2026-02-31T00:00:00Z", "", "now", "2026-01-01T00:00:00Z\n", "9" * 5000], 2
    ):
        crafted.document["created"] = text
        crafted.write(tmp_path / f"{number}.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = archive.table(f"{tmp_path}/*.h5")["created"]
    assert found.dtype == "M8[us]"
    assert found[:2].astype(str).tolist() == ["1970-01-01T00:00:00.000000", "9999-12-31T23:59:59.000000"]
    assert np.isnat(found[2:]).all()


@pytest.mark.parametrize("arrays", [0, 3, 2000])
def test_the_number_of_arrays_is_that_of_info(tmp_path: Path, arrays: int) -> None:
    """Of 2,000 the index begins before the bytes that are read first."""
    path = tmp_path / "a.h5"
    archive.save({f"w{number}": np.zeros(2) for number in range(arrays)}, path, metrics={"loss": 1.0})
    with archive.open(path) as opened:
        assert archive.table(path)["arrays"].tolist() == [opened.info.arrays] == [arrays]


def test_a_number_of_arrays_that_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    archive.save({"w": np.zeros(2)}, path, metrics={"loss": 1.0})
    data = bytearray(path.read_bytes())
    data[data.rindex(INDEX_MAGIC) + 32] ^= 2
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="the index does not match its digest"):
        archive.table(path)


def test_progress(tmp_path: Path) -> None:
    for number in range(3):
        archive.save({}, tmp_path / f"{number}.h5")
    (tmp_path / "1.h5").write_bytes(b"")
    seen: list[tuple[int, int]] = []
    archive.table(
        f"{tmp_path}/*.h5", errors="column", progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
