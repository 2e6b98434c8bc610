"""Arrays, bytes and scalars of a program's state as members of JSON and named arrays, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from archive.dtypes import NDArray, dtype_name, parse_dtype
from archive.records import Array, SType
from archive.records.payload import BytesPayload, NdarrayPayload, Payload, memory_of
from archive.records.tensors import empty_tensor, tensor_from_elements

__all__ = [
    "JSON",
    "LEAVES",
    "Arrays",
    "Found",
    "Kind",
    "NotStateError",
    "Path",
    "array_over",
    "class_name",
    "copy_of",
    "inverse",
    "is_torch",
    "of_class",
    "order_of_axes",
]

JSON: TypeAlias = Any
"""Any value of ``json.dumps``."""
Path: TypeAlias = tuple[str, ...]
"""Keys that lead to a value of a state."""

_INLINE_BYTES = 256
"""Longer bytes (boosted trees) are arrays of their own."""


class NotStateError(TypeError):
    """A value that no file can hold: a function, a handle, an object of an unknown class."""

    def __init__(self, path: Path, problem: str, remedy: str | None = None) -> None:
        self.key: str = "/".join(path)
        """Path of the value in the state."""
        super().__init__(f"{self.key}: {problem}")
        self.problem = problem
        self.remedy = remedy
        """What the caller can do, where that is not to leave the value out."""


class Arrays(dict[str, Array]):
    """Arrays of a state by name. They share the memory of the state: save them before the state changes."""

    def __init__(self) -> None:
        super().__init__()
        self._objects: dict[int, tuple[str, object]] = {}
        self._shared: dict[object, tuple[Array, object]] = {}

    def place(self, path: Path, array: Array) -> str:
        """Add an array under an unused name and return the name: two paths may spell the same name."""
        first = name = "/".join(path)
        number = 1
        while name in self:
            number += 1
            name = f"{first}~{number}"
        self[name] = array
        return name

    def place_once(self, path: Path, array: Array, value: object) -> dict[str, JSON]:
        """Add the array of an object; return its name, and the name that the object got before, if any."""
        at = self.place(path, array)
        before, _ = self._objects.setdefault(id(value), (at, value))  # which keeps the object: ids come again
        return {"at": at} if before == at else {"at": at, "as": before}

    def share(self, view: object, owner: object, make: Callable[[], Array]) -> Array:
        """Return the one Array of all views that are equal; ``owner`` is kept, so that no other equals it."""
        if view not in self._shared:
            self._shared[view] = make(), owner
        return self._shared[view][0]


class Found:
    """The arrays that a tree names, as memory; arrays that are tied in the file share it.

    Parameters
    ----------
    arrays : mapping of str to Array
    own : bool, default False
        Whether nobody else has the memory of the arrays, so that it is handed out. Copies are, if not.
    device : torch.device, optional
        Where tensors are made; ``meta`` reads no elements.
    """

    def __init__(self, arrays: Mapping[str, Array], *, own: bool = False, device: Any = None) -> None:
        self._arrays = arrays
        self._own = own
        self._device = device
        self._on_meta: bool = getattr(device, "type", None) == "meta"
        # with payloads, which keeps them: an id may come again
        self._elements: dict[object, tuple[NDArray, Payload]] = {}
        self._tensors: dict[object, tuple[Any, Payload]] = {}
        self.objects: dict[str, Any] = {}
        """Tensors and ndarrays that were made, by name."""

    def __getitem__(self, at: str) -> Array:
        return self._arrays[at]

    def elements(self, at: str, axes: Sequence[int] | None) -> NDArray:
        """Return private writable elements, axes in this order; the same for arrays that are tied."""
        array = self[at]
        key = memory_of(array.payload), array.shape, array.dtype, tuple(axes or ())
        if key not in self._elements:
            elements = self._memory(array)
            if axes is not None:
                inverted = inverse(axes, elements.ndim)
                elements = np.ascontiguousarray(elements.transpose(axes)).transpose(inverted)
            self._elements[key] = elements, array.payload
        return self._elements[key][0]

    def tensor(self, at: str, axes: Sequence[int] | None, *, whole: bool = False) -> Any:
        """Return elements as a tensor on the device; arrays that are tied share its memory.

        Parameters
        ----------
        at : str
        axes : sequence of int, optional
            Order of the axes in memory, slowest first.
        whole : bool, default False
            Read the elements for the device ``meta`` too.
        """
        array = self[at]
        meta = self._on_meta and not whole
        key = memory_of(array.payload), array.shape, array.dtype, tuple(axes or ()), meta
        made = self._tensors.get(key)
        if made is not None:
            return made[0].detach()
        tensor = empty_tensor(array.shape, array.dtype) if meta else tensor_from_elements(self._memory(array))
        if axes is not None:
            ordered = tensor.permute(axes)
            # axes of one element get the strides of their place, whatever they had
            ordered = ordered.contiguous().reshape(-1).view(ordered.shape)
            tensor = ordered.permute(inverse(axes, tensor.ndim))
        if self._device is not None and not self._on_meta:
            tensor = tensor.to(self._device)
        self._tensors[key] = tensor, array.payload
        return tensor

    def _memory(self, array: Array) -> NDArray:
        return array.payload.numpy(False) if self._own else array.payload.writable()


class Kind(NamedTuple):
    """How values of some classes are encoded."""

    known: Callable[[Any], bool]
    """Tells whether a value is of this kind."""
    encode: Callable[[Any, Path, Arrays], dict[str, JSON]]
    """Returns the object's members beside ``$``."""
    decode: Callable[[JSON, Found], Any]
    """Makes the value again."""


