"""One test suite for every storage: what local files, memory, S3 and any other backend must do.

Subclass `StorageTests`, override the fixture ``root``, and pytest runs it all::

    class TestMyServer(StorageTests):
        @pytest.fixture
        def root(self):
            return Root("s3://bucket/folder", {"endpoint_url": "http://127.0.0.1:9000"})

`SourceTests` alone is for storage that is only read (override `SourceTests.place`), `SinkTests` for
storage behind no `ObjectStore`, such as local files.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import (
    ArchiveError,
    ClosedError,
    ExistsError,
    MissingError,
    NotAnArchiveError,
    ReplacedError,
    TruncatedError,
    UnsupportedURLError,
)
from archive.storage.location import locate_source, locate_store
from archive.storage.protocols import Source
from archive.storage.remote.objectstore import ObjectStore, ObjectVersion
from archive.storage.url import Location, parse_url
from tests.children import join_threads

__all__ = ["Root", "SinkTests", "SourceTests", "StorageTests", "StoreTests"]

DATA = np.random.default_rng(0).bytes(700_000)
"""More than the first request brings."""
ARRAYS = {
    "weight": np.arange(200_000, dtype="f4").reshape(400, 500),
    "bias": np.linspace(0, 1, 7),
    "steps": np.array(3, "i8"),
    "empty": np.empty((0, 4), "u1"),
}


@dataclass(frozen=True, slots=True)
class Root:
    """A folder of its own for one test."""

    url: str
    """URL or path, without a slash at the end."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """storage_options."""

    def at(self, name: str) -> str:
        """Return the URL of a name in it."""
        return f"{self.url}/{name}"

    def location(self, name: str) -> Location:
        """Return the location of a name in it."""
        return parse_url(self.at(name), self.options)

    @property
    def arguments(self) -> dict[str, Any]:
        """What functions of the front door are given beside a URL."""
        return {"storage_options": self.options} if self.options else {}


class _Base:
    @pytest.fixture
    def root(self) -> Root:
        """Override: where this test may write."""
        raise NotImplementedError

    def place(self, root: Root, name: str, data: bytes) -> None:
        """Make an object of these bytes; override where storage is only read."""
        location = root.location(name)
        if location.remote:
            store, path = locate_store(location)
            store.put(path, data)
            return
        new = Path(location.path + ".new")
        new.write_bytes(data)
        new.replace(location.path)


class SourceTests(_Base):
    """Reading: exact ranges of one version, or a typed error."""

    def source(self, root: Root, name: str) -> Source:
        """Open an object."""
        return locate_source(root.location(name), "auto")

    @pytest.mark.parametrize("nbytes", [1, 4096, 524_288, 524_289, len(DATA)])
    def test_ranges_are_exact(self, root: Root, nbytes: int) -> None:
        data = DATA[:nbytes]
        self.place(root, "object", data)
        source = self.source(root, "object")
        assert source.nbytes == nbytes
        for start, stop in ((0, 1), (0, nbytes), (nbytes - 1, nbytes), (nbytes // 3, nbytes // 2), (0, 0)):
            assert source.read(start, stop - start).tobytes() == data[start:stop]
            out = np.zeros(stop - start, np.uint8)
            source.read_into(start, out)
            assert out.tobytes() == data[start:stop]
            private = source.private(start, stop - start)
            private[:] = 0  # nobody else sees it
            assert source.read(start, stop - start).tobytes() == data[start:stop]
        source.close()

    def test_an_empty_object_is_no_archive(self, root: Root) -> None:
        self.place(root, "empty", b"")
        with pytest.raises(NotAnArchiveError):
            archive.open(root.at("empty"), **root.arguments)

    def test_what_is_not_there(self, root: Root) -> None:
        with pytest.raises(MissingError, match="nothing") as caught:
            archive.open(root.at("nothing.h5"), **root.arguments)
        assert isinstance(caught.value, FileNotFoundError)

    def test_a_closed_source(self, root: Root) -> None:
        self.place(root, "object", DATA)
        source = self.source(root, "object")
        source.close()
        with pytest.raises(ClosedError):
            source.read(0, 10)

    def test_one_version_for_the_life_of_a_handle(self, root: Root) -> None:
        self.place(root, "object", DATA)
        source = self.source(root, "object")
        self.place(root, "object", DATA[:-1] + bytes([DATA[-1] ^ 1]))
        try:
            assert source.read(0, 1000).tobytes() == DATA[:1000]
        except ReplacedError:
            pass  # what storage does that keeps no old versions
        finally:
            source.close()

    def test_many_threads(self, root: Root) -> None:
        self.place(root, "object", DATA)
        source = self.source(root, "object")
        spans = [(start, start + 7001) for start in range(0, len(DATA) - 8000, 40_000)]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda span: source.read(span[0], 7001).tobytes(), spans))
        source.close()
        assert found == [DATA[start:stop] for start, stop in spans]

    @pytest.mark.needs("os.fork")
    def test_the_child_of_a_fork(self, root: Root) -> None:
        self.place(root, "object", DATA)
        source = self.source(root, "object")
        assert source.read(5, 5).tobytes() == DATA[5:10]
        child = os.fork()
        if not child:
            right = False
            try:
                right = source.read(9, 5).tobytes() == DATA[9:14]
            finally:
                os._exit(0 if right else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert source.read(5, 5).tobytes() == DATA[5:10]
        source.close()

    def test_a_whole_archive(self, root: Root, saved: bytes) -> None:
        self.place(root, "model.h5", saved)
        with archive.open(root.at("model.h5"), **root.arguments) as handle:
            assert list(handle.records["model"]) == list(ARRAYS)
            for name, values in ARRAYS.items():
                np.testing.assert_array_equal(handle[name].numpy(), values)
            found = handle["weight"][10:12]
            np.testing.assert_array_equal(np.asarray(found), ARRAYS["weight"][10:12])
            if not root.options:  # which are not pickled
                again = pickle.loads(pickle.dumps(handle["bias"]))
                np.testing.assert_array_equal(again.numpy(), ARRAYS["bias"])
        loaded: Any = archive.load(root.at("model.h5"), **root.arguments)["model"]
        for name, values in ARRAYS.items():
            np.testing.assert_array_equal(loaded[name].numpy(), values)
        assert archive.verify(root.at("model.h5"), **root.arguments)

    def test_a_truncated_archive(self, root: Root, saved: bytes) -> None:
        for nbytes in (10, 100, len(saved) // 2, len(saved) - 1):
            self.place(root, "cut.h5", saved[:nbytes])
            with pytest.raises((TruncatedError, NotAnArchiveError)):
                archive.open(root.at("cut.h5"), **root.arguments)

    @pytest.fixture
    def saved(self, tmp_path: Path) -> bytes:
        """Return the bytes of an archive of `ARRAYS`."""
        path = tmp_path / "saved"
        archive.save(ARRAYS, path)
        return path.read_bytes()


class SinkTests(_Base):
    """Writing: an archive appears complete or not at all."""

    exclusive = True
    """Whether ``overwrite=False`` can be promised; where not, it must be refused."""

    def names(self, root: Root) -> list[str]:
        """Return what is in the folder of this test."""
        location = root.location("")
        if not location.remote:
            return sorted(path.name for path in Path(location.path).iterdir())
        store, path = locate_store(location)
        return sorted(entry.path for entry in store.list(path))

    def leftovers(self, root: Root) -> list[Any]:
        """Return uploads that were begun and not ended."""
        location = root.location("")
        if not location.remote:
            return []
        store, path = locate_store(location)
        return list(store.list_multipart(path))

    def weight(self, root: Root, name: str) -> Any:
        """Return the array ``w`` of an archive, verified."""
        loaded: Any = archive.load(root.at(name), **root.arguments)["model"]
        return loaded["w"].numpy()

    def test_save_and_replace(self, root: Root) -> None:
        for value in (1.0, 2.0):
            archive.save({"w": np.full(100, value)}, root.at("m.h5"), **root.arguments)
            assert self.weight(root, "m.h5").tolist() == [value] * 100
            assert self.names(root) == ["m.h5"]

    def test_a_save_of_several_parts(self, root: Root) -> None:
        large = np.arange(5 << 20, dtype="u4")  # 20 MiB
        archive.save({"w": large}, root.at("large.h5"), **root.arguments)
        np.testing.assert_array_equal(self.weight(root, "large.h5"), large)
        assert (self.names(root), self.leftovers(root)) == (["large.h5"], [])

    def test_create(self, root: Root) -> None:
        with archive.create(root.at("m.h5"), **root.arguments) as writer:
            writer.add("model", "w", np.arange(10.0))
            assert self.names(root) in ([], [name for name in self.names(root) if name.endswith(".tmp")])
        assert self.weight(root, "m.h5").tolist() == list(range(10))

    @pytest.mark.parametrize("nbytes", [100, 20 << 20])
    def test_a_failed_create_leaves_the_old_archive(self, root: Root, nbytes: int) -> None:
        archive.save({"w": np.ones(3)}, root.at("m.h5"), **root.arguments)

        def fail() -> None:
            with archive.create(root.at("m.h5"), **root.arguments) as writer:
                writer.add("model", "w", np.zeros(nbytes, "u1"))
                raise RuntimeError("ours")

        with pytest.raises(RuntimeError, match="ours"):
            fail()
        assert self.weight(root, "m.h5").tolist() == [1.0] * 3
        assert (self.names(root), self.leftovers(root)) == (["m.h5"], [])

    def test_a_failed_iterator_leaves_nothing(self, root: Root) -> None:
        def arrays() -> Iterator[tuple[str, Any]]:
            yield "w", np.ones(1000)
            raise RuntimeError("ours")

        with pytest.raises(RuntimeError, match="ours"):
            archive.save(arrays(), root.at("m.h5"), **root.arguments)
        assert (self.names(root), self.leftovers(root)) == ([], [])

    def test_overwrite_false(self, root: Root) -> None:
        old = {"w": np.ones(3)}
        arguments: dict[str, Any] = {"overwrite": False, **root.arguments}
        if not self.exclusive:
            with pytest.raises(UnsupportedURLError, match="overwrite"):
                archive.save(old, root.at("m.h5"), **arguments)
            archive.save(old, root.at("m.h5"), **root.arguments)
        else:
            archive.save(old, root.at("m.h5"), **arguments)
        with pytest.raises(ExistsError) as caught:
            archive.save({"w": np.zeros(3)}, root.at("m.h5"), **arguments)
        assert isinstance(caught.value, FileExistsError)
        assert self.weight(root, "m.h5").tolist() == [1.0] * 3
        assert self.names(root) == ["m.h5"]


class StoreTests(_Base):
    """`ObjectStore`, method by method."""

    multipart = False
    """Whether the store has uploads in parts."""
    exclusive_put = False
    """Whether it refuses to replace an object that is put."""
    exclusive_multipart = False
    """Whether it refuses to replace an object by completing an upload."""

    @pytest.fixture
    def store(self, root: Root) -> ObjectStore:
        """Return the client."""
        return locate_store(root.location("x"))[0]

    def path(self, root: Root, name: str) -> str:
        """Return the path of a name."""
        return locate_store(root.location(name))[1]

    def test_it_is_one(self, root: Root, store: ObjectStore) -> None:
        assert store.name
        assert store.parallel > 0
        assert store.multipart is self.multipart
        assert store.min_part_bytes > 0
        assert store.url(self.path(root, "model.h5")).endswith("model.h5")

    def test_put_head_tail_fetch(self, root: Root, store: ObjectStore) -> None:
        path = self.path(root, "object")
        store.put(path, memoryview(DATA))
        version = store.head(path)
        assert version.nbytes == len(DATA)
        for nbytes in (1, 1000, len(DATA), len(DATA) + 1, 2 * len(DATA)):
            data, found = store.get_suffix(path, nbytes)
            assert bytes(data) == DATA[-nbytes:]
            assert found == version
        for start, stop in ((0, 1), (17, 4099), (len(DATA) - 1, len(DATA)), (0, len(DATA)), (5, 5)):
            assert bytes(store.get_range(path, start, stop, version)) == DATA[start:stop]
            came = bytearray()

            def take(at: int, chunk: Any, came: bytearray = came) -> None:
                del came[at:]  # at 0 they begin anew
                assert len(came) == at
                came += chunk

            store.stream_range(path, start, stop, version, take)
            assert came == DATA[start:stop]

    def test_an_empty_object(self, root: Root, store: ObjectStore) -> None:
        path = self.path(root, "empty")
        store.put(path, b"")
        assert store.head(path).nbytes == 0
        data, version = store.get_suffix(path, 100)
        assert (bytes(data), version.nbytes) == (b"", 0)

    def test_an_object_that_is_not_there(self, root: Root, store: ObjectStore) -> None:
        path = self.path(root, "nothing")
        for call in (store.head, store.delete, lambda path: store.get_suffix(path, 10)):
            with pytest.raises(MissingError):
                call(path)
        assert list(store.list(path)) == []
        assert list(store.list_multipart(path)) == []

    def test_another_version_is_not_read(self, root: Root, store: ObjectStore) -> None:
        path = self.path(root, "object")
        store.put(path, DATA)
        version = store.head(path)
        store.put(path, DATA[:1000])
        with pytest.raises((ReplacedError, TruncatedError)):
            store.get_range(path, 900, 2000, version)
        if version.tag:
            with pytest.raises(ReplacedError):
                store.get_range(path, 0, 10, version)
            store.delete(path)
            with pytest.raises(ReplacedError):
                store.get_range(path, 0, 10, version)
            assert store.get_suffix(self._again(root, store, path), 5)[0] == DATA[-5:]

    def _again(self, root: Root, store: ObjectStore, path: str) -> str:
        store.put(path, DATA)
        return path

    def test_list_and_delete(self, root: Root, store: ObjectStore) -> None:
        names = ["a", "b/c", "b/d e", "bb"]
        for name in names:
            store.put(self.path(root, name), name.encode())
        folder = self.path(root, "").rstrip("/")
        found = {entry.path: entry for entry in store.list(folder)}
        assert sorted(found) == names
        assert found["b/d e"].nbytes == 5
        assert [entry.path for entry in store.list(self.path(root, "b"))] in (["c", "d e"], ["d e", "c"])
        own = {entry.path for entry in store.list(folder, below=False)}
        assert {"a", "bb"} <= own <= set(names)
        spanned = {entry.path for entry in store.list(folder, span=("b/", "b0"))}
        assert {"b/c", "b/d e"} <= spanned <= set(names)
        tags = {name: entry.tag for name, entry in found.items()}
        store.put(self.path(root, "a"), b"A")
        now = {entry.path: entry.tag for entry in store.list(folder)}
        assert {name for name in names if now[name] != tags[name]} == ({"a"} if now["a"] else set())
        store.delete(self.path(root, "b/c"))
        assert "b/c" not in {entry.path for entry in store.list(folder)}

    def test_exclusive_put(self, root: Root, store: ObjectStore) -> None:
        path = self.path(root, "object")
        assert store.is_exclusive(path, multipart=False) is self.exclusive_put
        assert list(store.list(self.path(root, "").rstrip("/"))) == []  # the probe is gone
        store.put(path, b"first", exclusive=True)
        with pytest.raises(ExistsError):
            store.put(path, b"second", exclusive=True)
        assert bytes(store.get_suffix(path, 10)[0]) == b"first"

    def test_uploads_in_parts(self, root: Root, store: ObjectStore) -> None:
        path = self.path(root, "object")
        if not self.multipart:
            with pytest.raises(UnsupportedURLError):
                store.create_multipart(path)
            return
        size = store.min_part_bytes
        parts = [np.full(size, 1, "u1"), np.full(size, 2, "u1"), np.full(10, 3, "u1")]
        upload = store.create_multipart(path)
        for number in (3, 1, 2):
            upload.put_part(number, parts[number - 1])
        upload.put_part(2, parts[1])  # again
        assert [pending.path for pending in store.list_multipart(path)] == [path]
        with pytest.raises(MissingError):
            store.head(path)
        upload.complete(exclusive=False)
        upload.abort()  # harmless
        version = store.head(path)
        assert version.nbytes == 2 * size + 10
        assert bytes(store.get_range(path, size - 1, size + 1, version)) == b"\x01\x02"
        assert list(store.list_multipart(path)) == []

    def test_uploads_that_end_otherwise(self, root: Root, store: ObjectStore) -> None:
        if not self.multipart:
            return
        path = self.path(root, "object")
        for end in ("abort", "gc", "stranger"):
            upload = store.create_multipart(path)
            upload.put_part(1, b"some bytes")
            if end == "abort":
                upload.abort()
                upload.abort()
            elif end == "gc":
                del upload
                join_threads("fedarchive-abort")
            else:
                for pending in store.list_multipart(self.path(root, "").rstrip("/")):
                    store.abort(pending)
                    store.abort(pending)
                with pytest.raises(ArchiveError):
                    upload.complete(exclusive=False)
            assert list(store.list_multipart(path)) == []
        with pytest.raises(MissingError):
            store.head(path)

    def test_exclusive_uploads(self, root: Root, store: ObjectStore) -> None:
        path = self.path(root, "object")
        assert store.is_exclusive(path, multipart=True) is self.exclusive_multipart
        if not self.exclusive_multipart:
            return
        store.put(path, b"first")
        upload = store.create_multipart(path)
        upload.put_part(1, b"second")
        with pytest.raises(ExistsError):
            upload.complete(exclusive=True)
        upload.abort()
        assert bytes(store.get_suffix(path, 10)[0]) == b"first"

    def test_versions_compare(self) -> None:
        assert ObjectVersion(3, "a") != ObjectVersion(3, "b")


class StorageTests(SourceTests, SinkTests, StoreTests):
    """Everything."""
