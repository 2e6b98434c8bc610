"""The records a program holds: Arrays, metrics and configs by name.

A pure floor: it imports numpy, ``archive.errors`` and ``archive.dtypes``, and never opens a file. The bytes
of an Array come through the ``Payload`` protocol; the engine has payloads that read an archive. torch is
looked up in ``sys.modules`` and never imported.
"""

from __future__ import annotations

from archive.records.array import Array, array_from_numpy
from archive.records.arrayrecord import ArrayRecord
from archive.records.context import Context
from archive.records.parametersrecord import ParametersRecord
from archive.records.payload import BytesPayload, NdarrayPayload, Payload
from archive.records.recorddict import RecordDict
from archive.records.recordset import Record, RecordSet
from archive.records.shape import Shape
from archive.records.stype import GC_THRESHOLD, SType
from archive.records.typeddict import TypedDict
from archive.records.valuerecord import ConfigRecord, ConfigsRecord, MetricRecord, MetricsRecord

__all__ = [
    "GC_THRESHOLD",
    "Array",
    "ArrayRecord",
    "BytesPayload",
    "ConfigRecord",
    "ConfigsRecord",
    "Context",
    "MetricRecord",
    "MetricsRecord",
    "NdarrayPayload",
    "ParametersRecord",
    "Payload",
    "Record",
    "RecordDict",
    "RecordSet",
    "SType",
    "Shape",
    "TypedDict",
    "array_from_numpy",
]
