"""What 512 MB cost a client in anonymous memory: a program that test_flower.py runs where flwr is.

Prints one JSON object: megabytes of RssAnon, at the end and at its highest, that each step added.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import archive

MB = 1_000_000
ARRAYS = 8


def rss_anon() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024 / MB


class Peak:
    """Highest RssAnon while a block runs, above what it was before."""

    def __enter__(self) -> Peak:
        self.before = self.highest = rss_anon()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.001):
            self.highest = max(self.highest, rss_anon())

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        self._thread.join()
        self.report = {
            "peak": round(max(self.highest, rss_anon()) - self.before, 1),
            "kept": round(rss_anon() - self.before, 1),
        }


def forked(work: Callable[[], Any]) -> Any:
    """Return what work returns in a process of its own: memory is never quite given back."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(write, json.dumps(work()).encode())
            code = 0
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        found = stream.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    return json.loads(found)


def message(server_round: int) -> Any:
    from flwr.common import ConfigRecord, Message, RecordDict

    content = RecordDict({"config": ConfigRecord({"server-round": server_round})})
    return Message(content, dst_node_id=1, message_type="train")


def main(total: int) -> None:  # noqa: C901
    warnings.simplefilter("ignore")
    logging.getLogger("flwr").setLevel(logging.ERROR)
    from flwr.common import Array, ArrayRecord, Context, Message, RecordDict

    from archive.interop.flower import persist_state, to_flower
    from archive.interop.flower.contexts import NodeContexts, Version
    from tests.interop.flower.grid import identify

    identify(1)
    report: dict[str, Any] = {"state_mb": total // MB}
    folder = tempfile.mkdtemp()
    each = total // ARRAYS // 4

    def make() -> bool:
        arrays = archive.ArrayRecord(
            {f"layer{n}": archive.Array(np.full(each, n, "f4")) for n in range(ARRAYS)}
        )
        state = archive.RecordDict({"model": arrays, "history": archive.MetricRecord({"loss": []})})
        context = archive.Context(1, 1, {"partition-id": 0}, state, {})
        NodeContexts(folder, "default", keep_last=2, storage_options=None).save(
            "partition-0", Version(1, 1), context
        )
        archive.save(arrays, f"{folder}/model.h5")
        return True

    forked(make)

    def persisted(app: Callable[[Any], None]) -> dict[str, Any]:
        """Call an app through the mod, in a client that has just started."""
        mod = persist_state(folder)
        context = Context(7, 99, {"partition-id": 0}, RecordDict(), {})

        def call(request: Any, context: Any) -> Any:
            app(context.state)
            return Message(RecordDict(), reply_to=request)

        asked = message(2)
        with Peak() as peak:
            mod(asked, context, call)
        return peak.report

    def looks(state: Any) -> None:
        assert state["model"]["layer3"].shape[0] == each

    def notes(state: Any) -> None:
        state["history"]["loss"].append(0.5)  # all of the state is saved again, from file to file

    def reads(state: Any) -> None:
        assert sum(int(array.numpy()[-1]) for array in state["model"].values()) == sum(range(ARRAYS))
        state["history"]["loss"].append(0.5)

    def replaces(state: Any) -> None:
        state["model"]["layer0"] = Array(np.ones(each, "f4"))

    def made() -> dict[str, Any]:
        """Let an app make all of a state; the memory is its own, and what the mod adds is counted."""
        mod = persist_state(folder, experiment="made")
        watch = Peak()

        def call(request: Any, context: Any) -> Any:
            context.state["model"] = ArrayRecord(
                {f"layer{n}": Array(np.full(each, n, "f4")) for n in range(ARRAYS)}
            )
            watch.__enter__()
            return Message(RecordDict(), reply_to=request)

        mod(message(2), Context(7, 99, {"partition-id": 0}, RecordDict(), {}), call)
        watch.__exit__()
        return watch.report

    report["mod, state made by the app"] = forked(made)
    for app in (looks, notes, reads, replaces):
        report[f"mod, app {app.__name__}"] = forked(lambda app=app: persisted(app))

    def carried(record: Callable[[], Any]) -> dict[str, Any]:
        """Serialise a message as Flower does, and let every piece go again."""
        with Peak() as peak:
            send(RecordDict({"arrays": record()}))
        return peak.report

    def mapped() -> Any:
        return to_flower(archive.open(f"{folder}/model.h5").records)["model"]

    def loaded() -> Any:
        arrays = archive.load(f"{folder}/model.h5")["model"]
        return ArrayRecord({key: Array(array.numpy()) for key, array in arrays.items()})

    def same(record: Any) -> str:
        return digest(RecordDict({"arrays": record}))

    assert forked(lambda: same(mapped())) == forked(lambda: same(loaded()))
    report["message, to_flower"] = forked(lambda: carried(mapped))
    report["message, Flower's arrays"] = forked(lambda: carried(loaded))

    def untouched() -> dict[str, Any]:
        with Peak() as peak:
            record = mapped()
            assert sum(array.numpy().shape[0] for array in record.values()) == ARRAYS * each
        return peak.report

    report["to_flower, numpy() of all"] = forked(untouched)
    sys.stdout.write(json.dumps(report) + "\n")


def pieces(content: Any) -> Any:
    """Yield what Flower puts on the wire, piece by piece."""
    if hasattr(content, "object_id"):
        from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

        for piece in get_all_nested_objects(content).values():
            yield piece.deflate()
    else:
        from flwr.common.serde import array_to_proto

        for record in content.array_records.values():
            for array in record.values():
                yield array_to_proto(array).SerializeToString()


def send(content: Any) -> None:
    for piece in pieces(content):
        del piece


def digest(content: Any) -> str:
    import hashlib

    found = hashlib.sha256()
    for piece in pieces(content):
        found.update(piece)
    return found.hexdigest()


if __name__ == "__main__":
    main(int(sys.argv[1]) * MB)
