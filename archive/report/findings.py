"""What a reader should look at first: damage, NaN, clients that are far from the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from archive.display.texts import counted
from archive.report.clientfigures import ClientFigures
from archive.report.excerpts import Name, range_text, shown_name
from archive.report.metriclines import MetricLine, outlying
from archive.report.runfigures import RunFigures

__all__ = ["Finding", "find", "outlying_clients"]

MOST = 40
"""Findings of one kind that are listed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence, and the section of the page that shows more."""

    level: Literal["damage", "odd", "note"]
    section: str
    text: str


def find(run: RunFigures) -> list[Finding]:
    """Return what is found of a run, the worst first."""
    found: list[Finding] = []
    for kind in (_damage, _odd_arrays, _odd_clients, _odd_metrics, _far_clients):
        listed = list(kind(run))
        found += listed[:MOST]
        if len(listed) > MOST:
            more = listed[MOST]
            found.append(Finding(more.level, more.section, f"and {len(listed) - MOST} more of this kind"))
    return found


def _damage(run: RunFigures) -> Iterator[Finding]:
    for path, error in run.failures:
        where = path.removeprefix(run.path.rstrip("/") + "/")
        array = f", array {shown_name(error.key)}" if error.key else ""
        yield Finding("damage", "overview", f"{shown_name(where)}{array}: {shown_name(error.problem, 300)}")


def _odd_arrays(run: RunFigures) -> Iterator[Finding]:
    """Yield arrays of global models with NaN or infinities, by array."""
    rounds: dict[Name, list[int]] = {}
    for number, figures in run.rounds.items():
        for name in figures.odd:
            rounds.setdefault(name, []).append(number)
    for name, numbers in rounds.items():
        text = f"{_array(name)} of the global model has NaN or infinities in {_rounds(numbers)}"
        yield Finding("odd", "layers", text)
    if run.rounds or run.contents is None:
        return
    for array in run.contents.arrays:
        if array.moments is not None and (array.moments.nan or array.moments.inf):
            count = array.moments.nan + array.moments.inf
            text = f"{_array((array.record, array.key))} has {count:,} NaN or infinities"
            yield Finding("odd", "arrays", text)


def _odd_clients(run: RunFigures) -> Iterator[Finding]:
    rounds: dict[str, list[int]] = {}
    arrays: dict[str, dict[Name, None]] = {}
    for number, figures in run.rounds.items():
        for client, measured in figures.clients.items():
            if measured.odd:
                rounds.setdefault(client, []).append(number)
                arrays.setdefault(client, {}).update(dict.fromkeys(measured.odd))
    for client, numbers in rounds.items():
        names = ", ".join(map(_array, list(arrays[client])[:3]))
        more = len(arrays[client]) - 3
        names += f" and {more} more" if more > 0 else ""
        text = f"Client {shown_name(client)} sent NaN or infinities in {_rounds(numbers)}: {names}"
        yield Finding("odd", "clients", text)


def _odd_metrics(run: RunFigures) -> Iterator[Finding]:
    for line in run.lines:
        of_model = [number for number, value in line.model.items() if not math.isfinite(value)]
        if of_model:
            yield Finding("odd", "curves", f"{_metric(line)} is not finite in {_rounds(of_model)}")
        of_clients = {
            client: [number for number, value in values.items() if not math.isfinite(value)]
            for client, values in line.clients.items()
        }
        for client, numbers in of_clients.items():
            if numbers:
                text = f"{_metric(line)} of client {shown_name(client)} is not finite in {_rounds(numbers)}"
                yield Finding("odd", "curves", text)


def outlying_clients(run: RunFigures, figure: Callable[[ClientFigures], float]) -> dict[int, list[str]]:
    """Return by round the clients whose figure is far from that of the others."""
    found = {}
    for number, figures in run.rounds.items():
        names = list(figures.clients)
        values = [figure(measured) for measured in figures.clients.values()]
        found[number] = [names[place] for place in outlying(values)]
    return found


def _far_clients(run: RunFigures) -> Iterator[Finding]:
    """Yield clients whose updates are far from those of the others in half of their rounds."""
    measures: dict[str, Callable[[ClientFigures], float]] = {
        "size": lambda one: one.update,
        "direction": lambda one: one.cosine,
    }
    rounds: dict[str, dict[str, list[int]]] = {}
    for what, figure in measures.items():
        for number, names in outlying_clients(run, figure).items():
            for client in names:
                rounds.setdefault(client, {}).setdefault(what, []).append(number)
    for client, found in rounds.items():
        present = sum(client in figures.clients for figures in run.rounds.values())
        often = {what: numbers for what, numbers in found.items() if 2 * len(numbers) >= present}
        if often:
            told = " and ".join(f"{what} of its update in {_rounds(often[what])}" for what in often)
            if len({tuple(numbers) for numbers in often.values()}) == 1:
                told = f"{' and '.join(often)} of its update in {_rounds(next(iter(often.values())))}"
            yield Finding("note", "clients", f"Client {shown_name(client)} is an outlier by {told}")


def _rounds(numbers: Iterable[int]) -> str:
    numbers = list(numbers)
    if len(numbers) == 1:
        return f"round {numbers[0]}"
    return f"{counted(len(numbers), 'round')} ({range_text(numbers)})"


def _array(name: Name) -> str:
    return shown_name("/".join(name), 80)


def _metric(line: MetricLine) -> str:
    return shown_name("/".join(line.name), 80)
