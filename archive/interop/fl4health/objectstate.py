"""The state of a program's objects as plain values, and back into the objects that the script makes anew.

An object is saved by its attributes. It is never made from a file: loading changes the script's own
object, so that a file names no class. Therefore `ReportsManager`, `LossMeter`, `MetricManager`, a
`History` and every strategy are saved alike, and so are the objects of a script's own classes.
"""

from __future__ import annotations

import copy
import enum
import types
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from pathlib import PurePath
from typing import Any

from archive.errors import ArchiveError
from archive.interop.statearrays import JSON, Arrays, NotStateError, class_name, is_torch
from archive.interop.statevalues import encode, rewind

__all__ = ["Fresh", "StateMismatchError", "apply", "attributes_of", "is_saved", "plain", "state_of"]

_OF_THE_SCRIPT = (
    *("torch.utils.data", "torchvision", "pathlib", "logging", "threading", "concurrent", "weakref", "wandb"),
    *("flwr.server.client_manager", "flwr.server.client_proxy", "flwr.server.superlink", "grpc"),
    *("fl4health.checkpointing", "fl4health.client_managers"),
    *("archive.checkpoints", "archive.interop.fl4health"),
)
"""Modules of classes whose objects the script makes anew: data, connections, checkpointers."""
_MAX_DEPTH = 8


class StateMismatchError(ArchiveError, ValueError):
    """The saved state belongs to another object than the one it is to be loaded into."""


def state_of(thing: Any, skipped: list[str], path: str = "", seen: frozenset[int] = frozenset()) -> JSON:
    """Return the state of an object, or of a value; None where the script makes it anew.

    Parameters
    ----------
    thing : any
    skipped : list of str
        Gets the paths of what is neither saved nor known to be the script's.
    path : str, optional
    seen : frozenset of int, optional
        Ids of the objects that hold this one.

    Examples
    --------
    >>> state_of(types.SimpleNamespace(losses=[0.5], kind=print), [])
    {'attributes': {'losses': {'value': [0.5]}}}
    """
    if isinstance(thing, enum.Enum):
        return {"enum": thing.name}
    if _has_state_dict(thing):
        return {"state_dict": thing.state_dict()}
    if is_saved(thing) and not isinstance(thing, PurePath):  # where a script writes, it says itself
        return {"value": thing}
    if _is_of_the_script(thing) or id(thing) in seen or len(seen) > _MAX_DEPTH:
        return None
    inside = seen | {id(thing)}
    if isinstance(thing, Mapping):
        parts = [[key, state_of(item, skipped, f"{path}/{key}", inside)] for key, item in thing.items()]
        return {"pairs": parts}
    if isinstance(thing, (list, tuple, set)) or class_name(type(thing)) == "collections.deque":
        return {"items": [state_of(item, skipped, f"{path}/{n}", inside) for n, item in enumerate(thing)]}
    if hasattr(thing, "__dict__"):
        return {"attributes": attributes_of(vars(thing), skipped, path, inside)}
    skipped.append(path or class_name(type(thing)))
    return None


def attributes_of(
    attributes: Mapping[str, Any], skipped: list[str], path: str = "", seen: frozenset[int] = frozenset()
) -> dict[str, JSON]:
    """Return the states of attributes by name, without those that the script makes anew."""
    states = {
        name: state_of(value, skipped, f"{path}/{name}".lstrip("/"), seen)
        for name, value in attributes.items()
    }
    return {name: state for name, state in states.items() if state is not None}


