"""persist_state: which state a client gets, and which files are kept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import archive
from archive.checkpoints.lineage import Line
from archive.errors import MissingError
from archive.interop.flower import persist_state
from archive.interop.flower.letters import hear
from archive.interop.flower.orders import Order, Report, hash_name
from tests.interop.flower.live.grid import identify
from tests.interop.flower.live.names import require_today

common = require_today()


class Client:
    """A node whose messages go through the mod to a given app."""

    def __init__(self, folder: Path, **options: Any) -> None:
        identify(1)
        self._mod = persist_state(folder, **options)
        self._folder = folder / "default/contexts/partition-0"
        self.report: Report | None = None

    def __call__(
        self,
        server_round: int | None,
        app: Callable[[Any], Any],
        context: Any = None,
        node: dict[str, Any] | None = None,
        kind: str = "train",
        order: Order | None = None,
        node_id: int = 5,
    ) -> Any:
        """Send one message; return the context that Flower then carries, by default a new run's."""
        values: dict[str, Any] = {} if server_round is None else {"server-round": server_round}
        if order is not None:
            values["fedarchive"] = order.to_text()
        content = common.RecordDict({"config": common.ConfigRecord(values)})
        asked = common.Message(content, dst_node_id=1, message_type=kind)
        if context is None:
            where = node if node is not None else {"partition-id": 0}
            context = common.Context(1, node_id, where, common.RecordDict(), {})

        def call(message: Any, context: Any) -> Any:
            assert "fedarchive" not in message.content["config"]
            app(context.state)
            return common.Message(common.RecordDict(), reply_to=message)

        reply = self._mod(asked, context, call)
        self.report = hear(reply)
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


def test_states_of_a_stopped_run_are_removed(client: Client) -> None:
    context = None
    for server_round in (1, 2, 3, 4, 5, 6):
        context = client(server_round, note, context)
    assert [file[7] for file in client.files()] == ["3", "4", "5", "6"]
    client(5, note)
    assert [file[7] for file in client.files()] == ["3", "4", "5"]
    client(5, seen(4))
    client(6, seen(5))


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


FIRST = Line("a" * 16)


def order(
    line: Line, number: int, *, kept: tuple[int, ...] | None = None, nodes: Sequence[str] = ()
) -> Order:
    return Order("default", line, number, kept, nodes=frozenset(map(hash_name, nodes)))


def train(client: Client, line: Line, numbers: Iterable[int], **options: Any) -> None:
    context = None
    for number in numbers:
        context = client(number, note, context, order=order(line, number, **options))


def test_a_state_of_a_killed_attempt_never_comes_back(client: Client) -> None:
    train(client, FIRST, [1, 3, 5])  # selected in these rounds; the server saved round 4, and was killed in 5
    second = FIRST.follow(4)
    client(7, seen(2), order=order(second, 7))  # not the state of round 5
    third = second.follow(6)
    client(8, seen(2), order=order(third, 8))
    client(8, seen(3), order=order(FIRST.follow(5), 8))  # of a server that did save round 5


def test_states_that_kept_rounds_go_on_from_are_kept(client: Client) -> None:
    train(client, FIRST, [1, 2, 3])
    train(client, FIRST.follow(3), [4, 6, 7, 8], kept=(2, 5, 7))
    assert [int(file[:8]) for file in client.files()] == [2, 4, 7, 8]
    for after, count in ((2, 2), (5, 4), (7, 6)):
        line = FIRST.follow(2) if after == 2 else Line("c" * 16, ((_token(client, 4), after),))
        client(after + 1, seen(count), order=order(line, after + 1))


def _token(client: Client, number: int) -> str:
    return next(file.split("-")[2].removesuffix(".h5") for file in client.files() if int(file[:8]) == number)


def test_states_of_other_attempts_are_not_removed(client: Client) -> None:
    train(client, FIRST, [1, 2])
    train(client, Line("b" * 16), [1, 2, 3], kept=(3,))
    assert [file[7:11] for file in client.files()] == ["1-1-", "2-1-", "3-1-"]
    assert sum("b" * 16 in file for file in client.files()) == 1


def test_what_a_killed_attempt_made_last_is_removed_once_the_next_has_saved_a_round(client: Client) -> None:
    train(client, FIRST, [1, 2, 3])
    train(client, Line("c" * 16), [1])
    second = FIRST.follow(2)
    context = client(3, note, order=order(second, 3, kept=(1, 2)))
    assert [file[7] for file in client.files()] == ["1", "1", "2", "3", "3"]
    client(4, note, context, order=order(second, 4, kept=(2, 3)))
    assert [file[7] for file in client.files()] == ["1", "2", "3", "4"]  # the 1 is of an attempt in no line
    client(4, seen(3), order=order(second, 4))


def test_the_server_names_the_experiment(client: Client, tmp_path: Path) -> None:
    train(client, FIRST, [1])
    other = Order("b", Line("b" * 16), 1)
    context = client(1, seen(0), order=other)
    client(1, note, order=other)
    client(2, seen(1), order=Order("b", other.line, 2))
    client(2, seen(1), order=order(FIRST, 2))
    assert len(list((tmp_path / "b/contexts").rglob("*.h5"))) == 1
    assert list(context.state) == []


def test_further_messages_of_one_round_go_on_from_each_other(client: Client) -> None:
    context = client(1, note, order=order(FIRST, 1))
    client(1, note, context, order=order(FIRST, 1))
    client(1, note, context, order=order(FIRST, 1))
    client(2, seen(3), order=order(FIRST, 2))
    client(1, note, order=order(FIRST, 1))  # the same message once more, after its process was killed
    client(2, seen(1), order=order(FIRST, 2))


