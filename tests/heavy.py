"""JSON that takes far more memory than it is long, and what an act on a file that holds it takes.

``python -m tests.heavy ACT FILE`` does one act in a process of its own; the last line of its output is a JSON
object of figures.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import archive
from archive.__main__ import main as command_line
from archive.errors import ArchiveError, HostileFileError
from tests.memory.child import rss_anon

__all__ = ["HEAVY", "document"]

HEAVY: dict[str, Callable[[int], str]] = {
    "deep": lambda n: "[" * (n // 2) + "]" * (n // 2),
    "nested lists": lambda n: _list("[" * 29 + "]" * 29, n),
    "nested objects": lambda n: _list('{"":' * 29 + "0" + "}" * 29, n),
    "empty lists": lambda n: _list("[]", n),
    "one string": lambda n: f'"{"a" * n}"',
    "one wide string": lambda n: f'"\U0001f600{"a" * n}"',
    "escapes": lambda n: f'"\\ud83d\\ude00{"a" * n}"',
    "short strings": lambda n: _list('"ab"', n),
    "keys": lambda n: "{" + ",".join(f'"{number:x}":0' for number in range(n // 10)) + "}",
    "numbers": lambda n: _list("1.5", n),
    "one integer": lambda n: "9" * n,
    "long integers": lambda n: _list("9" * 309, n),
    "the same key": lambda n: "{" + ",".join(['"x":0'] * (n // 6)) + "}",
}
"""Texts of about n bytes."""


def _list(item: str, nbytes: int) -> str:
    return "[" + ",".join([item] * (nbytes // (len(item) + 1))) + "]"


def document(member: str) -> bytes:
    """Return the JSON of an index that has one member more."""
    head = '{"container":"recorddict","created":"2026-01-02T03:04:05Z","writer":"x","values":[],'
    return f'{head}"x":{member}}}'.encode()


def _open(path: Path) -> None:
    with archive.open(path, access="pread"):
        pass


def _info(path: Path) -> None:
    with archive.open(path) as handle:
        _ = handle.info


def _records(path: Path) -> None:
    with archive.open(path) as handle:
        _ = handle.records


def _command(name: str) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
            code = command_line([name, str(path)])
        if code:
            raise HostileFileError(said.getvalue())

    return act


ACTS: dict[str, Callable[[Path], object]] = {
    "open": _open,
    "info": _info,
    "records": _records,
    "load": archive.load,
    "verify": archive.verify,
    **{f"fedarchive {name}": _command(name) for name in ("info", "ls", "verify")},
}


def main(act: str, path: Path) -> dict[str, Any]:
    """Do one act, and say what it took."""
    with contextlib.suppress(ArchiveError):  # what is imported on the way is not what is measured
        ACTS[act](path.with_name("light.h5"))
    before = most = rss_anon()
    ended = threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.002):
            most = max(most, rss_anon())

    watching = threading.Thread(target=watch)
    watching.start()
    begun, error = time.process_time(), ""
    try:
        ACTS[act](path)
    except HostileFileError as caught:
        error = str(caught)
    finally:
        seconds = time.process_time() - begun
        ended.set()
        watching.join()
    return {"seconds": seconds, "bytes": max(most, rss_anon()) - before, "error": error}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], Path(sys.argv[2]))) + "\n")
