"""A real S3 server for tests: Ceph's RADOS Gateway, one monitor and one OSD, loopback only.

``python -m tests.servers.ceph install`` fetches the Debian packages (as root). ``python -m tests.servers.ceph
FOLDER [BYTES]`` starts one, on so much disk, and prints what FEDARCHIVE_S3 is; `running` is for programs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.s3 import S3Server, free_port, wait_for

PACKAGES = ("ceph-mon", "ceph-osd", "ceph-common", "radosgw")
PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "ceph", "radosgw-admin", "monmaptool", "ceph-authtool")

CONFIG = """
[global]
fsid = {fsid}
mon host = [v1:127.0.0.1:{monitor}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
auth supported = none
keyring = {folder}/keyring
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
crash dir = {folder}
# one copy of everything, in few placement groups
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd crush chooseleaf type = 0
mon max pg per osd = 1000
mon warn on pool no redundancy = false
mon data avail crit = 1
# a busy machine stalls for seconds: where the lease of a placement group (0.8 of this) runs out meanwhile,
# every request waits for ever
osd heartbeat grace = 3600
[mon.a]
mon data = {folder}/mon
[osd.0]
osd data = {folder}/osd
osd max object name len = 2048
# a monitor that is slow to take it keeps the OSD from starting
osd class update on start = false
{objects}
[client.rgw]
rgw data = {folder}/rgw
# without tcp_nodelay every small answer waits 40 ms for an acknowledgement
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw max chunk size = 16777216
rgw put obj min window size = 33554432
rgw multipart min part size = 1024
# what was replaced or removed keeps its room for two hours, if not told otherwise
rgw gc obj min wait = 5
rgw gc processor period = 5
"""
IN_MEMORY = """osd objectstore = memstore
memstore device bytes = {nbytes}"""
ON_DISK = """osd objectstore = bluestore
bluestore block size = {nbytes}
osd memory target = 939524096
osd memory cache min = 67108864"""
"""Objects in one sparse file; the cache has what is left of the memory."""


def missing_programs() -> list[str]:
    """Return what is not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def install(*others: str) -> None:
    """Install the Debian packages, and others; needs root."""
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES, *others], check=True)


@contextmanager
def running(folder: Path, *, memory: int = 4 << 30, disk: int = 0) -> Iterator[S3Server]:
    """Start a cluster in ``folder`` and a gateway before it; about 20 s.

    Objects are kept in so many bytes of memory, or of a file in the folder.
    """
    cluster = _Cluster(folder, memory, disk)
    try:
        cluster.start()
        yield cluster.server
    finally:
        cluster.stop()


class _Cluster:
    def __init__(self, folder: Path, memory: int, disk: int) -> None:
        self.folder = folder.resolve()
        self.port, monitor = free_port(), free_port()
        self.monitor = f"[v1:127.0.0.1:{monitor}]"
        self.fsid = str(uuid.uuid4())
        self.processes: list[subprocess.Popen[bytes]] = []
        self.server = S3Server("ceph", f"http://127.0.0.1:{self.port}", "AKIDFEDARCHIVE", "not-a-secret-key")
        for name in ("mon", "osd", "rgw"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        config = self.folder / "ceph.conf"
        objects = ON_DISK.format(nbytes=disk) if disk else IN_MEMORY.format(nbytes=memory)
        config.write_text(
            CONFIG.format(
                folder=self.folder, fsid=self.fsid, monitor=monitor, port=self.port, objects=objects
            )
        )
        self.environment = {**os.environ, "CEPH_CONF": str(config)}

    def start(self) -> None:
        keyring, monmap = self.folder / "keyring", self.folder / "monmap"
        self._do(
            "ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"
        )
        caps = ("--cap", "mon", "allow *", "--cap", "osd", "allow *")
        self._do("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *caps)
        self._do(
            "monmaptool", "--create", "--clobber", "--addv", "a", self.monitor, "--fsid", self.fsid, monmap
        )
        user = ("--setuser", "root", "--setgroup", "root") if os.geteuid() == 0 else ()
        self._do("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring, *user)
        self._begin("ceph-mon", "-i", "a", "-f", *user)
        osd = str(uuid.uuid4())
        wait_for(lambda: self._try("ceph", "--connect-timeout", "5", "osd", "new", osd), "the monitor", 300)
        self._do("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd, *user)
        self._begin("ceph-osd", "-i", "0", "-f", *user)
        wait_for(lambda: b"1 up" in self._ask("ceph", "osd", "stat"), "the OSD", 300)
        self._begin("radosgw", "-n", "client.rgw", "-f")
        wait_for(self.server.answers, "the gateway", 300)
        name = ("--uid", "tests", "--display-name", "tests")
        keys = ("--access-key", self.server.key, "--secret", self.server.secret)
        wait_for(lambda: self._try("radosgw-admin", "user", "create", *name, *keys), "its user", 300)
        wait_for(self.server.make_bucket, "a bucket", 300)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _begin(self, *command: object) -> None:
        log = (self.folder / f"{command[0]}.out").open("wb")
        with log:
            self.processes.append(
                subprocess.Popen(
                    [str(word) for word in command],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def _ask(self, *command: object) -> bytes:
        return subprocess.run(
            [str(word) for word in command],
            env=self.environment,
            capture_output=True,
            timeout=60,
            check=False,
        ).stdout

    def _try(self, *command: object) -> bool:
        words = [str(word) for word in command]
        done = subprocess.run(words, env=self.environment, capture_output=True, timeout=60, check=False)
        return done.returncode == 0

    def _do(self, *command: object) -> None:
        words = [str(word) for word in command]
        done = subprocess.run(words, env=self.environment, capture_output=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"{words[0]} failed: {done.stderr.decode(errors='replace')[-500:]}")


if __name__ == "__main__":
    if sys.argv[1:] == ["install"]:
        install()
    else:
        with running(Path(sys.argv[1]), disk=int(sys.argv[2]) if sys.argv[2:] else 0) as server:
            sys.stdout.write(f"{server.named}\n")
            sys.stdout.flush()
            ends = {signal.SIGINT, signal.SIGTERM}
            signal.pthread_sigmask(signal.SIG_BLOCK, ends)
            signal.sigwait(ends)
