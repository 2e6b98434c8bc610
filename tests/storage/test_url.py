"""Locations: what a path or URL means, and what a pickle of it holds."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

import archive
from archive.errors import MissingError, UnsupportedURLError
from archive.storage.folder import locate_folder
from archive.storage.url import local_path, parse_cache, parse_url


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


@pytest.mark.parametrize(
    "name", ["round 80.h5", "50%.h5", "a%20b.h5", "größe.h5", "what?.h5", "a#b.h5", "exp::v2.h5", "x;y&z.h5"]
)
def test_names_and_their_urls(tmp_path: Path, name: str) -> None:
    """`Path.as_uri` escapes what a URL cannot hold."""
    path = tmp_path / name
    uri = path.as_uri()
    for url in (
        path,
        str(path),
        uri,
        uri.replace("file:", "FILE:"),
        uri.replace("file://", "file:"),
        uri.replace("file://", "file://localhost"),
        uri.replace("file://", "file://LocalHost"),
        f"local://{path}",
    ):
        location = parse_url(url)
        assert (location.path, location.remote) == (str(path), False), url
        assert local_path(url) == locate_folder(url).path == str(path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe.h5")
    assert parse_url((tmp_path / name).as_uri()).path == str(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["exp::v2.h5", "a::b::c.h5", "S3::x", "c:/x", "file:x", "zip::", "::", "a:b"]
)
def test_names_with_colons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Only what has ``://`` is a URL."""
    monkeypatch.chdir(tmp_path)
    location = parse_url(name)
    assert (location.path, location.remote) == (str(tmp_path / name), False)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("S3://Bucket/Key.h5", "s3://Bucket/Key.h5"),
        ("HTTPS://Host/A.h5", "https://Host/A.h5"),
        ("SimpleCache::S3://Bucket/K", "simplecache::s3://Bucket/K"),
        ("ZIP://A.h5::Memory://B.zip", "zip://A.h5::memory://B.zip"),
        ("s3://bucket/exp::V2.h5", "s3://bucket/exp::V2.h5"),
        ("zip://a.h5::/Local/b.zip", "zip://a.h5::/Local/b.zip"),
    ],
)
def test_schemes_have_no_case(url: str, wanted: str) -> None:
    location = parse_url(url)
    assert (location.path, location.remote) == (wanted, True)


@pytest.mark.parametrize(
    "url", ["file://host/a.h5", "file://model.h5", "FILE://127.0.0.1/a.h5", "file://localhost"]
)
def test_files_of_other_hosts(url: str) -> None:
    with pytest.raises(UnsupportedURLError, match="three slashes"):
        parse_url(url)


def test_up_from_where_a_link_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``link/..`` is where the system goes, not what the spelling says."""
    (tmp_path / "far" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("far/below")
    monkeypatch.chdir(tmp_path)
    for path in ("link/../m.h5", str(tmp_path / "link" / ".." / "m.h5"), "./link/../m.h5"):
        assert os.path.realpath(parse_url(path).path) == str(tmp_path / "far" / "m.h5")
    monkeypatch.chdir(tmp_path / "link")
    assert parse_url("../m.h5").path == parse_url(".././m.h5").path == str(tmp_path / "far" / "m.h5")


def test_a_working_folder_that_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for call in (parse_url, local_path, locate_folder, parse_cache):
        for path in ("m.h5", "../m.h5", "a/../m.h5"):
            with pytest.raises(MissingError, match="working folder"):
                call(path)
    assert parse_url(str(tmp_path / "m.h5")).path == str(tmp_path / "m.h5")


@pytest.mark.parametrize("options", ["http://127.0.0.1:9000", [("key", "a")]])
@pytest.mark.parametrize("url", ["s3://bucket/a.h5", "a.h5"])
def test_options_are_a_mapping(url: str, options: object) -> None:
    with pytest.raises(TypeError, match=r"storage_options must be a mapping, not (str|list)"):
        parse_url(url, options)  # type: ignore[arg-type]


def test_records_where_the_path_belongs() -> None:
    with pytest.raises(TypeError, match=r"a path or URL is wanted here, not dict: save\(records, path\)"):
        archive.save("model.h5", {"w": [1.0]})  # type: ignore[arg-type]