def apply(live: Any, state: JSON, path: str, models: Iterable[Any] = ()) -> Any:
    """Bring an object to a state, in place where it can be; return it, or the value that takes its place.

    Parameters
    ----------
    live : any
        The object as the script makes it.
    state : JSON
        What `state_of` returned, loaded.
    path : str
        Name of the object, for errors.
    models : iterable of torch.nn.Module, optional
        Modules of which a copy is made for a state that has no module yet, such as those of earlier rounds.

    Raises
    ------
    StateMismatchError
        The object is missing, or of another kind or size than the saved one.

    Examples
    --------
    >>> apply(types.SimpleNamespace(losses=None), {"attributes": {"losses": {"value": [0.5]}}}, "meter")
    namespace(losses=[0.5])
    """
    if state is None:
        return live
    ((kind, saved),) = state.items()
    try:
        return _APPLY[kind](live, saved, path, tuple(models))
    except ArchiveError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise StateMismatchError(
            f"the saved state does not fit a {class_name(type(live))}: {error}",
            key=path,
            remedy="go on with the script that saved it, or give another folder or experiment",
        ) from error


def plain(state: JSON) -> JSON:
    """Return the values of a state without its form, for those who only want to look at them.

    Examples
    --------
    >>> plain({"attributes": {"losses": {"value": [0.5]}, "kind": {"enum": "AVERAGE"}}})
    {'losses': [0.5], 'kind': 'AVERAGE'}
    """
    if state is None:
        return None
    ((kind, saved),) = state.items()
    if kind == "attributes":
        return {name: plain(part) for name, part in saved.items()}
    if kind == "pairs":
        return {key: plain(part) for key, part in saved}
    return [plain(part) for part in saved] if kind == "items" else saved


class Fresh:
    """The attributes of an object as the script made them, to tell settings from state.

    An attribute without arrays that is still what the script made is not saved: the next start makes it
    again. A setting that the script changes between two starts therefore keeps its new value.

    Parameters
    ----------
    attributes : mapping
        `attributes_of` of the object before it was used.

    Examples
    --------
    >>> fresh = Fresh({"rate": {"value": 0.1}, "steps": {"value": 0}})
    >>> fresh.changed({"rate": {"value": 0.1}, "steps": {"value": 7}})
    {'steps': {'value': 7}}
    """

    def __init__(self, attributes: Mapping[str, JSON]) -> None:
        self._trees = {name: _tree(state) for name, state in attributes.items()}
        self._inside = {
            name: Fresh(state["attributes"]) for name, state in attributes.items() if "attributes" in state
        }
        plain_names = [name for name, tree in self._trees.items() if tree is not None]
        self.states: dict[str, JSON] = {name: copy.deepcopy(attributes[name]) for name in plain_names}
        """States of the attributes that hold no arrays."""

    def changed(self, attributes: Mapping[str, JSON]) -> dict[str, JSON]:
        """Return the attributes that differ from the script's, and those that hold arrays."""
        found: dict[str, JSON] = {}
        for name, state in attributes.items():
            tree = self._trees.get(name)
            if name in self._inside and "attributes" in state:
                parts = self._inside[name].changed(state["attributes"])
                if parts:
                    found[name] = {"attributes": parts}
            elif tree is None or _tree(state) != tree:
                found[name] = state
        return found


def is_saved(value: Any) -> bool:
    """Tell whether a value is saved as it is."""
    try:
        encode(value, (), Arrays())
    except NotStateError:
        return False
    return True


def _tree(state: JSON) -> JSON:
    """Return a state that holds no array as JSON that can be compared; None for any other state."""
    arrays = Arrays()
    try:
        tree = encode(state, (), arrays)
    except NotStateError:  # a state dict of something else than tensors and plain values
        return None
    return None if arrays else tree


def _has_state_dict(thing: Any) -> bool:
    # a class has the functions too, which take an object
    named = (getattr(thing, name, None) for name in ("state_dict", "load_state_dict"))
    return not isinstance(thing, type) and all(map(callable, named))


