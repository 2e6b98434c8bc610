"""What an HDF5 tool has to show of an archive, by ``spec/v1/tree.md``.

The archive's own index says what was saved, through the independent reader of the specification: neither the
package nor libhdf5 takes part, so that neither is asked about itself.
"""

from __future__ import annotations

import ast
import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from tests.spec.reader import LEARNED, STORED, Kind, Row, SpecReader

__all__ = ["NULL", "Node", "Tree", "escape", "expect"]

KINDS = ("arrays", "metrics", "configs")
NULL = np.zeros(0)
"""Stands for an attribute with a null dataspace: float64 without elements."""
NULL_BYTES = np.zeros(0, "u1")
MODE_TEXT, MODE_DATA = 1, 2
MOST_AXES = 32


@dataclass
class Node:
    """A group, or a dataset where it has data."""

    data: np.ndarray[Any, Any] | None = None
    """Elements as a tool shows them; texts are ``S``."""
    form: str = "plain"
    """``bfloat16``, ``utf8``, or ``plain``: numpy's own HDF5 type."""
    attrs: dict[str, Any] = field(default_factory=dict)
    """ndarrays, texts, lists of texts, or a null dataspace."""
    link: str | None = None
    """The path of the object that this is another name of."""


Tree = dict[str, Node]
"""Objects by path."""


def escape(name: str) -> str:
    """Return the link name of a name (section 9)."""
    whole = {"": "%", ".": "%2E"}
    return whole.get(name) or re.sub("[%/\0]", lambda found: f"%{ord(found[0]):02X}", name)


def expect(path: Path) -> Tree:
    """Return the tree of an archive."""
    reader = SpecReader(path.read_bytes())
    document = reader.document
    said = {name: document[name] for name in ("writer", "created", "container")}
    tree: Tree = {"/": Node(attrs={"format": "fedarchive", "version": "1.0", **said})}
    tree |= {f"/{kind}": Node() for kind in KINDS}
    values, attributes = reader.values(), reader.values("attributes")
    for number, (kind, name) in enumerate(reader.records):
        group = tree[f"/{KINDS[kind]}/{escape(name)}"] = Node()
        stored = {row.key.decode() for row in reader.rows if row.record == number} if kind else set()
        said = (values if kind else attributes).get(number, {})
        group.attrs = {escape(key): shown(value) for key, value in said.items() if key not in stored}
    tree |= rows(reader)
    if document["container"] == "context":
        tree |= context(reader)
    tree["/index"] = Node(np.frombuffer(reader.file[reader.index_at :], "u1"))
    return tree


def context(reader: SpecReader) -> Tree:
    fields = reader.context()
    state = fields.pop("state", None) or reader.document["context"]["state"]
    configs = {name: fields.pop(name) for name in ("node_config", "run_config")}
    found = {"/context": Node(attrs={name: shown(value) for name, value in fields.items()})}
    found["/context"].attrs["state"] = state
    for name, values in configs.items():
        attrs = {escape(key): shown(value) for key, value in values.items()}
        found[f"/context/{name}"] = Node(attrs=attrs)
    return found


def rows(reader: SpecReader) -> Tree:
    found: Tree = {}
    places = [place_of(reader, row) for row in reader.rows]
    shared = {row.alias for row in reader.rows}
    for number, (row, place) in enumerate(zip(reader.rows, places, strict=True)):
        if row.alias != 0xFFFFFFFF:
            found[place] = Node(link=places[row.alias])
            continue
        found[place] = node = Node(*elements(row, reader.stored(row)))
        node.attrs = dict(told(row, alone=number not in shared))
    return found


def place_of(reader: SpecReader, row: Row) -> str:
    kind, record = reader.records[row.record]
    return f"/{KINDS[kind]}/{escape(record)}/{escape(row.key.decode())}"


def told(row: Row, *, alone: bool) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a row's dataset (section 5.1)."""
    yield "stype", text_or_bytes(row.kind.stype)
    yield "dtype", text_or_bytes(row.kind.dtype)
    yield "shape", np.array(row.shape, "<i8")
    if row.kind.mode == MODE_DATA and row.kind.stype:
        yield "encoding", "data"
    if row.fortran:
        yield "order", "F"
    if row.kind.header:
        yield "npy_header", np.frombuffer(row.kind.header, "u1")
    key = row.key.decode()
    if alone and escape(key) != key:
        yield "key", text_or_bytes(key)


