"""What an ArrayRecord accepts; refused in the words of Flower's error texts.

Each check is a function of its own: no loop variable keeps the last input alive while the input is consumed.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, NoReturn

import numpy as np

from archive.dtypes import parse_dtype
from archive.errors import UnsupportedDtypeError
from archive.records.array import Array
from archive.records.ownelements import has_own_elements
from archive.records.payload import require_plain_elements
from archive.records.tensors import has_torch_dtype, is_tensor_like
from archive.records.typeddict import require_str_key

__all__ = [
    "is_state_dict",
    "refuse",
    "require_array",
    "require_arrays",
    "require_ndarrays",
    "require_tensors",
    "require_torch_dtypes",
]


def refuse(why: str, cause: TypeError | None = None) -> NoReturn:
    """Raise the TypeError for arguments that make no ArrayRecord."""
    raise TypeError(
        "Invalid arguments for ArrayRecord. Expected either a list of NumPy ndarrays, a PyTorch state_dict, "
        f"or a dictionary of Arrays. The `keep_input` argument is keyword-only. {why}"
    ) from cause


def is_state_dict(source: object) -> bool:
    """Return whether a dict holds any tensor; the conversion names a value that is not a tensor."""
    return isinstance(source, dict) and any(map(is_tensor_like, source.values()))


def require_array(value: object) -> None:
    """Raise TypeError unless a value is an Array."""
    if not isinstance(value, Array):
        raise TypeError(f"Value must be of type `{Array}` but `{type(value)}` was passed.")


def require_arrays(array_dict: object) -> None:
    """Raise TypeError unless a dict holds Arrays by str."""
    if not isinstance(array_dict, MutableMapping):
        raise TypeError(f"Expected a dictionary of Arrays, got {type(array_dict)}")
    for key, value in array_dict.items():
        require_str_key(key)
        require_array(value)


def require_ndarrays(ndarrays: object) -> None:
    """Raise TypeError unless a list holds ndarrays, ValueError where one of them holds Python objects."""
    if not isinstance(ndarrays, list):
        raise TypeError(f"Expected a list of NumPy ndarrays, got {type(ndarrays)}")
    for ndarray in ndarrays:
        if not isinstance(ndarray, np.ndarray):
            raise TypeError(f"Expected NumPy ndarray, got {type(ndarray)}")
        require_plain_elements(ndarray)


def require_tensors(state_dict: MutableMapping[str, Any]) -> None:
    """Raise TypeError unless a state dict holds tensors by str."""
    for key, tensor in state_dict.items():
        require_str_key(key)
        if not is_tensor_like(tensor):
            raise TypeError(f"Expected PyTorch Tensor, got {type(tensor)}")


def require_torch_dtypes(arrays: dict[str, Array]) -> None:
    """Raise TypeError where torch lacks the element type of an Array."""
    for key, array in arrays.items():
        if has_own_elements(array):
            continue
        try:
            known = has_torch_dtype(parse_dtype(array.dtype))
        except UnsupportedDtypeError:
            continue  # free text of a caller: the .npy has the element type
        if not known:
            raise TypeError(f"{key!r}: torch has no element type for dtype {array.dtype!r}")
