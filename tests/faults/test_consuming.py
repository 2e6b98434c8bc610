"""P7 of FAULTS.md: a failed ``save(keep_input=False)`` loses nothing.

Whatever ends the save, the old archive stays, and what was taken from the caller is in ``NAME.partial``.
Run as ``python -m tests.faults.test_consuming`` this module is the forge, its saves consuming ones that
tell in shared memory, without a system call, how many arrays they have taken.
"""

from __future__ import annotations

import errno
import functools
import gc
import json
import mmap
import os
import random
import shutil
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import (
    ArchiveError,
    DamagedError,
    ExistsError,
    MissingError,
    PartialSaveError,
    StorageError,
)
from archive.records import ArrayRecord, ConfigRecord, Context, MetricRecord, RecordDict
from archive.storage.local.journal import read_journal
from archive.storage.local.sink import PUSH_BYTES
from tests.children import ROOT
from tests.descriptors import open_files
from tests.faults import forge as forging
from tests.faults.conftest import Forge, environment
from tests.faults.scenes import CREATED, SMALL, litter
from tests.faults.test_kill import Workload, calls_of

NDArray = np.ndarray[Any, Any]
VALUES: dict[str, Any] = {
    "metrics": {"told": {"v": 2, "long": [0.5] * 20_000}},
    "configs": {"run": {"name": "x", "blob": b"\0\1" * 3000}},
}
MB = 1 << 20
MINE = {"model.h5.partial", "model.h5.partial.journal"}


def content() -> dict[str, NDArray]:
    """Return arrays that fall into several batches; the large ones land one by one."""
    return {key: array.copy("A") for key, array in _content().items()}


