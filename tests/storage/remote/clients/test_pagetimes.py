"""Times of S3's pages: as botocore reads them."""

from __future__ import annotations

import pytest
from botocore.utils import parse_timestamp

from archive.storage.remote.clients.pagetimes import parse_time


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-29T20:00:00.000Z",
        "2026-11-29T20:00:00Z",
        "2024-02-29T23:59:59.123456Z",
        "2026-11-29T20:00:00.1Z",
        "2026-11-29T20:00:00+01:00",
        "Sun, 29 Nov 2026 20:00:00 GMT",
        "1764446400",
    ],
)
def test_as_botocore(text: str) -> None:
    assert parse_time(text) == parse_timestamp(text)


@pytest.mark.parametrize("text", ["", "2026-13-01T00:00:00Z", "yesterday-ish"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_time(text)
