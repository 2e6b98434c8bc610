"""``fedarchive convert`` and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import archive
from archive.cli.dispatch import main
from tests.cli.conftest import Run


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    np.savez(tmp_path / "m.npz", np.ones((2, 3), "f4"), np.zeros(4))
    return tmp_path / "m.npz"


def test_there_and_back(npz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, back = npz.with_suffix(".h5"), npz.with_suffix(".safetensors")
    assert main(["convert", str(npz), str(path)]) == 0
    assert f"{path}: 2 arrays, 56 bytes from npz to archive, read back" in capsys.readouterr().out
    assert main(["convert", str(path), str(back), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["url"], told["to"], told["arrays"], told["left_out"]) == (str(back), "safetensors", 2, [])
    assert told["verified"] is True


def test_what_is_left_out_is_listed_with_exit_code_3(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(saved), str(tmp_path / "m.npz")]) == 3
    told = capsys.readouterr().err
    assert "left out: model/evil\\x1b[31m" in told
    assert "\x1b" not in told
    assert "left out: model/opaque" in told
    assert "left out: fit: metrics" in told
    assert np.load(tmp_path / "m.npz").files == ["fc.weight", "step", "empty"]


def test_names_of_a_file(npz: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "names.txt").write_text("weight\nbias\n")
    out = str(tmp_path / "m.h5")
    assert main(["convert", str(npz), out, "--names", str(tmp_path / "names.txt"), "--no-verify"]) == 0
    assert "read back" not in capsys.readouterr().out
    with archive.open(out) as handle:
        assert [key for _, key in handle] == ["weight", "bias"]
    assert main(["convert", str(npz), str(tmp_path / "n.h5"), "--names", out, "--key", "b*"]) == 0
    with archive.open(tmp_path / "n.h5") as handle:
        assert list(handle) == [("model", "bias")]


def test_every_mistake_is_one_line(npz: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cut.npz").write_bytes(npz.read_bytes()[:100])
    out = str(tmp_path / "m.h5")
    for code, arguments in {
        1: [str(tmp_path / "cut.npz"), out],
        2: [str(npz), str(tmp_path / "m.pt")],
    }.items():
        assert main(["convert", *arguments]) == code
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["convert", str(npz), out, "--key", "nothing"]) == 2
    assert main(["convert", str(npz), out, "--names", str(tmp_path / "missing.txt")]) == 2
    (tmp_path / "latin.txt").write_bytes(b"\xff\n")
    assert main(["convert", str(npz), out, "--names", str(tmp_path / "latin.txt")]) == 2
    assert main(["convert", str(npz), out, "--shard-size", "2G"]) == 2
    assert not Path(out).exists()
    assert main(["convert", str(npz), out]) == 0
    assert main(["convert", str(npz), out, "--no-overwrite"]) == 2


def test_shards_have_the_size_that_was_asked_for(saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors.index.json"
    assert (
        main(["convert", str(saved), str(out), "--key", "fc.weight", "--key", "step", "--shard-size", "50"])
        == 0
    )
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]


def test_no_bar_where_nobody_sees_it(npz: Path, tmp_path: Path, fedarchive: Run) -> None:
    done = fedarchive("convert", str(npz), str(tmp_path / "m.h5"))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_bad_round_may_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, store = tmp_path / "run", tmp_path / "store"
    folder.mkdir()
    np.savez(folder / "round-1-weights.npz", np.zeros(3))
    (folder / "round-2-weights.npz").write_bytes(b"PK and no more")
    assert main(["convert", str(folder), str(store)]) != 0
    assert main(["convert", str(folder), str(store), "--errors", "skip"]) == 3
    assert "left out: round-2-weights.npz: " in capsys.readouterr().err
    np.savez(folder / "round-2-weights.npz", np.zeros(3))
    assert main(["convert", str(folder), str(store)]) == 0, "the first round is there"
    assert (
        main(["convert", str(folder / "round-1-weights.npz"), str(tmp_path / "1.h5"), "--errors", "skip"])
        == 2
    )
