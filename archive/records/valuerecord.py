"""MetricRecord and ConfigRecord: numbers, texts and flags by name."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, TypeAlias

from archive.records.typeddict import TypedDict, require_str_key

__all__ = [
    "ConfigRecord",
    "ConfigValue",
    "ConfigsRecord",
    "MetricRecord",
    "MetricValue",
    "MetricsRecord",
    "plain_values",
]

MetricValue: TypeAlias = int | float | list[int] | list[float]
ConfigValue: TypeAlias = (
    int | float | str | bytes | bool | list[int] | list[float] | list[str] | list[bytes] | list[bool]
)

NUMBER_BYTES = 8
"""Bytes that one int or float counts for, whatever its size in memory."""


class MetricRecord(TypedDict[str, MetricValue]):
    """Numbers by name: int, float, or a list of one of them.

    Follows Flower's ``MetricRecord`` (``MetricsRecord`` until 1.16). Only assignment checks: a list may
    be appended to in place afterwards.

    Parameters
    ----------
    metric_dict : dict of str to int, float, list of int or list of float, optional
        Initial values.
    keep_input : bool, default True
        False removes each key from ``metric_dict`` after the record took it.

    Raises
    ------
    TypeError
        A key is not a str, or a value not one of the above. bool is not a metric, and of numpy's scalars only
        ``np.float64`` is, being a float; the first value of a list decides the type of the rest.

    Examples
    --------
    >>> record = MetricRecord({"loss": 0.5, "accuracy": [0.25, 0.75]})
    >>> record.count_bytes()
    36
    >>> record["correct"] = True  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: Not all values are of valid type. Expected `int | float ...` but `<class 'bool'>` was passed.
    """

    def __init__(self, metric_dict: Mapping[str, MetricValue] | None = None, keep_input: bool = True) -> None:
        super().__init__(require_str_key, _check_metric)
        _take_over(self, metric_dict, keep_input)

    def count_bytes(self) -> int:
        """Return 8 for every number plus the length of every key in characters."""
        return sum(
            len(key) + NUMBER_BYTES * (len(value) if isinstance(value, list) else 1)
            for key, value in self.items()
        )


class ConfigRecord(TypedDict[str, ConfigValue]):
    """Settings by name: int, float, str, bytes, bool, or a list of one of them.

    Follows Flower's ``ConfigRecord`` (``ConfigsRecord`` until 1.16). Only assignment checks: a list may
    be appended to in place afterwards.

    Parameters
    ----------
    config_dict : dict of str to values, optional
        Initial values.
    keep_input : bool, default True
        False removes each key from ``config_dict`` after the record took it.

    Raises
    ------
    TypeError
        A key is not a str, or a value not one of the above; the first value of a list decides the type of
        the rest.

    Examples
    --------
    >>> ConfigRecord({"lr": 0.1, "layers": ["a", "b"], "augment": True}).count_bytes()
    26
    """

    def __init__(self, config_dict: Mapping[str, ConfigValue] | None = None, keep_input: bool = True) -> None:
        super().__init__(require_str_key, _check_config)
        _take_over(self, config_dict, keep_input)

    def count_bytes(self) -> int:
        """Return the bytes of every value plus the length of every key in characters.

        8 for an int or float, 1 for a bool, the length for str and bytes; the first value of a list decides
        for the whole list, as in Flower. Empty values count 0 (where Flower raises).
        """
        return sum(len(key) + _config_bytes(value) for key, value in self.items())


MetricsRecord = MetricRecord
ConfigsRecord = ConfigRecord


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return numpy scalars, and ndarrays and tensors without axes, as the numbers that they hold.

    Examples
    --------
    >>> import numpy as np
    >>> plain_values({"loss": np.float32(0.5), "name": "fedavg"})
    {'loss': 0.5, 'name': 'fedavg'}
    """
    return {key: _plain_value(value) for key, value in values.items()}


def _plain_value(value: Any) -> Any:
    if type(value) is list:
        return [_plain_value(item) for item in value]
    if callable(getattr(value, "item", None)) and getattr(value, "shape", None) == ():
        return value.item()
    return value


def _check_metric(value: object) -> None:
    kind = _deciding_type(value)
    if kind is not None and (not issubclass(kind, (int, float)) or issubclass(kind, bool)):
        raise _invalid(MetricValue, kind)
    _check_rest(value, kind, "int | float")


def _check_config(value: object) -> None:
    kind = _deciding_type(value)
    if kind is not None and not issubclass(kind, (int, float, str, bytes)):
        raise _invalid(ConfigValue, kind)
    _check_rest(value, kind, "int | float | str | bytes | bool")


def _deciding_type(value: object) -> type | None:
    """Return the type of a value, or of the first value of a list; None for an empty list."""
    if isinstance(value, list):
        return type(value[0]) if value else None
    return type(value)


def _check_rest(value: object, kind: type | None, allowed: str) -> None:
    if kind is None or not isinstance(value, list):
        return
    for place, item in enumerate(value):
        if not isinstance(item, kind):
            raise TypeError(
                f"All values in a list must be of the same valid type. One of {allowed}. "
                f"The first is {kind}, the one at {place} is {type(item)}."
            )


def _invalid(allowed: object, kind: type) -> TypeError:
    return TypeError(f"Not all values are of valid type. Expected `{allowed}` but `{kind}` was passed.")


def _config_bytes(value: ConfigValue) -> int:
    items: list[Any] = value if isinstance(value, list) else [value]
    if not items:
        return 0
    if isinstance(items[0], (str, bytes)):
        return sum(len(item) for item in items)
    return len(items) * (1 if isinstance(items[0], bool) else NUMBER_BYTES)


def _take_over(record: TypedDict[str, Any], given: Mapping[str, Any] | None, keep_input: bool) -> None:
    if keep_input or given is None:
        record.update(given or {})
        return
    if not isinstance(given, MutableMapping):
        raise TypeError(f"keep_input=False removes keys, which a {type(given).__name__} does not allow")
    record.update(given)
    for key in record:
        del given[key]
