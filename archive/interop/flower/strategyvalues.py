"""Flower's own objects among the values of a strategy: records, arrays and Parameters.

Importing this module adds their kinds to `archive.interop.statevalues`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from archive.dtypes import dtype_name
from archive.engine.write.inputs import is_flower
from archive.interop.flower.records import from_flower, to_flower
from archive.interop.flower.releases import flower
from archive.interop.statearrays import JSON, Arrays, Found, Kind, Path
from archive.interop.statevalues import KINDS, decode_dict, encode_dict
from archive.npy import split_npy
from archive.records import Array, SType
from archive.records.payload import BytesPayload

__all__ = ["parameter_array"]


def parameter_array(tensor: bytes, tensor_type: str) -> Array:
    """Return one tensor of Flower's Parameters as an Array of the same bytes.

    Bytes that are not a ``.npy`` are kept as they are, whatever their type says: strategies serialise in ways
    of their own.

    Examples
    --------
    >>> import numpy as np
    >>> parameter_array(Array(np.zeros((2, 3), "f4")).data, "numpy.ndarray").shape
    (2, 3)
    """
    payload = BytesPayload(tensor)
    if tensor_type == SType.NUMPY:
        try:
            layout = split_npy(tensor)
        except ValueError:
            pass
        else:
            return Array.from_payload(dtype_name(layout.dtype), layout.shape, tensor_type, payload)
    return Array.from_payload("", (len(tensor),), tensor_type, payload)


def _encode_array(value: Any, path: Path, arrays: Arrays) -> dict[str, JSON]:
    return {"at": arrays.place(path, from_flower(value))}


def _decode_array(tree: JSON, found: Found) -> Any:
    return to_flower(found[tree["at"]])


def _decode_record(tree: JSON, found: Found) -> Any:
    made = getattr(flower(), tree["$"])()
    for key, value in decode_dict(tree, found).items():
        made[key] = value
    return made


def _encode_parameters(value: Any, path: Path, arrays: Arrays) -> dict[str, JSON]:
    places = [
        arrays.place((*path, str(number)), parameter_array(tensor, value.tensor_type))
        for number, tensor in enumerate(value.tensors)
    ]
    return {"tensor_type": value.tensor_type, "at": places}


def _decode_parameters(tree: JSON, found: Found) -> Any:
    tensors = [found[at].data for at in tree["at"]]
    return flower().Parameters(tensors=tensors, tensor_type=tree["tensor_type"])


def _is(name: str) -> Callable[[object], bool]:
    return lambda value: is_flower(value, name)


KINDS["Array"] = Kind(_is("Array"), _encode_array, _decode_array)
KINDS["Parameters"] = Kind(_is("Parameters"), _encode_parameters, _decode_parameters)
for _record in ("ArrayRecord", "MetricRecord", "ConfigRecord", "RecordDict"):
    KINDS[_record] = Kind(_is(_record), encode_dict, _decode_record)
