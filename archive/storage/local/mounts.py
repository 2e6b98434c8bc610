"""What kind of file system a path lies on: maps are for local disks only."""

from __future__ import annotations

import os
import re

__all__ = ["is_remote_filesystem"]

# Maps of files there are 30 to 50 times slower than reads, or kill the process with SIGBUS when the
# server or another client truncates the file (safetensors issue 562, TensorRT-LLM pull request 17368).
_REMOTE = re.compile(
    r"(nfs\d?|cifs|smb\d?|smbfs|9p|fuse.*|lustre|ceph|glusterfs|gpfs|beegfs|afs|orangefs|vboxsf)$"
)
_MOUNTS = "/proc/self/mountinfo"


def is_remote_filesystem(device: int) -> bool:
    """Tell whether a device number (``st_dev``) belongs to a network or FUSE file system.

    False where the system does not tell (no ``/proc``).
    """
    if os.major(device):
        return False  # a block device; network file systems have none. Saves 0.2 ms of reading mounts
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open(_MOUNTS, errors="replace") as file:
            mounts = file.read()
    except OSError:
        return False
    for line in mounts.splitlines():
        fields = line.split(" ")
        if fields[2] == wanted and "-" in fields:
            return bool(_REMOTE.match(fields[fields.index("-") + 1]))
    return False
