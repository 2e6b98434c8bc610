"""Values as typed JSON: every legal one comes back with its type and bits."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from archive.format.document import parse_json
from archive.format.values import decode_value, encode_value, is_plain, validate_value

BORDERS = [n + d for n in (0, 1 << 53, 1 << 63, 1 << 64, -(1 << 53), -(1 << 63)) for d in (-1, 0, 1)]
LEGAL = [n for n in BORDERS if -(1 << 63) <= n < 1 << 64]
BEYOND = [*(n for n in BORDERS if n not in LEGAL), 10**5000, -(10**5000)]
DOUBLES = st.binary(min_size=8, max_size=8).map(lambda raw: struct.unpack("<d", raw)[0])
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
INTS = st.integers(-(1 << 63), (1 << 63) - 1)
SCALARS: list[st.SearchStrategy[Any]] = [
    INTS | st.integers(1 << 63, (1 << 64) - 1) | st.sampled_from(LEGAL),
    DOUBLES | st.floats(),
    TEXT | st.sampled_from(["", "\0", "a\0b\0"]),
    st.binary() | st.sampled_from([b"", b"\0\0"]),
    st.booleans(),
]
LISTS = [st.lists(strategy, max_size=5) for strategy in (INTS, *SCALARS[1:])]
MIXED = st.lists(INTS, min_size=1, max_size=3).map(lambda ints: [*ints, True, False])


def exact(value: Any) -> Any:
    """Return something that is equal only for equal types and bits."""
    if isinstance(value, list):
        return [exact(item) for item in value]
    return type(value), struct.pack("<d", value) if isinstance(value, float) else value


@given(st.one_of(*SCALARS, *LISTS, MIXED))
@example(struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0])
@example(struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000000))[0])
@example([-0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan])
@example([1, True])
@example([])
def test_there_and_back_through_json(value: Any) -> None:
    name = validate_value(value, metric=False)
    text = json.dumps(encode_value(value, name), allow_nan=False)
    assert exact(decode_value(json.loads(text))) == exact(value)


@pytest.mark.parametrize("metric", [False, True])
def test_scalars_of_other_libraries_lead_to_item(metric: bool) -> None:
    with pytest.raises(TypeError, match=r"or a list of one of them, not float32; convert it with \.item\(\)"):
        validate_value(np.float32(0.5), metric=metric)
    with pytest.raises(TypeError, match=r"or a list of one of them, not NoneType$"):
        validate_value(None, metric=metric)


@pytest.mark.parametrize("number", BEYOND, ids=range(len(BEYOND)))
def test_integers_beyond_64_bits(number: int) -> None:
    for value in (number, [1, number]):
        with pytest.raises(ValueError, match="64-bit"):
            validate_value(value, metric=True)


@pytest.mark.parametrize("value", [[-1, 1 << 63], [1 << 63, -1], [-(1 << 63), (1 << 64) - 1]])
def test_lists_that_no_one_type_holds(value: list[int]) -> None:
    with pytest.raises(ValueError, match="64-bit"):
        validate_value(value, metric=True)


@pytest.mark.parametrize(
    "value",
    [
        *(None, (1, 2), {"a": 1}, [[1]], [None], [1, 1.0], [True, 1], ["a", b"a"], 1j, range(3), object()),
        *(np.float32(1), np.int64(1), np.array(1.0), np.array([1.0]), [np.float32(1)], bytearray(b"x")),
    ],
)
def test_what_no_record_holds(value: Any) -> None:
    for metric in (True, False):
        with pytest.raises(TypeError, match=r"a value is|a list must hold one type|a metric is"):
            validate_value(value, metric=metric)


@pytest.mark.parametrize("value", [True, "a", b"b", [True], ["a"], [b"a"]])
def test_what_only_configs_hold(value: Any) -> None:
    assert validate_value(value, metric=False)
    with pytest.raises(TypeError, match="a metric is an int, a float"):
        validate_value(value, metric=True)


@pytest.mark.parametrize("value", ["\ud800", ["a", "\udfff"]])
def test_lone_surrogates(value: Any) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        validate_value(value, metric=False)


def test_numpy_doubles_are_floats_and_come_back_as_such() -> None:
    value = [np.float64(0.1), 2.0]
    assert validate_value(value, metric=True) == "floats"
    assert exact(decode_value(encode_value(value, "floats"))) == exact([0.1, 2.0])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
    | st.tuples(
        st.sampled_from(["int", "ints", "float", "floats", "str", "bytes", "bytess", "bool", "list"]),
        st.none() | st.integers() | st.text() | st.lists(st.integers() | st.text() | st.floats()),
    ).map(list)
)
def test_anything_decodes_to_a_legal_value_or_a_typed_error(encoded: Any) -> None:
    try:
        value = decode_value(encoded)
    except ValueError:
        return
    assert isinstance(value, (int, float, str, bytes, list))


@pytest.mark.must("VALUE-3", "VALUE-5", "VALUE-7", "VALUE-8")
@pytest.mark.parametrize(
    "encoded",
    [
        *(["int", payload] for payload in (True, 1.0, "5", "-0", 1 << 53, "9007199254740991", "01")),
        *(["int", str(number)] for number in (1 << 64, -(1 << 63) - 1)),
        *(["float", payload] for payload in (True, math.inf, -math.inf, math.nan, "Infinity", "1.0", "")),
        *(["float", bits] for bits in ("7FF8000000000001", "7ff8000000000000", "3ff0000000000000")),
        *(["bytes", payload] for payload in ("YQ", "YR==", "YQ==\n", " YQ==")),
        *([name, []] for name in ("ints", "floats", "strs", "bytess", "bools")),
    ],
)
def test_other_spellings_are_refused(encoded: Any) -> None:
    with pytest.raises(ValueError, match=r"int|float|bytes|list"):
        decode_value(encoded)


def test_numbers_are_floats_without_a_point() -> None:
    assert decode_value(["floats", [3, 1e2, -0.0]]) == [3.0, 100.0, 0.0]
    assert decode_value(["ints", [1, True, "9007199254740992"]]) == [1, True, 1 << 53]


@pytest.mark.parametrize("metric", [True, False])
def test_what_is_plain_is_what_the_long_way_says(metric: bool) -> None:
    payloads: list[Any] = [0, 0.0, -0.0, 1, 2**53 - 1, 2**53, -(2**53), 1e308, math.inf, math.nan, True, None]
    payloads += ["", "a", "é", "\ud800", "nan", "1", [], {}, [1], [1, 2.0], [1.0, math.inf], [True], ["a"]]
    payloads += [
        [1, True],
        [2**53],
        [-(2**53)],
        [1.5, 2.5],
        [[1]],
        [None],
        parse_json(b"-0"),
        parse_json(b"[-0]"),
    ]
    names = [
        "int",
        "float",
        "str",
        "bytes",
        "bool",
        "ints",
        "floats",
        "strs",
        "bools",
        "list",
        "x",
        1,
        None,
        [],
    ]
    plain = 0
    for name in names:
        for payload in payloads:
            if not is_plain([name, payload], metric):
                continue
            plain += 1
            decoded = decode_value([name, payload])
            assert repr(decoded) == repr(payload)
            assert validate_value(decoded, metric=metric) == name
    assert plain == (8 if metric else 13)
    for wrong in (None, "ab", ["int"], ["int", 1, 1], ("int", 1), {"int": 1, "a": 2}):
        assert not is_plain(wrong, metric)
