"""Tables and histories that an executor reads: those of this process, types and failures included."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import archive
from archive.errors import ArchiveError, SkippedWarning
from archive.types import Table
from tests.executing import PickledExecutor

WHOLE: Any = st.one_of(st.integers(-(1 << 63), (1 << 64) - 1), st.integers((1 << 53) - 2, (1 << 53) + 2))
METRICS: Any = st.one_of(
    st.integers(0, 3),
    WHOLE,
    st.floats(),
    st.lists(st.integers(0, 9), max_size=2),
    st.lists(st.floats(), max_size=2),
)
CONFIGS: Any = st.one_of(
    METRICS,
    st.booleans(),
    st.sampled_from(["", "a", "\u00e4\n"]),
    st.binary(max_size=3),
    st.lists(st.booleans(), max_size=2),
    st.lists(st.sampled_from(["a", ""]), max_size=2),
    st.lists(st.binary(max_size=2), max_size=2),
)
KEYS = st.sampled_from(["loss", "n", "path", "a/b"])
ARCHIVES: Any = st.lists(
    st.tuples(
        st.dictionaries(KEYS, METRICS, max_size=3),
        st.dictionaries(KEYS, CONFIGS, max_size=3),
        st.sampled_from(["whole"] * 5 + ["missing", "cut", "other byte"]),
    ),
    min_size=1,
    max_size=10,
)


def told(table: Table) -> dict[str, Any]:
    """Return all that a table says."""
    failures = [
        (path, type(one), str(one), one.key, one.offset, getattr(one, "errno", None))
        for path, one in table.failures
    ]
    columns = {
        name: (column.dtype, repr(column.tolist()) if column.dtype == object else column.tobytes())
        for name, column in table.items()
    }
    return {"names": list(table), "columns": columns, "aliases": table._aliases, "failures": failures}


def result(function: Any, **options: Any) -> Any:
    """Return what a call says, or its error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkippedWarning)
        try:
            return told(function(**options))
        except ArchiveError as error:
            return type(error), str(error)


@given(archives=ARCHIVES, times=st.integers(1, 40), errors=st.sampled_from(["raise", "skip", "column"]))
def test_a_table_is_that_of_one_process(archives: Any, times: int, errors: str) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        paths = []
        for number, (metrics, configs, state) in enumerate(archives):
            path = Path(folder, f"{number}.h5")
            archive.save({}, path, metrics=metrics, configs=configs, durable=False)
            content = bytearray(path.read_bytes())
            content[-300] ^= state == "other byte"
            path.write_bytes(content[:-9] if state == "cut" else content)
            if state == "missing":
                path.unlink()
            paths += [path] * (
                times if number == 0 else 1
            )  # one several times: as many rows, and more batches
        here = result(archive.table, urls=paths, errors=errors)
        for rows in (16, 40, 2048):
            patch.setattr("archive.tuning.ROWS", rows)
            assert result(archive.table, urls=paths, errors=errors, executor=PickledExecutor()) == here
            assert result(archive.table, urls=paths, errors=errors) == here


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "adam"
    store = archive.CheckpointStore(folder, keep_last=10)
    for number in range(12):
        for client in ("Berlin", "Oslo"):
            store.save({"w": np.zeros(2)}, number, client=client, metrics={"n": number})
        store.save({"w": np.zeros(2)}, number, metrics={"loss": 1 / (1 + number)})
    return folder


@pytest.fixture
def run(saved: Path, tmp_path: Path) -> Path:
    """A copy without a catalogue: a round and a client's file are damaged, and one is gone."""
    folder = tmp_path / "adam"
    shutil.copytree(saved, folder)
    (folder / "catalogue.h5").unlink(missing_ok=True)
    for name in ("00000005.h5", "00000007/Oslo.h5"):
        path = folder / "rounds" / name
        path.write_bytes(path.read_bytes()[:-9])
    (folder / "rounds/00000008/Berlin.h5").unlink()
    return folder


@pytest.mark.parametrize("clients", [False, True])
@pytest.mark.parametrize("errors", ["raise", "skip", "column"])
def test_a_history_is_that_of_one_process(run: Path, clients: bool, errors: str) -> None:
    store, executor = archive.CheckpointStore(run), PickledExecutor()
    here = result(store.history, clients=clients, errors=errors)
    assert result(store.history, clients=clients, errors=errors, executor=executor) == here
    assert executor.tasks
    assert (errors == "raise") == isinstance(here, tuple)


@pytest.mark.parametrize("executor", [None, PickledExecutor()])
def test_progress_of_a_history_ends_when_all_is_read(
    run: Path, executor: PickledExecutor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archive.tuning.SETTLED_SECONDS", 0.0)
    store, seen = archive.CheckpointStore(run), list[tuple[int, int]]()

    def note(done: int, total: int) -> None:
        seen.append((done, total))

    store.history(clients=True, errors="column", executor=executor, progress=note)
    assert [done for done, _ in seen[:10]] == list(range(1, 11))
    assert seen[9] == (10, 10)
    # nobody knows the clients of round 5; of round 7 and 8 the rounds are read again, as one may be gone
    assert seen[-1][0] == seen[-1][1] >= 10 + 18
    assert all(done <= total for done, total in seen)
    assert sorted(done for done, _ in seen) == [done for done, _ in seen]
    seen.clear()
    store.reindex()
    store.history(errors="column", executor=executor, progress=note)
    assert seen[0] == (9, 10), "what the catalogue knows is read"
    assert seen[-1] == (10, 10)


def test_what_the_catalogue_knows_does_not_go_to_an_executor(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archive.tuning.SETTLED_SECONDS", 0.0)
    store, executor = archive.CheckpointStore(saved), PickledExecutor()
    store.reindex()
    assert store.history(clients=True, executor=executor)["round"].size == 12 + 20
    assert not executor.tasks


def test_secrets_stay_where_they_are() -> None:
    url, options, executor = "memory://sharedtables/run", {"token": "5ecretw0rd"}, PickledExecutor()
    store = archive.CheckpointStore(url, storage_options=options)
    for number in range(3):
        store.save({"w": np.zeros(2)}, number, client="Oslo", metrics={"n": number})
        store.save({"w": np.zeros(2)}, number, metrics={"loss": 0.5})
    fsspec.filesystem("memory").store.pop("/sharedtables/run/catalogue.h5", None)
    assert store.history(clients=True, executor=executor)["n"][1::2].tolist() == [0, 1, 2]
    paths = [f"{url}/rounds/{number:08d}.h5" for number in range(3)]
    assert archive.table(paths, storage_options=options, executor=executor)["loss"].tolist() == [0.5] * 3
    assert len(executor.tasks) == 3
    assert not any(b"5ecretw0rd" in task for task in executor.tasks)
