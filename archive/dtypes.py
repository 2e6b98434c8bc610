"""Element types: names, the numpy and ml_dtypes types of these names, and .npy headers.

An element type has two spellings. Its *name* is ``str(dtype)``, the text in Flower's ``Array.dtype``
(``"float32"``, ``">f4"``, ``"bfloat16"``). Its *npy type* is the type in a ``.npy`` file: there ml_dtypes
(bfloat16, fp8, ...) are void of their size, because ``np.load`` cannot name them.
"""

from __future__ import annotations

import ast
import functools
import importlib
import math
import re
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from archive.errors import UnsupportedDtypeError

__all__ = [
    "NDArray",
    "NpyLayout",
    "dtype_name",
    "from_descr",
    "is_ml_dtype",
    "npy_dtype",
    "npy_header",
    "parse_dtype",
    "parse_literal",
    "split_npy",
]

DType = np.dtype[Any]
NDArray = np.ndarray[Any, np.dtype[Any]]
"""An array of any shape and element type."""

NPY_MAGIC = b"\x93NUMPY"
_NPY_VERSIONS = (b"\1\0", b"\2\0", b"\3\0")
MAX_NPY_HEADER = 1 << 17
"""Longest .npy header or dtype that is parsed: ast.literal_eval takes 460 bytes of memory and 3 us for each
byte of ``"[0,0,..."``."""

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

# numpy pads the header so that the growing axis can be rewritten in place up to this many digits
# (numpy/lib/format.py, GROWTH_AXIS_MAX_DIGITS since 1.23); the bytes of np.save depend on it
_GROWTH_DIGITS = 21
_ALIGN = 64
_UNSOUND_UNIT = re.compile(r"\[(?!(?:[1-9][0-9]*)?[A-Za-z]+\])")
_STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_CHAINED = re.compile(r"""[-+*/%@.<>=&|^~#]|[\w'")\]}]\s*[(\[{]|[fr]['"]""", re.IGNORECASE)
"""Operators, attributes, calls, subscripts, f-strings, comments: no type or header is spelled with them."""
_LONG = re.compile(r"(U?)[ +]*(-|[0-9]{9,})")
_MAX_ITEM_BYTES = (1 << 31) - 1
"""numpy's limit of one element; numpy 1 reads a longer one modulo 2**32, and ``S-5`` as -5 bytes."""


def dtype_name(dtype: DType) -> str:
    """Return the text of an element type in ``Array.dtype``.

    Examples
    --------
    >>> dtype_name(np.dtype("<f4")), dtype_name(np.dtype(">f4"))
    ('float32', '>f4')

    Raises
    ------
    TypeError
        Structured types nest by the hundreds.
    """
    try:
        return str(dtype)
    except RecursionError as error:
        raise TypeError("the members of a dtype nest too deep") from error


def is_ml_dtype(dtype: DType) -> bool:
    """Return whether a type comes from ml_dtypes (numpy itself cannot name it)."""
    return dtype.name in ML_DTYPES


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


def npy_header(dtype: DType, shape: tuple[int, ...], fortran_order: bool = False) -> bytes:
    """Return the header that ``np.save`` writes before such an array, byte for byte.

    Not left to numpy, so that the bytes do not depend on the numpy that reads an archive; a test compares
    with ``np.save``.

    Examples
    --------
    >>> npy_header(np.dtype("<f4"), (2, 3))[10:59]
    b"{'descr': '<f4', 'fortran_order': False, 'shape':"
    """
    text, version = _header_text(dtype, tuple(shape), bool(fortran_order))
    body = text.encode("latin1" if version < 3 else "utf-8")
    return NPY_MAGIC + bytes([version, 0]) + len(body).to_bytes(2 if version == 1 else 4, "little") + body


@functools.lru_cache(maxsize=4096)
def _header_text(dtype: DType, shape: tuple[int, ...], fortran_order: bool) -> tuple[str, int]:
    """Return header text, padding included, and format version (1, 2 or 3)."""
    if is_ml_dtype(dtype):
        descr: Any = f"<V{dtype.itemsize}"
    else:
        descr = np.lib.format.dtype_to_descr(dtype)
    text = f"{{'descr': {descr!r}, 'fortran_order': {fortran_order}, 'shape': {shape!r}, }}"
    if shape:
        text += " " * (_GROWTH_DIGITS - len(repr(shape[-1 if fortran_order else 0])))
    try:
        length, version = len(text.encode("latin1")) + 1, 1
    except UnicodeEncodeError:
        length, version = len(text.encode()) + 1, 3
    start = len(NPY_MAGIC) + 2
    pad = _ALIGN - (start + 2 + length) % _ALIGN
    if version == 1 and length + pad >= 1 << 16:
        version = 2
    if version > 1:
        pad = _ALIGN - (start + 4 + length) % _ALIGN
    return text + " " * pad + "\n", version


@dataclass(frozen=True, slots=True)
class NpyLayout:
    """The fields of a ``.npy`` header."""

    dtype: DType
    """Element type in the header (void for ml_dtypes)."""
    shape: tuple[int, ...]
    """Shape of the array."""
    fortran_order: bool
    """Whether the elements are in column-major order."""
    header_bytes: int
    """Offset of the elements."""


def split_npy(data: bytes | memoryview, *, exact: bool = True) -> NpyLayout:
    """Read the header of a ``.npy`` without loading its elements, and without pickle.

    Parameters
    ----------
    data : bytes or memoryview
    exact : bool, default True
        False allows more bytes after the ``.npy``, as `numpy.load` does.

    Raises
    ------
    ValueError
        ``data`` is not exactly one ``.npy`` of a type without Python objects: wrong magic or header,
        or more or fewer bytes than dtype and shape need.
    """
    head = bytes(data[:12])
    if len(head) < 12 or head[:6] != NPY_MAGIC or head[6:8] not in _NPY_VERSIONS:
        raise ValueError("not a .npy")
    width = 2 if head[6] == 1 else 4
    length = int.from_bytes(head[8 : 8 + width], "little")
    start = 8 + width + length
    if length > MAX_NPY_HEADER or start > len(data):
        raise ValueError("the .npy header is longer than its bytes")
    try:
        text = bytes(data[8 + width : start]).decode("utf-8" if head[6] == 3 else "latin1")
        fields = parse_literal(text.strip())
        shape, fortran = fields["shape"], fields["fortran_order"]
        dtype = from_descr(fields["descr"])
    except (TypeError, ValueError, SyntaxError, RecursionError, MemoryError, KeyError, IndexError) as error:
        raise ValueError("the .npy header cannot be read") from error
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 1 << 63 for n in shape):
        raise ValueError("the .npy shape is not a tuple of lengths")
    if not isinstance(fortran, bool) or len(fields) != 3:
        raise ValueError("the .npy header has unknown fields")
    if dtype.hasobject:
        raise ValueError("the .npy holds pickled objects, and allow_pickle is False")
    needed = math.prod(shape) * dtype.itemsize
    if len(data) - start < needed or (exact and len(data) - start > needed):
        raise ValueError("the .npy has more or fewer bytes than its shape")
    return NpyLayout(dtype, shape, fortran, start)
