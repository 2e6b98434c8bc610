"""The storage suite over file systems of fsspec that are no object stores, and what they do wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

import archive
from archive.errors import MissingError, StorageError, TruncatedError, UnsupportedURLError
from archive.storage.location import locate_store
from archive.storage.url import parse_url
from archive.testing.storage import DATA, Root, StorageTests


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

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("odd://", "memory://"))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        if Odd.error:
            raise Odd.error
        data = bytes(super().cat_file(path, start=start, end=end, **kwargs))
        return data[: len(data) - Odd.short]


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
    Odd.error, Odd.short = None, 0


def test_short_ranges_are_found_out(odd: type[Odd]) -> None:
    store, path = locate_store(parse_url("odd://folder/object"))
    store.put(path, DATA)
    version = store.head(path)
    odd.short = 1
    with pytest.raises(TruncatedError, match="9 of 10 bytes"):
        store.fetch(path, 0, 10, version)


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
        store.fetch(path, 0, 10, version)
    assert isinstance(caught.value, kind)
    assert "SECRET" not in str(caught.value)


def test_large_objects_go_in_pieces(monkeypatch: pytest.MonkeyPatch, odd: type[Odd]) -> None:
    monkeypatch.setattr("archive.storage.remote.filesystem.PIPE_BYTES", 100_000)
    store, path = locate_store(parse_url("odd://folder/large"))
    store.put(path, DATA)
    assert bytes(store.tail(path, len(DATA))[0]) == DATA


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
