"""A table: a dict of columns of one length, which pandas, Polars, Arrow and DuckDB take."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from archive.dtypes import NDArray
from archive.errors import ArchiveError, SkippedWarning, warn_caller
from archive.format.constants import OWN_PREFIX
from archive.tools.columns import Row, make_columns

__all__ = ["SHOWN_FAILURES", "Failed", "Table", "tabulate", "texts", "warn_skipped"]

SHOWN_FAILURES = 3
"""Archives that a warning names."""
Failed = tuple[str, ArchiveError]
"""Path and error of an archive that could not be read."""


class Table(dict[str, NDArray]):
    """A dict of columns of one length; a column is also found by its full name, ``record/key``."""

    def __init__(
        self,
        columns: Mapping[str, NDArray],
        aliases: Mapping[str, str] | None = None,
        failures: Sequence[Failed] = (),
    ) -> None:
        super().__init__(columns)
        self._aliases = dict(aliases or {})
        self.failures: tuple[Failed, ...] = tuple(failures)
        """Archives that could not be read, as (path, error): with ``errors="skip"`` they have no row."""

    def __missing__(self, name: str) -> NDArray:
        if name in self._aliases:
            return self[self._aliases[name]]
        raise KeyError(f"no column {name!r}; there are {', '.join(map(repr, self))}")

    def __repr__(self) -> str:
        from archive.tools.tableview import table_text  # for people alone

        return table_text(self)

    def _repr_html_(self) -> str:
        from archive.tools.tableview import table_html

        return table_html(self)

    def to_pandas(self) -> Any:
        """Return the columns as a DataFrame, in order, each with its type: columns of objects stay such.

        Returns
        -------
        pandas.DataFrame
            Its memory is its own.

        Raises
        ------
        ImportError
            pandas is not installed.

        Examples
        --------
        >>> table = Table({"round": np.array([1, 2]), "name": texts(["a", None])})
        >>> table.to_pandas().dtypes.to_dict()
        {'round': dtype('int64'), 'name': dtype('O')}
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise ImportError("to_pandas() needs pandas: pip install pandas", name="pandas") from error
        # pandas 3 would make its own type of text of a column of str
        return pandas.DataFrame(
            {name: pandas.Series(column, dtype=column.dtype, copy=True) for name, column in self.items()}
        )


def tabulate(columns: dict[str, NDArray], rows: Sequence[Row], failures: Sequence[Failed] = ()) -> Table:
    """Return the values of rows as columns after the given ones; those of the library are left out."""
    shown = [
        {name: value for name, value in row.items() if not name[1].startswith(OWN_PREFIX)} for row in rows
    ]
    named, aliases = make_columns(shown, columns)
    return Table(columns | named, aliases, failures)


def warn_skipped(failures: Sequence[Failed], total: int) -> None:
    """Warn of archives that were left out of a result; nothing where there are none.

    Parameters
    ----------
    failures : sequence of (str, ArchiveError)
    total : int
        Archives that were asked for.
    """
    if not failures:
        return
    named = "; ".join(f"{path}: {error.problem}" for path, error in failures[:SHOWN_FAILURES])
    more = f"; and {len(failures) - SHOWN_FAILURES} more" if len(failures) > SHOWN_FAILURES else ""
    warn_caller(
        SkippedWarning(
            f"{len(failures)} of {total} archives cannot be read and were left out: {named}{more} "
            "(`failures` has all of them)"
        )
    )


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
