"""h5repack: what h5py reads of its copy."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.hdf5tools.drivers import readh5dump, readh5py
from tests.hdf5tools.drivers.canon import run


def read(path):
    with tempfile.TemporaryDirectory(prefix="fedarchive-hdf5-") as folder:
        copy = Path(folder, "copy.h5")
        done = subprocess.run(["h5repack", path, copy], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"h5repack: exit {done.returncode}, {done.stderr[-300:]}")
        return readh5py.read(copy)


if __name__ == "__main__":
    run(readh5dump.versions, read)
