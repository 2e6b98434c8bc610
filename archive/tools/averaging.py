"""The weighted mean of archives of one schema, array by array and piece by piece."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import numpy as np

from archive import tuning
from archive.descriptions import parse_description
from archive.dtypes import NDArray
from archive.engine.progress import Bar, Progress, Report
from archive.engine.read.handle import Archive
from archive.engine.read.open import open_reader
from archive.engine.read.storedpayload import StoredPayload
from archive.engine.report import SaveReport
from archive.engine.write.create import ArchiveWriter
from archive.errors import UnsupportedDtypeError, ValueRangeError
from archive.format.constants import MODE_ELEMENTS
from archive.records import Array
from archive.storage.url import URL, Cache, Location, parse_url

__all__ = ["mean"]

EXACT_IN_DOUBLE = 1 << 53


def mean(
    urls: Iterable[URL],
    weights: Iterable[float] | None = None,
    *,
    out: URL,
    overwrite: bool = True,
    durable: bool = True,
    created: datetime | str | None = None,
    progress: Progress = None,
    cache: Cache = None,
    cache_bytes: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> SaveReport:
    """Average archives of equal schema into a new one, in a few megabytes of memory.

    Parameters
    ----------
    urls : iterable of str or path-like
        Archives whose arrays have the same names, dtypes and shapes.
    weights : iterable of float, optional
        One for each, not negative; equal weights if not given.
    out : str or path-like
        Where the mean goes. Metrics and configs are not averaged and not taken over.
    overwrite, durable, created, progress, storage_options
        As for `save`.
    cache, cache_bytes
        Of ``urls``, as for `open`.

    Returns
    -------
    SaveReport

    Raises
    ------
    ValueRangeError
        The archives differ in schema, the weights make no mean, or an integer is too large for one.
    UnsupportedDtypeError
        Arrays that are not numbers differ.
    DigestError
        An input is damaged; nothing is published.

    Notes
    -----
    Products and sums are float64 (complex128, or longdouble for longdouble), rounded once to the input's
    dtype. Integers are rounded half to even. Arrays that are not numbers must be equal everywhere. Arrays
    that are tied in every archive stay tied.
    ``np.multiply(value, weight, dtype=float64)`` makes each product: ``weight * value`` would be float32.

    Examples
    --------
    >>> import archive, numpy as np
    >>> for client in (1, 3):
    ...     _ = archive.save({"w": np.full(2, client, "f4")}, f"/tmp/fedarchive-doctest-{client}.h5")
    >>> urls = ["/tmp/fedarchive-doctest-1.h5", "/tmp/fedarchive-doctest-3.h5"]
    >>> _ = archive.mean(urls, [1, 3], out="/tmp/fedarchive-averaging.h5")
    >>> archive.load("/tmp/fedarchive-averaging.h5")["model"]["w"].numpy().tolist()
    [2.5, 2.5]
    """
    if isinstance(urls, (str, os.PathLike)):
        raise TypeError("mean takes a list of archives, not one path; glob.glob() makes one of a pattern")
    with ExitStack() as stack:
        inputs = (_locate(url, storage_options, cache, cache_bytes) for url in urls)
        readers = (open_reader(location, access="auto", verify="first") for location in inputs)
        handles = [stack.enter_context(Archive(reader)) for reader in readers]
        shares = [1.0] * len(handles) if weights is None else [float(weight) for weight in weights]
        report = stack.enter_context(Bar(progress, "averaging"))
        location = _locate(out, storage_options)
        writer = ArchiveWriter(location, overwrite=overwrite, durable=durable, created=created)
        with writer:
            _require_weights(shares, len(handles), location.display)
            _average(handles, shares, writer, report)
    return writer.report


def _average(
    archives: Sequence[Archive],
    weights: Sequence[float],
    writer: ArchiveWriter,
    progress: Report | None,
) -> None:
    """Write the weighted mean of all arrays, in the order of the first archive."""
    names = list(archives[0])
    for other in archives[1:]:
        _require_schema(archives[0], other, names)
    for record, found in archives[0].attributes.items():
        writer.attributes[record] = dict(found)
    total = sum(archives[0][name].nbytes for name in names)
    done = 0
    for name in names:
        arrays = [handle[name] for handle in archives]
        _add_mean(writer, name, arrays, weights)
        done += arrays[0].nbytes
        if progress is not None:
            progress(done, total)


def _require_weights(weights: Sequence[float], archives: int, out: str) -> None:
    problem = ""
    if not archives:
        problem = "the mean of no archives"
    elif len(weights) != archives:
        problem = f"{len(weights)} weights for {archives} archives"
    elif not all(weight >= 0 for weight in weights) or not 0 < sum(weights) < math.inf:
        problem = f"weights must be finite, not negative and not all zero: {list(weights)[:5]}"
    if problem:
        raise ValueRangeError(problem, path=out, remedy="give every archive one weight; nothing was written")


def _require_schema(first: Archive, other: Archive, names: list[tuple[str, str]]) -> None:
    """Raise where two archives do not hold the same arrays of the same types."""
    path, remedy = other.info.path, "average archives of one model"
    if set(other) != set(names):
        odd = "/".join(min(set(other) ^ set(names)))
        raise ValueRangeError("this array is not in all archives", path=path, key=odd, remedy=remedy)
    for name in names:
        ours, theirs = first[name], other[name]
        if (ours.dtype, ours.shape, ours.stype) != (theirs.dtype, theirs.shape, theirs.stype):
            raise ValueRangeError(
                f"{theirs.dtype} {tuple(theirs.shape)} {theirs.stype!r}, "
                f"elsewhere {ours.dtype} {tuple(ours.shape)} {ours.stype!r}",
                path=path,
                key="/".join(name),
                remedy=remedy,
            )


def _add_mean(
    writer: ArchiveWriter, name: tuple[str, str], arrays: list[Array], weights: Sequence[float]
) -> None:
    payloads = [array.payload for array in arrays]
    stored = [payload for payload in payloads if isinstance(payload, StoredPayload)]
    kind = stored[0].type
    dtype = parse_description(kind.description) if kind.mode == MODE_ELEMENTS else None
    if dtype is not None and _is_number(dtype) and all(payload.type == kind for payload in stored):
        tied = tuple(payload.identity for payload in stored)  # the same bytes in every archive: one mean
        writer.add_stored(*name, stored[0].spec, _pieces(stored, weights, dtype, name), tied)
        return
    data = arrays[0].data
    if any(array.data != data for array in arrays[1:]):
        raise UnsupportedDtypeError(
            f"{arrays[0].dtype!r} arrays have no mean, and these differ",
            key="/".join(name),
            remedy="save the one to keep yourself",
        )
    writer.add(*name, arrays[0])


def _is_number(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iufc" or dtype.name.startswith(("bfloat16", "float8"))


def _pieces(
    stored: list[StoredPayload], weights: Sequence[float], dtype: np.dtype[Any], name: tuple[str, str]
) -> Iterator[NDArray]:
    """Yield the stored bytes of the mean: elements in C order, whatever the shape, a few megabytes each."""
    step = max(tuning.MEAN_BYTES // dtype.itemsize, 1) * dtype.itemsize
    for start in range(0, stored[0].nbytes, step):
        stop = min(start + step, stored[0].nbytes)
        values = [payload.stored_range(start, stop).view(dtype) for payload in stored]
        yield _mean(values, weights, dtype, name).view(np.uint8)
        for payload in stored:
            payload.release()


def _mean(
    values: Sequence[NDArray], weights: Sequence[float], dtype: np.dtype[Any], name: tuple[str, str]
) -> NDArray:
    wide = np.dtype(np.complex128 if dtype.kind == "c" else np.float64)
    if dtype.kind in "fc" and dtype.type.__module__ == "numpy":
        wide = np.result_type(dtype.newbyteorder("="), wide)  # longdouble keeps its digits
    total = np.zeros(values[0].shape, wide)
    product = np.empty_like(total)
    with np.errstate(over="ignore", invalid="ignore"):
        for value, weight in zip(values, weights, strict=True):
            if dtype.kind in "iu":
                _require_exact(value, name)
            # numpy cannot multiply float8 and bfloat16 into a wider result
            source = value if dtype.type.__module__ == "numpy" else value.astype(wide)
            np.multiply(source, weight, out=product, dtype=wide)
            total += product
        total /= math.fsum(weights)
        if dtype.kind in "iu":
            np.rint(total, out=total)
        return total.astype(dtype)


def _require_exact(value: NDArray, name: tuple[str, str]) -> None:
    if value.dtype.itemsize == 8 and value.size:
        largest = max(abs(int(value.max())), abs(int(value.min())))
        if largest > EXACT_IN_DOUBLE:
            raise ValueRangeError(
                f"an integer of {largest} is too large for an exact mean",
                key="/".join(name),
                remedy="average it yourself",
            )


def _locate(
    url: URL,
    storage_options: Mapping[str, Any] | None,
    cache: Cache = None,
    cache_bytes: int | None = None,
) -> Location:
    """Return the location of one URL of several: options are for the remote ones alone."""
    options = storage_options if parse_url(url).remote else None
    return parse_url(url, options, cache, cache_bytes)
