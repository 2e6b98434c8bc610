"""Orders and reports in messages of Flower: put in, taken out, in both of its APIs.

An order travels in the config that a message has anyway, under a key of its own. A record of its own would be
refused by mods that expect one config (``fixedclipping_mod`` of flwr 1.42). In the older API that config is
the record ``fitins.config``, and a report comes back in ``fitres.metrics``: a record of its own would not
reach the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from archive.interop.flower.orders import Order, Report
from archive.interop.flower.releases import flower

__all__ = ["KEY", "answer", "answer_name", "give", "give_legacy", "hear", "hear_legacy", "take"]

KEY = "fedarchive"
"""Name of the value that carries a text, and of the record where a message has no other."""

_REPLIES = {
    "fitins.config": "fitres.metrics",
    "evaluateins.config": "evaluateres.metrics",
}
"""Records of the older API: of a message, and of its reply."""


def give(messages: Iterable[Any], text_for: Callable[[str], str]) -> list[Any]:
    """Put an order into each message of the newer API, by the id of its node, and return the messages.

    Each gets a content of its own, or shares one with those that shared it before and get the same order. The
    strategy may use its records again in later rounds, so they stay as they are.
    """
    contents: dict[tuple[int, str], tuple[Any, Any]] = {}
    made = []
    for message in messages:
        if message.has_content():
            content, text = message.content, text_for(str(message.metadata.dst_node_id))
            known = id(content), text
            if known not in contents:
                contents[known] = content, _with_text(content, text)  # kept, or its id could come again
            message.content = contents[known][1]
        made.append(message)
    return made


def _with_text(content: Any, text: str) -> Any:
    """Return a content whose first config has a text, or with a config of ours where it has none."""
    names = flower()
    name = next(iter(content.config_records), KEY)
    config = dict(content.config_records.get(name, {}).items())
    return names.RecordDict({**content, name: names.ConfigRecord({**config, KEY: text})})


def give_legacy(config: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Return a config of the older API with an order; the strategy's own config stays as it is."""
    return {**config, KEY: text}


def take(message: Any) -> tuple[Order | None, str | None]:
    """Take the order out of a message; return it, and the name of the record that carries a report.

    Without an order both are None. The message gets a content of its own, because the messages of a
    simulation may share one.

    Raises
    ------
    ValueRangeError
        No server of this package made the order.
    """
    if not message.has_content():
        return None, None
    content = message.content
    for name, record in content.config_records.items():
        if KEY not in record:
            continue
        values = dict(record.items())
        text = values.pop(KEY)
        records = dict(content.items())
        if name == KEY:
            del records[name]
        else:
            records[name] = flower().ConfigRecord(values)
        message.content = flower().RecordDict(records)
        return Order.from_text(text), _REPLIES.get(name, KEY)
    return None, None


def answer_name(message: Any, report: Report) -> Any:
    """Return the reply to a message that only asks for the name of a node."""
    names = flower()
    record = names.ConfigRecord({KEY: report.to_text()})
    return names.Message(names.RecordDict({KEY: record}), reply_to=message)


def answer(reply: Any, where: str | None, report: Report) -> None:
    """Put a report into a reply."""
    if not where or not reply.has_content():
        return
    if where == KEY:
        reply.content[KEY] = flower().ConfigRecord({KEY: report.to_text()})
    elif where in reply.content.config_records:
        reply.content.config_records[where][KEY] = report.to_text()


def hear(reply: Any) -> Report | None:
    """Take the report out of a reply of the newer API."""
    if reply.has_error() or KEY not in reply.content.config_records:
        return None
    return Report.from_text(reply.content.pop(KEY).get(KEY))


def hear_legacy(values: dict[str, Any]) -> Report | None:
    """Take the report out of the metrics of a reply of the older API."""
    return Report.from_text(values.pop(KEY)) if KEY in values else None
