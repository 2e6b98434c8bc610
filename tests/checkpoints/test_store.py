"""CheckpointStore: rounds that exist or do not, what is kept, what is found again."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import archive
from archive.checkpoints.curve import CURVE, Curve
from archive.checkpoints.retention import Policy
from archive.checkpoints.roundfile import ClientFile, Past, client_marks, read_round, round_marks
from archive.errors import (
    ArchiveError,
    DamagedError,
    ExistsError,
    HostileFileError,
    MissingError,
    ReplacedError,
    StorageError,
    TruncatedError,
    UnsupportedDtypeError,
    ValueRangeError,
)
from archive.storage.url import parse_url
from archive.tools.spelling import CHECKPOINT
from tests.crafting import Crafted
from tests.faults.mounts import mounted
from tests.servers.lies import operation_of, page
from tests.servers.proxy import Fault, Proxy, Request
from tests.servers.s3 import BUCKET

if TYPE_CHECKING:
    from tests.servers.s3 import S3Server

ROOT = Path(__file__).parents[2]
Store = archive.CheckpointStore


def arrays(number: int) -> dict[str, np.ndarray[Any, Any]]:
    return {"w": np.full(1000, number, "f8"), "b": np.full(3, number, "i4")}


def fill(store: Store, *numbers: int, clients: int = 0, **metrics: Any) -> Store:
    for number in numbers:
        for client in range(clients):
            store.save({"c": np.full(5, number * 100 + client)}, number, client=f"client-{client}")
        store.save(arrays(number), number, metrics=metrics or {"loss": 1 / number})
    return store


def flip(path: Path, content: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(content)] ^= 1
    path.write_bytes(data)


def damage(folder: Path, number: int) -> None:
    flip(folder / f"rounds/{number:08d}.h5", np.full(1000, number, "f8").tobytes())


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_layout_and_reading_back(tmp_path: Path) -> None:
    fill(Store(tmp_path / "run"), 1, 2, clients=2)
    assert files(tmp_path / "run") == [
        "rounds/00000001.h5",
        "rounds/00000001/client-0.h5",
        "rounds/00000001/client-1.h5",
        "rounds/00000002.h5",
        "rounds/00000002/client-0.h5",
        "rounds/00000002/client-1.h5",
    ]
    again = Store(tmp_path / "run")
    assert again.rounds() == [1, 2]
    assert again.clients(2) == ["client-0", "client-1"]
    with again.open(1) as opened:
        assert opened["w"].numpy().tolist() == [1] * 1000
        assert opened.records.metrics_records["metrics"] == {"loss": 1.0}
        assert not opened.records.configs_records, "what the store adds is not handed out"
    assert again.open(2, client="client-1")["c"].numpy().tolist() == [201] * 5
    assert again.open("latest")["b"].numpy().tolist() == [2, 2, 2]
    assert again.verify(2).files == 3
    assert again.verify(2)
    assert repr(again) == f"CheckpointStore({str(tmp_path / 'run')!r})"


def test_how_a_round_is_opened(tmp_path: Path) -> None:
    store = fill(Store(tmp_path), 1)
    with store.open("latest", mode="c") as opened:
        opened["w"].numpy()[0] = 7
        assert opened["w"].numpy()[0] in (1, 7)
    assert store.verify(1)
    with pytest.raises(TypeError, match="archives are immutable"):
        store.open(1, mode="w")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="verify must be one of"):
        store.open(1, verify="never")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match='a round is an int, "latest" or "best", not \'newest\''):
        store.open("newest")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="client must be a str"):
        store.open(1, client=7)  # type: ignore[arg-type]


def test_nothing_is_made_by_reading(tmp_path: Path) -> None:
    store = Store(tmp_path / "run", best_by="loss")
    assert store.rounds() == []
    assert {name: len(column) for name, column in store.history().items()} == {
        "path": 0,
        "run": 0,
        "round": 0,
        "kept": 0,
        "created": 0,
        "file_bytes": 0,
        "arrays": 0,
    }
    assert store.prune() == store.gc(0) == []
    for number in ("latest", "best", 3):
        with pytest.raises(MissingError):
            store.open(number)
    with pytest.raises(MissingError):
        store.clients(3)
    with pytest.raises(MissingError):
        store.context("7")
    assert list(tmp_path.iterdir()) == []


def test_a_relative_folder_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    fill(store, 1)
    assert files(tmp_path) == ["run/rounds/00000001.h5"]


@pytest.mark.parametrize("container", ["recorddict", "recordset", "context"])
def test_what_is_handed_out_is_what_was_saved(tmp_path: Path, container: str) -> None:
    records = archive.RecordDict(
        {
            "model": archive.ArrayRecord([np.ones(3)]),
            "fit": archive.MetricRecord({"loss": [0.5, 0.0]}),
            "run": archive.ConfigRecord({"lr": 0.1}),
        }
    )
    saved: Any = records
    if container == "recordset":
        saved = archive.RecordSet(
            dict(records.array_records), dict(records.metric_records), dict(records.config_records)
        )
    if container == "context":
        saved = archive.Context(1, 2, {"partition-id": 0}, records, {"lr": 0.1})
    for background in (False, True):
        with Store(tmp_path / str(background), background=background) as store:
            store.save(saved, 1)
            store.save(saved, 2, client="a")
            store.save(saved, 2)
        for opened in (store.open(1), store.open(2, client="a")):
            assert (opened.context if container == "context" else opened.records) == saved


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            ".",
            "..",
            "../../escape",
            "/etc/passwd",
            "a/b",
            "Client",
            "client",
            "CLIENT",
            "nul\0",
            "a b\n",
        ),
        *("%41", "=41", "\udc80", "é", "e\u0301", "中" * 200, "x" * 1000, "x" * 1001, ".h5", "a.h5"),
        *(".a.h5.0.tmp", "~"),
    ],
)
def test_any_name_of_a_client_or_node(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "run")
    store.save({"c": np.arange(3)}, 1, client=name)
    store.save(arrays(1), 1)
    context = archive.Context(1, 2, {}, archive.RecordDict(), {})
    store.save_context(name, context)
    again = Store(tmp_path / "run")
    assert again.clients(1) == [name]
    assert again.open(1, client=name)["c"].numpy().tolist() == [0, 1, 2]
    assert again.context(name) == context
    assert again.history(clients=True)["client"].tolist() == ["", name]
    written = [Path(path) for path in files(tmp_path)]
    assert sorted(str(path.parent) for path in written) == [
        "run/contexts",
        "run/rounds",
        "run/rounds/00000001",
    ]
    assert all(path.name.isascii() and len(path.name) < 140 for path in written)
    assert again.gc(0) == []


def test_names_that_some_file_systems_confuse_stay_apart(tmp_path: Path) -> None:
    names = ["a", "A", "é", "e\u0301", "É", "x" * 1000, "x" * 1001, "", "=", ".", "..", "a/b", "a\\b"]
    store = Store(tmp_path)
    for place, name in enumerate(names):
        store.save({"c": np.array([place])}, 1, client=name)
    store.save({}, 1)
    assert store.clients(1) == sorted(names)
    assert [store.open(1, client=name)["c"].numpy()[0] for name in names] == list(range(len(names)))
    found = [path.name for path in (tmp_path / "rounds/00000001").iterdir()]
    assert len(set(found)) == len(names)
    assert {"a.h5", "A.h5"} <= set(found)


def test_files_of_clients_have_readable_names(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("Berlin", "Site-2_a.b", "x@y.org", "Hall (2), 3"):
        store.save(arrays(1), 1, client=name)
        store.save_context(name, archive.Context(1, 2, {}, archive.RecordSet(), {}))
    store.save(arrays(1), 1)
    names = ["Berlin.h5", "Hall=20(2),=203.h5", "Site-2_a.b.h5", "x@y.org.h5"]
    assert sorted(os.listdir(tmp_path / "rounds/00000001")) == names
    assert sorted(os.listdir(tmp_path / "contexts")) == names


def test_files_of_earlier_versions_are_found_by_name(tmp_path: Path) -> None:
    """They were spelled in lower case."""
    marks = client_marks(1, "=42erlin", "")
    place = tmp_path / "rounds/00000001/=42erlin.h5"
    place.parent.mkdir(parents=True)
    archive.save(arrays(7), place, configs=marks)
    store = Store(tmp_path)
    store.save(arrays(1), 1)
    assert store.clients(1) == ["Berlin"]
    assert store.open(1, client="Berlin")["b"].numpy().tolist() == [7, 7, 7]
    assert store.history(clients=True)["client"].tolist() == ["", "Berlin"]
    assert archive.table(str(tmp_path / "rounds/*/*.h5"))["client"].tolist() == ["Berlin"]
    (tmp_path / "contexts").mkdir()
    context = archive.Context(1, 2, {}, archive.RecordSet(), {})
    archive.save(context, tmp_path / "contexts/=4eode.h5")
    assert store.context("Node") == context
    store.save_context("Node", archive.Context(1, 3, {}, archive.RecordSet(), {}))
    assert store.context("Node").node_id == 3, "the newer file"
    store.remove(1)
    assert files(tmp_path) == ["contexts/=4eode.h5", "contexts/Node.h5"]


def test_a_round_that_names_one_client_twice(tmp_path: Path) -> None:
    """Under two spellings: nobody can tell which file is meant."""
    archive.save(
        arrays(1),
        fill(Store(tmp_path), 2).url + "/rounds/00000001.h5",
        configs={CHECKPOINT: {"round": 1, "clients": ["=42", "B"], "digests": ["", ""]}},
    )
    with pytest.raises(HostileFileError, match="names and digests of clients that do not match"):
        Store(tmp_path).clients(1)


def test_the_context_of_another_node(tmp_path: Path) -> None:
    """As where the file system ignores case: one name leads to the file of the other."""
    store = Store(tmp_path)
    store.save_context("node", archive.Context(1, 2, {}, archive.RecordSet(), {}))
    os.link(tmp_path / "contexts/node.h5", tmp_path / "contexts/Node.h5")
    with pytest.raises(
        MissingError, match="no context of node 'Node' was saved; the file is that of node 'node'"
    ):
        store.context("Node")
    with pytest.raises(ExistsError, match="the context of node 'Node' would replace that of node 'node'"):
        store.save_context("Node", archive.Context(1, 3, {}, archive.RecordSet(), {}))
    assert store.context("node").node_id == 2


def test_a_context_is_handed_out_as_it_was_saved(tmp_path: Path) -> None:
    states: list[archive.RecordSet | archive.RecordDict] = [archive.RecordSet(), archive.RecordDict()]
    for number, state in enumerate(states):
        context = archive.Context(1, number, {}, state, {})
        Store(tmp_path).save_context("a", context)
        assert Store(tmp_path).context("a") == context


@pytest.mark.root
def test_names_on_a_file_system_that_ignores_case(tmp_path: Path) -> None:
    with mounted("exfat", tmp_path) as folder:
        store = Store(folder / "run")
        for number, name in enumerate(["Berlin", "berlin", "BERLIN"]):
            store.save({"c": np.full(3, number)}, 1, client=name)
        store.save(arrays(1), 1)
        again = Store(folder / "run")
        assert again.clients(1) == ["BERLIN", "Berlin", "berlin"]
        found = [int(again.open(1, client=name)["c"].numpy()[0]) for name in again.clients(1)]
        assert found == [2, 0, 1]
        assert again.verify(1).files == 4
        assert again.gc(0) == []
        context = archive.Context(1, 2, {}, archive.RecordSet(), {})
        again.save_context("Node", context)
        with pytest.raises(ExistsError, match="would replace that of node 'Node'"):
            again.save_context("node", context)
        with pytest.raises(MissingError, match="the file is that of node 'Node'"):
            Store(folder / "run").context("node")
        again.remove(1)
        assert files(folder / "run") == ["contexts/Node.h5"]


@pytest.mark.parametrize(
    ("number", "error"),
    [(-1, ValueError), (10**8, ValueError), (True, TypeError), (1.0, TypeError), ("1", TypeError)],
)
def test_rounds_that_are_none(tmp_path: Path, number: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="round"):
        Store(tmp_path).save(arrays(1), number)


def test_odd_numbers_of_rounds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in (10**8 - 1, np.int64(5), 0):
        store.save(arrays(1), number)
    assert store.rounds() == [0, 5, 99_999_999]


# Existing


def test_a_round_is_saved_once(tmp_path: Path) -> None:
    store = fill(Store(tmp_path), 1)
    with pytest.raises(ExistsError, match="round 1"):
        store.save(arrays(9), 1)
    with pytest.raises(ExistsError, match="round 1"):
        store.save(arrays(9), 1, client="late")
    assert store.open(1)["w"].numpy()[0] == 1
    store.remove(1)
    assert fill(store, 1).rounds() == [1]


RACER = """
import sys
import numpy as np
import archive
store = archive.CheckpointStore(sys.argv[1])
sys.stdout.write("ready\\n"); sys.stdout.flush(); sys.stdin.readline()
for number in range(1, 31):
    try:
        store.save({"w": np.full(2000, int(sys.argv[2]))}, number)
        print("won", flush=True)
    except archive.errors.ExistsError:
        print("lost", flush=True)
