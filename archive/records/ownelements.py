"""Arrays whose class makes the elements itself: subclasses, and objects that stand in for an Array."""

from __future__ import annotations

from typing import Any

from archive.records.array import Array
from archive.records.payload import BytesPayload, Payload
from archive.records.tensors import has_torch_dtype, require_torch, tensor_from_elements

__all__ = ["data_payload", "has_own_elements", "tensor_of"]


def has_own_elements(array: object) -> bool:
    """Return whether the class of an Array has a ``numpy`` or ``data`` of its own: its payload is not asked.

    Examples
    --------
    >>> class Doubled(Array):
    ...     def numpy(self, *, copy=False):
    ...         return 2 * super().numpy(copy=copy)
    >>> import numpy as np
    >>> has_own_elements(Doubled(np.zeros(2))), has_own_elements(Array(np.zeros(2)))
    (True, False)
    """
    kind = type(array)
    return kind is not Array and not (
        getattr(kind, "numpy", None) is Array.numpy and getattr(kind, "data", None) is Array.data
    )


def data_payload(array: Array) -> Payload:
    """Return the payload of an Array; of a class that makes its elements itself one over its data."""
    return BytesPayload(array.data, array.dtype) if has_own_elements(array) else array.payload


def tensor_of(array: Array) -> Any:
    """Return a tensor of the elements of an Array, of those that its class makes where it does."""
    if not has_own_elements(array):
        return array.torch()
    elements = array.numpy()
    known = has_torch_dtype(elements.dtype)
    return tensor_from_elements(elements) if known else require_torch().from_numpy(elements)
