"""RecordSet: three name spaces of records, as Flower kept a client's state until 1.15."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeAlias, TypeVar, cast

from archive.records.array import Array
from archive.records.arrayrecord import ArrayRecord
from archive.records.payload import release_of
from archive.records.shown import Shown
from archive.records.typeddict import TypedDict
from archive.records.valuerecord import ConfigRecord, MetricRecord

__all__ = ["Record", "RecordSet", "drain_records", "require_record_key"]

Record: TypeAlias = ArrayRecord | MetricRecord | ConfigRecord
Self = TypeVar("Self", bound="RecordSet")


class RecordSet(Shown):
    """Parameters, metrics and configs by name, one name space each.

    Follows Flower's ``RecordSet`` up to 1.15: one name may stand for three records. Item access by name
    over all three is added.

    Parameters
    ----------
    parameters_records : dict of str to ArrayRecord, optional
        ParametersRecord is one too.
    metrics_records : dict of str to MetricRecord, optional
    configs_records : dict of str to ConfigRecord, optional

    Raises
    ------
    TypeError
        A key is not a str, or a record of the wrong kind.

    Examples
    --------
    >>> records = RecordSet(metrics_records={"fit": MetricRecord({"loss": 0.5})})
    >>> records.metrics_records["fit"]["loss"], records["fit"]
    (0.5, {'loss': 0.5})
    >>> records
    RecordSet(parameters_records={}, metrics_records={'fit': {'loss': 0.5}}, configs_records={})
    """

    def __init__(
        self,
        parameters_records: Mapping[str, ArrayRecord] | None = None,
        metrics_records: Mapping[str, MetricRecord] | None = None,
        configs_records: Mapping[str, ConfigRecord] | None = None,
    ) -> None:
        self._parameters: TypedDict[str, ArrayRecord] = _space(ArrayRecord, "ParametersRecord")
        self._metrics: TypedDict[str, MetricRecord] = _space(MetricRecord, "MetricsRecord")
        self._configs: TypedDict[str, ConfigRecord] = _space(ConfigRecord, "ConfigsRecord")
        self._parameters.update(parameters_records or {})
        self._metrics.update(metrics_records or {})
        self._configs.update(configs_records or {})

    @property
    def parameters_records(self) -> TypedDict[str, ArrayRecord]:
        """Array records by name."""
        return self._parameters

    @property
    def metrics_records(self) -> TypedDict[str, MetricRecord]:
        """Metric records by name."""
        return self._metrics

    @property
    def configs_records(self) -> TypedDict[str, ConfigRecord]:
        """Config records by name."""
        return self._configs

    @property
    def array_records(self) -> TypedDict[str, ArrayRecord]:
        """`parameters_records` by the name it has in a RecordDict."""
        return self._parameters

    @property
    def metric_records(self) -> TypedDict[str, MetricRecord]:
        """`metrics_records` by the name it has in a RecordDict."""
        return self._metrics

    @property
    def config_records(self) -> TypedDict[str, ConfigRecord]:
        """`configs_records` by the name it has in a RecordDict."""
        return self._configs

    def __getitem__(self, name: str) -> Record:
        """Return the record of a name, whatever its kind.

        Raises
        ------
        KeyError
            No record has that name, or records of several kinds have; the message names the kinds.
        """
        return cast(Record, self._space_of(name)[name])

    def __setitem__(self, name: str, record: object) -> None:
        """Put a record into the name space of its kind; other kinds keep theirs."""
        if isinstance(record, ArrayRecord):
            self._parameters[name] = record
        elif isinstance(record, MetricRecord):
            self._metrics[name] = record
        elif isinstance(record, ConfigRecord):
            self._configs[name] = record
        else:
            require_record_key(name)
            raise TypeError(
                "Expected `ArrayRecord`, `MetricRecord`, or `ConfigRecord` but received "
                f"`{type(record).__name__}` for the value."
            )

    def __delitem__(self, name: str) -> None:
        """Remove the record of a name; KeyError where no kind, or several kinds, have it."""
        del self._space_of(name)[name]

    def __contains__(self, name: object) -> bool:
        """Return whether any kind has a record of that name."""
        return any(name in space for space in self._views().values())

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, each once: parameters first, then metrics, then configs."""
        return iter(dict.fromkeys(name for space in self._views().values() for name in space))

    def __eq__(self, other: object) -> bool:
        """Compare by content, kind by kind."""
        if not isinstance(other, RecordSet):
            return NotImplemented
        return self._views() == other._views()

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def copy(self: Self) -> Self:
        """Return a shallow copy: its own name spaces over the same records."""
        clone = self.__class__.__new__(self.__class__)
        clone.__dict__.update(self.__dict__)
        clone._parameters = self._parameters.copy()
        clone._metrics = self._metrics.copy()
        clone._configs = self._configs.copy()
        return clone

    def __copy__(self: Self) -> Self:
        """Return ``copy()``: Python's default would share the name spaces."""
        return self.copy()

    def drain(self) -> Iterator[tuple[tuple[str, str], Array]]:
        """Yield ``((record, key), Array)`` of every array record after removing it there.

        The emptied array records stay; metrics and configs are not touched.

        Examples
        --------
        >>> import numpy as np
        >>> records = RecordSet({"model": ArrayRecord([np.zeros(2)])})
        >>> [(names, array.shape) for names, array in records.drain()]
        [(('model', '0'), (2,))]
        """
        return drain_records(self._parameters)

    def _views(self) -> dict[str, TypedDict[str, Any]]:
        return {
            "parameters_records": self._parameters,
            "metrics_records": self._metrics,
            "configs_records": self._configs,
        }

    def _space_of(self, name: str) -> TypedDict[str, Any]:
        found = {kind: space for kind, space in self._views().items() if name in space}
        if not found:
            raise KeyError(name)
        if len(found) > 1:
            raise KeyError(f"{name!r} is in {' and '.join(found)}; ask one of them")
        return found.popitem()[1]


def drain_records(records: Mapping[str, ArrayRecord]) -> Iterator[tuple[tuple[str, str], Array]]:
    """Yield ``((record, key), Array)`` from array records by name, popping each Array."""
    for name, record in list(records.items()):
        for key in list(record):
            if key in record:
                release = release_of(record[key].payload)
                # no local name: the caller must hold the only reference to the Array
                yield (name, key), record.pop(key)
                release()


def require_record_key(key: object) -> None:
    """Raise TypeError unless a record's name is a str."""
    if not isinstance(key, str):
        raise TypeError(f"Expected `str`, but received `{type(key).__name__}` for the key.")


def _space(kind: type[Any], name: str) -> TypedDict[str, Any]:
    """Return a name space for records of one kind; a partial function keeps it picklable."""
    return TypedDict(require_record_key, functools.partial(_require_kind, kind, name))


def _require_kind(kind: type[Any], name: str, record: object) -> None:
    if not isinstance(record, kind):
        raise TypeError(f"Expected `{name}`, but received `{type(record).__name__}` for the value.")
