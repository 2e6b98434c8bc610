"""One array of many files of a store as one lazy array with an axis in front: of clients, or of rounds."""

from __future__ import annotations

import errno
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from archive import tuning
from archive.checkpoints.roundfile import open_named
from archive.dtypes import NDArray, parse_dtype
from archive.engine.read.handle import Archive
from archive.errors import ArchiveError, ReplacedError, ValueRangeError
from archive.records import Array
from archive.storage.url import Location
from archive.tools.leftout import is_bad_input, without_traceback
from archive.tools.tabulation import Failed, warn_skipped
from archive.workers import map_archives, run_parallel

__all__ = ["Stack", "StackedFile", "stack_readable"]

T = TypeVar("T")
R = TypeVar("R")
Key = str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class StackedFile:
    """One step along the first axis."""

    round: int | None
    """Number of the round; None for an archive that belongs to no store."""
    client: str | None
    """Name of the client; None for the global model."""
    place: Location
    """Its file."""
    digest: str | None
    """The digest by which its round names it."""
    seen: str | None = None
    """The digest that it had when the stack was pinned, where no round names it."""

    @property
    def name(self) -> str:
        """What an error calls it."""
        if self.round is None:
            return self.place.display
        return f"round {self.round}" + ("" if self.client is None else f", client {self.client!r}")

    def open(self) -> Archive:
        """Open it.

        Raises
        ------
        DamagedError
            Its round was saved with another file.
        ReplacedError
            It is another version than when the stack was pinned.
        ArchiveError
        """
        opened = open_named(self.place, self.digest)
        if self.seen in (None, opened._reader.identity.hex()):
            return opened
        opened.close()
        raise ReplacedError(
            "the file was replaced by another version since the stack was made",
            path=self.place.display,
            errno=errno.ESTALE,
            remedy="make the stack again",
        )

    def pinned(self) -> StackedFile:
        """Return it with a digest: of a later version nothing is read.

        Raises
        ------
        ArchiveError
            As for `archive.open`.
        """
        if self.digest or self.seen:
            return self
        with self.open() as opened:
            return replace(self, seen=opened._reader.identity.hex())


