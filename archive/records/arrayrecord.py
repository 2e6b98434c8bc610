"""ArrayRecord: Arrays by name, with conversions from and to ndarrays and torch state dicts."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Iterator, MutableMapping
from typing import Any, ClassVar, TypeVar

from archive.dtypes import NDArray
from archive.errors import ArchiveError
from archive.records.array import Array
from archive.records.arraychecks import (
    is_state_dict,
    refuse,
    require_array,
    require_arrays,
    require_ndarrays,
    require_tensors,
    require_torch_dtypes,
)
from archive.records.lazydict import LazyDict
from archive.records.ownelements import data_payload, has_own_elements, tensor_of
from archive.records.payload import memory_of, release_of
from archive.records.privateelements import unsupported_stype
from archive.records.stype import GC_THRESHOLD, SType
from archive.records.tensors import require_torch, ties_in
from archive.records.typeddict import require_str_key

__all__ = ["ArrayRecord"]

Self = TypeVar("Self", bound="ArrayRecord")


class ArrayRecord(LazyDict[Array]):
    """Arrays by name: the parameters of a model, in order.

    Follows Flower's newest ``ArrayRecord``. Takes one of three inputs, positionally (at most one) or by
    keyword.

    Parameters
    ----------
    numpy_ndarrays : list of ndarray, optional
        Named ``"0"``, ``"1"``, ...
    torch_state_dict : dict of str to torch.Tensor, optional
        As ``module.state_dict()`` returns it.
    array_dict : dict of str to Array, optional
        The record gets new Array objects over the same data.
    keep_input : bool, default True
        False empties the input during conversion, so that only one array at a time is in memory twice.
        The whole input is checked before any array is consumed.

    Raises
    ------
    TypeError
        Two inputs, or an input of wrong types.
    ValueError
        An ndarray holds Python objects.

    Examples
    --------
    >>> import numpy as np
    >>> record = ArrayRecord([np.zeros((2, 2), "f4"), np.ones(2, "f4")])
    >>> list(record), record.count_bytes()
    (['0', '1'], 282)
    >>> record.to_numpy_ndarrays()[1]
    array([1., 1.], dtype=float32)
    """

    def __init__(
        self,
        *args: Any,
        numpy_ndarrays: list[NDArray] | None = None,
        torch_state_dict: MutableMapping[str, Any] | None = None,
        array_dict: MutableMapping[str, Array] | None = None,
        keep_input: bool = True,
    ) -> None:
        super().__init__(require_str_key, require_array)
        keywords = [numpy_ndarrays, torch_state_dict, array_dict]
        given = [source for source in (*args, *keywords) if source is not None]
        if len(args) > 1 or len(given) > 1:
            refuse(f"Got {max(len(args), len(given))} inputs.")
        if not given:
            return
        kind = type(self)
        try:
            if numpy_ndarrays is not None or (args and isinstance(given[0], list)):
                converted = kind.from_numpy_ndarrays(given[0], keep_input=keep_input)
            elif torch_state_dict is not None or (args and is_state_dict(given[0])):
                converted = kind.from_torch_state_dict(given[0], keep_input=keep_input)
            elif array_dict is not None or (args and isinstance(given[0], dict)):
                converted = kind.from_array_dict(given[0], keep_input=keep_input)
            else:
                raise TypeError(f"Got {type(given[0])}.")
        except ArchiveError:  # of a valid input, as of an element type that numpy lacks
            raise
        except TypeError as error:
            refuse(str(error), error)
        self._data = converted._data

    @property
    def attributes(self) -> dict[str, Any]:
        """Values that describe the record as a whole, for example packer and role of packed parameters.

        A dict of values as in a ConfigRecord, saved as attributes of the record's HDF5 group. Empty for
        ordinary records; Flower's record has no attributes.

        Examples
        --------
        >>> import numpy as np
        >>> record = ArrayRecord([np.zeros(2)])
        >>> record.attributes["role"] = "weights"
        >>> record.copy().attributes
        {'role': 'weights'}
        """
        attributes: dict[str, Any] = self.__dict__.setdefault("_attributes", {})
        return attributes

    def copy(self: Self) -> Self:
        """Return a shallow copy: same type, same Arrays, a dictionary and attributes of its own."""
        clone = super().copy()
        if self.attributes:
            clone.__dict__["_attributes"] = dict(self.attributes)
        return clone

    def __eq__(self, other: object) -> bool:
        """Compare by content, whatever the order; with another record also by attributes."""
        if isinstance(other, ArrayRecord) and self.attributes != other.attributes:
            return False
        return super().__eq__(other)

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    @classmethod
    def from_checked(cls: type[Self], arrays: dict[str, Array]) -> Self:
        """Return a record over a valid dict, without check, copy or ``__init__``: for loaders.

        The dict must not be used elsewhere afterwards.

        Examples
        --------
        >>> import numpy as np
        >>> ArrayRecord.from_checked({"w": Array(np.zeros(2))})["w"].shape
        (2,)
        """
        record = cls.__new__(cls)
        record._data = arrays
        record._check_key_fn = require_str_key
        record._check_value_fn = require_array
        return record

    @classmethod
    def from_array_dict(
        cls: type[Self], array_dict: MutableMapping[str, Array], *, keep_input: bool = True
    ) -> Self:
        """Return a record of new Array objects over the same data.

        Parameters
        ----------
        array_dict : dict of str to Array
        keep_input : bool, default True
            False pops every key after the record took it.

        Raises
        ------
        TypeError
            A key is not a str or a value not an Array; nothing was popped.
        """
        require_arrays(array_dict)
        record = cls.from_checked({})
        for key in list(array_dict):
            array = array_dict[key] if keep_input else array_dict.pop(key)
            record._data[key] = Array.from_payload(array.dtype, array.shape, array.stype, data_payload(array))
        return record

    @classmethod
    def from_numpy_ndarrays(cls: type[Self], ndarrays: list[NDArray], *, keep_input: bool = True) -> Self:
        """Return a record of copies, named ``"0"``, ``"1"``, ...

        Parameters
        ----------
        ndarrays : list of ndarray
        keep_input : bool, default True
            False sets each slot of the list to None after its conversion, collects garbage after each
            ``GC_THRESHOLD`` bytes and at the end, and clears the list.

        Raises
        ------
        TypeError
            Not a list of ndarrays; nothing was released.
        ValueError
            An ndarray holds Python objects; nothing was released.
        """
        require_ndarrays(ndarrays)
        record = cls.from_checked({})
        released = _Released()
        for place in range(len(ndarrays)):
            array = Array.from_numpy_ndarray(ndarrays[place])
            record._data[str(place)] = array
            if not keep_input:
                ndarrays[place] = None  # type: ignore[call-overload]
                released.add(array)
        if not keep_input:
            ndarrays.clear()
            gc.collect()
        return record

    @classmethod
    def from_torch_state_dict(
        cls: type[Self], state_dict: MutableMapping[str, Any], *, keep_input: bool = True
    ) -> Self:
        """Return a record of copies of a state dict's tensors.

        Parameters
        ----------
        state_dict : dict of str to torch.Tensor
            Or what has ``detach().cpu().numpy()``, whatever its class. Tensors that are the same view of one
            memory, as tied weights are, share one copy.
        keep_input : bool, default True
            False pops every key after its conversion.

        Raises
        ------
        RuntimeError
            torch is not loaded.
        TypeError
            A key is not a str or a value not a tensor: nothing was popped. Or a tensor has a type or layout
            that numpy lacks (UnsupportedDtypeError): that tensor and those after it are still in the dict.
        ValueRangeError
            The storage of a tensor was freed or made smaller; likewise.
        """
        require_torch("from_torch_state_dict")
        require_tensors(state_dict)
        record = cls.from_checked({})
        first = {key: keys[0] for keys in ties_in(state_dict) for key in keys[1:]}
        for key in list(state_dict):
            if key in first:
                same = record._data[first[key]]
                record._data[key] = Array.from_payload(same.dtype, same.shape, same.stype, same.payload)
            else:
                record._data[key] = Array.from_torch_tensor(state_dict[key], key)
            if not keep_input:
                del state_dict[key]
        return record

    def to_numpy_ndarrays(self, *, keep_input: bool = True) -> list[NDArray]:
        """Return the elements of every Array, in order.

        Parameters
        ----------
        keep_input : bool, default True
            False removes every Array from the record after its conversion, and collects garbage after each
            ``GC_THRESHOLD`` bytes and at the end.

        Raises
        ------
        TypeError
            An Array has another ``stype`` than ``"numpy.ndarray"``; nothing was removed.
        """
        self._require_elements()
        ndarrays: list[NDArray] = []
        released = _Released()
        for key in list(self._data):
            ndarrays.append(self._data[key].numpy())
            if not keep_input:
                released.add(self._data.pop(key))
        if not keep_input:
            gc.collect()
        return ndarrays

    def to_torch_state_dict(self, *, keep_input: bool = True) -> OrderedDict[str, Any]:
        """Return writable tensors by name, as ``module.load_state_dict`` takes them.

        Arrays that share their memory, as those of tied weights do, become one tensor under each name.

        Parameters
        ----------
        keep_input : bool, default True
            False removes every Array from the record after its conversion, and collects garbage after each
            ``GC_THRESHOLD`` bytes and at the end.

        Raises
        ------
        RuntimeError
            torch is not loaded.
        TypeError
            An Array has another ``stype`` than ``"numpy.ndarray"`` or a dtype that torch lacks; nothing was
            removed.
        """
        require_torch("to_torch_state_dict")
        self._require_elements()
        if not keep_input:
            require_torch_dtypes(self._data)
        tensors: OrderedDict[str, Any] = OrderedDict()
        first = self._ties()
        released = _Released()
        for key in list(self._data):
            tensors[key] = tensors[first[key]] if key in first else tensor_of(self._data[key])
            if not keep_input:
                released.add(self._data.pop(key))
        if not keep_input:
            gc.collect()
        return tensors

    def _ties(self) -> dict[str, str]:
        """Return the keys of arrays that share the memory of an earlier one, with its key."""
        earlier: dict[object, str] = {}
        ties = {}
        for key, array in self._data.items():
            if has_own_elements(array):
                continue
            same = memory_of(array.payload), array.dtype, tuple(array.shape)
            first = earlier.setdefault(same, key)
            if first != key:
                ties[key] = first
        return ties

    def count_bytes(self) -> int:
        """Return the length of every Array's ``data`` plus that of every key, reading no data."""
        return sum(len(key) + data_payload(array).data_nbytes for key, array in self._data.items())

    def drain(self) -> Iterator[tuple[str, Array]]:
        """Yield every key with its Array after removing it from the record.

        Examples
        --------
        >>> import numpy as np
        >>> record = ArrayRecord([np.zeros(2), np.zeros(3)])
        >>> [(key, array.shape, len(record)) for key, array in record.drain()]
        [('0', (2,), 1), ('1', (3,), 0)]
        """
        for key in list(self._data):
            if key in self._data:
                release = release_of(self._data[key].payload)
                yield key, self._data.pop(key)
                release()

    def _require_elements(self) -> None:
        for key, array in self._data.items():
            if array.stype != SType.NUMPY and not has_own_elements(array):
                raise unsupported_stype(array.stype, key)


class _Released:
    """Counts released bytes, and collects garbage when they pass the threshold."""

    def __init__(self) -> None:
        self._nbytes = 0

    def add(self, array: Array) -> None:
        self._nbytes += data_payload(array).data_nbytes
        if self._nbytes > GC_THRESHOLD:
            gc.collect()
            self._nbytes = 0
