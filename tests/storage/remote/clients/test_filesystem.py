"""The storage suite over file systems of fsspec that are no object stores, and what they do wrong."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
from fsspec.implementations.ftp import FTPFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

import archive
from archive.errors import (
    DigestError,
    MissingError,
    ReplacedError,
    StorageError,
    TruncatedError,
    UnsupportedURLError,
)
from archive.storage.folder import file_exists
from archive.storage.location import locate_store
from archive.storage.url import parse_url
from archive.types import Verify
from tests.servers.s3 import free_port
from tests.servers.web import web_server
from tests.storage.suite import DATA, Root, StorageTests


class Files(LocalFileSystem):
    """Real files behind a protocol of their own, as sftp or smb would be."""

    protocol = "files"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("files://"))


class Odd(MemoryFileSystem):
    """A store that breaks its promises as it is told to."""

    protocol = "odd"
    store: ClassVar[dict[str, Any]] = {}
    error: Exception | None = None
    short = 0
    lie = ""
    """What is done by no more than saying so: ``nothing`` is written, ``half``, or nothing is ``removed``."""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("odd://", "memory://"))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        if Odd.error:
            raise Odd.error
        data = bytes(super().cat_file(path, start=start, end=end, **kwargs))
        return data[: len(data) - Odd.short]

    def pipe_file(self, path: str, value: bytes, **kwargs: Any) -> None:
        if Odd.lie != "nothing":
            super().pipe_file(path, value[: len(value) // 2] if Odd.lie == "half" else value, **kwargs)

    def rm_file(self, path: str) -> None:
        if Odd.lie != "removed":
            super().rm_file(path)


@pytest.fixture(autouse=True, scope="module")
def registered() -> None:
    fsspec.register_implementation("files", Files, clobber=True)
    fsspec.register_implementation("odd", Odd, clobber=True)


class TestFiles(StorageTests):
    exclusive = False

    @pytest.fixture
    def root(self, tmp_path: Path) -> Root:
        (tmp_path / "root").mkdir()
        return Root(f"files://{tmp_path}/root")

    def test_a_failed_rename_leaves_the_old_file(
        self, root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, path = locate_store(root.location("object"))
        store.put(path, b"old")

        def fail(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Files, "mv", fail)
        with pytest.raises(StorageError, match="No space left") as caught:
            store.put(path, b"new")
        assert caught.value.errno == 28
        assert (tmp_path / "root" / "object").read_bytes() == b"old"
        assert [entry.path for entry in store.list(store_folder(path))] == ["object"]


def store_folder(path: str) -> str:
    return path.rpartition("/")[0]


@pytest.fixture
def odd() -> Iterator[type[Odd]]:
    yield Odd
    Odd.error, Odd.short, Odd.lie = None, 0, ""


@pytest.mark.must("REMOTE-2")
def test_short_ranges_are_found_out(odd: type[Odd]) -> None:
    store, path = locate_store(parse_url("odd://folder/object"))
    store.put(path, DATA)
    version = store.head(path)
    odd.short = 1
    with pytest.raises(TruncatedError, match="9 of 10 bytes"):
        store.get_range(path, 0, 10, version)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError("x"), OSError),
        (PermissionError(13, "Permission denied"), StorageError),
        (RuntimeError("token=SECRET"), StorageError),
        (NotImplementedError("x"), UnsupportedURLError),
    ],
)
def test_errors_are_ours(odd: type[Odd], error: Exception, kind: type[Exception]) -> None:
    store, path = locate_store(parse_url("odd://folder/object"))
    store.put(path, DATA)
    version = store.head(path)
    odd.error = error
    with pytest.raises(archive.ArchiveError) as caught:
        store.get_range(path, 0, 10, version)
    assert isinstance(caught.value, kind)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("old", [b"", b"old"])
@pytest.mark.parametrize(
    ("lie", "came"), [("nothing", "arrived"), ("half", f"{len(DATA) // 2} of {len(DATA)} bytes arrived")]
)
def test_what_was_not_written_is_no_success(odd: type[Odd], old: bytes, lie: str, came: str) -> None:
    store, path = locate_store(parse_url(f"odd://{lie}/{len(old)}"))
    if old:
        store.put(path, old)
    odd.lie = lie
    with pytest.raises(StorageError, match=came) as caught:
        store.put(path, DATA)
    assert caught.value.path == f"odd://{lie}/{len(old)}"


def test_a_consumed_input_outlives_a_file_system_that_lies(odd: type[Odd], tmp_path: Path) -> None:
    odd.lie = "nothing"
    given = {"w": np.arange(1000)}
    with pytest.raises(StorageError, match="nothing arrived") as caught:
        archive.save(given, "odd://consumed/m.h5", keep_input=False, spool=tmp_path)
    assert not given
    assert caught.value.partial is not None
    assert caught.value.partial in str(caught.value)
    record = archive.recover(caught.value.partial).array_records["model"]
    assert record["w"].numpy().tolist() == list(range(1000))


def test_what_was_not_removed_is_no_success(odd: type[Odd]) -> None:
    store, path = locate_store(parse_url("odd://removed/object"))
    store.put(path, DATA)
    odd.lie = "removed"
    with pytest.raises(StorageError, match="still there"):
        store.delete(path)
    odd.lie = ""
    store.delete(path)


def test_large_objects_go_in_pieces(monkeypatch: pytest.MonkeyPatch, odd: type[Odd]) -> None:
    monkeypatch.setattr("archive.storage.remote.clients.filesystem.PIPE_BYTES", 100_000)
    store, path = locate_store(parse_url("odd://folder/large"))
    store.put(path, DATA)
    assert bytes(store.get_suffix(path, len(DATA))[0]) == DATA


@pytest.mark.parametrize("url", ["nonsense://bucket/key", "adl://x/y"])
def test_what_fsspec_does_not_know(url: str) -> None:
    with pytest.raises(UnsupportedURLError, match="fsspec does not open it"):
        archive.open(url)


def test_a_folder_is_no_object() -> None:
    store, path = locate_store(parse_url("memory://a-folder/object"))
    store.put(path, b"x")
    with pytest.raises(MissingError):
        store.head(store_folder(path))
    store.delete(path)


@pytest.mark.parametrize("verify", ["first", "off"])
@pytest.mark.parametrize("removed", [False, True])
def test_a_replaced_object_is_told_from_damage(removed: bool, verify: Verify) -> None:
    url = "memory://replaced/m.h5"
    archive.save({"w": np.zeros(200_000)}, url)
    with archive.open(url, verify=verify) as handle:
        archive.save({"w": np.ones(200_000)}, url)
        if removed:
            fsspec.filesystem("memory").rm("/replaced/m.h5")
        with pytest.raises(ReplacedError, match="open it again"):
            handle["w"].numpy()


def test_damage_is_told_from_a_replaced_object() -> None:
    url = "memory://damaged/m.h5"
    archive.save({"w": np.zeros(200_000)}, url)
    file = fsspec.filesystem("memory").store["/damaged/m.h5"]
    file.getbuffer()[5000] ^= 1
    with archive.open(url) as handle, pytest.raises(DigestError):
        handle["w"].numpy()


def test_a_chain_shows_no_credentials() -> None:
    with web_server() as web:
        url = (
            f"simplecache::{web.endpoint}/plain/m.h5?X-Signature=SEC".replace("//", "//user:SEC" + "RET@")
            + "RET"
        )
        with pytest.raises(MissingError) as caught:
            archive.open(url)
        assert str(caught.value).startswith(f"simplecache::{web.endpoint}/plain/m.h5: no such object")
        assert "SECRET" not in "".join(traceback.format_exception(caught.value))


CACHES = ("simplecache", "filecache", "blockcache")
fsspec_leaves_files_open = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
"""Each file of a blockcache, until it is collected."""


@pytest.fixture(scope="module")
def object_of_a_model() -> bytes:
    archive.save({"w": np.arange(40_000.0)}, "memory://caches/m.h5")
    return bytes(fsspec.filesystem("memory").cat("/caches/m.h5"))


@fsspec_leaves_files_open
@pytest.mark.parametrize("chain", CACHES)
@pytest.mark.parametrize("habits", ["plain", "noranges", "noetag", "nohead"])
def test_a_cache_of_fsspec_before_a_web_server(
    object_of_a_model: bytes, tmp_path: Path, chain: str, habits: str
) -> None:
    """Two of these look for the object in a listing, which a web server does not have: no such object."""
    options = {chain: {"cache_storage": str(tmp_path)}}
    with web_server() as web:
        web.place("m.h5", object_of_a_model)
        url = f"{chain}::{web.endpoint}/{habits}/m.h5"
        with archive.open(url, storage_options=options) as handle:
            assert handle["w"].numpy().sum() == np.arange(40_000.0).sum()
        asked = len(web.requests)
        assert archive.load(url, storage_options=options).array_records["model"]["w"].numpy()[-1] == 39_999.0
        assert [request for request in web.requests[asked:] if request[0] == "GET"] == []
        assert file_exists(url, options)
        missing = f"{chain}::{web.endpoint}/{habits}/other.h5"
        for _ in range(2):  # a cache that remembers the name has no file for it either
            with pytest.raises(MissingError, match="no such object"):
                archive.open(missing, storage_options=options)
        assert not file_exists(missing, options)


@pytest.mark.parametrize("chain", ["simplecache", "filecache"])
def test_a_cache_of_fsspec_hands_out_what_it_holds(
    object_of_a_model: bytes, tmp_path: Path, chain: str
) -> None:
    """The length that was asked for was that of the object, which is another one meanwhile."""
    options = {chain: {"cache_storage": str(tmp_path)}}
    with web_server() as web:
        web.place("m.h5", object_of_a_model)
        url = f"{chain}::{web.endpoint}/plain/m.h5"
        archive.load(url, storage_options=options)
        archive.save({"w": np.arange(50_000.0)}, "memory://caches/next.h5")
        web.place("m.h5", bytes(fsspec.filesystem("memory").cat("/caches/next.h5")))
        record = archive.load(url, storage_options=options).array_records["model"]
        assert record["w"].numpy().shape == (40_000,)


@fsspec_leaves_files_open
def test_a_cache_of_fsspec_before_memory(tmp_path: Path) -> None:
    archive.save({"w": np.arange(5.0)}, "memory://caches/small.h5")
    for chain in ("simplecache", "filecache"):
        options = {chain: {"cache_storage": str(tmp_path / chain)}}
        loaded = archive.load(f"{chain}::memory://caches/small.h5", storage_options=options)
        assert loaded.array_records["model"]["w"].numpy().tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(UnsupportedURLError, match="use filecache::, or the URL alone with cache="):
        archive.open("blockcache::memory://caches/small.h5")


@fsspec_leaves_files_open
def test_a_web_server_of_no_length_has_no_blocks(object_of_a_model: bytes, tmp_path: Path) -> None:
    with web_server() as web:
        web.place("m.h5", object_of_a_model)
        url = f"{web.endpoint}/nolength/m.h5"
        options = {"filecache": {"cache_storage": str(tmp_path)}}
        record = archive.load(f"filecache::{url}", storage_options=options).array_records["model"]
        assert record["w"].shape == (40_000,)
        with pytest.raises(UnsupportedURLError, match="use filecache::"):
            archive.open(f"blockcache::{url}")


@pytest.mark.parametrize("chain", CACHES)
def test_a_cache_of_fsspec_before_a_server_that_is_away(chain: str) -> None:
    """fsspec reports a missing object: who believes that saves a round again, or another in its place."""
    url = f"{chain}::http://127.0.0.1:{free_port()}/m.h5"
    with pytest.raises(StorageError, match="the store failed: Connect call failed"):
        archive.open(url)
    with pytest.raises(StorageError, match="the store failed: Connect call failed"):
        file_exists(url)


def test_damage_behind_a_cache_of_fsspec(object_of_a_model: bytes, tmp_path: Path) -> None:
    damaged = bytearray(object_of_a_model)
    damaged[9000] ^= 1
    with web_server() as web:
        web.place("m.h5", bytes(damaged))
        options = {"filecache": {"cache_storage": str(tmp_path)}}
        with pytest.raises(DigestError):
            archive.load(f"filecache::{web.endpoint}/plain/m.h5", storage_options=options)


def test_what_a_file_system_raises_when_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    class LoginFailedError(Exception):
        """As those of ftplib, paramiko and smbprotocol, that connect at once."""

    def refuse(*_: object, **__: object) -> None:
        raise LoginFailedError("530 Login incorrect")

    monkeypatch.setattr(Odd, "__init__", refuse)
    with pytest.raises(StorageError, match="cannot be set up: LoginFailedError"):
        archive.open("odd://folder/object", storage_options={"password": "x"})


class Alone(MemoryFileSystem):
    """A file system of one connection, as ftp's is: two threads at once read each other's answers."""

    protocol = "ftp"
    store: ClassVar[dict[str, Any]] = {}
    busy = threading.Lock()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("ftp://", "memory://"))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        assert self.busy.acquire(blocking=False)
        try:
            time.sleep(0.001)
            return bytes(super().cat_file(path, start=start, end=end, **kwargs))
        finally:
            self.busy.release()


def test_ftp_is_asked_by_one_thread_at_a_time() -> None:
    fsspec.register_implementation("ftp", Alone, clobber=True)
    try:
        layers = {f"w{number}": np.full(3 << 20, number, "f8") for number in range(4)}
        archive.save(layers, "ftp://host/m.h5")
        loaded = archive.load("ftp://host/m.h5").array_records["model"]
        assert all(np.array_equal(loaded[key].numpy(), layer) for key, layer in layers.items())
        with archive.open("ftp://host/m.h5") as handle, ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda key: handle[key][:5].tolist(), layers))
        assert found == [[number] * 5 for number in range(4)]
    finally:
        fsspec.register_implementation("ftp", FTPFileSystem, clobber=True)


def test_what_a_file_system_calls_fs_may_be_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of hdfs is pyarrow's, which has no `mv`."""
    monkeypatch.setattr(Files, "fs", object(), raising=False)
    archive.save({"w": np.zeros(3)}, f"files://{tmp_path}/m.h5")
    assert archive.verify(tmp_path / "m.h5").ok


def test_a_listing_that_fails_is_not_empty() -> None:
    """fsspec leaves out what it cannot list: a store had no rounds, and their client files were garbage."""
    store = archive.CheckpointStore(f"simplecache::http://127.0.0.1:{free_port()}/run")
    with pytest.raises(StorageError, match="the store failed"):
        store.rounds()
