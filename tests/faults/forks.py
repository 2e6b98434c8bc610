"""Forks in the middle of saves and reads: a process that plays the parent, whose children leave in every way.

Run as ``python -m tests.faults.forks``: requests and answers are lines of JSON. A child ends as interpreters
do, with all that runs at exit, unless it is one that leaves by `os._exit`.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import archive
from archive import tuning
from archive.storage.remote import upload
from archive.tools.copying import copy
from tests.children import ROOT
from tests.faults.conftest import environment
from tests.faults.scenes import CREATED, LITTER
from tests.storage.folderstore import FolderStore, reach

NDArray = np.ndarray[Any, Any]
Play = Callable[..., list[dict[str, Any]]]
HANGS = 20
"""Seconds after which a child is taken to hang."""
PART = 256 << 10
LEAVES = ("exit", "error", "return", "use", "own", "_exit")
FEW = (("exit", False), ("error", True), ("return", False))
ALL = tuple((leave, late) for leave in LEAVES for late in (False, True))
"""How a child leaves, and whether after its parent has published."""
INERT = {"exit": ["SystemExit", "0"], "error": ["Boom", ""], "own": ["SystemExit", "0"], "_exit": None}
"""How a writer ends in a child that does not use it."""


class Boom(Exception):  # noqa: N818 - it is what the user's own code raises
    pass


class Fork:
    """A fork at a moment that a writer chooses, and what came of its child.

    Parameters
    ----------
    leave : {"exit", "error", "return", "use", "own", "_exit", ""}
        What the child does: ``return`` goes on as if nothing had happened, ``use`` uses the writer, ``own``
        saves with a writer of its own; empty: there is no fork.
    late : bool
        The child leaves when the parent has published, and is at work on the same name again.
    raw : bool
        Fork as C code does: Python does not hear of it.
    """

    def __init__(self, leave: str, late: bool, *, raw: bool = False) -> None:
        self.leave, self.late, self.raw = leave, late, raw
        self.own: Callable[[], object] = int
        self.is_child = False
        self.pid = 0
        self.status: int | None = None
        self._told, self._go = os.pipe(), os.pipe()

    def here(self, use: Callable[[], object] = int) -> None:
        """Fork, once."""
        if self.pid or self.is_child or not self.leave:
            return
        sys.stdout.flush()
        # PyDLL: the interpreter lock is not let go of, as it is around other foreign calls
        self.pid = ctypes.PyDLL(None).fork() if self.raw else os.fork()
        if self.pid:
            if not self.late:
                self.wait()
            return
        self.is_child = True
        signal.alarm(HANGS)
        sys.excepthook = lambda *error: None
        if self.late:
            os.read(self._go[0], 1)
        if self.leave == "_exit":
            self.tell(None)
            os._exit(0)
        if self.leave == "own":
            self.own()
        if self.leave in ("exit", "own"):
            sys.exit(0)
        if self.leave == "error":
            raise Boom
        if self.leave == "use":
            use()

    def tell(self, told: Any) -> None:
        """Tell the parent how the writer ended in the child."""
        if isinstance(told, BaseException):
            told = [type(told).__name__, str(told)]
        os.write(self._told[1], json.dumps(told).encode())

    def let_go(self) -> None:
        """Have a late child leave, and wait for its end."""
        os.write(self._go[1], b"x")
        self.wait()

    def wait(self) -> None:
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def answer(self) -> dict[str, Any]:
        """Return how the child ended: its exit code or signal, and the error that reached its top."""
        os.close(self._told[1])
        told = os.read(self._told[0], 1 << 16)
        for fd in (self._told[0], *self._go):
            os.close(fd)
        return {"status": self.status, "told": json.loads(told) if told else "nothing"}


class Patch:
    """What `reach` needs of pytest's monkeypatch, without importing pytest into every child."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def setattr(self, target: Any, name: Any, value: Any = None) -> None:
        if isinstance(target, str):
            module, _, attribute = target.rpartition(".")
            __import__(module)
            target, name, value = sys.modules[module], attribute, name
        self._before.append((target, name, getattr(target, name)))
        setattr(target, name, value)

    def undo(self) -> None:
        for before in reversed(self._before):
            setattr(*before)
        self._before.clear()


def content() -> dict[str, NDArray]:
    """Return arrays of which some are written by a thread, or fill several parts."""
    return {
        "a": np.arange(100),
        "b": np.arange(9 << 16, dtype="f8"),
        "c": np.full((3, 5), 7, "i4"),
        "d": np.arange(1 << 16, dtype="f8"),
        "e": np.arange(7.0),
    }


