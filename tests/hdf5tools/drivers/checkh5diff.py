"""h5diff: whether a file and the first control are the same to it."""

import re
import subprocess
import sys
from pathlib import Path

from tests.hdf5tools.drivers import readh5dump
from tests.hdf5tools.drivers.canon import run

SAID = re.compile(
    r"^[1-9]\d* differences|^(?!attribute|dataset|group).*\b(not|unable|error)\b", re.IGNORECASE
)


def check(path):
    control = Path(path).parent / "control0.h5"
    done = subprocess.run(["h5diff", "-v", path, control], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if SAID.search(line)]
        sys.exit(f"h5diff: exit {done.returncode} {'; '.join([*lines, done.stderr])[:300]}")
    return {}


if __name__ == "__main__":
    run(readh5dump.versions, check)