@functools.cache
def _content() -> dict[str, NDArray]:
    return {
        "zero": np.array(7, "i8"),
        "large": np.arange(9 * MB // 8, dtype="f8"),
        "none": np.empty((0, 3), "f4"),
        "fortran": np.asfortranarray(np.arange(24, dtype=">f4").reshape(4, 6)),
        "text": np.array(["a", "bc\u00e9"]),
        "larger": np.arange(17 * MB, dtype="u4").astype("u1").reshape(17, -1),
        "last": np.arange(5),
        "nothing": np.empty(0),
    }


def tied() -> dict[str, NDArray]:
    """Return the same with tied ones between."""
    made = content()
    return {**made, "large again": made["large"], "last again": made["last"], "end": np.zeros(2)}


def large() -> dict[str, NDArray]:
    """Return arrays of more bytes than a pushed file keeps in the page cache."""
    return {f"{number}": np.full(PUSH_BYTES // 4, number, "u1") for number in range(6)}


def pairs(made: dict[str, NDArray]) -> Iterator[tuple[str, NDArray]]:
    """Yield what is then nowhere else."""
    for key in list(made):
        yield key, made.pop(key)


def consume(records: Any, path: Path, **options: Any) -> Any:
    """Save, consuming."""
    return archive.save(
        records, path, **{"keep_input": False, "durable": False, "created": CREATED, **VALUES, **options}
    )


def equal(found: NDArray, wanted: NDArray) -> bool:
    """Tell whether two arrays have one dtype, one shape and the same element bytes."""
    if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
        return False
    return bytearray(np.ascontiguousarray(found)) == np.ascontiguousarray(wanted).reshape(-1).view("u1").data


def recovered(partial: Path | str, wanted: dict[str, NDArray]) -> list[str]:
    """Return the keys that a partial file gives back, every array compared, and the values too."""
    records = archive.recover(partial)
    assert dict(records["told"]) == VALUES["metrics"]["told"]
    assert dict(records["run"]) == VALUES["configs"]["run"]
    arrays = dict(records.array_records["model"]) if "model" in records else {}
    assert all(equal(array.numpy(), wanted[key]) for key, array in arrays.items())
    keys = list(arrays)
    assert keys == list(wanted)[: len(keys)]
    assert sorted(set(records)) == sorted({"told", "run", *(["model"] if keys else [])})
    return keys


def check_old(path: Path) -> None:
    with archive.open(path) as handle:
        assert handle["old"].numpy().tolist() == [1, 2, 3]
        assert handle.verify().ok


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where an old archive is."""
    path = tmp_path / "model.h5"
    archive.save({"old": np.array([1, 2, 3])}, path, durable=False)
    return path


# ---------------------------------------------------------------- exceptions, in this process


class Boom(Exception):  # noqa: N818 - it is what the caller's own code raises
    pass


@pytest.mark.parametrize(
    "error", [Boom, KeyboardInterrupt, pytest.param(MemoryError, marks=pytest.mark.slow)]
)
def test_exception_at_every_element(path: Path, error: type[BaseException]) -> None:
    """M2: every element that came before is there, also the empty ones."""
    keys = list(content())
    for k in range(len(keys) + 1):

        def failing(k: int = k) -> Iterator[tuple[str, NDArray]]:
            for number, pair in enumerate(pairs(content())):
                if number == k:
                    raise error("mine")
                yield pair
            if k == len(keys):
                raise error("mine")

        before = open_files(path.parent)
        with pytest.raises(PartialSaveError if issubclass(error, Exception) and k else error) as caught:
            consume(failing(), path)
        assert open_files(path.parent) == before
        check_old(path)
        if not k:
            assert litter(path.parent, path.name) == []
            continue
        if isinstance(caught.value, PartialSaveError):
            assert isinstance(caught.value.__cause__, error)
            assert caught.value.partial == f"{path}.partial"
            assert f"{path}.partial" in str(caught.value)
        assert recovered(f"{path}.partial", content()) == keys[:k]
        assert litter(path.parent, path.name) == ["model.h5.partial"]
        Path(f"{path}.partial").unlink()


@pytest.mark.parametrize(
    ("container", "made"),
    [
        (dict, tied),
        (list, content),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((dict, content), (list, tied), (ArrayRecord, content), (ArrayRecord, tied))
        ),
    ],
)
def test_exception_at_every_step_of_a_container(path: Path, made: Any, container: Any) -> None:
    """What is in the partial and what is still in the container are together all of it."""
    left = None
    for k in range(100):
        calls = 0

        def progress(done: int, total: int, k: int = k) -> None:
            nonlocal calls
            calls += 1
            if calls > k:
                raise Boom

        wanted = made()
        if container is list:
            wanted = {str(number): array for number, array in enumerate(wanted.values())}
            given: Any = list(wanted.values())
        elif container is ArrayRecord:
            given = ArrayRecord({key: archive.Array(array) for key, array in wanted.items()})
        else:
            given = dict(wanted)
        try:
            consume(given, path, progress=progress)
        except (Boom, PartialSaveError) as error:
            left = list(given)
            if container is list:
                left = [str(number) for number, array in enumerate(given) if array is not None]
            partial = getattr(error, "partial", None)
            assert (partial is not None) == (len(left) < len(wanted))
            check_old(path)
            there = recovered(partial, wanted) if partial else []
            assert set(there) | set(left) == set(wanted)
            for name in litter(path.parent, path.name):
                (path.parent / name).unlink()
        else:
            break
    assert k >= 3  # nothing is written, some, all
    assert left == []
    assert litter(path.parent, path.name) == []


def record_dict() -> Any:
    return RecordDict(
        {
            "told": MetricRecord(VALUES["metrics"]["told"]),
            "model": ArrayRecord({key: archive.Array(array) for key, array in content().items()}),
            "run": ConfigRecord(VALUES["configs"]["run"]),
        }
    )


@pytest.mark.parametrize("kind", ["recorddict", "context"])
def test_containers_come_back_as_they_were(path: Path, kind: str) -> None:
    """Failed at the very end: arrays, and metrics too large for attributes, have all been written."""
    given = record_dict()
    model = given["model"]
    model.attributes["note"] = "kept"
    if kind == "context":
        given = Context(run_id=1, node_id=2, node_config={"a": 1}, state=given, run_config={"b": "c"})

    def progress(done: int, total: int) -> None:
        if done == total:
            raise Boom

    with pytest.raises(PartialSaveError) as caught:
        consume(given, path, progress=progress, metrics=None, configs=None)
    assert len(model) == 0
    assert caught.value.partial is not None
    assert recovered(caught.value.partial, content()) == list(content())
    found = archive.recover(caught.value.partial)
    assert isinstance(found, RecordDict)
    assert found.array_records["model"].attributes == {"note": "kept"}
    if kind == "context":
        with archive.open(caught.value.partial) as handle:
            assert handle.context.run_config == {"b": "c"}
            assert handle.context.node_id == 2


def fail(path: Path, k: int = 3, **options: Any) -> Path:
    """Fail at the k-th element and return the partial file."""

    def failing() -> Iterator[tuple[str, NDArray]]:
        for number, pair in enumerate(pairs(content())):
            if number == k:
                raise Boom
            yield pair

    with pytest.raises(PartialSaveError) as caught:
        consume(failing(), path, **options)
    assert caught.value.partial is not None
    return Path(caught.value.partial)


def test_partials_are_nobody_elses(path: Path) -> None:
    """A second failure has a partial of its own, and no save removes one."""
    names = [fail(path, k).name for k in (1, 2, 3)]
    assert names == ["model.h5.partial", "model.h5.partial-2", "model.h5.partial-3"]
    consume(content(), path)
    archive.save(content(), path)
    for k, name in enumerate(names, 1):
        assert recovered(path.with_name(name), content()) == list(content())[:k]
    assert litter(path.parent, path.name) == names


def test_a_journal_is_never_taken_over(path: Path) -> None:
    """The journal of a partial that somebody moved away is neither written over nor removed."""
    stale = Path(f"{path}.partial.journal")
    stale.write_bytes(b"somebody's")
    assert fail(path).name == "model.h5.partial-2"
    consume(content(), path)
    assert stale.read_bytes() == b"somebody's"


def test_recover_twice(path: Path) -> None:
    partial = fail(path)
    data = partial.read_bytes()
    first, second = archive.recover(partial), archive.recover(partial)
    assert list(first["model"]) == list(second["model"]) == list(content())[:3]
    assert partial.read_bytes() == data
    # and it is an archive like any other
    assert archive.verify(partial).ok
    archive.save(first, path)
    partial.unlink()
    assert list(archive.load(path).array_records["model"]) == list(content())[:3]


def test_recover_what_is_still_being_saved(path: Path) -> None:
    told = []

    def looking() -> Iterator[tuple[str, NDArray]]:
        for pair in pairs(content()):
            yield pair
            with pytest.raises(StorageError, match="running") as caught:
                archive.recover(f"{path}.partial")
            told.append(caught.value.errno)

    consume(looking(), path)
    assert len(told) == len(content())
    assert list(archive.load(path).array_records["model"]) == list(content())


def test_recover_nothing(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        archive.recover(tmp_path / "model.h5.partial")
    (tmp_path / "other.partial").write_bytes(b"not ours")
    with pytest.raises(ArchiveError):
        archive.recover(tmp_path / "other.partial")
    assert (tmp_path / "other.partial").read_bytes() == b"not ours"


def test_recover_an_archive_that_is_whole(path: Path) -> None:
    data = path.read_bytes()
    assert list(archive.recover(path).array_records["model"]) == ["old"]
    assert path.read_bytes() == data


def test_overwrite_is_refused_after_everything_was_taken(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"

    def racing() -> Iterator[tuple[str, NDArray]]:
        yield from pairs(content())
        archive.save({"old": np.array([1, 2, 3])}, path)

    with pytest.raises(ExistsError) as caught:
        consume(racing(), path, overwrite=False)
    check_old(path)
    assert caught.value.partial is not None
    assert recovered(caught.value.partial, content()) == list(content())


def killed(folder: Path) -> Path:
    """Return a partial file with its journal, as a kill leaves it; made in a child."""
    script = (
        "import os, numpy as np, tests.faults.test_consuming as t\n"
        "def dying():\n"
        "    for number, pair in enumerate(t.pairs(t.content())):\n"
        "        if number == 5: os._exit(9)\n"
        "        yield pair\n"
        f"t.consume(dying(), {str(folder / 'model.h5')!r})\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment(), check=False)
    assert ended.returncode == 9
    return folder / "model.h5.partial"


def test_damaged_journals_and_files(tmp_path: Path) -> None:
    """Lines that do not match their check, or say what cannot be, are an error and no shorter list."""
    partial = killed(tmp_path)
    journal = Path(f"{partial}.journal")
    data, text = partial.read_bytes()[: 10 * MB], journal.read_bytes()  # the rest is only reserved
    lines = text.splitlines(keepends=True)
    assert len(lines) == 6

    def attempt(damaged: bytes, file: bytes = data) -> list[str]:
        partial.write_bytes(file)
        journal.write_bytes(damaged)
        return recovered(partial, content())

    everything = list(content())[:5]
    for cut in range(len(text) - len(lines[-1]), len(text), 37):
        assert attempt(text[:cut]) == everything[:4]  # a torn last line is what a kill leaves
    rng = random.Random(1)
    for at in rng.sample(range(len(text)), 25):
        damaged = bytearray(text)
        damaged[at] ^= 1 << rng.randrange(8)
        with pytest.raises(DamagedError):
            attempt(bytes(damaged))
        assert partial.read_bytes() == data, "a journal that is damaged changes no file"
    for other in (b"[" * 30_000 + b"]" * 30_000, b'{"values": [], "head": []}', b'{"values": {"a": 5}}'):
        head = b"%08x %s\n" % (zlib.crc32(other), other)
        with pytest.raises(DamagedError):
            attempt(b"".join([head, *lines[1:]]))
    with pytest.raises(DamagedError):
        attempt(b"".join([lines[0], *lines[2:]]))  # digests hold for other places then
    for file in (data[:MB], bytes(len(data))):
        with pytest.raises(ArchiveError):
            attempt(text, file)
    assert attempt(text) == everything
    assert not journal.exists()


# ---------------------------------------------------------------- children: kills and errnos


SHARED = mmap.mmap(-1, 8)
"""In the forge: a file that the test reads. Children inherit it and make no call to change it."""


class Told(dict[str, NDArray]):
    """A dict that tells in shared memory how many arrays were taken out of it."""

    def pop(self, key: str, *default: Any) -> Any:
        SHARED[0] += 1
        return super().pop(key, *default)


def _told_pairs() -> Iterator[tuple[str, NDArray]]:
    for pair in pairs(content()):
        yield pair
        SHARED[0] += 1


def forged_save(path: str, version: int, size: int, options: dict[str, Any]) -> None:
    """Do what the forge's child does here."""
    how = options.pop("how")
    given = _told_pairs() if how == "generator" else Told(wanted_of(how))
    consume(given, Path(path), **options)


@pytest.fixture(scope="module")
def forge(told: Path) -> Iterator[Forge]:
    """Run a consuming save in a child: the forge of the other tests, with `forged_save`."""
    command = [sys.executable, "-m", "tests.faults.test_consuming", str(told)]
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def run(path: Path, version: int, size: int = SMALL, **request: Any) -> dict[str, Any]:
            assert server.stdin is not None
            assert server.stdout is not None
            told.write_bytes(bytes(8))
            line = {"path": str(path), "version": version, "size": size, **request}
            server.stdin.write(json.dumps(line) + "\n")
            server.stdin.flush()
            answer: dict[str, Any] = json.loads(server.stdout.readline())
            if "refused" in answer:
                pytest.skip(f"strace may not attach here: {answer['refused']}")
            return answer

        yield run
        server.stdin.close()
        server.wait(10)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file that is the shared memory."""
    path = tmp_path_factory.mktemp("told") / "told"
    path.write_bytes(bytes(8))
    return path


def wanted_of(how: str) -> dict[str, NDArray]:
    return {"generator": content, "dict": tied, "large": large}[how]()


def check_after(path: Path, how: str, taken: int, new: bytes) -> str:
    """Return what a fault left, after checking that nothing is lost and that the next save works."""
    wanted = wanted_of(how)
    left = litter(path.parent, path.name)
    assert set(left) <= MINE, left
    partial, journal = Path(f"{path}.partial"), Path(f"{path}.partial.journal")
    if path.read_bytes() == new:
        assert taken == len(wanted)
        outcome = "new"
    else:
        check_old(path)
        outcome = "old"
    if not partial.exists():
        assert outcome == "new" or not taken
        return outcome
    noted = len(read_journal(str(partial)) or []) - 1
    if noted >= 0 or taken:
        keys = recovered(partial, wanted)
        assert len(keys) >= taken
        assert len(keys) == noted or noted < 0  # without a journal it is whole
        assert recovered(partial, wanted) == keys
        outcome += " + all" if len(keys) == len(wanted) else " + some"
    else:
        with pytest.raises(ArchiveError):
            archive.recover(partial)
        outcome += " + empty"
    data = partial.read_bytes()
    consume({"x": np.zeros(1)}, path)
    assert partial.read_bytes() == data
    partial.unlink()
    journal.unlink(missing_ok=True)
    assert litter(path.parent, path.name) == []
    return outcome


def renew(path: Path) -> None:
    """Bring back the old archive and nothing else."""
    for name in litter(path.parent):
        (path.parent / name).unlink()
    archive.save({"old": np.array([1, 2, 3])}, path, durable=False)


def calls(forge: Forge, path: Path, options: dict[str, Any]) -> Counter[str]:
    renew(path)
    found = calls_of(forge, Workload("consuming", old=False, options=options), path.parent)
    renew(path)
    return found


def bytes_after(path: Path, how: str) -> bytes:
    """Return the bytes that an undisturbed save gives."""
    archive.save(wanted_of(how), path, created=CREATED, durable=False, **VALUES)
    return path.read_bytes()


def kill(forge: Forge, path: Path, told: Path, how: str, durable: bool, sample: int | None) -> Counter[str]:
    """Kill a consuming save before its calls, all of them or some."""
    new = bytes_after(path, how)
    options = {"how": how, "durable": durable}
    places = [(name, k) for name, n in sorted(calls(forge, path, options).items()) for k in range(1, n + 1)]
    if sample is not None:
        # every k of the rarer calls that change the disk would be much: some of all
        places = random.Random(3).sample(places, min(sample, len(places)))
    outcomes: Counter[str] = Counter()
    for name, k in places:
        renew(path)
        inject = [f"--trace={name}", "-e", f"inject={name}:signal=SIGKILL:when={k}"]
        answer = forge(path, 2, options=options, strace=inject)
        assert answer["signal"] in (0, 9), answer
        outcome = check_after(path, how, told.read_bytes()[0], new)
        outcomes[outcome if answer["signal"] else "not reached"] += 1
    return outcomes


@pytest.mark.tools
@pytest.mark.parametrize("how", ["dict", pytest.param("generator", marks=pytest.mark.slow)])
def test_kill_at_some_calls(forge: Forge, path: Path, told: Path, how: str) -> None:
    assert kill(forge, path, told, how, True, 4).total() == 4


@pytest.mark.slow
@pytest.mark.tools
@pytest.mark.parametrize("how", ["dict", "generator"])
@pytest.mark.parametrize("durable", [True, False])
def test_kill_at_every_call(
    forge: Forge, path: Path, told: Path, how: str, durable: bool, figures: Callable[[str], None]
) -> None:
    """L1: SIGKILL at every system call of a consuming save."""
    outcomes = kill(forge, path, told, how, durable, None)
    figures(f"P7 {how}, durable={durable}: {outcomes.total()} kills, {dict(outcomes)}")
    assert outcomes["old + some"]
    assert outcomes["old + all"]
    assert outcomes["new"]


REFUSED = (
    *("openat", "fallocate", "pwrite64", "write", "fsync"),
    *("rename", "unlink", "close", "ftruncate", "flock"),
)


def refuse(
    forge: Forge, path: Path, told: Path, how: str, errnos: tuple[str, ...], sample: int | None
) -> Counter[str]:
    """Refuse the calls of a consuming save, once and from then on."""
    new = bytes_after(path, how)
    options = {"how": how, "durable": True}
    found = calls(forge, path, options)
    places = [
        (name, f"{k}{more}", number)
        for name in REFUSED
        for k in range(1, found[name] + 1)
        for more in ("", "+")
        for number in errnos
    ]
    if sample is not None:
        places = random.Random(4).sample(places, min(sample, len(places)))
    outcomes: Counter[str] = Counter()
    for name, when, number in places:
        renew(path)
        inject = [f"--trace={name}", "-e", f"inject={name}:error={number}:when={when}"]
        if name == "write":
            inject += ["-P", f"{path}.partial.journal"]  # not the pipe that the child answers by
        answer = forge(path, 2, options=options, strace=inject)
        case = (name, when, number, answer)
        assert answer["signal"] == 0, case
        assert answer["exit"] == 0, case
        assert answer["error"] is None or answer["ours"], case
        assert name == "close" or answer["fds"] == 0, case
        taken = told.read_bytes()[0]
        if answer["error"] is None:
            assert path.read_bytes() == new, case
        elif taken and path.read_bytes() != new:
            assert f"{path}.partial" in answer["text"], case
        outcome = check_after(path, how, taken, new)
        outcomes[("raised, " if answer["error"] else "saved all the same, ") + outcome] += 1
    return outcomes


@pytest.mark.tools
@pytest.mark.parametrize("how", [pytest.param("dict", marks=pytest.mark.slow), "generator"])
def test_refuse_some_calls(forge: Forge, path: Path, told: Path, how: str) -> None:
    assert refuse(forge, path, told, how, ("ENOSPC", "EIO"), 4).total() == 4


@pytest.mark.slow
@pytest.mark.tools
@pytest.mark.parametrize("how", ["dict", "generator"])
def test_refuse_every_call(
    forge: Forge, path: Path, told: Path, how: str, figures: Callable[[str], None]
) -> None:
    """L3: ENOSPC and EIO at every call of a consuming save."""
    outcomes = refuse(forge, path, told, how, ("ENOSPC", "EIO"), None)
    figures(f"P7 {how}: {outcomes.total()} refused calls, {dict(outcomes)}")


@pytest.mark.slow
@pytest.mark.tools
@pytest.mark.parametrize("durable", [True, False])
def test_refuse_the_sync_of_a_growing_file(forge: Forge, path: Path, told: Path, durable: bool) -> None:
    """L3: no later sync would tell what the disk refused while the file grew."""
    new = bytes_after(path, "large")
    options = {"how": "large", "durable": durable}
    renew(path)
    inject = ["--trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=1"]
    answer = forge(path, 2, options=options, strace=inject)
    assert answer["error"] == "StorageError", answer
    assert answer["errno"] == errno.EIO, answer
    assert f"{path}.partial" in answer["text"], answer
    assert check_after(path, "large", told.read_bytes()[0], new) == "old + some"


@pytest.mark.slow
@pytest.mark.tools
@pytest.mark.parametrize("reserve", [True, False])
@pytest.mark.parametrize("how", ["dict", "generator"])
def test_file_size_limit(forge: Forge, path: Path, told: Path, how: str, reserve: bool) -> None:
    """L3: the limit is met by the reservation, or in the middle of any array, or behind them."""
    new = bytes_after(path, how)
    options = {"how": how, "durable": False}
    extra = {} if reserve else {"strace": ["--trace=fallocate", "-e", "inject=fallocate:error=ENOSYS"]}
    for limit in (4097, 3 * MB, 9 * MB + 9000, 17 * MB, len(new) - 70_000, len(new) - 1):
        renew(path)
        answer = forge(path, 2, options=options, file_size_limit=limit, **extra)
        assert answer["error"] == "StorageError", answer
        assert answer["fds"] == 0
        check_after(path, how, told.read_bytes()[0], new)
    renew(path)
    # a stream reserves room for its index, and gets by where there is just enough
    assert forge(path, 2, options=options, file_size_limit=len(new) + 4 * MB, **extra)["error"] is None
    assert path.read_bytes() == new


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount an ext4 file system of 24 MB."""
    image, folder = tmp_path / "disk.img", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(24 * MB)
    if os.geteuid() or not shutil.which("mkfs.ext4"):
        pytest.skip("needs root and mkfs.ext4")
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True, capture_output=True)
    mounted = subprocess.run(
        ["mount", "-o", "loop", image, folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no loop mounts here: {mounted.stderr}")
    shutil.rmtree(folder / "lost+found")
    try:
        yield folder
    finally:
        gc.collect()  # what was recovered is mapped as long as it lives
        subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.parametrize("nbytes", [2000, 100_000, 700_000, 3 * MB])
def test_full_disk(small_disk: Path, nbytes: int) -> None:
    """L3: a disk that fills while a generator is consumed; recovery needs no room of its own."""
    path = small_disk / "model.h5"
    archive.save({"old": np.array([1, 2, 3])}, path)
    arrived = 0

    def filling() -> Iterator[tuple[str, NDArray]]:
        nonlocal arrived
        for number in range(100_000):
            yield f"{number}", np.full(nbytes, number % 256, "u1")
            arrived = number + 1

    with pytest.raises(StorageError) as caught:
        consume(filling(), path)
    assert caught.value.errno == 28
    check_old(path)
    assert caught.value.partial is not None
    assert arrived >= (4 if nbytes > 10_000 else 2) * MB // nbytes
    archive.recover(caught.value.partial)
    with archive.open(caught.value.partial) as handle:  # closed before the disk is unmounted
        assert len(handle) >= arrived
        for (_, key), array in handle.drain():
            assert equal(array.numpy(), np.full(nbytes, int(key) % 256, "u1"))
        del array
    assert litter(small_disk, path.name) == ["model.h5.partial"]


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.tools
def test_full_disk_of_a_dict(small_disk: Path, forge: Forge, told: Path) -> None:
    """L3: found by the reservation, nothing is taken; found by the writes, what was taken is there."""
    path = small_disk / "model.h5"
    archive.save({"old": np.array([1, 2, 3])}, path)
    given = tied()
    with pytest.raises(StorageError) as caught:
        consume(given, path)
    assert list(given) == list(tied())
    assert caught.value.partial is None
    assert litter(small_disk, path.name) == []
    options = {"how": "dict", "durable": True}
    inject = ["--trace=fallocate", "-e", "inject=fallocate:error=ENOSYS"]
    answer = forge(path, 2, options=options, strace=inject)
    assert answer["errno"] == 28, answer
    taken = told.read_bytes()[0]
    assert taken >= 2
    check_old(path)
    assert len(recovered(f"{path}.partial", tied())) >= taken


if __name__ == "__main__":
    with open(sys.argv[1], "r+b") as file:
        SHARED = mmap.mmap(file.fileno(), 8)
    _content()  # before the first fork
    forging._save = forged_save
    forging.main()
