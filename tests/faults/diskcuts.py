"""Power cuts of ext4, XFS and Btrfs themselves: their images, copied while a child saves, and mounted again.

What the file system has not written to its device yet is in no copy, as after a power cut. The child is
stopped while an image is copied, and a copy during which the system wrote back is made again, so that a copy
is one moment of the device.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.children import ROOT
from tests.faults.conftest import environment
from tests.faults.mounts import image_of, mounted_image

__all__ = ["CHILD", "Cut", "cuts", "mounted_cut"]

CHILD = """
import os, sys
from pathlib import Path
import archive
from archive.errors import PartialSaveError
from tests.faults.scenes import consume, save

place, count, elements, durable = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "True"
for number in range(count):
    folder = place / str(number)
    folder.mkdir()
    fd = os.open(place, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    save(folder / "model.h5", 1, elements, durable=durable)
    print("old", number, flush=True)
    try:
        consume(folder / "model.h5", 7, durable=durable)
    except PartialSaveError:
        print("failed", number, flush=True)
    archive.recover(folder / "model.h5.partial")
    print("recovered", number, flush=True)
    consume(folder / "model.h5", durable=durable)
    print("new", number, flush=True)
"""
"""For each folder: a save, a consuming save that fails after 7 arrays, their recovery, and a whole one."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One moment of a device."""

    image: Path
    """The copy of its image."""
    told: tuple[str, int]
    """The last that the child had told: what, and of which folder."""


def cuts(kind: str, folder: Path, count: int, seed: int, *, durable: bool = True) -> Iterator[Cut]:
    """Run the child on a new file system, and yield so many cuts when that is unmounted.

    Parameters
    ----------
    kind : {"ext4", "xfs", "btrfs"}
    folder : Path
        Where images are kept: in memory, or copying would take longer than the saves.
    count, seed : int
    durable : bool, default True
        As for `archive.save`.
    """
    chance = random.Random(seed)
    made: list[Cut] = []
    image = image_of(kind, folder)
    place = folder / "place"
    place.mkdir(exist_ok=True)
    with mounted_image(kind, image, place):
        command = [sys.executable, "-c", CHILD, str(place), "1000000", "300", str(durable)]
        with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE) as child:
            try:
                assert child.stdout is not None
                os.set_blocking(child.stdout.fileno(), False)
                text = b""
                while len(made) < count:
                    time.sleep(chance.uniform(0, 0.006))
                    with _stopped(child.pid):
                        copied = _copy(image, folder / f"cut-{len(made)}.img")
                        with contextlib.suppress(BlockingIOError):
                            text += os.read(child.stdout.fileno(), 1 << 16)
                    lines = text.split(b"\n")[:-1]
                    if lines:
                        what, number = lines[-1].decode().split()
                        made.append(Cut(copied, (what, int(number))))
                    if len(lines) > 400:  # the image is full before long
                        break
            finally:
                child.kill()
    image.unlink()
    yield from made


@contextlib.contextmanager
def mounted_cut(kind: str, cut: Cut, place: Path) -> Iterator[Path]:
    """Mount a copy, which replays its journal; the copy is removed afterwards."""
    try:
        with mounted_image(kind, cut.image, place):
            yield place
            gc.collect()  # what was opened is mapped
    finally:
        cut.image.unlink()


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _copy(image: Path, copy: Path) -> Path:
    """Copy an image, again where it was written to meanwhile."""
    for _ in range(100):
        before = image.stat().st_mtime_ns
        subprocess.run(["cp", "--sparse=always", image, copy], check=True)
        if image.stat().st_mtime_ns == before:
            return copy
    raise AssertionError("the image is written to all the time")
