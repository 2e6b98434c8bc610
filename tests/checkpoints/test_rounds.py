"""A store behind an S3 server: the same rounds, the same promises."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import archive
from archive.errors import (
    ExistsError,
    MissingError,
    NonFiniteError,
    SkippedWarning,
    TruncatedError,
    UnsupportedURLError,
)
from tests.servers.s3 import BUCKET, S3Server

pytestmark = pytest.mark.slow


@pytest.fixture
def url(server: S3Server, request: pytest.FixtureRequest) -> str:
    return f"s3://{BUCKET}/{request.node.name}/run"


def fill(store: archive.CheckpointStore, *numbers: int) -> archive.CheckpointStore:
    for number in numbers:
        for client in ("a", "B"):
            store.save({"c": np.full(3, number)}, number, client=client, metrics={"n": number})
        store.save({"w": np.full(5, number)}, number, metrics={"loss": abs(number - 2)})
    return store


def test_rounds_of_a_bucket(server: S3Server, url: str) -> None:
    options: dict[str, Any] = server.options()
    store = fill(
        archive.CheckpointStore(url, keep_last=1, best_by="loss", storage_options=options), 1, 2, 3, 4
    )
    assert store.rounds() == [2, 4]
    assert store.clients(4) == ["B", "a"]
    assert store.open("latest")["w"].numpy().tolist() == [4] * 5
    assert store.open("best", client="B")["c"].numpy().tolist() == [2] * 3
    history = store.history(clients=True)
    assert history["client"][history["kept"]].tolist() == ["", "B", "a"] * 2
    table = archive.table(f"{url}/rounds/*/*.h5", storage_options=options)
    assert table["n"].tolist() == [2, 2, 4, 4]
    assert store.verify(4).files == 3
    with pytest.raises(ExistsError):
        store.save({}, 4)
    with pytest.raises(MissingError):
        store.open(3)
    context = archive.Context(1, 2, {}, archive.RecordDict({"m": archive.ArrayRecord([np.ones(3)])}), {})
    store.save_context("node", context)
    old = store.context("node")
    store.save_context("node", archive.Context(1, 2, {}, archive.RecordDict(), {}))
    assert old == context, "what was read of a context that was replaced stays"


def test_damage_and_left_overs_in_a_bucket(server: S3Server, url: str) -> None:
    store = fill(archive.CheckpointStore(url, storage_options=server.options()), 1, 2)
    key = f"{url.removeprefix(f's3://{BUCKET}/')}/rounds/00000002.h5"
    body = server.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    server.client.put_object(Bucket=BUCKET, Key=key, Body=body[:-1])
    with pytest.raises(TruncatedError, match="round 1 is the newest that verifies"):
        store.open("latest")
    # by another process: its own files of a round to come are no orphans to a store
    other = archive.CheckpointStore(url, storage_options=server.options())
    other.save({"c": np.zeros(2)}, 3, client="orphan")
    thesis = key.replace("/00000002.h5", "/00000003/mine.h5")
    server.client.put_object(Bucket=BUCKET, Key=thesis, Body=b"a thesis")
    assert store.gc() == []
    assert store.gc(0) == ["rounds/00000003/orphan.h5"]
    assert server.client.get_object(Bucket=BUCKET, Key=thesis)["Body"].read() == b"a thesis"
    store.remove(2)
    assert fill(store, 2).rounds() == [1, 2]


def test_of_two_writers_one_wins(server: S3Server, url: str) -> None:
    def race(writer: int) -> list[int]:
        store = archive.CheckpointStore(url, storage_options=server.options())
        won = []
        for number in range(5):
            try:
                store.save({"w": np.full(5, writer)}, number)
                won.append(number)
            except ExistsError:
                pass
        return won

    with ThreadPoolExecutor(2) as pool:
        wins = list(pool.map(race, range(2)))
    assert sorted(wins[0] + wins[1]) == list(range(5))
    store = archive.CheckpointStore(url, storage_options=server.options())
    for writer, won in enumerate(wins):
        for number in won:
            assert store.open(number)["w"].numpy().tolist() == [writer] * 5


class Careless(MemoryFileSystem):
    """A store of which nobody knows what it promises."""

    protocol = "careless"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("careless://", "memory://"))


def test_a_store_that_cannot_promise_exclusive_creation_says_so() -> None:
    fsspec.register_implementation("careless", Careless, clobber=True)
    store = archive.CheckpointStore("careless://no-promise")
    with pytest.raises(UnsupportedURLError, match="overwrite=False cannot be promised"):
        store.save({}, 1)


def test_damage_in_tables_of_a_bucket(server: S3Server, url: str) -> None:
    """One damaged and one missing client file, by name."""
    options: dict[str, Any] = server.options()
    store = fill(archive.CheckpointStore(url, storage_options=options), 1, 2)
    prefix = url.removeprefix(f"s3://{BUCKET}/")
    body = server.client.get_object(Bucket=BUCKET, Key=f"{prefix}/rounds/00000002/a.h5")["Body"].read()
    server.client.put_object(Bucket=BUCKET, Key=f"{prefix}/rounds/00000002/a.h5", Body=body[:-50])
    server.client.delete_object(Bucket=BUCKET, Key=f"{prefix}/rounds/00000001/B.h5")
    lost, cut = f"{url}/rounds/00000001/B.h5", f"{url}/rounds/00000002/a.h5"
    with pytest.raises(MissingError, match="names this file of client 'B', and it is gone"):
        store.history(clients=True)
    urls = [lost, cut, f"{url}/rounds/00000002/B.h5"]
    for found in (
        store.history(clients=True, errors="column"),
        archive.table(urls, errors="column", storage_options=options),
    ):
        assert {path for path, _ in found.failures} == {lost, cut}
        bad = [row for row, error in enumerate(found["error"]) if error]
        assert found["path"][bad].tolist() == [lost, cut]
        assert found["client"][bad].tolist() == ["B", "a"]
        assert set(found["run"]) == {"run"}
    with pytest.warns(SkippedWarning, match="2 of 3"):
        found = archive.table(urls, errors="skip", storage_options=options)
    assert (found["n"].tolist(), found["arrays"].tolist()) == ([2], [1])


def test_stacks_and_updates_of_a_bucket(server: S3Server, url: str) -> None:
    store = archive.CheckpointStore(url, storage_options=server.options())
    store.save({"w": np.zeros(3)}, 0)
    for client in range(20):
        store.save({"w": np.full(3, client)}, 1, client=f"c{client:02d}")
    store.save({"w": np.ones(3)}, 1)
    stack = store.stack("w", round="latest")
    assert stack[:, 1].tolist() == list(range(20))
    assert [one.tolist() for one in stack] == [[client] * 3 for client in range(20)]
    drift = store.updates(1).drift()
    assert drift["norm"].tolist() == pytest.approx([client * 3**0.5 for client in range(20)])
    assert drift["cosine"][1:].tolist() == pytest.approx([1] * 19)


def test_an_upload_with_nan_is_refused(server: S3Server, url: str) -> None:
    store = archive.CheckpointStore(url, check="error", storage_options=server.options())
    with pytest.raises(NonFiniteError):
        store.save({"w": np.full(3, np.nan)}, 1)
    with pytest.raises(NonFiniteError):
        store.save({"w": np.full(9 << 20, np.inf, "f4")}, 1)
    prefix = url.removeprefix(f"s3://{BUCKET}/")
    assert server.keys(prefix) == []
    assert server.uploads(prefix) == []
