"""The README holds: its blocks run, its commands are CI's, its promises have the tests that it names."""

from __future__ import annotations

import builtins
import dataclasses
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive import errors, system
from archive.cli import main
from archive.format.constants import FOOTER_BYTES, INDEX_HEADER_BYTES
from archive.format.digests import digest
from archive.format.footer import parse_footer
from tests.children import child_environment
from tests.optional import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[tuple[int, str]]:
    """Return the fenced blocks of a language, each with the line it begins at."""
    found = re.finditer(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [(README[: match.start(1)].count("\n"), match[1]) for match in found]


def python_program() -> str:
    """Return all Python blocks as one program; every line keeps its number."""
    lines = [""] * README.count("\n")
    for begin, block in blocks("python"):
        code = block.splitlines()
        lines[begin : begin + len(code)] = code
    return "\n".join(lines)


def run(command: list[str], folder: Path) -> str:
    """Run a program that finds this tree, and return what it printed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run all Python blocks in order, one program, and return where and what it printed."""
    torch()
    folder = tmp_path_factory.mktemp("readme")
    program = folder / "README.md.py"
    program.write_text(python_program(), encoding="utf-8")
    return folder, run([sys.executable, str(program)], folder)


def test_the_blocks_run_in_order(ran: tuple[Path, str]) -> None:
    folder, told = ran
    assert "[('model', 'fc.weight'), ('model', 'fc.bias')]" in told
    assert told.count("True\n") == 2, "both verified"
    assert "(256, 784) float32 numpy.ndarray" in told
    assert "foreign=True" in told
    assert "nothing: a foreign file has no digests" in told
    assert "{'lr': 0.01} ['model', 'fit', 'run']" in told
    assert "\n0\n" in told, "the dict is consumed"
    assert "the accelerator is gone" in told
    assert "['layer0', 'layer1', 'layer2']" in told
    assert "[2.25 2.25 2.25]" in told
    assert "\n2 ()\n" in told, "converted, and nothing was left out"
    assert "\ncontrol_variates/conv1.weight\n" in told
    assert "(8, 1, 3, 3)\nParameterPackerWithControlVariates\n" in told
    saved = {name for _, block in blocks("python") for name in re.findall(r'"([\w-]+\.h5)"', block)}
    left = {path.name for path in folder.iterdir()} - {"README.md.py", "repacked.h5", "other.npz"}
    clients = {f"client-{number}.h5" for number in (1, 2, 3)}
    assert left == saved - {"half.h5"} | {"half.h5.partial", "run-1"} | clients
    assert "[3, 4, 5]\n[5 5]\n" in told, "the newest three rounds, and the last of them"
    assert "\n3600\n" in told


def test_the_first_block_is_ten_lines() -> None:
    assert len([line for line in blocks("python")[0][1].splitlines() if line]) <= 10


@pytest.mark.tools
@pytest.mark.skipif(shutil.which("h5repack") is None, reason="h5repack is not here")
def test_the_console_session(ran: tuple[Path, str]) -> None:
    [(_, session)] = blocks("console")
    for line in session.splitlines():
        program, *arguments = shlex.split(line.removeprefix("$ "))
        start = [sys.executable, "-m", "archive"] if program == "fedarchive" else [program]
        run([*start, *arguments], ran[0])
    assert archive.verify(ran[0] / "repacked.h5")


def test_two_commands_and_the_second_is_what_ci_runs() -> None:
    demo, check = (block.strip() for _, block in blocks("sh"))
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert demo == "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/fedarchive demo"
    make, activate, *steps = check.split(" && ")
    assert make == "python3 -m venv .venv"
    assert activate == ". .venv/bin/activate"
    assert steps == ["pip install -e '.[test]'", "poe check"]
    assert 'python3 -m venv "$work/venv"' in ci
    assert '. "$work/venv/bin/activate"' in ci
    assert [line for line in ci if line in steps] == steps
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8").splitlines()
    assert {f"      - run: {step}" for step in steps} <= set(workflow)


def test_what_it_names_exists() -> None:
    for path, test in re.findall(r"`((?:tests|archive|benchmarks)/[\w./-]*)(?:::(\w+))?`", README):
        # the package may be installed, and its tests run from an sdist
        root = Path(archive.__file__).parents[1] if path.startswith("archive/") else ROOT
        assert (root / path).exists(), path
        if test:
            assert f"\ndef {test}(" in (ROOT / path).read_text(encoding="utf-8"), test
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).exists(), link


def test_every_error_is_in_the_table() -> None:
    named = {name for name in re.findall(r"\w+(?:Error|Warning)", README) if not hasattr(builtins, name)}
    flower = {"SchemaError"}  # in a module that needs flwr
    assert flower <= named
    roots = {"ArchiveError", "ArchiveWarning"}
    assert named - roots - flower == {*errors.__all__} - roots - {"ClosedError"}


