"""Whose an archive of a store is: the columns ``run``, ``round`` and ``client`` of tables of archives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archive.dtypes import NDArray
from archive.tools.columns import Row, make_column
from archive.tools.spelling import CHECKPOINT, is_spelled, parse_client, parse_round, unspell
from archive.tools.tabulation import texts

__all__ = ["NOBODY", "Provenance", "provenance_columns", "provenance_of"]

_WRITE_DIGITS = 16
"""Hex digits that keep files of one client apart; those of a shortened name are more."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an archive comes from; None where it does not say."""

    run: str | None = None
    """Name of the folder of its run."""
    round: int | None = None
    """Number of its round."""
    client: str | None = None
    """Name of its client; None for the file of a round."""


NOBODY = Provenance()
"""That of an archive of no store."""
_ROUND, _CLIENT, _NODE = (("configs", CHECKPOINT, key) for key in ("round", "client", "node"))


def provenance_of(path: str, row: Row | None) -> Provenance:
    """Return whose an archive is.

    Parameters
    ----------
    path : str
        Absolute path or URL. It names the run.
    row : Row or None
        The values of the archive, which say round and client. None: it cannot be read, and the path says
        what it can.

    Examples
    --------
    >>> provenance_of("/runs/adam/rounds/00000003/K=c3=b6ln.h5", None)
    Provenance(run='adam', round=3, client='Köln')
    >>> provenance_of("/runs/adam/rounds/00000003.h5", {("configs", "fedarchive.checkpoint", "round"): 3})
    Provenance(run='adam', round=3, client=None)
    >>> provenance_of("/runs/adam/rounds/00000003.h5", {})
    Provenance(run=None, round=None, client=None)
    """
    if row is None:
        return _by_path(path)
    number, client = row.get(_ROUND), row.get(_CLIENT)
    if number is None and client is None and row.get(_NODE) is None:
        return NOBODY
    return Provenance(
        _by_path(path).run,
        number if type(number) is int else None,
        unspell(client) if isinstance(client, str) and is_spelled(client) else None,
    )


def provenance_columns(found: Sequence[Provenance]) -> dict[str, NDArray]:
    """Return the columns ``run``, ``round`` and ``client``, those of them that any archive has.

    Examples
    --------
    >>> provenance_columns([Provenance("adam", 3), Provenance("adam", 4)])
    {'run': array(['adam', 'adam'], dtype=object), 'round': array([3, 4])}
    """
    columns = {
        "run": texts([one.run for one in found]),
        "round": make_column([one.round for one in found]),
        "client": texts([one.client for one in found]),
    }
    return {name: column for name, column in columns.items() if any(value is not None for value in column)}


def _by_path(path: str) -> Provenance:
    """Return what the path of a file of a store says."""
    for folder in ("/rounds/", "/contexts/"):
        above, _, below = path.rpartition(folder)
        run = above.rpartition("/")[2] or None
        if not below.endswith(".h5") or not above or below.count("/") > 1:
            continue
        if folder == "/contexts/":
            return Provenance(run)
        number, client = parse_round(below), parse_client(below)
        if number is not None:
            return Provenance(run, number)
        if client is not None:
            return Provenance(run, client[0], _client_of(client[1]))
    return Provenance()


def _client_of(stem: str) -> str | None:
    """Return the client that the name of a file says; None where the name was shortened."""
    spelled, marked, write = stem.rpartition("==")
    if not marked:
        spelled = stem
    elif len(write) != _WRITE_DIGITS:
        return None
    return unspell(spelled) if is_spelled(spelled) else None
