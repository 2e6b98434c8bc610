"""What of a saved state fits a module and its optimizers: every difference, before anything changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from archive.engine.read.keypatterns import match_names
from archive.errors import ArchiveError
from archive.interop.statearrays import JSON, class_name
from archive.interop.statefile import MODEL, SavedState
from archive.interop.statetensors import Described
from archive.interop.statevalues import MALFORMED
from archive.records.tensors import is_tensor, require_torch, ties_in

__all__ = [
    "LoadReport",
    "ModelMismatchError",
    "compare",
    "compare_parts",
    "compare_states",
    "compare_ties",
    "kind_of",
    "listed",
    "load_parts",
    "model_tree",
    "names_of",
    "repeated",
    "require_versions",
    "select",
    "tie",
    "untied",
]

_MODELS = (MODEL, "state_dict", "model_state_dict")
"""Keys under which programs keep the state dict of a module."""
_UNCHANGED = "nothing was changed"
_QUANTISED = "quantised"
_LAZY = ("UninitializedParameter", "UninitializedBuffer")


class ModelMismatchError(ArchiveError, RuntimeError):
    """The saved state does not fit the objects it is to be loaded into; nothing was changed."""


class LoadReport(NamedTuple):
    """The keys that only one side has, which ``strict=False`` allows."""

    missing_keys: list[str]
    """Keys of the module that the archive lacks."""
    unexpected_keys: list[str]
    """Keys of the archive that the module lacks."""

    def __repr__(self) -> str:
        """Return both lists, cut where they are long."""
        from archive.display.texts import fields_text

        return fields_text(self)


def model_tree(saved: SavedState) -> dict[str, JSON]:
    """Return the tree of the saved state dict of a module.

    That is the value of ``model``, ``state_dict`` or ``model_state_dict``, the only record of an archive that
    was saved without a tree, or the whole state where it holds tensors by name.

    Raises
    ------
    ModelMismatchError
        The state holds no such mapping.
    """
    parts = dict(saved.items(saved.tree))
    found = next((parts[key] for key in _MODELS if saved.items(parts.get(key))), None)
    if found is None and len(parts) == 1 and saved.items(next(iter(parts.values()))):
        found = next(iter(parts.values()))
    if found is None and any(isinstance(part, dict) and part.get("$") == "tensor" for part in parts.values()):
        found = saved.tree
    if not isinstance(found, dict):
        problem = f"no record {MODEL!r} among {list(parts)}"
        raise ModelMismatchError(problem, path=saved.path, remedy=_UNCHANGED)
    return found


def names_of(
    own: Iterable[str], saved: Iterable[str], prefix: str, unwrap: bool
) -> tuple[list[str], dict[str, str]]:
    """Return the keys of a module, and the saved keys with those of the module that they are for.

    Examples
    --------
    >>> names_of(["module.w"], ["net.w", "net.b", "x"], "net.", True)
    (['module.w'], {'net.w': 'module.w', 'net.b': 'b'})
    """
    wanted = list(own)
    plain = {_unwrapped(key) if unwrap else key: key for key in wanted}
    found = {}
    for key in saved:
        if key.startswith(prefix):
            name = _unwrapped(key[len(prefix) :]) if unwrap else key[len(prefix) :]
            found[key] = plain.get(name, name)
    return wanted, found


def select(
    own: list[str], names: Mapping[str, str], keys: Iterable[str]
) -> tuple[list[str], dict[str, str], list[str]]:
    """Return what `names_of` does, of some keys and patterns only, and what is wrong with these.

    The keys of a module are those of a record ``model``: the rule is that of `Archive.load`.

    Examples
    --------
    >>> select(["fc.w", "fc.b", "x"], {"fc.w": "fc.w", "y": "y"}, ["model/fc.*", "z"])
    (['fc.w', 'fc.b'], {'fc.w': 'fc.w'}, ["no key matches 'z'"])
    """
    known = [(MODEL, name) for name in dict.fromkeys([*own, *names.values()])]
    chosen: set[str] = set()
    problems = []
    for key in keys:
        places = match_names(known, key)
        chosen |= {known[place][1] for place in places}
        problems += [] if places else [f"no key matches {key!r}"]
    found = {key: name for key, name in names.items() if name in chosen}
    return [name for name in own if name in chosen], found, problems


def repeated(names: Mapping[str, str]) -> list[str]:
    """Return what is wrong with saved keys that are for the same key of a module."""
    by_name: dict[str, list[str]] = {}
    for key, name in names.items():
        by_name.setdefault(name, []).append(key)
    return [
        f"{name}: saved twice, as {' and '.join(keys)}" for name, keys in by_name.items() if len(keys) > 1
    ]


def _unwrapped(key: str) -> str:
    """Return a key without what DistributedDataParallel and torch.compile put before it."""
    while key.startswith("module."):
        key = key.removeprefix("module.")
    return key.replace("_orig_mod.", "")


def compare(
    own: Mapping[str, Any],
    wanted: list[str],
    saved: Mapping[str, Described | None],
    strict: bool,
    converts: bool = False,
) -> tuple[LoadReport, list[str]]:
    """Return the keys that one side lacks, and every difference that is an error.

    Parameters
    ----------
    own : mapping
        State dict of the module.
    wanted : list of str
        Keys of the module that are to be loaded.
    saved : mapping
        What is saved, by key of the module; None for what is not a tensor.
    strict : bool
    converts : bool, default False
        Whether tensors in place of those on ``meta`` get a type of their own.
    """
    missing = [key for key in wanted if key not in saved]
    unexpected = [key for key in saved if key not in own]
    problems = []
    if strict and missing:
        problems.append(f"missing in the archive: {', '.join(missing)}")
    if strict and unexpected:
        problems.append(f"missing in the module: {', '.join(unexpected)}")
    if strict and {_unwrapped(key) for key in missing} & {_unwrapped(key) for key in unexpected}:
        problems.append("some of these keys differ by a wrapper: give unwrap=True")
    converted = False
    for key, value in saved.items():
        there: Any = own.get(key)
        if not is_tensor(there) or type(there).__name__ in _LAZY:
            continue  # a lazy module takes any shape
        if value is None:
            problems.append(f"{key}: saved as another kind of value, the module has a tensor")
        elif tuple(there.shape) != value.shape:
            problems.append(f"{key}: saved with shape {value.shape}, the module has {tuple(there.shape)}")
        elif strict and str(there.dtype) != f"torch.{value.dtype}" and not (converts and there.is_meta):
            problems.append(f"{key}: loaded as {value.dtype}, the module has {str(there.dtype)[6:]}")
            converted = True
        elif value.layout != _layout_of(there):
            problems.append(f"{key}: saved as {value.layout}, the module has {_layout_of(there)}")
    if converted:
        problems.append("give the element type of the module as dtype=, or strict=False to convert")
    return LoadReport(missing, unexpected), problems


def _layout_of(tensor: Any) -> str:
    return _QUANTISED if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")


def require_versions(values: Any, saved: SavedState) -> None:
    """Raise unless the versions on a state dict are those of modules: torch takes them as they are.

    Raises
    ------
    HostileFileError
    """
    versions = getattr(values, "_metadata", {})
    if not isinstance(versions, dict) or not all(isinstance(one, dict) for one in versions.values()):
        raise saved.invalid("metadata that torch does not make")
    for one in versions.values():
        if not isinstance(one.get("version"), (int, float, type(None))):
            raise saved.invalid(f"version {one['version']!r} of a module")


def compare_ties(
    module: Any, loaded: Mapping[str, Any], ties: list[list[str]], optimizers: Iterable[Any]
) -> list[str]:
    """Return what is wrong with tensors that are tied on one side only, and with parameters on meta."""
    state = {key: value for key, value in module.state_dict().items() if is_tensor(value)}
    together = {key: number for number, keys in enumerate(ties) for key in keys}
    problems = []
    for keys in ties_in(state):
        first, *rest = [key for key in keys if key in loaded] or [""]
        for key in rest:
            if together.get(first, -1) == together.get(key, -2):
                continue
            if not _same_bits(loaded[first], loaded[key]):
                problems.append(f"{first} and {key} are tied in the module, and differ in the archive")
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    trained = {id(parameter): parameter for group in groups for parameter in group["params"]}
    if any(parameter.is_meta for parameter in trained.values()):
        problems.append("the optimizer has parameters on meta: load the module, then make the optimizer")
    own = _tensors(module)
    for first, key in untied(module, ties):
        if id(own[key]) in trained:
            problems.append(f"{first} and {key} were tied: tie them before the optimizer is made")
    return problems


def compare_parts(saved: SavedState, parts: Mapping[str, Any], states: Mapping[str, JSON]) -> list[str]:
    """Return what is wrong with optimizers, schedulers and scalers: not saved, or of another class.

    Parameters
    ----------
    saved : SavedState
    parts : mapping
        The objects by name.
    states : mapping
        Trees of their saved states by name.
    """
    problems = []
    for name, part in parts.items():
        kind = saved.classes.get(name)
        if name not in states:
            problems.append(f"no {name} was saved")
        elif kind is not None and kind != kind_of(part):
            problems.append(f"{name}: saved {kind}, not {kind_of(part)}")
    return problems


def compare_states(parts: Mapping[str, Any], states: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the states of optimizers and the like: how many, and groups of parameters."""
    problems = []
    for name, part in parts.items():
        own, found = listed(part), listed(states[name])
        if len(own) != len(found):
            problems.append(f"{name}: saved {len(found)}, not {len(own)}")
        elif not all(isinstance(state, dict) for state in found):
            problems.append(f"{name}: saved without keys")
        elif hidden := [key for one, state in zip(own, found, strict=True) for key in _hidden(state, one)]:
            problems.append(f"{name}: its state dict has no {', '.join(hidden)}")
        elif name == "optimizer":
            problems += [
                text for one, state in zip(own, found, strict=True) for text in _compare_groups(state, one)
            ]
    return problems