def test_limits_are_as_it_says(tmp_path: Path) -> None:
    for call in (archive.recover, archive.reindex):
        with pytest.raises(errors.UnsupportedURLError, match="download it first"):
            call("memory://bucket/limits.h5")
    with pytest.raises(errors.UnsupportedURLError):
        archive.save({"w": np.zeros(1)}, "http://127.0.0.1:9/model.h5")
    pair = ("w", np.zeros(1))
    with pytest.raises(TypeError, match="keep_input=False"):
        archive.save((pair[1],), tmp_path / "a.h5", keep_input=False)
    for given in ({"w": pair[1]}, [pair[1]], archive.ArrayRecord([pair[1]])):
        archive.save(given, tmp_path / "a.h5", keep_input=False)
        assert not len(given)
    archive.save(iter([pair]), tmp_path / "a.h5", metrics={"loss": 0.5}, keep_input=False)
    archive.mean([tmp_path / "a.h5"], out=tmp_path / "mean.h5")
    assert list(archive.load(tmp_path / "mean.h5")) == ["model"]
    record = archive.ArrayRecord([pair[1]])
    record.attributes["role"] = "weights"
    archive.save(record, tmp_path / "a.h5")
    archive.mean([tmp_path / "a.h5"], out=tmp_path / "mean.h5")
    averaged: Any = archive.load(tmp_path / "mean.h5").array_records["model"]
    assert averaged.attributes == {"role": "weights"}
    archive.reindex(tmp_path / "a.h5", tmp_path / "again.h5")
    again: Any = archive.load(tmp_path / "again.h5").array_records["model"]
    assert again.attributes == {"role": "weights"}
    context = archive.Context(1, 7, {}, archive.RecordDict(), {})
    archive.save(context, tmp_path / "context.h5")
    with archive.open(tmp_path / "context.h5", foreign=True) as handle:
        assert handle.context == context
    for name in "ab":
        archive.save({"w": np.array([name])}, tmp_path / f"{name}.h5")
    with pytest.raises(errors.UnsupportedDtypeError):
        archive.mean([tmp_path / "a.h5", tmp_path / "b.h5"], out=tmp_path / "mean.h5")


def test_the_commands_it_shows_do_what_it_says(ran: tuple[Path, str]) -> None:
    shown = re.findall(r"`fedarchive ((?:recover|mean) [^`]+)` does the same", README)
    assert [command.split()[0] for command in shown] == ["recover", "mean"]
    for command in shown:
        out = next(word for word in command.split() if word in ("arrived.h5", "mean.h5"))
        before = archive.load(ran[0] / out)
        (ran[0] / out).unlink()
        run([sys.executable, "-m", "archive", *shlex.split(command)], ran[0])
        assert archive.load(ran[0] / out) == before


def test_flipped_bytes_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    archive.save({"w": np.arange(30.0)}, path, metrics={"loss": 0.5})
    good = path.read_bytes()
    # every byte of the array, and every 17th of the file
    for offset in [*range(4096, 4096 + 240), *range(0, len(good), 17)]:
        bad = bytearray(good)
        bad[offset] ^= 0x10
        path.write_bytes(bad)
        try:
            assert not archive.verify(path), offset
        except archive.ArchiveError:
            continue
        if 4096 <= offset < 4096 + 240:
            with archive.open(path) as handle, pytest.raises(errors.DigestError, match="model/w"):
                handle["w"].numpy()


def test_a_save_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def noted(name: str, call: Any) -> Any:
        def wrapper(*arguments: Any) -> Any:
            calls.append(name)
            return call(*arguments)

        return wrapper

    for module, name in ((system, "fsync"), (os, "rename")):
        monkeypatch.setattr(module, name, noted(name, getattr(module, name)))
    archive.save({"w": np.zeros(3)}, tmp_path / "a.h5")
    assert calls == ["fsync", "rename", "fsync"], "the file, its name, its folder"


@pytest.mark.parametrize("field", ["header", "offset"])
def test_a_hostile_index_is_refused(field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An index that lies under digests that hold."""
    path = tmp_path / "a.h5"
    archive.save({"w": np.arange(512.0)}, path)
    data = bytearray(path.read_bytes())
    footer = parse_footer(bytes(data[-FOOTER_BYTES:]), len(data))
    index = data[footer.index_at : footer.index_at + footer.index_bytes]
    if field == "offset":
        # the array is said to lie where the file ends
        at = index.index((4096).to_bytes(8, "little"), INDEX_HEADER_BYTES)
        index[at : at + 8] = len(data).to_bytes(8, "little")
    else:
        index[16:INDEX_HEADER_BYTES] = b"\xff" * (INDEX_HEADER_BYTES - 16)
    data[footer.index_at : footer.index_at + footer.index_bytes] = index
    data[-FOOTER_BYTES:] = dataclasses.replace(footer, index_digest=digest(bytes(index))).pack()
    path.write_bytes(data)
    with pytest.raises(errors.HostileFileError):
        archive.open(path)
    assert main(["info", str(path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


class Canary:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> Any:
        return (os.mkdir, ("unpickled",))


@pytest.mark.must("FILE-3")
def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(Canary())
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + b"\n"
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + pickled
    records = archive.RecordDict(
        {
            "model": archive.ArrayRecord({"w": archive.Array("object", (), "numpy.ndarray", npy)}),
            "run": archive.ConfigRecord({"blob": pickled}),
        }
    )
    archive.save(records, "a.h5")
    assert archive.verify("a.h5")
    loaded = archive.load("a.h5")
    with archive.open("a.h5") as handle:
        for array in (handle["w"], loaded.array_records["model"]["w"], records.array_records["model"]["w"]):
            assert array.data == npy
            for copy in (False, True):
                with pytest.raises(ValueError, match=r"object|pickle"):
                    array.numpy(copy=copy)
    assert loaded["run"]["blob"] == pickled
    assert main(["ls", "a.h5", "--json"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5"]
