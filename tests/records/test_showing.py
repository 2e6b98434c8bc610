"""What is shown of records: as Python spells them, or a summary; hostile names are text."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from archive.display.texts import middle_elided
from archive.records import Array, ArrayRecord, ConfigRecord, Context, MetricRecord, RecordDict, RecordSet
from archive.records.typeddict import TypedDict
from tests.hostiletexts import ALL, require_inert

MAKERS: dict[str, Callable[[ArrayRecord], Any]] = {
    "record": lambda record: record,
    "RecordSet": lambda record: RecordSet({"model": record}),
    "RecordDict": lambda record: RecordDict({"model": record}),
    "view": lambda record: RecordDict({"model": record}).array_records,
    "space": lambda record: RecordSet({"model": record}).parameters_records,
    "Context": lambda record: Context(1, 2, {}, RecordDict({"model": record}), {}),
}


def record_of(count: int) -> ArrayRecord:
    array = Array(np.zeros((2, 3), "f4"))
    return ArrayRecord({f"layers.{number}.weight": array for number in range(count)})


def shown(thing: Any) -> tuple[str, str]:
    return repr(thing), thing._repr_html_()


@pytest.mark.parametrize("maker", MAKERS)
def test_many_arrays_are_shown_shortly_and_soon(maker: str) -> None:
    thing = MAKERS[maker](record_of(20_000))
    shown(thing)
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        text, html = shown(thing)
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 0.04
    page = require_inert(text, html)
    assert "layers.0.weight      float32  (2, 3)  24 bytes\n" in text
    assert "... 19,992 more\n" in text
    assert text.endswith("layers.19999.weight  float32  (2, 3)  24 bytes")
    assert {"layers.0.weight", "layers.19999.weight", "float32", "... 19,800 more"} <= set(page.texts)
    assert page.texts.count("24 bytes") == 200


def test_a_short_record_is_spelled_as_a_dict() -> None:
    record = record_of(2)
    assert repr(record) == repr(dict(record))
    assert repr(RecordDict({"n": MetricRecord({"loss": 1})}).metric_records) == "{'n': {'loss': 1}}"
    assert "\n" in repr(record_of(100))


def test_long_values_are_cut() -> None:
    record = ConfigRecord(
        {"text": "x" * 10**6, "list": [0.5] * 10**6, "blob": b"\xff" * 10**6, "big": 1 << 10**6}
    )
    text, html = shown(record)
    page = require_inert(text, html)
    assert text.splitlines()[0] == "ConfigRecord: 4 configs"
    for ending in ("... 1,000,000 characters", "more]", "... 1,000,000 bytes", "<int of 1,000,001 bits>"):
        assert sum(line.endswith(ending) for line in text.splitlines()) == 1
        assert sum(cell.endswith(ending) for cell in page.texts) == 1


def test_many_records_are_counted() -> None:
    records = RecordDict({f"r{number}": MetricRecord({"loss": number}) for number in range(5000)})
    text, html = shown(records)
    page = require_inert(text, html)
    named = text.count("metrics 'r")
    assert named > 20
    assert text.endswith(f"... {5000 - named:,} more records")
    assert any(found.endswith("more records") for found in page.texts)


@pytest.mark.parametrize("name", ALL, ids=range(len(ALL)))
def test_hostile_names_and_values_are_text(name: str) -> None:
    array = Array(name, (2,), name, b"data")
    for thing in (
        array,
        ArrayRecord({name: array, "w": array}),
        ConfigRecord({name: name, "list": [name] * 3, "bytes": name.encode("utf-8", "replace")}),
        RecordSet({name: ArrayRecord({name: array})}, {name: MetricRecord({name: 1})}, {}),
        RecordDict({name: ConfigRecord({name: name})}),
        Context(1, 2, {name: name}, RecordDict({name: ConfigRecord({name: name})}), {"lr": name}),
    ):
        page = require_inert(*shown(thing))
        assert (
            middle_elided(name, 160) in page.texts
            or middle_elided(repr(name), 160) in page.texts
            or (len(name) > 50)
        )


def test_fifty_hostile_records_are_short_together() -> None:
    records = RecordDict({name: ConfigRecord(dict.fromkeys(ALL, name)) for name in ALL})
    assert len(ALL) >= 50
    require_inert(*shown(records))
    require_inert(*shown(records["<!-- comment"]))


def test_other_mappings_and_fields_are_shown() -> None:
    numbered: TypedDict[int, Any] = TypedDict(lambda key: None, lambda value: None)
    numbered.update({number: Array(np.zeros(1)) for number in range(1000)})
    assert "0    float64" in repr(numbered)
    odd = Context(1, 2, {}, "no records" * 1000, {})  # type: ignore[arg-type]
    require_inert(*shown(odd))
    assert repr(Context(1, 2, {}, RecordSet(), {"lr": 0.1})) == (
        "Context(run_id=1, node_id=2, node_config={}, state=RecordSet(parameters_records={}, "
        "metrics_records={}, configs_records={}), run_config={'lr': 0.1}, series_id=0)"
    )


def test_an_array_shows_no_element_as_html() -> None:
    page = require_inert(*shown(Array(np.full((2, 3), 7.25))))
    assert page.texts == [
        "Array",
        "dtype",
        "float64",
        "shape",
        "(2, 3)",
        "size",
        "48 bytes",
        "stype",
        "numpy.ndarray",
    ]


def test_attributes_are_shown_where_there_is_room() -> None:
    record = record_of(100)
    record.attributes["role"] = "weights"
    assert "attributes: {'role': 'weights'}\n" in repr(record)
