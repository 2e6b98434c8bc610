"""`flwr run` with a SuperLink of our own: started, watched, killed and waited for, offline."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.interop.environments import variables

APP = Path(__file__).parent / "app"
NODES = 3


class Simulation:
    """One SuperLink on loopback, with a home and ports of its own.

    Everything that it starts is found through its process id, and stopped by its own.
    """

    def __init__(self, python: Path, folder: Path) -> None:
        self.bin, self.folder = python.parent, folder
        self.url, self.out = folder / "checkpoints", folder / "result.json"
        self._home, self._log = folder / "home", folder / "superlink.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._run: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in variables().items() if name != "TMPDIR"}
        return kept | {
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "FLWR_HOME": str(self._home),
            "RAY_USAGE_STATS_ENABLED": "0",
            "BITSAPP_URL": str(self.url),
            "BITSAPP_OUT": str(self.out),
            "BITSAPP_NODES": str(NODES),
            "BITSAPP_SECONDS": "0.3",
        }

    @contextlib.contextmanager
    def running(self) -> Iterator[Simulation]:
        """Start the SuperLink, with a fresh home, and stop all that it started."""
        shutil.rmtree(self._home, ignore_errors=True)
        self._home.mkdir(parents=True)
        http, control = free_ports(2)
        address = f'address = "127.0.0.1:{http}"\ninsecure = true\n'
        (self._home / "config.toml").write_text(
            f'[superlink]\ndefault = "ours"\n\n[superlink.ours]\n{address}'
        )
        command: list[str | Path] = [self.bin / "flower-superlink", "--insecure", "--simulation"]
        command += ["--isolation", "subprocess"]
        command += ["--control-api-address", f"127.0.0.1:{control}", "--host", "127.0.0.1"]
        command += ["--port", str(http), "--disable-runtime-dependency-installation"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self.environment(), stdout=log, stderr=log, cwd=self.folder
            )
        try:
            wait_for(lambda: is_open(http), 90, self.tail)
            yield self
        finally:
            self.kill()

    def submit(self, rounds: int) -> None:
        """Submit a run; its log is streamed to ours until it ends."""
        command: list[str | Path] = [self.bin / "flwr", "run", APP, "ours", "--stream"]
        command += ["--run-config", f"num-server-rounds={rounds}"]
        command += ["--federation-config", f"num-supernodes={NODES}"]
        with self._log.open("ab") as log:
            self._run = subprocess.Popen(command, env=self.environment(), stdout=log, stderr=log)

    def result(self, seconds: float = 300) -> dict[str, Any]:
        """Wait for the run to end, and return what the ServerApp wrote."""
        self.wait(self.out.exists, seconds)
        time.sleep(0.2)
        found: dict[str, Any] = json.loads(self.out.read_text())
        return found

    def wait(self, condition: Callable[[], bool], seconds: float = 240) -> None:
        def done() -> bool:
            if condition():
                return True
            assert self._run is None or self._run.poll() is None, f"the run ended\n{self.tail()}"
            return False

        wait_for(done, seconds, self.tail)

    def kill(self) -> int:
        """SIGKILL the SuperLink and every process it started, by their ids; return how many there were."""
        if self._process is None:
            return 0
        started = [process.pid for process in (self._process, self._run) if process is not None]
        family = [*started, *(pid for each in started for pid in descendants(each))]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in (self._process, self._run):
            if process is not None:
                process.wait()
        self._process = self._run = None
        return len(family)

    def tail(self, length: int = 6000) -> str:
        return self._log.read_text(errors="replace")[-length:] if self._log.exists() else "no log"


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes below one."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def wait_for(condition: Callable[[], bool], seconds: float, tell: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s\n{tell()}")
        time.sleep(0.05)
