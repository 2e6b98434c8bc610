"""Paths, patterns, folders and prefixes as words of info, ls and verify."""

from __future__ import annotations

import csv
import io
import json
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import archive
from archive.cli import main

if TYPE_CHECKING:
    from tests.servers.s3 import S3Server

Out = pytest.CaptureFixture[str]
READERS = ["info", "ls", "verify"]


@pytest.fixture
def day(tmp_path: Path, saved: Path) -> Path:
    """Six archives in two folders, a hidden one and notes."""
    for number in range(6):
        place = tmp_path / f"day/{'ab'[number % 2]}/{number}.h5"
        place.parent.mkdir(parents=True, exist_ok=True)
        archive.save({"w": np.zeros(number + 1)}, place, durable=False)
    shutil.copy(saved, tmp_path / "day/.hidden.h5")
    (tmp_path / "day/notes.txt").write_text("no archive")
    return tmp_path / "day"


def paths_of(capsys: Out, *words: str | Path, code: int = 0) -> list[str]:
    """Return the paths that a command has rows for."""
    assert main([*map(str, words), "--csv"]) == code
    return [row["path"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out, newline=""))]


@pytest.mark.parametrize("name", READERS)
def test_what_words_mean(name: str, day: Path, capsys: Out) -> None:
    every = [
        f"{day}/{folder}/{number}.h5"
        for folder, numbers in (("a", "024"), ("b", "135"))
        for number in numbers
    ]
    assert paths_of(capsys, name, day) == every
    assert paths_of(capsys, name, day / "*/*.h5") == every
    assert paths_of(capsys, name, day / "**/[12].h5") == [every[1], every[3]]
    assert paths_of(capsys, name, day / "b", every[0], day / "a/2*") == [*every[3:], every[0], every[1]]


