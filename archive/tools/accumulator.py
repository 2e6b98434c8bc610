"""A mean whose archives come one by one: a server adds each as it arrives, and loses none when it is killed.

The folder holds one file for each batch: the sum of its clients, and which they are. The file of the last
batch is written again as clients come; a file is replaced at once, so the folder always says what is in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from archive.engine.read.handle import Archive, reader_of
from archive.engine.read.load import load_records
from archive.engine.read.open import open_reader
from archive.engine.report import SaveReport
from archive.errors import ArchiveError, DamagedError, ValueRangeError
from archive.storage.url import URL, Location, parse_mixed
from archive.tools.batches import Partial, Rule
from archive.tools.batchfile import Added, BatchFile, StagedFile
from archive.tools.clientmetrics import result_metrics, weight_in
from archive.tools.runningsum import ClientArrays, RunningSum
from archive.tools.scratchfolder import files_in, make_scratch, place_in, remove_in, remove_partials
from archive.tools.sumtree import Output, publish_sums

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["Accumulator"]

_BATCH = re.compile(r"batch-(\d{6,9})\.h5")
_STAGED = re.compile(r"staged-(\d{9})\.h5")


class Accumulator:
    """The sum of archives that come one by one, kept in a folder; `mean` writes what `archive.mean` would.

    One process writes a folder, one thread at a time. One float64 sum of the model lies in a file of the
    scratch folder that is mapped, and in memory where that folder is remote.

    Parameters
    ----------
    url : str or path-like
        Folder of the sums; made if it is not there. Where sums are there already, they are gone on from.
    batch : int, default 64
        As for `archive.mean`: clients after which the sum is committed and another begins.
    scratch : str or path-like, optional
        Folder of clients that come before their turn, and of the sum that is added to; ``url`` if not given.
    nan : {"error", "allow"}, default "error"
        Whether a client with NaN or infinities is refused.
    metrics : {"weighted"}, optional
        Average the metrics too.
    durable : bool, default True
        Commits survive a power cut.
    storage_options : mapping, optional
        Keyword arguments of the remote file system.

    Raises
    ------
    ValueRangeError
        Sums that are there were begun with another ``batch``, ``nan`` or ``metrics``.
    DamagedError
        Sums that are there are damaged.

    Examples
    --------
    >>> import archive, numpy as np, shutil
    >>> from archive.tools import Accumulator
    >>> shutil.rmtree("/tmp/fedarchive-sums", ignore_errors=True)
    >>> sums = Accumulator("/tmp/fedarchive-sums")
    >>> sums.add({"w": np.full(2, 1, "f4")}, 1, position=0)
    >>> sums.add({"w": np.full(2, 5, "f4")}, 3, position=2)  # it waits for its turn
    >>> sums.commit()
    >>> sums = Accumulator("/tmp/fedarchive-sums")  # as after a crash
    >>> [client.position for client in sums.added], sums.staged
    ([0], (2,))
    >>> sums.add({"w": np.full(2, 2, "f4")}, 4, position=1)
    >>> report = sums.mean("/tmp/fedarchive-sums-mean.h5")
    >>> archive.load("/tmp/fedarchive-sums-mean.h5")["model"]["w"].numpy().tolist()
    [3.0, 3.0]
    >>> sums.remove()
    """

    def __init__(
        self,
        url: URL,
        batch: int = 64,
        *,
        scratch: URL | None = None,
        nan: Literal["error", "allow"] = "error",
        metrics: Literal["weighted"] | None = None,
        durable: bool = True,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        _require_number("batch", batch, 2)
        self._rule = Rule(batch, nan=nan, metrics=metrics == "weighted")
        options = storage_options
        self._options, self._durable = options, durable
        self._folder = _locate(url, options)
        self._scratch = self._folder if scratch is None else _locate(scratch, options)
        make_scratch(self._folder)
        make_scratch(self._scratch)
        self._batches: list[BatchFile] = []
        self._sum: RunningSum | None = None
        self._dirty = False
        self._whole = True
        """False while the sum in memory changes, and for good where that was interrupted."""
        self._staged: dict[int, StagedFile] = {}
        self._take_up()

    @property
    def added(self) -> tuple[Added, ...]:
        """Clients that are in the sum, by position. Those since the last commit are lost with the process."""
        return tuple(client for batch in self._batches for client in batch.clients)

    @property
    def staged(self) -> tuple[int, ...]:
        """Positions of clients that wait for their turn; they are kept in the folder."""
        turn = self.position  # files of those before it stay until the next commit
        return tuple(sorted(position for position in self._staged if position >= turn))

    @property
    def position(self) -> int:
        """The position whose turn it is."""
        return sum(batch.settled for batch in self._batches)

    def __len__(self) -> int:
        return sum(len(batch.clients) for batch in self._batches)

    def add(
        self, client: Any, weight: float | str = 1.0, *, position: int | None = None, name: str = ""
    ) -> None:
        """Add a client; a strategy can do so for each reply, as it comes, and then let go of it.

        Parameters
        ----------
        client : path, URL, Archive, or what `archive.save` takes
            An archive is read and verified. Of a RecordDict the metrics are taken too.
        weight : float or str, default 1
            Not negative; or the name of the metric that is the weight.
        position : int, optional
            Its place in the order of the sum; the next if not given. One that comes before its turn is kept
            in ``scratch`` until it is.
        name : str, optional
            What `added` and errors call it; the path of an archive if not given.

        Raises
        ------
        ValueRangeError
            The archive, position or name was added before, the client is of another schema or not finite, or
            the weight makes no mean. The sum is what it was.
        UnsupportedDtypeError
            Arrays that are not numbers differ.
        StorageError
            The sum of a full batch could not be written: the client is in it, and `commit` tries again.
        ArchiveError
            The archive is missing or damaged.
        """
        self._require_whole()
        turn = self.position
        place = turn if position is None else position
        _require_number("position", place, 0)
        records, path, digest = self._read(client)
        added = Added(place, name or path, 0.0, digest)
        self._require_new(added)
        found = ClientArrays(records, added.name or f"client {place}")
        weigh_by = weight if isinstance(weight, str) else ""
        share = weight_in(found.metrics, weigh_by, found.path) if weigh_by else float(weight)
        found.metrics = result_metrics(found.metrics, weigh_by)
        if not 0 <= share < math.inf:
            problem = f"a weight is finite and not negative, not {share}"
            raise ValueRangeError(problem, path=found.path, remedy="give another weight")
        added = replace(added, weight=share)
        (self._sum or self._begin(found)).require(found, finite=self._rule.nan == "error")
        if place > turn:
            file = StagedFile(place_in(self._scratch, f"staged-{place:09d}.h5"), added, weigh_by)
            self._staged[place] = file.write(records, durable=self._durable)
            return
        self._add(added, found)
        self._add_staged()

    def leave_out(self, position: int | None = None) -> None:
        """Say that a client will not come: those after it need not wait for it.

        Raises
        ------
        ValueRangeError
            It is not the turn of this position.
        """
        self._require_whole()
        turn = self.position
        if position not in (None, turn):
            raise ValueRangeError(
                f"position {position} is not the next, {turn} is",
                path=self._folder.display,
                remedy="leave out the positions before it first",
            )
        batch = self._open_batch()
        self._dirty = True
        batch.left_out.append(turn)
        self._end_batch()
        self._add_staged()

    def commit(self) -> None:
        """Write the sum: what was added until now survives the end of the process.

        Raises
        ------
        DamagedError
            A call before was interrupted, as by Ctrl-C, while it added a client up.
        """
        self._require_whole()
        if self._dirty and self._batches:
            last = self._batches[-1]
            last.write(self._sum, durable=self._durable)
            self._whole = self._dirty = False
            if last.settled == self._rule.batch and self._sum is not None:
                self._sum.clear()
            self._whole = True
        for position, file in list(self._staged.items()):
            if position < self.position:
                remove_in(self._scratch, file.place)
                del self._staged[position]

    def mean(
        self,
        out: URL,
        *,
        overwrite: bool = True,
        durable: bool = True,
        created: datetime | str | None = None,
        executor: Executor | None = None,
    ) -> SaveReport:
        """Write the mean of what was added: equal bits to `archive.mean` of the same order and ``batch``.

        Parameters
        ----------
        out, overwrite, durable, created
            As for `save`.
        executor : concurrent.futures.Executor, optional
            What adds sums of batches up, where there are more than ``batch``.

        Raises
        ------
        ValueRangeError
            Nothing was added; or clients wait for one that did not come (`leave_out`).
        ReplacedError
            Another process wrote its own sums into the folder.
        """
        self.commit()
        place = _locate(out, self._options)
        if self.staged or self._sum is None or not len(self):
            waiting = f"clients {list(self.staged)[:5]} wait for {self.position}"
            raise ValueRangeError(
                waiting if self.staged else "the mean of no archives",
                path=self._folder.display,
                remedy="add it, or leave it out with leave_out()" if self.staged else "add clients first",
            )
        sums = [
            Partial(batch.place if batch.clients else None, batch.key, batch.weight, (), batch.identity)
            for batch in self._batches
        ]
        output = Output(place, self._rule, None, overwrite, durable, created)
        report, _, keys = publish_sums(
            sums, self._sum.names, self._sum.specs, output, self._scratch, executor
        )
        remove_partials(self._scratch, keys[len(sums) :])
        return report

    def remove(self) -> None:
        """Remove the files of the sums; the accumulator is empty then."""
        for batch in self._batches:
            remove_in(self._folder, batch.place)
        for file in self._staged.values():
            remove_in(self._scratch, file.place)
        self._batches, self._staged, self._sum, self._dirty, self._whole = [], {}, None, False, True

    def _take_up(self) -> None:
        """Find the sums and clients that are there."""
        for number, place in files_in(self._folder, _BATCH):
            batch = BatchFile.read(place, self._rule, number)
            if number != len(self._batches) or (number and self._batches[-1].settled < self._rule.batch):
                raise ValueRangeError(
                    "the sum of a batch before it is missing", path=place.display, remedy="begin anew"
                )
            self._batches.append(batch)
        if self._batches:
            self._sum = self._batches[-1].load(self._batches, _local(self._scratch))
        for position, place in files_in(self._scratch, _STAGED):
            if position < self.position:
                remove_in(self._scratch, place)
            else:
                self._staged[position] = StagedFile.read(place)
        self._add_staged()

    def _add(self, added: Added, client: ClientArrays) -> None:
        batch = self._open_batch()
        self._whole = False
        if self._sum is None:
            self._sum = self._begin(client)
            self._sum.form = client.metrics if self._rule.metrics else None
        self._sum.add(client, added.weight)
        batch.clients.append(added)
        self._whole = self._dirty = True
        self._end_batch()

    def _begin(self, client: ClientArrays) -> RunningSum:
        """Return a sum of nothing, for clients like this one."""
        specs = client.specs
        return RunningSum(list(specs), list(specs.values()), client.attributes, _local(self._scratch))

    def _require_whole(self) -> None:
        """Raise where a client may be in the sums of some arrays alone."""
        if not self._whole:
            raise DamagedError(
                "adding a client was interrupted: the sum in memory is of no use",
                path=self._folder.display,
                remedy="open the accumulator again: it goes on from the last commit",
            )

    def _add_staged(self) -> None:
        """Add the clients whose turn has come.

        Raises
        ------
        ArchiveError
            One is of another schema than the clients that came meanwhile: it is dropped, and may come again.
        """
        while (file := self._staged.get(self.position)) is not None:
            try:
                client = ClientArrays(file.load(), file.added.name or f"client {file.added.position}")
                client.metrics = result_metrics(client.metrics, file.weigh_by)
                (self._sum or self._begin(client)).require(client, finite=self._rule.nan == "error")
            except ArchiveError:
                del self._staged[file.added.position]
                remove_in(self._scratch, file.place)
                raise
            self._add(file.added, client)

    def _open_batch(self) -> BatchFile:
        full = bool(self._batches) and self._batches[-1].settled == self._rule.batch
        if full:
            self.commit()  # where that failed before: or the next batch would begin with this sum
        if full or not self._batches:
            number = len(self._batches)
            place = place_in(self._folder, f"batch-{number:06d}.h5")
            self._batches.append(BatchFile(place, self._rule, number))
        return self._batches[-1]

    def _end_batch(self) -> None:
        if self._batches[-1].settled == self._rule.batch:
            self.commit()

    def _read(self, client: Any) -> tuple[Any, str, str]:
        """Return records, path and digest of a client; of what is no archive the last two are empty."""
        if isinstance(client, Archive):
            reader = reader_of(client)
            return client.load(), client.info.path, reader.identity.hex()
        if not isinstance(client, (str, Location)) and not hasattr(client, "__fspath__"):
            return list(client) if isinstance(client, Iterator) else client, "", ""
        place = _locate(client, self._options)
        reader = open_reader(place, access="auto" if place.remote else "pread", verify="first")
        try:
            return load_records(reader, None, None), place.display, reader.identity.hex()
        finally:
            reader.close()

    def _require_new(self, client: Added) -> None:
        """Raise where an archive, position or name is there already."""
        waiting = [file.added for file in self._staged.values() if file.added.position >= self.position]
        problem = f"position {client.position} is settled" if client.position < self.position else ""
        for other in (*self.added, *waiting):
            if client.position == other.position:
                problem = f"position {client.position} is taken by {other.name or 'a client'}"
            elif client.digest and client.digest == other.digest:
                problem = f"the same archive was added at position {other.position}"
            elif client.name and client.name == other.name:
                problem = f"a client of this name was added at position {other.position}"
        if problem:
            path = client.name or self._folder.display
            raise ValueRangeError(problem, path=path, remedy="add each client once")


def _locate(url: URL, storage_options: Mapping[str, Any] | None) -> Location:
    location = parse_mixed(url, storage_options)
    return location if location.remote else replace(location, path=location.path.rstrip("/") or "/")


def _local(folder: Location) -> str | None:
    return None if folder.remote else folder.path


def _require_number(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a number, {least} or more, not {value!r}")