def _hidden(state: Mapping[str, Any], one: Any) -> list[str]:
    """Return the keys that name attributes or methods which the object does not save: schedulers set any."""
    others = state.keys() - one.state_dict().keys()
    return sorted(key for key in others if isinstance(key, str) and hasattr(one, key))


def load_parts(parts: Mapping[str, Any], states: Mapping[str, Any], path: str) -> None:
    """Load states into optimizers, schedulers and scalers: into all of them, or into none.

    Raises
    ------
    ModelMismatchError
        One of them refused its state.
    """
    pairs = [
        (name, one, state)
        for name, part in parts.items()
        for one, state in zip(listed(part), listed(states[name]), strict=True)
    ]
    # an optimizer gets new dicts; what others change within is in their states
    before = [
        (one, dict(vars(one)), None if name == "optimizer" else one.state_dict()) for name, one, _ in pairs
    ]
    for name, one, state in pairs:
        try:
            one.load_state_dict(state)
        except MALFORMED as error:
            for changed, attributes, own in reversed(before):
                vars(changed).clear()
                vars(changed).update(attributes)
                if own is not None:
                    changed.load_state_dict(own)
            problem = f"{name}: {type(error).__name__}: {error}"
            raise ModelMismatchError(problem, path=path, remedy=_UNCHANGED) from error


