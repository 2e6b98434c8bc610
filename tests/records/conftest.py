"""A payload as the engine brings it: one that counts what is read, and pickles by reference."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from archive.dtypes import dtype_name
from archive.npy import npy_header
from archive.records import Array, Shape

STORE: dict[str, np.ndarray[Any, Any]] = {}


class StoredPayload:
    """Elements in STORE: the shape of a payload that reads an archive."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reads: list[str] = []

    @property
    def nbytes(self) -> int:
        return STORE[self.name].nbytes

    @property
    def data_nbytes(self) -> int:
        array = STORE[self.name]
        return len(npy_header(array.dtype, array.shape)) + array.nbytes

    def data(self) -> bytes:
        self.reads.append("data")
        array = STORE[self.name]
        return npy_header(array.dtype, array.shape) + array.tobytes()

    def numpy(self, copy: bool) -> Any:
        self.reads.append(f"numpy({copy})")
        if copy:
            return STORE[self.name].copy()
        view = STORE[self.name].view()
        view.flags.writeable = False
        return view

    def writable(self) -> Any:
        self.reads.append("writable")
        return STORE[self.name].copy()

    def getitem(self, index: Any) -> Any:
        self.reads.append("getitem")
        view = STORE[self.name].view()
        view.flags.writeable = False
        return view[index]

    def __deepcopy__(self, memo: dict[int, Any]) -> StoredPayload:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredPayload, (self.name,)


@pytest.fixture
def stored() -> Iterator[Callable[..., tuple[Array, StoredPayload]]]:
    """Make a lazy Array over elements, and its payload."""

    def make(elements: np.ndarray[Any, Any], name: str = "a") -> tuple[Array, StoredPayload]:
        STORE[name] = elements
        payload = StoredPayload(name)
        lazy = Array.from_payload(dtype_name(elements.dtype), Shape(elements.shape), "numpy.ndarray", payload)
        return lazy, payload

    yield make
    STORE.clear()


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """Count garbage collections: automatic ones are off, so that only asked-for ones show."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    was_enabled = gc.isenabled()
    gc.disable()
    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)
    if was_enabled:
        gc.enable()