def _is_of_the_script(thing: Any) -> bool:
    if isinstance(thing, (type, types.ModuleType, types.GeneratorType)) or hasattr(type(thing), "__next__"):
        return True
    if callable(thing) and not hasattr(thing, "__dict__"):
        return True
    if isinstance(thing, (types.FunctionType, types.MethodType, types.BuiltinFunctionType)):
        return True
    modules = {kind.__module__ for kind in type(thing).__mro__}
    return any(f"{module}.".startswith(f"{own}.") for module in modules for own in _OF_THE_SCRIPT)


def _apply_value(live: Any, saved: Any, path: str, models: tuple[Any, ...]) -> Any:
    if rewind(live, saved):
        return live
    if isinstance(live, MutableMapping) and isinstance(saved, dict) and type(live) is not type(saved):
        live.clear()
        live.update(saved)
        return live
    return saved.to(live.device) if is_torch(live, "Tensor") and is_torch(saved, "Tensor") else saved


def _apply_state_dict(live: Any, saved: Any, path: str, models: tuple[Any, ...]) -> Any:
    if live is None:
        live = _copy_of_model(saved, path, models)
    live.load_state_dict(saved)
    return live


def _copy_of_model(saved: Mapping[str, Any], path: str, models: tuple[Any, ...]) -> Any:
    """Return a frozen copy of the model that has a saved state's names."""
    for model in models:
        if list(model.state_dict()) == list(saved):
            made = copy.deepcopy(model).eval()
            made.requires_grad_(False)
            return made
    raise StateMismatchError(
        "the saved state of an object that this script has not",
        key=path,
        remedy="make the object before the first round, in setup_client or in __init__",
    )


def _apply_items(live: Any, saved: Any, path: str, models: tuple[Any, ...]) -> Any:
    live = list(live or ())
    if len(live) < len(saved) and all(part is not None and "state_dict" in part for part in saved):
        live += [None] * (len(saved) - len(live))
    if len(live) != len(saved):
        raise ValueError(f"{len(saved)} items were saved, but {len(live)} are here")
    return [
        apply(item, part, f"{path}/{n}", models)
        for n, (item, part) in enumerate(zip(live, saved, strict=True))
    ]


def _apply_pairs(live: Any, saved: Any, path: str, models: tuple[Any, ...]) -> Any:
    made = {} if live is None else live
    for key, part in saved:
        made[key] = apply(made.get(key), part, f"{path}/{key}", models)
    return made


def _apply_attributes(live: Any, saved: Any, path: str, models: tuple[Any, ...]) -> Any:
    prepare = _PREPARE.get(class_name(type(live)))
    if prepare is not None:
        prepare(live, saved)
    for name, part in saved.items():
        object.__setattr__(live, name, apply(getattr(live, name, None), part, f"{path}/{name}", models))
    return live


def _make_losses(meter: Any, saved: Mapping[str, JSON]) -> None:
    """Give a LossMeter as many losses as were saved, of the class that it has them of."""
    count = len(saved.get("losses_list", {}).get("items", ()))
    meter.losses_list = [object.__new__(meter.losses_type) for _ in range(count)]


def _make_metrics(manager: Any, saved: Mapping[str, JSON]) -> None:
    """Give a MetricManager copies of its metrics for each prediction that was saved."""
    pairs = saved.get("metrics_per_prediction_type", {}).get("pairs", ())
    manager.metrics_per_prediction_type = {key: copy.deepcopy(manager.original_metrics) for key, _ in pairs}


_APPLY: dict[str, Callable[[Any, Any, str, tuple[Any, ...]], Any]] = {
    "value": _apply_value,
    "state_dict": _apply_state_dict,
    "enum": lambda live, saved, *_: type(live)[saved],
    "items": _apply_items,
    "pairs": _apply_pairs,
    "attributes": _apply_attributes,
}
_PREPARE: dict[str, Callable[[Any, Mapping[str, JSON]], None]] = {
    "fl4health.utils.losses.LossMeter": _make_losses,
    "fl4health.metrics.metric_managers.MetricManager": _make_metrics,
}
"""What an object needs before the states of its parts can be applied."""
