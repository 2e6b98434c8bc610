"""PyTorch tensors to numpy and back, without ever importing torch.

torch is looked up in ``sys.modules``: a program that holds a tensor has imported torch already, and a program
without torch must not pay seconds for the import. Tensors are typed ``Any`` for the same reason.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

from archive.dtypes import NDArray, parse_dtype
from archive.records.payload import private_copy

__all__ = ["has_torch_dtype", "is_tensor", "require_torch", "tensor_from_elements", "tensor_to_elements"]


_INT_VIEWS = {
    "bfloat16": "int16",
    "float8_e4m3fn": "uint8",
    "float8_e4m3fnuz": "uint8",
    "float8_e5m2": "uint8",
    "float8_e5m2fnuz": "uint8",
    "float8_e8m0fnu": "uint8",
}
"""Types that torch and ml_dtypes share by name, with the integer type that carries their bytes across."""

_SHARED = frozenset(
    {
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
        "complex64",
        "complex128",
    }
)
"""Types that torch and numpy share by name; torch before 2.3 lacks the larger unsigned ones."""


def require_torch() -> Any:
    """Return the torch module that the program has imported.

    Raises
    ------
    RuntimeError
        The program has not imported torch.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        raise RuntimeError("PyTorch is not loaded; import torch before converting to or from tensors")
    return torch


def is_tensor(value: object) -> bool:
    """Return whether a value is a ``torch.Tensor``; False for any value where torch is not loaded.

    Examples
    --------
    >>> is_tensor(np.zeros(3))
    False
    """
    kind = getattr(sys.modules.get("torch"), "Tensor", None)
    return kind is not None and isinstance(value, kind)


def tensor_to_elements(tensor: Any) -> tuple[NDArray, bool]:
    """Return the elements of a tensor, and whether nobody else shares their memory.

    Parameters
    ----------
    tensor : torch.Tensor
        Any shape, on any device, with or without gradient.

    Returns
    -------
    elements : ndarray
        Same shape; bfloat16 and the 8-bit floats as their ml_dtypes types.
    private : bool
        True where they came from another device; False where they share the memory of the tensor.

    Raises
    ------
    TypeError
        numpy has no such type or layout (sparse, quantised, complex32, ...).
    """
    torch = require_torch()
    detached = tensor.detach()
    # the memory of a lazily conjugated or negated tensor holds other values until it is resolved
    local = detached.cpu().resolve_conj().resolve_neg()
    name = _dtype_text(local)
    if name in _INT_VIEWS and local.layout == torch.strided:
        # only the first tensor of such a type loads ml_dtypes
        importlib.import_module("ml_dtypes")
        elements = local.view(getattr(torch, _INT_VIEWS[name])).numpy().view(parse_dtype(name))
    else:
        elements = local.numpy()
    return elements, detached.device.type != "cpu"


def has_torch_dtype(dtype: np.dtype[Any]) -> bool:
    """Return whether the loaded torch has a type for these elements, in whatever byte order."""
    torch = require_torch()
    name = dtype.name
    return (name in _SHARED or name in _INT_VIEWS) and hasattr(torch, name)


def tensor_from_elements(elements: NDArray) -> Any:
    """Return a tensor over the memory of private, writable elements.

    Parameters
    ----------
    elements : ndarray
        Any shape. The tensor keeps them alive; they are copied only where their byte order is foreign.

    Raises
    ------
    RuntimeError
        torch is not loaded.
    TypeError
        torch has no such element type.
    """
    torch = require_torch()
    if not has_torch_dtype(elements.dtype):
        raise TypeError(f"torch has no element type for dtype {str(elements.dtype)!r}; use numpy() instead")
    if not elements.dtype.isnative:
        elements = elements.astype(elements.dtype.newbyteorder("="))
    if any(stride < 0 for stride in elements.strides):
        # torch counts strides forwards only
        elements = private_copy(elements)
    name = elements.dtype.name
    if name in _INT_VIEWS:
        carrier = torch.from_numpy(elements.view(_INT_VIEWS[name]))
        return carrier.view(getattr(torch, name))
    return torch.from_numpy(elements)


def _dtype_text(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")
