"""What a caller hands to a store, and what the store adds to it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archive.checkpoints.curve import CURVE
from archive.checkpoints.finitefiles import FileCheck
from archive.checkpoints.snapshot import take_snapshot
from archive.engine.report import SaveReport
from archive.engine.write.inputs import Inputs, RecordInput, gather
from archive.engine.write.plan import timestamp
from archive.engine.write.saving import SaveOptions, save_inputs
from archive.errors import ValueRangeError
from archive.format.constants import KIND_CONFIGS, KIND_METRICS, KINDS, MAX_ATTRIBUTE_BYTES
from archive.records import GC_THRESHOLD
from archive.storage.url import Location
from archive.tools.columns import Row
from archive.tools.spelling import CHECKPOINT

__all__ = ["OWN_RECORDS", "Content", "create_file", "metrics_of"]

CURVE_BYTES = 2000
"""A larger value of the curve is a dataset, which a reader of metrics leaves alone: as an attribute 40,000
bytes take 21 ms to save, for the checksum of HDF5, and 1.5 ms to read."""
OWN_RECORDS = (CHECKPOINT, CURVE)
"""Records that a store adds to a file, and takes out when the file is opened."""


@dataclass(frozen=True, slots=True)
class Content:
    """Arguments of a save."""

    records: Any
    """Anything that `archive.save` takes."""
    metrics: Mapping[str, Any] | None = None
    """As for `archive.save`."""
    configs: Mapping[str, Any] | None = None
    """As for `archive.save`."""

    def copy(self) -> Content:
        """Return a copy that later changes do not reach."""
        return Content(take_snapshot(self.records), copy.deepcopy(self.metrics), copy.deepcopy(self.configs))

    def inputs(self, marks: Mapping[str, Mapping[str, Any]]) -> Inputs:
        """Return what is to be saved, with records of the store's own.

        Raises
        ------
        ValueRangeError
            A record has a name of the store's own records.
        """
        inputs = gather(self.records, "model", self.metrics, self.configs)
        for record in inputs.records:
            if record.name in OWN_RECORDS:
                raise ValueRangeError(
                    "a record of this name is the store's own",
                    key=record.name,
                    remedy="give the record another name",
                )
        inputs.records += [
            RecordInput(
                KIND_CONFIGS,
                name,
                values=values,
                attribute_bytes=CURVE_BYTES if name == CURVE else MAX_ATTRIBUTE_BYTES,
            )
            for name, values in marks.items()
        ]
        return inputs


def metrics_of(inputs: Inputs) -> Row:
    """Return the metrics of what is to be saved, as they are read back."""
    return {
        (KINDS[KIND_METRICS], record.name, key): value
        for record in inputs.records
        if record.kind == KIND_METRICS
        for key, value in record.values.items()
    }


def create_file(inputs: Inputs, location: Location, check: FileCheck) -> SaveReport:
    """Save what is to be a new file, unless its check forbids that.

    Raises
    ------
    ExistsError
        A file is there.
    NonFiniteError
        The check found something.
    ArchiveError, TypeError, ValueError
        As for `archive.save`.
    """
    options = SaveOptions(
        location,
        timestamp(None),
        overwrite=False,
        durable=True,
        keep_input=True,
        spool=True,
        gc_threshold=GC_THRESHOLD,
        progress=None,
        require=check.require,
        check=check.looks,
    )
    return save_inputs(inputs, options)
