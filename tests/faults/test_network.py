"""Networks as they are outside of a laboratory: IPv6, a proxy that all goes through, several regions."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import StorageError
from tests.servers.proxy import Fault, Proxy, Request
from tests.servers.s3 import BUCKET, S3Server
from tests.servers.web import WebServer, web_server

ARRAYS = {"w": np.arange(300_000, dtype="f4"), "b": np.ones(3)}
HOME = "eu-central-1"
"""Region of the bucket; clients begin in another."""


def has_ipv6() -> bool:
    """Tell whether this machine has an IPv6 loopback."""
    try:
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture
def folder() -> str:
    """A prefix that nothing else uses."""
    return uuid.uuid4().hex


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


def check_archive(url: str, options: dict[str, Any] | None = None) -> None:
    """Read an archive in each way."""
    with archive.open(url, storage_options=options) as handle:
        assert handle["w"][7:9].tolist() == [7, 8]
    loaded = archive.load(url, storage_options=options).array_records["model"]
    assert loaded["w"].numpy().tobytes() == ARRAYS["w"].tobytes()
    assert archive.verify(url, storage_options=options)


def placed(web: WebServer, folder: Path) -> None:
    archive.save(ARRAYS, folder / "m.h5")
    web.place("m.h5", (folder / "m.h5").read_bytes())


@needs_ipv6
def test_a_web_server_with_an_ipv6_address(tmp_path: Path) -> None:
    with web_server("::1") as web:
        placed(web, tmp_path)
        check_archive(f"{web.endpoint}/plain/m.h5")


@needs_ipv6
def test_an_s3_server_with_an_ipv6_address(server: S3Server, folder: str) -> None:
    with Proxy(server.endpoint, host="::1") as proxy:
        url, options = f"s3://{BUCKET}/{folder}/six.h5", server.options(proxy.endpoint)
        archive.save(ARRAYS, url, storage_options=options)
        check_archive(url, options)
        assert len(proxy.seen) > 3


def set_proxy(monkeypatch: pytest.MonkeyPatch, endpoint: str, but: str = "") -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("http_proxy", endpoint)
    monkeypatch.setenv("no_proxy", but)


def test_http_through_the_proxy_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's name is known to nobody: only who asks the proxy gets there."""
    with web_server() as web, Proxy(web.endpoint) as proxy:
        placed(web, tmp_path)
        set_proxy(monkeypatch, proxy.endpoint)
        check_archive("http://archives.invalid/plain/m.h5")
        assert {request.target for request in proxy.seen} == {"http://archives.invalid/plain/m.h5"}
        passed = len(proxy.seen)
        set_proxy(monkeypatch, proxy.endpoint, but="127.0.0.1")
        check_archive(f"{web.endpoint}/plain/m.h5")
        assert len(proxy.seen) == passed


def test_s3_through_the_proxy_of_the_environment(
    server: S3Server, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(server.endpoint) as proxy:
        set_proxy(monkeypatch, proxy.endpoint)
        url, options = f"s3://{BUCKET}/{folder}/p.h5", server.options("http://objects.svc.cluster.local")
        archive.save(ARRAYS, url, storage_options=options)
        check_archive(url, options)
        assert all(request.target.startswith("http://objects.svc.cluster.local/") for request in proxy.seen)
    monkeypatch.delenv("http_proxy")
    check_archive(url, server.options())


def redirects(said: bool) -> Any:
    """Return the plan of a server whose bucket is in another region than most requests are signed for."""
    body = b"<?xml version='1.0'?><Error><Code>PermanentRedirect</Code><Message>no</Message></Error>"
    region = f"x-amz-bucket-region: {HOME}\r\n".encode() if said else b""

    def plan(request: Request) -> Fault | None:
        if f"/{HOME}/s3/" in request.signature:
            return None
        return Fault(
            "",
            reply=b"HTTP/1.1 301 Moved\r\nContent-Type: application/xml\r\n%bContent-Length: %d\r\n\r\n%b"
            % (region, len(body), body),
        )

    return plan


def test_a_bucket_of_another_region_is_found(server: S3Server, folder: str) -> None:
    with Proxy(server.endpoint, redirects(said=True)) as proxy:
        url, options = f"s3://{BUCKET}/{folder}/far.h5", server.options(proxy.endpoint)
        archive.save(ARRAYS, url, storage_options=options)
        check_archive(url, options)
        archive.save({"tiny": np.ones(3)}, url, storage_options=options)


def test_a_region_that_is_not_said_is_asked_for(server: S3Server, folder: str) -> None:
    with Proxy(server.endpoint, redirects(said=False)) as proxy:
        url, options = f"s3://{BUCKET}/{folder}/far.h5", server.options(proxy.endpoint)
        with pytest.raises(StorageError, match="region"):
            archive.save(ARRAYS, url, storage_options=options)
        assert len(proxy.seen) < 12
