"""Nothing in a file is ever unpickled, and no name in it becomes a path (faults H3 and H4)."""

from __future__ import annotations

import contextlib
import io
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import archive
from archive.cli.dispatch import main
from archive.errors import ArchiveError
from archive.testing.strategies import ODD_NAMES


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """Where the file would be; the fixture shows that it can be."""
    path = tmp_path / "sung"
    pickle.loads(pickle.dumps(Canary(path)))
    assert path.exists()
    path.unlink()
    return path


def pickles(path: Path) -> dict[str, bytes]:
    """Return data that a careless reader would unpickle."""
    objects = np.empty(1, object)
    objects[0] = Canary(path)
    npy, npz = io.BytesIO(), io.BytesIO()
    np.save(npy, objects, allow_pickle=True)
    np.savez(npz, a=objects)
    return {"npy": npy.getvalue(), "npz": npz.getvalue(), "pickle": pickle.dumps(Canary(path), 2)}


def test_pickles_stay_bytes(canary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = pickles(canary)
    record = archive.ArrayRecord()
    for name, payload in data.items():
        for dtype in ("object", "float32"):
            for stype in ("numpy.ndarray", "pickle"):
                record[f"{name} {dtype} {stype}"] = archive.Array(dtype, (1,), stype, payload)
    configs = archive.ConfigRecord({**data, "all": list(data.values())})
    records = archive.RecordSet({"model": record}, {}, {"run": configs})
    path = tmp_path / "a.h5"
    archive.save(records, path)

    def use(found: Any) -> None:
        for key, array in found.parameters_records["model"].items():
            assert array.data == data[key.split()[0]]
            for read in (array.numpy, lambda array=array: array[0], lambda array=array: np.asarray(array)):
                with contextlib.suppress(ValueError, TypeError, EOFError):
                    read()
                    raise AssertionError("read what is no array")
        assert dict(found.configs_records["run"]) == dict(configs)

    use(archive.load(path))
    for foreign in (False, True):
        with archive.open(path, foreign=foreign) as handle:
            use(handle.records)
    assert archive.verify(path).ok
    with contextlib.suppress(ArchiveError):
        archive.recover(shutil.copy(path, tmp_path / "a.h5.partial"))
    archive.reindex(path, tmp_path / "again.h5")
    use(archive.load(tmp_path / "again.h5"))
    for command in (["info"], ["ls"], ["ls", "--foreign"], ["verify"]):
        assert main([*command, str(path)]) == 0
    capsys.readouterr()
    assert not canary.exists()


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def renamed(path: str, out: str) -> None:
    """Exchange the names of arrays and records."""
    with archive.tools.edit(path, out) as e:
        for record, key in list(e):
            e.rename((record, key), (key, f"{record}/{key}+"))


def test_names_are_never_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every way of writing, with names that lead elsewhere: only the files that were named appear."""
    inside = tmp_path / "outer" / "inside"
    inside.mkdir(parents=True)
    (tmp_path / "outer" / "secret").write_bytes(b"secret")
    monkeypatch.chdir(inside)
    odd = [*ODD_NAMES, "../secret", str(tmp_path / "outer" / "absolute")]
    records = archive.RecordDict(
        {
            # every name as a record's and as an array's, beside all others and alone
            **{name: archive.ArrayRecord({name: archive.Array(np.arange(2))}) for name in odd},
            odd[0]: archive.ArrayRecord({key: archive.Array(np.arange(2)) for key in odd}),
            "m!": archive.MetricRecord(dict.fromkeys(odd, 1)),
            "c!": archive.ConfigRecord(dict.fromkeys(odd, "x")),
        }
    )
    steps: list[Callable[[], object]] = [
        lambda: archive.save(records, "a.h5"),
        lambda: archive.save(archive.load("a.h5"), "b.h5", keep_input=False),
        lambda: archive.mean(["a.h5", "b.h5"], out="c.h5"),
        lambda: archive.reindex("a.h5", "d.h5"),
        lambda: main(["mean", "e.h5", "a.h5", "b.h5"]),
        lambda: main(["reindex", "a.h5", "f.h5"]),
        lambda: renamed("a.h5", "g.h5"),
        lambda: main(["edit", "a.h5", "--out", "h.h5", "--cast", "int8", "--keys", "*"]),
        lambda: [main([command, "a.h5"]) for command in ("info", "ls", "verify")],
        lambda: archive.verify("a.h5"),
    ]
    wanted = {str(tmp_path / "outer" / "secret")}
    for step, made in zip(
        steps, ["a.h5", "b.h5", "c.h5", "d.h5", "e.h5", "f.h5", "g.h5", "h.h5", "", ""], strict=True
    ):
        step()
        wanted |= {str(inside / made)} if made else set()
        assert set(snapshot(tmp_path)) == wanted
    capsys.readouterr()
    assert (tmp_path / "outer" / "secret").read_bytes() == b"secret"
    with archive.open("a.h5") as handle:
        assert list(handle.records) == [*dict.fromkeys(odd), "m!", "c!"]


def test_foreign_names_are_never_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    with h5py.File("x.h5", "w") as file:
        for name in ("..", "a\\b", "%2E%2E", "C:", "..\\secret"):
            file.create_group("g" + name)[name] = np.arange(3)
    before = set(snapshot(tmp_path))
    with archive.open("x.h5", foreign=True) as handle:
        assert len(handle) == 5
        archive.save(handle.records, "y.h5")
    assert set(snapshot(tmp_path)) == before | {str(inside / "y.h5")}
