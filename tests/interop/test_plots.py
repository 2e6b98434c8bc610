"""Plots: what the Axes hold is what the run holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import MissingError
from archive.interop.plots import plot_drift, plot_history, plot_norms
from tests.report.samples import FAR, NAN, save_run

pyplot: Any = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:matplotlib")


@pytest.fixture(autouse=True)
def _no_window() -> Iterator[None]:
    pyplot.switch_backend("agg")
    yield
    pyplot.close("all")


@pytest.fixture
def store(tmp_path: Path) -> archive.CheckpointStore:
    return save_run(tmp_path / "run")


def test_history(store: archive.CheckpointStore) -> None:
    axes = plot_history(store, "loss")
    lines = axes.get_lines()
    assert len(lines) == 7
    assert (lines[0].get_xdata().tolist(), lines[0].get_ydata()[0]) == ([0, 1, 2, 3], 2.0)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("round", "loss")
    table = store.history()
    axes = plot_history(table)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["loss", "accuracy", "lr"]
    assert plot_history(table, ["loss", "accuracy"], axes=axes) is axes
    with pytest.raises(KeyError):
        plot_history(table, "no such")
    with pytest.raises(ValueError, match="no metric by round"):
        plot_history({"x": np.zeros(2)})


def test_history_of_two_runs(store: archive.CheckpointStore, tmp_path: Path) -> None:
    save_run(tmp_path / "other", rounds=1)
    axes = plot_history(archive.table(str(tmp_path / "*/rounds/*.h5")), "loss")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["other: loss", "run: loss"]


def test_norms(store: archive.CheckpointStore) -> None:
    axes = plot_norms(store)
    image = axes.get_images()[0].get_array()
    assert image.shape == (5, 4)
    assert axes.get_yticklabels()[0].get_text() == "embed.weight"
    with store.open(0) as first, store.open(3) as last:
        norms = [np.linalg.norm(handle["embed.weight"].numpy()) for handle in (first, last)]
    assert image[0, 0] == 0
    assert image[0, 3] == pytest.approx(np.log2(norms[1] / norms[0]), rel=1e-4)
    assert plot_norms(store, rounds=2).get_images()[0].get_array().shape == (5, 2)


def test_drift(store: archive.CheckpointStore) -> None:
    axes = plot_drift(store, 3)
    widths = [bar.get_width() for bar in axes.patches]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[int(np.argmax(widths))] == FAR
    assert len(plot_drift(store).patches) == 6
    assert [text.get_text() for text in plot_drift(store, 2).get_yticklabels()][1] == f"{NAN} (NaN)"
    with pytest.raises(MissingError, match="no clients"):
        plot_drift(store, 0)
    store.remove(2)
    with pytest.raises(MissingError):
        plot_drift(store, 3)
