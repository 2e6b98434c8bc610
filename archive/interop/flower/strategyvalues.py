"""Flower's own objects among the values of a strategy: records, arrays and Parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from archive.dtypes import dtype_name, split_npy
from archive.interop.flower.records import from_flower, to_flower
from archive.interop.flower.releases import flower, is_from_flower
from archive.interop.statevalues import (
    JSON,
    KINDS,
    Arrays,
    Kind,
    NotStateError,
    copy_of,
    decode,
    decode_dict,
    encode,
    encode_dict,
    is_known_dict,
    is_torch,
    place,
    rewind,
)
from archive.records import Array, SType
from archive.records.payload import BytesPayload

__all__ = [
    "JSON",
    "Arrays",
    "NotStateError",
    "copy_of",
    "decode",
    "encode",
    "is_known_dict",
    "is_torch",
    "parameter_array",
    "rewind",
]


def parameter_array(tensor: bytes, tensor_type: str) -> Array:
    """Return one tensor of Flower's Parameters as an Array of the same bytes.

    What is no ``.npy`` is kept as it is, whatever its type says: strategies serialise in ways of their own.

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


def _encode_array(value: Any, path: str, arrays: Arrays) -> dict[str, JSON]:
    return {"at": place(from_flower(value), path, arrays)}


def _decode_array(tree: JSON, arrays: Mapping[str, Array]) -> Any:
    return to_flower(arrays[tree["at"]])


def _decode_record(tree: JSON, arrays: Mapping[str, Array]) -> Any:
    made = getattr(flower(), tree["$"])()
    for key, value in decode_dict(tree, arrays).items():
        made[key] = value
    return made


def _encode_parameters(value: Any, path: str, arrays: Arrays) -> dict[str, JSON]:
    places = [
        place(parameter_array(tensor, value.tensor_type), f"{path}/{number}", arrays)
        for number, tensor in enumerate(value.tensors)
    ]
    return {"tensor_type": value.tensor_type, "at": places}


def _decode_parameters(tree: JSON, arrays: Mapping[str, Array]) -> Any:
    tensors = [arrays[at].data for at in tree["at"]]
    return flower().Parameters(tensors=tensors, tensor_type=tree["tensor_type"])


def _of(name: str) -> Callable[[object], bool]:
    return lambda value: is_from_flower(value, name)


KINDS["Array"] = Kind(_of("Array"), _encode_array, _decode_array)
KINDS["Parameters"] = Kind(_of("Parameters"), _encode_parameters, _decode_parameters)
for _record in ("ArrayRecord", "MetricRecord", "ConfigRecord", "RecordDict"):
    KINDS[_record] = Kind(_of(_record), encode_dict, _decode_record)
