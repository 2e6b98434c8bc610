"""What FL4Health's own checkpointers lose, and ours keep: SCAFFOLD's control variates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fl4health")

from fl4health.checkpointing.state_checkpointer import ClientStateCheckpointer, ServerStateCheckpointer

from tests.fl4health.live.killing import Makers, ours, run


def theirs(folder: Path) -> Makers:
    return lambda _: ServerStateCheckpointer(folder), lambda _: ClientStateCheckpointer(folder)


def resumed(folder: Path, makers: Makers) -> Any:
    run("scaffold", folder, makers, kill_in=3)
    return run("scaffold", folder, makers, seed=1000)


def test_theirs_go_on_as_plain_fedavg_and_ours_with_the_variates(tmp_path: Path) -> None:
    whole = run("scaffold", tmp_path / "whole", ours(str(tmp_path / "whole/run")))
    assert whole is not None
    assert len(whole["server"]["parameters"]) == 8  # four weights and their control variates
    lost = resumed(tmp_path / "theirs", theirs(tmp_path / "theirs"))
    assert len(lost["server"]["parameters"]) == 4
    assert lost["north"]["variates"] == []
    kept = resumed(tmp_path / "ours", ours(str(tmp_path / "ours/run")))
    assert kept["server"]["parameters"] == whole["server"]["parameters"]
    assert kept["north"]["variates"] == whole["north"]["variates"]
