"""Element types as the index spells them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from archive.descriptions import describe_dtype, parse_description
from archive.dtypes import dtype_name, parse_dtype
from archive.errors import UnsupportedDtypeError
from archive.npy import npy_header


@given(hnp.scalar_dtypes() | hnp.array_dtypes(subtype_strategy=hnp.scalar_dtypes()))
def test_every_plain_type_comes_back(dtype: np.dtype) -> None:
    text = describe_dtype(dtype)
    assert parse_description(text) == dtype
    assert parse_description(text).str == dtype.str


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "float4_e2m1fn"])
def test_ml_types_come_back(name: str) -> None:
    if not hasattr(ml_dtypes, name):
        pytest.skip(f"this ml_dtypes has no {name}")
    dtype = np.dtype(getattr(ml_dtypes, name))
    assert describe_dtype(dtype) == name
    assert parse_description(name) == dtype


@pytest.mark.parametrize(
    "text", ["O", "[('a', 'O')]", "('<f4', (3,))", "(3,)f4", "", "float17", "[", "5", "[(1, 2)]"]
)
def test_what_names_no_element_type(text: str) -> None:
    with pytest.raises(ValueError, match="is unknown"):
        parse_description(text)


@pytest.mark.parametrize("name", ["complex32", "bcomplex32"])
@pytest.mark.parametrize("member", [False, True])
def test_ml_types_that_the_format_has_no_name_for(name: str, member: bool) -> None:
    if not hasattr(ml_dtypes, name):
        pytest.skip(f"this ml_dtypes has no {name}")
    kind = getattr(ml_dtypes, name)
    with pytest.raises(UnsupportedDtypeError, match=f"no archive holds the type {name} of ml_dtypes"):
        describe_dtype(np.dtype([("a", kind)]) if member else np.dtype(kind))


@pytest.mark.must("DTYPE-2")
@pytest.mark.parametrize("inner", [("b", ml_dtypes.bfloat16), ("b", [("c", ml_dtypes.float8_e5m2, (2,))])])
def test_ml_types_are_no_members(inner: Any) -> None:
    with pytest.raises(UnsupportedDtypeError, match="as the member") as caught:
        describe_dtype(np.dtype([("a", "f4"), inner]))
    assert caught.value.remedy == "save each member as an array of its own"


ONE_SPELLING = [
    (
        "[('a', '<f4')]",
        ["[('a','<f4')]", "[('a', '<f4'), ]", "[('a', '<f4'),]", "[(\"a\", '<f4')]", " [('a', '<f4')]"],
    ),
    (
        "[('a', '<f4', (2,))]",
        ["[('a', '<f4', (2))]", "[('a', '<f4', 2)]", "[('a', '<f4', (02,))]", "[('a', '<f4', (2, ))]"],
    ),
    (
        "[('a', '|i1')]",
        ["[('a', '<i1')]", "[('a', 'i1')]", "[('a', 'int8')]", "[('a', '=i1')]", "[('\\x61', '|i1')]"],
    ),
    (
        "[('\\xe9', '|i1')]",
        ["[('\u00e9', '|i1')]", "[('\\u00e9', '|i1')]", "[('\\xE9', '|i1')]", "[('\\351', '|i1')]"],
    ),
    ("[('\\x0a', '|i1')]", ["[('\\n', '|i1')]", "[('\n', '|i1')]", "[('\\u000a', '|i1')]"]),
    ("[('\\'', '|i1')]", ["[(\"'\", '|i1')]", "[('\\x27', '|i1')]"]),
    ("[('\"', '|i1')]", ["[('\\\"', '|i1')]", "[('\\x22', '|i1')]"]),
    ("[('\\ud83d\\ude00', '|i1')]", ["[('\\U0000d83d\\ude00', '|i1')]"]),
    (
        "[('\\U0001f600', '|i1')]",
        ["[('\U0001f600', '|i1')]", "[('\\U0001F600', '|i1')]", "[('\\U00110000', '|i1')]"],
    ),
    ("<M8[25s]", ["<M8[025s]", "<M8[1s]", "<M8[0s]", "<M8[ s]", "<M8[25S]", "<M8[2147483648s]", "M8[25s]"]),
    ("|S12", ["S12", "|S012", "<S12", "|S-1", "|S+1", "|S\u0661", "|S2147483648", "|S12 "]),
]


@pytest.mark.must("DTYPE-1")
@pytest.mark.parametrize(("text", "others"), ONE_SPELLING, ids=range(len(ONE_SPELLING)))
def test_each_type_has_one_spelling(text: str, others: list[str]) -> None:
    assert describe_dtype(parse_description(text)) == text
    for other in others:
        with pytest.raises(ValueError, match="is unknown"):
            parse_description(other)


MALFORMED = [
    *("[('', '<f4', (2,))]", "[('', '|V4', (2,))]", "[(('a', ''), '|V4')]", "[('', '|V0')]"),
    *("[('', '|V4'), ('', '|V4')]", "[('a', '<f4'), ('a', '<f4')]", "[(('a', 'b'), '|i1'), ('a', '|i1')]"),
    *(
        "[(('a', 'a'), '|i1')]",
        "[('a', '<f4', ())]",
        "[('a', '<f4', (-1,))]",
        "[('a', '<f4'",
        "[('a', '<f4')]]",
    ),
    *("[('a', ('<f4', (2,)))]", "[('a', 'bfloat16')]", "[('a', '|S2147483647'), ('b', '|i1')]"),
    *(
        "[('a', '<f4', (1073741824,))]",
        "[('a', '|V2', (99999999999,))]",
        "[('a', '|V0', (" + "9" * 5000 + ",))]",
    ),
    "[('a', '|i1', (" + ", ".join("1" * 33) + "))]",
    "[('a', " * 33 + "'|i1'" + ")]" * 33,
    "[('a', " * 5000,
    *("[('a', [], (2147483648,))]", "[('a', '|S0', (2,))]", "[('a', '<U0', (0,))]", "[('a', '|V0', (1, 1))]"),
]


@pytest.mark.must("DTYPE-1", "DTYPE-13", "DTYPE-12")
@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_structures(text: str) -> None:
    with pytest.raises(ValueError, match="is unknown"):
        parse_description(text)


@pytest.mark.must("DTYPE-12")
def test_the_largest_and_the_deepest_structure() -> None:
    text = "[('a', '|i1', (" + ", ".join("1" * 32) + "))]"
    assert parse_description(text).itemsize == 1
    text = "[('a', " * 32 + "'|i1'" + ")]" * 32
    assert parse_description(text).itemsize == 1
    assert parse_description("[('a', '|S2147483647')]").itemsize == 2**31 - 1
    assert parse_description("[('a', '|i1', (2147483647, 0)), ('b', [], (2147483647,))]").itemsize == 0


NOT_STORED = [
    (
        np.dtype({"names": ["a", "b"], "formats": ["<i4", "<i4"], "offsets": [0, 2]}),
        "overlap or are out of order",
    ),
    (
        np.dtype({"names": ["a", "b"], "formats": ["<i4", "<i4"], "offsets": [4, 0]}),
        "overlap or are out of order",
    ),
    (np.dtype([((1, "a"), "<i4")]), "title that is no text"),
    (np.dtype({"names": [""], "formats": [("<i4", (2,))]}), "a subarray without a name"),
    (np.dtype({"names": [""], "formats": ["V3"]}), "padding with a shape or a title"),
]


@pytest.mark.must("DTYPE-11")
@pytest.mark.parametrize(("dtype", "problem"), NOT_STORED, ids=range(len(NOT_STORED)))
def test_structures_without_a_description(dtype: np.dtype[Any], problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        describe_dtype(dtype)


def odd_names(count: int) -> Iterator[str]:
    """Return names of any code points, half of them below U+0300; the same under every Python."""
    draw = random.Random(1129)
    for _ in range(count):
        yield "".join(chr(draw.randrange(draw.choice((0x110000, 0x300)))) for _ in range(3))


@pytest.mark.must("DTYPE-1")
@pytest.mark.parametrize(
    ("count", "digest"),
    [
        (500, "30300b670112f917b0e8aee298539065712133531fe3f924ac1dd4cc193a930b"),
        pytest.param(
            20_000, "6ab6d44264306bb27190452bfbc06df86a39ab91cedaaf7c9151cfbb70cd5221", marks=pytest.mark.slow
        ),
    ],
)
def test_descriptions_and_headers_do_not_depend_on_the_python(count: int, digest: str) -> None:
    """What is printable differs between Unicode 14 (Python 3.11) and 15: Array.data differed."""
    spelled = hashlib.sha256()
    for name in odd_names(count):
        dtype = np.dtype([(name, "<f4"), ("other", "|u1")])
        text = describe_dtype(dtype)
        assert parse_description(text) == dtype
        assert parse_dtype(dtype_name(dtype)) == dtype
        spelled.update(npy_header(dtype, (3,)) + text.encode("ascii") + dtype_name(dtype).encode("ascii"))
    assert spelled.hexdigest() == digest
