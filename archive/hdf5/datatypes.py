"""Datatype messages: how HDF5 describes the bytes of one element.

Each class as libhdf5 writes it for h5py with ``libver=("v108", "v110")``: version 1 for numbers, strings and
opaque, version 3 for compounds, enums and arrays. HDF5 File Format Specification, section IV.A.2.d ("The
Datatype Message").
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

__all__ = [
    "BFLOAT16",
    "MAX_ELEMENT_NBYTES",
    "UINT8",
    "UTF8_VLEN",
    "encode_datatype",
    "opaque",
    "utf8_fixed",
]

DType = np.dtype[Any]

_FIXED, _FLOAT, _STRING, _OPAQUE, _COMPOUND, _ENUM, _VLEN, _ARRAY = 0, 1, 3, 5, 6, 8, 9, 10
_BIG_ENDIAN = 0x01
MAX_ELEMENT_NBYTES = 0xFFFFFFFF
"""The size of an element is a 32-bit field."""

# itemsize: precision in bits, exponent at, exponent bits, mantissa bits, normalisation, exponent bias.
# Normalisation 2: the mantissa's top bit is implied; 0: it is stored (x86 extended precision).
_FLOATS = {
    2: (16, 10, 5, 10, 2, 15),
    4: (32, 23, 8, 23, 2, 127),
    8: (64, 52, 11, 52, 2, 1023),
    16: (80, 64, 15, 64, 0, 16383),
}
_X87_MANTISSA_BITS = 63
"""``np.finfo(longdouble).nmant`` where a 16-byte longdouble is the x86 type described above."""


def _header(version: int, kind: int, bits: int, nbytes: int) -> bytes:
    """Return the 8 bytes that every datatype starts with."""
    if nbytes > MAX_ELEMENT_NBYTES:
        raise TypeError(f"an element of {nbytes} bytes is larger than HDF5 can describe")
    return struct.pack("<II", version << 4 | kind | bits << 8, nbytes)


def _float(nbytes: int, big: bool, fields: tuple[int, int, int, int, int, int]) -> bytes:
    """Return a floating-point type of the given bit fields; the mantissa starts at bit 0."""
    precision, exponent_at, exponent_bits, mantissa_bits, normalisation, bias = fields
    bits = int(big) | normalisation << 4 | (precision - 1) << 8
    return _header(1, _FLOAT, bits, nbytes) + struct.pack(
        "<HHBBBBI", 0, precision, exponent_at, exponent_bits, 0, mantissa_bits, bias
    )


def _integer(nbytes: int, signed: bool, big: bool) -> bytes:
    """Return a fixed-point type that uses all its bits."""
    bits = int(big) | int(signed) << 3
    return _header(1, _FIXED, bits, nbytes) + struct.pack("<HH", 0, 8 * nbytes)


UINT8 = _integer(1, signed=False, big=False)
"""One unsigned byte."""

BFLOAT16 = _float(2, False, (16, 7, 8, 7, 2, 127))
"""bfloat16 by its true bit fields: equal to HDF5 2.0's own type, read as exact float32 by h5py."""

UTF8_VLEN = _header(1, _VLEN, 0x01 | 0x01 << 8, 16) + _integer(1, signed=False, big=False)
"""A variable-length UTF-8 string, byte for byte as h5py writes a ``str`` (type string, null-terminated;
an element is 16 bytes: length, heap collection and object). The base type is h5py's too: with it, and not
with a string base, libhdf5 names the type ``H5T_C_S1``."""


def utf8_fixed(width: int) -> bytes:
    """Describe UTF-8 text of a fixed width in bytes, at least 1, padded with NUL."""
    if width < 1:
        raise TypeError("HDF5 has no strings of width 0")
    return _header(1, _STRING, 0x01 | 0x01 << 4, width)


def opaque(size: int) -> bytes:
    """Describe elements of ``size`` bytes, at least 1, that HDF5 does not interpret.

    The tag is empty: libhdf5 converts no opaque type to one of another tag, so h5py reads no others.
    """
    if size < 1:
        raise TypeError("HDF5 has no opaque type of size 0")
    return _header(1, _OPAQUE, 0, size)


