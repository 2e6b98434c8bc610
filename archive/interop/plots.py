"""Plots for notebooks: one call each, which returns the Axes of matplotlib (the extra ``plot``).

Examples
--------
>>> import archive, numpy as np, shutil
>>> from archive.interop.plots import plot_history
>>> shutil.rmtree("/tmp/fedarchive-doctest-plots", ignore_errors=True)
>>> store = archive.CheckpointStore("/tmp/fedarchive-doctest-plots")
>>> for number in (1, 2):
...     _ = store.save({"w": np.full(3, number)}, number, metrics={"loss": 1 / number})
>>> axes = plot_history(store, "loss")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from archive.checkpoints.store import CheckpointStore
from archive.dtypes import NDArray
from archive.report.excerpts import Name, group_names, shown_name, spread
from archive.tools.arraystats import measure_archive

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_drift", "plot_history", "plot_norms"]

LAYERS = 40
"""Rows of a heat map."""
_FACTS = {"round", "kept", "created", "file_bytes", "arrays"}
"""Columns of a table that are no metrics."""


def plot_history(
    history: Mapping[str, NDArray] | CheckpointStore,
    metrics: str | Iterable[str] | None = None,
    *,
    axes: Axes | None = None,
) -> Axes:
    """Draw metrics by round: a line for each metric and run, and a thin one for each client.

    Parameters
    ----------
    history : mapping of columns or CheckpointStore
        What `CheckpointStore.history` or `archive.table` returned, of one run or several, with clients or
        without; or a store, whose rounds and clients are read.
    metrics : str or iterable of str, optional
        Columns; all columns of numbers if not given.
    axes : matplotlib.axes.Axes, optional
        Where to draw; new ones if not given.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    KeyError
        There is no such column.
    ValueError
        Nothing has a round and a number.
    ImportError
        matplotlib is not installed.
    """
    table = history.history(clients=True) if isinstance(history, CheckpointStore) else history
    names = [metrics] if isinstance(metrics, str) else list(metrics or _number_columns(table))
    if not names or "round" not in table:
        raise ValueError("no metric by round is here: pass what history() or table() returned")
    axes = _axes(axes)
    rounds = np.asarray(table["round"], np.float64)
    runs, clients = (_texts(table, column) for column in ("run", "client"))
    lines = [(name, run) for name in names for run in dict.fromkeys(runs.tolist())]
    for place, (name, run) in enumerate(lines):
        values = np.asarray(table[name], np.float64)
        label = shown_name(name if len(set(runs)) == 1 else f"{run}: {name}", 60)
        for client in dict.fromkeys(clients[runs == run].tolist()):
            chosen = (runs == run) & (clients == client)
            thin = (
                {"linewidth": 0.8, "alpha": 0.45}
                if client
                else {"linewidth": 2.2, "zorder": 3, "label": label}
            )
            _line(axes, rounds[chosen], values[chosen], color=f"C{place % 10}", **thin)
    axes.set_xlabel("round")
    if len(lines) == 1:
        axes.set_ylabel(shown_name(names[0], 60))
    elif axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize="small")
    return axes


def plot_norms(store: CheckpointStore, *, rounds: int = 50, axes: Axes | None = None) -> Axes:
    """Draw the norm of each layer by round as a heat map, relative to its first that is not 0.

    Parameters
    ----------
    store : CheckpointStore
    rounds : int, default 50
        At most so many rounds are read, at even distances.
    axes : matplotlib.axes.Axes, optional
        Where to draw; new ones if not given.

    Returns
    -------
    matplotlib.axes.Axes
        Of more than 40 arrays, those whose names begin alike are one row.

    Raises
    ------
    ArchiveError
        A round is damaged.
    ValueError
        There is no round, or no array of numbers.
    ImportError
        matplotlib is not installed.
    """
    axes = _axes(axes)
    numbers = spread(store.rounds(), rounds)
    columns = [_norms(store, number) for number in numbers]
    names = list(dict.fromkeys(name for column in columns for name in column))
    if not names:
        raise ValueError("there is no round with an array of numbers")
    labels, places = group_names(names, LAYERS)
    squares = np.zeros((len(labels), len(numbers)))
    for place, name in zip(places, names, strict=True):
        squares[place] += [column.get(name, np.nan) ** 2 for column in columns]
    firsts = [next((value for value in row if value > 0), np.nan) for row in squares]
    with np.errstate(divide="ignore"):
        away = np.log2(squares / np.array(firsts)[:, None]) / 2
    finite = np.abs(away[np.isfinite(away)])
    far = float(np.quantile(finite, 0.97)) if len(finite) else 1.0
    image = axes.imshow(away, aspect="auto", cmap="PuOr_r", vmin=-(far or 1.0), vmax=far or 1.0)
    axes.set_yticks(range(len(labels)), labels, fontsize="x-small")
    _ticks(axes, numbers)
    axes.figure.colorbar(image, ax=axes, label="norm relative to the first, log2")
    return axes


def plot_drift(
    store: CheckpointStore,
    round: int | Literal["latest"] = "latest",  # noqa: A002 the word of the field
    *,
    axes: Axes | None = None,
) -> Axes:
    """Draw how far each client of a round went, and whether the global model went there.

    Parameters
    ----------
    store : CheckpointStore
    round : int or "latest", default "latest"
        The round before it must be there too: clients started from it.
    axes : matplotlib.axes.Axes, optional
        Where to draw; new ones if not given.

    Returns
    -------
    matplotlib.axes.Axes
        What `CheckpointStore.updates` calls drift: a bar a client, as long as the norm of its update, whose
        colour is the cosine of the update with the step of the global model.

    Raises
    ------
    MissingError
        One of the two rounds is not there, or the round has no clients.
    ArchiveError
        A file is damaged.
    ImportError
        matplotlib is not installed.
    """
    axes = _axes(axes)
    number = round if isinstance(round, int) else max(store.rounds(), default=0)
    drift = store.updates(number).drift()
    colours = importlib.import_module("matplotlib").colormaps["PuOr"]
    shades = colours((drift["cosine"] + 1) / 2)
    places = range(len(drift["client"]))
    axes.barh(places, drift["norm"], color=shades, edgecolor="0.4", linewidth=0.6)
    axes.set_yticks(places, list(map(_client_label, drift["client"], drift["norm"])), fontsize="x-small")
    axes.invert_yaxis()
    axes.set_xlabel(f"norm of the update, round {number}")
    scale = importlib.import_module("matplotlib.cm").ScalarMappable(cmap=colours)
    scale.set_clim(-1, 1)
    axes.figure.colorbar(scale, ax=axes, label="cosine with the step of the global model")
    return axes


def _client_label(client: str, norm: float) -> str:
    """Return the name of a client; one that sent NaN has no bar."""
    return shown_name(client, 40) + (" (NaN)" if np.isnan(norm) else "")


def _axes(axes: Axes | None) -> Axes:
    if axes is not None:
        return axes
    try:
        plots = importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise ImportError(
            "plots need matplotlib: pip install 'fedarchive[plot]'", name="matplotlib"
        ) from error
    return plots.subplots(layout="constrained")[1]


def _number_columns(table: Mapping[str, NDArray]) -> list[str]:
    return [name for name, column in table.items() if column.dtype.kind in "iuf" and name not in _FACTS]


def _texts(table: Mapping[str, NDArray], name: str) -> NDArray:
    """Return a column of texts; empty ones where it has none."""
    rows = len(table["round"])
    found: NDArray = np.array([text or "" for text in table[name]] if name in table else [""] * rows, object)
    return found


def _line(axes: Axes, rounds: NDArray, values: NDArray, **how: Any) -> None:
    there = ~(np.isnan(rounds) | np.isnan(values))
    if there.any():
        order = np.argsort(rounds[there], kind="stable")
        mark = {"marker": "o", "markersize": 4} if there.sum() == 1 else {}
        axes.plot(rounds[there][order], values[there][order], **how, **mark)


def _norms(store: CheckpointStore, number: int) -> dict[Name, float]:
    with store.open(number) as handle:
        arrays = measure_archive(handle).arrays
    return {
        (one.record, one.key): one.moments.norm
        for one in arrays
        if one is not None and one.moments is not None
    }


def _ticks(axes: Axes, numbers: Sequence[int]) -> None:
    shown = range(0, len(numbers), -(-len(numbers) // 12))
    axes.set_xticks(shown, [str(numbers[place]) for place in shown])
    axes.set_xlabel("round")
