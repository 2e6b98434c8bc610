"""A state of nested containers as records of an archive, and back (spec, section 21).

Each array of the state is a dataset that any HDF5 tool reads under the keys that lead to it; what holds the
arrays together is one JSON tree in the record ``fedarchive.state``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from archive.engine.read.handle import Archive
from archive.errors import ArchiveError, HostileFileError, ValueRangeError, VersionError
from archive.format.constants import OWN_PREFIX
from archive.format.constants import STATE_RECORD as _STATE
from archive.format.names import escape_name, unescape_name
from archive.interop.statearrays import JSON, Arrays, NotStateError, Path
from archive.interop.statetexts import from_text, to_text
from archive.interop.statevalues import encode, without_collections
from archive.records import Array, ArrayRecord, ConfigRecord, ParametersRecord, RecordSet
from archive.records.tensors import is_known

__all__ = ["MODEL", "SavedState", "names_at", "places_in", "read_arrays", "to_records"]

MODEL = "model"
"""Record of arrays that no key, or a single key, leads to."""
_ROOT = "value"
_VERSION = 1
"""Version of the tree; a reader refuses greater versions."""


class StateArrays(Arrays):
    """Arrays of a state by record and key: the first key that leads to an array, and the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, dict[str, Array]] = {}
        self._spelled = functools.cache(lambda record: escape_name(record).decode())

    def place(self, path: Path, array: Array) -> str:
        """Add an array, and return the path of its dataset below ``/arrays``."""
        own = len(path) < 2 or path[0].startswith(OWN_PREFIX)
        record, first = (MODEL, ".".join(path) if path else _ROOT) if own else (path[0], ".".join(path[1:]))
        arrays = self.records.setdefault(record, {})
        key, number = first, 1
        while key in arrays:
            number += 1
            key = f"{first}#{number}"
        arrays[key] = array
        try:
            return f"{self._spelled(record)}/{escape_name(key).decode()}"
        except ValueError as error:
            raise NotStateError(
                path, f"the keys make no name: {error}", "use shorter keys of text"
            ) from error


def to_records(state: Any, classes: Mapping[str, JSON] | None = None) -> RecordSet:
    """Return the records of a state, which share its memory.

    Parameters
    ----------
    state : any
    classes : mapping, optional
        Names of the classes whose states are in it, by key.

    Raises
    ------
    ValueRangeError
        A part of the state is neither tensor nor plain value; the error names it.
    """
    arrays = StateArrays()
    try:
        with without_collections():
            tree = encode(state, (), arrays)
    except NotStateError as error:
        raise ValueRangeError(
            f"{error.problem}, and nothing is pickled",
            key=error.key,
            remedy=error.remedy or "leave it out of the state, and set it again after loading",
        ) from error
    values: dict[str, Any] = {"version": _VERSION, "tree": to_text(tree, f"{_STATE}/tree")}
    if classes:
        values["classes"] = to_text(dict(classes), f"{_STATE}/classes")
    made = {name: ParametersRecord.from_checked(found) for name, found in arrays.records.items()}
    return RecordSet(made, None, {_STATE: ConfigRecord(values)})


@dataclass(slots=True)
class SavedState:
    """The state that an archive holds; of an archive without a tree, its records of arrays by name."""

    path: str
    """The file, for errors."""
    tree: JSON
    classes: dict[str, JSON] = field(default_factory=dict)

    @classmethod
    def of(cls, handle: Archive) -> SavedState:
        """Return the state of an open archive.

        Raises
        ------
        VersionError
            A later fedarchive wrote the tree.
        HostileFileError
            `to_records` writes no such tree.
        """
        records, path = handle.records, handle.info.path
        configs: Any = getattr(records, "config_records", None)
        values = (records.configs_records if configs is None else configs).get(_STATE)
        if values is None:
            named = [[name, _plain_tree(name, record)] for name, record in _arrays_of(records).items()]
            return cls(path, {"$": "dict", "items": named})
        version = values.get("version")
        if type(version) is not int or version != _VERSION:
            raise VersionError(f"version {version!r} of the state", path=path, remedy="upgrade fedarchive")
        tree = _parse(values.get("tree"), path, "tree")
        classes = _parse(values.get("classes", "{}"), path, "classes")
        if not isinstance(classes, dict):
            raise HostileFileError("invalid classes", path=path, key=f"{_STATE}/classes")
        return cls(path, tree, classes)

    def select(self, keys: Iterable[Any]) -> JSON:
        """Return the tree with only the parts of some keys, or of tuples of keys that lead to a part.

        Raises
        ------
        KeyError
            No such part.
        """
        try:
            return _select(self.tree, [key if isinstance(key, tuple) else (key,) for key in keys], ())
        except (AttributeError, TypeError, ValueError) as error:
            raise self.invalid(error) from error

    def items(self, tree: JSON) -> list[tuple[Any, JSON]]:
        """Return the keys and parts of a tree that is a mapping, without those whose key is not plain."""
        try:
            pairs = tree["items"] if isinstance(tree, dict) and "$" in tree else []
            return [(key, part) for key, part in pairs if isinstance(key, (str, int))]
        except (KeyError, TypeError, ValueError) as error:
            raise self.invalid(error) from error

    def invalid(self, error: Exception | str) -> HostileFileError:
        """Return the error for a tree that `to_records` does not write."""
        return HostileFileError(f"invalid saved state: {error}", path=self.path, key=_STATE)