def of_class(kind: type) -> Callable[[object], bool]:
    """Return a function that tells whether a value's class is exactly this one."""
    return lambda value: type(value) is kind


def class_name(kind: type) -> str:
    """Return the name of a class, with its module."""
    return f"{kind.__module__}.{kind.__qualname__}"


def is_torch(value: object, name: str) -> bool:
    """Tell whether a value's class is torch's of that name, without importing torch."""
    return type(value).__module__.partition(".")[0] == "torch" and type(value).__name__ == name


def copy_of(array: Array) -> Array:
    """Return an Array that later changes of the encoded value leave as it is."""
    payload = array.payload
    return Array.from_numpy_ndarray(payload.array) if isinstance(payload, NdarrayPayload) else array


def array_over(elements: NDArray) -> Array:
    """Return an Array over the memory of elements."""
    payload = NdarrayPayload(elements)
    return Array.from_payload(dtype_name(elements.dtype), elements.shape, SType.NUMPY, payload)


def order_of_axes(elements: NDArray) -> list[int] | None:
    """Return the order of axes in memory, slowest first; None for C order, and where there are gaps.

    Sums over an array run in that order, and torch's fused optimizers take it to be the parameter's.
    """
    axes = sorted(range(elements.ndim), key=lambda axis: -elements.strides[axis])
    if elements.flags.c_contiguous or not elements.transpose(axes).flags.c_contiguous:
        return None
    return axes


def inverse(axes: Sequence[int], rank: int) -> list[int]:
    """Return the permutation that undoes another.

    Raises
    ------
    ValueError
        Not a permutation of that many axes.
    """
    if sorted(axes) != list(range(rank)):
        raise ValueError(f"invalid axes: {axes}")
    return sorted(range(rank), key=axes.__getitem__)


def _encode_ndarray(value: Any, path: Path, arrays: Arrays) -> dict[str, JSON]:
    if value.dtype.hasobject:
        raise NotStateError(path, f"an array of dtype {value.dtype} is not saved", "convert it to numbers")
    if type(value) is not np.ndarray:
        raise NotStateError(path, f"a {type(value).__name__} is not saved", "save np.array() of it")
    axes = order_of_axes(value)
    return arrays.place_once(path, array_over(value), value) | ({} if axes is None else {"axes": axes})


def _decode_ndarray(tree: JSON, found: Found) -> Any:
    if tree.get("as") in found.objects:
        return found.objects[tree["as"]]
    made = found.objects[tree["at"]] = found.elements(tree["at"], tree.get("axes"))
    return made


def _encode_bytes(value: bytes | bytearray, path: Path, arrays: Arrays) -> dict[str, JSON]:
    if len(value) <= _INLINE_BYTES:
        return {"hex": value.hex()}
    array = Array.from_payload("bytes", (len(value),), "", BytesPayload(bytes(value)))
    return {"at": arrays.place(path, array)}


def _decode_bytes(tree: JSON, found: Found) -> bytes:
    return bytes.fromhex(tree["hex"]) if "hex" in tree else found[tree["at"]].data


def _decode_scalar(dtype: np.dtype[Any], data: bytearray) -> Any:
    """Return an element of a type; an array would cut NULs from the ends of texts."""
    if dtype.kind == "S":
        return np.bytes_(data)
    if dtype.kind == "U":
        return np.str_("".join(map(chr, np.frombuffer(data, dtype.str[0] + "u4"))))
    return np.ndarray((), dtype, data)[()]


LEAVES: dict[str, Kind] = {
    "ndarray": Kind(lambda value: isinstance(value, np.ndarray), _encode_ndarray, _decode_ndarray),
    "scalar": Kind(
        lambda value: isinstance(value, np.generic) and not value.dtype.hasobject,
        lambda value, *_: {
            "dtype": dtype_name(value.dtype),
            "hex": value.tobytes()[: value.dtype.itemsize].hex(),
        },
        lambda tree, _: _decode_scalar(parse_dtype(tree["dtype"]), bytearray.fromhex(tree["hex"])),
    ),
    "complex": Kind(
        of_class(complex),
        lambda value, *_: {"real": repr(value.real), "imag": repr(value.imag)},
        lambda tree, _: complex(float(tree["real"]), float(tree["imag"])),
    ),
    "bytes": Kind(of_class(bytes), _encode_bytes, _decode_bytes),
    "bytearray": Kind(of_class(bytearray), _encode_bytes, lambda *given: bytearray(_decode_bytes(*given))),
}
"""Kinds of values that contain no other value, but for those of torch."""
