"""Clients by layer as the page has them: one heat map a round, of a few rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from archive.report.excerpts import number, shown_name
from archive.report.metriclines import outlying
from archive.report.runfigures import RoundFigures, RunFigures

__all__ = ["layer_drift"]

_MEASURES = ("relative", "cosine", "update")


def layer_drift(run: RunFigures) -> dict[str, Any] | None:
    """Return what each client did to each layer in some rounds; None where nothing was measured so."""
    rounds = {at: figures for at, figures in run.rounds.items() if figures.layers and figures.clients}
    if not rounds:
        return None
    return {
        "rounds": list(rounds),
        "total": sum(bool(figures.clients) for figures in run.rounds.values()),
        "clients": list(map(shown_name, run.clients)),
        "of": [_of_round(figures, run.clients) for figures in rounds.values()],
    }


def _of_round(figures: RoundFigures, clients: Sequence[str]) -> dict[str, Any]:
    """Return rows of layers and columns of clients for each measure."""
    of = [figures.clients[client].layers if client in figures.clients else None for client in clients]
    places = range(len(figures.layers))
    found: dict[str, Any] = {"names": list(figures.layers)}
    for measure in _MEASURES:
        rows = [[math.nan if one is None else getattr(one, measure)[place] for one in of] for place in places]
        found[measure] = {
            "rows": [[None if math.isnan(value) else number(value, 3) for value in row] for row in rows],
            "outliers": [[place, column] for place in places for column in outlying(rows[place])],
        }
    # most have none: a place and a count each
    found["odd"] = [
        [place, column, int(one.odd[place])]
        for column, one in enumerate(of)
        if one is not None
        for place in places
        if one.odd[place]
    ]
    return found
