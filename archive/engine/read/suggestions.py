"""What a caller may have meant by a key that no array has: for the texts of errors."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Container, Iterable, Mapping

__all__ = ["hint", "suggestion"]

_COMPARED = 100_000
"""Keys that are compared with a key that is not there."""


def suggestion(name: object, names: Iterable[str]) -> str:
    """Return similar names for the text of an error; the first 100,000 are compared.

    Examples
    --------
    >>> suggestion("fc.wieght", ["fc.weight", "fc.bias"])
    "; did you mean 'fc.weight'?"
    """
    known = dict.fromkeys(itertools.islice(names, _COMPARED))
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def hint(key: object, records: Mapping[str, str], arrays: Container[object]) -> str:
    """Return what to write for a key that names a record, or a record and a key after a slash.

    Parameters
    ----------
    key : object
        What was asked for.
    records : mapping
        What to write for each record, by its name.
    arrays : container of (record, key)

    Examples
    --------
    >>> hint("model", {"model": "saved.records['model']"}, [])
    "; 'model' is a record: saved.records['model']"
    >>> hint("model/w", {"model": "saved.records['model']"}, [("model", "w")])
    "; did you mean ['model', 'w']?"
    """
    if not isinstance(key, str):
        return ""
    if key in records:
        return f"; {key!r} is a record: {records[key]}"
    pairs = [(record, key[len(record) + 1 :]) for record in records if key.startswith(f"{record}/")]
    return next((f"; did you mean {list(pair)}?" for pair in pairs if pair in arrays), "")
