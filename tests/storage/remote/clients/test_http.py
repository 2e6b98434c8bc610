"""The reading part of the storage suite over HTTP, and servers with other habits."""

from __future__ import annotations

import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import MissingError, ReplacedError, StorageError, UnsupportedURLError
from archive.storage.location import locate_store
from archive.storage.remote.clients import replies
from tests.servers import nginx
from tests.servers.web import WebServer, web_server
from tests.storage.suite import DATA, Root, SourceTests


@pytest.fixture(scope="module")
def web() -> Iterator[WebServer]:
    with web_server() as web:
        yield web


@pytest.fixture(params=["plain", "noetag", "nosuffix", "noranges+nolength"])
def habits(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestHttp(SourceTests):
    @pytest.fixture
    def root(self, web: WebServer, habits: str) -> Root:
        self.web = web
        return Root(f"{web.endpoint}/{habits}")

    def place(self, root: Root, name: str, data: bytes) -> None:
        self.web.place(name, data)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hedaers": "SECRET"}, "unknown option 'hedaers'"),
        ({"client_kwargs": {"trust": "SECRET"}}, "unknown option 'trust'"),
        ({"headers": 5}, "TypeError"),
        ({"timeout": "SECRET"}, "TypeError"),
        ({"get_client": "SECRET"}, "TypeError"),
    ],
)
def test_options_that_are_not_honoured_are_named(web: WebServer, options: dict[str, Any], said: str) -> None:
    """They were errors of Python, which name no archive."""
    web.place("options.h5", b"data")
    url = f"{web.endpoint}/plain/options.h5?sig=SECRET"
    with pytest.raises(StorageError, match=f"options.h5: .*{said}.*check storage_options") as caught:
        archive.open(url, storage_options=options)
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("host", ["[::1", "user:SECRET@h\u2100st"])
def test_an_invalid_host(host: str) -> None:
    url = f"http://{host}/a.h5?sig=SECRET"
    with pytest.raises(UnsupportedURLError, match="invalid URL") as caught:
        archive.open(url)
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """nginx: its endpoint, and the folder that is its bucket."""
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "data" / "bucket").mkdir(parents=True)
    with nginx.running(folder) as endpoint:
        yield endpoint, folder / "data" / "bucket"


@pytest.mark.skipif(not nginx.is_installed(), reason="nginx is not installed")
class TestNginx(SourceTests):
    """By http, and as the bucket of an anonymous S3 client."""

    @pytest.fixture(params=["http", "s3"])
    def root(self, request: pytest.FixtureRequest, served: tuple[str, Path]) -> Root:
        endpoint, bucket = served
        folder = uuid.uuid4().hex
        self.data = bucket / folder
        self.data.mkdir()
        if request.param == "http":
            return Root(f"{endpoint}/bucket/{folder}")
        return Root(f"s3://bucket/{folder}", {"anon": True, "endpoint_url": endpoint})

    def place(self, root: Root, name: str, data: bytes) -> None:
        (self.data / f"{name}.new").write_bytes(data)
        (self.data / f"{name}.new").replace(self.data / name)


@pytest.mark.parametrize(
    "habits", ["plain", "noetag", "weak", "nomatch", "nosuffix", "noranges"], indirect=True
)
def test_another_version_is_not_read(web: WebServer, habits: str) -> None:
    web.place("object", DATA)
    store, path = locate_store(Root(f"{web.endpoint}/{habits}").location("object"))
    version = store.head(path)
    web.place("object", DATA[::-1])
    with pytest.raises(ReplacedError):
        store.get_range(path, 10, 20, version)
    del web.objects["object"]
    with pytest.raises(ReplacedError):
        store.get_range(path, 10, 20, version)
    with pytest.raises(MissingError):
        store.get_suffix(path, 20)


def test_content_encodings(web: WebServer) -> None:
    """``aws-chunked`` is how an object was uploaded, and bytes of anything else are not the object's."""
    web.place("object", DATA)
    store, path = locate_store(Root(f"{web.endpoint}/aws-chunked").location("object"))
    data, version = store.get_suffix(path, 1000)
    assert bytes(data) == DATA[-1000:]
    assert bytes(store.get_range(path, 5, 500, version)) == DATA[5:500]
    store, path = locate_store(Root(f"{web.endpoint}/gzip").location("object"))
    with pytest.raises(StorageError, match="compresses"):
        store.get_suffix(path, 1000)


@pytest.mark.parametrize("habits", ["nohead", "noranges+nohead", "noranges+nolength"], indirect=False)
def test_head_where_head_says_nothing(web: WebServer, habits: str) -> None:
    web.place("object", DATA)
    store, path = locate_store(Root(f"{web.endpoint}/{habits}").location("object"))
    assert store.head(path).nbytes == len(DATA)


def test_open_is_one_request(web: WebServer, tmp_path: object) -> None:
    archive.save({"w": np.ones(1)}, f"{tmp_path}/m.h5")
    with open(f"{tmp_path}/m.h5", "rb") as file:
        web.place("m.h5", file.read())
    web.requests.clear()
    with archive.open(f"{web.endpoint}/plain/m.h5") as handle:
        assert handle["w"].numpy().tolist() == [1.0]
    assert web.requests == [("GET", "m.h5", "bytes=-65536")]


@pytest.mark.parametrize("habits", ["noranges", "noranges+nolength"])
def test_a_large_object_without_ranges(web: WebServer, habits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "WHOLE_BYTES", 100_000)
    web.place("object", DATA)
    store, path = locate_store(Root(f"{web.endpoint}/{habits}").location("object"))
    with pytest.raises(StorageError, match="ignores ranges"):
        store.get_suffix(path, 10)


def test_it_is_not_written(web: WebServer) -> None:
    url = f"{web.endpoint}/plain/m.h5?signature=SECRET"
    with pytest.raises(UnsupportedURLError, match="not written") as caught:
        archive.save({"w": np.ones(1)}, url)
    assert "SECRET" not in str(caught.value)
    store, path = locate_store(Root(f"{web.endpoint}/plain").location("m.h5"))
    for call in (store.create_multipart, store.delete, store.list):
        with pytest.raises(UnsupportedURLError):
            call(path)


def test_headers_of_the_user_are_sent(web: WebServer) -> None:
    web.place("object", DATA)
    options = {"headers": {"X-Ours": "1"}, "client_kwargs": {"trust_env": False}}
    store, path = locate_store(Root(f"{web.endpoint}/plain", options).location("object"))
    assert store.get_suffix(path, 5)[0] == DATA[-5:]


@pytest.mark.parametrize("spool", [True, False])
def test_nothing_is_consumed_for_what_is_not_written(spool: bool, tmp_path: Path) -> None:
    layers = {"w": np.ones(3)}
    with pytest.raises(UnsupportedURLError, match="not written"):
        archive.save(layers, "http://127.0.0.1:9/m.h5", keep_input=False, spool=tmp_path if spool else False)
    assert list(layers) == ["w"]
    assert list(tmp_path.iterdir()) == []


def test_a_traceback_shows_no_signature(web: WebServer) -> None:
    store, path = locate_store(Root(f"{web.endpoint}/loop").location("m.h5?X-Signature=SEC" + "RET"))
    web.requests.clear()
    with pytest.raises(StorageError, match="TooManyRedirects") as caught:
        store.get_suffix(path, 10)
    assert len(web.requests) < 20  # no outage, which would be asked again
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))
