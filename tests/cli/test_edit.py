"""``fedarchive edit``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.cli import main


def edit(path: Path, *arguments: str | Path) -> int:
    return main(["edit", str(path), *map(str, arguments)])


def dtypes(path: Path) -> dict[str, str]:
    with archive.open(path) as handle:
        return {"/".join(name): handle[name].dtype for name in handle}


def test_in_place(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edit(saved, "--rename", "fc.weight", "head.weight", "--delete", "model/step") == 0
    assert capsys.readouterr().out.startswith(f"{saved}: 4 arrays, ")
    assert next(iter(dtypes(saved))) == "model/head.weight"
    assert "model/step" not in dtypes(saved)
    assert archive.verify(saved).ok


def test_to_another_file(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, out = saved.read_bytes(), saved.with_name("out.h5")
    assert edit(saved, "--out", out, "--delete", "step", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["path", "source", "arrays", "array_bytes", "file_bytes", "seconds", "digest"]
    assert (told["path"], told["source"], told["arrays"]) == (str(out), str(saved), 4)
    assert saved.read_bytes() == before
    assert archive.verify(out).ok


def test_casting(saved: Path) -> None:
    assert edit(saved, "--cast", "float16") == 0
    found = dtypes(saved)
    assert (found["model/fc.weight"], found["model/step"], found["model/empty"]) == (
        "float16",
        "int64",
        "float16",
    )
    assert edit(saved, "--cast", "float32", "--keys", "fc.*", "--keys", "model/st*") == 0
    found = dtypes(saved)
    assert (found["model/fc.weight"], found["model/step"], found["model/empty"]) == (
        "float32",
        "float32",
        "float16",
    )


def test_setting_arrays(saved: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.arange(5))
    file = tmp_path / "w.npy"
    assert edit(saved, "--set", "fc.weight", file, "--set", "model/new", file, "--set", "a/b", file) == 0
    with archive.open(saved) as handle:
        assert [handle["model", key].numpy().tolist() for key in ("fc.weight", "new", "a/b")] == [
            [0, 1, 2, 3, 4]
        ] * 3


def test_setting_values(saved: Path) -> None:
    arguments = ["--metric", "loss=0.25", "--metric", "fit/accuracy=[0.5, NaN]", "--config", "run/name=x y"]
    assert edit(saved, *arguments, "--config", "more/flag=true", "--config", "run/lr=1e-3") == 0
    with archive.open(saved) as handle:
        records: Any = handle.records
    assert records.metric_records["fit"]["loss"] == 0.25
    assert records.metric_records["fit"]["n"] == 3
    assert np.isnan(records.metric_records["fit"]["accuracy"][1])
    assert records.config_records["run"]["name"] == "x y"
    assert records.config_records["run"]["lr"] == 0.001
    assert records.config_records["more"] == {"flag": True}


def test_the_first_value(saved: Path) -> None:
    archive.save({"w": np.zeros(1)}, saved)
    assert edit(saved, "--metric", "loss=0.25", "--config", "name=x") == 0
    records: Any = archive.load(saved)
    assert records.metric_records["metrics"]["loss"] == 0.25
    assert records.config_records["configs"]["name"] == "x"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing to change"),
        (["--delete", "fc.wieght"], "did you mean 'fc.weight'"),
        (["--rename", "fc.weight", "step"], "has that name already"),
        (["--cast", "U5"], "no type of numbers"),
        (["--cast", "float16", "--keys", "x*"], "no array 'x*'"),
        (["--cast", "float16", "--keys", "opaque"], "does not hold numbers"),
        (["--delete", "step", "--keys", "x*"], "give --cast too"),
        (["--metric", "loss=high"], "Expected `int | float"),
        (["--config", "lr=1"], "name one of the records: fit/lr, run/lr"),
        (["--metric", "loss"], "KEY=VALUE"),
        (["--set", "step", "nowhere.npy"], "No such file"),
        (["--set", "step", __file__], "name a .npy file"),
        (["--delete", "step", "--out", "nowhere/out.h5"], "the folder does not exist"),
    ],
)
def test_what_is_refused(
    saved: Path,
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(saved.parent)
    before = saved.read_bytes()
    assert edit(saved, *arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert says in told.err
    assert told.err.count("\n") == 1
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_deleted_by_a_pattern(saved: Path) -> None:
    before = dtypes(saved)
    assert edit(saved, "--delete", "model/fc.*") == 0
    assert dtypes(saved) == {key: name for key, name in before.items() if not key.startswith("model/fc.")}
    assert len(dtypes(saved)) < len(before)


def test_keys_of_several_records(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    w = archive.Array(np.zeros(1))
    records = {"a": archive.ArrayRecord({"b/w": w, "v": w}), "a/b": archive.ArrayRecord({"w": w, "v": w})}
    archive.save(archive.RecordSet(records), saved)
    assert edit(saved, "--delete", "a/b/w") == 2
    assert "names several arrays" in capsys.readouterr().err
    assert edit(saved, "--delete", "v") == 2
    assert "in several records" in capsys.readouterr().err
    assert edit(saved, "--delete", "a/v", "--rename", "a/b/v", "a/b/x", "--delete", "b/w") == 0
    assert list(dtypes(saved)) == ["a/b/w", "a/b/x"]


def test_damage(flipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = flipped.read_bytes()
    assert edit(flipped, "--delete", "step") == 1
    assert "model/fc.weight" in capsys.readouterr().err
    assert flipped.read_bytes() == before


def test_remote(saved: Path) -> None:
    assert edit(saved, "--out", "memory://cli/edit.h5", "--delete", "step") == 0
    assert edit(Path(), "--delete", "empty") == 2
    assert main(["edit", "memory://cli/edit.h5", "--delete", "empty"]) == 0
    assert archive.verify("memory://cli/edit.h5").arrays == 3
