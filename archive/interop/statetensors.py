"""Torch's tensors, types, devices and shapes as members of JSON and named arrays, and back.

Two tensors that are the same view of one memory share one array in the file, and one memory when they are
read; a strided tensor that a state holds twice comes back as one object.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, NamedTuple

from archive.errors import UnsupportedDtypeError, ValueRangeError
from archive.interop.statearrays import (
    JSON,
    Arrays,
    Found,
    Kind,
    NotStateError,
    Path,
    array_over,
    class_name,
    is_torch,
    order_of_axes,
)
from archive.records import Array
from archive.records.tensors import is_known, is_tensor, tensor_to_elements, unsupported_tensor

__all__ = ["TENSORS", "Described", "describe"]

_COO = "sparse_coo"
_COMPRESSED = {
    "sparse_csr": ("crow_indices", "col_indices"),
    "sparse_bsr": ("crow_indices", "col_indices"),
    "sparse_csc": ("ccol_indices", "row_indices"),
    "sparse_bsc": ("ccol_indices", "row_indices"),
}
"""Methods that return the indices of a compressed layout."""
_QUANTISED = ("qint8", "quint8", "qint32")


class Described(NamedTuple):
    """What is known of a saved tensor without its elements."""

    shape: tuple[int, ...]
    dtype: str
    """Name of the element type in torch."""
    layout: str = "strided"
    """Name of the layout in torch; ``quantised`` for a quantised tensor."""


def describe(tree: JSON, found: Found) -> Described | None:
    """Return shape and element type of the tensor that a tree stands for; None for any other value.

    Raises
    ------
    KeyError, TypeError
        `encode` makes no such tree.
    """
    kind = tree.get("$") if isinstance(tree, dict) else None
    if kind == "sparse":
        return Described(tuple(tree["shape"]), found[tree["parts"]["values"]["at"]].dtype, tree["layout"])
    if kind == "quantised":
        return Described(tuple(found[tree["bits"]["at"]].shape), tree["dtype"], "quantised")
    if kind != "tensor":
        return None
    array, view = found[tree["at"]], tree.get("view")
    shape = array.shape[:-1] if view == "complex32" else array.shape
    return Described(tuple(tree.get("expand", shape)), view or array.dtype)


def _encode_tensor(value: Any, path: Path, arrays: Arrays) -> dict[str, JSON]:
    """Return what makes a strided tensor again.

    An axis that repeats one element (stride 0) is stored once. ``axes`` is the order of the axes in memory,
    ``strides`` those of axes that hold one element or none, which an order does not tell.
    """
    _require_plain(value, path)
    base = value.detach()
    repeated = 0 in base.stride() and value.numel() > 1
    if repeated:
        for axis, stride in enumerate(base.stride()):
            base = base if stride else base.narrow(axis, 0, 1)
    bits, view = _bits(base)
    array = _array_of(bits, path, arrays)
    if bits is base and base.is_contiguous() and min(base.shape, default=2) > 1:
        return arrays.place_once(path, array, value) | _use(value)  # most are so
    axes = order_of_axes(array.payload.getitem(...))
    given = {
        "axes": axes,
        "view": view,
        "expand": list(value.shape) if repeated else None,
        "strides": _odd_strides(value, base, axes),
    }
    found = {k: v for k, v in given.items() if v is not None}
    return arrays.place_once(path, array, value) | found | _use(value)


def _use(value: Any) -> dict[str, JSON]:
    """Return what tells whether a tensor is trained."""
    grad = {"requires_grad": True} if value.requires_grad else {}
    return grad | ({"class": "Parameter"} if is_torch(value, "Parameter") else {})


def _used(made: Any, tree: JSON) -> Any:
    grad = tree.get("requires_grad", False)
    if tree.get("class") == "Parameter":
        return sys.modules["torch"].nn.Parameter(made, requires_grad=grad)
    return made.requires_grad_(True) if grad else made


def _require_plain(value: Any, path: Path) -> None:
    """Raise for a nested tensor, and for one of a subclass: what it adds to the elements would be lost."""
    torch: Any = sys.modules["torch"]
    if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.is_nested:
        error = unsupported_tensor(value, "/".join(path))
        raise NotStateError(path, error.problem, error.remedy)


def _bits(base: Any) -> tuple[Any, str | None]:
    """Return a tensor of a type that archives have, and the name of the type that it is a view of."""
    torch: Any = sys.modules["torch"]
    name = str(base.dtype).removeprefix("torch.")
    if name == "complex32":
        return torch.view_as_real(base.resolve_conj()), name
    if base.element_size() == 1 and not is_known(name):
        return base.view(torch.uint8), name
    return base, None


def _array_of(tensor: Any, path: Path, arrays: Arrays) -> Array:
    """Return the Array of a tensor's elements: one for all tensors that are the same view of one memory."""

    def make() -> Array:
        try:
            return array_over(tensor_to_elements(tensor)[0])
        except (UnsupportedDtypeError, ValueRangeError) as error:
            raise NotStateError(path, error.problem, error.remedy) from error

    if tensor.is_meta or not tensor.numel():
        return make()
    view = tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.is_conj(), tensor.is_neg()
    return arrays.share((tensor.data_ptr(), tensor.device, view), tensor, make)


