"""A dictionary that checks keys and values on assignment: the base of every record."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, MutableMapping, ValuesView
from itertools import islice
from typing import Any, ClassVar, Generic, TypeVar, cast

from archive.records.shown import Shown

__all__ = ["TypedDict", "require_str_key"]

K = TypeVar("K")
V = TypeVar("V")
Self = TypeVar("Self", bound="TypedDict[Any, Any]")


class TypedDict(Shown, MutableMapping[K, V], Generic[K, V]):
    """Mapping that calls two functions before it stores a key and a value.

    Follows Flower's ``TypedDict``: insertion order, equality by content with other mappings of this class
    and with dicts, unhashable. Copies do not share the dictionary inside.

    Parameters
    ----------
    check_key_fn, check_value_fn : callable
        Called with the key or value of every assignment; an exception refuses it. Module-level functions
        keep the mapping picklable.

    Examples
    --------
    >>> lengths = TypedDict(require_str_key, len)
    >>> lengths["a"] = "text"
    >>> lengths
    {'a': 'text'}
    >>> lengths[1] = "text"
    Traceback (most recent call last):
    TypeError: Key must be of type `str` but `<class 'int'>` was passed.
    """

    _check_key_fn: Callable[[K], object]
    _check_value_fn: Callable[[V], object]
    _data: dict[K, V]

    def __init__(self, check_key_fn: Callable[[K], object], check_value_fn: Callable[[V], object]) -> None:
        self._data = {}
        self._check_key_fn = check_key_fn
        self._check_value_fn = check_value_fn

    def __setitem__(self, key: K, value: V) -> None:
        """Store a value after both checks."""
        self._check_key_fn(key)
        self._check_value_fn(value)
        self._data[key] = value

    def __getitem__(self, key: K) -> V:
        """Return the value of a key; KeyError where the key is missing."""
        return self._data[key]

    def __delitem__(self, key: K) -> None:
        """Remove a key; KeyError where the key is missing."""
        del self._data[key]

    def __iter__(self) -> Iterator[K]:
        """Iterate over the keys in insertion order."""
        return iter(self._data)

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._data)

    def __contains__(self, key: object) -> bool:
        """Return whether the mapping has a key."""
        return key in self._data

    def peek(self, places: range) -> list[tuple[K, V]]:
        """Return keys and values at some places of the order, to be shown."""
        return list(islice(self._data.items(), places.start, places.stop))

    def __eq__(self, other: object) -> bool:
        """Compare by content, whatever the order, with a mapping of this kind or a dict."""
        if isinstance(other, TypedDict):
            return self._data == other._data
        if isinstance(other, dict):
            return self._data == other
        return NotImplemented

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    # the views of the dictionary: one C call each, where the mix-ins of Mapping look up key by key

    def keys(self) -> KeysView[K]:
        """Return a live view of the keys."""
        return cast("KeysView[K]", self._data.keys())

    def values(self) -> ValuesView[V]:
        """Return a live view of the values."""
        return cast("ValuesView[V]", self._data.values())

    def items(self) -> ItemsView[K, V]:
        """Return a live view of the pairs."""
        return cast("ItemsView[K, V]", self._data.items())

    def clear(self) -> None:
        """Remove everything."""
        self._data.clear()

    def copy(self: Self) -> Self:
        """Return a shallow copy: same type, same values, its own dictionary."""
        data = dict(self._data)
        clone = self.__class__.__new__(self.__class__)
        clone.__dict__.update(self.__dict__, _data=data)
        return clone

    def __copy__(self: Self) -> Self:
        """Return ``copy()``: Python's default would share the dictionary."""
        return self.copy()


def require_str_key(key: object) -> None:
    """Raise TypeError unless a record's key is a str."""
    if not isinstance(key, str):
        raise TypeError(f"Key must be of type `str` but `{type(key)}` was passed.")
