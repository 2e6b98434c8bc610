"""``fedarchive stats``."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

import archive
from archive.cli import main
from tests.cli.conftest import model

Captured = pytest.CaptureFixture[str]


def test_one_line_an_array(saved: Path, capsys: Captured) -> None:
    assert main(["stats", str(saved)]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == [
        "array", "dtype", "shape", "count", "min", "max", "mean", "std", "norm", "zeros", "nan", "inf"
    ]  # fmt: skip
    by_name = {line.split()[0]: line.split()[1:] for line in lines}
    assert by_name["model/fc.weight"] == [
        "float32", "(3,4)", "12", "0", "11", "5.5", "3.45205", "22.4944", "1", "0", "0"
    ]  # fmt: skip
    assert by_name["model/opaque"][2:] == ["1", *"-" * 8]
    assert any(line.startswith(r"model/evil\x1b[31m\n\u202e\x7f  bfloat16") for line in lines)
    assert all(line.isprintable() for line in lines)


def test_json_and_csv(saved: Path, capsys: Captured) -> None:
    assert main(["stats", str(saved), "--json", "--keys", "fc.*", "--keys", "empty"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (list(told), told["errors"]) == (["arrays", "errors"], [])
    weight, empty = told["arrays"]
    assert (weight["key"], weight["shape"], weight["max"], weight["zeros"]) == ("fc.weight", [3, 4], 11, 1)
    assert (empty["count"], empty["mean"], empty["run"], empty["error"]) == (0, "nan", None, None)
    assert main(["stats", str(saved), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["key"] for row in rows] == list(model().parameters_records["model"])
    assert (rows[0]["mean"], rows[0]["shape"], rows[-1]["mean"]) == ("5.5", "[3, 4]", "")


def test_nan_and_order(tmp_path: Path, capsys: Captured) -> None:
    arrays = {
        "b": np.array([1.0, np.nan]),
        "a": np.array([5.0]),
        "c": np.array([np.inf, 9.0]),
        "t": np.array(["x"]),
    }
    archive.save(arrays, tmp_path / "a.h5", durable=False)

    def keys(*arguments: str) -> str:
        assert main(["stats", str(tmp_path / "a.h5"), "--json", *arguments]) == 0
        return "".join(row["key"] for row in json.loads(capsys.readouterr().out)["arrays"])

    assert keys("--nan") == "bc"
    assert main(["stats", str(tmp_path / "a.h5"), "--nan", "--keys", "a"]) == 0
    assert capsys.readouterr().out == "no NaN and no infinity in 1 array\n"
    assert keys("--sort", "max") == "cabt"
    assert keys("--sort", "key") == "abct"
    assert keys("--sort", "key", "--reverse") == "tcba"


def test_several_archives_and_damage(saved: Path, flipped: Path, tmp_path: Path, capsys: Captured) -> None:
    paths = [str(saved), str(flipped), str(tmp_path / "nowhere.h5")]
    assert main(["stats", *paths, "--json"]) == 1
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert {row["path"] for row in found["arrays"]} == {str(saved)}
    assert [(error["path"], error["kind"]) for error in found["errors"]] == [
        (str(flipped), "DigestError"), (paths[2], "MissingError")
    ]  # fmt: skip
    assert "model/fc.weight" in told.err
    assert "nowhere.h5" in told.err
    assert main(["stats", *paths, "--errors", "column", "--csv"]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["path"] for row in rows if row["error"]] == paths[1:]
    assert main(["stats", *paths[1:], "--errors", "raise"]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert main(["stats", paths[2]]) == 2


def test_a_run_and_its_rounds(tmp_path: Path, capsys: Captured) -> None:
    store = archive.CheckpointStore(tmp_path / "run")
    for number in (1, 2):
        store.save({"w": np.full(2, number)}, number)
    for arguments, mean in (([], 2), (["--round", "1"], 1)):
        assert main(["stats", str(tmp_path / "run"), "--json", *arguments]) == 0
        (row,) = json.loads(capsys.readouterr().out)["arrays"]
        assert (row["run"], row["round"], row["mean"]) == ("run", mean, mean)
    assert main(["stats", str(tmp_path / "run/rounds")]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["path", "round", "array"]
    assert len(lines) == 2


def test_no_nan_in_a_run_says_what_was_not_read(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = archive.CheckpointStore("runs/adam", check="off")
    store.save({"w": np.array([np.nan])}, 1, client="Oslo")
    store.save({"w": np.zeros(2)}, 1)
    for folder in ("runs", "runs/adam/"):
        assert main(["stats", folder, "--nan"]) == 0
        said = capsys.readouterr().out
        pattern = "runs/adam/rounds/**/*.h5"
        assert said.startswith("no NaN and no infinity in 1 array, the global model of one round; ")
        assert f"'{pattern}'" in said
    assert main(["stats", pattern, "--nan", "--json"]) == 0
    assert [row["client"] for row in json.loads(capsys.readouterr().out)["arrays"]] == ["Oslo"]
    assert main(["stats", "runs", "--client", "Oslo", "--nan", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["arrays"]) == 1


def test_no_such_key(saved: Path, capsys: Captured) -> None:
    assert main(["stats", str(saved), "--keys", "no\x1b*"]) == 2
    told = capsys.readouterr().err
    assert r"no\x1b*" in told
    assert "\x1b" not in told
