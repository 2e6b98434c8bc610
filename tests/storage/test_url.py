"""Locations: what a pickle of one holds."""

from __future__ import annotations

import pickle

import pytest

from archive.storage.url import parse_url


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://user:pass@host/a.h5?X-Amz-Signature=5ign", "https://host/a.h5"),
        ("https://user:p@ss@host/a@b.h5?sig=5ign&mail=a@b", "https://host/a@b.h5"),
        ("s3://bucket/a.h5?token=5ign&versionId=v1", "s3://bucket/a.h5?versionId=v1"),
        ("s3://bucket/a.h5?versionId=v1&token=5ign", "s3://bucket/a.h5?versionId=v1"),
        ("simplecache::ftp://user:pass@host/a.h5", "simplecache::ftp://host/a.h5"),
        ("/a/b?c@d.h5", "/a/b?c@d.h5"),
    ],
)
def test_pickles_hold_no_credentials(url: str, kept: str) -> None:
    text = pickle.dumps(parse_url(url))
    assert pickle.loads(text).path == kept
    assert not any(secret in text for secret in (b"pass", b"p@ss", b"5ign"))