"""


def test_of_two_processes_one_wins_each_round(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, tmp_path, str(number)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for racer in racers:
        assert racer.stdout is not None
        racer.stdout.readline()
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    told = [racer.communicate()[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    store = Store(tmp_path)
    assert store.rounds() == list(range(1, 31))
    for place, (first, second) in enumerate(zip(*told, strict=True)):
        assert {first, second} == {"won", "lost"}
        winner = 0 if first == "won" else 1
        assert store.open(place + 1)["w"].numpy().tolist() == [winner] * 2000
    assert store.gc(0) == []


# Clients


def test_clients_that_save_by_themselves(tmp_path: Path) -> None:
    server = Store(tmp_path)
    for name in "ab":
        Store(tmp_path).save({"c": np.ones(2)}, 1, client=name)
    server.save(arrays(1), 1)
    assert server.clients(1) == ["a", "b"]


def test_what_a_killed_run_left_is_no_part_of_a_round(tmp_path: Path) -> None:
    killed = Store(tmp_path)
    killed.save({"c": np.zeros(2)}, 1, client="a")
    killed.save({"c": np.zeros(2)}, 1, client="gone")
    store = Store(tmp_path)
    store.save({"c": np.ones(2)}, 1, client="a")
    store.save(arrays(1), 1)
    assert store.clients(1) == ["a"]
    with pytest.raises(MissingError, match="'gone' has no file in round 1"):
        store.open(1, client="gone")
    assert store.gc() == []
    assert sorted(store.gc(0)) == ["rounds/00000001/a.h5", "rounds/00000001/gone.h5"]
    assert store.open(1, client="a")["c"].numpy().tolist() == [1, 1]


def test_of_files_that_a_client_saved_the_last_is_taken(tmp_path: Path) -> None:
    for number in range(3):
        Store(tmp_path).save({"c": np.full(2, number)}, 1, client="a")
    assert len(files(tmp_path)) == 3
    store = Store(tmp_path)
    store.save(arrays(1), 1)
    assert store.clients(1) == ["a"]
    assert store.open(1, client="a")["c"].numpy().tolist() == [2, 2]
    assert store.verify(1)
    assert store.history(clients=True)["client"].tolist() == ["", "a"]
    assert len(store.gc(0)) == 2
    assert store.verify(1)
    store.remove(1)
    assert files(tmp_path) == []


def test_a_client_file_that_was_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save({"c": np.zeros(2)}, 1, client="a")
    archive.save({"c": np.ones(2)}, tmp_path / "rounds/00000001/a.h5")
    with pytest.raises(ReplacedError, match="client 'a'"):
        store.save(arrays(1), 1)
    assert store.rounds() == []
    store.save({"c": np.zeros(2)}, 1, client="a")
    (tmp_path / "rounds/00000001/a.h5").unlink()
    store.save(arrays(1), 1)
    assert store.verify(1)
    store.remove(1)
    Store(tmp_path).save({"c": np.zeros(2)}, 1, client="a")
    Store(tmp_path).save(arrays(1), 1)
    archive.save({"c": np.full(2, 7)}, tmp_path / "rounds/00000001/a.h5")
    with pytest.raises(DamagedError, match="its round was saved with another file"):
        store.open(1, client="a")
    report = store.verify(1)
    assert not report
    assert report.failures[0].startswith("rounds/00000001/a.h5: its round was saved with another file")
    (tmp_path / "rounds/00000001/a.h5").unlink()
    with pytest.raises(MissingError):
        store.open(1, client="a")
    assert not store.verify(1).ok


def test_clients_of_a_round_that_another_saved_are_forgotten(tmp_path: Path) -> None:
    store, other = Store(tmp_path), Store(tmp_path)
    store.save({"c": np.zeros(2)}, 1, client="a")
    other.save({"c": np.zeros(2)}, 1, client="b")
    other.save(arrays(1), 1)
    with pytest.raises(ExistsError):
        store.save(arrays(1), 1)
    store.remove(1)
    store.save({"c": np.zeros(2)}, 1, client="c")
    store.save(arrays(1), 1)
    assert store.clients(1) == ["c"]


def test_a_damaged_client_file_is_not_taken_into_a_round(tmp_path: Path) -> None:
    Store(tmp_path).save({"c": np.zeros(2)}, 1, client="a")
    path = tmp_path / "rounds/00000001/a.h5"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(TruncatedError):
        Store(tmp_path).save(arrays(1), 1)
    path.unlink()
    archive.save({"c": np.zeros(2)}, path)
    with pytest.raises(DamagedError, match="not the file of a client of round 1"):
        Store(tmp_path).save(arrays(1), 1)
    assert Store(tmp_path).rounds() == []


def test_thousands_of_clients(tmp_path: Path) -> None:
    """Names and digests of 2,500 clients are too large for attributes, and are datasets."""
    store = Store(tmp_path)
    names = {}
    for number in range(2500):
        name, write = f"client-{number}", f"{number:016x}" if number % 2 else ""
        names[name] = ClientFile(1, name, write, f"{number:032x}")
    (tmp_path / "rounds").mkdir()
    marks = round_marks(1, names, Past(), None, Policy(None, None))
    archive.save(arrays(1), tmp_path / "rounds/00000001.h5", configs=marks)
    assert read_round(parse_url(tmp_path / "rounds/00000001.h5"), 1).clients == names
    assert store.clients(1) == sorted(names)
    assert store.history()["round"].tolist() == [1]


# Damage


def test_latest_says_which_round_verifies(tmp_path: Path) -> None:
    store = fill(Store(tmp_path), 1, 2, 3, 4)
    damage(tmp_path, 4)
    damage(tmp_path, 3)
    with pytest.raises(DamagedError, match=r"round 2 is the newest that verifies: open\(2\)"):
        store.open("latest")
    assert store.rounds() == [1, 2, 3, 4]
    assert store.open("latest", verify="first").info.arrays == 2
    path = tmp_path / "rounds/00000004.h5"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TruncatedError, match="round 2 is the newest"):
        store.open("latest")
    for number in (1, 2):
        damage(tmp_path, number)
    with pytest.raises(ArchiveError, match="no round verifies"):
        store.open("latest")


def test_best_says_which_round_verifies(tmp_path: Path) -> None:
    store = fill(Store(tmp_path, best_by="loss"), 1, 2, 3)
    store.save(arrays(4), 4, metrics={"loss": 0.5})
    damage(tmp_path, 3)
    with pytest.raises(DamagedError, match=r"00000003\.h5.*round 4 is the newest that verifies: open\(4\)"):
        store.open("best")


def test_a_damaged_round_gives_way_when_it_is_removed(tmp_path: Path) -> None:
    store = fill(Store(tmp_path), 1, 2, clients=1)
    damage(tmp_path, 2)
    store.remove(2)
    assert files(tmp_path) == ["rounds/00000001.h5", "rounds/00000001/client-0.h5"]
    with pytest.raises(MissingError):
        store.remove(2)
    assert fill(store, 2).rounds() == [1, 2]


# Keeping


def test_keep_last_and_every(tmp_path: Path) -> None:
    store = fill(Store(tmp_path, keep_last=2, keep_every=5), *range(1, 13), clients=1)
    assert store.rounds() == [5, 10, 11, 12]
    assert sorted(path.name for path in (tmp_path / "rounds").iterdir() if path.is_dir()) == [
        f"{number:08d}" for number in (5, 10, 11, 12)
    ]


def test_the_best_stays_and_zero_is_a_value(tmp_path: Path) -> None:
    store = Store(tmp_path, keep_last=1, best_by="loss")
    for number, loss in enumerate([0.5, 0.0, 0.0, float("nan"), 0.25, -0.0 + 1], start=1):
        fill(store, number, loss=loss)
    assert store.rounds() == [3, 6]
    assert store.open("best")["w"].numpy()[0] == 3


def test_the_largest_is_the_best(tmp_path: Path) -> None:
    fill(Store(tmp_path), 1, accuracy=0.1)
    fill(Store(tmp_path), 2, accuracy=0.9)
    fill(Store(tmp_path), 3, loss=5)
    for best_by in ("-accuracy", ("accuracy", "max"), ("metrics/accuracy", "max")):
        assert Store(tmp_path, best_by=best_by).open("best")["w"].numpy()[0] == 2
    assert Store(tmp_path, best_by=("accuracy", "min")).open("best")["w"].numpy()[0] == 1
    with pytest.raises(ValueError, match="say which is better"):
        Store(tmp_path, best_by="accuracy")
    with pytest.raises(MissingError, match="'perplexity'"):
        Store(tmp_path, best_by="perplexity").open("best")
    with pytest.raises(ValueError, match="best_by"):
        Store(tmp_path).open("best")


def test_a_metric_of_several_records(tmp_path: Path) -> None:
    store = Store(tmp_path, best_by="loss", keep_last=1)
    twice = {"fit": {"loss": 0.1}, "test": {"loss": 0.3}}
    with pytest.raises(ValueError, match=r"round 1 was saved, but .* name one: fit/loss, test/loss"):
        store.save(arrays(1), 1, metrics=twice)
    with pytest.raises(ValueError, match="name one: fit/loss, test/loss"):
        store.open("best")
    Store(tmp_path / "text", best_by="note").save(arrays(1), 1)  # has none, as rounds without evaluation do
    store = Store(tmp_path, best_by="test/loss")
    store.save(arrays(2), 2, metrics={"fit": {"loss": 0.2}, "test": {"loss": 0.2}})
    assert store.open("best")["w"].numpy()[0] == 2


def test_the_newest_round_that_verifies_is_never_removed(tmp_path: Path) -> None:
    fill(Store(tmp_path), 1, 2, 3, 4)
    for number in (3, 4):
        damage(tmp_path, number)
    assert Store(tmp_path, keep_last=1).prune() == [1, 3]
    assert Store(tmp_path).rounds() == [2, 4]
    damage(tmp_path, 2)
    assert Store(tmp_path, keep_last=1).prune() == []


def test_a_round_whose_client_is_damaged_does_not_verify(tmp_path: Path) -> None:
    fill(Store(tmp_path), 1, 2, clients=1)
    flip(tmp_path / "rounds/00000002/client-0.h5", np.full(5, 200).tobytes())
    assert Store(tmp_path, keep_last=1).prune() == []


@pytest.mark.timeout(20)
@pytest.mark.parametrize("way", ["malformed", "damaged"])
def test_a_round_whose_values_cannot_be_read_does_not_verify(tmp_path: Path, way: str) -> None:
    store = fill(Store(tmp_path, keep_last=1), 1)
    path = tmp_path / "rounds/00000002.h5"
    fill(store, 2, loss=0.5, losses=list(np.arange(9000.0)))
    crafted = Crafted(path)
    if way == "malformed":
        crafted.document["values"] = 5
        crafted.write(path)
    else:  # a list of this length is a dataset
        offset = int(crafted.sections["offset"][crafted.row("metrics", "losses")])
        data = bytearray(path.read_bytes())
        data[offset] ^= 1
        path.write_bytes(data)
    report = store.verify(2)
    assert (report.ok, report.files) == (False, 1)
    with pytest.raises(ArchiveError):
        store.open(2)


def test_the_best_is_not_known_where_a_round_is_damaged(tmp_path: Path) -> None:
    store = fill(Store(tmp_path, best_by="loss"), 1, 2, 3)
    path = tmp_path / "rounds/00000002.h5"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TruncatedError, match=r"it may be the best: remove\(2\).*3 is the best"):
        store.open("best")
    store.remove(2)
    assert store.open("best")["w"].numpy()[0] == 3


@pytest.mark.parametrize(
    "options",
    [{"keep_last": 0}, {"keep_every": -1}, {"best_by": ("loss", "least")}, {"best_by": ("loss",)}],
)
def test_options_that_mean_nothing(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"keep_|best_by"):
        Store(tmp_path, **options)


# Left-overs


@pytest.mark.needs("fcntl")
def test_gc_removes_left_overs_and_nothing_else(tmp_path: Path) -> None:
    store = fill(Store(tmp_path), 1, clients=1)
    store.save_context("7", archive.Context(1, 7, {}, archive.RecordDict(), {}))
    Store(tmp_path).save({"c": np.zeros(2)}, 2, client="orphan")
    orphan = (tmp_path / "rounds/00000002/orphan.h5").read_bytes()
    begun = orphan[:5000]
    others = {
        "rounds/00000001/notes.txt": b"x",
        "rounds/README": b"x",
        "rounds/00000002/sub/deep.h5": orphan,
        "rounds/3.h5": b"x",
        "rounds/00000001.h5.bak": b"x",
        "contexts/.hidden": b"x",
        # names of ours, content of others
        "rounds/.notes.3.tmp": b"notes of somebody",
        "rounds/00000001/.essay.h5.0123456789abcdef.tmp": b"an essay",
        "contexts/.7.h5.6.tmp": b"\x89HDF\r\n\x1a\n\x02\x08\x08" + bytes(37) + b"of another tool",
        "rounds/00000002/somebody.h5": b"of somebody else",
        # an archive, but of no client of this round, or not of this name
        "rounds/00000002/model.h5": (tmp_path / "rounds/00000001.h5").read_bytes(),
        "rounds/00000002/moved.h5": orphan,
        "rounds/00000003/orphan.h5": orphan,
        # may be the only copy
        "rounds/essay.partial": b"an essay",
        "rounds/model.h5.partial": bytes(9000),
        "rounds/model.h5.partial.journal": b"",
        "rounds/.model.h5.partial": begun,
    }
    gone = [
        "rounds/.00000001.h5.0.tmp",
        "rounds/00000001/.client-0.h5.0123456789abcdef.tmp",
        "contexts/.7.h5.7.tmp",
    ]
    probes = {".fedarchive-probe-1": b"fedarchive", "..fedarchive-probe-2.0.tmp": b""}  # of a server's start
    others[".fedarchive-probe-notes"] = b"notes of somebody"
    gone += probes
    for name, content in (others | dict.fromkeys(gone, begun) | probes).items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(content)
    before = set(files(tmp_path))
    assert store.gc() == []
    assert set(store.gc(0)) == {*gone, "rounds/00000002/orphan.h5"}
    assert before - set(files(tmp_path)) == {*gone, "rounds/00000002/orphan.h5"}
    assert all((tmp_path / name).read_bytes() == content for name, content in others.items())
    assert store.verify(1)
    assert store.context("7").node_id == 7


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """A folder of somebody else, whose files have the names and even the content of a store's."""
    folder = tmp_path / "others"
    fill(Store(folder / "store"), 1, clients=2)
    for path in (folder / "store/rounds/00000001").iterdir():
        path.rename(folder / path.name)
    (folder / "thesis.h5").write_bytes(b"a thesis")
    (folder / ".left.h5.0.tmp").write_bytes(bytes(5000))
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder)}


