"""Handles and arrays that cross to other processes are opened when they are used; so are errors raised."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import ClosedError, MissingError, ReplacedError, StorageError
from archive.records import Array
from archive.types import Access
from tests.descriptors import open_files
from tests.servers.s3 import BUCKET, S3Server

SECONDS = 60
"""A task that was lost would be waited for for ever."""


def save(path: Any, value: float = 1.0, **options: Any) -> None:
    archive.save({"w": np.full(1000, value), "b": np.full(3, value)}, path, **options)


def total(array: Array) -> float:
    return float(array.numpy().sum())


def arrays_of(path: str) -> list[Array]:
    """Return lazy arrays to the process that asked, after their file was replaced."""
    with archive.open(path) as handle:
        arrays = [handle["w"], handle["b"]]
    save(path, 3.0)
    return arrays


@pytest.mark.parametrize("method", [pytest.param("fork", marks=pytest.mark.needs("os.fork")), "spawn"])
def test_a_pool_goes_on_where_the_file_was_replaced(tmp_path: Path, method: str) -> None:
    """The task was lost with the error while it was unpickled: the pool hung."""
    save(tmp_path / "a.h5")
    with archive.open(tmp_path / "a.h5") as handle, multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.map_async(total, [handle["w"], handle["b"]]).get(SECONDS) == [1000, 3]
        array = handle["w"]
        save(tmp_path / "a.h5", 2.0)
        with pytest.raises(ReplacedError, match="replaced by another version"):
            pool.apply_async(total, [array]).get(SECONDS)
        (tmp_path / "a.h5").unlink()
        with pytest.raises(MissingError):
            pool.apply_async(total, [array]).get(SECONDS)
        save(tmp_path / "a.h5", 2.0)
        for lost in pool.apply_async(arrays_of, [str(tmp_path / "a.h5")]).get(SECONDS):
            with pytest.raises(ReplacedError):
                total(lost)


@pytest.mark.parametrize("access", ["mmap", "pread"])
@pytest.mark.needs("/proc/self")
def test_unpickling_reads_nothing(tmp_path: Path, access: Access) -> None:
    save(tmp_path / "a.h5")
    with archive.open(tmp_path / "a.h5", access=access) as handle:
        text = pickle.dumps((handle, handle["w"], handle["b"], handle.records))
    again, array, other, records = pickle.loads(text)
    assert open_files(tmp_path) == []
    assert repr(again) == f"<fedarchive.Archive {str(tmp_path / 'a.h5')!r}: not opened yet>"
    assert not again.closed
    passed_on = pickle.loads(pickle.dumps((again, array)))
    assert open_files(tmp_path) == []
    assert total(passed_on[1]) == total(array) == 1000
    assert len(open_files(tmp_path)) == 1
    assert total(other) == total(records["model"]["b"]) == 3
    assert len(open_files(tmp_path)) == 1
    assert len(passed_on[0]) == len(again) == 2
    assert len(open_files(tmp_path)) == 3


def test_a_handle_that_is_closed_before_it_is_opened(tmp_path: Path) -> None:
    save(tmp_path / "a.h5")
    with archive.open(tmp_path / "a.h5") as handle:
        text = pickle.dumps(handle)
    with pickle.loads(text) as again:
        pass
    assert again.closed
    assert repr(again).endswith("closed>")
    with pytest.raises(ClosedError):
        len(again)
    assert pickle.loads(pickle.dumps(again))["w"].numpy().sum() == 1000


def test_ties_stay_ties(tmp_path: Path) -> None:
    shared = np.ones(1000)
    archive.save({"a": shared, "b": shared}, tmp_path / "a.h5")
    with archive.open(tmp_path / "a.h5") as handle:
        again = pickle.loads(pickle.dumps({key: handle[key] for key in "ab"}))
    assert archive.save(again, tmp_path / "b.h5").array_bytes == shared.nbytes


def test_threads_that_open_it_at_once(tmp_path: Path) -> None:
    save(tmp_path / "a.h5")
    with archive.open(tmp_path / "a.h5") as handle:
        text = pickle.dumps([handle[key] for key in "wb"] * 8)
    for _ in range(20):
        arrays = pickle.loads(text)
        gate = threading.Barrier(len(arrays))
        sums: list[float] = []

        def read(array: Array, gate: Any = gate, sums: list[float] = sums) -> None:
            gate.wait()
            sums.append(total(array))

        threads = [threading.Thread(target=read, args=(array,)) for array in arrays]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(sums) == [3] * 8 + [1000] * 8


@pytest.fixture
def options(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return options for the server, and let the environment be without credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return {**server.options(), "key": "AKIA-5ecret", "secret": "5ecret"}


@pytest.mark.parametrize("key", ["a.h5", "what?.h5", "a@b.h5"])
def test_options_that_are_no_secrets_travel(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """The endpoint was lost, and a ``?`` in the key was taken for the begin of a signature."""
    url = f"s3://{BUCKET}/reference {key}"
    save(url, storage_options=options)
    with archive.open(url, storage_options=options) as handle:
        assert handle.info.path == url
        text = pickle.dumps((handle, handle["w"]))
    assert b"5ecret" not in text
    again, array = pickle.loads(text)
    with pytest.raises(
        StorageError, match="a pickle holds no secrets: key, secret did not come along"
    ) as caught:
        total(array)
    assert caught.value.path == url
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["secret"])
    assert total(array) == total(again["w"]) == 1000
    again.close()


def test_a_version_that_is_gone_is_no_matter_of_secrets() -> None:
    """The remedy was to set what was withheld, although the file had been read."""
    url, options = "memory://reference/replaced.h5", {"token": "5ecret"}
    save(url, storage_options=options)
    with archive.open(url, storage_options=options) as handle:
        array = pickle.loads(pickle.dumps(handle["w"]))
    save(url, 2, storage_options=options)
    with pytest.raises(ReplacedError, match="take the arrays from there"):
        total(array)


def test_a_chain_travels(tmp_path: Path) -> None:
    save(tmp_path / "a.h5")
    with zipfile.ZipFile(tmp_path / "z?.zip", "w") as packed:
        packed.write(tmp_path / "a.h5", "run/what?.h5")
    url = f"zip://run/what?.h5::file://{tmp_path}/z?.zip"
    with archive.open(url) as handle:
        assert handle.info.path == url
        again = pickle.loads(pickle.dumps(handle["w"]))
    assert total(again) == 1000
    missing = url.replace("what", "none")
    with pytest.raises(MissingError) as caught:
        archive.open(missing)
    assert caught.value.path == missing
