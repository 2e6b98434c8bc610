"""The JSON of the page: names printable and cut, numbers of four digits, lists as long as they are shown."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from archive.display.texts import size
from archive.report.clientfigures import ClientFigures
from archive.report.excerpts import group_names, known, number, shown_name, spread
from archive.report.findings import find, outlying_clients
from archive.report.metriclines import MOST_VALUES, MetricLine
from archive.report.pagearrays import array_columns, value_rows
from archive.report.pagechanges import difference_rows
from archive.report.pagelayers import layer_drift
from archive.report.runfigures import RoundFigures, RunFigures

__all__ = ["MOST", "Limits", "as_json", "page_data"]


class Limits(NamedTuple):
    """How much of long lists is in the page."""

    arrays: int
    name: int
    """Characters of a name."""


MOST = (Limits(20_000, 160), Limits(20_000, 72), Limits(6_000, 160), Limits(1_000, 160), Limits(200, 100))
"""Tried in order, until the page is short enough."""
LAYERS = 150
"""Rows of the heat map of layers."""

Json = dict[str, Any]


def as_json(data: Json) -> str:
    r"""Return JSON that may stand in a script element: nothing in it ends the element or begins a comment.

    Examples
    --------
    >>> as_json({"a": "</script><!--&\u2028"})
    '{"a":"\\u003c/script\\u003e\\u003c!--\\u0026\\u2028"}'
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def page_data(runs: Sequence[RunFigures], title: str, limits: Limits) -> Json:
    """Return what the page shows."""
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return {
        "title": shown_name(title, 200),
        "made": made,
        "runs": [_run(run, limits) for run in runs],
        "metrics": _metrics(runs),
        "differences": [difference_rows(one, run.name) for run in runs for one in run.differences],
    }


def _run(run: RunFigures, limits: Limits) -> Json:
    return {
        "name": shown_name(run.name),
        "path": shown_name(run.path, 300),
        "facts": _facts(run),
        "findings": [[one.level, one.section, one.text] for one in find(run)],
        "layers": _layers(run),
        "drift": _drift(run),
        "layer_drift": layer_drift(run),
        "arrays": array_columns(run, limits.arrays, limits.name),
        "values": value_rows(run.contents),
    }


def _facts(run: RunFigures) -> list[list[str]]:
    """Return facts as pairs of label and text."""
    facts, contents = run.facts, run.contents
    found: list[tuple[str, str]] = []
    if facts is not None:
        ends = f" ({facts.rounds[0]}-{facts.rounds[-1]})" if facts.rounds else ""
        found.append(("rounds", f"{len(facts.rounds):,}{ends}"))
        found.append(("clients", f"{len(run.every_client):,}"))
        if facts.best_by is not None and facts.best is not None and facts.best_value is not None:
            label = f"best {shown_name(facts.best_by[0], 40)}, round {facts.best}"
            found.append((label, f"{facts.best_value:.4g}"))
    if contents is not None:
        elements = sum(array.elements for array in contents.arrays if array.nbytes)
        found += [
            ("arrays", f"{len(contents.arrays):,}"),
            ("elements", f"{elements:,}"),
            ("array bytes", size(sum(array.nbytes for array in contents.arrays))),
        ]
    if facts is not None:
        found.append(("on disk", size(facts.file_bytes)))
        if facts.saved is not None:
            saved = datetime.fromtimestamp(facts.saved, timezone.utc)
            found.append(("last saved (UTC)", saved.strftime("%Y-%m-%d %H:%M")))
    elif contents is not None:
        found.append(("on disk", size(contents.file_bytes)))
        found.append(("created (UTC)", shown_name(contents.created, 40)[:16].replace("T", " ")))
    return [[label, text] for label, text in found]


