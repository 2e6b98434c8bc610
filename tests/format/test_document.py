"""JSON of an index: what the parser takes beyond JSON is refused, and so is what nests too deep."""

from __future__ import annotations

import json

import pytest

from archive.format.constants import MAX_NESTING
from archive.format.document import parse_json


@pytest.mark.must("INDEX-18")
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"NaN",
        b"[-Infinity]",
        b'{"a": 1, "a": 2}',
        b'[{"a": {"b": 1, "b": 1}}]',
        b'"\xff"',
        b'"\\ud800"',
        b'{"\\udc00": 1}',
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * (MAX_NESTING + 1) + b"]" * (MAX_NESTING + 1),
        b'["]]]]", ' * MAX_NESTING + b"{}" + b"]" * MAX_NESTING,
        b'"' + b'\\"' * 100_000,
    ],
)
def test_what_is_no_json(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_json(text)


@pytest.mark.must("INDEX-18")
@pytest.mark.parametrize(
    "found",
    [
        {},
        [],
        {"a": [1, 0.5, None, True, 'é\U0001f600"\\][']},
        [[]] * 1000,
        ["[" * 100, "{", '"['],
    ],
)
def test_what_is_json(found: object) -> None:
    for ascii_only in (True, False):
        assert parse_json(json.dumps(found, ensure_ascii=ascii_only, indent=1).encode()) == found
    assert parse_json(b"[" * MAX_NESTING + b"]" * MAX_NESTING)
