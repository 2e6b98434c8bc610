"""A SuperLink and two SuperNodes as processes of their own, each of them killed and brought back."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.flower.superlink import APP, SuperLink, descendants, free_ports, kill_families, kill_pids, wait_for


class Deployment(SuperLink):
    """A SuperLink on loopback with SuperNodes, whose partition is named in their node config.

    Every SuperNode starts its ClientApps as subprocesses. Whatever is killed dies with all that it started.
    """

    def __init__(
        self, python: Path, folder: Path, api: str = "messages", *, app: Path = APP, **environment: str
    ) -> None:
        super().__init__(python, folder, api, app=app, **environment)
        self._supernodes: dict[int, subprocess.Popen[bytes]] = {}

    def start_superlink(self) -> None:
        """Start the SuperLink, and all SuperNodes.

        A SuperLink that was killed knows no node any more, as it kept them in memory: the SuperNodes are
        refused (401), and end by themselves.
        """
        super().start_superlink()
        for supernode in self._supernodes.values():
            supernode.wait(120)
        for partition in range(self.nodes):
            self.start_supernode(partition)

    def start_supernode(self, partition: int) -> None:
        """Start a SuperNode, which gets a new node id, and wait until the SuperLink has given it one."""
        (port,) = free_ports(1)
        before = self.log().count("SuperNode ID:")
        command = ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{self.port}"]
        command += ["--isolation", "subprocess", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--node-config", f"partition-id={partition} num-partitions={self.nodes}"]
        self._supernodes[partition] = self.spawn(command)
        wait_for(lambda: self.log().count("SuperNode ID:") > before, 90, self.tail)

    def kill_supernode(self, partition: int) -> int:
        """SIGKILL a SuperNode and its ClientApp; return how many processes there were."""
        return kill_families([self._supernodes.pop(partition)])

    def kill_serverapp(self) -> int:
        """SIGKILL the process of the ServerApp alone; return how many there were."""
        assert self._superlink is not None
        return kill_pids(descendants(self._superlink.pid, "flwr-serverapp"))

    def processes(self) -> list[subprocess.Popen[bytes]]:
        return [*super().processes(), *self._supernodes.values()]

    def kill(self) -> int:
        killed = super().kill()
        self._supernodes = {}
        return killed
