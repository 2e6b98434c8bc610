"""Drivers as processes of their own, with a time limit, and what came of them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hdf5tools.comparing import Loose, Outcome, compare, form_of, judge
from tests.hdf5tools.control import CONTROLS, write_control
from tests.hdf5tools.drivers.canon import MARK
from tests.hdf5tools.kinds import Kind, rewritten
from tests.hdf5tools.tools import DRIVERS, ROOT

__all__ = ["SECONDS", "Cell", "Files", "environment", "judged", "outcome", "said_by"]

ATTEMPTS = 3
"""How often archive and controls are read: what a tool shows of memory that is not its own differs."""
SECONDS = 600
"""A driver may take, on one file. hdf5r takes three minutes for 5,000 arrays on a busy machine."""


@dataclass(frozen=True)
class Cell:
    """One tool and one kind of archive."""

    verdict: str
    """``right``, ``theirs``, ``wrong`` or ``missing``."""
    ours: Outcome = field(default_factory=Outcome)
    """What came of the archive."""
    control: str = ""
    """The control that failed alike."""


@dataclass(frozen=True)
class Files:
    """An archive of one kind with its controls."""

    archive: Path
    controls: Mapping[str, Path]
    saved: Mapping[str, Any]
    """What is in each of them, as drivers spell it."""


def make(kind: Kind, folder: Path) -> Files:
    """Write an archive and its controls into an empty folder."""
    folder.mkdir()
    path = folder / "archive0.h5"
    tree = kind.make(path)
    controls = {name: folder / f"control{number}.h5" for number, name in enumerate(CONTROLS)}
    for name, control in controls.items():
        write_control(control, tree, **CONTROLS[name])
    for each in (path, *controls.values()):
        rewritten(kind, each)
    return Files(path, controls, form_of(tree))


def environment(cache: Path | None) -> dict[str, str]:
    """Return the environment variables of drivers."""
    with contextlib.suppress(OSError):
        version = subprocess.run(["h5dump", "--version"], capture_output=True, text=True, check=True).stdout
        os.environ["FEDARCHIVE_HDF5_SYSTEM"] = version.split()[-1]
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "FEDARCHIVE_HDF5_NPM": str((cache or Path.cwd()) / "npm"),
        "FEDARCHIVE_HDF5_DRIVERS": str(DRIVERS),
    }


@contextlib.contextmanager
def started(command: Sequence[str], variables: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start a driver; whatever it started ends with the block."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        env=dict(variables),
        start_new_session=True,
        text=True,
        errors="replace",
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def said_by(command: Sequence[str], variables: Mapping[str, str], seconds: float = SECONDS) -> Any:
    """Return what a driver says, or a text that says how it failed."""
    with started(command, variables) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"it took more than {seconds} seconds"
    lines = [line for line in output.splitlines() if line.startswith(MARK)]
    if process.returncode < 0:
        return signal.Signals(-process.returncode).name
    if process.returncode or not lines:
        return failure(errors) or f"exit {process.returncode}"
    return json.loads(lines[-1][len(MARK) :])


def failure(errors: str) -> str:
    """Return the line of standard error that says what failed."""
    lines = [line.strip() for line in errors.splitlines() if line.strip() and "error: ignoring" not in line]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b|error: |h5\w+: exit", line)]
    named = [line for line in named if not line.startswith("error: called from")]
    return (named or lines or [""])[-1][:300]


def outcome(
    command: Sequence[str],
    path: Path,
    saved: Mapping[str, Any],
    loose: Loose,
    variables: Mapping[str, str],
    seconds: float = SECONDS,
) -> Outcome:
    """Return what came of one tool and one file."""
    said = said_by([*command, str(path)], variables, seconds)
    if isinstance(said, str):
        return Outcome(failure=said)
    return Outcome(compare(saved, said, loose) if said else ())


def judged(
    command: Sequence[str], files: Files, loose: Loose, variables: Mapping[str, str], seconds: float = SECONDS
) -> Cell:
    """Return whether a tool reads an archive, and whose fault it is where it does not."""

    def read(path: Path) -> Outcome:
        return outcome(command, path, files.saved, loose, variables, seconds)

    ours = read(files.archive)
    if ours.is_right:
        return Cell("right", ours)
    for attempt in range(ATTEMPTS):
        again = read(files.archive) if attempt else ours
        for name, control in files.controls.items():
            if judge(again, read(control)) == "theirs":
                return Cell("theirs", again, name)
    return Cell("wrong", ours)