class Stack:
    """One array of several files as one array, read when asked for. Made by `CheckpointStore.stack`.

    ``shape`` and ``dtype`` are those of the first file. An index reads what it selects, ``for`` reads one
    array after the other, and numpy functions (``numpy.asarray``) read all. Each file is open while it is
    read; of a remote one this takes a request, and another for its array, many files at once.
    """

    def __init__(self, key: Key, files: Sequence[StackedFile], failures: Sequence[Failed] = ()) -> None:
        self.key: Key = key
        """Key of the array, or (record, key)."""
        self.rounds: tuple[int, ...] = tuple(file.round for file in files if file.round is not None)
        """The round of each step along the first axis; empty for archives that belong to no store."""
        self.clients: tuple[str | None, ...] = tuple(file.client for file in files)
        """The client of each; None for the global model."""
        self._files = list(files)
        self.failures: tuple[Failed, ...] = tuple(failures)
        """Files that were left out, as (path, error)."""

    @cached_property
    def _first(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and element type that all have."""
        found: tuple[tuple[int, ...], np.dtype[Any]]
        found = self._with(0, lambda array: (tuple(array.shape), parse_dtype(array.dtype)))
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, the axis of files in front."""
        return len(self._files), *self._first[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type."""
        return self._first[1]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=object))

    @property
    def nbytes(self) -> int:
        """Bytes that all elements take in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[NDArray]:
        """Yield the array of each file; of remote files the next few are on their way."""
        yield from self._each(lambda number: self._select(number, ()), range(len(self)), ahead=2)

    def __getitem__(self, index: Any) -> Any:
        """Return ``numpy.asarray(stack)[index]``; of which files nothing is selected, nothing is read.

        With lists or arrays after the first axis, the arrays of the selected files are read whole.

        Raises
        ------
        IndexError
            As for numpy.
        KeyError
            A file has no such array.
        ValueRangeError
            The array of a file has another shape or element type than that of the first.
        """
        first, rest = _split(index, self)
        if first is None:
            return np.asarray(self)[index]
        simple = all(map(_is_basic, rest))
        if isinstance(first, int):
            whole: Any = (0, *rest)
            return self._select(first, rest) if simple else self._stacked([first], ())[whole]
        if simple:
            found = self._stacked(first.reshape(-1), rest)
            return found.reshape(first.shape + found.shape[1:])
        if isinstance(_lead(index), slice):
            whole = (slice(None), *rest)
            return self._stacked(first, ())[whole]
        wanted, places = np.unique(first, return_inverse=True)
        whole = (places.reshape(first.shape), *rest)
        return self._stacked(wanted, ())[whole]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        """Return all elements in memory.

        Raises
        ------
        ValueError
            ``copy=False``: it is not in memory.
        """
        if copy is False:
            raise ValueError("a stack is read into memory of its own: copy=False cannot be")
        found = self._stacked(range(len(self)), ())
        return found if dtype is None else found.astype(dtype, copy=False)

    def __dlpack__(self, **options: Any) -> Any:
        """Return all elements for another library, such as ``torch.from_dlpack``."""
        return np.asarray(self).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return the CPU."""
        return 1, 0

    def pinned(self) -> Stack:
        """Return the stack of just these versions of the files: one that is replaced later is an error.

        Files that no round names by their digests are opened once for it, several at once where they are
        remote.

        Raises
        ------
        ArchiveError
            One of them cannot be opened.
        """
        remote = any(file.place.remote for file in self._files)
        return Stack(self.key, map_archives(StackedFile.pinned, self._files, remote=remote), self.failures)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Return what Dask knows the stack by: the address without secrets and the digest of each file."""
        files = self.pinned()._files
        named = [f"{file.digest or file.seen} {file.place.display}" for file in files]
        return "fedarchive.Stack", str(self.key), *named

    def __repr__(self) -> str:
        shape = self.__dict__.get("_first", ("shape not read yet",))[0]
        return f"<fedarchive.Stack {self.key!r}: {len(self)} x {shape}>"

    def _with(self, number: int, use: Any) -> Any:
        """Return what a function makes of the array of a file, which is open meanwhile."""
        file = self._files[number]
        with file.open() as opened:
            try:
                return use(opened[self.key])
            except KeyError as error:
                raise KeyError(f"{file.name}: {error.args[0]}") from error

    def _select(self, number: int, rest: tuple[Any, ...], out: NDArray | None = None) -> Any:
        """Return what is selected of the array of a file; in the memory of ``out`` if it is given."""
        shape, dtype = self._first
        file = self._files[number]

        def select(array: Array) -> Any:
            if tuple(array.shape) != shape or parse_dtype(array.dtype) != dtype:
                raise ValueRangeError(
                    f"{file.name} has {array.dtype} {tuple(array.shape)}, and "
                    f"{self._files[0].name} has {dtype} {shape}",
                    path=file.place.display,
                    key=self.key if isinstance(self.key, str) else "/".join(self.key),
                    remedy="stack arrays of one shape and dtype",
                )
            if out is not None:
                return array.read(rest or ..., out)
            return array[rest] if rest else array[...]

        return self._with(number, select)

    def _each(self, call: Callable[[T], R], items: Iterable[T], *, ahead: int = 0) -> Iterator[R]:
        """Yield the results of calls that read a file each: of remote ones many at once."""
        if self._files[0].place.remote:
            return run_parallel(call, items, network=tuning.ARCHIVES, ahead=ahead)
        return map(call, items)

    def _stacked(self, numbers: Any, rest: tuple[Any, ...]) -> NDArray:
        """Return what is selected of several files in one array."""
        shape, _ = self._first
        # a view that takes no memory says which shape an index selects
        part = np.broadcast_to(np.zeros((), np.uint8), shape)[rest]
        found: NDArray = np.empty((len(numbers), *np.shape(part)), self.dtype)

        def fill(at: tuple[int, Any]) -> None:  # by the thread that read it: results would wait in memory
            self._select(int(at[1]), rest, found[at[0], ...])

        for _ in self._each(fill, enumerate(numbers)):
            pass
        return found


def stack_readable(key: Key, files: Sequence[StackedFile]) -> Stack:
    """Return a stack of just these versions of the files that can be opened, with a warning of the others.

    Raises
    ------
    ArchiveError
        None can be opened; or the error of one is not its own (`is_bad_input`).
    """
    remote = any(file.place.remote for file in files)
    found = map_archives(_pinned, files, remote=remote)
    pairs = list(zip(files, found, strict=True))
    failures = [(file.place.display, one) for file, one in pairs if isinstance(one, ArchiveError)]
    if len(failures) == len(files):
        raise failures[0][1]
    warn_skipped(failures, len(files))
    return Stack(key, [one for one in found if isinstance(one, StackedFile)], failures)


def _pinned(file: StackedFile) -> StackedFile | ArchiveError:
    try:
        with file.open() as opened:
            return file if file.digest else replace(file, seen=opened._reader.identity.hex())
    except ArchiveError as error:
        if not is_bad_input(error):
            raise
        return without_traceback(error)


def _is_bool(part: Any) -> bool:
    """Return whether this is one bool, which adds an axis and selects along none."""
    return isinstance(part, (bool, np.bool_)) or (
        isinstance(part, np.ndarray) and part.dtype == bool and not part.ndim
    )


def _is_int(part: Any) -> bool:
    return not _is_bool(part) and hasattr(part, "__index__") and np.ndim(part) == 0


def _is_basic(part: Any) -> bool:
    """Return whether this selects along an axis of its own, whatever else an index has."""
    return part is None or part is Ellipsis or isinstance(part, slice) or _is_int(part)


def _lead(index: Any) -> Any:
    """Return what an index selects along the first axis."""
    lead = index[0] if isinstance(index, tuple) else index
    return slice(None) if lead is Ellipsis else lead


def _split(index: Any, stack: Stack) -> tuple[Any, tuple[Any, ...]]:
    """Return the files that an index selects, as an int or an array of int, and the index of their arrays.

    The first is None where numpy has to apply the index to all of it.
    """
    parts = index if isinstance(index, tuple) else (index,)
    if not parts:
        return np.arange(len(stack)), ()
    lead, rest = parts[0], parts[1:]
    if lead is None or _is_bool(lead):
        return None, ()
    if lead is Ellipsis:
        if any(part is None or np.ndim(part) > 1 for part in rest) or len(rest) >= stack.ndim:
            return None, ()
        return np.arange(len(stack)), (Ellipsis, *rest)
    if isinstance(lead, slice):
        return np.arange(len(stack))[lead], rest
    if _is_int(lead):
        number = operator.index(lead)
        if not -len(stack) <= number < len(stack):
            raise IndexError(f"index {number} is out of bounds for {len(stack)} files")
        return number % len(stack), rest
    chosen = np.asarray(lead)
    if not chosen.size and not isinstance(lead, np.ndarray):
        chosen = chosen.astype(np.intp)  # an empty list has no type
    if chosen.dtype == bool and chosen.ndim != 1:
        return None, ()
    return np.arange(len(stack))[chosen], rest
