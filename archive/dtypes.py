"""Element types: names, and the numpy and ml_dtypes types of these names.

An element type has two spellings. Its *name* is ``str(dtype)``, the text in Flower's ``Array.dtype``
(``"float32"``, ``">f4"``, ``"bfloat16"``). Its *npy type* is the type in a ``.npy`` file: there ml_dtypes
(bfloat16, fp8, ...) are void of their size, because ``np.load`` cannot name them.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import re
from typing import Any, cast

import numpy as np

from archive.errors import UnsupportedDtypeError

__all__ = [
    "NDArray",
    "dtype_name",
    "from_descr",
    "is_ml_dtype",
    "long_name",
    "npy_dtype",
    "parse_dtype",
    "parse_literal",
]

DType = np.dtype[Any]
NDArray = np.ndarray[Any, np.dtype[Any]]
"""An array of any shape and element type."""

MAX_NPY_HEADER = 1 << 17
"""Longest .npy header or dtype that is parsed: ast.literal_eval takes 460 bytes of memory and 3 us for each
byte of ``"[0,0,..."``."""

_ATTEMPTS = 100
"""Times that a literal is parsed: in Python 3.11 two threads that parse at once may get a SystemError."""

ML_DTYPES = frozenset(
    {
        "bfloat16",
        "float4_e2m1fn",
        "float6_e2m3fn",
        "float6_e3m2fn",
        "float8_e3m4",
        "float8_e4m3",
        "float8_e4m3b11fnuz",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
        "int1",
        "int2",
        "int4",
        "uint1",
        "uint2",
        "uint4",
    }
)
"""Names that are looked up in ml_dtypes; all but bfloat16 take one byte an element."""

_SHORT_NAMES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp64": "float64"}
"""Names that a caller may write; in a file they name no type."""
_UNSOUND_UNIT = re.compile(r"\[(?!(?:[1-9][0-9]*)?[A-Za-z]+\])")
_STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_CHAINED = re.compile(r"""[-+*/%@.<>=&|^~#]|[\w'")\]}]\s*[(\[{]|[fr]['"]""", re.IGNORECASE)
"""Operators, attributes, calls, subscripts, f-strings, comments: no type or header is spelled with them."""
_LONG = re.compile(r"(U?)[ +]*(-|[0-9]{9,})")
_MAX_ITEM_BYTES = (1 << 31) - 1
"""numpy's limit of one element; numpy 1 reads a longer one modulo 2**32, and ``S-5`` as -5 bytes."""


def dtype_name(dtype: DType) -> str:
    """Return the text of an element type in ``Array.dtype``: ``str(dtype)``, in ASCII.

    Examples
    --------
    >>> dtype_name(np.dtype("<f4")), dtype_name(np.dtype(">f4"))
    ('float32', '>f4')

    Raises
    ------
    TypeError
        Structured types nest by the hundreds.
    """
    # numpy takes some us to spell a type; equal structured types can be spelled differently
    is_plain = dtype.names is None and dtype.subdtype is None
    return _plain_name(dtype) if is_plain else _spelled(dtype)


def _spelled(dtype: DType) -> str:
    try:
        text = str(dtype)
    except RecursionError as error:
        raise TypeError("the members of a dtype nest too deep") from error
    # which characters numpy escapes depends on the Unicode of the Python; the same type has all escaped
    return text if text.isascii() else text.encode("ascii", "backslashreplace").decode()


_plain_name = functools.lru_cache(maxsize=1024)(_spelled)


def long_name(text: str) -> str:
    """Return the name of the element type that a caller wrote in short, or as torch shows it.

    Examples
    --------
    >>> long_name("bf16"), long_name("torch.float8_e4m3fn"), long_name("<f4")
    ('bfloat16', 'float8_e4m3fn', '<f4')
    """
    name = text.removeprefix("torch.")
    return _SHORT_NAMES.get(name, name)


def is_ml_dtype(dtype: DType) -> bool:
    """Return whether a type comes from ml_dtypes (numpy itself cannot name it)."""
    return plain_name(dtype) in ML_DTYPES


@functools.lru_cache(maxsize=1024)
def plain_name(dtype: DType) -> str:
    """Return ``dtype.name``, for which numpy takes some us.

    Examples
    --------
    >>> plain_name(np.dtype(">f4"))
    'float32'
    """
    return str(dtype.name)


@functools.lru_cache(maxsize=4096)
def parse_dtype(text: str) -> DType:
    """Return the numpy type that an ``Array.dtype`` text names.

    Parameters
    ----------
    text : str
        ``str(dtype)`` of any type without Python objects, structured ones included.

    Raises
    ------
    UnsupportedDtypeError
        The text names no type, or a type that holds Python objects.

    Examples
    --------
    >>> parse_dtype("[('a', '<i4'), ('b', '<f8', (2,))]").itemsize
    20
    """
    if text in ML_DTYPES:
        ml_dtypes = importlib.import_module("ml_dtypes")
        found = getattr(ml_dtypes, text, None)
        if found is None:
            raise UnsupportedDtypeError(
                f"dtype {text!r} needs a newer ml_dtypes", remedy="pip install --upgrade ml_dtypes"
            )
        return cast(DType, np.dtype(found))
    try:
        if not text or len(text) > MAX_NPY_HEADER:
            raise ValueError("empty or too long")
        spelled: Any = parse_literal(text) if text[0] in "[{(" else text
        _require_sound_numbers(spelled)
        dtype: DType = np.dtype(spelled)
    except (
        TypeError,
        ValueError,
        SyntaxError,
        RecursionError,
        MemoryError,
        KeyError,
        OverflowError,
    ) as error:
        raise UnsupportedDtypeError(f"{text[:80]!r} names no dtype") from error
    if dtype.hasobject:
        raise UnsupportedDtypeError(f"dtype {text[:80]!r} holds Python objects, which are never stored")
    return dtype


def parse_literal(text: str) -> Any:
    """Return what the text of a structured type or of a ``.npy`` header spells.

    `ast.literal_eval` would refuse ``1+1+1`` as well, but Python 3.10 first builds a tree as deep as the
    operators are many: on a thread with a small stack the process ends.

    Raises
    ------
    ValueError, SyntaxError, RecursionError, MemoryError
        The text is not a literal of names, numbers, lists, tuples and dicts.

    Examples
    --------
    >>> parse_literal("[('a', '<f4', (2,))]")
    [('a', '<f4', (2,))]
    """
    if _CHAINED.search(_STRING.sub("''", text)):
        raise ValueError(f"{text[:80]!r} is more than a literal")
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(SystemError):
            return ast.literal_eval(text)
    return ast.literal_eval(text)


def from_descr(descr: Any) -> DType:
    """Return the type that a ``.npy`` header's descr spells, taken apart by `parse_literal`.

    Raises
    ------
    ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError, MemoryError
        Whatever numpy raises for a descr that it does not know.
    """
    _require_sound_numbers(descr)
    return np.lib.format.descr_to_dtype(descr)


def _require_sound_numbers(spelled: Any) -> None:
    """Raise ValueError for numbers that numpy would take without a look.

    A multiple of 0, or any fraction, of a unit of time: numpy divides by them, in np.dtype("M8[s/0]") or when
    np.dtype("M8[0s]") is compared: SIGFPE. An element of less than 0 bytes, or of more than numpy's limit.
    """
    if isinstance(spelled, str):
        if _UNSOUND_UNIT.search(spelled):
            raise ValueError(f"{spelled[:80]!r} has no unit of time")
        for wide, number in _LONG.findall(spelled):
            if number == "-" or int(number) * (4 if wide else 1) > _MAX_ITEM_BYTES:
                raise ValueError(f"{spelled[:80]!r} has an element of no possible size")
    elif isinstance(spelled, dict):
        for key, part in spelled.items():
            if key not in ("names", "titles"):
                _require_sound_numbers(part)
    elif isinstance(spelled, list):
        for part in spelled:
            # a member's tuple begins with its name
            _require_sound_numbers(part[1:] if isinstance(part, tuple) else part)
    elif isinstance(spelled, tuple):
        for part in spelled:
            _require_sound_numbers(part)


def npy_dtype(dtype: DType) -> DType:
    """Return the type of these elements in a ``.npy``: void for ml_dtypes."""
    return np.dtype(f"V{dtype.itemsize}") if is_ml_dtype(dtype) else dtype
