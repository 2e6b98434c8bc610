"""``fedarchive show``."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import archive
from archive.cli import main
from tests.cli.conftest import Run

Captured = pytest.CaptureFixture[str]


def test_an_array(saved: Path, capsys: Captured) -> None:
    assert main(["show", str(saved), "fc.weight"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "array model/fc.weight"
    facts = {line.split()[0]: line.split()[1] for line in lines[1:13]}
    assert facts["dtype"] == "float32"
    assert (facts["count"], facts["max"], facts["std"]) == ("12", "11", "3.45205")
    assert lines[-3:] == ["[[ 0.,  1.,  2.,  3.],", " [ 4.,  5.,  6.,  7.],", " [ 8.,  9., 10., 11.]]"]


def test_a_large_array_is_shown_as_numpy_does(tmp_path: Path, capsys: Captured) -> None:
    values = np.arange(300 * 400.0).reshape(300, 400)
    archive.save({"w": values, "line": values[0], "deep": np.zeros((2,) * 30, "i1")[:1]}, tmp_path / "a.h5")
    for key, array in (("w", values), ("line", values[0])):
        assert main(["show", str(tmp_path / "a.h5"), key]) == 0
        with np.printoptions(threshold=0 if key == "w" else 1000):
            text = np.array2string(array, separator=", ", max_line_width=80)
        assert capsys.readouterr().out.endswith(f"\n\n{text}\n")
    archive.save({"deep": np.zeros((9,) * 6, "i1")}, tmp_path / "a.h5")
    assert main(["show", str(tmp_path / "a.h5"), "deep"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[:2] == ["0", "531441"]


def test_the_bars(tmp_path: Path, fedarchive: Run, environment: dict[str, str], capsys: Captured) -> None:
    archive.save({"n": np.array([1] * 8 + [2] * 3)}, tmp_path / "a.h5", durable=False)
    assert main(["show", str(tmp_path / "a.h5"), "n"]) == 0
    assert f"  1  8  {'█' * 40}\n  2  3  {'█' * 15}\n" in capsys.readouterr().out
    told = fedarchive("show", "a.h5", "n", env={**environment, "PYTHONIOENCODING": "ascii"})
    assert f"  1  8  {'#' * 40}\n  2  3  {'#' * 15}\n" in told.stdout
    assert told.stderr == ""


def test_a_slice(tmp_path: Path, capsys: Captured) -> None:
    values = np.arange(2000.0).reshape(50, 40)
    archive.save({"w": values}, tmp_path / "a.h5", durable=False)
    for text, part in (("0:5,:3", values[:5, :3]), ("-1,...", values[-1]), ("::25", values[::25])):
        assert main(["show", str(tmp_path / "a.h5"), "w", f"--slice={text}", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["elements"] == part.tolist()
        assert (told["count"], told["mean"], sum(told["histogram"]["counts"])) == (
            part.size,
            part.mean(),
            part.size,
        )
    for wrong in ("60,0", "0,0,0", "a", "0:1:0", ""):
        assert main(["show", str(tmp_path / "a.h5"), "w", f"--slice={wrong}"]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("fit/n", ["metric fit/n  int", "  3"]),
        ("accuracy", ["metric fit/accuracy  list[float]", "  0.5", "  inf"]),
        ("run/long", ["config run/long  str", f"  '{'x' * 500}'"]),
        ("name", ["config run/name  str", r"  'a\x1b[2Jb'"]),
        ("none", ["config fit/none  list", "  []"]),
    ],
)
def test_values_in_full(saved: Path, key: str, says: list[str], capsys: Captured) -> None:
    assert main(["show", str(saved), key]) == 0
    assert capsys.readouterr().out.splitlines() == says


def test_json(saved: Path, capsys: Captured) -> None:
    assert main(["show", str(saved), "blob", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    del told["path"]
    assert told == {"kind": "config", "record": "fit", "key": "blob", "type": "bytes", "value": "00ff"}
    assert main(["show", str(saved), "opaque", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["stype"], told["mean"], told["histogram"], told["elements"]) == ("my.own", None, None, None)
    assert main(["show", str(saved), "fc.weight", "--csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_every_type_is_shown(tmp_path: Path, capsys: Captured) -> None:
    arrays = {
        "bf": np.ones(3, ml_dtypes.bfloat16), "text": np.array(["a\x1b[2J"]), "complex": np.array([3 + 4j]),
        "time": np.array(["2026-01-01"], "M8[D]"), "fields": np.zeros(2, [("a", "i4"), ("b", "S3")]),
        "scalar": np.array(2.5), "empty": np.zeros((0, 2)), "bool": np.array([True]),
    }  # fmt: skip
    archive.save(arrays, tmp_path / "a.h5", durable=False)
    for key in arrays:
        for more in ([], ["--slice=..."]):
            assert main(["show", str(tmp_path / "a.h5"), key, *more]) == 0
            assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())
            assert main(["show", str(tmp_path / "a.h5"), key, *more, "--json"]) == 0
            json.loads(capsys.readouterr().out)


def test_names(saved: Path, flipped: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["show", str(saved), "no\x1b"]) == 2
    told = capsys.readouterr().err
    assert r"nothing is called 'no\x1b'" in told
    record = archive.MetricRecord({"n": 1})
    archive.save(archive.RecordDict({"a": record, "b": record}), tmp_path / "two.h5")
    assert main(["show", str(tmp_path / "two.h5"), "n"]) == 2
    assert "metric a/n, metric b/n" in capsys.readouterr().err
    for arguments in (["a/n"], ["n", "--record", "b"]):
        assert main(["show", str(tmp_path / "two.h5"), *arguments]) == 0
    assert main(["show", str(flipped), "fc.weight"]) == 1
    assert "model/fc.weight" in capsys.readouterr().err


def test_a_round_of_a_run(tmp_path: Path, capsys: Captured) -> None:
    store = archive.CheckpointStore(tmp_path / "run")
    for number in (1, 2):
        store.save({"w": np.full(2, number)}, number, metrics={"loss": number / 2})
    for arguments, wanted in ((["loss"], "  1.0"), (["loss", "--round", "1"], "  0.5"), (["w"], "[2, 2]")):
        assert main(["show", str(tmp_path / "run"), *arguments]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == wanted
