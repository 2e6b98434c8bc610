"""File systems of other kinds, mounted from an image for one test; skipped where that cannot be done."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SIZE = 64 << 20
KINDS = {
    "exfat": (["mkfs.exfat"], ["mount.exfat-fuse", "-o", "umask=077"]),
    "ext2": (["mkfs.ext2", "-q", "-F"], ["mount", "-t", "ext2"]),
    "ext4": (["mkfs.ext4", "-q", "-F"], ["mount", "-t", "ext4"]),
}
"""How an image is made, and how its device is mounted."""


@contextlib.contextmanager
def mounted(kind: str, folder: Path) -> Iterator[Path]:
    """Mount a new file system below a folder, and give its own folder."""
    make, mount = KINDS[kind]
    for program in (make[0], mount[0], "losetup"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if os.geteuid():
        pytest.skip("mounts need root")
    image, place = folder / f"{kind}.img", folder / kind
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE)
    _run([*make, image])
    device = _run(["losetup", "-f", "--show", image])
    try:
        _run([*mount, device, place])
        try:
            yield place
        finally:
            gc.collect()
            subprocess.run(["umount", place], check=True)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def _run(command: list[str | Path]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{command[0]}: {done.stderr or done.stdout}")
    return done.stdout.strip()
