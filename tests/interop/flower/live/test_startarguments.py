"""A strategy whose ``start`` hides Flower's parameters, or has some of its own, is resumed like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archive.interop.flower import Resumable, Streaming
from tests.interop.flower.live.grid import InProcessGrid
from tests.interop.flower.live.messageruns import app, client_app, initial_arrays, known

CONFIG = {"lr": 0.5}


class Hiding(known.FedAvg):
    def start(self, *args: Any, **kwargs: Any) -> Any:
        return super().start(*args, **kwargs)


class Renaming(known.FedAvg):
    def start(self, grid: Any, initial_arrays: Any, num_rounds: int = 2, *rest: Any, note: str = "") -> Any:
        assert note == "mine"
        return super().start(grid, initial_arrays, num_rounds, *rest)


class Naming(known.FedAvg):
    def start(self, note: str, grid: Any, initial_arrays: Any, num_rounds: int = 2, **rest: Any) -> Any:
        assert note == "mine"
        return super().start(grid, initial_arrays, num_rounds, **rest)


class Knowing(known.FedAvg):
    def start(self, grid: Any, initial_arrays: Any, **rest: Any) -> Any:
        return super().start(grid, initial_arrays, num_rounds=5, **rest)


def calls(strategy: Any, grid: Any, rounds: int, evaluate: Any) -> Any:
    """Call each ``start`` in the ways that it allows."""
    first, config = (grid, initial_arrays()), app.ConfigRecord(CONFIG)
    if isinstance(strategy, Renaming):
        return strategy.start(*first, rounds, 60.0, config, None, evaluate, note="mine")
    if isinstance(strategy, Naming):
        return strategy.start("mine", *first, rounds, train_config=config, evaluate_fn=evaluate)
    if rounds % 2:
        return strategy.start(*first, rounds, 60.0, config, None, evaluate)
    named = dict(zip(("grid", "initial_arrays"), first, strict=True))
    return strategy.start(**named, num_rounds=rounds, train_config=config, evaluate_fn=evaluate)


def run(strategy: Any, rounds: int, evaluated: list[int], url: Path | str = "") -> dict[str, Any]:
    """Return everything that a run results in, and count the rounds that the server evaluates."""

    def evaluate(number: int, arrays: Any) -> Any:
        evaluated.append(number)
        return app.MetricRecord({"sum": sum(float(a.sum()) for a in arrays.to_numpy_ndarrays())})

    result = calls(strategy, InProcessGrid(client_app(url), 2, rounds), rounds, evaluate)
    return {
        "arrays": {key: array.data for key, array in result.arrays.items()},
        "train": {number: dict(found) for number, found in result.train_metrics_clientapp.items()},
        "server": {number: dict(found) for number, found in result.evaluate_metrics_serverapp.items()},
    }


@pytest.mark.parametrize("kind", [Hiding, Renaming, Naming])
@pytest.mark.parametrize("streamed", [False, True])
def test_goes_on_as_if_it_had_never_ended(kind: Any, streamed: bool, tmp_path: Path) -> None:
    url = tmp_path / "run"

    def made() -> Any:
        return Streaming(kind(), tmp_path / "sums") if streamed else kind()

    whole = run(made(), 4, [])
    evaluated: list[list[int]] = [[], [], []]
    run(Resumable(made(), url), 1, evaluated[0], url)
    run(Resumable(made(), url), 3, evaluated[1], url)
    assert run(Resumable(made(), url), 4, evaluated[2], url) == whole
    assert evaluated == [[0, 1], [2, 3], [4]]
    assert whole["train"][1]["lr"] == CONFIG["lr"]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_number_of_rounds_that_nobody_tells_is_refused(streamed: bool, tmp_path: Path) -> None:
    """Resumable would take Flower's 3 for the end of the run, and this strategy trains 5."""
    inner: Any = Streaming(Knowing(), tmp_path / "sums") if streamed else Knowing()
    strategy = Resumable(inner, tmp_path / "run")
    with pytest.raises(TypeError, match=r"start was not given num_rounds.*add such a parameter to start"):
        strategy.start(InProcessGrid(client_app(), 2), initial_arrays())
    with pytest.raises(TypeError, match="initial_arrays"):
        strategy.start(InProcessGrid(client_app(), 2))
    assert not (tmp_path / "run/default/rounds").exists()
