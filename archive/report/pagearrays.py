"""Arrays, metrics and configs of an archive as the JSON of the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from archive.display.texts import shape, size
from archive.report.archivefigures import ArchiveFigures, ArrayFigures
from archive.report.excerpts import number, shown_name
from archive.report.runfigures import RunFigures

__all__ = ["array_columns", "value_rows"]

VALUES = 500
"""Metrics and configs that are listed."""
_HEIGHTS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
"""Heights of bars by one character each."""

Json = dict[str, Any]


def array_columns(run: RunFigures, most: int, length: int) -> Json | None:
    """Return arrays as columns; of more than fit, those that are left out are counted."""
    if run.contents is None:
        return None
    arrays = run.contents.arrays
    kept = arrays[:most]
    left = arrays[most:]
    dtypes = list(dict.fromkeys(array.dtype for array in kept))
    records = list(dict.fromkeys(array.record for array in kept))
    dtype_at = {name: place for place, name in enumerate(dtypes)}
    record_at = {name: place for place, name in enumerate(records)}
    moments = [array.moments for array in kept]

    def column(name: str, digits: int = 4) -> list[Any]:
        return [None if one is None else number(getattr(one, name), digits) for one in moments]

    return {
        "round": run.newest,
        "total": len(arrays),
        "left": [len(left), size(sum(array.nbytes for array in left))],
        "records": [shown_name(name, length) for name in records],
        "record": [record_at[array.record] for array in kept],
        "key": [shown_name(array.key, length) for array in kept],
        "dtypes": [shown_name(name, 40) for name in dtypes],
        "dtype": [dtype_at[array.dtype] for array in kept],
        "shape": [_shape(array) for array in kept],
        "count": [array.elements for array in kept],
        "bytes": [array.nbytes for array in kept],
        "low": column("low", 6),
        "high": column("high", 6),
        "mean": column("mean"),
        "std": column("std"),
        "norm": column("norm"),
        "zeros": column("zeros", 9),
        "nan": column("nan", 9),
        "inf": column("inf", 9),
        "bars": [_bars(array.counts) for array in kept],
        "problems": [
            [place, shown_name(array.problem, 200)] for place, array in enumerate(kept) if array.problem
        ],
    }


def _shape(array: ArrayFigures) -> str:
    return shown_name(shape(array.shape)[1:-1].rstrip(",").replace(",", " \N{MULTIPLICATION SIGN} "), 60)


def _bars(counts: Sequence[int]) -> str:
    """Return the heights of a histogram, a character each; a bin that is not empty is seen."""
    if not counts:
        return ""
    shares = np.array(counts, np.float64) / max(counts)
    heights = np.ceil(shares * (len(_HEIGHTS) - 1)).astype(int)
    return "".join(_HEIGHTS[height] for height in heights)


def value_rows(contents: ArchiveFigures | None) -> Json | None:
    """Return metrics and configs as rows of text; None where there are none."""
    if contents is None or not contents.values:
        return None
    rows = [
        [one.kind, shown_name(one.record, 80), shown_name(one.key, 80), one.text]
        for one in contents.values[:VALUES]
    ]
    return {"rows": rows, "total": len(contents.values)}
