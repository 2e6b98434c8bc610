"""Tables, goals and a real run of cells in processes of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.commands import COMMANDS, run_commands
from benchmarks.edits import EDITS, run_edits
from benchmarks.goals import GOALS, Goal, outcomes, ratio
from benchmarks.looks import LOOKS, run_looks
from benchmarks.operations import OPERATIONS, WAYS
from benchmarks.peers import PEERS
from benchmarks.peers.ways import BEST
from benchmarks.report import table
from benchmarks.runner import Result
from benchmarks.shapes import GROWTH, SHAPES
from benchmarks.tables import edit_rows, goal_rows, look_rows, markdown, summary_rows, way_rows

ENDS = (GROWTH[0], GROWTH[-1])


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
    lines = table(rows, 10**9)
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


def test_summary_names_the_best_peer_and_the_ceiling() -> None:
    rows = [
        row("fedarchive", 0.3, 0.3),
        row("fedarchive again", 0.1),
        row("h5py", 0.6, 0.6),
        row("torch", 0.9),
        row("np.savez", skipped="not here"),
        row("raw pwrite/pread", 0.2, 0.2),
    ]
    _, found = summary_rows(rows)
    assert found == [
        "20,000 arrays, 81.9 MB: save",
        "300 ms",
        "100 ms",
        "",
        "h5py, 600 ms",
        "0.50",
        "raw pwrite/pread, 200 ms",
        "1.50",
        "2.0 MB",
    ]
    assert markdown([["", "a"], ["b", "1"]]) == ["|  | a |", "|---|---|", "| b | 1 |"]
    assert markdown([["a[b][c]"], ["1"]])[0] == "| a[b]\\[c] |", "no link"


def test_every_way_is_beside_the_best() -> None:
    rows = [
        Result("small", "ways-read", "load", [0.1, 0.1], 2_000_000),
        Result("small", "ways-read", "a.drain()", [0.15, 0.15]),
        Result("small", "ways-one", "a[record, key]", [0.15, 0.15]),
    ]
    assert [cells[:3] for cells in way_rows(rows)[1:]] == [
        ["read: load", "100 ms", ""],
        ["read: a.drain()", "150 ms", "1.50"],
        ["one: a[record, key]", "150 ms", ""],
    ]
    there = {(operation, name) for name, way in PEERS.items() for operation in way.operations & set(WAYS)}
    judged = {(goal.operation, goal.subject) for goal in GOALS if goal.operation in WAYS}
    assert there == judged | set(BEST.items())
    assert not judged & set(BEST.items())


def test_goals_are_of_cells_that_exist() -> None:
    for goal in GOALS:
        peers = (goal.subject, *goal.peers)
        if goal.shape == "commands":
            assert set(peers) <= set(COMMANDS)
        elif goal.shape == "edits":
            assert set(peers) <= set(EDITS)
        elif goal.shape == "looks":
            assert set(peers) <= set(LOOKS)
        else:
            assert goal.shape in SHAPES
            assert all(goal.operation in OPERATIONS and goal.operation in PEERS[p].operations for p in peers)


def test_a_missed_goal_is_said() -> None:
    rows = [row("fedarchive", 0.3), row("safetensors.numpy", 0.1), row("h5py", 0.2)]
    goal = Goal("save", "small", ("h5py", "safetensors.numpy"), 1.5)
    (outcome,) = outcomes(rows, [goal])
    assert (outcome.against, outcome.met) == ("safetensors.numpy", False)
    assert outcome.figure == pytest.approx(3)
    said = [*goal_rows([outcome])[1]]
    assert said == ["save small: fedarchive / safetensors.numpy", "3.00", "1.50", "MISSED by 100%"]
    (unmeasured,) = outcomes(rows[1:], [goal])
    assert not unmeasured.met
    assert goal_rows([unmeasured])[1][-1] == "not measured"


def test_goals_of_growth_time_and_memory() -> None:
    few = Result(ENDS[0], "load", "fedarchive", [0.001], arrays=10**3)
    many = Result(ENDS[1], "load", "fedarchive", [3], 3_000_000, arrays=10**6)
    growth = Goal("load", ENDS[1], (), 2.0, figure="growth")
    seconds = Goal("load", ENDS[1], (), 4.0, figure="seconds")
    memory = Goal("load", ENDS[1], (), 2e6, figure="bytes")
    found = outcomes([few, many], [growth, seconds, memory])
    assert [(pytest.approx(outcome.figure), outcome.met) for outcome in found] == [
        (3.0, False),
        (3.0, True),
        (3e6, False),
    ]
    assert [line[-1] for line in goal_rows(found)[1:]] == ["MISSED by 50%", "met", "MISSED by 50%"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found"
    command = ["--folder", str(tmp_path), "--out", str(out), "--parts", "shapes", "--shapes", "smoke"]
    names = ["fedarchive", "raw pwrite/pread"]
    assert main([*command, "--runs", "2", "--operations", "save", "--peers", *names]) == 0
    assert "save, left to the system" in capsys.readouterr().out
    assert main([*command, "--runs", "2", "--operations", "drain", "--peers", names[0], "--add"]) == 0
    cells = json.loads(out.with_suffix(".json").read_text())["cells"]
    assert [(cell["operation"], cell["peer"]) for cell in cells] == [
        ("save", "fedarchive"),
        ("save", "raw pwrite/pread"),
        ("drain", "fedarchive"),
    ]
    assert all(len(cell["seconds"]) == 2 and not cell["skipped"] and cell["arrays"] == 4 for cell in cells)
    assert "| 4 arrays, 6.9 KB: drain |" in out.with_suffix(".md").read_text()
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".md", ".png"}


def test_a_cold_run_reads_the_disk(tmp_path: Path) -> None:
    command = ["--cold", "--shapes", "smoke", "--peers", "fedarchive", "--operations", "save", "load"]
    assert main([*command, "--runs", "1", "--folder", str(tmp_path), "--out", str(tmp_path / "cold")]) == 0
    found = json.loads((tmp_path / "cold.json").read_text())
    assert [(cell["operation"], len(cell["seconds"])) for cell in found["cells"]] == [("load", 1)]


def test_edits_are_measured_beside_cp(tmp_path: Path) -> None:
    rows = run_edits(1, tmp_path, 1 << 16)
    assert [(row.peer, len(row.seconds)) for row in rows] == [(name, 1) for name in EDITS]
    assert [row[0] for row in edit_rows(rows)[1:]] == list(EDITS)
    assert list(tmp_path.iterdir()) == []


def test_looks_are_measured_beside_loading(tmp_path: Path) -> None:
    rows = run_looks(1, tmp_path, 1 << 16)
    assert [(row.peer, len(row.seconds)) for row in rows] == [(name, 1) for name in LOOKS]
    assert [row.peak_bytes > 1 << 20 for row in rows] == [False, True, True, False]
    assert [row[0] for row in look_rows(rows)[1:]] == list(LOOKS)
    assert list(tmp_path.iterdir()) == []


def test_commands_are_processes_of_their_own(tmp_path: Path) -> None:
    rows = run_commands(1, tmp_path)
    assert [(row.operation, row.peer) for row in rows] == [(c, n) for n in COMMANDS for c in ("cpu", "wall")]
    assert all(0.01 < row.seconds[0] < 60 for row in rows)
    assert list(tmp_path.iterdir()) == []
