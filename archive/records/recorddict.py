"""RecordDict: array, metric and config records in one name space, with a view for each kind."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, ClassVar, Generic, TypeVar, cast

from archive.records.array import Array
from archive.records.arrayrecord import ArrayRecord
from archive.records.recordset import Record, drain_records, require_record_key
from archive.records.shown import Shown
from archive.records.typeddict import TypedDict
from archive.records.valuerecord import ConfigRecord, MetricRecord

__all__ = ["KindView", "RecordDict"]

R = TypeVar("R")

_KINDS: tuple[type[Any], ...] = (ArrayRecord, MetricRecord, ConfigRecord)


class RecordDict(TypedDict[str, Record]):
    """Records of all kinds by name, in insertion order.

    Follows Flower's newest ``RecordDict``. Overwriting a record with one of another kind warns.

    Parameters
    ----------
    records : dict of str to ArrayRecord, MetricRecord or ConfigRecord, optional
    parameters_records, metrics_records, configs_records : dict, optional
        Deprecated; added after ``records``, in this order.

    Raises
    ------
    TypeError
        A key is not a str or a value not a record.

    Warns
    -----
    DeprecationWarning
        One of the three old keywords is used.
    UserWarning
        A record is overwritten by one of another kind.

    Examples
    --------
    >>> records = RecordDict({"fit": MetricRecord({"loss": 0.5}), "run": ConfigRecord({"lr": 0.1})})
    >>> records.metric_records["fit"]["loss"]
    0.5
    >>> records.config_records["next"] = ConfigRecord({"lr": 0.01})
    >>> list(records)
    ['fit', 'run', 'next']
    """

    def __init__(
        self,
        records: Mapping[str, Record] | None = None,
        *,
        parameters_records: Mapping[str, ArrayRecord] | None = None,
        metrics_records: Mapping[str, MetricRecord] | None = None,
        configs_records: Mapping[str, ConfigRecord] | None = None,
    ) -> None:
        super().__init__(require_record_key, _require_record)
        if records is not None:
            _require_mapping(records)
            self.update(records)
        old: tuple[Mapping[str, Any] | None, ...] = (parameters_records, metrics_records, configs_records)
        if any(given is not None for given in old):
            _deprecate("the keywords parameters_records, metrics_records and configs_records", "records")
        for given in old:
            self.update(given or {})

    def __setitem__(self, key: str, value: Record) -> None:
        """Store a record; UserWarning where it replaces one of another kind."""
        self._check_key_fn(key)
        before = self._data.get(key)
        super().__setitem__(key, value)
        if before is not None and _kind_of(before) is not _kind_of(value):
            warnings.warn(
                f"Key {key!r} was overwritten: record of type `{type(before).__name__}` replaced with type "
                f"`{type(value).__name__}`",
                UserWarning,
                stacklevel=2,
            )

    @property
    def array_records(self) -> KindView[ArrayRecord]:
        """Live view of the array records; writing to it writes here."""
        return KindView(self, ArrayRecord)

    @property
    def metric_records(self) -> KindView[MetricRecord]:
        """Live view of the metric records; writing to it writes here."""
        return KindView(self, MetricRecord)

    @property
    def config_records(self) -> KindView[ConfigRecord]:
        """Live view of the config records; writing to it writes here."""
        return KindView(self, ConfigRecord)

    @property
    def parameters_records(self) -> KindView[ArrayRecord]:
        """Old name of ``array_records``."""
        _deprecate("parameters_records", "array_records")
        return self.array_records

    @property
    def metrics_records(self) -> KindView[MetricRecord]:
        """Old name of ``metric_records``."""
        _deprecate("metrics_records", "metric_records")
        return self.metric_records

    @property
    def configs_records(self) -> KindView[ConfigRecord]:
        """Old name of ``config_records``."""
        _deprecate("configs_records", "config_records")
        return self.config_records

    def _views(self) -> dict[str, KindView[Any]]:
        return {
            "array_records": self.array_records,
            "metric_records": self.metric_records,
            "config_records": self.config_records,
        }

    def drain(self) -> Iterator[tuple[tuple[str, str], Array]]:
        """Yield ``((record, key), Array)`` of every array record after removing it there.

        The emptied array records stay; metrics and configs are not touched.

        Examples
        --------
        >>> import numpy as np
        >>> records = RecordDict({"model": ArrayRecord([np.zeros(2)])})
        >>> [(names, array.shape) for names, array in records.drain()]
        [(('model', '0'), (2,))]
        """
        return drain_records(self.array_records)


class KindView(Shown, MutableMapping[str, R], Generic[R]):
    """Live view of the records of one kind in a RecordDict.

    Equal to dicts and other views with the same content. Reading sees what the RecordDict holds now;
    writing, deleting and clearing change it.

    Parameters
    ----------
    owner : RecordDict
        Holds the records.
    kind : type
        ArrayRecord, MetricRecord or ConfigRecord.

    Raises
    ------
    TypeError
        On assignment: the key is not a str or the value not of this kind.
    KeyError
        No record of this kind has that name.
    """

    __slots__ = ("_kind", "_owner")

    def __init__(self, owner: RecordDict, kind: type[R]) -> None:
        self._owner = owner
        self._kind = kind

    def __getitem__(self, key: str) -> R:
        """Return a record of this kind."""
        record = self._owner[key]
        if not isinstance(record, self._kind):
            raise KeyError(key)
        return record

    def __setitem__(self, key: str, value: R) -> None:
        """Store a record of this kind in the RecordDict."""
        require_record_key(key)
        if not isinstance(value, self._kind):
            raise TypeError(
                f"Expected `{self._kind.__name__}`, but received `{type(value).__name__}` for the value."
            )
        self._owner[key] = cast(Record, value)

    def __delitem__(self, key: str) -> None:
        """Remove a record of this kind from the RecordDict."""
        self[key]
        del self._owner[key]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of this kind, in the RecordDict's order."""
        return (key for key, record in self._owner.items() if isinstance(record, self._kind))

    def __len__(self) -> int:
        """Return the number of records of this kind."""
        return sum(isinstance(record, self._kind) for record in self._owner.values())

    def clear(self) -> None:
        """Remove the records of this kind from the RecordDict."""
        for key in list(self):
            del self._owner[key]

    def copy(self) -> dict[str, R]:
        """Return a plain dict of the records."""
        return dict(self)

    def __eq__(self, other: object) -> bool:
        """Compare by content with another mapping."""
        if not isinstance(other, Mapping):
            return NotImplemented
        return dict(self) == dict(other)

    __hash__: ClassVar[None] = None  # type: ignore[assignment]


def _require_mapping(records: object) -> None:
    if not isinstance(records, Mapping):
        raise TypeError(f"RecordDict expects a dict of records, not {type(records)}")


def _require_record(record: object) -> None:
    if not isinstance(record, _KINDS):
        raise TypeError(
            "Expected `ArrayRecord`, `MetricRecord`, or `ConfigRecord` but received "
            f"`{type(record).__name__}` for the value."
        )


def _kind_of(record: Record) -> type[Any]:
    # ParametersRecord is an ArrayRecord: replacing one with the other does not change the kind
    return next(kind for kind in _KINDS if isinstance(record, kind))


def _deprecate(old: str, new: str) -> None:
    warnings.warn(f"RecordDict: {old} is deprecated, use {new}", DeprecationWarning, stacklevel=3)
