"""JSON of an index: what the parser takes beyond JSON is refused, and so is what nests too deep."""

from __future__ import annotations

import json
import random

import pytest

from archive.errors import StorageError
from archive.format.constants import MAX_NESTING
from archive.format.document import (
    SMALL_BYTES,
    TooLargeError,
    _is_shallow,
    encode_json,
    parse_json,
    require_decodable,
)
from archive.tuning import JSON_VARIABLE
from tests.heavy import HEAVY


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
        b"9" * 311,
        b"-" + b"9" * 1_000_000,
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


@pytest.mark.parametrize("name", HEAVY)
def test_what_takes_too_much_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is refused where it is long, and none that is as short as writers do not measure."""
    require_decodable(HEAVY[name](SMALL_BYTES).encode())
    monkeypatch.setenv(JSON_VARIABLE, str(48 << 17))
    with pytest.raises(TooLargeError, match="bytes of memory"):
        parse_json(HEAVY[name](20 << 17).encode())


def test_characters_of_strings_are_no_structure() -> None:
    """Quotes, brackets and backslashes in strings, also across the pieces that are measured."""
    text = '\\"[{,:]}"' * 60_000
    assert parse_json(json.dumps([text, "x" * 200_000, [text]]).encode()) == [text, "x" * 200_000, [text]]
    nested = b'["' + rb"\\\"]" * 50_000 + b'",' + b"[" * (MAX_NESTING - 1) + b"]" * MAX_NESTING
    parse_json(nested)
    with pytest.raises(ValueError, match="nests more than"):
        parse_json(b"[" + nested + b"]")


def test_the_environment_sets_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    content = [["key", ["float", 0.5]]] * 10_000
    monkeypatch.setenv(JSON_VARIABLE, "10000000")
    assert parse_json(encode_json(content)) == content
    monkeypatch.setenv(JSON_VARIABLE, "1000000")
    for action in (lambda: encode_json(content), lambda: parse_json(json.dumps(content).encode())):
        with pytest.raises(TooLargeError, match="more than 1,000,000 bytes"):
            action()
    monkeypatch.setenv(JSON_VARIABLE, "1G")
    with pytest.raises(StorageError, match=r"1G.*set it to a number"):
        parse_json(b"[]")


def test_characters_count_only_where_nobody_asked_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JSON_VARIABLE, "1000000")
    text = json.dumps("x" * 900_000).encode()
    assert len(parse_json(text, text_counts=False)) == 900_000
    with pytest.raises(TooLargeError):
        parse_json(text)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
def test_a_short_text_nests_no_deeper_than_a_long_one(opening: bytes, closing: bytes) -> None:
    levels = 2 if len(opening) > 5 else 1
    for brackets in ("", '"[[[", ', '"\\"[", '):  # a string between brackets, and one that is measured
        for depth in range(1, MAX_NESTING + 4):
            inside = brackets.encode() + b"1" if opening.endswith(b"[") else b"1"
            text = opening * depth + inside + closing * depth
            if depth * levels <= MAX_NESTING:
                parse_json(text)
            else:
                with pytest.raises(ValueError, match="nests more than"):
                    parse_json(text)


def test_a_text_that_is_shallow_is_measured_as_shallow() -> None:
    chosen = random.Random(7)
    shallow = 0
    for _ in range(20_000):
        text = bytes(chosen.choice(b'[]{}"""",1') for _ in range(chosen.randrange(1, 40)))
        if _is_shallow(text):
            shallow += 1
            assert require_decodable(text) <= MAX_NESTING
    assert shallow > 100