# ---------------------------------------------------------------- writers: (url, fork, moment, options)


def generator(url: str, fork: Fork, moment: int, **options: Any) -> None:
    """Save an iterator that forks before its ``moment``-th array, or at its end."""

    def pairs() -> Iterator[tuple[str, NDArray]]:
        for number, pair in enumerate(content().items()):
            if number == moment:
                fork.here()
            yield pair
        if moment >= len(content()):
            fork.here()

    archive.save(pairs(), url, created=CREATED, **options)


def planned(url: str, fork: Fork, moment: int, **options: Any) -> None:
    """Save a dict; the ``moment``-th call of ``progress`` forks."""
    calls = 0

    def progress(done: int, total: int) -> None:
        nonlocal calls
        if calls == moment:
            fork.here()
        calls += 1

    archive.save(content(), url, created=CREATED, progress=progress, **options)


def create(url: str, fork: Fork, moment: int, **options: Any) -> None:
    """Write array by array, and fork in the block."""
    with archive.create(url, created=CREATED, **options) as writer:
        for number, (key, array) in enumerate(content().items()):
            if number == moment:
                fork.here(lambda: writer.add("model", "theirs", np.zeros(3)))
                if fork.is_child:
                    return
            writer.add("model", key, array)


def pieces(url: str, fork: Fork, moment: int, **options: Any) -> None:
    """Write an array piece by piece, and fork between two."""

    def rows() -> Iterator[NDArray]:
        for number in range(6):
            if number == moment:
                fork.here()
            yield np.full((100, 300), number, "f8")

    with archive.create(url, created=CREATED, **options) as writer:
        writer.add("model", "first", np.arange(10))
        writer.add("model", "rows", rows(), shape=(600, 300), dtype="f8")


def copied(url: str, fork: Fork, moment: int, **options: Any) -> None:
    """Copy an archive, and fork in ``progress``."""
    source = f"{url.removesuffix('model.h5')}source.h5"
    archive.save(content(), source, created=CREATED, durable=False)
    copy(source, url, progress=lambda done, total: fork.here(), **options)
    if not fork.is_child:
        os.unlink(source)


def averaged(url: str, fork: Fork, moment: int, **options: Any) -> None:
    """Average archives, and fork in ``progress``."""
    source = f"{url.removesuffix('model.h5')}source.h5"
    archive.save(content(), source, created=CREATED, durable=False)
    archive.mean(
        [source] * 2, [1, 3], out=url, created=CREATED, progress=lambda done, total: fork.here(), **options
    )
    if not fork.is_child:
        os.unlink(source)


WRITERS: dict[str, Callable[..., None]] = {
    writer.__name__: writer for writer in (generator, planned, create, pieces, copied, averaged)
}


# ---------------------------------------------------------------- places


class Local:
    """A local file."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self.folder, self.url = folder, str(folder / "model.h5")
        self.own_url = str(folder / "own.h5")
        self.options = {"durable": False, **options}
        self.patch = Patch()

    def read(self) -> bytes:
        return Path(self.url).read_bytes()

    def left(self) -> list[str]:
        return sorted(set(os.listdir(self.folder)) - {"model.h5", "own.h5"})

    def clear(self) -> None:
        for name in os.listdir(self.folder):
            (self.folder / name).unlink()

    def check_readable(self) -> None:
        with h5py.File(self.url) as file:
            assert len(file["arrays/model"]) > 1
        import fcntl

        with open(self.url, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Memory(Local):
    """An object that is collected in a local file first."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        super().__init__(folder, options)
        self.url, self.own_url = "memory://forks/model.h5", "memory://forks/own.h5"
        self.options = {"spool": str(folder), **options}

    def read(self) -> bytes:
        import fsspec

        data: bytes = fsspec.filesystem("memory").cat_file("/forks/model.h5")
        return data

    def clear(self) -> None:
        import fsspec

        super().clear()
        with contextlib.suppress(FileNotFoundError):
            fsspec.filesystem("memory").rm("/forks/model.h5")

    def check_readable(self) -> None:
        assert archive.verify(self.url).ok


