"""A process whose children begin a save into a store and are killed in it.

``python -m tests.checkpoints.crasher`` reads lines of JSON with ``url``, ``round`` and ``client``.
To each it answers with the signal that ended the child.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

import archive


def dying() -> Iterator[tuple[str, Any]]:
    """Yield one array; there is no second."""
    yield "w", np.zeros(64)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Serve until the input ends."""
    archive.save({"w": np.zeros(1)}, "memory://warm.h5")  # everything is imported once
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            archive.CheckpointStore(asked["url"]).save(dying(), asked["round"], client=asked["client"])
            os._exit(1)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
