"""The anonymous memory that 512 MB of arrays cost a client: what the mod and `to_flower` add to a process."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.checkpoints.lineage import Version
from archive.interop.flower import persist_state, to_flower
from archive.interop.flower.contexts import NodeContexts
from archive.storage.url import Location
from tests.interop.flower.live.grid import identify
from tests.interop.flower.live.killing import forked
from tests.interop.flower.live.names import require_today

common = require_today()

MB = 1_000_000
ARRAYS = 8
ELEMENTS = 512 * MB // ARRAYS // 4
LIMIT_MB = 32
"""What a persisted state may add to a client, however large it is."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Peak:
    """Highest RssAnon while a block runs, in megabytes above RssAnon before it."""

    def __enter__(self) -> Peak:
        self._before = self._highest = rss_anon()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.001):
            self._highest = max(self._highest, rss_anon())

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        self._thread.join()
        self.mb = max(self._highest, rss_anon()) - self._before


def rss_anon() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024 / MB


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A client's saved state of round 1, and an archive of the same arrays."""
    made = tmp_path_factory.mktemp("memory")
    forked(lambda: save_state(made), made)
    return made


def save_state(folder: Path) -> None:
    layers = {f"layer{n}": archive.Array(np.full(ELEMENTS, n, "f4")) for n in range(ARRAYS)}
    arrays = archive.ArrayRecord(layers)
    state = archive.RecordDict({"model": arrays, "history": archive.MetricRecord({"loss": []})})
    contexts = NodeContexts(Location(str(folder)), "default")
    contexts.save("partition-0", Version(1, 1), archive.Context(1, 1, {"partition-id": 0}, state, {}), {})
    archive.save(arrays, folder / "model.h5")


def measured(work: Callable[[], float], folder: Path) -> float:
    """Return what work returns in a process of its own: memory is never quite given back."""
    _, found = forked(work, folder)
    return float(found)


def call_through_mod(folder: Path, app: Callable[[Any], None]) -> None:
    """Call an app through the mod, in a client that has just started."""
    identify(1)
    mod = persist_state(folder)
    content = common.RecordDict({"config": common.ConfigRecord({"server-round": 2})})
    asked = common.Message(content, dst_node_id=1, message_type="train")
    context = common.Context(7, 99, {"partition-id": 0}, common.RecordDict(), {})

    def call(request: Any, context: Any) -> Any:
        app(context.state)
        return common.Message(common.RecordDict(), reply_to=request)

    mod(asked, context, call)


def look(state: Any) -> None:
    assert state["model"]["layer3"].shape[0] == ELEMENTS


def note(state: Any) -> None:
    state["history"]["loss"].append(0.5)  # all of the state is saved again, from file to file


def read(state: Any) -> None:
    assert sum(int(array.numpy()[-1]) for array in state["model"].values()) == sum(range(ARRAYS))
    state["history"]["loss"].append(0.5)


@pytest.mark.parametrize("app", [look, note, read])
def test_a_persisted_state_costs_a_client_little(folder: Path, app: Callable[[Any], None]) -> None:
    def work() -> float:
        with Peak() as peak:
            call_through_mod(folder, app)
        return peak.mb

    assert measured(work, folder) < LIMIT_MB


def test_saving_what_an_app_makes_costs_little(folder: Path, tmp_path: Path) -> None:
    """The arrays are the app's own; only what the mod adds is counted."""

    def work() -> float:
        watch = Peak()

        def make(state: Any) -> None:
            layers = {f"layer{n}": common.Array(np.full(ELEMENTS, n, "f4")) for n in range(ARRAYS)}
            state["model"] = common.ArrayRecord(layers)
            watch.__enter__()

        call_through_mod(tmp_path, make)
        watch.__exit__()
        return watch.mb

    assert measured(work, folder) < LIMIT_MB


def mapped(folder: Path) -> Any:
    return to_flower(archive.open(folder / "model.h5").records)["model"]


def loaded(folder: Path) -> Any:
    arrays = archive.load(folder / "model.h5").array_records["model"]
    return common.ArrayRecord({key: common.Array(array.numpy()) for key, array in arrays.items()})


def pieces(record: Any) -> Iterator[bytes]:
    """Yield what Flower sends of a record, piece by piece."""
    content = common.RecordDict({"arrays": record})
    if hasattr(content, "object_id"):
        from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

        for piece in get_all_nested_objects(content).values():
            yield piece.deflate()
    else:
        from flwr.common.serde import array_to_proto

        for array in record.values():
            yield array_to_proto(array).SerializeToString()


def test_elements_of_all_arrays_stay_in_the_file(folder: Path) -> None:
    def work() -> float:
        with Peak() as peak:
            shapes = [array.numpy().shape for array in mapped(folder).values()]
        assert shapes == [(ELEMENTS,)] * ARRAYS
        return peak.mb

    assert measured(work, folder) < LIMIT_MB


def test_a_message_is_serialised_piece_by_piece(folder: Path) -> None:
    """One array of 64 MB, or of its 20 MB chunks, passes through Flower's serialisation at a time."""

    def carry(make: Callable[[Path], Any]) -> Callable[[], float]:
        def work() -> float:
            with Peak() as peak:
                for piece in pieces(make(folder)):
                    del piece
            return peak.mb

        return work

    assert measured(carry(mapped), folder) < 160 < 500 < measured(carry(loaded), folder)


def test_a_message_has_the_bytes_of_flowers_own(folder: Path) -> None:
    def digest(make: Callable[[Path], Any]) -> Callable[[], str]:
        def work() -> str:
            found = hashlib.sha256()
            for piece in pieces(make(folder)):
                found.update(piece)
            return found.hexdigest()

        return work

    assert forked(digest(mapped), folder) == forked(digest(loaded), folder)
