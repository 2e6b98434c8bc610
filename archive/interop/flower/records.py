"""Records and Contexts converted to Flower's and back, without reading or copying an array."""

from __future__ import annotations

from typing import Any

from archive.engine.read.handle import Archive
from archive.engine.write.inputs import is_flower
from archive.interop.flower.arrays import lazy_array, payload_of
from archive.interop.flower.releases import flower
from archive.records import Array, ArrayRecord, ConfigRecord, Context, MetricRecord, RecordDict, RecordSet
from archive.records.payload import BytesPayload

__all__ = ["copy_values", "from_flower", "to_flower"]


def to_flower(records: Any) -> Any:
    """Return Flower's own objects over the same arrays, which stay in the archive until they are read.

    Flower's messages and strategies take them like any other. ``numpy()`` of such an array is mapped
    copy-on-write; sending an array reads a piece at a time.

    Parameters
    ----------
    records : RecordDict, RecordSet, ArrayRecord, MetricRecord, ConfigRecord, Array or Context
        Keep their archive open as long as the returned objects.

    Returns
    -------
    flwr.common.RecordDict, ArrayRecord, MetricRecord, ConfigRecord, Array or Context

    Raises
    ------
    ImportError
        flwr 1.17 or newer is not installed.
    TypeError
        An object of another class.
    ValueError
        A RecordSet has one name twice, which Flower's RecordDict cannot hold.

    Notes
    -----
    Flower's ArrayRecord has no `ArrayRecord.attributes`; they are left out.

    Examples
    --------
    ::

        with archive.open("round-80.h5") as saved:
            result = FedAvg().start(grid, to_flower(saved.records)["model"], num_rounds=3)
    """
    names = flower()
    if isinstance(records, Array):
        return lazy_array(records)
    if isinstance(records, ArrayRecord):
        made = names.ArrayRecord()
        for key, array in records.items():
            made[key] = lazy_array(array)  # the constructor would read it
        return made
    if isinstance(records, MetricRecord):
        return names.MetricRecord(copy_values(records))
    if isinstance(records, ConfigRecord):
        return names.ConfigRecord(copy_values(records))
    if isinstance(records, RecordDict):
        return names.RecordDict({name: to_flower(record) for name, record in records.items()})
    if isinstance(records, RecordSet):
        spaces = (records.parameters_records, records.metrics_records, records.configs_records)
        named = [(name, record) for space in spaces for name, record in space.items()]
        if len(dict(named)) != len(named):
            raise ValueError("one name stands for several records, which Flower's RecordDict cannot hold")
        return names.RecordDict({name: to_flower(record) for name, record in named})
    if isinstance(records, Context):
        fields = ("run_id", "node_id", "node_config", "run_config", "series_id")
        known = names.Context.__init__.__code__.co_varnames
        values = {field: getattr(records, field) for field in fields if field in known}
        return names.Context(**values, state=to_flower(records.state))
    if isinstance(records, Archive):
        raise TypeError("pass the records of an archive: to_flower(saved.records)")
    raise TypeError(f"records, a record, an Array or a Context, not {type(records).__name__}")


def from_flower(records: Any) -> Any:
    """Return our objects over the same bytes: the reverse of `to_flower`.

    Lazy arrays stay lazy, and are saved from file to file; all other arrays share their bytes.

    Parameters
    ----------
    records : flwr.common.RecordDict, ArrayRecord, MetricRecord, ConfigRecord, Array or Context

    Returns
    -------
    RecordDict, ArrayRecord, MetricRecord, ConfigRecord, Array or Context

    Raises
    ------
    TypeError
        An object of another class.
    """
    if is_flower(records, "Array"):
        payload = payload_of(records) or BytesPayload(records.data, records.dtype)
        return Array.from_payload(records.dtype, tuple(records.shape), records.stype, payload)
    if is_flower(records, "ArrayRecord"):
        return ArrayRecord.from_checked({key: from_flower(array) for key, array in records.items()})
    if is_flower(records, "MetricRecord"):
        return MetricRecord(copy_values(records))
    if is_flower(records, "ConfigRecord"):
        return ConfigRecord(copy_values(records))
    if is_flower(records, "RecordDict"):
        return RecordDict({name: from_flower(record) for name, record in records.items()})
    if is_flower(records, "Context"):
        return Context(
            run_id=records.run_id,
            node_id=records.node_id,
            node_config=dict(records.node_config),
            state=from_flower(records.state),
            run_config=dict(records.run_config),
            series_id=getattr(records, "series_id", 0),
        )
    raise TypeError(f"an object of flwr, not {type(records).__name__}")


def copy_values(record: Any) -> dict[str, Any]:
    """Return a record's values with its lists copied: Flower's users append to lists in place."""
    return {key: list(value) if isinstance(value, list) else value for key, value in record.items()}
