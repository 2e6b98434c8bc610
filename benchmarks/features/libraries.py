"""Libraries, each called as its documentation says."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

__all__ = ["LIBRARIES", "Library", "keras_model"]

NDArray = np.ndarray[Any, Any]
Arrays = Mapping[str, NDArray]


@dataclass(frozen=True, slots=True)
class Library:
    """One way to save named arrays and to load them."""

    name: str
    save: Callable[[Arrays, Path], object]
    load: Callable[[Path], Arrays]
    module: str
    """Imported by it: where it is missing, the library is left out."""
    distributions: tuple[str, ...]
    """What is installed, for the versions."""
    hostile: Callable[[Any, Path], object] | None = None
    """Save an object that runs code when it is unpickled, where the format has pickles; None: it has none."""


def _save_archive(arrays: Arrays, path: Path) -> None:
    importlib.import_module("archive").save(arrays, path, created="2026-01-01T00:00:00Z")


def _load_archive(path: Path) -> Arrays:
    loaded = importlib.import_module("archive").load(path)
    return {key: array.numpy() for key, array in loaded.array_records["model"].items()}


def _save_npz(arrays: Arrays, path: Path) -> None:
    with path.open("wb") as file:  # a file object: savez would add .npz to the name
        np.savez(file, **cast("dict[str, Any]", arrays))


def _load_npz(path: Path) -> Arrays:
    with np.load(path) as file:
        return dict(file.items())


def _hostile_npz(canary: Any, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, w=np.array([canary], dtype=object))


def _tensors(arrays: Arrays) -> dict[str, Any]:
    torch = importlib.import_module("torch")
    made: dict[int, Any] = {}
    for array in arrays.values():
        if array.dtype.name == "bfloat16":
            made[id(array)] = torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
        else:
            made[id(array)] = torch.from_numpy(array)
    return {key: made[id(array)] for key, array in arrays.items()}


def _elements(tensors: Mapping[str, Any]) -> Arrays:
    torch = importlib.import_module("torch")
    bfloat16 = importlib.import_module("ml_dtypes").bfloat16
    return {
        key: tensor.view(torch.uint16).numpy().view(bfloat16)
        if tensor.dtype is torch.bfloat16
        else tensor.numpy()
        for key, tensor in tensors.items()
    }


def _save_torch(arrays: Arrays, path: Path) -> None:
    importlib.import_module("torch").save(_tensors(arrays), path)


def _load_torch(path: Path) -> Arrays:
    return _elements(importlib.import_module("torch").load(path))


def _hostile_torch(canary: Any, path: Path) -> None:
    importlib.import_module("torch").save({"w": canary}, path)


def _save_dcp(arrays: Arrays, path: Path) -> None:
    importlib.import_module("torch.distributed.checkpoint").save(
        _tensors(arrays), checkpoint_id=path, no_dist=True
    )


def _load_dcp(path: Path) -> Arrays:
    torch, dcp = importlib.import_module("torch"), importlib.import_module("torch.distributed.checkpoint")
    entries = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    target = {key: torch.empty(entry.size, dtype=entry.properties.dtype) for key, entry in entries.items()}
    dcp.load(target, checkpoint_id=path, no_dist=True)
    return _elements(target)


def _hostile_dcp(canary: Any, path: Path) -> None:
    _save_dcp({"w": np.zeros(3)}, path)
    (path / ".metadata").write_bytes(importlib.import_module("pickle").dumps(canary))


def _save_safetensors(arrays: Arrays, path: Path) -> None:
    importlib.import_module("safetensors.numpy").save_file(dict(arrays), path)


def _load_safetensors(path: Path) -> Arrays:
    loaded: Arrays = importlib.import_module("safetensors.numpy").load_file(path)
    return loaded


def _save_orbax(arrays: Arrays, path: Path) -> None:
    orbax = importlib.import_module("orbax.checkpoint")
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, dict(arrays), force=True)


def _load_orbax(path: Path) -> Arrays:
    orbax = importlib.import_module("orbax.checkpoint")
    with orbax.PyTreeCheckpointer() as checkpointer:
        return {key: np.asarray(array) for key, array in checkpointer.restore(path).items()}


def _save_zarr(arrays: Arrays, path: Path) -> None:
    group = importlib.import_module("zarr").open_group(path, mode="w", zarr_format=3)
    for key, array in arrays.items():
        group.create_array(key, data=array, chunks=array.shape)


def _load_zarr(path: Path) -> Arrays:
    group = importlib.import_module("zarr").open_group(path, mode="r")
    return {key: array[...] for key, array in group.arrays()}


def _save_icechunk(arrays: Arrays, path: Path) -> None:
    icechunk, zarr = importlib.import_module("icechunk"), importlib.import_module("zarr")
    repository = icechunk.Repository.open_or_create(icechunk.local_filesystem_storage(str(path)))
    session = repository.writable_session("main")
    group = zarr.open_group(session.store, mode="w", zarr_format=3)
    for key, array in arrays.items():
        group.create_array(key, data=array, chunks=array.shape)
    session.commit("saved")


def _load_icechunk(path: Path) -> Arrays:
    icechunk, zarr = importlib.import_module("icechunk"), importlib.import_module("zarr")
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))
    group = zarr.open_group(repository.readonly_session("main").store, mode="r")
    return {key: array[...] for key, array in group.arrays()}


def keras_model(shapes: Mapping[str, tuple[tuple[int, ...], str]]) -> tuple[Any, dict[str, Any]]:
    """Return a model and its weights, which are those arrays."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = importlib.import_module("keras")
    model = type("Model", (keras.Model,), {})()
    weights = {
        # torch has no gradients of integers
        key: model.add_weight(name=key, shape=shape, dtype=dtype, trainable="int" not in dtype)
        for key, (shape, dtype) in shapes.items()
    }
    model.built = True
    return model, weights


def _save_keras(arrays: Arrays, path: Path) -> None:
    shapes = {key: (array.shape, array.dtype.name) for key, array in arrays.items()}
    model, weights = keras_model(shapes)
    for key, weight in weights.items():
        weight.assign(arrays[key])
    path.with_suffix(".shapes").write_text(json.dumps(shapes))  # a program of Keras knows its model
    model.save_weights(path.with_suffix(".weights.h5"), overwrite=True)


def _load_keras(path: Path) -> Arrays:
    shapes = json.loads(path.with_suffix(".shapes").read_text())
    model, weights = keras_model({key: (tuple(shape), dtype) for key, (shape, dtype) in shapes.items()})
    model.load_weights(path.with_suffix(".weights.h5"))
    return _elements({key: weight.value.detach() for key, weight in weights.items()})


LIBRARIES = {
    library.name: library
    for library in (
        Library("fedarchive", _save_archive, _load_archive, "archive", ("numpy", "h5py")),
        Library("np.savez", _save_npz, _load_npz, "numpy", ("numpy",), _hostile_npz),
        Library("torch.save", _save_torch, _load_torch, "torch", ("torch",), _hostile_torch),
        Library("safetensors", _save_safetensors, _load_safetensors, "safetensors", ("safetensors",)),
        Library("torch DCP", _save_dcp, _load_dcp, "torch", ("torch",), _hostile_dcp),
        Library("Orbax", _save_orbax, _load_orbax, "orbax", ("orbax-checkpoint", "jax", "tensorstore")),
        Library("zarr", _save_zarr, _load_zarr, "zarr", ("zarr",)),
        Library("icechunk", _save_icechunk, _load_icechunk, "icechunk", ("icechunk", "zarr")),
        Library("Keras .weights.h5", _save_keras, _load_keras, "keras", ("keras", "h5py")),
    )
}
