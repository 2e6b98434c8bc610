"""Which archives may be left out: bad ones. One that a server does not hand out ends every call over many."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive import errors
from archive.errors import ArchiveError, MissingError, SkippedWarning, StorageError
from archive.tools import mean, stats, verify_all
from archive.tools.leftout import is_bad_input
from tests.servers.refusing import RefusingServer, refusing_server

CLIENTS = 5


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RefusingServer]:
    monkeypatch.setenv("FEDARCHIVE_RETRY_SECONDS", "0.1")
    with refusing_server() as found:
        for number in range(CLIENTS):
            path = tmp_path / f"{number}.h5"
            archive.save({"w": np.full(3, number, "f4")}, path, metrics={"loss": number / 2}, durable=False)
            found.objects[path.name] = path.read_bytes()
        yield found


def urls_of(server: RefusingServer) -> list[str]:
    return [f"{server.endpoint}/{number}.h5" for number in range(CLIENTS)]


def averaged(urls: list[str], tmp_path: Path, **options: Any) -> list[str]:
    report = mean(urls, out=tmp_path / "mean.h5", **options)
    values = archive.load(tmp_path / "mean.h5").array_records["model"]["w"].numpy()
    assert values.tolist() == [2.0 if report.inputs == CLIENTS else 2.25] * 3
    return [one.path for one in report.skipped]


def averaged_in_batches(urls: list[str], tmp_path: Path, **options: Any) -> list[str]:
    return averaged(urls, tmp_path, batch=2, **options)


def tabulated(urls: list[str], tmp_path: Path, **options: Any) -> list[str]:
    return [path for path, _ in archive.table(urls, **options).failures]


def measured(urls: list[str], tmp_path: Path, **options: Any) -> list[str]:
    return [path for path, _ in stats(urls, **options).failures]


def verified(urls: list[str], tmp_path: Path, **options: Any) -> list[str]:
    return [path for path, _ in verify_all(urls, **options).failures]


Call = Callable[..., list[str]]
EACH = pytest.mark.parametrize("call", [averaged, averaged_in_batches, tabulated, measured, verified])


@EACH
@pytest.mark.parametrize("status", [503, 403, 500, 0])
def test_a_server_that_refuses_one_is_no_bad_client(
    call: Call, status: int, server: RefusingServer, tmp_path: Path
) -> None:
    server.answers["1.h5"] = status
    with pytest.raises(StorageError, match=r"1\.h5"):
        call(urls_of(server), tmp_path, errors="skip")
    assert not (tmp_path / "mean.h5").exists()


@EACH
def test_what_is_missing_or_damaged_there_is_one(call: Call, server: RefusingServer, tmp_path: Path) -> None:
    urls = urls_of(server)
    server.answers["1.h5"] = 404
    with pytest.raises(MissingError, match=r"1\.h5"):
        call(urls, tmp_path)
    assert skipping(call, urls, tmp_path) == [urls[1]]
    del server.answers["1.h5"]
    content = bytearray(server.objects["1.h5"])
    content[-20] ^= 1
    server.objects["1.h5"] = bytes(content)
    assert skipping(call, urls, tmp_path) == [urls[1]]


def skipping(call: Call, urls: list[str], tmp_path: Path) -> list[str]:
    if call in (averaged, averaged_in_batches):
        return call(urls, tmp_path, errors="skip")
    with pytest.warns(SkippedWarning, match="1 of 5 archives"):
        return call(urls, tmp_path, errors="skip")


@EACH
def test_a_server_that_is_not_there(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDARCHIVE_RETRY_SECONDS", "0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        urls = [f"http://127.0.0.1:{taken.getsockname()[1]}/{number}.h5" for number in range(3)]
        with pytest.raises(StorageError):
            call(urls, tmp_path, errors="skip")


def test_column_has_no_row_for_what_nobody_knows(server: RefusingServer) -> None:
    server.answers["1.h5"] = 503
    for function in (archive.table, stats, verify_all):
        with pytest.raises(StorageError, match=r"1\.h5"):
            function(urls_of(server), errors="column")


def test_errors_that_are_kept_hold_nothing_of_their_archives(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.h5" for number in range(3)]
    store = archive.CheckpointStore(tmp_path / "run")
    store.save({"w": np.zeros(3)}, 0)
    for path in paths:
        archive.save({"w": np.zeros(3)}, path, durable=False)
        store.save({"w": np.zeros(3)}, 1, client=path.stem)
    store.save({"w": np.zeros(3)}, 1)
    for path in (paths[1], tmp_path / "run/rounds/00000001/1.h5"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    tables = [function(paths, errors="column") for function in (archive.table, stats, verify_all)]
    tables += [store.updates(1).drift(errors="column"), store.history(clients=True, errors="column")]
    with pytest.warns(SkippedWarning):
        failures = [*store.stack("w", round=1, errors="skip").failures]
    failures += [failed for table in tables for failed in table.failures]
    found = [error for _, error in failures]
    for batch in (2, 64):
        found += [
            one.error
            for one in mean(
                paths, out=tmp_path / "mean.h5", errors="skip", batch=batch, overwrite=True
            ).skipped
        ]
    assert len(found) == 8
    for error in found:
        one: BaseException | None = error
        while one is not None:
            assert one.__traceback__ is None, "70 KB of each archive, of 100,000 more than there is memory"
            one = one.__cause__ or one.__context__


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name.endswith("Error")])
def test_every_error_has_its_side(name: str) -> None:
    error: ArchiveError = getattr(errors, name)("it failed", path="/clients/3.h5")
    assert is_bad_input(error) == (name not in ("UnsupportedURLError", "LockedError"))


@pytest.mark.parametrize(
    ("number", "bad"),
    [(errno.EIO, True), (errno.EACCES, True), (errno.EMFILE, False), (errno.ETIMEDOUT, False)],
)
def test_the_disk_of_one_file_and_the_system_of_all(number: int, bad: bool) -> None:
    assert is_bad_input(StorageError("reading failed", path="/clients/3.h5", errno=number)) is bad
    assert not is_bad_input(StorageError("reading failed", path="s3://clients/3.h5", errno=number))
