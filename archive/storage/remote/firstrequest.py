"""How much the request that opens an object asks for: what the object before of its folder needed.

The rounds of a run are alike, and so are the files of its clients: the first may take two requests to open,
the others take one, which fetches little that nobody wants.
"""

from __future__ import annotations

from typing import Literal

from archive import tuning
from archive.workers import drop_oldest

__all__ = ["Purpose", "first_bytes", "note_needed"]

Purpose = Literal["open", "values"]
"""Index and values, or the values alone."""

_needed: dict[tuple[str, Purpose], int] = {}


def first_bytes(url: str, purpose: Purpose) -> int:
    """Return how many bytes of an object's end to ask for at first."""
    least = tuning.TAIL_BYTES if purpose == "open" else tuning.VALUES_TAIL_BYTES
    needed = _needed.get((_folder(url), purpose), 0)
    # an eighth more: values and names grow from round to round
    return min(max(needed + needed // 8, least), tuning.MOST_TAIL_BYTES)


def note_needed(url: str, purpose: Purpose, nbytes: int) -> None:
    """Take note of how many bytes of its end an object needed."""
    place = _folder(url), purpose
    if place not in _needed:
        drop_oldest(_needed, tuning.TAIL_FOLDERS)
    _needed[place] = nbytes


def _folder(url: str) -> str:
    return url.rpartition("/")[0]