def _odd_strides(value: Any, base: Any, axes: list[int] | None) -> list[int] | None:
    """Return the strides of a tensor where those of axes without a second element are not the usual ones."""
    usual, step = [0] * value.ndim, 1
    # complex32 has an axis more in the array, the fastest
    for axis in reversed([axis for axis in axes or range(value.ndim) if axis < value.ndim]):
        usual[axis] = step if base.shape[axis] == value.shape[axis] else 0
        step *= max(base.shape[axis], 1)
    found = zip(value.shape, value.stride(), usual, strict=True)
    odd = [n for n, stride, expected in found if stride != expected]
    return list(value.stride()) if odd and (not value.numel() or max(odd) <= 1) else None


def _decode_tensor(tree: JSON, found: Found) -> Any:
    torch = importlib.import_module("torch")
    if tree.get("as") in found.objects:
        return found.objects[tree["as"]]
    tensor = found.tensor(tree["at"], tree.get("axes"))
    view = tree.get("view")
    if view == "complex32":
        tensor = torch.view_as_complex(tensor)
    elif view is not None:
        tensor = tensor.view(_type_called(view))
    if "expand" in tree:
        tensor = tensor.expand(tree["expand"])
    if "strides" in tree:
        tensor = _with_strides(tensor, tree["strides"])
    made = found.objects[tree["at"]] = _used(tensor, tree)
    return made


def _with_strides(tensor: Any, strides: list[int]) -> Any:
    """Return a tensor whose axes without a second element have other strides; no element moves."""
    pairs = zip(tensor.shape, tensor.stride(), strides, strict=True)
    if tensor.numel() and any(n > 1 and own != given for n, own, given in pairs):
        raise ValueError(f"invalid strides: {strides}")
    return tensor.as_strided(tensor.shape, strides)


def _encode_sparse(value: Any, path: Path, arrays: Arrays) -> dict[str, JSON]:
    layout = str(value.layout).removeprefix("torch.")
    _require_plain(value, path)
    use, value = _use(value), value.detach()
    if layout == _COO:
        parts = {"indices": value._indices(), "values": value._values()}
    elif layout in _COMPRESSED:
        parts = {name: getattr(value, name)() for name in (*_COMPRESSED[layout], "values")}
    else:
        error = unsupported_tensor(value)
        raise NotStateError(path, error.problem, error.remedy)
    made = {name: _encode_tensor(part, (*path, name), arrays) for name, part in parts.items()}
    coalesced = {"coalesced": value.is_coalesced()} if layout == _COO else {}
    return {"layout": layout, "shape": list(value.shape), "parts": made, **coalesced, **use}


