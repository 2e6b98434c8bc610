"""Files of ``torch.save`` to and from archives; `archive.tools.convert` loads this module for them.

`torch.load` reads them, with ``weights_only=True`` and a map, so that no code of the file runs and the
elements stay on the disk; `torch.save` writes them. A state of any nesting becomes what `save_state` saves,
and comes back with the same nesting.
"""

from __future__ import annotations

import importlib
import io
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from archive import reading
from archive.engine.read.handle import Archive
from archive.errors import ArchiveError, HostileFileError, ValueRangeError
from archive.format.constants import OWN_PREFIX, STATE_RECORD
from archive.interop.statearrays import Found
from archive.interop.statefile import MODEL, SavedState, names_at, places_in, to_records
from archive.interop.statevalues import decode, without_collections
from archive.records.tensors import is_known, is_tensor
from archive.storage.url import Location
from archive.tools.formats.archives import ArchiveContent
from archive.tools.formats.entries import ArraysContent, Entry, Hasher, LeftOut, left_of_values
from archive.tools.formats.filelike import Target, staged

__all__ = ["read", "write"]

MAX_PICKLE_BYTES = 64 << 20
"""Longest pickle that is taken apart: that of a million tensors."""
_BROKEN = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What torch raises for a file that it cannot read; its unpickler lets through whatever a mutation causes."""
_FOUND = re.compile(r"WeightsUnpickler error: .*|Trying to load unsupported .*|Unsupported \w+: .*")
_AGAIN = "take another copy"


class _State(ArraysContent):
    """The tensors of a state, in a map, and its tree as configs."""

    def __init__(self, opened: ExitStack) -> None:
        super().__init__()
        self._opened = opened

    def close(self) -> None:
        """Remove the local copy of an object."""
        self._opened.close()


def read(location: Location) -> ArraysContent:
    """Open a file of ``torch.save``.

    Raises
    ------
    HostileFileError
        torch cannot read it, or only by running code of it.
    ValueRangeError
        Something in it is neither tensor nor plain value.
    """
    with ExitStack() as opened:
        path = opened.enter_context(staged(location))
        with without_collections():
            state = _load(path, location.display)
            records = to_records(state)
        content = _State(opened.pop_all())
    for record, arrays in records.array_records.items():
        for key, array in arrays.items():
            content.add(record, key, array)
    content.configs = {name: dict(values) for name, values in records.config_records.items()}
    content.left_out = [(name, "that it shares memory with other tensors in part") for name in _parted(state)]
    return content


def _torch(path: str) -> Any:
    try:
        return importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise ArchiveError(
            "torch reads and writes this format, and is not installed", path=path, remedy="pip install torch"
        ) from error


def _load(path: str, shown: str) -> Any:
    torch = _torch(shown)
    try:
        is_zip = zipfile.is_zipfile(path)
        if is_zip:
            _require_plain_zip(path, shown)
        with warnings.catch_warnings():  # of what it finds odd in a file that may be anybody's
            warnings.simplefilter("ignore")
            # a map of the elements; files of before 2020 are no zip, and take memory
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True if is_zip else None)
    except FileNotFoundError:
        reading.open(path).close()  # which says so as all of us do
        raise
    except ArchiveError:
        raise
    except _BROKEN as error:
        refused = isinstance(error, pickle.UnpicklingError)
        raise HostileFileError(
            f"torch does not read it{' without running code of it' * refused}: {_reason(error)}",
            path=shown,
            remedy="take another copy, or load it with torch yourself and save_state what you trust",
        ) from error


def _reason(error: Exception) -> str:
    """Return the line of torch's long messages that says what was found."""
    found = _FOUND.search(str(error))
    text = found[0] if found else str(error).partition("\n")[0].partition(" This is an")[0]
    return f"{type(error).__name__}: {text[:200]}"


def _require_plain_zip(path: str, shown: str) -> None:
    """Raise for what torch never writes: compressed members may be bombs, and a long pickle takes memory."""
    with zipfile.ZipFile(path) as found:
        members = found.infolist()
        length = found.fp.seek(0, io.SEEK_END) if found.fp else 0
    problem = None
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        problem = "compressed members, which torch does not write"
    elif sum(member.file_size for member in members) > length:
        problem = "members that overlap"
    elif any(m.filename.endswith(".pkl") and m.file_size > MAX_PICKLE_BYTES for m in members):
        problem = f"a pickle of more than {MAX_PICKLE_BYTES} bytes"
    if problem:
        raise HostileFileError(problem, path=shown, remedy=_AGAIN)


