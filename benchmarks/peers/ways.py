"""Every public way of fedarchive, to be measured beside the best: with many arrays, what a call costs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.peers.base import NDArray
from benchmarks.peers.fedarchive import FedArchive
from benchmarks.peers.tensors import elements_of, tensors_of
from benchmarks.shapes import Entry

__all__ = ["BEST", "WAYS", "Way"]

Pairs = Iterable[tuple[str, Any]]

BEST = {
    "ways-one": "a[key]",
    "ways-list": "record.items(), unread",
    "ways-read": "load",
    "ways-save": "save(dict)",
    "ways-save-torch": "save(tensors)",
}
"""The way that the others are compared with, of each operation."""


class Way(FedArchive):
    """One way to do what an operation of `BEST` says."""

    act: ClassVar[Any]
    """A function of the peer and what its operation has: the open archive and a key, or what is saved."""
    torch: ClassVar[bool] = False
    """Whether it takes or returns tensors."""

    def __init__(self, path: Path, entries: tuple[Entry, ...]) -> None:
        super().__init__(path, entries)
        if self.torch:
            importlib.import_module("torch")

    def take(self, arrays: Mapping[str, NDArray]) -> None:
        self.input = tensors_of(arrays) if self.torch else dict(arrays)
        if self.name == "save_model":
            self.input = _module(self.input)
        elif self.name == "save(ArrayRecord)":
            records = importlib.import_module("archive.records")
            self.input = records.ArrayRecord({k: records.Array(array) for k, array in arrays.items()})

    def save(self, durable: bool) -> None:
        self.act(self.input)

    def open_one(self, key: str) -> Any:
        with self.archive.open(self.path) as opened:
            return self.act(opened, key).numpy(copy=False)

    def open_list(self) -> list[str]:
        with self.archive.open(self.path) as opened:
            return [key for _, key in self.act(opened)]

    def load_all(self) -> Mapping[str, Any]:
        return dict(self.act())

    def elements(self, value: Any) -> NDArray:
        return elements_of(value) if self.torch else super().elements(value)


def _module(tensors: Mapping[str, Any]) -> Any:
    torch = importlib.import_module("torch")
    module = torch.nn.Module()
    for key, tensor in tensors.items():
        *path, name = key.split(".")
        owner = module
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, torch.nn.Module())
            owner = owner._modules[part]
        owner.register_buffer(name, tensor)
    return module


def _opened(read: Callable[[Any], Pairs]) -> Callable[[Any], dict[str, Any]]:
    def act(peer: Any) -> dict[str, Any]:
        with peer.archive.open(peer.path) as opened:
            return dict(read(opened))

    return act


def _create(peer: Any, arrays: Mapping[str, Any]) -> None:
    with peer.archive.create(peer.path, durable=False) as writer:
        for key, array in arrays.items():
            writer.add("model", key, array)


def _save_model(peer: Any, module: Any) -> None:
    importlib.import_module("archive.interop.torch").save_model(module, peer.path, durable=False)


def _save(**options: Any) -> Callable[[Any, Any], None]:
    return lambda peer, given: peer.archive.save(given, peer.path, durable=False, **options)


def _load_keys(peer: Any) -> Pairs:
    keys = [entry.key for entry in peer.entries]
    return ((key, array.numpy()) for key, array in peer.archive.load(peer.path, keys=keys)["model"].items())


_READ: dict[str, Callable[[Any], Any]] = {
    "load": lambda peer: ((k, array.numpy()) for k, array in peer.archive.load(peer.path)["model"].items()),
    "load(keys=)": _load_keys,
    "each a[key]": _opened(lambda opened: ((name[1], opened[name].numpy()) for name in opened)),
    "each record[key]": _opened(lambda opened: _by_key(opened.records["model"])),
    "record.items()": _opened(lambda opened: ((k, a.numpy()) for k, a in opened.records["model"].items())),
    "record.to_numpy_ndarrays()": _opened(
        lambda opened: zip(opened.records["model"], opened.records["model"].to_numpy_ndarrays(), strict=True)
    ),
    "a.drain()": _opened(lambda opened: ((name[1], array.numpy()) for name, array in opened.drain())),
    "record.drain()": _opened(lambda opened: ((k, a.numpy()) for k, a in opened.records["model"].drain())),
}
_READ_TORCH: dict[str, Callable[[Any], Any]] = {
    "each a[key].torch()": _opened(lambda opened: ((name[1], opened[name].torch()) for name in opened)),
    "record.to_torch_state_dict()": _opened(lambda opened: opened.records["model"].to_torch_state_dict()),
    "load, to_torch_state_dict()": lambda peer: peer.archive.load(peer.path)["model"].to_torch_state_dict(),
}
_ONE: dict[str, Callable[[Any, Any, str], Any]] = {
    "a[key]": lambda _, opened, key: opened[key],
    "a[record, key]": lambda _, opened, key: opened["model", key],
    "records[name][key]": lambda _, opened, key: opened.records["model"][key],
}
_LIST: dict[str, Callable[[Any, Any], Any]] = {
    "record.items(), unread": lambda _, opened: [
        ("model", key) for key, _ in opened.records["model"].items()
    ],
    "each a[key], unread": lambda _, opened: [name for name in opened if opened[name] is not None],
    "list(a)": lambda _, opened: list(opened),
}
_SAVE: dict[str, Callable[[Any, Any], None]] = {
    "save(dict)": _save(),
    "save(ArrayRecord)": _save(),
    "save(iterator)": lambda peer, given: _save()(peer, iter(given.items())),
    "save(dict, keep_input=False)": lambda peer, given: _save(keep_input=False)(peer, dict(given)),
    "create().add": _create,
}
_SAVE_TORCH: dict[str, Callable[[Any, Any], None]] = {
    "save(tensors)": _save(),
    "save(ArrayRecord(tensors))": lambda peer, given: _save()(peer, peer.archive.ArrayRecord(given)),
    "save_model": _save_model,
}


def _by_key(record: Any) -> Pairs:
    return ((key, record[key].numpy()) for key in record)


def _made(operation: str, acts: Mapping[str, Any], *, torch: bool = False) -> list[type[Way]]:
    shared = {"operations": frozenset([operation]), "torch": torch, "requires": ("torch",) if torch else ()}
    return [type("Way", (Way,), {"name": name, "act": act, **shared}) for name, act in acts.items()]


WAYS: tuple[type[Way], ...] = (
    *_made("ways-one", _ONE),
    *_made("ways-list", _LIST),
    *_made("ways-read", _READ),
    *_made("ways-read", _READ_TORCH, torch=True),
    *_made("ways-save", _SAVE),
    *_made("ways-save-torch", _SAVE_TORCH, torch=True),
)
