"""Writing an archive array by array: what `archive.create` returns, and saves of iterables."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np

from archive.dtypes import NDArray, long_name, parse_dtype
from archive.engine.attributes import encode_record
from archive.engine.report import SaveReport
from archive.engine.storagespec import StorageSpec, elements_spec
from archive.engine.write.inputs import plain_array, source_of, unstorable
from archive.engine.write.plan import Preamble, timestamp
from archive.engine.write.saving import report_of
from archive.engine.write.stream import ArchiveStream
from archive.errors import ClosedError, UnsupportedDtypeError
from archive.format.constants import KIND_ARRAYS, KIND_CONFIGS, KIND_METRICS
from archive.format.elements import opaque_view
from archive.format.index import RecordName
from archive.records import ConfigRecord, MetricRecord
from archive.records.tensors import is_tensor_like, tensor_to_elements, torch_name
from archive.storage.location import locate_sink
from archive.storage.protocols import Sink
from archive.storage.remote.staging import Spool
from archive.storage.url import Location

__all__ = ["ArchiveWriter"]


class _Values(dict[str, Any]):
    """Records of values by name; a mapping that is assigned becomes a record, checked at once."""

    def __init__(self, kind: type[MetricRecord] | type[ConfigRecord]) -> None:
        super().__init__()
        self._kind = kind

    def __setitem__(self, name: str, values: Mapping[str, Any]) -> None:
        _require_name(name)
        super().__setitem__(name, self._kind(dict(values)))

    def __missing__(self, name: str) -> Any:
        _require_name(name)
        return self.setdefault(name, self._kind({}))  # one step: another thread may ask for the name too


def _require_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"a record name is a str, not {type(name).__name__}")


class ArchiveWriter:
    """An archive that is written array by array. Made by `archive.create`; a context manager.

    The archive appears when the ``with`` block ends; after an exception nothing does. Several threads may add
    arrays: each waits for the array before, and the end of the block for the last. The writer belongs to the
    process that made it: the child of a fork cannot write, and leaving the block there changes nothing.

    Examples
    --------
    >>> import archive, numpy as np
    >>> with archive.create("/tmp/fedarchive-create.h5") as writer:
    ...     writer.add("model", "bias", np.zeros(3))
    ...     writer.add("model", "weight", (np.ones((2, 3)) for _ in range(4)), shape=(8, 3), dtype="float64")
    ...     writer.metrics["fit"]["loss"] = 0.5
    >>> writer.report.arrays
    2
    """

    def __init__(
        self,
        location: Location,
        *,
        overwrite: bool,
        durable: bool,
        created: Any,
        spool: Spool = True,
        publish: Callable[[Sink], None] | None = None,
    ) -> None:
        self.metrics: dict[str, Any] = _Values(MetricRecord)
        """Metrics by record name: ``writer.metrics["fit"] = {...}``."""
        self.configs: dict[str, Any] = _Values(ConfigRecord)
        """Configs by record name."""
        self.attributes: dict[str, dict[str, Any]] = {}
        """What is said of array records as a whole, by record name (`ArrayRecord.attributes`)."""
        self._report: SaveReport | None = None
        # taken again by the same thread, so that pieces that add an array are refused and do not hang
        self._lock = threading.RLock()
        text = timestamp(created)
        self._sink = locate_sink(location, overwrite=overwrite, durable=durable, push=True, spool=spool)
        self._publish = publish
        self._stream = ArchiveStream(self._sink, Preamble("recordset", text))
        self._broken = False
        self._clock = report_of(self._sink.path)

    def add(
        self,
        record: str,
        key: str,
        array: Any,
        *,
        shape: tuple[int, ...] | None = None,
        dtype: Any = None,
    ) -> None:
        """Write one array; its memory may be changed as soon as this returns.

        Parameters
        ----------
        record, key : str
            Where it goes. A key may occur once in a record.
        array : ndarray, torch tensor, Array, or iterable of ndarrays or tensors
            The array; or with ``shape`` and ``dtype``, pieces of it along axis 0.
        shape : tuple of int, optional
            Shape of the whole where ``array`` comes in pieces.
        dtype : dtype, torch.dtype or str, optional
            Element type of the whole; every piece must have it.

        Raises
        ------
        TypeError, ValueError
            No such array; a key twice; pieces of another shape or dtype, too many or too few.
        ClosedError
            An earlier `add` failed half-way, the writer is closed, or it belongs to the process that forked
            this one.
        """
        with self._alone():
            if (shape is None) != (dtype is None):
                raise TypeError("pieces need both shape= and dtype=; a whole array needs neither")
            self._stream.require_new(record, key)
            if shape is None or dtype is None:
                spec, source, _ = source_of(array, (record, key))
                self._broken = True
                self._stream.add(record, key, spec, source)
            else:
                spec, kind = _declared(shape, dtype, (record, key))
                self._broken = True
                self._stream.add_pieces(record, key, spec, _pieces(array, kind, spec, f"{record}/{key}"))
            self._broken = False

    def tie(self, record: str, key: str, to: tuple[str, str]) -> None:
        """Give an array that was added another name: its bytes are stored once, and loaded as one memory.

        `add` ties nothing by itself: the memory of an array that was added may have other content by now.

        Parameters
        ----------
        record, key : str
            The other name.
        to : (str, str)
            Record and key of the array.

        Raises
        ------
        TypeError
            ``to`` is not a pair of str.
        KeyError
            No such array was added.
        ValueError, ClosedError
            As for `add`.

        Examples
        --------
        >>> import archive, numpy as np
        >>> with archive.create("/tmp/fedarchive-create.h5") as writer:
        ...     writer.add("model", "embed.weight", np.zeros((50, 16), "f4"))
        ...     writer.tie("model", "head.weight", ("model", "embed.weight"))
        >>> writer.report.arrays, writer.report.array_bytes
        (2, 3200)
        """
        pair: Any = to
        if type(pair) is not tuple or list(map(type, pair)) != [str, str]:
            raise TypeError(f"to is a (record, key) pair of str, not {to!r}")
        with self._alone():
            self._stream.require_new(record, key)
            self._stream.tie(record, key, to)

    @property
    def report(self) -> SaveReport:
        """What was written, once it is published; ClosedError before."""
        if self._report is None:
            self._sink.owner.require_here()
            raise ClosedError(
                "nothing is published yet", path=self._sink.path, remedy="leave the with block first"
            )
        return self._report

    def add_stored(
        self, record: str, key: str, spec: StorageSpec, pieces: Iterable[NDArray], identity: object
    ) -> None:
        """Write an array of a known storage spec whose stored bytes (uint8) come in pieces.

        Arrays of one storage spec and one identity share their bytes.
        """
        with self._alone():
            self._stream.require_new(record, key)
            self._broken = True
            self._stream.add_pieces(record, key, spec, pieces, identity)
            self._broken = False

    def __enter__(self) -> ArchiveWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._sink.owner.is_here:
            self._sink.discard()
            return
        with self._lock:
            try:
                if kind is None:
                    self._finish()
            finally:
                self._broken = True
                self._sink.discard()

    def _finish(self) -> None:
        """Write what is not arrays, and publish."""
        self._require_usable()
        given = {
            KIND_ARRAYS: {name: found for name, found in dict(self.attributes).items() if found},
            KIND_METRICS: dict(self.metrics),
            KIND_CONFIGS: dict(self.configs),
        }
        names = [RecordName(kind, name) for kind, records in given.items() for name in records]
        values = {name: encode_record(name, given[name.kind][name.name]) for name in names}
        plan, footer = self._stream.finish(values)
        if self._publish is None:
            self._sink.publish()
        else:
            self._publish(self._sink)
        self._report = self._clock(plan, footer)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other threads out, or raise where nothing more can be written."""
        # asked before the lock, which a thread of the parent may have held as this process was forked
        self._sink.owner.require_here()
        with self._lock:
            self._require_usable()
            yield

    def _require_usable(self) -> None:
        if self._broken:
            raise ClosedError(
                "nothing more can be written",
                path=self._sink.path,
                remedy="begin again with archive.create()",
            )


