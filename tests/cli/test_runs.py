"""``fedarchive runs``, and what other commands do with the folder of a run."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import archive
from archive.checkpoints.writerlock import WriterLock
from archive.cli import main
from archive.errors import LockedError

if TYPE_CHECKING:
    from tests.servers.s3 import S3Server

Out = pytest.CaptureFixture[str]


def fill(url: str | Path, experiment: str | None, rounds: int = 5, **options: Any) -> archive.CheckpointStore:
    store = archive.CheckpointStore(url, experiment, keep_last=3, best_by="loss", **options)
    for number in range(1, rounds + 1):
        store.save({"c": np.full(3, number)}, number, client="Berlin")
        metrics = {"loss": abs(number - 2) / 4, "n": number}
        store.save({"w": np.full(4, number)}, number, metrics=metrics, configs={"lr": 0.1})
    store.save_context("Berlin", archive.Context(1, 2, {}, archive.RecordSet(), {}))
    return store


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs in a folder."""
    fill(tmp_path / "runs", "adam", 5)
    fill(tmp_path / "runs", "evil\x1b[31m", 3)
    return tmp_path / "runs"


def test_ls(runs: Path, capsys: Out) -> None:
    assert main(["runs", "ls", str(runs)]) == 0
    header, adam, evil = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header == ["run", "newest", "rounds", "damaged", "nodes", "client-files", "size", "best"]
    assert adam[:6] == ["adam", "5", "4", "0", "1", "1"]
    assert adam[-5:] == ["2", "(0)", "by", "min", "loss"]
    assert evil[0] == "evil\\x1b[31m"
    assert main(["runs", "ls", str(runs), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [run["experiment"] for run in told["runs"]] == ["adam", "evil\x1b[31m"]
    assert told["runs"][0]["rounds"] == [2, 3, 4, 5]
    assert told["runs"][0]["file_bytes"] == sum(p.stat().st_size for p in (runs / "adam").rglob("*.h5"))
    assert main(["runs", "ls", str(runs / "adam")]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == [".", "5", "4"]


def test_ls_beside_a_run_of_which_nothing_is_left(runs: Path, capsys: Out) -> None:
    (runs / "empty/rounds").mkdir(parents=True)
    assert main(["runs", "ls", str(runs)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[:2] for row in rows[1:3]] == [["adam", "5"], ["empty", "-"]]
    assert rows[2][-3:] == ["no", "round", "yet"]
    assert main(["runs", "show", str(runs / "empty")]) != 0


def test_of_a_run_without_a_round_nothing_is_invented(tmp_path: Path, capsys: Out) -> None:
    store = archive.CheckpointStore(tmp_path)
    for number in range(8):
        store.save_context(f"partition-{number}", archive.Context(1, 2, {}, archive.RecordSet(), {}))
    assert main(["info", str(tmp_path)]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["path", "rounds", "nodes", "client", "file"]
    assert lines[1] == ["rounds", "no round yet"]
    shown = ", ".join(f"partition-{number}" for number in range(5))
    assert lines[2] == ["nodes", f"with states  8 ({shown} and 3 more), files: 8"]
    assert lines[3] == ["client", "files       none"]


def test_damaged_rounds_are_marked(runs: Path, capsys: Out) -> None:
    rounds = [runs / f"adam/rounds/0000000{number}.h5" for number in (2, 3, 4, 5)]
    rounds[2].write_bytes(rounds[2].read_bytes()[:-9])
    assert main(["runs", "ls", str(runs)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:4] == ["adam", "5", "4", "1"]
    assert main(["runs", "show", str(runs / "adam")]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["damaged"] == "4 (unreadable metadata; fedarchive verify reads every byte)"
    for path in rounds:
        path.write_bytes(b"no archive")
    assert main(["runs", "show", str(runs / "adam")]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["damaged"].startswith("2-5 ")
    assert rows.keys().isdisjoint({"best", "keeps"}), "no round says so"


def test_show(runs: Path, capsys: Out) -> None:
    assert main(["runs", "show", str(runs), "--experiment", "adam"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["rounds"] == "2-5"
    assert lines["keeps"] == "the last 3"
    assert lines["client"].split() == ["files", "Berlin"]
    assert lines["nodes"].split(maxsplit=2) == ["with", "states", "1 (Berlin), files: 1"]
    assert main(["info", str(runs / "adam"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == [
        *("path", "experiment", "rounds", "damaged", "clients", "nodes", "contexts", "file_bytes", "saved"),
        *("best", "best_by", "best_value", "keep_last", "keep_every", "attempts", "resume"),
    ]
    assert (told["best"], told["best_by"], told["best_value"]) == (2, ["loss", "min"], 0.0)
    assert (told["attempts"], told["resume"]) == ([], {})


def test_attempts_of_a_resumable_server(tmp_path: Path, capsys: Out) -> None:
    store = archive.CheckpointStore(tmp_path)
    resume = {
        "version": 2,
        "token": "b" * 16,
        "ancestors": json.dumps([["a" * 16, 3]]),
        "identity": json.dumps({"name": "app\x1b", "publisher": "me", "federation": ""}),
        "nodes": json.dumps(["0", "1"]),
        "strategy": "FedAvg",
        "state": "{}",
    }
    store.save({"w": np.zeros(3)}, 4, configs={"fedarchive.resume": resume})
    assert main(["runs", "show", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"attempts           {'a' * 16} began the run, rounds to 3" in lines
    assert f"                   {'b' * 16} resumed after round 3, rounds to 4" in lines
    assert "strategy           FedAvg" in lines
    assert "identity           app\\x1b, me" in lines
    assert "nodes of newest    0, 1" in lines
    assert not [line for line in lines if line.startswith("state")]
    odd: list[dict[str, Any]] = [
        {"token": 7},
        {"ancestors": "[[1]]"},
        {"ancestors": "[" * 9999},
        {"ancestors": "?"},
    ]
    for change in [*odd, {"identity": "[" * 9999, "nodes": "{"}, {"identity": "7", "nodes": "null"}]:
        store.save({}, store.rounds()[-1] + 1, configs={"fedarchive.resume": resume | change})
        assert main(["runs", "show", str(tmp_path), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert len(told["attempts"]) == (0 if change in odd else 2)
        assert told["resume"]["strategy"] == "FedAvg"


def test_history(runs: Path, capsys: Out) -> None:
    assert main(["runs", "history", str(runs / "adam")]) == 0
    header, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header == ["round", "kept", "loss", "n", "lr"]
    assert rows == [
        *(["1", "no", "0.25", "1", "-"], ["2", "yes", "0", "2", "0.1"], ["3", "yes", "0.25", "3", "0.1"]),
        *(["4", "yes", "0.5", "4", "0.1"], ["5", "yes", "0.75", "5", "0.1"]),
    ]
    assert main(["runs", "history", str(runs / "adam"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["path"] == str(runs / "adam")
    assert told["columns"]["lr"] == ["nan", 0.1, 0.1, 0.1, 0.1]
    assert told["columns"]["path"][:2] == [None, str(runs / "adam/rounds/00000002.h5")]
    removed, kept = told["columns"]["created"][:2]
    assert removed is None
    with archive.open(runs / "adam/rounds/00000002.h5") as opened:
        assert kept == opened.info.created
        assert told["columns"]["file_bytes"][1] == opened.info.file_bytes


def test_ls_of_several_folders(runs: Path, tmp_path: Path, capsys: Out) -> None:
    fill(tmp_path / "other", None, 2)
    words = ["runs", "ls", str(runs / "adam"), str(tmp_path / "gone"), str(tmp_path / "other")]
    assert main(words) == 2
    told = capsys.readouterr()
    assert [line.split()[:2] for line in told.out.splitlines()[1:]] == [[words[2], "5"], [words[4], "2"]]
    assert told.err.startswith(f"fedarchive: {words[3]}: no ")
    assert told.err.count("\n") == 1
    assert main([*words, "--csv"]) == 2
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out, newline="")))
    assert [(row["path"], json.loads(row["rounds"]), row["best_value"]) for row in rows] == [
        (words[2], [2, 3, 4, 5], "0.0"),
        (words[4], [1, 2], "0.0"),
    ]
    assert main([*words, "--json"]) == 2
    told_json = json.loads(capsys.readouterr().out)
    assert [error["kind"] for error in told_json["errors"]] == ["MissingError"]
    assert len(told_json["runs"]) == 2


def test_history_as_csv(runs: Path, capsys: Out) -> None:
    adam = str(runs / "adam")
    store = archive.CheckpointStore(adam)
    store.save({"w": np.zeros(1)}, 6, metrics={"loss": 1 / 3}, configs={"note": "x" * 200, "list": [1, 2]})
    assert main(["runs", "history", adam, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out, newline="")))
    own = ["path", "run", "round", "kept", "created", "file_bytes", "arrays"]
    assert list(rows[0]) == [*own, "loss", "n", "lr", "note", "list"]
    assert (rows[0]["path"], rows[0]["kept"], rows[0]["lr"], rows[0]["note"]) == ("", "false", "nan", "")
    assert float(rows[-1]["loss"]) == 1 / 3
    assert (rows[-1]["note"], rows[-1]["list"]) == ("x" * 200, "[1, 2]")


def test_columns_and_clients_of_history(runs: Path, capsys: Out) -> None:
    adam = str(runs / "adam")
    assert main(["runs", "history", adam, "--columns", "n,loss"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == [["round", "n", "loss"], ["1", "1", "0.25"]]
    assert main(["runs", "history", adam, "--clients", "--columns", "loss", "--csv"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))
    assert rows[0] == ["round", "client", "loss"]
    assert ["5", "Berlin", "nan"] in rows
    assert main(["runs", "history", adam, "--columns", "accuracy"]) == 2
    assert (
        "no column 'accuracy'; there are: path, run, round, kept, created, file_bytes"
        in capsys.readouterr().err
    )
    assert main(["runs", "show", adam, "--clients"]) == 2
    assert "--clients, --columns, --errors, --workers and --dask are for history" in capsys.readouterr().err


@pytest.mark.slow
def test_workers_read_a_history(runs: Path, capsys: Out) -> None:
    (runs / "adam/catalogue.h5").unlink(missing_ok=True)  # so that files are read
    command = ["runs", "history", str(runs / "adam"), "--clients", "--csv"]
    assert main(command) == 0
    here = capsys.readouterr().out
    assert main([*command, "--workers", "2"]) == 0
    assert capsys.readouterr().out == here
    assert main(["runs", "ls", str(runs), "--workers", "2"]) == 2
    assert "--workers and --dask are for history" in capsys.readouterr().err


def test_history_goes_on_where_a_client_is_gone(runs: Path, capsys: Out) -> None:
    adam, gone = str(runs / "adam"), runs / "adam/rounds/00000004/Berlin.h5"
    gone.unlink()
    assert main(["runs", "history", adam, "--clients", "--columns", "loss", "--csv"]) == 2
    told = capsys.readouterr()
    rows = list(csv.reader(io.StringIO(told.out, newline="")))
    assert [row[:2] for row in rows if row[0] in ("3", "4")] == [["3", ""], ["3", "Berlin"], ["4", ""]]
    assert told.err.count(str(gone)) == 1
    assert (
        main(["runs", "history", adam, "--clients", "--columns", "loss", "--errors", "column", "--csv"]) == 2
    )
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))
    assert rows[0] == ["round", "client", "error", "loss"]
    [row] = [row for row in rows if row[:2] == ["4", "Berlin"]]
    assert str(gone) in row[2]
    assert main(["runs", "history", adam, "--clients", "--errors", "raise"]) == 2
    assert capsys.readouterr().out == ""


def test_rm_and_rewind(runs: Path, capsys: Out) -> None:
    store, folder = archive.CheckpointStore(runs, "adam"), str(runs / "adam")
    for words in (["rm", folder, "5"], ["rewind", folder, "4"]):
        assert main(["runs", *words]) == 2, "nobody can be asked"
        assert "nothing was removed" in capsys.readouterr().err
    for words in (["rm", folder, "1", "5"], ["rewind", folder, "9"], ["rewind", folder, "1"]):
        assert main(["runs", *words, "--yes"]) == 2
        assert "there is no round" in capsys.readouterr().err
    assert main(["runs", "rm", folder, "1", "9", "--yes"]) == 2
    assert "there are no rounds 1, 9; there are 2-5" in capsys.readouterr().err
    assert main(["runs", "rm", folder, "5"]) == 2
    assert "rm would remove round 5 of" in capsys.readouterr().err
    assert main(["runs", "rewind", folder, "3"]) == 2
    assert "rewind would remove rounds 4, 5 of" in capsys.readouterr().err
    for words in (["rm", folder], ["rewind", folder], ["rewind", folder, "2", "3"], ["show", folder, "2"]):
        assert main(["runs", *words, "--yes"]) == 2
        assert "takes" in capsys.readouterr().err
    assert main(["runs", "rm", folder, "two", "--yes"]) == 2
    assert "a round is a number, not 'two'" in capsys.readouterr().err
    assert store.rounds() == [2, 3, 4, 5]
    assert main(["runs", "rewind", folder, "3", "--yes"]) == 0
    assert capsys.readouterr().out == f"{folder}: removed 4, 5\n"
    assert store.rounds() == [2, 3]
    assert main(["runs", "rewind", folder, "3"]) == 0
    assert capsys.readouterr().out == f"{folder}: removed nothing\n"
    assert main(["runs", "rm", str(runs), "2", "--experiment", "adam", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": folder, "removed": [2]}
    assert store.rounds() == [3]
    assert sorted(p.name for p in (runs / "adam").rglob("*.h5")) == ["00000003.h5", "Berlin.h5", "Berlin.h5"]


def test_a_run_is_not_rewound_while_a_server_runs_it(runs: Path, capsys: Out) -> None:
    store, rewind = (
        archive.CheckpointStore(runs, "adam"),
        ["runs", "rewind", str(runs / "adam"), "3", "--yes"],
    )
    with WriterLock(runs / "adam", owner="FedAvg"):
        assert main(rewind) == 2
        assert "another process writes this run" in capsys.readouterr().err
        with pytest.raises(LockedError, match="another process writes this run"):
            store.rewind(3)
        assert store.rounds() == [2, 3, 4, 5]
    assert main(rewind) == 0
    assert store.rounds() == [2, 3]


@pytest.mark.parametrize(("answer", "kept"), [("y", [2, 3]), ("n", [2, 3, 4, 5]), ("", [2, 3, 4, 5])])
def test_a_terminal_is_asked(
    runs: Path, command: list[str], environment: dict[str, str], answer: str, kept: list[int]
) -> None:
    terminal, other = pty.openpty()
    process = subprocess.Popen(
        [*command, "runs", "rewind", str(runs / "adam"), "3"],
        env=environment,
        stdin=other,
        stdout=subprocess.PIPE,
        stderr=other,
    )
    os.close(other)
    asked = b""
    while b"[y/N] " not in asked:
        asked += os.read(terminal, 1000)
    assert f"remove rounds 4, 5 of {runs / 'adam'}?".encode() in asked
    os.write(terminal, answer.encode() + b"\n")
    process.communicate()
    os.close(terminal)
    assert process.returncode == (0 if answer == "y" else 2)
    assert archive.CheckpointStore(runs, "adam").rounds() == kept


def test_folders_without_a_run(tmp_path: Path, capsys: Out) -> None:
    (tmp_path / "empty").mkdir()
    for action in ("ls", "show"):
        for folder in ("empty", "gone"):
            assert main(["runs", action, str(tmp_path / folder)]) == 2
            assert capsys.readouterr().err.startswith(f"fedarchive: {tmp_path / folder}: no ")
    for command in ("info", "ls", "verify"):
        assert main([command, str(tmp_path / "empty")]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_of_several_runs_one_is_named(runs: Path, capsys: Out) -> None:
    remedies = {"runs": "--experiment adam", "info": f"{runs}/adam", "ls": f"{runs}/adam"}
    for words in (["runs", "show"], ["runs", "history"], ["info"], ["ls"]):
        assert main([*words, str(runs)]) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"fedarchive: {runs}: several runs are here: 'adam', 'evil")
        assert told.endswith(f"; name one of them, such as {remedies[words[0]]}\n")


def test_ls_of_a_run_lists_its_newest_round(runs: Path, capsys: Out) -> None:
    assert main(["ls", str(runs / "adam")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model/w", "int64", "(4,)", "numpy.ndarray", "32"]
    assert [line.split()[0] for line in lines[1:]] == ["metrics/loss", "metrics/n", "configs/lr"]
    assert main(["ls", str(runs / "adam"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(runs / "adam/rounds/00000005.h5")


def test_a_round_and_a_client_of_it(runs: Path, capsys: Out) -> None:
    adam = str(runs / "adam")
    for command, words, file in (
        ("ls", ["--round", "3"], "rounds/00000003.h5"),
        ("ls", ["--round", "best"], "rounds/00000002.h5"),
        ("ls", ["--round", "4", "--client", "Berlin"], "rounds/00000004/Berlin.h5"),
        ("info", ["--client", "Berlin"], "rounds/00000005/Berlin.h5"),
    ):
        assert main([command, adam, *words, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["path"] == f"{adam}/{file}"
    file = str(runs / "adam/rounds/00000003.h5")
    for words, says in (
        ([adam, "--round", "1"], "no round 1"),
        ([adam, "--client", "Paris"], "Paris"),
        ([file, "--round", "3"], "--round is for runs"),
        ([file, "--client", "Berlin"], "--client is for runs"),
        ([adam, "--round", "newest"], "a number, or best"),
    ):
        assert main(["ls", *words]) == 2
        told = capsys.readouterr().err
        assert says in told
        assert told.count("\n") == 1


def test_verify_reads_every_file_of_a_run(runs: Path, capsys: Out) -> None:
    assert main(["verify", str(runs / "adam")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{runs / 'adam'}: round 2: ok, 2 files"
    assert len(lines) == 6
    assert lines[-1] == "all 5 are ok"
    assert lines[4].startswith(f"{runs / 'adam/contexts/Berlin.h5'}: ok")
    assert main(["verify", str(runs), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [entry["round"] for entry in told["rounds"]] == [2, 3, 4, 5, 1, 2, 3]
    assert len(told["files"]) == 2


@pytest.mark.parametrize("file", ["rounds/00000004.h5", "rounds/00000004/Berlin.h5", "contexts/Berlin.h5"])
@pytest.mark.parametrize("cut", [False, True])
def test_verify_of_a_run_reports_damage(runs: Path, capsys: Out, file: str, cut: bool) -> None:
    path = runs / "adam" / file
    data = bytearray(path.read_bytes())
    data[-20 if cut else len(data) // 2] ^= 1
    path.write_bytes(data[: len(data) // 2] if cut else data)
    assert main(["verify", str(runs / "adam")]) == 1
    told = capsys.readouterr()
    assert f"{path}: " in told.out + told.err
    whose = f"{runs / 'adam'}: round 4" if "rounds" in file else str(path)
    assert told.out.splitlines()[-1] == f"1 of 5 is not ok: {whose}"
    assert main(["verify", str(runs / "adam"), "--json"]) == 1
    assert not json.loads(capsys.readouterr().out)["ok"]
    assert main(["runs", "ls", str(runs)]) == 0
    assert main(["runs", "show", str(runs / "adam")]) == 0


def test_a_bucket(server: S3Server, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.servers.s3 import BUCKET

    folder = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    fill(folder, "adam", 4, storage_options=server.options())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret)
    options = ["-o", f"endpoint_url={server.endpoint}"]
    assert main(["runs", "ls", folder, *options]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["adam", "4", "3"]
    for words in (["runs", "show"], ["runs", "history"], ["info"], ["ls"], ["verify"]):
        assert main([*words, folder, *options]) == 0
    assert "round 4: ok, 2 files" in capsys.readouterr().out
    assert main(["verify", f"{folder}/adam/rounds/00000004.h5", *options]) == 0
