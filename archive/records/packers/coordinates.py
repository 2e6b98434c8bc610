"""One sparse tensor as a record: values, indices axis by axis, and their description for binsparse.

The indices of each axis are kept in the smallest unsigned type that its length allows. Measured on a
float32 tensor of shape (512, 256, 3, 3) with 10 % of its elements: 0.23 of the dense size, against 0.90
with the int64 of the packed list.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from archive.dtypes import parse_dtype
from archive.errors import UnsupportedDtypeError
from archive.records.arrayrecord import ArrayRecord
from archive.records.packers.lists import NDArray
from archive.records.packers.named import elements, is_fortran, pack_record

__all__ = ["coordinates_to_record", "record_to_coordinates", "validate_coordinates"]

BINSPARSE_VERSION: Final = "0.1.0"
_BINSPARSE_TYPES: Final = {
    name: name
    for name in (
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float32", "float64"),
    )
} | {"bool": "bint8"}


def validate_coordinates(position: int, values: NDArray, indices: NDArray, shape: NDArray) -> None:
    """Check that values, indices and shape belong to one tensor.

    Raises
    ------
    TypeError
        Indices or shape are not integers.
    ValueError
        Their shapes do not match.
    """
    for what, array in (("indices", indices), ("shape", shape)):
        if array.dtype.kind not in "iu":
            raise TypeError(f"tensor {position}: {what} must be integers, but dtype {array.dtype} was found")
    axes = shape.size
    if values.ndim != 1 or shape.ndim != 1 or not axes or indices.shape != (values.size, axes):
        raise ValueError(
            f"tensor {position}: values (n,), indices (n, axes) and shape (axes,) must match, "
            f"but found values {values.shape}, indices {indices.shape} and shape {shape.shape}"
        )


def coordinates_to_record(
    packer: str, position: int, values: NDArray, indices: NDArray, shape: NDArray
) -> ArrayRecord:
    """Return a record with ``values`` and ``indices_0``, ``indices_1``, ...

    Raises
    ------
    ValueError
        A length is negative, or an index is outside the shape.

    Examples
    --------
    >>> record = coordinates_to_record("P", 0, np.float32([5]), np.array([[2, 300]]), np.array([4, 512]))
    >>> {key: array.dtype for key, array in record.items()}
    {'values': 'float32', 'indices_0': 'uint8', 'indices_1': 'uint16'}
    """
    lengths: list[int] = shape.tolist()
    if min(lengths) < 0:
        raise ValueError(f"tensor {position}: lengths must not be negative, but shape {lengths} was found")
    columns = []
    for axis, length in enumerate(lengths):
        column = indices[:, axis]
        if column.size and (int(column.min()) < 0 or int(column.max()) >= length):
            raise ValueError(
                f"tensor {position}: indices of axis {axis} must be from 0 to {length - 1}, "
                f"but {int(column.min())} to {int(column.max())} were found"
            )
        columns.append(column.astype(np.min_scalar_type(max(length - 1, 0))))
    names = ["values", *(f"indices_{axis}" for axis in range(len(columns)))]
    arrays = [values, *columns]
    attributes: dict[str, Any] = {
        "position": position,
        "shape": lengths,
        "shape_dtype": str(shape.dtype),
        "indices_dtype": str(indices.dtype),
        "indices_order": "F" if is_fortran(indices) else "C",
    }
    header = _binsparse_header(lengths, names, arrays)
    if header is not None:
        attributes["binsparse"] = json.dumps({"binsparse": header})
    return pack_record(packer, "sparse_tensor", names, arrays, **attributes)


def record_to_coordinates(position: int, record: ArrayRecord) -> tuple[NDArray, NDArray, NDArray]:
    """Return values, indices and shape as they were packed.

    Raises
    ------
    TypeError, ValueError
        Attributes and arrays of the record do not match.
    """
    attributes = record.attributes
    lengths = attributes.get("shape")
    if not isinstance(lengths, list) or not lengths or not all(type(n) is int for n in lengths):
        raise ValueError(f"tensor {position}: shape must be a list of lengths, but {lengths!r} was found")
    shape = np.array(lengths, _integer_dtype(position, attributes.get("shape_dtype")))
    dtype = _integer_dtype(position, attributes.get("indices_dtype"))
    order = attributes.get("indices_order")
    if order not in ("C", "F"):
        raise ValueError(f"tensor {position}: indices_order must be 'C' or 'F', but {order!r} was found")
    values, *columns = elements(record, ["values", *(f"indices_{axis}" for axis in range(len(lengths)))])
    for axis, column in enumerate(columns):
        if column.shape != values.shape or column.dtype.kind != "u":
            raise ValueError(
                f"tensor {position}: indices_{axis} must be unsigned and as many as the values, "
                f"but {column.dtype} {column.shape} was found for values {values.shape}"
            )
    indices = np.empty((len(values), len(columns)), dtype, order="F" if order == "F" else "C")
    for axis, column in enumerate(columns):
        indices[:, axis] = column
    validate_coordinates(position, values, indices, shape)
    return values, indices, shape


def _integer_dtype(position: int, name: object) -> np.dtype[Any]:
    try:
        dtype = parse_dtype(name) if isinstance(name, str) else None
    except UnsupportedDtypeError:
        dtype = None
    if dtype is None or dtype.kind not in "iu":
        raise ValueError(f"tensor {position}: an integer dtype must be named, but {name!r} was found")
    return dtype


def _binsparse_header(
    lengths: list[int], names: Sequence[str], arrays: Sequence[NDArray]
) -> dict[str, Any] | None:
    """Return the descriptor for binsparse; None where binsparse lacks the type of the values or the order."""
    data_types = {
        name: _BINSPARSE_TYPES.get(array.dtype.name) for name, array in zip(names, arrays, strict=True)
    }
    if None in data_types.values() or not _strictly_ascending(arrays[1:]):
        return None
    header: dict[str, Any] = {
        "version": BINSPARSE_VERSION,
        "format": "COOR" if len(lengths) == 2 else "custom",
        "shape": lengths,
        "number_of_stored_values": len(arrays[0]),
        "data_types": data_types,
    }
    if len(lengths) != 2:
        level = {"level_desc": "sparse", "rank": len(lengths), "level": {"level_desc": "element"}}
        header["custom"] = {"level": level}
    return header


def _strictly_ascending(columns: Sequence[NDArray]) -> bool:
    """Return whether rows are in lexicographic order without duplicates, which coordinate formats need."""
    equal = np.ones(max(len(columns[0]) - 1, 0), bool)
    for column in columns:
        if bool(np.any(equal & (column[1:] < column[:-1]))):
            return False
        equal &= column[1:] == column[:-1]
    return not bool(equal.any())
