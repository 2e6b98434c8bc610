"""Arrays of archives as lazy arrays of Dask (the extra ``dask``), in chunks of many megabytes.

A task holds no elements: it names the archive by its address and the digest of its footer, and whichever
process runs it opens the archive there. Secrets do not travel: workers take theirs from their environment
(``AWS_SECRET_ACCESS_KEY``), and options such as ``endpoint_url`` come along.

Examples
--------
>>> import archive, numpy as np
>>> from archive.interop.dask import stack, to_dask
>>> urls = [f"/tmp/fedarchive-doctest-dask-{number}.h5" for number in range(3)]
>>> for number, url in enumerate(urls):
...     _ = archive.save({"w": np.full((2, 2), float(number))}, url)
>>> with archive.open(urls[1]) as opened:
...     float(to_dask(opened["w"]).sum().compute())
4.0
>>> clients = stack(urls, "w")
>>> clients.shape, clients.mean(axis=0).compute().tolist()
((3, 2, 2), [[1.0, 1.0], [1.0, 1.0]])
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from archive import tuning
from archive.checkpoints.stacks import Key, Stack, StackedFile
from archive.dtypes import NDArray, parse_dtype
from archive.engine.read.handle import Archive
from archive.engine.read.reader import Reader
from archive.engine.read.storedpayload import StoredPayload
from archive.records import Array
from archive.records.payload import token_of
from archive.records.privateelements import unsupported_stype
from archive.records.stype import SType
from archive.storage.url import URL
from archive.tools.many import find_inputs

if TYPE_CHECKING:
    from dask.array import Array as DaskArray
    from xarray import DataArray

__all__ = ["stack", "to_dask", "to_xarray"]


@overload
def to_dask(source: Array, *, chunks: Any = None) -> DaskArray: ...


@overload
def to_dask(source: Archive, *, chunks: Any = None) -> dict[tuple[str, str], DaskArray]: ...


@overload
def to_dask(source: Mapping[str, Array], *, chunks: Any = None) -> dict[str, DaskArray]: ...


def to_dask(source: Array | Archive | Mapping[str, Array], *, chunks: Any = None) -> Any:
    """Return an array as a lazy array of Dask, or those of a record or archive by name.

    Parameters
    ----------
    source : Array, ArrayRecord or Archive
        The archive may be closed afterwards.
    chunks : optional
        As for `dask.array.from_array`. If not given, up to 128 MiB are one chunk; longer arrays are cut along
        their first axes into equal chunks of more than 64 MiB that end with segments where a row allows it.

    Returns
    -------
    dask.array.Array, or dict of them
        By key for a record, by (record, key) for an archive. A chunk is read and verified by the task that
        needs it; of one that is sliced only the segments that hold bytes of the slice.

    Raises
    ------
    TypeError
        No Array, record or archive, or ``stype`` of an Array is not ``"numpy.ndarray"``.
    ClosedError
        The archive is closed already.
    ImportError
        Dask is not installed.

    Notes
    -----
    Bytes that do not match raise DigestError when the task runs. Arrays of a foreign file can be computed in
    this process alone, by threads.

    Examples
    --------
    >>> import archive, numpy as np
    >>> _ = archive.save({"w": np.arange(6.0), "b": np.ones(2)}, "/tmp/fedarchive-doctest-dask.h5")
    >>> with archive.open("/tmp/fedarchive-doctest-dask.h5") as opened:
    ...     arrays = to_dask(opened)
    >>> arrays["model", "w"][2:4].compute()
    array([2., 3.])
    """
    shared: dict[Reader, Reader] = {}
    if isinstance(source, Array):
        return _of_array(source, chunks, shared)
    if isinstance(source, Archive):
        return {name: _of_array(source[name], chunks, shared) for name in source}
    arrays: Any = source
    if not isinstance(arrays, Mapping) or not all(isinstance(one, Array) for one in arrays.values()):
        raise TypeError(
            f"to_dask takes an Array, an ArrayRecord or an open archive, not {type(source).__name__}"
        )
    return {key: _of_array(array, chunks, shared) for key, array in arrays.items()}


def stack(
    source: URL | Iterable[URL] | Stack,
    key: Key | None = None,
    *,
    chunks: Any = None,
    storage_options: Mapping[str, Any] | None = None,
) -> DaskArray:
    """Return one array of many archives as one lazy array of Dask, the axis of archives in front.

    Each archive is opened once, to know its version, unless the round of a store names that: workers read
    this version or none.

    Parameters
    ----------
    source : str, path-like, iterable of them, or Stack
        A pattern or archives one by one, as for `archive.table`; or what `CheckpointStore.stack` returned.
    key : str or (str, str)
        Key of the array, or record and key; not for a Stack, which knows it.
    chunks : optional
        As for `dask.array.from_array`. If not given, a chunk has as many whole arrays as fit into 128 MiB,
        64 at most; of longer arrays, chunks are parts as for `to_dask`.
    storage_options : mapping, optional
        For URLs that are remote.

    Returns
    -------
    dask.array.Array
        A task for each chunk, and one that has the names of the archives.

    Raises
    ------
    TypeError
        No ``key`` for archives, or one for a Stack.
    KeyError
        The first archive has no such array.
    ValueError
        The list of archives is empty.
    ArchiveError
        An archive cannot be opened.
    ImportError
        Dask is not installed.

    Notes
    -----
    An archive whose array has another shape or element type than that of the first raises ValueRangeError
    when it is read; bytes that do not match raise DigestError.

    Examples
    --------
    >>> import archive, numpy as np, shutil
    >>> shutil.rmtree("/tmp/fedarchive-doctest-dask-run", ignore_errors=True)
    >>> store = archive.CheckpointStore("/tmp/fedarchive-doctest-dask-run")
    >>> for client in ("Berlin", "Oslo"):
    ...     _ = store.save({"w": np.full((2, 3), len(client))}, 1, client=client)
    >>> _ = store.save({"w": np.zeros((2, 3))}, 1)
    >>> stack(store.stack("w", round=1))[:, 0, 0].compute()
    array([6, 4])
    """
    from_array = _dask_array().from_array
    if isinstance(source, Stack):
        if key is not None:
            raise TypeError("a Stack has its key already: leave key out")
        stacked = source.pinned()
    elif key is None:
        raise TypeError("stack needs the key of the array")
    else:
        inputs = find_inputs(source, storage_options)
        if not inputs:
            raise ValueError("stack needs an archive: the list is empty")
        stacked = Stack(key, [StackedFile(None, None, one.place, None) for one in inputs]).pinned()
    lengths = chunks if chunks is not None else _stack_chunks(stacked.shape, stacked.dtype.itemsize)
    # not inline: each task would carry the names of all archives
    return from_array(stacked, lengths, asarray=False, meta=_meta(stacked))


def to_xarray(stacked: Stack, dims: Iterable[str] = (), *, chunks: Any = None) -> DataArray:
    """Return what `CheckpointStore.stack` returned as a lazy DataArray of xarray, with clients and rounds.

    Parameters
    ----------
    stacked : Stack
    dims : iterable of str, optional
        Names of the other axes; if not given, ``dim_1``, ``dim_2``, ...
    chunks : optional
        As for `stack`.

    Returns
    -------
    xarray.DataArray
        The first axis is ``client`` for the clients of one round, else ``round``; both are coordinates.

    Raises
    ------
    ImportError
        Dask or xarray is not installed.

    Examples
    --------
    >>> import archive, numpy as np, shutil
    >>> shutil.rmtree("/tmp/fedarchive-doctest-xarray", ignore_errors=True)
    >>> store = archive.CheckpointStore("/tmp/fedarchive-doctest-xarray")
    >>> for number in (1, 2):
    ...     _ = store.save({"w": np.full(3, float(number))}, number)
    >>> weights = to_xarray(store.stack("w", rounds="all"), ["unit"])  # doctest: +SKIP
    >>> float(weights.sel(round=2).mean("unit"))  # doctest: +SKIP
    2.0
    """
    array = stack(stacked, chunks=chunks)
    axis = "client" if stacked.clients[0] is not None and len(set(stacked.rounds)) == 1 else "round"
    others = list(dims) or [f"dim_{number}" for number in range(1, array.ndim)]
    named = {"client": stacked.clients if stacked.clients[0] is not None else (), "round": stacked.rounds}
    coords = {name: (axis, list(values)) for name, values in named.items() if values}
    return importlib.import_module("xarray").DataArray(array, coords, [axis, *others], name=str(stacked.key))


class _Elements:
    """An Array as Dask wants it: a numpy dtype, and indices that return private memory.

    A worker that mapped an archive and kept views of it would seem to hold all of it in memory.
    """

    def __init__(self, array: Array) -> None:
        self._array = array
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype: np.dtype[Any] = parse_dtype(array.dtype)
        self.ndim: int = len(self.shape)

    def __getitem__(self, index: Any) -> NDArray:
        return self._array.read(index)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return self._array.__dask_tokenize__()


def _of_array(array: Array, chunks: Any, shared: dict[Reader, Reader]) -> DaskArray:
    from_array = _dask_array().from_array
    if array.stype != SType.NUMPY:
        raise unsupported_stype(array.stype)
    payload = array.payload
    if isinstance(payload, StoredPayload):
        array = Array.from_payload(array.dtype, array.shape, array.stype, payload.share(shared))
    elements: Any = _Elements(array)
    if chunks is None:
        chunks = _chunks(elements.shape, elements.dtype.itemsize)
    if not isinstance(payload, StoredPayload):
        return from_array(array.numpy(), chunks)
    # what nothing names but its elements gets a name by chance, which is cheap
    name = None if token_of(payload) else False
    return from_array(elements, chunks, name=name, asarray=False, inline_array=True, meta=_meta(elements))


def _meta(source: _Elements | Stack) -> NDArray:
    """Return an array of no elements, so that Dask asks for none."""
    empty: NDArray = np.empty((0,) * source.ndim, source.dtype)
    return empty


def _dask_array() -> Any:
    try:
        return importlib.import_module("dask.array")
    except ImportError as error:
        raise ImportError("this needs Dask: pip install 'fedarchive[dask]'", name="dask") from error


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return the length of a chunk along each axis: one stretch of the file, of few lengths, none tiny."""
    lengths = list(shape)
    nbytes = itemsize * math.prod(shape)
    for axis, length in enumerate(shape):
        if nbytes <= tuning.CHUNK_BYTES:
            break
        nbytes //= length
        whole = tuning.CHUNK_ALIGN // math.gcd(tuning.CHUNK_ALIGN, nbytes)
        lengths[axis] = _even(length, tuning.CHUNK_BYTES // nbytes, whole)
        if lengths[axis] > 1:
            break
    return tuple(lengths)


def _stack_chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return the same for a stack, whose first axis is one of files."""
    fit = tuning.CHUNK_BYTES // max(1, itemsize * math.prod(shape[1:]))
    return _even(shape[0], min(fit, tuning.CHUNK_ARCHIVES)), *_chunks(shape[1:], itemsize)


def _even(length: int, most: int, multiple: int = 1) -> int:
    """Return a part of a length, ``most`` or less, by which it is cut evenly; a multiple where one fits."""
    if multiple > most:
        multiple = 1
    most = max(1, most // multiple * multiple)
    even = -(-length // -(-length // most))
    return -(-even // multiple) * multiple
