"""Servers of the old API: their lock, the app that they belong to, and clients that come late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archive.checkpoints.writerlock import WriterLock
from archive.interop.flower.strategystate import SchemaError
from tests.interop.flower.live import legacyruns
from tests.interop.flower.live.grid import InProcessGrid
from tests.interop.flower.live.legacyruns import registered, server

nodes: Any = pytest.importorskip("flwr.server.compat.app_utils")
NAME = "FedAvgM of a sample"


def test_another_app_is_an_error(tmp_path: Path) -> None:
    def start(fab_id: str, rounds: int) -> None:
        stops = []

        def watched(grid: InProcessGrid) -> Any:
            grid.run.fab_id = fab_id
            manager = server.SimpleClientManager()
            thread, stop, registered = nodes.start_update_client_manager_thread(grid, manager)
            stops.append((stop, thread))
            registered.wait()
            return manager

        try:
            legacyruns.run(NAME, str(tmp_path), rounds, rounds, manager_of=watched)
        finally:
            for stop, thread in stops:
                stop.set()
                thread.join()

    start("us/first", 1)
    with pytest.raises(SchemaError, match=r"whose name is 'first', and this app's is 'second'"):
        start("us/second", 1)


def test_an_app_whose_nodes_come_late_is_compared_before_it_trains(tmp_path: Path) -> None:
    trained: list[int] = []

    def start(fab_id: str, rounds: int) -> None:
        def late(grid: InProcessGrid) -> Any:
            grid.run.fab_id = fab_id
            return _Late(grid)

        def trap(partition: int, message: Any) -> None:
            trained.append(rounds)

        legacyruns.run(NAME, str(tmp_path), rounds, rounds, trap, manager_of=late)

    start("us/first", 1)
    with pytest.raises(SchemaError, match=r"'second'"):
        start("us/second", 2)
    assert set(trained) == {1}


def test_the_run_is_free_after_a_server_that_has_nothing_to_do_or_fails_to_start(tmp_path: Path) -> None:
    legacyruns.run(NAME, str(tmp_path), 2, 1)
    legacyruns.run(NAME, str(tmp_path), 2, 2)
    with WriterLock(tmp_path / "default"):
        pass
    with pytest.raises(SchemaError, match="FedAvgM"):
        legacyruns.run("FedAdam", str(tmp_path), 3, 3)
    with WriterLock(tmp_path / "default"):
        pass


class _Late(server.SimpleClientManager):  # flwr is imported as Any
    """A manager whose nodes come while the server waits for them, the last first."""

    def __init__(self, grid: InProcessGrid) -> None:
        super().__init__()
        self._grid: InProcessGrid | None = grid

    def wait_for(self, num_clients: int, timeout: int = 86400) -> bool:
        if self._grid is not None:
            self._grid.ids.reverse()
            registered(self._grid, self)
            self._grid.ids.reverse()
            self._grid = None
        return bool(super().wait_for(num_clients, timeout))


def test_clients_that_come_late_are_selected_by_name_too(tmp_path: Path) -> None:
    found = [
        legacyruns.run(NAME, str(tmp_path / str(n)), 2, n, manager_of=kind, deterministic=True)
        for n, kind in enumerate((None, _Late))
    ]
    assert found[0]["arrays"] == found[1]["arrays"]


class _Joining(server.SimpleClientManager):  # flwr is imported as Any
    """A manager that gets two more nodes just before the first selection, as from Flower's thread."""

    def __init__(self, grid: InProcessGrid) -> None:
        super().__init__()
        self._grid = grid
        self._ids, grid.ids = grid.ids, grid.ids[2:]
        registered(grid, self)

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        if self._grid.ids is not self._ids:
            self._grid.ids = self._ids
            self.clients = {**registered(self._grid).clients}
        return super().sample(*args, **kwargs)


def test_a_client_that_is_selected_without_a_name_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "flwr")
    legacyruns.run(NAME, str(tmp_path), 1, 1, manager_of=_Joining, deterministic=2)  # the seed selects one
    assert "nodes did not tell their names" in caplog.text


def test_all_nodes_are_asked_for_their_names_at_once(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Counting(InProcessGrid):
        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Any]:
            sent = list(messages)
            sizes.append(len(sent))
            return super().send_and_receive(sent, timeout=timeout)

    def counting(grid: InProcessGrid) -> Any:
        grid.__class__ = Counting
        return registered(grid)

    legacyruns.run(NAME, str(tmp_path), 1, 1, manager_of=counting, deterministic=True)
    assert sizes[0] == legacyruns.NODES
    assert set(sizes[1:]) == {1}
