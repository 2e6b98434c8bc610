"""Files of other formats become archives, and archives files of other formats, whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

import archive
from archive.errors import (
    DamagedError,
    ExistsError,
    HostileFileError,
    MissingError,
    ReplacedError,
    StorageError,
    UnsupportedURLError,
    ValueRangeError,
)
from archive.tools import convert, extract

NDArray = np.ndarray[Any, Any]
ARRAYS: dict[str, Any] = {
    "w": np.arange(12, dtype="f4").reshape(3, 4),
    "b": np.array([], "f8"),
    "step": np.array(7, "i8"),
    "mask": np.array([True, False]),
}


def saved(folder: Path, **options: Any) -> Path:
    path = folder / "saved.h5"
    archive.save(ARRAYS, path, **options)
    return path


def arrays_of(path: Any, **options: Any) -> dict[tuple[str, str], NDArray]:
    with archive.open(path, **options) as handle:
        return {name: handle[name].numpy(copy=True) for name in handle}


def require_equal(found: dict[tuple[str, str], NDArray]) -> None:
    assert {key for _, key in found} == set(ARRAYS)
    for (record, key), array in found.items():
        assert record == "model"
        assert array.dtype == ARRAYS[key].dtype
        np.testing.assert_array_equal(array, ARRAYS[key])


@pytest.mark.parametrize("name", ["m.safetensors", "m.safetensors.index.json", "m.npz", "m.weights.h5"])
def test_an_archive_comes_back_from_every_format(tmp_path: Path, name: str) -> None:
    there = convert(saved(tmp_path), tmp_path / name)
    back = convert(tmp_path / name, tmp_path / "back.h5")
    assert there.arrays == back.arrays == 4
    assert there.array_bytes == back.array_bytes == 58
    assert [there.lossless, back.lossless, there.verified, back.verified] == [True] * 4
    require_equal(arrays_of(tmp_path / "back.h5"))
    assert archive.verify(tmp_path / "back.h5").ok


@pytest.mark.parametrize("name", ["m.safetensors", "m.safetensors.index.json", "m.npz", "m.npy"])
def test_both_sides_may_be_objects(tmp_path: Path, name: str) -> None:
    keys = "w" if name == "m.npy" else None
    place, back = f"memory://convert-{name}/{name}", f"memory://convert-{name}/back.h5"
    first = f"memory://convert-{name}/first.h5"
    archive.save(ARRAYS, first)
    convert(first, place, keys=keys)
    convert(place, back)
    found = arrays_of(back)
    if keys:
        (array,) = found.values()
        np.testing.assert_array_equal(array, ARRAYS["w"])
    else:
        require_equal(found)


def test_keras_files_and_checkpoints_of_objects_are_read_by_a_local_copy(tmp_path: Path) -> None:
    convert(saved(tmp_path), "memory://convert-staged/m.weights.h5")
    convert("memory://convert-staged/m.weights.h5", tmp_path / "back.h5")
    require_equal(arrays_of(tmp_path / "back.h5"))


def test_what_the_target_cannot_hold_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "odd.h5"
    records = {"text": np.array(["é"]), "when": np.array(["2026-01-02"], "M8[D]"), "w": ARRAYS["w"]}
    archive.save(records, path, metrics={"loss": 0.5}, configs={"lr": 0.1})
    report = convert(path, tmp_path / "odd.safetensors")
    assert not report.lossless
    assert [name for name, _ in report.left_out] == ["model/text", "model/when", "configs", "metrics"]
    assert report.arrays == 1
    report = convert(path, tmp_path / "odd.npz")
    assert [name for name, _ in report.left_out] == ["metrics", "configs"]
    assert np.load(tmp_path / "odd.npz")["text"].tolist() == ["é"]


def test_names_and_types_that_a_format_has_no_place_for(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    odd = {
        "__metadata__": np.ones(1),
        "a\0b": np.ones(2),
        "": np.ones(3),
        "big": np.ones(4, ">f4"),
        "c": np.ones(2, "c16"),
    }
    with archive.create(tmp_path / "odd.h5") as writer:
        for key, array in odd.items():
            writer.add("model", key, array)
        writer.add("x//y", "z/%", np.ones(5))
    left = {}
    for name in ("odd.safetensors", "odd.npz", "odd.pt", "odd.weights.h5"):
        report = convert(tmp_path / "odd.h5", tmp_path / name)
        left[name[4:]] = sorted(what for what, _ in report.left_out)
    assert left == {
        "safetensors": ["model/__metadata__", "model/big", "model/c"],
        "npz": ["model/a\0b", "model/x//y"],
        "pt": ["model/big"],
        "weights.h5": ["model/", "model/a\0b", "x//y/z/%"],
    }
    assert torch.load(tmp_path / "odd.pt", weights_only=True)["x//y"]["z/%"].shape == (5,)


def test_a_context_loses_its_fields(tmp_path: Path) -> None:
    context = archive.Context(1, 2, {"a": 1}, archive.RecordDict({"m": archive.ArrayRecord()}), {})
    archive.save(context, tmp_path / "c.h5")
    report = convert(tmp_path / "c.h5", tmp_path / "c.npz")
    assert report.left_out == (("context", "the fields of a Context beside its records"),)


def test_tied_arrays_are_written_twice_and_listed(tmp_path: Path) -> None:
    with archive.create(tmp_path / "tied.h5") as writer:
        writer.add("model", "embed", ARRAYS["w"])
        writer.tie("model", "head", ("model", "embed"))
    report = convert(tmp_path / "tied.h5", tmp_path / "tied.npz")
    assert report.left_out == (
        ("model/head", "that it is tied to model/embed: the elements are there twice"),
    )
    np.testing.assert_array_equal(np.load(tmp_path / "tied.npz")["head"], ARRAYS["w"])


def test_only_the_arrays_that_were_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", **ARRAYS)
    report = convert(tmp_path / "m.npz", tmp_path / "some.h5", keys=["w", "st*"])
    assert report.arrays == 2
    assert set(arrays_of(tmp_path / "some.h5")) == {("model", "w"), ("model", "step")}
    report = convert(saved(tmp_path, metrics={"loss": 1.0}), tmp_path / "w.npz", keys="w")
    assert report.lossless  # metrics were not asked for
    with pytest.raises(KeyError, match="no array 'nothing'"):
        convert(tmp_path / "m.npz", tmp_path / "none.h5", keys="nothing")
    assert not (tmp_path / "none.h5").exists()


def test_arrays_without_names_get_those_that_are_given(tmp_path: Path) -> None:
    values = [np.full(3, number) for number in range(12)]
    names = [f"layer{number}" for number in range(12)]
    np.savez(tmp_path / "list.npz", *values)
    convert(tmp_path / "list.npz", tmp_path / "list.h5", names=names)
    assert [(key, array[0]) for (_, key), array in arrays_of(tmp_path / "list.h5").items()] == [
        *zip(names, range(12), strict=True)
    ]
    convert(tmp_path / "list.npz", tmp_path / "again.h5", names=tmp_path / "list.h5")
    assert list(arrays_of(tmp_path / "again.h5")) == list(arrays_of(tmp_path / "list.h5"))
    with pytest.raises(ValueRangeError, match="2 names for 12 arrays"):
        convert(tmp_path / "list.npz", tmp_path / "none.h5", names=["a", "b"])


def test_a_file_that_is_there_stays_where_the_conversion_fails(tmp_path: Path) -> None:
    (tmp_path / "cut.npz").write_bytes(b"PK\3\4 and no more")
    older = saved(tmp_path).read_bytes()
    with pytest.raises(HostileFileError):
        convert(tmp_path / "cut.npz", tmp_path / "saved.h5")
    assert (tmp_path / "saved.h5").read_bytes() == older
    with pytest.raises(ExistsError):
        convert(saved(tmp_path), tmp_path / "cut.npz", overwrite=False)
    assert sorted(os.listdir(tmp_path)) == ["cut.npz", "saved.h5"]


MARK = np.frombuffer(b"a mark that is once in a file.. " * 2, "f8")

LONG = np.concatenate([np.arange(6 << 20, dtype="f8"), MARK])  # its end is read long after its beginning


def flip(path: Path) -> None:
    """Change a byte of the array MARK."""
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(data.index(MARK.tobytes()) + 9)
        file.write(b"\x01")


@pytest.mark.parametrize("name", ["m.safetensors", "m.npz", "m.npy", "m.csv", "m.weights.h5", "new.h5"])
def test_what_reads_back_as_another_takes_the_place_of_nothing(tmp_path: Path, name: str) -> None:
    archive.save({"mark": MARK}, tmp_path / "source.h5")
    np.savez(tmp_path / "source.npz", mark=LONG)
    target = tmp_path / name
    target.write_bytes(b"older")
    marked: list[str] = []

    def damage(done: int, total: int) -> None:
        written = list(tmp_path.glob(f".{name}.*.tmp"))
        late = done > total // 2 if name == "new.h5" else done in (total // 2, total)
        if written and late and not marked:
            marked.append(written[0].name)
            if name.endswith(".csv"):
                written[0].write_text("1\n2\n")
            else:
                flip(written[0])

    source = tmp_path / ("source.npz" if name == "new.h5" else "source.h5")
    call = extract if name.endswith(".csv") else convert
    with pytest.raises(DamagedError, match="read back after it was written") as raised:
        call(source, target, progress=damage)
    assert raised.value.path == str(target)
    assert marked
    assert target.read_bytes() == b"older"
    assert sorted(os.listdir(tmp_path)) == sorted(["source.h5", "source.npz", name])


CHILD = """
import os, signal, sys
from archive.tools import convert
convert(*sys.argv[1:], progress=lambda done, total: done == total and os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.parametrize("name", ["m.npz", "m.safetensors"])
def test_what_a_killed_conversion_left_is_removed_by_the_next(tmp_path: Path, name: str) -> None:
    source = saved(tmp_path)
    subprocess.run([sys.executable, "-c", CHILD, source, tmp_path / name], check=False)
    assert not (tmp_path / name).exists()
    assert len(os.listdir(tmp_path)) == 2  # complete and not yet published: its content says nothing
    convert(source, tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == sorted(["saved.h5", name])


def test_shards_that_read_back_as_others_are_removed(tmp_path: Path) -> None:
    archive.save({"a": np.zeros(8), "mark": MARK}, tmp_path / "source.h5")

    def damage(done: int, total: int) -> None:
        if done == total // 2:
            flip(next(tmp_path.glob(".m-00002-of-00002.safetensors.*")))

    with pytest.raises(DamagedError, match="read back"):
        convert(
            tmp_path / "source.h5", tmp_path / "m.safetensors.index.json", shard_bytes=64, progress=damage
        )
    assert os.listdir(tmp_path) == ["source.h5"]


def test_an_object_is_read_back_after_it_appears(tmp_path: Path) -> None:
    archive.save({"mark": MARK}, tmp_path / "source.h5")
    memory = fsspec.filesystem("memory")
    with memory.open("/back/m.npy", "wb") as file:
        file.write(b"older")

    def damage(done: int, total: int) -> None:
        found = memory.cat_file("/back/m.npy")
        if done == total // 2:
            assert found == b"older"

    report = convert(tmp_path / "source.h5", "memory://back/m.npy", progress=damage)
    assert report.verified
    with memory.open("/back/m.npy", "rb") as file:
        np.testing.assert_array_equal(np.load(file), MARK)


def test_a_round_that_reads_back_as_another_is_removed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "round-1-weights.npz", a=MARK)
    np.savez(tmp_path / "in" / "round-2-weights.npz", a=LONG)
    marked: list[str] = []

    def damage(done: int, total: int) -> None:
        for path in [] if marked else (tmp_path / "run").rglob("00000002.h5"):
            flip(path)
            marked.append(path.name)

    with pytest.raises(DamagedError):
        convert(tmp_path / "in", tmp_path / "run", progress=damage)
    assert archive.CheckpointStore(tmp_path / "run").rounds() == [1]


def test_an_archive_that_is_damaged_is_not_converted(tmp_path: Path) -> None:
    path = saved(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(ARRAYS["w"].tobytes()) + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError):
        convert(path, tmp_path / "m.npz")
    assert os.listdir(tmp_path) == ["saved.h5"]


def test_progress_reaches_its_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    convert(saved(tmp_path), tmp_path / "m.npz", progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (116, 116)  # written, and read back
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_one_side_is_an_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", **ARRAYS)
    with pytest.raises(UnsupportedURLError, match="one side has to be an archive"):
        convert(tmp_path / "m.npz", tmp_path / "m.safetensors")
    with pytest.raises(UnsupportedURLError, match="says no format"):
        convert(tmp_path / "m.npz.bak", tmp_path / "m.h5")
    with pytest.raises(UnsupportedURLError, match=r"archive\.tools\.copy"):
        convert(saved(tmp_path), tmp_path / "copy.h5")
    with pytest.raises(MissingError):
        convert(tmp_path / "missing.npz", tmp_path / "m.h5")
    with pytest.raises(ValueError, match="format must be one of"):
        convert(tmp_path / "m.npz", tmp_path / "m.h5", format="onnx")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shard_bytes"):
        convert(saved(tmp_path), tmp_path / "n.npz", shard_bytes=5)
    for name, most in (("n.safetensors", 5), ("n.safetensors.index.json", 0)):
        with pytest.raises(ValueError, match="shard_bytes is a number"):
            convert(saved(tmp_path), tmp_path / name, shard_bytes=most)


def test_a_file_does_not_take_the_place_of_its_source(tmp_path: Path) -> None:
    path = tmp_path / "m.weights.h5"
    archive.save(ARRAYS, path, metrics={"loss": 0.5})
    (tmp_path / "link.weights.h5").symlink_to(path)
    before = path.read_bytes()
    for out in (path, tmp_path / "link.weights.h5", tmp_path / "x" / ".." / path.name):
        with pytest.raises(ValueRangeError, match="read from there"):
            convert(path, out)
    archive.save(ARRAYS, "memory://converting/same.npz")
    with pytest.raises(ValueRangeError, match="read from there"):
        convert("memory://converting/same.npz", "memory://converting/same.npz", format="archive")
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["m.npy", "m.safetensors.index.json"])
def test_a_file_that_is_written_to_meanwhile_is_refused(tmp_path: Path, name: str) -> None:
    archive.save({"a": np.zeros(2 << 20)}, tmp_path / "first.h5")
    convert(tmp_path / "first.h5", tmp_path / name)
    data = next(path for path in tmp_path.iterdir() if path.suffix in (".npy", ".safetensors"))
    wanted = sorted([*os.listdir(tmp_path), "m.h5"])

    def change(done: int, total: int) -> None:
        with data.open("r+b") as file:
            file.seek(-8, os.SEEK_END)
            file.write(b"\x01")

    with pytest.raises(ReplacedError, match="written to while it was read"):
        convert(tmp_path / name, tmp_path / "m.h5", progress=change)
    assert not (tmp_path / "m.h5").exists()

    def replace(done: int, total: int) -> None:
        copy = tmp_path / "copy"
        copy.write_bytes(b"another")
        os.replace(copy, data)

    convert(tmp_path / name, tmp_path / "m.h5", progress=replace)  # what was opened stays as it was
    assert sorted(os.listdir(tmp_path)) == wanted


def test_what_is_no_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "loop.npy").symlink_to("loop.npy")
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(StorageError, match="symbolic links"):
        convert(tmp_path / "loop.npy", tmp_path / "m.h5")
    with pytest.raises(StorageError, match="not a regular file"):
        convert(tmp_path / "pipe.npy", tmp_path / "m.h5")
    with pytest.raises(StorageError, match="symbolic links"):
        convert(saved(tmp_path), tmp_path / "loop.npy", keys="w")
    assert sorted(os.listdir(tmp_path)) == ["loop.npy", "pipe.npy", "saved.h5"]