def plant(others: Path, place: Path) -> None:
    """Put a link to the folder of somebody else where there was a folder of the store."""
    if place.exists():
        place.rename(place.with_name(f"{place.name}.real"))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(others)


def test_nothing_is_removed_behind_a_planted_link(tmp_path: Path, others: Path) -> None:
    before, store = content_of(others), fill(Store(tmp_path / "run", keep_last=1), 1, clients=2)
    plant(others, tmp_path / "run/rounds/00000001")
    fill(store, 2, clients=2)
    assert store.rounds() == [2]
    assert content_of(others) == before, "retention"
    plant(others, tmp_path / "run/rounds/00000002")
    store.remove(2)
    assert content_of(others) == before, "remove"
    for name in ("rounds/00000003", "contexts"):
        plant(others, tmp_path / "run" / name)
    store.gc(0)
    assert content_of(others) == before, "gc"
    plant(others / "store/rounds", tmp_path / "run/rounds")
    store.gc(0)
    with pytest.raises(StorageError, match="no link is followed"):
        store.remove(1)
    assert content_of(others) == before, "a link for all rounds"


def test_nothing_is_written_behind_a_planted_link(tmp_path: Path, others: Path) -> None:
    before, store = content_of(others), Store(tmp_path / "run")
    plant(others, tmp_path / "run/rounds/00000001")
    plant(others, tmp_path / "run/contexts")
    context = archive.Context(1, 7, {}, archive.RecordDict(), {})
    with pytest.raises(StorageError, match="no link is followed"):
        store.save({"c": np.zeros(2)}, 1, client="client-0")
    with pytest.raises(StorageError, match="no link is followed"):
        store.save_context("thesis", context)
    (tmp_path / "run/contexts").unlink()
    store.save_context("7", context)
    for name in ("contexts/7.h5", "rounds/00000002/client-0.h5"):
        plant(others / "thesis.h5", tmp_path / "run" / name)
    with pytest.raises(StorageError, match="no link is followed"):
        store.save_context("7", context)
    with pytest.raises(StorageError, match="no link is followed"):
        store.save({"c": np.zeros(2)}, 2, client="client-0")
    assert content_of(others) == before


