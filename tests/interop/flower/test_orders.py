"""Orders and reports that somebody else made, without Flower itself."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from archive.checkpoints.lineage import Line
from archive.errors import ValueRangeError
from archive.interop.flower.nodestate import message_place
from archive.interop.flower.orders import MAX_NAME, MAX_PROBLEM, Order, Report
from archive.interop.flower.participants import Participants

ORDER = Order("default", Line("0123456789abcdef"), 3, kept=(1, 2))


@pytest.mark.parametrize(
    "change",
    [
        {"experiment": "../../x"},
        {"experiment": "/etc"},
        {"experiment": ""},
        {"experiment": "rounds"},
        {"experiment": ["a"]},
        {"round": 100_000_000},
        {"round": 10**30},
        {"kept": [10**30]},
        {"ancestors": [["0123456789abcdef", 10**30]]},
        {"token": "../x"},
        {"nodes": "zz"},
    ],
)
def test_an_order_of_a_hostile_server_is_one_error(change: dict[str, Any]) -> None:
    text = json.dumps({**json.loads(ORDER.to_text()), **change})
    with pytest.raises(ValueRangeError, match="no fedarchive server made"):
        Order.from_text(text)


def test_a_report_of_a_hostile_client_has_a_limit() -> None:
    long = Report("x" * MAX_NAME, problem="y" * 5_000_000)
    found = Report.from_text(long.to_text())
    assert found is not None
    assert len(found.problem) == MAX_PROBLEM
    assert Report.from_text(Report("x" * (MAX_NAME + 1)).to_text()) is None


def test_nodes_are_ordered_whatever_their_names_are() -> None:
    nodes = Participants()
    nodes.names = {"1": "n" + "9" * 5000, "2": "n9", "3": "n10", "4": "", "5": "n\ud800", "6": "n٣²"}
    assert sorted(nodes.names, key=nodes.order) == ["6", "2", "3", "1", "5", "4"]


def test_the_log_shows_what_a_client_reports_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Participants().hear([("1", Report("n\n2", problem="lost\nINFO : \x1b[2J"))], 3)
    assert caplog.messages == ["fedarchive: round 3: client 'n\\n2': 'lost\\nINFO : \\x1b[2J'"]


@pytest.mark.parametrize(("group", "number"), [("9" * 5000, -5), ("-1", -5)])
def test_what_is_no_round_of_a_message(group: str, number: int) -> None:
    content = SimpleNamespace(config_records={"config": {"server-round": number}})
    metadata = SimpleNamespace(group_id=group, message_type="train")
    message = SimpleNamespace(metadata=metadata, content=content, has_content=lambda: True)
    assert message_place(message, None) is None
