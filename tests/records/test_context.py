"""Context: a plain dataclass over either container."""

import copy
import pickle
from dataclasses import fields
from typing import Any

import pytest

from archive.records import ConfigRecord, Context, RecordDict, RecordSet


@pytest.mark.parametrize("state", [RecordSet({}, {}, {"c": ConfigRecord({"a": 1})}), RecordDict()])
def test_holds_what_it_is_given(state: Any) -> None:
    context = Context(1, 2, {"partition": 3}, state, {"lr": 0.1})
    assert context.state is state
    assert context == Context(
        run_id=1, node_id=2, node_config={"partition": 3}, state=state, run_config={"lr": 0.1}
    )
    assert context != Context(9, 2, {"partition": 3}, state, {"lr": 0.1})
    assert pickle.loads(pickle.dumps(context)) == context
    assert copy.deepcopy(context) == context
    with pytest.raises(TypeError):
        hash(context)


def test_fields_in_order() -> None:
    assert [field.name for field in fields(Context)] == [
        "run_id",
        "node_id",
        "node_config",
        "state",
        "run_config",
        "series_id",
    ]


def test_state_may_be_assigned() -> None:
    context = Context(1, 2, {}, RecordSet(), {})
    context.state = RecordDict()
    assert context.state == {}