def text_or_bytes(text: str) -> Any:
    return np.frombuffer(text.encode(), "u1") if "\0" in text else text


def shown(value: Any) -> Any:
    """Return a value as its attribute (section 10.3)."""
    first = value[0] if isinstance(value, list) and value else value
    texts = value if isinstance(value, list) else [value]
    if value == []:
        return NULL
    if isinstance(first, str) and not any("\0" in text for text in texts):
        return value
    if isinstance(value, bytes) and not value.startswith(b'["'):
        return np.frombuffer(value, "u1") if value else NULL_BYTES
    if isinstance(first, (str, bytes)):
        return np.frombuffer(as_json(value).encode(), "u1")
    if isinstance(first, bool):
        return np.array(value)
    if isinstance(first, float):
        return np.array(value, "<f8")
    above = max(map(int, value if isinstance(value, list) else [value])) > (1 << 63) - 1
    return np.array(value, "<u8" if above else "<i8")


def as_json(value: Any) -> str:
    """Return what stands for a value that HDF5 has no type for ([VALUE-9])."""
    items = value if isinstance(value, list) else [value]
    name = "str" if isinstance(items[0], str) else "bytes"
    found = [item if name == "str" else base64.b64encode(item).decode() for item in items]
    typed = [f"{name}s", found] if isinstance(value, list) else [name, found[0]]
    return json.dumps(typed, separators=(",", ":"), ensure_ascii=False)


def elements(row: Row, stored: bytes) -> tuple[np.ndarray[Any, Any], str]:
    """Return what a dataset shows, and its form (section 8)."""
    kind, shape = row.kind, row.shape
    if kind.mode == MODE_TEXT and len(shape) <= MOST_AXES:
        return np.frombuffer(stored, f"S{kind.itemsize}").reshape(shape), "utf8"
    if kind.mode == MODE_DATA:
        return shown_data(kind, shape, stored)
    if kind.mode == MODE_TEXT:
        return np.frombuffer(stored, "u1"), "plain"
    return typed(kind.description, shape, stored)


def shown_data(kind: Kind, shape: tuple[int, ...], stored: bytes) -> tuple[np.ndarray[Any, Any], str]:
    """Return a payload that is no .npy (section 8.4), or a value (section 10.4)."""
    value = next((description for name, description in STORED if name == kind.dtype), None)
    if not kind.stype and value:
        if kind.dtype == "str" and stored and b"\0" not in stored:
            return np.frombuffer(stored, f"S{len(stored)}").reshape(()), "utf8"
        description = {"ints": kind.description or "<i8"}.get(kind.dtype, value)
        return np.frombuffer(stored, description), "plain"
    try:
        description = kind.dtype if kind.dtype in LEARNED else np.dtype(kind.dtype).str
        size = LEARNED.get(description) or np.dtype(description).itemsize
    except TypeError:
        size = 0
    if size and size * int(np.prod(shape)) == len(stored):
        return typed(description, shape, stored)
    return np.frombuffer(stored, "u1"), "plain"


def typed(description: str, shape: tuple[int, ...], stored: bytes) -> tuple[np.ndarray[Any, Any], str]:
    """Return elements of a described type (section 8.2)."""
    plain = np.frombuffer(stored, "u1")
    if description in LEARNED:
        if description != "bfloat16":
            return plain.reshape(shape), "plain"
        return plain.view(ml_dtypes.bfloat16).astype("<f4").reshape(shape), "bfloat16"
    structured = description.startswith("[")
    dtype = (
        np.lib.format.descr_to_dtype(ast.literal_eval(description)) if structured else np.dtype(description)
    )
    if structured and re.search(r"'[<>][UMm]", description):
        return plain, "plain"
    if not dtype.itemsize:
        return plain, "plain"
    if dtype.kind == "U":
        shape, dtype = (*shape, dtype.itemsize // 4), np.dtype(dtype.byteorder + "u4")
    if dtype.kind in "mM":
        dtype = np.dtype(dtype.byteorder + "i8")
    return (plain.view(dtype).reshape(shape) if len(shape) <= MOST_AXES else plain), "plain"