def test_an_index_in_capitals_is_one(tmp_path: Path) -> None:
    convert(saved(tmp_path), tmp_path / "M.Safetensors.Index.JSON", shard_bytes=40)
    assert (tmp_path / "M-00001-of-00003.safetensors").exists()
    convert(tmp_path / "M.Safetensors.Index.JSON", tmp_path / "back.h5")
    require_equal(arrays_of(tmp_path / "back.h5"))


def test_a_format_may_be_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", **ARRAYS)
    (tmp_path / "m.npz").rename(tmp_path / "weights")
    report = convert(tmp_path / "weights", tmp_path / "arrays", format="npz", to="archive")
    assert (report.format, report.to) == ("npz", "archive")
    require_equal(arrays_of(tmp_path / "arrays"))


def test_records_beside_model_come_back(tmp_path: Path) -> None:
    path, records = tmp_path / "many.h5", {}
    for record in ("model", "a/b", "ema"):
        records[record] = {"x/y": np.full(3, len(record)), "z": np.zeros(2, "i1")}
    with archive.create(path) as writer:
        for record, arrays in records.items():
            for key, array in arrays.items():
                writer.add(record, key, array)
    convert(path, tmp_path / "many.safetensors")
    assert convert(tmp_path / "many.safetensors", tmp_path / "back.h5").lossless
    found = arrays_of(tmp_path / "back.h5")
    assert found.keys() == arrays_of(path).keys()
    np.testing.assert_array_equal(found["a/b", "x/y"], records["a/b"]["x/y"])
    assert ("a/b/ema/model", "records: names are RECORD/KEY") in convert(path, tmp_path / "many.npz").left_out
