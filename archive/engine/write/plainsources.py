"""Many plain arrays of one record at once: a call an array is most of what 20,000 small ones cost."""

from __future__ import annotations

from typing import Any

import numpy as np

from archive.dtypes import NDArray
from archive.engine.storagespec import NUMPY_STYPE, StorageSpec, plain_spec
from archive.records import Array
from archive.records.payload import NdarrayPayload
from archive.records.tensors import is_tensor, plain_elements

__all__ = ["plain_sources"]

_PLAIN_KINDS = frozenset("biufcmM")


def plain_sources(arrays: list[Any]) -> tuple[list[StorageSpec], list[NDArray], list[object]] | None:
    """Return storage specs, elements and identities of ndarrays, Arrays of ndarrays, or plain tensors.

    None where any array is something else, or has a type whose storage spec depends on more than type, shape
    and order: `source_of` takes those one by one, and names record and key of what cannot be stored.
    """
    kinds, tensors = set(map(type, arrays)), any(map(is_tensor, arrays[:1]))
    if tensors:
        sources = plain_elements(arrays)
    else:
        sources = arrays if kinds == {np.ndarray} else _elements(arrays) if kinds == {Array} else None
    if sources is None:
        return None
    known: dict[object, StorageSpec] = {}
    specs = []
    for array in sources:
        flags = array.flags
        key = array.dtype, array.shape, flags.f_contiguous and not flags.c_contiguous
        spec = known.get(key)
        if spec is None:
            if array.dtype.kind not in _PLAIN_KINDS:
                return None
            try:
                spec = known[key] = plain_spec(*key, None, b"")  # as `elements_spec` asks: one object
            except ValueError:
                return None
        specs.append(spec)
    if tensors:  # as in `archive.engine.write.inputs`: a plain tensor is where its elements are
        places = zip([tensor.data_ptr() for tensor in arrays], sources, strict=True)
        return specs, sources, [(address, elements.strides) for address, elements in places]
    return specs, sources, list(map(id, sources))


def _elements(arrays: list[Array]) -> list[NDArray] | None:
    """Return the elements of Arrays in memory; None where one has serialised bytes or a header of its own."""
    payloads = [array.payload for array in arrays]
    if not all(isinstance(payload, NdarrayPayload) and not payload.given_header for payload in payloads):
        return None
    sources: list[NDArray] = [payload.array for payload in payloads]  # type: ignore[attr-defined]
    names = {dtype: str(dtype) for dtype in {source.dtype for source in sources}}
    given = zip(arrays, sources, strict=True)
    named = all(array.stype == NUMPY_STYPE and array.dtype == names[source.dtype] for array, source in given)
    return sources if named and all(type(source) is np.ndarray for source in sources) else None
