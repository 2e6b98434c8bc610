"""A run as it is in its folder: its rounds opened, listed and verified."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from archive.checkpoints.finitefiles import Check, require_check
from archive.checkpoints.paths import require_name, require_round
from archive.checkpoints.retention import BestBy, parse_goal
from archive.checkpoints.roundfile import RoundReport
from archive.checkpoints.roundrows import read_history
from archive.checkpoints.rounds import Rounds
from archive.checkpoints.stacks import Stack, stack_readable
from archive.checkpoints.tables import history_of
from archive.checkpoints.updates import Updates
from archive.engine.progress import Bar, Progress
from archive.engine.read.handle import Archive
from archive.errors import MissingError
from archive.reading import Mode, Verify
from archive.records import Context
from archive.storage.url import URL, Cache
from archive.tools.many import Errors, require_errors
from archive.tools.tabulation import Table
from archive.workers import Background

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["SavedRun"]


class SavedRun:
    """What `CheckpointStore` finds in its folder; parameters are those of `CheckpointStore`."""

    def __init__(
        self,
        url: URL,
        experiment: str | None = None,
        *,
        best_by: BestBy | None = None,
        check: Check = "warn",
        cache: Cache = None,
        cache_bytes: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._files = Rounds(url, experiment, storage_options, cache, cache_bytes, require_check(check))
        self._goal = parse_goal(best_by)
        self._background = Background()

    @property
    def url(self) -> str:
        """The folder of the run, absolute and without credentials.

        Without ``experiment`` it is the given folder until the store is first used.
        """
        return self._files.location.display

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
        self._begin()
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
        self._begin()
        return self._files.numbers()

    def clients(self, round: int) -> list[str]:  # noqa: A002 the word of the field
        """Return the names of the clients of a round, sorted."""
        self._begin()
        return sorted(self._files.clients(self._files.require(require_round(round))))

    def context(self, node: str) -> Context:
        """Return the last saved Context of a node; its arrays are read when they are asked for.

        Raises
        ------
        MissingError
            None was saved: the message names nodes that have one. Or the file system ignores case, and has
            the context of another node.
        DamagedError, TruncatedError, NotAnArchiveError, HostileFileError
            The file is damaged, or no Context was saved in it.
        """
        self._begin()
        return self._files.context(require_name("node", node))

    def history(
        self,
        *,
        clients: bool = False,
        errors: Errors = "raise",
        executor: Executor | None = None,
        progress: Progress = None,
    ) -> Table:
        """Return metrics and configs of all rounds that ever were as columns; no array byte is read.

        Parameters
        ----------
        clients : bool, default False
            Add a row for each client of each round, named in the column ``client``.
        errors : {"raise", "skip", "column"}, default "raise"
            What a file that is damaged, or gone although its round names it, does: as for `archive.table`. A
            round whose own file is damaged has one row: nobody knows its clients.
        executor : concurrent.futures.Executor, optional
            What reads the files that the catalogue of the run does not know, up to 64 a task: a pool of
            processes, ``distributed.Client.get_executor()``.
        progress : True or callable, optional
            True draws a bar (needs tqdm); a callable gets (files read, files in all). Files of clients are
            among these from when the rounds that name them were read.

        Returns
        -------
        Table
            As `archive.table`, with one row a round, oldest first. Rounds that were removed before the newest
            was saved have a row too: their metrics that are one number each, at most 1,000 of them. There
            ``path`` is None and the column ``kept`` False.

        Raises
        ------
        ArchiveError
            A round is damaged; or a client's file is damaged, gone, or not the one that its round was saved
            with.
        """
        require_errors(errors)
        self._begin()
        with Bar(progress, "reading", " files") as report:
            rows = read_history(
                self._files, clients=clients, errors=errors, executor=executor, progress=report
            )
        return history_of(rows, self._files.location.name, clients=clients, errors=errors)

    def stack(
        self,
        key: str | tuple[str, str],
        *,
        round: int | Literal["latest", "best"] | None = None,  # noqa: A002 the word of the field
        rounds: Iterable[int] | Literal["all"] | None = None,
        client: str | None = None,
        errors: Literal["raise", "skip"] = "raise",
    ) -> Stack:
        """Return one array of all clients of a round, or of several rounds, as one lazy array.

        Parameters
        ----------
        key : str or (str, str)
            Key of the array, or record and key.
        round : int, "latest" or "best", optional
            The first axis is that of the clients of this round, in the order of `clients`.
        rounds : "all" or iterable of int, optional
            Instead: the first axis is that of these rounds, of the global model.
        client : str, optional
            With ``rounds``: of this client instead.
        errors : {"raise", "skip"}, default "raise"
            ``"skip"`` opens every file now, and leaves those out that are damaged, gone, or not the ones that
            their round was saved with; SkippedWarning and ``failures`` of the stack name them. Array bytes
            are verified when they are read, and what is damaged in them raises then.

        Returns
        -------
        Stack
            Has ``shape``, ``dtype``, ``clients`` and ``rounds``. An index reads what it selects:
            ``stack[3]``, ``stack[:, 0, :10]``; ``for`` reads one array after the other; numpy takes it.

        Raises
        ------
        TypeError
            Not one of ``round`` and ``rounds``, or ``client`` with ``round``.
        MissingError
            There is no such round, or the client has no part in it; or the axis would be empty.

        Examples
        --------
        >>> import archive, numpy as np, shutil
        >>> shutil.rmtree("/tmp/fedarchive-doctest-stack", ignore_errors=True)
        >>> store = archive.CheckpointStore("/tmp/fedarchive-doctest-stack")
        >>> for client in ("Berlin", "Oslo"):
        ...     _ = store.save({"w": np.full((2, 3), len(client))}, 1, client=client)
        >>> _ = store.save({"w": np.zeros((2, 3))}, 1)
        >>> weights = store.stack("w", round=1)
        >>> weights.shape, weights.clients, weights[:, 0, 0].tolist()
        ((2, 2, 3), ('Berlin', 'Oslo'), [6, 4])
        >>> float(np.std(weights))
        1.0
        """
        require_errors(errors, ("raise", "skip"))
        if (round is None) == (rounds is None):
            raise TypeError("stack takes round=, for the clients of a round, or rounds=")
        if round is not None and client is not None:
            raise TypeError("client= goes with rounds=: one array of one client is open(round, client)[key]")
        self._begin()
        if round is not None:
            files = self._files.client_files(self._number(round))
        else:
            every = isinstance(rounds, str) and rounds == "all"
            numbers = (
                self._files.numbers()
                if every
                else [require_round(one) for one in (() if rounds is None else rounds)]
            )
            files = [self._files.stacked_file(number, client) for number in numbers]
        if not files:
            raise MissingError(
                "nothing is there to stack", path=self.url, remedy="see rounds() and clients()"
            )
        return Stack(key, files) if errors == "raise" else stack_readable(key, files)

    def updates(
        self,
        round: int | Literal["latest", "best"],  # noqa: A002 the word of the field
        *,
        base: int | None = None,
    ) -> Updates:
        """Return what each client of a round changed: its arrays less those of the model it started from.

        The files of clients must hold weights. Where they hold differences already, those are what `open` and
        `stack` return.

        Parameters
        ----------
        round : int, "latest" or "best"
        base : int, optional
            The round whose global model the clients started from; the round before where not given.

        Returns
        -------
        Updates
            A mapping of clients to mappings of (record, key) to arrays, read and subtracted when asked for:
            those arrays of numbers that both have under one record and key, else under one key. ``drift()``
            has norm and cosine of each client.

        Raises
        ------
        MissingError
            One of the two rounds is not there, such as round 0 where the first model was not saved; or no
            client has a part in the round.

        Examples
        --------
        >>> import archive, numpy as np, shutil
        >>> shutil.rmtree("/tmp/fedarchive-doctest-updates", ignore_errors=True)
        >>> store = archive.CheckpointStore("/tmp/fedarchive-doctest-updates")
        >>> _ = store.save({"w": np.zeros(2)}, 0)
        >>> _ = store.save({"w": np.array([3.0, 4.0])}, 1, client="Berlin")
        >>> _ = store.save({"w": np.array([3.0, 0.0])}, 1)
        >>> store.updates(1)["Berlin"]["model", "w"].tolist()
        [3.0, 4.0]
        >>> drift = store.updates(1).drift()
        >>> drift["norm"].tolist(), drift["cosine"].tolist()
        ([5.0], [0.6])
        """
        self._begin()
        number = self._number(round)
        clients = self._files.client_files(number)
        if not clients:
            raise MissingError(f"round {number} has no clients", path=self.url, remedy="see clients()")
        before = number - 1 if base is None else require_round(base)
        if before < 0 or not self._files.exists(before):
            raise MissingError(
                f"there is no round {before}, whose global model the clients of round {number} started from",
                path=self.url,
                remedy="name the round that they started from by base=",
            )
        model = self._files.stacked_file(before, None), self._files.stacked_file(number, None)
        return Updates(clients, *model)

    def verify(self, round: int) -> RoundReport:  # noqa: A002 the word of the field
        """Compare every byte of a round and of its client files with its digest.

        Returns
        -------
        RoundReport
            Damage is reported, not raised.
        """
        self._begin()
        return self._files.verify(self._files.require(require_round(round)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _repr_html_(self) -> str:
        from archive.checkpoints.runsummary import run_html  # for people alone

        return run_html(type(self).__name__, self._files)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_background": Background()}

    def _begin(self, *, saving: bool = False) -> None:
        """Wait for the save in the background, raise its error, and find the run."""
        self._background.settle()
        self._files.find(keep=saving)

    def _number(self, round: int | Literal["latest", "best"]) -> int:  # noqa: A002 the word of the field
        """Return the number of an existing round."""
        if isinstance(round, str):
            if round not in ("latest", "best"):
                raise TypeError(f'a round is an int, "latest" or "best", not {round!r}')
            return self._files.newest() if round == "latest" else self._best()
        return self._files.require(require_round(round))

    def _best(self) -> int:
        goal = self._goal or self._files.goal()
        if goal is None:
            self._files.newest()  # raises where there is no round at all
            raise ValueError(
                'no round says what makes a round the best: give the store best_by="loss" or '
                'best_by=("accuracy", "max"), or what your metric is called'
            )
        return self._files.require_best(goal)
