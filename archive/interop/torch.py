"""PyTorch models with their optimizers and schedulers as archives: tensors as datasets, the rest as JSON.

A training that goes on from `load_model` makes, bit for bit, the steps that it would have made without
stopping. A state that holds anything but tensors and plain values is an error that names it: nothing is
pickled.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from typing import Any, NamedTuple

from archive import reading, writing
from archive.engine.report import SaveReport
from archive.errors import ArchiveError, HostileFileError, ValueRangeError, VersionError
from archive.interop.statearrays import JSON, Arrays, NotStateError, array_over, class_name, tensor_elements
from archive.interop.statetexts import from_text, to_text
from archive.interop.statevalues import decode, encode
from archive.records import Array, ArrayRecord, ConfigRecord, RecordDict
from archive.records.tensors import is_tensor
from archive.storage.url import URL, Cache, parse_url

__all__ = ["LoadReport", "ModelMismatchError", "load_model", "save_model"]

MODEL, TENSORS, TRAINING = "model", "training", "torch"
"""Records: the tensors of the state dict, all other tensors by path, and the JSON that names them."""
VERSION = 1
"""Version of that JSON; a reader refuses greater versions."""
_KINDS: dict[str, type] = {"ties": list, "extra": dict, "optimizer": dict, "scheduler": object}
"""States by name, with the classes that a reader accepts."""


class ModelMismatchError(ArchiveError, RuntimeError):
    """The saved state does not fit the objects it is to be loaded into; nothing was changed."""


class LoadReport(NamedTuple):
    """The keys that only one side has, which ``strict=False`` allows."""

    missing_keys: list[str]
    """Keys of the module that the archive lacks."""
    unexpected_keys: list[str]
    """Keys of the archive that the module lacks."""


def save_model(
    module: Any,
    url: URL,
    *,
    optimizer: Any = None,
    scheduler: Any = None,
    metrics: Mapping[str, Any] | None = None,
    overwrite: bool = True,
    durable: bool = True,
    created: datetime | str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> SaveReport:
    """Save a module, its optimizer and its scheduler as one archive.

    Parameters
    ----------
    module : torch.nn.Module
        Its state dict is the record ``model``, which other tools read as ``/arrays/model/NAME``. Tied
        tensors are stored once.
    url : str or path-like
        A local path or any URL of fsspec.
    optimizer : torch.optim.Optimizer, optional
    scheduler : torch.optim.lr_scheduler.LRScheduler, optional
    metrics : mapping, optional
    overwrite, durable, created, storage_options
        As for `archive.save`.

    Returns
    -------
    SaveReport

    Raises
    ------
    ValueRangeError
        A part of a state is neither tensor nor plain value; the error names it. Nothing was written.

    Examples
    --------
    >>> import torch
    >>> from archive.interop.torch import load_model, save_model
    >>> module = torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.Adam(module.parameters())
    >>> report = save_model(module, "/tmp/fedarchive-torch.h5", optimizer=optimizer)
    >>> load_model(module, "/tmp/fedarchive-torch.h5", optimizer=optimizer)
    LoadReport(missing_keys=[], unexpected_keys=[])
    """
    state = module.state_dict()
    tensors = {key: value for key, value in state.items() if is_tensor(value)}
    extra = {key: value for key, value in state.items() if key not in tensors}  # of get_extra_state()
    ties, others = _ties(tensors), Arrays()
    documents: dict[str, Any] = {"version": VERSION, "ties": to_text(ties, f"{TRAINING}/ties")}
    try:
        model = _record(tensors, ties)
        if extra:
            documents["extra"] = to_text(encode(extra, "extra", others), f"{TRAINING}/extra")
        if optimizer is not None:
            documents["optimizer_class"] = class_name(type(optimizer))
            documents["optimizer"] = to_text(
                _encode_optimizer(optimizer, module, others), f"{TRAINING}/optimizer"
            )
        if scheduler is not None:
            documents["scheduler_class"] = class_name(type(scheduler))
            documents["scheduler"] = to_text(
                encode(scheduler.state_dict(), "scheduler", others), f"{TRAINING}/scheduler"
            )
    except NotStateError as error:
        raise ValueRangeError(
            f"{error.problem}, and nothing is pickled",
            key=error.key,
            remedy=error.remedy or "leave it out of the state, and set it again after loading",
        ) from error
    training = ArrayRecord.from_checked(others)
    records = RecordDict({MODEL: model, TENSORS: training, TRAINING: ConfigRecord(documents)})
    return writing.save(
        records,
        url,
        metrics=metrics,
        overwrite=overwrite,
        durable=durable,
        created=created,
        storage_options=storage_options,
    )


def load_model(
    module: Any,
    url: URL,
    strict: bool = True,
    *,
    optimizer: Any = None,
    scheduler: Any = None,
    cache: Cache = None,
    cache_bytes: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> LoadReport:
    """Load an archive of `save_model` into a module, its optimizer and its scheduler.

    All differences are found before anything is changed.

    Parameters
    ----------
    module : torch.nn.Module
        A module on the device ``meta`` gets the tensors of the archive, mapped. Parameters that were tied
        when they were saved are tied afterwards.
    url : str or path-like
        Any archive with a record ``model``, or with a single record of arrays.
    strict : bool, default True
        False allows keys that only one side has, and converts element types.
    optimizer, scheduler : optional
        New ones, made as for the saved training.
    cache, cache_bytes, storage_options
        As for `archive.open`.

    Returns
    -------
    LoadReport

    Raises
    ------
    ModelMismatchError
        Keys, shapes, element types, ties or classes differ; all differences are listed.
    ArchiveError
        As for `archive.open`; a tensor that fails its digest is not loaded.
    """
    location = parse_url(url, storage_options, cache, cache_bytes)
    path = location.display
    with ExitStack() as stack:
        if location.remote:  # arrays one by one would be a request each
            saved = _read(reading.load(location), path)
        else:
            saved = _read(stack.enter_context(reading.open(location)).records, path)
        extra, ties = saved.state("extra"), saved.ties()
        report, problems = _compare(module.state_dict(), saved.model, extra, strict)
        problems += _compare_ties(module, saved.model, ties, optimizer)
        given = (("optimizer", optimizer), ("scheduler", scheduler))
        parts = {name: part for name, part in given if part is not None}
        for name, part in parts.items():
            kind, own = saved.documents.get(f"{name}_class"), class_name(type(part))
            if name not in saved.documents:
                problems.append(f"no {name} was saved")
            elif kind != own:
                problems.append(f"{name}: saved {kind}, not {own}")
        states = {name: saved.state(name) for name in parts}
        if "optimizer" in saved.documents and optimizer is not None:
            problems += _compare_groups(states["optimizer"], optimizer)
        if problems:
            raise ModelMismatchError("; ".join(problems), path=path, remedy="nothing was changed")
        assign = any(value.is_meta for value in module.state_dict().values() if is_tensor(value))
        tensors = {key: array.torch() for key, array in saved.model.items()}
        module.load_state_dict(tensors | extra, strict=False, assign=assign)
        _tie(module, ties)
        for name, part in parts.items():
            part.load_state_dict(states[name])
    return report


class _Saved(NamedTuple):
    """The records of `save_model`, or of any other archive of a state dict."""

    path: str
    """The file, for errors."""
    model: Mapping[str, Array]
    """Tensors of the state dict."""
    others: Mapping[str, Array]
    """Tensors that the documents name."""
    documents: Mapping[str, Any]
    """States as JSON by name."""

    def state(self, name: str) -> Any:
        """Return a saved state in memory of its own, which training may change; empty if none was saved."""
        kind, key = _KINDS[name], f"{TRAINING}/{name}"
        if name not in self.documents:
            return kind()
        try:
            tree = from_text(self.documents[name], self.path, key)
            found = copy.deepcopy(decode(tree, self.others, key=key, path=self.path))
        except ArchiveError:
            raise
        except (TypeError, ValueError, RecursionError) as error:
            raise HostileFileError(f"invalid saved state: {error}", path=self.path, key=key) from error
        if not isinstance(found, kind):
            problem = f"invalid saved state: {type(found).__name__} instead of {kind.__name__}"
            raise HostileFileError(problem, path=self.path, key=key)
        return found

    def ties(self) -> list[list[str]]:
        """Return the keys of tensors that were tied, by group."""
        found: list[Any] = self.state("ties")
        if not all(isinstance(keys, list) and set(map(type, keys)) == {str} for keys in found):
            raise HostileFileError(f"invalid ties: {found}", path=self.path, key=f"{TRAINING}/ties")
        return found


def _read(records: Any, path: str) -> _Saved:
    """Return the parts of an archive that `load_model` needs."""
    arrays: Mapping[str, ArrayRecord] = getattr(records, "array_records", None) or records.parameters_records
    configs: Mapping[str, Any] = getattr(records, "config_records", None) or records.configs_records
    if MODEL not in arrays and len(arrays) != 1:
        raise ModelMismatchError(
            f"no record {MODEL!r} among {list(arrays)}", path=path, remedy="nothing was changed"
        )
    documents = configs.get(TRAINING, {})
    if type(documents.get("version")) is not int or not isinstance(documents.get("ties"), str):
        documents = {}  # configs of another program, which may use the same name
    elif documents["version"] > VERSION:
        raise VersionError(
            f"version {documents['version']} of the records", path=path, remedy="upgrade fedarchive"
        )
    model = arrays[MODEL] if MODEL in arrays else next(iter(arrays.values()))
    return _Saved(path, model, arrays.get(TENSORS, {}), documents)


def _compare(
    own: Mapping[str, Any], saved: Mapping[str, Array], extra: Mapping[str, Any], strict: bool
) -> tuple[LoadReport, list[str]]:
    """Return the keys that one side lacks, and every difference that is an error."""
    missing = [key for key in own if key not in saved and key not in extra]
    unexpected = [key for key in (*saved, *extra) if key not in own]
    problems = []
    if strict and missing:
        problems.append(f"missing in the archive: {', '.join(missing)}")
    if strict and unexpected:
        problems.append(f"missing in the module: {', '.join(unexpected)}")
    for key, array in saved.items():
        there: Any = own.get(key)
        if not is_tensor(there) or type(there).__name__ in ("UninitializedParameter", "UninitializedBuffer"):
            continue  # a lazy module takes any shape
        if tuple(there.shape) != tuple(array.shape):
            problems.append(f"{key}: saved with shape {tuple(array.shape)}, is {tuple(there.shape)}")
        elif strict and str(there.dtype) != f"torch.{array.dtype}":
            problems.append(f"{key}: saved as {array.dtype}, is {str(there.dtype)[6:]}")
    return LoadReport(missing, unexpected), problems


def _compare_ties(
    module: Any, saved: Mapping[str, Array], ties: list[list[str]], optimizer: Any
) -> list[str]:
    """Return what is wrong with tensors that are tied on one side only."""
    state = {key: value for key, value in module.state_dict().items() if is_tensor(value)}
    together = {key: number for number, keys in enumerate(ties) for key in keys}
    problems = []
    for keys in _ties(state):
        first, *rest = [key for key in keys if key in saved] or [""]
        for key in rest:
            if together.get(first, -1) == together.get(key, -2):
                continue
            if saved[first].data != saved[key].data:
                problems.append(f"{first} and {key} are tied in the module, and differ in the archive")
    if optimizer is not None:
        trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        own = _tensors(module)
        for keys in ties:
            held = [own.get(key) for key in keys if key in state]
            if any(one is not held[0] and id(one) in trained for one in held):
                problems.append(f"{' and '.join(keys)} were tied: tie them before the optimizer is made")
    return problems


def _compare_groups(state: Mapping[str, Any], optimizer: Any) -> list[str]:
    try:
        saved = [len(group["params"]) for group in state["param_groups"]]
    except (KeyError, TypeError):
        return ["optimizer: saved without groups of parameters"]
    own = [len(group["params"]) for group in optimizer.param_groups]
    return [] if saved == own else [f"optimizer: saved with groups of {saved} parameters, has {own}"]


def _ties(tensors: Mapping[str, Any]) -> list[list[str]]:
    """Return the keys of tensors that are the same view of one memory, by group."""
    groups: dict[object, list[str]] = {}
    for key, tensor in tensors.items():
        if str(tensor.layout) == "torch.strided" and not tensor.is_meta and tensor.numel():
            view = tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.is_conj(), tensor.is_neg()
            groups.setdefault((tensor.data_ptr(), tensor.device, view), []).append(key)
    return [keys for keys in groups.values() if len(keys) > 1]


def _tie(module: Any, ties: list[list[str]]) -> None:
    """Tie the parameters or buffers that were tied."""
    own = _tensors(module)
    for keys in ties:
        first, *rest = [key for key in keys if key in own] or [""]
        for key in rest:
            if own[key].data_ptr() != own[first].data_ptr():
                path, _, name = key.rpartition(".")
                owner = module.get_submodule(path)
                held = owner._parameters if name in owner._parameters else owner._buffers
                held[name] = own[first]


def _tensors(module: Any) -> dict[str, Any]:
    """Return the parameters and buffers of a module, tied ones under each of their names."""
    parameters = module.named_parameters(remove_duplicate=False)
    return {**dict(parameters), **dict(module.named_buffers(remove_duplicate=False))}


def _record(tensors: Mapping[str, Any], ties: list[list[str]]) -> ArrayRecord:
    """Return tensors as a record over their own memory: it is saved before they change."""
    first = {key: keys[0] for keys in ties for key in keys[1:]}
    arrays: Arrays = {}
    for key, tensor in tensors.items():
        tied = arrays.get(first.get(key, ""))
        arrays[key] = array_over(tensor_elements(tensor, f"{MODEL}/{key}")) if tied is None else tied
    return ArrayRecord.from_checked(arrays)


def _encode_optimizer(optimizer: Any, module: Any, arrays: Arrays) -> JSON:
    """Return an optimizer's state as JSON, the moments under the names of their parameters."""
    state = optimizer.state_dict()
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    paths = [names.get(id(parameter), f"state/{number}") for number, parameter in enumerate(held)]
    moments = [
        [number, encode(moment, f"optimizer/{paths[number]}", arrays)]
        for number, moment in state["state"].items()
    ]
    tree = encode({**state, "state": None}, "optimizer", arrays)
    tree["items"] = [
        [key, {"$": "dict", "items": moments} if key == "state" else item] for key, item in tree["items"]
    ]
    return tree
