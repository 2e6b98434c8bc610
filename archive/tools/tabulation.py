"""A table: a dict of columns of one length, which pandas, Polars, Arrow and DuckDB take."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from archive.dtypes import NDArray
from archive.errors import ArchiveError, SkippedWarning
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


def tabulate(columns: dict[str, NDArray], rows: Sequence[Row], failures: Sequence[Failed] = ()) -> Table:
    """Return the values of rows as columns after the given ones; those of the library are left out."""
    shown = [
        {name: value for name, value in row.items() if not name[1].startswith(OWN_PREFIX)} for row in rows
    ]
    named, aliases = make_columns(shown, columns)
    return Table(columns | named, aliases, failures)


def warn_skipped(failures: Sequence[Failed], total: int, *, stacklevel: int) -> None:
    """Warn of archives that were left out of a result; nothing where there are none.

    Parameters
    ----------
    failures : sequence of (str, ArchiveError)
    total : int
        Archives that were asked for.
    stacklevel : int
        As for `warnings.warn` in the caller.
    """
    if not failures:
        return
    named = "; ".join(f"{path}: {error.problem}" for path, error in failures[:SHOWN_FAILURES])
    more = len(failures) - SHOWN_FAILURES
    warnings.warn(
        f"{len(failures)} of {total} archives cannot be read and were left out: {named}"
        + (f"; and {more} more" if more > 0 else "")
        + " (`failures` has all of them)",
        SkippedWarning,
        stacklevel=stacklevel + 1,
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