class Files(Memory):
    """A file behind fsspec, written beside its place."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        import fsspec

        from tests.storage.remote.clients.test_filesystem import Files

        (folder / "spool").mkdir(exist_ok=True)
        (folder / "files").mkdir(exist_ok=True)
        Local.__init__(self, folder / "spool", options)
        fsspec.register_implementation("files", Files, clobber=True)
        self.files = folder / "files"
        self.url, self.own_url = (f"files://{self.files}/{name}.h5" for name in ("model", "own"))
        self.options = {"spool": str(self.folder), **options}

    def read(self) -> bytes:
        return (self.files / "model.h5").read_bytes()

    def left(self) -> list[str]:
        return [*os.listdir(self.folder), *(set(os.listdir(self.files)) - {"model.h5", "own.h5"})]

    def clear(self) -> None:
        for name in os.listdir(self.files):
            (self.files / name).unlink()


class Parts(Local):
    """An object that is sent in parts, some of which are under way."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        (folder / "spool").mkdir(exist_ok=True)
        super().__init__(folder / "spool", options)
        self.store = FolderStore(folder / "store")
        self.store.delay = 0.005
        self.store.min_part_bytes = PART
        self.patch.setattr(tuning, "PART_BYTES", PART)
        self.patch.setattr(upload, "MiB", 1)
        reach(self.store, self.patch)
        self.url, self.own_url = "folder://model.h5", "folder://own.h5"
        self.options = {"spool": str(self.folder), **options}

    def read(self) -> bytes:
        return self.store.file("model.h5").read_bytes()

    def left(self) -> list[str]:
        return [*os.listdir(self.folder), *self.store.uploads()]

    def clear(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.store.file("model.h5").unlink()

    def check_readable(self) -> None:
        assert archive.verify(self.url).ok


class Bucket(Local):
    """An object of an S3 server."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        super().__init__(folder, options)
        bucket, prefix, server = options.pop("bucket"), options.pop("prefix"), options.pop("server")
        import boto3

        from archive.storage.remote.clients.s3 import S3Store

        self.patch.setattr(tuning, "PART_BYTES", 8 * PART)
        self.patch.setattr(upload, "MiB", 1)
        self.patch.setattr(S3Store, "min_part_bytes", 8 * PART)
        self.bucket, self.prefix = bucket, prefix
        self.url, self.own_url = (f"s3://{bucket}/{prefix}/{name}.h5" for name in ("model", "own"))
        self.options = {"spool": str(folder), "storage_options": server, **options}
        self.client = boto3.client(
            "s3",
            endpoint_url=server["endpoint_url"],
            aws_access_key_id=server["key"],
            aws_secret_access_key=server["secret"],
            region_name="us-east-1",
        )

    def read(self) -> bytes:
        found = self.client.get_object(Bucket=self.bucket, Key=f"{self.prefix}/model.h5")
        data: bytes = found["Body"].read()
        return data

    def left(self) -> list[str]:
        uploads = self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=self.prefix)
        found = [str(entry["UploadId"]) for entry in uploads.get("Uploads", [])]
        return found + os.listdir(self.folder)

    def clear(self) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=f"{self.prefix}/model.h5")

    def check_readable(self) -> None:
        assert archive.verify(self.url, storage_options=self.options["storage_options"]).ok


PLACES: dict[str, Callable[..., Local]] = {
    "local": Local,
    "memory": Memory,
    "files": Files,
    "parts": Parts,
    "bucket": Bucket,
}


# ---------------------------------------------------------------- scenes


def size_of(place: Local, name: str) -> int:
    """Return the length of a file that was left over."""
    return (place.folder / name).stat().st_size


def held_by(pid: int, folder: Path) -> list[str]:
    """Return the files of a folder that a process has open; not those of a store, or that are only read."""
    links = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed at this moment
            links.append(os.readlink(link))
    return [link for link in links if link.startswith(str(folder)) and not re.search("/store/|source", link)]


def again(place: Local, fork: Fork) -> None:
    """Save under the same name, and have the late child leave in the middle of it."""

    def pairs() -> Iterator[tuple[str, NDArray]]:
        yield "first", np.arange(5.0)
        fork.let_go()
        yield "second", np.arange(9 << 16)

    place.clear()
    archive.save(pairs(), place.url, created=CREATED, **place.options)
    place.check_readable()
    assert place.left() == []


def play(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Play scenes, each a pair of how a child leaves and whether late; return what came of each.

    Children never return from here.
    """
    folder = Path(request["folder"])
    if request["writer"] in SCENES:
        forks = (Fork(*scene, raw=request.get("raw", False)) for scene in request["scenes"])
        return [SCENES[request["writer"]](folder, fork) for fork in forks]
    place = PLACES[request["place"]](folder, dict(request.get("options", {})))

    def write(fork: Fork) -> None:
        WRITERS[request["writer"]](place.url, fork, request.get("moment", 2), **place.options)

    write(Fork("", False))
    wanted = place.read()
    place.clear()
    if "calls" in request:
        answers = everywhere(place, write, wanted, request["scenes"], request["calls"])
    else:
        answers = [scene(place, write, wanted, Fork(*how)) for how in request["scenes"]]
    place.patch.undo()
    return answers


def scene(
    place: Local, write: Callable[[Fork], None], wanted: bytes, fork: Fork, *, anywhere: bool = False
) -> dict[str, Any]:
    """Write, fork meanwhile, and return how the child ended and what was wrong in the parent.

    ``anywhere``: the fork comes in the middle of our own code.
    """
    problem = ""

    def own() -> None:
        archive.save(content(), place.own_url, created=CREATED, **place.options)
        options = {"storage_options": place.options.get("storage_options")}
        assert archive.verify(place.own_url, **options).ok

    fork.own = own
    try:
        write(fork)
    except (Exception, SystemExit) as error:
        if fork.is_child:
            fork.tell(error)
            raise
        problem = f"the parent failed: {type(error).__name__}: {error}"
    if fork.is_child:
        fork.tell(None)
        gc.collect()
        sys.exit(0)
    try:
        if not problem:
            assert place.read() == wanted, "the parent's file is not exact"
            left = place.left()
            if anywhere and fork.leave == "return":  # forked as its file was made, a child may have made it
                left = [name for name in left if name not in os.listdir(place.folder) or size_of(place, name)]
            assert left == [], f"left over: {left}"
            place.check_readable()
            if fork.late and fork.pid:
                # at any call, this may be between a file's last use and its close: it is not locked then
                if not anywhere:
                    _until_free(fork.pid, place.folder)
                again(place, fork)
    except (AssertionError, archive.ArchiveError, OSError) as error:
        problem = f"{type(error).__name__}: {error}"
    if not fork.pid:
        problem = "it never forked"
    elif fork.status is None:
        fork.let_go()
    place.clear()
    return {"problem": problem, **fork.answer()}


def everywhere(
    place: Local, write: Callable[[Fork], None], wanted: bytes, scenes: Any, most: int
) -> list[dict[str, Any]]:
    """Fork at every call that this package makes in the thread that saves, or at ``most`` of them."""
    answers = []
    for leave, late in scenes:
        # between a check and the system call after it, whoever goes on may write, or wait for ever
        events = ("call",) if leave == "return" else ("call", "c_call")
        calls = [0]
        with counting(calls, -1, int, events):
            write(Fork("", False))
        place.clear()
        total = calls[0]
        for call in range(0, total, max(total // most, 1)):
            fork = Fork(leave, late)

            def write_and_fork(
                _: Fork, call: int = call, fork: Fork = fork, events: tuple[str, ...] = events
            ) -> None:
                try:
                    with counting([0], call, fork.here, events):
                        write(Fork("", False))
                except (Exception, SystemExit) as error:
                    if fork.is_child:
                        end(fork, error)
                    raise
                if fork.is_child:
                    end(fork, None)

            answer = scene(place, write_and_fork, wanted, fork, anywhere=True)
            if fork.pid:  # threads take turns: the number of calls varies, and the last ones may not come
                answers.append(answer | {"call": f"{call} of {total}"})
    return answers


def end(fork: Fork, error: BaseException | None) -> None:
    """End a child: what is collected and what runs at exit, without taking the interpreter down."""
    fork.tell(error)
    if error is not None:
        error.__traceback__ = None
    gc.collect()
    atexit._run_exitfuncs()
    os._exit(0)


@contextlib.contextmanager
def counting(
    calls: list[int], call: int, act: Callable[[], object], events: tuple[str, ...]
) -> Iterator[None]:
    """Count calls of this package's functions, and by them, and act at one of them."""
    package = os.path.dirname(archive.__file__)

    def profile(frame: Any, event: str, arg: Any) -> None:
        if event in events and frame.f_code.co_filename.startswith(package):
            calls[0] += 1
            if calls[0] == call + 1:
                act()

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


# ---------------------------------------------------------------- scenes of their own


def background(folder: Path, fork: Fork) -> dict[str, Any]:
    """Fork while a thread saves a round; the child may go on with a store of its own."""
    url = str(folder / f"run-{fork.leave}-{fork.late}")
    problem = ""
    try:
        with archive.CheckpointStore(url, background=True) as store:
            store.save({"w": np.arange(4 << 20)}, 1)
            rounds = Path(url, "rounds")
            deadline = time.monotonic() + 10
            while not (rounds.is_dir() and any(map(LITTER.fullmatch, os.listdir(rounds)))):
                assert time.monotonic() < deadline, "the save never began"

            def use() -> None:
                store.save({"w": np.arange(9)}, 2, background=True)
                store.close()
                assert store.verify(2)

            fork.own = use
            fork.here(use)
            if not fork.is_child:
                store.close()
                assert store.verify(1)
    except (Exception, SystemExit) as error:
        if fork.is_child:
            fork.tell(error)
            raise
        problem = f"the parent failed: {type(error).__name__}: {error}"
    if fork.is_child:
        fork.tell(None)
        sys.exit(0)
    if fork.late:
        _until_free(fork.pid, folder)
        fork.let_go()
    left = set(os.listdir(rounds)) - {"00000001.h5", "00000002.h5"}
    return {"problem": problem or (f"left over: {left}" if left else ""), **fork.answer()}


def reading(folder: Path, fork: Fork) -> dict[str, Any]:
    """Fork while arrays are brought by threads and kept in a cache; the child may read by itself."""
    place = Parts(folder, {})
    cache = str(folder / f"cache-{fork.leave}-{fork.late}")
    arrays = {f"{number}": np.full(1 << 18, number, "f8") for number in range(12)}
    archive.save(arrays, place.url, created=CREATED)
    problem = ""

    def use() -> None:
        assert all(bool((handle[key].numpy() == array).all()) for key, array in arrays.items())

    try:
        with archive.open(place.url, cache=cache) as handle:
            for number, ((_, key), array) in enumerate(handle.drain()):
                if number == 1:
                    fork.own = use
                    fork.here(use)
                if fork.is_child and fork.leave == "use":
                    break
                assert (array.numpy() == arrays[key]).all()
            if not fork.is_child:
                assert handle.verify().ok
    except (Exception, SystemExit) as error:
        if fork.is_child:
            fork.tell(error)
            raise
        problem = f"the parent failed: {type(error).__name__}: {error}"
    if fork.is_child:
        fork.tell(None)
        sys.exit(0)
    if fork.late:
        fork.let_go()
    with archive.open(place.url, cache=cache) as handle:
        if not handle.verify().ok:
            problem = "the cache is damaged"
    place.patch.undo()
    return {"problem": problem, **fork.answer()}


def loading(folder: Path, fork: Fork) -> dict[str, Any]:
    """Fork in the progress of a load and of a verification, whose threads are at work."""
    path = folder / "model.h5"
    arrays = {f"{number}": np.arange(3 << 18, dtype="f8") for number in range(6)}
    archive.save(arrays, path, durable=False)
    problem = ""
    try:
        loaded = archive.load(path, progress=lambda done, total: fork.here())
        assert all(
            (loaded.array_records["model"][key].numpy() == array).all() for key, array in arrays.items()
        )
        assert archive.verify(path, progress=lambda done, total: fork.here()).ok
    except (Exception, SystemExit) as error:
        if fork.is_child:
            fork.tell(error)
            raise
        problem = f"the parent failed: {type(error).__name__}: {error}"
    if fork.is_child:
        fork.tell(None)
        sys.exit(0)
    if fork.late:
        fork.let_go()
    return {"problem": problem, **fork.answer()}


def objects(folder: Path, fork: Fork) -> dict[str, Any]:
    """Fork beside one of each thing that is in the making; the child uses and drops all of them."""
    from archive.storage.local.journal import Journal
    from archive.storage.local.partial import CompletedFile, PartialFile
    from archive.storage.local.sink import AtomicFile
    from archive.storage.remote.staging import SpooledPartialFile, SpooledSink
    from archive.storage.remote.upload import RemoteSink

    place = Parts(folder, {})
    (folder / "completed").touch()
    made: dict[str, Any] = {
        "file": AtomicFile(str(folder / "file")),
        "partial": PartialFile(str(folder / "partial")),
        "completed": CompletedFile(str(folder / "completed")),
        "spooled": SpooledSink(place.store, "spooled", overwrite=True, folder=str(folder)),
        "kept": SpooledPartialFile(place.store, "kept", overwrite=True, folder=str(folder)),
        "parts": RemoteSink(place.store, "parts", overwrite=True),
    }
    data = bytes(range(256)) * (PART // 100)
    for sink in made.values():
        sink.write(data, 0)
    journal = Journal(made["partial"].partial, made["partial"].owner)
    part = place.store.create_multipart("part")
    journal.append([b"ours"])
    fork.here(int)
    if fork.is_child:
        told = {name: _use(sink) for name, sink in made.items()}
        told["journal"] = _tried(
            lambda: journal.append([b"theirs"]),
            journal.remove,
            lambda: Journal(made["kept"].partial, made["kept"].owner),
        )
        journal.close()
        made.clear()
        gc.collect()
        fork.tell(told)
        if fork.raw:
            os._exit(0)  # of a fork that Python knows nothing of, an interpreter does not end well
        sys.exit(0)
    problem = ""
    try:
        if fork.late and not fork.raw:
            _until_free(fork.pid, folder)
        assert (folder / "partial.partial.journal").read_bytes().endswith(b" ours\n")
        for sink in made.values():
            sink.write(data, len(data))
        journal.remove()
        made.pop("completed").leave()
        for sink in made.values():
            sink.publish()
        import fcntl

        for path in (folder / "file", folder / "partial", folder / "completed"):
            assert path.read_bytes() == data * 2, path
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name in ("spooled", "kept", "parts"):
            assert place.store.file(name).read_bytes() == data * 2, name
        part.abort()
        assert place.left() == []
        assert sorted(os.listdir(folder)) == ["completed", "file", "partial", "spool", "store"]
    except (AssertionError, archive.ArchiveError, OSError) as error:
        at = error.__traceback__
        problem = f"{type(error).__name__}: {error} (line {at and at.tb_lineno})"
    if fork.late:
        fork.let_go()
    place.patch.undo()
    return {"problem": problem, **fork.answer()}


def _until_free(pid: int, folder: Path) -> None:
    """Wait until a child, which closes its descriptors as it begins, has begun."""
    deadline = time.monotonic() + HANGS
    while held_by(pid, folder):
        assert time.monotonic() < deadline, held_by(pid, folder)
        time.sleep(0.01)


def _use(sink: Any) -> list[str]:
    """Return how a child fares with each thing that it may ask of a sink, then have it let go."""
    told = _tried(lambda: sink.write(b"theirs", 0), sink.publish)
    if hasattr(sink, "fileno"):
        told += _tried(sink.fileno, sink.sync, lambda: sink.reserve(9 << 20), lambda: sink.truncate(1))
    sink.discard()
    return told


def _tried(*actions: Callable[[], object]) -> list[str]:
    told = []
    for action in actions:
        try:
            action()
        except (archive.ArchiveError, OSError) as error:
            told.append(f"{type(error).__name__}: {str(error).partition('this ')[2][:26]}")
        else:
            told.append("nothing was raised")
    return told


SCENES: dict[str, Callable[[Path, Fork], dict[str, Any]]] = {
    scene.__name__: scene for scene in (background, reading, loading, objects)
}


def main() -> None:
    """Answer requests until the input ends."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(play(json.loads(line))) + "\n")
        sys.stdout.flush()


# ---------------------------------------------------------------- for the tests


@contextlib.contextmanager
def parent() -> Iterator[Play]:
    """Start the process that forks: ``play(folder=..., scenes=..., ...)`` returns what came of each scene."""
    command = [sys.executable, "-m", "tests.faults.forks"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def run(**request: Any) -> list[dict[str, Any]]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answers: list[dict[str, Any]] = json.loads(process.stdout.readline())
            return answers

        try:
            yield run
        finally:
            process.kill()


def judge(scenes: Any, answers: Any, inert: dict[str, Any]) -> None:
    """Fail where the parent had a problem, or a child ended otherwise than it should.

    Parameters
    ----------
    scenes : list of (leave, late)
    answers : list of dict
    inert : dict
        How a writer ends in a child that does not use it, by how that leaves; all others get ClosedError.
    """
    assert len(answers) == len(scenes)
    for (leave, late), answer in zip(scenes, answers, strict=True):
        case = f"{leave}, {'after' if late else 'before'} the parent has published: {answer}"
        assert not answer["problem"], case
        if leave in inert:
            assert answer["told"] == inert[leave], case
        else:
            kind, text = answer["told"]
            assert kind == "ClosedError", case
            assert "another process" in text, case
        assert answer["status"] == (1 if leave == "error" or leave not in inert else 0), case


if __name__ == "__main__":
    main()
