"""``fedarchive mean``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.cli import main


@pytest.fixture
def clients(tmp_path: Path) -> list[str]:
    """Two archives of one schema."""
    paths = []
    for client in (1, 3):
        path = tmp_path / f"client-{client}.h5"
        archive.save({"w": np.full(2, client, "f4")}, path, metrics={"loss": 0.5})
        paths.append(str(path))
    return paths


def mean_of(path: Path) -> Any:
    records: Any = archive.load(path)
    return records["model"]["w"].numpy().tolist()


def test_equal_weights(clients: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mean.h5"
    assert main(["mean", str(out), *clients]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: mean of 2 archives, 1 arrays, 8 bytes, saved in ")
    assert mean_of(out) == [2, 2]


def test_weights(clients: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mean.h5"
    assert main(["mean", str(out), *clients, "--weights", "1,3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == [
        "path", "inputs", "weights", "skipped", "arrays", "array_bytes", "file_bytes", "seconds", "digest",
    ]  # fmt: skip
    assert told["inputs"] == clients
    assert told["weights"] == [1, 3]
    assert mean_of(out) == [2.5, 2.5]


def test_over_an_input(clients: list[str]) -> None:
    assert main(["mean", "--overwrite", clients[0], *clients]) == 0
    assert mean_of(Path(clients[0])) == [2, 2]


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ("1", "1 weights for 2"),
        ("0,0", "not all zero"),
        ("nan,1", "finite"),
        ("1,many", "'1,many': 0 metrics have this name"),
        ("1,\x1b[2J", r"\x1b[2J"),
    ],
)
def test_weights_that_make_no_mean(
    weights: str, says: str, clients: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mean.h5"
    assert main(["mean", str(out), *clients, "--weights", weights]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert says in told.err
    assert told.err.count("\n") == 1
    assert "\x1b" not in told.err
    assert not out.exists()


def test_another_schema(clients: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive.save({"w": np.zeros(3, "f4")}, clients[1])
    assert main(["mean", str(tmp_path / "mean.h5"), *clients]) == 2
    assert clients[1] in capsys.readouterr().err
    assert not (tmp_path / "mean.h5").exists()


def test_a_damaged_input(clients: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with archive.open(clients[1]) as handle:
        offset = handle["w"].payload.where[1]  # type: ignore[attr-defined]
    data = bytearray(Path(clients[1]).read_bytes())
    data[offset] ^= 1
    Path(clients[1]).write_bytes(data)
    assert main(["mean", str(tmp_path / "mean.h5"), *clients]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["client-1.h5", "client-3.h5"]


def test_a_missing_input(clients: list[str], tmp_path: Path) -> None:
    assert main(["mean", str(tmp_path / "mean.h5"), *clients, str(tmp_path / "nowhere.h5")]) == 2


def test_a_forgotten_out_replaces_no_client(clients: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """``mean *.h5`` names the first client as OUT."""
    before = Path(clients[0]).read_bytes()
    assert main(["mean", *clients]) == 2
    said = capsys.readouterr().err
    assert "already there" in said
    assert "--overwrite" in said
    assert Path(clients[0]).read_bytes() == before


def test_weights_by_a_metric_and_metrics_averaged(tmp_path: Path) -> None:
    out = tmp_path / "mean.h5"
    for examples in (1, 3):
        metrics = {"num-examples": examples, "loss": float(examples)}
        archive.save({"w": np.full(2, examples, "f4")}, tmp_path / f"c{examples}.h5", metrics=metrics)
    assert main(["mean", str(out), f"{tmp_path}/c*.h5", "--weights", "num-examples", "--metrics"]) == 0
    records: Any = archive.load(out)
    assert mean_of(out) == [2.5, 2.5]
    assert dict(records["metrics"]) == {"loss": 2.5}


def test_bad_archives_are_named_and_left_out(
    clients: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, bad = tmp_path / "mean.h5", str(tmp_path / "bad\x1b[2J.h5")
    archive.save({"w": np.full(2, np.nan, "f4")}, bad)
    assert main(["mean", str(out), bad, *clients]) == 2
    told = capsys.readouterr().err
    assert "--skip" in told
    assert "--allow-nan" in told
    assert main(["mean", str(out), bad, *clients, "--skip"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{out}: mean of 2 archives")
    assert r"bad\x1b[2J.h5: 'model/w': 2 NaN" in captured.err
    assert mean_of(out) == [2, 2]
    assert main(["mean", str(out), bad, *clients, "--skip", "--overwrite", "--json"]) == 0
    assert [one["path"] for one in json.loads(capsys.readouterr().out)["skipped"]] == [bad]
    assert main(["mean", str(out), bad, *clients, "--allow-nan", "--overwrite"]) == 0
    assert np.isnan(mean_of(out)).all()


@pytest.mark.slow
def test_processes_that_share_the_work(tmp_path: Path) -> None:
    for client in range(5):
        archive.save({"w": np.full(2, client, "f4")}, tmp_path / f"c{client}.h5")
    for number, options in enumerate(([], ["--workers", "2"])):
        assert (
            main(["mean", str(tmp_path / f"m{number}"), f"{tmp_path}/c*.h5", "--batch", "2", *options]) == 0
        )
    assert mean_of(tmp_path / "m0") == mean_of(tmp_path / "m1") == [2, 2]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != "c") == ["m0", "m1"]


@pytest.mark.parametrize("words", [["--batch", "1"], ["--workers", "0"], ["--workers", "2", "--dask", "x"]])
def test_numbers_that_mean_nothing(words: list[str], clients: list[str], tmp_path: Path) -> None:
    assert main(["mean", str(tmp_path / "mean.h5"), *clients, *words]) == 2


def test_dask_is_asked_for_where_it_is_missing(
    clients: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)  # as Python does where there is no such package
    assert main(["mean", str(tmp_path / "mean.h5"), *clients, "--dask", "tcp://127.0.0.1:1"]) == 2
    assert "pip install 'fedarchive[dask]'" in capsys.readouterr().err
