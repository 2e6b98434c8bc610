"""``fedarchive reindex``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import archive
from archive import tuning
from archive.cli import main
from archive.errors import MissingError
from tests.servers.s3 import BUCKET, S3Server


def test_to_another_file(saved: Path, edited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = edited.read_bytes()
    out = edited.with_name("again.h5")
    assert main(["reindex", str(edited), str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert edited.read_bytes() == before
    assert archive.verify(out)
    # the edit gave the record an attribute, which is kept
    assert dict(archive.load(out)["model"]) == dict(archive.load(saved)["model"])


def test_to_a_bucket(edited: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret)
    url = f"s3://{BUCKET}/reindexed.h5"
    assert main(["reindex", str(edited), url, "-o", f"endpoint_url={server.endpoint}"]) == 0
    assert archive.verify(url, storage_options=server.options())


def test_in_place(edited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reindex", str(edited), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["path", "arrays", "array_bytes", "file_bytes", "seconds", "digest"]
    assert told["path"] == str(edited)
    assert archive.verify(edited)


def test_no_hdf5_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("nothing of interest\n")
    assert main(["reindex", str(notes)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert notes.read_text() == "nothing of interest\n"


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "SETTLED_SECONDS", 0.0)
    store = archive.CheckpointStore(tmp_path / "adam")
    for number in (1, 2):
        store.save({"w": np.zeros(2)}, number, metrics={"loss": number})
    catalogue = tmp_path / "adam/catalogue.h5"
    catalogue.unlink()
    assert main(["reindex", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"path": str(catalogue), "rounds": 2, "file_bytes": catalogue.stat().st_size}
    assert main(["reindex", str(tmp_path / "adam")]) == 0
    assert f"{catalogue}: 2 rounds" in capsys.readouterr().out
    assert main(["reindex", str(tmp_path), "out.h5"]) == 2
    assert "a run takes no OUT" in capsys.readouterr().err
    archive.CheckpointStore(tmp_path / "sgd").save({}, 1)
    assert main(["reindex", str(tmp_path)]) == 2
    assert "several runs are here" in capsys.readouterr().err


def test_no_command_takes_the_catalogue_for_an_archive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "SETTLED_SECONDS", 0.0)
    store = archive.CheckpointStore(tmp_path / "adam")
    for number in (1, 2):
        store.save({"w": np.zeros(2)}, number, client="c")
        store.save({"w": np.zeros(2)}, number, metrics={"loss": number})
    assert (tmp_path / "adam/catalogue.h5").exists()
    for words in ("info", "ls", "verify", "stats", "runs ls", "runs show", "runs history"):
        for place in (tmp_path, tmp_path / "adam"):
            assert main([*words.split(), str(place)]) == 0
            assert "catalogue" not in capsys.readouterr().out
    for pattern in ("adam/**", "**/*.h5"):
        assert len(archive.table(f"{tmp_path}/{pattern}")["path"]) == 4
    with pytest.raises(MissingError):
        archive.table(f"{tmp_path}/adam/*.h5")
