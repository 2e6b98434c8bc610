"""CSV that every reader takes, and tracebacks that were asked for."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import archive
from archive.cli import main
from archive.cli.output import csv_field, print_csv
from tests.cli.terminal import on_terminal

Out = pytest.CaptureFixture[str]
# the csv module of Python 3.10 takes no zero byte
TEXT = st.text() if sys.version_info >= (3, 11) else st.text(st.characters(exclude_characters="\0"))


def table(text: str) -> list[dict[str, str]]:
    """Return the rows of CSV; every line has as many fields as the header."""
    assert text.endswith("\r\n")
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def of(capsys: Out, *words: str | Path, code: int = 0) -> list[dict[str, str]]:
    assert main([*map(str, words), "--csv"]) == code
    return table(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (0.1, "0.1"),
        (np.float64(1e300), "1e+300"),
        (np.float32(0.5), "0.5"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (2**80, str(2**80)),
        (True, "true"),
        (np.False_, "False"),
        (None, ""),
        (b"\x00\xff", "00ff"),
        ([1, [None, float("nan")]], '[1, [null, "nan"]]'),
        ({"a": b"\x01"}, '{"a": "01"}'),
        ("=1+1", "=1+1"),
        ("  a\x1b\n", "  a\x1b\n"),
    ],
)
def test_fields(value: Any, field: str) -> None:
    assert csv_field(value) == field


@pytest.mark.parametrize("fields", [["a", "b"], ["a"]])
@given(rows=st.lists(st.fixed_dictionaries({"a": TEXT, "b": st.floats()}), max_size=5))
def test_lines_are_those_of_the_csv_module(rows: list[dict[str, Any]], fields: list[str]) -> None:
    found, wanted = io.StringIO(newline=""), io.StringIO(newline="")
    with contextlib.redirect_stdout(found):
        print_csv(rows, fields)
    writer = csv.writer(wanted)
    writer.writerows([fields, *([csv_field(row[field]) for field in fields] for row in rows)])
    assert found.getvalue() == wanted.getvalue()


def test_a_zero_byte_is_written_by_every_python(capsys: Out) -> None:
    print_csv([{"a": "x\x00y"}])
    assert capsys.readouterr().out == "a\r\nx\x00y\r\n"


@given(st.lists(st.fixed_dictionaries({"a": TEXT, "b": st.floats()}), max_size=5))
def test_what_is_written_is_read_back(rows: list[dict[str, Any]]) -> None:
    out = io.StringIO(newline="")
    with contextlib.redirect_stdout(out):
        print_csv(rows, ["a", "b"])
    read = table(out.getvalue())
    assert [row["a"] for row in read] == [row["a"] for row in rows]
    assert [repr(float(row["b"])) for row in read] == [repr(row["b"]) for row in rows]


def test_a_header_without_rows(tmp_path: Path, capsys: Out) -> None:
    assert main(["gc", str(tmp_path), "--csv"]) == 0
    assert capsys.readouterr().out == "path,upload,started\r\n"


def test_no_standard_output_is_no_error(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)  # as Python has it where the shell closed it: >&-
    for form in ("--csv", "--json"):
        assert main(["ls", str(saved), form]) == 0


def test_ls(saved: Path, capsys: Out) -> None:
    rows = of(capsys, "ls", saved)
    assert list(rows[0]) == [
        *("path", "kind", "record", "key", "dtype", "shape", "stype", "nbytes", "offset", "type", "value")
    ]
    assert rows[0] == {
        "path": str(saved),
        "kind": "array",
        "record": "model",
        "key": "fc.weight",
        "dtype": "float32",
        "shape": "[3, 4]",
        "stype": "numpy.ndarray",
        "nbytes": "48",
        "offset": "4096",
        "type": "",
        "value": "",
    }
    assert rows[1]["key"] == "evil\x1b[31m\n\u202e\x7f", "the name of the file, for programs"
    values = {(row["kind"], row["key"]): row["value"] for row in rows if row["value"]}
    assert values["metric", "loss"] == "nan"
    assert values["metric", "accuracy"] == '[0.5, "inf"]'
    assert values["config", "blob"] == "00ff"
    assert values["config", "long"] == "x" * 500


def test_one_result_is_one_row(saved: Path, flipped: Path, tmp_path: Path, capsys: Out) -> None:
    [info] = of(capsys, "info", saved)
    assert (info["container"], info["arrays"], info["context"]) == ("recordset", "5", "")
    assert json.loads(info["records"])[0] == {"kind": "arrays", "name": "model", "arrays": 5}
    [copied] = of(capsys, "cp", saved, tmp_path / "copy.h5")
    assert (copied["path"], copied["source"]) == (str(tmp_path / "copy.h5"), str(saved))
    assert float(copied["seconds"]) >= 0
    [edited] = of(capsys, "edit", saved, "--out", tmp_path / "out.h5", "--delete", "step")
    assert edited["arrays"] == "4"
    archive.save({"w": np.ones(3)}, tmp_path / "w.h5")
    [mean] = of(
        capsys, "mean", tmp_path / "mean.h5", tmp_path / "w.h5", tmp_path / "w.h5", "--weights", "1,3"
    )
    assert (json.loads(mean["inputs"]), json.loads(mean["weights"])) == ([str(tmp_path / "w.h5")] * 2, [1, 3])
    good, bad, gone = of(capsys, "verify", saved, flipped, tmp_path / "gone.h5", code=1)
    assert (good["ok"], bad["ok"], gone["ok"]) == ("true", "false", "false")
    assert json.loads(bad["failures"])[0]["key"] == "fc.weight"
    assert (good["error"], gone["error"]) == ("", "MissingError")


@pytest.mark.parametrize("name", ["info", "ls", "verify"])
def test_on_a_terminal_names_are_escaped(
    name: str, saved: Path, command: list[str], environment: dict[str, str]
) -> None:
    evil = saved.with_name("a\x1b[2Jb.h5")
    saved.rename(evil)
    code, shown = on_terminal([*command, name, evil, "--csv"], environment)
    assert code == 0
    assert "a\\x1b[2Jb.h5" in shown
    assert shown.replace("\r\n", "").isprintable()


@pytest.mark.parametrize(
    ("words", "variable"),
    [
        (["--debug", "info", "cut.h5"], ""),
        (["info", "cut.h5", "--debug"], ""),
        (["info", "cut.h5"], "1"),
        (["verify", "cut.h5", "--debug"], "0"),
    ],
)
def test_tracebacks_are_for_those_who_ask(
    words: list[str], variable: str, cut: Path, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    monkeypatch.chdir(cut.parent)
    monkeypatch.setenv("FEDARCHIVE_DEBUG", variable)
    assert main(words) == 1
    *told, last = capsys.readouterr().err.splitlines()
    assert told[0] == "Traceback (most recent call last):"
    assert any("TruncatedError" in line for line in told)
    assert last.startswith(f"fedarchive: {cut}: the file has ")
    monkeypatch.setenv("FEDARCHIVE_DEBUG", "0")
    assert main([word for word in words if word != "--debug"]) == 1
    assert capsys.readouterr().err == f"{last}\n"


def test_a_traceback_does_not_reach_the_terminal_raw(capsys: Out) -> None:
    assert main(["info", "a\x1b[2Jb.h5", "--debug"]) == 2
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.replace("\n", "").isprintable()
