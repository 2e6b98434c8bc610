"""The weighted sum of the replies of a round: each is added when it comes, and then lets go of its arrays."""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from archive import reading, system
from archive.checkpoints.writerlock import WriterLock
from archive.errors import ValueRangeError
from archive.interop.flower.appfolder import require_app_url
from archive.interop.flower.gridpulls import pull_each
from archive.interop.flower.parameternames import MODEL
from archive.interop.flower.records import from_flower, to_flower
from archive.interop.flower.releases import flower
from archive.interop.flower.roundstate import kept
from archive.records import Array, ArrayRecord, RecordDict, SType
from archive.storage.folder import list_files
from archive.storage.url import URL
from archive.tools.accumulator import Accumulator
from archive.tools.partials import replaced
from archive.tools.scratchfolder import place_in, remove_in

__all__ = ["ReplySums"]

_LET_GO = 8_000_000
"""Bytes after which memory is given back, which takes some 50 ms."""
_MEAN = "streamed.mean.h5"
_FILES = re.compile(r"streamed\.mean\.h5|(batch|staged)-\d{6,9}\.h5|[0-9a-f]{32}\.sum\.h5")
"""Names of all files in the scratch folder of a run."""
_WHOLE = re.compile(r"bool|u?int(8|16|32|64)")
"""Types whose means Flower has as float64."""


class _Summed:
    """First base of our subclass of Flower's Array, in the place of arrays that are in a sum."""

    averaging = False
    """True while Flower's FedAvg averages, whose result ours replaces."""

    def numpy(self) -> Any:
        """Return no elements to FedAvg; raise for everybody else."""
        if not self.averaging:
            raise TypeError(
                "the arrays of this reply are in the sum already, and Streaming keeps none: "
                "use the strategy without it"
            )
        return np.zeros(0, np.float32)


@cache
def _summed_class() -> Any:
    return type("Array", (_Summed, flower().Array), {"__module__": __name__})


@dataclass(slots=True)
class _Round:
    """The sum of one round."""

    sum: Accumulator
    summed: Any
    """What replies have in the place of their arrays."""
    records: dict[tuple[str, ...], Any] = field(default_factory=dict)
    """Records of it by their keys: the replies of a round share one."""
    form: tuple[str, frozenset[str]] | None = None
    """Name and keys of the record of arrays that every reply must have."""
    weights: dict[int, float] = field(default_factory=dict)
    """Weights of the replies that were added, by the ids of their objects."""
    let_go: int = _LET_GO
    """Bytes since memory was last given back, of replies or of the messages of the round."""


class ReplySums:
    """Sums of one run, round by round.

    Parameters
    ----------
    scratch, storage_options
        As for `Streaming`.
    """

    def __init__(self, scratch: URL, storage_options: Mapping[str, Any] | None = None) -> None:
        self._place = require_app_url(scratch, storage_options)
        self._expected: list[Any] = []
        self._weigh_by = ""
        self._round: _Round | None = None

    @contextlib.contextmanager
    def running(self, owner: str) -> Iterator[None]:
        """Have the scratch folder for a run; what a killed run left there is removed.

        Raises
        ------
        LockedError
            Another run has it.
        StorageError
            It cannot be written.
        """
        with WriterLock(self._place, owner=owner):
            self._clear()
            try:
                yield
            finally:
                self._round, self._expected = None, []
                self._clear()

    def _clear(self) -> None:
        entries = list_files(
            self._place.path, self._place.options if self._place.remote else None, below=False
        )
        for entry in entries:
            if _FILES.fullmatch(entry.path):
                remove_in(self._place, place_in(self._place, entry.path))

    def expect(self, messages: list[Any], weigh_by: str) -> None:
        """Say which messages train, and which metric is the weight of a reply."""
        self._expected, self._weigh_by = list(messages), weigh_by

    def expects(self, messages: list[Any]) -> bool:
        """Return whether messages are those that train: the same objects."""
        return bool(messages) and set(map(id, messages)) <= set(map(id, self._expected))

    def collect(self, grid: Any, messages: list[Any], timeout: float | None) -> list[Any]:
        """Send messages, add the replies up in the order of the messages, and return them without arrays.

        Raises
        ------
        ValueRangeError
            A reply has other shapes or types than one before it, or a weight below 0 or not finite.
        """
        ids = list(grid.push_messages(messages))
        messages.clear()
        self._expected = []
        summed = _summed_class()("float32", (0,), SType.NUMPY, b"")
        self._clear()
        made = self._round = _Round(Accumulator(self._place, nan="allow", durable=False), summed)
        replies: dict[int, Any] = {}
        left_out: set[int] = set()
        _give_back(made)
        for position, reply in pull_each(grid, ids, timeout):
            replies[position] = reply
            if reply.has_error() or not _add(made, position, reply, self._weigh_by):
                left_out.add(position)
            _leave_out(made, left_out)
            _give_back(made)
        _leave_out(made, set(range(len(ids))))
        return [replies[position] for position in sorted(replies)]

    def mean(self, replies: list[Any], average: Callable[[list[Any]], tuple[Any, Any]]) -> tuple[Any, Any]:
        """Return the mean of the sum and the metrics, in the place of what Flower makes of the replies.

        Parameters
        ----------
        replies : list of Message
            As `collect` returned them.
        average : callable
            FedAvg's own ``aggregate_train`` of replies: it logs them, tells whether they go together, and
            aggregates their metrics.

        Raises
        ------
        ValueRangeError
            The strategy left a reply out, or changed a weight, after the reply was added.
        ReplacedError
            Another run wrote into the folder.
        """
        made = self._round
        if made is None:
            return average(replies)
        made.summed.averaging = True
        try:
            arrays, metrics = average(replies)
        finally:
            made.summed.averaging = False
        if arrays is None:
            return arrays, metrics
        _require_added(made, replies, self._weigh_by, self._place.display)
        if len(made.sum) != len(made.weights):
            raise replaced(self._place.display)  # it found a reply of another run that waits there
        place = place_in(self._place, _MEAN)
        report = made.sum.mean(place, durable=False)
        made.sum.remove()
        self._round = None
        handle = reading.open(place)
        if handle._reader.identity.hex() != report.digest:
            handle.close()
            raise replaced(place.display)
        found = handle.records.array_records.get(MODEL, ArrayRecord())  # a mean of no arrays has no record
        mean = to_flower(kept(handle, found))
        remove_in(self._place, place)  # what is mapped stays
        return mean, metrics

    def require_used(self, strategy: str) -> None:
        """Raise TypeError where a strategy aggregated a round without the mean of its sum."""
        made, self._round = self._round, None
        if made is not None and made.weights:
            raise TypeError(f"{strategy} did not take the mean of FedAvg: use it without Streaming")