def test_an_attempt_goes_on_from_what_flower_carries_whatever_the_order_of_messages(client: Client) -> None:
    context = client(1, note, order=order(FIRST, 1), kind="evaluate")
    client(1, note, context, order=order(FIRST, 1))
    client(3, note, context, order=order(FIRST, 3))
    client(2, note, context, order=order(FIRST, 2))  # it arrives after that of round 3
    client(4, seen(4), context, order=order(FIRST, 4))
    client(4, seen(4), order=order(FIRST, 4))


def test_a_message_that_ends_after_the_next_keeps_its_state(client: Client) -> None:
    context = None
    for number in (1, 2, 3, 4):
        context = client(number, note, context, order=order(FIRST, number))
    slow = copy.deepcopy(context)
    client(6, note, context, order=order(FIRST, 6, kept=(3, 4, 5)))
    client(5, note, slow, order=order(FIRST, 5, kept=(2, 3, 4)))
    client(7, seen(5), slow, order=order(FIRST, 7))  # Flower carries what ended last
    assert client.report is not None
    assert not client.report.problem
    assert [int(file[:8]) for file in client.files()] == [3, 4, 5, 6]


def test_messages_without_an_order_belong_to_the_attempt(client: Client) -> None:
    context = client(1, note, order=order(FIRST, 1))
    client(None, note, context)
    client(1, note, context, kind="query")
    client(2, seen(3), context, order=order(FIRST, 2))
    client(2, seen(1), order=order(FIRST.follow(1), 2))  # what came after round 1 comes again
    client(3, seen(3), order=order(FIRST.follow(2), 3))


def test_a_run_may_begin_with_messages_without_an_order(client: Client, tmp_path: Path) -> None:
    context = client(None, note)
    for number in (1, 2):
        client(number, seen(1), context, order=Order("b", FIRST, number))
    client(3, note, context, order=Order("b", FIRST, 3))
    client(4, seen(2), order=Order("b", FIRST, 4))
    context = client(None, note)
    client(4, seen(2), context, order=Order("b", FIRST.follow(3), 4))  # that of the run comes first
    client(1, seen(0), context, order=Order("c", Line("c" * 16), 1))  # and no other run's at all


def test_messages_may_have_no_round(client: Client) -> None:
    client(None, note)
    client(None, seen(1))


def test_two_nodes_of_one_name_are_an_error(client: Client) -> None:
    client(1, note, order=order(FIRST, 1))
    with pytest.raises(archive.ArchiveError, match=r"another node called 'partition-0'.*node_key"):
        client(1, note, order=order(FIRST, 1), node_id=6)


def test_a_node_has_the_name_that_its_key_gives(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "flwr")
    client = Client(tmp_path, node_key="site")
    client(1, note, node={"site": "Berlin"})
    client(1, note, node={"site": 7})
    assert not caplog.records
    client(1, note, node={"partition-id": 0, "num-partitions": 2})
    client(2, note, node={"partition-id": 0, "num-partitions": 2})
    found = sorted(path.name for path in (tmp_path / "default/contexts").iterdir())
    assert found == ["Berlin", "node-5", "site-7"]
    (warning,) = caplog.records
    assert "has no 'site'" in warning.getMessage()
    assert "'partition-id', 'num-partitions'" in warning.getMessage()


def test_a_state_that_is_missing_is_told(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    later = order(FIRST.follow(3), 4, nodes=["partition-0"])
    client(4, seen(0), order=later)
    assert client.report is not None
    assert "no state is left, though this node saved one" in client.report.problem
    assert "partition-0: no state is left" in caplog.text
    client(4, seen(0), node={"partition-id": 1}, order=later)
    assert not client.report.problem  # this node takes part for the first time
    client(4, seen(0), node={}, order=later)
    assert "has no name besides" in client.report.problem


def test_a_missing_state_stops_the_client_that_wants_so(tmp_path: Path) -> None:
    client = Client(tmp_path, on_missing="error")
    with pytest.raises(MissingError, match=r"no state is left.*on_missing='warn'"):
        client(4, note, order=order(FIRST.follow(3), 4, nodes=["partition-0"]))
    train(client, FIRST, [1])
    (path,) = tmp_path.glob("default/contexts/partition-0/*")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(archive.ArchiveError) as caught:
        client(2, note, order=order(FIRST, 2))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "a byte of an array", "gone"])
def test_after_a_damaged_state_an_earlier_one_is_taken_loudly(
    client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    context = client(1, note, order=order(FIRST, 1))
    client(2, note, context, order=order(FIRST, 2))
    (path,) = tmp_path.glob("default/contexts/partition-0/00000002*")
    data = bytearray(path.read_bytes())
    data[data.index(np.full(3, 2).tobytes())] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-100] if damage == "cut" else data)
    client(3, seen(1), context, order=order(FIRST, 3))
    assert client.report is not None
    assert "went on from training of round 1" in client.report.problem
    assert client.report.problem in caplog.text
    client(3, note, order=order(FIRST, 3))
    client(4, seen(2), order=order(FIRST, 4))
    assert not client.report.problem


def test_a_name_is_asked_for_without_calling_the_app(client: Client) -> None:
    client(1, note, order=Order("default", FIRST, 1, ask=True))
    assert client.report == Report("partition-0")
    client(2, seen(0), order=order(FIRST, 2))


def test_an_order_of_somebody_else_is_an_error(client: Client) -> None:
    for text in ("", "[]", '{"token": "../../x"}', "{" * 100_000):
        with pytest.raises(archive.ArchiveError, match="no fedarchive server made"):
            client(1, note, order=SimpleNamespace(to_text=lambda text=text: text))  # type: ignore[arg-type]
