"""Interrupt a call at every step, with a real signal: ``python -m tests.faults.interrupts WAY EVERY``.

A profile function sends SIGALRM when a function begins or ends, Python's or C's. The handler raises at the
next moment at which Python looks for signals. Prints a JSON object: how many steps there were, how many
interrupts arrived, and what was left behind.
"""

from __future__ import annotations

import gc
import itertools
import json
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import archive
from archive.errors import ArchiveError
from archive.tools import recover
from tests.descriptors import open_files

ARRAYS = {f"w{number}": np.full(100 + number, number, "f4") for number in range(3)}


class Interrupt(BaseException):
    """What the signal handler raises."""


def planned(url: str) -> None:
    archive.save(ARRAYS, url)


def exclusive(url: str) -> None:
    archive.save(ARRAYS, url, overwrite=False, durable=False)


def consumed(url: str) -> None:
    archive.save(dict(ARRAYS), url, keep_input=False)


def streamed(url: str) -> None:
    archive.save(iter(ARRAYS.items()), url, durable=False)


def streamed_consumed(url: str) -> None:
    archive.save(iter(ARRAYS.items()), url, keep_input=False, durable=False)


def created(url: str) -> None:
    with archive.create(url) as writer:
        for key, array in ARRAYS.items():
            writer.add("model", key, array)


def opened(url: str) -> None:
    with archive.open(f"{url}.base") as handle:
        for place in handle:
            handle[place].numpy()


def loaded(url: str) -> None:
    archive.load(f"{url}.base")


WAYS = {
    call.__name__: call
    for call in (planned, exclusive, consumed, streamed, streamed_consumed, created, opened, loaded)
}


def at_step(call: Callable[[], object], step: int) -> tuple[int, bool]:
    """Make a call, send a signal at a step, and return how many steps there were and whether it raised."""
    steps = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal steps
        # what raises in a finaliser, Python ignores
        if frame.f_code.co_name != "__del__" and frame.f_code.co_filename != __file__:
            steps += 1
            if steps == step:
                signal.raise_signal(signal.SIGALRM)

    sys.setprofile(count)
    try:
        call()
    except (Interrupt, ArchiveError):
        return steps, True
    finally:
        sys.setprofile(None)
    return steps, False


def left_behind(folder: Path, before: list[str]) -> list[str]:
    """Return what is open or lies in the folder, after partial files with arrays were recovered."""
    gc.collect()
    left = [path for path in open_files(folder) if path not in before]
    for partial in folder.glob("*.partial"):
        try:
            recover(partial)
        except ArchiveError as error:
            left.append(f"{partial.name} of {partial.stat().st_size} bytes: {error}")
        else:
            partial.unlink()
    for path in folder.iterdir():
        if path.name == "a.h5":
            if not archive.verify(path).ok:
                left.append("a file that does not verify")
            path.unlink()
        elif path.name != "a.h5.base":
            left.append(path.name)
            path.unlink()
    return left


def main(way: str, every: int) -> None:
    """Interrupt every so many steps of a call, and print what happened."""

    def interrupt(*_: object) -> None:
        raise Interrupt

    signal.signal(signal.SIGALRM, interrupt)
    with tempfile.TemporaryDirectory() as name:
        folder, url = Path(name), f"{name}/a.h5"
        archive.save(ARRAYS, f"{url}.base")
        WAYS[way](url)  # loads what it needs
        left = left_behind(folder, open_files(folder))
        arrived = 0
        for step in itertools.count(1, every):
            before = open_files(folder)
            steps, raised = at_step(lambda: WAYS[way](url), step)
            left += [f"step {step}: {what}" for what in left_behind(folder, before)]
            arrived += raised
            if steps < step:  # the call has ended before
                break
    sys.stdout.write(json.dumps({"steps": steps, "arrived": arrived, "left": left}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
