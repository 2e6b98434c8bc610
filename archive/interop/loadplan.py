"""What load_model reads and where it goes, decided before an element is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from archive.engine.read.handle import Archive
from archive.interop.modulefit import (
    LoadReport,
    ModelMismatchError,
    compare,
    compare_parts,
    model_tree,
    names_of,
    repeated,
    select,
)
from archive.interop.statearrays import JSON, Found
from archive.interop.statefile import SavedState, names_at, places_in, read_arrays
from archive.interop.statetensors import Described, describe
from archive.records.tensors import require_torch

__all__ = ["LoadPlan", "Selection", "make_plan", "require_none"]

_SHARDED = (
    "load_state() on one rank, and set_model_state_dict() of torch.distributed.checkpoint.state_dict with "
    "StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)"
)


class Selection(NamedTuple):
    """What of a saved model is wanted, as the arguments of `archive.interop.torch.load_model` say."""

    strict: bool
    prefix: str
    unwrap: bool
    keys: str | Iterable[str] | None
    dtype: Any


class LoadPlan(NamedTuple):
    """What is to be loaded, after everything was compared that needs no elements."""

    saved: SavedState
    report: LoadReport
    model: JSON
    """Tree of the state dict, by key of the module."""
    states: dict[str, JSON]
    """Trees of the states of optimizers and the like."""
    places: dict[str, tuple[str, str]]
    """Record and key of every array, by its place."""

    @property
    def path(self) -> str:
        """The file, for errors."""
        return self.saved.path


def make_plan(
    handle: Archive, own: Mapping[str, Any], parts: Mapping[str, Any], selection: Selection
) -> LoadPlan:
    """Return what is to be loaded into a module with a state dict, and into optimizers and the like by name.

    Raises
    ------
    ModelMismatchError
        Keys, shapes, element types or classes differ.
    HostileFileError
    """
    saved = SavedState.of(handle)
    if any(type(value).__name__ == "DTensor" for value in own.values()):
        raise ModelMismatchError("a module of DTensors", path=saved.path, remedy=f"use {_SHARDED}")
    tree = model_tree(saved)
    trees = {str(key): part for key, part in saved.items(tree)}
    strict, prefix, unwrap, _, dtype = selection
    wanted, names = names_of(own, trees, prefix, unwrap)
    unmatched: list[str] = []
    if (keys := selection.keys) is not None:
        wanted, names, unmatched = select(wanted, names, [keys] if isinstance(keys, str) else keys)
    model = {"$": "OrderedDict", "items": [[name, trees[key]] for key, name in names.items()]}
    states = {key: part for key, part in saved.items(saved.tree) if key in parts}
    places = names_at(places_in([model, *states.values()]), saved.path)
    described = _described(Found(read_arrays(handle, places, lazy=True)), saved, model, dtype)
    report, problems = compare(own, wanted, described, strict, dtype is not None)
    if prefix and not names:
        first = dict.fromkeys(key.partition(".")[0] for key in trees)
        problems.append(f"no saved key begins with {prefix!r}, but with {', '.join(list(first)[:20])}")
    problems += repeated(names) + unmatched + compare_parts(saved, parts, states)
    require_none(problems, saved.path)
    model["items"] = [pair for pair in model["items"] if pair[0] in own]
    if "metadata" in tree and not prefix and not unwrap:
        model["metadata"] = tree["metadata"]
    read = places_in([model, *states.values()])
    return LoadPlan(saved, report, model, states, {at: places[at] for at in read})


def _described(found: Found, saved: SavedState, model: JSON, dtype: Any) -> dict[str, Described | None]:
    """Return what is saved, by key of the module; ``dtype`` is what floating-point tensors become."""
    try:
        described = {name: describe(part, found) for name, part in model["items"]}
        if dtype is None:
            return described
        torch, name = require_torch(), str(dtype).removeprefix("torch.")
        return {
            key: value._replace(dtype=name) if value and vars(torch)[value.dtype].is_floating_point else value
            for key, value in described.items()
        }
    except (AttributeError, LookupError, TypeError) as error:
        raise saved.invalid(f"{type(error).__name__}: {error}") from error


def require_none(problems: list[str], path: str) -> None:
    """Raise ModelMismatchError where there are problems."""
    if problems:
        raise ModelMismatchError("; ".join(problems), path=path, remedy="nothing was changed")