def _add(made: _Round, position: int, reply: Any, weigh_by: str) -> bool:
    """Add a reply, and take its arrays from it; False where FedAvg will not have it with the others."""
    content = reply.content
    reply.content = flower().RecordDict({name: _emptied(made, record) for name, record in content.items()})
    weight, form = _weight_of(content, weigh_by), _form_of(content)
    if weight is None or form is None or form != (made.form or form):
        return False
    made.form = form
    ((_, arrays),) = _records_of(content, flower().ArrayRecord)
    node = reply.metadata.src_node_id
    records = RecordDict({MODEL: _widened(from_flower(arrays))})
    made.sum.add(records, weight, position=position, name=f"reply {position} of node {node}")
    made.weights[id(reply)] = weight
    made.let_go += arrays.count_bytes()
    return True


def _give_back(made: _Round) -> None:
    """Give the memory of replies back to the system.

    Flower pulls each reply by new threads, and malloc keeps what was freed for the threads to come: with
    replies of 20 MB the process grew by 15 MB at each. Responses of httpx are cycles of objects.
    """
    if made.let_go >= _LET_GO:
        made.let_go = 0
        gc.collect()
        system.malloc_trim(0)


def _leave_out(made: _Round, positions: set[int]) -> None:
    """Leave positions out whose turn it is, so that those after them need not wait."""
    while made.sum.position in positions:
        made.sum.leave_out()


def _emptied(made: _Round, record: Any) -> Any:
    """Return a record of the same keys without arrays; one that has none is returned as it is."""
    if not isinstance(record, flower().ArrayRecord):
        return record
    keys = tuple(record)
    if keys not in made.records:
        made.records[keys] = flower().ArrayRecord()
        for key in keys:
            made.records[keys][key] = made.summed
    return made.records[keys]


def _records_of(content: Any, kind: Any) -> list[tuple[str, Any]]:
    """Return the records of a kind by name: Flower's views of them would keep all arrays in a cycle."""
    return [(name, record) for name, record in content.items() if isinstance(record, kind)]


def _weight_of(content: Any, weigh_by: str) -> float | None:
    """Return the weight of a reply; None where FedAvg finds none."""
    found = _records_of(content, flower().MetricRecord)
    weight = found[0][1].get(weigh_by) if len(found) == 1 else None
    return None if weight is None or isinstance(weight, list) else float(weight)


def _form_of(content: Any) -> tuple[str, frozenset[str]] | None:
    """Return name and keys of the one record of arrays of a reply."""
    found = _records_of(content, flower().ArrayRecord)
    return (found[0][0], frozenset(found[0][1])) if len(found) == 1 else None


def _widened(record: ArrayRecord) -> ArrayRecord:
    """Return a record whose whole numbers are float64, as FedAvg's means of them are."""
    made = {
        key: Array(array.numpy().astype(np.float64)) if _WHOLE.fullmatch(array.dtype) else array
        for key, array in record.items()
    }
    return ArrayRecord.from_checked(made)


def _require_added(made: _Round, replies: list[Any], weigh_by: str, path: str) -> None:
    """Raise unless replies are those that were added, with the weights that they had then."""
    now = {id(one): _weight_of(one.content, weigh_by) for one in replies if not one.has_error()}
    if now != made.weights:
        raise ValueRangeError(
            f"the strategy averages {len(now)} replies, and {len(made.weights)} were added as they came; "
            "or their weights differ",
            path=path,
            remedy="use a strategy that leaves no reply out and changes no weight, or no Streaming",
        )