def test_the_folder_of_a_store_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    store = fill(Store(tmp_path / "run", keep_last=1), 1, 2, clients=1)
    Store(tmp_path / "run").save({"c": np.zeros(2)}, 3, client="orphan")
    assert store.gc(0) == ["rounds/00000003/orphan.h5"]
    assert files(tmp_path / "disk") == ["rounds/00000002.h5", "rounds/00000002/client-0.h5"]


def test_remove_takes_the_files_of_clients_and_no_others(tmp_path: Path) -> None:
    Store(tmp_path).save({"c": np.zeros(2)}, 1, client="left-over")
    store = fill(Store(tmp_path), 1, clients=1)
    mine = {"thesis.h5": b"a thesis", "model.h5": (tmp_path / "rounds/00000001.h5").read_bytes()}
    for name, content in mine.items():
        (tmp_path / "rounds/00000001" / name).write_bytes(content)
    store.remove(1)
    assert content_of(tmp_path / "rounds/00000001") == mine
    assert store.rounds() == []


def test_gc_leaves_alone_what_is_being_written(tmp_path: Path) -> None:
    store = fill(Store(tmp_path), 1)
    with archive.create(tmp_path / "rounds/00000002.h5") as writer:
        writer.add("model", "w", np.zeros(3))
        assert store.gc(0) == []
    assert store.rounds() == [1, 2]


