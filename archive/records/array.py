"""Array: dtype, shape and serialised elements, held in memory or left in an archive."""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar, NoReturn, TypeVar

import numpy as np

from archive.dtypes import NDArray, dtype_name
from archive.records.operators import ArrayOperators
from archive.records.payload import (
    BytesPayload,
    NdarrayPayload,
    Payload,
    private_copy,
    require_plain_elements,
    token_of,
)
from archive.records.privateelements import PrivateElements, unsupported_stype
from archive.records.shape import Shape
from archive.records.shown import Shown
from archive.records.stype import SType
from archive.records.tensors import is_tensor_like, require_torch, tensor_to_elements

__all__ = ["Array", "array_from_numpy"]

Self = TypeVar("Self", bound="Array")

_SLOTS = ("dtype", "shape", "stype", "data")


class Array(Shown, ArrayOperators, PrivateElements):
    """One array as Flower keeps it: ``dtype``, ``shape``, ``stype`` and ``data``.

    Created in one of three ways, positionally or by keyword::

        Array(dtype, shape, stype, data)
        Array(ndarray)  # or ndarray=
        Array(tensor)  # or torch_tensor=

    Follows Flower's newest ``Array``; ``shape`` may be a list too, as until 1.16. The elements of an ndarray
    or a CPU tensor are copied, so later changes to it do not show.

    Parameters
    ----------
    dtype : str
        Name of the element type, ``str(ndarray.dtype)``; free text for a foreign ``stype``.
    shape : tuple or list of int
        Lengths of the axes.
    stype : str
        Serialisation of ``data``; ``"numpy.ndarray"`` is a ``.npy``, any other text is the caller's.
    data : bytes
        The serialised array.
    ndarray : ndarray, optional
        Elements instead of the four above; ``data`` is then what ``np.save`` writes.
    torch_tensor : torch.Tensor, optional
        The same from a tensor, bfloat16 and 8-bit floats included.

    Attributes
    ----------
    dtype, stype : str
    shape : Shape
        A tuple that also equals the same list.

    Raises
    ------
    TypeError
        Arguments of wrong types, too many, missing, given twice, or of two ways.
    ValueError
        ``ndarray`` holds Python objects.
    RuntimeError
        ``torch_tensor`` is given but torch is not loaded.

    Notes
    -----
    Arrays are equal when dtype, shape, stype and data are equal; unhashable; picklable and copyable. An Array
    of an archive makes ``data`` when it is used. All other operators and functions of numpy take the elements
    (`archive.records.operators`).

    Examples
    --------
    >>> array = Array(np.arange(6, dtype="f4").reshape(2, 3))
    >>> array
    Array(dtype='float32', shape=(2, 3), stype='numpy.ndarray', data=<152 bytes>)
    >>> array[1, 1:], array.nbytes
    (array([4., 5.], dtype=float32), 24)
    >>> array.data == Array("float32", [2, 3], "numpy.ndarray", array.data).data
    True
    """

    __slots__ = ("__weakref__", "_payload", "dtype", "shape", "stype")

    dtype: str
    shape: tuple[int, ...]
    stype: str
    _payload: Payload

    def __init__(
        self,
        *args: Any,
        dtype: str | None = None,
        shape: tuple[int, ...] | list[int] | None = None,
        stype: str | None = None,
        data: bytes | None = None,
        ndarray: NDArray | None = None,
        torch_tensor: Any = None,
    ) -> None:
        if len(args) > len(_SLOTS):
            _refuse(f"{len(args)} positional values")
        given = zip(_SLOTS, (dtype, shape, stype, data), strict=True)
        parts = {name: value for name, value in given if value is not None}
        sources = [value for value in (ndarray, torch_tensor) if value is not None]
        if args and (isinstance(args[0], np.ndarray) or is_tensor_like(args[0])):
            sources.extend(args)
            args = ()
        if len(sources) > 1 or (sources and (parts or args)):
            _refuse("several of these at once")
        if ndarray is not None and not isinstance(ndarray, np.ndarray):
            _refuse(f"as ndarray {type(ndarray)}")
        if torch_tensor is not None:
            require_torch("torch_tensor")
            if not is_tensor_like(torch_tensor):
                _refuse(f"as torch_tensor {type(torch_tensor)}")
        if sources:
            is_ndarray = isinstance(sources[0], np.ndarray)
            made = (self.from_numpy_ndarray if is_ndarray else self.from_torch_tensor)(sources[0])
            self.dtype, self.shape = made.dtype, made.shape
            self.stype, self._payload = made.stype, made._payload
            return
        for name, value in zip(_SLOTS, args, strict=False):
            if name in parts:
                _refuse(f"{name} twice")
            parts[name] = value
        self._set_parts(parts)

    def _set_parts(self, parts: dict[str, Any]) -> None:
        missing = [name for name in _SLOTS if name not in parts]
        if missing:
            _refuse("no " + ", ".join(missing) + "".join(f"; {name}={type(parts[name])}" for name in parts))
        dtype, shape, stype, data = (parts[name] for name in _SLOTS)
        if not isinstance(dtype, str) or not isinstance(stype, str):
            _refuse(f"dtype of {type(dtype)} and stype of {type(stype)}, not of str")
        if not isinstance(shape, (tuple, list)) or not all(isinstance(length, int) for length in shape):
            _refuse(f"shape {shape!r}, not a tuple or list of int")
        if not isinstance(data, bytes):
            _refuse(f"data of {type(data)}, not of bytes")
        self.dtype, self.shape, self.stype = dtype, Shape(shape), stype
        self._payload = BytesPayload(data, dtype)

    @classmethod
    def from_payload(
        cls: type[Self], dtype: str, shape: tuple[int, ...], stype: str, payload: Payload
    ) -> Self:
        """Return an Array over a payload without checks: cheap enough for a loader of 20,000.

        Parameters
        ----------
        dtype, stype : str
        shape : tuple of int
            A ``Shape`` is kept as it is, so that equal shapes may share one.
        payload : Payload
            Source of the bytes.

        Examples
        --------
        >>> Array.from_payload("float32", (2,), "numpy.ndarray", NdarrayPayload(np.zeros(2, "f4"))).size
        2
        """
        array = cls.__new__(cls)
        array.dtype = dtype
        array.shape = shape if type(shape) is Shape else Shape(shape)
        array.stype = stype
        array._payload = payload
        return array

    @classmethod
    def from_numpy_ndarray(cls: type[Self], ndarray: NDArray) -> Self:
        """Return an Array of a copy of an ndarray's elements.

        Parameters
        ----------
        ndarray : ndarray
            Any shape and layout, any element type without Python objects. Subclasses become plain arrays,
            so that a mask or matrix does not survive, as with ``np.save``.

        Raises
        ------
        TypeError
            ``ndarray`` is not an ndarray.
        ValueError
            Its elements are Python objects, which would have to be pickled.

        Examples
        --------
        >>> Array.from_numpy_ndarray(np.float64([[1.5]])).shape
        (1, 1)
        """
        if not isinstance(ndarray, np.ndarray):
            raise TypeError(f"Expected NumPy ndarray, got {type(ndarray)}")
        require_plain_elements(ndarray)
        elements = private_copy(ndarray)
        return cls.from_payload(
            dtype_name(elements.dtype), Shape(elements.shape), SType.NUMPY, NdarrayPayload(elements)
        )

    @classmethod
    def from_torch_tensor(cls: type[Self], tensor: Any, key: str | None = None) -> Self:
        """Return an Array of a copy of the elements of a tensor, detached and on the CPU.

        Parameters
        ----------
        tensor : torch.Tensor
            Or what has ``detach().cpu().numpy()``, whatever its class.
            bfloat16 and the 8-bit floats become their ml_dtypes types, where Flower fails.
        key : str, optional
            Named in errors.

        Raises
        ------
        RuntimeError
            torch is not loaded.
        TypeError
            Not a tensor, or numpy has no type or layout for it (UnsupportedDtypeError).
        ValueRangeError
            The storage of the tensor was freed or made smaller.
        """
        require_torch("from_torch_tensor")
        if not is_tensor_like(tensor):
            raise TypeError(f"Expected PyTorch Tensor, got {type(tensor)}")
        elements, private = tensor_to_elements(tensor, key)
        if not private:
            return cls.from_numpy_ndarray(elements)
        # the elements came from another device, which made a copy already
        return cls.from_payload(
            dtype_name(elements.dtype), Shape(elements.shape), SType.NUMPY, NdarrayPayload(elements)
        )

    @property
    def payload(self) -> Payload:
        """Source of the bytes."""
        return self._payload

    @property
    def data(self) -> bytes:
        """The serialised array; made or read at each use where the Array does not hold bytes."""
        return self._payload.data()

    @data.setter
    def data(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"Array.data must be bytes, not {type(data)}")
        self._payload = BytesPayload(data, self.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, without header (of ``data`` where that is not a ``.npy``)."""
        return self._payload.nbytes

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def numpy(self, *, copy: bool = False) -> NDArray:
        """Return the elements.

        Parameters
        ----------
        copy : bool, default False
            True returns a private, writable array in any case. So does an Array in memory, as in Flower; an
            Array of an archive returns a read-only view of the file unless ``copy`` is True.

        Raises
        ------
        TypeError
            ``stype`` is not ``"numpy.ndarray"``.
        ValueError, EOFError
            ``data`` that a caller gave is not a ``.npy``.

        Examples
        --------
        >>> Array(np.array([1, 2])).numpy()
        array([1, 2])
        """
        self._require_elements()
        return self._payload.numpy(copy)

    def __getitem__(self, index: Any) -> Any:
        """Return ``elements[index]`` by numpy's rules.

        Of an array in an archive only the segments that hold bytes of the result are read and verified; a
        remote handle fetches them by few requests, and keeps the last 64 MiB of those taken in part.

        Parameters
        ----------
        index : Any
            As for numpy. Of a field all is read; so is an array of which an index touches three quarters.

        Returns
        -------
        ndarray or scalar
            Read-only where numpy gives a view. A small part of a remote array is a copy.

        Raises
        ------
        IndexError, DigestError
        """
        self._require_elements()
        return self._payload.getitem(index)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        """Return the elements for numpy: read-only and uncopied where ``copy`` allows it.

        Raises
        ------
        ValueError
            ``copy=False``, but ``dtype`` needs a copy.
        """
        self._require_elements()
        elements: NDArray = self._payload.numpy(True) if copy else self._payload.getitem(...)
        if dtype is None or np.dtype(dtype) == elements.dtype:
            return elements
        if copy is False:
            raise ValueError(f"{elements.dtype} cannot become {np.dtype(dtype)} without a copy")
        return elements.astype(dtype)

    def _require_elements(self) -> None:
        if self.stype != SType.NUMPY:
            raise unsupported_stype(self.stype)

    def __eq__(self, other: object) -> bool:
        """Compare dtype, shape, stype and data; reads data only when all else is equal."""
        if not isinstance(other, Array) or other.__class__ is not self.__class__:
            return NotImplemented
        if (self.dtype, self.shape, self.stype) != (other.dtype, other.shape, other.stype):
            return False
        mine, theirs = self._payload, other._payload
        if mine is theirs:
            return True
        return mine.data_nbytes == theirs.data_nbytes and mine.data() == theirs.data()

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return what Dask knows the Array by.

        Of an array in an archive: address without secrets, digest of the footer, and place; nothing is read.
        Of any other: a digest of ``data``.
        """
        token = token_of(self._payload)
        if token is None:
            from hashlib import blake2b  # for Dask alone

            token = (blake2b(self.data, digest_size=16).hexdigest(),)
        return type(self).__qualname__, self.dtype, *self.shape, self.stype, *token

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle by slots, which Python's protocols 0 and 1 cannot do by themselves."""
        return super().__reduce_ex__(max(protocol, 2))

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        """Return a new Array; its payload decides whether it is shared or copied."""
        clone = copy.copy(self)
        clone._payload = copy.deepcopy(self._payload, memo)
        return clone


def array_from_numpy(ndarray: NDArray) -> Array:
    """Return ``Array(ndarray)``, under its name in Flower until 1.16.

    Examples
    --------
    >>> array_from_numpy(np.zeros(3, "f4")).dtype
    'float32'
    """
    return Array.from_numpy_ndarray(ndarray)


def _refuse(got: str) -> NoReturn:
    raise TypeError(
        "Invalid arguments for Array. Expected either a PyTorch tensor, a NumPy ndarray, "
        f"or explicit dtype/shape/stype/data values. Got {got}."
    )
