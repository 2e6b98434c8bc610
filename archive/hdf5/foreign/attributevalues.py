"""Attributes of a foreign file: those of groups as values, and of datasets those that an archive writes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from h5py import h5, h5a, h5p, h5s, h5t

from archive.format.values import JSON_BEGIN, decode_value, encode_value, validate_value
from archive.hdf5.foreign.elementtypes import is_flat
from archive.hdf5.foreign.guards import (
    MAX_ATTRIBUTE_BYTES,
    MAX_DATASET_ATTRIBUTES,
    MAX_GROUP_ATTRIBUTES,
    Budget,
    refuse,
)
from archive.hdf5.foreign.sandbox import Limits

__all__ = ["AttributeReader", "order_of"]

_OF_DATASETS = frozenset((b"stype", b"dtype", b"shape", b"key", b"order", b"encoding", b"npy_header"))
_TEXTS = frozenset((b"stype", b"dtype", b"key"))
_NONE = object()  # in place of an attribute that no value can be
_EMPTY: dict[int, Any] = {h5t.FLOAT: [], h5t.INTEGER: b""}
"""Values without elements in an archive, by class of their type."""


class AttributeReader:
    """Reads attributes within the limits of one file."""

    def __init__(self, budget: Budget, limits: Limits) -> None:
        self.ours = False
        """An archive's writer made the file: u8 attributes hold bytes, or the JSON of a value ([VALUE-9])."""
        self._budget = budget
        self._limits = limits

    def of_group(self, group: Any, path: str) -> tuple[list[list[Any]], int]:
        """Return the attributes that are legal values, encoded, and how many are not."""
        values: list[list[Any]] = []
        skipped = 0
        order = group.get_create_plist().get_attr_creation_order()
        for name in self._names(group, MAX_GROUP_ATTRIBUTES, order, path):
            value = self._value(group, name, path, ours=self.ours)
            try:
                key = name.decode()
                values.append([key, encode_value(value, validate_value(value, metric=False))])
            except (TypeError, ValueError):
                skipped += 1
        return values, skipped

    def of_dataset(self, dataset: Any, path: str) -> dict[str, Any]:
        """Return those attributes that an archive's writer gives its datasets; ``skipped`` counts others."""
        attributes: dict[str, Any] = {}
        skipped = 0
        for name in self._names(dataset, MAX_DATASET_ATTRIBUTES, 0, path):
            if name in _OF_DATASETS:
                value = self._value(dataset, name, path)
                if self.ours and name in _TEXTS:
                    value = _text_with_nul(value)
                if isinstance(value, str) or (isinstance(value, list) and all(type(v) is int for v in value)):
                    attributes[name.decode()] = value
            # in a file of another writer dtype alone is taken for ours: Keras has it beside bfloat16
            skipped += name not in (_OF_DATASETS if self.ours else (b"dtype",))
        return attributes | ({"skipped": skipped} if skipped else {})

    def _names(self, owner: Any, limit: int, creation_order: int, path: str) -> list[bytes]:
        count = h5a.get_num_attrs(owner)
        if count > limit:
            raise refuse(f"{count:,} attributes", path, f"keep at most {limit:,}")
        names: list[bytes] = []
        h5a.iterate(
            owner, lambda name, *_: names.append(name), index_type=order_of(creation_order), order=h5.ITER_INC
        )
        return names

    def _value(self, owner: Any, name: bytes, path: str, *, ours: bool = False) -> Any:
        """Return the value of an attribute, or an object that is not a value."""
        attribute = h5a.open(owner, name)
        kind, space = attribute.get_type(), attribute.get_space()
        empty = space.get_simple_extent_type() == h5s.NULL
        shape = () if empty else space.get_simple_extent_dims()
        nbytes = 0 if empty else space.get_simple_extent_npoints() * kind.get_size()
        self._budget.add_attribute(len(name) + nbytes, path)
        if len(shape) > 1 or not is_flat(kind):
            return _NONE
        if kind.get_class() == h5t.OPAQUE:
            return _opaque(attribute, kind, empty, shape)
        if empty:
            return _EMPTY.get(kind.get_class(), _NONE) if ours else _NONE
        elements = np.empty(shape, kind.dtype)
        if elements.size:
            # strings may share their bytes: nothing says how long they are before they are read
            self._limits.within(
                4 * MAX_ATTRIBUTE_BYTES,
                lambda: attribute.read(elements, mtype=h5t.py_create(elements.dtype)),
            )
        if ours and shape and elements.dtype == np.uint8:
            return _bytes_value(elements.tobytes())
        if kind.get_class() != h5t.STRING:
            return elements.tolist() if elements.dtype.kind in "biuf" else _NONE
        texts = elements.tolist() if shape else [elements.tolist()]
        self._budget.add_attribute(sum(map(len, texts)), path)
        return _texts(kind, texts, shape)


def order_of(creation_order: int) -> int:
    """Return the index by which names are listed: by creation where the file tracks that, else by name."""
    return int(h5.INDEX_CRT_ORDER if creation_order & h5p.CRT_ORDER_TRACKED else h5.INDEX_NAME)


def _opaque(attribute: Any, kind: Any, empty: bool, shape: tuple[int, ...]) -> Any:
    """Return the bytes of an opaque attribute without a tag."""
    if shape or kind.get_tag():
        return _NONE
    if empty:
        return b""
    data = np.empty((), f"V{kind.get_size()}")
    attribute.read(data, mtype=kind)
    return data.tobytes()


def _texts(kind: Any, texts: list[bytes], shape: tuple[int, ...]) -> Any:
    found: list[Any] = texts
    if kind.is_variable_str() or kind.get_cset() == h5t.CSET_UTF8:
        try:
            found = [text.decode() for text in texts]
        except UnicodeDecodeError:
            return _NONE
    return found if shape else found[0]


def _text_with_nul(value: Any) -> Any:
    """Return the text of a u8 attribute, which a text with NUL is ([HDF5-8]); any other value as it is."""
    try:
        return bytes(value).decode() if isinstance(value, list) else value
    except (TypeError, ValueError):
        return _NONE


def _bytes_value(data: bytes) -> Any:
    """Return the value that JSON spells, or the bytes."""
    if not data.startswith(JSON_BEGIN):
        return data
    try:
        return decode_value(json.loads(data))
    except (ValueError, RecursionError):
        return data  # no archive's writer made it