def test_gc_leaves_alone_the_clients_of_a_round_to_come(tmp_path: Path) -> None:
    store = fill(Store(tmp_path), 1)
    store.save({"c": np.zeros(2)}, 2, client="a")
    assert store.gc(0) == []
    store.save(arrays(2), 2)
    assert store.clients(2) == ["a"]


def test_gc_of_a_round_that_cannot_be_read_keeps_its_clients(tmp_path: Path) -> None:
    store = fill(Store(tmp_path), 1, clients=2)
    (tmp_path / "rounds/00000001.h5").write_bytes(b"damaged")
    assert store.gc(0) == []


# In the background


def test_a_snapshot_is_saved_while_training_goes_on(tmp_path: Path) -> None:
    layers, metrics = arrays(1), {"loss": 1.0, "losses": [1.0]}
    with Store(tmp_path, background=True) as store:
        for number in range(1, 6):
            assert store.save(layers, number, metrics=metrics) is None
            layers["w"] += 1
            metrics["losses"].append(0.0)  # type: ignore[attr-defined]
        assert store.rounds() == [1, 2, 3, 4, 5], "what was saved is found"
        for number in store.rounds():
            with store.open(number) as opened:
                assert set(opened["w"].numpy()) == {number}
                losses = opened.records.metric_records["metrics"]["losses"]
                assert isinstance(losses, list)
                assert len(losses) == number
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fedarchive-save")]


def test_an_error_in_the_background_is_raised_by_the_next_call(tmp_path: Path) -> None:
    store = fill(Store(tmp_path, background=True), 1)
    store.save(arrays(1), 1)
    with pytest.raises(ExistsError, match="round 1"):
        store.save(arrays(2), 2)
    assert store.rounds() == [1], "raised once, and what was asked for then was not done"
    store.save(arrays(1), 1)
    with pytest.raises(ExistsError):
        store.close()
    store.close()


def test_an_error_in_the_background_is_raised_when_the_block_ends(tmp_path: Path) -> None:
    fill(Store(tmp_path), 1)
    with pytest.raises(ExistsError), Store(tmp_path) as store:
        store.save(arrays(1), 1, background=True)

    def interrupted() -> None:
        with Store(tmp_path) as store:
            store.save(arrays(1), 1, background=True)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted()
    if sys.version_info >= (3, 11):
        assert "in the background failed" in caught.value.__notes__[0]


def test_a_snapshot_refuses_at_once_what_no_archive_holds(tmp_path: Path) -> None:
    store = Store(tmp_path, background=True)
    with pytest.raises(UnsupportedDtypeError):
        store.save({"w": np.array([object()])}, 1)
    with pytest.raises(TypeError):
        store.save({"w": "text"}, 1)
    store.close()


