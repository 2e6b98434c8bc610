"""The names and values of an archive in a file that h5py made: what a tool makes of HDF5 without us."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.hdf5tools.expected import NULL, NULL_BYTES, Node, Tree

__all__ = ["CONTROLS", "write_control"]

CONTROLS: dict[str, dict[str, Any]] = {
    "h5py": {},
    'h5py with libver="v108"': {"libver": ("v108", "v110"), "track_order": True},
}
"""How each control is written: by h5py's defaults, and in the structures that archives consist of."""


def write_control(path: Path, tree: Tree, **options: Any) -> None:
    """Write a tree with h5py."""
    with h5py.File(path, "w", **options) as file:
        for place, node in tree.items():
            if node.link is not None:
                file[place] = file[node.link]
                continue
            made = file if place == "/" else add(file, place, node)
            for name, value in node.attrs.items():
                made.attrs.create(name, *attribute(value))


def attribute(value: Any) -> tuple[Any, ...]:
    """Return value, shape and dtype of an attribute."""
    if value is NULL or value is NULL_BYTES:
        return (h5py.Empty(value.dtype),)
    if isinstance(value, str):
        return value, None, h5py.string_dtype()
    if isinstance(value, list):
        return np.array(value, object), None, h5py.string_dtype()
    return (value,)


def add(file: h5py.File, place: str, node: Node) -> Any:
    data = node.data
    if data is None:
        return file.require_group(place)
    if node.form == "utf8":
        dtype = h5py.string_dtype("utf-8", data.dtype.itemsize)
        return file.create_dataset(place, data.shape, dtype, data=data.astype(dtype))
    if node.form == "bfloat16":
        made = create(file, place, bfloat16(), data.shape)
        made[...] = data
        return made
    return file.create_dataset(place, data=data)


def create(file: h5py.File, place: str, datatype: Any, shape: tuple[int, ...]) -> Any:
    """Return a dataset of a type that numpy has no name for."""
    group, _, name = place.rpartition("/")
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    return h5py.Dataset(h5py.h5d.create(file.require_group(group).id, name.encode(), datatype, space))


def bfloat16() -> Any:
    """Return the 16-bit float with 8 bits of exponent."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_precision(16)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind
