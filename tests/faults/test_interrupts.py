"""An exception of a signal handler (Ctrl-C, a time limit) at every step: no file, no descriptor is left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.children import ROOT
from tests.faults.conftest import environment
from tests.faults.interrupts import WAYS


def interrupted(way: str, every: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.faults.interrupts", way, str(every)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True, timeout=600
    )
    found: dict[str, Any] = json.loads(done.stdout)
    # Python ignores what is raised in a finaliser or a callback of a weak reference, and prints it
    ignored = done.stderr.count("Exception ignored in: ")
    assert found["arrived"] + ignored >= found["steps"] // every - 1, done.stderr
    return found


@pytest.mark.parametrize("way", WAYS)
def test_interrupts_at_some_steps(way: str) -> None:
    assert interrupted(way, 101)["left"] == []


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_interrupts_at_every_step(way: str, figures: Callable[[str], None]) -> None:
    """Of 780 interrupts one left a ``.partial`` of 0 bytes, and six left descriptors."""
    found = interrupted(way, 1)
    figures(f"interrupts of {way}: {found['arrived']}, {len(found['left'])} of them left something")
    assert found["left"] == []
