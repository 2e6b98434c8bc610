"""`flwr run` with a SuperLink of our own: started, watched, killed and waited for, offline.

`Simulation` lets the SuperLink run the clients, with Ray. `tests.flower.deployment` has SuperNodes instead.
"""

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
"""An app of both of Flower's APIs; its run config and environment say what it does."""


class SuperLink:
    """One SuperLink on loopback, with a home and ports of its own.

    Everything that it starts is found through its process id, and stopped by its own.
    """

    options: tuple[str, ...] = ()
    """Further arguments of flower-superlink."""
    nodes = 2
    """Clients of a run."""

    def __init__(
        self, python: Path, folder: Path, api: str = "messages", *, app: Path = APP, **environment: str
    ) -> None:
        self.bin, self.folder, self.api, self.app = python.parent, folder, api, app
        self._environment = environment
        self.url, self.out = folder / "checkpoints", folder / "result.json"
        self._home, self._log = folder / "home", folder / "superlink.log"
        self._superlink: subprocess.Popen[bytes] | None = None
        self._runs: list[subprocess.Popen[bytes]] = []
        self.port = 0

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in variables().items() if name != "TMPDIR"}
        return kept | {
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "FLWR_HOME": str(self._home),
            "RAY_USAGE_STATS_ENABLED": "0",
            "BITSAPP_API": self.api,
            "BITSAPP_URL": str(self.url),
            "BITSAPP_OUT": str(self.out),
            "BITSAPP_NODES": str(self.nodes),
            "BITSAPP_SECONDS": "0.3",
            **self._environment,
        }

    @contextlib.contextmanager
    def running(self) -> Iterator[Any]:
        """Start the SuperLink, with a fresh home, and stop all that was started."""
        shutil.rmtree(self._home, ignore_errors=True)
        self._home.mkdir(parents=True)
        (self.port,) = free_ports(1)
        address = f'address = "127.0.0.1:{self.port}"\ninsecure = true\n'
        (self._home / "config.toml").write_text(
            f'[superlink]\ndefault = "ours"\n\n[superlink.ours]\n{address}'
        )
        try:
            self.start_superlink()
            yield self
        finally:
            self.kill()

    def start_superlink(self) -> None:
        """Start the SuperLink, with its port and home, and wait until it listens."""
        command = ["flower-superlink", "--insecure", "--isolation", "subprocess", *self.options]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--disable-runtime-dependency-installation"]
        self._superlink = self.spawn(command)
        wait_for(lambda: is_open(self.port), 90, self.tail)

    def spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start one of Flower's programs; its output goes to our log."""
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [str(self.bin / command[0]), *command[1:]],
                env=self.environment(),
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )

    def submit(self, rounds: int, **config: Any) -> subprocess.Popen[bytes]:
        """Submit a run with a run config; its log is streamed to ours until it ends."""
        self.out.unlink(missing_ok=True)
        values = {"num-server-rounds": rounds, **{key.replace("_", "-"): v for key, v in config.items()}}
        text = " ".join(f"{key}={json.dumps(value)}" for key, value in values.items())
        command = ["flwr", "run", str(self.app), "ours", "--stream", "--run-config", text]
        run = self.spawn([*command, *self.run_options()])
        self._runs.append(run)
        return run

    def run_options(self) -> list[str]:
        """Return further arguments of `flwr run`."""
        return []

    def result(self, seconds: float = 600) -> dict[str, Any]:
        """Wait for the run that was submitted last to end, and return what the ServerApp wrote."""
        found = self.result_or_none(seconds)
        assert found is not None, f"the run ended without a result\n{self.tail()}"
        return found

    def result_or_none(self, seconds: float = 600) -> dict[str, Any] | None:
        """Wait for the run that was submitted last to end; return what the ServerApp wrote, if it did."""
        wait_for(lambda: self.out.exists() or self._runs[-1].poll() is not None, seconds, self.tail)
        if not self.out.exists():
            return None
        self._runs[-1].wait(120)  # its log is complete
        found: dict[str, Any] = json.loads(self.out.read_text())
        return found

    def wait(self, condition: Callable[[], bool], seconds: float = 240) -> None:
        """Wait for a condition; a run that ends before is a failure."""

        def done() -> bool:
            if condition():
                return True
            ended = self._runs and self._runs[-1].poll() is not None
            # the run may have ended, and have written its result, since the condition was looked at
            assert not ended or condition(), f"the run ended\n{self.tail()}"
            return False

        wait_for(done, seconds, self.tail)

    def processes(self) -> list[subprocess.Popen[bytes]]:
        """Return all that was started, the SuperLink first."""
        return [process for process in (self._superlink, *self._runs) if process is not None]

    def kill(self) -> int:
        """SIGKILL all that was started, and what these started; return how many there were."""
        killed = kill_families(self.processes())
        self._superlink, self._runs = None, []
        return killed

    def kill_superlink(self) -> int:
        """SIGKILL the SuperLink, the runs' commands, and what these started; return how many there were."""
        killed = kill_families(SuperLink.processes(self))
        self._superlink, self._runs = None, []
        return killed

    def stop_runs(self) -> None:
        """SIGKILL the commands that wait for runs; runs themselves are the SuperLink's."""
        kill_families(self._runs)
        self._runs = []

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else "no log"

    def tail(self, length: int = 6000) -> str:
        return self.log()[-length:]


class Simulation(SuperLink):
    """A SuperLink that runs the clients itself, as Ray's actors."""

    options = ("--simulation",)
    nodes = 3

    def run_options(self) -> list[str]:
        return ["--federation-config", f"num-supernodes={self.nodes}"]


def kill_families(started: list[subprocess.Popen[bytes]]) -> int:
    """SIGKILL processes and all below them, by their ids; return how many there were."""
    killed = kill_pids([pid for each in started for pid in (each.pid, *descendants(each.pid))])
    for process in started:
        process.wait()
    return killed


def kill_pids(pids: list[int]) -> int:
    """SIGKILL processes; return how many there were."""
    killed = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed


def descendants(pid: int, name: str = "") -> list[int]:
    """Return the ids of all processes below one, or of those whose command holds a name."""
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
    return [each for each in found if not name or name in command_of(each)]


def command_of(pid: int) -> str:
    """Return the command of a process; an empty text if it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


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