def test_a_save_in_the_background_outlives_the_script(tmp_path: Path) -> None:
    code = (
        "import archive, sys, numpy as np\n"
        "archive.CheckpointStore(sys.argv[1], background=True).save({'w': np.ones(1 << 20)}, 1)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, cwd=ROOT)
    assert Store(tmp_path).verify(1)
    again = subprocess.run(
        [sys.executable, "-c", code, tmp_path], check=True, cwd=ROOT, capture_output=True, text=True
    )
    assert "ExistsError" in again.stderr


# Contexts


def test_a_context_is_replaced_and_views_of_the_old_one_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for version in (1, 2):
        state = archive.RecordDict({"m": archive.ArrayRecord([np.full(100_000, version)])})
        store.save_context("node", archive.Context(1, 2, {"partition-id": 3}, state, {}))
        if version == 1:
            old = store.context("node")
    assert old.state.array_records["m"]["0"].numpy()[0] == 1
    new = store.context("node")
    assert new.state.array_records["m"]["0"].numpy()[0] == 2
    new.state["extra"] = archive.ConfigRecord({"round": 5})
    store.save_context("node", new)  # over the file it is read from
    assert store.context("node") == new
    with pytest.raises(TypeError, match="must be a Context"):
        store.save_context("node", archive.RecordDict())
    with pytest.raises(TypeError, match="node must be a str"):
        store.context(7)  # type: ignore[arg-type]


def test_a_missing_node_is_told_which_there_are(place: str) -> None:
    store = Store(place, "run")
    for number in range(12):
        store.save_context(f"partition-{number}", archive.Context(1, 2, {}, archive.RecordSet(), {}))
    with pytest.raises(MissingError) as caught:
        store.context("partition-99")
    named = [f"partition-{number}" for number in (0, 1, 10, 11, *range(2, 8))]
    assert str(caught.value) == (
        f"{place}/run/contexts: no state of node 'partition-99' was saved; there are: "
        f"{', '.join(map(repr, named))} and 2 more"
    )
    with pytest.raises(MissingError, match="'0' was saved; no node has a state here: check the folder"):
        Store(place, "other").context("0")


def test_a_node_whose_states_are_of_attempts_that_were_given_up(tmp_path: Path) -> None:
    store = fill(Store(tmp_path), 1)
    context = archive.Context(1, 2, {}, archive.RecordSet(), {})
    (tmp_path / "contexts/a").mkdir(parents=True)
    archive.save(context, tmp_path / "contexts/a/00000001-1-0123456789abcdef.h5")
    with pytest.raises(MissingError, match="no state of node 'a' belongs to this run as its newest round is"):
        store.context("a")
    with pytest.raises(MissingError, match=r"no state of node 'b' was saved; there are: 'a'$"):
        store.context("b")


@pytest.mark.parametrize("file", ["a.h5", "a/00000001-1.h5"])
def test_a_file_that_is_no_context_is_a_typed_error(tmp_path: Path, file: str) -> None:
    (tmp_path / "contexts/a").mkdir(parents=True)
    archive.save({"w": np.zeros(3)}, tmp_path / "contexts" / file)
    with pytest.raises(DamagedError, match="the file is not the state of node 'a': no Context was saved"):
        Store(tmp_path).context("a")


# The disk


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("no folder")
    with pytest.raises(StorageError):
        fill(Store(tmp_path / "run"), 1)
    with pytest.raises(StorageError):
        Store(tmp_path / "run").rounds()


def test_what_is_read_is_the_index_alone(tmp_path: Path) -> None:
    """History reads metrics of rounds whose every array byte is damaged."""
    fill(Store(tmp_path), 1, 2, 3, clients=2)
    for number in (1, 2, 3):
        damage(tmp_path, number)
    for path in tmp_path.rglob("client-*.h5"):
        data = bytearray(path.read_bytes())
        data[4096:4136] = b"\xff" * 40  # five int64, the first and only array
        path.write_bytes(data)
    assert Store(tmp_path).history()["loss"].tolist() == [1, 1 / 2, 1 / 3]
    assert len(Store(tmp_path).history(clients=True)["round"]) == 9
    assert not Store(tmp_path).verify(1)
    assert os.listdir(tmp_path) == ["rounds"]


# Experiments


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that is not there yet."""
    return str(tmp_path / "runs") if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def test_an_experiment_is_a_folder(place: str) -> None:
    fill(Store(place, "adam"), 1, 2)
    fill(Store(place, experiment="sgd"), 7)
    assert Store(place, "adam").rounds() == [1, 2]
    assert Store(f"{place}/sgd").rounds() == [7]
    assert Store(place, "adam").url == f"{place}/adam"
    with pytest.raises(ValueError, match="experiment must be the name of a folder"):
        Store(place, "a/b")


def test_the_only_experiment_opens_by_itself(place: str) -> None:
    store, early = Store(place), Store(place)
    assert early.rounds() == []
    fill(Store(place, "default"), 1, 2)
    fill(Store(f"{place}/notes/deeper"), 9)
    assert store.open("latest")["b"].numpy().tolist() == [2, 2, 2]
    assert store.url == f"{place}/default"
    assert early.rounds() == [1, 2], "a store that found nothing looks again"
    fill(store, 3)
    assert Store(place, "default").rounds() == [1, 2, 3]


def test_contexts_alone_are_a_run(place: str) -> None:
    Store(place, "clients").save_context("a", archive.Context(1, 2, {}, archive.RecordSet(), {}))
    assert Store(place).context("a").node_id == 2


def test_of_several_experiments_one_is_named(place: str) -> None:
    early = Store(place)
    for name in ("b", "a\x1b"):
        fill(Store(place, name), 1)
    for call in (early.rounds, early.history, lambda: fill(Store(place), 1), lambda: early.open("latest")):
        with pytest.raises(MissingError, match=r"several runs are here: 'a\\x1b', 'b'") as caught:
            call()
        assert caught.value.path == place
        assert caught.value.remedy == "name one of them, such as experiment='a\\x1b'"
    for number in range(30):
        fill(Store(place, f"c{number:02}"), 1)
    with pytest.raises(MissingError, match="'c17' and 12 more"):
        Store(place).rounds()


def test_the_folder_itself_is_the_run_where_it_has_rounds(place: str) -> None:
    store = fill(Store(place), 1)
    fill(Store(place, "inner"), 8)
    fill(Store(place, "another"), 9)
    assert Store(place).rounds() == store.rounds() == [1]


def test_a_store_that_saved_stays(place: str) -> None:
    store = Store(place)
    store.save(arrays(1), 1)
    fill(Store(place, "inner"), 8)
    assert store.rounds() == [1]
    assert store.url == place


def test_folders_that_are_no_experiments(tmp_path: Path) -> None:
    fill(Store(tmp_path, "run"), 1)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "gone").symlink_to("nothing")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "rounds").symlink_to(tmp_path / "run" / "rounds")
    assert Store(tmp_path).rounds() == [1]
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a").symlink_to("../elsewhere")
    assert Store(tmp_path / "runs").rounds() == [1], "a link to the folder of a run"
    with pytest.raises(StorageError):
        Store(tmp_path / "file").rounds()


def test_an_experiment_is_found_by_one_listing(server: S3Server) -> None:
    """Not by a request for each experiment; and a store of one run by the first page."""
    folder = uuid.uuid4().hex
    for name in "abc":
        fill(Store(f"s3://{BUCKET}/{folder}", name, storage_options=server.options()), 1)
    with Proxy(server.endpoint) as proxy:
        options = server.options(proxy.endpoint)
        for place, found in ((folder, None), (f"{folder}/a", [1])):
            store = Store(f"s3://{BUCKET}/{place}", storage_options=options)
            proxy.reset()
            if found is None:
                with pytest.raises(MissingError, match="'a', 'b', 'c'"):
                    store.rounds()
            else:
                assert store.rounds() == store.rounds() == found
            assert len(proxy.seen) == (1 if found is None else 3)


def test_a_store_that_nobody_may_list(server: S3Server) -> None:
    """Of a bucket one may have the right to read and write objects alone."""
    folder = f"s3://{BUCKET}/{uuid.uuid4().hex}"

    def deny(request: Request) -> Fault | None:
        if operation_of(request.method, request.target) != "ListObjectsV2":
            return None
        return Fault("denied", reply=page("<Error><Code>AccessDenied</Code></Error>", status=403))

    with Proxy(server.endpoint, deny) as proxy:
        store = Store(folder, storage_options=server.options(proxy.endpoint))
        store.save_context("a", archive.Context(1, 2, {}, archive.RecordSet(), {}))
        assert store.context("a").node_id == 2


# What a run shows of itself


def test_configs_of_a_round_and_of_a_client(tmp_path: Path) -> None:
    for background in (False, True):
        with Store(tmp_path / str(background), background=background) as store:
            store.save(arrays(1), 1, client="a", configs={"lr": 0.1})
            store.save(
                arrays(1), 1, metrics={"loss": 0.5}, configs={"run": {"seed": 7}, "app": {"name": "x"}}
            )
        configs: Any = store.open(1).records.configs_records
        assert configs == {"run": {"seed": 7}, "app": {"name": "x"}}
        assert store.open(1, client="a").records.configs_records == {"configs": {"lr": 0.1}}
        assert store.history()["seed"].tolist() == [7]


@pytest.mark.parametrize("name", ["fedarchive.checkpoint", "fedarchive.curve"])
@pytest.mark.parametrize("client", [None, "a"])
def test_the_names_of_the_store_are_its_own(tmp_path: Path, name: str, client: str | None) -> None:
    store = Store(tmp_path)
    records = archive.RecordDict({name: archive.ArrayRecord([np.ones(3)])})
    for saved, configs in ((arrays(1), {name: {"round": 2}}), (records, None)):
        with pytest.raises(ValueRangeError, match="a record of this name is the store's own") as caught:
            store.save(saved, 1, client=client, configs=configs)
        assert caught.value.key == name
    assert files(tmp_path) == []


def run_of(store: Store, losses: list[float]) -> Store:
    for number, loss in enumerate(losses, start=1):
        store.save(arrays(number), number, metrics={"fit": {"loss": loss, "n": number}, "each": {"x": [1.0]}})
    return store


LOSSES = [0.9, 0.0, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]


@pytest.mark.parametrize("again", [False, True])
def test_the_whole_curve_is_shown(tmp_path: Path, again: bool) -> None:
    """Whatever retention removed, and whether one store saved all rounds or each a store of its own."""
    options: dict[str, Any] = {"keep_last": 3, "best_by": "loss"}
    store = Store(tmp_path, **options)
    for number, loss in enumerate(LOSSES, start=1):
        store = Store(tmp_path, **options) if again else store
        store.save(arrays(number), number, metrics={"loss": loss, "n": number}, client=None)
    assert store.rounds() == [2, 8, 9, 10], "the best of all rounds stays"
    table = Store(tmp_path).history()
    assert list(table) == ["path", "run", "round", "kept", "created", "file_bytes", "arrays", "loss", "n"]
    assert table["round"].tolist() == table["n"].tolist() == list(range(1, 11))
    assert table["n"].dtype == np.int64
    assert table["loss"].tolist() == LOSSES
    assert np.flatnonzero(table["kept"]).tolist() == [1, 7, 8, 9]
    shown = [str(tmp_path / f"rounds/{n:08d}.h5") if n in (2, 8, 9, 10) else None for n in range(1, 11)]
    assert table["path"].tolist() == shown
    with Store(tmp_path).open("best") as best:
        assert best["b"].numpy().tolist() == [2, 2, 2]
        records: Any = best.records
        assert records.metrics_records == {"metrics": {"loss": 0.0, "n": 2}}
        assert not records.configs_records
    assert Store(tmp_path).prune() == [], "a store without best_by keeps the best too"


def test_the_curve_with_clients(tmp_path: Path) -> None:
    fill(Store(tmp_path, keep_last=1), 1, 2, 3, clients=2)
    table = Store(tmp_path).history(clients=True)
    assert table["round"].tolist() == [1, 2, 3, 3, 3]
    assert table["client"].tolist() == ["", "", "", "client-0", "client-1"]
    assert table["kept"].tolist() == [False, False, True, True, True]
    assert not [name for name in table if name.startswith("fedarchive")]
    assert not [name for name in archive.table(str(tmp_path / "rounds/*.h5")) if "curve" in name]


def test_metrics_that_come_and_go(tmp_path: Path) -> None:
    store = Store(tmp_path, keep_last=1)
    store.save(arrays(1), 1, metrics={"a": 1, "b": 0.5, "many": [1, 2]})
    store.save(arrays(3), 3)
    store.save(arrays(4), 4, metrics={"a": 2.5, "c": float("inf"), "large": 2**63})
    store.save(arrays(5), 5, metrics={"a": float("nan")})
    table = Store(tmp_path).history()
    assert table["round"].tolist() == [1, 3, 4, 5]
    np.testing.assert_array_equal(table["a"], [1, np.nan, 2.5, np.nan])
    np.testing.assert_array_equal(table["b"], [0.5, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(table["c"], [np.nan, np.nan, np.inf, np.nan])
    assert "many" not in table


def test_rewinding_rewinds_the_curve(place: str) -> None:
    store = run_of(Store(place), LOSSES)
    assert store.rewind(7) == [10, 9, 8]
    assert store.rounds() == Store(place).history()["round"].tolist() == list(range(1, 8))
    assert store.rewind(7) == []
    with pytest.raises(MissingError, match="there is no round 9"):
        store.rewind(9)
    pruning = Store(place, keep_last=2)
    pruning.save(arrays(8), 8, metrics={"fit": {"loss": 5.0, "n": 8}})
    assert pruning.rounds() == [7, 8]
    assert pruning.rewind(7) == [8]
    store.save(arrays(8), 8, metrics={"fit": {"loss": 6.0, "n": 8}})
    table = store.history()
    assert table["loss"].tolist() == [*LOSSES[:7], 6.0]
    assert table["kept"].tolist() == [False] * 6 + [True] * 2


def test_a_kill_while_rewinding_leaves_a_shorter_run(tmp_path: Path) -> None:
    """The newest rounds go first: a folder that cannot be removed stops it in between."""
    store = run_of(Store(tmp_path), LOSSES[:5])
    os.rename(tmp_path / "rounds/00000004.h5", tmp_path / "aside")
    (tmp_path / "rounds/00000004.h5").mkdir()
    (tmp_path / "rounds/00000004.h5/x").write_bytes(b"")
    with pytest.raises(StorageError):
        store._files.remove(4)
    assert store.rounds() == [1, 2, 3, 5]
    assert store.rewind(3) == [5]


def test_a_damaged_round_does_not_stop_the_curve(tmp_path: Path) -> None:
    run_of(Store(tmp_path), LOSSES[:3])
    place = tmp_path / "rounds/00000003.h5"
    place.write_bytes(place.read_bytes()[:-100])
    store = Store(tmp_path)
    store.save(arrays(4), 4, metrics={"fit": {"loss": 0.7, "n": 4}})
    store.remove(3)
    store.remove(1)
    assert store.history()["round"].tolist() == [1, 2, 4]


def test_a_curve_of_many_metrics(tmp_path: Path) -> None:
    """Names and values are datasets, from the second round on."""
    metrics = {f"metric-{number}": number / 2 for number in range(1200)}
    for number in range(1, 4):
        Store(tmp_path, keep_last=1).save({"w": np.zeros(1)}, number, metrics=metrics)
    table = Store(tmp_path).history()
    assert table["metric-999"].tolist() == [499.5] * 3
    assert np.isnan(table["metric-1000"]).tolist() == [True, True, False], "a curve has 1,000 columns"
    with Store(tmp_path).open(3) as opened:
        assert list(opened) == [("model", "w")]
        for records in (opened.records, opened.load(["w"]), pickle.loads(pickle.dumps(opened)).records):
            assert not records.config_records
    assert Store(tmp_path).verify(3)


def test_a_curve_of_thousands_of_rounds(tmp_path: Path) -> None:
    """Too large for attributes, and a dataset."""
    curve = Curve()
    for number in range(5000):
        curve = curve.after(number, {("metrics", "a"): number, ("metrics", "b"): number / 2})
    (tmp_path / "rounds").mkdir()
    marks = {CHECKPOINT: {"round": 5000, "clients": [], "digests": []}, CURVE: curve.values()}
    archive.save(arrays(1), tmp_path / "rounds/00005000.h5", metrics={"a": 5000}, configs=marks)
    store = Store(tmp_path, keep_last=1)
    assert store.history()["a"].tolist() == list(range(5001))
    store.save(arrays(1), 5001, metrics={"a": 5001})
    assert store.rounds() == [5001]
    table = store.history()
    assert table["a"].tolist() == list(range(5002))
    assert table["b"].tolist()[:5000] == [number / 2 for number in range(5000)]


@pytest.mark.parametrize(
    "change",
    [
        {"length": 2},
        {"rounds": b"123"},
        {"values": b""},
        {"records": ["m"]},
        {"keys": ["a"] * 9},
        {"integers": [1.5]},
    ],
)
def test_a_curve_that_is_malformed(tmp_path: Path, change: dict[str, Any]) -> None:
    """The digests match: somebody made it so."""
    curve = Curve().after(1, {("m", "a"): 1.0, ("m", "b"): 2.0})
    (tmp_path / "rounds").mkdir()
    marks = {CHECKPOINT: {"round": 2, "clients": [], "digests": []}, CURVE: curve.values() | change}
    archive.save(arrays(1), tmp_path / "rounds/00000002.h5", configs=marks)
    with pytest.raises(HostileFileError, match="the metrics of earlier rounds are malformed"):
        Store(tmp_path).history()
    assert "the metrics of earlier rounds are malformed" in str(Store(tmp_path).verify(2).failures)
    Store(tmp_path).save(arrays(3), 3)
    assert Store(tmp_path).open("latest")["b"].numpy().tolist() == [3, 3, 3]


def break_file(path: Path, how: str) -> None:
    """Do to a file what may happen, whatever its digests say."""
    data = path.read_bytes()
    if how == "folder of it":
        shutil.rmtree(path.parent)
        path.parent.write_bytes(b"")
        return
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "loop":
        path.symlink_to(path.name)
    elif how == "pipe":
        os.mkfifo(path)
    elif how != "gone":
        path.write_bytes(data)
        path.write_bytes({"cut": data[:500], "empty": b"", "newer": newer(path)}[how])


def newer(path: Path) -> bytes:
    """Return an archive as a later version of the format might write it."""
    crafted = Crafted(path)
    crafted.footer[8] = 9
    return crafted.assemble()


HOW = ["cut", "empty", "folder", "loop", "pipe", "newer"]


@pytest.mark.parametrize(
    ("file", "how"),
    [
        *(("00000002.h5", how) for how in HOW),
        *(("00000002/client-0.h5", how) for how in [*HOW, "gone", "folder of it"]),
    ],
)
def test_every_damage_is_a_report(tmp_path: Path, file: str, how: str) -> None:
    store = fill(Store(tmp_path), 1, 2, clients=2)
    break_file(tmp_path / "rounds" / file, how)
    report = store.verify(2)
    assert not report
    assert report.failures[0].startswith(f"rounds/{file}: ")
    assert store.verify(1)


def test_the_best_is_remembered(place: str) -> None:
    store = run_of(Store(place, best_by="fit/loss", keep_last=2), LOSSES[:3])
    assert Store(place).open("best")["b"].numpy().tolist() == [2, 2, 2]
    store = Store(place, keep_last=2)
    store.save(arrays(4), 4, metrics={"fit": {"loss": 0.4}})
    store.save(arrays(5), 5, metrics={"fit": {"loss": 0.4}})
    assert store.rounds() == [2, 4, 5], "the goal goes from round to round"
    assert Store(place, best_by=("n", "max")).open("best")["b"].numpy()[0] == 2
    assert Store(place).open("best")["b"].numpy()[0] == 2
    run_of(largest := Store(f"{place}-2", best_by=("loss", "max")), LOSSES[:3])
    assert largest.rounds() == [1, 2, 3]
    assert Store(f"{place}-2").open("best")["b"].numpy()[0] == 1


def test_nothing_says_which_is_the_best(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no round was saved"):
        Store(tmp_path).open("best")
    fill(Store(tmp_path), 1)
    with pytest.raises(ValueError, match='give the store best_by="loss" or'):
        Store(tmp_path).open("best")


def test_a_save_reads_nothing_of_the_round_before(server: S3Server) -> None:
    """What the next round takes over is kept in memory."""
    with Proxy(server.endpoint) as proxy:
        options = server.options(proxy.endpoint)
        store = Store(f"s3://{BUCKET}/{uuid.uuid4().hex}", "run", storage_options=options, best_by="loss")
        counts = []
        for number in (1, 2, 3):
            proxy.reset()
            fill(store, number)
            counts.append([f"{request.method} {request.target.count('list-type')}" for request in proxy.seen])
        assert counts[1] == counts[2]
        read = {request.target.rpartition("/")[2] for request in proxy.seen if request.method == "GET"}
        assert {name for name in read if "list-type" not in name} == {"00000003.h5", "catalogue.h5"}
