"""The pages of docs/ hold: their code runs and prints what they say, and their links lead somewhere."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import NonFiniteWarning
from tests.optional import torch
from tests.pages import ROOT, blocks, run_page

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
EXECUTED = ["README.md", *(page for page in PAGES if any(block.runs for block in blocks(page)))]
SLOW = {"docs/analyse.md", "docs/dask.md", "docs/report.md"}
NEEDED = {
    "docs/analyse.md": ["pandas"],
    "docs/dask.md": ["dask.array", "xarray"],
    "docs/pytorch.md": ["torch"],
    "docs/report.md": ["matplotlib"],
    "docs/resume.md": ["torch"],
    "docs/s3.md": ["moto"],
    "docs/tutorial.md": ["moto"],
}


def parameters() -> list[Any]:
    return [pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else []) for page in EXECUTED]


def save_runs(*names: str) -> None:
    for name in names:
        store = archive.CheckpointStore(f"runs/{name}" if name else "runs")
        for number in range(1, 14):
            for client in ("Berlin", "Oslo"):
                store.save({"weight": np.full((2, 3), number + len(client), "f4")}, number, client=client)
            metrics = {"loss": 1 / number, "accuracy": number / 13}
            store.save(
                {"weight": np.full((2, 3), number, "f4"), "bias": np.zeros(2, "f4")}, number, metrics=metrics
            )


def prepare(page: str) -> dict[str, Any]:
    """Make what a page has before it begins, and return its names."""
    if page == "docs/report.md":
        save_runs("adam", "sgd")
    elif page == "docs/resume.md":
        net = torch().nn.Linear(3, 2)
        store = archive.CheckpointStore("runs", best_by="loss")
        for number in range(1, 8):
            store.save(net.state_dict(), number, metrics={"loss": 1 / number})
        return {"net": net}
    return {}


@pytest.fixture
def bucket(page: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``s3://bucket`` on the tests' server, with credentials of the environment."""
    if "moto" not in NEEDED.get(page, ()):
        return
    server = request.getfixturevalue("server")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    server.client.create_bucket(Bucket="bucket")


@pytest.mark.parametrize("page", parameters())
@pytest.mark.usefixtures("bucket")
def test_the_page_does_what_it_says(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in NEEDED.get(page, ()):
        pytest.importorskip(library, reason=f"{library} is not installed")
    monkeypatch.chdir(tmp_path)
    names = prepare(page)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NonFiniteWarning)
        warnings.simplefilter("ignore", archive.errors.SkippedWarning)
        run_page(page, names)
