"""``fedarchive cp``: between any two places, verified, and never half."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import archive
import archive.tools
from archive.cli.dispatch import main
from tests.storage.folderstore import FolderStore, reach


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    store = FolderStore(tmp_path / "store")
    reach(store, monkeypatch)
    return store


def test_there_and_back(saved: Path, store: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
    back = saved.with_name("back.h5")
    assert main(["cp", str(saved), "folder://m/a.h5"]) == 0
    assert "folder://m/a.h5: 5 arrays" in capsys.readouterr().out
    assert main(["cp", "folder://m/a.h5", "folder://m/b.h5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["path"], told["source"]) == ("folder://m/b.h5", "folder://m/a.h5")
    assert told["file_bytes"] == saved.stat().st_size
    assert main(["cp", "folder://m/b.h5", str(back)]) == 0
    assert back.read_bytes() == saved.read_bytes()


def test_memory(saved: Path) -> None:
    archive.tools.copy(saved, "memory://cp/a.h5")
    assert archive.verify("memory://cp/a.h5").ok


def test_refusing_to_overwrite(saved: Path, store: FolderStore, capsys: pytest.CaptureFixture[str]) -> None:
    store.put("a.h5", b"theirs")
    assert main(["cp", str(saved), "folder://a.h5", "--no-overwrite"]) == 2
    assert "already there" in capsys.readouterr().err
    assert main(["cp", "folder://a.h5", str(saved)]) == 2
    there = saved.with_name("there.h5")
    there.write_bytes(b"theirs")
    assert main(["cp", str(saved), str(there), "--no-overwrite"]) == 2
    assert there.read_bytes() == b"theirs"
    assert main(["cp", str(saved), str(there)]) == 0


def test_nothing_damaged_is_copied(
    flipped: Path, store: FolderStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Local or remote; padding, metadata and index too."""
    there = flipped.with_name("there.h5")
    for out in ("folder://a.h5", str(there)):
        assert main(["cp", str(flipped), out]) == 1
        err = capsys.readouterr().err
        assert "model/fc.weight" in err
        assert str(flipped) in err
    data = bytearray(flipped.with_name("good.h5").read_bytes())
    data[4000] ^= 1
    flipped.write_bytes(data)
    assert main(["cp", str(flipped), str(there)]) == 1
    assert "padding is not zero" in capsys.readouterr().err
    assert not there.exists()
    assert not store.file("a.h5").exists()
    assert sorted(path.name for path in flipped.parent.iterdir()) == ["flipped.h5", "good.h5"]


def test_options_reach_the_client(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "store")
    told: list[tuple[str, dict[str, object]]] = []

    def open_store(location: archive.storage.url.Location) -> object:  # type: ignore[name-defined]
        told.append((location.path, dict(location.options)))
        return store, location.path.partition("://")[2]

    monkeypatch.setattr("archive.storage.remote.clients.open_store", open_store)
    line = ["cp", str(saved), "folder://a.h5", "-o", "anon=true", "--out-option", "endpoint_url=http://x:1"]
    assert main(line) == 0
    assert told == [("folder://a.h5", {"anon": True, "endpoint_url": "http://x:1"})]
    for command in (["info"], ["ls"], ["verify"], ["mean", str(tmp_path / "mean.h5")], ["gc"]):
        told.clear()
        assert main([*command, "folder://a.h5", "-o", 'client_kwargs={"region_name": "eu"}']) == 0
        assert told[0][1] == {"client_kwargs": {"region_name": "eu"}}
    capsys.readouterr()
    assert main(["info", "folder://a.h5", "-o", "nothing"]) == 2
    assert "KEY=VALUE" in capsys.readouterr().err
    assert main(["info", str(saved), "-o", "anon=true"]) == 0
