"""PyTorch models with their optimizers and schedulers as archives: tensors as datasets, the rest as JSON.

A training that goes on from `load_model` makes, bit for bit, the steps that it would have made without
stopping. Nothing is pickled: what is neither tensor nor plain value is an error that names it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from typing import Any, NamedTuple

from archive import reading, writing
from archive.dtypes import dtype_name
from archive.engine.read.containers import Records
from archive.engine.report import SaveReport
from archive.errors import ArchiveError, HostileFileError, ValueRangeError, VersionError
from archive.interop.statevalues import Arrays, NotStateError, decode, encode
from archive.records import Array, ArrayRecord, ConfigRecord, RecordDict, SType
from archive.records.payload import NdarrayPayload
from archive.records.tensors import is_tensor, tensor_to_elements
from archive.storage.folder import is_remote
from archive.storage.url import URL

__all__ = ["LoadReport", "ModelMismatchError", "load_model", "save_model"]

MODEL, TENSORS, TRAINING = "model", "training", "torch"
"""Records: the tensors of the state dict, all others by path, and the JSON that names them."""
VERSION = 1
"""Of that JSON; a reader refuses greater ones."""


class ModelMismatchError(ArchiveError, RuntimeError):
    """What was saved does not fit what it is to be loaded into; nothing was changed."""


class LoadReport(NamedTuple):
    """What ``strict=False`` let pass."""

    missing_keys: list[str]
    """In the module, not in the archive."""
    unexpected_keys: list[str]
    """In the archive, not in the module."""


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
    """Save a module, and what it is trained with, as one archive.

    Parameters
    ----------
    module : torch.nn.Module
        Its state dict is the record ``model``, which other tools read as ``/arrays/model/NAME``. Tensors
        that are one memory are stored once.
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
        A part of a state is neither tensor nor plain value; the message names it. Nothing was written.

    Examples
    --------
    >>> import torch
    >>> from archive.interop.torch import load_model, save_model
    >>> module = torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.Adam(module.parameters())
    >>> report = save_model(module, "/tmp/fedarchive-doctest.h5", optimizer=optimizer)
    >>> load_model(module, "/tmp/fedarchive-doctest.h5", optimizer=optimizer)
    LoadReport(missing_keys=[], unexpected_keys=[])
    """
    state = module.state_dict()
    tensors = {key: value for key, value in state.items() if is_tensor(value)}
    others: Arrays = {}
    documents: dict[str, Any] = {"version": VERSION, "ties": _document(_ties(tensors), "ties", others)}
    if len(state) > len(tensors):  # what get_extra_state() of a module gave
        extra = {key: value for key, value in state.items() if key not in tensors}
        documents["extra"] = _document(extra, "extra", others)
    if optimizer is not None:
        names = _parameter_names(module, optimizer)
        documents["optimizer_class"] = _class_name(optimizer)
        documents["optimizer"] = _document(optimizer.state_dict(), "optimizer", others, names)
    if scheduler is not None:
        documents["scheduler_class"] = _class_name(scheduler)
        documents["scheduler"] = _document(scheduler.state_dict(), "scheduler", others)
    training = ArrayRecord.from_checked(others)
    records = RecordDict({MODEL: _record(tensors), TENSORS: training, TRAINING: ConfigRecord(documents)})
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
    storage_options: Mapping[str, Any] | None = None,
) -> LoadReport:
    """Load what `save_model` saved into a module, and into what it is trained with.

    Everything is compared before anything is changed.

    Parameters
    ----------
    module : torch.nn.Module
        Also one on the device ``meta``, which then gets the tensors of the archive, mapped. Parameters that
        were one when they were saved are one afterwards.
    url : str or path-like
        Any archive with a record ``model`` will do, or with one record of arrays.
    strict : bool, default True
        False lets pass keys that only one side has, and converts element types.
    optimizer, scheduler : optional
        Made anew as they were made for the training that was saved.
    storage_options : mapping, optional
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
    with ExitStack() as stack:
        if is_remote(str(url), storage_options):  # arrays one by one would be a request each
            records = reading.load(url, storage_options=storage_options)
        else:
            records = stack.enter_context(reading.open(url)).records
        saved, others, documents = _read(records, str(url))
        extra = _state(documents["extra"], others) if "extra" in documents else {}
        ties: list[list[str]] = _state(documents["ties"], others) if "ties" in documents else []
        report, problems = _compare(module.state_dict(), saved, extra, strict)
        problems += _compare_ties(module, saved, ties, optimizer)
        states = {}
        for name, part in (("optimizer", optimizer), ("scheduler", scheduler)):
            if part is None:
                continue
            if name not in documents:
                problems.append(f"no {name} was saved")
                continue
            if documents[f"{name}_class"] != _class_name(part):
                problems.append(f"{name}: saved {documents[f'{name}_class']}, not {_class_name(part)}")
            states[name] = _state(documents[name], others)
        if optimizer is not None and "optimizer" in states:
            problems += _compare_groups(states["optimizer"], optimizer)
        if problems:
            raise ModelMismatchError("; ".join(problems), path=str(url), remedy="nothing was changed")
        assign = any(value.is_meta for value in module.state_dict().values() if is_tensor(value))
        tensors = {key: array.torch() for key, array in saved.items()}
        module.load_state_dict(tensors | extra, strict=False, assign=assign)
        _tie(module, ties)
        if optimizer is not None:
            optimizer.load_state_dict(states["optimizer"])
        if scheduler is not None:
            scheduler.load_state_dict(states["scheduler"])
    return report


