"""Rounds of a run in a folder: each appears complete or not at all, and is found again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Literal, overload

from archive.checkpoints.cataloguereport import CatalogueReport
from archive.checkpoints.filecontent import Content
from archive.checkpoints.finitefiles import Check
from archive.checkpoints.paths import require_name, require_round
from archive.checkpoints.retention import BestBy, metric_of, parse_policy, removable
from archive.checkpoints.savedrun import SavedRun
from archive.checkpoints.writerlock import LOCK, WriterLock
from archive.engine.report import SaveReport
from archive.errors import ArchiveError, ArchiveWarning, warn_caller
from archive.storage.folder import file_exists, join
from archive.storage.url import URL, Cache

__all__ = ["CheckpointStore"]

DAY = 86_400.0


class CheckpointStore(SavedRun):
    """Rounds of a run, files of its clients, and contexts of its nodes, as archives in a folder.

    A round exists if and only if its file ``rounds/00000003.h5`` does. That file appears complete or not at
    all, after the files of its clients, and no file that it names is ever replaced. There is no other state
    (``catalogue.h5`` repeats what files say, and is believed of those that are the same still: `reindex`):
    any number of processes may save, prune and read one store. Of two that save one round, one gets
    ExistsError. Readers meet whole rounds only: where a round is removed before it is read, they look again.

    Parameters
    ----------
    url : str or path-like
        The folder, local or any URL of fsspec. The first save makes it; a relative path is resolved now.
    experiment : str, optional
        Folder in ``url`` that has the run. Not given: ``url`` itself where that has rounds or contexts; else
        the only folder in it that has some, such as that of `archive.interop.flower.Resumable`; else, where
        no run is saved yet, ``url`` itself. Several are an error that names them. The store looks when it is
        first used.
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
    check : {"warn", "error", "off"}, default "warn"
        What NaN and infinities in arrays of rounds and clients do: NonFiniteWarning says which arrays of
        which client have how many, of a save in the background as soon as it is done; or NonFiniteError says
        so, and nothing was saved; or nobody looks. To look takes about 3 % of the time of a save.
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
    [0.5, 0.0, 0.3, 0.2]
    """

    def __init__(
        self,
        url: URL,
        experiment: str | None = None,
        *,
        keep_last: int | None = None,
        keep_every: int | None = None,
        best_by: BestBy | None = None,
        background: bool = False,
        check: Check = "warn",
        cache: Cache = None,
        cache_bytes: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            url,
            experiment,
            best_by=best_by,
            check=check,
            cache=cache,
            cache_bytes=cache_bytes,
            storage_options=storage_options,
        )
        self._policy = parse_policy(keep_last, keep_every)
        self._in_background = background

    @overload
    def save(
        self,
        records: Any,
        round: int,
        *,
        client: str | None = ...,
        metrics: Mapping[str, Any] | None = ...,
        configs: Mapping[str, Any] | None = ...,
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
        configs: Mapping[str, Any] | None = ...,
        background: bool | None = ...,
    ) -> SaveReport | None: ...

    def save(
        self,
        records: Any,
        round: int,  # noqa: A002 the word of the field
        *,
        client: str | None = None,
        metrics: Mapping[str, Any] | None = None,
        configs: Mapping[str, Any] | None = None,
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
        metrics, configs : mapping, optional
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
        NonFiniteError
            An array has NaN or infinities, and the store has ``check="error"``; nothing was saved.
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
        self._begin(saving=True)
        if client is None:
            job = partial(self._save_round, number)
        else:
            job = partial(self._files.save_client, number, require_name("client", client))
        return self._run(job, Content(records, metrics, configs), background)

    def save_context(self, node: str, context: Any) -> SaveReport | None:
        """Save the Context of a node; it replaces the earlier one.

        Raises
        ------
        ExistsError
            The file system ignores case, and has the context of another node under this name.
        ArchiveError
            As for `archive.save`.
        """
        self._begin(saving=True)
        require_name("node", node)
        if not hasattr(context, "state") or not hasattr(context, "run_config"):
            raise TypeError(f"a context must be a Context, not {type(context).__name__}")
        return self._run(partial(self._files.save_context, node), Content(context), None)

    def remove(self, round: int) -> None:  # noqa: A002 the word of the field
        """Remove a round and its client files, such as a damaged round that is to be saved anew."""
        self._begin()
        self._files.remove(self._files.require(require_round(round)))

    def rewind(self, round: int) -> list[int]:  # noqa: A002 the word of the field
        """Remove every round after a round, so that the run goes on from there; `history` ends there too.

        The newest goes first: a kill in between leaves a shorter run, which is whole.

        Returns
        -------
        list of int
            The rounds that were removed, the newest first.

        Raises
        ------
        MissingError
            There is no such round.
        LockedError
            A resumable server runs the run: it would save its next round after a gap. In an object store
            nothing tells.
        """
        self._begin()
        place = self._files.location
        with contextlib.ExitStack() as held:
            if not place.remote and file_exists(join(place.path, LOCK)):
                held.enter_context(WriterLock(place, owner="rewind"))
            return self._files.rewind(self._files.require(require_round(round)))

    def prune(self) -> list[int]:
        """Remove the rounds that are not kept, and return their numbers.

        Rounds are verified first, from the newest on, until one verifies: that round stays. Where none
        verifies, nothing is removed.
        """
        self._begin()
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
        self._begin()
        return self._files.collect(older_than)

    def reindex(self) -> CatalogueReport:
        """Write the catalogue of the run anew: what all its files say, so that `history` need not read them.

        Saves of rounds keep it, of a run that had none a few rounds at a time. Nothing rests on it: a file
        that is another than the catalogue knows is read, and without a catalogue all are.

        Returns
        -------
        CatalogueReport
            ``url``, ``rounds`` that it knows, ``file_bytes``.

        Raises
        ------
        ExistsError
            An archive that is no catalogue has its name, ``catalogue.h5``.
        ArchiveError
            The folder cannot be read or written.

        Examples
        --------
        >>> import archive, shutil
        >>> shutil.rmtree("/tmp/fedarchive-doctest-reindex", ignore_errors=True)
        >>> store = archive.CheckpointStore("/tmp/fedarchive-doctest-reindex")
        >>> _ = store.save({}, 1, metrics={"loss": 0.5})
        >>> store.reindex().url
        '/tmp/fedarchive-doctest-reindex/catalogue.h5'
        """
        self._begin()
        return self._files.reindex()

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
        except (ArchiveError, ArchiveWarning, OSError, TypeError, ValueError) as failed:
            if hasattr(error, "add_note"):  # keep the error that ended the block; Python 3.10 has no notes
                error.add_note(f"and a save in the background failed: {failed}")

    def _run(
        self, job: Callable[[Content], SaveReport], content: Content, background: bool | None
    ) -> SaveReport | None:
        """Save now, or a copy in the background."""
        if not (self._in_background if background is None else background):
            return self._finish(job, content)
        self._background.start(partial(self._finish, job, content.copy()))
        return None

    def _finish(self, job: Callable[[Content], SaveReport], content: Content) -> SaveReport:
        """Save, and warn of what was saved: last, as a program may make errors of warnings."""
        try:
            return job(content)
        finally:
            found, self._files.warnings = self._files.warnings, []
            for warning in found:
                warn_caller(warning)

    def _save_round(self, number: int, content: Content) -> SaveReport:
        report, metrics = self._files.save_round(number, content, self._goal, self._policy)
        self._files.update_catalogue(number)
        saved = f"round {number} was saved, but"
        try:
            if self._goal is not None:  # raise now, not when the first round is to be removed
                metric_of(metrics, self._goal)
            if self._policy.removes:
                self._prune()
        except ArchiveError as error:
            error.problem = f"{saved} older ones were not removed: {error.problem}"
            raise
        except ValueError as error:
            raise ValueError(f"{saved} {error}") from error
        return report

    def _prune(self) -> list[int]:
        files = self._files
        going = set(removable(files.numbers(), self._policy))
        goal = (self._goal or files.goal()) if going else None
        if goal is not None:
            going.discard(-1 if (best := files.best(goal)[0]) is None else best)
        whole = files.newest_whole() if going else None
        if whole is None:
            return []
        removed = sorted(going - {whole})
        for number in removed:
            files.remove(number)
        return removed
