"""L8 and L10 of FAULTS.md: damaged archives give the right bytes or a typed error, and nothing else."""

from __future__ import annotations

import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import archive
from tests.children import ROOT
from tests.faults.conftest import environment
from tests.faults.mutants import NAMES, OUTCOMES, PATTERNS, build

WORKERS = 2
MOST_DEATHS = 20
HANGS = (-signal.SIGALRM, -signal.SIGPROF)


@pytest.fixture(scope="module")
def zoo() -> Iterator[Path]:
    """Build the archives in memory."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="fedarchive-", dir=shared if shared.is_dir() else None))
    build(folder)
    yield folder
    shutil.rmtree(folder)


def run(
    zoo: Path, plan: str, spans: list[tuple[str, int, int]], workers: int = WORKERS
) -> tuple[Counter[str], list[str]]:
    """Judge mutations of archives in processes side by side; one that dies goes on after its death."""
    totals: Counter[str] = Counter()
    reports: list[str] = []
    for name, end, stride in spans:
        step = workers * stride
        running = [
            (share * stride, _start(zoo, plan, name, share * stride, end, step)) for share in range(workers)
        ]
        for first, worker in running:
            deaths = 0
            counts = zoo / f"{plan}-{name}-{first % step}.counts"
            while True:
                output, errors = worker.communicate()
                reports += output.splitlines()
                if not worker.returncode:
                    break
                position = struct.unpack("<q", counts.read_bytes()[:8])[0]
                kind = "hang" if worker.returncode in HANGS else "crash"
                totals[kind] += 1
                reports.append(f"{plan} {position} of {name}: {kind} ({worker.returncode}) {errors[-500:]}")
                deaths += 1
                if deaths > MOST_DEATHS:
                    break
                worker = _start(zoo, plan, name, position + step, end, step, fresh=False)
            values = struct.unpack(f"<{len(OUTCOMES)}q", counts.read_bytes())
            totals.update(dict(zip(OUTCOMES[1:], values[1:], strict=True)))
    return +totals, reports


def _start(
    zoo: Path, plan: str, name: str, begin: int, end: int, step: int, *, fresh: bool = True
) -> subprocess.Popen[str]:
    if fresh:
        (zoo / f"{plan}-{name}-{begin % step}.counts").write_bytes(bytes(8 * len(OUTCOMES)))
    command = [sys.executable, "-m", "tests.faults.mutants", zoo, name, plan, begin, end, step]
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def check(
    totals: Counter[str], reports: list[str], expected: int, show: Callable[[str], None], label: str
) -> None:
    """Show the figures; nothing may be silent, foreign, unverified, crashed or hung."""
    show(f"{label}: {expected} mutants, {dict(totals)}")
    assert not reports, "\n".join(reports[:20])
    assert set(totals) <= {"error at open", "error at hand-out", "padding", "read"}
    assert sum(totals.values()) == expected


def _spans(zoo: Path, per_byte: int, stride: int) -> tuple[list[tuple[str, int, int]], int]:
    spans = [(name, (zoo / f"{name}.h5").stat().st_size * per_byte, stride) for name in NAMES]
    return spans, sum(len(range(0, end, stride)) for _, end, _ in spans)


def test_the_archives_are_whole(zoo: Path) -> None:
    """The ground: undamaged, all three verify and hand out everything."""
    for name in NAMES:
        assert archive.verify(zoo / f"{name}.h5").ok


@pytest.mark.parametrize(
    "stride", [2401, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_flipped_bytes(zoo: Path, stride: int, figures: Callable[[str], None]) -> None:
    """L10: single bytes flipped in three patterns; padding counts only where verify() sees it."""
    spans, expected = _spans(zoo, len(PATTERNS), stride)
    totals, reports = run(zoo, "flip", spans, WORKERS if stride == 1 else 1)
    check(totals, reports, expected, figures, f"L10 flips, every {stride}")
    assert totals["error at open"]
    assert totals["error at hand-out"]


@pytest.mark.parametrize(
    "stride", [601, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_truncations(zoo: Path, stride: int, figures: Callable[[str], None]) -> None:
    """L8: cut to every length; never opened."""
    spans, expected = _spans(zoo, 1, stride)
    totals, reports = run(zoo, "truncate", spans, WORKERS if stride == 1 else 1)
    check(totals, reports, expected, figures, f"L8 lengths, every {stride}")
    assert set(totals) == {"error at open"}


WHOLE = {"scatter": 60_000, "splice": 20_000, "crafted": 80_000}
"""Of each archive; with the flips they are more than a million."""


@pytest.mark.parametrize("plan", WHOLE)
@pytest.mark.parametrize(
    "quick", [True, pytest.param(False, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])]
)
def test_random_damage(zoo: Path, plan: str, quick: bool, figures: Callable[[str], None]) -> None:
    """L10, H1: blocks zeroed, swapped, repeated, removed, inserted; spliced; fields edited, digests fixed."""
    each = 30 if quick else WHOLE[plan]
    totals, reports = run(zoo, plan, [(name, each, 1) for name in NAMES], 1 if quick else WORKERS)
    check(totals, reports, 3 * each, figures, f"L10 {plan}")


def test_the_whole_is_a_million(zoo: Path) -> None:
    """What `poe faults` promises."""
    flips = _spans(zoo, len(PATTERNS), 1)[1]
    assert flips + len(NAMES) * sum(WHOLE.values()) >= 1_000_000
