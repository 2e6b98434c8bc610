"""``fedarchive ls``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.cli import main


def listed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    assert main(["ls", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_one_line_an_array(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", str(saved)]) == 0
    told = capsys.readouterr().out
    assert told.replace("\n", "").isprintable()
    lines = [line.split() for line in told.splitlines()]
    assert lines[0] == ["model/fc.weight", "float32", "(3,4)", "numpy.ndarray", "48"]
    assert lines[1] == [r"model/evil\x1b[31m\n\u202e\x7f", "bfloat16", "(4,)", "numpy.ndarray", "8"]
    assert lines[2] == ["model/step", "int64", "()", "numpy.ndarray", "8"]
    assert lines[3] == ["model/empty", "float64", "(0,3)", "numpy.ndarray", "0"]
    assert lines[4] == ["model/opaque", "-", "()", "my.own", "3"]
    assert lines[5] == ["fit/loss", "metric", "nan"]
    assert lines[8] == ["fit/lr", "config", "0.1"]
    assert lines[-1][2].endswith("...")


def test_long_spells_values_and_offsets(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", str(saved), "--long"]) == 0
    told = capsys.readouterr().out
    assert "@4096" in told.splitlines()[0]
    assert "x" * 500 in told


def test_offsets_are_where_the_bytes_are(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weight = listed(capsys, saved)["arrays"][0]
    assert np.fromfile(saved, "f4", 12, offset=weight["offset"]).tolist() == list(range(12))


def test_json(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = listed(capsys, saved)
    assert list(told) == ["path", "arrays", "attributes", "metrics", "configs"]
    assert list(told["arrays"][0]) == ["record", "key", "dtype", "shape", "stype", "nbytes", "offset"]
    assert told["arrays"][1]["key"] == "evil\x1b[31m\n\u202e\x7f"
    assert told["metrics"] == [
        {"record": "fit", "key": "loss", "type": "float", "value": "nan"},
        {"record": "fit", "key": "accuracy", "type": "list[float]", "value": [0.5, "inf"]},
        {"record": "fit", "key": "n", "type": "int", "value": 3},
    ]
    assert told["configs"][1:3] == [
        {"record": "fit", "key": "blob", "type": "bytes", "value": "00ff"},
        {"record": "fit", "key": "none", "type": "list", "value": []},
    ]


def test_attributes_of_a_record(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = archive.ArrayRecord([np.zeros(2)])
    record.attributes.update(role="weights", evil="\x1b[2J")
    archive.save(record, saved)
    told = listed(capsys, saved)
    assert told["attributes"] == [
        {"record": "model", "key": "role", "type": "str", "value": "weights"},
        {"record": "model", "key": "evil", "type": "str", "value": "\x1b[2J"},
    ]
    assert main(["ls", str(saved)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["model/role", "attribute", "'weights'"]
    assert lines[2].isprintable()


def test_one_record_of_every_kind(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = listed(capsys, saved, "--record", "fit")
    assert told["arrays"] == []
    assert len(told["metrics"]) == 3
    assert len(told["configs"]) == 3


def test_no_such_record(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", str(saved), "--record", "modle"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "no record 'modle'" in told.err


def test_a_recorddict(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = archive.RecordDict(
        {"fit": archive.MetricRecord({"loss": 1}), "model": archive.ArrayRecord([np.zeros(2)])}
    )
    archive.save(records, saved)
    told = listed(capsys, saved)
    assert [(entry["record"], entry["key"]) for entry in told["arrays"]] == [("model", "0")]
    assert told["metrics"][0]["value"] == 1


def test_an_archive_without_records(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive.save(archive.RecordSet(), saved)
    assert main(["ls", str(saved)]) == 0
    assert capsys.readouterr().out == ""


def test_no_array_is_read(flipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", str(flipped)]) == 0
    assert "model/fc.weight" in capsys.readouterr().out


def test_foreign(edited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = listed(capsys, edited, "--foreign")
    assert told["arrays"][0]["key"] == "fc.weight"
    assert {entry["offset"] for entry in told["arrays"]} == {None}


def keys(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[str]:
    return [f"{entry['record']}/{entry['key']}" for entry in listed(capsys, *arguments)["arrays"]]


def test_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.h5"
    layers = {"encoder.w": np.zeros(4, "f4"), "encoder.b": np.zeros(9, "i1"), "head.w": np.zeros(1)}
    archive.save(layers, path, metrics={"loss": 0.5, "w": 1})
    assert keys(capsys, path, "--keys", "encoder.*") == ["model/encoder.w", "model/encoder.b"]
    assert keys(capsys, path, "--keys", "head.w", "--keys", "*.b") == ["model/encoder.b", "model/head.w"]
    told = listed(capsys, path, "--keys", "*/*w")
    assert [entry["key"] for kind in ("arrays", "metrics") for entry in told[kind]] == [
        "encoder.w",
        "head.w",
        "w",
    ]
    assert main(["ls", str(path), "--keys", "decoder.*"]) == 2
    assert "nothing matches 'decoder.*'" in capsys.readouterr().err


def test_orders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.h5"
    archive.save({"c": np.zeros(4, "f4"), "a": np.zeros(9, "i1"), "b": np.zeros(1, "f4")}, path)
    assert keys(capsys, path) == ["model/c", "model/a", "model/b"]
    assert keys(capsys, path, "--reverse") == ["model/b", "model/a", "model/c"]
    assert keys(capsys, path, "--sort", "size") == ["model/c", "model/a", "model/b"]
    assert keys(capsys, path, "--sort", "size", "--reverse") == ["model/b", "model/a", "model/c"]
    assert keys(capsys, path, "--sort", "name") == ["model/a", "model/b", "model/c"]
    assert keys(capsys, path, "--sort", "dtype") == ["model/b", "model/c", "model/a"]


def test_human_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive.save({"w": np.zeros(1 << 20)}, tmp_path / "m.h5", durable=False)
    assert main(["ls", str(tmp_path / "m.h5"), "--human"]) == 0
    assert capsys.readouterr().out.endswith("  8.0 MiB\n")
