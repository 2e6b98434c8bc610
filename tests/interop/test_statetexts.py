"""State as JSON in configs: the writer refuses what no reader would take."""

from __future__ import annotations

import json

import pytest

from archive.errors import HostileFileError, ValueRangeError
from archive.interop.statetexts import from_text, to_text
from archive.tuning import JSON_VARIABLE
from tests.heavy import HEAVY


def test_there_and_back() -> None:
    tree = {"a": [1, 0.5, None, "\u00e9\ud800"], "b": [[[]]] * 1000}
    assert from_text(to_text(tree, "k"), "p", "k") == tree


@pytest.mark.parametrize("name", ["nested lists", "keys", "numbers"])
def test_what_takes_too_much_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JSON_VARIABLE, "1000000")
    text = HEAVY[name](200_000)
    with pytest.raises(HostileFileError, match=f"p: 'k'.*{JSON_VARIABLE}"):
        from_text(text, "p", "k")
    with pytest.raises(ValueRangeError, match=f"'k'.*{JSON_VARIABLE}"):
        to_text(json.loads(text), "k")


@pytest.mark.parametrize("text", [None, 3, "", "{", "[" * 100_000])
def test_what_is_no_text_of_a_tree(text: object) -> None:
    with pytest.raises((TypeError, ValueError, RecursionError)):
        from_text(text, "p", "k")  # type: ignore[arg-type]
