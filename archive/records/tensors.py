"""PyTorch tensors to numpy and back, without ever importing torch.

torch is looked up in ``sys.modules``: a program that holds a tensor has imported torch already, and a program
without torch must not pay seconds for the import. Tensors are typed ``Any`` for the same reason.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from archive.dtypes import NDArray, long_name, parse_dtype, plain_name
from archive.errors import UnsupportedDtypeError, ValueRangeError
from archive.records.payload import private_copy

__all__ = [
    "empty_tensor",
    "has_torch_dtype",
    "is_known",
    "is_tensor",
    "is_tensor_like",
    "plain_elements",
    "require_torch",
    "tensor_from_elements",
    "tensor_to_elements",
    "ties_in",
    "torch_dtype",
    "torch_name",
    "unsupported_tensor",
]


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

_REMEDIES = {
    "class": "convert it into a plain tensor first",
    "meta": "it has no elements on the device meta: load or initialise it first",
    "UninitializedParameter": "run the module once, so that it has a shape",
    "UninitializedBuffer": "run the module once, so that it has a shape",
    "DTensor": "save full_tensor(), which all ranks must call",
    "MaskedTensor": "save get_data() and get_mask()",
    "nested": "save the tensors of unbind(), or values() and offsets()",
    "quantised": "save int_repr() with scale and zero point, or dequantize()",
    "complex32": "save torch.view_as_real() of it, or to(torch.complex64)",
    "layout": "save to_dense(), or its values and indices; "
    "archive.interop.torch.save_state takes sparse tensors",
    "dtype": "save view(torch.uint8), the bytes",
}
"""What to save instead of a tensor that has no elements for numpy."""


def require_torch(use: str = "tensors") -> Any:
    """Return the torch module that the program has imported.

    Parameters
    ----------
    use : str, optional
        What needs torch, named in the error as Flower names it.

    Raises
    ------
    RuntimeError
        The program has not imported torch.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        raise RuntimeError(f"PyTorch is required to use {use}: import torch first")
    return torch


def is_tensor(value: object) -> bool:
    """Return whether a value is a ``torch.Tensor``; False for any value where torch is not loaded.

    Examples
    --------
    >>> is_tensor(np.zeros(3))
    False
    """
    return _is_of_torch(value, "Tensor")


def is_tensor_like(value: object) -> bool:
    """Return whether a value has the methods ``detach``, ``cpu`` and ``numpy``, whatever its class.

    A ``torch.Tensor`` has them, and so has an object that stands in for a tensor, as in Flower's tests.
    """
    methods = ("detach", "cpu", "numpy")
    return is_tensor(value) or all(callable(getattr(value, name, None)) for name in methods)


