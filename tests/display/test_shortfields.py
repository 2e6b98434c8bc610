"""Results of calls show what they hold shortly, whatever it is."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.checkpoints.runfacts import RunFacts
from archive.display.shortfields import ShortFields
from archive.engine.report import Failure, SaveReport, VerifyReport
from archive.types import Garbage, Info, LoadReport, RoundReport
from tests.hostiletexts import ALL, require_inert

FAILURES = tuple(Failure(name, name, 3, 4096, name) for name in ALL) * 400
FACTS: tuple[Any, ...] = (3, 4096, 0.5, 2, ("loss", "min"), 0.5, None, None, (), {"identity": "<b>" * 9000})
REPORTS: list[Any] = [
    VerifyReport(False, 20_000, 1 << 30, 0, FAILURES),
    RoundReport(3, 20_000, tuple(ALL) * 400),
    RunFacts("/run", "<b>", tuple(range(20_000)), (), tuple(ALL) * 400, tuple(ALL) * 400, *FACTS),
    Info("/a", "1.0", "recorddict", "", "<b>", (("arrays", "<b>", 3),) * 20_000, 3, 4, 5, "mmap", ""),
    SaveReport("<b>" * 9000, 3, 4, 5, 0.5, "00"),
    Garbage("\x1b[2J" * 9000, "<b>", 0.5),
    FAILURES[-1],
]


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: type(report).__name__)
def test_reports_are_short_and_inert(report: Any) -> None:
    text = repr(report)
    assert len(text) < 6_000
    assert text.isprintable()
    page = require_inert("", report._repr_html_())
    assert type(report).__name__ in page.texts
    assert pickle.loads(pickle.dumps(report)) == report


def test_short_reports_are_spelled_as_dataclasses_are() -> None:
    failure = Failure("model", "w", 0, 4096, "does not match")
    assert repr(failure) == (
        "Failure(record='model', key='w', segment=0, offset=4096, problem='does not match', "
        "bytes_match=False)"
    )
    assert repr(VerifyReport(False, 1, 2, 0, (failure,))) == (
        f"VerifyReport(ok=False, arrays=1, checked_bytes=2, unverifiable=0, failures=({failure!r},))"
    )
    assert isinstance(failure, ShortFields)


def test_keys_that_a_module_lacks_are_cut() -> None:
    report = LoadReport(["a"], ["layer"] * 20_000)
    assert len(repr(report)) < 1_200
    assert repr(report).startswith("LoadReport(missing_keys=['a'], unexpected_keys=['layer', ")


def test_what_a_save_returns_is_a_table(tmp_path: Path) -> None:
    report = archive.save({"w": np.zeros(3)}, tmp_path / "a.h5")
    assert {"arrays", "1", "array_bytes", "24"} <= set(require_inert("", report._repr_html_()).texts)
    assert repr(report).startswith(f"SaveReport(url={str(tmp_path / 'a.h5')!r}, arrays=1, array_bytes=24, ")
