"""Adds up the windows of archives: what is read is verified, added in the order of the inputs, and judged.

Sums are made in float64 (longdouble for longdouble). The products of the inputs are added in their order,
beginning with zero; complex numbers are pairs of real ones. Each element is a sum of its own, so its bits do
not depend on windows, blocks or threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from archive import tuning
from archive.dtypes import NDArray
from archive.engine.read.fill import Fill, run_fills
from archive.engine.read.reader import Reader
from archive.errors import ArchiveError, ValueRangeError
from archive.tools.meanwindows import Fetch, Part, Strip, Window
from archive.tools.sameschema import Layout, Template
from archive.tools.widening import add_product, narrowed, real_dtype, wide_dtype
from archive.tools.windowreads import WindowReads
from archive.workers import run_parallel

__all__ = ["BadInputsError", "Results", "Summand", "Summing"]

EXACT_IN_DOUBLE = 1 << 53


@dataclass(frozen=True, slots=True, eq=False)
class Summand:
    """One open archive that is added up."""

    position: int
    """Its place among all inputs."""
    reader: Reader
    layout: Layout
    """Where it keeps the arrays."""
    weight: float
    """What its elements are multiplied by."""


class BadInputsError(Exception):
    """Inputs that cannot be added up: their errors by position."""

    def __init__(self, errors: dict[int, ArchiveError]) -> None:
        super().__init__(errors)
        self.errors = errors


Results = Generator[tuple[int, list[tuple[int, NDArray]]], None, None]
"""Bytes of inputs that were added up, and of each part the number of its array and its stored bytes."""


@dataclass(frozen=True, slots=True)
class Summing:
    """Adds the windows of some archives up."""

    template: Template
    inputs: Sequence[Summand]
    divisor: float | None
    finite: bool

    def read(self, windows: Iterator[Window]) -> Results:
        """Yield the results of windows of files: one window a thread, read into a memory of its own."""
        yield from run_parallel(self._read_window, windows, ahead=2 * tuning.THREADS)

    def _read_window(self, window: Window) -> tuple[int, list[tuple[int, NDArray]]]:
        totals, buffer = _zeros(window), _memory(window)
        reads = WindowReads(window, buffer)
        for one in self.inputs:
            with _Blaming(one):
                reads.fill(one.reader, one.layout)
            self._add(window, totals, one, buffer)
        return self._finish(window, totals)

    def fetched(self, windows: Iterator[Window], window_bytes: int) -> Results:
        """Yield the results of windows of which some input is remote: a few inputs are fetched ahead."""
        waiting: deque[Window] = deque()
        spare: deque[NDArray] = deque()

        def items() -> Iterator[tuple[Window, Summand, NDArray]]:
            for window in windows:
                waiting.append(window)
                for one in self.inputs:
                    # made by this thread: each that fetches would keep what it freed, 5 MB or more
                    buffer = spare.pop() if spare else np.empty(0, np.uint8)
                    yield window, one, buffer if len(buffer) >= window.nbytes else _memory(window)

        ahead = max(2, tuning.MEAN_FETCHED_BYTES // max(window_bytes, 1 << 20))
        network = max(1, *(one.reader.network for one in self.inputs))
        buffers = run_parallel(self._fetch, items(), network=min(network, ahead), ahead=ahead)
        number, totals = 0, list[NDArray]()
        with closing(buffers):
            for buffer in buffers:
                totals = totals if number else _zeros(waiting[0])
                self._add(waiting[0], totals, self.inputs[number], buffer)
                spare.append(buffer)
                number += 1
                if number == len(self.inputs):
                    window, summed, totals, number = waiting.popleft(), totals, [], 0
                    result = self._finish(window, summed)
                    del summed  # or it would live on while the next window is added up
                    yield result
                    del result

    def _fetch(self, item: tuple[Window, Summand, NDArray]) -> NDArray:
        """Return a buffer with the bytes of a window of an input."""
        self._fill(*item)
        return item[2]

    def _fill(self, window: Window, one: Summand, buffer: NDArray) -> None:
        """Fill a buffer with the verified bytes of a window, as they lie in the first archive."""
        reader = one.reader
        with _Blaming(one):
            if reader.network:  # as they come: a request has no memory of its own beside the buffer
                fills = [fill for fetch in window.fetches(one.layout) for fill in _fills(fetch, buffer)]
                for _ in run_fills(reader, fills):
                    pass
                return
            WindowReads(window, buffer).fill(reader, one.layout)

    def _add(self, window: Window, totals: list[NDArray], one: Summand, buffer: NDArray) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            for strip, total in zip(window.strips, totals, strict=True):
                values = buffer[strip.at : strip.stop].view(real_dtype(strip.dtype))
                if strip.dtype.kind in "iu" and strip.dtype.itemsize == 8:
                    self._require_exact(strip, one, values)
                add_product(total, values, one.weight)

    def _require_exact(self, strip: Strip, one: Summand, values: NDArray) -> None:
        for part in strip.parts:
            found = values[(part.at - strip.at) // 8 :][: part.nbytes // 8]
            largest = max(abs(int(found.max())), abs(int(found.min())))
            if largest > EXACT_IN_DOUBLE:
                problem = f"an integer of {largest} is too large for an exact mean"
                raise self._blame(one, part.array, problem, "average it yourself")

    def _blame(self, one: Summand, array: int, problem: str, remedy: str) -> BadInputsError:
        key = self.template.full_name(array)
        error = ValueRangeError(problem, path=one.reader.path, key=key, remedy=remedy)
        return BadInputsError({one.position: error})

    def _finish(self, window: Window, totals: list[NDArray]) -> tuple[int, list[tuple[int, NDArray]]]:
        """Return the stored bytes of the parts of a window."""
        found: list[tuple[int, NDArray]] = []
        with np.errstate(over="ignore", invalid="ignore"):
            if self.finite and not all(_is_finite(total) for total in totals):
                self._require_finite(window)
            for strip, total in zip(window.strips, totals, strict=True):
                made = total
                if self.divisor is not None:
                    # complex numbers are divided as such: by a multiplication with the inverse
                    whole = total.view(f"c{2 * total.itemsize}") if strip.dtype.kind == "c" else total
                    whole /= self.divisor
                    if strip.target.kind in "iu":
                        np.rint(total, out=total)
                    made = narrowed(total, real_dtype(strip.target))
                stored, size = made.view(np.uint8), strip.target.itemsize
                for part in strip.parts:
                    at = (part.at - strip.at) // strip.dtype.itemsize * size
                    nbytes = part.nbytes // strip.dtype.itemsize * size
                    found.append((part.array, stored[at : at + nbytes]))
        return window.stored_nbytes * len(self.inputs), found

    def _require_finite(self, window: Window) -> None:
        """Raise for all inputs that hold NaN or infinities in a window, of which a sum is not finite.

        Padding may hold anything, and finite values may add up to an infinity.
        """
        errors: dict[int, ArchiveError] = {}
        for one in self.inputs:
            buffer = _memory(window)
            self._fill(window, one, buffer)
            parts = [(strip, part) for strip in window.strips for part in strip.parts]
            bad = next(
                (part.array for strip, part in parts if not _part_is_finite(strip, part, buffer)), None
            )
            if bad is not None:
                errors[one.position] = self._non_finite(one, bad)
        if errors:
            raise BadInputsError(errors)

    def _non_finite(self, one: Summand, array: int) -> ArchiveError:
        """Return the error that counts what is not finite in an array."""
        dtype: Any = self.template.dtypes[array]
        row, end = one.layout.owners[array], self.template.nbytes[array]
        nans = infinities = 0
        step = tuning.REQUEST_BYTES // dtype.itemsize * dtype.itemsize
        for start in range(0, end, step):
            values = _floats(one.reader.stored_range(row, start, min(start + step, end)), dtype)
            nans += int(np.isnan(values).sum())
            infinities += int(np.isinf(values).sum())
        return ValueRangeError(
            f"{nans} NaN and {infinities} infinite of {end // dtype.itemsize} elements",
            path=one.reader.path,
            key=self.template.full_name(array),
            remedy="leave the client out (errors='skip', --skip), or take its NaN (nan='allow', --allow-nan)",
        )


class _Blaming:
    """Turns an error of reading an input into `BadInputsError`."""

    __slots__ = ("_one",)

    def __init__(self, one: Summand) -> None:
        self._one = one

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ArchiveError):
            raise BadInputsError({self._one.position: error}) from error


def _fills(fetch: Fetch, buffer: NDArray) -> Iterator[Fill]:
    """Yield what is read into a buffer, and where: a range for each part."""
    for begin, nbytes, at in fetch.places:
        end = fetch.start + begin + nbytes
        inside = [segment for segment in fetch.segments if fetch.start + begin <= segment[0] < end]
        yield Fill(fetch.start + begin, buffer[at : at + nbytes], inside)


def _memory(window: Window) -> NDArray:
    """Return a buffer for the bytes of a window."""
    return np.zeros(window.nbytes, np.uint8)


def _zeros(window: Window) -> list[NDArray]:
    return [
        np.zeros((strip.stop - strip.at) // real_dtype(strip.dtype).itemsize, wide_dtype(strip.dtype))
        for strip in window.strips
    ]


def _is_finite(total: NDArray) -> bool:
    """Tell whether a total is finite; its sum may overflow, which is looked into."""
    return bool(np.isfinite(np.add.reduce(total)))


def _floats(stored: NDArray, dtype: np.dtype[Any]) -> NDArray:
    values = stored.view(real_dtype(dtype))
    return values if values.dtype.type.__module__ == "numpy" else values.astype(np.float64)


def _part_is_finite(strip: Strip, part: Part, buffer: NDArray) -> bool:
    if strip.dtype.kind in "iu":
        return True
    return bool(np.isfinite(_floats(buffer[part.at : part.at + part.nbytes], strip.dtype)).all())