def _read(records: Records, url: str) -> tuple[Mapping[str, Array], Mapping[str, Array], Mapping[str, Any]]:
    """Return the model's arrays, all others, and the JSON documents."""
    found: Mapping[str, ArrayRecord] = getattr(records, "array_records", None) or records.parameters_records
    model = found.get(MODEL) or (next(iter(found.values())) if len(found) == 1 else None)
    if model is None and MODEL not in found:
        raise ModelMismatchError(
            f"no record {MODEL!r} among {list(found)}", path=url, remedy="nothing was changed"
        )
    documents: Mapping[str, Any] = (getattr(records, "config_records", None) or records.configs_records).get(
        TRAINING, {}
    )
    if type(documents.get("version")) is not int or not isinstance(documents.get("ties"), str):
        documents = {}  # not ours: any archive will do, and its configs may be called as they like
    elif documents["version"] > VERSION:
        raise VersionError(
            f"version {documents['version']} of the records", path=url, remedy="upgrade fedarchive"
        )
    return model or {}, found.get(TENSORS, {}), documents


def _compare(
    own: Mapping[str, Any], saved: Mapping[str, Array], extra: Mapping[str, Any], strict: bool
) -> tuple[LoadReport, list[str]]:
    """Return keys that one side lacks, and what of the rest does not fit."""
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
            continue  # a lazy module takes the shape that comes
        if tuple(there.shape) != tuple(array.shape):
            problems.append(f"{key}: saved with shape {tuple(array.shape)}, is {tuple(there.shape)}")
        elif strict and str(there.dtype) != f"torch.{array.dtype}":
            problems.append(f"{key}: saved as {array.dtype}, is {str(there.dtype)[6:]}")
    return LoadReport(missing, unexpected), problems


def _compare_ties(
    module: Any, saved: Mapping[str, Array], ties: list[list[str]], optimizer: Any
) -> list[str]:
    """Return what is wrong with tensors that are one on one side only."""
    state = {key: value for key, value in module.state_dict().items() if is_tensor(value)}
    together = {key: number for number, keys in enumerate(ties) for key in keys}
    problems = []
    for keys in _ties(state):
        first, *rest = [key for key in keys if key in saved] or [""]
        for key in rest:
            if together.get(first, -1) == together.get(key, -2):
                continue
            if saved[first].data != saved[key].data:
                problems.append(f"{first} and {key} are one in the module, and differ in the archive")
    if optimizer is not None:
        trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for keys in ties:
            held = [_held(_slot(module, key)) for key in keys if key in state]
            if any(one is not held[0] and id(one) in trained for one in held):
                problems.append(f"{' and '.join(keys)} were one: make them one before the optimizer is made")
    return problems


