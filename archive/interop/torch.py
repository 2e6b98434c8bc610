"""PyTorch states, and models with their optimizers, as archives: tensors as datasets, the rest as JSON.

A training that goes on from `load_model` makes, bit for bit, the steps that it would have made without
stopping. A state that holds anything but tensors and plain values is an error that names it: nothing is
pickled.

Examples
--------
A checkpoint without its optimizer, copied array by array; then its model in bfloat16:

>>> import archive, torch
>>> from archive.interop.torch import load_state, save_model
>>> from archive.tools import edit
>>> net = torch.nn.Linear(2, 1)
>>> _ = save_model(net, "/tmp/fedarchive-torch.h5", optimizer=torch.optim.Adam(net.parameters()))
>>> with archive.open("/tmp/fedarchive-torch.h5") as whole:
...     _ = archive.save(whole.records.array_records["model"], "/tmp/fedarchive-torch-model.h5")
>>> with edit("/tmp/fedarchive-torch-model.h5") as e:
...     cast = e.cast("bfloat16")
>>> load_state("/tmp/fedarchive-torch-model.h5")["model"]["bias"].dtype
torch.bfloat16
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from archive import reading, writing
from archive.engine.read.handle import Archive
from archive.engine.report import SaveReport
from archive.interop.loadplan import Selection, make_plan, require_none
from archive.interop.modulefit import (
    LoadReport,
    ModelMismatchError,
    compare_states,
    compare_ties,
    kind_of,
    listed,
    load_parts,
    require_versions,
    tie,
    untied,
)
from archive.interop.statearrays import Found
from archive.interop.statefile import SavedState, names_at, places_in, read_arrays, to_records
from archive.interop.statevalues import decode, without_collections
from archive.records.tensors import is_tensor, require_torch, ties_in, torch_dtype
from archive.storage.url import URL, Cache, parse_url

__all__ = [
    "LoadReport",
    "ModelMismatchError",
    "load_model",
    "load_state",
    "save_model",
    "save_state",
]


def save_state(
    state: Any,
    url: URL,
    *,
    metrics: Mapping[str, Any] | None = None,
    configs: Mapping[str, Any] | None = None,
    overwrite: bool = True,
    durable: bool = True,
    created: datetime | str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> SaveReport:
    """Save a state of any nesting as one archive, as ``torch.save`` does, and nothing is pickled.

    Parameters
    ----------
    state : any
        Dicts (with keys of any plain type), lists, tuples, sets, deques, numbers, texts, bytes, None; tensors
        of any element type, sparse and quantised ones, parameters; ndarrays and numpy scalars; dtypes,
        devices, sizes; random generators; paths, dates, times and time zones, UUIDs, Decimals, Fractions,
        ranges, slices; named tuples and enums of classes at the top of a module, which has to be imported
        before they are loaded. A tensor is the dataset ``/arrays/FIRST/REST``: the first key that
        leads to it, and the others joined by dots; ``/arrays/model/KEY`` where only one does. Tensors that
        are the same view of one memory are stored once.
    url : str or path-like
        A local path or any URL of fsspec.
    metrics, configs, overwrite, durable, created, storage_options
        As for `archive.save`.

    Returns
    -------
    SaveReport

    Raises
    ------
    ValueRangeError
        Something in the state is of another class; the error names it. Nothing was written.

    Examples
    --------
    >>> import torch
    >>> from archive.interop.torch import load_state, save_state
    >>> state = {"model": {"w": torch.ones(2)}, "epoch": 3, "rng": torch.get_rng_state()}
    >>> report = save_state(state, "/tmp/fedarchive-state.h5", metrics={"loss": 0.5})
    >>> load_state("/tmp/fedarchive-state.h5", keys=["model", "epoch"])
    {'model': {'w': tensor([1., 1.])}, 'epoch': 3}
    """
    return writing.save(
        to_records(state),
        url,
        metrics=metrics,
        configs=configs,
        overwrite=overwrite,
        durable=durable,
        created=created,
        storage_options=storage_options,
    )


def load_state(
    url: URL | Archive,
    *,
    map_location: Any = "cpu",
    keys: Iterable[str | int | tuple[str | int, ...]] | None = None,
    cache: Cache = None,
    cache_bytes: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Any:
    """Load what `save_state` or `save_model` saved: the same nesting, types, values and strides.

    Tensors that were the same view of one memory share it again, and a strided tensor or an ndarray that
    the state holds twice is one object. A dict or list that it holds twice becomes two. Gaps, overlaps and
    reversed axes of views are not kept, nor are gradients, and attributes that a program set on a tensor.

    Parameters
    ----------
    url : str, path-like or open Archive
        An archive that is open stays open. One that was saved in another way gives a dict of state dicts by
        the names of its records.
    map_location : str or torch.device, default "cpu"
        Device of the tensors. ``"meta"`` reads no elements of strided ones.
    keys : iterable of keys, optional
        Only these parts of a dict: a key, or a tuple of keys that lead to a part, as in
        ``["epoch", ("model", "fc.weight")]``; no patterns. Only their bytes are read.
    cache, cache_bytes, storage_options
        As for `archive.open`.

    Returns
    -------
    any

    Raises
    ------
    KeyError
        The state has no such part.
    DigestError
        Bytes do not match their digest; nothing is returned.
    ArchiveError
        As for `archive.open`.
    """
    torch = require_torch()
    device = torch.device(map_location)
    if isinstance(keys, (str, int)):
        raise TypeError(f"keys is a list of keys, such as [{keys!r}], not one key")
    with _opened(url, cache, cache_bytes, storage_options) as handle:
        saved = SavedState.of(handle)
        tree = saved.tree if keys is None else saved.select(keys)
        names = names_at(places_in(tree), saved.path)
        on_meta = device.type == "meta"
        arrays = read_arrays(handle, names, lazy=on_meta)
        with without_collections():
            return decode(tree, Found(arrays, own=not on_meta, device=device), key="state", path=saved.path)


def save_model(
    module: Any,
    url: URL,
    *,
    optimizer: Any = None,
    scheduler: Any = None,
    scaler: Any = None,
    metrics: Mapping[str, Any] | None = None,
    configs: Mapping[str, Any] | None = None,
    overwrite: bool = True,
    durable: bool = True,
    created: datetime | str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> SaveReport:
    """Save a module, its optimizer and its scheduler as one archive.

    The file is that of ``save_state({"model": module.state_dict(), "optimizer": optimizer.state_dict()})``
    with the names of the classes; `load_state` reads it too. To keep an epoch or random numbers beside, give
    `save_state` such a dict with ``"epoch"`` and ``"rng"``: `load_model` reads that file too.

    Parameters
    ----------
    module : torch.nn.Module
        Its state dict is the record ``model``, which other tools read as ``/arrays/model/NAME``. Tied
        tensors are stored once.
    url : str or path-like
        A local path or any URL of fsspec.
    optimizer : torch.optim.Optimizer or list of them, optional
    scheduler : torch.optim.lr_scheduler.LRScheduler or list of them, optional
    scaler : torch.amp.GradScaler, optional
    metrics, configs, overwrite, durable, created, storage_options
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
    parts = _given(optimizer, scheduler, scaler)
    state = {"model": _state_dict(module)} | {name: _state_of(part) for name, part in parts.items()}
    return writing.save(
        to_records(state, {name: kind_of(part) for name, part in parts.items()}),
        url,
        metrics=metrics,
        configs=configs,
        overwrite=overwrite,
        durable=durable,
        created=created,
        storage_options=storage_options,
    )


