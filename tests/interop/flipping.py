"""Flips a bit of a stored array."""

from __future__ import annotations

import os

import archive
from archive.engine.read.storedpayload import StoredPayload


def damage(path: str, key: str = "w") -> None:
    with archive.open(path) as opened:
        payload = opened[key].payload
        assert isinstance(payload, StoredPayload)
        _, offset, nbytes = payload.where
    with open(path, "r+b") as raw:
        raw.seek(offset + nbytes - 1)
        last = raw.read(1)
        raw.seek(-1, os.SEEK_CUR)
        raw.write(bytes([last[0] ^ 1]))
