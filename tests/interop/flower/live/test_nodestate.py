"""persist_state: which state a client gets, and which files are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.interop.flower import persist_state
from tests.interop.flower.live.grid import identify
from tests.interop.flower.live.names import require_today

common = require_today()


class Client:
    """A node whose messages go through the mod to a given app."""

    def __init__(self, folder: Path, **options: Any) -> None:
        identify(1)
        self._mod = persist_state(folder, **options)
        self._folder = folder / "default/contexts/partition-0"

    def __call__(
        self,
        server_round: int | None,
        app: Callable[[Any], Any],
        context: Any = None,
        node: dict[str, Any] | None = None,
        kind: str = "train",
    ) -> Any:
        """Send one message; return the context that Flower then carries, by default a new run's."""
        values = {} if server_round is None else {"server-round": server_round}
        content = common.RecordDict({"config": common.ConfigRecord(values)})
        asked = common.Message(content, dst_node_id=1, message_type=kind)
        if context is None:
            where = node if node is not None else {"partition-id": 0}
            context = common.Context(1, 5, where, common.RecordDict(), {})

        def call(message: Any, context: Any) -> Any:
            app(context.state)
            return common.Message(common.RecordDict(), reply_to=message)

        self._mod(asked, context, call)
        return context

    def files(self) -> list[str]:
        return sorted(path.name for path in self._folder.iterdir())


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path)


def note(state: Any) -> None:
    """Count one more message in the state."""
    seen = state.setdefault("seen", common.MetricRecord({"n": []}))["n"]
    seen.append(len(seen))
    state["w"] = common.ArrayRecord({"w": common.Array(np.full(3, len(seen)))})


def seen(count: int) -> Callable[[Any], None]:
    """Return an app that requires a state of so many messages."""

    def look(state: Any) -> None:
        assert (len(state["seen"]["n"]) if "seen" in state else 0) == count

    return look


def test_states_follow_the_round(client: Client) -> None:
    context = client(1, note)
    assert list(context.state) == ["fedarchive"]
    client(2, note, context)
    client(3, note, context)
    client(4, seen(3))  # a new run, a new context
    client(3, seen(2))  # the server goes back to before round 3
    client(1, seen(0))
    client(None, seen(3))  # a message without a round
    client(9, seen(0), node={"partition-id": 1})
    client(9, seen(0), node={})
    assert client.files() == ["00000001-1.h5", "00000002-1.h5", "00000003-1.h5"]


def test_states_of_a_stopped_run_are_removed(tmp_path: Path) -> None:
    client = Client(tmp_path, keep_last=2)
    context = None
    for server_round in (1, 2, 3, 4):
        context = client(server_round, note, context)
    assert client.files() == ["00000003-1.h5", "00000004-1.h5"]
    client(4, note)
    client(4, seen(3))
    client(5, seen(4))


def test_evaluation_comes_after_training(client: Client) -> None:
    context = client(1, note)
    client(1, note, context, kind="evaluate")
    client(2, seen(2))
    client(1, seen(1), kind="evaluate")
    client(1, seen(0))


def test_an_unchanged_state_is_not_written(client: Client) -> None:
    context = client(1, note)
    client(1, seen(1), context, kind="evaluate")
    client(2, lambda state: state["w"]["w"].numpy(), context)
    assert client.files() == ["00000001-1.h5"]
    client(2, lambda state: setattr(state["w"]["w"], "data", archive.Array(np.zeros(2)).data), context)
    assert len(client.files()) == 2


def test_an_app_that_fails_keeps_its_state(client: Client) -> None:
    def fail(state: Any) -> None:
        note(state)
        raise RuntimeError("out of memory")

    context = client(1, note)
    with pytest.raises(RuntimeError, match="out of memory"):
        client(2, fail, context)
    assert list(context.state) == ["fedarchive"]
    client(2, seen(1), context)


def test_a_damaged_state_is_an_error(client: Client, tmp_path: Path) -> None:
    client(1, note)
    (path,) = tmp_path.glob("default/contexts/partition-0/*")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(archive.ArchiveError) as caught:
        client(2, note)
    assert str(path) in str(caught.value)
