"""K1 of FAULTS.md: a process forks while it saves or reads, and its child leaves in every way there is.

The parent's file ends exact and complete; the child changes nothing of it, holds no lock on it, and is told
so by a typed error where it uses what it inherited.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.children import child_environment
from tests.faults.forks import ALL, FEW, INERT, Play, judge, parent

BLOCK = INERT | {"return": None}
"""Whoever goes on leaves the block of a writer, and does not use it."""
SPEED = pytest.mark.parametrize(
    "scenes", [FEW, pytest.param(ALL, marks=pytest.mark.slow)], ids=["few", "all"]
)


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    with parent() as play:
        yield play


@SPEED
@pytest.mark.parametrize(
    ("writer", "moment", "options"),
    [
        ("generator", 2, {"overwrite": False}),
        ("planned", 1, {"keep_input": False}),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("generator", 2, {"keep_input": False}),
                ("copied", 0, {}),
                ("generator", 0, {}),
                ("generator", 5, {"durable": True}),
                ("planned", 0, {}),
                ("pieces", 3, {}),
                ("averaged", 0, {}),
            )
        ),
    ],
)
def test_save(tmp_path: Path, play: Play, scenes: Any, writer: str, moment: int, options: Any) -> None:
    request = {"place": "local", "writer": writer, "moment": moment, "options": options}
    judge(scenes, play(folder=str(tmp_path), scenes=scenes, **request), INERT)


@SPEED
@pytest.mark.parametrize("overwrite", [pytest.param(True, marks=pytest.mark.slow), False])
def test_create(tmp_path: Path, play: Play, scenes: Any, overwrite: bool) -> None:
    scenes += (("use", True),)
    request = {"place": "local", "writer": "create", "options": {"overwrite": overwrite}}
    judge(scenes, play(folder=str(tmp_path), scenes=scenes, **request), BLOCK)


@SPEED
@pytest.mark.parametrize("place", [pytest.param("memory", marks=pytest.mark.slow), "parts"])
@pytest.mark.parametrize(
    ("writer", "moment", "options"),
    [
        pytest.param("create", 2, {}, marks=pytest.mark.slow),
        ("generator", 3, {"keep_input": False}),
        pytest.param("generator", 2, {}, marks=pytest.mark.slow),
        pytest.param("planned", 0, {}, marks=pytest.mark.slow),
    ],
)
def test_remote(
    tmp_path: Path, play: Play, scenes: Any, place: str, writer: str, moment: int, options: Any
) -> None:
    request = {"place": place, "writer": writer, "moment": moment, "options": options}
    inert = BLOCK if writer == "create" else INERT
    judge(scenes, play(folder=str(tmp_path), scenes=scenes, **request), inert)


# a fork that Python does not hear of leaves locks of other threads as they are: once in 25 runs a child hung
@pytest.mark.parametrize(
    "raw", [pytest.param(False, id="fork"), pytest.param(True, id="fork of C code", marks=pytest.mark.slow)]
)
def test_everything_in_the_making(tmp_path: Path, play: Play, raw: bool) -> None:
    """Each thing refuses what a child asks of it, and is published by the parent while the child lives."""
    for late in (False, True):
        folder = tmp_path / str(late)
        folder.mkdir()
        (answer,) = play(folder=str(folder), scenes=[("use", late)], writer="objects", raw=raw)
        assert not answer["problem"], answer
        assert answer["status"] == 0
        assert len(answer["told"]) == 7
        assert {told for found in answer["told"].values() for told in found} == {
            "ClosedError: belongs to another process"
        }, answer


def test_background(tmp_path: Path, play: Play) -> None:
    """A thread saves while the main thread forks: the child's store works, and has no file of the thread."""
    scenes = [("exit", False), ("use", False), ("return", True)]
    inert = INERT | {"return": None, "use": None}
    judge(scenes, play(folder=str(tmp_path), scenes=scenes, writer="background"), inert)


def test_cache_being_filled(tmp_path: Path, play: Play) -> None:
    """Threads fetch ahead while the main thread forks: the child reads by itself, or is told."""
    scenes = [("use", False), ("return", True)]
    judge(scenes, play(folder=str(tmp_path), scenes=scenes, writer="reading"), INERT | {"use": None})