def encode_datatype(dtype: DType) -> bytes:
    """Return the body of a datatype message under which HDF5 tools show the values of a numpy type.

    Parameters
    ----------
    dtype : numpy.dtype
        Numbers of either byte order, bool (h5py's enum), complex (h5py's compound), ``S`` and ``V`` of
        at least one byte, ml_dtypes' bfloat16, and structured types of these.

    Raises
    ------
    TypeError
        h5py would show other values: object, ``U``, times, zero-width types, ml_dtypes but bfloat16.

    Examples
    --------
    >>> encode_datatype(np.dtype("<i2")).hex()
    '100800000200000000001000'
    """
    big = dtype.byteorder == ">" or (dtype.byteorder == "=" and not np.little_endian)
    if dtype.subdtype is not None:
        return _array(dtype)
    if dtype.fields is not None:
        return _structured(dtype)
    if dtype.name == "bfloat16":
        return BFLOAT16
    # ml_dtypes use the kinds f, V and i of numpy for types of their own
    if dtype.type.__module__ != "numpy":
        raise TypeError(f"HDF5 cannot show the values of {dtype}")
    match dtype.kind:
        case "b":
            return _BOOL
        case "i" | "u":
            return _integer(dtype.itemsize, dtype.kind == "i", big)
        case "f" if dtype.itemsize in _FLOATS:
            return _real(dtype.itemsize, big)
        case "c" if dtype.itemsize // 2 in _FLOATS:
            half = dtype.itemsize // 2
            part = _real(half, big)
            return _compound(dtype.itemsize, [(b"r", 0, part), (b"i", half, part)])
        case "S" if dtype.itemsize:
            return _header(1, _STRING, 0x01, dtype.itemsize)
        case "V" if dtype.itemsize:
            return opaque(dtype.itemsize)
    raise TypeError(f"HDF5 cannot show the values of {dtype}")


def _real(nbytes: int, big: bool) -> bytes:
    """Return numpy's floating-point type of a size."""
    if nbytes == 16 and (big or np.finfo(np.longdouble).nmant != _X87_MANTISSA_BITS):
        raise TypeError("only the little-endian x86 longdouble has an HDF5 description")
    return _float(nbytes, big, _FLOATS[nbytes])


def _compound(nbytes: int, members: list[tuple[bytes, int, bytes]]) -> bytes:
    """Return a version-3 compound: names end in one NUL, offsets are as wide as the size needs."""
    width = (nbytes.bit_length() + 7) // 8
    parts = [_header(3, _COMPOUND, len(members), nbytes)]
    for name, offset, datatype in members:
        parts += (name, b"\0", offset.to_bytes(width, "little"), datatype)
    return b"".join(parts)


def _structured(dtype: DType) -> bytes:
    """Return a structured type's compound; padding stays where numpy has it."""
    fields = dtype.fields
    if not fields or not dtype.itemsize:
        raise TypeError("HDF5 has no compound without members")
    if len(fields) > 0xFFFF:
        raise TypeError(f"a compound holds 65,535 members, not {len(fields)}")
    members = []
    end = 0
    # libhdf5 sorts members by offset in places; numpy may list them in any order, and overlapping
    for name in sorted(fields, key=lambda name: fields[name][1]):
        kind, offset = fields[name][:2]
        raw = name.encode("utf-8", "surrogatepass")
        if not raw or b"\0" in raw or "\ud800" <= max(name) <= "\udfff":
            raise TypeError(f"HDF5 cannot hold the field name {name!r}")
        if offset < end:
            raise TypeError(f"field {name!r} overlaps another")
        end = offset + kind.itemsize
        members.append((raw, offset, encode_datatype(kind)))
    return _compound(dtype.itemsize, members)


def _array(dtype: DType) -> bytes:
    """Return a version-3 array type for a subarray field."""
    base, shape = dtype.subdtype or (dtype, ())
    if len(shape) > 32 or 0 in shape:
        raise TypeError(f"HDF5 has no array type of shape {shape}")
    head = _header(3, _ARRAY, 0, dtype.itemsize)
    return head + struct.pack(f"<B{len(shape)}I", len(shape), *shape) + encode_datatype(base)


_BOOL = _header(3, _ENUM, 2, 1) + _integer(1, signed=True, big=False) + b"FALSE\0TRUE\0" + b"\x00\x01"
"""h5py's bool: an enumeration over int8."""
