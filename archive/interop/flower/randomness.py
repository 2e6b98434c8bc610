"""The global random generators of a run (Python's, numpy's and torch's) as JSON and named arrays."""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from archive.errors import ArchiveError, HostileFileError
from archive.interop.statearrays import JSON, Arrays
from archive.interop.statevalues import MALFORMED, decode, encode
from archive.records import Array

__all__ = ["random_state", "restore_random_state"]


def random_state(arrays: Arrays) -> JSON:
    """Return the states of the global generators, and add their words to ``arrays``.

    torch's state is among them where torch is loaded, that of its CUDA devices where CUDA was used.

    Examples
    --------
    >>> arrays = Arrays()
    >>> state = random_state(arrays)
    >>> first = random.random(), np.random.random()
    >>> restore_random_state(state, arrays)
    >>> (random.random(), np.random.random()) == first
    True
    """
    version, words, gauss = random.getstate()
    state: dict[str, Any] = {
        "python": [version, np.array(words, np.uint32), gauss],
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002 strategies draw from it
    }
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        state["torch"] = torch.get_rng_state()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            state["cuda"] = torch.cuda.get_rng_state_all()
    return {name: encode(value, (name,), arrays) for name, value in state.items()}


def restore_random_state(state: JSON, arrays: Mapping[str, Array]) -> None:
    """Bring the global generators to a saved state; import torch where its state was saved.

    Raises
    ------
    HostileFileError
        The state is not what `random_state` returns.
    """
    try:
        _restore({name: decode(tree, arrays, key=f"random/{name}") for name, tree in state.items()})
    except MALFORMED as error:
        if isinstance(error, ArchiveError):
            raise
        problem = f"invalid state of the random generators: {type(error).__name__}: {error}"
        raise HostileFileError(problem, key="random") from error


def _restore(found: dict[str, Any]) -> None:
    version, words, gauss = found["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    np.random.set_state(found["numpy"])  # noqa: NPY002
    if "torch" in found:
        torch: Any = importlib.import_module("torch")
        torch.set_rng_state(found["torch"])
        if "cuda" in found and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(found["cuda"])
