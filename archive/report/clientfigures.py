"""How far a client went from the global model that it started from, and whether that went there too."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from archive import tuning
from archive.checkpoints.updates import match_names, number_names
from archive.dtypes import NDArray
from archive.engine.read.handle import Archive
from archive.report.excerpts import Name, group_names
from archive.tools.moments import as_reals

__all__ = ["ClientFigures", "GlobalModels", "LayerFigures", "measure_client"]

LAYERS = 60
"""Layers of which each client has figures; of more, those whose names begin alike are one."""


class LayerFigures(NamedTuple):
    """What one client sent in one round, by layer."""

    update: NDArray
    """L2 norm of its arrays less those of the global model of the round before; NaN where one is missing."""
    relative: NDArray
    """The same by the norm of that layer."""
    cosine: NDArray
    """Cosine of the angle of its update and the step of the layer in this round."""
    odd: NDArray
    """NaN and infinities."""


@dataclass(slots=True)
class ClientFigures:
    """What one client sent in one round."""

    sent: float = math.nan
    """L2 norm of its finite elements."""
    update: float = math.nan
    """L2 norm of its arrays less those of the global model of the round before; NaN where that is missing."""
    relative: float = math.nan
    """The same by the norm of that global model."""
    cosine: float = math.nan
    """Cosine of the angle of its update and the step of the global model in this round."""
    odd: dict[Name, int] = field(default_factory=dict)
    """NaN and infinities by array; arrays without any are left out."""
    layers: LayerFigures | None = None
    """Figures of each of `GlobalModels.layers`; None where they were not asked for."""


class GlobalModels:
    """The global model before and after a round, each array of them found once for all clients.

    Parameters
    ----------
    base : Archive or None
        Of the round before; None where that is not there.
    new : Archive
        Of the round.
    by_layer : bool
        Whether clients are measured by layer too.
    """

    def __init__(self, base: Archive | None, new: Archive, *, by_layer: bool = False) -> None:
        self.names: list[tuple[str, str]] = number_names(new)
        labels, places = group_names(self.names, LAYERS) if by_layer else ([], [])
        self.layers: Sequence[str] = labels
        """Names of layers."""
        self.place: dict[Name, int] = dict(zip(self.names, places, strict=False))
        """Which layer an array is of."""
        before = set() if base is None else set(number_names(base))
        self._arrays = {
            name: (base[name], new[name]) for name in self.names if base is not None and name in before
        }

        self._remote = bool(new._reader.network)
        for handle in filter(None, (base, new)):
            handle._reader.ahead.expect_all()
        self._kept: dict[Name, list[NDArray]] = {}

    def of(self, name: Name, shape: tuple[int, ...]) -> list[NDArray]:
        """Return an array of both; nothing where one lacks it, or has another shape."""
        arrays = self._arrays.get(name, ())
        if not all(array.shape == shape for array in arrays):
            return []
        if name in self._kept:
            return self._kept[name]
        elements = [array.numpy() for array in arrays]
        if self._remote:  # fetched once for all clients
            self._kept[name] = elements
        return elements


def measure_client(client: Archive, models: GlobalModels) -> ClientFigures:
    """Compare what a client sent with the global models before and after it.

    Arrays are compared that the client has under the name, or else the key, of the global model, with its
    shape. Pairs with a NaN or an infinity are left out.

    Raises
    ------
    DigestError
        An array is damaged.
    """
    client._reader.ahead.expect_all()
    found = ClientFigures()
    total = np.zeros(_SUMS)
    layers = np.zeros((len(models.layers), _SUMS))
    for name, mine in match_names(models.names, number_names(client)).items():
        sent = client[mine].numpy()
        known = models.of(name, sent.shape)
        sums = np.zeros(_SUMS)
        sums[_COMPARED] = bool(known)
        for parts in _blocks([sent, *known]):
            sums[_ODD] += _add(sums, parts)
        if sums[_ODD]:
            found.odd[name] = int(sums[_ODD])
        total += sums
        if name in models.place:
            layers[models.place[name]] += sums
    found.sent = math.sqrt(total[0])
    found.update, found.relative, found.cosine = (one.item() for one in _lengths(total))
    if models.layers:
        found.layers = LayerFigures(*_lengths(layers.T), layers[:, _ODD])
    return found


_SUMS = 7
"""Sums of an array: of squares (sent, update, base, step), of update times step, and these two."""
_ODD, _COMPARED = 5, 6
"""Elements that are not finite; arrays that were compared."""


def _lengths(sums: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Return size of the update, that by the size of the base, and cosine; NaN where nothing was compared."""
    update, base, step = (np.sqrt(sums[place]) for place in (1, 2, 3))
    with np.errstate(all="ignore"):  # 0 / 0 is not known
        figures = update, update / base, sums[4] / update / step
        there = (sums[_COMPARED] > 0, base > 0, (update > 0) & (step > 0))
        known = [np.where(test & there[0], one, math.nan) for test, one in zip(there, figures, strict=True)]
    return known[0], known[1], known[2]


def _blocks(arrays: Sequence[NDArray]) -> Iterator[list[NDArray]]:
    """Yield the same elements of arrays of one shape as float64, a block at a time."""
    flat = [array.reshape(-1) for array in arrays]
    for at in range(0, len(flat[0]), tuning.LOOK_ELEMENTS):
        yield [_wide(array[at : at + tuning.LOOK_ELEMENTS]) for array in flat]


def _wide(block: NDArray) -> NDArray:
    if block.dtype.kind == "c":
        pairs: NDArray = np.ascontiguousarray(block, np.complex128).view(np.float64)
        return pairs
    reals: NDArray = as_reals(np.ascontiguousarray(block)).astype(np.float64)
    return reals


def _add(sums: NDArray, parts: list[NDArray]) -> int:
    """Add a block to the sums, and return how many elements of the client are not finite."""
    with np.errstate(all="ignore"):
        finite = np.isfinite(parts[0])
        odd = int(finite.size - np.count_nonzero(finite))
        sent = parts[0][finite] if odd else parts[0]
        sums[0] += (sent * sent).sum()
        if len(parts) == 1:
            return odd
        there = finite & np.isfinite(parts[1]) & np.isfinite(parts[2])
        sent, base, new = parts if there.all() else (part[there] for part in parts)
        update, step = sent - base, new - base
        pairs = (update, update), (base, base), (step, step), (update, step)
        sums[1:_ODD] += [(one * other).sum() for one, other in pairs]
    return odd
