"""Each way of a mean that is here gives the exact one; what is wrong with a client is what the table says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scale.alternatives import as_markdown, exact_mean, find_python, main, save_clients
from benchmarks.scale.averagers import AVERAGERS, sample

LOOPS = ["fedarchive", "fedarchive, skip", "safetensors", "np.savez"]


def test_a_sample_has_both_ends() -> None:
    found = sample(np.arange(100_000))
    assert (len(found), found[0], found[-1]) == (4096, 0, 99_999)
    assert sample(np.arange(5)).tolist() == [0, 1, 2, 3, 4]


def test_the_exact_mean_is_that_of_the_files(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    save_clients(tmp_path, 3, 20 * 4 * 8)
    files = [np.load(path) for path in sorted((tmp_path / "npz").iterdir())]
    wanted = sum(
        file["layer004.weight"].astype("f8") * weight
        for file, weight in zip(files, (100, 101, 102), strict=True)
    )
    found = exact_mean(3, 20 * 4 * 8)["layer004.weight"]
    assert found.astype("f8") == pytest.approx(wanted / 303, rel=1e-14)
    for file in files:
        file.close()


def test_what_no_interpreter_has_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AVERAGERS, "other", (AVERAGERS["torch"][0], "no_such_library"))
    assert find_python("other") == ""
    assert find_python("np.savez") != ""


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "found"
    command = [
        "--shapes",
        "24x8e4",
        "--runs",
        "1",
        "--folder",
        str(tmp_path),
        "--out",
        str(out),
        "--only",
        *LOOPS,
    ]
    assert main(command) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["fedarchive", "safetensors", "np.savez"]
    assert all(row["ulps"] <= 0.5 and row["seconds"][0] > 0 and row["anon"] > 10**6 for row in rows.values())
    damaged, nan = found["bad"]["damaged"], found["bad"]["NaN"]
    assert damaged["fedarchive"] == "DigestError, names the client"
    assert nan["fedarchive"] == "ValueRangeError, names the client"
    assert damaged["fedarchive, skip"] == nan["fedarchive, skip"] == "left out: client00011.h5"
    assert damaged["safetensors"] == "a mean of it, nothing said"
    assert nan["np.savez"] == "a mean with 1 NaN, nothing said"
    assert damaged["np.savez"].startswith("BadZipFile")
    assert as_markdown(found) == out.with_suffix(".md").read_text()
