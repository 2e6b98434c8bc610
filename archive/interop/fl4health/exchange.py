"""PartialExchanger: for servers whose parameters are some layers, or some elements, of a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from archive.records.packers.lists import NDArrays
from archive.records.tensors import require_torch

__all__ = ["PartialExchanger"]


class PartialExchanger:
    """Brings parameters that are parts of a model into that model, by the names packed with them.

    FL4Health's modules for such servers (``LayerNamesServerCheckpointAndStateModule`` and
    ``SparseCooServerCheckpointAndStateModule``) want all layers in every round and raise otherwise. Give
    the base module this exchanger.

    Examples
    --------
    ::

        module = BaseServerCheckpointAndStateModule(
            model=net, parameter_exchanger=PartialExchanger(), state_checkpointer=state
        )
    """

    def push_parameters(self, model: Any, initial_model: Any = None, config: Any = None) -> NDArrays:
        """Return the arrays of a state dict, in order."""
        return [found.cpu().numpy() for found in model.state_dict().values()]

    def pull_parameters(self, parameters: NDArrays, model: Any, config: Any = None) -> None:
        """Put the layers or elements that a packed list names into a model; all others stay.

        A list without names is that of a whole model, as in the first round.

        Raises
        ------
        ValueError
            The list is of no such form, or names what the model lacks.
        """
        torch = require_torch()
        state = model.state_dict()
        if not parameters:
            raise ValueError("no parameters")
        *arrays, names = parameters
        if names.dtype.kind != "U":
            pairs = list(zip(state, parameters, strict=True))
        elif len(arrays) == len(names):
            pairs = list(zip(names.tolist(), arrays, strict=True))
        else:
            pairs = _dense(arrays, names.tolist())
        unknown = [name for name, _ in pairs if name not in state]
        if unknown:
            raise ValueError(f"parameters named {', '.join(unknown)}, which the model lacks")
        model.load_state_dict(state | {name: torch.tensor(found) for name, found in pairs})


def _dense(arrays: NDArrays, names: list[str]) -> list[tuple[str, Any]]:
    """Return the tensors of a sparse list; the rest of each is zeros, as FL4Health's clients make it."""
    count = len(names)
    if len(arrays) != 3 * count:
        raise ValueError(f"{len(arrays)} arrays for {count} names: neither layers nor sparse tensors")
    found = []
    for position, name in enumerate(names):
        values, indices, shape = arrays[position::count]
        dense = np.zeros(tuple(shape), values.dtype)
        dense[tuple(indices.T)] = values
        found.append((name, dense))
    return found
