"""Writes the weighted sums or means of archives of one model, array by array."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from archive import tuning
from archive.descriptions import parse_description
from archive.dtypes import NDArray
from archive.engine.read.storedpayload import lazy_array
from archive.engine.storagespec import StorageSpec
from archive.engine.write.create import ArchiveWriter
from archive.errors import ArchiveError
from archive.format.constants import MODE_ELEMENTS
from archive.tools.meanwindows import plan_windows
from archive.tools.sameschema import Template
from archive.tools.summing import BadInputsError, Results, Summand, Summing

__all__ = ["write_sums"]


def write_sums(
    writer: ArchiveWriter,
    template: Template,
    inputs: Sequence[Summand],
    *,
    divisor: float | None,
    specs: Sequence[StorageSpec],
    finite: bool,
    advance: Callable[[int], object],
) -> None:
    """Write the weighted sums of all arrays, or their means.

    Arrays that are not numbers are those of the first input. Those that are tied in all inputs stay tied.

    Parameters
    ----------
    writer : ArchiveWriter
    template : Template
    inputs : sequence of Summand
    divisor : float or None
        What the sums are divided by before they get the type of ``specs``; None: they stay wide.
    specs : sequence of StorageSpec
        What each array is to be; `wide_specs` where there is no divisor.
    finite : bool
        Whether NaN and infinities are an error of the input that holds them.
    advance : callable
        Called with the bytes of the inputs that were added up.

    Raises
    ------
    BadInputsError
        What was written is to be discarded.
    """
    leaders = template.leaders(one.layout for one in inputs)
    arrays = [
        number
        for number, dtype in enumerate(template.dtypes)
        if dtype is not None and leaders[number] == number and template.nbytes[number]
    ]
    targets = list(map(_dtype_of, specs))
    remote = any(one.reader.source.pinned for one in inputs)
    total = sum(template.nbytes[number] for number in arrays)
    fetched = tuning.MEAN_FETCHED_BYTES // tuning.MEAN_FETCHES
    stored_bytes = min(fetched, total) if remote else _window_bytes(total)
    windows = plan_windows(
        inputs[0].layout,
        arrays,
        template.dtypes,
        targets,
        stored_bytes=stored_bytes,
        wide_bytes=tuning.MEAN_WIDE_BYTES,
    )
    summing = Summing(template, inputs, divisor, finite)
    results = summing.fetched(windows, stored_bytes) if remote else summing.read(windows)
    for record, found in template.attributes.items():
        writer.attributes[record] = dict(found)
    with closing(results):
        stream = _Stream(results, advance)
        for number, (record, key) in enumerate(template.names):
            if template.dtypes[number] is None:
                _copy(writer, record, key, inputs[0], number)
            elif leaders[number] != number:
                writer.tie(record, key, template.names[leaders[number]])
            else:
                writer.add_stored(record, key, specs[number], stream.take(number), None)


def _window_bytes(total: int) -> int:
    """Return the bytes of a window of files: about equal ones, and as many for each thread."""
    threads = tuning.THREADS
    windows = max(-(-total // tuning.MEAN_BYTES), min(threads, total // tuning.MEAN_LEAST_BYTES), 1)
    if windows == 1:
        return tuning.MEAN_BYTES
    return total // (-(-windows // threads) * threads) + (1 << 16)


class _Stream:
    """Results array by array."""

    def __init__(self, results: Results, advance: Callable[[int], object]) -> None:
        self._results, self._advance = results, advance
        self._waiting: deque[tuple[int, NDArray]] = deque()

    def take(self, array: int) -> Iterator[NDArray]:
        """Yield the stored bytes of an array, which are the next."""
        while self._fill() and self._waiting[0][0] == array:
            yield self._waiting.popleft()[1]

    def _fill(self) -> bool:
        while not self._waiting:
            found = next(self._results, None)
            if found is None:
                return False
            self._advance(found[0])
            self._waiting += found[1]
        return True


def _copy(writer: ArchiveWriter, record: str, key: str, one: Summand, number: int) -> None:
    """Write an array that is not numbers, as an input has it."""
    reader, row = one.reader, one.layout.rows[number]
    index = reader.index
    array = lazy_array(reader, row, index.shape(row), index.type.item(row))
    try:
        writer.add(record, key, array)
    except ArchiveError as error:
        if error.path != reader.path:
            raise
        raise BadInputsError({one.position: error}) from error


def _dtype_of(spec: StorageSpec) -> np.dtype[Any] | None:
    return parse_description(spec.type.description) if spec.type.mode == MODE_ELEMENTS else None
