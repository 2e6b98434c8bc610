"""The tree of a saved state (spec/v1/conventions.md, section 21), kept true while its arrays are edited."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from archive.errors import HostileFileError, ValueRangeError, VersionError
from archive.format.constants import OWN_PREFIX
from archive.format.constants import STATE_RECORD as STATE
from archive.format.document import RAISE, TooLargeError, require_decodable
from archive.format.names import escape_name

__all__ = ["StateTree", "state_of"]

_VERSION = 1
_MODEL = "model"
_SHAPED = ("as", "axes", "expand", "strides", "view")
"""Members of a part that belong to the elements that it had."""
_REMEDY = "load the state, change it and save another"

Name: TypeAlias = tuple[str, str]


@dataclass(slots=True)
class _Leaf:
    """A part of the tree that names an array."""

    part: dict[str, Any]
    keys: tuple[str, ...]
    """Keys that lead to it, as texts."""
    pairs: list[Any] | None = None
    """Keys and values of the mapping whose value it is; None for a part of anything else."""
    pair: list[Any] = field(default_factory=list)
    """Its own key and itself."""


class StateTree:
    """The tree of a state that `archive.interop.torch.save_state` saved, by the names of arrays.

    Parameters
    ----------
    values : mapping
        The record ``fedarchive.state``.
    path : str
        The file, for errors.

    Raises
    ------
    VersionError
        A later fedarchive wrote the tree.
    HostileFileError
        The tree breaks a rule of the section.
    """

    def __init__(self, values: MutableMapping[str, Any], path: str) -> None:
        self.values = values
        self._changed = False
        version, text = values.get("version"), values.get("tree")
        if type(version) is not int or version > _VERSION:
            raise VersionError(f"version {version!r} of the state", path=path, remedy="upgrade fedarchive")
        try:
            if not isinstance(text, str):
                raise TypeError(f"a {type(text).__name__} instead of JSON")
            require_decodable(text.encode(), text_counts=False)
            self._root = json.loads(text)
            self._leaves: dict[str, list[_Leaf]] = {}
            for leaf in _leaves(self._root):
                self._leaves.setdefault(leaf.part["at"], []).append(leaf)
        except TooLargeError as error:
            raise HostileFileError(str(error), path=path, key=f"{STATE}/tree", remedy=RAISE) from error
        except (TypeError, ValueError, RecursionError) as error:
            problem = f"invalid saved state: {error}"
            raise HostileFileError(problem, path=path, key=f"{STATE}/tree") from error

    @property
    def flat(self) -> bool:
        """Whether it is one mapping of texts to plain tensors: then the names of the arrays say all of it.

        The versions of modules in a state dict do not count: torch reads one without them.
        """
        root = self._root
        pairs = root.get("items") if isinstance(root, dict) else None
        return (root.get("$") if isinstance(root, dict) else None) in ("dict", "OrderedDict") and all(
            isinstance(pair, list)
            and len(pair) == 2
            and isinstance(pair[0], str)
            and isinstance(pair[1], dict)
            and pair[1].get("$") == "tensor"
            and not pair[1].keys() & {"axes", "view", "expand", "strides", "as"}
            for pair in pairs or ()
        )

    def rename(self, old: Name, new: Name) -> None:
        """Give a value of the state another key in its mapping; an array that the state lacks is left alone.

        Raises
        ------
        ValueRangeError
            The array is not the value of a mapping, or would get another place among the mappings.
        """
        leaf = self._only(old)
        if leaf is None:
            return
        record, before = _home(leaf.keys)
        start = f"{before}." if before else ""
        fits = old == (record, start + leaf.keys[-1]) and new[0] == record and new[1].startswith(start)
        key = new[1][len(start) :]
        if leaf.pairs is None or not fits or any(pair[0] == key for pair in leaf.pairs):
            raise _refusal(old, f"the saved state has no place for it as {'/'.join(new)}")
        leaf.pair[0], leaf.keys = key, (*leaf.keys[:-1], key)
        at, leaf.part["at"] = leaf.part["at"], _spell(new)
        self._leaves[leaf.part["at"]] = self._leaves.pop(at)
        self._refer({at}, leaf.part["at"])

    def remove(self, names: list[Name]) -> None:
        """Take values out of their mappings, all or none; raises as `rename`."""
        found = {name: leaf for name in names if (leaf := self._only(name)) is not None}
        mappings = {id(pairs): pairs for pairs in (_pairs(name, leaf) for name, leaf in found.items())}
        gone = {id(leaf.pair) for leaf in found.values()}
        for pairs in mappings.values():
            pairs[:] = [pair for pair in pairs if id(pair) not in gone]
        self._forget({leaf.part["at"] for leaf in found.values()})

    def remove_part(self, name: str) -> None:
        """Take a whole part out of the state, where the state has that part.

        Raises
        ------
        ValueRangeError
            Arrays of the record belong to another part.
        """
        inside = {at for at, found in self._leaves.items() if any(leaf.keys[:1] == (name,) for leaf in found)}
        start = _spell((name, "x")).partition("/")[0] + "/"
        if any(at.startswith(start) and at not in inside for at in self._leaves):
            raise _refusal((name, "*"), "the saved state has arrays of this record in another part")
        if _is_mapping(self._root):
            self._root["items"] = [pair for pair in self._root["items"] if pair[0] != name]
        self._changed = True
        self._forget(inside)

    @property
    def optimizers(self) -> frozenset[str]:
        """Parts of the state that are states of optimizers, or lists of them."""
        pairs = self._root["items"] if _is_mapping(self._root) else []
        return frozenset(
            pair[0]
            for pair in pairs
            for part in (pair[1] if isinstance(pair[1], list) else [pair[1]])
            if isinstance(pair[0], str)
            and _is_mapping(part)
            and any(p[0] == "param_groups" for p in part["items"])
        )

    def replace(self, name: Name) -> None:
        """Note that an array gets other elements, which are no view of what they were; raises as `rename`."""
        leaf = self._only(name)
        if leaf is None:
            self._add(name)
            return
        if leaf.part.get("$") not in ("tensor", "ndarray") or not leaf.keys:
            raise _refusal(name, "the saved state has a part of a value there")
        for member in _SHAPED:
            leaf.part.pop(member, None)
        self._refer({leaf.part["at"]}, None)

    def require_plain(self, name: Name) -> None:
        """Raise where an array holds the bytes of another type, which no conversion may change."""
        leaf = self._only(name)
        if leaf is not None and (leaf.part.get("$") not in ("tensor", "ndarray") or "view" in leaf.part):
            raise _refusal(name, "it holds the bytes of a value of another type")

    def store(self) -> None:
        """Write the tree back, if anything changed."""
        if self._changed:
            self.values["tree"] = json.dumps(self._root, allow_nan=False, separators=(",", ":"))

    def _add(self, name: Name) -> None:
        """Add a value to the mapping of a record, where the state has one."""
        pairs = self._root.get("items", []) if isinstance(self._root, dict) else []
        homes = [pair[1] for pair in pairs if pair[0] == name[0] and _is_mapping(pair[1])]
        flat = name[0] == _MODEL and any(
            leaf.keys[1:] == () for found in self._leaves.values() for leaf in found
        )
        mapping = homes[0] if homes else self._root if flat and _is_mapping(self._root) else None
        if mapping is None or any(pair[0] == name[1] for pair in mapping["items"]):
            return
        part = {"$": "tensor", "at": _spell(name)}
        mapping["items"].append([name[1], part])
        self._leaves[part["at"]] = [
            _Leaf(part, (*name,) if homes else name[1:], mapping["items"], mapping["items"][-1])
        ]
        self._changed = True

    def _only(self, name: Name) -> _Leaf | None:
        """Return what names an array, which is to be changed; None where nothing does."""
        found = self._leaves.get(_spell(name), [])
        if len(found) > 1:
            raise _refusal(name, "the saved state names it more than once")
        self._changed = True
        return found[0] if found else None

    def _forget(self, places: set[str]) -> None:
        """Have arrays at these places name nothing any more."""
        for at in places:
            del self._leaves[at]
        self._refer(places, None)

    def _refer(self, old: set[str], new: str | None) -> None:
        """Have what says it is the same object as a part name it by another place, or be one of its own."""
        for found in self._leaves.values():
            for leaf in found:
                if leaf.part.get("as") in old:
                    if new is None:
                        del leaf.part["as"]
                    else:
                        leaf.part["as"] = new


def state_of(configs: MutableMapping[str, Any], known: StateTree | None, path: str) -> StateTree | None:
    """Return the tree of the state that records of configs hold, if any; ``known`` where it is that."""
    values = configs.get(STATE)
    if values is None or (known is not None and known.values is values):
        return None if values is None else known
    return StateTree(values, path)


def _leaves(root: Any) -> Iterator[_Leaf]:
    left: list[tuple[Any, tuple[str, ...], list[Any] | None, list[Any]]] = [(root, (), None, [])]
    while left:
        part, keys, pairs, pair = left.pop()
        if isinstance(part, list):
            left += [(value, (*keys, str(number)), None, []) for number, value in enumerate(part)]
        elif not isinstance(part, dict):
            continue
        elif isinstance(part.get("at"), str):
            yield _Leaf(part, keys, pairs, pair)
        elif _is_mapping(part):
            for item in part["items"]:
                key, value = item
                known = pairs_of = part["items"] if isinstance(key, str) else None
                left.append((value, (*keys, str(key)), pairs_of, item if known is not None else []))
                left.append((key, (*keys, "key"), None, []))
            left.append((part.get("metadata"), (*keys, "_metadata"), None, []))
        else:
            left += [(value, (*keys, str(name)), None, []) for name, value in part.items()]


def _pairs(name: Name, leaf: _Leaf) -> list[Any]:
    """Return the keys and values of the mapping that a value is taken out of."""
    if leaf.pairs is None:
        raise _refusal(name, "the saved state would lack a part of a value")
    return leaf.pairs


def _is_mapping(part: Any) -> bool:
    return isinstance(part, dict) and part.get("$") in ("dict", "OrderedDict")


def _home(keys: tuple[str, ...]) -> Name:
    """Return the record of an array that keys lead to, and what its key begins with."""
    if len(keys) < 2 or keys[0].startswith(OWN_PREFIX):
        return _MODEL, ".".join(keys[:-1])
    return keys[0], ".".join(keys[1:-1])


def _spell(name: Name) -> str:
    return f"{escape_name(name[0]).decode()}/{escape_name(name[1]).decode()}"


def _refusal(name: Name, problem: str) -> ValueRangeError:
    return ValueRangeError(
        problem, key="/".join(name), remedy=f"{_REMEDY}; or delete configs[{STATE!r}] first"
    )