def places_in(tree: JSON) -> Iterator[str]:
    """Yield the places of all arrays that a tree names."""
    left = [tree]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            at = part.get("at")
            if isinstance(at, str):
                yield at
            elif isinstance(at, list):  # Flower's Parameters name one for each tensor
                yield from (place for place in at if isinstance(place, str))
            else:
                left.extend(part.values())
        elif isinstance(part, list):
            left.extend(part)


def names_at(places: Iterable[str], path: str) -> dict[str, tuple[str, str]]:
    """Return record and key of the arrays at some places of a file.

    Raises
    ------
    HostileFileError
        `to_records` writes no such place.
    """
    names: dict[str, tuple[str, str]] = {}
    for at in places:
        record, _, key = at.partition("/")
        if at in names:
            raise HostileFileError(f"two values at {at!r}", path=path, key=_STATE)
        try:
            names[at] = unescape_name(record), unescape_name(key)
        except ValueError as error:
            raise HostileFileError(f"invalid place {at!r}", path=path, key=_STATE) from error
    return names


def read_arrays(
    handle: Archive, names: Mapping[str, tuple[str, str]], *, lazy: bool = False
) -> dict[str, Array]:
    """Read arrays into memory of their own, in parallel, verified; tied ones share it.

    Parameters
    ----------
    handle : Archive
    names : mapping
        As `names_at` returns them.
    lazy : bool, default False
        Leave them in the file.

    Raises
    ------
    HostileFileError
        The archive lacks one of them.
    DigestError
    """
    try:
        records = handle.records if lazy else handle.load(names.values())
        arrays = _arrays_of(records)
        return {at: arrays[record][key] for at, (record, key) in names.items()}
    except KeyError as error:
        problem = f"the state names an array that is missing: {error.args[0]}"
        remedy = "take another copy; a part of a state is saved by save_state(load_state(path, keys=[...]))"
        raise HostileFileError(problem, path=handle.info.path, key=_STATE, remedy=remedy) from error


def _arrays_of(records: Any) -> Mapping[str, ArrayRecord]:
    found: Any = getattr(records, "array_records", None)
    return records.parameters_records if found is None else found  # type: ignore[no-any-return]


def _spell(record: str, key: str) -> str:
    return f"{escape_name(record).decode()}/{escape_name(key).decode()}"


def _plain_tree(name: str, record: Mapping[str, Array]) -> JSON:
    """Return the tree of a record that was saved without one."""
    pairs = [
        [key, {"$": "tensor" if is_known(array.dtype) else "ndarray", "at": _spell(name, key)}]
        for key, array in record.items()
    ]
    return {"$": "OrderedDict", "items": pairs}


def _parse(text: Any, path: str, name: str) -> JSON:
    key = f"{_STATE}/{name}"
    try:
        return from_text(text, path, key)
    except ArchiveError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise HostileFileError(f"invalid saved state: {error}", path=path, key=key) from error


def _select(tree: JSON, wanted: list[tuple[Any, ...]], path: tuple[Any, ...]) -> JSON:
    if any(not keys for keys in wanted):
        return tree
    inside: dict[Any, list[tuple[Any, ...]]] = {}
    for first, *rest in wanted:
        inside.setdefault(first, []).append(tuple(rest))
    pairs = tree.get("items", []) if isinstance(tree, dict) else []
    known = {key: part for key, part in pairs if isinstance(key, (str, int))}
    for key in inside:
        if key not in known:
            there = ", ".join(map(repr, list(known)[:20])) or "no keys"
            raise KeyError(f"no {'/'.join(map(str, (*path, key)))} in the state; there: {there}")
    chosen = [[key, _select(part, inside[key], (*path, key))] for key, part in known.items() if key in inside]
    return {**tree, "items": chosen}
