"""The notebook of examples/ runs from its first cell to its last, and shows what it was saved with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples/analyst.ipynb"


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
