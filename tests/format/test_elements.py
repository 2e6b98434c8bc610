"""Element types as the index spells them, and text as fixed-width UTF-8."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.format.constants import MODE_DATA, MODE_ELEMENTS, MODE_TEXT
from archive.format.elements import ArrayType, pack_text, stored_dtype, text_width, unpack_text

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)


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
        np.ndarray((0,), "U0"),
        np.empty((0, 1 << 53), "U8"),
        np.array([0x110000, 65], "<u4").view("<U1"),
        np.array(["a"], "U10000"),
    ],
)
def test_text_that_utf_8_of_fixed_width_does_not_hold(array: np.ndarray) -> None:
    assert text_width(array) is None


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 1 << 50)])
def test_empty_text_is_as_wide_as_its_characters(shape: tuple[int, ...]) -> None:
    array = np.empty(shape, ">U8")
    assert text_width(array) == 8
    again = unpack_text(pack_text(array, 8), array.dtype)
    assert (again.dtype, again.shape) == (array.dtype, shape)


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