def _decode_sparse(tree: JSON, found: Found) -> Any:
    """Return a sparse tensor; indices that lie outside of its shape are refused."""
    torch = importlib.import_module("torch")
    layout = tree["layout"]
    names = ("indices",) if layout == _COO else _COMPRESSED[layout]
    parts = [found.tensor(tree["parts"][name]["at"], None, whole=True) for name in names]
    part = tree["parts"]["values"]
    values = found.tensor(part["at"], part.get("axes"), whole=True)
    shape = torch.Size(tree["shape"])
    if layout == _COO:
        made = torch.sparse_coo_tensor(
            *parts, values, shape, check_invariants=True, is_coalesced=tree["coalesced"]
        )
    else:
        kind = getattr(torch, layout)
        made = torch.sparse_compressed_tensor(*parts, values, shape, layout=kind, check_invariants=True)
    return _used(made, tree)


def _encode_quantised(value: Any, path: Path, arrays: Arrays) -> dict[str, JSON]:
    _require_plain(value, path)
    name, scheme = str(value.dtype).removeprefix("torch."), str(value.qscheme()).removeprefix("torch.")
    if name not in _QUANTISED or scheme not in ("per_tensor_affine", "per_channel_affine"):
        error = unsupported_tensor(value)
        raise NotStateError(path, error.problem, error.remedy)
    tree = {"bits": _encode_tensor(value.int_repr(), path, arrays), "dtype": name, **_use(value)}
    if scheme == "per_tensor_affine":
        return {**tree, "scale": value.q_scale(), "zero_point": value.q_zero_point()}
    scales, points = value.q_per_channel_scales(), value.q_per_channel_zero_points()
    return {
        **tree,
        "axis": value.q_per_channel_axis(),
        "scales": _encode_tensor(scales, (*path, "scales"), arrays),
        "zero_points": _encode_tensor(points, (*path, "zero_points"), arrays),
    }


def _decode_quantised(tree: JSON, found: Found) -> Any:
    torch = importlib.import_module("torch")
    bits = found.tensor(tree["bits"]["at"], tree["bits"].get("axes"), whole=True)
    if "axis" in tree:
        scales, points = (
            found.tensor(tree[name]["at"], None, whole=True) for name in ("scales", "zero_points")
        )
        made = torch._make_per_channel_quantized_tensor(bits, scales, points, tree["axis"])
    else:
        made = torch._make_per_tensor_quantized_tensor(bits, tree["scale"], tree["zero_point"])
    if str(made.dtype) != f"torch.{tree['dtype']}":
        raise ValueError(f"elements of {bits.dtype} are not those of {tree['dtype']}")
    return _used(made, tree)


def _type_called(name: str) -> Any:
    torch = importlib.import_module("torch")
    found = vars(torch).get(name)  # getattr() would import modules of torch by name
    if not isinstance(found, torch.dtype):
        raise ValueError(f"invalid element type {name!r}")
    return found


def _is_strided(value: Any) -> bool:
    return is_tensor(value) and value.layout is sys.modules["torch"].strided and not value.is_quantized


def _is_quantised(value: Any) -> bool:
    return is_tensor(value) and value.is_quantized


TENSORS: dict[str, Kind] = {
    "tensor": Kind(_is_strided, _encode_tensor, _decode_tensor),
    "quantised": Kind(_is_quantised, _encode_quantised, _decode_quantised),
    "sparse": Kind(is_tensor, _encode_sparse, _decode_sparse),
    "dtype": Kind(
        lambda value: is_torch(value, "dtype"),
        lambda value, *_: {"name": str(value).removeprefix("torch.")},
        lambda tree, _: _type_called(tree["name"]),
    ),
    "device": Kind(
        lambda value: is_torch(value, "device"),
        lambda value, *_: {"name": str(value)},
        lambda tree, _: importlib.import_module("torch").device(tree["name"]),
    ),
    "size": Kind(
        lambda value: class_name(type(value)) == "torch.Size",
        lambda value, *_: {"axes": list(value)},
        lambda tree, _: importlib.import_module("torch").Size(tree["axes"]),
    ),
}
"""Kinds of torch's values."""
