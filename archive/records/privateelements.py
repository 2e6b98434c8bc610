"""The elements of an Array in memory of their own: as ndarrays, as tensors, and by DLPack."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from archive.dtypes import NDArray, is_ml_dtype
from archive.records.payload import Payload, array_index, read_elements
from archive.records.stype import SType
from archive.records.tensors import (
    is_tensor,
    require_torch,
    tensor_from_elements,
    tensor_to_elements,
    torch_dtype,
)

__all__ = ["PrivateElements", "unsupported_stype"]

_CPU = (1, 0)
"""DLPack's device: kDLCPU, the first."""


class PrivateElements:
    """The methods of an Array that return private memory."""

    __slots__ = ()

    dtype: str
    stype: str
    _payload: Payload
    _require_elements: Callable[[], None]

    def read(self, index: Any = ..., out: NDArray | None = None) -> NDArray:
        """Return the elements of an index in private, writable memory.

        Of an array in an archive only the segments that hold bytes of the result are read and verified. Bytes
        that lie one after the other in a file, as those of a whole array or of rows, go straight into the
        result.

        Parameters
        ----------
        index : Any, optional
            As for numpy, such as ``2``, ``slice(2)`` or ``np.s_[:2, 1:3]``; if not given, everything.
        out : ndarray, optional
            Filled and returned. Shape and dtype are those of ``elements[index]``; any strides. After an error
            it holds some of the elements, and no byte that failed its digest.

        Returns
        -------
        ndarray
            ``out``, or an array in C order. It has no axes where numpy returns a scalar.

        Raises
        ------
        TypeError
            ``out`` is not an ndarray of that dtype, or ``stype`` is not ``"numpy.ndarray"``.
        ValueError
            ``out`` has another shape, or is read-only.
        IndexError, DigestError, ClosedError

        Examples
        --------
        >>> import archive, numpy as np
        >>> array = archive.Array(np.arange(12.0).reshape(4, 3))
        >>> array.read((slice(None), 1))
        array([ 1.,  4.,  7., 10.])
        >>> buffer = np.empty((2, 3))
        >>> array.read(slice(2), out=buffer) is buffer
        True
        """
        self._require_elements()
        return read_elements(self._payload, array_index(index), out)

    def torch(self, index: Any = ..., dtype: Any = None, device: Any = None, out: Any = None) -> Any:
        """Return the elements of an index as a writable tensor that shares no memory with this Array.

        Two calls return two memories, also for arrays that are tied in the archive; `Archive.load` keeps
        ties.

        Parameters
        ----------
        index : Any, optional
            As for `read`. Only the segments it touches are read.
        dtype : torch.dtype or str, optional
            Element type of the tensor; if not given, that of the elements.
        device : torch.device or str, optional
            Where it is; if not given, the CPU. A conversion and a move make one copy more.
        out : torch.Tensor, optional
            Filled and returned: a tensor of that shape and of ``dtype``, on any device. Elements of a file
            go straight into it where that is possible without a conversion.

        Returns
        -------
        torch.Tensor

        Raises
        ------
        RuntimeError
            torch is not loaded: import it first.
        TypeError
            ``stype`` is not ``"numpy.ndarray"``, torch has no such element type, or ``out`` is not a tensor
            of that type in memory.
        ValueError
            ``out`` has another shape, or is on another device than ``device``.
        IndexError, DigestError, ClosedError

        Examples
        --------
        >>> import archive, numpy as np, torch
        >>> array = archive.Array(torch.arange(6, dtype=torch.bfloat16).reshape(3, 2))
        >>> array.torch(slice(1, None)).tolist(), array.torch(0, dtype="float64")
        ([[2.0, 3.0], [4.0, 5.0]], tensor([0., 1.], dtype=torch.float64))
        """
        require_torch()
        self._require_elements()
        dtype = torch_dtype(dtype)
        if out is not None:
            return _fill_tensor(self, array_index(index), dtype, device, out)
        if index is Ellipsis:
            elements = self._payload.writable()
        else:
            elements = read_elements(self._payload, array_index(index), None)
        tensor = tensor_from_elements(elements)
        return tensor if dtype is None and device is None else tensor.to(device=device, dtype=dtype)

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
    ) -> Any:
        """Return the elements as a DLPack capsule: for ``torch.from_dlpack`` and ``numpy.from_dlpack``.

        The consumer gets memory of its own, writable, as by `torch`: DLPack before version 1.0 cannot say
        that memory is read-only. bfloat16 and the 8-bit floats need torch to be loaded.

        Raises
        ------
        BufferError
            ``copy=False``, another device than the CPU, or an element type that DLPack lacks.
        TypeError
            ``stype`` is not ``"numpy.ndarray"``.

        Examples
        --------
        >>> import archive, numpy as np
        >>> np.from_dlpack(archive.Array(np.arange(3)))
        array([0, 1, 2])
        """
        self._require_elements()
        if copy is False:
            raise BufferError("the elements of an Array are handed out as a copy; use numpy() for a view")
        if dl_device is not None and tuple(dl_device) != _CPU:
            raise BufferError(f"the elements of an Array are on the CPU, not on device {tuple(dl_device)}")
        elements = self._payload.writable()
        if is_ml_dtype(elements.dtype) and "torch" in sys.modules:
            return tensor_from_elements(elements).__dlpack__()
        if not elements.dtype.isnative:
            elements = elements.astype(elements.dtype.newbyteorder("="))
        return elements.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return the device of the elements for DLPack: the CPU."""
        return _CPU


def unsupported_stype(stype: str, key: str | None = None) -> TypeError:
    """Return the error for a serialisation of which only the caller knows the elements."""
    of = "" if key is None else f" of {key!r}"
    return TypeError(
        f"Unsupported serialization type for numpy conversion: {stype!r}{of}; "
        f"only {SType.NUMPY!r} has known elements, use data"
    )


def _fill_tensor(array: PrivateElements, index: Any, dtype: Any, device: Any, out: Any) -> Any:
    """Fill a tensor with the elements of an index: straight where they have its type and order of bytes."""
    torch = require_torch()
    if not is_tensor(out) or out.is_meta:
        raise TypeError(f"out must be a tensor in memory, not {type(out)}{' on meta' * is_tensor(out)}")
    if dtype is not None and out.dtype != dtype:
        raise TypeError(f"out has elements of {out.dtype}, not of {dtype}")
    wanted = out.device if device is None else torch.device(device)
    if wanted.type != out.device.type or wanted.index not in (None, out.device.index):
        raise ValueError(f"out is on {out.device}, not on {wanted}")
    target = out.detach()
    plain = target.device.type == "cpu" and target.layout == torch.strided and target.is_contiguous()
    same = str(target.dtype) == f"torch.{array.dtype}" and not (target.is_conj() or target.is_neg())
    if plain and same:
        memory, _ = tensor_to_elements(target)
        read_elements(array._payload, index, memory)
        return out
    found = tensor_from_elements(read_elements(array._payload, index, None))
    if dtype is None and found.dtype != target.dtype:
        raise TypeError(
            f"out has elements of {target.dtype}, the array of {found.dtype}: give dtype= to convert"
        )
    if found.shape != target.shape:
        raise ValueError(f"out has shape {tuple(target.shape)}, the result {tuple(found.shape)}")
    target.copy_(found)
    return out