def _is_of_torch(value: object, name: str) -> bool:
    """Return whether a value is an instance of a class of the loaded torch."""
    kind = getattr(sys.modules.get("torch"), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _stands_in(tensor: Any) -> bool:
    """Return whether an object has methods of a tensor, but no element type of torch."""
    return not _is_of_torch(getattr(tensor, "dtype", None), "dtype")


def tensor_to_elements(tensor: Any, key: str | None = None) -> tuple[NDArray, bool]:
    """Return the elements of a tensor, and whether nobody else shares their memory.

    Parameters
    ----------
    tensor : torch.Tensor
        Any shape, on any device, with or without gradient. Of an object that stands in for a tensor its own
        ``detach().cpu().numpy()`` is returned.
    key : str, optional
        Named in errors.

    Returns
    -------
    elements : ndarray
        Same shape; bfloat16 and the 8-bit floats as their ml_dtypes types.
    private : bool
        True where they came from another device; False where they share the memory of the tensor.

    Raises
    ------
    UnsupportedDtypeError
        numpy has no such type or layout (sparse, quantised, complex32). The remedy says what to save.
    ValueRangeError
        The tensor reaches beyond its storage, which was freed or made smaller.
    TypeError
        An object that stands in for a tensor returns no ndarray.
    """
    if _stands_in(tensor):
        elements = tensor.detach().cpu().numpy()
        if not isinstance(elements, np.ndarray):
            raise TypeError(f"detach().cpu().numpy() of a {type(tensor)} is a {type(elements)}, no ndarray")
        return elements, False
    torch = require_torch()
    plain = plain_elements([tensor]) if _dtype_text(tensor) in _SHARED else None
    if plain is not None:
        return plain[0], False
    try:
        detached = tensor.detach()
        _require_storage(detached, key)
        # the memory of a lazily conjugated or negated tensor holds other values until it is resolved
        local = detached.cpu().resolve_conj().resolve_neg()
        name = _dtype_text(local)
        if name in _INT_VIEWS and local.layout == torch.strided:
            # only the first tensor of such a type loads ml_dtypes
            importlib.import_module("ml_dtypes")
            elements = local.view(getattr(torch, _INT_VIEWS[name])).numpy().view(parse_dtype(name))
        else:
            elements = local.numpy()
    except UnsupportedDtypeError as error:  # this ml_dtypes is too old
        raise UnsupportedDtypeError(error.problem, key=key, remedy=error.remedy) from error
    except ValueRangeError:
        raise
    except (TypeError, RuntimeError, ValueError) as error:
        raise unsupported_tensor(tensor, key) from error
    return elements, detached.device.type != "cpu"


def plain_elements(tensors: list[Any]) -> list[NDArray] | None:
    """Return the elements of tensors over their memory; None unless all of them are plain.

    Plain are contiguous tensors in memory of types that numpy has. `tensor_to_elements` takes any, and names
    what is wrong with one.
    """
    torch = require_torch()
    if not {torch.Tensor, torch.nn.Parameter}.issuperset(map(type, tensors)):
        return None
    try:
        for tensor in tensors:  # before numpy: the storage cannot be resized afterwards
            needed = (tensor.storage_offset() + tensor.numel()) * tensor.element_size()
            if not tensor.is_contiguous() or needed > tensor.untyped_storage().nbytes():
                return None
        # detach makes a tensor more, which takes half as long as the array
        return [(tensor.detach() if tensor.requires_grad else tensor).numpy() for tensor in tensors]
    except (TypeError, RuntimeError, ValueError):  # of another device, layout or type, or lazily conjugated
        return None


def _require_storage(tensor: Any, key: str | None) -> None:
    """Raise where elements lie outside the storage: numpy would read memory of others, or end the process."""
    count = tensor.numel()
    if count and not tensor.is_contiguous():
        count = 1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    there = tensor.untyped_storage().nbytes()
    needed = (tensor.storage_offset() + count) * tensor.element_size() if count else 0
    if needed > there and not tensor.is_quantized:  # those take less than a byte an element
        raise ValueRangeError(
            f"a tensor that needs {needed} bytes of a storage of {there}",
            key=key,
            remedy="save it before its storage is freed or resized",
        )


def is_known(name: str) -> bool:
    """Return whether torch and archives share an element type of that name."""
    return name in _SHARED or name in _INT_VIEWS


def unsupported_tensor(tensor: Any, key: str | None = None) -> UnsupportedDtypeError:
    """Return the error for a tensor that has no elements for numpy, with what to save instead."""
    kind, name, layout = type(tensor).__name__, _dtype_text(tensor), str(tensor.layout).removeprefix("torch.")
    found = {
        kind: kind in _REMEDIES,
        "meta": tensor.is_meta,
        "nested": tensor.is_nested,
        "quantised": tensor.is_quantized,
        "layout": layout != "strided",
        name: name in _REMEDIES,
        "dtype": not is_known(name),
        "class": True,
    }
    return UnsupportedDtypeError(
        f"no archive holds a {kind} of dtype {name} and layout {layout}",
        key=key,
        remedy=next(_REMEDIES[why] for why, true in found.items() if true),
    )


@functools.lru_cache(maxsize=256)
def has_torch_dtype(dtype: np.dtype[Any]) -> bool:
    """Return whether the loaded torch has a type for these elements, in whatever byte order."""
    torch = require_torch()
    name = plain_name(dtype)
    return is_known(name) and hasattr(torch, name)


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
    if not elements.size:  # numpy 2.3 has strides of 0 there, torch those of the other axes
        return torch.empty(elements.shape, dtype=getattr(torch, plain_name(elements.dtype)))
    if not elements.dtype.isnative:
        elements = elements.astype(elements.dtype.newbyteorder("="))
    if min(elements.strides, default=0) < 0:
        # torch counts strides forwards only
        elements = private_copy(elements)
    name = plain_name(elements.dtype)
    if name in _INT_VIEWS:
        carrier = torch.from_numpy(elements.view(_INT_VIEWS[name]))
        return carrier.view(getattr(torch, name))
    return torch.from_numpy(elements)


def empty_tensor(shape: tuple[int, ...], dtype: str) -> Any:
    """Return a tensor on the device ``meta``, which has no elements.

    Raises
    ------
    RuntimeError
        torch is not loaded.
    TypeError
        torch has no such element type.
    """
    torch = require_torch()
    if not is_known(dtype) or not hasattr(torch, dtype):
        raise TypeError(f"torch has no element type for dtype {dtype!r}")
    return torch.empty(shape, dtype=getattr(torch, dtype), device="meta")


def ties_in(tensors: Mapping[str, Any]) -> list[list[str]]:
    """Return the keys of tensors that are the same view of one memory, as tied weights are, by group."""
    torch = require_torch()
    # with the tensors: the address of one that a mapping makes on the way would come again
    by_address: dict[int, list[tuple[str, Any]]] = {}
    for key, tensor in tensors.items():
        if _stands_in(tensor):
            continue
        if type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout is torch.strided:
            by_address.setdefault(tensor.data_ptr(), []).append((key, tensor))
    by_address.pop(0, None)  # on meta, without elements, or freed
    groups: dict[object, list[str]] = {}
    for address, found in by_address.items():
        for key, tensor in found if len(found) > 1 else ():
            if not tensor.is_nested:
                view = tensor.shape, tensor.stride(), tensor.dtype, tensor.is_conj(), tensor.is_neg()
                groups.setdefault((address, tensor.device, view), []).append(key)
    return [keys for keys in groups.values() if len(keys) > 1]


def torch_dtype(dtype: Any) -> Any:
    """Return the ``torch.dtype`` that a name means, such as ``"bfloat16"``; all else as it is.

    Raises
    ------
    UnsupportedDtypeError
        torch and archives share no type of that name, or the loaded torch lacks it.
    """
    if not isinstance(dtype, str):
        return dtype
    found = getattr(require_torch(), long_name(dtype), None) if is_known(long_name(dtype)) else None
    if found is None:
        raise UnsupportedDtypeError(
            f"{dtype!r} names no element type of torch", key=dtype, remedy='name one, such as "bfloat16"'
        )
    return found


def torch_name(dtype: object) -> str | None:
    """Return the name of a ``torch.dtype``; None for anything else, and where torch is not loaded.

    Examples
    --------
    >>> torch_name(np.dtype("f4")) is None
    True
    """
    return str(dtype).removeprefix("torch.") if _is_of_torch(dtype, "dtype") else None


def _dtype_text(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")
