"""A TypedDict whose values may be made when they are asked for: the base of records of arrays."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol, TypeVar

from archive.records.typeddict import TypedDict

__all__ = ["LazyDict", "ValueSource", "leave_to"]

V = TypeVar("V")
Made = TypeVar("Made", covariant=True)
Lazy = TypeVar("Lazy", bound="LazyDict[Any]")


class ValueSource(Protocol[Made]):
    """Makes the values of a mapping; for one key every call returns the same object, in every thread."""

    def __len__(self) -> int:
        """Return the number of keys."""

    def find(self, key: object) -> Made | None:
        """Return the value of a key; None where `make_all` has to be asked."""

    def peek(self, places: range) -> list[tuple[str, Any]]:
        """Return keys and values at some places of the order, to be shown."""

    def make_all(self) -> dict[str, Any]:
        """Return every value by key, in order."""


class LazyDict(TypedDict[str, V]):
    """Mapping by str that makes one value when its key is asked for, and all of them for anything else."""

    @cached_property
    def _data(self) -> dict[str, V]:  # type: ignore[override] # assigned to like the attribute that it is
        """The dictionary, made when it is first needed.

        Several threads may make it at once: all of them get that of the first to be done.
        """
        source = self.__dict__.get("_source")
        if source is not None:
            self.__dict__.setdefault("_data", source.make_all())
            self.__dict__.pop("_source", None)
        data: dict[str, V] = self.__dict__["_data"]
        return data

    @property
    def _unmade(self) -> ValueSource[V] | None:
        """The source as long as there is no dictionary."""
        return None if "_data" in self.__dict__ else self.__dict__.get("_source")

    def __getitem__(self, key: str) -> V:
        """Return the value of a key; KeyError where the key is missing."""
        source = self._unmade
        found = None if source is None else source.find(key)
        return self._data[key] if found is None else found

    def __contains__(self, key: object) -> bool:
        """Return whether the mapping has a key."""
        source = self._unmade
        return (source is not None and source.find(key) is not None) or key in self._data

    def __len__(self) -> int:
        """Return the number of keys."""
        source = self._unmade
        return len(self._data if source is None else source)

    def peek(self, places: range) -> list[tuple[str, V]]:
        """Return keys and values at some places of the order; values that are not made yet stay so."""
        source = self._unmade
        return super().peek(places) if source is None else source.peek(places)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled and copied: every value, and not their source."""
        state = {"_data": self._data, **self.__dict__}
        state.pop("_source", None)
        return state


def leave_to(mapping: Lazy, source: ValueSource[Any]) -> Lazy:
    """Return a new mapping after leaving it to a source to make the values."""
    mapping.__dict__["_source"] = source
    del mapping.__dict__["_data"]
    return mapping