def _metrics(runs: Sequence[RunFigures]) -> list[Json]:
    """Return one chart a metric, with the lines of every run."""
    charts: dict[tuple[str, str], list[tuple[int, MetricLine]]] = {}
    for place, run in enumerate(runs):
        for line in run.lines:
            charts.setdefault(line.name, []).append((place, line))
    keys = [key for _, key in charts]
    points = sum(len(line.rounds()) for lines in charts.values() for _, line in lines)
    most = max(MOST_VALUES // max(points, 1), 3)
    return [
        {
            "name": shown_name(key if keys.count(key) == 1 else f"{record}/{key}"),
            "lines": [_line(line, run, most) for run, line in lines],
        }
        for (record, key), lines in charts.items()
    ]


def _line(line: MetricLine, run: int, most: int) -> Json:
    rounds = line.rounds()
    shown = spread(sorted(line.clients), most)
    lows, middles, highs = line.ranges(rounds)
    return {
        "run": run,
        "rounds": rounds,
        "model": [number(line.model.get(one)) for one in rounds],
        "clients": [
            [shown_name(client), [number(line.clients[client].get(one)) for one in rounds]]
            for client in shown
        ],
        "total": len(line.clients),
        "low": list(map(known, lows)),
        "median": list(map(known, middles)),
        "high": list(map(known, highs)),
    }


def _layers(run: RunFigures) -> Json | None:
    """Return the norms of layers by round."""
    names = list(dict.fromkeys(name for figures in run.rounds.values() for name in figures.norms))
    if not names:
        return None
    labels, places = group_names(names, LAYERS)
    norms: list[list[Any]] = [[] for _ in labels]
    odd: list[list[int]] = [[] for _ in labels]
    for figures in run.rounds.values():
        squares: list[float | None] = [None] * len(labels)
        counts = [0] * len(labels)
        for name, place in zip(names, places, strict=True):
            norm = figures.norms.get(name, math.nan)
            if not math.isnan(norm):
                squares[place] = math.hypot(squares[place] or 0.0, norm)
            counts[place] += figures.odd.get(name, 0)
        for place, norm_or_none in enumerate(squares):
            norms[place].append(number(norm_or_none))
            odd[place].append(counts[place])
    total = len(run.facts.rounds) if run.facts else len(run.rounds)
    return {"rounds": list(run.rounds), "total": total, "names": labels, "norms": norms, "odd": odd}


_MEASURES = (
    ("update", "Size of the update", lambda one: one.update),
    ("relative", "Size of the update, relative to the model", lambda one: one.relative),
    ("cosine", "Cosine with the step of the global model", lambda one: one.cosine),
    ("sent", "Norm of what was sent", lambda one: one.sent),
    ("odd", "NaN and infinities sent", lambda one: float(sum(one.odd.values()))),
)


def _drift(run: RunFigures) -> Json | None:
    """Return the figures of clients by round."""
    rounds = {at: figures for at, figures in run.rounds.items() if figures.clients}
    if not rounds:
        return None
    measures = []
    for key, label, figure in _MEASURES:
        rows = [
            [_figure(found.clients.get(client), figure) for found in rounds.values()]
            for client in run.clients
        ]
        if all(value is None for row in rows for value in row):
            continue
        far = outlying_clients(run, figure) if key != "odd" else {}
        marked = [
            [row, column]
            for row, client in enumerate(run.clients)
            for column, one in enumerate(rounds)
            if client in far.get(one, ())
        ]
        measures.append({"key": key, "label": label, "rows": rows, "outliers": marked})
    return {
        "rounds": list(rounds),
        "clients": list(map(shown_name, run.clients)),
        "total": len(run.every_client),
        "measures": measures,
        "odd": [[_odd(found, client) for found in rounds.values()] for client in run.clients],
        "baseless": [at for at, figures in rounds.items() if not figures.base],
    }


def _odd(found: RoundFigures, client: str) -> int:
    measured = found.clients.get(client)
    return 0 if measured is None else sum(measured.odd.values())


def _figure(measured: ClientFigures | None, figure: Any) -> float | str | None:
    return None if measured is None else known(figure(measured))
