"""An archive read by every way there is, and what that took."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import archive
from archive.errors import ArchiveError
from archive.npy import split_npy

__all__ = ["Outcome", "hand_out", "measure", "read_everything"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an action."""

    error: ArchiveError | None
    """The typed error that it ended with; any other exception is not caught."""
    seconds: float
    """Processor time, of all threads."""
    peak_bytes: int
    """Memory that Python and numpy had at most, above what there was."""


def measure(action: Callable[[], object]) -> Outcome:
    """Run something, and say how it ended and what it took.

    Examples
    --------
    >>> outcome = measure(lambda: archive.open("/tmp/no such file"))
    >>> type(outcome.error).__name__, outcome.seconds < 1, outcome.peak_bytes < 1 << 20
    ('MissingError', True, True)
    """
    error = None
    tracemalloc.start()
    begun = time.process_time()
    try:
        action()
    except ArchiveError as caught:
        error = caught
    finally:
        seconds, peak = time.process_time() - begun, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return Outcome(error, seconds, peak)


def read_everything(path: Path | str) -> None:
    """Do with an archive all that a program can: info, records, values, elements, slices, verify, load.

    Raises
    ------
    ArchiveError
        The first that any of it ends with.
    AssertionError
        What was handed out contradicts itself: shape, length, `Array.data` and elements.
    """
    with archive.open(path) as handle:
        _ = handle.info, handle.attributes
        assert len(hand_out(handle)) >= len(handle)
        for pair in handle:
            array = handle[pair]
            if array.stype == "numpy.ndarray":
                _ = array[...], array.numpy(copy=True)
        handle.verify()
    archive.load(path)


def hand_out(source: Any) -> list[Any]:
    """Return everything that an archive hands out, in a form that compares bit for bit.

    Parameters
    ----------
    source : Archive, RecordSet or RecordDict

    Raises
    ------
    ArchiveError
        As reading it does.
    AssertionError
        An array contradicts itself.
    """
    records = source.records if isinstance(source, archive.Archive) else source
    if isinstance(records, archive.RecordDict):
        spaces: tuple[Any, ...] = (records,)
    else:
        spaces = (records.parameters_records, records.metrics_records, records.configs_records)
    found: list[Any] = []
    for space in spaces:
        for name, record in space.items():
            found.append(name)
            for key, value in record.items():
                if isinstance(value, archive.Array):
                    found += _array(key, value)
                else:
                    found.append((key, repr(value)))
    return found


def _array(key: str, array: archive.Array) -> list[Any]:
    data = array.data
    assert len(data) == array.payload.data_nbytes, f"{key}: data of another length"
    found: list[Any] = [(key, array.dtype, tuple(array.shape), array.stype, data)]
    if array.stype != "numpy.ndarray":
        return found
    try:
        layout = split_npy(data)
    except ValueError:
        return found  # opaque: whatever a caller gave
    elements = array.numpy()
    assert elements.shape == layout.shape, f"{key}: elements of another shape than their data"
    order: Any = "F" if layout.fortran_order else "C"
    inside = np.ndarray(layout.shape, layout.dtype, data, layout.header_bytes, order=order)
    # numpy widens elements of no bytes to copy them: 4 bytes each of "<U0", however many there are
    body = elements.tobytes() if elements.nbytes else b""
    assert body == (inside.tobytes() if inside.nbytes else b""), f"{key}: elements that are not their data"
    return [*found, (str(elements.dtype), elements.shape, body)]
