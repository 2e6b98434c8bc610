"""Headers of safetensors files: JSON that says which tensor lies where."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import numpy as np

from archive.dtypes import parse_dtype
from archive.errors import HostileFileError, TruncatedError, UnsupportedDtypeError
from archive.format.constants import MAX_RANK
from archive.storage.protocols import Source

__all__ = [
    "MAX_HEADER_BYTES",
    "ORDER",
    "PACKED",
    "SPELLED",
    "element_type",
    "header_of",
    "parse_json",
    "parse_tensor",
    "refuse",
    "require_gapless",
]

MAX_HEADER_BYTES = 32 << 20
"""Longest header that is parsed, some 250,000 tensors: as Python objects it takes ten times that."""
DTYPES = {
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
    "C64": "complex64",
    "F32": "float32",
    "U32": "uint32",
    "I32": "int32",
    "BF16": "bfloat16",
    "F16": "float16",
    "U16": "uint16",
    "I16": "int16",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
"""Element types by their names in a header, in the order in which the package writes tensors."""
SPELLED = {name: spelled for spelled, name in DTYPES.items()}
ORDER = {name: number for number, name in enumerate(SPELLED)}
PACKED = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
"""Bits of an element of types that an archive holds by the byte alone."""


def header_of(source: Source) -> tuple[dict[str, Any], int]:
    """Return the header of a file, and where its elements begin."""
    if source.nbytes < 8:
        raise TruncatedError(
            f"{source.nbytes} bytes are no safetensors file", path=source.path, remedy=_AGAIN
        )
    length = int.from_bytes(source.read(0, 8).tobytes(), "little")
    if length > MAX_HEADER_BYTES:
        refuse(source, f"a header of {length} bytes")
    if 8 + length > source.nbytes:
        raise TruncatedError(
            f"a header of {length} bytes in a file of {source.nbytes}", path=source.path, remedy=_AGAIN
        )
    return parse_json(source, source.read(8, length).tobytes()), 8 + length


def parse_json(source: Source, text: bytes) -> dict[str, Any]:
    """Return a JSON object, no name of which occurs twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name twice")
        return found

    try:
        found = json.loads(text.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise HostileFileError(
            f"a header that is no JSON: {error}", path=source.path, remedy=_AGAIN
        ) from error
    if not isinstance(found, dict):
        refuse(source, "a header that is no object")
    return found


Tensor = tuple[str, str, tuple[int, ...], int, int]


def parse_tensor(source: Source, name: str, found: Any) -> Tensor:
    """Return name, type, shape and range of a tensor of a header."""
    if not isinstance(found, dict) or found.keys() != {"dtype", "shape", "data_offsets"}:
        refuse(source, "a tensor without dtype, shape and data_offsets", name)
    spelled, shape, offsets = found["dtype"], found["shape"], found["data_offsets"]
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [None]
    if not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers) or len(offsets) != 2:
        refuse(source, "a shape or offsets that are no lengths", name)
    if not isinstance(spelled, str) or (spelled not in DTYPES and spelled not in PACKED):
        raise UnsupportedDtypeError(
            f"elements of type {str(spelled)[:40]!r}",
            path=source.path,
            key=name[:80],
            remedy="upgrade fedarchive",
        )
    if len(shape) > MAX_RANK:  # their product alone would take hours
        refuse(source, f"{len(shape)} axes", name)
    bits = PACKED.get(spelled) or 8 * element_type(spelled, name).itemsize
    begin, end = offsets
    if begin > end or math.prod(shape) * bits != 8 * (end - begin):
        refuse(source, f"{end - begin} bytes for {spelled} of shape {str(tuple(shape))[:80]}", name)
    return name, spelled, tuple(shape), begin, end


def element_type(spelled: str, name: str) -> np.dtype[Any]:
    """Return the type that a header names; the installed ml_dtypes may lack it."""
    try:
        return parse_dtype(DTYPES[spelled])
    except UnsupportedDtypeError as error:  # this ml_dtypes is too old
        raise UnsupportedDtypeError(error.problem, key=name, remedy=error.remedy) from error


def require_gapless(source: Source, tensors: list[Tensor], nbytes: int) -> None:
    """Raise unless tensors follow one another and end with the file, as the format wants it."""
    position = 0
    for name, _, _, begin, end in tensors:
        if begin != position:
            refuse(source, f"elements that begin at {begin}, and not after those before, at {position}", name)
        position = end
    if position > nbytes:
        raise TruncatedError(
            f"{nbytes} bytes of elements, its header says {position}", path=source.path, remedy=_AGAIN
        )
    if position < nbytes:
        refuse(source, f"{nbytes - position} bytes after the last tensor")


_AGAIN = "take another copy"


def refuse(source: Source, problem: str, name: str | None = None) -> NoReturn:
    """Raise HostileFileError."""
    key = None if name is None else name[:80]
    raise HostileFileError(f"not a safetensors file: {problem}", path=source.path, key=key, remedy=_AGAIN)
