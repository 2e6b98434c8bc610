"""What hostile bytes may cost: a second, and 64 MB."""

from __future__ import annotations

from collections.abc import Callable

from archive.errors import ArchiveError
from tests.handout import measure

MAX_SECONDS = 1.0
MAX_EXTRA_BYTES = 64 << 20


def bounded(action: Callable[[], object]) -> ArchiveError | None:
    """Run something within the limits of time and memory, and return the error of ours it ended with."""
    outcome = measure(action)
    assert outcome.seconds < MAX_SECONDS
    assert outcome.peak_bytes < MAX_EXTRA_BYTES
    return outcome.error
