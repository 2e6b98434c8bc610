"""Stores and their pickles: no secret of a URL or of options is in them, and the address is."""

from __future__ import annotations

import copy
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import ArchiveError
from archive.interop.flower.contexts import NodeContexts
from archive.interop.flower.runstore import Rounds
from archive.storage.url import parse_url
from tests.servers.s3 import free_port

SECRET = "5ecretw0rd"
URLS = {
    "user": f"s3://AKIA:{SECRET}@bucket/run",
    "web user": f"https://user:{SECRET}@127.0.0.1:{{port}}/run",
    "web token": f"https://{SECRET}@127.0.0.1:{{port}}/run",
    "query": f"http://127.0.0.1:{{port}}/run?X-Amz-Signature={SECRET}",
    "fragment": f"http://127.0.0.1:{{port}}/run#token={SECRET}",
    "memory query": f"memory://run?sig={SECRET}",
    "account": f"abfss://c@account.dfs.core.windows.net/run?sv=2&sig={SECRET}",
    "chain": f"filecache::http://user:{SECRET}@127.0.0.1:{{port}}/run",
    "far link": f"zip://run::http://user:{SECRET}@127.0.0.1:{{port}}/b.zip",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "secret": {"key": "AKIA", "secret": SECRET},
    "token": {"token": SECRET},
    "headers": {"headers": {"Authorization": f"Bearer {SECRET}"}},
    "nested": {"client_kwargs": {"aws_secret_access_key": SECRET, "region_name": "eu-1"}},
    "endpoint": {"endpoint_url": f"http://user:{SECRET}@127.0.0.1:1"},
    "list": {"session_args": [SECRET]},
    "link": {"s3": {"secret": SECRET}},
}
CASES = [pytest.param(url, {}, id=name) for name, url in URLS.items()] + [
    pytest.param("s3://bucket/run", options, id=f"options {name}") for name, options in OPTIONS.items()
]
STORES: dict[str, Callable[[str, dict[str, Any]], Any]] = {
    "checkpoints": lambda url, options: archive.CheckpointStore(url, storage_options=options),
    "flower rounds": lambda url, options: Rounds(url, "run", keep_last=3, storage_options=options),
    "flower contexts": lambda url, options: NodeContexts(parse_url(url, options), "run"),
}


def texts(value: Any, seen: set[int] | None = None) -> list[str]:
    """Return the texts of an object and of all its attributes that can be shown."""
    seen = set() if seen is None else seen
    if id(value) in seen or not hasattr(value, "__dict__"):
        return [repr(value), str(value)]
    seen.add(id(value))
    found = [repr(value), str(value), repr(getattr(value, "url", "")), repr(getattr(value, "shown", ""))]
    for attribute in vars(value).values():
        found += texts(attribute, seen)
    return [text for text in found if not callable(text)]


@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
@pytest.mark.parametrize(("url", "options"), CASES)
def test_a_store_shows_and_pickles_no_secret(
    url: str, options: dict[str, Any], make: Callable[[str, dict[str, Any]], Any]
) -> None:
    store = make(url.format(port=9), options)
    if not isinstance(store, archive.CheckpointStore):
        assert SECRET not in store.shown
    public = store if isinstance(store, archive.CheckpointStore) else getattr(store, "store", store)
    again = pickle.loads(pickle.dumps(store))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert SECRET.encode() not in pickle.dumps(store, protocol)
    assert SECRET not in repr(public) + str(public)
    assert SECRET not in "".join(texts(again))
    assert SECRET not in "".join(texts(store))


@pytest.mark.parametrize("name", ["web user", "web token", "query", "chain", "far link"])
def test_the_error_of_a_store_shows_no_secret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDARCHIVE_RETRY_SECONDS", "0")
    url = URLS[name].format(port=free_port()).replace("https", "http")
    for store in (archive.CheckpointStore(url), pickle.loads(pickle.dumps(archive.CheckpointStore(url)))):
        for call in (
            lambda store=store: store.open(3),
            store.rounds,
            store.history,
            lambda store=store: store.save({"w": np.zeros(3)}, 1),
            lambda store=store: store.context("node"),
        ):
            with pytest.raises(ArchiveError) as caught:
                call()
            assert SECRET not in "".join(traceback.format_exception(caught.value))
            assert SECRET not in repr(vars(caught.value))


def test_a_store_goes_on_where_it_is_unpickled(tmp_path: Path) -> None:
    store = archive.CheckpointStore(tmp_path / "run", keep_last=2, background=True)
    store.save({"w": np.arange(3.0)}, 1)
    again = pickle.loads(pickle.dumps(store))
    store.close()
    again.save({"w": np.arange(4.0)}, 2)
    assert again.rounds() == [1, 2]
    assert again.url == store.url == str(tmp_path / "run")
    again.close()


def test_what_is_no_secret_comes_along() -> None:
    options = {"endpoint_url": "http://host:9000", "secret": SECRET}
    store = archive.CheckpointStore("s3://bucket/run", storage_options=options)
    location = pickle.loads(pickle.dumps(store))._files.location
    assert (location.path, location.options) == ("s3://bucket/run", {"endpoint_url": "http://host:9000"})
    assert location.withheld == ("secret",)
    # in this process a copy is as good as the store
    assert copy.deepcopy(store)._files.location.options == options


def test_the_history_of_a_store_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://secrets?sig={SECRET}"
    store = archive.CheckpointStore(url)
    store.save({"w": np.zeros(3)}, 1, client="a", metrics={"loss": 0.5})
    store.save({"w": np.zeros(3)}, 1, metrics={"loss": 0.5})
    table = store.history(clients=True)
    assert table["loss"].tolist() == [0.5, 0.5]
    assert SECRET not in repr(table)


def test_the_location_of_an_archive_shows_no_secret() -> None:
    for url in URLS.values():
        assert SECRET not in repr(parse_url(url.format(port=9), {"secret": SECRET}))


def test_an_unpickled_store_names_what_did_not_come_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDARCHIVE_RETRY_SECONDS", "0")
    url = f"http://user:{SECRET}@127.0.0.1:{free_port()}/run"
    store = pickle.loads(pickle.dumps(archive.CheckpointStore(url)))
    with pytest.raises(ArchiveError, match="the credentials in the URL did not come along; set them"):
        store.context("node")
