"""Results of the rounds of a run: kept as JSON and named arrays, recalled, and their numbers as metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from archive.interop.statearrays import JSON, Arrays, copy_of
from archive.interop.statevalues import decode, encode
from archive.records import Array

__all__ = ["MISSING", "Results"]

MISSING = object()
"""Returned by `Results.recall` where no result was kept."""
_PREFIX = "history"


class Results:
    """Results by kind and round.

    Parameters
    ----------
    path : str
        The run, for errors.
    trees : dict, optional
        Results of earlier rounds, as `trees` had them.
    arrays : mapping of str to Array, optional
        Arrays of the round file, those of its results among them.

    Examples
    --------
    >>> results = Results("/data/run")
    >>> results.keep("train", 1, {"loss": 0.5, "name": "x"})
    >>> results.recall("train", 1), results.metrics(1)
    ({'loss': 0.5, 'name': 'x'}, {'train': {'loss': 0.5}})
    """

    def __init__(
        self,
        path: str,
        trees: dict[str, dict[str, JSON]] | None = None,
        arrays: Mapping[str, Array] | None = None,
    ) -> None:
        self._path = path
        self.trees: dict[str, dict[str, JSON]] = trees if trees is not None else {}
        """Results as JSON, by kind and round."""
        self.arrays: dict[str, Array] = {
            name: array for name, array in (arrays or {}).items() if name.startswith(_PREFIX + "/")
        }
        """Arrays that these name."""

    def keep(self, kind: str, round: int, value: Any) -> None:  # noqa: A002 Flower's word
        """Keep a result of a round.

        Raises
        ------
        NotStateError
            A value that cannot be saved.
        """
        arrays = Arrays()
        self.trees.setdefault(kind, {})[str(round)] = encode(value, (_PREFIX, kind, str(round)), arrays)
        self.arrays |= {name: copy_of(array) for name, array in arrays.items()}

    def recall(self, kind: str, round: int) -> Any:  # noqa: A002 Flower's word
        """Return a result of a round, or `MISSING`."""
        tree = self.trees.get(kind, {}).get(str(round), MISSING)
        if tree is MISSING:
            return tree
        return decode(tree, self.arrays, key=f"{_PREFIX}/{kind}/{round}", path=self._path)

    def metrics(self, round: int) -> dict[str, dict[str, Any]]:  # noqa: A002 Flower's word
        """Return the numeric results of a round as metric records by kind."""
        records: dict[str, dict[str, Any]] = {}
        for kind in self.trees:
            found = self.recall(kind, round)
            parts = found if isinstance(found, tuple) else (found,)
            values: dict[str, Any] = {}
            for part in parts:
                values |= _numbers(part if hasattr(part, "items") else {"loss": part})
            if values:
                records[kind] = values
        return records


def _numbers(found: Any) -> dict[str, Any]:
    """Return the numbers, and lists of numbers, among results as values of a metric record."""
    numbers = {key: _number(value) for key, value in found.items()}
    return {key: value for key, value in numbers.items() if value is not None}


def _number(value: Any) -> Any:
    """Return numbers of Python or numpy, or a list of them, as Python's; None for any other value.

    Examples
    --------
    >>> _number(np.float32(0.5)), _number([np.int64(2), 0.5]), _number("0.5"), _number([[1]])
    (0.5, [2.0, 0.5], None, None)
    """
    if isinstance(value, list):
        items: list[Any] = [None if isinstance(item, list) else _number(item) for item in value]
        if None in items:
            return None
        return items if len(set(map(type, items))) < 2 else list(map(float, items))
    if isinstance(value, (np.integer, np.floating)):
        value = value.item()
    return value if type(value) in (int, float) else None