def _compare_groups(state: Mapping[str, Any], optimizer: Any) -> list[str]:
    saved = [len(group["params"]) for group in state["param_groups"]]
    own = [len(group["params"]) for group in optimizer.param_groups]
    return [] if saved == own else [f"optimizer: saved with groups of {saved} parameters, has {own}"]


def _ties(tensors: Mapping[str, Any]) -> list[list[str]]:
    """Return the keys of tensors that are one memory, seen alike."""
    groups: dict[object, list[str]] = {}
    for key, tensor in tensors.items():
        if tensor.layout.__str__() == "torch.strided" and not tensor.is_meta and tensor.numel():
            seen = tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device
            groups.setdefault(seen, []).append(key)
    return [keys for keys in groups.values() if len(keys) > 1]


def _tie(module: Any, ties: list[list[str]]) -> None:
    """Make one of parameters or buffers that were one."""
    for keys in ties:
        slots = [slot for key in keys if (slot := _slot(module, key)) is not None]
        for slot in slots[1:]:
            if _held(slot) is not _held(slots[0]) and _held(slot).data_ptr() != _held(slots[0]).data_ptr():
                slot[0][slot[1]] = _held(slots[0])


def _slot(module: Any, key: str) -> tuple[dict[str, Any], str] | None:
    """Return the dict of a submodule that holds a parameter or buffer, and its name there."""
    path, _, name = key.rpartition(".")
    for found, owner in module.named_modules(remove_duplicate=False):
        if found == path:
            for held in (owner._parameters, owner._buffers):
                if name in held:
                    return held, name
    return None


def _held(slot: tuple[dict[str, Any], str] | None) -> Any:
    return None if slot is None else slot[0][slot[1]]


def _record(tensors: Mapping[str, Any]) -> ArrayRecord:
    """Return tensors as a record over their own memory: it is saved before they change."""
    made: dict[object, NdarrayPayload] = {}
    arrays = {}
    for key, tensor in tensors.items():
        elements, _ = tensor_to_elements(tensor)
        seen = elements.__array_interface__["data"][0], elements.shape, elements.strides, elements.dtype
        payload = made.setdefault(seen, NdarrayPayload(elements))
        arrays[key] = Array.from_payload(dtype_name(elements.dtype), elements.shape, SType.NUMPY, payload)
    return ArrayRecord.from_checked(arrays)


def _document(state: Any, path: str, arrays: Arrays, names: Mapping[int, str] | None = None) -> str:
    """Return a state as the text of JSON; moments are called by parameter where ``names`` has its number."""
    try:
        tree = encode(state if names is None else {**state, "state": None}, path, arrays)
        if names is not None:
            moments = [
                [number, encode(one, f"{path}/{names.get(number, f'state/{number}')}", arrays)]
                for number, one in state["state"].items()
            ]
            tree["items"] = [
                [key, {"$": "dict", "items": moments} if key == "state" else item]
                for key, item in tree["items"]
            ]
        return json.dumps(tree, allow_nan=False, separators=(",", ":"))
    except NotStateError as error:
        raise ValueRangeError(
            f"{error}, and nothing is pickled",
            remedy="leave it out of the state, and set it again after loading",
        ) from error


def _state(text: object, arrays: Mapping[str, Array]) -> Any:
    """Return a state that may be trained on: a map would leave it to the file."""
    try:
        tree = json.loads(text)  # type: ignore[arg-type] # or TypeError
    except (TypeError, ValueError, RecursionError) as error:
        raise HostileFileError(f"the state of a training that is none: {error}") from error
    return copy.deepcopy(decode(tree, arrays))


def _parameter_names(module: Any, optimizer: Any) -> dict[int, str]:
    """Return the names of an optimizer's parameters by its numbers."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    held = [one for group in optimizer.param_groups for one in group["params"]]
    return {number: names[id(one)] for number, one in enumerate(held) if id(one) in names}


def _class_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
