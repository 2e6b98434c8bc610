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

KINDS = {
    "exfat": (64, ["mkfs.exfat"], ["mount.exfat-fuse", "-o", "umask=077"]),
    "ext2": (64, ["mkfs.ext2", "-q", "-F"], ["mount", "-t", "ext2"]),
    "ext4": (64, ["mkfs.ext4", "-q", "-F"], ["mount", "-t", "ext4"]),
    "xfs": (320, ["mkfs.xfs", "-q", "-f"], ["mount", "-t", "xfs", "-o", "nouuid"]),
    "btrfs": (192, ["mkfs.btrfs", "-q", "-f"], ["mount", "-t", "btrfs"]),
}
"""MiB of an image, how it is made, and how its device is mounted."""


@contextlib.contextmanager
def mounted(kind: str, folder: Path) -> Iterator[Path]:
    """Mount a new file system below a folder, and give its own folder."""
    image, place = image_of(kind, folder), folder / kind
    place.mkdir()
    with mounted_image(kind, image, place):
        yield place
        gc.collect()


def image_of(kind: str, folder: Path) -> Path:
    """Make the image of an empty file system."""
    size, make, mount = KINDS[kind]
    for program in (make[0], mount[0], "losetup"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if os.geteuid():
        pytest.skip("mounts need root")
    image = folder / f"{kind}.img"
    with image.open("wb") as file:
        file.truncate(size << 20)
    _run([*make, image])
    return image


@contextlib.contextmanager
def mounted_image(kind: str, image: Path, place: Path) -> Iterator[None]:
    """Mount an image on a folder."""
    device = _run(["losetup", "-f", "--show", image])
    try:
        _run([*KINDS[kind][2], device, place])
        try:
            yield
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
