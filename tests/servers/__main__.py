"""``python -m tests.servers [pytest arguments]``: everything that needs servers, on real ones. `poe s3`.

Installs Ceph's gateway and nginx from Debian packages (as root), starts, runs the tests, stops.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.servers import ceph, nginx

TESTS = (
    "tests/storage/remote",
    "tests/faults/test_remote.py",
    "tests/acceptance/test_remote_means.py",
    "tests/acceptance/test_remote_resumption.py",
    "tests/acceptance/test_remote_tools.py",
)


def main(arguments: list[str]) -> int:
    """Run, and return pytest's exit status."""
    if ceph.missing_programs() or not nginx.is_installed():
        if os.geteuid():
            sys.exit(f"not installed: {', '.join(ceph.missing_programs()) or 'nginx'}; run it once as root")
        ceph.install(*nginx.PACKAGES)
    with tempfile.TemporaryDirectory(prefix="fedarchive-s3-") as folder, ceph.running(Path(folder)) as server:
        command = [sys.executable, "-m", "pytest", "-m", "slow or root or not slow", *(arguments or TESTS)]
        environment = {**os.environ, "FEDARCHIVE_S3": server.named}
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
