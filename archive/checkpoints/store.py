"""Rounds of a run in a folder: each appears complete or not at all, and is found again."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Literal, overload

from archive import reading, writing
from archive.checkpoints.paths import context_path, require_name, require_round, spell, unspell
from archive.checkpoints.retention import BestBy, metric_of, parse_goal, parse_policy, removable
from archive.checkpoints.roundfile import GONE, RoundReport
from archive.checkpoints.rounds import Rounds
from archive.checkpoints.snapshot import take_snapshot
from archive.checkpoints.tables import Table, history_of
from archive.engine.read.handle import Archive
from archive.engine.report import SaveReport
from archive.errors import ArchiveError
from archive.reading import Mode, Verify
from archive.records import Context
from archive.storage.folder import make_place
from archive.storage.url import URL, Cache
from archive.workers import Background

__all__ = ["CheckpointStore"]

DAY = 86_400.0


class CheckpointStore:
    """Rounds of a run, files of its clients, and contexts of its nodes, as archives in a folder.

    A round exists if and only if its file ``rounds/00000003.h5`` does. That file appears complete or not at
    all, after the files of its clients, and no file that it names is ever replaced. There is no other state:
    any number of processes may save, prune and read one store. Of two that save one round, one gets
    ExistsError. Readers meet whole rounds only: where a round is removed before it is read, they look again.

    Parameters
    ----------
    url : str or path-like
        The folder, local or any URL of fsspec. The first save makes it; a relative path is resolved now.
    keep_last : int, optional
        Keep so many of the newest rounds.
    keep_every : int, optional
        Keep the rounds whose number it divides. Each save of a round removes the rounds that neither option
        keeps; without both all are kept. The newest round, the newest that verifies and the best always stay.
    best_by : str or (str, "min" or "max"), optional
        The metric that makes a round the best: ``"loss"`` the smallest, ``"-accuracy"`` or
        ``("accuracy", "max")`` the largest; ``record/key`` where several records have that key. NaN never
        is the best; of equal rounds the newest is.
    background : bool, default False
        Save a copy in a thread, and return at once. An error is raised by the next call, and by `close`.
        One save runs at a time: the next save waits.
    cache, cache_bytes
        As for `archive.open`: of archives that `open` and `context` return.
    storage_options : mapping, optional
        Keyword arguments of the remote file system. A pickle of the store holds no secrets of these and of
        the URL: where it is loaded, credentials come from the environment.

    Examples
    --------
    >>> import archive, numpy as np, shutil
    >>> shutil.rmtree("/tmp/fedarchive-doctest-run", ignore_errors=True)
    >>> store = archive.CheckpointStore("/tmp/fedarchive-doctest-run", keep_last=2, best_by="loss")
    >>> for number, loss in enumerate([0.5, 0.0, 0.3, 0.2], start=1):
    ...     _ = store.save({"drift": np.full(2, number)}, number, client="client-7")
    ...     _ = store.save({"w": np.full(3, number)}, number, metrics={"loss": loss})
    >>> store.rounds(), store.clients(4)
    ([2, 3, 4], ['client-7'])
    >>> store.open("latest")["w"].numpy(), store.open("best", client="client-7")["drift"].numpy()
    (array([4, 4, 4]), array([2, 2]))
    >>> store.history()["loss"].tolist()
    [0.0, 0.3, 0.2]
    """

    def __init__(
        self,
        url: URL,
        *,
        keep_last: int | None = None,
        keep_every: int | None = None,
        best_by: BestBy | None = None,
        background: bool = False,
        cache: Cache = None,
        cache_bytes: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._files = Rounds(url, storage_options, cache, cache_bytes)
        self._policy = parse_policy(keep_last, keep_every)
        self._goal = parse_goal(best_by)
        self._in_background = background
        self._background = Background()

    @property
    def url(self) -> str:
        """The folder, absolute and without credentials."""
        return self._files.location.display

    @overload
    def save(
        self,
        records: Any,
        round: int,
        *,
        client: str | None = ...,
        metrics: Mapping[str, Any] | None = ...,
        background: Literal[False],
    ) -> SaveReport: ...

    @overload
    def save(
        self,
        records: Any,
        round: int,
        *,
        client: str | None = ...,
        metrics: Mapping[str, Any] | None = ...,
        background: bool | None = ...,
    ) -> SaveReport | None: ...

    def save(
        self,
        records: Any,
        round: int,  # noqa: A002 the word of the field
        *,
        client: str | None = None,
        metrics: Mapping[str, Any] | None = None,
        background: bool | None = None,
    ) -> SaveReport | None:
        """Save a round, or the file of one client of a future round.

        Parameters
        ----------
        records : RecordSet, RecordDict, Context, ArrayRecord, mapping, list or iterable
            As for `archive.save`.
        round : int
            From 0 to 99,999,999.
        client : str, optional
            Save a client's file of this round, before the round itself, which records its digest. It
            replaces no file: beside one that a killed run left it gets another name.
        metrics : mapping, optional
            As for `archive.save`.
        background : bool, optional
            For this save only.

        Returns
        -------
        SaveReport or None
            None in the background.

        Raises
        ------
        ExistsError
            The round exists, also where another process saved it meanwhile; or another process saved a file
            of this client at the same moment.
        ReplacedError
            The file of a client that this store saved is damaged or gone.
        ValueError
            The round was saved, but the metric of ``best_by`` is ambiguous or is not a number.
        ArchiveError
            As for `archive.save`; other rounds are untouched.

        Notes
        -----
        A round has the clients that this store saved for it; where it saved none, those whose files are in
        the round's folder (clients that save by themselves), each with its last file. A killed run may have
        left files there: call ``gc(0)`` before such a run continues.
        """
        number = require_round(round)
        self._background.settle()
        if client is None:
            job = partial(self._save_round, number)
        else:
            job = partial(self._files.save_client, number, spell(require_name("client", client)))
        return self._run(job, records, metrics, background)

    def open(
        self,
        round: int | Literal["latest", "best"],  # noqa: A002 the word of the field
        client: str | None = None,
        *,
        mode: Mode = "r",
        verify: Verify | None = None,
    ) -> Archive:
        """Open a round, or what a client contributed to it.

        Parameters
        ----------
        round : int, "latest" or "best"
        client : str, optional
        mode : {"r", "c"}, default "r"
            As for `archive.open`.
        verify : {"first", "open", "off"}, optional
            As for `archive.open`. ``"open"`` for ``"latest"`` and ``"best"``, which a run goes on from: every
            byte is read before anything is handed out. ``"first"`` for a number.

        Raises
        ------
        DamagedError, TruncatedError, NotAnArchiveError, HostileFileError
            It is damaged. No other round is taken instead; of ``"latest"`` and ``"best"`` the message says
            what else there is. Or the client's file is not the one that the round was saved with.
        MissingError
            There is no such round, or the client has no part in it.
        """
        self._background.settle()
        if client is not None:
            require_name("client", client)
        how = verify if verify is not None else "open" if isinstance(round, str) else "first"
        if round in ("latest", "best"):
            find = self._files.newest if round == "latest" else self._best
            return self._files.open_found(find, client, mode, how)
        if isinstance(round, str):
            raise TypeError(f'a round is an int, "latest" or "best", not {round!r}')
        return self._files.open(require_round(round), client, mode, how)

    def rounds(self) -> list[int]:
        """Return the numbers of all rounds, oldest first, damaged ones included."""
        self._background.settle()
        return self._files.numbers()

    def clients(self, round: int) -> list[str]:  # noqa: A002 the word of the field
        """Return the names of the clients of a round, sorted."""
        self._background.settle()
        return sorted(map(unspell, self._files.clients(self._files.require(require_round(round)))))

    def save_context(self, node: str, context: Any) -> SaveReport | None:
        """Save the Context of a node; it replaces the earlier one."""
        self._background.settle()
        path = context_path(require_name("node", node))
        if not hasattr(context, "state") or not hasattr(context, "run_config"):
            raise TypeError(f"a context must be a Context, not {type(context).__name__}")
        return self._run(partial(self._save_context, path), context, None, None)

    def context(self, node: str) -> Context:
        """Return the last saved Context of a node; its arrays are read when they are asked for.

        Raises
        ------
        MissingError
            None was saved.
        """
        self._background.settle()
        place = self._files.at(context_path(require_name("node", node)), cached=True)
        context = reading.open(place).context
        if self._files.remote:
            # the next save replaces the object, and with it arrays that were not read yet
            context.state = reading.load(place)
        return context

    def history(self, *, clients: bool = False) -> Table:
        """Return metrics and configs of all rounds as columns; no array byte is read.

        Parameters
        ----------
        clients : bool, default False
            Add a row for each client of each round, named in the column ``client``.

        Returns
        -------
        Table
            As `archive.table`, with one row a round, oldest first.

        Raises
        ------
        ArchiveError
            A round is damaged.
        """
        self._background.settle()
        return history_of(self._files.history(clients=clients), clients=clients)

    def verify(self, round: int) -> RoundReport:  # noqa: A002 the word of the field
        """Compare every byte of a round and of its client files with its digest.

        Returns
        -------
        RoundReport
            Damage is reported, not raised.
        """
        self._background.settle()
        return self._files.verify(self._files.require(require_round(round)))

    def remove(self, round: int) -> None:  # noqa: A002 the word of the field
        """Remove a round and its client files, such as a damaged round that is to be saved anew."""
        self._background.settle()
        self._files.remove(self._files.require(require_round(round)))

    def prune(self) -> list[int]:
        """Remove the rounds that are not kept, and return their numbers.

        Rounds are verified first, from the newest on, until one verifies: that round stays. Where none
        verifies, nothing is removed.
        """
        self._background.settle()
        return self._prune()

    def gc(self, older_than: float = DAY) -> list[str]:
        """Remove what killed runs left, and return the paths.

        These are client files that no round names, temporary files without a writer, and unfinished uploads,
        recognised by content and not by name. A round, a context, a ``NAME.partial``, a file of anybody else
        and anything behind a link are never removed.

        Parameters
        ----------
        older_than : float
            Least age in seconds. Pass 0 only where nobody else saves into this store.
        """
        self._background.settle()
        return self._files.collect(older_than)

    def close(self) -> None:
        """Wait for the save in the background and raise its error. The store may be used again."""
        self._background.close()

    def __enter__(self) -> CheckpointStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except (ArchiveError, OSError, TypeError, ValueError) as failed:
            if hasattr(error, "add_note"):  # keep the error that ended the block; Python 3.10 has no notes
                error.add_note(f"and a save in the background failed: {failed}")

    def __repr__(self) -> str:
        return f"CheckpointStore({self.url!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_background": Background()}

    def _run(
        self,
        job: Callable[[Any, Any], SaveReport],
        records: Any,
        metrics: Mapping[str, Any] | None,
        background: bool | None,
    ) -> SaveReport | None:
        """Save now, or a copy in the background."""
        if not (self._in_background if background is None else background):
            return job(records, metrics)
        self._background.start(partial(job, take_snapshot(records), copy.deepcopy(metrics)))
        return None

    def _save_round(self, number: int, records: Any, metrics: Mapping[str, Any] | None) -> SaveReport:
        report = self._files.save_round(number, records, metrics)
        saved = f"round {number} was saved, but"
        try:
            if self._goal is not None:  # raise now, not when the first round is to be removed
                with contextlib.suppress(*GONE):  # another process keeps fewer rounds
                    metric_of(self._files.row(number), self._goal)
            if self._policy.removes:
                self._prune()
        except ArchiveError as error:
            error.problem = f"{saved} older ones were not removed: {error.problem}"
            raise
        except ValueError as error:
            raise ValueError(f"{saved} {error}") from error
        return report

    def _save_context(self, path: str, context: Any, metrics: None) -> SaveReport:
        options = self._files.location.options
        place = make_place(self._files.location.path, path, options)
        return writing.save(context, place, storage_options=options)

    def _best(self) -> int:
        if self._goal is None:
            raise ValueError('open("best") needs a store with best_by')
        return self._files.require_best(self._goal)

    def _prune(self) -> list[int]:
        files = self._files
        going = set(removable(files.numbers(), self._policy))
        if going and self._goal is not None:
            going.discard(-1 if (best := files.best(self._goal)[0]) is None else best)
        whole = files.newest_whole() if going else None
        if whole is None:
            return []
        removed = sorted(going - {whole})
        for number in removed:
            files.remove(number)
        return removed