def test_load_and_verify(tmp_path: Path, play: Play) -> None:
    scenes = [("exit", False), ("return", False)]
    judge(scenes, play(folder=str(tmp_path), scenes=scenes, writer="loading"), INERT)


SLOW = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("place", "writer", "options", "most"),
    [
        *(
            pytest.param(place, writer, options, 60, marks=SLOW)
            for place, writer, options in (
                ("local", "generator", {}),
                ("local", "planned", {}),
                ("local", "create", {"overwrite": False}),
                ("local", "generator", {"keep_input": False}),
                ("local", "planned", {"keep_input": False}),
                ("memory", "generator", {"keep_input": False}),
                ("files", "planned", {}),
                ("parts", "generator", {}),
            )
        ),
    ],
)
def test_every_phase(
    tmp_path: Path, play: Play, figures: Any, place: str, writer: str, options: Any, most: int
) -> None:
    """Fork at every call that the thread which saves makes of our functions, or in ours."""
    # before there is a file, a child that goes on is a writer of its own; the second of two may be refused
    scenes = [
        ("exit", False),
        ("error", True),
        *([] if options.get("overwrite") is False else [("return", False)]),
    ]
    request = {"place": place, "writer": writer, "options": options, "calls": most}
    answers = play(folder=str(tmp_path), scenes=scenes, **request)
    assert len(answers) > len(scenes)
    for answer in answers:
        assert not answer["problem"], answer
        assert answer["status"] == 0, answer
        kind, text = answer["told"] or ("", "")
        # whatever other people's file systems raise is a StorageError that names it
        assert kind in ("", "SystemExit", "Boom", "ClosedError") or "Boom" in text, answer
    if most > 10:
        figures(f"{place} {writer} {options}: {len(answers)} forks")


FORK_AT = """
import os, sys
import numpy as np
import archive

keep_input = sys.argv[1] == "True"
parent, forked = os.getpid(), []

def fork(frame, event, argument):
    if event == "call" and frame.f_code.co_name == "map_private" and not forked:
        forked.append(True)
        sys.setprofile(None)
        os.fork()

sys.setprofile(fork)
told = "nothing"
try:
    archive.save(iter([("w", np.arange(9))]), "memory://folder/m.h5", keep_input=keep_input)
except BaseException as error:
    told = type(error).__name__
if os.getpid() != parent:
    os._exit(0 if told == "ClosedError" else 1)
_, status = os.wait()
assert forked and os.waitstatus_to_exitcode(status) == 0, (forked, status)
assert told == "nothing" and archive.verify("memory://folder/m.h5").ok, told
"""


@pytest.mark.needs("os.fork")
@pytest.mark.parametrize("keep_input", [True, False])
def test_as_the_collected_file_is_sent(tmp_path: Path, keep_input: bool) -> None:
    """Between the check of the process and the call: 1 of 1,500 forks ended in a bare OSError."""
    command = [sys.executable, "-c", FORK_AT, str(keep_input)]
    done = subprocess.run(
        command, check=False, env=child_environment(), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


JOURNAL_AT = """
import os, sys
import numpy as np
import archive

parent, forked = os.getpid(), []

def fork(frame, event, argument):
    names = frame.f_code.co_name, frame.f_back.f_code.co_name
    if event == "call" and names == (sys.argv[1], sys.argv[2]) and not forked:
        forked.append(True)
        sys.setprofile(None)
        if os.fork():
            os.wait()

given = {"w": np.arange(9), "v": np.ones(3)}
sys.setprofile(fork)
told = "nothing"
try:
    archive.save(given, "m.h5", keep_input=False)
except BaseException as error:
    told = f"{type(error).__name__}: {error}"
if os.getpid() != parent:
    os._exit(0 if told.startswith("ClosedError") else 1)
assert forked and told == "nothing" and not given, told
assert archive.verify("m.h5").ok and os.listdir(".") == ["m.h5"], os.listdir(".")
"""


@pytest.mark.needs("os.fork")
@pytest.mark.parametrize("at", ["_make __init__", "unforked __init__", "open _make"])
def test_as_the_journal_is_made(tmp_path: Path, at: str) -> None:
    """The child made the journal, and its parent's save ended: the file existed."""
    command = [sys.executable, "-c", JOURNAL_AT, *at.split()]
    done = subprocess.run(
        command, check=False, env=child_environment(), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
