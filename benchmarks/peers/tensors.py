"""ndarrays and torch tensors of the same memory."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.peers.base import NDArray

__all__ = ["elements_of", "tensors_of"]


def tensors_of(arrays: Mapping[str, NDArray]) -> dict[str, Any]:
    """Return tensors that share memory with the arrays; bfloat16 keeps its type."""
    torch = importlib.import_module("torch")
    return {
        key: torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        if array.dtype.name == "bfloat16"
        else torch.from_numpy(array)
        for key, array in arrays.items()
    }


def elements_of(tensor: Any) -> NDArray:
    """Return a tensor's elements without a copy; bfloat16, which numpy cannot name, as int16."""
    torch = importlib.import_module("torch")
    plain: NDArray = (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return plain
