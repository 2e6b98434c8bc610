"""The scripts of examples/ do what they say, and the notebook runs from its first cell to its last.

The apps are run by tests/flower and tests/fl4health.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import archive
from tests.children import child_environment

if TYPE_CHECKING:
    from tests.servers.s3 import S3Server

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOK = EXAMPLES / "analyst.ipynb"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "ipykernel"):
        pytest.importorskip(name, reason="needs matplotlib, nbclient and ipykernel")
    nbclient: Any = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    nbformat: Any = pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    notebook = nbformat.read(NOTEBOOK, 4)
    saved = [kinds_of(cell) for cell in notebook.cells]
    made = nbclient.NotebookClient(notebook, timeout=110, resources={"metadata": {"path": str(tmp_path)}})
    made.execute()
    assert [kinds_of(cell) for cell in notebook.cells] == saved
    assert sum("image/png" in kinds for kinds in saved) == 3
    assert not any("error" in kinds or "stderr" in kinds for kinds in saved)


def kinds_of(cell: Any) -> list[str]:
    """Return what kinds of output a cell has."""
    outputs = cell.get("outputs", [])
    return sorted(kind for one in outputs for kind in one.get("data") or [one.get("name", one.output_type)])


def run_example(name: str, *arguments: str, folder: Path, **environment: str) -> list[str]:
    """Run a script of examples/ and return the lines that it prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=folder,
        env=child_environment(**environment),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_one_layer_is_streamed_from_s3(server: S3Server, tmp_path: Path) -> None:
    url = "s3://fedarchive/examples/model.h5"
    layer = np.arange(6000, dtype="f4").reshape(1000, 6)
    archive.save({"fc.weight": layer, "rest": np.zeros(10)}, url, storage_options=server.options())
    told = run_example(
        "stream_s3.py", url, "fc.weight", "--block-bytes=9600", folder=tmp_path, **server.environment()
    )
    norm = float(np.linalg.norm(layer.astype("f8")))
    assert told == [f"fc.weight: 1000 rows in 3 blocks, 0 to 5999, norm {norm:g}"]


@pytest.mark.slow
def test_a_round_is_averaged_by_dask(tmp_path: Path) -> None:
    for library in ("dask.array", "distributed"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    store = archive.CheckpointStore(tmp_path / "run")
    for client, value in enumerate((1, 2, 9)):
        metrics = {"num-examples": 10 * (client + 1)}
        store.save({"w": np.full((4, 3), value, "f4")}, 5, client=f"clinic-{client}", metrics=metrics)
    store.save({"w": np.zeros((4, 3), "f4")}, 5)
    told = run_example(
        "dask_mean.py", "run", "5", "mean.h5", "--weights=num-examples", "--batch=2", folder=tmp_path
    )
    assert told == ["mean of 3 clients in mean.h5", "w: median and mean are at most 3.33 apart"]
    mean = archive.load(tmp_path / "mean.h5").array_records["model"]["w"].numpy()
    assert mean.tolist() == np.full((4, 3), np.float32((10 + 40 + 270) / 60)).tolist()
