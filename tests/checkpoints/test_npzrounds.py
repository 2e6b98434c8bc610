"""A folder of ``round-N-weights.npz`` becomes a store of rounds."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

import archive
from archive.errors import ArchiveError, ExistsError, HostileFileError, MissingError, ValueRangeError
from archive.tools import convert


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rounds as the loop of Flower's how-to saves them."""
    path = tmp_path / "run"
    path.mkdir()
    for number in (1, 2, 10):
        arrays = [np.full((2, 3), number, "f4"), np.array(number)]
        np.savez(path / f"round-{number}-weights.npz", *arrays)
    (path / "round-2-weights.npz.bak").write_bytes(b"")
    (path / "history.json").write_text("{}")
    return path


def test_each_file_is_a_round(folder: Path, tmp_path: Path) -> None:
    report = convert(folder, tmp_path / "store", names=["fc.weight", "step"])
    assert (report.format, report.arrays, report.lossless, report.verified) == ("rounds", 6, True, True)
    store = archive.CheckpointStore(tmp_path / "store")
    assert store.rounds() == [1, 2, 10]
    with store.open("latest") as newest:
        assert newest["fc.weight"].numpy().tolist() == [[10.0] * 3] * 2
        assert int(newest["step"].numpy()) == 10


def test_rounds_may_be_objects_and_keep_their_positions_as_names(folder: Path) -> None:
    for path in folder.glob("*.npz"):
        with archive.create(f"memory://npzrounds/other/{path.stem}.h5") as writer:
            writer.add("model", "x", np.ones(1))
    convert(folder, "memory://npzrounds/store")
    store = archive.CheckpointStore("memory://npzrounds/store")
    assert store.rounds() == [1, 2, 10]
    with store.open(2) as second:
        assert list(second) == [("model", "arr_0"), ("model", "arr_1")]


def test_nothing_is_saved_where_one_file_is_bad(folder: Path, tmp_path: Path) -> None:
    (folder / "round-3-weights.npz").write_bytes(b"PK and no more")
    with pytest.raises(HostileFileError, match="round-3"):
        convert(folder, tmp_path / "store")
    (folder / "round-3-weights.npz").unlink()
    with pytest.raises(ValueRangeError, match="1 names for 2 arrays"):
        convert(folder, tmp_path / "store", names=["w"])
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("name", ["round-2.npz", "round-02-weights.npz"])
def test_two_files_of_one_round_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    np.savez(folder / name, np.zeros(1))
    with pytest.raises(ValueRangeError, match="both of round 2"):
        convert(folder, tmp_path / "store")
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(HostileFileError, match="two arrays of one name"):
        convert(folder, tmp_path / "store", names=["w", "w"])
    with zipfile.ZipFile(folder / "round-2-weights.npz", "a") as made:
        made.writestr("arr_0.npy", made.read("arr_1.npy"))
    with pytest.raises(HostileFileError, match="two arrays of one name"):
        convert(folder, tmp_path / "store")
    assert os.listdir(tmp_path) == ["run"]


def test_compressed_rounds_may_be_allowed_more_and_keys_are_of_one_file(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    np.savez_compressed(tmp_path / "run" / "round-1.npz", np.zeros(1000))
    with pytest.raises(HostileFileError, match="decoded_bytes"):
        convert(tmp_path / "run", tmp_path / "store", decoded_bytes=5000)
    with pytest.raises(ValueError, match="keys"):
        convert(tmp_path / "run", tmp_path / "store", keys="arr_0")
    assert convert(tmp_path / "run", tmp_path / "store", decoded_bytes=10_000).array_bytes == 8000


def test_a_store_that_has_a_round_is_left_alone(folder: Path, tmp_path: Path) -> None:
    store = archive.CheckpointStore(tmp_path / "store")
    store.save({"w": np.zeros(2)}, 2)
    with pytest.raises(ExistsError, match="round 2 is there"):
        convert(folder, tmp_path / "store")
    assert store.rounds() == [2]


def test_a_folder_without_rounds(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no round-N"):
        convert(tmp_path, tmp_path / "store")


def damage(path: Path) -> bytes:
    """Make the file one that opens, and whose checksum fails when it is read; return a whole one."""
    np.savez(path, np.full((300, 300), 10, "f4"), np.array(10))
    before = path.read_bytes()
    path.write_bytes(before[:300_000] + b"?" + before[300_001:])
    return before


@pytest.mark.parametrize("verify", [True, False])
def test_a_conversion_that_failed_goes_on(folder: Path, tmp_path: Path, verify: bool) -> None:
    last, out, told = folder / "round-10-weights.npz", tmp_path / "store", list[tuple[int, int]]()
    whole = damage(last)
    with pytest.raises(ArchiveError, match="round-10"):
        convert(folder, out, verify=verify)
    store = archive.CheckpointStore(out)
    assert store.rounds() == [1, 2]
    before = {path: path.stat().st_mtime_ns for path in (out / "rounds").iterdir()}
    last.write_bytes(whole)
    report = convert(folder, out, verify=verify, progress=lambda *at: told.append(at))
    assert (report.arrays, report.array_bytes) == (6, 2 * 32 + 360_008)
    assert store.rounds() == [1, 2, 10]
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what is there is not written again"
    assert told[-1] == (report.array_bytes * (1 + verify),) * 2
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert convert(folder, out, verify=verify).arrays == 6
    np.savez(last, np.zeros((2, 3), "f4"), np.array(10))
    with pytest.raises(ExistsError, match="round 10 is there already, with other arrays"):
        convert(folder, out, verify=verify, errors="skip")


def test_a_bad_file_may_be_left_out(folder: Path, tmp_path: Path) -> None:
    damage(folder / "round-10-weights.npz")
    (folder / "round-3-weights.npz").write_bytes(b"PK and no more")
    told = list[tuple[int, int]]()
    report = convert(folder, tmp_path / "store", errors="skip", progress=lambda *at: told.append(at))
    assert [name for name, _ in report.left_out] == ["round-3-weights.npz", "round-10-weights.npz"]
    assert "CRC" in report.left_out[1][1]
    assert (report.arrays, report.lossless, told[-1]) == (4, False, (2 * 64, 2 * 64))
    assert archive.CheckpointStore(tmp_path / "store").rounds() == [1, 2]


def test_one_file_at_least_is_good(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("*.npz"):
        path.write_bytes(b"PK and no more")
    with pytest.raises(HostileFileError, match="round-10"):
        convert(folder, tmp_path / "store", errors="skip")
    with pytest.raises(ValueError, match="errors must be one of 'raise', 'skip', not 'column'"):
        convert(folder, tmp_path / "store", errors="column")  # type: ignore[arg-type]
    np.savez(tmp_path / "one.npz", np.zeros(1))
    with pytest.raises(ValueError, match="errors is of a folder of rounds"):
        convert(tmp_path / "one.npz", tmp_path / "one.h5", errors="skip")