def load_model(
    module: Any,
    url: URL | Archive,
    strict: bool = True,
    *,
    optimizer: Any = None,
    scheduler: Any = None,
    scaler: Any = None,
    keys: str | Iterable[str] | None = None,
    prefix: str = "",
    unwrap: bool = False,
    device: Any = None,
    dtype: Any = None,
    cache: Cache = None,
    cache_bytes: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> LoadReport:
    """Load a saved state into a module, its optimizer and its scheduler.

    All differences are found before anything is changed, and where a scheduler or the like refuses its state,
    nothing is. Only an error of the module's own hooks comes when a part is loaded. Only the bytes that are
    wanted are read, by few requests.

    Parameters
    ----------
    module : torch.nn.Module
        A module on the device ``meta`` gets the tensors of the archive. Parameters that were tied when they
        were saved are tied afterwards.
    url : str, path-like or open Archive
        As ``store.open("best")`` of a `CheckpointStore` returns it; an archive that is open stays open.
        Any archive with a record ``model``, or with a single record of arrays; also what `save_state` saved
        of a dict with the key ``"model"``, ``"state_dict"`` or ``"model_state_dict"``.
    strict : bool, default True
        False allows keys that only one side has, and converts tensors to the element types of the module.
    optimizer, scheduler, scaler : optional
        New ones, made as for the saved training; for a module on ``meta``, after it was loaded.
    keys : str or iterable of str, optional
        Only these keys of the module; each may be a shell pattern by the rule of `Archive.load`, as in
        ``"encoder.*"``: a key that exists stands for itself, ``"model/KEY"`` for KEY. One that matches
        nothing is an error.
    prefix : str, optional
        Text before the module's keys in the archive: ``"encoder."`` loads a part of a larger model.
    unwrap : bool, default False
        Compare keys without the ``module.`` of DistributedDataParallel and the ``_orig_mod.`` of
        torch.compile, which then only one side may have: ``True`` loads a checkpoint of such a wrapper into a
        plain module.
    device : str or torch.device, optional
        Where the tensors of a module on ``meta`` are made; ``"cpu"`` if not given.
    dtype : torch.dtype or str, optional
        Converts saved floating-point tensors. A module on ``meta`` gets them so; any other has to have that
        type already (``module.to(dtype)``), unless ``strict=False``.
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

    Examples
    --------
    >>> import torch
    >>> from archive.interop.torch import load_model, save_state
    >>> saved = torch.nn.Linear(2, 1)
    >>> _ = save_state({"model": saved.state_dict(), "epoch": 3}, "/tmp/fedarchive-torch.h5")
    >>> with torch.device("meta"):
    ...     module = torch.nn.Linear(2, 1)
    >>> load_model(module, "/tmp/fedarchive-torch.h5", dtype=torch.bfloat16)
    LoadReport(missing_keys=[], unexpected_keys=[])
    >>> module.weight.dtype, module.weight.device
    (torch.bfloat16, device(type='cpu'))
    """
    own, parts, dtype = _state_dict(module), _given(optimizer, scheduler, scaler), torch_dtype(dtype)
    with _opened(url, cache, cache_bytes, storage_options) as handle:
        with without_collections():
            plan = make_plan(handle, own, parts, Selection(strict, prefix, unwrap, keys, dtype))
        arrays = read_arrays(handle, plan.places)
    with without_collections():
        on_meta = any(is_tensor(value) and value.is_meta for value in own.values())
        where = require_torch().device((device or "cpu") if on_meta else "cpu")
        values = decode(plan.model, Found(arrays, own=True, device=where), key="state/model", path=plan.path)
        ties = ties_in({key: value for key, value in values.items() if is_tensor(value)})
        rest = Found(arrays, own=True)
        states = {
            name: decode(part, rest, key=f"state/{name}", path=plan.path)
            for name, part in plan.states.items()
        }
        problems = compare_ties(module, values, ties, listed(parts.get("optimizer", [])))
        require_none(problems + compare_states(parts, states), plan.path)
        require_versions(values, plan.saved)
        load_parts(parts, states, plan.path)
        pairs = untied(module, ties)
        _put(module, own, _converted(values, dtype), convert=dtype is None)
        tie(module, pairs)
    return plan.report


def _opened(
    url: URL | Archive, cache: Cache, cache_bytes: int | None, storage_options: Mapping[str, Any] | None
) -> contextlib.AbstractContextManager[Archive]:
    """Open what is named, to be closed after its block; leave open what is open already."""
    if not isinstance(url, Archive):
        return reading.open(parse_url(url, storage_options, cache, cache_bytes), access="pread")
    if cache or cache_bytes is not None or storage_options:
        raise TypeError("cache, cache_bytes and storage_options are for a URL, not for an open archive")
    return contextlib.nullcontext(url)


def _state_dict(module: Any) -> Any:
    if not callable(getattr(module, "state_dict", None)):
        raise TypeError(
            f"the first argument is a module, not {type(module).__name__}; save_state saves a state dict, "
            "and load_state loads one"
        )
    return module.state_dict()


def _given(optimizer: Any, scheduler: Any, scaler: Any) -> dict[str, Any]:
    given = {"optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    return {name: part for name, part in given.items() if part is not None}


def _state_of(part: Any) -> Any:
    return [one.state_dict() for one in part] if isinstance(part, (list, tuple)) else part.state_dict()


def _converted(values: Any, dtype: Any) -> Any:
    """Return a state dict with its floating-point tensors as another type, if one is given."""
    if dtype is None:
        return values
    made = copy.copy(values)
    for key, value in values.items():
        if is_tensor(value) and value.is_floating_point():
            made[key] = value.to(dtype)
    return made


def _put(module: Any, own: Mapping[str, Any], values: Any, *, convert: bool) -> None:
    """Load a state dict into a module: elements into its tensors, and tensors in place of those on meta."""
    both = {key for key, value in values.items() if is_tensor(value) and is_tensor(own[key])}
    meta = {key for key in both if own[key].is_meta}
    for assign in (True, False) if meta else (False,):
        # torch writes to its _metadata
        part = copy.deepcopy(values, {id(value): value for value in values.values()})
        for key in list(part):
            if (key in meta) != assign:
                del part[key]
            elif assign and convert and part[key].dtype != own[key].dtype:
                part[key] = part[key].to(own[key].dtype)
        if part or not assign:
            module.load_state_dict(part, strict=False, assign=assign)
