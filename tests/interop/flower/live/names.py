"""Flower's names for records, by generation of flwr, and our names of the same generation.

Generation "set" has three name spaces (until flwr 1.15), "single" one name space under the old names (1.16),
"dict" the names of today.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import archive

Names = SimpleNamespace


def require_today() -> Any:
    """Return ``flwr.common``; skip the module without flwr, and with a release before 1.17."""
    common = pytest.importorskip("flwr.common")
    if not hasattr(common, "RecordDict"):
        pytest.skip("flwr before 1.17", allow_module_level=True)
    return common


def flower_names() -> Names:
    import flwr.common as names

    new = hasattr(names, "RecordDict")
    one = new or "records" in names.RecordSet.__init__.__code__.co_varnames
    return Names(
        generation="dict" if new else "single" if one else "set",
        shape=type(names.array_from_numpy(np.zeros(2)).shape),
        Array=names.Array,
        Arrays=names.ArrayRecord if new else names.ParametersRecord,
        ParametersRecord=names.ParametersRecord,
        Metrics=names.MetricRecord if new else names.MetricsRecord,
        Configs=names.ConfigRecord if new else names.ConfigsRecord,
        Records=names.RecordDict if new else names.RecordSet,
        RecordSet=names.RecordSet,
        Context=names.Context,
        array_from_numpy=names.array_from_numpy,
    )


def our_names(flower: Names) -> Names:
    """Return our names of the generation of an installed flwr."""
    return Names(
        generation=flower.generation,
        shape=flower.shape,
        Array=archive.Array,
        Arrays=archive.ParametersRecord if has_old_names(flower) else archive.ArrayRecord,
        ParametersRecord=archive.ParametersRecord,
        Metrics=archive.MetricRecord,
        Configs=archive.ConfigRecord,
        Records=archive.RecordSet if has_three_spaces(flower) else archive.RecordDict,
        RecordSet=archive.RecordSet,
        Context=archive.Context,
        array_from_numpy=archive.array_from_numpy,
    )


def has_old_names(lib: Names) -> bool:
    return bool(lib.generation != "dict")


def has_today_names(lib: Names) -> bool:
    return not has_old_names(lib)


def has_three_spaces(lib: Names) -> bool:
    """Tell whether a container has a name space for each kind; Array is then a dataclass without checks."""
    return bool(lib.generation == "set")


def make_array(lib: Names, dtype: str, shape: tuple[int, ...], stype: str, data: bytes) -> Any:
    return lib.Array(dtype, lib.shape(shape), stype, data)


def small(lib: Names, *values: float) -> Any:
    return lib.array_from_numpy(np.array(values))


def make_records(lib: Names, records: dict[str, Any]) -> Any:
    if not has_three_spaces(lib):
        return lib.Records(records)
    kinds = (lib.Arrays, lib.Metrics, lib.Configs)
    return lib.Records(*({n: r for n, r in records.items() if isinstance(r, kind)} for kind in kinds))


def views(lib: Names, records: Any) -> tuple[Any, Any, Any]:
    """Return arrays, metrics and configs of a container by name, under the names of its generation."""
    if isinstance(records, archive.RecordDict) or lib.generation == "dict":
        return records.array_records, records.metric_records, records.config_records
    return records.parameters_records, records.metrics_records, records.configs_records