def _parted(state: Any) -> list[str]:
    """Return the names of tensors that lie in one memory and are not the same view of it."""
    views: dict[int, dict[object, str]] = {}
    for name, tensor in _tensors(state, ()):
        if not is_tensor(tensor) or str(tensor.layout) != "torch.strided" or not tensor.numel():
            continue
        view = tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype
        views.setdefault(tensor.untyped_storage().data_ptr(), {}).setdefault(view, name)
    return [name for found in views.values() if len(found) > 1 for name in found.values()]


def _tensors(state: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    pairs = (
        state.items()
        if isinstance(state, dict)
        else enumerate(state)
        if isinstance(state, (list, tuple))
        else ()
    )
    for key, value in pairs:
        yield from _tensors(value, (*path, str(key)))
    if is_tensor(state):
        yield "/".join(path), state


def write(content: ArchiveContent, target: Target, hasher: Hasher) -> list[LeftOut]:
    """Write the state of an archive by ``torch.save``, and return what was left out.

    The tensors are copy-on-write views of a map: memory holds what torch writes at the moment.

    Raises
    ------
    ValueRangeError
        The state holds what ``torch.load(weights_only=True)`` refuses.
    """
    torch = _torch(target.location.display)
    left_out: list[LeftOut] = []
    with ExitStack() as opened:
        path = opened.enter_context(staged(content.location))
        handle = opened.enter_context(reading.open(path, mode="c", access="mmap"))
        nested = STATE_RECORD in content.configs and content.complete
        if nested:
            state, chosen = _nested(torch, handle, content)
        else:
            state, chosen = _flat(handle, content, left_out)
        left_out += [
            (name, why) for name, why in left_of_values(content) if name != STATE_RECORD or not nested
        ]
        hasher.total = sum(entry.nbytes for entry in chosen)
        for entry, chunks in content.read(chosen):
            for _ in hasher.watch(entry, chunks):
                pass
        with target.open() as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:
                if file.error is not None:
                    raise file.error from error
                raise
    return left_out


def _nested(torch: Any, handle: Archive, content: ArchiveContent) -> tuple[Any, list[Entry]]:
    """Return the state that was saved, after it was tried without its elements."""
    saved = SavedState.of(handle)
    names = names_at(places_in(saved.tree), saved.path)
    arrays = {at: handle[name] for at, name in names.items()}
    skeleton = decode(saved.tree, Found(arrays, device=torch.device("meta")), key="state", path=saved.path)
    try:
        tried = io.BytesIO()
        torch.save(skeleton, tried)
        tried.seek(0)
        torch.load(tried, weights_only=True)
    except _BROKEN as error:
        raise ValueRangeError(
            f"torch.load refuses what is in this state: {_reason(error)}",
            path=saved.path,
            key=STATE_RECORD,
            remedy="take parts of it by keys=",
        ) from error
    del skeleton
    with without_collections():
        state = decode(saved.tree, Found(arrays), key="state", path=saved.path)
    return state, [entry for entry in content.entries if entry.name in set(names.values())]


def _flat(
    handle: Archive, content: ArchiveContent, left_out: list[LeftOut]
) -> tuple[dict[str, Any], list[Entry]]:
    """Return a state dict; of several records a dict of state dicts."""
    chosen: list[Entry] = []
    for entry in content.entries:
        known = entry.dtype is not None and is_known(entry.dtype.name) and entry.dtype.byteorder != ">"
        if known and not entry.record.startswith(OWN_PREFIX):
            chosen.append(entry)
        else:
            left_out.append(
                ("/".join(entry.name), f"torch has no element type for {entry.dtype or 'such bytes'}")
            )
    found = Found({"/".join(entry.name): handle[entry.name] for entry in chosen})
    state: dict[str, dict[str, Any]] = {}
    for entry in chosen:
        state.setdefault(entry.record, {})[entry.key] = found.tensor("/".join(entry.name), None)
    return state.get(MODEL, {}) if state.keys() <= {MODEL} else state, chosen
