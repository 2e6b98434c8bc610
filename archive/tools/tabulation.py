"""A table: a dict of columns of one length, which pandas, Polars, Arrow and DuckDB take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from archive.dtypes import NDArray
from archive.format.constants import OWN_PREFIX
from archive.tools.columns import Row, make_columns

__all__ = ["Table", "tabulate", "texts"]


class Table(dict[str, NDArray]):
    """A dict of columns of one length; a column is also found by its full name, ``record/key``."""

    def __init__(self, columns: Mapping[str, NDArray], aliases: Mapping[str, str] | None = None) -> None:
        super().__init__(columns)
        self._aliases = dict(aliases or {})

    def __missing__(self, name: str) -> NDArray:
        if name in self._aliases:
            return self[self._aliases[name]]
        raise KeyError(f"no column {name!r}; there are {', '.join(map(repr, self))}")


def tabulate(columns: dict[str, NDArray], rows: Sequence[Row]) -> Table:
    """Return the values of rows as columns after the given ones; those of the library are left out."""
    shown = [
        {name: value for name, value in row.items() if not name[1].startswith(OWN_PREFIX)} for row in rows
    ]
    named, aliases = make_columns(shown, columns)
    return Table(columns | named, aliases)


def texts(values: Sequence[str | None]) -> NDArray:
    """Return a column of texts.

    Examples
    --------
    >>> texts(["a", None])
    array(['a', None], dtype=object)
    """
    column: NDArray = np.empty(len(values), object)
    column[:] = values
    return column