@pytest.mark.parametrize("name", READERS)
def test_a_name_with_brackets_is_a_name(name: str, day: Path, capsys: Out) -> None:
    odd = day / "a/x[12].h5"
    shutil.copy(day / "a/0.h5", odd)
    for word in (odd, f"file://{day}/a/0.h5"):
        assert main([name, str(word), "--json"]) == 0
        assert "archives" not in json.loads(capsys.readouterr().out), "one, in full"
    assert set(paths_of(capsys, name, odd)) == {str(odd)}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("word", "says"), [("*/x*.h5", "no file matches this pattern"), ("c", "the folder has no archive")]
)
def test_a_word_that_means_nothing(name: str, word: str, says: str, day: Path, capsys: Out) -> None:
    (day / "c").mkdir()
    assert main([name, str(day / word)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert says in told.err
    assert told.err.count("\n") == 1
    assert main([name, str(day / word), str(day / "a")]) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert "a/4.h5" in told.out, "the rest is there"


@pytest.fixture
def rounds(day: Path, cut: Path) -> str:
    """A pattern of 420 archives: one is damaged, one is missing."""
    for number in range(418):
        shutil.copy(day / "a/0.h5", day / f"a/round-{number:03}.h5")
    shutil.copy(cut, day / "a/round-200.h5")
    (day / "a/round-418.h5").symlink_to("gone.h5")
    shutil.copy(day / "a/0.h5", day / "a/round-419.h5")
    return f"{day}/a/round-*.h5"


@pytest.mark.parametrize("name", READERS)
def test_one_damaged_and_one_missing_of_420(name: str, rounds: str, day: Path, capsys: Out) -> None:
    assert main([name, rounds]) == 1
    told = capsys.readouterr()
    damaged, missing = told.err.splitlines()
    assert f"{day}/a/round-200.h5: the file has" in damaged
    assert f"{day}/a/round-418.h5: no such file" in missing
    assert sum(line.count(".h5") == 1 for line in told.out.splitlines()) == 418
    if name == "verify":
        last = told.out.splitlines()[-1]
        assert last == f"2 of 420 are not ok: {day}/a/round-200.h5, {day}/a/round-418.h5"


@pytest.mark.parametrize("name", READERS)
def test_json_names_both(name: str, rounds: str, day: Path, capsys: Out) -> None:
    assert main([name, rounds, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    errors = document.get("errors") or [
        {"path": one["path"], **one["error"]} for one in document["files"] if one["error"]
    ]
    assert [(one["path"], one["kind"]) for one in errors] == [
        (f"{day}/a/round-200.h5", "TruncatedError"),
        (f"{day}/a/round-418.h5", "MissingError"),
    ]


def test_a_flipped_byte_among_many_is_named(day: Path, flipped: Path, capsys: Out) -> None:
    shutil.copy(flipped, day / "a/x.h5")
    assert main(["verify", str(day)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"{day}/a/x.h5: model/fc.weight: segment 0, at byte 4096: does not match its digest" in lines
    assert sum(": ok, " in line for line in lines) == 6


def test_overview(day: Path, capsys: Out) -> None:
    assert main(["ls", str(day), "--sort", "size"]) == 0
    header, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header == ["path", "arrays", "bytes", "created", "container"]
    assert len(rows) == 6
    assert (rows[0][1], rows[0][-1]) == ("1", "recordset")
    assert main(["ls", str(day), "--sort", "name", "--reverse", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [Path(one["path"]).name for one in told["archives"]] == [f"{n}.h5" for n in (5, 3, 1, 4, 2, 0)]
    assert told["errors"] == []


def test_runs_among_several(day: Path, capsys: Out) -> None:
    store = archive.CheckpointStore(day.with_name("run"))
    for number in (1, 2):
        store.save({"w": np.zeros(3)}, number)
    words = [str(day / "a/0.h5"), str(day.with_name("run"))]
    newest = str(day.with_name("run") / "rounds/00000002.h5")
    assert paths_of(capsys, "info", *words) == [words[0], newest]
    assert paths_of(capsys, "ls", *words) == [words[0], newest]
    assert paths_of(capsys, "verify", *words) == [words[0], words[1], words[1]]
    assert paths_of(capsys, "info", *words, "--round", "1", code=2) == [newest.replace("2.h5", "1.h5")]


def test_what_is_in_each(day: Path, capsys: Out) -> None:
    assert main(["ls", str(day / "a"), "--keys", "w"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"{day}/a/0.h5:", "model/w  float64  (1,)  numpy.ndarray  8"]
    assert main(["ls", str(day / "a"), "--record", "model", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["arrays"][0]["shape"] for one in told["archives"]] == [[1], [3], [5]]


def test_prefixes_and_patterns_of_a_bucket(
    server: S3Server, saved: Path, cut: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    from archive.tools import copy
    from tests.servers.s3 import BUCKET

    folder = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    options: dict[str, Any] = server.options()
    for number in range(3):
        copy(saved, f"{folder}/day/{number}.h5", out_options=options)
    copy(saved, f"{folder}/model", out_options=options)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret)
    endpoint = ["-o", f"endpoint_url={server.endpoint}"]
    every = [f"{folder}/day/{number}.h5" for number in range(3)]
    for name in READERS:
        assert paths_of(capsys, name, f"{folder}/day", *endpoint) == every
        assert paths_of(capsys, name, f"{folder}/day/[01].h5", *endpoint) == every[:2]
        assert set(paths_of(capsys, name, f"{folder}/model", *endpoint)) == {f"{folder}/model"}, (
            "a name without .h5"
        )
        assert main([name, f"{folder}/gone", *endpoint]) == 2
        assert "no such" in capsys.readouterr().err
        assert main([name, f"{folder}/*/x*.h5", *endpoint]) == 2
        assert "no file matches" in capsys.readouterr().err


def test_a_question_mark_in_a_url_is_no_pattern(saved: Path, capsys: Out) -> None:
    from tests.servers.web import web_server

    with web_server() as web:
        web.place("good.h5", saved.read_bytes())
        for name in READERS:
            url = f"{web.endpoint}/plain/good.h5?X-Signature=abc"
            assert main([name, url]) == 0
            assert "abc" not in capsys.readouterr().out
            assert main([name, url, str(saved)]) == 0
            assert "abc" not in capsys.readouterr().out
        assert main(["info", url, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["arrays"] == 5, "one, in full"


@pytest.mark.parametrize("command", [*READERS, "stats"])
def test_a_name_that_the_system_refuses_stops_nothing(day: Path, capsys: Out, command: str) -> None:
    whole, refused = day / "a/0.h5", day / ("n" * 300 + ".h5")
    assert main([command, str(refused), str(whole), "--csv"]) == 2
    found = capsys.readouterr()
    assert str(whole) in {row["path"] for row in csv.DictReader(io.StringIO(found.out, newline=""))}
    assert found.err.count("\n") == 1
    assert "File name too long" in found.err
