"""The state of a server or a client: its attributes, snapshots that a user asks for, and random numbers."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from archive.errors import ArchiveError
from archive.interop.fl4health.objectstate import (
    Fresh,
    StateMismatchError,
    apply,
    attributes_of,
    is_saved,
    state_of,
)
from archive.interop.flower.randomness import random_state, restore_random_state
from archive.interop.flower.releases import LOGGER
from archive.interop.flower.strategytrees import Captured, bulk, unchanged
from archive.interop.statearrays import JSON, Arrays, NotStateError
from archive.interop.statevalues import encode
from archive.records import Array

__all__ = ["Snapshots", "recall_random_numbers", "take_random_numbers"]

_log = logging.getLogger(LOGGER)

_ALWAYS = ("server_name", "reports_manager")
"""Attributes that are saved even where they are as the script made them: a name may be drawn anew."""


class Snapshots:
    """Takes and restores the state of one object.

    Parameters
    ----------
    snapshot_attrs : mapping or None
        FL4Health's snapshotter and class of attributes that need one; all others are saved without.
    exclude : collection of str
        Attributes that are not saved.
    """

    def __init__(
        self, snapshot_attrs: Mapping[str, tuple[Any, Any]] | None, exclude: Collection[str]
    ) -> None:
        self.snapshot_attrs: dict[str, tuple[Any, Any]] = dict(snapshot_attrs or {})
        self._exclude = frozenset(exclude)
        self._fresh = self._fresh_values = Fresh({})
        self._settings: dict[str, JSON] = {}
        self._warned: set[str] = set()
        self._saves = 0
        self._bulk: dict[str, Any] = {}

    def begin(self, thing: Any, model: Any) -> None:
        """Take the attributes of an object and its model as the script made them."""
        self._fresh = Fresh(self._attributes(thing))
        self._fresh_values = Fresh(_values_of(model))
        self._settings = _settings_of(thing)

    def take(self, thing: Any, model: Any) -> dict[str, JSON]:
        """Return the state of an object, which shares its memory: save it before the object changes."""
        attributes = self._attributes(thing)
        changed = self._fresh.changed(attributes)
        changed.update({name: attributes[name] for name in _ALWAYS if name in attributes})
        self._tell_bulk(changed)
        snapshots: dict[str, JSON] = {}
        for name in self.snapshot_attrs:
            snapshotter, wrapped = self._wrapped(thing, name, model)
            snapshots[name] = state_of(snapshotter.save_attribute(wrapped), [])
        return {
            "model": None if model is None else model.state_dict(),
            "values": self._fresh_values.changed(_values_of(model)),
            "attributes": changed,
            "snapshots": snapshots,
            "settings": self._settings,
            "random": take_random_numbers(),
        }

    def restore(
        self, thing: Any, model: Any, state: Mapping[str, JSON], only: Iterable[str] | None = None
    ) -> None:
        """Bring an object and its model to a saved state, and the global random numbers too.

        Raises
        ------
        StateMismatchError
            The state is that of an object of other parts, or of another model.
        """
        wanted = None if only is None else set(only)
        if model is not None and state["model"] is not None and (wanted is None or "model" in wanted):
            apply(model, {"state_dict": state["model"]}, "model")
            for path, saved in state["values"].items():
                module, _, name = path.rpartition(".")
                owner = model.get_submodule(module)
                setattr(owner, name, apply(getattr(owner, name, None), saved, path))
        for name, saved in state["attributes"].items():
            if wanted is None or name in wanted:
                made = apply(getattr(thing, name, None), saved, name, [] if model is None else [model])
                setattr(thing, name, made)
        self._keep_settings(thing, state["settings"])
        for name, saved in state["snapshots"].items():
            if name in self.snapshot_attrs and (wanted is None or name in wanted):
                self._restore_snapshot(thing, name, saved, model)
        if wanted is None:
            recall_random_numbers(state["random"])

    def restart(self, thing: Any) -> None:
        """Bring attributes that hold no arrays to what the script made of them."""
        for name, state in self._fresh.states.items():
            setattr(thing, name, apply(getattr(thing, name, None), state, name))

    def _keep_settings(self, thing: Any, started: dict[str, JSON]) -> None:
        """Give optimizers the settings that the script has changed since the run began."""
        for name, groups in self._settings.items():
            pairs = zip(started.get(name, ()), groups, thing.optimizers[name].param_groups, strict=False)
            for number, (before, now, group) in enumerate(pairs):
                for key in now.keys() & before.keys():
                    if now[key] != before[key]:
                        _log.warning(
                            "fedarchive: %s of optimizer %s was %r and is %r from here on",
                            *(key, name, before[key], now[key]),
                        )
                        group[key] = now[key]
                started[name][number] = now
        self._settings = {**self._settings, **started}

    def _attributes(self, thing: Any) -> dict[str, JSON]:
        own = self._exclude | set(self.snapshot_attrs)
        skipped: list[str] = []
        named = {name: value for name, value in vars(thing).items() if name not in own}
        attributes = attributes_of(named, skipped)
        for path in skipped:
            if path not in self._warned:
                _log.warning("fedarchive: %s of %s is not saved", path, type(thing).__name__)
                self._warned.add(path)
        return attributes

    def _tell_bulk(self, attributes: Mapping[str, JSON]) -> None:
        """Warn once of what is large and never changes; of a client every second save is of a training."""
        self._saves += 1
        if self._saves not in (1, 3):
            return
        arrays = Arrays()
        try:
            trees = {name: encode(state, (name,), arrays) for name, state in attributes.items()}
        except NotStateError:
            return  # the save names it
        now = bulk(Captured({"attributes": trees}, arrays))
        for name, nbytes in unchanged(self._bulk, now):
            _log.warning(
                "fedarchive: %s has %.0f MB that did not change, and is saved every time; "
                "exclude=(%r,) leaves it to the script",
                *(name, nbytes / 1e6, name),
            )
        self._bulk = now

    def _wrapped(self, thing: Any, name: str, model: Any) -> tuple[Any, dict[str, Any]]:
        """Return the snapshotter of an attribute, and what it is given: a dict of objects of one class."""
        snapshotter, kind = self.snapshot_attrs[name]
        value = model if name == "model" and not hasattr(thing, "model") else getattr(thing, name)
        if isinstance(value, kind):
            return snapshotter, {"None": value}
        if isinstance(value, dict) and all(isinstance(item, kind) for item in value.values()):
            return snapshotter, value
        raise TypeError(f"{name} must be a {kind.__name__} or a dict of them, not {type(value).__name__}")

    def _restore_snapshot(self, thing: Any, name: str, saved: JSON, model: Any) -> None:
        snapshotter, wrapped = self._wrapped(thing, name, model)
        try:
            # the parts of the snapshot that are objects are brought to their saved state first
            snapshotter.load_attribute(apply(snapshotter.save_attribute(wrapped), saved, name), wrapped)
        except ArchiveError:
            raise
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise StateMismatchError(
                f"its snapshotter does not take it back: {error}",
                key=name,
                remedy="leave it out of snapshot_attrs",
            ) from error
        if name != "model":
            setattr(thing, name, wrapped["None"] if list(wrapped) == ["None"] else wrapped)


def _settings_of(thing: Any) -> dict[str, JSON]:
    """Return the settings of a client's optimizers by name: of each group all but its parameters."""
    return {
        name: [
            {key: value for key, value in group.items() if key != "params"} for group in found.param_groups
        ]
        for name, found in getattr(thing, "optimizers", {}).items()
        if hasattr(found, "param_groups")
    }


def _values_of(model: Any) -> dict[str, JSON]:
    """Return attributes of a model that its state dict lacks: APFL mixes two models by one."""
    modules = () if model is None else model.named_modules()
    return {
        f"{path}.{name}": {"value": value}
        for path, module in modules
        for name, value in vars(module).items()
        if not name.startswith("_") and name != "training" and not callable(value) and is_saved(value)
    }


def take_random_numbers() -> dict[str, JSON]:
    """Return the states of the global random generators."""
    arrays = Arrays()
    tree = random_state(arrays)
    return {"tree": tree, "words": {name: array.numpy() for name, array in arrays.items()}}


def recall_random_numbers(state: Mapping[str, JSON]) -> None:
    """Bring the global random generators to a state that `take_random_numbers` returned."""
    words = {name: Array.from_numpy_ndarray(found) for name, found in state["words"].items()}
    restore_random_state(state["tree"], words)
