"""ArrayRecord: Arrays by name, with conversions from and to ndarrays and torch state dicts."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Iterator, MutableMapping
from typing import Any, ClassVar, TypeVar

import numpy as np

from archive.dtypes import NDArray, parse_dtype
from archive.errors import UnsupportedDtypeError
from archive.records.array import Array
from archive.records.lazydict import LazyDict
from archive.records.payload import memory_of, release_of, require_plain_elements
from archive.records.stype import GC_THRESHOLD, SType
from archive.records.tensors import has_torch_dtype, is_tensor, require_torch, ties_in
from archive.records.typeddict import require_str_key

__all__ = ["ArrayRecord", "require_arrays"]

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
        super().__init__(require_str_key, _require_array)
        if len(args) > 1:
            raise TypeError(
                f"ArrayRecord expects one positional input, not {len(args)}; keep_input is a keyword"
            )
        keywords = [numpy_ndarrays, torch_state_dict, array_dict]
        given = [source for source in (*args, *keywords) if source is not None]
        if len(given) > 1:
            raise TypeError(f"ArrayRecord expects one input, not {len(given)}")
        if not given:
            return
        kind = type(self)
        if numpy_ndarrays is not None or (args and isinstance(given[0], list)):
            converted = kind.from_numpy_ndarrays(given[0], keep_input=keep_input)
        elif torch_state_dict is not None or (args and _is_state_dict(given[0])):
            converted = kind.from_torch_state_dict(given[0], keep_input=keep_input)
        elif array_dict is not None or (args and isinstance(given[0], dict)):
            converted = kind.from_array_dict(given[0], keep_input=keep_input)
        else:
            raise TypeError(
                "ArrayRecord expects a list of ndarrays, a dict of Arrays or a torch state_dict, "
                f"not {type(given[0])}"
            )
        self._data = converted._data

    @property
    def attributes(self) -> dict[str, Any]:
        """Values that describe the record as a whole, for example packer and role of packed parameters.

        A dict of values as in a ConfigRecord, saved as attributes of the record's HDF5 group. Empty for
        ordinary records; Flower's record has no attributes.

        Examples
        --------
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
        >>> ArrayRecord.from_checked({"w": Array(np.zeros(2))})["w"].shape
        (2,)
        """
        record = cls.__new__(cls)
        record._data = arrays
        record._check_key_fn = require_str_key
        record._check_value_fn = _require_array
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
            record._data[key] = Array.from_payload(array.dtype, array.shape, array.stype, array.payload)
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
        _require_ndarrays(ndarrays)
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
            Tensors that are the same view of one memory, as tied weights are, share one copy.
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
        require_torch()
        _require_tensors(state_dict)
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
        require_torch()
        self._require_elements()
        if not keep_input:
            _require_torch_dtypes(self._data)
        tensors: OrderedDict[str, Any] = OrderedDict()
        first = self._ties()
        released = _Released()
        for key in list(self._data):
            tensors[key] = tensors[first[key]] if key in first else self._data[key].torch()
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
            same = memory_of(array.payload), array.dtype, tuple(array.shape)
            first = earlier.setdefault(same, key)
            if first != key:
                ties[key] = first
        return ties

    def count_bytes(self) -> int:
        """Return the length of every Array's ``data`` plus that of every key, reading no data."""
        return sum(len(key) + array.payload.data_nbytes for key, array in self._data.items())

    def drain(self) -> Iterator[tuple[str, Array]]:
        """Yield every key with its Array after removing it from the record.

        Examples
        --------
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
            if array.stype != SType.NUMPY:
                raise TypeError(
                    f"{key!r} has stype {array.stype!r}, only {SType.NUMPY!r} has elements to convert"
                )


class _Released:
    """Counts released bytes, and collects garbage when they pass the threshold."""

    def __init__(self) -> None:
        self._nbytes = 0

    def add(self, array: Array) -> None:
        self._nbytes += array.payload.data_nbytes
        if self._nbytes > GC_THRESHOLD:
            gc.collect()
            self._nbytes = 0


def _require_array(value: object) -> None:
    if not isinstance(value, Array):
        raise TypeError(f"Value must be of type `{Array}` but `{type(value)}` was passed.")


# separate functions, so that no loop variable keeps the last input alive while the input is consumed


def _require_ndarrays(ndarrays: object) -> None:
    if not isinstance(ndarrays, list):
        raise TypeError(f"ArrayRecord expects a list of ndarrays, not {type(ndarrays)}")
    for ndarray in ndarrays:
        if not isinstance(ndarray, np.ndarray):
            raise TypeError(f"ArrayRecord expects a list of ndarrays, not of {type(ndarray)}")
        require_plain_elements(ndarray)


def _require_tensors(state_dict: MutableMapping[str, Any]) -> None:
    for key, tensor in state_dict.items():
        require_str_key(key)
        if not is_tensor(tensor):
            raise TypeError(f"Value must be a torch.Tensor but `{type(tensor)}` was passed.")


def require_arrays(array_dict: object) -> None:
    """Raise TypeError unless a dict holds Arrays by str."""
    if not isinstance(array_dict, MutableMapping):
        raise TypeError(f"array_dict must be a dict of Arrays, not {type(array_dict)}")
    for key, value in array_dict.items():
        require_str_key(key)
        _require_array(value)


def _require_torch_dtypes(arrays: dict[str, Array]) -> None:
    for key, array in arrays.items():
        try:
            known = has_torch_dtype(parse_dtype(array.dtype))
        except UnsupportedDtypeError:
            continue  # free text of a caller: the .npy has the element type
        if not known:
            raise TypeError(f"{key!r}: torch has no element type for dtype {array.dtype!r}")


def _is_state_dict(source: object) -> bool:
    """Return whether a dict holds any tensor; the conversion names a value that is not a tensor."""
    return isinstance(source, dict) and any(map(is_tensor, source.values()))