def _declared(
    shape: tuple[int, ...], dtype: Any, place: tuple[str, str]
) -> tuple[StorageSpec, np.dtype[Any]]:
    """Return the storage spec and element type of an array that comes in pieces."""
    axes = tuple(operator.index(axis) for axis in shape)
    if any(axis < 0 for axis in axes):
        raise ValueError(f"{'/'.join(place)}: a shape has no negative axis: {axes}")
    try:
        text = torch_name(dtype) or dtype
        kind = parse_dtype(long_name(text)) if isinstance(text, str) else np.dtype(text)
        spec = elements_spec(kind, axes, False)
    except (TypeError, ValueError) as error:
        raise unstorable(error, place) from error
    if kind.kind == "U":
        raise UnsupportedDtypeError(
            "text does not come in pieces", key="/".join(place), remedy="add the whole array"
        )
    return spec, kind


def _pieces(chunks: Iterable[Any], dtype: np.dtype[Any], spec: StorageSpec, name: str) -> Iterator[NDArray]:
    """Yield the bytes of pieces along axis 0, checked against the whole."""
    if not spec.shape:
        raise ValueError(f"{name}: a 0-d array does not come in pieces")
    rows = 0
    for chunk in chunks:
        if is_tensor_like(chunk):
            piece, _ = tensor_to_elements(chunk, name)
        else:
            piece = plain_array(chunk) if isinstance(chunk, np.ndarray) else np.asarray(chunk)
        if piece.dtype != dtype or piece.shape[1:] != spec.shape[1:] or not piece.ndim:
            raise ValueError(
                f"{name}: a piece of dtype {piece.dtype} and shape {piece.shape} does not fit "
                f"{dtype} and {spec.shape}"
            )
        rows += len(piece)
        if rows > spec.shape[0]:
            raise ValueError(f"{name}: the pieces have more than {spec.shape[0]} rows")
        if piece.nbytes:
            yield np.ascontiguousarray(opaque_view(piece)).reshape(-1).view(np.uint8)
    if rows != spec.shape[0]:
        raise ValueError(f"{name}: the pieces have {rows} rows of {spec.shape[0]}")
