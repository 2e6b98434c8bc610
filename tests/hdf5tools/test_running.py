"""Drivers as processes; and those of this environment over archives of every kind."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from tests.hdf5tools.kinds import KINDS, Kind, MissingError
from tests.hdf5tools.running import Files, environment, judged, make, said_by
from tests.hdf5tools.tools import TOOLS, Tool, find


def is_here(tool: Tool) -> bool:
    """Whether its driver runs in this environment as it is."""
    if "." in tool.driver or tool.oldest or not tool.packages:
        return False
    packages = [importlib.util.find_spec(package.replace("-", "_")) for package in tool.packages]
    return None not in packages and None not in map(shutil.which, tool.programs)


HERE = [tool for tool in TOOLS if is_here(tool)]


def child(code: str, seconds: float = 20) -> object:
    return said_by([sys.executable, "-c", code], os.environ, seconds)


def test_a_crash_an_error_and_silence_are_told_apart() -> None:
    assert child("import os; os.kill(os.getpid(), 11)") == "SIGSEGV"
    assert child("raise ValueError('no such type')") == "ValueError: no such type"
    assert child("print('hello')") == "exit 0"
    assert child("print('said: {}'); raise SystemExit(3)") == "exit 3"
    assert child("print('a line'); print('said: {\"/\": 1}')") == {"/": 1}


def test_a_driver_that_hangs_ends_with_what_it_started(tmp_path: Path) -> None:
    inner = f"import pathlib, time; time.sleep(0.8); pathlib.Path({str(tmp_path / 'late')!r}).touch()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    assert child(code, 0.3) == "it took more than 0.3 seconds"
    time.sleep(0.6)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module", params=KINDS, ids=[kind.name for kind in KINDS])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Files:
    kind: Kind = request.param
    try:
        return make(kind, tmp_path_factory.mktemp("kind") / "files")
    except MissingError as error:
        pytest.skip(f"{error} is not here")


@pytest.mark.slow
@pytest.mark.parametrize("tool", HERE, ids=[tool.name for tool in HERE])
def test_readers_of_this_environment_show_what_was_saved(files: Files, tool: Tool) -> None:
    cell = judged(find(tool, None), files, tool.loose, environment(None))
    assert cell.verdict in ("right", "theirs"), cell.ours
    assert tool.name != "h5py" or cell.verdict == "right"
