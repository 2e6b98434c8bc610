"""``fedarchive diff``: the exit codes of diff(1), two rounds of a run, and hostile names."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

import archive
from archive.cli import main

Captured = pytest.CaptureFixture[str]
EVIL = "evil\x1b[31m\n"


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    """Two archives that differ in an array and a metric."""
    for name, last in (("a", 3.0), ("b", 4.0)):
        arrays = {EVIL: np.array([1.0, 2.0, last]), "same": np.zeros(2), f"only {name}": np.ones(1)}
        archive.save(arrays, tmp_path / f"{name}.h5", metrics={"loss": last}, durable=False)
    return [str(tmp_path / "a.h5"), str(tmp_path / "b.h5")]


def test_what_differs(pair: list[str], capsys: Captured) -> None:
    assert main(["diff", *pair]) == 1
    told = capsys.readouterr().out
    assert all(line.isprintable() for line in told.splitlines())
    assert r"model/evil\x1b[31m\n: 1 of 3 elements differ; max abs 1, max rel 0.25" in told
    assert "- model/only a" in told
    assert "+ model/only b" in told
    assert "metrics/metrics/loss: 3.0 -> 4.0" in told


def test_equal_archives(pair: list[str], capsys: Captured) -> None:
    assert main(["diff", pair[0], pair[0]]) == 0
    assert capsys.readouterr().out.endswith("equal: 3 arrays\n")
    assert main(["diff", pair[0], pair[0], "--brief"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["diff", *pair, "--keys", "same"]) == 0
    assert main(["diff", *pair, "--keys", "*evil*", "--atol", "1"]) == 0
    assert main(["diff", *pair, "--keys", "*evil*", "--rtol", "0.2"]) == 1


def test_brief(pair: list[str], capsys: Captured) -> None:
    assert main(["diff", *pair, "-q"]) == 1
    assert capsys.readouterr().out == f"{pair[0]} and {pair[1]} differ\n"


def test_json_and_csv(pair: list[str], capsys: Captured) -> None:
    assert main(["diff", *pair, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["a", "b", "equal", "same", "only_a", "only_b", "changed", "values"]
    assert (told["a"], told["equal"], told["same"]) == (pair[0], False, 1)
    assert told["only_b"] == [{"record": "model", "key": "only b"}]
    (change,) = told["changed"]
    assert (change["key"], change["differs"], change["max_abs"]) == (EVIL, ["values"], 1)
    assert told["values"] == [{"kind": "metrics", "record": "metrics", "key": "loss", "a": 3.0, "b": 4.0}]
    assert main(["diff", *pair, "--csv"]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["what"] for row in rows] == ["only_a", "only_b", "array", "value"]
    assert (rows[2]["norm"], rows[3]["b"]) == ("1.0", "4.0")


def test_what_was_not_compared_is_null(tmp_path: Path, capsys: Captured) -> None:
    paths = [str(tmp_path / f"{number}.h5") for number in (1, 2)]
    for number, path in enumerate(paths, start=1):
        archive.save({"w": np.ones(number)}, path, durable=False)
    assert main(["diff", *paths, "--json"]) == 1
    (change,) = json.loads(capsys.readouterr().out)["changed"]
    assert (change["compared"], change["max_abs"], change["shape"]) == (False, None, [[1], [2]])


def test_trouble(pair: list[str], saved: Path, flipped: Path, cut: Path, capsys: Captured) -> None:
    """Damage is 2 here: 1 says that archives differ."""
    archive.save({"fc.weight": np.ones((3, 4), "f4")}, pair[0])
    for arguments, says in (
        ([pair[0], str(cut)], "cut.h5"),
        ([pair[0], "nowhere.h5"], "no such file"),
        ([pair[0]], "nothing to compare"),
        ([pair[0], str(flipped)], "model/fc.weight"),
        ([*pair, "--keys", "nothing"], "nothing"),
        ([*pair, "--rtol", "-1"], "at least 0"),
        ([*pair, "--round", "1,2"], "--round is for runs"),
        ([*pair, "--round", "1,2,3"], "one round or two"),
    ):
        assert main(["diff", *arguments]) == 2, arguments
        told = capsys.readouterr()
        assert says in told.err
        assert told.err.count("\n") == 1


def test_rounds_of_a_run(tmp_path: Path, pair: list[str], capsys: Captured) -> None:
    run, same = str(tmp_path / "run"), str(tmp_path / "same")
    for folder in (run, same):
        store = archive.CheckpointStore(folder)
        for number in (6, 7):
            store.save({"g": np.ones(2)}, number, client="c")
            store.save({"w": np.full(2, number)}, number)
    assert main(["diff", run, "--round", "6,7", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [Path(told[side]).name for side in "ab"] == ["00000006.h5", "00000007.h5"]
    assert (told["changed"][0]["max_abs"], told["values"]) == (1, [])
    assert main(["diff", run, same]) == 0
    assert main(["diff", run, same, "--round", "6"]) == 0
    assert main(["diff", run, same, "--round", "6,7"]) == 1
    assert main(["diff", run, "--round", "6,7", "--client", "c"]) == 0
    assert main(["diff", run, pair[0], "--round", "6"]) == 1
    assert main(["diff", run, "--round", "6,8"]) == 2
    assert main(["diff", run]) == 2
