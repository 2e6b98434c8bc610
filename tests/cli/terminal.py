"""The command on a terminal: a pseudo-terminal whose other side is read."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["on_terminal"]


def on_terminal(
    command: Sequence[str | Path], environment: Mapping[str, str], *, stdout: bool = True, stderr: bool = True
) -> tuple[int, str]:
    """Run a command whose stdout and stderr are a terminal or nothing; return its code and what was shown."""
    ours, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))  # rows, columns
    try:
        with subprocess.Popen(
            [str(word) for word in command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=other if stdout else subprocess.DEVNULL,
            stderr=other if stderr else subprocess.DEVNULL,
        ) as process:
            os.close(other)
            shown = b""
            while data := _read(ours):
                shown += data
        return process.returncode, shown.decode()
    finally:
        os.close(ours)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError as error:  # Linux says so of a terminal that nobody has open any more
        if error.errno != errno.EIO:
            raise
        return b""
