"""Tables, goals and a real run of cells in processes of their own."""

from __future__ import annotations

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.goals import GOALS, Goal, outcomes, ratio
from benchmarks.operations import OPERATIONS
from benchmarks.peers import PEERS
from benchmarks.report import goal_lines, table
from benchmarks.runner import Result
from benchmarks.shapes import SHAPES


def row(peer: str, *seconds: float, skipped: str = "") -> Result:
    return Result("small", "save", peer, list(seconds), 2_000_000, skipped)


def test_ratio_is_of_neighbouring_runs() -> None:
    # Both slowed down together in the third run: the ratio of medians would not see that it is the same.
    assert ratio(row("fedarchive", 1, 2, 30), row("h5py", 2, 4, 60)) == 0.5


def test_table_orders_rows_and_names_losses() -> None:
    rows = [
        row("raw pwrite/pread", 0.1, 0.1),
        row("h5py", 4.0, 4.0),
        row("fedarchive", 0.2, 0.4),
        row("safetensors.numpy", 0.2, 0.2),
        row("zarr", skipped="not here"),
    ]
    lines = table(rows, 10**9).splitlines()
    assert [line.split("  ")[2].strip() for line in lines[2:]] == [
        "safetensors.numpy",
        "fedarchive",
        "h5py",
        "raw pwrite/pread",
        "zarr: not here",
    ]
    assert "1.50" in lines[2]
    assert lines[2].endswith("faster than we are")
    assert lines[5].endswith("ceiling")


def test_goals_are_of_cells_that_exist() -> None:
    for goal in GOALS:
        assert goal.shape in SHAPES
        assert goal.operation in OPERATIONS
        for peer in (goal.subject, *goal.peers):
            assert goal.operation in PEERS[peer].operations


def test_a_missed_goal_is_said() -> None:
    rows = [row("fedarchive", 0.3), row("safetensors.numpy", 0.1), row("h5py", 0.2)]
    goal = Goal("save", "small", ("h5py", "safetensors.numpy"), 1.5, "A")
    (outcome,) = outcomes(rows, [goal])
    assert (outcome.peer, outcome.met) == ("safetensors.numpy", False)
    assert outcome.ratio == pytest.approx(3)
    assert any("MISSED by 100%" in line for line in goal_lines(rows))


def test_the_command(tmp_path, capsys) -> None:
    found = tmp_path / "found.json"
    names = ["fedarchive", "np.savez", "raw pwrite/pread", "np.memmap"]
    command = ["--shapes", "smoke", "--operations", "save", "map-touched", "--peers", *names, "--runs", "2"]
    assert main([*command, "--cold", "--folder", str(tmp_path), "--json", str(found)]) == 0
    assert "save, left to the system" in capsys.readouterr().out
    cells = json.loads(found.read_text())["cells"]
    assert [(cell["operation"], cell["peer"]) for cell in cells] == [
        ("save", "fedarchive"),
        ("save", "np.savez"),
        ("save", "raw pwrite/pread"),
        ("map-touched", "fedarchive"),
        ("map-touched", "np.memmap"),
    ]
    assert all(len(cell["seconds"]) == 2 and not cell["skipped"] for cell in cells)
    assert list(tmp_path.iterdir()) == [found]
