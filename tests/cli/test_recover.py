"""``fedarchive recover``."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.cli import main
from tests.children import child_environment


@pytest.fixture(scope="module")
def died(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a save leaves that dies after two arrays, its journal beside it."""
    folder = tmp_path_factory.mktemp("died")
    code = """
    import os
    import numpy as np
    import archive

    def layers():
        yield "a", np.arange(3.0)
        yield "b", np.ones((2, 2), "f4")
        os._exit(9)

    archive.save(layers(), "big.h5", metrics={"loss": 0.5}, keep_input=False)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=folder, env=child_environment(), check=False
    )
    assert done.returncode == 9
    path = folder / "big.h5.partial"
    assert path.with_name("big.h5.partial.journal").exists()
    return path


@pytest.fixture
def partial(died: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    for name in (died.name, f"{died.name}.journal"):
        shutil.copyfile(died.with_name(name), tmp_path / name)
    return tmp_path / died.name


def test_other_commands_lead_here(partial: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(partial)]) == 2
    told = capsys.readouterr().err
    assert "fedarchive recover" in told
    assert "reindex" not in told


def test_in_place(partial: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recover", str(partial)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"{partial}: 2 arrays, 40 bytes, all verified"
    assert told[1:] == ["  arrays/model, 2 arrays", "  metrics/metrics"]
    assert archive.verify(partial)
    assert [path.name for path in partial.parent.iterdir()] == [partial.name], "the journal has done its work"


def test_a_second_time_says_the_same(partial: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recover", str(partial)]) == main(["recover", str(partial)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:3] == told[3:]


def test_to_an_archive(partial: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = partial.with_name("out.h5")
    assert main(["recover", str(partial), str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["path", "container", "arrays", "array_bytes", "file_bytes", "records", "saved"]
    assert list(told["saved"]) == ["path", "arrays", "array_bytes", "file_bytes", "seconds", "digest"]
    assert told["saved"]["path"] == str(out)
    assert archive.verify(out)
    records: Any = archive.load(out)
    assert list(records["model"]) == ["a", "b"]
    assert records["metrics"]["loss"] == 0.5
    assert partial.exists()


def test_over_itself(partial: Path) -> None:
    assert main(["recover", str(partial), str(partial)]) == 0
    assert archive.verify(partial).arrays == 2


def test_a_context_stays_one(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done > 9 << 20:  # the first array of 8 MiB is written
            raise StopError

    layers = {str(number): archive.Array(np.ones(1 << 20)) for number in range(4)}
    state = archive.RecordDict({"model": archive.ArrayRecord(array_dict=layers)})
    context = archive.Context(run_id=5, node_id=7, node_config={}, state=state, run_config={"lr": 0.1})
    with pytest.raises(archive.ArchiveError) as caught:
        archive.save(context, tmp_path / "c.h5", keep_input=False, progress=stop)
    assert caught.value.partial
    assert main(["recover", caught.value.partial, str(tmp_path / "out.h5")]) == 0
    with archive.open(tmp_path / "out.h5") as handle:
        assert (handle.context.run_id, handle.context.run_config) == (5, {"lr": 0.1})


def test_a_journal_of_somebody_else(partial: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = partial.with_name(partial.name + ".journal")
    line = b'{"head": 1}'
    journal.write_bytes(b"%08x %s\n" % (zlib.crc32(line), line))
    assert main(["recover", str(partial)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1


@pytest.mark.parametrize("name", ["nowhere.partial", "notes.partial", "s3://bucket/a.partial"])
def test_nothing_to_recover(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.partial").write_text("nothing of interest\n")
    assert main(["recover", name]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_failed_generator(tmp_path: Path) -> None:
    def layers() -> Iterator[tuple[str, Any]]:
        yield "a", np.arange(3.0)
        raise RuntimeError("the GPU is gone")

    with pytest.raises(archive.ArchiveError, match="recover"):
        archive.save(layers(), tmp_path / "big.h5", keep_input=False)
    assert main(["recover", str(tmp_path / "big.h5.partial")]) == 0
