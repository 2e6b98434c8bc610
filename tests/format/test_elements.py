"""Element types as the index spells them, and text as fixed-width UTF-8."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from archive.errors import UnsupportedDtypeError
from archive.format.constants import MODE_DATA, MODE_ELEMENTS, MODE_TEXT
from archive.format.elements import (
    ArrayType,
    describe_dtype,
    pack_text,
    parse_description,
    stored_dtype,
    text_width,
    unpack_text,
)

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)


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


@given(st.lists(TEXT, min_size=1, max_size=6), st.sampled_from("<>"))
def test_text_there_and_back(texts: list[str], order: str) -> None:
    array = np.array(texts, f"{order}U{max(map(len, texts)) or 1}")
    width = text_width(array)
    assert width == max(1, *(len(text.encode()) for text in array.tolist()))
    packed = pack_text(array, width)
    assert packed.dtype == np.dtype(f"S{width}")
    again = unpack_text(packed, array.dtype)
    assert again.dtype == array.dtype
    assert again.tolist() == array.tolist()


@pytest.mark.parametrize(
    "array",
    [
        np.array(["a\0b"]),
        np.array(["\ud800"]),
        np.array([], "U3"),
        np.array([0x110000, 65], "<u4").view("<U1"),
        np.array(["a"], "U10000"),
    ],
)
def test_text_that_utf_8_of_fixed_width_does_not_hold(array: np.ndarray) -> None:
    assert text_width(array) is None


def test_text_that_is_hostile() -> None:
    with pytest.raises(ValueError, match="not UTF-8"):
        unpack_text(np.array([b"\xff"]), np.dtype("U1"))
    with pytest.raises(ValueError, match="longer than its type"):
        unpack_text(np.array([b"abc"]), np.dtype("U1"))


@pytest.mark.parametrize(
    ("description", "mode", "itemsize"),
    [
        ("<f4", MODE_ELEMENTS, 8),
        ("<f4", MODE_TEXT, 4),
        ("<U3", MODE_TEXT, 0),
        ("<U3", MODE_TEXT, 13),
        ("<U3", MODE_TEXT, 1 << 62),
        ("<U999999", MODE_TEXT, 3),
        ("<f4", 3, 4),
        ("O", MODE_ELEMENTS, 8),
    ],
)
def test_types_that_contradict_themselves(description: str, mode: int, itemsize: int) -> None:
    with pytest.raises(ValueError, match=r"elements|of .* bytes|storage mode|is unknown"):
        stored_dtype(ArrayType("x", "numpy.ndarray", description, mode, itemsize))


def test_stored_types() -> None:
    assert stored_dtype(ArrayType("", "", "<f4", MODE_DATA, 1)) == np.uint8
    assert stored_dtype(ArrayType("", "", "<U3", MODE_TEXT, 7)) == np.dtype("S7")
    assert stored_dtype(ArrayType("", "", "<f4", MODE_ELEMENTS, 4)) == np.dtype("<f4")
