"""The storage suite over S3 by obstore, and what is told apart between the two clients."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import ExistsError, MissingError, UnsupportedURLError
from archive.storage.location import locate_store
from archive.storage.remote.clients import open_store
from archive.storage.remote.clients.retry import Kind
from archive.storage.url import parse_url
from tests.servers.proxy import Proxy
from tests.servers.s3 import BUCKET, S3Server
from tests.storage.suite import DATA, Root, StorageTests

pytest.importorskip("obstore", reason="obstore is not installed")

from archive.storage.remote.clients.obstore import fault_of, is_plain_key


@pytest.fixture(autouse=True)
def obstore_client(client: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDARCHIVE_CLIENT", "obstore")


class TestObstore(StorageTests):
    multipart = True
    exclusive_put = True

    @pytest.fixture
    def root(self, server: S3Server, folder: str, monkeypatch: pytest.MonkeyPatch) -> Root:
        monkeypatch.setattr(type(self), "exclusive_multipart", server.conditional_multipart)
        return Root(f"s3://{BUCKET}/{folder}", server.options())


@pytest.fixture
def root(proxy: Proxy, server: S3Server, folder: str) -> Root:
    """A folder behind the proxy."""
    return Root(f"s3://{BUCKET}/{folder}", server.options(proxy.endpoint, read_timeout=1))


def chosen(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> str:
    """Return the client that is taken where nobody names one."""
    monkeypatch.delenv("FEDARCHIVE_CLIENT")
    return open_store(parse_url(f"s3://{BUCKET}/x", options))[0].name


def test_requests_are_what_they_must_be(root: Root, proxy: Proxy) -> None:
    store, path = locate_store(root.location("object"))
    proxy.reset()
    store.put(path, DATA)
    _, version = store.tail(path, 1000)
    store.fetch(path, 100, 200, version)
    assert [(request.method, request.range) for request in proxy.seen] == [
        ("PUT", ""),
        ("GET", "bytes=-1000"),
        ("GET", "bytes=100-199"),
    ]
    assert [request.sent for request in proxy.seen[1:]] == [1000, 100]


def test_both_clients_see_the_same(
    root: Root, server: S3Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, path = locate_store(root.location("one object"))
    monkeypatch.setenv("FEDARCHIVE_CLIENT", "s3fs")
    slow, _ = locate_store(root.location("one object"))
    assert (fast.name, slow.name) == ("obstore", "s3fs")
    fast.put(path, DATA)
    assert fast.head(path) == slow.head(path)
    (data, version), (expected, other) = fast.tail(path, 5000), slow.tail(path, 5000)
    assert (bytes(data), version) == (expected, other)
    assert bytes(fast.fetch(path, 7, 900, other)) == slow.fetch(path, 7, 900, version)


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_lost_answer_is_no_failure(root: Root, proxy: Proxy, exclusive: bool) -> None:
    store, path = locate_store(root.location("object"))
    proxy.reset(lambda request: "lost" if request.method == "PUT" else None)
    store.put(path, DATA, exclusive=exclusive)
    proxy.reset()
    assert bytes(store.tail(path, 10)[0]) == DATA[-10:]
    with pytest.raises(ExistsError):
        store.put(path, b"second", exclusive=True)


@pytest.mark.parametrize("fault", ["503", "reset-mid", "short", "short-honest", "shift", "stall", "shrunk"])
def test_a_fault_is_survived(root: Root, proxy: Proxy, fault: str) -> None:
    store, path = locate_store(root.location("object"))
    store.put(path, DATA)
    version = store.head(path)
    proxy.reset(lambda request: fault if request.number == 0 else None)
    assert bytes(store.fetch(path, 10, 5000, version)) == DATA[10:5000]
    assert 2 <= len(proxy.seen) <= 3  # a connection that was kept may turn out to be closed


def test_a_server_that_ignores_ranges(root: Root, proxy: Proxy) -> None:
    store, path = locate_store(root.location("object"))
    store.put(path, DATA)
    version = store.head(path)
    proxy.contents[f"/{path}"] = DATA
    proxy.reset(lambda request: "whole")
    assert bytes(store.fetch(path, 10, 5000, version)) == DATA[10:5000]


@pytest.mark.parametrize("name", ["a//b", "c/", "e: f", "ü +%20.h5"])
def test_odd_keys_are_themselves(server: S3Server, folder: str, name: str) -> None:
    store, _ = locate_store(parse_url(f"s3://{BUCKET}/x", server.options()))
    path = f"{BUCKET}/{folder}/{name}"
    store.put(path, b"content")
    assert server.keys(folder) == [f"{folder}/{name}"]
    assert bytes(store.tail(path, 3)[0]) == b"ent"


def test_a_bucket_that_is_not_there(server: S3Server) -> None:
    with pytest.raises(MissingError, match="no such bucket"):
        archive.open("s3://no-such-bucket/m.h5", storage_options=server.options())


def test_credentials_from_the_environment(
    server: S3Server, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    url = f"s3://{BUCKET}/{folder}/m.h5"
    archive.save({"w": np.ones(3)}, url, storage_options={"endpoint_url": server.endpoint})
    with archive.open(url, storage_options={"endpoint_url": server.endpoint}) as handle:
        assert handle["w"].numpy().tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "other",
    [
        {"profile": "nobody"},
        {"s3_additional_kwargs": {"Metadata": {"round": "7"}}},
        {"config_kwargs": {"signature_version": "s3"}},
        {"config_kwargs": {"s3": {"addressing_style": "virtual"}}},
        {"client_kwargs": {"verify": False}},
        {"endpoint_url": "https://key:secret@example.org"},
        {"endpoint_url": "not a url"},
        {"key": None},
        {"secret": "two\nlines"},
    ],
)
def test_settings_of_s3fs_alone(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]
) -> None:
    options = {**server.options(), **other}
    with pytest.raises(UnsupportedURLError, match="obstore cannot") as caught:
        open_store(parse_url(f"s3://{BUCKET}/x", options))
    assert server.secret not in str(caught.value)
    assert chosen(monkeypatch, options) == "s3fs"


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"anon": True},
        {"requester_pays": True},
        {"default_block_size": 1 << 20, "use_listings_cache": False},
        {"config_kwargs": {"s3": {"addressing_style": "path"}}},
    ],
)
def test_settings_of_both(server: S3Server, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]) -> None:
    assert chosen(monkeypatch, {**server.options(), **other}) == "obstore"


def test_the_environment_has_settings_of_one_alone(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT", "http://elsewhere.invalid")
    assert chosen(monkeypatch, server.options()) == "s3fs"


def test_a_client_that_nobody_knows(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDARCHIVE_CLIENT", "curl")
    with pytest.raises(UnsupportedURLError, match="s3fs, obstore"):
        open_store(parse_url(f"s3://{BUCKET}/x", server.options()))


def test_errors_in_words() -> None:
    refused = "Generic S3 error: x - Server returned non-2xx status code: 503 x: <Error><Code>SlowDown</Code>"
    assert fault_of(ValueError(refused)).kind is Kind.TRANSIENT  # type: ignore[union-attr]
    broken = "Generic S3 error: HTTP error: error sending request\n\nDebug source: {}"
    for details, kind in (
        ("dns error", Kind.UNREACHABLE),
        ("source: Connect, kind: ConnectionRefused", Kind.UNREACHABLE),
        ("kind: ConnectionReset", Kind.TRANSIENT),
        ("source: TimedOut", Kind.TRANSIENT),
    ):
        assert fault_of(ValueError(broken.format(details))).kind is kind  # type: ignore[union-attr]
    assert fault_of(ValueError(broken.format("invalid peer certificate"))).kind is Kind.REFUSED  # type: ignore[union-attr]
    assert fault_of(ValueError("what is this")) is None
    assert not is_plain_key("")
