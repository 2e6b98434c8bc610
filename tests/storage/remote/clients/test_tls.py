"""Certificates: a good one is trusted, and a bad one is reported at once and never spoken to."""

from __future__ import annotations

import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import StorageError
from archive.storage.remote.clients.retry import VARIABLE
from tests.servers.s3 import BUCKET, REGION, S3Server
from tests.servers.web import WebServer, web_server

pytest.importorskip("cryptography", reason="cryptography is not installed")

from tests.servers.tls import Authority, tls_before

LAYERS = {"w": np.arange(9.0)}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: Any) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def web() -> Iterator[WebServer]:
    with web_server() as web:
        yield web


def s3_options(server: S3Server, endpoint: str, trusted: Path | None) -> dict[str, Any]:
    client = {"region_name": REGION} | ({"verify": str(trusted)} if trusted else {})
    return {**server.options(endpoint), "client_kwargs": client}


# asyncio of Python 3.10 leaves transports of TLS to the collector, whoever closed their sessions
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning" if sys.version_info < (3, 11) else "error"
)
def test_a_good_certificate(server: S3Server, folder: str, authority: Authority, web: WebServer) -> None:
    certificate = authority.certificate("good")
    with tls_before(server.endpoint, certificate) as front:
        url, options = f"s3://{BUCKET}/{folder}/m.h5", s3_options(server, front.endpoint, authority.path)
        archive.save(LAYERS, url, storage_options=options)
        record = archive.load(url, storage_options=options).array_records["model"]
        assert record["w"].numpy().tolist() == list(range(9))
    web.place("m.h5", server.client.get_object(Bucket=BUCKET, Key=f"{folder}/m.h5")["Body"].read())
    with tls_before(web.endpoint, certificate) as front:
        trusting = {"ssl": ssl.create_default_context(cafile=str(authority.path))}
        loaded = archive.load(f"{front.endpoint}/plain/m.h5", storage_options=trusting)
        assert loaded.array_records["model"]["w"].numpy().tolist() == list(range(9))


@pytest.mark.parametrize(
    ("scheme", "kind"),
    [
        ("s3", "another"),
        ("https", "expired"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("s3", "expired"), ("s3", "unknown"), ("https", "another"), ("https", "unknown"))
        ),
    ],
)
def test_a_bad_certificate(
    server: S3Server,
    folder: str,
    authority: Authority,
    web: WebServer,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    kind: str,
) -> None:
    certificate = authority.certificate("good" if kind == "unknown" else kind)
    trusted = None if kind == "unknown" else authority.path
    with tls_before(server.endpoint if scheme == "s3" else web.endpoint, certificate) as front:
        if scheme == "s3":
            url, options = f"s3://{BUCKET}/{folder}/m.h5", s3_options(server, front.endpoint, trusted)
        else:
            url = f"{front.endpoint}/plain/m.h5"
            options = {"ssl": ssl.create_default_context(cafile=str(trusted))} if trusted else {}
        monkeypatch.setenv(VARIABLE, "60")
        begin = time.monotonic()
        with pytest.raises(StorageError, match="certificate or TLS"):
            archive.open(url, storage_options=options)
        if scheme == "s3":
            with pytest.raises(StorageError, match="certificate or TLS"):
                archive.save(LAYERS, url, storage_options=options)
        assert time.monotonic() - begin < 15  # and not a minute: no outage
        assert front.connections == 0
    assert server.keys(folder) == []
