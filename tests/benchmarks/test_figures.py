"""The figures of README and docs/speed.md are those of the committed results."""

from __future__ import annotations

import json
import re
import statistics
from typing import Any

import pytest

from benchmarks.pages import PAGES, fill, read_results
from tests.pages import ROOT, read_page

RESULTS = ["benchmarks/results/2026-11-30.json", "benchmarks/results/2026-11-30-frameworks.json"]
"""Of a cell that several have, the first is taken."""
SHAPES = {
    "292 arrays, 1.1 GB": "transformer",
    "20,000 arrays, 82 MB": "small",
    "20 arrays, 0.3 MB": "cnn",
}
OPERATIONS = {"save": "save", "save, durable": "save-durable", "load": "load", "open + one": "open-one"}
PEERS = {"again": "fedarchive again", "torch.save": "torch"}
FIGURE = re.compile(r"([\d.,]+)(?: \(([\d.]+)\))?")


def cells(page: str) -> list[tuple[str, str, str, str]]:
    """Return shape, operation, peer and text of each cell of the table of speeds."""
    lines = read_page(page).splitlines()
    start = next(number for number, line in enumerate(lines) if "| safetensors.numpy |" in line)
    peers = [cell.strip() for cell in lines[start].strip("|").split("|")][1:]
    found, shape = [], ""
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        label, *texts = (cell.strip() for cell in line[1:-1].split("|"))
        before, colon, after = label.partition(": ")
        shape, operation = (SHAPES[before], after) if colon else (shape, label)
        row = zip(peers, texts, strict=True)
        found += [
            (shape, OPERATIONS[operation], PEERS.get(peer, peer), text)
            for peer, text in row
            if text and peer != "measured in"
        ]
    return found


def measured() -> dict[tuple[str, str, str], list[float]]:
    """Return the seconds of each cell that was measured."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for path in reversed(RESULTS):
        results: dict[str, Any] = json.loads((ROOT / path).read_text(encoding="utf-8"))
        found |= {
            (cell["shape"], cell["operation"], cell["peer"]): cell["seconds"] for cell in results["cells"]
        }
    return found


@pytest.mark.parametrize(
    ("page", "count"), [("README.md", 27), ("docs/speed.md", 65), ("docs/comparison.md", 50)]
)
def test_times_are_those_that_were_measured(page: str, count: int) -> None:
    seconds = measured()
    found = cells(page)
    assert len(found) >= count
    for shape, operation, peer, text in found:
        figure = FIGURE.fullmatch(text)
        assert figure, text
        theirs = seconds[shape, operation, peer]
        median = statistics.median(theirs) * 1000
        assert float(figure[1].replace(",", "")) == pytest.approx(median, rel=0.05), (
            page,
            shape,
            operation,
            peer,
        )
        if figure[2]:
            ours = seconds[shape, operation, "fedarchive"]
            ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=False))
            assert float(figure[2]) == pytest.approx(ratio, rel=0.06), (page, shape, operation, peer)


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_are_those_that_the_results_make(page: str) -> None:
    lines = read_page(page).splitlines()
    assert fill(lines, read_results([ROOT / path for path in RESULTS]), ratios=PAGES[page]) == lines


def test_the_text_around_the_tables_is_that_of_the_results() -> None:
    seconds = measured()

    def median(shape: str, operation: str, peer: str) -> float:
        return statistics.median(seconds[shape, operation, peer]) * 1000

    pages = ("docs/speed.md", "docs/comparison.md")
    speed, comparison = (" ".join(read_page(page).split()) for page in pages)
    verify = median("transformer", "verify", "fedarchive")
    touched = [
        median("transformer", "map-touched", peer)
        for peer in ("fedarchive", "safetensors.torch", "fedarchive verify=off")
    ]
    hashing = verify / median("transformer", "verify", "xxh3")
    for page, sentence, figures in (
        (speed, r"Verifying 1.1 GB takes ([\d.]+) ms, ([\d.]+) times", [verify, hashing]),
        (
            speed,
            r"\(([\d.]+) ms against ([\d.]+) for `safetensors.torch` with every page touched; ([\d.]+) with",
            touched,
        ),
        (speed, r"h5py opens the 20,000 in ([\d.]+) ms", [median("small", "open-one", "h5py")]),
        (
            comparison,
            r"([\d.]+) ms for a save of 0.3 MB, fedarchive ([\d.]+)",
            [median("cnn", "save", "safetensors.numpy"), median("cnn", "save", "fedarchive")],
        ),
    ):
        said = re.search(sentence, page)
        assert said, sentence
        assert [float(figure) for figure in said.groups()] == pytest.approx(figures, rel=0.05), sentence


def test_requests_are_those_that_were_counted() -> None:
    table = read_page("benchmarks/results/remote.md")
    rows = dict(re.findall(r"^\| ([^|]+) \|.*\| (\d+, [\d.]+, [\d.]+) \|$", table, re.MULTILINE))
    every = {peer: (int(cell.split(", ")[0]), float(cell.split(", ")[2])) for peer, cell in rows.items()}
    said = re.search(
        r"everything (\d+) requests and ([\d.]+) s; the next fastest peer takes (\d+) and ([\d.]+) s, "
        r"h5py over s3fs (\d+) and ([\d.]+) s",
        " ".join(read_page("docs/speed.md").split()),
    )
    assert said
    assert (int(said[1]), float(said[2])) == every["fedarchive (s3fs)"]
    best = min(
        (cell for peer, cell in every.items() if not peer.startswith("fedarchive")), key=lambda cell: cell[1]
    )
    assert (int(said[3]), float(said[4])) == best
    assert (int(said[5]), float(said[6])) == every["h5py over s3fs"]