def _compare_groups(state: Mapping[str, Any], optimizer: Any) -> list[str]:
    try:
        saved = [len(group["params"]) for group in state["param_groups"]]
    except (KeyError, TypeError):
        return ["optimizer: saved without groups of parameters"]
    own = [len(group["params"]) for group in optimizer.param_groups]
    return [] if saved == own else [f"optimizer: saved with groups of {saved} parameters, has {own}"]


def listed(part: Any) -> list[Any]:
    """Return the objects of a list, or the one that is given instead of a list."""
    return list(part) if isinstance(part, (list, tuple)) else [part]


def kind_of(part: Any) -> JSON:
    """Return the name of the class of an object, or those of a list of objects."""
    return (
        [class_name(type(one)) for one in part] if isinstance(part, (list, tuple)) else class_name(type(part))
    )


def untied(module: Any, ties: list[list[str]]) -> list[tuple[str, str]]:
    """Return the pairs of tied keys whose tensors have two memories in the module, or none yet."""
    own = _tensors(module)
    pairs = []
    for keys in ties:
        first, *rest = [key for key in keys if key in own] or [""]
        pairs += [(first, key) for key in rest if not _share(own[first], own[key])]
    return pairs


def tie(module: Any, pairs: list[tuple[str, str]]) -> None:
    """Tie the parameters or buffers of the pairs of keys; a buffer is never a parameter afterwards."""
    parameter = require_torch().nn.Parameter
    for first, key in pairs:
        own = _tensors(module)
        one, other = own[first], own[key]
        path, _, name = key.rpartition(".")
        owner = module.get_submodule(path)
        held = owner._buffers if name in owner._buffers else owner._parameters
        if held is owner._buffers and isinstance(one, parameter):
            one = one.detach()
        elif held is owner._parameters and not isinstance(one, parameter):
            one = parameter(one, requires_grad=other.requires_grad)
        if one.dtype == other.dtype:
            held[name] = one


def _share(one: Any, other: Any) -> bool:
    return not one.is_meta and (one is other or bool(ties_in({"one": one, "other": other})))


def _tensors(module: Any) -> dict[str, Any]:
    """Return the parameters and buffers of a module, tied ones under each of their names."""
    parameters = module.named_parameters(remove_duplicate=False)
    return {**dict(parameters), **dict(module.named_buffers(remove_duplicate=False))}


def _same_bits(one: Any, other: Any) -> bool:
    return one.dtype == other.dtype and bool((_bytes(one) == _bytes(other)).all())


def _bytes(tensor: Any) -> Any:
    torch = require_torch()
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)
