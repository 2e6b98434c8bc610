"""A server that forks one child a scenario: a save, watched and disturbed by strace from its first call on.

The interpreter is started once. A child waits at a pipe until strace holds it, so that the calls that
are counted and disturbed are those of the save and no others. Run as ``python -m tests.faults.forge``:
requests and answers are lines of JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import archive
from tests.faults.scenes import LARGE, consume, edit, save

PR_SET_PTRACER = 0x59616D61


def fd_count() -> int:
    """Return how many file descriptors are open, by no call that a scenario refuses."""
    return sum(_is_open(fd) for fd in range(256))


def _is_open(fd: int) -> bool:
    try:
        os.get_inheritable(fd)
    except OSError:
        return False
    return True


def in_place(path: str, version: int, size: int) -> None:
    """Save as a careless program does: over the old file, synced. A negative control."""
    ready = Path(path + ".ready").read_bytes()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
    for start in range(0, len(ready), 4096):
        os.pwritev(fd, [ready[start : start + 4096]], start)
    os.fsync(fd)
    os.close(fd)


def _save(path: str, version: int, size: int, options: dict[str, Any]) -> None:
    if options.pop("in_place", False):
        in_place(path, version, size)
        return
    if "recover" in options:
        archive.recover(path)
    elif "edit" in options:
        edit(path, version, size)
    elif "consume" in options:
        consume(path, options.pop("consume"), **options)
    else:
        save(path, version, size, **options)


def child(request: dict[str, Any]) -> dict[str, Any]:
    """Save once and tell how it went."""
    limit = request.get("file_size_limit")
    if limit:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    before = fd_count()
    answer: dict[str, Any] = {"error": None}
    try:
        _save(request["path"], request["version"], request["size"], dict(request.get("options", {})))
    except BaseException as error:  # noqa: BLE001 - whatever it is, the test has to see it
        answer = {
            "error": type(error).__name__,
            "ours": isinstance(error, archive.ArchiveError),
            "errno": getattr(error, "errno", None),
            "text": str(error),
        }
        error.__traceback__ = None
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it came too late: the save has ended
    answer["fds"] = fd_count() - before
    return answer


def _fork(work: Callable[[], dict[str, Any]], result: int) -> tuple[int, int]:
    """Fork a child that waits for a byte, works, and writes its answer; return its pid and the pipe."""
    waiting, start = os.pipe()
    pid = os.fork()
    if pid:
        os.close(waiting)
        return pid, start
    try:
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
        os.close(start)
        os.write(result, b"!")  # ready: strace sees none of the calls above
        os.read(waiting, 1)
        os.write(result, json.dumps(work()).encode())  # a pipe: file-size limits do not touch it
        os._exit(0)
    except BaseException:  # noqa: BLE001 - a child never returns
        traceback.print_exc()
    finally:
        os._exit(1)


def scenario(request: dict[str, Any]) -> dict[str, Any]:
    """Run one save, under strace where arguments for it are given, and return how it ended."""
    reading, result = os.pipe()
    pid, start = _fork(lambda: child(request), result)
    os.close(result)
    os.read(reading, 1)
    tracer, log = None, None
    if "strace" in request:
        log = tempfile.NamedTemporaryFile("r", suffix=".strace")  # noqa: SIM115 - closed below
        command = ["strace", "-f", "-p", str(pid), "-o", log.name, *request["strace"]]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert tracer.stderr is not None
        attached = tracer.stderr.readline()
        if "attached" not in attached:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return {"refused": attached}
    interrupt = request.get("interrupt_after")
    os.write(start, b"x")
    os.close(start)
    if interrupt is not None:
        time.sleep(interrupt)
        os.kill(pid, signal.SIGINT)
    _, status = os.waitpid(pid, 0)
    if tracer is not None:
        tracer.communicate()
    answer: dict[str, Any] = {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}
    answer["exit"] = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
    if answer["exit"] == 0:
        answer |= json.loads(os.read(reading, 1 << 16))
    if log is not None:
        if request.get("want_log"):
            answer["log"] = Path(log.name).read_text()
        log.close()
    os.close(reading)
    return answer


def warm_up(path: Path) -> None:
    """Save as the children will."""
    save(path, 1)
    save(path, 2, LARGE, durable=False)
    edit(path, 3, LARGE)


def main() -> None:
    """Answer requests until the input ends."""
    with tempfile.TemporaryDirectory() as folder:  # everything is imported before the first fork
        warm_up(Path(folder, "warm.h5"))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(scenario(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
